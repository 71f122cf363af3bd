/*
 * Option ROM images of a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE             /* for memmem() */
#endif
#include "optimus-rom.h"
#include <string.h>

#define ROM_UNIT         512    /* bytes in a unit of image length */

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
#define NPDE_REVISION    0x04
#define NPDE_LENGTH      0x06
#define NPDE_IMAGE_UNITS 0x08
#define NPDE_INDICATOR   0x0a

#define BIT_SIGNATURE    "\xff\xb8""BIT"
#define BIT_HEADER       0x08   /* length of the header */
#define BIT_ENTRY        0x09   /* length of an entry */
#define BIT_ENTRIES      0x0a   /* number of entries */
#define BIT_MIN          0x0c
#define ENTRY_ID         0x00
#define ENTRY_LENGTH     0x02
#define ENTRY_POINTER    0x04
#define ENTRY_MIN        0x06

const char *optimus_vendor_name(uint16_t vendor)
{
    switch (vendor) {
    case OPTIMUS_VENDOR_NVIDIA:
        return "NVIDIA";
    case 0x1002:
        return "AMD";
    case 0x8086:
        return "Intel";
    default:
        return NULL;
    }
}

static bool is_pci_signature(const uint8_t *p)
{
    return p[0] == 0x55 && p[1] == 0xaa;
}

bool optimus_has_signature(const uint8_t *p, size_t size)
{
    return size >= 2 &&
           (is_pci_signature(p) || (p[0] == 0x77 && p[1] == 0xbb) ||
            (p[0] == 'V' && p[1] == 'N'));
}

static bool is_pcir(const uint8_t *p)
{
    return !memcmp(p, "PCIR", 4) || !memcmp(p, "RGIS", 4) ||
           !memcmp(p, "NPDS", 4);
}

/* Set *@why, if the caller wants to know; always false. */
static bool G_GNUC_PRINTF(2, 3) broken(char **why, const char *format, ...)
{
    va_list args;

    if (why) {
        va_start(args, format);
        *why = g_strdup_vprintf(format, args);
        va_end(args);
    }
    return false;
}

/*
 * NPDE follows PCIR, at a multiple of 16 from the start of the ROM.  That
 * images are a multiple of 512 long makes it one from the start of the image,
 * wherever in a larger file the ROM is.
 */
static size_t find_npde(const uint8_t *image, size_t left, size_t pcir)
{
    size_t npde = pcir + optimus_le16(image + pcir + PCIR_LENGTH);

    npde = (npde + NPDE_ALIGN - 1) / NPDE_ALIGN * NPDE_ALIGN;
    if (npde > left || left - npde < NPDE_SIZE ||
        memcmp(image + npde, "NPDE", 4)) {
        return 0;
    }
    return npde;
}

/*
 * PCIR of an image with NPDE may speak of all images together.  An NPDE too
 * short to have an indicator implies one: NVIDIA's driver goes on if PCIR
 * counts more units than NPDE does.
 */
static unsigned int use_npde(OptimusImage *image, const uint8_t *npde,
                             unsigned int pcir_units)
{
    unsigned int units = optimus_le16(npde + NPDE_IMAGE_UNITS);

    if (optimus_le16(npde + NPDE_LENGTH) > NPDE_INDICATOR) {
        image->last = npde[NPDE_INDICATOR] & INDICATOR_LAST;
    } else if (units < pcir_units) {
        image->last = false;
    }
    return units;
}

bool optimus_rom_image(const uint8_t *rom, size_t size, size_t offset,
                       OptimusImage *image, char **why)
{
    size_t left = offset < size ? size - offset : 0;
    const uint8_t *header, *pcir;
    unsigned int units, pointer;
    size_t npde = 0;

    if (left < OPTIMUS_HEADER_SIZE) {
        return broken(why, "the image at offset 0x%zx is cut off after %zu "
                      "bytes", offset, left);
    }
    header = rom + offset;
    if (!optimus_has_signature(header, left)) {
        return broken(why, "there is no option ROM image at offset 0x%zx: it "
                      "starts with %02x %02x, not with 55 aa", offset,
                      header[0], header[1]);
    }
    pointer = optimus_pcir_pointer(header);
    if (pointer > left || left - pointer < OPTIMUS_PCIR_SIZE) {
        return broken(why, "the image at offset 0x%zx has its PCIR data "
                      "structure at 0x%x, past the end of the file", offset,
                      pointer);
    }
    pcir = header + pointer;
    if (!is_pcir(pcir)) {
        return broken(why, "the image at offset 0x%zx has no PCIR data "
                      "structure at 0x%x, where its header points", offset,
                      pointer);
    }
    if (optimus_le16(pcir + PCIR_LENGTH) < OPTIMUS_PCIR_SIZE) {
        return broken(why, "the PCIR data structure of the image at offset "
                      "0x%zx says that it is %u bytes long, less than the %u "
                      "that it must have", offset,
                      optimus_le16(pcir + PCIR_LENGTH), OPTIMUS_PCIR_SIZE);
    }

    *image = (OptimusImage) {
        .offset = offset,
        .pcir = offset + pointer,
        .vendor = optimus_le16(pcir + PCIR_VENDOR),
        .device = optimus_le16(pcir + PCIR_DEVICE),
        .class_code = pcir[PCIR_CLASS] |
                      optimus_le16(pcir + PCIR_CLASS + 1) << 8,
        .code_type = pcir[PCIR_CODE_TYPE],
        .pcir_revision = pcir[PCIR_REVISION],
        .pcir_last = pcir[PCIR_INDICATOR] & INDICATOR_LAST,
    };
    units = optimus_le16(pcir + PCIR_IMAGE_UNITS);
    image->pcir_length = (size_t)units * ROM_UNIT;
    image->last = image->pcir_last;
    if (image->code_type == OPTIMUS_CODE_LAST) {
        image->last = true;
    } else {
        npde = find_npde(header, left, pointer);
    }
    if (npde) {
        image->npde = offset + npde;
        image->npde_revision = optimus_le16(header + npde + NPDE_REVISION);
        units = use_npde(image, header + npde, units);
    }

    image->length = (size_t)units * ROM_UNIT;
    if (!image->length) {
        return broken(why, "the image at offset 0x%zx has length 0", offset);
    }
    if (image->length > left) {
        return broken(why, "the image at offset 0x%zx is 0x%zx bytes long, and "
                      "the file ends 0x%zx bytes before its end", offset,
                      image->length, image->length - left);
    }
    if (pointer > image->length ||
        image->length - pointer < OPTIMUS_PCIR_SIZE) {
        return broken(why, "the image at offset 0x%zx is 0x%zx bytes long, and "
                      "its PCIR data structure at 0x%x is outside of it",
                      offset, image->length, pointer);
    }
    return true;
}

static bool is_fill_byte(uint8_t byte)
{
    return byte == 0x00 || byte == 0xff;
}

bool optimus_is_fill(const uint8_t *data, size_t size)
{
    return !size || (is_fill_byte(data[0]) &&
                     !memcmp(data, data + 1, size - 1));
}

bool optimus_image_ends_chain(const uint8_t *rom, size_t size,
                              const OptimusImage *image)
{
    size_t end = image->offset + image->length;

    if (image->last || !image->npde || end == size) {
        return image->last || image->npde;
    }
    return !optimus_has_signature(rom + end, size - end) &&
           optimus_is_fill(rom + end, size - end);
}

/* What makes a file of each kind */
static const struct {
    const char *magic;
    size_t length;
    const char *name, *command;
} packed[] = {
#define PACKED(magic, name, command) { magic, sizeof(magic) - 1, name, command }
    PACKED("Inno Setup Setup Data", "an installer of Inno Setup",
           "innoextract --output-dir unpacked %s"),
    PACKED("7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -ounpacked %s"),
    PACKED("MSCF\0\0\0\0", "a cabinet archive",
           "cabextract --directory unpacked %s"),
    PACKED("Rar!\x1a\x07", "a RAR archive", "unrar x %s unpacked/"),
    PACKED("PK\x03\x04", "a ZIP archive", "unzip -d unpacked %s"),
    PACKED("UPX!", "a program packed by UPX", "upx -d -o unpacked.exe %s"),
    /* These do not stand after a Windows program. */
    PACKED("\x1f\x8b\x08", "a file compressed by gzip",
           "gunzip --stdout %s >unpacked"),
    PACKED("BZh", "a file compressed by bzip2",
           "bunzip2 --stdout %s >unpacked"),
    PACKED("\xfd""7zXZ\0", "a file compressed by xz",
           "unxz --stdout %s >unpacked"),
    PACKED("\x28\xb5\x2f\xfd", "a file compressed by zstd",
           "unzstd --stdout %s >unpacked"),
#undef PACKED
};
#define PACKED_IN_PROGRAMS 6

const char *optimus_rom_packed(const uint8_t *data, size_t size,
                               const char **command)
{
    bool program = size > 2 && !memcmp(data, "MZ", 2);

    for (size_t i = 0; i < G_N_ELEMENTS(packed); i++) {
        size_t length = packed[i].length;

        if ((size >= length && !memcmp(data, packed[i].magic, length)) ||
            (program && i < PACKED_IN_PROGRAMS &&
             memmem(data, size, packed[i].magic, length))) {
            *command = packed[i].command;
            return packed[i].name;
        }
    }
    return NULL;
}

/* Say better than by the first two bytes what is no ROM at all. */
static bool is_readable(const uint8_t *rom, size_t size, char **why)
{
    const char *command;
    const char *name = optimus_rom_packed(rom, size, &command);

    if (name) {
        return broken(why, "it is %s", name);
    }
    if (size && optimus_is_fill(rom, size)) {
        return broken(why, "all its bytes are %02x: nothing was read when it "
                      "was made", rom[0]);
    }
    return true;
}

GArray *optimus_rom_parse(const uint8_t *rom, size_t size, size_t offset,
                          char **why)
{
    g_autoptr(GArray) images = g_array_new(false, false, sizeof(OptimusImage));
    size_t next = offset;
    OptimusImage image = { 0 };

    if (!offset && !is_readable(rom, size, why)) {
        return NULL;
    }
    do {
        if (next == size && images->len) {
            broken(why, "the file ends after the image at offset 0x%zx, which "
                   "does not have the last-image bit", image.offset);
            return NULL;
        }
        if (!optimus_rom_image(rom, size, next, &image, why)) {
            return NULL;
        }
        g_array_append_val(images, image);
        next = image.offset + image.length;
    } while (!optimus_image_ends_chain(rom, size, &image));

    return g_steal_pointer(&images);
}

void optimus_scan_start(OptimusScan *scan, const uint8_t *rom, size_t size)
{
    *scan = (OptimusScan) {
        .rom = rom,
        .size = size,
        .fill = size,
        .dead_ends = g_hash_table_new(NULL, NULL),
    };
    /* as optimus_image_ends_chain() has it, but not for each image anew */
    while (scan->fill && is_fill_byte(rom[size - 1]) &&
           rom[scan->fill - 1] == rom[size - 1]) {
        scan->fill--;
    }
}

void optimus_scan_end(OptimusScan *scan)
{
    g_hash_table_unref(scan->dead_ends);
}

/* Whether what starts at @offset, with 55 AA, is no stray 55 AA. */
static bool has_pcir(const OptimusScan *scan, size_t offset)
{
    size_t left = scan->size - offset;
    const uint8_t *header = scan->rom + offset;
    size_t pcir;

    if (left < OPTIMUS_HEADER_SIZE) {
        return false;
    }
    pcir = optimus_pcir_pointer(header);
    return pcir + 4 <= left && !memcmp(header + pcir, "PCIR", 4);
}

/*
 * Whether a complete chain starts at @offset.  The images of one that does not
 * end are remembered, so that a file of nothing but images is not gone through
 * once for each of them.
 */
static bool try_chain(OptimusScan *scan, size_t offset)
{
    size_t next = offset;
    OptimusImage image = { 0 };

    if (g_hash_table_contains(scan->dead_ends, (gpointer)offset)) {
        return false;
    }
    while (!g_hash_table_contains(scan->dead_ends, (gpointer)next) &&
           optimus_rom_image(scan->rom, scan->size, next, &image, NULL)) {
        next += image.length;
        if (image.last || (image.npde && next >= scan->fill)) {
            return true;
        }
    }

    scan->broken += has_pcir(scan, offset);
    for (size_t at = offset; at != next; at += image.length) {
        g_hash_table_add(scan->dead_ends, (gpointer)at);
        optimus_rom_image(scan->rom, scan->size, at, &image, NULL);
    }
    return false;
}

bool optimus_scan_next(OptimusScan *scan, size_t end)
{
    for (; scan->at < end; scan->at++) {
        const uint8_t *p = memchr(scan->rom + scan->at, 0x55, end - scan->at);

        if (!p) {
            scan->at = end;
            break;
        }
        scan->at = p - scan->rom;
        if (scan->at + 1 < scan->size && is_pci_signature(p) &&
            try_chain(scan, scan->at)) {
            return true;
        }
    }
    return false;
}

size_t optimus_rom_find(const uint8_t *rom, size_t size, size_t from)
{
    OptimusScan scan;

    optimus_scan_start(&scan, rom, size);
    scan.at = from;
    optimus_scan_next(&scan, size);
    optimus_scan_end(&scan);
    return MIN(scan.at, size);
}

const OptimusImage *optimus_rom_x86(const GArray *images)
{
    for (unsigned int i = 0; i < images->len; i++) {
        const OptimusImage *image = &g_array_index(images, OptimusImage, i);

        if (image->code_type == OPTIMUS_CODE_X86) {
            return image;
        }
    }
    return NULL;
}

/* A flash chip that was erased has FFFF in the place of pointers and IDs. */
static bool is_set(unsigned int word)
{
    return word && word != 0xffff;
}

size_t optimus_image_device_list(const uint8_t *rom, const OptimusImage *image,
                                 size_t *count)
{
    const uint8_t *pcir = rom + image->pcir;
    size_t end = image->offset + image->length;
    uint16_t pointer = optimus_le16(pcir + PCIR_DEVICE_LIST);
    size_t list = image->pcir + pointer;

    *count = 0;
    if (image->pcir_revision < 3 || !is_set(pointer)) {
        return list;
    }
    for (size_t at = list; at + 2 <= end && is_set(optimus_le16(rom + at));
         at += 2) {
        ++*count;
    }
    return list;
}

bool optimus_image_is_for(const uint8_t *rom, const OptimusImage *image,
                          uint16_t vendor, uint16_t device)
{
    size_t count;
    size_t list = optimus_image_device_list(rom, image, &count);
    bool found = image->device == device;

    for (size_t i = 0; i < count; i++) {
        found |= optimus_le16(rom + list + 2 * i) == device;
    }
    return found && image->vendor == vendor;
}

uint8_t optimus_image_sum(const uint8_t *rom, const OptimusImage *image)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < image->length; i++) {
        sum += rom[image->offset + i];
    }
    return sum;
}

bool optimus_image_has_sum(const OptimusImage *image)
{
    return image->code_type == OPTIMUS_CODE_X86 ||
           image->code_type == OPTIMUS_CODE_DATA ||
           image->code_type == OPTIMUS_CODE_LAST;
}

size_t optimus_bit_find(const uint8_t *rom, const OptimusImage *image,
                        bool *intact)
{
    const uint8_t *start = rom + image->offset;
    const uint8_t *bit = memmem(start, image->length, BIT_SIGNATURE,
                                strlen(BIT_SIGNATURE));
    uint8_t sum = 0;

    if (!bit || bit + BIT_MIN > start + image->length) {
        return 0;
    }
    for (unsigned int i = 0; i < BIT_MIN; i++) {
        sum += bit[i];
    }
    if (intact) {
        *intact = !sum;
    }
    return bit - rom;
}

size_t optimus_bit_token(const uint8_t *rom, const OptimusImage *image,
                         uint8_t id, size_t *length)
{
    size_t bit = optimus_bit_find(rom, image, NULL);
    size_t end = image->offset + image->length;
    unsigned int entries = bit ? rom[bit + BIT_ENTRIES] : 0;

    for (unsigned int i = 0; i < entries; i++) {
        size_t entry = bit + rom[bit + BIT_HEADER] + i * rom[bit + BIT_ENTRY];
        size_t data;

        if (entry + ENTRY_MIN > end) {
            break;
        }
        if (rom[entry + ENTRY_ID] != id) {
            continue;
        }
        data = image->offset + optimus_le16(rom + entry + ENTRY_POINTER);
        *length = optimus_le16(rom + entry + ENTRY_LENGTH);
        return data + *length <= end ? data : 0;
    }
    return 0;
}
