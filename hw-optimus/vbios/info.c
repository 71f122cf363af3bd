/*
 * optimus-vbios info: what a file is, and whether it is usable as romfile
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <getopt.h>
#include <stdio.h>

#define CLASS_DISPLAY 0x03

/* The device has room for no more; see optimus-window.h. */
#define ROMFILE_MAX   (0xfeffb000u - 0xfef00000u - 0x1000u)

#define PCIR_REVISION 0x0c      /* from the start of PCIR */
#define NPDE_REVISION 0x04      /* from the start of NPDE: 0x0101 is 1.1 */

/* In the header of an EFI image. */
#define EFI_MACHINE     0x0a
#define EFI_COMPRESSION 0x0c

typedef struct Info {
    InputFile file;
    bool found;                 /* whether there is a chain */
    Chain chain;
    char *broken;               /* why there is none at offset 0 */
    bool on_host;
    PCIName host;
    const char *bdf;
    bool usable;
    char *verdict;
} Info;

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

static size_t leading(const Info *info)
{
    return info->found ? info->chain.offset : 0;
}

static size_t trailing(const Info *info)
{
    return info->found ?
        info->file.size - info->chain.offset - info->chain.length : 0;
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

static char *remarks(const Info *info)
{
    GString *text = g_string_new(NULL);

    for (unsigned int i = 0; i < info->chain.images->len; i++) {
        const OptimusImage *image = chain_image(&info->chain, i);

        if (has_bad_checksum(info->file.data, image)) {
            g_string_append_printf(text, "; but the checksum of the image at "
                "offset 0x%zx is wrong, which nouveau's fast path does not "
                "take (optimus-vbios trim --fix-checksum mends it, if the file "
                "is right otherwise)", image->offset);
        }
    }
    if (trailing(info)) {
        g_string_append_printf(text, "; the %zu bytes behind the images do no "
                               "harm", trailing(info));
    }
    return g_string_free(text, false);
}

static bool has_x86(const Info *info)
{
    for (unsigned int i = 0; i < info->chain.images->len; i++) {
        if (chain_image(&info->chain, i)->code_type == OPTIMUS_CODE_X86) {
            return true;
        }
    }
    return false;
}

static bool is_broken_rom(const Info *info)
{
    return info->file.size >= 2 && info->file.data[0] == 0x55 &&
           info->file.data[1] == 0xaa;
}

static char *find_fault(const Info *info)
{
    const OptimusImage *first;

    if (is_broken_rom(info) && info->broken) {
        return g_strdup_printf("the ROM is broken: %s; get it again%s",
            info->broken, info->found ? ", or see with optimus-vbios extract "
            "what further in is whole" : "");
    }
    if (!info->found) {
        return g_strdup_printf("%s, and none starts further in; if it is a "
            "firmware update, try optimus-vbios extract", info->broken);
    }
    first = chain_image(&info->chain, 0);
    if (first->class_code >> 16 != CLASS_DISPLAY) {
        return g_strdup_printf("it is for devices of class %06x, and display "
            "controllers have 03xxxx: get the one of the graphics card",
            first->class_code);
    }
    if (!has_x86(info)) {
        return g_strdup("no image is of the type x86, which is the video BIOS: "
                        "get a file that has it");
    }
    if (info->on_host &&
        !chain_is_for(&info->chain, info->file.data, info->host)) {
        return g_strdup_printf("it is for %04x:%04x, and the card at %s is "
            "%04x:%04x: get the one of that card", first->vendor,
            first->device, info->bdf, info->host.vendor, info->host.device);
    }
    if (info->chain.length > ROMFILE_MAX) {
        return g_strdup_printf("the images have %zu bytes, and the device has "
            "room for %u", info->chain.length, ROMFILE_MAX);
    }
    if (info->chain.offset) {
        return g_strdup_printf("the images start at offset 0x%zx%s: cut them "
            "out with optimus-vbios trim", info->chain.offset,
            starts_with_nvgi(info) ? ", behind an NVGI header" : "");
    }
    if (info->file.size > ROMFILE_MAX) {
        return g_strdup_printf("the file has %zu bytes, and the device has "
            "room for %u: cut off what follows the images with "
            "optimus-vbios trim", info->file.size, ROMFILE_MAX);
    }
    return NULL;
}

static void judge(Info *info)
{
    g_autofree char *fault = find_fault(info);
    g_autofree char *more = NULL;

    info->usable = !fault;
    if (fault) {
        info->verdict = g_strdup_printf("not usable as romfile: %s", fault);
        return;
    }
    more = remarks(info);
    info->verdict = g_strdup_printf("usable as romfile%s%s%s",
        info->on_host ? " for the card at " : "",
        info->on_host ? info->bdf : "", more);
}

/* Text */

static void print_image(const uint8_t *rom, const OptimusImage *image)
{
    const uint8_t *header = rom + image->offset;
    g_autofree char *version = image_version(rom, image);
    size_t count;
    size_t list = optimus_image_device_list(rom, image, &count);

    printf("0x%06zx  %zu bytes: %s (type %02x), %04x:%04x, class %06x\n",
           image->offset, image->length, image_type(image), image->code_type,
           image->vendor, image->device, image->class_code);
    if (count) {
        printf("          device list:");
        for (size_t i = 0; i < count; i++) {
            printf(" %04x", lduw_le_p(rom + list + 2 * i));
        }
        printf("\n");
    }
    printf("          PCIR revision %u", rom[image->pcir + PCIR_REVISION]);
    if (image->npde) {
        const uint8_t *revision = rom + image->npde + NPDE_REVISION;

        printf(", NPDE revision %x.%x", revision[1], revision[0]);
    }
    if (image->code_type == OPTIMUS_CODE_X86) {
        printf(", checksum %s",
               has_bad_checksum(rom, image) ? "wrong" : "right");
    }
    if (image->code_type == CODE_EFI) {
        unsigned int machine = lduw_le_p(header + EFI_MACHINE);

        printf(", EFI machine %s (%04x), %scompressed", efi_machine(machine),
               machine, lduw_le_p(header + EFI_COMPRESSION) ? "" : "not ");
    }
    printf("%s\n", image->last ? ", last" : "");
    if (version) {
        printf("          version %s\n", version);
    }
}

static void print_rest(const Info *info, size_t offset, size_t size)
{
    if (size) {
        printf("0x%06zx  %zu bytes: %s\n", offset, size,
               is_fill(info->file.data + offset, size) ? "padding" :
               "other data");
    }
}

static void print_text(const Info *info)
{
    size_t rfrd = find_rfrd(info);

    printf("%s: %zu bytes\n", info->file.path, info->file.size);
    if (starts_with_nvgi(info)) {
        printf("0x000000  NVGI header\n");
    }
    if (rfrd) {
        printf("0x%06zx  RFRD directory\n", rfrd);
    }
    if (info->found) {
        if (!starts_with_nvgi(info)) {
            print_rest(info, 0, leading(info));
        }
        for (unsigned int i = 0; i < info->chain.images->len; i++) {
            print_image(info->file.data, chain_image(&info->chain, i));
        }
        print_rest(info, info->chain.offset + info->chain.length,
                   trailing(info));
    }
    printf("%s\n", info->verdict);
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

static void json_image(const uint8_t *rom, const OptimusImage *image)
{
    const uint8_t *header = rom + image->offset;
    g_autofree char *version = image_version(rom, image);
    size_t count;
    size_t list = optimus_image_device_list(rom, image, &count);

    printf("{\"offset\": %zu, \"length\": %zu, \"type\": \"%s\", "
           "\"code_type\": %u, \"vendor\": \"%04x\", \"device\": \"%04x\", "
           "\"device_list\": [", image->offset, image->length,
           image_type(image), image->code_type, image->vendor, image->device);
    for (size_t i = 0; i < count; i++) {
        printf("%s\"%04x\"", i ? ", " : "", lduw_le_p(rom + list + 2 * i));
    }
    printf("], \"class\": \"%06x\", \"pcir_revision\": %u, \"last\": %s",
           image->class_code, rom[image->pcir + PCIR_REVISION],
           json_bool(image->last));
    if (image->npde) {
        const uint8_t *revision = rom + image->npde + NPDE_REVISION;

        printf(", \"npde_revision\": \"%x.%x\"", revision[1], revision[0]);
    }
    if (image->code_type == OPTIMUS_CODE_X86) {
        printf(", \"checksum_right\": %s",
               json_bool(!has_bad_checksum(rom, image)));
    }
    if (image->code_type == CODE_EFI) {
        unsigned int machine = lduw_le_p(header + EFI_MACHINE);

        printf(", \"efi_machine\": \"%s\", \"efi_machine_type\": %u, "
               "\"efi_compressed\": %s", efi_machine(machine), machine,
               json_bool(lduw_le_p(header + EFI_COMPRESSION)));
    }
    if (version) {
        printf(", ");
        json_string("version", version);
    }
    printf("}");
}

static void print_json(const Info *info)
{
    const uint8_t *rom = info->file.data;

    printf("{");
    json_string("file", info->file.path);
    printf(", \"size\": %zu, \"nvgi\": %s", info->file.size,
           json_bool(starts_with_nvgi(info)));
    if (find_rfrd(info)) {
        printf(", \"rfrd\": %zu", find_rfrd(info));
    }
    printf(", \"leading\": %zu, \"images\": [", leading(info));
    for (unsigned int i = 0; info->found && i < info->chain.images->len; i++) {
        printf("%s", i ? ", " : "");
        json_image(rom, chain_image(&info->chain, i));
    }
    printf("], \"trailing\": %zu, \"trailing_padding\": %s, ", trailing(info),
           json_bool(is_fill(rom + info->file.size - trailing(info),
                             trailing(info))));
    if (info->broken) {
        json_string("broken", info->broken);
        printf(", ");
    }
    printf("\"usable\": %s, ", json_bool(info->usable));
    json_string("verdict", info->verdict);
    printf("}\n");
}

/* The first chain, wherever it is. */
static void look_for_chain(Info *info)
{
    ChainScan scan;

    if (chain_at(info->file.data, info->file.size, 0, &info->chain,
                 &info->broken)) {
        info->found = true;
        return;
    }
    scan_start(&scan, info->file.data, info->file.size, true);
    info->found = scan_next(&scan, &info->chain);
    scan_end(&scan);
    end_progress();
}

static int show(Info *info, const char *path, bool json)
{
    if (!map_input(&info->file, path)) {
        return EXIT_BAD;
    }
    catch_signals();
    look_for_chain(info);
    if (is_interrupted()) {
        return EXIT_BAD;
    }
    judge(info);
    if (json) {
        print_json(info);
    } else {
        print_text(info);
    }
    if (info->found) {
        chain_free(&info->chain);
    }
    g_free(info->broken);
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
            return wrong_usage("info: the command line is wrong");
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
        info.on_host = true;
    }
    return show(&info, argv[optind], json);
}
