/*
 * What optimus-rom.c takes from QEMU, for programs outside of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_OSDEP_H
#define QEMU_OSDEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <glib.h>

#define ROUND_UP(n, d) (((n) + (d) - 1) / (d) * (d))

#endif
