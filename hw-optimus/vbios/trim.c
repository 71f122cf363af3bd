/*
 * optimus-vbios trim: cut off what precedes and follows the images
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "../core/optimus-window.h"

static gboolean force, fix, keep_all;

static const GOptionEntry options[] = {
    { "force", 0, 0, G_OPTION_ARG_NONE, &force, "Overwrite an existing file",
      NULL },
    { "fix-checksum", 0, 0, G_OPTION_ARG_NONE, &fix,
      "Set the last byte of images to what it should be", NULL },
    { "all", 0, 0, G_OPTION_ARG_NONE, &keep_all,
      "Keep further chains of images after the first, too", NULL },
    { }
};

/* Why there is nothing to be written; always false. */
static bool fail_without_rom(const InputFile *in, const char *why, bool cut_off,
                             GError **error)
{
    g_autofree char *advice = container_advice(in);

    if (cut_off || !advice) {
        return fail(error, "'%s' has no complete option ROM in it: %s%s",
                    in->path, why, cut_off ? ", and those further in are cut "
                    "off; get it again" : ", and none starts further in; if it "
                    "is a firmware update, try optimus-vbios extract");
    }
    return fail(error, "'%s' has no option ROM in it: %s", in->path, advice);
}

/* The chains in the file, of which there is one. */
static GArray *chains_of(const InputFile *in, GError **error)
{
    g_autofree char *why = NULL;
    unsigned int cut_off;
    g_autoptr(GArray) chains = find_chains(in, &why, &cut_off);

    /* What follows a broken ROM is not what its owner means. */
    if (optimus_has_signature(in->data, in->size) && why) {
        fail(error, "'%s' is a broken ROM: %s; get it again", in->path, why);
        return NULL;
    }
    if (!chains->len) {
        fail_without_rom(in, why, cut_off, error);
        return NULL;
    }
    return g_steal_pointer(&chains);
}

/*
 * Say how the checksums of a chain are, and set right those that are wrong if
 * that is wanted.  @rom is what is written, from offset @start of the file.
 */
static void treat_checksums(uint8_t *rom, size_t start, const Chain *chain)
{
    for (unsigned int i = 0; i < chain->images->len; i++) {
        OptimusImage image = *chain_image(chain, i);
        uint8_t sum;

        image.offset -= start;
        if (!optimus_image_has_sum(&image)) {
            continue;
        }
        sum = optimus_image_sum(rom, &image);
        if (!sum) {
            say("the checksum of the image at offset 0x%zx is right, and kept",
                image.offset);
        } else if (fix) {
            rom[image.offset + image.length - 1] -= sum;
            say("the checksum of the image at offset 0x%zx was wrong, and is "
                "right now: its last byte is 0x%02x", image.offset,
                rom[image.offset + image.length - 1]);
        } else {
            say("the checksum of the image at offset 0x%zx is wrong, and kept: "
                "--fix-checksum would mend it", image.offset);
        }
    }
}

/* What was not kept of the chains after the first one, and why */
static void say_what_is_gone(const GArray *chains, unsigned int kept)
{
    for (unsigned int i = kept; i < chains->len; i++) {
        const Chain *chain = chain_of(chains, i);

        if (chain->again) {
            say("cut off was the chain at offset 0x%zx: it is the same again",
                chain->offset);
        } else {
            say("cut off were other images at offset 0x%zx%s", chain->offset,
                all_fits(chains) ? ": --all would keep them" : "");
        }
    }
}

static bool trim(const InputFile *in, const char *out, GError **error)
{
    g_autoptr(GArray) chains = chains_of(in, error);
    const Chain *first;
    unsigned int kept;
    size_t length;

    if (!chains) {
        return false;
    }
    kept = keep_all ? chains_worth(chains) : 1;
    first = chain_of(chains, 0);
    length = chain_end(chain_of(chains, kept - 1)) - first->offset;
    if (fix && !make_writable(in, error)) {
        return false;
    }
    for (unsigned int i = 0; i < kept; i++) {
        treat_checksums((uint8_t *)in->data + first->offset, first->offset,
                        chain_of(chains, i));
    }
    if (!write_output(out, force, in->data + first->offset, length, error)) {
        return false;
    }
    say("'%s' has %zu bytes; cut off were %zu before and %zu after them", out,
        length, first->offset, in->size - first->offset - length);
    say_what_is_gone(chains, kept);
    if (length > OPTIMUS_ROM_MAX) {
        complain("warning: '%s' has %zu bytes, and the device has room for "
                 "%u%s", out, length, OPTIMUS_ROM_MAX,
                 kept > 1 && first->length <= OPTIMUS_ROM_MAX ?
                 ": it fits without --all" : "");
    }
    return true;
}

static bool run(char **files, GError **error)
{
    InputFile in;
    bool good;

    if (!check_output(files[1], force, error) ||
        !map_input(&in, files[0], error)) {
        return false;
    }
    catch_signals();
    good = trim(&in, files[1], error);
    unmap_input(&in);
    return good;
}

const Command trim_command = {
    "trim", "IN OUT", "cut off what precedes and follows the images", 2,
    options, run
};
