// SPDX-License-Identifier: GPL-2.0-or-later
/* Physical memory, whatever ACPI says of it */

#include <linux/crc32.h>
#include <linux/io.h>
#include "optimus_guest.h"

/* Where windows can be, and a few pages around it */
#define RANGE_START 0xfeeff000u
#define RANGE_END 0xff000000u

static unsigned int stride = 4;
module_param(stride, uint, 0);
MODULE_PARM_DESC(stride, "scan, write: bytes between two accesses");

/* The ROM as its window should be, with zeros up to the end of the range. */
static u8 *padded_rom(void)
{
	u8 *data = read_file(rom, &size), *padded = NULL;

	if (data)
		padded = vzalloc(RANGE_END - RANGE_START);
	if (padded)
		memcpy(padded, data, size);
	vfree(data);
	return padded;
}

/* Where the ROM's first page is from, or RANGE_END. */
static u32 find_window(const u8 __iomem *range, const u8 *padded)
{
	static u8 page[PAGE];
	u32 at;

	for (at = RANGE_START; at < RANGE_END; at += PAGE) {
		const u8 __iomem *from = range + (at - RANGE_START);

		if (readl(from) != *(u32 *)padded)
			continue;
		memcpy_fromio(page, from, PAGE);
		if (!memcmp(page, padded, PAGE))
			break;
	}
	return at;
}

/* What is read at each address, page by page; "rom" is the ROM's own page. */
static int scan_range(u8 __iomem *range, const u8 *padded)
{
	const u32 window = find_window(range, padded);
	const u32 end = window + round_up(size, PAGE) + 2 * PAGE;
	u32 at, i;

	for (at = RANGE_START; at < RANGE_END; at += PAGE) {
		u8 __iomem *page = range + (at - RANGE_START);
		bool is_rom = at >= window && at < end, varies = false;
		u32 sum = 0, first = readl(page), same = 0, n = 0;

		for (i = 0; i < PAGE; i += stride, n++) {
			u32 got = readl(page + i), j, bytes = 0;

			for (j = 0; j < 4; j++)
				bytes |= (u32)readb(page + i + j) << 8 * j;
			varies |= got != bytes;
			same += got == first;
			sum = crc32_le(sum, (u8 *)&got, 4);
			if (is_rom && memcmp(padded + (at - window) + i, &got, 4))
				is_rom = false;
		}
		/* By bytes, the page of MSIs reads otherwise */
		if (varies)
			pr_info("scan page=0x%x what=varies\n", at);
		else if (is_rom)
			pr_info("scan page=0x%x what=rom\n", at);
		else if (same == n)
			pr_info("scan page=0x%x what=0x%x\n", at, first);
		else
			pr_info("scan page=0x%x what=other sum=0x%x\n", at, sum);
	}
	pr_info("scan=ok pages=%u stride=%u window=0x%x\n",
		(RANGE_END - RANGE_START) / PAGE, stride, window);
	return 0;
}

/* Stores of every kind; a guest may try them all. */
static void write_at(u8 __iomem *to, u32 value)
{
	u8 *memory = (__force u8 *)to;
	u32 some[4] = { value, value, value, value };
	u32 old = readl(to);

	writeb(value, to + value % 8);
	writew(value, to + value % 7);
	writel(value, to);
	writeq((u64)value << 32 | ~value, to);
	xchg((u32 *)memory, value);
	cmpxchg((u32 *)memory, old, value);
	memcpy_toio(to, some, 8);
}

static int write_range(u8 __iomem *range, const u8 *padded)
{
	const u32 window = find_window(range, padded);
	const u32 end = window + round_up(size, PAGE) + 2 * PAGE;
	u32 at, written = 0, changed = 0;

	if (window == RANGE_END)
		return -ENODEV;
	for (at = window; at < end; at += stride * 2, written++)
		write_at(range + (at - RANGE_START), ~readl(range + (at - RANGE_START)));
	/* Up to what KVM has for Xen, which is not ours */
	for (at = end; at < 0xfeff8000; at += PAGE / 2, written++)
		write_at(range + (at - RANGE_START), 0x5a5a5a00 + written);
	for (at = window; at < end; at++)
		changed += readb(range + (at - RANGE_START)) != padded[at - window];
	pr_info("write=%s places=%u window=0x%x changed=%u\n",
		changed ? "broken" : "ok", written, window, changed);
	return changed ? -EIO : 0;
}

static int with_range(int (*f)(u8 __iomem *range, const u8 *padded))
{
	/* Cached, as ACPICA has it: other types of memory would be a conflict */
	u8 __iomem *range = ioremap_cache(RANGE_START, RANGE_END - RANGE_START);
	u8 *padded = rom && stride >= 4 && stride % 4 == 0 ? padded_rom() : NULL;
	int err = range && padded ? f(range, padded) : -EINVAL;

	vfree(padded);
	if (range)
		iounmap(range);
	return err;
}

int do_scan(void)
{
	return with_range(scan_range);
}

int do_write(void)
{
	return with_range(write_range);
}
