/*
 * What drivers will do with a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef OPTIMUS_JUDGE_H
#define OPTIMUS_JUDGE_H

#include "optimus-rom.h"

typedef enum OptimusVerdict {
    OPTIMUS_TAKEN,
    OPTIMUS_NOUVEAU_ONLY,       /* NVIDIA's drivers refuse it */
    OPTIMUS_USELESS,            /* no driver gets what it needs */
} OptimusVerdict;

/**
 * optimus_rom_judge: what the drivers of an NVIDIA card will do with a ROM
 * @rom: the file's bytes
 * @images: the chain in it, of optimus_rom_parse()
 * @vendor: of the card
 * @device: of the card; 0 with @vendor 0 if it is not known
 * @remarks: gets strings, to be freed with it: what speaks against the ROM, the
 *           most important first, in sentences without a full stop
 *
 * nouveau takes whatever has a PCIR, on its way through _ROM in pages even with
 * a wrong checksum (nvkm/subdev/bios/shadow.c).  Five releases of NVIDIA's
 * driver, from 340 to 550, were seen to refuse an x86 image with another vendor
 * or device ID than the card's in its PCIR, whatever is in its device list;
 * with a wrong checksum; and without an intact BIOS Information Table.  They do
 * not mind another class code or other subsystem IDs.
 */
OptimusVerdict optimus_rom_judge(const uint8_t *rom, const GArray *images,
                                 uint16_t vendor, uint16_t device,
                                 GPtrArray *remarks);

#endif
