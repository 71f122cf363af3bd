/*
 * The plugin's other entry, for a QEMU without the option -plugin
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
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MODULE_INIT_LISTS 8

/* QEMU's, if there is one; see qemu.h for these two */
__attribute__((weak)) void register_module_init(void (*fn)(void),
                                                unsigned int type);
__attribute__((weak)) void *object_class_by_name(const char *type_name);
__attribute__((weak)) int qemu_init(int argc, char **argv, char **envp);

static void refuse(const char *why, const char *what)
{
    fprintf(stderr, "vfio-optimus: not loaded: %s%s\n", why, what);
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

/* Enter the file beside this one, as QEMU and GLib would (entry.c). */
static void load_plugin(void)
{
    const char *(*check)(void *module);
    int (*install)(uint64_t id, const void *info, int argc, char **argv);
    char path[PATH_MAX] = PLUGIN_FILE;
    const char *slash, *why;
    Dl_info self;
    void *plugin;

    if (dladdr((void *)(uintptr_t)load_plugin, &self) &&
        (slash = strrchr(self.dli_fname, '/'))) {
        snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self.dli_fname),
                 self.dli_fname, PLUGIN_FILE);
    }
    plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) {
        refuse(dlerror(), "");
        return;
    }
    *(void **)&check = dlsym(plugin, "g_module_check_init");
    *(void **)&install = dlsym(plugin, "qemu_plugin_install");
    why = check(NULL);
    if (why) {
        refuse(why, "");
    } else {
        install(0, NULL, 0, NULL);
    }
}

/*
 * QEMU runs eight lists of initialization functions.  Which of them is QOM's
 * differs (in 11.1 it is another than before), and a type that is registered
 * before its parent is there ends QEMU: so be at the end of each list, and act
 * in the one after which there are types.
 */
static void act(void)
{
    static bool done;

    if (!done && object_class_by_name("device")) {
        done = true;
        load_plugin();
    }
}

/*
 * At the beginning of each list, as the constructors of what is preloaded run
 * before those of the program; the first time, the end is where it goes.
 */
static void append(void)
{
    static bool done;

    for (unsigned int list = 0; !done && list < MODULE_INIT_LISTS; list++) {
        register_module_init(act, list);
    }
    done = true;
}

__attribute__((constructor)) static void preload(void)
{
    if (!qemu_init || !register_module_init || !object_class_by_name) {
        if (is_emulator()) {
            refuse("this QEMU exports no symbols (it was built without "
                   "--enable-modules), so that it cannot take plugins; "
                   "optimus-vbios ssdt is the other way to give a guest _ROM",
                   "");
        }
        return;
    }
    for (unsigned int list = 0; list < MODULE_INIT_LISTS; list++) {
        register_module_init(append, list);
    }
}
