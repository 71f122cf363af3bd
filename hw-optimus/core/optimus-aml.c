/*
 * The ACPI method _ROM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "optimus-aml.h"
#include "optimus-window.h"

/*
 * OperationRegion (@region, SystemMemory, @base, @size)
 * Field (@region, QWordAcc, NoLock, Preserve) { @name, @size * 8 }
 */
static void build_window(Aml *ctx, const char *region, const char *name,
                         Aml *base, uint32_t size)
{
    Aml *field = aml_field(region, AML_QWORD_ACC, AML_NOLOCK, AML_PRESERVE);

    aml_append(ctx, aml_operation_region(region, AML_SYSTEM_MEMORY, base,
                                         size));
    aml_append(field, aml_named_field(name, size * 8));
    aml_append(ctx, field);
}

/*
 * OperationRegion (VROM, SystemMemory, BASE, LIMIT)
 * Field (VROM, QWordAcc, NoLock, Preserve) { VALL, LIMIT * 8 }
 *
 * Method (_ROM, 2, Serialized)                 // Arg0: offset, Arg1: length
 * {
 *     If ((Arg0 & MASK) | (Arg1 - 0x1000))     // not just a page
 *     {
 *         Local0 = Arg1
 *         If (Arg0 >= SIZE)                    // behind the ROM: zeros
 *         {
 *             If (Local0 > 0x1000) { Local0 = 0x1000 }
 *             Return (Buffer (Local0) {})
 *         }
 *         If (Local0 > LIMIT) { Local0 = LIMIT }
 *         Local1 = Arg0 & 7
 *         If ((Local0 + Local1) <= 0x1000)     // a part of a page's window
 *         {
 *             OperationRegion (PARR, SystemMemory, BASE + (Arg0 - Local1),
 *                              0x1000)
 *             Field (PARR, QWordAcc, NoLock, Preserve) { PART, 0x8000 }
 *             Return (Mid (PART, Local1, Local0))
 *         }
 *         Else                                 // a part of the whole window
 *         {
 *             Local2 = Mid (VALL, Arg0, Local0)
 *             Local1 = (Local0 - SizeOf (Local2))
 *             If (Local1) { Local2 = Concatenate (Local2, Buffer (Local1) {}) }
 *             Return (Local2)
 *         }
 *     }
 *     OperationRegion (PAGR, SystemMemory, BASE + Arg0, 0x1000)
 *     Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
 *     Return (PAGE)
 * }
 *
 * SIZE is the ROM's length and LIMIT that of its window, with at least one page
 * of zeros at the end.  MASK has the bits that are not set in any multiple of 8
 * below the largest power of two in SIZE.
 *
 * A page is what drivers ask for, time and again: it gets there by as few terms
 * as possible, as each takes as long as reading some hundred bytes, and without
 * a copy.  Most ROMs are a power of two in size, and MASK is all it takes to
 * tell such a request; of other ROMs some pages go the longer way.
 *
 * All regions are accessed in aligned quadwords: it is the fastest access, and
 * an unaligned one could cross a page, while older versions of ACPICA map no
 * more than one page of a region at a time.  Lengths are clamped before any
 * buffer is made of them, and sums are made of clamped values, so nothing wraps
 * at 32 bits.
 */
void optimus_build_rom_method(Aml *dev, uint32_t base, uint32_t size)
{
    const uint32_t limit = OPTIMUS_WINDOW_SIZE(size);
    const uint32_t mask = ~(pow2floor(size) - 8);
    Aml *offset = aml_arg(0), *length = aml_local(0), *rest = aml_local(1);
    Aml *result = aml_local(2), *page = aml_int(OPTIMUS_PAGE);
    Aml *method = aml_method("_ROM", 2, AML_SERIALIZED);
    Aml *other, *ctx, *inner, *start;

    build_window(dev, "VROM", "VALL", aml_int(base), limit);

    other = aml_if(aml_or(aml_and(offset, aml_int(mask), NULL),
                          aml_subtract(aml_arg(1), page, NULL), NULL));
    aml_append(other, aml_store(aml_arg(1), length));

    ctx = aml_if(aml_lgreater_equal(offset, aml_int(size)));
    {
        inner = aml_if(aml_lgreater(length, page));
        aml_append(inner, aml_store(page, length));
        aml_append(ctx, inner);
        aml_append(ctx, aml_return(aml_zero_buffer(length)));
    }
    aml_append(other, ctx);

    ctx = aml_if(aml_lgreater(length, aml_int(limit)));
    aml_append(ctx, aml_store(aml_int(limit), length));
    aml_append(other, ctx);

    aml_append(other, aml_and(offset, aml_int(7), rest));
    ctx = aml_if(aml_lnot(aml_lgreater(aml_add(length, rest, NULL), page)));
    {
        start = aml_add(aml_int(base), aml_subtract(offset, rest, NULL), NULL);
        build_window(ctx, "PARR", "PART", start, OPTIMUS_PAGE);
        aml_append(ctx, aml_return(aml_mid(aml_name("PART"), rest, length,
                                           NULL)));
    }
    aml_append(other, ctx);

    ctx = aml_else();
    {
        aml_append(ctx, aml_mid(aml_name("VALL"), offset, length, result));
        aml_append(ctx, aml_subtract(length, aml_sizeof(result), rest));
        inner = aml_if(rest);
        aml_append(inner, aml_concatenate(result, aml_zero_buffer(rest),
                                          result));
        aml_append(ctx, inner);
        aml_append(ctx, aml_return(result));
    }
    aml_append(other, ctx);
    aml_append(method, other);

    build_window(method, "PAGR", "PAGE", aml_add(aml_int(base), offset, NULL),
                 OPTIMUS_PAGE);
    aml_append(method, aml_return(aml_name("PAGE")));

    aml_append(dev, method);
}
