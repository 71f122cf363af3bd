/*
 * optimus-vbios trim: cut off what precedes and follows the images
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <getopt.h>
#include <stdio.h>

/* The first chain in the file. */
static bool find_chain(const InputFile *file, Chain *chain)
{
    g_autofree char *why = NULL;
    ChainScan scan;
    bool found;

    if (chain_at(file->data, file->size, 0, chain, &why)) {
        return true;
    }
    /* What stands behind a broken ROM is not what its owner means. */
    if (file->size >= 2 && file->data[0] == 0x55 && file->data[1] == 0xaa) {
        complain("'%s' is a broken ROM: %s; get it again", file->path, why);
        return false;
    }
    scan_start(&scan, file->data, file->size, true);
    found = scan_next(&scan, chain);
    scan_end(&scan);
    end_progress();
    if (!found && !is_interrupted()) {
        complain("'%s' has no complete option ROM in it: %s%s", file->path, why,
                 scan.broken ? ", and those further in are cut off; get it "
                 "again" : ", and none starts further in; if it is a firmware "
                 "update, try optimus-vbios extract");
    }
    return found;
}

/*
 * Say how the checksums are, and set right those that are wrong if @fix.  @rom
 * is the chain alone.
 */
static void treat_checksums(uint8_t *rom, const Chain *chain, bool fix)
{
    for (unsigned int i = 0; i < chain->images->len; i++) {
        OptimusImage image = *chain_image(chain, i);
        uint8_t sum;

        image.offset -= chain->offset;
        if (image.code_type != OPTIMUS_CODE_X86) {
            continue;
        }
        sum = optimus_image_sum(rom, &image);
        if (!sum) {
            printf("the checksum of the image at offset 0x%zx is right, and "
                   "kept\n", image.offset);
        } else if (fix) {
            rom[image.offset + image.length - 1] -= sum;
            printf("the checksum of the image at offset 0x%zx was wrong, and "
                   "is right now: its last byte is 0x%02x\n", image.offset,
                   rom[image.offset + image.length - 1]);
        } else {
            printf("the checksum of the image at offset 0x%zx is wrong, and "
                   "kept: --fix-checksum would mend it\n", image.offset);
        }
    }
}

static bool trim(const InputFile *in, const char *out, bool force, bool fix)
{
    g_autofree uint8_t *rom = NULL;
    Chain chain;
    bool written;

    if (!find_chain(in, &chain)) {
        return false;
    }
    rom = g_malloc(chain.length);
    memcpy(rom, in->data + chain.offset, chain.length);
    treat_checksums(rom, &chain, fix);
    written = write_output(out, force, rom, chain.length);
    if (written) {
        printf("'%s' has %zu bytes; cut off were %zu before and %zu behind "
               "them\n", out, chain.length, chain.offset,
               in->size - chain.offset - chain.length);
    }
    chain_free(&chain);
    return written;
}

int trim_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "force", no_argument, NULL, 'f' },
        { "fix-checksum", no_argument, NULL, 'c' },
        { "help", no_argument, NULL, 'h' },
        { }
    };
    bool force = false, fix = false, good;
    InputFile in;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        switch (c) {
        case 'f':
            force = true;
            break;
        case 'c':
            fix = true;
            break;
        case 'h':
            return print_help();
        default:
            return wrong_usage("trim: the command line is wrong");
        }
    }
    if (argc - optind != 2) {
        return wrong_usage("trim takes two files: the one to read and the one "
                           "to write");
    }
    if (!check_output(argv[optind + 1], force) ||
        !map_input(&in, argv[optind])) {
        return EXIT_BAD;
    }
    catch_signals();
    good = trim(&in, argv[optind + 1], force, fix);
    unmap_input(&in);
    return good ? EXIT_GOOD : EXIT_BAD;
}
