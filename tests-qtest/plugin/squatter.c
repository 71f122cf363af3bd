/*
 * For tests only: a device that maps itself where something else may be
 *
 * "addr" is where; "late" has it wait for the machine's reset.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include "plugin.h"

static char *address;
static bool late;
static DeviceRealize parent_realize;

static char *get_address(Object *obj, Error **errp)
{
    (void)obj;
    (void)errp;
    return g_strdup(address);
}

static void set_address(Object *obj, const char *value, Error **errp)
{
    (void)obj;
    (void)errp;
    late = g_str_has_suffix(value, "late");
    address = g_strdup(value);
}

static void map(void *dev)
{
    Object *backend = object_new_with_props("memory-backend-ram", OBJECT(dev),
                                            "squatter", NULL, "size", "4096",
                                            NULL);
    MemoryRegion *region =
        host_memory_backend_get_memory((HostMemoryBackend *)backend);

    memory_region_add_subregion(get_system_memory(),
                                g_ascii_strtoull(address, NULL, 16), region);
}

static void squatter_realize(DeviceState *dev, Error **errp)
{
    if (late) {
        qemu_register_reset(map, dev);
    } else {
        map(dev);
    }
    parent_realize(dev, errp);
}

static void squatter_class_init(ObjectClass *klass, const void *data)
{
    (void)data;
    device_class_set_parent_realize((DeviceClass *)klass, squatter_realize,
                                    &parent_realize);
    object_class_property_add_str(klass, "address", get_address, set_address);
}

/* Other QEMUs are none of its business. */
const char *optimus_check_qemu(void)
{
    return NULL;
}

void optimus_register_types(void)
{
    static const TypeInfo type = {
        .name = "squatter",
        .parent = "pci-testdev",
        .class_init = squatter_class_init,
    };

    type_register_static(&type);
}
