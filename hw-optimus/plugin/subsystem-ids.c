/*
 * The subsystem IDs of an assigned card
 *
 * The card's own copy of its subsystem IDs is lost with a reset or a power
 * cycle: the firmware wrote it once, at boot.  The kernel read it at
 * enumeration, before that could happen, and still shows it in sysfs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include <stdlib.h>
#include <sys/sysmacros.h>
#include "plugin.h"

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
    char text[16] = "", *end;
    int fd = qemu_open(path, O_RDONLY | O_NONBLOCK, NULL);
    unsigned long value;
    ssize_t got;

    if (fd < 0) {
        return false;
    }
    got = RETRY_ON_EINTR(read(fd, text, sizeof(text) - 1));
    qemu_close(fd);
    value = strtoul(text, &end, 16);
    *id = value;
    return got > 0 && end > text && !*g_strchug(end) && value <= UINT16_MAX;
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
    object_property_set_uint(obj, property, id, NULL);
}

const char *optimus_set_subsystem_ids(Object *obj)
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
