/*
 * optimus-vbios info: what a file is, and whether it is usable as romfile
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "../core/optimus-window.h"
#include <getopt.h>
#include <stdio.h>

/* The device has room for no more. */
#define ROMFILE_MAX   OPTIMUS_ROM_MAX

#define PCIR_REVISION 0x0c      /* from the start of PCIR */
#define NPDE_REVISION 0x04      /* from the start of NPDE: 0x0101 is 1.1 */

/* In the header of an EFI image. */
#define EFI_MACHINE     0x0a
#define EFI_COMPRESSION 0x0c

typedef struct Info {
    InputFile file;
    GArray *chains;             /* of Chain: the one that counts, and others */
    char *broken;               /* why there is none at offset 0 */
    PCIName host;
    const char *bdf;            /* of the card of this machine, or NULL */
    OptimusFate fate;           /* of the first chain, if there is one */
    char *remarks;
    bool usable;
    char *verdict;
} Info;

static const Chain *chain_of(const Info *info, unsigned int index)
{
    return &g_array_index(info->chains, Chain, index);
}

static const char *efi_machine(unsigned int machine)
{
    switch (machine) {
    case 0x014c:
        return "ia32";
    case 0x0200:
        return "ia64";
    case 0x01c2:
        return "arm";
    case 0x8664:
        return "x64";
    case 0xaa64:
        return "aa64";
    case 0x5064:
        return "riscv64";
    default:
        return "unknown";
    }
}

static bool is_fill(const uint8_t *data, size_t size)
{
    return size && (data[0] == 0x00 || data[0] == 0xff) &&
           !memcmp(data, data + 1, size - 1);
}

/* What stands before the first chain. */
static size_t leading(const Info *info)
{
    return info->chains->len ? chain_of(info, 0)->offset : 0;
}

static size_t end_of(const Chain *chain)
{
    return chain->offset + chain->length;
}

/* What stands behind the last chain. */
static size_t trailing(const Info *info)
{
    unsigned int n = info->chains->len;

    return n ? info->file.size - end_of(chain_of(info, n - 1)) : 0;
}

static bool starts_with_nvgi(const Info *info)
{
    return info->file.size >= 4 && !memcmp(info->file.data, "NVGI", 4);
}

/* Where the ROM directory is that an NVGI header has, or 0. */
static size_t find_rfrd(const Info *info)
{
    const uint8_t *data = info->file.data;
    const uint8_t *rfrd = starts_with_nvgi(info) ?
        memmem(data, leading(info), "RFRD", 4) : NULL;

    return rfrd ? rfrd - data : 0;
}

/* The verdict */

static char *find_fault(const Info *info)
{
    const Chain *chain;

    if (is_rom(info->file.data, info->file.size) && info->broken) {
        return g_strdup_printf("the ROM is broken: %s; get it again%s",
            info->broken, info->chains->len ? ", or see with optimus-vbios "
            "extract what further in is whole" : "");
    }
    if (!info->chains->len) {
        g_autoptr(GPtrArray) values = registry_values(info->file.data,
                                                      info->file.size);

        if (values) {
            return g_strdup("it is an export of Windows' registry: optimus-vbios "
                            "extract gets the video BIOS out of it");
        }
        return container_advice(&info->file) ?:
            g_strdup_printf("%s, and none starts further in; if it is a "
                "firmware update, try optimus-vbios extract", info->broken);
    }
    chain = chain_of(info, 0);
    if (chain->length > ROMFILE_MAX) {
        return g_strdup_printf("the images have %zu bytes, and the device has "
            "room for %u", chain->length, ROMFILE_MAX);
    }
    if (chain->offset) {
        return g_strdup_printf("the images start at offset 0x%zx%s: cut them "
            "out with optimus-vbios trim", chain->offset,
            starts_with_nvgi(info) ? ", behind an NVGI header" : "");
    }
    if (info->file.size > ROMFILE_MAX) {
        return g_strdup_printf("the file has %zu bytes, and the device has "
            "room for %u: cut off what follows the images with "
            "optimus-vbios trim", info->file.size, ROMFILE_MAX);
    }
    return NULL;
}

static bool has_wrong_sum(const Info *info)
{
    const Chain *chain = chain_of(info, 0);

    for (unsigned int i = 0; i < chain->images->len; i++) {
        if (has_bad_checksum(info->file.data, chain_image(chain, i))) {
            return true;
        }
    }
    return false;
}

static void judge(Info *info)
{
    g_autofree char *fault = find_fault(info);
    GString *text = g_string_new(NULL);

    info->remarks = g_strdup("");
    if (info->chains->len) {
        g_free(info->remarks);
        info->fate = chain_judge(chain_of(info, 0), info->file.data, info->host,
                                 &info->remarks);
    }
    info->usable = !fault && info->fate != OPTIMUS_USELESS;
    g_string_append(text, info->usable ? "usable as romfile" :
                                         "not usable as romfile");
    if (info->usable && info->bdf) {
        g_string_append_printf(text, " for the card at %s", info->bdf);
    }
    if (info->usable && info->fate == OPTIMUS_NOUVEAU_ONLY) {
        g_string_append(text, " with nouveau only");
    }
    if (fault) {
        g_string_append_printf(text, ": %s", fault);
    }
    if (*info->remarks) {
        g_string_append_printf(text, "%s%s", fault ? "; and " :
                               info->fate == OPTIMUS_TAKEN ? "; but " : ": ",
                               info->remarks);
    }
    if (info->chains->len && has_wrong_sum(info)) {
        g_string_append(text, " (optimus-vbios trim --fix-checksum mends "
                        "checksums, if the file is right otherwise)");
    }
    if (info->chains->len > 1) {
        g_string_append(text, "; behind the images are others, which "
                        "optimus-vbios trim --all keeps");
    } else if (info->usable && trailing(info)) {
        g_string_append_printf(text, "; the %zu bytes behind the images do no "
                               "harm", trailing(info));
    }
    info->verdict = g_string_free(text, false);
}

/* Text */

/* Where NPDE says otherwise than PCIR, which is all that others look at. */
static bool npde_differs(const OptimusImage *image)
{
    return image->npde && (image->pcir_length != image->length ||
                           image->pcir_last != image->last);
}

/* What the video BIOS says of itself. */
static void print_origin(const uint8_t *rom, const OptimusImage *image)
{
    g_autofree char *version = image_version(rom, image);
    g_autofree char *board = image_board(rom, image);
    g_autofree char *date = image_date(rom, image);
    PCIName sub;

    if (version) {
        printf("          version %s\n", version);
    }
    if (board) {
        printf("          board %s\n", board);
    }
    if (date) {
        printf("          date %s\n", date);
    }
    if (image_subsystem(rom, image, &sub)) {
        printf("          subsystem %04x:%04x\n", sub.vendor, sub.device);
    }
}

static void print_image(const uint8_t *rom, const OptimusImage *image)
{
    const uint8_t *header = rom + image->offset;
    g_autofree char *card = image_card(image);
    size_t count;
    size_t list = optimus_image_device_list(rom, image, &count);

    printf("0x%06zx  %zu bytes: %s (type %02x), %s, class %06x\n",
           image->offset, image->length, image_type(image), image->code_type,
           card, image->class_code);
    if (count) {
        printf("          device list:");
        for (size_t i = 0; i < count; i++) {
            printf(" %04x", optimus_le16(rom + list + 2 * i));
        }
        printf("\n");
    }
    printf("          PCIR revision %u", rom[image->pcir + PCIR_REVISION]);
    if (image->npde) {
        const uint8_t *revision = rom + image->npde + NPDE_REVISION;

        printf(", NPDE revision %x.%x", revision[1], revision[0]);
    }
    if (optimus_image_has_sum(image)) {
        printf(", checksum %s",
               has_bad_checksum(rom, image) ? "wrong" : "right");
    }
    if (image->code_type == OPTIMUS_CODE_EFI) {
        unsigned int machine = optimus_le16(header + EFI_MACHINE);

        printf(", EFI machine %s (%04x), %scompressed", efi_machine(machine),
               machine, optimus_le16(header + EFI_COMPRESSION) ? "" : "not ");
    }
    printf("%s\n", image->last ? ", last" : "");
    if (npde_differs(image)) {
        printf("          without NPDE: %zu bytes%s\n", image->pcir_length,
               image->pcir_last ? ", last" : "");
    }
    print_origin(rom, image);
}

static void print_rest(const Info *info, size_t offset, size_t end)
{
    if (end > offset) {
        printf("0x%06zx  %zu bytes: %s\n", offset, end - offset,
               is_fill(info->file.data + offset, end - offset) ? "padding" :
               "other data");
    }
}

static void print_chains(const Info *info)
{
    size_t at = starts_with_nvgi(info) ? leading(info) : 0;

    for (unsigned int i = 0; i < info->chains->len; i++) {
        const Chain *chain = chain_of(info, i);

        print_rest(info, at, chain->offset);
        if (i) {
            printf("          another chain of images:\n");
        }
        for (unsigned int k = 0; k < chain->images->len; k++) {
            print_image(info->file.data, chain_image(chain, k));
        }
        at = end_of(chain);
    }
    print_rest(info, at, at + trailing(info));
}

static char *sha256(const Info *info)
{
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, info->file.data,
                                       info->file.size);
}

static void print_text(const Info *info)
{
    g_autofree char *hash = sha256(info);
    size_t rfrd = find_rfrd(info);

    say("%s: %zu bytes", info->file.path, info->file.size);
    printf("sha256    %s\n", hash);
    if (starts_with_nvgi(info)) {
        printf("0x000000  NVGI header\n");
    }
    if (rfrd) {
        printf("0x%06zx  RFRD directory\n", rfrd);
    }
    print_chains(info);
    say("%s", info->verdict);
}

/* JSON */

static void json_string(const char *name, const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);

    printf("\"%s\": \"", name);
    for (const char *p = valid; *p; p++) {
        if (*p == '"' || *p == '\\') {
            printf("\\%c", *p);
        } else if ((unsigned char)*p < ' ') {
            printf("\\u%04x", *p);
        } else {
            putchar(*p);
        }
    }
    putchar('"');
}

static const char *json_bool(bool value)
{
    return value ? "true" : "false";
}

static void json_fact(const char *name, const char *value)
{
    if (value) {
        printf(", ");
        json_string(name, value);
    }
}

static void json_origin(const uint8_t *rom, const OptimusImage *image)
{
    g_autofree char *version = image_version(rom, image);
    g_autofree char *board = image_board(rom, image);
    g_autofree char *date = image_date(rom, image);
    PCIName sub;

    json_fact("vendor_name", optimus_vendor_name(image->vendor));
    json_fact("version", version);
    json_fact("board", board);
    json_fact("date", date);
    if (image_subsystem(rom, image, &sub)) {
        printf(", \"subsystem\": \"%04x:%04x\"", sub.vendor, sub.device);
    }
}

static void json_image(const uint8_t *rom, const OptimusImage *image)
{
    const uint8_t *header = rom + image->offset;
    size_t count;
    size_t list = optimus_image_device_list(rom, image, &count);

    printf("{\"offset\": %zu, \"length\": %zu, \"type\": \"%s\", "
           "\"code_type\": %u, \"vendor\": \"%04x\", \"device\": \"%04x\", "
           "\"device_list\": [", image->offset, image->length,
           image_type(image), image->code_type, image->vendor, image->device);
    for (size_t i = 0; i < count; i++) {
        printf("%s\"%04x\"", i ? ", " : "", optimus_le16(rom + list + 2 * i));
    }
    printf("], \"class\": \"%06x\", \"pcir_revision\": %u, \"last\": %s",
           image->class_code, rom[image->pcir + PCIR_REVISION],
           json_bool(image->last));
    if (image->npde) {
        const uint8_t *revision = rom + image->npde + NPDE_REVISION;

        printf(", \"npde_revision\": \"%x.%x\", \"pcir_length\": %zu, "
               "\"pcir_last\": %s", revision[1], revision[0],
               image->pcir_length, json_bool(image->pcir_last));
    }
    if (optimus_image_has_sum(image)) {
        printf(", \"checksum_right\": %s",
               json_bool(!has_bad_checksum(rom, image)));
    }
    if (image->code_type == OPTIMUS_CODE_EFI) {
        unsigned int machine = optimus_le16(header + EFI_MACHINE);

        printf(", \"efi_machine\": \"%s\", \"efi_machine_type\": %u, "
               "\"efi_compressed\": %s", efi_machine(machine), machine,
               json_bool(optimus_le16(header + EFI_COMPRESSION)));
    }
    json_origin(rom, image);
    printf("}");
}

static void json_chain(const uint8_t *rom, const Chain *chain)
{
    printf("[");
    for (unsigned int i = 0; i < chain->images->len; i++) {
        printf("%s", i ? ", " : "");
        json_image(rom, chain_image(chain, i));
    }
    printf("]");
}

static void print_json(const Info *info)
{
    const uint8_t *rom = info->file.data;
    g_autofree char *hash = sha256(info);
    unsigned int n = info->chains->len;

    printf("{");
    json_string("file", info->file.path);
    printf(", \"size\": %zu, \"sha256\": \"%s\", \"nvgi\": %s",
           info->file.size, hash, json_bool(starts_with_nvgi(info)));
    if (find_rfrd(info)) {
        printf(", \"rfrd\": %zu", find_rfrd(info));
    }
    printf(", \"leading\": %zu, \"images\": ", leading(info));
    if (n) {
        json_chain(rom, chain_of(info, 0));
    } else {
        printf("[]");
    }
    printf(", \"further_chains\": [");
    for (unsigned int i = 1; i < n; i++) {
        printf("%s", i > 1 ? ", " : "");
        json_chain(rom, chain_of(info, i));
    }
    printf("], \"trailing\": %zu, \"trailing_padding\": %s, ", trailing(info),
           json_bool(is_fill(rom + info->file.size - trailing(info),
                             trailing(info))));
    if (info->broken) {
        json_string("broken", info->broken);
        printf(", ");
    }
    if (n) {
        printf("\"nouveau\": %s, \"nvidia\": %s, ",
               json_bool(info->fate != OPTIMUS_USELESS),
               json_bool(info->fate == OPTIMUS_TAKEN));
    }
    json_string("remarks", info->remarks);
    printf(", \"usable\": %s, ", json_bool(info->usable));
    json_string("verdict", info->verdict);
    printf("}\n");
}

static int show(Info *info, const char *path, bool json)
{
    unsigned int cut_off;

    if (!map_input(&info->file, path)) {
        return EXIT_BAD;
    }
    catch_signals();
    info->chains = find_chains(&info->file, &info->broken, &cut_off);
    if (is_interrupted()) {
        return EXIT_BAD;
    }
    judge(info);
    if (json) {
        print_json(info);
    } else {
        print_text(info);
    }
    free_chains(info->chains);
    g_free(info->broken);
    g_free(info->remarks);
    g_free(info->verdict);
    unmap_input(&info->file);
    return info->usable ? EXIT_GOOD : EXIT_BAD;
}

int info_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' },
        { "host", required_argument, NULL, 'H' },
        { "help", no_argument, NULL, 'h' },
        { }
    };
    Info info = { };
    bool json = false, usage;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        switch (c) {
        case 'j':
            json = true;
            break;
        case 'H':
            info.bdf = optarg;
            break;
        case 'h':
            return print_help();
        default:
            return wrong_option();
        }
    }
    if (argc - optind != 1) {
        return wrong_usage("info takes one file");
    }
    if (info.bdf) {
        g_autofree char *dir = find_card(info.bdf, &info.host, &usage);

        if (!dir) {
            return usage ? EXIT_USAGE : EXIT_BAD;
        }
    }
    return show(&info, argv[optind], json);
}
