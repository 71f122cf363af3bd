// SPDX-License-Identifier: GPL-2.0-or-later
/* How long calls take, and whole reads as the drivers do them. */

#include <linux/sort.h>
#include <linux/workqueue.h>
#include "optimus_guest.h"

#define TABLES_MAX 20

static char *table[TABLES_MAX];
static unsigned int tables;
module_param_array(table, charp, &tables, 0);
MODULE_PARM_DESC(table, "bench: files with SSDTs that give the device a _ROM");

static char *name = "device";
module_param(name, charp, 0);
MODULE_PARM_DESC(name, "bench: what the results are called");

static char *driver = "nvidia";
module_param(driver, charp, 0);
MODULE_PARM_DESC(driver, "bench: whose calls, nvidia or nouveau");

static unsigned int fresh = 1;
module_param(fresh, uint, 0);
MODULE_PARM_DESC(fresh, "bench: how often to load the table");

static unsigned int again = 1;
module_param(again, uint, 0);
MODULE_PARM_DESC(again, "bench: reads after the first of each load");

static int compare_times(const void *a, const void *b)
{
	s64 difference = *(const s64 *)a - *(const s64 *)b;

	return difference < 0 ? -1 : difference > 0;
}

static void print_times(const char *what, s64 *ns, int n)
{
	sort(ns, n, sizeof(*ns), compare_times, NULL);
	pr_info("speed=%s n=%d min_ns=%lld median_ns=%lld\n", what, n, ns[0],
		ns[n / 2]);
}

int do_speed(void)
{
	static s64 ns[256];
	union acpi_object *object;
	acpi_status status;
	ktime_t start;
	int i, err = 0;
	u8 *data;

	if (!size || size > ROM_MAX)
		return -EINVAL;
	data = vzalloc(size);
	if (!data)
		return -ENOMEM;
	/* The first read after boot is the one that users wait for */
	for (i = 0; i < 17 && err >= 0; i++) {
		start = ktime_get();
		err = read_rom(data);
		ns[i] = ktime_to_ns(ktime_sub(ktime_get(), start));
	}
	vfree(data);
	if (err < 0)
		return err;
	pr_info("speed=first n=1 min_ns=%lld median_ns=%lld\n", ns[0], ns[0]);
	print_times("whole", ns + 1, 16);
	for (i = 0; i < ARRAY_SIZE(ns); i++) {
		start = ktime_get();
		object = call_rom(0, PAGE, &status);
		ns[i] = ktime_to_ns(ktime_sub(ktime_get(), start));
		kfree(object);
		if (!object)
			return -EIO;
	}
	print_times("4k", ns, ARRAY_SIZE(ns));
	return 0;
}

/* Exactly this part of the ROM, or false. */
static bool fetch(u8 *to, u32 offset, u32 length, int *calls)
{
	acpi_status status;
	union acpi_object *object = call_rom(offset, length, &status);
	bool ok = object && object->buffer.length == length;

	++*calls;
	if (ok)
		memcpy(to + offset, object->buffer.pointer, length);
	kfree(object);
	return ok;
}

/*
 * The ROM as nouveau gets it: the first page and then all that is after it in
 * one call; where it does not get that, page by page from the start.
 */
static int read_rom_nouveau(u8 *to)
{
	const u32 end = round_up(size, PAGE);
	u32 offset;
	int calls = 0;

	if (fetch(to, 0, PAGE, &calls) &&
	    (end == PAGE || fetch(to, PAGE, end - PAGE, &calls)))
		return calls;
	for (offset = 0; offset < end; offset += PAGE)
		if (!fetch(to, offset, PAGE, &calls))
			return -EIO;
	return calls;
}

static void *table_data[TABLES_MAX];
static u32 table_index[TABLES_MAX];
static unsigned int tables_loaded;

void unload_tables(void)
{
	while (tables_loaded)
		acpi_unload_table(table_index[--tables_loaded]);
}

/* Returns with the method as it is after boot: nothing mapped, nothing kept. */
static int load_tables(void)
{
	unsigned int length, i;

	unload_tables();
	for (i = 0; i < tables; i++) {
		/* Never freed: ACPICA keeps unloaded tables in its list */
		if (!table_data[i])
			table_data[i] = read_file(table[i], &length);
		if (!table_data[i])
			return -ENOENT;
		if (ACPI_FAILURE(acpi_load_table(table_data[i], &table_index[i])))
			return -EINVAL;
		tables_loaded++;
	}
	/* The kernel looks for new devices in the background */
	flush_scheduled_work();
	return 0;
}

static int bench_read(u8 *data, const u8 *expected, const char *what)
{
	ktime_t start;
	s64 ns;
	int calls;

	memset(data, 0, size);
	start = ktime_get();
	calls = strcmp(driver, "nouveau") ? read_rom(data) :
					    read_rom_nouveau(data);
	ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	if (calls < 0)
		return calls;
	pr_info("bench=%s driver=%s size=%u read=%s ns=%lld calls=%d equal=%d\n",
		name, driver, size, what, ns, calls,
		!memcmp(data, expected, size));
	return 0;
}

int do_bench(void)
{
	unsigned int length, i, j;
	u8 *data, *expected;
	int err = 0;

	if (!size || size > ROM_MAX || !rom)
		return -EINVAL;
	expected = read_file(rom, &length);
	data = vmalloc(round_up(size, PAGE));
	if (!expected || length < size || !data)
		err = -ENOMEM;
	for (i = 0; i < fresh && !err; i++) {
		err = load_tables();
		if (!err)
			err = bench_read(data, expected, "first");
		for (j = 0; j < again && !err; j++)
			err = bench_read(data, expected, "again");
	}
	vfree(data);
	vfree(expected);
	return err;
}
