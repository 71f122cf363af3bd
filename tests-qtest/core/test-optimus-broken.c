/*
 * Unit test of the parser of option ROM images: broken, cut and changed ones
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "made-rom.h"
#include <string.h>

/* Every sentence there is, for the first image and a later one. */
static void test_errors(void)
{
    g_autoptr(GByteArray) rom = make(2, 0x00, false);
    uint8_t *second;

    parse_bad(rom, 0, "the file ends after the image at offset 0x0, which "
              "does not have the last-image bit");

    append(rom, make(1, 0x00, true));
    second = rom->data + 2 * UNIT;

    memcpy(second, "\x55\xab", 2);
    parse_bad(rom, 0, "there is no option ROM image at offset 0x400: it starts "
              "with 55 ab, not with 55 aa");
    parse_bad(rom, 2 * UNIT, "there is no option ROM image at offset 0x400: it "
              "starts with 55 ab, not with 55 aa");
    memcpy(second, "\x55\xaa", 2);

    put16(second + 0x18, UNIT - 0x17);
    parse_bad(rom, 0, "the image at offset 0x400 has its PCIR data structure "
              "at 0x1e9, past the end of the file");
    put16(second + 0x18, 0xffff);
    parse_bad(rom, 0, "the image at offset 0x400 has its PCIR data structure "
              "at 0xffff, past the end of the file");
    put16(second + 0x18, UNIT - 0x18);
    parse_bad(rom, 0, "the image at offset 0x400 has no PCIR data structure at "
              "0x1e8, where its header points");
    put16(second + 0x18, 0);
    parse_bad(rom, 0, "the image at offset 0x400 has no PCIR data structure at "
              "0x0, where its header points");
    put16(second + 0x18, PCIR);

    put16(second + PCIR + 0x0a, 0x17);
    parse_bad(rom, 0, "the PCIR data structure of the image at offset 0x400 "
              "says that it is 23 bytes long, less than the 24 that it must "
              "have");
    put16(second + PCIR + 0x0a, 0x18);

    put16(second + PCIR + 0x10, 0);
    parse_bad(rom, 0, "the image at offset 0x400 has length 0");
    put_npde(rom, 2 * UNIT + NPDE, 11, 0, true);
    put16(second + PCIR + 0x10, 1);
    parse_bad(rom, 0, "the image at offset 0x400 has length 0");
    memset(second + NPDE, 0, 16);

    put16(second + PCIR + 0x10, 3);
    parse_bad(rom, 0, "the image at offset 0x400 is 0x600 bytes long, and the "
              "file ends 0x400 bytes before its end");
    put16(second + PCIR + 0x10, 0xffff);
    parse_bad(rom, 0, "the image at offset 0x400 is 0x1fffe00 bytes long, and "
              "the file ends 0x1fffc00 bytes before its end");
    put16(second + PCIR + 0x10, 1);

    /* PCIR of the first image in the second one, and across its end */
    put16(rom->data + 0x18, 2 * UNIT + PCIR);
    parse_bad(rom, 0, "the image at offset 0x0 is 0x200 bytes long, and its "
              "PCIR data structure at 0x440 is outside of it");
    put16(rom->data + 0x18, PCIR);
    memcpy(rom->data + 2 * UNIT - 0x17, rom->data + PCIR, 0x17);
    put16(rom->data + 0x18, 2 * UNIT - 0x17);
    parse_bad(rom, 0, "the image at offset 0x0 is 0x400 bytes long, and its "
              "PCIR data structure at 0x3e9 is outside of it");
    put16(rom->data + 0x18, PCIR);

    parse_bad(rom, rom->len, "the image at offset 0x600 is cut off after 0 "
              "bytes");
    parse_bad(rom, rom->len + 1, "the image at offset 0x601 is cut off after 0 "
              "bytes");
    g_byte_array_set_size(rom, 2 * UNIT + 0x19);
    parse_bad(rom, 0, "the image at offset 0x400 is cut off after 25 bytes");
    g_byte_array_set_size(rom, 0);
    parse_bad(rom, 0, "the image at offset 0x0 is cut off after 0 bytes");
}

/* The longest image that PCIR can describe. */
static void test_longest(void)
{
    g_autoptr(GByteArray) rom = make(0xffff, 0x00, true);
    g_autoptr(GArray) images = parse_good(rom, 0);

    g_assert_cmpuint(image_at(images, 0)->length, ==, 0xffff * UNIT);
}

/* Three images, one with NPDE, of which each byte counts. */
static GByteArray *make_chain(void)
{
    GByteArray *rom = make(2, 0x00, true);

    put_npde(rom, NPDE, 11, 2, false);
    append(rom, make(1, 0x03, false));
    append(rom, make(1, 0xe0, true));
    memcpy(rom->data + 3 * UNIT, "VN", 2);
    memcpy(rom->data + 3 * UNIT + PCIR, "NPDS", 4);
    put16(rom->data + PCIR + 0x08, 0x80 - PCIR);
    put16(rom->data + 0x80, 0x1111);
    return rom;
}

/* What the parser says of a ROM is true, whatever is in it. */
static void check_images(const uint8_t *rom, size_t size, size_t offset,
                         const GArray *images)
{
    size_t at = offset;

    g_assert_cmpuint(images->len, >, 0);
    for (unsigned int i = 0; i < images->len; i++) {
        const OptimusImage *image = image_at(images, i);

        g_assert_cmpuint(image->offset, ==, at);
        g_assert_cmpuint(image->length, >, 0);
        g_assert_cmpuint(image->length, <=, size - at);
        g_assert_cmpuint(image->pcir, >=, at);
        g_assert_cmpuint(image->pcir + 0x18, <=, at + image->length);
        g_assert_cmpint(optimus_image_ends_chain(rom, size, image), ==,
                        i == images->len - 1);
        optimus_image_is_for(rom, image, 0x10de, 0x2222);
        optimus_image_sum(rom, image);
        at += image->length;
    }
}

static void test_truncation(void)
{
    g_autoptr(GByteArray) rom = make_chain();

    for (size_t size = 0; size < rom->len; size++) {
        g_autofree char *why = NULL;
        g_autoptr(GArray) images = parse(rom, size, 0, &why);

        /* but where Linux cuts, after an image with NPDE */
        g_assert_cmpint(!images, ==, size != 2 * UNIT);
        g_assert_cmpint(!why, ==, !!images);
    }
    g_array_unref(parse_good(rom, 0));
}

static void test_corruption(void)
{
    g_autoptr(GByteArray) rom = make_chain();
    g_autofree uint8_t *copy = g_malloc(rom->len);

    memcpy(copy, rom->data, rom->len);
    for (size_t at = 0; at < rom->len; at++) {
        for (unsigned int value = 0; value < 256; value++) {
            g_autoptr(GArray) images = NULL;
            g_autofree char *why = NULL;

            copy[at] = value;
            images = optimus_rom_parse(copy, rom->len, 0, &why);
            g_assert_true(!images == !!why);
            if (images) {
                check_images(copy, rom->len, 0, images);
            }
        }
        copy[at] = rom->data[at];
    }
}

/* A chain only goes forward, so that even the densest one comes to its end. */
static void test_long_chain(void)
{
    g_autoptr(GByteArray) rom = g_byte_array_new();
    g_autoptr(GArray) images = NULL;
    unsigned int n = 5000;

    for (unsigned int i = 1; i <= n; i++) {
        append(rom, make(1, 0x00, i == n));
    }
    images = parse_good(rom, 0);
    g_assert_cmpuint(images->len, ==, n);
    check_images(rom->data, rom->len, 0, images);
}

static size_t find(const GByteArray *rom, size_t from)
{
    g_autofree uint8_t *copy = g_malloc(rom->len);

    memcpy(copy, rom->data, rom->len);
    return optimus_rom_find(copy, rom->len, from);
}

static void test_find(void)
{
    g_autoptr(GByteArray) rom = g_byte_array_new();

    /* stray signatures, and an image without an end */
    g_byte_array_append(rom, (const uint8_t *)"\x55\x55\xaa\x55", 4);
    append(rom, make(1, 0x00, false));
    g_byte_array_append(rom, (const uint8_t *)"\x55\xaaxyz", 5);
    append(rom, make(1, 0x00, false));
    append(rom, make(1, 0x00, true));
    g_byte_array_append(rom, (const uint8_t *)"\x55", 1);
    append(rom, make(2, 0x00, true));
    g_byte_array_append(rom, (const uint8_t *)"\x55\xaa\x55", 3);

    g_assert_cmpuint(find(rom, 0), ==, UNIT + 9);
    g_assert_cmpuint(find(rom, UNIT + 9), ==, UNIT + 9);
    g_assert_cmpuint(find(rom, UNIT + 10), ==, 2 * UNIT + 9);
    g_assert_cmpuint(find(rom, 2 * UNIT + 10), ==, 3 * UNIT + 10);
    g_assert_cmpuint(find(rom, 3 * UNIT + 11), ==, rom->len);
    g_assert_cmpuint(find(rom, rom->len - 1), ==, rom->len);
    g_assert_cmpuint(find(rom, rom->len), ==, rom->len);
    g_assert_cmpuint(find(rom, rom->len + 1), ==, rom->len);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/optimus-rom/errors", test_errors);
    g_test_add_func("/optimus-rom/longest", test_longest);
    g_test_add_func("/optimus-rom/truncation", test_truncation);
    g_test_add_func("/optimus-rom/corruption", test_corruption);
    g_test_add_func("/optimus-rom/long-chain", test_long_chain);
    g_test_add_func("/optimus-rom/find", test_find);

    return g_test_run();
}
