/*
 * optimus-vbios extract: find the option ROMs in a firmware file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <sys/stat.h>

#define HASH_DIGITS 8           /* of a file's name */
#define TYPES_WIDTH 19          /* of "x86+EFI+E0+E0+E0+70" */
#define DEPTH_MAX   4           /* of containers in each other */

/* No firmware has more, and without an end none would be come to. */
#define FOUND_MAX   256         /* ROMs */
#define INFLATE_MAX (192 << 20) /* bytes, all together */
#define UEFI_MAX    32          /* runs of UEFIExtract */

static char *out_dir, *device, *host;

static const GOptionEntry options[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &out_dir,
      "Where to write the ROMs; needed", "DIR" },
    { "device", 0, 0, G_OPTION_ARG_FILENAME, &device,
      "Say which one fits a card with these IDs, as 10de:139b",
      "VENDOR:DEVICE" },
    { "host", 0, 0, G_OPTION_ARG_FILENAME, &host,
      "The same for a card of this machine, as 01:00.0", "BDF" },
    { }
};

typedef struct Extract {
    bool wanted;                /* whether a card was named */
    PCIName card;
    GHashTable *seen;           /* SHA-256 of what was written */
    unsigned int found;
    unsigned int cut_off;
    unsigned int left_out;      /* beyond FOUND_MAX */
    size_t inflate_left;        /* of INFLATE_MAX */
    unsigned int uefi_runs;
    bool unsearched;            /* something, which was said */
    char *fits;                 /* the file that fits the card best */
    OptimusVerdict verdict;     /* on that */
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
    OptimusVerdict verdict;

    if (!x->wanted || !chain_is_for(chain, rom, x->card)) {
        return "";
    }
    verdict = chain_judge(chain, rom, x->card, &remarks);
    if (!x->fits || verdict < x->verdict) {
        g_free(x->fits);
        g_free(x->remarks);
        x->fits = g_strdup(path);
        x->remarks = g_steal_pointer(&remarks);
        x->verdict = verdict;
    }
    return verdict == OPTIMUS_USELESS ? "  (not usable)" : "  (fits)";
}

/* Write a chain into a file of its own, unless it is in one. */
static bool keep(Extract *x, const Chain *chain, const uint8_t *rom,
                 const char *where, GError **error)
{
    const uint8_t *data = rom + chain->offset;
    char *hash = chain_hash(chain, rom);
    g_autofree char *name = file_name(chain, rom, hash);
    g_autofree char *path = g_build_filename(out_dir, name, NULL);

    if (!g_hash_table_add(x->seen, hash)) {
        return true;
    }
    if (x->found == FOUND_MAX) {
        x->left_out++;
        return true;
    }
    if (!is_there_already(path, data, chain->length) &&
        !write_output(path, false, data, chain->length, error)) {
        return false;
    }
    x->found++;
    print_row(x, chain, rom, where, path, compare(x, chain, rom, path));
    return true;
}

/* @where: how to call all of it, or NULL to tell offsets. */
static bool search(Extract *x, const InputFile *file, const char *where,
                   GError **error)
{
    OptimusScan scan;
    Chain chain;
    bool kept = true;

    optimus_scan_start(&scan, file->data, file->size);
    while (kept && scan_next(&scan, &chain, !where)) {
        g_autofree char *offset = g_strdup_printf("0x%08zx", chain.offset);

        kept = keep(x, &chain, file->data, where ?: offset, error);
        chain_free(&chain);
    }
    x->cut_off += scan.broken;
    optimus_scan_end(&scan);
    end_progress();
    return kept && check_signal(error);
}

/* All files below @dir but UEFIExtract's remarks. */
static bool search_unpacked(Extract *x, const char *dir, GError **error)
{
    g_autoptr(GDir) listing = g_dir_open(dir, 0, NULL);
    const char *name;

    while (listing && (name = g_dir_read_name(listing))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        InputFile file;
        struct stat st;
        bool good;

        show_progress("searching what was unpacked", 0, 0);
        if (lstat(path, &st) || (!S_ISDIR(st.st_mode) && !st.st_size) ||
            g_str_equal(name, "info.txt")) {
            continue;
        }
        if (S_ISDIR(st.st_mode)) {
            good = search_unpacked(x, path, error);
        } else {
            good = map_input(&file, path, error);
            if (good) {
                good = search(x, &file, "(compressed)", error);
                unmap_input(&file);
            }
        }
        if (!good || !check_signal(error)) {
            return false;
        }
    }
    return true;
}

/* The compressed parts of UEFI firmware. */
static bool search_uefi(Extract *x, const InputFile *file, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *unpacked;
    bool good;

    if (++x->uefi_runs > UEFI_MAX) {
        return true;
    }
    unpacked = unpack_uefi(file, out_dir, &why);
    end_progress();
    if (!unpacked) {
        if (!check_signal(error)) {
            return false;
        }
        complain("%s", why->message);
        x->unsearched = true;
        return true;
    }
    good = search_unpacked(x, unpacked, error);
    end_progress();
    remove_tree(unpacked);
    return good;
}

/* All that is in the file, and in what is packed in it. */
static bool search_all(Extract *x, const InputFile *file, const char *where,
                       unsigned int depth, GError **error)
{
    size_t at = 0;

    if (!search(x, file, where, error)) {
        return false;
    }
    while (depth < DEPTH_MAX) {
        g_autoptr(GByteArray) section =
            next_dell_section(file->data, file->size, &at, &x->inflate_left);
        InputFile inner = { .path = file->path };

        if (!section) {
            break;
        }
        inner.data = section->data;
        inner.size = section->len;
        if (!search_all(x, &inner, "(compressed)", depth + 1, error)) {
            return false;
        }
    }
    return !is_uefi(file) || search_uefi(x, file, error);
}

static bool search_registry(Extract *x, const InputFile *file, GError **error)
{
    GByteArray *value;
    size_t at = 0;

    while ((value = next_registry_value(file->data, file->size, &at))) {
        InputFile inner = { file->path, value->data, value->len };
        bool good = search(x, &inner, "(registry)", error);

        g_byte_array_unref(value);
        if (!good) {
            return false;
        }
    }
    return true;
}

static bool search_file(Extract *x, const InputFile *file, GError **error)
{
    return is_registry(file->data, file->size) ?
        search_registry(x, file, error) : search_all(x, file, NULL, 0, error);
}

/* Where a file has more than any firmware */
static void say_limits(Extract *x, const InputFile *file)
{
    if (x->left_out) {
        complain("warning: '%s' has more than %u option ROMs in it: %u were "
                 "left out", file->path, FOUND_MAX, x->left_out);
    }
    if (!x->inflate_left) {
        complain("warning: what is packed in '%s' has more than %u MiB: the "
                 "rest was not searched", file->path, INFLATE_MAX >> 20);
    }
    if (x->uefi_runs > UEFI_MAX) {
        complain("warning: '%s' has more than %u UEFI firmwares packed in it: "
                 "the rest was not searched", file->path, UEFI_MAX);
    }
    x->unsearched |= !x->inflate_left || x->uefi_runs > UEFI_MAX;
}

static bool fail_without_rom(const Extract *x, const InputFile *file,
                             GError **error)
{
    g_autofree char *advice = container_advice(file);

    if (x->unsearched) {
        return false;           /* that was said */
    }
    if (!advice) {
        advice = g_strdup(x->wanted && has_own_flash(x->card) ?
            "the firmware of a machine with such a card has none, as the card "
            "has a flash of its own" :
            "if it is an archive or an installer, unpack it first");
    }
    return fail(error, "'%s' has no complete option ROM in it: %s", file->path,
                advice);
}

static bool report(Extract *x, const InputFile *file, GError **error)
{
    say_limits(x, file);
    if (x->cut_off) {
        say("left out: %u that %s incomplete", x->cut_off,
            x->cut_off == 1 ? "is" : "are");
    }
    if (!x->found) {
        return fail_without_rom(x, file, error);
    }
    if (!x->wanted) {
        return true;
    }
    if (!x->fits) {
        return fail(error, "'%s' has no option ROM for %04x:%04x in it: %s",
                    file->path, x->card.vendor, x->card.device,
                    has_own_flash(x->card) ?
                    "such a card has a flash of its own as a rule, and needs "
                    "none" :
                    "get the firmware of the machine that has that card");
    }
    if (x->verdict == OPTIMUS_USELESS) {
        return fail(error, "'%s' has no video BIOS for %04x:%04x in it; of "
                    "'%s': %s", file->path, x->card.vendor, x->card.device,
                    x->fits, x->remarks);
    }
    say("'%s' fits %04x:%04x%s%s", x->fits, x->card.vendor, x->card.device,
        *x->remarks ? "; but " : "", x->remarks);
    return true;
}

static bool extract(Extract *x, const InputFile *file, GError **error)
{
    bool good;

    if (g_mkdir_with_parents(out_dir, 0777)) {
        return fail(error, "'%s' cannot be made a directory: %s", out_dir,
                    g_strerror(errno));
    }
    catch_signals();
    x->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    good = search_file(x, file, error) && report(x, file, error);
    g_hash_table_unref(x->seen);
    g_free(x->fits);
    g_free(x->remarks);
    return good;
}

/* The card that was named, if one was. */
static bool read_card(Extract *x, GError **error)
{
    g_autofree char *dir = NULL;

    x->wanted = device || host;
    if (device && host) {
        return fail_usage(error, "--device and --host both name a card: use "
                          "one");
    }
    if (device && !parse_pci_name(device, &x->card)) {
        return fail_usage(error, "'%s' is not VENDOR:DEVICE, such as 10de:139b",
                          device);
    }
    if (host) {
        dir = find_card(host, &x->card, error);
    }
    return !host || dir;
}

static bool run(char **files, GError **error)
{
    Extract x = { .inflate_left = INFLATE_MAX };
    InputFile file;
    bool good;

    if (!out_dir) {
        return fail_usage(error, "extract takes -o DIR");
    }
    if (!read_card(&x, error) || !map_input(&file, *files, error)) {
        return false;
    }
    good = extract(&x, &file, error);
    unmap_input(&file);
    return good;
}

const Command extract_command = {
    "extract", "FIRMWARE -o DIR",
    "write the option ROMs in a firmware update, a flash dump or an export of\n"
    "         Windows' registry into files of their own", 1, options, run
};
