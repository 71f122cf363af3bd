/*
 * optimus-vbios dump: get the video BIOS of a card of this machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "dump.h"
#include <errno.h>
#include <unistd.h>

#define DRI_DIR "/sys/kernel/debug/dri"

static char *host, *out;
static gboolean force;

static const GOptionEntry options[] = {
    { "host", 0, 0, G_OPTION_ARG_FILENAME, &host,
      "The card, as 01:00.0; needed", "BDF" },
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &out,
      "The file to write; needed", "FILE" },
    { "force", 0, 0, G_OPTION_ARG_NONE, &force, "Overwrite an existing file",
      NULL },
    { }
};

/* nouveau's copy */

/* Whether the debugfs directory of a DRM device is the one of @card. */
static bool is_dri_of(const char *dir, const char *card)
{
    g_autofree char *bdf = g_path_get_basename(card);
    g_autofree char *wanted = g_strdup_printf("dev=%s", bdf);
    g_autoptr(GByteArray) name = read_file(dir, "name", NULL);
    g_auto(GStrv) words = NULL;

    if (!name) {
        return false;
    }
    g_byte_array_append(name, (const uint8_t *)"", 1);
    words = g_strsplit_set((const char *)name->data, " \n", -1);
    return g_strv_contains((const char *const *)words, wanted);
}

static GByteArray *get_from_nouveau(const char *card, PCIName unused,
                                    GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(DRI_DIR, 0, NULL);
    g_autoptr(GByteArray) rom = NULL;
    const char *name;

    if (!dir) {
        fail(error, DRI_DIR " cannot be read: mount -t debugfs none "
             "/sys/kernel/debug, if it is not mounted");
        return NULL;
    }
    while (!rom && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(DRI_DIR, name, NULL);

        if (is_dri_of(path, card)) {
            rom = read_file(path, "vbios.rom", NULL);
        }
    }
    if (!rom) {
        fail(error, "the card is not driven by nouveau, or that has no video "
             "BIOS either");
    }
    return g_steal_pointer(&rom);
}

/* The sources, the best first */

static const struct {
    const char *name;
    GByteArray *(*get)(const char *card, PCIName name, GError **error);
} sources[] = {
    { "the card's ACPI method _ROM", get_from_acpi },
    { "nouveau's copy in debugfs", get_from_nouveau },
    { "the card's ROM BAR in sysfs", get_from_bar },
};

/* Cut @rom to the images that it starts with, if a driver can use them. */
static bool take(GByteArray *rom, PCIName name, GError **error)
{
    Chain chain;

    if (!rom->len) {
        return fail(error, "it is empty");
    }
    if (!accept_rom(rom->data, rom->len, name, &chain, error)) {
        return false;
    }
    g_byte_array_set_size(rom, chain.length);
    chain_free(&chain);
    return true;
}

static bool dump(const char *card, PCIName name, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autoptr(GByteArray) rom = NULL;
        g_autoptr(GError) why = NULL;

        rom = sources[i].get(card, name, &why);
        end_progress();
        if (!check_signal(error)) {
            return false;
        }
        if (!rom || !take(rom, name, &why)) {
            complain("not from %s: %s", sources[i].name, why->message);
            continue;
        }
        if (!write_output(out, force, rom->data, rom->len, error)) {
            return false;
        }
        say("'%s' has %u bytes from %s", out, rom->len, sources[i].name);
        return true;
    }
    return fail(error, "'%s' was not written: there is no video BIOS to be had "
                "from this machine; %s", out, has_own_flash(name) ?
                "the card has a flash of its own as a rule, and needs no "
                "romfile" :
                "try optimus-vbios extract on a firmware update of its maker");
}

static bool run(char **unused, GError **error)
{
    g_autofree char *card = NULL;
    PCIName name;

    if (!host || !out) {
        return fail_usage(error, "dump takes --host BDF and -o FILE");
    }
    if (geteuid()) {
        return fail(error, "dump needs root: run it with sudo");
    }
    card = find_card(host, &name, error);
    if (!card || !check_output(out, force, error)) {
        return false;
    }
    catch_signals();
    return dump(card, name, error);
}

const Command dump_command = {
    "dump", "--host BDF -o FILE",
    "get the video BIOS of a card of this machine, as root: from its ACPI\n"
    "         method _ROM (module acpi_call), nouveau, or its ROM BAR", 0,
    options, run
};
