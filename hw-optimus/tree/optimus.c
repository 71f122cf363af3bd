/*
 * Assignment of a muxless NVIDIA Optimus GPU, with its video BIOS in ACPI _ROM
 *
 * Such a GPU has no flash: the laptop's firmware keeps its video BIOS, which
 * drivers get by _ROM (ACPI 6.5, B.3.3).  See docs/specs/vfio-optimus.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/datadir.h"
#include "hw/acpi/acpi_aml_interface.h"
#include "hw/core/loader.h"
#include "hw/i386/e820_memory_layout.h"
#include "hw/i386/pc.h"
#include "system/address-spaces.h"
#include "system/kvm_xen.h"
#include "system/runstate.h"
#include "pci.h"
#include "trace.h"

#include "../core/optimus-window.h"

QEMU_BUILD_BUG_ON(OPTIMUS_WINDOW_END > XEN_SPECIAL_AREA_ADDR);

#define TYPE_VFIO_OPTIMUS "vfio-optimus"
OBJECT_DECLARE_TYPE(VFIOOptimus, VFIOOptimusClass, VFIO_OPTIMUS)

struct VFIOOptimus {
    VFIOPCIDevice parent_obj;

    MemoryRegion rom_mr;    /* the video BIOS, and zeros */
    uint32_t rom_base;      /* its guest physical address */
};

struct VFIOOptimusClass {
    PCIDeviceClass parent_class;

    void (*parent_realize)(PCIDevice *dev, Error **errp);
    PCIUnregisterFunc *parent_exit;
};

#include "../core/optimus-window.c"

static bool vfio_optimus_check_machine(PCIDevice *pdev, Error **errp)
{
    PCMachineState *pcms = (PCMachineState *)
        object_dynamic_cast(qdev_get_machine(), TYPE_PC_MACHINE);

    if (!pcms || !pcms->acpi_build_enabled) {
        error_setg(errp, "_ROM needs a machine of the type q35 or pc");
        return false;
    }
    if (!x86_machine_is_acpi_enabled(X86_MACHINE(pcms))) {
        error_setg(errp, "_ROM needs a machine with acpi=on");
        return false;
    }
    if (MACHINE(pcms)->cgs) {
        error_setg(errp, "_ROM is not possible in a confidential guest");
        return false;
    }
    if (pci_device_root_bus(pdev) != pcms->pcibus) {
        error_setg(errp, "_ROM is not possible behind a PCI expander bridge");
        return false;
    }
    return true;
}

static bool vfio_optimus_map_rom(VFIOOptimus *vo, Error **errp)
{
    PCIDevice *pdev = PCI_DEVICE(vo);
    g_autofree char *path = NULL, *name = NULL;
    int64_t size;

    if (!pdev->romfile || !*pdev->romfile) {
        error_setg(errp, "romfile is not set: it names the video BIOS");
        return false;
    }
    path = qemu_find_file(QEMU_FILE_TYPE_BIOS, pdev->romfile) ?:
           g_strdup(pdev->romfile);
    size = get_image_size(path, errp);
    if (size < 0) {
        return false;
    }
    vo->rom_base = optimus_window_find(OPTIMUS_WINDOW_SIZE((uint64_t)size));
    if (!vo->rom_base) {
        error_setg(errp, "romfile '%s' of %" PRId64 " bytes has no room at "
                   "0x%x-0x%x", path, size, OPTIMUS_WINDOW_START,
                   OPTIMUS_WINDOW_END - 1);
        return false;
    }

    /* The DSDT has the address: migration is to fail where it is another. */
    name = g_strdup_printf("acpi-rom-%x", vo->rom_base);
    if (!memory_region_init_rom(&vo->rom_mr, OBJECT(vo), name,
                                OPTIMUS_WINDOW_SIZE(size), errp)) {
        return false;
    }
    /* Incoming migration, CPR included, brings the contents. */
    if (!runstate_check(RUN_STATE_INMIGRATE)) {
        void *rom = memory_region_get_ram_ptr(&vo->rom_mr);

        if (load_image_size(path, rom, size) != size) {
            error_setg(errp, "failed to load romfile '%s'", path);
            return false;
        }
        if (lduw_le_p(rom) != 0xaa55) {
            error_setg(errp, "romfile '%s' does not start with 55 AA", path);
            return false;
        }
    }
    memory_region_add_subregion(get_system_memory(), vo->rom_base, &vo->rom_mr);

    if (!pdev->rom_bar) {
        /* In _ROM only: the PCI core would hand it to the firmware instead. */
        g_clear_pointer(&pdev->romfile, g_free);
    }
    return true;
}

static void vfio_optimus_realize(PCIDevice *pdev, Error **errp)
{
    ERRP_GUARD();
    VFIOOptimus *vo = VFIO_OPTIMUS(pdev);

    if (!vfio_optimus_check_machine(pdev, errp) ||
        !vfio_optimus_map_rom(vo, errp)) {
        return;
    }

    VFIO_OPTIMUS_GET_CLASS(vo)->parent_realize(pdev, errp);
    if (*errp) {
        memory_region_del_subregion(get_system_memory(), &vo->rom_mr);
        return;
    }
    e820_add_entry(vo->rom_base, memory_region_size(&vo->rom_mr),
                   E820_RESERVED);
}

static void vfio_optimus_exit(PCIDevice *pdev)
{
    VFIOOptimus *vo = VFIO_OPTIMUS(pdev);

    VFIO_OPTIMUS_GET_CLASS(vo)->parent_exit(pdev);
    memory_region_del_subregion(get_system_memory(), &vo->rom_mr);
}

#include "../core/optimus-aml.c"

static void vfio_optimus_build_aml(AcpiDevAmlIf *adev, Aml *scope)
{
    VFIOOptimus *vo = VFIO_OPTIMUS(adev);
    uint32_t size = memory_region_size(&vo->rom_mr) - OPTIMUS_WINDOW_SIZE(0);

    trace_vfio_optimus_build_aml(VFIO_PCI_DEVICE(vo)->vbasedev.name,
                                 vo->rom_base, size);
    optimus_build_rom_method(scope, vo->rom_base, size);
}

static void vfio_optimus_class_init(ObjectClass *klass, const void *data)
{
    PCIDeviceClass *pdc = PCI_DEVICE_CLASS(klass);
    VFIOOptimusClass *voc = VFIO_OPTIMUS_CLASS(klass);

    DEVICE_CLASS(klass)->desc = "VFIO-based PCI device assignment, ACPI _ROM";
    voc->parent_realize = pdc->realize;
    pdc->realize = vfio_optimus_realize;
    voc->parent_exit = pdc->exit;
    pdc->exit = vfio_optimus_exit;
    ACPI_DEV_AML_IF_CLASS(klass)->build_dev_aml = vfio_optimus_build_aml;
}

/* Not hotpluggable, as the parent: ACPI tables are built at boot. */
static const TypeInfo vfio_optimus_types[] = {
    {
        .name = TYPE_VFIO_OPTIMUS,
        .parent = TYPE_VFIO_PCI_NOHOTPLUG,
        .instance_size = sizeof(VFIOOptimus),
        .class_size = sizeof(VFIOOptimusClass),
        .class_init = vfio_optimus_class_init,
        .interfaces = (const InterfaceInfo[]) {
            { TYPE_ACPI_DEV_AML_IF },
            { }
        },
    },
};

DEFINE_TYPES(vfio_optimus_types)
