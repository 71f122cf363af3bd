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

bool run_tool(const char *dir, char **argv, const char *work, GError **error)
{
    GPid pid;
    int status;

    if (!g_spawn_async(dir, argv, NULL,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                       be_quiet, NULL, &pid, error)) {
        return false;
    }
    while (!waitpid(pid, &status, WNOHANG)) {
        show_progress(work, 0, 0);
        if (is_interrupted()) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return check_signal(error);
        }
        g_usleep(WAIT_PERIOD);
    }
    if (!WIFEXITED(status)) {
        return fail(error, "it crashed with signal %d", WTERMSIG(status));
    }
    return !WEXITSTATUS(status) ||
           fail(error, "it ended with exit code %d", WEXITSTATUS(status));
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
