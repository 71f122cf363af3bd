/*
 * The ACPI method _ROM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
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
 * Method (_ROM, 2, Serialized)                 // Arg0: offset, Arg1: length
 * {
 *     If ((Arg0 > LAST) | ((Arg0 & 7) | (Arg1 - 0x1000)))  // not just a page
 *     {
 *         Local0 = Arg0
 *         If (Local0 > LAST) { Local0 = LAST } // zeros from there on
 *         Local1 = Arg1
 *         If (Local1 > 0x1000) { Local1 = 0x1000 }
 *         Local2 = Local0 & 7
 *         OperationRegion (PARR, SystemMemory, BASE + (Local0 - Local2),
 *                          0x1008)
 *         Field (PARR, QWordAcc, NoLock, Preserve) { PART, 0x8040 }
 *         Return (Mid (PART, Local2, Local1))
 *     }
 *     OperationRegion (PAGR, SystemMemory, BASE + Arg0, 0x1000)
 *     Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
 *     Return (PAGE)
 * }
 *
 * A page is what drivers ask for, time and again: it gets there by as few terms
 * as possible, and without a copy.  All else takes a third longer.
 *
 * The regions are accessed in aligned quadwords: it is the fastest access, and
 * an unaligned one could cross a page, while older versions of ACPICA map no
 * more than one page of a region at a time.  What becomes an address or a
 * length is clamped before, so nothing wraps at 32 bits and no buffer is larger
 * than a page.
 */
void optimus_build_rom_method(Aml *dev, uint32_t base, uint32_t last)
{
    Aml *offset = aml_local(0), *length = aml_local(1), *rest = aml_local(2);
    Aml *page = aml_int(OPTIMUS_PAGE);
    Aml *method = aml_method("_ROM", 2, AML_SERIALIZED);
    Aml *part, *ctx;

    part = aml_if(aml_or(aml_lgreater(aml_arg(0), aml_int(last)),
                         aml_or(aml_and(aml_arg(0), aml_int(7), NULL),
                                aml_subtract(aml_arg(1), page, NULL), NULL),
                         NULL));

    aml_append(part, aml_store(aml_arg(0), offset));
    ctx = aml_if(aml_lgreater(offset, aml_int(last)));
    aml_append(ctx, aml_store(aml_int(last), offset));
    aml_append(part, ctx);

    aml_append(part, aml_store(aml_arg(1), length));
    ctx = aml_if(aml_lgreater(length, page));
    aml_append(ctx, aml_store(page, length));
    aml_append(part, ctx);

    aml_append(part, aml_and(offset, aml_int(7), rest));
    build_window(part, "PARR", "PART",
                 aml_add(aml_int(base), aml_subtract(offset, rest, NULL), NULL),
                 OPTIMUS_PAGE + 8);
    aml_append(part, aml_return(aml_mid(aml_name("PART"), rest, length,
                                        NULL)));
    aml_append(method, part);

    build_window(method, "PAGR", "PAGE",
                 aml_add(aml_int(base), aml_arg(0), NULL), OPTIMUS_PAGE);
    aml_append(method, aml_return(aml_name("PAGE")));
    aml_append(dev, method);
}
