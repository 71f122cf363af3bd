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
 * @base: guest physical address of the ROM, below 4 GiB and a multiple of 8
 * @last: offset of the first of the two pages of zeros that follow the ROM, a
 *        multiple of OPTIMUS_PAGE: OPTIMUS_ROM_END() of the ROM's length
 *
 * It returns as many bytes as it is asked for, but at most 4 KiB: those of the
 * ROM, and zeros from its end on.  See ACPI 6.5, B.3.3 (_ROM, get ROM data).
 */
void optimus_build_rom_method(Aml *dev, uint32_t base, uint32_t last);

#endif
