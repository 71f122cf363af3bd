/*
 * Option ROM images made for the tests, and what the parser says of them
 *
 * Every ROM is parsed from a heap block of exactly its size, so that
 * AddressSanitizer sees a read outside of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MADE_ROM_H
#define MADE_ROM_H

#include "../../hw-optimus/core/optimus-judge.h"

#define UNIT 512
#define PCIR 0x40               /* where make() puts it */
#define NPDE 0x60               /* the next multiple of 16 after it */
#define PCIR_LENGTH 0x1c

void put16(uint8_t *at, unsigned int value);

/* An image of @units units, zeros but for the header and PCIR. */
GByteArray *make(unsigned int units, uint8_t type, bool last);

void put_npde(GByteArray *rom, size_t at, unsigned int length,
              unsigned int units, bool last);

/* Takes @more. */
void append(GByteArray *rom, GByteArray *more);

GArray *parse(const GByteArray *rom, size_t size, size_t offset, char **why);

const OptimusImage *image_at(const GArray *images, unsigned int i);

GArray *parse_good(const GByteArray *rom, size_t offset);

/* The chain at @offset is broken, for that reason. */
void parse_bad(const GByteArray *rom, size_t offset, const char *reason);

#endif
