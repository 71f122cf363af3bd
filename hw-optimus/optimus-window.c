/*
 * ROM windows: read-only guest memory below 4 GiB that holds video BIOSes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/queue.h"
#include "hw/i386/e820_memory_layout.h"
#include "system/address-spaces.h"
#include "system/memory.h"
#include "optimus-window.h"
#include "trace.h"

struct OptimusWindow {
    Object parent_obj;

    MemoryRegion region;
    uint32_t base;
    uint32_t rom_size;
    /* Devices; the reference count of the object also counts memory views. */
    unsigned int users;
    bool claimed;
    QLIST_ENTRY(OptimusWindow) next;
};

static QLIST_HEAD(, OptimusWindow) windows =
    QLIST_HEAD_INITIALIZER(windows);

/*
 * Find the next gap at or above *@start in which nothing is mapped: sets
 * *@start and *@end, returns false when there is none.
 */
static bool next_gap(uint32_t *start, uint32_t *end)
{
    uint32_t at = *start;

    *end = *start;
    while (at < OPTIMUS_WINDOW_END) {
        MemoryRegionSection section =
            memory_region_find(get_system_memory(), at, OPTIMUS_PAGE);

        if (!section.mr) {
            at += OPTIMUS_PAGE;
            *end = at;
            continue;
        }
        memory_region_unref(section.mr);
        if (*end > *start) {
            return true;
        }
        at += OPTIMUS_PAGE;
        *start = *end = at;
    }
    return *end > *start;
}

uint32_t optimus_window_room(void)
{
    uint32_t start = OPTIMUS_WINDOW_START, end, room = 0;

    while (next_gap(&start, &end)) {
        room = MAX(room, end - start - OPTIMUS_PAGE);
        start = end;
    }
    return room;
}

/* First fit: the base of a gap of @size bytes, or 0. */
static uint32_t find_base(uint32_t size)
{
    uint32_t start = OPTIMUS_WINDOW_START, end;

    while (next_gap(&start, &end)) {
        if (end - start >= size) {
            return start;
        }
        start = end;
    }
    return 0;
}

static OptimusWindow *find_equal(const uint8_t *rom, uint32_t size)
{
    OptimusWindow *window;

    QLIST_FOREACH(window, &windows, next) {
        if (window->rom_size == size &&
            !memcmp(memory_region_get_ram_ptr(&window->region), rom, size)) {
            return window;
        }
    }
    return NULL;
}

OptimusWindow *optimus_window_get(const uint8_t *rom, uint32_t size,
                                  Error **errp)
{
    ERRP_GUARD();
    OptimusWindow *window = find_equal(rom, size);
    uint32_t base;

    if (window) {
        window->users++;
        trace_vfio_optimus_window(window->base, size, window->users);
        return window;
    }
    base = find_base(OPTIMUS_WINDOW_SIZE(size));
    if (!base) {
        error_setg(errp, "a ROM of %u bytes does not fit in the ROM window at "
                   "0x%x-0x%x: the room left is %u bytes", size,
                   OPTIMUS_WINDOW_START, OPTIMUS_WINDOW_END - 1,
                   optimus_window_room());
        return NULL;
    }

    window = OPTIMUS_WINDOW(object_new(TYPE_OPTIMUS_WINDOW));
    memory_region_init_rom_nomigrate(&window->region, OBJECT(window),
                                     "optimus-rom", OPTIMUS_WINDOW_SIZE(size),
                                     errp);
    if (*errp) {
        object_unref(OBJECT(window));
        return NULL;
    }
    memcpy(memory_region_get_ram_ptr(&window->region), rom, size);
    memory_region_add_subregion(get_system_memory(), base, &window->region);
    window->base = base;
    window->rom_size = size;
    window->users = 1;
    QLIST_INSERT_HEAD(&windows, window, next);
    trace_vfio_optimus_window(base, size, window->users);
    return window;
}

void optimus_window_put(OptimusWindow *window)
{
    if (!window) {
        return;
    }
    window->users--;
    trace_vfio_optimus_window(window->base, window->rom_size, window->users);
    if (window->users) {
        return;
    }
    QLIST_REMOVE(window, next);
    memory_region_del_subregion(get_system_memory(), &window->region);
    object_unref(OBJECT(window));
}

void optimus_window_claim(OptimusWindow *window)
{
    if (!window->claimed) {
        e820_add_entry(window->base, OPTIMUS_WINDOW_SIZE(window->rom_size),
                       E820_RESERVED);
        window->claimed = true;
    }
}

uint32_t optimus_window_base(const OptimusWindow *window)
{
    return window->base;
}

uint32_t optimus_window_rom_size(const OptimusWindow *window)
{
    return window->rom_size;
}

static const TypeInfo optimus_window_info = {
    .name = TYPE_OPTIMUS_WINDOW,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(OptimusWindow),
};

static void optimus_window_register_types(void)
{
    type_register_static(&optimus_window_info);
}

type_init(optimus_window_register_types)
