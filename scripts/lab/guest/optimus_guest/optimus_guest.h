// SPDX-License-Identifier: GPL-2.0-or-later
/* What the files of optimus_guest have of each other. */

#ifndef OPTIMUS_GUEST_H
#define OPTIMUS_GUEST_H

#include <linux/acpi.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#undef pr_fmt
#define pr_fmt(fmt) "optimus: " fmt

#define PAGE 0x1000u
#define ROM_MAX (1024u * 1024)

/* rom.c: parameters, the device's node, the method, files */
extern unsigned int size;
extern char *out;
extern char *rom;
extern acpi_handle handle;

const char *state_name(acpi_status status);
union acpi_object *call_rom(u32 offset, u32 length, acpi_status *status);
int read_rom(u8 *to);
int write_file(const char *name, const void *data, size_t length);
void *read_file(const char *name, unsigned int *length);

/* What the module is told to do; 0, or a negative error number */
int do_read(void);
int do_contract(void);
int do_scan(void);
int do_write(void);
int do_speed(void);
int do_bench(void);
int do_watch(void);

/* Before the module is unloaded */
void unload_tables(void);
void end_watch(void);

#endif
