/*
 * The ACPI method _ROM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VFIO_OPTIMUS_AML_H
#define HW_VFIO_OPTIMUS_AML_H

#include "hw/acpi/aml-build.h"

/**
 * optimus_build_rom_method: append the method _ROM to a device node
 * @dev: the node, an AML device or scope
 * @base: guest physical address of the ROM's window, below 4 GiB
 * @size: length of the ROM in bytes; behind it the window has to hold zeros up
 *        to OPTIMUS_WINDOW_SIZE(@size)
 *
 * See ACPI 6.5, B.3.3 (_ROM, get ROM data).
 */
void optimus_build_rom_method(Aml *dev, uint32_t base, uint32_t size);

#endif
