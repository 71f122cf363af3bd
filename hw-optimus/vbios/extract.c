/*
 * optimus-vbios extract: find the option ROMs in a firmware file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <getopt.h>
#include <sys/stat.h>

#define HASH_DIGITS 8           /* of a file's name */
#define TYPES_WIDTH 16          /* of "x86+EFI+E0+E0+70" */
#define DEPTH_MAX   4           /* of containers in each other */

typedef struct Extract {
    const char *dir;
    bool wanted;                /* whether a card was named */
    PCIName card;
    GHashTable *seen;           /* SHA-256 of what was written */
    unsigned int found;
    unsigned int cut_off;
    bool unsearched;            /* something, which was said */
    char *fits;                 /* the file that fits the card best */
    OptimusFate fate;           /* of that */
    char *remarks;
} Extract;

/* "10de-139b-82.07.55.00.1a-0123abcd.rom" */
static char *file_name(const Chain *chain, const uint8_t *rom, const char *hash)
{
    const OptimusImage *image = chain_main_image(chain);
    g_autofree char *version = image_version(rom, image);

    return g_strdup_printf("%04x-%04x%s%s-%.*s.rom", image->vendor,
                           image->device, version ? "-" : "", version ?: "",
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
        const char *type = image_type(chain_image(chain, i));

        /* without "NVIDIA" */
        g_string_append_printf(text, "%s%s", i ? "+" : "",
                               g_str_has_prefix(type, "NVIDIA ") ?
                               strchr(type, ' ') + 1 : type);
    }
    return g_string_free(text, false);
}

static void print_row(const Extract *x, const Chain *chain, const uint8_t *rom,
                      const char *where, const char *path, const char *note)
{
    const OptimusImage *image = chain_main_image(chain);
    g_autofree char *types = describe_types(chain);
    g_autofree char *version = image_version(rom, image);

    end_progress();
    if (x->found == 1) {
        say("%-12s %8s  %-9s  %-6s  %-14s  %-*s  %s", "offset", "bytes",
            "device", "class", "version", TYPES_WIDTH, "images", "file");
    }
    say("%-12s %8zu  %04x:%04x  %06x  %-14s  %-*s  %s%s", where, chain->length,
        image->vendor, image->device, image->class_code, version ?: "-",
        TYPES_WIDTH, types, path, note);
}

/* Whether it is for the card, and the best one for it so far. */
static const char *compare(Extract *x, const Chain *chain, const uint8_t *rom,
                           const char *path)
{
    g_autofree char *remarks = NULL;
    OptimusFate fate;

    if (!x->wanted || !chain_is_for(chain, rom, x->card)) {
        return "";
    }
    fate = chain_judge(chain, rom, x->card, &remarks);
    if (!x->fits || fate < x->fate) {
        g_free(x->fits);
        g_free(x->remarks);
        x->fits = g_strdup(path);
        x->remarks = g_steal_pointer(&remarks);
        x->fate = fate;
    }
    return fate == OPTIMUS_USELESS ? "  (not usable)" : "  (fits)";
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

    if (!g_hash_table_add(x->seen, hash)) {
        return true;
    }
    if (!is_there_already(path, data, chain->length) &&
        !write_output(path, false, data, chain->length)) {
        return false;
    }
    x->found++;
    print_row(x, chain, rom, where, path, compare(x, chain, rom, path));
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

/* The compressed parts of UEFI firmware. */
static bool search_uefi(Extract *x, const InputFile *file)
{
    char *unpacked = unpack_uefi(file, x->dir);
    bool good;

    if (!unpacked) {
        x->unsearched = true;
        return !is_interrupted();
    }
    good = search_unpacked(x, unpacked);
    end_progress();
    remove_tree(unpacked);
    return good;
}

/* All that is in the file, and in what is packed in it. */
static bool search_all(Extract *x, const InputFile *file, const char *where,
                       unsigned int depth)
{
    size_t at = 0;

    if (!search(x, file, where)) {
        return false;
    }
    while (depth < DEPTH_MAX) {
        g_autoptr(GByteArray) section = next_dell_section(file->data, file->size,
                                                          &at);
        InputFile inner = { .path = file->path };

        if (!section) {
            break;
        }
        inner.data = section->data;
        inner.size = section->len;
        if (!search_all(x, &inner, "(compressed)", depth + 1)) {
            return false;
        }
    }
    return !is_uefi(file) || search_uefi(x, file);
}

static bool search_registry(Extract *x, const InputFile *file,
                            const GPtrArray *values)
{
    for (guint i = 0; i < values->len; i++) {
        const GByteArray *value = values->pdata[i];
        InputFile inner = { file->path, value->data, value->len };

        if (!search(x, &inner, "(registry)")) {
            return false;
        }
    }
    return true;
}

static bool search_file(Extract *x, const InputFile *file)
{
    g_autoptr(GPtrArray) values = registry_values(file->data, file->size);

    return values ? search_registry(x, file, values) :
                    search_all(x, file, NULL, 0);
}

static void complain_of_nothing(const Extract *x, const InputFile *file)
{
    g_autofree char *advice = container_advice(file);

    if (x->unsearched) {
        return;
    }
    if (advice) {
        complain("'%s' has no complete option ROM in it: %s", file->path,
                 advice);
    } else {
        complain("'%s' has no complete option ROM in it%s", file->path,
                 x->wanted && has_own_flash(x->card) ? ": the firmware of a "
                 "machine with such a card has none, as the card has a flash of "
                 "its own" : ": if it is an archive or an installer, unpack it "
                 "first");
    }
}

static int report(const Extract *x, const InputFile *file)
{
    if (x->cut_off) {
        say("left out: %u that %s incomplete", x->cut_off,
            x->cut_off == 1 ? "is" : "are");
    }
    if (!x->found) {
        complain_of_nothing(x, file);
        return EXIT_BAD;
    }
    if (!x->wanted) {
        return EXIT_GOOD;
    }
    if (!x->fits) {
        complain("'%s' has no option ROM for %04x:%04x in it: %s", file->path,
                 x->card.vendor, x->card.device, has_own_flash(x->card) ?
                 "such a card has a flash of its own as a rule, and needs none" :
                 "get the firmware of the machine that has that card");
        return EXIT_BAD;
    }
    if (x->fate == OPTIMUS_USELESS) {
        complain("'%s' has no video BIOS for %04x:%04x in it; of '%s': %s",
                 file->path, x->card.vendor, x->card.device, x->fits,
                 x->remarks);
        return EXIT_BAD;
    }
    say("'%s' fits %04x:%04x%s%s", x->fits, x->card.vendor, x->card.device,
        *x->remarks ? "; but " : "", x->remarks);
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
    code = search_file(x, &file) ? report(x, &file) : EXIT_BAD;
    g_hash_table_unref(x->seen);
    g_free(x->fits);
    g_free(x->remarks);
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
            return wrong_option();
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
