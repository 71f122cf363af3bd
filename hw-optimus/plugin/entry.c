/*
 * The plugin's entry, for QEMU's option -plugin
 *
 * It opens the file when all its types exist and no device has been made yet.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include "plugin.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED const char *g_module_check_init(void *module);
EXPORTED extern int qemu_plugin_version;
EXPORTED int qemu_plugin_install(uint64_t id, const void *info, int argc,
                                 char **argv);

/* The version of QEMU's interface for plugins, of which nothing is used */
int qemu_plugin_version;

/*
 * GLib calls it when it has opened the file, before QEMU reads the version: it
 * is one that this QEMU takes.  A text that is returned is the reason that QEMU
 * gives when it ends.
 */
const char *g_module_check_init(void *module)
{
    int version = qemu_version();

    (void)module;
    qemu_plugin_version = version >= 1101 ? 7 :
                          version >= 1100 ? 6 :
                          version >= 900 ? 2 : 1;
    return optimus_check_qemu();
}

/* QEMU calls it next; it ends if the result is not 0. */
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)id;
    (void)info;
    if (argc) {
        error_report("this plugin takes no argument, and '%s' is one: the "
                     "properties of vfio-optimus are arguments of -device",
                     argv[0]);
        return 1;
    }
    optimus_register_types();
    return 0;
}
