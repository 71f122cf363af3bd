/*
 * The AML term that the patch series adds to hw/acpi/aml-build.c
 *
 * The functions there that make a new opcode are not exported: this starts from
 * a similar one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_AML_TERMS_H
#define VFIO_OPTIMUS_AML_TERMS_H

/* Mid (source, index, length, target) */
static inline Aml *aml_mid(Aml *source, Aml *index, Aml *length, Aml *target)
{
    Aml *mid = aml_concatenate(source, index, length);

    mid->op = 0x9e; /* MidOp */
    aml_append(mid, target ? target : aml_int(0) /* NullName */);
    return mid;
}

#endif
