/*
 * Getting called by a QEMU that was not built with this
 *
 * QEMU runs eight lists of initialization functions.  Which of them is QOM's
 * differs (in 11.1 it is another than before), and a type that is registered
 * before its parent is there ends QEMU: so be at the end of each list, and act
 * in the one after which there are types.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include <dlfcn.h>
#include "module-init.h"

#define MODULE_INIT_LISTS 8

static void (*wanted)(void);

static void act(void)
{
    void (*function)(void) = wanted;

    if (function && object_class_by_name("device")) {
        wanted = NULL;
        function();
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

void call_with_types(void (*function)(void))
{
    if (!dlsym(RTLD_DEFAULT, "register_module_init")) {
        return;
    }
    wanted = function;
    for (unsigned int list = 0; list < MODULE_INIT_LISTS; list++) {
        register_module_init(append, list);
    }
}
