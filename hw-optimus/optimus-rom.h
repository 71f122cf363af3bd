/*
 * Option ROM images of a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VFIO_OPTIMUS_ROM_H
#define HW_VFIO_OPTIMUS_ROM_H

/* Values of OptimusImage.code_type that have a name. */
#define OPTIMUS_CODE_X86  0x00
#define OPTIMUS_CODE_LAST 0x70  /* NVIDIA: ends every chain that it is in */

/**
 * OptimusImage: one image of an option ROM chain
 *
 * Offsets count from the start of the file, lengths are in bytes, the class
 * code has the base class in bits 23:16.  See the PCI Firmware Specification
 * 3.3, section 5.1, for the option ROM header and the PCI data structure
 * (PCIR), and nouveau's nvkm/subdev/bios for NVIDIA's additions: the
 * signatures 77 BB and "VN" of later images, RGIS and NPDS in the place of
 * PCIR, and the NPDE structure behind it, which overrides length and last.
 */
typedef struct OptimusImage {
    size_t offset;
    size_t length;
    size_t pcir;
    size_t npde;                /* 0: none */
    uint16_t vendor;
    uint16_t device;
    uint32_t class_code;
    uint8_t code_type;
    bool last;
} OptimusImage;

/**
 * optimus_rom_image: parse the image at @offset
 * @rom: the file's bytes
 * @size: their number
 * @offset: where the image starts
 * @first: whether it is the first one of its chain, with 55 AA
 * @image: set to what it is
 * @why: if not NULL, set to a sentence without a full stop when the image is
 *       broken, to be freed by the caller
 *
 * No byte outside @rom is read, whatever the file says.  *@image is undefined
 * after a failure.
 */
bool optimus_rom_image(const uint8_t *rom, size_t size, size_t offset,
                       bool first, OptimusImage *image, char **why);

/**
 * optimus_rom_parse: parse the chain of option ROM images at @offset
 * @rom: the file's bytes
 * @size: their number
 * @offset: where the first image starts, with 55 AA
 * @why: as for optimus_rom_image()
 *
 * What follows the last image is ignored.
 *
 * Returns: an array of OptimusImage with at least one element, to be freed by
 * the caller, or NULL with @why set.
 */
GArray *optimus_rom_parse(const uint8_t *rom, size_t size, size_t offset,
                          char **why);

/**
 * optimus_rom_find: find the first complete chain of images at or behind @from
 *
 * Returns: its offset, or @size when there is none.
 */
size_t optimus_rom_find(const uint8_t *rom, size_t size, size_t from);

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
 *
 * An x86 image has to sum up to 0.
 */
uint8_t optimus_image_sum(const uint8_t *rom, const OptimusImage *image);

#endif
