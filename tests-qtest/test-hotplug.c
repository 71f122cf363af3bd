/*
 * For tests only: vfio-optimus as a device that can be hotplugged
 *
 * A realize that fails on the command line ends QEMU, and all is gone with it.
 * That nothing is left behind shows in a QEMU that goes on: with this in
 * LD_PRELOAD beside the plugin, device_add tries as often as one likes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <dlfcn.h>
#include "hw/qdev-core.h"
#include "qemu/module.h"

static void make_hotpluggable(void)
{
    ObjectClass *klass = object_class_by_name("vfio-optimus");

    if (klass) {
        DEVICE_CLASS(klass)->hotpluggable = true;
    }
}

/* Not type_init(): what else inherits LD_PRELOAD has no such function. */
__attribute__((constructor)) static void load(void)
{
    void (*add)(void (*)(void), module_init_type) =
        dlsym(RTLD_DEFAULT, "register_module_init");

    if (add) {
        /* comes after QOM's types */
        add(make_hotpluggable, MODULE_INIT_MIGRATION);
    }
}
