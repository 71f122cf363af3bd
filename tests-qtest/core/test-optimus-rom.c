/*
 * Unit test of the parser of option ROM images: what it says of good ones
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "made-rom.h"
#include <string.h>

static void test_fields(void)
{
    g_autoptr(GByteArray) rom = make(3, 0x03, false);
    g_autoptr(GArray) images = NULL;
    const OptimusImage *image;

    append(rom, make(2, 0x00, true));
    images = parse_good(rom, 0);
    g_assert_cmpuint(images->len, ==, 2);

    image = image_at(images, 0);
    g_assert_cmpuint(image->offset, ==, 0);
    g_assert_cmpuint(image->length, ==, 3 * UNIT);
    g_assert_cmpuint(image->pcir, ==, PCIR);
    g_assert_cmpuint(image->npde, ==, 0);
    g_assert_cmphex(image->vendor, ==, 0x10de);
    g_assert_cmphex(image->device, ==, 0x139b);
    g_assert_cmphex(image->class_code, ==, 0x123456);
    g_assert_cmphex(image->code_type, ==, 0x03);
    g_assert_false(image->last);

    image = image_at(images, 1);
    g_assert_cmpuint(image->offset, ==, 3 * UNIT);
    g_assert_cmpuint(image->length, ==, 2 * UNIT);
    g_assert_cmpuint(image->pcir, ==, 3 * UNIT + PCIR);
    g_assert_cmphex(image->code_type, ==, 0x00);
    g_assert_true(image->last);
}

/* What follows the last image does not matter. */
static void test_trailing(void)
{
    g_autoptr(GByteArray) rom = make(1, 0x00, true);
    g_autoptr(GArray) images = NULL;

    append(rom, make(1, 0x00, true));
    g_byte_array_append(rom, (const uint8_t *)"x", 1);
    images = parse_good(rom, 0);
    g_assert_cmpuint(images->len, ==, 1);
}

static void test_offset(void)
{
    g_autoptr(GByteArray) rom = g_byte_array_new();
    g_autoptr(GArray) images = NULL;

    g_byte_array_append(rom, (const uint8_t *)"NVGI header", 11);
    append(rom, make(1, 0x00, false));
    append(rom, make(1, 0x00, true));
    images = parse_good(rom, 11);
    g_assert_cmpuint(images->len, ==, 2);
    g_assert_cmpuint(image_at(images, 0)->offset, ==, 11);
    g_assert_cmpuint(image_at(images, 0)->pcir, ==, 11 + PCIR);
    g_assert_cmpuint(image_at(images, 1)->offset, ==, 11 + UNIT);
}

static void test_signatures(void)
{
    static const char *const headers[] = { "\x55\xaa", "\x77\xbb", "VN" };
    static const char *const structures[] = { "PCIR", "RGIS", "NPDS" };

    for (unsigned int i = 0; i < 3; i++) {
        for (unsigned int k = 0; k < 3; k++) {
            g_autoptr(GByteArray) rom = make(1, 0x00, false);
            g_autoptr(GArray) images = NULL;

            append(rom, make(1, 0xe0, true));
            memcpy(rom->data + UNIT, headers[i], 2);
            memcpy(rom->data + UNIT + PCIR, structures[k], 4);
            images = parse_good(rom, 0);
            g_assert_cmpuint(images->len, ==, 2);
        }
    }
}

/* The first image, too, may start with a signature of NVIDIA's, if asked for. */
static void test_first_signature(void)
{
    static const char *const headers[] = { "\x77\xbb", "VN" };

    for (unsigned int i = 0; i < G_N_ELEMENTS(headers); i++) {
        g_autoptr(GByteArray) rom = make(1, 0xe0, true);

        memcpy(rom->data, headers[i], 2);
        g_array_unref(parse_good(rom, 0));
        g_assert_cmpuint(optimus_rom_find(rom->data, rom->len, 0), ==,
                         rom->len);
    }
}

/* What is no ROM at all is called by its name. */
static void test_no_rom(void)
{
    g_autoptr(GByteArray) rom = make(1, 0x00, true);

    memset(rom->data, 0xff, UNIT);
    parse_bad(rom, 0, "all its bytes are ff: nothing was read when it was made");
    memset(rom->data, 0x00, UNIT);
    parse_bad(rom, 0, "all its bytes are 00: nothing was read when it was made");
    rom->data[UNIT - 1] = 1;
    parse_bad(rom, 0, "there is no option ROM image at offset 0x0: it starts "
              "with 00 00, not with 55 aa");
    memcpy(rom->data, "PK\x03\x04", 4);
    parse_bad(rom, 0, "it is a ZIP archive");
    parse_bad(rom, 1, "there is no option ROM image at offset 0x1: it starts "
              "with 4b 03, not with 55 aa");
}

static void check_npde(const GByteArray *rom, size_t offset, size_t length,
                       bool last)
{
    g_autoptr(GArray) images = parse_good(rom, offset);
    const OptimusImage *image = image_at(images, 0);

    g_assert_cmpuint(image->npde, ==, offset + NPDE);
    g_assert_cmpuint(image->length, ==, length);
    g_assert_cmpint(image->last, ==, last);
    g_assert_cmpuint(images->len, ==, last ? 1 : 2);
}

/* NPDE has the last word on length and last, in either direction. */
static void test_npde(void)
{
    g_autoptr(GByteArray) rom = make(3, 0x00, false);

    put_npde(rom, NPDE, 11, 2, true);
    check_npde(rom, 0, 2 * UNIT, true);
    put_npde(rom, NPDE, 11, 3, true);
    check_npde(rom, 0, 3 * UNIT, true);

    rom->data[PCIR + 0x15] = 0x80;
    put_npde(rom, NPDE, 16, 3, false);
    append(rom, make(1, 0xe0, true));
    check_npde(rom, 0, 3 * UNIT, false);

    /* PCIR may count more than there is. */
    put16(rom->data + PCIR + 0x10, 0xffff);
    check_npde(rom, 0, 3 * UNIT, false);
}

/* NPDE is aligned in the ROM, wherever that is in the file. */
static void test_npde_alignment(void)
{
    for (unsigned int before = 1; before <= 32; before++) {
        g_autoptr(GByteArray) rom = g_byte_array_new();

        g_byte_array_set_size(rom, before);
        memset(rom->data, 0, before);
        append(rom, make(2, 0x00, false));
        put_npde(rom, before + NPDE, 11, 1, true);
        check_npde(rom, before, UNIT, true);
    }
}

/* Of an NPDE without the indicator only the length counts. */
static void test_npde_short(void)
{
    g_autoptr(GByteArray) rom = make(2, 0x00, true);

    put_npde(rom, NPDE, 10, 2, false);
    check_npde(rom, 0, 2 * UNIT, true);

    put_npde(rom, NPDE, 10, 1, true);
    append(rom, make(1, 0xe0, true));
    memmove(rom->data + UNIT, rom->data + 2 * UNIT, UNIT);
    check_npde(rom, 0, UNIT, false);
}

static void no_npde(const GByteArray *rom)
{
    g_autoptr(GArray) images = parse_good(rom, 0);

    g_assert_cmpuint(image_at(images, 0)->npde, ==, 0);
    g_assert_cmpuint(image_at(images, 0)->length, ==, rom->len);
}

static void test_npde_none(void)
{
    g_autoptr(GByteArray) rom = make(2, 0x00, true);

    /* of another name */
    put_npde(rom, NPDE, 11, 1, true);
    rom->data[NPDE + 3] = 'F';
    no_npde(rom);

    /* elsewhere */
    memset(rom->data + NPDE, 0, 16);
    put_npde(rom, NPDE - 3, 11, 1, true);
    no_npde(rom);
    memset(rom->data + NPDE - 3, 0, 16);
    put_npde(rom, NPDE + 16, 11, 1, true);
    no_npde(rom);

    /* where PCIR's length, the largest there is, leads out of the file */
    put16(rom->data + PCIR + 0x0a, 0xffff);
    no_npde(rom);
}

/* NPDE ends with the file, or is cut off by its end. */
static void test_npde_at_end(void)
{
    for (unsigned int cut = 0; cut <= 12; cut++) {
        g_autoptr(GByteArray) rom = make(1, 0x00, true);
        g_autoptr(GArray) images = NULL;

        append(rom, make(1, 0x00, true));
        put16(rom->data + PCIR + 0x0a, 2 * UNIT - 16 - PCIR);
        put_npde(rom, 2 * UNIT - 16, 11, 1, true);
        /* 16 bytes remain for the 11 of it. */
        g_byte_array_set_size(rom, 2 * UNIT - 5 - cut);
        images = parse_good(rom, 0);
        g_assert_cmpuint(image_at(images, 0)->npde, ==,
                         cut ? 0 : 2 * UNIT - 16);
    }
}

/* An image of the type 70 ends the chain, and has no NPDE. */
static void test_type_70(void)
{
    g_autoptr(GByteArray) rom = make(2, OPTIMUS_CODE_LAST, false);
    g_autoptr(GArray) images = NULL;

    put_npde(rom, NPDE, 11, 1, false);
    images = parse_good(rom, 0);
    g_assert_cmpuint(images->len, ==, 1);
    g_assert_cmpuint(image_at(images, 0)->npde, ==, 0);
    g_assert_cmpuint(image_at(images, 0)->length, ==, 2 * UNIT);
    g_assert_true(image_at(images, 0)->last);
}

static void check_list(const GByteArray *rom, size_t expected)
{
    g_autofree uint8_t *copy = g_malloc(rom->len);
    g_autoptr(GArray) images = parse_good(rom, 0);
    const OptimusImage *image = image_at(images, 0);
    size_t count;

    memcpy(copy, rom->data, rom->len);
    optimus_image_device_list(copy, image, &count);
    g_assert_cmpuint(count, ==, expected);
    g_assert_true(optimus_image_is_for(copy, image, 0x10de, 0x139b));
    g_assert_false(optimus_image_is_for(copy, image, 0x10de, 0x139c));
    g_assert_false(optimus_image_is_for(copy, image, 0x8086, 0x139b));
    g_assert_false(optimus_image_is_for(copy, image, 0x8086, 0x1111));
    g_assert_false(optimus_image_is_for(copy, image, 0x10de, 0x3333));
    g_assert_cmpint(optimus_image_is_for(copy, image, 0x10de, 0x1111), ==,
                    expected > 0);
    g_assert_cmpint(optimus_image_is_for(copy, image, 0x10de, 0x2222), ==,
                    expected > 1);
}

static void test_device_list(void)
{
    g_autoptr(GByteArray) rom = make(1, 0x00, true);
    uint8_t *pointer = rom->data + PCIR + 0x08;

    check_list(rom, 0);

    put16(rom->data + 0x80, 0x1111);
    put16(rom->data + 0x82, 0x2222);
    put16(rom->data + 0x86, 0x3333);    /* behind the end of the list */
    put16(pointer, 0x80 - PCIR);
    check_list(rom, 2);
    rom->data[PCIR + 0x0c] = 0;         /* the pointer was to other data then */
    check_list(rom, 0);
    rom->data[PCIR + 0x0c] = 2;
    check_list(rom, 0);
    rom->data[PCIR + 0x0c] = 4;
    check_list(rom, 2);

    /* that ends with the image */
    put16(rom->data + UNIT - 4, 0x1111);
    put16(rom->data + UNIT - 2, 0x2222);
    put16(pointer, UNIT - 4 - PCIR);
    check_list(rom, 2);
    put16(rom->data + UNIT - 5, 0x1111);
    put16(rom->data + UNIT - 3, 0x2222);
    put16(pointer, UNIT - 5 - PCIR);
    check_list(rom, 2);
    put16(pointer, UNIT - 1 - PCIR);
    check_list(rom, 0);
    put16(pointer, UNIT - PCIR);
    check_list(rom, 0);
    put16(pointer, 0xffff);
    check_list(rom, 0);

    /* that ends where the flash is empty */
    put16(rom->data + 0x82, 0xffff);
    put16(rom->data + 0x84, 0x3333);
    put16(pointer, 0x80 - PCIR);
    check_list(rom, 1);
}

/* A header full of FF, of which the pointer leads into the image. */
static void test_device_list_of_ff(void)
{
    g_autoptr(GByteArray) rom = make(0x100, 0x00, true);

    put16(rom->data + PCIR + 0xffff, 0x1111);
    put16(rom->data + PCIR + 0x08, 0xffff);
    check_list(rom, 0);
}

/* In the list of another image nothing counts. */
static void test_device_list_of_next(void)
{
    g_autoptr(GByteArray) rom = make(1, 0x00, false);

    append(rom, make(1, 0x00, true));
    put16(rom->data + UNIT + 0x80, 0x1111);
    put16(rom->data + PCIR + 0x08, UNIT + 0x80 - PCIR);
    check_list(rom, 0);
}

static void test_sum(void)
{
    g_autoptr(GByteArray) rom = make(1, 0x00, false);
    g_autoptr(GArray) images = NULL;
    uint8_t sum = 0;

    append(rom, make(2, 0x00, true));
    for (unsigned int i = UNIT; i < rom->len; i++) {
        sum += rom->data[i];
    }
    images = parse_good(rom, 0);
    g_assert_cmphex(optimus_image_sum(rom->data, image_at(images, 1)), ==, sum);
    rom->data[3 * UNIT - 1] -= sum;
    g_assert_cmphex(optimus_image_sum(rom->data, image_at(images, 1)), ==, 0);
    rom->data[UNIT - 1] += 1;
    g_assert_cmphex(optimus_image_sum(rom->data, image_at(images, 1)), ==, 0);
}

/* Where Linux cuts: an image that is the last one by PCIR, not by NPDE. */
static void test_cut_by_linux(void)
{
    g_autoptr(GByteArray) rom = make(2, 0x00, true);
    g_autoptr(GArray) cut = NULL, whole = NULL, longer = NULL;
    g_autofree char *why = NULL;

    put_npde(rom, NPDE, 11, 1, false);
    g_byte_array_set_size(rom, UNIT);
    cut = parse_good(rom, 0);
    g_assert_cmpuint(cut->len, ==, 1);
    g_assert_false(image_at(cut, 0)->last);
    g_assert_true(image_at(cut, 0)->pcir_last);
    g_assert_cmpuint(image_at(cut, 0)->length, ==, UNIT);
    g_assert_cmpuint(image_at(cut, 0)->pcir_length, ==, 2 * UNIT);
    g_assert_true(optimus_image_ends_chain(rom->data, UNIT, image_at(cut, 0)));

    append(rom, make(1, 0xe0, true));
    whole = parse_good(rom, 0);
    g_assert_cmpuint(whole->len, ==, 2);

    /* A byte more, and it is something else that broke it. */
    longer = parse(rom, UNIT + 1, 0, &why);
    g_assert_null(longer);
}

/* Memory dumped: whole images, and then nothing but 00 or FF up to the end. */
static void test_cut_with_fill(void)
{
    static const uint8_t bytes[] = { 0x00, 0xff };
    static const size_t lengths[] = { 1, 25, 26, 8 * UNIT };

    for (unsigned int i = 0; i < 2; i++) {
        for (unsigned int k = 0; k < G_N_ELEMENTS(lengths); k++) {
            g_autoptr(GByteArray) rom = make(2, 0x00, false);
            g_autoptr(GArray) images = NULL;
            size_t end;

            append(rom, make(1, 0x03, false));
            put_npde(rom, NPDE, 0x14, 2, false);
            put_npde(rom, 2 * UNIT + NPDE, 0x14, 1, false);
            end = rom->len;
            g_byte_array_set_size(rom, end + lengths[k]);
            memset(rom->data + end, bytes[i], lengths[k]);
            images = parse_good(rom, 0);
            g_assert_cmpuint(images->len, ==, 2);
            g_assert_false(image_at(images, 1)->last);
            g_assert_cmpuint(optimus_rom_find(rom->data, rom->len, 0), ==, 0);

            /* of anything else nothing is known */
            rom->data[end + lengths[k] - 1] = 0x01;
            g_assert_null(optimus_rom_parse(rom->data, rom->len, 0, NULL));
            g_assert_cmpuint(optimus_rom_find(rom->data, rom->len, 0), ==,
                             rom->len);
            rom->data[end + lengths[k] - 1] = bytes[i];
            rom->data[2 * UNIT + NPDE]++;
            g_assert_null(optimus_rom_parse(rom->data, rom->len, 0, NULL));
            g_assert_cmpuint(optimus_rom_find(rom->data, rom->len, 0), ==,
                             rom->len);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/optimus-rom/fields", test_fields);
    g_test_add_func("/optimus-rom/trailing", test_trailing);
    g_test_add_func("/optimus-rom/offset", test_offset);
    g_test_add_func("/optimus-rom/signatures", test_signatures);
    g_test_add_func("/optimus-rom/first-signature", test_first_signature);
    g_test_add_func("/optimus-rom/no-rom", test_no_rom);
    g_test_add_func("/optimus-rom/npde", test_npde);
    g_test_add_func("/optimus-rom/npde/alignment", test_npde_alignment);
    g_test_add_func("/optimus-rom/npde/short", test_npde_short);
    g_test_add_func("/optimus-rom/npde/none", test_npde_none);
    g_test_add_func("/optimus-rom/npde/at-end", test_npde_at_end);
    g_test_add_func("/optimus-rom/type-70", test_type_70);
    g_test_add_func("/optimus-rom/device-list", test_device_list);
    g_test_add_func("/optimus-rom/device-list/of-next",
                    test_device_list_of_next);
    g_test_add_func("/optimus-rom/device-list/of-ff", test_device_list_of_ff);
    g_test_add_func("/optimus-rom/sum", test_sum);
    g_test_add_func("/optimus-rom/cut-by-linux", test_cut_by_linux);
    g_test_add_func("/optimus-rom/cut-with-fill", test_cut_with_fill);

    return g_test_run();
}
