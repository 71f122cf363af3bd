/*
 * optimus-vbios: other programs, and the directories that they work in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_PERIOD (G_USEC_PER_SEC / 50)

/* They say much on stdout, and nothing that helps here on stderr. */
static void be_quiet(gpointer unused)
{
    int null = open("/dev/null", O_WRONLY);

    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
}

/*
 * Wait for @pid to end, or for a signal, or @seconds, unless they are 0.
 * Returns its exit status, or -1 if there is none.
 */
static int wait_for(GPid pid, const char *work, unsigned int seconds,
                    GError **error)
{
    const int64_t end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    int status;

    while (!waitpid(pid, &status, WNOHANG)) {
        const bool late = seconds && g_get_monotonic_time() > end;

        show_progress(work, 0, 0);
        if (is_interrupted() || late) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            if (check_signal(error)) {
                fail(error, "it did not end within %u seconds", seconds);
            }
            return -1;
        }
        g_usleep(WAIT_PERIOD);
    }
    end_progress();
    if (!WIFEXITED(status)) {
        fail(error, "it crashed with signal %d", WTERMSIG(status));
        return -1;
    }
    return WEXITSTATUS(status);
}

bool run_tool(const char *dir, char **argv, const char *work, GError **error)
{
    GPid pid;
    int status;

    if (!g_spawn_async(dir, argv, NULL,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                       be_quiet, NULL, &pid, error)) {
        return false;
    }
    status = wait_for(pid, work, 0, error);
    if (status > 0) {
        fail(error, "it ended with exit code %d", status);
    }
    return !status;
}

/* What is in @fd, a file in memory, which is closed */
static char *take_text(int fd)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];
    ssize_t n;

    lseek(fd, 0, SEEK_SET);
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        g_string_append_len(text, buffer, n);
    }
    close(fd);
    return g_string_free(text, false);
}

int text_file(const char *text)
{
    int fd = memfd_create("text", MFD_CLOEXEC);

    if (fd < 0) {
        return -1;
    }
    for (const char *rest = text ?: ""; *rest;) {
        ssize_t n = write(fd, rest, strlen(rest));

        if (n < 0) {
            close(fd);
            return -1;
        }
        rest += n;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* All that is not empty, in a line, without what begins errors of virsh's */
static char *one_line(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GString *line = g_string_new(NULL);

    for (char **l = lines; *l; l++) {
        const char *start = g_str_has_prefix(g_strstrip(*l), "error: ") ?
            *l + strlen("error: ") : *l;

        if (*start) {
            g_string_append_printf(line, "%s%s", line->len ? ": " : "", start);
        }
    }
    return g_string_free(line, false);
}

char *run_program(char **argv, const char *input, unsigned int seconds,
                  int *status, GError **error)
{
    g_autofree char *errors = NULL, *line = NULL;
    const int in = text_file(input), out = text_file(NULL),
              err = text_file(NULL);
    char *output;
    GPid pid;

    *status = -1;
    if (in < 0 || out < 0 || err < 0) {
        fail(error, "%s", g_strerror(errno));
    } else if (g_spawn_async_with_fds(NULL, argv, NULL, G_SPAWN_SEARCH_PATH |
                                      G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                      &pid, in, out, err, error)) {
        *status = wait_for(pid, argv[0], seconds, error);
    }
    close(in);
    output = take_text(out);
    errors = take_text(err);
    line = one_line(errors);
    if (*status > 0 && *line) {
        fail(error, "%s", line);
    } else if (*status > 0) {
        fail(error, "it ended with exit code %d", *status);
    }
    return output;
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *where)
{
    return remove(path);
}

void remove_tree(char *dir)
{
    if (nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS)) {
        complain("'%s' cannot be removed: %s", dir, g_strerror(errno));
    }
    g_free(dir);
}
