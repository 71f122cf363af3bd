/*
 * QTest testcase for vfio-optimus
 *
 * Without a device to assign: what the video BIOS and the machine have to be is
 * checked before vfio-pci looks for one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "libqtest.h"

#define MAX_ROM (860 * 1024)    /* and a page of zeros fill all there is */

#define BAD_DEVICE  " -device no-such-device"
#define BAD_MESSAGE "'no-such-device' is not a valid device model name"

/* What vfio-pci says, when all that is asked of the video BIOS is right. */
#define NO_HOST     "No provided host device"

static char *dir;               /* of temporary files */

/* A file that starts like an option ROM, and its name */
static char *write_rom(const char *name, size_t size)
{
    g_autofree uint8_t *rom = g_malloc0(size);
    char *path = g_build_filename(dir, name, NULL);

    stw_le_p(rom, 0xaa55);
    stw_le_p(rom + 0x18, 0x40);
    memcpy(rom + 0x40, "PCIR", 4);
    g_assert_true(g_file_set_contents(path, (char *)rom, size, NULL));
    return path;
}

/*
 * Run a QEMU that cannot start, and return what it says before it exits with
 * status 1.  The last device does not exist: it ends QEMU if what is before it
 * is right.
 */
static char *G_GNUC_PRINTF(1, 2) run_qemu(const char *format, ...)
{
    g_autofree char *args = NULL, *command = NULL;
    g_autoptr(GError) error = NULL;
    char *messages = NULL;
    int status;
    va_list ap;

    va_start(ap, format);
    args = g_strdup_vprintf(format, ap);
    va_end(ap);
    command = g_strdup_printf("%s -nodefaults -display none -accel qtest "
                              "-audio none %s" BAD_DEVICE,
                              getenv("QTEST_QEMU_BINARY"), args);
    g_test_message("%s", command);
    g_spawn_command_line_sync(command, NULL, &messages, &status, &error);
    g_assert_no_error(error);
    g_test_message("%s", messages);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    return messages;
}

/* Check that the device is what ends QEMU, with this message. */
static void check_refused(const char *args, const char *romfile,
                          const char *message)
{
    g_autofree char *messages = run_qemu("%s,romfile=%s", args, romfile);

    g_assert_nonnull(strstr(messages, message));
    g_assert_null(strstr(messages, BAD_MESSAGE));
}

static void test_romfile(void)
{
    static const char args[] = "-M q35 -device vfio-optimus";
    g_autofree char *missing = g_build_filename(dir, "missing.rom", NULL);
    g_autofree char *other = g_build_filename(dir, "other.rom", NULL);
    g_autofree char *pcir = write_rom("pcir.rom", 512);
    g_autofree char *large = write_rom("large.rom", MAX_ROM + 1);
    g_autofree char *largest = write_rom("largest.rom", MAX_ROM);

    check_refused(args, "", "romfile is not set");
    check_refused(args, missing, "No such file or directory");
    check_refused(args, dir, "Is a directory");

    g_assert_true(g_file_set_contents(other, "", 0, NULL));
    check_refused(args, other, "does not start with an option ROM image");
    g_assert_true(g_file_set_contents(other, "\x55\xaa", 2, NULL));
    check_refused(args, other, "does not start with an option ROM image");
    g_assert_true(g_file_set_contents(other, "NVGI, then an image", -1, NULL));
    check_refused(args, other, "does not start with an option ROM image");
    g_assert_cmpint(truncate(pcir, 0x43), ==, 0);
    check_refused(args, pcir, "does not start with an option ROM image");

    check_refused(args, large, "for which there is no room");
    check_refused(args, largest, NO_HOST);
}

static void test_machine(void)
{
    g_autofree char *rom = write_rom("machine.rom", 512);

    check_refused("-M q35,acpi=off -device vfio-optimus", rom,
                  "needs a machine of the type q35 or pc with acpi=on");
    check_refused("-M q35 -device vfio-optimus,acpi-index=1", rom,
                  "acpi-index is for devices without _ROM");
    check_refused("-M q35 -device pcie-root-port,id=rp "
                  "-device vfio-optimus,bus=rp", rom, NO_HOST);
    if (qtest_has_device("pxb-pcie")) {
        check_refused("-M q35 -device pxb-pcie,id=pxb,bus_nr=64 "
                      "-device pcie-root-port,id=rp,bus=pxb "
                      "-device vfio-optimus,bus=rp", rom,
                      "no devices behind a PCI expander bridge");
    }
    if (qtest_has_machine("pc")) {
        check_refused("-M pc -device pci-bridge,id=br,chassis_nr=1 "
                      "-device vfio-optimus,bus=br,addr=1", rom, NO_HOST);
    }
    if (qtest_has_machine("microvm")) {
        check_refused("-M microvm,pcie=on -device vfio-optimus", rom,
                      "needs a machine of the type q35 or pc with acpi=on");
    }
}

static void test_not_hotpluggable(void)
{
    g_autofree char *rom = write_rom("hotplug.rom", 512);
    QTestState *qts = qtest_init("-nodefaults -M q35 "
                                 "-device pcie-root-port,id=hot");
    QDict *error = qtest_qmp_assert_failure_ref(qts,
        "{ 'execute': 'device_add', 'arguments': { 'driver': 'vfio-optimus',"
        " 'bus': 'hot', 'romfile': %s } }", rom);

    g_assert_cmpstr(qdict_get_str(error, "desc"), ==,
                    "Device 'vfio-optimus' does not support hotplugging");
    qobject_unref(error);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_autoptr(GDir) entries = NULL;
    const char *name;
    int ret;

    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_device("vfio-optimus") || !qtest_has_machine("q35")) {
        g_test_skip("no vfio-optimus, or no q35");
        return 0;
    }
    dir = g_dir_make_tmp("vfio-optimus-test-XXXXXX", NULL);
    g_assert_nonnull(dir);

    qtest_add_func("/vfio-optimus/romfile", test_romfile);
    qtest_add_func("/vfio-optimus/machine", test_machine);
    qtest_add_func("/vfio-optimus/not-hotpluggable", test_not_hotpluggable);
    ret = g_test_run();

    entries = g_dir_open(dir, 0, NULL);
    while ((name = g_dir_read_name(entries))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        unlink(path);
    }
    rmdir(dir);
    g_free(dir);
    return ret;
}
