/*
 * Unit test of what drivers make of a ROM: the BIOS Information Table, sums, IDs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "made-rom.h"
#include <string.h>

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

    /* data that ends with the image, and after it */
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
static void check_judge(const GByteArray *rom, OptimusVerdict verdict,
                        unsigned int number, const char *says)
{
    g_autoptr(GArray) images = parse_good(rom, 0);
    g_autoptr(GPtrArray) remarks = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpint(optimus_rom_judge(rom->data, images, card_vendor,
                                      card_device, remarks), ==, verdict);
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

    /* Of what is not NVIDIA's that is all, with or without x86, whole or not. */
    put16(rom->data + PCIR + 0x04, 0x8086);
    for (unsigned int i = 0; i < 2; i++) {
        rom->data[PCIR + 0x14] = i ? OPTIMUS_CODE_EFI : OPTIMUS_CODE_X86;
        check_judge(rom, OPTIMUS_USELESS, 1, "it is for 8086:139b of class "
                    "123456, a device of Intel");
        card_vendor = card_device = 0;
    }
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
    rom->data[PCIR + 0x14] = OPTIMUS_CODE_X86;

    memcpy(rom->data, "VN", 2);
    put_bit(rom->data);
    set_sum(rom->data, UNIT);
    check_judge(rom, OPTIMUS_NOUVEAU_ONLY, 1, "it starts with 56 4e (VN), which "
                "is NVIDIA's own");
}

static void test_judge_cut(void)
{
    static const struct {
        uint32_t pointer;
        OptimusVerdict verdict;
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
        check_judge(rom, cases[i].verdict, 1, "it was cut after the image at "
                    "offset 0x0, as Linux's sysfs and dumps of memory are");
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/optimus-rom/bit", test_bit);
    g_test_add_func("/optimus-rom/judge/ids", test_judge_ids);
    g_test_add_func("/optimus-rom/judge/content", test_judge_content);
    g_test_add_func("/optimus-rom/judge/cut", test_judge_cut);

    return g_test_run();
}
