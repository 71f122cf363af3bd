/*
 * optimus-vbios ssdt: _ROM as ACPI tables, for a QEMU that takes no plugin
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMPILER "iasl"
#define BATTERY  "battery.aml"
#define PCI_SYSFS "/sys/bus/pci/devices"

static char *out_dir, *at, *guest_file;
static gboolean with_battery;

static const GOptionEntry options[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &out_dir,
      "The new directory for the tables; needed", "DIR" },
    { "at", 0, 0, G_OPTION_ARG_FILENAME, &at, "Where the card is in the guest, "
      "as 01.0, or 1c.0/00.0 behind a root port at 1c.0", "PLACE" },
    { "for", 0, 0, G_OPTION_ARG_FILENAME, &guest_file,
      "The guest: its libvirt XML or Proxmox configuration", "FILE" },
    { "battery", 0, 0, G_OPTION_ARG_NONE, &with_battery,
      "A battery too, for Windows drivers that look for one", NULL },
    { }
};

/* QEMU aborts when all ACPI tables together have more than 2 MiB. */
#define ROM_MAX 0x100000u

/*
 * QEMU's own tables and those of a ROM of up to this size have up to 128 KiB.
 * It puts the initrd for a kernel in ELF (PVH) 160 KiB below the end of low
 * memory, where SeaBIOS has put the tables: larger ones get lost.
 */
#define ROM_MAX_WITH_INITRD (112u * 1024)

typedef struct Ssdt {
    InputFile rom;
    Chain chain;
    char *out;                  /* absolute */
    const char *place;
    char *scope;                /* the ACPI path of @place */
    Guest *guest;               /* or NULL */
    const GuestCard *card;      /* of @guest */
    GPtrArray *tables;          /* their file names */
} Ssdt;

/* The host's card */

static bool is_card(const Ssdt *s, const char *host)
{
    g_autofree char *dir = g_build_filename(PCI_SYSFS, host, NULL);
    PCIName name = { };

    return read_pci_id(dir, "vendor", &name.vendor) &&
           read_pci_id(dir, "device", &name.device) &&
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

/* Of the guest's cards the one that the VBIOS is for */
static bool choose_card(Ssdt *s, GError **error)
{
    g_autoptr(GString) all = g_string_new(NULL);
    unsigned int found = 0;

    for (unsigned int i = 0; i < s->guest->cards->len; i++) {
        const GuestCard *card = g_ptr_array_index(s->guest->cards, i);

        g_string_append_printf(all, "%s%s at %s", i ? ", " : "",
                               card->host ?: card->name, card->place);
        if (s->guest->cards->len == 1 ||
            (card->host && is_card(s, card->host))) {
            s->card = card;
            found++;
        }
    }
    if (found != 1) {
        return fail(error, "'%s' has several devices of the host (%s), and "
                    "which one '%s' is for cannot be told here: name its place "
                    "with --at", s->guest->path, all->str, s->rom.path);
    }
    s->place = s->card->place;
    s->scope = place_to_acpi(s->place);
    return true;
}

/* Writing */

/* Whoever runs the guest is to read the table, whatever the umask is. */
static bool add_table(Ssdt *s, const char *dir, const char *name,
                      GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    if (chmod(path, 0644)) {
        return fail(error, "'%s' cannot be written: %s", path,
                    g_strerror(errno));
    }
    g_ptr_array_add(s->tables, g_strdup(name));
    return true;
}

/* The battery is installed in PREFIX/share/vfio-optimus. */
static bool copy_battery(Ssdt *s, const char *dir, GError **error)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *bin = g_path_get_dirname(program ?: "");
    g_autofree char *prefix = g_path_get_dirname(bin);
    g_autofree char *data = g_build_filename(prefix, "share/vfio-optimus", NULL);
    g_autofree char *path = g_build_filename(dir, BATTERY, NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(GByteArray) table = read_file(data, BATTERY, &why);

    if (!table) {
        return fail(error, "%s; run scripts/install, which makes it where "
                    COMPILER " is installed", why->message);
    }
    return write_output(path, true, table->data, table->len, error) &&
           add_table(s, dir, BATTERY, error);
}

/* Compile @asl into @name.aml in @dir. */
static bool compile(Ssdt *s, const char *dir, const char *name, const char *asl,
                    GError **error)
{
    g_autofree char *source = g_build_filename(dir, "source.asl", NULL);
    g_autofree char *aml = g_strconcat(name, ".aml", NULL);
    g_autoptr(GError) why = NULL;
    char *argv[] = { (char *)COMPILER, (char *)"-p", (char *)name,
                     (char *)"source.asl", NULL };

    if (!write_output(source, true, (const uint8_t *)asl, strlen(asl),
                      error)) {
        return false;
    }
    if (!run_tool(dir, argv, "compiling with " COMPILER, &why)) {
        return fail(error, "'%s' cannot be compiled by " COMPILER ": %s", aml,
                    why->message);
    }
    remove(source);
    return add_table(s, dir, aml, error);
}

static bool compile_all(Ssdt *s, const char *dir, GError **error)
{
    g_autofree char *method = method_table_asl(s->rom.size, s->scope);

    if (with_battery && !copy_battery(s, dir, error)) {
        return false;
    }
    for (unsigned int i = 0; i < rom_tables(s->rom.size); i++) {
        g_autofree char *asl = rom_table_asl(&s->rom, s->scope, i);
        g_autofree char *name = g_strdup_printf("rom-%02u", i);

        if (!compile(s, dir, name, asl, error)) {
            return false;
        }
    }
    return compile(s, dir, "rom-method", method, error);
}

/* Whether the tables in @dir are all that is in s->out. */
static bool is_there_already(const Ssdt *s, const char *dir)
{
    g_autoptr(GDir) listing = g_dir_open(s->out, 0, NULL);
    unsigned int files = 0;

    while (listing && g_dir_read_name(listing)) {
        files++;
    }
    for (unsigned int i = 0; i < s->tables->len; i++) {
        const char *name = g_ptr_array_index(s->tables, i);
        g_autoptr(GByteArray) old = read_file(s->out, name, NULL);
        g_autoptr(GByteArray) new = read_file(dir, name, NULL);

        if (!old || !new || old->len != new->len ||
            memcmp(old->data, new->data, new->len)) {
            return false;
        }
    }
    return files == s->tables->len;
}

/* All tables are there, or none. */
static bool write_tables(Ssdt *s, GError **error)
{
    char *dir = g_strconcat(s->out, ".XXXXXX", NULL);
    bool written;

    if (!g_mkdtemp_full(dir, 0755)) {
        fail(error, "'%s' cannot be written: %s", s->out, g_strerror(errno));
        g_free(dir);
        return false;
    }
    written = compile_all(s, dir, error);
    end_progress();
    if (written && !chmod(dir, 0755) && !rename(dir, s->out)) {
        g_free(dir);
        return true;
    }
    if (written && errno != ENOTEMPTY && errno != EEXIST) {
        written = fail(error, "'%s' cannot be written: %s", s->out,
                       g_strerror(errno));
    } else if (written && !is_there_already(s, dir)) {
        written = fail(error, "'%s' has other files in it than these tables, "
                       "perhaps those of another ROM or place: remove it, or "
                       "name another directory", s->out);
    }
    remove_tree(dir);
    return written;
}

/* What to do with them */

typedef struct SubsystemIDs {
    bool known;
    uint16_t vendor, device;
} SubsystemIDs;

/* What the host's kernel read when it booted; 0 and 0xffff are no IDs. */
static SubsystemIDs read_ids(const Ssdt *s)
{
    g_autofree char *found = s->card ? g_strdup(s->card->host) : find_host(s);
    g_autofree char *dir = g_build_filename(PCI_SYSFS, found ?: "none", NULL);
    SubsystemIDs ids;

    ids.known = read_pci_id(dir, "subsystem_vendor", &ids.vendor) &&
                read_pci_id(dir, "subsystem_device", &ids.device) &&
                ids.vendor && ids.vendor != 0xffff &&
                ids.device && ids.device != 0xffff;
    return ids;
}

/* "-acpitable file=... -acpitable file=..." */
static char *acpitables(const Ssdt *s)
{
    GString *text = g_string_new(NULL);

    for (unsigned int i = 0; i < s->tables->len; i++) {
        g_string_append_printf(text, "%s-acpitable file=%s/%s", i ? " " : "",
                               s->out,
                               (char *)g_ptr_array_index(s->tables, i));
    }
    return g_string_free(text, false);
}

static void print_qemu(const Ssdt *s, SubsystemIDs ids)
{
    g_autofree char *args = acpitables(s);

    printf("\nQEMU: add\n\n    %s\n", args);
    if (ids.known) {
        printf("\nand to the card's -device vfio-pci\n\n    "
               ",x-pci-sub-vendor-id=0x%04x,x-pci-sub-device-id=0x%04x\n",
               ids.vendor, ids.device);
    }
}

static void print_libvirt(const Ssdt *s, SubsystemIDs ids)
{
    printf("\nlibvirt: with xmlns:qemu='http://libvirt.org/schemas/domain/qemu/"
           "1.0' in <domain>, add to it\n\n"
           "    <qemu:commandline>\n");
    for (unsigned int i = 0; i < s->tables->len; i++) {
        printf("      <qemu:arg value='-acpitable'/>\n"
               "      <qemu:arg value='file=%s/%s'/>\n", s->out,
               (char *)g_ptr_array_index(s->tables, i));
    }
    printf("    </qemu:commandline>\n");
    if (ids.known) {
        printf("    <qemu:override>\n"
               "      <qemu:device alias='%s'>\n"
               "        <qemu:frontend>\n"
               "          <qemu:property name='x-pci-sub-vendor-id' "
               "type='unsigned' value='%u'/>\n"
               "          <qemu:property name='x-pci-sub-device-id' "
               "type='unsigned' value='%u'/>\n"
               "        </qemu:frontend>\n"
               "      </qemu:device>\n"
               "    </qemu:override>\n",
               s->card ? s->card->name : "hostdev0", ids.vendor, ids.device);
    }
}

/* The number of the guest, from "/etc/pve/qemu-server/100.conf" */
static char *vm_id(const Ssdt *s)
{
    g_autofree char *name = g_path_get_basename(s->guest ? s->guest->path : "");

    name[strspn(name, "0123456789")] = 0;
    return *name ? g_steal_pointer(&name) : g_strdup("VMID");
}

/* The arguments that Proxmox' guest has, but for those of former tables */
static char *other_args(const Ssdt *s)
{
    g_autofree char *dir = g_regex_escape_string(s->out, -1);
    g_autofree char *pattern = g_strdup_printf(
        " *-acpitable file=%s/\\S+", dir);
    g_autoptr(GRegex) former = g_regex_new(pattern, 0, 0, NULL);
    const char *args = s->guest && s->guest->args ? s->guest->args : "";

    return g_strstrip(g_regex_replace_literal(former, args, -1, 0, "", 0,
                                              NULL));
}

static void print_proxmox(const Ssdt *s, SubsystemIDs ids)
{
    g_autofree char *tables = acpitables(s);
    g_autofree char *vm = vm_id(s);
    g_autofree char *other = other_args(s);
    g_autofree char *args = g_strdup_printf("%s%s%s", other, *other ? " " : "",
                                            tables);
    g_autofree char *quoted = g_shell_quote(args);

    printf("\nProxmox: on the host%s\n\n    qm set %s --args %s\n",
           s->guest ? "" : ", with the arguments that the guest has already, if "
           "any,", vm, quoted);
    if (ids.known) {
        printf("    qm set %s --%s %s,sub-vendor-id=0x%04x,"
               "sub-device-id=0x%04x\n", vm,
               s->card ? s->card->name : "hostpciN",
               s->card ? s->card->options : "...", ids.vendor, ids.device);
    }
}

static void print_arguments(const Ssdt *s)
{
    SubsystemIDs ids = read_ids(s);

    printf("'%s' has the tables that give the device at %s in the guest, "
           "%s, a _ROM of %zu bytes\n", s->out, s->place, s->scope,
           s->rom.size);
    if (!s->guest) {
        print_qemu(s, ids);
    }
    if (!s->guest || s->guest->is_libvirt) {
        print_libvirt(s, ids);
    }
    if (!s->guest || !s->guest->is_libvirt) {
        print_proxmox(s, ids);
    }
    if (s->rom.size > ROM_MAX_WITH_INITRD) {
        printf("\nA ROM of more than %u bytes does not go with SeaBIOS and an "
               "initrd for an\nuncompressed kernel (-initrd, and vmlinux for "
               "-kernel): take a bzImage then.\n", ROM_MAX_WITH_INITRD);
    }
    if (!ids.known) {
        printf("\nThe card's subsystem IDs are not known here.  If the guest "
               "shows 0000 or 1af4:1100\nfor them, set x-pci-sub-vendor-id and "
               "x-pci-sub-device-id of its vfio-pci.\n");
    }
}

/* The command */

/* QEMU, shells, XML and Proxmox each take other characters for theirs. */
static bool is_plain(const char *path)
{
    for (; *path; path++) {
        if (!g_ascii_isalnum(*path) && !strchr("/._-+@", *path)) {
            return false;
        }
    }
    return true;
}

static bool check(Ssdt *s, GError **error)
{
    g_autofree char *compiler = g_find_program_in_path(COMPILER);
    g_autofree char *why = NULL;

    if (!is_plain(s->out)) {
        return fail(error, "'%s' would have to be quoted in arguments: name a "
                    "directory of letters, digits and ._-+@ only", s->out);
    }
    if (s->rom.size > ROM_MAX) {
        return fail(error, "'%s' has %zu bytes, and the ACPI tables of QEMU "
                    "have room for %u: see with optimus-vbios info what it is",
                    s->rom.path, s->rom.size, ROM_MAX);
    }
    if (!chain_at(s->rom.data, s->rom.size, 0, &s->chain, &why)) {
        return fail(error, "'%s' is no video BIOS: %s; see optimus-vbios info",
                    s->rom.path, why);
    }
    return compiler ||
           fail(error, "there is no " COMPILER " here, which compiles the "
                "tables: install acpica-tools (Arch and openSUSE: acpica)");
}

static bool make(Ssdt *s, GError **error)
{
    if (guest_file) {
        s->guest = read_guest(guest_file, error);
    }
    if ((guest_file && !s->guest) || !check(s, error) ||
        (s->guest && !choose_card(s, error)) || !write_tables(s, error)) {
        return false;
    }
    print_arguments(s);
    return true;
}

static bool run(char **files, GError **error)
{
    Ssdt s = { .place = at };
    bool good;

    if (!out_dir || !at == !guest_file) {
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
    if (!map_input(&s.rom, *files, error)) {
        g_free(s.scope);
        return false;
    }
    s.out = g_canonicalize_filename(out_dir, NULL);
    s.tables = g_ptr_array_new_with_free_func(g_free);
    catch_signals();
    good = make(&s, error);
    if (s.chain.images) {
        chain_free(&s.chain);
    }
    g_ptr_array_unref(s.tables);
    free_guest(s.guest);
    g_free(s.scope);
    g_free(s.out);
    unmap_input(&s.rom);
    return good;
}

const Command ssdt_command = {
    "ssdt", "VBIOS -o DIR (--at PLACE | --for FILE)", "for a QEMU that takes no plugin: write ACPI tables that "
    "give the card its\n         _ROM into a new directory, and say how QEMU "
    "gets them", 1, options, run
};
