/*
 * Load the device into a QEMU
 *
 * To be set as LD_PRELOAD, which everything that QEMU starts inherits: this
 * needs no symbol but the C library's, and does nothing in a program that is no
 * QEMU system emulator.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The same object in all copies of this library that a process may have. */
int vfio_optimus_loaded;

/* The path of a file beside this library */
static const char *beside(const char *name)
{
    static char path[PATH_MAX];
    const char *slash;
    Dl_info self;

    if (!dladdr(&vfio_optimus_loaded, &self) ||
        !(slash = strrchr(self.dli_fname, '/'))) {
        return name;
    }
    snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self.dli_fname),
             self.dli_fname, name);
    return path;
}

/* By its file's name, which NixOS makes .qemu-system-x86_64-wrapped */
static bool is_emulator(void)
{
    char path[PATH_MAX] = "";
    const char *name;

    if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0) {
        return false;
    }
    name = strrchr(path, '/');
    return name && strstr(name, "qemu-system-");
}

static void refuse(const char *why, const char *what)
{
    fprintf(stderr, "vfio-optimus: not loaded: %s%s\n", why, what);
}

__attribute__((constructor)) static void load_device(void)
{
    const char *symbol, *error;

    if (vfio_optimus_loaded) {
        return;
    }
    if (!dlsym(RTLD_DEFAULT, "qemu_init")) {
        if (is_emulator()) {
            refuse("this QEMU exports no symbols (it was built without "
                   "--enable-modules), so that it cannot take plugins; "
                   "optimus-vbios ssdt is the other way to give a guest _ROM",
                   "");
        }
        return;
    }
    if (dlopen(beside(DEVICE_FILE), RTLD_NOW | RTLD_LOCAL)) {
        vfio_optimus_loaded = 1;
        return;
    }
    error = dlerror();
    symbol = strstr(error, "undefined symbol: ");
    if (symbol) {
        refuse("this QEMU does not export what the device needs: ",
               symbol + strlen("undefined symbol: "));
    } else {
        refuse(error, "");
    }
}
