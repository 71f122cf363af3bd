/*
 * Compiled with the headers of a QEMU: what the plugin declares of it is so
 *
 * A prototype that differs is an error of the compiler's, a structure that does
 * is a failed assertion.  See hw-optimus/plugin/qemu.h and qemu-structures.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-types-control.h"
#include "qapi/visitor.h"
#include "qemu/datadir.h"
#include "qemu/error-report.h"
#include "qom/object.h"
#include "hw/acpi/acpi_aml_interface.h"
#include "hw/i386/x86.h"
#include "hw/pci/pci.h"
#if __has_include("hw/core/qdev.h")
#include "hw/core/qdev.h"
#else
#include "hw/qdev-core.h"
#endif
#if __has_include("system/memory.h")
#include "system/address-spaces.h"
#include "system/memory.h"
#else
#include "exec/address-spaces.h"
#include "exec/memory.h"
#endif
#if __has_include("system/reset.h")
#include "system/hostmem.h"
#include "system/reset.h"
#include "system/runstate.h"
#else
#include "sysemu/hostmem.h"
#include "sysemu/reset.h"
#include "sysemu/runstate.h"
#endif

/* An enumeration from 10.1 on, of which 0 still is the firmware */
#ifdef FILE_TYPE_IS_ENUMERATION
_Static_assert(QEMU_FILE_TYPE_BIOS == 0, "QEMU_FILE_TYPE_BIOS");
#define qemu_find_file qemu_find_file_before_10_1
#endif

/* The prototypes, with QEMU's structures */
#define VFIO_OPTIMUS_QEMU_STRUCTURES_H
#include "../../hw-optimus/plugin/qemu.h"

/* The structures, under other names */
#undef VFIO_OPTIMUS_QEMU_STRUCTURES_H
#define InterfaceInfo           OurInterfaceInfo
#define TypeInfo                OurTypeInfo
#define Aml                     OurAml
#define AmlRegionSpace          OurAmlRegionSpace
#define AmlAccessType           OurAmlAccessType
#define AmlLockRule             OurAmlLockRule
#define AmlUpdateRule           OurAmlUpdateRule
#define AmlSerializeFlag        OurAmlSerializeFlag
#define AML_SYSTEM_MEMORY       OUR_AML_SYSTEM_MEMORY
#define AML_QWORD_ACC           OUR_AML_QWORD_ACC
#define AML_NOLOCK              OUR_AML_NOLOCK
#define AML_PRESERVE            OUR_AML_PRESERVE
#define AML_SERIALIZED          OUR_AML_SERIALIZED
#define RunState                OurRunState
#define RUN_STATE_INMIGRATE     OUR_RUN_STATE_INMIGRATE
#define MemoryRegionSection     OurMemoryRegionSection
#define VersionTriple           OurVersionTriple
#define VersionInfo             OurVersionInfo
#include "../../hw-optimus/plugin/qemu-structures.h"
#undef InterfaceInfo
#undef TypeInfo
#undef Aml
#undef AML_SYSTEM_MEMORY
#undef AML_QWORD_ACC
#undef AML_NOLOCK
#undef AML_PRESERVE
#undef AML_SERIALIZED
#undef RunState
#undef RUN_STATE_INMIGRATE
#undef MemoryRegionSection
#undef VersionTriple
#undef VersionInfo

#define SAME(a, b) _Static_assert((a) == (b), #a " and " #b)
#define SAME_SIZE(type) SAME(sizeof(type), sizeof(Our##type))
#define SAME_MEMBER(type, member) \
    SAME(offsetof(type, member), offsetof(Our##type, member)); \
    SAME(sizeof(((type *)0)->member), sizeof(((Our##type *)0)->member))

SAME_SIZE(InterfaceInfo);
SAME_MEMBER(InterfaceInfo, type);
SAME_SIZE(TypeInfo);
SAME_MEMBER(TypeInfo, name);
SAME_MEMBER(TypeInfo, parent);
SAME_MEMBER(TypeInfo, instance_size);
SAME_MEMBER(TypeInfo, instance_align);
SAME_MEMBER(TypeInfo, instance_init);
SAME_MEMBER(TypeInfo, instance_post_init);
SAME_MEMBER(TypeInfo, instance_finalize);
SAME_MEMBER(TypeInfo, abstract);
SAME_MEMBER(TypeInfo, class_size);
SAME_MEMBER(TypeInfo, class_init);
SAME_MEMBER(TypeInfo, class_base_init);
SAME_MEMBER(TypeInfo, class_data);
SAME_MEMBER(TypeInfo, interfaces);
SAME_MEMBER(Aml, buf);
SAME_MEMBER(Aml, op);
SAME(AML_SYSTEM_MEMORY, OUR_AML_SYSTEM_MEMORY);
SAME(AML_QWORD_ACC, OUR_AML_QWORD_ACC);
SAME(AML_NOLOCK, OUR_AML_NOLOCK);
SAME(AML_PRESERVE, OUR_AML_PRESERVE);
SAME(AML_SERIALIZED, OUR_AML_SERIALIZED);
SAME(sizeof(RunState), sizeof(OurRunState));
SAME(RUN_STATE_INMIGRATE, OUR_RUN_STATE_INMIGRATE);
_Static_assert(sizeof(MemoryRegionSection) <= sizeof(OurMemoryRegionSection),
               "room for what memory_region_find() returns");
SAME_MEMBER(MemoryRegionSection, size);
SAME_MEMBER(MemoryRegionSection, mr);
SAME_SIZE(VersionTriple);
SAME_MEMBER(VersionTriple, major);
SAME_MEMBER(VersionTriple, minor);
SAME_SIZE(VersionInfo);
SAME_MEMBER(VersionInfo, qemu);
SAME_MEMBER(VersionInfo, package);
