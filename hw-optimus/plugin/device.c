/*
 * Assignment of a muxless NVIDIA Optimus GPU, with its video BIOS in ACPI _ROM:
 * the device of the plugin
 *
 * Such a GPU has no flash of its own: the laptop's firmware keeps its video
 * BIOS, and drivers fetch it with the ACPI method _ROM of the GPU's node.  This
 * is vfio-pci with that method, and with the subsystem IDs that the card had
 * when the host's firmware initialized it.
 *
 * It runs in every QEMU from 7.2 on, and so knows the parent by its properties
 * only, and QEMU by its functions (qemu.h).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include <dlfcn.h>
#include <stdlib.h>
#include "../core/optimus-aml.h"
#include "../core/optimus-judge.h"
#include "../core/optimus-window.h"
#include "plugin.h"

/* Compared with what QEMU itself calls it by */
#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_BASE_CLASS_DISPLAY 0x03

typedef struct Optimus {
    DeviceState *dev;
    MemoryRegion *region;       /* the ROM window */
    Object *backend;            /* its memory, a child of the device */
    uint32_t base;
    uint32_t rom_size;
    const char *subsystem_ids;
    bool aml_built;
    bool was_running;           /* the guest, maybe in another QEMU */
    VMChangeStateEntry *running;
} Optimus;

/* By device: what has to be remembered cannot be in the parent's instance. */
static GHashTable *optimuses;

static Optimus *get_optimus(void *dev)
{
    return g_hash_table_lookup(optimuses, dev);
}

/* The video BIOS */

/* The size in bytes of the largest ROM that there is room for */
static uint32_t window_room(void)
{
    uint32_t size = OPTIMUS_WINDOW_END - OPTIMUS_WINDOW_START;

    while (size > OPTIMUS_WINDOW_SIZE(0) && !optimus_window_find(size)) {
        size -= OPTIMUS_PAGE;
    }
    return size - OPTIMUS_WINDOW_SIZE(0);
}

/*
 * Read the file that the property romfile names, found as the PCI core finds
 * it.  Sets *@path to where it is, to be freed by the caller.
 */
static GByteArray *read_romfile(const char *romfile, char **path, Error **errp)
{
    g_autoptr(GByteArray) rom = g_byte_array_new();
    struct stat before, after;
    ssize_t got;
    char extra;
    int fd;

    *path = qemu_find_file(0 /* BIOS */, romfile) ?: g_strdup(romfile);
    fd = qemu_open(*path, O_RDONLY | O_NONBLOCK, errp);
    if (fd < 0) {
        error_prepend(errp, "romfile: ");
        return NULL;
    }
    if (fstat(fd, &before) || !S_ISREG(before.st_mode)) {
        error_setg(errp, "romfile '%s' is not a regular file", *path);
        goto fail;
    }
    if (!before.st_size) {
        error_setg(errp, "romfile '%s' is empty", *path);
        goto fail;
    }
    if (before.st_size > OPTIMUS_ROM_MAX) {
        error_setg(errp, "romfile '%s' has %" PRId64 " bytes; the ROM window "
                   "has room for %u, of which %u are left", *path,
                   (int64_t)before.st_size, OPTIMUS_ROM_MAX, window_room());
        goto fail;
    }

    g_byte_array_set_size(rom, before.st_size);
    for (unsigned int at = 0; at < rom->len; at += got) {
        got = RETRY_ON_EINTR(read(fd, rom->data + at, rom->len - at));
        if (got < 0) {
            error_setg_errno(errp, errno, "romfile '%s' cannot be read", *path);
            goto fail;
        }
        if (!got) {
            error_setg(errp, "romfile '%s' changed while it was read: %u of "
                       "its %u bytes were there", *path, at, rom->len);
            goto fail;
        }
    }
    if (RETRY_ON_EINTR(read(fd, &extra, 1)) || fstat(fd, &after) ||
        before.st_size != after.st_size ||
        before.st_mtim.tv_sec != after.st_mtim.tv_sec ||
        before.st_mtim.tv_nsec != after.st_mtim.tv_nsec) {
        error_setg(errp, "romfile '%s' changed while it was read", *path);
        goto fail;
    }
    qemu_close(fd);
    return g_steal_pointer(&rom);

fail:
    qemu_close(fd);
    return NULL;
}

/* The images of the ROM, or NULL with @errp set. */
static GArray *parse_rom(const char *path, const GByteArray *rom, Error **errp)
{
    g_autofree char *why = NULL, *from = NULL, *to = NULL;
    g_autofree char *cut = g_strconcat(path, ".cut", NULL);
    GArray *images = optimus_rom_parse(rom->data, rom->len, 0, &why);
    size_t start;

    if (images) {
        return images;
    }
    if (rom->len >= 2 && rom->data[0] == 0x55 && rom->data[1] == 0xaa) {
        error_setg(errp, "romfile '%s' is broken: %s", path, why);
        return NULL;
    }
    start = optimus_rom_find(rom->data, rom->len, 0);
    if (start == rom->len) {
        error_setg(errp, "romfile '%s' is not a video BIOS: %s, and none "
                   "starts further in", path, why);
        return NULL;
    }
    error_setg(errp, "romfile '%s' does not start with an option ROM image: %s "
               "it starts at offset 0x%zx", path,
               rom->len >= 4 && !memcmp(rom->data, "NVGI", 4) ?
               "after an NVGI header" : "after other data", start);
    from = g_shell_quote(path);
    to = g_shell_quote(cut);
    error_append_hint(errp, "Cut it out with: tail -c +%zu -- %s >%s\n",
                      start + 1, from, to);
    return NULL;
}

/* Without an x86 image there is no video BIOS, whatever the card is. */
static bool check_x86(const char *path, const GByteArray *rom,
                      const GArray *images, Error **errp)
{
    const OptimusImage *first = &g_array_index(images, OptimusImage, 0);
    g_autoptr(GPtrArray) remarks = g_ptr_array_new_with_free_func(g_free);

    if (optimus_rom_x86(images)) {
        return true;
    }
    optimus_rom_judge(rom->data, images, first->vendor, first->device, remarks);
    error_setg(errp, "romfile '%s' cannot be used: %s", path,
               (char *)remarks->pdata[0]);
    return false;
}

/* Warn of what drivers will not like; needs a realized parent. */
static void check_rom(PCIDevice *pdev, const char *path, const GByteArray *rom,
                      const GArray *images)
{
    uint16_t vendor = pci_default_read_config(pdev, PCI_VENDOR_ID, 2);
    uint16_t device = pci_default_read_config(pdev, PCI_DEVICE_ID, 2);
    g_autoptr(GPtrArray) remarks = g_ptr_array_new_with_free_func(g_free);

    optimus_rom_judge(rom->data, images, vendor, device, remarks);
    for (unsigned int i = 0; i < remarks->len; i++) {
        warn_report("romfile '%s': %s", path, (char *)remarks->pdata[i]);
    }
}

/* The ROM window */

/*
 * Map @rom, read-only, at the first free place of the window's range.  A memory
 * backend holds it: that outlives the device for as long as memory views of
 * QEMU's threads still have it.
 */
static bool map_rom(Optimus *s, const char *path, const GByteArray *rom,
                    Error **errp)
{
    g_autofree char *size =
        g_strdup_printf("%u", OPTIMUS_WINDOW_SIZE(rom->len));

    s->base = optimus_window_find(OPTIMUS_WINDOW_SIZE(rom->len));
    if (!s->base) {
        error_setg(errp, "romfile '%s': a ROM of %u bytes does not fit in the "
                   "ROM window at 0x%x-0x%x: the room left is %u bytes", path,
                   rom->len, OPTIMUS_WINDOW_START, OPTIMUS_WINDOW_END - 1,
                   window_room());
        return false;
    }
    s->backend = object_new_with_props("memory-backend-ram", OBJECT(s->dev),
                                       "optimus-rom", errp, "size", size, NULL);
    if (!s->backend) {
        error_prepend(errp, "romfile '%s': ", path);
        return false;
    }
    s->region =
        host_memory_backend_get_memory((HostMemoryBackend *)s->backend);
    memcpy(memory_region_get_ram_ptr(s->region), rom->data, rom->len);
    memory_region_set_readonly(s->region, true);
    memory_region_add_subregion(get_system_memory(), s->base, s->region);

    s->rom_size = rom->len;
    return true;
}

static void unmap_rom(Optimus *s)
{
    memory_region_del_subregion(get_system_memory(), s->region);
    object_unparent(s->backend);
    s->base = s->rom_size = 0;
}

/*
 * A device that comes later on the command line, or that is mapped when the
 * machine is reset, may lie over the window: the guest would read a wrong ROM.
 * Not to be called once the guest runs, as a guest can map things there, too.
 */
static void check_window(Optimus *s)
{
    const uint32_t size = OPTIMUS_WINDOW_SIZE(s->rom_size);
    uint32_t at = s->base;
    g_autofree char *path = NULL;
    MemoryRegionSection section =
        memory_region_find(get_system_memory(), at, size);

    if (section.mr == s->region && section.size == size) {
        memory_region_unref(section.mr);
        return;
    }
    if (section.mr == s->region) {
        at += section.size;
        section = memory_region_find(get_system_memory(), at,
                                     size - section.size);
    }
    path = qdev_get_dev_path(s->dev);
    error_report(TYPE_VFIO_OPTIMUS ": '%s' at 0x%x lies over the video BIOS of "
                 "the device at %s (0x%x-0x%x): remove the device that it "
                 "belongs to, or put it before " TYPE_VFIO_OPTIMUS " on the "
                 "command line",
                 section.mr ? memory_region_name(section.mr) : "nothing", at,
                 path, s->base, s->base + size - 1);
    exit(1);
}

/* The device */

/* PC machines with ACPI tables are where _ROM can be put. */
static bool check_machine(Error **errp)
{
    Object *machine = qdev_get_machine();

    if (!object_dynamic_cast(machine, "generic-pc-machine")) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " needs a machine of the type q35 "
                   "or pc, whose ACPI tables can hold _ROM");
        return false;
    }
    if (!x86_machine_is_acpi_enabled((X86MachineState *)machine)) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " needs ACPI tables to put _ROM "
                   "into, and this machine has none");
        error_append_hint(errp, "Remove acpi=off from -machine.\n");
        return false;
    }
    if (object_property_get_link(machine, "confidential-guest-support", NULL)) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " cannot be in a confidential guest "
                   "(SEV, TDX), which would take the video BIOS for encrypted");
        error_append_hint(errp, "Remove confidential-guest-support from "
                          "-machine.\n");
        return false;
    }
    return true;
}

/*
 * At the first reset the ACPI tables are built.  QEMU describes no devices
 * after an expander bridge (pxb, pxb-pcie), and until 7.2 none after a bridge
 * without ACPI hotplug; and old machine types have no tables of QEMU's at all.
 */
static void check_at_reset(void *opaque)
{
    Optimus *s = opaque;
    g_autofree char *path = NULL;

    if (s->aml_built) {
        if (!s->was_running) {
            check_window(s);
        }
        return;
    }
    path = qdev_get_dev_path(s->dev);
    error_report(TYPE_VFIO_OPTIMUS ": QEMU has built no ACPI node for the "
                 "device at %s, so that it has no _ROM", path);
    /* In machine types of that age it has no bus number. */
    if (strlen(path) < strlen("0000:00:00.0")) {
        error_printf("Take another machine type, such as pc or q35: this one "
                     "has no ACPI tables of QEMU's.\n");
    } else {
        error_printf("Attach it to the root bus or to a root port on it, not "
                     "to an expander bridge (pxb); with QEMU 7.2, do not turn "
                     "off acpi-pci-hotplug-with-bridge-support.\n");
    }
    exit(1);
}

/* Before the guest's first instruction, after all that a reset does */
static void check_at_start(void *opaque, bool running, RunState state)
{
    Optimus *s = opaque;

    (void)state;
    if (running && !s->was_running) {
        check_window(s);
        s->was_running = true;
    }
}

static void build_aml(AcpiDevAmlIf *adev, Aml *scope)
{
    Optimus *s = get_optimus(adev);

    optimus_build_rom_method(scope, s->base, OPTIMUS_ROM_END(s->rom_size));
    s->aml_built = true;
}

/*
 * List addresses in the guest's memory map, which takes nothing back: nothing
 * may fail afterwards.  Before QEMU 10.0 fw_cfg points into the map already.
 */
static void reserve_in_e820(uint64_t base, uint64_t size)
{
    void (*add)(uint64_t base, uint64_t size, uint32_t type) =
        dlsym(RTLD_DEFAULT, "e820_add_entry");

    if (qemu_version() >= 1000 && add) {
        add(base, size, 2 /* E820_RESERVED */);
    }
}

static DeviceRealize parent_realize;
static DeviceUnrealize parent_unrealize;

static bool realize(Optimus *s, Error **errp)
{
    Object *obj = OBJECT(s->dev);
    g_autofree char *romfile = object_property_get_str(obj, "romfile", NULL);
    g_autofree char *path = NULL;
    g_autoptr(GByteArray) rom = NULL;
    g_autoptr(GArray) images = NULL;

    if (!check_machine(errp)) {
        return false;
    }
    if (!romfile || !*romfile) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " needs the video BIOS: "
                   "set romfile=FILE");
        return false;
    }
    if (object_property_get_uint(obj, "acpi-index", NULL)) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " cannot have an acpi-index: QEMU "
                   "adds a _DSM for it, which NVIDIA's drivers would call");
        error_append_hint(errp, "Remove acpi-index.\n");
        return false;
    }
    rom = read_romfile(romfile, &path, errp);
    if (!rom) {
        return false;
    }
    images = parse_rom(path, rom, errp);
    if (!images || !check_x86(path, rom, images, errp)) {
        return false;
    }
    /* QEMU would hand it to SeaBIOS through fw_cfg, which executes it. */
    if (!object_property_get_int(obj, "rombar", NULL)) {
        object_property_set_str(obj, "romfile", "", NULL);
    }
    s->subsystem_ids = optimus_set_subsystem_ids(obj);
    if (!map_rom(s, path, rom, errp)) {
        return false;
    }
    parent_realize(s->dev, errp);
    if (*errp) {
        unmap_rom(s);
        return false;
    }
    check_rom((PCIDevice *)s->dev, path, rom, images);
    /* The firmware has been given the map when devices can be hotplugged. */
    if (!object_property_get_bool(obj, "hotplugged", NULL)) {
        reserve_in_e820(s->base, OPTIMUS_WINDOW_SIZE(s->rom_size));
    }
    s->was_running = runstate_check(RUN_STATE_INMIGRATE);
    qemu_register_reset(check_at_reset, s);
    s->running = qemu_add_vm_change_state_handler(check_at_start, s);
    return true;
}

static void vfio_optimus_realize(DeviceState *dev, Error **errp)
{
    Error *err = NULL;

    if (!realize(get_optimus(dev), &err)) {
        error_propagate(errp, err);
    }
}

static void vfio_optimus_unrealize(DeviceState *dev)
{
    Optimus *s = get_optimus(dev);

    qemu_del_vm_change_state_handler(s->running);
    qemu_unregister_reset(check_at_reset, s);
    parent_unrealize(dev);
    unmap_rom(s);
}

static void get_number(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    char *s = (char *)get_optimus(obj);
    uint32_t *value = (uint32_t *)(s + GPOINTER_TO_SIZE(opaque));

    visit_type_uint32(v, name, value, errp);
}

static char *get_subsystem_ids(Object *obj, Error **errp)
{
    (void)errp;
    return g_strdup(get_optimus(obj)->subsystem_ids);
}

static void vfio_optimus_init(Object *obj)
{
    Optimus *s = g_new0(Optimus, 1);

    s->dev = (DeviceState *)obj;
    s->subsystem_ids = "";
    g_hash_table_insert(optimuses, obj, s);
}

static void vfio_optimus_finalize(Object *obj)
{
    g_hash_table_remove(optimuses, obj);
}

static void vfio_optimus_class_init(ObjectClass *klass, const void *data)
{
    DeviceClass *dc = (DeviceClass *)klass;

    (void)data;
    device_class_set_parent_realize(dc, vfio_optimus_realize, &parent_realize);
    device_class_set_parent_unrealize(dc, vfio_optimus_unrealize,
                                      &parent_unrealize);
    *optimus_build_aml_slot(klass) = build_aml;

    object_class_property_add(klass, "rom-address", "uint32", get_number, NULL,
                              NULL, GSIZE_TO_POINTER(offsetof(Optimus, base)));
    object_class_property_set_description(klass, "rom-address",
        "Guest physical address of the video BIOS, 0 before realize");
    object_class_property_add(klass, "rom-size", "uint32", get_number, NULL,
                              NULL,
                              GSIZE_TO_POINTER(offsetof(Optimus, rom_size)));
    object_class_property_set_description(klass, "rom-size",
        "Size of the video BIOS in bytes, 0 before realize");
    object_class_property_add_str(klass, "subsystem-ids", get_subsystem_ids,
                                  NULL);
    object_class_property_set_description(klass, "subsystem-ids",
        "Where the subsystem IDs come from: user, sysfs, or device");
}

void optimus_register_types(void)
{
    static const InterfaceInfo interfaces[] = {
        { TYPE_ACPI_DEV_AML_IF },
        { NULL }
    };
    /*
     * Not hotpluggable: ACPI tables are built at boot, and QEMU gives a
     * hotpluggable slot a _DSM that NVIDIA's drivers would call with arguments
     * of their own.
     */
    static const TypeInfo type = {
        .name = TYPE_VFIO_OPTIMUS,
        .parent = OPTIMUS_PARENT,
        .instance_init = vfio_optimus_init,
        .instance_finalize = vfio_optimus_finalize,
        .class_init = vfio_optimus_class_init,
        .interfaces = interfaces,
    };

    if (object_class_by_name(TYPE_VFIO_OPTIMUS)) {
        return;
    }
    optimuses = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    type_register_static(&type);
}
