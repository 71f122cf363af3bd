/*
 * What of QEMU's structures and enumerations the plugin relies on
 *
 * It is the same in QEMU 7.2 to 11.1: tests-qtest/tree/test-qemu-headers
 * compares it with the headers of every QEMU whose source is at hand, and
 * check-qemu.c with the QEMU that it runs in.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_QEMU_STRUCTURES_H
#define VFIO_OPTIMUS_QEMU_STRUCTURES_H

/* qom/object.h: what type_register_static() takes */

typedef struct InterfaceInfo {
    const char *type;
} InterfaceInfo;

typedef struct TypeInfo {
    const char *name;
    const char *parent;
    size_t instance_size;
    size_t instance_align;
    void (*instance_init)(Object *obj);
    void (*instance_post_init)(Object *obj);
    void (*instance_finalize)(Object *obj);
    bool abstract;
    size_t class_size;
    void (*class_init)(ObjectClass *klass, const void *data);
    void (*class_base_init)(ObjectClass *klass, const void *data);
    const void *class_data;
    const InterfaceInfo *interfaces;
} TypeInfo;

/* hw/acpi/aml-build.h: the beginning of a term */

typedef struct Aml {
    GArray *buf;
    uint8_t op;
} Aml;

typedef enum AmlRegionSpace {
    AML_SYSTEM_MEMORY = 0,
} AmlRegionSpace;

typedef enum AmlAccessType {
    AML_QWORD_ACC = 4,
} AmlAccessType;

typedef enum AmlLockRule {
    AML_NOLOCK = 0,
} AmlLockRule;

typedef enum AmlUpdateRule {
    AML_PRESERVE = 0,
} AmlUpdateRule;

typedef enum AmlSerializeFlag {
    AML_SERIALIZED = 1,
} AmlSerializeFlag;

/* qapi/qapi-types-run-state.h */

typedef enum RunState {
    RUN_STATE_INMIGRATE = 1,
} RunState;

/* memory.h: the beginning of what memory_region_find() returns */

typedef struct MemoryRegionSection {
    unsigned __int128 size;
    MemoryRegion *mr;           /* NULL: nothing is mapped there */
    uint64_t further[13];       /* more than any QEMU has */
} MemoryRegionSection;

/* qapi/qapi-types-control.h */

typedef struct VersionTriple {
    int64_t major;
    int64_t minor;
    int64_t micro;
} VersionTriple;

typedef struct VersionInfo {
    VersionTriple *qemu;
    char *package;
} VersionInfo;

#endif
