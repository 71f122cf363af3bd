/*
 * optimus-vbios: the command line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#define PROGRAM "optimus-vbios"

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} commands[] = {
    { "info", info_main },
    { "trim", trim_main },
    { "extract", extract_main },
    { "dump", dump_main },
    { "ssdt", ssdt_main },
};

static void say_line(FILE *out, const char *before, const char *format,
                     va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    g_autofree char *line = printable(text);

    end_progress();
    fprintf(out, "%s%s\n", before, line);
}

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_line(stdout, "", format, args);
    va_end(args);
}

void complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_line(stderr, PROGRAM ": ", format, args);
    va_end(args);
}

int wrong_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_line(stderr, PROGRAM ": ", format, args);
    va_end(args);
    return wrong_option();
}

int wrong_option(void)
{
    fprintf(stderr, "See " PROGRAM " --help\n");
    return EXIT_USAGE;
}

int print_help(void)
{
    printf(
"usage: " PROGRAM " info FILE [--json] [--host BDF]\n"
"       " PROGRAM " trim IN OUT [--force] [--fix-checksum] [--all]\n"
"       " PROGRAM " extract FIRMWARE -o DIR [--device VENDOR:DEVICE | --host BDF]\n"
"       " PROGRAM " dump --host BDF -o FILE [--force]\n"
"       " PROGRAM " ssdt VBIOS -o DIR (--at PLACE | --for FILE) [--battery]\n"
"\n"
"Get, read and mend the video BIOS that -device vfio-optimus,romfile=FILE needs.\n"
"\n"
"info     say what FILE is, and whether it is usable as romfile\n"
"trim     cut off what precedes and follows the images\n"
"extract  find option ROMs in a firmware update, a flash dump or an export of\n"
"         Windows' registry, and write each into a file of its own in DIR\n"
"dump     get the video BIOS of a card of this machine, as root: from its ACPI\n"
"         method _ROM (module acpi_call), nouveau, or its ROM BAR\n"
"ssdt     for a QEMU that takes no plugin: write ACPI tables that give the card\n"
"         its _ROM into the new directory DIR, and say how QEMU gets them\n"
"\n"
"  --json                  print facts for programs\n"
"  --host BDF              a card of this machine, such as 01:00.0\n"
"  --device VENDOR:DEVICE  a card by its IDs, such as 10de:139b\n"
"  --fix-checksum          set the last byte of images to what it should be\n"
"  --all                   keep further chains of images behind the first, too\n"
"  --at PLACE              where the card is in the guest, as 01.0, or 1c.0/00.0\n"
"                          behind a root port at 1c.0\n"
"  --for FILE              the guest: its libvirt XML or Proxmox configuration\n"
"  --battery               a battery too, for Windows drivers that look for one\n"
"  --force                 overwrite an existing file\n"
"  --help                  this text\n"
"\n"
"Exit codes: 0 usable, found or written; 1 not; 2 wrong usage.\n");
    return EXIT_GOOD;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        return wrong_usage("what to do? (info, trim, extract, dump or ssdt)");
    }
    if (g_str_equal(argv[1], "--help") || g_str_equal(argv[1], "-h")) {
        return print_help();
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (g_str_equal(argv[1], commands[i].name)) {
            /* which getopt_long() puts before what it says */
            g_autofree char *name = g_strconcat(PROGRAM " ", argv[1], NULL);

            argv[1] = name;
            return commands[i].main(argc - 1, argv + 1);
        }
    }
    return wrong_usage("unknown command '%s'", argv[1]);
}

int main(int argc, char **argv)
{
    int code;

    /* An error of write() is enough, and can be told. */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    code = run(argc, argv);

    end_progress();
    die_of_signal();
    if (fflush(stdout) || ferror(stdout)) {
        complain("cannot write to the standard output: %s", g_strerror(errno));
        return EXIT_BAD;
    }
    return code;
}
