/*
 * ROM windows: read-only guest memory below 4 GiB that holds video BIOSes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VFIO_OPTIMUS_WINDOW_H
#define HW_VFIO_OPTIMUS_WINDOW_H

#include "qom/object.h"

/*
 * Guest physical addresses that no PC machine type uses: above the MSI window
 * of the local APICs (0xfee00000-0xfeefffff), below the page of vmclock
 * (0xfeffb000), KVM's identity map and TSS (0xfeffc000-0xfeffffff) and the
 * firmware's flash (0xff000000 at the lowest).
 */
#define OPTIMUS_WINDOW_START 0xfef00000u
#define OPTIMUS_WINDOW_END   0xfeffb000u
#define OPTIMUS_PAGE         0x1000u

/*
 * Size of the window of a ROM of @size bytes: whole pages and one page of
 * zeros behind them, so that 4 KiB read from any byte of the ROM on are inside.
 */
#define OPTIMUS_WINDOW_SIZE(size) (ROUND_UP(size, OPTIMUS_PAGE) + OPTIMUS_PAGE)

#define TYPE_OPTIMUS_WINDOW "optimus-window"
OBJECT_DECLARE_SIMPLE_TYPE(OptimusWindow, OPTIMUS_WINDOW)

/**
 * optimus_window_get: map @rom into the guest's physical address space
 * @rom: the image
 * @size: its length in bytes, not 0
 * @errp: set when no gap is large enough
 *
 * The window goes to the first gap between OPTIMUS_WINDOW_START and
 * OPTIMUS_WINDOW_END that nothing else is mapped in.  Equal images share one
 * window.
 *
 * Returns: the window, to be given back with optimus_window_put(), or NULL.
 */
OptimusWindow *optimus_window_get(const uint8_t *rom, uint32_t size,
                                  Error **errp);

/**
 * optimus_window_put: give back a window, or NULL
 *
 * With its last user the window leaves the guest's address space.
 */
void optimus_window_put(OptimusWindow *window);

/**
 * optimus_window_room: the size in bytes of the largest ROM that a new window
 * can still be made for
 */
uint32_t optimus_window_room(void);

/**
 * optimus_window_claim: list the window in the guest's e820 map, as reserved
 *
 * To be called when nothing can fail any more: the map takes nothing back.
 */
void optimus_window_claim(OptimusWindow *window);

/* The guest physical address of the window, and the size of the ROM in it. */
uint32_t optimus_window_base(const OptimusWindow *window);
uint32_t optimus_window_rom_size(const OptimusWindow *window);

#endif
