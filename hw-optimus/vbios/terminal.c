/*
 * optimus-vbios: signals, errors, and what is shown on the terminal
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define PROGRESS_DELAY  (G_USEC_PER_SEC / 2)
#define PROGRESS_PERIOD (G_USEC_PER_SEC / 5)

static volatile sig_atomic_t caught;
static int64_t started, shown;

static void remember_signal(int number)
{
    caught = number;
}

void catch_signals(void)
{
    static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
    /* The second one ends the program at once. */
    struct sigaction action = {
        .sa_handler = remember_signal,
        .sa_flags = SA_RESETHAND,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        struct sigaction old;

        /* Under nohup SIGHUP stays ignored. */
        if (!sigaction(numbers[i], NULL, &old) && old.sa_handler != SIG_IGN) {
            sigaction(numbers[i], &action, NULL);
        }
    }
}

bool is_interrupted(void)
{
    return caught;
}

static void set_error(GError **error, int code, const char *format,
                      va_list args)
{
    g_autofree char *message = g_strdup_vprintf(format, args);

    g_set_error_literal(error, g_quark_from_static_string("optimus-vbios"),
                        code, message);
}

bool fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_error(error, EXIT_BAD, format, args);
    va_end(args);
    return false;
}

bool fail_usage(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_error(error, EXIT_USAGE, format, args);
    va_end(args);
    return false;
}

bool is_printable(gunichar c)
{
    GUnicodeType type = g_unichar_type(c);

    return g_unichar_isprint(c) && type != G_UNICODE_LINE_SEPARATOR &&
           type != G_UNICODE_PARAGRAPH_SEPARATOR;
}

char *printable(const char *text)
{
    GString *out = g_string_new(NULL);

    for (const char *p = text; *p;) {
        gunichar c = g_utf8_get_char_validated(p, -1);
        const char *next = c < (gunichar)-2 ? g_utf8_next_char(p) : p + 1;

        if (c < (gunichar)-2 && is_printable(c)) {
            g_string_append_len(out, p, next - p);
        } else {
            for (; p < next; p++) {
                g_string_append_printf(out, "\\x%02x", (uint8_t)*p);
            }
        }
        p = next;
    }
    return g_string_free(out, false);
}

bool check_signal(GError **error)
{
    return !caught || fail(error, "%s", g_strsignal(caught));
}

static void say_line(FILE *out, const char *who, const char *format,
                     va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    g_autofree char *line = printable(text);

    end_progress();
    fprintf(out, "%s%s%s\n", who, *who ? ": " : "", line);
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
    say_line(stderr, program, format, args);
    va_end(args);
}

void show_progress(const char *work, uint64_t done, uint64_t total)
{
    static int terminal = -1;
    int64_t now = g_get_monotonic_time();

    if (terminal < 0) {
        terminal = isatty(STDERR_FILENO);
    }
    if (!started) {
        started = now;
    }
    if (!terminal || now - started < PROGRESS_DELAY ||
        now - shown < PROGRESS_PERIOD) {
        return;
    }
    shown = now;
    fprintf(stderr, "\r%s:", work);
    if (total) {
        fprintf(stderr, " %3u %%,", (unsigned int)(done * 100 / total));
    }
    fprintf(stderr, " %u s\033[K",
            (unsigned int)((now - started) / G_USEC_PER_SEC));
}

void end_progress(void)
{
    if (shown) {
        fprintf(stderr, "\r\033[K");
    }
    started = shown = 0;
}

bool finish(const GError *error)
{
    end_progress();
    if (caught) {
        signal(caught, SIG_DFL);
        raise(caught);
    }
    if (error) {
        complain("%s%s", error->message,
                 error->code == EXIT_USAGE ? "; see --help" : "");
    }
    return !error;
}
