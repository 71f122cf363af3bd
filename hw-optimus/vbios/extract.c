/*
 * optimus-vbios extract: find the option ROMs in a firmware file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

#define HASH_DIGITS 8           /* of a file's name */

typedef struct Extract {
    const char *dir;
    bool wanted;                /* whether a card was named */
    PCIName card;
    GHashTable *seen;           /* SHA-256 of what was written */
    unsigned int found;
    unsigned int cut_off;
    char *fits;                 /* the first file that fits the card */
} Extract;

/* "10de-139b-82.07.55.00.1a-0123abcd.rom" */
static char *file_name(const Chain *chain, const uint8_t *rom, const char *hash)
{
    const OptimusImage *first = chain_image(chain, 0);
    g_autofree char *version = image_version(rom, first);

    return g_strdup_printf("%04x-%04x%s%s-%.*s.rom", first->vendor,
                           first->device, version ? "-" : "", version ?: "",
                           HASH_DIGITS, hash);
}

static bool is_there_already(const char *path, const uint8_t *data, size_t size)
{
    g_autofree char *old = NULL;
    size_t old_size;

    return g_file_test(path, G_FILE_TEST_IS_REGULAR) &&
           g_file_get_contents(path, &old, &old_size, NULL) &&
           old_size == size && !memcmp(old, data, size);
}

static char *describe_types(const Chain *chain)
{
    GString *text = g_string_new(NULL);

    for (unsigned int i = 0; i < chain->images->len; i++) {
        g_string_append_printf(text, "%s%s", i ? "+" : "",
                               image_type(chain_image(chain, i)));
    }
    return g_string_free(text, false);
}

static void print_row(const Extract *x, const Chain *chain, const uint8_t *rom,
                      const char *where, const char *path, bool fits)
{
    const OptimusImage *first = chain_image(chain, 0);
    g_autofree char *types = describe_types(chain);
    g_autofree char *version = image_version(rom, first);

    end_progress();
    if (x->found == 1) {
        printf("%-12s %8s  %-9s  %-6s  %-14s  %-9s  %s\n", "offset", "bytes",
               "device", "class", "version", "images", "file");
    }
    printf("%-12s %8zu  %04x:%04x  %06x  %-14s  %-9s  %s%s\n", where,
           chain->length, first->vendor, first->device, first->class_code,
           version ?: "-", types, path, fits ? "  (fits)" : "");
}

/* Write a chain into a file of its own, unless it is in one. */
static bool keep(Extract *x, const Chain *chain, const uint8_t *rom,
                 const char *where)
{
    const uint8_t *data = rom + chain->offset;
    char *hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, data,
                                             chain->length);
    g_autofree char *name = file_name(chain, rom, hash);
    g_autofree char *path = g_build_filename(x->dir, name, NULL);
    bool fits = x->wanted && chain_is_for(chain, rom, x->card);

    if (!g_hash_table_add(x->seen, hash)) {
        return true;
    }
    if (!is_there_already(path, data, chain->length) &&
        !write_output(path, false, data, chain->length)) {
        return false;
    }
    x->found++;
    print_row(x, chain, rom, where, path, fits);
    if (fits && !x->fits) {
        x->fits = g_steal_pointer(&path);
    }
    return true;
}

/* @where: how to call all of it, or NULL to tell offsets. */
static bool search(Extract *x, const InputFile *file, const char *where)
{
    ChainScan scan;
    Chain chain;
    bool kept = true;

    scan_start(&scan, file->data, file->size, !where);
    while (kept && scan_next(&scan, &chain)) {
        g_autofree char *offset = g_strdup_printf("0x%08zx", chain.offset);

        kept = keep(x, &chain, file->data, where ?: offset);
        chain_free(&chain);
    }
    x->cut_off += scan.broken;
    scan_end(&scan);
    end_progress();
    return kept && !is_interrupted();
}

/* All files below @dir but UEFIExtract's remarks. */
static bool search_unpacked(Extract *x, const char *dir)
{
    g_autoptr(GDir) listing = g_dir_open(dir, 0, NULL);
    const char *name;

    while (listing && (name = g_dir_read_name(listing))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        InputFile file;
        struct stat st;
        bool good;

        show_progress("searching what was unpacked", 0, 0);
        if (is_interrupted()) {
            return false;
        }
        if (lstat(path, &st) || (!S_ISDIR(st.st_mode) && !st.st_size) ||
            g_str_equal(name, "info.txt")) {
            continue;
        }
        if (S_ISDIR(st.st_mode)) {
            good = search_unpacked(x, path);
        } else {
            good = map_input(&file, path);
            if (good) {
                good = search(x, &file, "(compressed)");
                unmap_input(&file);
            }
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

static bool search_all(Extract *x, const InputFile *file)
{
    bool good;
    char *unpacked;

    if (!search(x, file, NULL)) {
        return false;
    }
    if (!is_uefi(file)) {
        return true;
    }
    unpacked = unpack_uefi(file, x->dir);
    if (!unpacked) {
        return !is_interrupted();
    }
    good = search_unpacked(x, unpacked);
    end_progress();
    remove_tree(unpacked);
    return good;
}

static int report(const Extract *x, const char *path)
{
    if (x->cut_off) {
        printf("left out: %u that %s incomplete\n", x->cut_off,
               x->cut_off == 1 ? "is" : "are");
    }
    if (!x->found) {
        complain("'%s' has no complete option ROM in it: if it is an archive "
                 "or an installer, unpack it first", path);
        return EXIT_BAD;
    }
    if (x->fits) {
        printf("'%s' fits %04x:%04x\n", x->fits, x->card.vendor,
               x->card.device);
    } else if (x->wanted) {
        complain("'%s' has no option ROM for %04x:%04x in it: get the firmware "
                 "of the machine that has that card", path, x->card.vendor,
                 x->card.device);
        return EXIT_BAD;
    }
    return EXIT_GOOD;
}

static int extract(Extract *x, const char *path)
{
    InputFile file;
    int code;

    if (!map_input(&file, path)) {
        return EXIT_BAD;
    }
    if (g_mkdir_with_parents(x->dir, 0777)) {
        complain("'%s' cannot be made a directory: %s", x->dir,
                 g_strerror(errno));
        unmap_input(&file);
        return EXIT_BAD;
    }
    catch_signals();
    x->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    code = search_all(x, &file) ? report(x, path) : EXIT_BAD;
    g_hash_table_unref(x->seen);
    g_free(x->fits);
    unmap_input(&file);
    return code;
}

int extract_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "device", required_argument, NULL, 'd' },
        { "host", required_argument, NULL, 'H' },
        { "help", no_argument, NULL, 'h' },
        { }
    };
    const char *device = NULL, *host = NULL;
    Extract x = { };
    int c;

    while ((c = getopt_long(argc, argv, "ho:", options, NULL)) >= 0) {
        switch (c) {
        case 'o':
            x.dir = optarg;
            break;
        case 'd':
            device = optarg;
            break;
        case 'H':
            host = optarg;
            break;
        case 'h':
            return print_help();
        default:
            return wrong_usage("extract: the command line is wrong");
        }
    }
    if (argc - optind != 1 || !x.dir) {
        return wrong_usage("extract takes one firmware file, and -o DIR");
    }
    if (device && host) {
        return wrong_usage("--device and --host both name a card: use one");
    }
    if (device && !parse_pci_name(device, &x.card)) {
        return wrong_usage("'%s' is not VENDOR:DEVICE, such as 10de:139b",
                           device);
    }
    if (host) {
        bool usage;
        g_autofree char *dir = find_card(host, &x.card, &usage);

        if (!dir) {
            return usage ? EXIT_USAGE : EXIT_BAD;
        }
    }
    x.wanted = device || host;
    return extract(&x, argv[optind]);
}
