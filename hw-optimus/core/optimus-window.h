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
 * Size of the window of a ROM of @size bytes: whole pages and one page of
 * zeros behind them, so that 4 KiB read from any byte of the ROM on are inside.
 */
#define OPTIMUS_WINDOW_SIZE(size) (ROUND_UP(size, OPTIMUS_PAGE) + OPTIMUS_PAGE)

/**
 * optimus_window_find: find room for a window
 * @size: its size in bytes, a multiple of OPTIMUS_PAGE
 *
 * Returns: the lowest guest physical address between OPTIMUS_WINDOW_START and
 * OPTIMUS_WINDOW_END at which @size bytes are free, in whole pages, or 0.
 */
uint32_t optimus_window_find(uint64_t size);

#endif
