/*
 * Assignment of a muxless NVIDIA Optimus GPU, with its video BIOS in ACPI _ROM
 *
 * Such a GPU has no flash of its own: the laptop's firmware keeps its video
 * BIOS, and drivers fetch it with the ACPI method _ROM of the GPU's node.  This
 * is vfio-pci with that method, and with the subsystem IDs that the card had
 * when the host's firmware initialized it.
 *
 * Nothing of the parent's instance is looked at but its properties; what has to
 * be remembered here is in a child object.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/sysmacros.h>
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/cutils.h"
#include "qemu/datadir.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "hw/acpi/acpi_aml_interface.h"
#include "hw/i386/pc.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_device.h"
#include "system/reset.h"
#include "optimus-aml.h"
#include "optimus-rom.h"
#include "optimus-window.h"
#include "trace.h"

#define TYPE_VFIO_OPTIMUS "vfio-optimus"

/* The tests of firmware and topology replace it: they have no VFIO device. */
#ifndef VFIO_OPTIMUS_PARENT
#define VFIO_OPTIMUS_PARENT "vfio-pci"
#endif

#define TYPE_VFIO_OPTIMUS_STATE "vfio-optimus-state"
OBJECT_DECLARE_SIMPLE_TYPE(VFIOOptimusState, VFIO_OPTIMUS_STATE)

struct VFIOOptimusState {
    Object parent_obj;

    OptimusWindow *window;
    const char *subsystem_ids;
    bool aml_built;
};

#define STATE_CHILD "optimus"

static VFIOOptimusState *get_state(Object *obj)
{
    return VFIO_OPTIMUS_STATE(object_resolve_path_component(obj, STATE_CHILD));
}

/* The video BIOS */

/*
 * Read the file that the property romfile names, found as the PCI core finds
 * it.  Sets *@path to where it is, to be freed by the caller.
 */
static GByteArray *read_romfile(const char *romfile, char **path, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GByteArray) rom = g_byte_array_new();
    struct stat before, after;
    uint32_t room;
    ssize_t got;
    char extra;
    int fd;

    *path = qemu_find_file(QEMU_FILE_TYPE_BIOS, romfile) ?: g_strdup(romfile);
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
    room = OPTIMUS_WINDOW_END - OPTIMUS_WINDOW_START - OPTIMUS_PAGE;
    if (before.st_size > room) {
        error_setg(errp, "romfile '%s' has %" PRId64 " bytes; the ROM window "
                   "has room for %u, of which %u are left", *path,
                   (int64_t)before.st_size, room, optimus_window_room());
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
               "behind an NVGI header" : "behind other data", start);
    from = g_shell_quote(path);
    to = g_shell_quote(cut);
    error_append_hint(errp, "Cut it out with: tail -c +%zu -- %s >%s\n",
                      start + 1, from, to);
    return NULL;
}

/* Warn of what drivers may not like; needs a realized parent. */
static void check_rom(PCIDevice *pdev, const char *path, const GByteArray *rom,
                      const GArray *images)
{
    uint16_t vendor = pci_default_read_config(pdev, PCI_VENDOR_ID, 2);
    uint16_t device = pci_default_read_config(pdev, PCI_DEVICE_ID, 2);
    const OptimusImage *first = &g_array_index(images, OptimusImage, 0);
    bool found = false;

    for (unsigned int i = 0; i < images->len; i++) {
        const OptimusImage *image = &g_array_index(images, OptimusImage, i);
        uint8_t sum = optimus_image_sum(rom->data, image);

        found |= optimus_image_is_for(rom->data, image, vendor, device);
        if (image->code_type == OPTIMUS_CODE_X86 && sum) {
            warn_report("romfile '%s': the bytes of the image at offset 0x%zx "
                        "add up to 0x%02x, not to 0; nouveau's fast path will "
                        "not take it", path, image->offset, sum);
        }
    }
    if (!found) {
        warn_report("romfile '%s': no image is for this device, %04x:%04x; the "
                    "first one is for %04x:%04x", path, vendor, device,
                    first->vendor, first->device);
    }
    if (first->class_code >> 16 != PCI_BASE_CLASS_DISPLAY) {
        warn_report("romfile '%s': the class code of the first image is "
                    "0x%06x, which is not a display controller's", path,
                    first->class_code);
    }
}

/* Subsystem IDs */

/*
 * The card's own copy of its subsystem IDs is lost with a reset or a power
 * cycle: the firmware wrote it once, at boot.  The kernel read it at
 * enumeration, before that could happen, and still shows it in sysfs.
 */

/*
 * The device whose fd QEMU was given.  The parent does not tell which fd that
 * is: there must be only one, or host= has to be set beside fd=.
 */
static char *sysfs_dir_of_fd(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    g_autofree char *found = NULL;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *sysfs = NULL, *vfio = NULL;
        struct stat st;

        if (fstat(atoi(name), &st) || !S_ISCHR(st.st_mode)) {
            continue;
        }
        sysfs = g_strdup_printf("/sys/dev/char/%u:%u/device",
                                major(st.st_rdev), minor(st.st_rdev));
        vfio = g_build_filename(sysfs, "vfio-dev", NULL);
        if (!g_file_test(vfio, G_FILE_TEST_IS_DIR)) {
            continue;
        }
        if (found) {
            warn_report("several VFIO devices are open, and the subsystem IDs "
                        "of this one are not known; set host= beside fd=");
            return NULL;
        }
        found = g_steal_pointer(&sysfs);
    }
    return g_steal_pointer(&found);
}

/* The sysfs directory of the host's device, or NULL if there is none. */
static char *find_sysfs_dir(Object *obj)
{
    g_autofree char *sysfsdev = object_property_get_str(obj, "sysfsdev", NULL);
    g_autofree char *host = object_property_get_str(obj, "host", NULL);
    g_autofree char *dir = NULL;

    if (sysfsdev && *sysfsdev) {
        return g_steal_pointer(&sysfsdev);
    }
    dir = host ? g_strdup_printf("/sys/bus/pci/devices/%s", host) : NULL;
    if (dir && g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        return g_steal_pointer(&dir);
    }
    return sysfs_dir_of_fd();
}

static bool is_set(Object *obj, const char *property)
{
    return object_property_get_uint(obj, property, NULL) != UINT32_MAX;
}

/* Read a number as sysfs has it, from what need not be sysfs: any directory. */
static bool read_id(const char *path, unsigned int *id)
{
    char text[16] = "";
    int fd = qemu_open(path, O_RDONLY | O_NONBLOCK, NULL);
    ssize_t got;

    if (fd < 0) {
        return false;
    }
    got = RETRY_ON_EINTR(read(fd, text, sizeof(text) - 1));
    qemu_close(fd);
    return got > 0 && !qemu_strtoui(g_strchomp(text), NULL, 16, id);
}

/* Set @property from the file @name in @dir, if the kernel knows the ID. */
static void set_subsystem_id(Object *obj, const char *property, const char *dir,
                             const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    unsigned int id;

    if (!read_id(path, &id)) {
        warn_report("the host's kernel does not tell a subsystem ID of this "
                    "device: cannot read '%s'; set %s if the driver needs it",
                    path, property);
        return;
    }
    if (id == 0 || id == 0xffff) {
        warn_report("the host's kernel does not know a subsystem ID of this "
                    "device: '%s' is 0x%04x; set %s if the driver needs it",
                    path, id, property);
        return;
    }
    trace_vfio_optimus_subsystem_id(dir, property, id);
    object_property_set_uint(obj, property, id, &error_abort);
}

/*
 * Set those subsystem IDs that the user did not set.  Returns where they come
 * from: "user", "sysfs", or "device" for what its config space says.
 */
static const char *set_subsystem_ids(Object *obj)
{
    static const struct {
        const char *property;
        const char *file;
    } ids[] = {
        { "x-pci-sub-vendor-id", "subsystem_vendor" },
        { "x-pci-sub-device-id", "subsystem_device" },
    };
    g_autofree char *dir = find_sysfs_dir(obj);
    const char *source = "user";

    for (unsigned int i = 0; i < ARRAY_SIZE(ids); i++) {
        if (is_set(obj, ids[i].property)) {
            continue;
        }
        if (dir) {
            set_subsystem_id(obj, ids[i].property, dir, ids[i].file);
        }
        source = is_set(obj, ids[i].property) ? "sysfs" : "device";
    }
    return source;
}

/* The device */

/* PC machines with ACPI tables are where _ROM can be put. */
static bool check_machine(Error **errp)
{
    Object *machine = qdev_get_machine();

    if (!object_dynamic_cast(machine, TYPE_PC_MACHINE)) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " needs a machine of the type q35 "
                   "or pc, whose ACPI tables can hold _ROM");
        return false;
    }
    if (!x86_machine_is_acpi_enabled(X86_MACHINE(machine))) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " needs ACPI tables to put _ROM "
                   "into, and this machine has none");
        error_append_hint(errp, "Remove acpi=off from -machine.\n");
        return false;
    }
    return true;
}

/*
 * At the first reset the ACPI tables are built.  QEMU describes no devices
 * behind an expander bridge (pxb, pxb-pcie), and until 7.2 none behind a bridge
 * without ACPI hotplug; and some machine types have no tables of QEMU's at all.
 */
static void check_aml_built(void *opaque)
{
    Object *obj = opaque;
    char *path;

    if (get_state(obj)->aml_built) {
        return;
    }
    path = qdev_get_dev_path(DEVICE(obj));
    error_report(TYPE_VFIO_OPTIMUS ": QEMU has built no ACPI node for the "
                 "device at %s, so that it has no _ROM", path);
    error_printf("Attach it to the root bus or to a root port on it, not "
                 "behind an expander bridge (pxb); with QEMU 7.2, do not "
                 "turn off acpi-pci-hotplug-with-bridge-support.\n");
    g_free(path);
    exit(1);
}

static void vfio_optimus_build_aml(AcpiDevAmlIf *adev, Aml *scope)
{
    VFIOOptimusState *s = get_state(OBJECT(adev));
    g_autofree char *path = qdev_get_dev_path(DEVICE(adev));
    uint32_t base = optimus_window_base(s->window);
    uint32_t size = optimus_window_rom_size(s->window);

    trace_vfio_optimus_build_aml(path, base, size);
    optimus_build_rom_method(scope, base, size);
    s->aml_built = true;
}

static DeviceClass *parent_class(void)
{
    return DEVICE_CLASS(object_class_by_name(VFIO_OPTIMUS_PARENT));
}

static void vfio_optimus_realize(DeviceState *dev, Error **errp)
{
    ERRP_GUARD();
    Object *obj = OBJECT(dev);
    VFIOOptimusState *s = get_state(obj);
    g_autofree char *romfile = object_property_get_str(obj, "romfile", NULL);
    g_autofree char *path = NULL;
    g_autoptr(GByteArray) rom = NULL;
    g_autoptr(GArray) images = NULL;

    if (!check_machine(errp)) {
        return;
    }
    if (!romfile || !*romfile) {
        error_setg(errp, TYPE_VFIO_OPTIMUS " needs the video BIOS: "
                   "set romfile=FILE");
        return;
    }
    rom = read_romfile(romfile, &path, errp);
    if (!rom) {
        return;
    }
    images = parse_rom(path, rom, errp);
    if (!images) {
        return;
    }
    trace_vfio_optimus_romfile(path, rom->len, images->len);

    s->subsystem_ids = set_subsystem_ids(obj);
    s->window = optimus_window_get(rom->data, rom->len, errp);
    if (!s->window) {
        error_prepend(errp, "romfile '%s': ", path);
        return;
    }

    parent_class()->realize(dev, errp);
    if (*errp) {
        optimus_window_put(g_steal_pointer(&s->window));
        return;
    }

    check_rom(PCI_DEVICE(dev), path, rom, images);
    optimus_window_claim(s->window);
    qemu_register_reset(check_aml_built, obj);
}

static void vfio_optimus_unrealize(DeviceState *dev)
{
    VFIOOptimusState *s = get_state(OBJECT(dev));

    qemu_unregister_reset(check_aml_built, OBJECT(dev));
    parent_class()->unrealize(dev);
    optimus_window_put(g_steal_pointer(&s->window));
}

static void get_rom_property(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    uint32_t (*get)(const OptimusWindow *) = opaque;
    OptimusWindow *window = get_state(obj)->window;
    uint32_t value = window ? get(window) : 0;

    visit_type_uint32(v, name, &value, errp);
}

static char *get_subsystem_ids(Object *obj, Error **errp)
{
    return g_strdup(get_state(obj)->subsystem_ids ?: "");
}

static void vfio_optimus_init(Object *obj)
{
    Object *state = object_new(TYPE_VFIO_OPTIMUS_STATE);

    object_property_add_child(obj, STATE_CHILD, state);
    object_unref(state);
}

static void vfio_optimus_class_init(ObjectClass *klass, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    AcpiDevAmlIfClass *adevc = ACPI_DEV_AML_IF_CLASS(klass);

    dc->desc = "VFIO-based PCI device assignment, video BIOS in ACPI _ROM";
    /*
     * ACPI tables are built at boot, and QEMU gives a hotpluggable slot a _DSM
     * that NVIDIA's drivers would call with arguments of their own.
     */
    dc->hotpluggable = false;
    dc->realize = vfio_optimus_realize;
    dc->unrealize = vfio_optimus_unrealize;
    adevc->build_dev_aml = vfio_optimus_build_aml;

    object_class_property_add(klass, "rom-address", "uint32", get_rom_property,
                              NULL, NULL, optimus_window_base);
    object_class_property_set_description(klass, "rom-address",
        "Guest physical address of the video BIOS, 0 before realize");
    object_class_property_add(klass, "rom-size", "uint32", get_rom_property,
                              NULL, NULL, optimus_window_rom_size);
    object_class_property_set_description(klass, "rom-size",
        "Size of the video BIOS in bytes, 0 before realize");
    object_class_property_add_str(klass, "subsystem-ids", get_subsystem_ids,
                                  NULL);
    object_class_property_set_description(klass, "subsystem-ids",
        "Where the subsystem IDs come from: user, sysfs, or device");
}

static const TypeInfo vfio_optimus_types[] = {
    {
        .name = TYPE_VFIO_OPTIMUS_STATE,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(VFIOOptimusState),
    }, {
        .name = TYPE_VFIO_OPTIMUS,
        .parent = VFIO_OPTIMUS_PARENT,
        .instance_init = vfio_optimus_init,
        .class_init = vfio_optimus_class_init,
        .interfaces = (const InterfaceInfo[]) {
            { TYPE_ACPI_DEV_AML_IF },
            { }
        },
    },
};

DEFINE_TYPES(vfio_optimus_types)
