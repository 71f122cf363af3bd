/*
 * optimus-vbios dump: get the video BIOS of a card of this machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "dump.h"
#include <errno.h>
#include <getopt.h>
#include <unistd.h>

#define DRI_DIR "/sys/kernel/debug/dri"

/* nouveau's copy */

/* Whether the debugfs directory of a DRM device is the one of @card. */
static bool is_dri_of(const char *dir, const char *card)
{
    g_autofree char *bdf = g_path_get_basename(card);
    g_autofree char *wanted = g_strdup_printf("dev=%s", bdf);
    g_autoptr(GByteArray) name = read_file(dir, "name");
    g_auto(GStrv) words = NULL;

    if (!name) {
        return false;
    }
    g_byte_array_append(name, (const uint8_t *)"", 1);
    words = g_strsplit_set((const char *)name->data, " \n", -1);
    return g_strv_contains((const char *const *)words, wanted);
}

static GByteArray *get_from_nouveau(const char *card, PCIName unused,
                                    char **why)
{
    g_autoptr(GDir) dir = g_dir_open(DRI_DIR, 0, NULL);
    g_autoptr(GByteArray) rom = NULL;
    const char *name;

    if (!dir) {
        *why = g_strdup(DRI_DIR " cannot be read: mount -t debugfs none "
                        "/sys/kernel/debug, if it is not mounted");
        return NULL;
    }
    while (!rom && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(DRI_DIR, name, NULL);

        if (is_dri_of(path, card)) {
            rom = read_file(path, "vbios.rom");
        }
    }
    if (!rom) {
        *why = g_strdup("the card is not driven by nouveau, or that has no "
                        "video BIOS either");
    }
    return g_steal_pointer(&rom);
}

/* The sources, the best first */

static const struct {
    const char *name;
    GByteArray *(*get)(const char *card, PCIName name, char **why);
} sources[] = {
    { "the card's ACPI method _ROM", get_from_acpi },
    { "nouveau's copy in debugfs", get_from_nouveau },
    { "the card's ROM BAR in sysfs", get_from_bar },
};

/*
 * Cut @rom to the images that it starts with, and warn of what drivers will not
 * like; false with *@why set if there is none that a driver can use.
 */
static bool take(GByteArray *rom, PCIName name, char **why)
{
    g_autofree char *remarks = NULL;
    OptimusFate fate;
    Chain chain;

    if (!rom->len) {
        *why = g_strdup("it is empty");
        return false;
    }
    if (!chain_at(rom->data, rom->len, 0, &chain, why)) {
        return false;
    }
    g_byte_array_set_size(rom, chain.length);
    fate = chain_judge(&chain, rom->data, name, &remarks);
    chain_free(&chain);
    if (fate == OPTIMUS_USELESS) {
        *why = g_steal_pointer(&remarks);
        return false;
    }
    if (*remarks) {
        complain("warning: %s", remarks);
    }
    return true;
}

static int dump(const char *card, PCIName name, const char *out, bool force)
{
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autoptr(GByteArray) rom = NULL;
        g_autofree char *why = NULL;

        rom = sources[i].get(card, name, &why);
        end_progress();
        if (is_interrupted()) {
            return EXIT_BAD;
        }
        if (!rom || !take(rom, name, &why)) {
            complain("not from %s: %s", sources[i].name, why);
            continue;
        }
        if (!write_output(out, force, rom->data, rom->len)) {
            return EXIT_BAD;
        }
        say("'%s' has %u bytes from %s", out, rom->len, sources[i].name);
        return EXIT_GOOD;
    }
    complain("'%s' was not written: this machine does not give the video BIOS "
             "away; %s", out, has_own_flash(name) ?
             "the card has a flash of its own as a rule, and needs no romfile" :
             "try optimus-vbios extract on a firmware update of its maker");
    return EXIT_BAD;
}

int dump_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "host", required_argument, NULL, 'H' },
        { "force", no_argument, NULL, 'f' },
        { "help", no_argument, NULL, 'h' },
        { }
    };
    const char *host = NULL, *out = NULL;
    g_autofree char *card = NULL;
    bool force = false, usage;
    PCIName name;
    int c;

    while ((c = getopt_long(argc, argv, "ho:", options, NULL)) >= 0) {
        switch (c) {
        case 'H':
            host = optarg;
            break;
        case 'o':
            out = optarg;
            break;
        case 'f':
            force = true;
            break;
        case 'h':
            return print_help();
        default:
            return wrong_option();
        }
    }
    if (argc != optind || !host || !out) {
        return wrong_usage("dump takes --host BDF and -o FILE");
    }
    if (geteuid()) {
        complain("dump needs root: run it with sudo");
        return EXIT_BAD;
    }
    card = find_card(host, &name, &usage);
    if (!card) {
        return usage ? EXIT_USAGE : EXIT_BAD;
    }
    if (!check_output(out, force)) {
        return EXIT_BAD;
    }
    catch_signals();
    return dump(card, name, out, force);
}
