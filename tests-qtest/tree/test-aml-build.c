/*
 * Unit tests of AML terms
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/acpi/aml-build.h"

/* Check that @term is made of just the bytes that follow. */
#define CHECK_TERM(term, ...) do { \
    const uint8_t expected_[] = { __VA_ARGS__ }; \
    Aml *root_ = init_aml_allocator(); \
    aml_append(root_, term); \
    g_assert_cmpmem(root_->buf->data, root_->buf->len, \
                    expected_, sizeof(expected_)); \
    free_aml_allocator(); \
} while (0)

static void test_mid(void)
{
    CHECK_TERM(aml_mid(aml_arg(0), aml_local(1), aml_int(0x1000), aml_local(2)),
               0x9e /* MidOp */, 0x68 /* Arg0 */, 0x61 /* Local1 */,
               0x0b, 0x00, 0x10 /* Word 0x1000 */, 0x62 /* Local2 */);
    CHECK_TERM(aml_mid(aml_name("NAME"), aml_int(0), aml_int(1), NULL),
               0x9e /* MidOp */, 'N', 'A', 'M', 'E', 0x00 /* Zero */,
               0x01 /* One */, 0x00 /* NullName */);
}

static void test_zero_buffer(void)
{
    CHECK_TERM(aml_zero_buffer(aml_local(0)),
               0x11 /* BufferOp */, 0x02 /* PkgLength */, 0x60 /* Local0 */);
    CHECK_TERM(aml_zero_buffer(aml_int(0x12345678)),
               0x11 /* BufferOp */, 0x06 /* PkgLength */,
               0x0c, 0x78, 0x56, 0x34, 0x12 /* DWord 0x12345678 */);
    CHECK_TERM(aml_return(aml_zero_buffer(aml_add(aml_arg(0), aml_int(1),
                                                  NULL))),
               0xa4 /* ReturnOp */, 0x11 /* BufferOp */, 0x05 /* PkgLength */,
               0x72, 0x68, 0x01, 0x00 /* Add (Arg0, One, ) */);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aml-build/mid", test_mid);
    g_test_add_func("/aml-build/zero-buffer", test_zero_buffer);
    return g_test_run();
}
