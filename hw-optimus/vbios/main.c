/*
 * optimus-vbios: the command line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "../core/version.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#define PROGRAM "optimus-vbios"

const char *const program = PROGRAM;

static const Command *const commands[] = {
    &info_command, &trim_command, &extract_command, &dump_command,
    &ssdt_command,
};

static bool print_help(void)
{
    printf("usage:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  " PROGRAM " %s %s\n", commands[i]->name,
               commands[i]->arguments);
    }
    printf("\nGet, read and mend the video BIOS that -device vfio-optimus,"
           "romfile=FILE needs.\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("%-8s %s\n", commands[i]->name, commands[i]->summary);
    }
    printf("\n" PROGRAM " COMMAND --help tells the options, --version the "
           "version.\nExit codes: 0 usable, found or written; 1 not.\n");
    return true;
}

static bool run_command(const Command *command, char **argv, GError **error)
{
    g_autofree char *name = g_strconcat(PROGRAM " ", command->name, NULL);
    g_autoptr(GOptionContext) context =
        g_option_context_new(command->arguments);
    g_auto(GStrv) arguments = NULL;
    gboolean help = false;
    const GOptionEntry common[] = {
        { "help", 'h', 0, G_OPTION_ARG_NONE, &help, "Show this text", NULL },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arguments,
          NULL, NULL },
        { }
    };
    int argc = g_strv_length(argv);
    g_autoptr(GError) wrong = NULL;

    g_set_prgname(name);
    g_option_context_set_help_enabled(context, false);
    g_option_context_set_summary(context, command->summary);
    g_option_context_add_main_entries(context, command->options, NULL);
    g_option_context_add_main_entries(context, common, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &wrong)) {
        return fail_usage(error, "%s: %s", command->name, wrong->message);
    }
    if (help) {
        g_autofree char *text = g_option_context_get_help(context, true, NULL);

        printf("%s", text);
        return true;
    }
    if ((arguments ? g_strv_length(arguments) : 0) != command->count) {
        return fail_usage(error, "%s takes: %s", command->name,
                          command->arguments);
    }
    return command->run(arguments, error);
}

static bool run(char **argv, GError **error)
{
    if (!*argv) {
        return fail_usage(error, "what to do? (info, trim, extract, dump or "
                          "ssdt)");
    }
    if (g_str_equal(*argv, "--help") || g_str_equal(*argv, "-h")) {
        return print_help();
    }
    if (g_str_equal(*argv, "--version")) {
        printf(PROGRAM " %s\n", optimus_version);
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (g_str_equal(*argv, commands[i]->name)) {
            return run_command(commands[i], argv, error);
        }
    }
    return fail_usage(error, "unknown command '%s'", *argv);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    bool good;

    /* An error of write() is enough, and can be told. */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    good = argc ? run(argv + 1, &error) : false;
    if (!finish(error)) {
        return EXIT_BAD;
    }
    if (fflush(stdout) || ferror(stdout)) {
        complain("cannot write to the standard output: %s", g_strerror(errno));
        return EXIT_BAD;
    }
    return good ? EXIT_GOOD : EXIT_BAD;
}
