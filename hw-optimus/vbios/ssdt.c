/*
 * optimus-vbios ssdt: _ROM as ACPI tables, for a QEMU that takes no plugin
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <stdio.h>

/*
 * QEMU's own tables and those of a ROM of up to this size have up to 128 KiB.
 * It puts the initrd for a kernel in ELF (PVH) 160 KiB below the end of low
 * memory, where SeaBIOS has put the tables: larger ones get lost.
 */
#define ROM_MAX_WITH_INITRD (112u * 1024)

#define COMMAND_LINE_MAX (16 * 1024 * 1024)

static char *out_dir, *at, *command_line;
static gboolean with_battery;

static const GOptionEntry options[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &out_dir,
      "The new directory for the tables; needed", "DIR" },
    { "at", 0, 0, G_OPTION_ARG_FILENAME, &at, "Where the card is in the guest, "
      "as 01.0, or 1c.0/00.0 behind a root port at 1c.0", "PLACE" },
    { "for", 0, 0, G_OPTION_ARG_FILENAME, &command_line,
      "A file with QEMU's command line, as virsh domxml-to-native or qm "
      "showcmd prints it, or - for the standard input", "FILE" },
    { "battery", 0, 0, G_OPTION_ARG_NONE, &with_battery,
      "A battery too, for Windows drivers that look for one", NULL },
    { }
};

typedef struct Ssdt {
    InputFile rom;
    Chain chain;
    const char *file;           /* that with the command line, or NULL */
    const char *place;
    char *scope;                /* the ACPI path of @place */
    char *host;                 /* the host's card, or NULL if unknown */
    Guest *guest;               /* or NULL */
    const GuestCard *card;      /* of @guest */
    GuestFiles files;
} Ssdt;

/* The host's card */

static bool read_name(const char *host, PCIName *name)
{
    g_autofree char *dir = g_build_filename(PCI_SYSFS, host, NULL);

    return read_pci_id(dir, "vendor", &name->vendor) &&
           read_pci_id(dir, "device", &name->device);
}

static bool is_card(const Ssdt *s, const char *host)
{
    PCIName name;

    return read_name(host, &name) &&
           chain_is_for(&s->chain, s->rom.data, name);
}

/* The only card of this machine that the VBIOS is for, to be freed, or NULL */
static char *find_host(const Ssdt *s)
{
    g_autoptr(GDir) listing = g_dir_open(PCI_SYSFS, 0, NULL);
    g_autofree char *found = NULL;
    const char *name;

    while (listing && (name = g_dir_read_name(listing))) {
        if (is_card(s, name)) {
            if (found) {
                return NULL;
            }
            found = g_strdup(name);
        }
    }
    return g_steal_pointer(&found);
}

/* The guest's card */

static char *read_input(void)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];
    size_t n;

    while ((n = fread(buffer, 1, sizeof(buffer), stdin)) &&
           text->len < COMMAND_LINE_MAX) {
        g_string_append_len(text, buffer, n);
    }
    return g_string_free(text, false);
}

static bool read_guest(Ssdt *s, GError **error)
{
    const bool is_stdin = g_str_equal(s->file, "-");
    const char *path = is_stdin ? "the standard input" : s->file;
    g_autofree char *text = NULL;
    InputFile file;

    if (is_stdin) {
        text = read_input();
    } else if (map_input(&file, path, error)) {
        text = g_strndup((const char *)file.data, file.size);
        unmap_input(&file);
    } else {
        return false;
    }
    s->guest = parse_command_line(text, path, error);
    if (s->guest && !s->guest->cards->len) {
        return fail(error, "'%s' has no -device vfio-pci,host=...: give QEMU's "
                    "command line, as virsh domxml-to-native qemu-argv "
                    "--domain NAME or qm showcmd VMID prints it, with the card "
                    "assigned; or name its place with --at", path);
    }
    return s->guest;
}

/* Of the guest's cards the one that the VBIOS is for */
static bool choose_card(Ssdt *s, GError **error)
{
    const GPtrArray *cards = s->guest->cards;
    g_autoptr(GString) all = g_string_new(NULL);
    unsigned int found = 0;

    for (unsigned int i = 0; i < cards->len; i++) {
        const GuestCard *card = g_ptr_array_index(cards, i);

        g_string_append_printf(all, "%s%s at %s", i ? ", " : "",
                               card->host ?: card->id, card->place ?: "?");
        if (cards->len == 1 || (card->host && is_card(s, card->host))) {
            s->card = card;
            found++;
        }
    }
    if (found != 1) {
        return fail(error, "'%s' has several devices of the host (%s), and "
                    "which one '%s' is for cannot be told here: name its place "
                    "with --at", s->file, all->str, s->rom.path);
    }
    if (!s->card->place) {
        return fail(error, "'%s' does not tell where the card is: %s", s->file,
                    s->card->why);
    }
    s->place = s->card->place;
    s->scope = place_to_acpi(s->place);
    s->host = g_strdup(s->card->host);
    return true;
}

/* What to do with them */

static void print_arguments(const Ssdt *s)
{
    g_autoptr(GPtrArray) names = guest_file_names(&s->files);
    g_autofree char *dir = g_build_filename(PCI_SYSFS, s->host ?: "none", NULL);
    PCIName ids;
    const bool is_set = s->card && s->card->has_ids;
    const bool known = read_subsystem(dir, &ids);

    printf("'%s' has the tables that give the device at %s in the guest, "
           "%s, a _ROM of %zu bytes\n\nQEMU: add\n\n   ", s->files.out,
           s->place, s->scope, s->rom.size);
    for (unsigned int i = 0; i < names->len; i++) {
        printf(" -acpitable file=%s/%s", s->files.out,
               (char *)g_ptr_array_index(names, i));
    }
    printf("\n");
    if (known && !is_set) {
        printf("\nand to the card's -device vfio-pci\n\n    "
               ",x-pci-sub-vendor-id=0x%04x,x-pci-sub-device-id=0x%04x\n",
               ids.vendor, ids.device);
    }
    printf("\nFor a guest of libvirt's or Proxmox' optimus-attach does all of "
           "it.\n");
    if (s->rom.size > ROM_MAX_WITH_INITRD) {
        printf("\nA ROM of more than %u bytes does not go with SeaBIOS and an "
               "initrd for an\nuncompressed kernel (-initrd, and vmlinux for "
               "-kernel): take a bzImage then.\n", ROM_MAX_WITH_INITRD);
    }
    if (!known && !is_set) {
        printf("\nThe card's subsystem IDs are not known here.  If the guest "
               "shows 0000 or 1af4:1100\nfor them, set x-pci-sub-vendor-id and "
               "x-pci-sub-device-id of its vfio-pci.\n");
    }
}

/* The command */

/* Is it of use to the card?  What speaks against it is said, too. */
static bool judge(const Ssdt *s, GError **error)
{
    PCIName card = { };
    Chain chain;

    if (s->host) {
        read_name(s->host, &card);
    }
    if (!accept_rom(s->rom.data, s->rom.size, card, &chain, error)) {
        g_prefix_error(error, "'%s' is of no use: ", s->rom.path);
        return false;
    }
    chain_free(&chain);
    return true;
}

static bool make(Ssdt *s, GError **error)
{
    g_autofree char *why = NULL;

    if (!chain_at(s->rom.data, s->rom.size, 0, &s->chain, &why)) {
        return fail(error, "'%s' is no video BIOS: %s; see optimus-vbios info",
                    s->rom.path, why);
    }
    if (s->file && (!read_guest(s, error) || !choose_card(s, error))) {
        return false;
    }
    if (!s->file) {
        s->host = find_host(s);
    }
    s->files.scope = s->scope;
    if (!judge(s, error) || !check_guest_files(&s->files, error) ||
        !write_guest_files(&s->files, error)) {
        return false;
    }
    print_arguments(s);
    return true;
}

static bool run(char **arguments, GError **error)
{
    g_autofree char *out = NULL;
    Ssdt s = { .place = at, .file = command_line };
    bool good;

    if (!out_dir || !at == !command_line) {
        return fail_usage(error, "ssdt takes -o DIR, and either --at PLACE or "
                          "--for FILE");
    }
    if (at) {
        s.scope = place_to_acpi(at);
        if (!s.scope) {
            return fail_usage(error, "'%s' is no place in a guest: give slot "
                              "and function as QEMU's addr= does, 01.0, or "
                              "1c.0/00.0 behind a bridge at 1c.0", at);
        }
    }
    if (!map_input(&s.rom, *arguments, error)) {
        g_free(s.scope);
        return false;
    }
    out = g_canonicalize_filename(out_dir, NULL);
    s.files = (GuestFiles) {
        .rom = &s.rom,
        .out = out,
        .battery = with_battery,
    };
    catch_signals();
    good = make(&s, error);
    if (s.chain.images) {
        chain_free(&s.chain);
    }
    free_guest(s.guest);
    g_free(s.scope);
    g_free(s.host);
    unmap_input(&s.rom);
    return good;
}

const Command ssdt_command = {
    "ssdt", "VBIOS -o DIR (--at PLACE | --for FILE)", "for a QEMU that takes "
    "no plugin: write ACPI tables that give the card its\n         _ROM into a "
    "new directory, and say how QEMU gets them", 1, options, run
};
