/*
 * The ROM window: where in the guest's physical address space a video BIOS goes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/address-spaces.h"
#include "system/memory.h"
#include "optimus-window.h"

uint32_t optimus_window_find(uint64_t size)
{
    for (uint32_t base = OPTIMUS_WINDOW_START;
         size <= OPTIMUS_WINDOW_END - base; base += OPTIMUS_PAGE) {
        MemoryRegionSection section =
            memory_region_find(get_system_memory(), base, size);

        if (!section.mr) {
            return base;
        }
        memory_region_unref(section.mr);
    }
    return 0;
}
