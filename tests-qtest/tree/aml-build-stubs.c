/*
 * What hw/acpi/aml-build.c and bios-linker-loader.c need, for unit tests of AML
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/acpi/acpi.h"
#include "hw/nvram/fw_cfg.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"

int acpi_checksum(const uint8_t *data, int len)
{
    g_assert_not_reached();
}

int pci_bus_num(PCIBus *s)
{
    g_assert_not_reached();
}

pcibus_t pci_bridge_get_base(const PCIDevice *bridge, uint8_t type)
{
    g_assert_not_reached();
}

pcibus_t pci_bridge_get_limit(const PCIDevice *bridge, uint8_t type)
{
    g_assert_not_reached();
}

FWCfgState *fw_cfg_find(void)
{
    g_assert_not_reached();
}

bool fw_cfg_dma_enabled(void *opaque)
{
    g_assert_not_reached();
}
