/*
 * For tests only: a program that the plugin takes for a QEMU of some kind
 *
 * What no QEMU at hand does, the environment variable STUB has it do; STUB_AML
 * names a file with the AML that its functions write.  It runs its lists of
 * initialization functions, and says which types were registered.  All other
 * functions that the plugin needs are there, and abort: test-preload.py makes
 * them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include <stdlib.h>

#define LISTS 8
#define CLASS_WORDS 16

static GSList *lists[LISTS];
static bool types_are_there;
static const TypeInfo *probe;

static bool is(const char *what)
{
    return g_str_equal(g_getenv("STUB"), what);
}

/* By this one the plugin knows a QEMU. */
void qemu_init(void);
void qemu_init(void)
{
}

void register_module_init(void (*fn)(void), unsigned int type)
{
    lists[type] = g_slist_append(lists[type], fn);
}

VersionInfo *qmp_query_version(Error **errp)
{
    VersionInfo *info = g_new0(VersionInfo, 1);

    (void)errp;
    info->qemu = g_new0(VersionTriple, 1);
    info->qemu->major = 7;
    info->qemu->minor = is("old") ? 1 : 2;
    return info;
}

void qapi_free_VersionInfo(VersionInfo *info)
{
    g_free(info->qemu);
    g_free(info);
}

/* A class is some words; an interface's has a function in one of them. */
ObjectClass *object_class_by_name(const char *name)
{
    static uintptr_t words[CLASS_WORDS];

    if (!types_are_there || g_str_equal(name, "vfio-optimus") ||
        (is("parent") && strstr(name, "vfio-pci"))) {
        return NULL;
    }
    if (probe && g_str_equal(name, probe->name) && !is("types")) {
        probe->class_init((ObjectClass *)words, probe->class_data);
    }
    return (ObjectClass *)words;
}

ObjectClass *object_class_dynamic_cast(ObjectClass *klass, const char *name)
{
    uintptr_t *words = g_new0(uintptr_t, CLASS_WORDS);

    (void)klass;
    (void)name;
    if (is("interface")) {
        return (ObjectClass *)words;
    }
    words[12] = (uintptr_t)qemu_init;
    if (is("functions")) {
        words[13] = (uintptr_t)qemu_init;
    }
    return (ObjectClass *)words;
}

bool object_class_is_abstract(ObjectClass *klass)
{
    (void)klass;
    return true;
}

Type type_register_static(const TypeInfo *info)
{
    probe = info;
    printf("type %s\n", info->name);
    return NULL;
}

Aml *init_aml_allocator(void)
{
    Aml *aml = g_new0(Aml, 1);
    char *bytes;
    gsize length;

    aml->buf = g_array_new(false, false, 1);
    if (g_file_get_contents(g_getenv("STUB_AML"), &bytes, &length, NULL)) {
        g_array_append_vals(aml->buf, bytes, length - is("aml"));
    }
    return aml;
}

void free_aml_allocator(void)
{
}

int main(void)
{
    static const int order[LISTS] = { 4, 3, 0, 1, 2, 5, 6, 7 };

    for (unsigned int i = 0; i < LISTS; i++) {
        /* as in 11.1: QOM's list is not the one that was QOM's before */
        types_are_there = order[i] == 2;
        for (GSList *at = lists[order[i]]; at; at = at->next) {
            ((void (*)(void))at->data)();
        }
    }
    return 0;
}
