/*
 * optimus-vbios dump: the card's ROM BAR, which sysfs shows after enabling it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "dump.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A process that switches the ROM off again when this one does not need it any
 * more, or is killed, or crashes.
 */
typedef struct Guard {
    int pipe;                   /* closed at the end */
    pid_t pid;
} Guard;

static void G_GNUC_NORETURN guard_main(int rom, int pipe)
{
    sigset_t all;
    char unused;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    while (read(pipe, &unused, 1) < 0 && errno == EINTR) {
        continue;
    }
    /* The kernel takes anything but "0" and a newline for a 1. */
    _exit(pwrite(rom, "0\n", 2, 0) != 2);
}

static bool guard_start(Guard *guard, int rom)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC)) {
        return false;
    }
    guard->pipe = ends[1];
    guard->pid = fork();
    if (!guard->pid) {
        close(ends[1]);
        guard_main(rom, ends[0]);
    }
    close(ends[0]);
    if (guard->pid < 0) {
        close(ends[1]);
        return false;
    }
    return true;
}

/* Returns whether the ROM is switched off. */
static bool guard_end(Guard *guard)
{
    int status;
    pid_t ended;

    close(guard->pipe);
    do {
        ended = waitpid(guard->pid, &status, 0);
    } while (ended < 0 && errno == EINTR);
    return ended == guard->pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static GByteArray *read_enabled(const char *card, int fd, GError **error)
{
    GByteArray *rom = NULL;
    Guard guard;

    if (!guard_start(&guard, fd)) {
        fail(error, "no process can be started to switch it off again: %s",
             g_strerror(errno));
        return NULL;
    }
    if (pwrite(fd, "1\n", 2, 0) == 2) {
        rom = read_file(card, "rom", error);
    } else {
        fail(error, "it cannot be switched on: %s", g_strerror(errno));
    }
    if (!guard_end(&guard)) {
        complain("warning: '%s/rom' could not be switched off again", card);
    }
    return rom;
}

GByteArray *get_from_bar(const char *card, PCIName name, GError **error)
{
    g_autofree char *path = g_build_filename(card, "rom", NULL);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    GByteArray *rom;
    char byte;

    if (fd < 0) {
        fail(error, "the card has none (%s)", g_strerror(errno));
        return NULL;
    }
    /* The kernel does not tell otherwise whether it is switched on. */
    if (pread(fd, &byte, 1, 0) < 0 && errno == EINVAL) {
        rom = read_enabled(card, fd, error);
    } else {
        rom = read_file(card, "rom", error);
    }
    close(fd);
    return rom;
}
