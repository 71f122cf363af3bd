/*
 * Unit test of the ACPI method _ROM, byte by byte
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/vfio/optimus-aml.h"
#include "hw/vfio/optimus-window.h"

/*
 * An assembler of its own, so that what the method is compared with has
 * nothing in common with hw/acpi/aml-build.c.
 */

static void put(GByteArray *aml, const char *bytes, unsigned int size)
{
    g_byte_array_append(aml, (const uint8_t *)bytes, size);
}

/* For string literals with opcodes in them, which may contain NUL. */
#define PUT(aml, literal) put(aml, literal, sizeof(literal) - 1)

static void put_bytes(GByteArray *aml, uint32_t value, unsigned int size)
{
    while (size--) {
        uint8_t byte = value;

        g_byte_array_append(aml, &byte, 1);
        value >>= 8;
    }
}

static void put_int(GByteArray *aml, uint32_t value)
{
    g_assert_cmpuint(value, >, 1);
    if (value <= 0xff) {
        PUT(aml, "\x0a");
        put_bytes(aml, value, 1);
    } else if (value <= 0xffff) {
        PUT(aml, "\x0b");
        put_bytes(aml, value, 2);
    } else {
        PUT(aml, "\x0c");
        put_bytes(aml, value, 4);
    }
}

/* PkgLength as it is: without adding its own length. */
static void put_package_length(GByteArray *aml, uint32_t length)
{
    unsigned int more = length < 1 << 6 ? 0 : length < 1 << 12 ? 1 :
                        length < 1 << 20 ? 2 : 3;

    if (!more) {
        put_bytes(aml, length, 1);
        return;
    }
    put_bytes(aml, more << 6 | (length & 0xf), 1);
    put_bytes(aml, length >> 4, more);
}

/* Append @block with the PkgLength that it needs, and free it. */
static void put_package(GByteArray *aml, GByteArray *block)
{
    static const uint32_t limits[] = { 1 << 6, 1 << 12, 1 << 20, 1 << 28 };
    unsigned int i = 0;

    while (block->len + i + 1 >= limits[i]) {
        i++;
    }
    put_package_length(aml, block->len + i + 1);
    g_byte_array_append(aml, block->data, block->len);
    g_byte_array_unref(block);
}

/* Field (@region, QWordAcc, NoLock, Preserve) { @name, @size * 8 } */
static void put_field(GByteArray *aml, const char *region, const char *name,
                      uint32_t size)
{
    GByteArray *field = g_byte_array_new();

    put(field, region, 4);
    PUT(field, "\x04");
    put(field, name, 4);
    put_package_length(field, size * 8);
    PUT(aml, "\x5b\x81");
    put_package(aml, field);
}

static GByteArray *expected_aml(uint32_t base, uint32_t size)
{
    uint32_t limit = (size + 0xfff) / 0x1000 * 0x1000 + 0x1000;
    uint32_t power = 8, mask;
    GByteArray *method = g_byte_array_new(), *other = g_byte_array_new();
    GByteArray *block = g_byte_array_new(), *inner = g_byte_array_new();
    GByteArray *aml = g_byte_array_new();

    /* what a multiple of 8 below the largest power of two has not */
    while (power * 2 <= size) {
        power *= 2;
    }
    mask = 0xffffffff - (power - 8);

    /* OperationRegion (VROM, SystemMemory, base, limit) */
    PUT(aml, "\x5b\x80VROM\x00");
    put_int(aml, base);
    put_int(aml, limit);
    /* Field (VROM, QWordAcc, NoLock, Preserve) { VALL, limit * 8 } */
    put_field(aml, "VROM", "VALL", limit);

    /* If (Or (And (Arg0, mask, ), Subtract (Arg1, 0x1000, ), )) */
    PUT(other, "\x7d\x7b\x68");
    put_int(other, mask);
    PUT(other, "\x00\x74\x69\x0b\x00\x10\x00\x00");
    PUT(other, "\x70\x69\x60");         /* Store (Arg1, Local0) */

    /* If (LGreaterEqual (Arg0, size)) */
    PUT(block, "\x92\x95\x68");
    put_int(block, size);
    /*   If (LGreater (Local0, 0x1000)) { Store (0x1000, Local0) } */
    PUT(inner, "\x94\x60\x0b\x00\x10");
    PUT(inner, "\x70\x0b\x00\x10\x60");
    PUT(block, "\xa0");
    put_package(block, inner);
    /*   Return (Buffer (Local0) {}) */
    PUT(block, "\xa4\x11\x02\x60");
    PUT(other, "\xa0");
    put_package(other, block);

    /* If (LGreater (Local0, limit)) { Store (limit, Local0) } */
    block = g_byte_array_new();
    PUT(block, "\x94\x60");
    put_int(block, limit);
    PUT(block, "\x70");
    put_int(block, limit);
    PUT(block, "\x60");
    PUT(other, "\xa0");
    put_package(other, block);

    /* And (Arg0, 7, Local1) */
    PUT(other, "\x7b\x68\x0a\x07\x61");

    /* If (LNot (LGreater (Add (Local0, Local1, ), 0x1000))) */
    block = g_byte_array_new();
    PUT(block, "\x92\x94\x72\x60\x61\x00\x0b\x00\x10");
    /*   OperationRegion (PARR, SystemMemory, */
    PUT(block, "\x5b\x80PARR\x00");
    /*     Add (base, Subtract (Arg0, Local1, ), ), 0x1000) */
    PUT(block, "\x72");
    put_int(block, base);
    PUT(block, "\x74\x68\x61\x00\x00\x0b\x00\x10");
    /*   Field (PARR, QWordAcc, NoLock, Preserve) { PART, 0x8000 } */
    put_field(block, "PARR", "PART", 0x1000);
    /*   Return (Mid (PART, Local1, Local0, )) */
    PUT(block, "\xa4\x9ePART\x61\x60\x00");
    PUT(other, "\xa0");
    put_package(other, block);

    /* Else */
    block = g_byte_array_new();
    /*   Mid (VALL, Arg0, Local0, Local2) */
    PUT(block, "\x9eVALL\x68\x60\x62");
    /*   Subtract (Local0, SizeOf (Local2), Local1) */
    PUT(block, "\x74\x60\x87\x62\x61");
    /*   If (Local1) { Concatenate (Local2, Buffer (Local1) {}, Local2) } */
    inner = g_byte_array_new();
    PUT(inner, "\x61");
    PUT(inner, "\x73\x62\x11\x02\x61\x62");
    PUT(block, "\xa0");
    put_package(block, inner);
    /*   Return (Local2) */
    PUT(block, "\xa4\x62");
    PUT(other, "\xa1");
    put_package(other, block);
    PUT(method, "_ROM\x0a");            /* two arguments, Serialized */
    PUT(method, "\xa0");
    put_package(method, other);

    /* OperationRegion (PAGR, SystemMemory, Add (base, Arg0, ), 0x1000) */
    PUT(method, "\x5b\x80PAGR\x00\x72");
    put_int(method, base);
    PUT(method, "\x68\x00\x0b\x00\x10");
    /* Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 } */
    put_field(method, "PAGR", "PAGE", 0x1000);
    /* Return (PAGE) */
    PUT(method, "\xa4PAGE");

    PUT(aml, "\x14");
    put_package(aml, method);
    return aml;
}

static void check_method(uint32_t base, uint32_t size)
{
    g_autoptr(GByteArray) expected = expected_aml(base, size);
    Aml *node = init_aml_allocator();

    optimus_build_rom_method(node, base, size);
    g_assert_cmpmem(node->buf->data, node->buf->len,
                    expected->data, expected->len);
    free_aml_allocator();
}

static void test_sizes(void)
{
    static const uint32_t sizes[] = {
        512, 0xe00, 0xfff, 0x1000, 0x1001, 0xdfff, 0xe000, 0xe001, 0xefff,
        0xf000, 0xffff, 0x10000, 0x19600, 0x1e000, 0x1e001, 0x40000, 0xfa000,
    };

    for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
        check_method(OPTIMUS_WINDOW_START, sizes[i]);
    }
}

static void test_bases(void)
{
    check_method(OPTIMUS_WINDOW_START + 0x1000, 103936);
    check_method(OPTIMUS_WINDOW_END - 0x1b000, 103936);
    check_method(OPTIMUS_WINDOW_END - 0x2000, 512);
}

/* With a page of zeros at the end, windows of any offset are inside. */
static void test_window_size(void)
{
    for (uint32_t size = 1; size <= 0x3001; size++) {
        uint32_t window = OPTIMUS_WINDOW_SIZE(size);

        g_assert_cmphex(window % OPTIMUS_PAGE, ==, 0);
        g_assert_cmphex(window, >=, ((size - 1) & ~7u) + OPTIMUS_PAGE);
        g_assert_cmphex(window, <, size + 2 * OPTIMUS_PAGE);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/optimus-aml/sizes", test_sizes);
    g_test_add_func("/optimus-aml/bases", test_bases);
    g_test_add_func("/optimus-aml/window-size", test_window_size);
    return g_test_run();
}
