// SPDX-License-Identifier: GPL-2.0-or-later
/* What a call has to return is the model; compare to what it does return. */

#include <linux/delay.h>
#include <linux/kthread.h>
#include "optimus_guest.h"

#define THREADS_MAX 8

static unsigned int count = 2000;
module_param(count, uint, 0);
MODULE_PARM_DESC(count, "contract: calls with random arguments");

static unsigned int seed = 1;
module_param(seed, uint, 0);
MODULE_PARM_DESC(seed, "contract: seed of the random arguments");

static unsigned int threads = 1;
module_param(threads, uint, 0);
MODULE_PARM_DESC(threads, "contract: divide the random calls among so many");

struct contract {
	const u8 *data;
	u32 checked;
	u32 wrong;
	u32 together;		/* calls begun while another one was running */
	u32 count;		/* random calls to make */
	u32 random;		/* state of the generator */
	struct completion done;
};

static atomic_t running = ATOMIC_INIT(0);

static void check_call(struct contract *c, u32 offset, u32 length)
{
	u32 want = min(length, PAGE), got = 0, valid = 0, i;
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
	const u32 end = round_up(size, PAGE), last = end - PAGE;
	const u32 offsets[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
		0x1ff, 0x200, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE,
		size / 2, last - 1, last, last + 1, last + 7,
		size - PAGE - 1, size - PAGE, size - PAGE + 1,
		size - 9, size - 8, size - 7, size - 2, size - 1, size,
		size + 1, size + 8, end - 9, end - 8, end - 7, end - 1, end,
		end + 1, end + 7, end + 8, end + 9, end + PAGE - 1, end + PAGE,
		end + PAGE + 1, end + 2 * PAGE - 1, end + 2 * PAGE,
		0x100000, 0x101000, 0x1000000, 0x7fffffff, 0x80000000,
		0xfee00000, 0xfef20000, 0xffff0000, 0xfffff000, 0xfffffff8,
		0xffffffff, -size, -size - 1, -size + 1,
	};
	const u32 lengths[] = {
		0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 0x1ff, 0x200, 0x201,
		PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE,
		size - 1, size, size + 1, end, end + 1, end + 2 * PAGE,
		0x100000, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff,
	};
	int i, j;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (j = 0; j < ARRAY_SIZE(lengths); j++)
			check_call(c, offsets[i], lengths[j]);
		/* Windows that end at, before and after the end */
		for (j = -9; j <= 9; j++)
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
			length = next_random(c) % (size + 0x20);
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
			.data = c->data, .count = count / threads,
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

int do_contract(void)
{
	struct contract c = {};
	bool few;
	int err;

	if (!rom || !threads || threads > THREADS_MAX ||
	    threads > num_online_cpus())
		return -EINVAL;
	c.data = read_file(rom, &size);
	if (!c.data)
		return -EIO;
	check_table(&c);
	err = check_threads(&c);
	vfree(c.data);
	/* less than the table and the random calls, or none at the same time */
	few = c.checked < 2000 + count / threads * threads ||
	      (threads > 1 && !c.together);
	pr_info("contract=%s seed=%u checked=%u mismatches=%u size=%u cpus=%u together=%u\n",
		c.wrong ? "broken" : few ? "few" : "ok", seed, c.checked,
		c.wrong, size, num_online_cpus(), c.together);
	return c.wrong || few ? -EIO : err;
}
