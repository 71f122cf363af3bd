/*
 * optimus-vbios info: what a file is, and whether it is usable as romfile
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <stdio.h>

/* In the header of an EFI image. */
#define EFI_MACHINE     0x0a
#define EFI_COMPRESSION 0x0c

#define INDENT    "          "
#define WIDTH 79

static gboolean json;
static char *host;

static const GOptionEntry options[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print the facts for programs",
      NULL },
    { "host", 0, 0, G_OPTION_ARG_FILENAME, &host,
      "Say whether it is usable for a card of this machine, as 01:00.0",
      "BDF" },
    { }
};

/* Facts, which both printers print in their order. */

typedef enum FactKind {
    FACT_STRING,
    FACT_NUMBER,
    FACT_FLAG,                  /* "true" or "false" */
    FACT_LIST,                  /* of words */
} FactKind;

typedef struct Fact {
    const char *name;           /* "device_list"; the text has blanks in it */
    FactKind kind;
    char *value;
} Fact;

static void clear_fact(void *fact)
{
    g_free(((Fact *)fact)->value);
}

static GArray *new_facts(void)
{
    GArray *facts = g_array_new(false, false, sizeof(Fact));

    g_array_set_clear_func(facts, clear_fact);
    return facts;
}

/* Takes @value; a NULL is no fact. */
static void add(GArray *facts, const char *name, FactKind kind, char *value)
{
    Fact fact = { name, kind, value };

    if (value) {
        g_array_append_val(facts, fact);
    }
}

static void add_number(GArray *facts, const char *name, size_t value)
{
    add(facts, name, FACT_NUMBER, g_strdup_printf("%zu", value));
}

static void add_flag(GArray *facts, const char *name, bool value)
{
    add(facts, name, FACT_FLAG, g_strdup(value ? "true" : "false"));
}

static char *hex(unsigned int value, int digits)
{
    return g_strdup_printf("%0*x", digits, value);
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

static char *device_list(const uint8_t *rom, const OptimusImage *image)
{
    GString *text = g_string_new(NULL);
    size_t count;
    size_t list = optimus_image_device_list(rom, image, &count);

    for (size_t i = 0; i < count; i++) {
        g_string_append_printf(text, "%s%04x", i ? " " : "",
                               optimus_le16(rom + list + 2 * i));
    }
    return g_string_free(text, false);
}

/* What tells the image from others stands before the facts in the text. */
static GArray *image_facts(const uint8_t *rom, const OptimusImage *image)
{
    const uint8_t *header = rom + image->offset;
    GArray *facts = new_facts();
    PCIName sub;

    add(facts, "class", FACT_STRING, hex(image->class_code, 6));
    add(facts, "device_list", FACT_LIST, device_list(rom, image));
    add_number(facts, "pcir_revision", image->pcir_revision);
    if (image->npde) {
        add(facts, "npde_revision", FACT_STRING,
            g_strdup_printf("%x.%x", image->npde_revision >> 8,
                            image->npde_revision & 0xff));
        /* which is all that others look at */
        add_number(facts, "pcir_length", image->pcir_length);
        add_flag(facts, "pcir_last", image->pcir_last);
    }
    add_flag(facts, "last", image->last);
    if (optimus_image_has_sum(image)) {
        add_flag(facts, "checksum_right", !has_bad_checksum(rom, image));
    }
    if (image->code_type == OPTIMUS_CODE_EFI) {
        unsigned int machine = optimus_le16(header + EFI_MACHINE);

        add(facts, "efi_machine", FACT_STRING, g_strdup(efi_machine(machine)));
        add_number(facts, "efi_machine_type", machine);
        add_flag(facts, "efi_compressed",
                 optimus_le16(header + EFI_COMPRESSION));
    }
    add(facts, "version", FACT_STRING, image_version(rom, image));
    add(facts, "board", FACT_STRING, image_board(rom, image));
    add(facts, "date", FACT_STRING, image_date(rom, image));
    if (image_subsystem(rom, image, &sub)) {
        add(facts, "subsystem", FACT_STRING,
            g_strdup_printf("%04x:%04x", sub.vendor, sub.device));
    }
    return facts;
}

/* What precedes the first chain, and what follows the last one */

static size_t leading(const Judgement *j)
{
    return j->chains->len ? chain_of(j->chains, 0)->offset : 0;
}

static size_t trailing(const Judgement *j, const InputFile *file)
{
    unsigned int count = j->chains->len;

    return count ? file->size - chain_end(chain_of(j->chains, count - 1)) : 0;
}

/* Where the ROM directory is that an NVGI header has, or 0. */
static size_t find_rfrd(const Judgement *j, const InputFile *file)
{
    const uint8_t *rfrd = starts_with_nvgi(file) ?
        memmem(file->data, leading(j), "RFRD", 4) : NULL;

    return rfrd ? rfrd - file->data : 0;
}

static char *sha256(const InputFile *file)
{
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, file->data,
                                       file->size);
}

/* Text */

/* "last", "not last", "device list 1392 1c8d" */
static char *fact_text(const Fact *fact)
{
    g_autofree char *name = g_strdelimit(g_strdup(fact->name), "_", ' ');

    if (fact->kind == FACT_FLAG) {
        return g_strdup_printf("%s%s", *fact->value == 't' ? "" : "not ", name);
    }
    return g_strdup_printf("%s %s", name, fact->value);
}

/* As many in a line as there is room for */
static void print_facts(const GArray *facts)
{
    size_t column = WIDTH;

    for (unsigned int i = 0; i < facts->len; i++) {
        const Fact *fact = &g_array_index(facts, Fact, i);
        g_autofree char *text = fact_text(fact);

        if (!*fact->value) {
            continue;
        }
        if (column + strlen(text) + 2 > WIDTH) {
            printf("%s" INDENT "%s", i ? ",\n" : "", text);
            column = strlen(INDENT) + strlen(text);
        } else {
            printf(", %s", text);
            column += strlen(text) + 2;
        }
    }
    printf("\n");
}

static void print_image(const uint8_t *rom, const OptimusImage *image)
{
    g_autoptr(GArray) facts = image_facts(rom, image);
    g_autofree char *card = image_card(image);

    printf("0x%06zx  %zu bytes: %s (type %02x), %s\n", image->offset,
           image->length, image_type(image), image->code_type, card);
    print_facts(facts);
}

static void print_rest(const InputFile *file, size_t offset, size_t end)
{
    if (end > offset) {
        printf("0x%06zx  %zu bytes: %s\n", offset, end - offset,
               optimus_is_fill(file->data + offset, end - offset) ?
               "padding" : "other data");
    }
}

static void print_chains(const Judgement *j, const InputFile *file)
{
    size_t at = starts_with_nvgi(file) ? leading(j) : 0;

    for (unsigned int i = 0; i < j->chains->len; i++) {
        const Chain *chain = chain_of(j->chains, i);

        print_rest(file, at, chain->offset);
        if (i) {
            printf(INDENT "%s\n", chain->again ? "the same chain again:" :
                   "another chain of images:");
        }
        for (unsigned int k = 0; k < chain->images->len; k++) {
            print_image(file->data, chain_image(chain, k));
        }
        at = chain_end(chain);
    }
    print_rest(file, at, at + trailing(j, file));
}

static void print_text(const Judgement *j, const InputFile *file)
{
    g_autofree char *hash = sha256(file);
    size_t rfrd = find_rfrd(j, file);

    say("%s: %zu bytes", file->path, file->size);
    printf("sha256    %s\n", hash);
    if (starts_with_nvgi(file)) {
        printf("0x000000  NVGI header\n");
    }
    if (rfrd) {
        printf("0x%06zx  RFRD directory\n", rfrd);
    }
    print_chains(j, file);
    say("%s", j->sentence);
}

/* JSON */

static void json_string(const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);

    putchar('"');
    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (c == '"' || c == '\\') {
            printf("\\%c", *p);
        } else if (c >= 0x10000 || is_printable(c)) {
            printf("%.*s", (int)(g_utf8_next_char(p) - p), p);
        } else {
            printf("\\u%04x", c);
        }
    }
    putchar('"');
}

static void json_value(const Fact *fact)
{
    g_auto(GStrv) words = NULL;

    if (fact->kind == FACT_STRING) {
        json_string(fact->value);
    } else if (fact->kind != FACT_LIST) {
        printf("%s", fact->value);
    } else {
        words = g_strsplit(fact->value, " ", -1);
        printf("[");
        for (char **word = words; *word; word++) {
            printf("%s\"%s\"", word == words ? "" : ", ", *word);
        }
        printf("]");
    }
}

/* The members of an object, without its braces */
static void json_facts(const GArray *facts)
{
    for (unsigned int i = 0; i < facts->len; i++) {
        const Fact *fact = &g_array_index(facts, Fact, i);

        printf("%s\"%s\": ", i ? ", " : "", fact->name);
        json_value(fact);
    }
}

static void json_image(const uint8_t *rom, const OptimusImage *image)
{
    g_autoptr(GArray) who = new_facts();
    g_autoptr(GArray) facts = image_facts(rom, image);

    add_number(who, "offset", image->offset);
    add_number(who, "length", image->length);
    add(who, "type", FACT_STRING, g_strdup(image_type(image)));
    add_number(who, "code_type", image->code_type);
    add(who, "vendor_name", FACT_STRING,
        g_strdup(optimus_vendor_name(image->vendor)));
    add(who, "vendor", FACT_STRING, hex(image->vendor, 4));
    add(who, "device", FACT_STRING, hex(image->device, 4));
    printf("{");
    json_facts(who);
    printf(", ");
    json_facts(facts);
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

static void print_json(const Judgement *j, const InputFile *file)
{
    g_autoptr(GArray) facts = new_facts();
    size_t rest = trailing(j, file);

    add(facts, "file", FACT_STRING, g_strdup(file->path));
    add_number(facts, "size", file->size);
    add(facts, "sha256", FACT_STRING, sha256(file));
    add_flag(facts, "nvgi", starts_with_nvgi(file));
    if (find_rfrd(j, file)) {
        add_number(facts, "rfrd", find_rfrd(j, file));
    }
    add_number(facts, "leading", leading(j));
    add_number(facts, "trailing", rest);
    add_flag(facts, "trailing_padding",
             rest && optimus_is_fill(file->data + file->size - rest, rest));
    add(facts, "broken", FACT_STRING, g_strdup(j->broken));
    if (j->chains->len) {
        add_flag(facts, "nouveau", j->verdict != OPTIMUS_USELESS);
        add_flag(facts, "nvidia", j->verdict == OPTIMUS_TAKEN);
    }
    add(facts, "remarks", FACT_STRING, g_strdup(j->remarks));
    add_flag(facts, "usable", j->usable);
    add(facts, "verdict", FACT_STRING, g_strdup(j->sentence));

    printf("{");
    json_facts(facts);
    printf(", \"images\": ");
    if (j->chains->len) {
        json_chain(file->data, chain_of(j->chains, 0));
    } else {
        printf("[]");
    }
    printf(", \"further_chains\": [");
    for (unsigned int i = 1; i < j->chains->len; i++) {
        printf("%s", i > 1 ? ", " : "");
        json_chain(file->data, chain_of(j->chains, i));
    }
    printf("]}\n");
}

static bool run(char **files, GError **error)
{
    g_autofree char *dir = NULL;
    PCIName card = { };
    InputFile file;
    Judgement j;
    bool usable;

    if (host) {
        dir = find_card(host, &card, error);
    }
    if ((host && !dir) || !map_input(&file, *files, error)) {
        return false;
    }
    catch_signals();
    j = judge_romfile(&file, host, card);
    usable = j.usable && check_signal(error);
    if (!is_interrupted()) {
        (json ? print_json : print_text)(&j, &file);
    }
    judgement_clear(&j);
    unmap_input(&file);
    return usable;
}

const Command info_command = {
    "info", "FILE", "say what FILE is, and whether it is usable as romfile", 1,
    options, run
};
