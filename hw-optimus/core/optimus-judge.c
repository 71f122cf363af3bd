/*
 * What drivers will do with a video BIOS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "optimus-judge.h"

#define CLASS_DISPLAY 0x03
/* No flash chip of a graphics card was larger when cards had x86 images. */
#define FLASH_MAX     0x100000

/*
 * Whether the x86 image refers to what follows it.  The pointers of the
 * tables for clocks ('P') and for the card's own processors ('p') count from
 * its start, as if the image with NVIDIA's data followed at once.
 */
static bool needs_more(const uint8_t *rom, const OptimusImage *image)
{
    for (const char *id = "Pp"; *id; id++) {
        size_t length;
        size_t data = optimus_bit_token(rom, image, *id, &length);

        for (size_t at = 0; data && at + 4 <= length; at += 4) {
            const uint8_t *p = rom + data + at;
            size_t pointer = optimus_le16(p) |
                             (size_t)optimus_le16(p + 2) << 16;

            if (pointer >= image->length && pointer < FLASH_MAX) {
                return true;
            }
        }
    }
    return false;
}

static OptimusVerdict remark(GPtrArray *remarks, OptimusVerdict verdict,
                             const char *format, ...) G_GNUC_PRINTF(3, 4);

static OptimusVerdict remark(GPtrArray *remarks, OptimusVerdict verdict,
                             const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(remarks, g_strdup_vprintf(format, args));
    va_end(args);
    return verdict;
}

/* Is it for the card? */
static OptimusVerdict judge_ids(const uint8_t *rom, const OptimusImage *x86,
                                uint16_t vendor, uint16_t device,
                                GPtrArray *remarks)
{
    if (x86->vendor == vendor && x86->device == device) {
        return OPTIMUS_TAKEN;
    }
    if (optimus_image_is_for(rom, x86, vendor, device)) {
        return remark(remarks, OPTIMUS_NOUVEAU_ONLY, "the card %04x:%04x is "
                      "only in its list of further devices, and it is for "
                      "%04x:%04x: NVIDIA's drivers refuse it, nouveau takes it",
                      vendor, device, x86->vendor, x86->device);
    }
    return remark(remarks, OPTIMUS_NOUVEAU_ONLY, "it is for %04x:%04x, and the "
                  "card is %04x:%04x: NVIDIA's drivers refuse it, nouveau "
                  "takes it", x86->vendor, x86->device, vendor, device);
}

static OptimusVerdict judge_vendor(const OptimusImage *image,
                                   GPtrArray *remarks)
{
    const char *name = optimus_vendor_name(image->vendor);

    return remark(remarks, OPTIMUS_USELESS, "it is for %04x:%04x of class "
                  "%06x, %s%s, and only drivers of NVIDIA cards look for _ROM: "
                  "a laptop's firmware has option ROMs of other devices, too",
                  image->vendor, image->device, image->class_code,
                  name ? "a device of " : "which is not NVIDIA's", name ?: "");
}

/* Does it start as PCI says? */
static OptimusVerdict judge_start(const uint8_t *rom, const OptimusImage *first,
                                  GPtrArray *remarks)
{
    const uint8_t *p = rom + first->offset;

    if (p[0] == 0x55) {
        return OPTIMUS_TAKEN;
    }
    return remark(remarks, OPTIMUS_NOUVEAU_ONLY, "it starts with %02x %02x%s, "
                  "which is NVIDIA's own, and not with 55 aa: nouveau takes "
                  "it, of NVIDIA's drivers that is not known", p[0], p[1],
                  p[0] == 'V' ? " (VN)" : "");
}

static OptimusVerdict judge_bit(const uint8_t *rom, const OptimusImage *x86,
                                GPtrArray *remarks)
{
    bool intact;

    if (!optimus_bit_find(rom, x86, &intact)) {
        if (x86->class_code >> 16 != CLASS_DISPLAY) {
            return remark(remarks, OPTIMUS_USELESS, "it is for devices of "
                          "class %06x, and display controllers have 03xxxx: "
                          "get the one of the graphics card", x86->class_code);
        }
        return remark(remarks, OPTIMUS_NOUVEAU_ONLY, "it has no BIT, the table "
                      "of all others: NVIDIA's drivers refuse it, and nouveau "
                      "finds nothing in it");
    }
    if (!intact) {
        return remark(remarks, OPTIMUS_NOUVEAU_ONLY, "the checksum of its BIT, "
                      "the table of all others, is wrong: NVIDIA's drivers "
                      "refuse it, nouveau takes it");
    }
    return OPTIMUS_TAKEN;
}

/* Does each image sum up to 0?  Those that do not are told of together. */
static OptimusVerdict judge_sums(const uint8_t *rom, const GArray *images,
                                 GPtrArray *remarks)
{
    g_autoptr(GString) others = g_string_new(NULL);
    OptimusVerdict verdict = OPTIMUS_TAKEN;

    for (unsigned int i = 0; i < images->len; i++) {
        const OptimusImage *image = &g_array_index(images, OptimusImage, i);

        if (!optimus_image_has_sum(image) || !optimus_image_sum(rom, image)) {
            continue;
        }
        if (image->code_type == OPTIMUS_CODE_X86) {
            verdict = remark(remarks, OPTIMUS_NOUVEAU_ONLY, "the checksum of "
                             "the image at offset 0x%zx is wrong: NVIDIA's "
                             "drivers refuse it, nouveau takes it if it finds "
                             "none better", image->offset);
        } else {
            g_string_append_printf(others, "%s0x%zx", others->len ? ", " : "",
                                   image->offset);
        }
    }
    if (others->len) {
        remark(remarks, OPTIMUS_TAKEN, "the checksum of what NVIDIA has at "
               "offset %s is wrong: it is damaged, or was changed",
               others->str);
    }
    return verdict;
}

static OptimusVerdict judge_end(const uint8_t *rom, const OptimusImage *x86,
                                const OptimusImage *last, GPtrArray *remarks)
{
    if (last->last) {
        return OPTIMUS_TAKEN;
    }
    if (needs_more(rom, x86)) {
        return remark(remarks, OPTIMUS_USELESS, "it was cut after the image "
                      "at offset 0x%zx, as Linux's sysfs and dumps of memory "
                      "are, and drivers need NVIDIA's images after that: "
                      "nvflash, GPU-Z or the laptop's firmware have the whole",
                      last->offset);
    }
    return remark(remarks, OPTIMUS_TAKEN, "it was cut after the image at "
                  "offset 0x%zx, as Linux's sysfs and dumps of memory are, and "
                  "the x86 image does not refer to what is missing",
                  last->offset);
}

static OptimusVerdict worse(OptimusVerdict a, OptimusVerdict b)
{
    return MAX(a, b);
}

OptimusVerdict optimus_rom_judge(const uint8_t *rom, const GArray *images,
                                 uint16_t vendor, uint16_t device,
                                 GPtrArray *remarks)
{
    const OptimusImage *first = &g_array_index(images, OptimusImage, 0);
    const OptimusImage *last = &g_array_index(images, OptimusImage,
                                              images->len - 1);
    const OptimusImage *x86 = optimus_rom_x86(images);
    const OptimusImage *main_image = x86 ?: first;
    OptimusVerdict verdict = OPTIMUS_TAKEN;

    /* Of what is neither NVIDIA's nor the card's nothing else matters. */
    if (main_image->vendor != OPTIMUS_VENDOR_NVIDIA &&
        (!vendor || main_image->vendor != vendor)) {
        return judge_vendor(main_image, remarks);
    }
    if (!x86) {
        return remark(remarks, OPTIMUS_USELESS, "no image is of the type x86, "
                      "which is the video BIOS: get a file that has it");
    }
    if (vendor || device) {
        verdict = judge_ids(rom, x86, vendor, device, remarks);
    }
    verdict = worse(verdict, judge_end(rom, x86, last, remarks));
    if (x86->vendor == OPTIMUS_VENDOR_NVIDIA) {
        verdict = worse(verdict, judge_bit(rom, x86, remarks));
    }
    verdict = worse(verdict, judge_sums(rom, images, remarks));
    return worse(verdict, judge_start(rom, first, remarks));
}
