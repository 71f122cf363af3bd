// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Count what somebody else's driver does: all calls of the method, by its own
 * handle or by name from the device's.
 */

#include <linux/kprobes.h>
#include "optimus_guest.h"

/* Drivers read past the end of the ROM. */
#define WATCHED_MAX (2u * ROM_MAX)

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
int do_watch(void)
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

void end_watch(void)
{
	if (!watching)
		return;
	unregister_kretprobe(&watch_probe);
	if (watched_rom && write_file(out, watched_rom, watched_end))
		pr_info("watch: %s was not written\n", out);
	vfree(watched_rom);
	pr_info("watch us=%lld\n", atomic64_read(&watched_ns) / 1000);
	pr_info("watch=done calls=%d\n", atomic_read(&watched_calls));
}
