// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's side of the tests: calls the ACPI method _ROM of a PCI device
 * as drivers do, as they should not, and watches others call it.
 *
 * insmod optimus_guest.ko action=ACTION [bdf=0000:01:00.0] ...
 *
 * Results are in the kernel log and in the parameter "result".  Loading does
 * not fail when the action does: insmod would try it once more.
 */

#include <linux/acpi.h>
#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#undef pr_fmt
#define pr_fmt(fmt) "optimus: " fmt

#define PAGE 0x1000u
#define ROM_MAX (1024u * 1024)
/* Drivers read past the end of the ROM. */
#define WATCHED_MAX (2u * ROM_MAX)
#define THREADS_MAX 8
#define TABLES_MAX 20
/* Where windows can be, and a few pages around it */
#define RANGE_START 0xfeeff000u
#define RANGE_END 0xff000000u

static char *action = "read";
module_param(action, charp, 0);
MODULE_PARM_DESC(action,
		 "read, contract, speed, bench, watch, scan, write or setsub");

static char *bdf;
module_param(bdf, charp, 0);
MODULE_PARM_DESC(bdf, "PCI address (default: the first NVIDIA display)");

static unsigned int size;
module_param(size, uint, 0);
MODULE_PARM_DESC(size, "read, speed, bench: bytes in the ROM");

static char *out;
module_param(out, charp, 0);
MODULE_PARM_DESC(out, "read, watch: file for what was read, by whoever did");

static char *rom;
module_param(rom, charp, 0);
MODULE_PARM_DESC(rom, "contract, bench, scan, write: file with the ROM as it should be");

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

static unsigned int count = 2000;
module_param(count, uint, 0);
MODULE_PARM_DESC(count, "contract: calls with random arguments");

static unsigned int seed = 1;
module_param(seed, uint, 0);
MODULE_PARM_DESC(seed, "contract: seed of the random arguments");

static unsigned int threads = 1;
module_param(threads, uint, 0);
MODULE_PARM_DESC(threads, "contract: divide the random calls among so many");

static unsigned int stride = 4;
module_param(stride, uint, 0);
MODULE_PARM_DESC(stride, "scan, write: bytes between two accesses");

static char *sub;
module_param(sub, charp, 0);
MODULE_PARM_DESC(sub, "setsub: subsystem IDs, as 17aa:3978");

static int result;
module_param(result, int, 0444);
MODULE_PARM_DESC(result, "0 or a negative error number, to be read");

static acpi_handle handle;

static struct pci_dev *find_device(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (bdf ? !strcmp(pci_name(pdev), bdf) :
		    pdev->vendor == PCI_VENDOR_ID_NVIDIA &&
		    pdev->class >> 16 == PCI_BASE_CLASS_DISPLAY)
			return pdev;
	}
	return NULL;
}

static const char *state_name(acpi_status status)
{
	return ACPI_FAILURE(status) ? acpi_format_exception(status) : "AE_OK";
}

/*
 * Returns the object, for kfree(), or NULL with *status set (AE_TYPE for
 * an object that is no Buffer).
 */
static union acpi_object *call_rom(u32 offset, u32 length, acpi_status *status)
{
	union acpi_object args[2] = {
		{ .integer = { ACPI_TYPE_INTEGER, offset } },
		{ .integer = { ACPI_TYPE_INTEGER, length } },
	};
	struct acpi_object_list list = { ARRAY_SIZE(args), args };
	struct acpi_buffer buffer = { ACPI_ALLOCATE_BUFFER, NULL };
	union acpi_object *object;

	*status = acpi_evaluate_object(handle, "_ROM", &list, &buffer);
	if (ACPI_FAILURE(*status))
		return NULL;
	object = buffer.pointer;
	if (!object || object->type != ACPI_TYPE_BUFFER) {
		kfree(object);
		*status = AE_TYPE;
		return NULL;
	}
	return object;
}

/* The ROM by the rule of NVIDIA's driver.  Returns the number of calls. */
static int read_rom(u8 *to)
{
	u32 offset, length, calls = 0;

	for (offset = 0; offset < size; offset += length, calls++) {
		union acpi_object *object;
		acpi_status status;

		length = min(PAGE, size - offset);
		object = call_rom(offset, length, &status);
		if (!object || object->buffer.length < length) {
			pr_err("read=failed offset=0x%x length=0x%x status=%s got=0x%x\n",
			       offset, length, state_name(status),
			       object ? object->buffer.length : 0);
			kfree(object);
			return -EIO;
		}
		memcpy(to + offset, object->buffer.pointer, length);
		kfree(object);
	}
	return calls;
}

static int write_file(const char *name, const void *data, size_t length)
{
	struct file *file = filp_open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	loff_t position = 0;
	ssize_t written;

	if (IS_ERR(file))
		return PTR_ERR(file);
	written = kernel_write(file, data, length, &position);
	filp_close(file, NULL);
	return written == length ? 0 : -EIO;
}

/* Not kernel_read_file(): security modules want to know what it is for. */
static void *read_file(const char *name, unsigned int *length)
{
	struct file *file = filp_open(name, O_RDONLY, 0);
	loff_t bytes, position = 0;
	void *data = NULL;

	if (IS_ERR(file))
		return NULL;
	bytes = i_size_read(file_inode(file));
	if (bytes > 0 && bytes <= ROM_MAX)
		data = vmalloc(bytes);
	if (data && kernel_read(file, data, bytes, &position) != bytes) {
		vfree(data);
		data = NULL;
	}
	filp_close(file, NULL);
	*length = bytes;
	return data;
}

static int do_read(void)
{
	ktime_t start;
	s64 us;
	int calls, err;
	u8 *data;

	if (!size || size > ROM_MAX || !out)
		return -EINVAL;
	data = vzalloc(size);
	if (!data)
		return -ENOMEM;
	start = ktime_get();
	calls = read_rom(data);
	us = ktime_us_delta(ktime_get(), start);
	err = calls < 0 ? calls : write_file(out, data, size);
	if (!err)
		pr_info("read=ok bytes=%u calls=%d us=%lld\n", size, calls, us);
	vfree(data);
	return err;
}

/* What a call has to return is the model; compare to what it does return. */

struct contract {
	const u8 *data;
	u32 limit;
	u32 checked;
	u32 wrong;
	u32 together;		/* calls begun while another one was running */
	u32 count;		/* random calls to make */
	u32 random;		/* state of the generator */
	struct completion done;
};

static atomic_t running = ATOMIC_INIT(0);

static u32 expected_length(const struct contract *c, u32 offset, u32 length)
{
	return min(length, offset < size ? c->limit : PAGE);
}

static void check_call(struct contract *c, u32 offset, u32 length)
{
	u32 want = expected_length(c, offset, length), got = 0, valid = 0, i;
	union acpi_object *object;
	const u8 *bytes = NULL;
	acpi_status status;

	if (offset < size)
		valid = min(want, size - offset);
	if (atomic_inc_return(&running) > 1)
		c->together++;
	object = call_rom(offset, length, &status);
	atomic_dec(&running);
	if (object) {
		got = object->buffer.length;
		bytes = object->buffer.pointer;
	}
	for (i = 0; i < min(want, got); i++)
		if (bytes[i] != (i < valid ? c->data[offset + i] : 0))
			break;
	c->checked++;
	if (!object || got != want || i < want) {
		/* A few in detail tell what is wrong */
		if (c->wrong++ < 8)
			pr_err("mismatch offset=0x%x length=0x%x status=%s want=0x%x got=0x%x differs_at=0x%x\n",
			       offset, length, state_name(status), want, got, i);
	}
	kfree(object);
}

static void check_table(struct contract *c)
{
	const u32 last = (size - 1) & ~(PAGE - 1);
	const u32 offsets[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
		0x1ff, 0x200, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE,
		size / 2, last - 1, last, last + 1, last + 7,
		size - PAGE - 1, size - PAGE, size - PAGE + 1,
		size - 9, size - 8, size - 7, size - 2, size - 1, size,
		size + 1, size + 8, last + PAGE - 1, last + PAGE,
		last + PAGE + 1, c->limit - 1, c->limit, c->limit + 1,
		0x100000, 0x101000, 0x1000000, 0x7fffffff, 0x80000000,
		0xfee00000, 0xfef20000, 0xffff0000, 0xfffff000, 0xfffffff8,
		0xffffffff, -size, -size - 1, -size + 1,
	};
	const u32 lengths[] = {
		0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 0x1ff, 0x200, 0x201,
		PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE,
		size - 1, size, size + 1, c->limit - PAGE, c->limit - 1,
		c->limit, c->limit + 1, 0x100000, 0x7fffffff, 0x80000000,
		0xfffff000, 0xffffffff,
	};
	int i, j;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		/* Large results are slow: from a third of the offsets only */
		u32 max = i && i % 3 != 1 && offsets[i] < size ? 2 * PAGE : ~0u;

		for (j = 0; j < ARRAY_SIZE(lengths); j++)
			if (lengths[j] <= max)
				check_call(c, offsets[i], lengths[j]);
		/* Windows that end at, before and after the end */
		for (j = -9; j <= 9; j++)
			if (size + j - offsets[i] <= max)
				check_call(c, offsets[i], size + j - offsets[i]);
	}
}

/* xorshift32: the same numbers on every kernel */
static u32 next_random(struct contract *c)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 17;
	c->random ^= c->random << 5;
	return c->random;
}

static void check_random(struct contract *c)
{
	u32 i;

	for (i = 0; i < c->count; i++) {
		u32 kind = next_random(c), offset, length;

		offset = next_random(c) % (size + 0x20);
		if (!(kind & 1))
			offset &= ~(PAGE - 1);
		if (!(kind & 0xe))
			offset = next_random(c);
		switch (kind >> 4 & 0xf) {
		case 0:
			length = next_random(c) % (c->limit + 0x20);
			break;
		case 1:
			length = next_random(c);
			break;
		case 2 ... 5:
			length = next_random(c) % 0x20;
			break;
		case 6 ... 9:
			length = PAGE;
			break;
		default:
			length = next_random(c) % (PAGE + 0x20);
		}
		check_call(c, offset, length);
		cond_resched();
	}
}

static int random_thread(void *data)
{
	struct contract *c = data;

	check_random(c);
	complete(&c->done);
	/* It is to be there still when it is stopped */
	while (!kthread_should_stop())
		msleep(1);
	return 0;
}

/* The random calls from several CPUs at once; adds what they found to *c. */
static int check_threads(struct contract *c)
{
	static struct contract parts[THREADS_MAX];
	struct task_struct *tasks[THREADS_MAX];
	unsigned int i, n;
	int err = 0;

	for (n = 0; n < threads; n++) {
		parts[n] = (struct contract) {
			.data = c->data, .limit = c->limit,
			.count = count / threads,
			.random = seed * threads + n ?: 1,
		};
		init_completion(&parts[n].done);
		tasks[n] = kthread_create(random_thread, &parts[n],
					  "optimus/%u", n);
		if (IS_ERR(tasks[n])) {
			err = PTR_ERR(tasks[n]);
			break;
		}
		kthread_bind(tasks[n], n % num_online_cpus());
		wake_up_process(tasks[n]);
	}
	for (i = 0; i < n; i++) {
		/* the kernel reports waiting for two minutes at once as a hang */
		while (!wait_for_completion_timeout(&parts[i].done, 30 * HZ))
			;
		kthread_stop(tasks[i]);
		c->checked += parts[i].checked;
		c->wrong += parts[i].wrong;
		c->together += parts[i].together;
	}
	return err;
}

static int do_contract(void)
{
	struct contract c = {};
	int err;

	if (!rom || !threads || threads > THREADS_MAX)
		return -EINVAL;
	c.data = read_file(rom, &size);
	if (!c.data)
		return -EIO;
	c.limit = round_up(size, PAGE) + PAGE;
	check_table(&c);
	err = check_threads(&c);
	vfree(c.data);
	pr_info("contract=%s seed=%u checked=%u mismatches=%u size=%u cpus=%u together=%u\n",
		c.wrong ? "broken" : "ok", seed, c.checked, c.wrong, size,
		num_online_cpus(), c.together);
	return c.wrong ? -EIO : err;
}

/* Physical memory, whatever ACPI says of it */

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
	const u32 end = window + round_up(size, PAGE) + PAGE;
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
	const u32 end = window + round_up(size, PAGE) + PAGE;
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

static int do_speed(void)
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
 * The ROM as nouveau gets it: the first page and then all that is behind it in
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

static void unload_tables(void)
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

static int do_bench(void)
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

/*
 * Count what somebody else's driver does: all calls of the method, by its own
 * handle or by name from the device's.
 */

struct watched {
	u32 offset;
	u32 length;
	struct acpi_buffer *result;
	ktime_t start;
};

static acpi_handle method;
static atomic_t watched_calls = ATOMIC_INIT(0);
static atomic64_t watched_ns = ATOMIC64_INIT(0);
/* What the callers were given, by offset; they are believed to be one driver */
static u8 *watched_rom;
static unsigned int watched_end;

static int watch_entry(struct kretprobe_instance *instance,
		       struct pt_regs *regs)
{
	acpi_handle called = (void *)regs_get_kernel_argument(regs, 0);
	const char *name = (void *)regs_get_kernel_argument(regs, 1);
	struct acpi_object_list *args =
		(void *)regs_get_kernel_argument(regs, 2);
	struct watched *w = (void *)instance->data;

	if (!(method && called == method && !name) &&
	    !(called == handle && name && !strcmp(name, "_ROM")))
		return 1;		/* no business of ours */
	if (!args || args->count != 2)
		return 1;
	w->offset = args->pointer[0].integer.value;
	w->length = args->pointer[1].integer.value;
	w->result = (void *)regs_get_kernel_argument(regs, 3);
	w->start = ktime_get();
	return 0;
}

static void keep_given(u32 offset, const union acpi_object *object)
{
	u32 length = object->buffer.length;

	if (!watched_rom || offset > WATCHED_MAX ||
	    length > WATCHED_MAX - offset)
		return;
	memcpy(watched_rom + offset, object->buffer.pointer, length);
	watched_end = max(watched_end, offset + length);
}

static int watch_return(struct kretprobe_instance *instance,
			struct pt_regs *regs)
{
	struct watched *w = (void *)instance->data;
	acpi_status status = regs_return_value(regs);
	union acpi_object *object = NULL;

	atomic64_add(ktime_to_ns(ktime_sub(ktime_get(), w->start)), &watched_ns);
	if (ACPI_SUCCESS(status) && w->result)
		object = w->result->pointer;
	if (object && object->type != ACPI_TYPE_BUFFER)
		object = NULL;
	if (object)
		keep_given(w->offset, object);
	pr_info("watch call=%d offset=0x%x length=0x%x status=%s got=0x%x\n",
		atomic_inc_return(&watched_calls), w->offset, w->length,
		state_name(status), object ? object->buffer.length : 0);
	return 0;
}

static struct kretprobe watch_probe = {
	.kp.symbol_name = "acpi_evaluate_object",
	.entry_handler = watch_entry,
	.handler = watch_return,
	.data_size = sizeof(struct watched),
	.maxactive = 32,
};

static bool watching;

/* Also of a device without the method, for which a driver asks in vain */
static int do_watch(void)
{
	int err;

	if (ACPI_FAILURE(acpi_get_handle(handle, "_ROM", &method)))
		method = NULL;
	if (out) {
		watched_rom = vzalloc(WATCHED_MAX);
		if (!watched_rom)
			return -ENOMEM;
	}
	err = register_kretprobe(&watch_probe);
	watching = !err;
	return err;
}

static void end_watch(void)
{
	unregister_kretprobe(&watch_probe);
	if (watched_rom && write_file(out, watched_rom, watched_end))
		pr_info("watch: %s was not written\n", out);
	vfree(watched_rom);
	pr_info("watch us=%lld\n", atomic64_read(&watched_ns) / 1000);
	pr_info("watch=done calls=%d\n", atomic_read(&watched_calls));
}

/*
 * What the kernel remembers of a card whose configuration space has lost its
 * subsystem IDs since.  For the host, before vfio-pci.
 */
static int do_setsub(struct pci_dev *pdev)
{
	unsigned short vendor, device;

	if (!sub || sscanf(sub, "%hx:%hx", &vendor, &device) != 2)
		return -EINVAL;
	pdev->subsystem_vendor = vendor;
	pdev->subsystem_device = device;
	return 0;
}

static int describe(struct pci_dev *pdev)
{
	struct acpi_buffer path = { ACPI_ALLOCATE_BUFFER, NULL };
	u16 vendor, device, sub_vendor, sub_device;

	pci_read_config_word(pdev, PCI_VENDOR_ID, &vendor);
	pci_read_config_word(pdev, PCI_DEVICE_ID, &device);
	pci_read_config_word(pdev, PCI_SUBSYSTEM_VENDOR_ID, &sub_vendor);
	pci_read_config_word(pdev, PCI_SUBSYSTEM_ID, &sub_device);
	if (handle)
		acpi_get_name(handle, ACPI_FULL_PATHNAME, &path);
	pr_info("device=%s acpi=%s id=%04x:%04x sub=%04x:%04x class=%06x rom=%s\n",
		pci_name(pdev), path.pointer ? (char *)path.pointer : "none",
		vendor, device, sub_vendor, sub_device, pdev->class,
		handle && acpi_has_method(handle, "_ROM") ? "yes" : "no");
	kfree(path.pointer);
	return handle ? 0 : -ENODEV;
}

static int act(struct pci_dev *pdev)
{
	int err;

	handle = ACPI_HANDLE(&pdev->dev);
	if (!strcmp(action, "setsub"))
		return do_setsub(pdev);
	err = describe(pdev);
	if (err)
		return err;
	if (!strcmp(action, "read"))
		return do_read();
	if (!strcmp(action, "contract"))
		return do_contract();
	if (!strcmp(action, "speed"))
		return do_speed();
	if (!strcmp(action, "bench"))
		return do_bench();
	if (!strcmp(action, "watch"))
		return do_watch();
	if (!strcmp(action, "write"))
		return with_range(write_range);
	return -EINVAL;
}

static int __init optimus_guest_init(void)
{
	struct pci_dev *pdev = find_device();

	/* Also on a machine without the device, to compare with */
	if (!strcmp(action, "scan"))
		result = with_range(scan_range);
	else
		result = pdev ? act(pdev) : -ENODEV;
	pci_dev_put(pdev);
	pr_info("action=%s result=%d\n", action, result);
	return 0;
}

static void __exit optimus_guest_exit(void)
{
	unload_tables();
	if (watching)
		end_watch();
}

module_init(optimus_guest_init);
module_exit(optimus_guest_exit);

MODULE_DESCRIPTION("Test of the ACPI method _ROM");
MODULE_LICENSE("GPL");
