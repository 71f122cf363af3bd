/*
 * optimus-vbios: files
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_AT_ONCE (1024 * 1024)
#define READ_MAX      (16 * 1024 * 1024)
#define INPUT_MAX     (G_GINT64_CONSTANT(4) << 30)

/* Of a file that is mapped, all that can go wrong later comes as a signal. */
static void G_GNUC_NORETURN say_lost(int number)
{
    static const char text[] = ": the file got shorter while it was read, or "
        "its disk has an error: copy it and try again\n";

    if (write(STDERR_FILENO, program, strlen(program)) < 0 ||
        write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
        /* There is nothing to be done if that fails. */
    }
    _exit(EXIT_BAD);
}

static const char *kind_of(const struct stat *st)
{
    return S_ISDIR(st->st_mode) ? "a directory" :
           S_ISFIFO(st->st_mode) ? "a FIFO" : "a device";
}

static bool map_fd(InputFile *file, int fd, GError **error)
{
    struct stat st;
    void *data;

    if (fstat(fd, &st)) {
        return fail(error, "'%s' cannot be read: %s", file->path,
                    g_strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return fail(error, "'%s' is %s, not a file: copy what is in it into a "
                    "file and name that", file->path, kind_of(&st));
    }
    if (!st.st_size) {
        return fail(error, "'%s' is empty: get it again", file->path);
    }
    if (st.st_size > INPUT_MAX) {
        return fail(error, "'%s' has %" G_GINT64_FORMAT " bytes, and no file "
                    "with a video BIOS in it has more than %" G_GINT64_FORMAT,
                    file->path, (int64_t)st.st_size, INPUT_MAX);
    }
    data = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd,
                0);
    if (data == MAP_FAILED) {
        return fail(error, "'%s' cannot be mapped into memory (%s): copy it to "
                    "a local disk and name the copy", file->path,
                    g_strerror(errno));
    }
    signal(SIGBUS, say_lost);
    file->data = data;
    file->size = st.st_size;
    return true;
}

bool map_input(InputFile *file, const char *path, GError **error)
{
    /* Without O_NONBLOCK a FIFO would wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool mapped;

    *file = (InputFile) { .path = path };
    if (fd < 0) {
        return fail(error, "'%s' cannot be read: %s", path, g_strerror(errno));
    }
    mapped = map_fd(file, fd, error);
    close(fd);
    return mapped;
}

void unmap_input(InputFile *file)
{
    munmap((void *)file->data, file->size);
}

bool make_writable(const InputFile *file, GError **error)
{
    return !mprotect((void *)file->data, file->size, PROT_READ | PROT_WRITE) ||
           fail(error, "'%s' cannot be changed in memory: %s", file->path,
                g_strerror(errno));
}

bool check_output(const char *path, bool force, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    struct stat st;

    if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
        return fail(error, "'%s' is %s, not a file: name a file to write",
                    path, kind_of(&st));
    }
    if (!lstat(path, &st) && !force) {
        return fail(error, "'%s' exists: name another file to write, or add "
                    "--force", path);
    }
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        return fail(error, "'%s' cannot be written: there is no directory '%s'",
                    path, dir);
    }
    return true;
}

static bool write_all(int fd, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, data + at, MIN(size - at, WRITE_AT_ONCE));

        if (is_interrupted()) {
            errno = EINTR;
            return false;
        }
        if (n < 0 && errno != EINTR) {
            return false;
        }
        at += MAX(n, 0);
    }
    /* Some file systems find out only now that they are full. */
    return !fsync(fd);
}

static bool move_output(const char *from, const char *to, bool force)
{
    if (!force && !link(from, to)) {
        unlink(from);
        return true;
    }
    /* Not every file system has links. */
    if (!force && (errno == EEXIST || g_file_test(to, G_FILE_TEST_EXISTS))) {
        errno = EEXIST;
        return false;
    }
    return !rename(from, to);
}

bool write_output(const char *path, bool force, const uint8_t *data,
                  size_t size, GError **error)
{
    g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
    mode_t mask = umask(0);
    bool written;
    int fd;

    umask(mask);
    if (!check_output(path, force, error)) {
        return false;
    }
    fd = g_mkstemp_full(temporary, O_WRONLY | O_CLOEXEC, 0666 & ~mask);
    if (fd < 0) {
        return fail(error, "'%s' cannot be written: %s", path,
                    g_strerror(errno));
    }
    written = write_all(fd, data, size);
    if (close(fd)) {
        written = false;
    }
    if (written && move_output(temporary, path, force)) {
        return true;
    }
    fail(error, "'%s' cannot be written: %s; nothing was written", path,
         g_strerror(errno));
    unlink(temporary);
    return false;
}

GByteArray *read_file(const char *dir, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t buffer[4096];
    struct stat st;
    ssize_t n = fd;

    if (n >= 0 && !fstat(fd, &st) && !S_ISREG(st.st_mode)) {
        errno = EINVAL;
        n = -1;
    }
    while (n >= 0 && (n = read(fd, buffer, sizeof(buffer))) > 0 &&
           bytes->len < READ_MAX) {
        g_byte_array_append(bytes, buffer, n);
    }
    if (n < 0) {
        fail(error, "'%s' cannot be read: %s", path, g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return n < 0 ? NULL : g_steal_pointer(&bytes);
}
