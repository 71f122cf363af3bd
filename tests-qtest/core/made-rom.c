/*
 * Option ROM images made for the tests, and what the parser says of them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "made-rom.h"
#include <string.h>

void put16(uint8_t *at, unsigned int value)
{
    at[0] = value;
    at[1] = value >> 8;
}

GByteArray *make(unsigned int units, uint8_t type, bool last)
{
    GByteArray *rom = g_byte_array_new();
    uint8_t *p;

    g_byte_array_set_size(rom, units * UNIT);
    p = rom->data;
    memset(p, 0, rom->len);
    p[0x00] = 0x55;
    p[0x01] = 0xaa;
    p[0x02] = units;
    put16(p + 0x18, PCIR);
    memcpy(p + PCIR, "PCIR", 4);
    put16(p + PCIR + 0x04, 0x10de);
    put16(p + PCIR + 0x06, 0x139b);
    put16(p + PCIR + 0x0a, PCIR_LENGTH);
    p[PCIR + 0x0c] = 3;
    p[PCIR + 0x0d] = 0x56;
    p[PCIR + 0x0e] = 0x34;
    p[PCIR + 0x0f] = 0x12;
    put16(p + PCIR + 0x10, units);
    p[PCIR + 0x14] = type;
    p[PCIR + 0x15] = last ? 0x80 : 0;
    return rom;
}

void put_npde(GByteArray *rom, size_t at, unsigned int length,
                     unsigned int units, bool last)
{
    memcpy(rom->data + at, "NPDE", 4);
    put16(rom->data + at + 0x04, 0x0101);
    put16(rom->data + at + 0x06, length);
    put16(rom->data + at + 0x08, units);
    rom->data[at + 0x0a] = last ? 0x80 : 0;
}

void append(GByteArray *rom, GByteArray *more)
{
    g_byte_array_append(rom, more->data, more->len);
    g_byte_array_unref(more);
}

GArray *parse(const GByteArray *rom, size_t size, size_t offset,
                     char **why)
{
    g_autofree uint8_t *copy = g_malloc(size);

    if (size) {
        memcpy(copy, rom->data, size);
    }
    return optimus_rom_parse(copy, size, offset, why);
}

const OptimusImage *image_at(const GArray *images, unsigned int i)
{
    return &g_array_index(images, OptimusImage, i);
}

GArray *parse_good(const GByteArray *rom, size_t offset)
{
    char *why = NULL;
    GArray *images = parse(rom, rom->len, offset, &why);

    g_assert_cmpstr(why, ==, NULL);
    g_assert_nonnull(images);
    return images;
}

void parse_bad(const GByteArray *rom, size_t offset, const char *reason)
{
    g_autofree char *why = NULL;

    g_assert_null(parse(rom, rom->len, offset, &why));
    g_assert_cmpstr(why, ==, reason);
    g_assert_null(parse(rom, rom->len, offset, NULL));
}
