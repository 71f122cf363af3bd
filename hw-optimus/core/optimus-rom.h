/*
 * Option ROM images of a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef OPTIMUS_ROM_H
#define OPTIMUS_ROM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define OPTIMUS_VENDOR_NVIDIA 0x10de

/* Values of OptimusImage.code_type that have a name. */
#define OPTIMUS_CODE_X86  0x00
#define OPTIMUS_CODE_EFI  0x03
#define OPTIMUS_CODE_LAST 0x70  /* NVIDIA: ends every chain that it is in */
#define OPTIMUS_CODE_DATA 0xe0  /* NVIDIA: what the x86 image has no room for */

/* What has to be there of an image to know where its PCIR is, and of that. */
#define OPTIMUS_HEADER_SIZE 0x1a
#define OPTIMUS_PCIR_SIZE   0x18    /* of revision 0, the shortest */

/**
 * OptimusImage: one image of an option ROM chain
 *
 * Offsets count from the start of the file, lengths are in bytes, the class
 * code has the base class in bits 23:16.  See the PCI Firmware Specification
 * 3.3, section 5.1, for the option ROM header and the PCI data structure
 * (PCIR), and nouveau's nvkm/subdev/bios for NVIDIA's additions: the
 * signatures 77 BB and "VN" in the place of 55 AA, RGIS and NPDS in the place
 * of PCIR, and the NPDE structure after it, which overrides length and last.
 */
typedef struct OptimusImage {
    size_t offset;
    size_t length;
    size_t pcir;
    size_t npde;                /* 0: none */
    size_t pcir_length;         /* as it would be without NPDE */
    uint16_t vendor;
    uint16_t device;
    uint32_t class_code;
    uint8_t code_type;
    uint8_t pcir_revision;
    uint16_t npde_revision;     /* 0x0101 is 1.1 */
    bool last;
    bool pcir_last;             /* as it would be without NPDE */
} OptimusImage;

/* "NVIDIA", "AMD", "Intel", or NULL for others. */
const char *optimus_vendor_name(uint16_t vendor);

/* The 16 bits, in little endian, at @p. */
static inline unsigned int optimus_le16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

/* Where PCIR is, from @header on, which has OPTIMUS_HEADER_SIZE bytes. */
static inline unsigned int optimus_pcir_pointer(const uint8_t *header)
{
    return optimus_le16(header + OPTIMUS_HEADER_SIZE - 2);
}

/* Whether the @size bytes at @p start as an image can. */
bool optimus_has_signature(const uint8_t *p, size_t size);

/**
 * optimus_rom_image: parse the image at @offset
 * @rom: the file's bytes
 * @size: their number
 * @offset: where the image starts
 * @image: set to what it is
 * @why: if not NULL, set to a sentence without a full stop when the image is
 *       broken, to be freed by the caller
 *
 * No byte outside @rom is read, whatever the file says.  *@image is undefined
 * after a failure.
 */
bool optimus_rom_image(const uint8_t *rom, size_t size, size_t offset,
                       OptimusImage *image, char **why);

/* Whether @data are nothing but 00, or nothing but FF; true of no bytes. */
bool optimus_is_fill(const uint8_t *data, size_t size);

/**
 * optimus_image_ends_chain: whether no other image follows @image in a file
 *
 * That is the last image, or one at whose end the file was cut: Linux's sysfs
 * stops after the image that PCIR calls the last one, or before a signature of
 * NVIDIA's (pci_get_rom_size() in drivers/pci/rom.c), and the chain goes on by
 * NPDE.  Dumps of the memory at 0xc0000 have the x86 image and then 00 or FF.
 */
bool optimus_image_ends_chain(const uint8_t *rom, size_t size,
                              const OptimusImage *image);

/**
 * optimus_rom_parse: parse the chain of option ROM images at @offset
 * @rom: the file's bytes
 * @size: their number
 * @offset: where the first image starts
 * @why: as for optimus_rom_image(); of what is no ROM at all, what it is
 *
 * What follows the last image is ignored.  Of a file that was cut as
 * optimus_image_ends_chain() says, the last one has no @last.
 *
 * Returns: an array of OptimusImage with at least one element, to be freed by
 * the caller, or NULL with @why set.
 */
GArray *optimus_rom_parse(const uint8_t *rom, size_t size, size_t offset,
                          char **why);

/**
 * optimus_rom_packed: what a file is that a video BIOS may be packed in
 *
 * Returns: "a ZIP archive" or the like, with *@command set to what unpacks it,
 * with %s for the file; or NULL.
 */
const char *optimus_rom_packed(const uint8_t *data, size_t size,
                               const char **command);

/**
 * OptimusScan: a search for complete chains of images, that start with 55 AA
 */
typedef struct OptimusScan {
    const uint8_t *rom;
    size_t size;
    size_t at;                  /* where to go on */
    size_t fill;                /* from where on nothing but 00 or FF follows */
    unsigned int broken;        /* ROMs passed over that are not complete */
    GHashTable *dead_ends;
} OptimusScan;

void optimus_scan_start(OptimusScan *scan, const uint8_t *rom, size_t size);

/**
 * optimus_scan_next: find the next complete chain that starts before @end
 *
 * Returns: whether there is one, at @scan->at.  Set that to where to go on.  If
 * not, @scan->at is @end.
 */
bool optimus_scan_next(OptimusScan *scan, size_t end);
void optimus_scan_end(OptimusScan *scan);

/**
 * optimus_rom_find: find the first complete chain of images at or after @from
 *
 * Returns: its offset, or @size when there is none.
 */
size_t optimus_rom_find(const uint8_t *rom, size_t size, size_t from);

/**
 * optimus_rom_x86: the x86 image among @images, which is the video BIOS, or
 * NULL
 */
const OptimusImage *optimus_rom_x86(const GArray *images);

/**
 * optimus_image_device_list: the further devices that @image is for, which PCIR
 * from revision 3 on can point to
 *
 * Returns: the offset of the list of 16-bit device IDs; *@count is set to their
 * number, which is 0 when there is no list.
 */
size_t optimus_image_device_list(const uint8_t *rom, const OptimusImage *image,
                                 size_t *count);

/**
 * optimus_image_is_for: whether @image names PCI device @vendor:@device, in its
 * PCIR itself or in its device list
 */
bool optimus_image_is_for(const uint8_t *rom, const OptimusImage *image,
                          uint16_t vendor, uint16_t device);

/**
 * optimus_image_sum: the sum of all bytes of @image, modulo 256
 */
uint8_t optimus_image_sum(const uint8_t *rom, const OptimusImage *image);

/**
 * optimus_image_has_sum: whether @image has to sum up to 0
 *
 * x86 images have, and those of NVIDIA's own types, which all do if they are
 * intact.  EFI images do not.
 */
bool optimus_image_has_sum(const OptimusImage *image);

/**
 * optimus_bit_find: find the BIOS Information Table, where NVIDIA's drivers
 * find all else
 * @rom: the file's bytes
 * @image: the x86 image
 * @intact: if not NULL, set to whether its header sums up to 0
 *
 * See NVIDIA's BIOS Information Table specification.
 *
 * Returns: its offset in the file, or 0 when there is none.
 */
size_t optimus_bit_find(const uint8_t *rom, const OptimusImage *image,
                        bool *intact);

/**
 * optimus_bit_token: the data of token @id in the BIOS Information Table
 * @length: set to the number of its bytes, all of which are in @image
 *
 * Returns: its offset in the file, or 0 when there is none.
 */
size_t optimus_bit_token(const uint8_t *rom, const OptimusImage *image,
                         uint8_t id, size_t *length);

#endif
