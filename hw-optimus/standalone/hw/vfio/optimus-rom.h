/*
 * Where the ROM parser's header is in QEMU's tree
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "../../../optimus-rom.h"
