// SPDX-License-Identifier: GPL-2.0-or-later
/* The method _ROM, the ROM through it as NVIDIA's driver reads it, and files. */

#include <linux/fs.h>
#include "optimus_guest.h"

unsigned int size;
module_param(size, uint, 0);
MODULE_PARM_DESC(size, "read, speed, bench: bytes in the ROM");

char *out;
module_param(out, charp, 0);
MODULE_PARM_DESC(out, "read, watch: file for what was read, by whoever did");

char *rom;
module_param(rom, charp, 0);
MODULE_PARM_DESC(rom, "contract, bench, scan, write: file with the ROM as it should be");

acpi_handle handle;

const char *state_name(acpi_status status)
{
	return ACPI_FAILURE(status) ? acpi_format_exception(status) : "AE_OK";
}

/*
 * Returns the object, for kfree(), or NULL with *status set (AE_TYPE for
 * an object that is no Buffer).
 */
union acpi_object *call_rom(u32 offset, u32 length, acpi_status *status)
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
int read_rom(u8 *to)
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

int write_file(const char *name, const void *data, size_t length)
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
void *read_file(const char *name, unsigned int *length)
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

int do_read(void)
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
