/*
 * optimus-attach: the command line, the card, and the files for the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "attach.h"
#include "../core/version.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM "optimus-attach"

const char *const program = PROGRAM;

/* Where libvirt's profile for AppArmor lets guests read, and SELinux, too */
#define FILES "/usr/share/vgabios"

/* A start of QEMU without a machine takes some hundredths of a second. */
#define TRIAL_SECONDS 20

#define QMP_QUIT "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}"

static Attach the;
static gboolean battery, help, version;
static char **words;

static const GOptionEntry entries[] = {
    { "undo", 0, 0, G_OPTION_ARG_NONE, &the.undo,
      "Take away what this program has given to GUEST", NULL },
    { "function", 0, 0, G_OPTION_ARG_NONE, &the.function,
      "Give the other functions of the card (its audio), too", NULL },
    { "battery", 0, 0, G_OPTION_ARG_NONE, &battery,
      "A battery, too, for Windows drivers that look for one", NULL },
    { "force", 0, 0, G_OPTION_ARG_NONE, &the.force,
      "Take a VBIOS that drivers refuse, and a card of another guest's", NULL },
    { "yes", 0, 0, G_OPTION_ARG_NONE, &the.yes, "Do not ask", NULL },
    { "dry-run", 0, 0, G_OPTION_ARG_NONE, &the.dry_run,
      "Only show what would be changed", NULL },
    { "help", 'h', 0, G_OPTION_ARG_NONE, &help, "Show this text",
      NULL },
    { "version", 0, 0, G_OPTION_ARG_NONE, &version, "Show the version", NULL },
    { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &words,
      NULL, NULL },
    { }
};

/* What managers and others are asked */

char *ask(GError **error, const char *what, const char *input,
          const char *program, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    char *output;
    va_list args;
    int status;

    va_start(args, program);
    for (const char *arg = program; arg; arg = va_arg(args, const char *)) {
        g_ptr_array_add(argv, (char *)arg);
    }
    va_end(args);
    g_ptr_array_add(argv, NULL);
    output = run_program((char **)argv->pdata, input, 0, &status, error);
    if (status) {
        g_prefix_error(error, "%s: %s: ", what, program);
        g_clear_pointer(&output, g_free);
    }
    return output;
}

bool confirm(const Attach *a, const char *changes, GError **error)
{
    g_autofree char *text = g_strchomp(g_strdup(changes));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    char answer[16] = "";

    for (char **line = lines; *line; line++) {
        say("%s", *line);
    }
    if (a->dry_run) {
        say("Nothing was changed.");
        return false;
    }
    if (a->yes) {
        return true;
    }
    printf("Change it so? [y/N] ");
    fflush(stdout);
    if (!fgets(answer, sizeof(answer), stdin)) {
        return fail(error, "nothing was changed; --yes does it without a "
                    "question");
    }
    if (g_ascii_strcasecmp(g_strstrip(answer), "y") &&
        g_ascii_strcasecmp(answer, "yes")) {
        return fail(error, "nothing was changed");
    }
    return true;
}

/* The card */

const char *card_of(const Attach *a)
{
    return g_ptr_array_index(a->hosts, 0);
}

static char *sysfs_of(const char *host)
{
    return g_build_filename(PCI_SYSFS, host, NULL);
}

/* The driver that has the device, to be freed, or NULL */
static char *driver_of(const char *host)
{
    g_autofree char *path = g_build_filename(PCI_SYSFS, host, "driver", NULL);
    g_autofree char *link = g_file_read_link(path, NULL);

    return link ? g_path_get_basename(link) : NULL;
}

static bool is_given(const Attach *a, const char *host)
{
    for (unsigned int i = 0; i < a->hosts->len; i++) {
        if (g_str_equal(g_ptr_array_index(a->hosts, i), host)) {
            return true;
        }
    }
    return false;
}

/* Those with the same bus and slot */
static void add_functions(Attach *a)
{
    for (int function = 0; function < 8; function++) {
        g_autofree char *host = g_strdup(card_of(a));
        g_autofree char *dir = NULL;

        host[strlen(host) - 1] = '0' + function;
        dir = sysfs_of(host);
        if (!is_given(a, host) && g_file_test(dir, G_FILE_TEST_IS_DIR)) {
            g_ptr_array_add(a->hosts, g_steal_pointer(&host));
        }
    }
}

/* What the kernel lets stay in the group of a device that is assigned */
static bool may_stay(const char *driver)
{
    return !driver || g_str_has_prefix(driver, "vfio") ||
           g_str_equal(driver, "pci-stub") || g_str_equal(driver, "pcieport");
}

/* A group can be given away as a whole only. */
static bool check_group(const Attach *a, GError **error)
{
    g_autofree char *path = g_build_filename(PCI_SYSFS, card_of(a),
                                             "iommu_group/devices", NULL);
    g_autoptr(GDir) listing = g_dir_open(path, 0, NULL);
    const char *name;

    if (!listing) {
        return fail(error, "the card at %s is in no IOMMU group, so that no "
                    "guest can have it: see optimus-doctor", card_of(a));
    }
    while ((name = g_dir_read_name(listing))) {
        g_autofree char *driver = driver_of(name);

        if (is_given(a, name) || may_stay(driver)) {
            continue;
        }
        if (!strncmp(name, card_of(a), strlen("0000:00:00."))) {
            fail(error, "the card at %s shares its IOMMU group with %s (%s), a "
                 "function of its own: add --function, or bind that to "
                 "pci-stub", card_of(a), name, driver);
        } else {
            fail(error, "the card at %s shares its IOMMU group with %s (%s), "
                 "and a group can be given away as a whole only: see "
                 "optimus-doctor", card_of(a), name, driver);
        }
        return false;
    }
    return true;
}

static bool judge_rom(const Attach *a, PCIName name, GError **error)
{
    Judgement j = judge_romfile(&a->rom, card_of(a), name);
    const bool good = a->force || (j.usable && j.verdict == OPTIMUS_TAKEN) ||
                      fail(error, "'%s': %s (--force gives it to the guest all "
                           "the same)", a->rom.path, j.sentence);

    if (has_own_flash(name)) {
        say("The card at %s is of a generation that has a flash of its own as "
            "a rule, and needs no VBIOS then: try it without one first.",
            card_of(a));
    }
    if (good) {
        say("'%s': %s", a->rom.path, j.sentence);
    }
    judgement_clear(&j);
    return good;
}

/* Look at the card and its VBIOS. */
static bool look(Attach *a, const char *bdf, const char *path, GError **error)
{
    g_autofree char *dir = NULL;
    PCIName name;

    dir = find_card(bdf, &name, error);
    if (!dir || !map_input(&a->rom, path, error)) {
        return false;
    }
    g_ptr_array_add(a->hosts, g_path_get_basename(dir));
    if (a->function) {
        add_functions(a);
    }
    a->has_ids = read_subsystem(dir, &a->ids);
    if (!judge_rom(a, name, error) || !check_group(a, error)) {
        return false;
    }
    if (!a->has_ids) {
        say("The kernel does not know the subsystem IDs of the card at %s: if "
            "drivers want them, set x-pci-sub-vendor-id and "
            "x-pci-sub-device-id yourself.", card_of(a));
    }
    return true;
}

const GuestCard *find_card_of(const Guest *guest, const char *host)
{
    for (unsigned int i = 0; i < guest->cards->len; i++) {
        const GuestCard *card = g_ptr_array_index(guest->cards, i);

        if (!g_strcmp0(card->host, host)) {
            return card;
        }
    }
    return NULL;
}

bool find_place(Attach *a, Guest *guest, const char *who, GError **error)
{
    free_guest(a->with);
    a->with = guest;
    a->card = guest ? find_card_of(guest, card_of(a)) : NULL;
    if (guest && !a->card) {
        fail(error, "the command line that %s makes of '%s' does not have the "
             "card at %s", who, a->guest, card_of(a));
    }
    return a->card;
}

/* The files for the guest */

char *guest_dir(const char *key)
{
    return g_strdup_printf(FILES "/optimus-%s", key);
}

bool choose_way(Attach *a, GError **error)
{
    const char *emulator = a->with->emulator;
    char *argv[] = {
        (char *)emulator, (char *)"-M", (char *)"none", (char *)"-nodefaults",
        (char *)"-display", (char *)"none", (char *)"-S",
        (char *)"-plugin", (char *)PLUGIN_FILE,
        (char *)"-qmp", (char *)"stdio", NULL
    };
    g_autofree char *path = emulator ? g_find_program_in_path(emulator) : NULL;
    g_autoptr(GError) why = NULL;
    int status = -1;

    if (!path) {
        return fail(error, "the guest's emulator '%s' is not there: install "
                    "it, or correct the guest", emulator ?: "");
    }
    if (g_file_test(PLUGIN_FILE, G_FILE_TEST_EXISTS)) {
        g_free(run_program(argv, QMP_QUIT, TRIAL_SECONDS, &status, &why));
    } else {
        fail(&why, "there is no " PLUGIN_FILE);
    }
    if (!check_signal(error)) {
        return false;
    }
    a->plugin = !status;
    if (a->plugin) {
        say("%s takes the plugin: the guest gets the device vfio-optimus.",
            emulator);
    } else {
        say("%s does not take the plugin (%s): the guest gets ACPI tables, "
            "which are for one place of the card.", emulator, why->message);
    }
    return true;
}

bool plan_files(Attach *a, const char *key, GError **error)
{
    g_autofree char *dir = guest_dir(key);
    g_autoptr(GChecksum) hash = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree char *name = NULL;

    g_clear_pointer(&a->scope, g_free);
    if (!a->plugin && !a->card->place) {
        return fail(error, "where the card is in the guest is not known: %s",
                    a->card->why);
    }
    if (!a->plugin) {
        a->scope = place_to_acpi(a->card->place);
    }
    a->files.rom = &a->rom;
    a->files.scope = a->scope;
    g_checksum_update(hash, a->rom.data, a->rom.size);
    g_checksum_update(hash, (const uint8_t *)(a->scope ?: ""), -1);
    g_checksum_update(hash, (const uint8_t *)(a->files.battery ? "b" : ""), -1);
    name = g_strndup(g_checksum_get_string(hash), 12);
    g_free((char *)a->files.out);
    a->files.out = g_build_filename(dir, name, NULL);
    return check_guest_files(&a->files, error);
}

bool make_dir(const char *dir, GError **error)
{
    if (g_mkdir_with_parents(dir, 0755) || chmod(dir, 0755)) {
        return fail(error, "'%s' cannot be made: %s%s", dir, g_strerror(errno),
                    geteuid() ? ": run this as root" : "");
    }
    return true;
}

bool make_files(const Attach *a, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(a->files.out);

    return make_dir(dir, error) && write_guest_files(&a->files, error);
}

bool remove_files(const Attach *a, const char *key, bool keep)
{
    g_autofree char *dir = guest_dir(key);
    g_autofree char *kept = keep ? g_path_get_basename(a->files.out) : NULL;
    g_autoptr(GDir) listing = g_dir_open(dir, 0, NULL);
    const char *name;

    while (listing && (name = g_dir_read_name(listing))) {
        if (!kept || (strcmp(name, kept) && strcmp(name, GIVEN))) {
            remove_tree(g_build_filename(dir, name, NULL));
        }
    }
    if (listing && !keep) {
        rmdir(dir);
    }
    return listing;
}

void say_done(const Attach *a, const char *guest, bool runs)
{
    say("The guest '%s' %s the card from its next start on%s.", guest,
        a->undo ? "does without" : "has", runs ? ": it runs, so shut it down "
        "and start it (a reboot is none)" : "");
}

bool fail_taken(GError **error, const char *name, const char *host)
{
    return fail(error, "the guest '%s' has %s already: take it away there, "
                "with " PROGRAM " --undo if it came from there, or give it to "
                "both with --force", name, host);
}

/* The command */

static bool has_program(const char *name)
{
    g_autofree char *path = g_find_program_in_path(name);

    return path;
}

/* A number is a guest of Proxmox', where that is. */
static bool run(Attach *a, GError **error)
{
    const bool is_number = !a->guest[strspn(a->guest, "0123456789")];

    if (is_number && has_program("qm")) {
        return a->undo ? proxmox_undo(a, error) : proxmox_attach(a, error);
    }
    if (has_program("virsh")) {
        return a->undo ? libvirt_undo(a, error) : libvirt_attach(a, error);
    }
    return fail(error, "there is neither virsh nor, for a guest with a number, "
                "qm here: install libvirt's clients, or see optimus-vbios "
                "ssdt");
}

static bool start(Attach *a, char **argv, GError **error)
{
    g_autoptr(GOptionContext) context =
        g_option_context_new("GUEST CARD VBIOS | --undo GUEST");
    g_autoptr(GError) wrong = NULL;
    unsigned int count;
    int argc = g_strv_length(argv);

    g_set_prgname(PROGRAM);
    g_option_context_set_help_enabled(context, false);
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_summary(context,
"Give a card of this machine with its video BIOS to a guest of libvirt's (its\n"
"name) or of Proxmox' (its number), from its next start on, as root:\n\n"
"  sudo " PROGRAM " win11 01:00.0 vbios.rom\n"
"  sudo " PROGRAM " 100 01:00.0 vbios.rom\n"
"  sudo " PROGRAM " --undo win11\n\n"
"It shows what it is going to change, and asks.  After a change of the\n"
"guest's devices run it again: ACPI tables are for one place of the card.");
    if (!g_option_context_parse(context, &argc, &argv, &wrong)) {
        return fail_usage(error, "%s", wrong->message);
    }
    if (help) {
        g_autofree char *text = g_option_context_get_help(context, true, NULL);

        printf("%s", text);
        return true;
    }
    if (version) {
        printf(PROGRAM " %s\n", optimus_version);
        return true;
    }
    count = words ? g_strv_length(words) : 0;
    if (count != (a->undo ? 1 : 3)) {
        return fail_usage(error, a->undo ? "--undo takes one guest" :
                          "a guest, a card and its VBIOS are to be named");
    }
    a->guest = words[0];
    a->files.battery = battery;
    return (a->undo || look(a, words[1], words[2], error)) && run(a, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    Attach *a = &the;

    /* in order with what is complained of */
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    catch_signals();
    a->hosts = g_ptr_array_new_with_free_func(g_free);
    start(a, argv, &error);
    g_ptr_array_unref(a->hosts);
    g_strfreev(words);
    g_free(a->scope);
    free_guest(a->with);
    g_free((char *)a->files.out);
    if (a->rom.data) {
        unmap_input(&a->rom);
    }
    return finish(error) ? EXIT_GOOD : EXIT_BAD;
}
