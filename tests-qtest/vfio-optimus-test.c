/*
 * QTest testcase for vfio-optimus
 *
 * Most of it needs no device to assign: what the video BIOS, the machine and
 * the subsystem IDs have to be is checked before vfio-pci looks for one.  The
 * rest wants QTEST_VFIO_HOST to be the PCI address (0000:01:00.0) of a device
 * that is bound to vfio-pci, or two such addresses, separated by a comma.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "acpi-utils.h"
#include "boot-sector.h"
#include "libqtest.h"
#include "libqos/fw_cfg.h"

#define WINDOW_START 0xfef00000u
#define WINDOW_END   0xfeffb000u
#define PAGE         0x1000u
#define MAX_ROM      (WINDOW_END - WINDOW_START - PAGE)

#define VENDOR       0x10de
#define DEVICE       0x139b
#define IDS          "x-pci-vendor-id=0x10de,x-pci-device-id=0x139b"

static char *dir;               /* of temporary files */
static char *rom_file;          /* a good video BIOS */
static char *disk;
static char **hosts;            /* devices to assign */

/* Files */

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = value;
    p[1] = value >> 8;
}

/* A video BIOS of one image, different for each @seed. */
static GByteArray *make_rom(unsigned int units, uint8_t seed)
{
    GByteArray *rom = g_byte_array_new();
    uint8_t *p, sum = 0;

    g_byte_array_set_size(rom, units * 512);
    p = rom->data;
    for (unsigned int i = 0; i < rom->len; i++) {
        p[i] = (i >> 8) + i * seed + 1;
    }
    p[0] = 0x55;
    p[1] = 0xaa;
    p[2] = units;
    p[3] = 0xcb;                /* retf: firmware may call it */
    put16(p + 0x18, 0x40);
    memset(p + 0x40, 0, 0x18);
    memcpy(p + 0x40, "PCIR", 4);
    put16(p + 0x44, VENDOR);
    put16(p + 0x46, DEVICE);
    put16(p + 0x4a, 0x18);      /* length of PCIR */
    put16(p + 0x4e, 0x0300);    /* class code 030000, at 0x4d */
    put16(p + 0x50, units);
    p[0x55] = 0x80;             /* the last image */
    for (unsigned int i = 0; i < rom->len - 1; i++) {
        sum += p[i];
    }
    p[rom->len - 1] = -sum;
    return rom;
}

static char *write_file(const char *name, const void *data, size_t size)
{
    char *path = g_build_filename(dir, name, NULL);

    g_assert_true(g_file_set_contents(path, data, size, NULL));
    return path;
}

static char *write_rom(const char *name, const GByteArray *rom)
{
    return write_file(name, rom->data, rom->len);
}

/* A sysfs directory of a host device, with these files or without (NULL). */
static char *write_sysfs(const char *vendor, const char *device)
{
    char *sysfs = g_strdup_printf("%s/sysfs-XXXXXX", dir);
    const char *ids[][2] = {
        { "subsystem_vendor", vendor }, { "subsystem_device", device },
    };

    g_assert_nonnull(g_mkdtemp(sysfs));
    for (unsigned int i = 0; i < ARRAY_SIZE(ids); i++) {
        if (ids[i][1]) {
            g_autofree char *path = g_build_filename(sysfs, ids[i][0], NULL);

            g_assert_true(g_file_set_contents(path, ids[i][1], -1, NULL));
        }
    }
    return sysfs;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) entries = g_dir_open(path, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name(entries))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    remove(path);
}

/* QEMU that does not start */

/*
 * Run QEMU with what cannot start, and return what it says on stderr before it
 * exits with status 1.  The last device does not exist, so that QEMU ends even
 * if all that is before it is right; -loadvm does the same, but only after the
 * first reset.
 */
#define END " -device no-such-device"
#define END_MESSAGE "'no-such-device' is not a valid device model name"

static char *G_GNUC_PRINTF(1, 2) run_qemu(const char *format, ...)
{
    const char *binary = getenv("QTEST_QEMU_BINARY");
    g_autofree char *args = NULL, *quoted = g_shell_quote(binary);
    g_autofree char *command = NULL;
    g_autoptr(GError) error = NULL;
    char *messages = NULL;
    int status;
    va_list ap;

    va_start(ap, format);
    args = g_strdup_vprintf(format, ap);
    va_end(ap);
    command = g_strdup_printf("%s -nodefaults -display none -accel qtest "
                              "-audio none %s%s", quoted, args,
                              strstr(args, "-loadvm") ? "" : END);
    g_test_message("%s", command);
    g_spawn_command_line_sync(command, NULL, &messages, &status, &error);
    g_assert_no_error(error);
    g_test_message("%s", messages);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    return messages;
}

static void check_has(const char *messages, const char *part)
{
    if (!strstr(messages, part)) {
        g_test_message("not found: %s", part);
        g_test_fail();
    }
}

static void check_has_not(const char *messages, const char *part)
{
    if (strstr(messages, part)) {
        g_test_message("must not be there: %s", part);
        g_test_fail();
    }
}

/* Check that a device with this romfile is refused with these words. */
static void check_romfile(const char *path, const char *message)
{
    g_autofree char *messages =
        run_qemu("-M q35 -device vfio-optimus,romfile=%s", path);

    check_has(messages, "romfile");
    check_has(messages, path);
    check_has(messages, message);
    check_has_not(messages, END_MESSAGE);
}

static void test_romfile_unset(void)
{
    g_autofree char *unset = run_qemu("-M q35 -device vfio-optimus");
    g_autofree char *empty = run_qemu("-M q35 -device vfio-optimus,romfile=");

    check_has(unset, "vfio-optimus needs the video BIOS: set romfile=FILE");
    check_has(empty, "vfio-optimus needs the video BIOS: set romfile=FILE");
}

static void test_romfile_missing(void)
{
    g_autofree char *path = g_build_filename(dir, "missing.rom", NULL);

    check_romfile(path, "No such file or directory");
}

static void test_romfile_directory(void)
{
    check_romfile(dir, "is not a regular file");
}

static void test_romfile_empty(void)
{
    g_autofree char *path = write_file("empty.rom", "", 0);

    check_romfile(path, "is empty");
}

static void test_romfile_garbage(void)
{
    g_autofree char *path = write_file("garbage.rom", "not a ROM at all", 16);
    g_autofree char *zeros = g_malloc0(0x10000);
    g_autofree char *blank = write_file("blank.rom", zeros, 0x10000);

    check_romfile(path, "is not a video BIOS");
    check_romfile(blank, "is not a video BIOS");
}

static void test_romfile_broken(void)
{
    g_autoptr(GByteArray) rom = make_rom(64, 1);
    g_autofree char *cut = write_file("cut.rom", rom->data, rom->len - 512);
    g_autofree char *pcir = NULL;

    check_romfile(cut, "is broken");
    rom->data[0x40] = 'X';
    pcir = write_rom("pcir.rom", rom);
    check_romfile(pcir, "is broken");
}

static void test_romfile_offset(void)
{
    g_autoptr(GByteArray) rom = make_rom(64, 1);
    g_autofree uint8_t *header = g_malloc0(0xa00);
    g_autofree char *nvgi = NULL, *data = NULL;
    g_autofree char *messages = NULL;

    g_byte_array_prepend(rom, header, 0xa00);
    data = write_rom("data.rom", rom);
    check_romfile(data, "behind other data it starts at offset 0xa00");

    memcpy(rom->data, "NVGI", 4);
    nvgi = write_rom("nvgi.rom", rom);
    check_romfile(nvgi, "behind an NVGI header it starts at offset 0xa00");
    messages = run_qemu("-M q35 -device vfio-optimus,romfile=%s", nvgi);
    check_has(messages, "Cut it out with: ");
}

static void test_romfile_too_large(void)
{
    g_autoptr(GByteArray) rom = make_rom(64, 1);
    g_autofree char *path = NULL;

    g_byte_array_set_size(rom, MAX_ROM + 1);
    path = write_rom("large.rom", rom);
    check_romfile(path, "the ROM window has room for 1024000");
}

/* A good ROM, and no device to assign: vfio-pci is what refuses. */
static void test_no_host(void)
{
    g_autofree char *none =
        run_qemu("-M q35 -device vfio-optimus,romfile=%s", rom_file);
    g_autofree char *absent =
        run_qemu("-M q35 -device vfio-optimus,romfile=%s,host=ffff:ff:1f.7",
                 rom_file);
    g_autofree char *large = NULL, *largest = NULL;
    g_autoptr(GByteArray) rom = make_rom(64, 1);

    check_has(none, "No provided host device");
    check_has_not(none, END_MESSAGE);
    check_has(absent, "ffff:ff:1f.7");
    check_has_not(absent, END_MESSAGE);

    g_byte_array_set_size(rom, MAX_ROM);
    large = write_rom("largest.rom", rom);
    largest = run_qemu("-M q35 -device vfio-optimus,romfile=%s", large);
    check_has(largest, "No provided host device");
}

static void test_acpi_off(void)
{
    g_autofree char *messages =
        run_qemu("-M q35,acpi=off -device vfio-optimus,romfile=%s", rom_file);

    check_has(messages, "needs ACPI tables");
    check_has(messages, "Remove acpi=off");
    check_has_not(messages, END_MESSAGE);
}

static void test_other_machine(void)
{
    g_autofree char *none =
        run_qemu("-M none -device vfio-optimus,romfile=%s", rom_file);

    check_has(none, "No 'PCI' bus found for device 'vfio-optimus'");
    if (qtest_has_machine("microvm")) {
        g_autofree char *microvm =
            run_qemu("-M microvm,pcie=on -device vfio-optimus,romfile=%s",
                     rom_file);

        check_has(microvm, "needs a machine of the type q35 or pc");
        check_has_not(microvm, END_MESSAGE);
    } else {
        g_test_skip("this QEMU has no microvm");
    }
}

/* Subsystem IDs, from a directory that looks like the one of a host device. */

static char *run_with_sysfs(const char *vendor, const char *device,
                            const char *options)
{
    g_autofree char *sysfs = write_sysfs(vendor, device);
    char *messages =
        run_qemu("-M q35 -trace 'vfio_optimus_*' "
                 "-device vfio-optimus,romfile=%s,sysfsdev=%s%s", rom_file,
                 sysfs, options);

    check_has_not(messages, END_MESSAGE);
    return messages;
}

static bool has_trace(const char *messages)
{
    if (strstr(messages, "vfio_optimus_romfile")) {
        return true;
    }
    g_test_skip("this QEMU does not trace to stderr");
    return false;
}

static void test_ids_sysfs(void)
{
    g_autofree char *messages = run_with_sysfs("0x17aa\n", "0x3978\n", "");

    check_has_not(messages, "warning");
    if (has_trace(messages)) {
        check_has(messages, "x-pci-sub-vendor-id=0x17aa");
        check_has(messages, "x-pci-sub-device-id=0x3978");
    }
}

static void test_ids_user(void)
{
    g_autofree char *both =
        run_with_sysfs("0x17aa\n", "0x3978\n",
                       ",x-pci-sub-vendor-id=1,x-pci-sub-device-id=2");
    g_autofree char *one =
        run_with_sysfs("0x17aa\n", "0x3978\n", ",x-pci-sub-vendor-id=0");

    check_has_not(both, "warning");
    check_has_not(one, "warning");
    if (has_trace(both)) {
        check_has_not(both, "vfio_optimus_subsystem_id");
        check_has_not(one, "x-pci-sub-vendor-id=0x17aa");
        check_has(one, "x-pci-sub-device-id=0x3978");
    }
}

static void test_ids_unknown(void)
{
    g_autofree char *lost = run_with_sysfs("0x0000\n", "0xffff\n", "");
    g_autofree char *absent = run_with_sysfs(NULL, NULL, "");
    g_autofree char *half = run_with_sysfs("0x17aa\n", NULL, "");

    check_has(lost, "subsystem_vendor' is 0x0000; set x-pci-sub-vendor-id");
    check_has(lost, "subsystem_device' is 0xffff; set x-pci-sub-device-id");
    check_has_not(lost, "vfio_optimus_subsystem_id");
    check_has(absent, "subsystem_vendor'; set x-pci-sub-vendor-id");
    check_has(absent, "subsystem_device'; set x-pci-sub-device-id");
    check_has_not(half, "set x-pci-sub-vendor-id");
    check_has(half, "set x-pci-sub-device-id");
}

/* QEMU that starts without the device */

static bool list_has(QTestState *qts, const char *name, const char *value,
                     const char *command)
{
    g_autoptr(QDict) response = qtest_qmp(qts, command, name);
    QList *list = qdict_get_qlist(response, "return");
    QListEntry *entry;

    g_assert_nonnull(list);
    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *item = qobject_to(QDict, qlist_entry_obj(entry));

        if (!strcmp(qdict_get_str(item, "name"), value)) {
            return true;
        }
    }
    return false;
}

static bool type_implements(QTestState *qts, const char *parent,
                            const char *type)
{
    return list_has(qts, parent, type, "{ 'execute': 'qom-list-types', "
                    "'arguments': { 'implements': %s } }");
}

static bool device_has(QTestState *qts, const char *type, const char *property)
{
    return list_has(qts, type, property,
                    "{ 'execute': 'device-list-properties',"
                    " 'arguments': { 'typename': %s } }");
}

static void test_types(void)
{
    static const char *const properties[] = {
        "host", "sysfsdev", "romfile", "rom-address", "rom-size",
        "subsystem-ids", "x-pci-sub-vendor-id", "x-pci-sub-device-id",
    };
    QTestState *qts = qtest_init("-M none");

    g_assert_true(type_implements(qts, "vfio-pci", "vfio-optimus"));
    g_assert_true(type_implements(qts, "acpi-dev-aml-interface",
                                  "vfio-optimus"));
    g_assert_false(type_implements(qts, "acpi-dev-aml-interface", "vfio-pci"));
    for (unsigned int i = 0; i < ARRAY_SIZE(properties); i++) {
        g_assert_true(device_has(qts, "vfio-optimus", properties[i]));
    }
    g_assert_false(device_has(qts, "vfio-pci", "rom-address"));
    qtest_quit(qts);
}

static void check_no_hotplug(const char *machine)
{
    g_autofree char *device = NULL;
    QTestState *qts = qtest_init(machine);
    g_autoptr(QDict) error = qtest_qmp_assert_failure_ref(qts,
        "{ 'execute': 'device_add', 'arguments': { 'driver': 'vfio-optimus',"
        " 'id': 'gpu', 'bus': 'hot', 'romfile': %s } }", rom_file);

    g_assert_cmpstr(qdict_get_str(error, "desc"), ==,
                    "Device 'vfio-optimus' does not support hotplugging");
    qtest_quit(qts);
}

static void test_not_hotpluggable(void)
{
    check_no_hotplug("-nodefaults -M q35 -device pcie-root-port,id=hot");
    check_no_hotplug("-nodefaults -M pc "
                     "-device pci-bridge,id=hot,chassis_nr=1");
}

/* AML */

static uint32_t package_length(const uint8_t *aml, const uint8_t *end)
{
    unsigned int more = aml < end ? aml[0] >> 6 : 0;
    uint32_t length;

    if (end - aml <= more) {
        return 0;
    }
    length = more ? aml[0] & 0xf : aml[0] & 0x3f;
    for (unsigned int i = 1; i <= more; i++) {
        length |= aml[i] << (8 * i - 4);
    }
    return length;
}

static bool is_name(const uint8_t *p, const uint8_t *end)
{
    for (unsigned int i = 0; i < 4; i++) {
        if (p + i >= end ||
            (!g_ascii_isupper(p[i]) && p[i] != '_' &&
             (!i || !g_ascii_isdigit(p[i])))) {
            return false;
        }
    }
    return true;
}

typedef struct Method {
    const uint8_t *start;       /* PkgLength */
    uint32_t length;
    char path[64];              /* of the node that it is in */
} Method;

/*
 * If there is a Device, a Scope or a Method at @p: with @inner in it, add its
 * name to @path.  Returns where to go on: behind it if @inner is not in it.
 */
static const uint8_t *enter(const uint8_t *p, const uint8_t *end,
                            const uint8_t *inner, char *path, size_t size)
{
    const uint8_t *package = p + 1, *name;
    unsigned int names = 1;
    bool absolute;

    if (p[0] == 0x5b && p[1] == 0x82 /* DeviceOp */) {
        package = p + 2;
    } else if (p[0] != 0x10 /* ScopeOp */ && p[0] != 0x14 /* MethodOp */) {
        return p + 1;
    }
    name = package + 1 + (package[0] >> 6);
    absolute = name < end && *name == '\\';
    name += absolute;
    if (name < end && *name == 0x2e /* DualNamePrefix */) {
        names++;
        name++;
    }
    for (unsigned int i = 0; i < names; i++) {
        if (!is_name(name + 4 * i, end)) {
            return p + 1;
        }
    }
    if (package + package_length(package, end) <= inner) {
        return package + package_length(package, end);
    }
    if (absolute) {
        *path = '\0';
    }
    for (unsigned int i = 0; i < names; i++) {
        g_autofree char *segment = g_strndup((const char *)name + 4 * i, 4);

        g_strlcat(path, "/", size);
        g_strlcat(path, segment, size);
    }
    return name + 4 * names;
}

/* Find the @skip-th method _ROM in @aml, and the node that it is in. */
static bool find_rom_method(const uint8_t *aml, uint32_t length,
                            unsigned int skip, Method *method)
{
    const uint8_t *end = aml + length;

    for (const uint8_t *p = aml; p + 8 <= end; p++) {
        const uint8_t *name = p + 2 + (p[1] >> 6);

        if (p[0] != 0x14 /* MethodOp */ || name + 4 > end ||
            memcmp(name, "_ROM", 4) || skip--) {
            continue;
        }
        *method = (Method) {
            .start = p + 1, .length = package_length(p + 1, end),
        };
        for (const uint8_t *q = aml; q < p; ) {
            q = enter(q, end, p, method->path, sizeof(method->path));
        }
        return true;
    }
    return false;
}

static uint8_t *fetch_dsdt(QTestState *qts, uint32_t *length)
{
    uint8_t rsdp[36], *rsdt, *entry, *fadt = NULL, *dsdt;
    uint32_t rsdp_address, rsdt_length, fadt_length;

    rsdp_address = acpi_find_rsdp_address(qts);
    g_assert_cmphex(rsdp_address, <, 0x100000);
    acpi_fetch_rsdp_table(qts, rsdp_address, rsdp);
    acpi_fetch_table(qts, &rsdt, &rsdt_length, &rsdp[16], 4, "RSDT", true);
    ACPI_FOREACH_RSDT_ENTRY(rsdt, rsdt_length, entry, 4) {
        acpi_fetch_table(qts, &fadt, &fadt_length, entry, 4, NULL, true);
        if (!memcmp(fadt, "FACP", 4)) {
            break;
        }
        g_clear_pointer(&fadt, g_free);
    }
    g_assert_nonnull(fadt);
    acpi_fetch_table(qts, &dsdt, length, &fadt[40], 4, "DSDT", true);
    g_free(fadt);
    g_free(rsdt);
    return dsdt;
}

/* QEMU with the device */

static QTestState *G_GNUC_PRINTF(1, 2) start(const char *format, ...)
{
    g_autofree char *args = NULL;
    va_list ap;

    va_start(ap, format);
    args = g_strdup_vprintf(format, ap);
    va_end(ap);
    return qtest_initf("-accel kvm -accel tcg -nodefaults "
                       "-drive id=hd0,if=none,file=%s,format=raw "
                       "-device ide-hd,drive=hd0 %s", disk, args);
}

static uint32_t get_uint(QTestState *qts, const char *id, const char *property)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", id);
    g_autoptr(QDict) response = qtest_qmp(qts, "{ 'execute': 'qom-get', "
        "'arguments': { 'path': %s, 'property': %s } }", path, property);

    return qdict_get_int(response, "return");
}

static void check_ids_source(QTestState *qts, const char *expected)
{
    g_autoptr(QDict) response = qtest_qmp(qts, "{ 'execute': 'qom-get', "
        "'arguments': { 'path': '/machine/peripheral/gpu', "
        "'property': 'subsystem-ids' } }");

    g_assert_cmpstr(qdict_get_str(response, "return"), ==, expected);
}

static uint32_t read_config(QTestState *qts, unsigned int slot,
                            unsigned int offset)
{
    qtest_outl(qts, 0xcf8, 0x80000000 | slot << 11 | offset);
    return qtest_inl(qts, 0xcfc);
}

/* The ROM window of device @id holds @rom, then zeros, and is read-only. */
static void check_window(QTestState *qts, const char *id, const GByteArray *rom)
{
    uint32_t base = get_uint(qts, id, "rom-address");
    uint32_t size = ROUND_UP(rom->len, PAGE) + PAGE;
    g_autofree uint8_t *data = g_malloc(size);

    g_assert_cmphex(base, >=, WINDOW_START);
    g_assert_cmphex(base + size, <=, WINDOW_END);
    g_assert_cmphex(base % PAGE, ==, 0);
    g_assert_cmphex(get_uint(qts, id, "rom-size"), ==, rom->len);
    qtest_writel(qts, base, 0x12345678);
    qtest_memread(qts, base, data, size);
    g_assert_cmpmem(data, rom->len, rom->data, rom->len);
    g_assert_true(buffer_is_zero(data + rom->len, size - rom->len));
}

/* The guest's memory map reserves the window. */
static void check_e820(QTestState *qts, uint32_t base, uint32_t size)
{
    QFWCFG *fw_cfg = pc_fw_cfg_init(qts);
    uint8_t table[20 * 128];
    size_t length = qfw_cfg_get_file(fw_cfg, "etc/e820", table, sizeof(table));
    unsigned int found = 0;

    g_assert_cmpuint(length, <=, sizeof(table));
    for (size_t at = 0; at + 20 <= length; at += 20) {
        found += ldq_le_p(table + at) == base &&
                 ldq_le_p(table + at + 8) == size &&
                 ldl_le_p(table + at + 16) == 2 /* reserved */;
    }
    g_assert_cmpuint(found, ==, 1);
    pc_fw_cfg_uninit(fw_cfg);
}

/* The method number @index of the DSDT is at @path, and reads at @base. */
static void check_method(const uint8_t *dsdt, uint32_t length,
                         unsigned int index, const char *path, uint32_t base)
{
    uint8_t constant[5] = { 0x0c /* DWordConst */ };
    unsigned int found = 0;
    Method method;

    stl_le_p(constant + 1, base);
    g_assert_true(find_rom_method(dsdt, length, index, &method));
    g_assert_cmpstr(method.path, ==, path);
    for (uint32_t i = 0; i + sizeof(constant) <= method.length; i++) {
        found += !memcmp(method.start + i, constant, sizeof(constant));
    }
    /* the region of a page, and that of a part of one */
    g_assert_cmpuint(found, ==, 2);
}

typedef struct Place {
    const char *name;
    const char *args;           /* machine and bridges */
    const char *bus;            /* where the device goes */
    const char *path;           /* its ACPI path */
} Place;

static const Place places[] = {
    { "q35", "-M q35", "bus=pcie.0,addr=0x10", "/_SB_/PCI0/S80_" },
    { "pc", "-M pc", "bus=pci.0,addr=0x10", "/_SB_/PCI0/S80_" },
    { "root-port", "-M q35 -device pcie-root-port,id=rp,addr=0x8",
      "bus=rp", "/_SB_/PCI0/S40_/S00_" },
    { "bridge", "-M pc -device pci-bridge,id=br,chassis_nr=1,addr=0x8",
      "bus=br,addr=3", "/_SB_/PCI0/S40_/S18_" },
};

static void test_place(const void *opaque)
{
    const Place *place = opaque;
    g_autoptr(GByteArray) rom = make_rom(203, 7);
    g_autofree char *path = write_rom("place.rom", rom);
    g_autofree uint8_t *dsdt = NULL;
    uint32_t length, base;
    QTestState *qts;
    Method method;

    if (!hosts) {
        g_test_skip("QTEST_VFIO_HOST is not set");
        return;
    }
    qts = start("%s -device vfio-optimus,id=gpu,%s,host=%s,romfile=%s," IDS,
                place->args, place->bus, hosts[0], path);
    base = get_uint(qts, "gpu", "rom-address");
    g_assert_cmphex(base, ==, WINDOW_START);
    for (unsigned int boot = 0; boot < 2; boot++) {
        boot_sector_test(qts);
        check_e820(qts, base, ROUND_UP(rom->len, PAGE) + PAGE);
        check_window(qts, "gpu", rom);
        dsdt = fetch_dsdt(qts, &length);
        check_method(dsdt, length, 0, place->path, base);
        g_assert_false(find_rom_method(dsdt, length, 1, &method));
        g_clear_pointer(&dsdt, g_free);
        qtest_system_reset(qts);
    }
    qtest_quit(qts);
}

/* vfio-pci with the same file has a ROM BAR, and no method. */
static void test_parent(void)
{
    g_autofree uint8_t *dsdt = NULL;
    QTestState *qts;
    uint32_t length;
    Method method;

    if (!hosts) {
        g_test_skip("QTEST_VFIO_HOST is not set");
        return;
    }
    qts = start("-M q35 -device vfio-pci,host=%s,romfile=%s," IDS, hosts[0],
                rom_file);
    boot_sector_test(qts);
    dsdt = fetch_dsdt(qts, &length);
    g_assert_false(find_rom_method(dsdt, length, 0, &method));
    qtest_quit(qts);
}

/* QEMU makes no ACPI nodes for what is behind an expander bridge. */
static void test_no_node(void)
{
    g_autofree char *messages = NULL;

    if (!hosts) {
        g_test_skip("QTEST_VFIO_HOST is not set");
        return;
    }
    messages = run_qemu("-M q35 -device pxb-pcie,id=pxb,bus_nr=0x40 "
                        "-device pcie-root-port,id=rp,bus=pxb "
                        "-device vfio-optimus,bus=rp,host=%s,romfile=%s," IDS
                        " -loadvm no-such-state", hosts[0], rom_file);
    check_has(messages, "has built no ACPI node for the device");
    check_has(messages, "not behind an expander bridge");
}

static uint32_t read_id(const char *name)
{
    g_autofree char *path = g_build_filename("/sys/bus/pci/devices", hosts[0],
                                             name, NULL);
    g_autofree char *text = NULL;
    unsigned int id;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(qemu_strtoui(g_strchomp(text), NULL, 16, &id), ==, 0);
    return id;
}

static bool is_known(uint32_t id)
{
    return id && id != 0xffff;
}

static void test_ids_config(void)
{
    uint32_t vendor, device, ids;
    QTestState *qts;

    if (!hosts) {
        g_test_skip("QTEST_VFIO_HOST is not set");
        return;
    }
    vendor = read_id("subsystem_vendor");
    device = read_id("subsystem_device");
    qts = start("-M q35 -device vfio-optimus,id=gpu,addr=0x10,host=%s,"
                "romfile=%s," IDS, hosts[0], rom_file);
    g_assert_cmphex(read_config(qts, 0x10, 0), ==, DEVICE << 16 | VENDOR);
    ids = read_config(qts, 0x10, 0x2c);
    if (is_known(vendor)) {
        g_assert_cmphex(ids & 0xffff, ==, vendor);
    }
    if (is_known(device)) {
        g_assert_cmphex(ids >> 16, ==, device);
    }
    check_ids_source(qts, is_known(device) ? "sysfs" : "device");
    qtest_quit(qts);

    qts = start("-M q35 -device vfio-optimus,id=gpu,addr=0x10,host=%s,"
                "romfile=%s,x-pci-sub-vendor-id=0x1234,"
                "x-pci-sub-device-id=0x5678," IDS, hosts[0], rom_file);
    g_assert_cmphex(read_config(qts, 0x10, 0x2c), ==, 0x56781234);
    check_ids_source(qts, "user");
    qtest_quit(qts);
}

/* What is suspicious in a ROM is said, and accepted. */
static void test_warnings(void)
{
    g_autoptr(GByteArray) rom = make_rom(64, 3);
    g_autofree char *path = NULL, *good = NULL, *bad = NULL;

    if (!hosts) {
        g_test_skip("QTEST_VFIO_HOST is not set");
        return;
    }
    good = run_qemu("-M q35 -device vfio-optimus,host=%s,romfile=%s,"
                    "x-pci-sub-vendor-id=1,x-pci-sub-device-id=1," IDS,
                    hosts[0], rom_file);
    check_has(good, END_MESSAGE);
    check_has_not(good, "romfile '");

    rom->data[0x4f] = 0x02;     /* a network controller, and a wrong sum */
    path = write_rom("bad.rom", rom);
    bad = run_qemu("-M q35 -device vfio-optimus,host=%s,romfile=%s,"
                   "x-pci-sub-vendor-id=1,x-pci-sub-device-id=1,"
                   "x-pci-vendor-id=0x10de,x-pci-device-id=0x1234", hosts[0],
                   path);
    check_has(bad, END_MESSAGE);
    check_has(bad, "add up to 0xff");
    check_has(bad, "no image is for this device, 10de:1234; the first one is "
              "for 10de:139b");
    check_has(bad, "the class code of the first image is 0x020000");
}

/* Two devices: with the same ROM they share a window, else they do not. */
static void test_two(void)
{
    g_autoptr(GByteArray) first = make_rom(203, 7), second = make_rom(64, 5);
    g_autofree char *first_file = write_rom("first.rom", first);
    g_autofree char *second_file = write_rom("second.rom", second);

    if (!hosts || !hosts[1]) {
        g_test_skip("QTEST_VFIO_HOST does not name two devices");
        return;
    }
    for (unsigned int same = 0; same < 2; same++) {
        g_autofree uint8_t *dsdt = NULL;
        uint32_t length, bases[2];
        Method method;
        QTestState *qts = start("-M q35 "
            "-device vfio-optimus,id=gpu0,addr=0x10,host=%s,romfile=%s," IDS
            " -device vfio-optimus,id=gpu1,addr=0x11,host=%s,romfile=%s," IDS,
            hosts[0], first_file, hosts[1], same ? first_file : second_file);

        bases[0] = get_uint(qts, "gpu0", "rom-address");
        bases[1] = get_uint(qts, "gpu1", "rom-address");
        g_assert_cmphex(bases[0], ==, WINDOW_START);
        g_assert_cmphex(bases[1], ==, same ? WINDOW_START :
                        WINDOW_START + ROUND_UP(first->len, PAGE) + PAGE);
        boot_sector_test(qts);
        check_window(qts, "gpu0", first);
        check_window(qts, "gpu1", same ? first : second);
        dsdt = fetch_dsdt(qts, &length);
        check_method(dsdt, length, 0, "/_SB_/PCI0/S80_", bases[0]);
        check_method(dsdt, length, 1, "/_SB_/PCI0/S88_", bases[1]);
        g_assert_false(find_rom_method(dsdt, length, 2, &method));
        qtest_quit(qts);
    }
}

/* Two ROMs that do not fit together. */
static void test_no_room(void)
{
    g_autoptr(GByteArray) rom = make_rom(64, 1);
    g_autofree char *path = NULL, *messages = NULL;

    if (!hosts || !hosts[1]) {
        g_test_skip("QTEST_VFIO_HOST does not name two devices");
        return;
    }
    g_byte_array_set_size(rom, MAX_ROM - 16 * KiB);
    path = write_rom("most.rom", rom);
    messages = run_qemu("-M q35 -device vfio-optimus,host=%s,romfile=%s," IDS
                        " -device vfio-optimus,host=%s,romfile=%s," IDS,
                        hosts[0], path, hosts[1], rom_file);
    check_has(messages, "does not fit in the ROM window");
    check_has_not(messages, END_MESSAGE);
}

int main(int argc, char **argv)
{
    const char *vfio_host = getenv("QTEST_VFIO_HOST");
    g_autoptr(GByteArray) rom = make_rom(64, 3);
    int ret;

    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_device("vfio-optimus")) {
        g_test_skip("this QEMU does not have vfio-optimus");
        return 0;
    }
    hosts = vfio_host && *vfio_host ? g_strsplit(vfio_host, ",", 0) : NULL;
    dir = g_dir_make_tmp("vfio-optimus-test-XXXXXX", NULL);
    g_assert_nonnull(dir);
    rom_file = write_rom("good.rom", rom);
    disk = g_build_filename(dir, "disk-XXXXXX", NULL);
    ret = boot_sector_init(disk);
    if (ret) {
        return ret;
    }

    qtest_add_func("/vfio-optimus/types", test_types);
    qtest_add_func("/vfio-optimus/not-hotpluggable", test_not_hotpluggable);
    qtest_add_func("/vfio-optimus/romfile/unset", test_romfile_unset);
    qtest_add_func("/vfio-optimus/romfile/missing", test_romfile_missing);
    qtest_add_func("/vfio-optimus/romfile/directory", test_romfile_directory);
    qtest_add_func("/vfio-optimus/romfile/empty", test_romfile_empty);
    qtest_add_func("/vfio-optimus/romfile/garbage", test_romfile_garbage);
    qtest_add_func("/vfio-optimus/romfile/broken", test_romfile_broken);
    qtest_add_func("/vfio-optimus/romfile/offset", test_romfile_offset);
    qtest_add_func("/vfio-optimus/romfile/too-large", test_romfile_too_large);
    qtest_add_func("/vfio-optimus/no-host", test_no_host);
    qtest_add_func("/vfio-optimus/machine/acpi-off", test_acpi_off);
    qtest_add_func("/vfio-optimus/machine/other", test_other_machine);
    qtest_add_func("/vfio-optimus/ids/sysfs", test_ids_sysfs);
    qtest_add_func("/vfio-optimus/ids/user", test_ids_user);
    qtest_add_func("/vfio-optimus/ids/unknown", test_ids_unknown);

    for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
        g_autofree char *name =
            g_strdup_printf("/vfio-optimus/vfio/place/%s", places[i].name);

        qtest_add_data_func(name, &places[i], test_place);
    }
    qtest_add_func("/vfio-optimus/vfio/place/none", test_no_node);
    qtest_add_func("/vfio-optimus/vfio/parent", test_parent);
    qtest_add_func("/vfio-optimus/vfio/ids", test_ids_config);
    qtest_add_func("/vfio-optimus/vfio/warnings", test_warnings);
    qtest_add_func("/vfio-optimus/vfio/two", test_two);
    qtest_add_func("/vfio-optimus/vfio/no-room", test_no_room);
    ret = g_test_run();

    remove_tree(dir);
    g_strfreev(hosts);
    g_free(disk);
    g_free(rom_file);
    g_free(dir);
    return ret;
}
