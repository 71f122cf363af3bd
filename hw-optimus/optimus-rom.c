/*
 * Option ROM images of a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "optimus-rom.h"

#define ROM_HEADER_SIZE  0x1a
#define ROM_PCIR_POINTER 0x18
#define ROM_UNIT         512    /* bytes in a unit of image length */

#define PCIR_SIZE        0x18   /* of revision 0, the shortest */
#define PCIR_VENDOR      0x04
#define PCIR_DEVICE      0x06
#define PCIR_DEVICE_LIST 0x08   /* from the start of PCIR; revision 3 */
#define PCIR_LENGTH      0x0a
#define PCIR_REVISION    0x0c
#define PCIR_CLASS       0x0d
#define PCIR_IMAGE_UNITS 0x10
#define PCIR_CODE_TYPE   0x14
#define PCIR_INDICATOR   0x15
#define INDICATOR_LAST   0x80

#define NPDE_ALIGN       16
#define NPDE_SIZE        0x0b
#define NPDE_IMAGE_UNITS 0x08
#define NPDE_INDICATOR   0x0a

static bool is_first_signature(const uint8_t *p)
{
    return p[0] == 0x55 && p[1] == 0xaa;
}

static bool is_later_signature(const uint8_t *p)
{
    return is_first_signature(p) || (p[0] == 0x77 && p[1] == 0xbb) ||
           (p[0] == 'V' && p[1] == 'N');
}

static bool is_pcir(const uint8_t *p)
{
    return !memcmp(p, "PCIR", 4) || !memcmp(p, "RGIS", 4) ||
           !memcmp(p, "NPDS", 4);
}

/* NPDE stands at the first multiple of 16 behind PCIR. */
static size_t find_npde(const uint8_t *rom, size_t end, size_t pcir)
{
    size_t npde = pcir + lduw_le_p(rom + pcir + PCIR_LENGTH);

    npde = ROUND_UP(npde, NPDE_ALIGN);
    if (npde > end || end - npde < NPDE_SIZE ||
        memcmp(rom + npde, "NPDE", 4)) {
        return 0;
    }
    return npde;
}

static bool parse_image(const uint8_t *rom, size_t size, size_t offset,
                        bool first, OptimusImage *image, char **why)
{
    const uint8_t *header = rom + offset;
    size_t left = size - offset;
    const uint8_t *pcir;
    unsigned int units, pointer;

    if (left < ROM_HEADER_SIZE) {
        *why = g_strdup_printf("the image at offset 0x%zx is cut off after "
                               "%zu bytes", offset, left);
        return false;
    }
    if (!(first ? is_first_signature(header) : is_later_signature(header))) {
        *why = g_strdup_printf("there is no option ROM image at offset 0x%zx: "
                               "it starts with %02x %02x, not with 55 aa",
                               offset, header[0], header[1]);
        return false;
    }
    pointer = lduw_le_p(header + ROM_PCIR_POINTER);
    if (pointer > left || left - pointer < PCIR_SIZE) {
        *why = g_strdup_printf("the image at offset 0x%zx has its PCIR data "
                               "structure at 0x%x, past the end of the file",
                               offset, pointer);
        return false;
    }
    pcir = header + pointer;
    if (!is_pcir(pcir)) {
        *why = g_strdup_printf("the image at offset 0x%zx has no PCIR data "
                               "structure at 0x%x, where its header points",
                               offset, pointer);
        return false;
    }
    if (lduw_le_p(pcir + PCIR_LENGTH) < PCIR_SIZE) {
        *why = g_strdup_printf("the PCIR data structure of the image at offset "
                               "0x%zx says that it is %u bytes long, less than "
                               "the %u that it must have", offset,
                               lduw_le_p(pcir + PCIR_LENGTH), PCIR_SIZE);
        return false;
    }

    *image = (OptimusImage) {
        .offset = offset,
        .pcir = offset + pointer,
        .vendor = lduw_le_p(pcir + PCIR_VENDOR),
        .device = lduw_le_p(pcir + PCIR_DEVICE),
        .class_code = pcir[PCIR_CLASS] | lduw_le_p(pcir + PCIR_CLASS + 1) << 8,
        .code_type = pcir[PCIR_CODE_TYPE],
        .last = pcir[PCIR_INDICATOR] & INDICATOR_LAST,
    };
    units = lduw_le_p(pcir + PCIR_IMAGE_UNITS);
    if (image->code_type == OPTIMUS_CODE_LAST) {
        image->last = true;
    } else {
        image->npde = find_npde(rom, size, image->pcir);
    }
    if (image->npde) {
        units = lduw_le_p(rom + image->npde + NPDE_IMAGE_UNITS);
        image->last = rom[image->npde + NPDE_INDICATOR] & INDICATOR_LAST;
    }

    image->length = (size_t)units * ROM_UNIT;
    if (!image->length) {
        *why = g_strdup_printf("the image at offset 0x%zx has length 0",
                               offset);
        return false;
    }
    if (image->length > left) {
        *why = g_strdup_printf("the image at offset 0x%zx is 0x%zx bytes long, "
                               "and the file ends 0x%zx bytes before its end",
                               offset, image->length, image->length - left);
        return false;
    }
    if (pointer > image->length || image->length - pointer < PCIR_SIZE) {
        *why = g_strdup_printf("the image at offset 0x%zx is 0x%zx bytes long, "
                               "and its PCIR data structure at 0x%x is outside "
                               "of it", offset, image->length, pointer);
        return false;
    }
    return true;
}

GArray *optimus_rom_parse(const uint8_t *rom, size_t size, size_t offset,
                          char **why)
{
    g_autoptr(GArray) images = g_array_new(false, false, sizeof(OptimusImage));
    size_t next = offset;
    OptimusImage image;

    do {
        if (next == size && images->len) {
            *why = g_strdup_printf("the file ends behind the image at offset "
                                   "0x%zx, which does not have the last-image "
                                   "bit", image.offset);
            return NULL;
        }
        if (!parse_image(rom, size, next, !images->len, &image, why)) {
            return NULL;
        }
        g_array_append_val(images, image);
        next = image.offset + image.length;
    } while (!image.last);

    return g_steal_pointer(&images);
}

size_t optimus_rom_find(const uint8_t *rom, size_t size, size_t from)
{
    for (size_t offset = from; offset < size; offset++) {
        const uint8_t *p = memchr(rom + offset, 0x55, size - offset);
        g_autoptr(GArray) images = NULL;
        g_autofree char *why = NULL;

        if (!p) {
            break;
        }
        offset = p - rom;
        if (size - offset < ROM_HEADER_SIZE || !is_first_signature(p)) {
            continue;
        }
        images = optimus_rom_parse(rom, size, offset, &why);
        if (images) {
            return offset;
        }
    }
    return size;
}

bool optimus_image_is_for(const uint8_t *rom, const OptimusImage *image,
                          uint16_t vendor, uint16_t device)
{
    const uint8_t *pcir = rom + image->pcir;
    size_t end = image->offset + image->length;
    uint16_t list = lduw_le_p(pcir + PCIR_DEVICE_LIST);

    if (image->vendor != vendor) {
        return false;
    }
    if (image->device == device) {
        return true;
    }
    if (pcir[PCIR_REVISION] < 3 || !list) {
        return false;
    }
    for (size_t at = image->pcir + list; at + 2 <= end; at += 2) {
        uint16_t listed = lduw_le_p(rom + at);

        if (!listed || listed == device) {
            return listed == device;
        }
    }
    return false;
}

uint8_t optimus_image_sum(const uint8_t *rom, const OptimusImage *image)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < image->length; i++) {
        sum += rom[image->offset + i];
    }
    return sum;
}
