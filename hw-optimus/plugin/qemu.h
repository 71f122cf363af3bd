/*
 * What the plugin calls in QEMU
 *
 * QEMU's functions keep their names and arguments from version to version,
 * where its structures do not: so one plugin, compiled without QEMU's source,
 * is for all of them.  Here stand declarations of only what is used, by the
 * header that they have in QEMU, whose names the files that are compiled in
 * QEMU's tree, too, include (see include/).  What looks into a structure stands
 * in qemu-structures.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_QEMU_H
#define VFIO_OPTIMUS_QEMU_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib.h>

/* qemu/typedefs.h */

typedef struct AcpiDevAmlIf AcpiDevAmlIf;
typedef struct DeviceClass DeviceClass;
typedef struct DeviceState DeviceState;
typedef struct Error Error;
typedef struct HostMemoryBackend HostMemoryBackend;
typedef struct MemoryRegion MemoryRegion;
typedef struct Object Object;
typedef struct ObjectClass ObjectClass;
typedef struct ObjectProperty ObjectProperty;
typedef struct PCIDevice PCIDevice;
typedef struct TypeImpl *Type;
typedef struct VMChangeStateEntry VMChangeStateEntry;
typedef struct Visitor Visitor;
typedef struct X86MachineState X86MachineState;

#include "qemu-structures.h"

/* qemu/osdep.h */

#ifndef ROUND_UP
#define ROUND_UP(n, d) (((n) + (d) - 1) & -(0 ? (n) : (d)))
#endif

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#endif

#ifndef RETRY_ON_EINTR
#define RETRY_ON_EINTR(call) __extension__ ({ \
    typeof(call) result_; \
    do { \
        result_ = (call); \
    } while (result_ == -1 && errno == EINTR); \
    result_; \
})
#endif

/* As open(2); "/dev/fdset/N" is a descriptor that QEMU was given */
int qemu_open(const char *name, int flags, Error **errp);
int qemu_close(int fd);

/* qapi/error.h */

#ifndef error_setg
#define error_setg(errp, ...) \
    error_setg_internal((errp), __FILE__, __LINE__, __func__, __VA_ARGS__)
#define error_setg_errno(errp, ...) \
    error_setg_errno_internal((errp), __FILE__, __LINE__, __func__, __VA_ARGS__)
#endif

void error_setg_internal(Error **errp, const char *src, int line,
                         const char *func, const char *fmt, ...)
    G_GNUC_PRINTF(5, 6);
void error_setg_errno_internal(Error **errp, const char *src, int line,
                               const char *func, int os_error, const char *fmt,
                               ...)
    G_GNUC_PRINTF(6, 7);
void error_prepend(Error *const *errp, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
void error_append_hint(Error *const *errp, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
void error_propagate(Error **dst_errp, Error *local_err);

/* qemu/error-report.h */

void error_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
int error_printf(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void warn_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* qemu/datadir.h: of firmware, if @type is 0; returns a copy, or NULL */

char *qemu_find_file(int type, const char *name);

/* qapi/qapi-commands-control.h, qapi/qapi-types-control.h, qapi/visitor.h */

VersionInfo *qmp_query_version(Error **errp);
void qapi_free_VersionInfo(VersionInfo *obj);
bool visit_type_uint32(Visitor *v, const char *name, uint32_t *obj,
                       Error **errp);

/* qom/object.h */

#ifndef OBJECT
#define OBJECT(obj) ((Object *)(obj))
#endif

typedef void (ObjectPropertyAccessor)(Object *obj, Visitor *v, const char *name,
                                      void *opaque, Error **errp);
typedef void (ObjectPropertyRelease)(Object *obj, const char *name,
                                     void *opaque);

ObjectClass *object_class_by_name(const char *type_name);
ObjectClass *object_class_dynamic_cast(ObjectClass *klass,
                                       const char *type_name);
bool object_class_is_abstract(ObjectClass *klass);
ObjectProperty *
object_class_property_add(ObjectClass *klass, const char *name,
                          const char *type, ObjectPropertyAccessor *get,
                          ObjectPropertyAccessor *set,
                          ObjectPropertyRelease *release, void *opaque);
ObjectProperty *
object_class_property_add_str(ObjectClass *klass, const char *name,
                              char *(*get)(Object *, Error **),
                              void (*set)(Object *, const char *, Error **));
void object_class_property_set_description(ObjectClass *klass,
                                           const char *name,
                                           const char *description);
Type type_register_static(const TypeInfo *info);
Object *object_dynamic_cast(Object *obj, const char *type_name);
/* Returns an object that belongs to @parent, or NULL */
Object *object_new_with_props(const char *type_name, Object *parent,
                              const char *id, Error **errp, ...)
    G_GNUC_NULL_TERMINATED;
void object_unparent(Object *obj);
bool object_property_get_bool(Object *obj, const char *name, Error **errp);
int64_t object_property_get_int(Object *obj, const char *name, Error **errp);
Object *object_property_get_link(Object *obj, const char *name, Error **errp);
char *object_property_get_str(Object *obj, const char *name, Error **errp);
uint64_t object_property_get_uint(Object *obj, const char *name, Error **errp);
bool object_property_set_str(Object *obj, const char *name, const char *value,
                             Error **errp);
bool object_property_set_uint(Object *obj, const char *name, uint64_t value,
                              Error **errp);

/* hw/qdev-core.h; hw/core/qdev.h from 11.0 on */

typedef void (*DeviceRealize)(DeviceState *dev, Error **errp);
typedef void (*DeviceUnrealize)(DeviceState *dev);

void device_class_set_parent_realize(DeviceClass *dc, DeviceRealize dev_realize,
                                     DeviceRealize *parent_realize);
void device_class_set_parent_unrealize(DeviceClass *dc,
                                       DeviceUnrealize dev_unrealize,
                                       DeviceUnrealize *parent_unrealize);
char *qdev_get_dev_path(DeviceState *dev);
Object *qdev_get_machine(void);

/* sysemu/reset.h, sysemu/runstate.h; system/ from 10.0 on */

typedef void QEMUResetHandler(void *opaque);
/* @state is not looked at */
typedef void VMChangeStateHandler(void *opaque, bool running, RunState state);

bool runstate_check(RunState state);
void qemu_register_reset(QEMUResetHandler *func, void *opaque);
void qemu_unregister_reset(QEMUResetHandler *func, void *opaque);
VMChangeStateEntry *qemu_add_vm_change_state_handler(VMChangeStateHandler *cb,
                                                     void *opaque);
void qemu_del_vm_change_state_handler(VMChangeStateEntry *e);

/* exec/memory.h, exec/address-spaces.h; system/ from 10.1 on */

typedef uint64_t hwaddr;

MemoryRegion *get_system_memory(void);
MemoryRegionSection memory_region_find(MemoryRegion *mr, hwaddr addr,
                                       uint64_t size);
void memory_region_unref(MemoryRegion *mr);
const char *memory_region_name(const MemoryRegion *mr);
void *memory_region_get_ram_ptr(MemoryRegion *mr);
void memory_region_set_readonly(MemoryRegion *mr, bool readonly);
void memory_region_add_subregion(MemoryRegion *mr, hwaddr offset,
                                 MemoryRegion *subregion);
void memory_region_del_subregion(MemoryRegion *mr, MemoryRegion *subregion);

/* sysemu/hostmem.h */

MemoryRegion *host_memory_backend_get_memory(HostMemoryBackend *backend);

/* hw/pci/pci.h, hw/i386/x86.h */

uint32_t pci_default_read_config(PCIDevice *d, uint32_t address, int len);
bool x86_machine_is_acpi_enabled(const X86MachineState *x86ms);

/* hw/acpi/aml-build.h: terms belong to the allocator, and are freed with it */

Aml *init_aml_allocator(void);
void free_aml_allocator(void);
void aml_append(Aml *parent_ctx, Aml *child);
Aml *aml_add(Aml *arg1, Aml *arg2, Aml *dst);
Aml *aml_and(Aml *arg1, Aml *arg2, Aml *dst);
Aml *aml_arg(int pos);
Aml *aml_concatenate(Aml *source1, Aml *source2, Aml *target);
Aml *aml_field(const char *name, AmlAccessType type, AmlLockRule lock,
               AmlUpdateRule rule);
Aml *aml_if(Aml *predicate);
Aml *aml_int(const uint64_t val);
Aml *aml_lgreater(Aml *arg1, Aml *arg2);
Aml *aml_local(int num);
Aml *aml_method(const char *name, int arg_count, AmlSerializeFlag sflag);
Aml *aml_name(const char *name_format, ...) G_GNUC_PRINTF(1, 2);
Aml *aml_named_field(const char *name, unsigned length);
Aml *aml_operation_region(const char *name, AmlRegionSpace rs, Aml *offset,
                          uint32_t len);
Aml *aml_or(Aml *arg1, Aml *arg2, Aml *dst);
Aml *aml_return(Aml *val);
Aml *aml_store(Aml *val, Aml *target);
Aml *aml_subtract(Aml *arg1, Aml *arg2, Aml *dst);

/* The version of the QEMU that this is in: 702 is 7.2 */
static inline int qemu_version(void)
{
    VersionInfo *info = qmp_query_version(NULL);
    int version = info->qemu->major * 100 + info->qemu->minor;

    qapi_free_VersionInfo(info);
    return version;
}

#endif
