/*
 * What optimus-rom.c takes from QEMU, for programs outside of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BSWAP_H
#define BSWAP_H

static inline int lduw_le_p(const void *ptr)
{
    const uint8_t *p = ptr;

    return p[0] | p[1] << 8;
}

#endif
