/*
 * Unit test of the parser of option ROM images
 *
 * Every ROM is parsed from a heap block of exactly its size, so that
 * AddressSanitizer sees a read outside of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "../../hw-optimus/core/optimus-rom.h"
#include <string.h>

#define UNIT 512
#define PCIR 0x40               /* where make() puts it */
#define NPDE 0x60               /* the next multiple of 16 behind it */
#define PCIR_LENGTH 0x1c

static void put16(uint8_t *at, unsigned int value)
{
    at[0] = value;
    at[1] = value >> 8;
}

/* An image of @units units, zeros but for the header and PCIR. */
static GByteArray *make(unsigned int units, uint8_t type, bool last)
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

static void put_npde(GByteArray *rom, size_t at, unsigned int length,
                     unsigned int units, bool last)
{
    memcpy(rom->data + at, "NPDE", 4);
    put16(rom->data + at + 0x04, 0x0101);
    put16(rom->data + at + 0x06, length);
    put16(rom->data + at + 0x08, units);
    rom->data[at + 0x0a] = last ? 0x80 : 0;
}

static void append(GByteArray *rom, GByteArray *more)
{
    g_byte_array_append(rom, more->data, more->len);
    g_byte_array_unref(more);
}

static GArray *parse(const GByteArray *rom, size_t size, size_t offset,
                     char **why)
{
    g_autofree uint8_t *copy = g_malloc(size);

    if (size) {
        memcpy(copy, rom->data, size);
    }
    return optimus_rom_parse(copy, size, offset, why);
}

static const OptimusImage *image_at(const GArray *images, unsigned int i)
{
    return &g_array_index(images, OptimusImage, i);
}

static GArray *parse_good(const GByteArray *rom, size_t offset)
{
    char *why = NULL;
    GArray *images = parse(rom, rom->len, offset, &why);

    g_assert_cmpstr(why, ==, NULL);
    g_assert_nonnull(images);
    return images;
}

/* The chain at @offset is broken, for that reason. */
static void parse_bad(const GByteArray *rom, size_t offset, const char *reason)
{
    g_autofree char *why = NULL;

    g_assert_null(parse(rom, rom->len, offset, &why));
    g_assert_cmpstr(why, ==, reason);
    g_assert_null(parse(rom, rom->len, offset, NULL));
}

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

/* Only later images may start with a signature of NVIDIA's. */
static void test_first_signature(void)
{
    g_autoptr(GByteArray) rom = make(1, 0xe0, true);

    memcpy(rom->data, "\x77\xbb", 2);
    parse_bad(rom, 0, "there is no option ROM image at offset 0x0: it starts "
              "with 77 bb, not with 55 aa");
    memcpy(rom->data, "VN", 2);
    parse_bad(rom, 0, "there is no option ROM image at offset 0x0: it starts "
              "with 56 4e, not with 55 aa");
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
    g_assert_true(optimus_image_ends_chain(image_at(cut, 0), UNIT));
    g_assert_false(optimus_image_ends_chain(image_at(cut, 0), UNIT + 1));

    append(rom, make(1, 0xe0, true));
    whole = parse_good(rom, 0);
    g_assert_cmpuint(whole->len, ==, 2);

    /* A byte more, and it is something else that broke it. */
    longer = parse(rom, UNIT + 1, 0, &why);
    g_assert_null(longer);
}

/* A table with the tokens 'P' and 'i', of eight bytes each. */
#define BIT 0x100
#define P_DATA 0x140
#define I_DATA 0x150

static void put_bit(uint8_t *rom)
{
    static const uint8_t table[] = {
        0xff, 0xb8, 'B', 'I', 'T', 0, 0, 1, 12, 6, 2, 0x55,
        'P', 2, 8, 0, P_DATA & 0xff, P_DATA >> 8,
        'i', 2, 8, 0, I_DATA & 0xff, I_DATA >> 8,
    };

    memcpy(rom + BIT, table, sizeof(table));
}

static void test_bit(void)
{
    g_autoptr(GByteArray) rom = make(1, 0x00, true);
    g_autoptr(GArray) images = parse_good(rom, 0);
    const OptimusImage *image = image_at(images, 0);
    size_t length;
    bool intact;

    g_assert_cmpuint(optimus_bit_find(rom->data, image, NULL), ==, 0);
    g_assert_cmpuint(optimus_bit_token(rom->data, image, 'i', &length), ==, 0);

    put_bit(rom->data);
    g_assert_cmpuint(optimus_bit_find(rom->data, image, &intact), ==, BIT);
    g_assert_true(intact);
    g_assert_cmpuint(optimus_bit_token(rom->data, image, 'i', &length), ==,
                     I_DATA);
    g_assert_cmpuint(length, ==, 8);
    g_assert_cmpuint(optimus_bit_token(rom->data, image, 'x', &length), ==, 0);
    rom->data[BIT + 7]++;
    g_assert_cmpuint(optimus_bit_find(rom->data, image, &intact), ==, BIT);
    g_assert_false(intact);

    /* data that ends with the image, and behind it */
    put16(rom->data + BIT + 12 + 6 + 4, UNIT - 8);
    g_assert_cmpuint(optimus_bit_token(rom->data, image, 'i', &length), ==,
                     UNIT - 8);
    put16(rom->data + BIT + 12 + 6 + 4, UNIT - 7);
    g_assert_cmpuint(optimus_bit_token(rom->data, image, 'i', &length), ==, 0);

    /* a table, and then its entries, cut off by the end of the image */
    memset(rom->data + BIT, 0, 5);
    memcpy(rom->data + UNIT - 11, "\xff\xb8""BIT", 5);
    g_assert_cmpuint(optimus_bit_find(rom->data, image, NULL), ==, 0);
    memset(rom->data + UNIT - 11, 0, 11);
    memcpy(rom->data + UNIT - 17, "\xff\xb8""BIT\0\0\1\x0c\6\2\0i\2\0\0", 16);
    g_assert_cmpuint(optimus_bit_token(rom->data, image, 'i', &length), ==, 0);
}

static uint16_t card_vendor, card_device;

/* What becomes of the ROM, and in the remarks @says, if that is not NULL. */
static void check_judge(const GByteArray *rom, OptimusFate fate,
                        unsigned int number, const char *says)
{
    g_autoptr(GArray) images = parse_good(rom, 0);
    g_autoptr(GPtrArray) remarks = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpint(optimus_rom_judge(rom->data, images, card_vendor,
                                      card_device, remarks), ==, fate);
    g_assert_cmpuint(remarks->len, ==, number);
    if (says) {
        g_assert_nonnull(strstr(remarks->pdata[0], says));
    }
}

static void set_sum(uint8_t *image, size_t size)
{
    image[size - 1] = 0;
    for (size_t i = 0; i < size - 1; i++) {
        image[size - 1] -= image[i];
    }
}

/* Two images of NVIDIA's, one of x86 type, that all drivers take. */
static GByteArray *make_nvidia(void)
{
    GByteArray *rom = make(1, 0x00, false);

    put_bit(rom->data);
    set_sum(rom->data, UNIT);
    append(rom, make(1, OPTIMUS_CODE_DATA, true));
    set_sum(rom->data + UNIT, UNIT);
    return rom;
}

static void test_judge_ids(void)
{
    g_autoptr(GByteArray) rom = make_nvidia();

    check_judge(rom, OPTIMUS_TAKEN, 0, NULL);
    card_vendor = 0x10de;
    card_device = 0x139b;
    check_judge(rom, OPTIMUS_TAKEN, 0, NULL);
    card_device = 0x139c;
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 1, "it is for 10de:139b, and the card "
                "is 10de:139c: NVIDIA's drivers refuse it, nouveau takes it");
    put16(rom->data + PCIR + 0x08, 0x80 - PCIR);
    put16(rom->data + 0x80, 0x139c);
    set_sum(rom->data, UNIT);
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 1, "10de:139c is only in its list of "
                "further devices");
    card_vendor = 0x1002;
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 1, "it is for 10de:139b");

    /* Of a card that is not known, the vendor is. */
    put16(rom->data + PCIR + 0x04, 0x8086);
    set_sum(rom->data, UNIT);
    card_vendor = card_device = 0;
    check_judge(rom, OPTIMUS_USELESS, 1, "it is for 8086:139b of class 123456, a "
                "device of Intel");
}

static void test_judge_content(void)
{
    g_autoptr(GByteArray) rom = make_nvidia();

    rom->data[2 * UNIT - 1]++;
    check_judge(rom, OPTIMUS_TAKEN, 1, "what NVIDIA has at offset 0x200");
    rom->data[UNIT - 1]++;
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 2, "the checksum of the image at "
                "offset 0x0 is wrong: NVIDIA's drivers refuse it");
    set_sum(rom->data + UNIT, UNIT);
    rom->data[UNIT - 1]--;

    rom->data[BIT + 11]++;
    set_sum(rom->data, UNIT);
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 1, "the checksum of its BIT");
    rom->data[BIT]++;
    rom->data[PCIR + 0x0f] = 0x03;
    set_sum(rom->data, UNIT);
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 1, "it has no BIT");
    rom->data[PCIR + 0x0f] = 0x02;
    set_sum(rom->data, UNIT);
    check_judge(rom, OPTIMUS_USELESS, 1, "it is for devices of class 023456");

    rom->data[PCIR + 0x14] = OPTIMUS_CODE_EFI;
    check_judge(rom, OPTIMUS_USELESS, 1, "no image is of the type x86");
}

static void test_judge_cut(void)
{
    static const struct {
        uint32_t pointer;
        OptimusFate fate;
    } cases[] = {
        { 0, OPTIMUS_TAKEN }, { UNIT - 1, OPTIMUS_TAKEN },
        { UNIT, OPTIMUS_USELESS }, { 0xfffff, OPTIMUS_USELESS },
        { 0x100000, OPTIMUS_TAKEN }, { 0xffffffff, OPTIMUS_TAKEN },
    };
    g_autoptr(GByteArray) rom = make(1, 0x00, true);

    put_bit(rom->data);
    put_npde(rom, NPDE, 11, 1, false);
    for (unsigned int i = 0; i < G_N_ELEMENTS(cases); i++) {
        put16(rom->data + P_DATA + 4, cases[i].pointer);
        put16(rom->data + P_DATA + 6, cases[i].pointer >> 16);
        set_sum(rom->data, UNIT);
        check_judge(rom, cases[i].fate, 1, "it was cut behind the image at "
                    "offset 0x0, as Linux's sysfs does");
    }
}

/* Every sentence there is, for the first image and a later one. */
static void test_errors(void)
{
    g_autoptr(GByteArray) rom = make(2, 0x00, false);
    uint8_t *second;

    parse_bad(rom, 0, "the file ends behind the image at offset 0x0, which "
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
        g_assert_cmpint(optimus_image_ends_chain(image, size), ==,
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

        /* but where Linux cuts, behind an image with NPDE */
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

    g_test_add_func("/optimus-rom/fields", test_fields);
    g_test_add_func("/optimus-rom/trailing", test_trailing);
    g_test_add_func("/optimus-rom/offset", test_offset);
    g_test_add_func("/optimus-rom/signatures", test_signatures);
    g_test_add_func("/optimus-rom/first-signature", test_first_signature);
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
    g_test_add_func("/optimus-rom/bit", test_bit);
    g_test_add_func("/optimus-rom/judge/ids", test_judge_ids);
    g_test_add_func("/optimus-rom/judge/content", test_judge_content);
    g_test_add_func("/optimus-rom/judge/cut", test_judge_cut);
    g_test_add_func("/optimus-rom/errors", test_errors);
    g_test_add_func("/optimus-rom/longest", test_longest);
    g_test_add_func("/optimus-rom/truncation", test_truncation);
    g_test_add_func("/optimus-rom/corruption", test_corruption);
    g_test_add_func("/optimus-rom/long-chain", test_long_chain);
    g_test_add_func("/optimus-rom/find", test_find);

    return g_test_run();
}
