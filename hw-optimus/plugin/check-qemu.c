/*
 * What the plugin finds out about the QEMU that it is in, before it registers
 * the device
 *
 * Functions of QEMU keep their names and arguments; what does not is looked at
 * here, in the running program.  That all functions are there is what the
 * dynamic linker has seen to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include "../core/optimus-aml.h"
#include "plugin.h"

/* SHA-256 of _ROM for a ROM at 0xfef20000 that ends before 0xfef33000 */
#define METHOD_SUM \
    "9e59554d08e8e64525a6a8d70cc7229d39378db0ee836457eecc5f1f1e3ff820"

/* What gives a guest _ROM without the plugin */
#define OTHER_WAY "; tables of optimus-vbios ssdt are the other way"

static size_t build_aml_offset;

/* The reason that optimus_check_qemu() returns */
static char *why;

static bool G_GNUC_PRINTF(1, 2) refuse(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return false;
}

static bool check_version(void)
{
    int version = qemu_version();

    return version >= 702 ||
        refuse("this is QEMU %d.%d, and the device needs 7.2 or later"
               OTHER_WAY, version / 100, version % 100);
}

static bool check_parent(void)
{
    return object_class_by_name(OPTIMUS_PARENT) ||
        refuse("this QEMU has no device " OPTIMUS_PARENT);
}

/* dl_iterate_phdr(): the first object is the program itself. */
static int is_code_of_program(struct dl_phdr_info *info, size_t size,
                              void *address)
{
    uintptr_t at = *(uintptr_t *)address - info->dlpi_addr;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

        if (segment->p_type == PT_LOAD && segment->p_flags & PF_X &&
            at - segment->p_vaddr < segment->p_memsz) {
            return 1;
        }
    }
    return -1;
}

/*
 * The offset of build_dev_aml in the interface's class as @type_name has it: it
 * is the only pointer to a function there.  0 if that is not so.
 */
static size_t find_build_aml(const char *type_name)
{
    ObjectClass *klass = object_class_by_name(type_name);
    size_t found = 0;
    uintptr_t *words;

    if (klass) {
        klass = object_class_dynamic_cast(klass, TYPE_ACPI_DEV_AML_IF);
    }
    if (!klass) {
        return 0;
    }
    words = (uintptr_t *)klass;
    for (size_t i = 0; i < malloc_usable_size(klass) / sizeof(*words); i++) {
        if (dl_iterate_phdr(is_code_of_program, &words[i]) == 1) {
            if (found) {
                return 0;
            }
            found = i * sizeof(*words);
        }
    }
    return found;
}

/* Up to 10.1 InterfaceClass had one member more. */
static bool check_interface(void)
{
    static const char *const types[] = { "mc146818rtc", "isa-serial", "i8042" };

    build_aml_offset = find_build_aml(types[0]);
    for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
        if (!build_aml_offset ||
            find_build_aml(types[i]) != build_aml_offset) {
            return refuse("the class " TYPE_ACPI_DEV_AML_IF " of this QEMU's "
                          "%s is not as it was up to QEMU 11.1" OTHER_WAY,
                          types[i]);
        }
    }
    return true;
}

OptimusBuildAml **optimus_build_aml_slot(ObjectClass *klass)
{
    ObjectClass *interface =
        object_class_dynamic_cast(klass, TYPE_ACPI_DEV_AML_IF);

    return (OptimusBuildAml **)((char *)interface + build_aml_offset);
}

/* All terms of _ROM, also those that are made of others (aml-terms.h) */
static bool check_aml(void)
{
    g_autofree char *sum = NULL;
    Aml *scope = init_aml_allocator();

    optimus_build_rom_method(scope, 0xfef20000, 0x13000);
    sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256,
                                      (uint8_t *)scope->buf->data,
                                      scope->buf->len);
    free_aml_allocator();
    return !strcmp(sum, METHOD_SUM) ||
        refuse("this QEMU writes the AML of _ROM otherwise than up to 11.1 "
               "(its SHA-256 is %s)" OTHER_WAY, sum);
}

static void probe_class_init(ObjectClass *klass, const void *data)
{
    (void)klass;
    *(bool *)data = true;
}

/* TypeInfo, by a type that does nothing */
static bool check_type_info(void)
{
    static bool initialized;
    static const InterfaceInfo interfaces[] = {
        { TYPE_ACPI_DEV_AML_IF },
        { NULL }
    };
    static const TypeInfo type = {
        .name = "vfio-optimus-probe",
        .parent = "device",
        .abstract = true,
        .class_init = probe_class_init,
        .class_data = &initialized,
        .interfaces = interfaces,
    };
    ObjectClass *klass;

    type_register_static(&type);
    klass = object_class_by_name(type.name);
    return (klass && initialized && object_class_is_abstract(klass) &&
            object_class_dynamic_cast(klass, TYPE_ACPI_DEV_AML_IF)) ||
        refuse("this QEMU does not take types as QEMU did up to 11.1"
               OTHER_WAY);
}

const char *optimus_check_qemu(void)
{
    /* It may have come through another file, or through preload.c. */
    if (!object_class_by_name(TYPE_VFIO_OPTIMUS) && check_version() &&
        check_parent() && check_interface() && check_aml()) {
        check_type_info();
    }
    return why;
}
