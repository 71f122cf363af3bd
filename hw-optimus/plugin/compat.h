/*
 * What older QEMU lacks, for building the device as a plugin
 *
 * The device is written for the newest QEMU.  This is included in front of
 * every file of it, so that none of them has to look at the version; headers
 * that moved are in compat/, behind all other include directories.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_COMPAT_H
#define VFIO_OPTIMUS_COMPAT_H

#include "qemu/osdep.h"
#include "hw/acpi/aml-build.h"
#include "hw/i386/e820_memory_layout.h"

#define QEMU_AT_LEAST(major, minor) \
    (QEMU_VERSION_MAJOR > (major) || \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

/*
 * Until 10.1, class_init takes a plain pointer and interfaces are not const.
 * Neither makes a difference to what is called or read.
 */
#if !QEMU_AT_LEAST(10, 1)
#pragma GCC diagnostic ignored "-Wincompatible-pointer-types"
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"
#endif

/* Until 9.2, fw_cfg points into the e820 table, which may not move any more. */
#if !QEMU_AT_LEAST(10, 0)
#define e820_add_entry(address, length, type) ((void)(address))
#endif

/* New in 8.0 */
#ifndef RETRY_ON_EINTR
#define RETRY_ON_EINTR TEMP_FAILURE_RETRY
#endif

/*
 * The AML that the patch series adds to hw/acpi/aml-build.c.  The functions
 * there that make a new opcode are static: start from a similar one.
 */

/* Mid (source, index, length, target) */
static inline Aml *aml_mid(Aml *source, Aml *index, Aml *length, Aml *target)
{
    Aml *mid = aml_concatenate(source, index, length);

    mid->op = 0x9e; /* MidOp */
    aml_append(mid, target ?: aml_int(0) /* NullName */);
    return mid;
}

/* Buffer (size) {} */
static inline Aml *aml_zero_buffer(Aml *size)
{
    Aml *buffer = aml_buffer(0, NULL);

    buffer->block_flags = AML_PACKAGE; /* has its size as an operand */
    aml_append(buffer, size);
    return buffer;
}

#endif
