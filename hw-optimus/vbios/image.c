/*
 * optimus-vbios: what an image says of itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"

#define VENDOR_NVIDIA 0x10de

/* BIOS Information Table: where NVIDIA's drivers find everything else. */
#define BIT_SIGNATURE  "\xff\xb8""BIT"
#define BIT_HEADER     0x08     /* length of the header */
#define BIT_ENTRY      0x09     /* length of an entry */
#define BIT_ENTRIES    0x0a     /* number of entries */
#define BIT_MIN        0x0c
#define ENTRY_ID       0x00
#define ENTRY_LENGTH   0x02
#define ENTRY_POINTER  0x04
#define ENTRY_MIN      0x06
#define BIT_I_VERSION  5        /* bytes at the start of the data of 'i' */

#define VERSION_WORD   "Version "
#define VERSION_LENGTH strlen("82.07.55.00.1a")

const char *image_type(const OptimusImage *image)
{
    switch (image->code_type) {
    case OPTIMUS_CODE_X86:
        return "x86";
    case 0x01:
        return "Open Firmware";
    case 0x02:
        return "PA-RISC";
    case CODE_EFI:
        return "EFI";
    case OPTIMUS_CODE_LAST:
        return "NVIDIA 70";
    case 0xe0:
        return "NVIDIA E0";
    default:
        return "unknown";
    }
}

bool has_bad_checksum(const uint8_t *rom, const OptimusImage *image)
{
    return image->code_type == OPTIMUS_CODE_X86 &&
           optimus_image_sum(rom, image);
}

/* The first occurrence of @what in the image, or NULL. */
static const uint8_t *find_in(const uint8_t *start, size_t size,
                              const char *what)
{
    return memmem(start, size, what, strlen(what));
}

static char *version_of_bit(const uint8_t *image, size_t size)
{
    const uint8_t *bit = find_in(image, size, BIT_SIGNATURE);
    size_t left, at;

    if (!bit || (left = image + size - bit) < BIT_MIN) {
        return NULL;
    }
    at = bit[BIT_HEADER];
    for (unsigned int i = 0; i < bit[BIT_ENTRIES]; i++, at += bit[BIT_ENTRY]) {
        const uint8_t *entry = bit + at;
        const uint8_t *data;
        unsigned int pointer;

        if (at + ENTRY_MIN > left) {
            break;
        }
        pointer = lduw_le_p(entry + ENTRY_POINTER);
        if (entry[ENTRY_ID] != 'i' ||
            lduw_le_p(entry + ENTRY_LENGTH) < BIT_I_VERSION ||
            pointer + BIT_I_VERSION > size) {
            continue;
        }
        data = image + pointer;
        return g_strdup_printf("%02x.%02x.%02x.%02x.%02x", data[3], data[2],
                               data[1], data[0], data[4]);
    }
    return NULL;
}

/* What the BIOS would show on the screen. */
static char *version_of_text(const uint8_t *image, size_t size)
{
    const uint8_t *end = image + size;
    const uint8_t *at = image;

    while ((at = find_in(at, end - at, VERSION_WORD))) {
        size_t length = 0;

        at += strlen(VERSION_WORD);
        while (length < VERSION_LENGTH && at + length < end &&
               (length % 3 == 2 ? at[length] == '.' :
                                  g_ascii_isxdigit(at[length]))) {
            length++;
        }
        if (length == VERSION_LENGTH) {
            g_autofree char *text = g_strndup((const char *)at, length);

            return g_ascii_strdown(text, length);
        }
    }
    return NULL;
}

char *image_version(const uint8_t *rom, const OptimusImage *image)
{
    char *version;

    if (image->vendor != VENDOR_NVIDIA ||
        image->code_type != OPTIMUS_CODE_X86) {
        return NULL;
    }
    version = version_of_bit(rom + image->offset, image->length);
    return version ?: version_of_text(rom + image->offset, image->length);
}
