/*
 * optimus-vbios trim: cut off what precedes and follows the images
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <getopt.h>

typedef struct Trim {
    const char *out;
    bool force;
    bool fix;
    bool all;
} Trim;

/* Say why there is nothing to be written. */
static void complain_of(const InputFile *in, const char *why, bool cut_off)
{
    g_autofree char *advice = container_advice(in);

    if (cut_off || !advice) {
        complain("'%s' has no complete option ROM in it: %s%s", in->path, why,
                 cut_off ? ", and those further in are cut off; get it again" :
                 ", and none starts further in; if it is a firmware update, try "
                 "optimus-vbios extract");
    } else {
        complain("'%s' has no option ROM in it: %s", in->path, advice);
    }
}

/* The chains in the file, or NULL after saying why. */
static GArray *chains_of(const InputFile *in)
{
    g_autofree char *why = NULL;
    unsigned int cut_off;
    GArray *chains = find_chains(in, &why, &cut_off);

    /* What stands behind a broken ROM is not what its owner means. */
    if (is_rom(in->data, in->size) && why) {
        complain("'%s' is a broken ROM: %s; get it again", in->path, why);
    } else if (chains->len) {
        return chains;
    } else if (!is_interrupted()) {
        complain_of(in, why, cut_off);
    }
    free_chains(chains);
    return NULL;
}

/*
 * Say how the checksums of a chain are, and set right those that are wrong if
 * @fix.  @rom is what is written, from offset @start of the file.
 */
static void treat_checksums(uint8_t *rom, size_t start, const Chain *chain,
                            bool fix)
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

static bool trim(const InputFile *in, const Trim *options)
{
    g_autofree uint8_t *rom = NULL;
    GArray *chains = chains_of(in);
    const Chain *first, *last;
    unsigned int kept;
    size_t length;
    bool written;

    if (!chains) {
        return false;
    }
    kept = options->all ? chains->len : 1;
    first = &g_array_index(chains, Chain, 0);
    last = &g_array_index(chains, Chain, kept - 1);
    length = last->offset + last->length - first->offset;
    rom = g_malloc(length);
    memcpy(rom, in->data + first->offset, length);
    for (unsigned int i = 0; i < kept; i++) {
        treat_checksums(rom, first->offset, &g_array_index(chains, Chain, i),
                        options->fix);
    }
    written = write_output(options->out, options->force, rom, length);
    if (written) {
        say("'%s' has %zu bytes; cut off were %zu before and %zu behind them",
            options->out, length, first->offset,
            in->size - first->offset - length);
    }
    if (written && kept < chains->len) {
        say("cut off were other images at offset 0x%zx: --all would keep them",
            g_array_index(chains, Chain, 1).offset);
    }
    free_chains(chains);
    return written;
}

int trim_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "force", no_argument, NULL, 'f' },
        { "fix-checksum", no_argument, NULL, 'c' },
        { "all", no_argument, NULL, 'a' },
        { "help", no_argument, NULL, 'h' },
        { }
    };
    Trim trim_options = { };
    InputFile in;
    bool good;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        switch (c) {
        case 'f':
            trim_options.force = true;
            break;
        case 'c':
            trim_options.fix = true;
            break;
        case 'a':
            trim_options.all = true;
            break;
        case 'h':
            return print_help();
        default:
            return wrong_option();
        }
    }
    if (argc - optind != 2) {
        return wrong_usage("trim takes two files: the one to read and the one "
                           "to write");
    }
    trim_options.out = argv[optind + 1];
    if (!check_output(trim_options.out, trim_options.force) ||
        !map_input(&in, argv[optind])) {
        return EXIT_BAD;
    }
    catch_signals();
    good = trim(&in, &trim_options);
    unmap_input(&in);
    return good ? EXIT_GOOD : EXIT_BAD;
}
