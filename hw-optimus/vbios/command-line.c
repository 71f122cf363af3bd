/*
 * optimus-vbios: where in a guest its assigned cards are
 *
 * QEMU's own command line tells that; libvirt and Proxmox print it.  A place is
 * written as QEMU's addr= are, from the root bus on: 1c.0/00.0 is function 0 of
 * slot 0 behind the root port that is function 0 of slot 0x1c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <stdio.h>

#define DEPTH_MAX 16            /* of bridges behind each other */

/* "1c.0", "0x1c.0" or, with @short_form, "1c": SLOT.FUNCTION */
static bool take_devfn(const char **text, bool short_form, unsigned int *devfn)
{
    char *end;
    unsigned long slot, function = 0;

    if (!g_ascii_isxdigit(**text)) {
        return false;
    }
    slot = g_ascii_strtoull(*text, &end, 16);
    if (*end == '.' && g_ascii_isxdigit(end[1])) {
        function = g_ascii_strtoull(end + 1, &end, 16);
    } else if (!short_form) {
        return false;
    }
    *text = end;
    *devfn = slot << 3 | function;
    return slot < 32 && function < 8;
}

/* QEMU's build_append_pci_bus_devices() names a node S and devfn. */
char *place_to_acpi(const char *place)
{
    g_autoptr(GString) path = g_string_new("\\_SB.PCI0");
    unsigned int devfn;

    do {
        if (!take_devfn(&place, false, &devfn)) {
            return NULL;
        }
        g_string_append_printf(path, ".S%02X", devfn);
    } while (*place++ == '/');
    return place[-1] ? NULL : g_string_free(g_steal_pointer(&path), false);
}

/* QEMU's devices: tables of their properties, with "driver" and "id" */

typedef struct Reader {
    const char *path;           /* of what is read */
    GPtrArray *devices;         /* of GHashTable */
    GPtrArray *globals;         /* the same: driver, property and value */
    GPtrArray *settings;        /* strings: ID.PROPERTY=VALUE */
} Reader;

static GHashTable *new_properties(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

/* What is before the next single comma; two stand for one.  Skips it. */
static char *take_value(const char **text)
{
    GString *value = g_string_new(NULL);
    const char *p = *text;

    while (*p && (*p != ',' || p[1] == ',')) {
        p += *p == ',';
        g_string_append_c(value, *p++);
    }
    *text = p + (*p == ',');
    return g_string_free(value, false);
}

/* "vfio-pci,name=value,switch": what comes first may lack its name, @first. */
static GHashTable *read_options(const char *text, const char *first)
{
    GHashTable *properties = new_properties();

    while (*text) {
        const size_t length = strcspn(text, "=,");
        char *name, *value;

        if (text[length] == '=') {
            name = g_strndup(text, length);
            text += length + 1;
            value = take_value(&text);
        } else if (first) {
            name = g_strdup(first);
            value = take_value(&text);
        } else {
            name = take_value(&text);
            value = g_strdup("on");
        }
        first = NULL;
        g_hash_table_replace(properties, name, value);
    }
    return properties;
}

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t\r\n");
}

/* NULL if it does not end, or is none of JSON's */
static char *take_string(const char **text)
{
    static const char names[] = "bfnrt", characters[] = "\b\f\n\r\t";
    g_autoptr(GString) value = g_string_new(NULL);
    const char quote = **text;
    const char *p;

    for (p = *text + 1; *p && *p != quote; p++) {
        char c = *p;

        if (c == '\\') {
            const char *name;
            unsigned int code;

            c = *++p;
            if (!c) {
                return NULL;
            }
            if (c == 'u') {
                if (sscanf(p + 1, "%4x", &code) != 1 || !code ||
                    strlen(p) < 5) {
                    return NULL;
                }
                g_string_append_unichar(value, g_unichar_validate(code) ?
                                        code : 0xfffd);
                p += 4;
                continue;
            }
            name = strchr(names, c);
            if (name) {
                c = characters[name - names];
            }
        }
        g_string_append_c(value, c);
    }
    *text = p + 1;
    return *p ? g_string_free(g_steal_pointer(&value), false) : NULL;
}

/* A number, true, a list...: its text */
static char *take_other(const char **text)
{
    const char *p = *text;
    char *value;

    for (unsigned int depth = 0; *p; p++) {
        if (*p == '"' || *p == '\'') {
            g_autofree char *inner = take_string(&p);

            if (!inner) {
                return NULL;
            }
            p--;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (!depth && strchr(",} \t\r\n", *p)) {
            break;
        } else if (*p == '}' || *p == ']') {
            depth--;
        }
    }
    value = g_strndup(*text, p - *text);
    *text = p;
    return value;
}

/* An address that is a number has the function in its last three bits. */
static char *devfn_text(const char *number)
{
    const unsigned int devfn = strtoul(number, NULL, 10);

    return g_strdup_printf("%x.%x", devfn >> 3, devfn & 7);
}

/* The members of a JSON object, or NULL if it is none */
static GHashTable *read_json(const char *text)
{
    g_autoptr(GHashTable) properties = new_properties();

    do {
        g_autofree char *name = NULL;
        char *value;
        bool is_string;

        text = skip_blanks(text + 1);
        if (*text == '}' && !g_hash_table_size(properties)) {
            break;
        }
        if ((*text != '"' && *text != '\'') || !(name = take_string(&text)) ||
            *(text = skip_blanks(text)) != ':') {
            return NULL;
        }
        text = skip_blanks(text + 1);
        is_string = *text == '"' || *text == '\'';
        value = is_string ? take_string(&text) : take_other(&text);
        if (!value) {
            return NULL;
        }
        if (!is_string && g_str_equal(name, "addr")) {
            char *number = value;

            value = devfn_text(number);
            g_free(number);
        }
        g_hash_table_replace(properties, g_steal_pointer(&name), value);
        text = skip_blanks(text);
    } while (*text == ',');
    return *text == '}' && !*skip_blanks(text + 1) ?
        g_steal_pointer(&properties) : NULL;
}

/* Where they come from */

static bool add_device(Reader *r, const char *text, GError **error)
{
    GHashTable *device = *text == '{' ? read_json(text) :
        read_options(text, "driver");

    if (!device) {
        return fail(error, "%s: '-device %s' is no JSON that QEMU would take",
                    r->path, text);
    }
    g_ptr_array_add(r->devices, device);
    return true;
}

/* DRIVER.PROPERTY=VALUE, or with names as -device has them */
static void add_global(Reader *r, const char *text)
{
    const char *dot = text + strcspn(text, ".="), *equals = strchr(text, '=');
    GHashTable *global;

    if (*dot != '.' || !equals) {
        global = read_options(text, NULL);
    } else {
        global = new_properties();
        g_hash_table_replace(global, g_strdup("driver"),
                             g_strndup(text, dot - text));
        g_hash_table_replace(global, g_strdup("property"),
                             g_strndup(dot + 1, equals - dot - 1));
        g_hash_table_replace(global, g_strdup("value"), g_strdup(equals + 1));
    }
    g_ptr_array_add(r->globals, global);
}

/* [device "ID"] and [global] in what -readconfig names, and NAME = "VALUE" */
static bool read_config(Reader *r, const char *path, GError **error)
{
    g_auto(GStrv) lines = NULL;
    GHashTable *group = NULL;
    InputFile file;

    if (!map_input(&file, path, error)) {
        return false;
    }
    g_autofree char *text = g_strndup((const char *)file.data, file.size);

    unmap_input(&file);
    lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        const char *line = g_strstrip(*l);
        g_auto(GStrv) parts = g_strsplit(line, "\"", 3);

        if (*line == '[') {
            group = NULL;
            if (g_str_has_prefix(line, "[device")) {
                group = new_properties();
                g_ptr_array_add(r->devices, group);
            } else if (g_str_has_prefix(line, "[global")) {
                group = new_properties();
                g_ptr_array_add(r->globals, group);
            }
            if (group && parts[0] && parts[1]) {
                g_hash_table_replace(group, g_strdup("id"), g_strdup(parts[1]));
            }
        } else if (group && *line != '#' && parts[0] && parts[1]) {
            parts[0][strcspn(parts[0], " \t=")] = 0;
            g_hash_table_replace(group, g_strdup(parts[0]), g_strdup(parts[1]));
        }
    }
    return true;
}

static GHashTable *find_device(const Reader *r, const char *id)
{
    for (unsigned int i = 0; i < r->devices->len; i++) {
        GHashTable *device = g_ptr_array_index(r->devices, i);

        if (!g_strcmp0(g_hash_table_lookup(device, "id"), id)) {
            return device;
        }
    }
    return NULL;
}

/* ID.PROPERTY=VALUE */
static void apply_settings(const Reader *r)
{
    for (unsigned int i = 0; i < r->settings->len; i++) {
        const char *text = g_ptr_array_index(r->settings, i);
        g_auto(GStrv) parts = g_strsplit(text, ".", 2);
        const char *equals = parts[0] && parts[1] ? strchr(parts[1], '=') :
                                                    NULL;
        GHashTable *device = equals ? find_device(r, parts[0]) : NULL;

        if (device) {
            g_hash_table_replace(device,
                                 g_strndup(parts[1], equals - parts[1]),
                                 g_strdup(equals + 1));
        }
    }
}

static bool read_arguments(Reader *r, char **argv, GError **error)
{
    for (; *argv; argv++) {
        const char *name = *argv + g_str_has_prefix(*argv, "--");
        const char *value = argv[1];
        bool good = true;

        if (!value) {
            break;
        } else if (g_str_equal(name, "-device")) {
            good = add_device(r, value, error);
        } else if (g_str_equal(name, "-global")) {
            add_global(r, value);
        } else if (g_str_equal(name, "-readconfig")) {
            good = read_config(r, value, error);
        } else if (g_str_equal(name, "-set") &&
                   g_str_has_prefix(value, "device.")) {
            g_ptr_array_add(r->settings, g_strdup(value + strlen("device.")));
        } else {
            continue;
        }
        if (!good) {
            return false;
        }
        argv++;
    }
    apply_settings(r);
    return true;
}

/* What they mean */

/* Of the device itself, or of all that have its driver */
static const char *property(const Reader *r, GHashTable *device,
                            const char *name)
{
    const char *driver = g_hash_table_lookup(device, "driver");
    const char *value = g_hash_table_lookup(device, name);

    for (unsigned int i = r->globals->len; !value && driver && i; i--) {
        GHashTable *global = g_ptr_array_index(r->globals, i - 1);

        if (!g_strcmp0(g_hash_table_lookup(global, "driver"), driver) &&
            !g_strcmp0(g_hash_table_lookup(global, "property"), name)) {
            value = g_hash_table_lookup(global, "value");
        }
    }
    return value;
}

static bool is_card(GHashTable *device)
{
    const char *driver = g_hash_table_lookup(device, "driver");

    return driver && (g_str_has_prefix(driver, "vfio-pci") ||
                      g_str_equal(driver, "vfio-optimus"));
}

static bool has_one_slot(const char *driver)
{
    return g_str_equal(driver, "pcie-root-port") ||
           g_str_equal(driver, "ioh3420") ||
           g_str_equal(driver, "xio3130-downstream");
}

/* The name of a root bus is that of no device. */
static bool is_root(const char *bus)
{
    return !bus || g_str_equal(bus, "pcie.0") || g_str_equal(bus, "pci.0");
}

/* From @device up to the root bus; NULL with *@why if there is no way. */
static char *find_place(const Reader *r, GHashTable *device, char **why)
{
    g_autoptr(GString) place = g_string_new(NULL);

    for (unsigned int depth = 0; depth < DEPTH_MAX; depth++) {
        const char *bus = property(r, device, "bus");
        const char *addr = property(r, device, "addr");
        GHashTable *bridge = bus ? find_device(r, bus) : NULL;
        const char *driver = bridge ?
            g_hash_table_lookup(bridge, "driver") ?: "" : "";
        g_autofree char *step = NULL;
        unsigned int devfn;

        if (!addr && has_one_slot(driver)) {
            addr = "0";
        }
        if (!addr || !take_devfn(&addr, true, &devfn) || *addr) {
            *why = g_strdup("QEMU chooses its slot, or that of a bridge above "
                            "it: give both an addr=");
            return NULL;
        }
        step = g_strdup_printf("%02x.%x%s", devfn >> 3, devfn & 7,
                               place->len ? "/" : "");
        g_string_prepend(place, step);
        if (!bridge && is_root(bus)) {
            return g_string_free(g_steal_pointer(&place), false);
        }
        if (!bridge) {
            *why = g_strdup_printf("there is no device with the id %s, which "
                                   "its bus, or that of a bridge above it, is "
                                   "named after", bus);
            return NULL;
        }
        if (g_str_has_prefix(driver, "pxb")) {
            *why = g_strdup("it is behind an expander bridge, for which QEMU "
                            "builds no ACPI nodes: put it on a root port of "
                            "the first root bus");
            return NULL;
        }
        device = bridge;
    }
    *why = g_strdup_printf("it is behind more than %d bridges", DEPTH_MAX);
    return NULL;
}

static char *find_host_name(GHashTable *device)
{
    const char *host = g_hash_table_lookup(device, "host");
    const char *sysfs = g_hash_table_lookup(device, "sysfsdev");
    g_autofree char *base = g_path_get_basename(sysfs ?: "");

    return full_bdf(host ?: base);
}

static void free_card(gpointer data)
{
    GuestCard *card = data;

    g_free(card->place);
    g_free(card->why);
    g_free(card->host);
    g_free(card->id);
    g_free(card->driver);
    g_free(card);
}

static void add_cards(Guest *guest, const Reader *r)
{
    for (unsigned int i = 0; i < r->devices->len; i++) {
        GHashTable *device = g_ptr_array_index(r->devices, i);
        GuestCard *card;

        if (!is_card(device)) {
            continue;
        }
        card = g_new0(GuestCard, 1);
        card->place = find_place(r, device, &card->why);
        card->host = find_host_name(device);
        card->id = g_strdup(g_hash_table_lookup(device, "id"));
        card->driver = g_strdup(g_hash_table_lookup(device, "driver"));
        card->has_ids = property(r, device, "x-pci-sub-vendor-id") &&
                        property(r, device, "x-pci-sub-device-id");
        g_ptr_array_add(guest->cards, card);
    }
}

/* The program, behind what is set in its environment */
static char **skip_environment(char **argv)
{
    while (*argv && strchr(*argv, '=') && **argv != '-') {
        argv++;
    }
    return argv;
}

static void free_properties(gpointer properties)
{
    g_hash_table_unref(properties);
}

static Guest *make_guest(const Reader *r, char **argv)
{
    Guest *guest = g_new(Guest, 1);

    *guest = (Guest) {
        .emulator = g_strdup(*skip_environment(argv)),
        .cards = g_ptr_array_new_with_free_func(free_card),
    };
    for (char **arg = argv; *arg; arg++) {
        if ((g_str_equal(*arg, "-machine") || g_str_equal(*arg, "-M")) &&
            arg[1] && strstr(arg[1], "q35")) {
            guest->is_q35 = true;
        }
    }
    for (unsigned int i = 0; i < r->devices->len; i++) {
        char *id = g_hash_table_lookup(g_ptr_array_index(r->devices, i), "id");

        if (id) {
            guest->ids = g_slist_prepend(guest->ids, g_strdup(id));
        }
    }
    add_cards(guest, r);
    return guest;
}

Guest *parse_command_line(const char *text, const char *path, GError **error)
{
    Reader r = {
        .path = path,
        .devices = g_ptr_array_new_with_free_func(free_properties),
        .globals = g_ptr_array_new_with_free_func(free_properties),
        .settings = g_ptr_array_new_with_free_func(g_free),
    };
    g_auto(GStrv) argv = NULL;
    Guest *guest = NULL;

    if (!g_shell_parse_argv(text, NULL, &argv, NULL)) {
        fail(error, "'%s' is no command line, as it is empty, or its quotes do "
             "not match: give QEMU's own, as virsh domxml-to-native qemu-argv "
             "--domain NAME or qm showcmd VMID prints it", path);
    } else if (read_arguments(&r, argv, error)) {
        guest = make_guest(&r, argv);
    }
    g_ptr_array_unref(r.devices);
    g_ptr_array_unref(r.globals);
    g_ptr_array_unref(r.settings);
    return guest;
}

void free_guest(Guest *guest)
{
    if (guest) {
        g_ptr_array_unref(guest->cards);
        g_slist_free_full(guest->ids, g_free);
        g_free(guest->emulator);
        g_free(guest);
    }
}
