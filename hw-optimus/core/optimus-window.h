/*
 * The ROM window: where in the guest's physical address space a video BIOS goes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VFIO_OPTIMUS_WINDOW_H
#define HW_VFIO_OPTIMUS_WINDOW_H

/*
 * Addresses that no PC machine and no device of QEMU's uses: above the MSI
 * window of the local APICs (0xfee00000-0xfeefffff) and the page of
 * uefi-vars-x64 (0xfef10000), below what KVM reserves for Xen (0xfeff8000 on,
 * in it the page of vmclock, 0xfeffb000), KVM's identity map and TSS
 * (0xfeffc000-0xfeffffff) and the firmware's flash (0xff000000 at the lowest).
 */
#define OPTIMUS_WINDOW_START 0xfef20000u
#define OPTIMUS_WINDOW_END   0xfeff8000u
#define OPTIMUS_PAGE         0x1000u

/*
 * A ROM of @size bytes takes whole pages, and two pages of zeros follow it, so
 * that 0x1008 bytes from any multiple of 8 on up to its end are in the window.
 */
#define OPTIMUS_ROM_END(size)     ROUND_UP(size, OPTIMUS_PAGE)
#define OPTIMUS_WINDOW_SIZE(size) (OPTIMUS_ROM_END(size) + 2 * OPTIMUS_PAGE)

/**
 * optimus_window_find: find room for a window
 * @size: its size in bytes, a multiple of OPTIMUS_PAGE
 *
 * Returns: the lowest guest physical address between OPTIMUS_WINDOW_START and
 * OPTIMUS_WINDOW_END at which @size bytes are free, in whole pages, or 0.
 */
uint32_t optimus_window_find(uint64_t size);

/* The length in bytes of the largest ROM that there can be room for */
#define OPTIMUS_ROM_MAX \
    (OPTIMUS_WINDOW_END - OPTIMUS_WINDOW_START - 2 * OPTIMUS_PAGE)

#endif
