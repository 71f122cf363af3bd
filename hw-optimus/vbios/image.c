/*
 * optimus-vbios: what an image says of itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"

/* In the data of the tokens 'i' and 'S' of the BIOS Information Table */
#define I_VERSION      5        /* bytes of the version, at the start */
#define S_PRODUCT_NAME 0x0f     /* pointer to a string, and its length */

/* In the x86 image, at the same place from the first to the last */
#define DATE           0x38
#define DATE_PATTERN   "##/##/##"
#define SUBSYSTEM      0x54

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
    case OPTIMUS_CODE_EFI:
        return "EFI";
    case OPTIMUS_CODE_LAST:
        return "NVIDIA 70";
    case OPTIMUS_CODE_DATA:
        return "NVIDIA E0";
    default:
        return "unknown";
    }
}

char *image_card(const OptimusImage *image)
{
    const char *name = optimus_vendor_name(image->vendor);

    return g_strdup_printf("%s%s%04x:%04x", name ?: "", name ? " " : "",
                           image->vendor, image->device);
}

bool has_bad_checksum(const uint8_t *rom, const OptimusImage *image)
{
    return optimus_image_has_sum(image) && optimus_image_sum(rom, image);
}

/* The first occurrence of @what in the image, or NULL. */
static const uint8_t *find_in(const uint8_t *start, size_t size,
                              const char *what)
{
    return memmem(start, size, what, strlen(what));
}

static char *version_of_bit(const uint8_t *rom, const OptimusImage *image)
{
    size_t length;
    size_t at = optimus_bit_token(rom, image, 'i', &length);
    const uint8_t *data = rom + at;

    if (!at || length < I_VERSION) {
        return NULL;
    }
    return g_strdup_printf("%02x.%02x.%02x.%02x.%02x", data[3], data[2],
                           data[1], data[0], data[4]);
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

static bool is_nvidia_x86(const OptimusImage *image)
{
    return image->vendor == OPTIMUS_VENDOR_NVIDIA &&
           image->code_type == OPTIMUS_CODE_X86;
}

char *image_version(const uint8_t *rom, const OptimusImage *image)
{
    char *version;

    if (!is_nvidia_x86(image)) {
        return NULL;
    }
    version = version_of_bit(rom, image);
    return version ?: version_of_text(rom + image->offset, image->length);
}

char *image_board(const uint8_t *rom, const OptimusImage *image)
{
    size_t length, pointer;
    size_t at = is_nvidia_x86(image) ?
        optimus_bit_token(rom, image, 'S', &length) : 0;
    g_autofree char *text = NULL;

    if (!at || length < S_PRODUCT_NAME + 3) {
        return NULL;
    }
    pointer = optimus_le16(rom + at + S_PRODUCT_NAME);
    length = rom[at + S_PRODUCT_NAME + 2];
    if (!pointer || pointer + length > image->length) {
        return NULL;
    }
    text = g_strndup((const char *)rom + image->offset + pointer, length);
    g_strstrip(text);
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isprint(*p)) {
            return NULL;
        }
    }
    return *text ? g_steal_pointer(&text) : NULL;
}

char *image_date(const uint8_t *rom, const OptimusImage *image)
{
    const char *date = (const char *)rom + image->offset + DATE;

    if (image->code_type != OPTIMUS_CODE_X86) {
        return NULL;
    }
    for (unsigned int i = 0; i < strlen(DATE_PATTERN); i++) {
        if (DATE_PATTERN[i] == '#' ? !g_ascii_isdigit(date[i]) :
                                     date[i] != DATE_PATTERN[i]) {
            return NULL;
        }
    }
    return g_strndup(date, strlen(DATE_PATTERN));
}

bool image_subsystem(const uint8_t *rom, const OptimusImage *image,
                     PCIName *name)
{
    const uint8_t *ids = rom + image->offset + SUBSYSTEM;

    *name = (PCIName) { optimus_le16(ids), optimus_le16(ids + 2) };
    /* What is filled in later stands as "PMID", or as NVIDIA's with nothing. */
    return is_nvidia_x86(image) && name->vendor && name->device &&
           name->vendor != 0xffff &&
           !(name->vendor == 0x4d50 && name->device == 0x4449);
}
