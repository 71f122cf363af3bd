/*
 * optimus-vbios: where in a guest its assigned cards are
 *
 * A place is written as QEMU's addr= are, from the root bus on: 1c.0/00.0 is
 * function 0 of slot 0 behind the root port that is function 0 of slot 0x1c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <stdio.h>

#define DEPTH_MAX     16        /* of bridges behind each other */
#define PROXMOX_CARDS 16        /* hostpci0 to hostpci15 */

/* "1c.0": SLOT.FUNCTION */
static bool take_devfn(const char **text, unsigned int *devfn)
{
    char *end;
    unsigned long slot, function;

    if (!g_ascii_isxdigit(**text)) {
        return false;
    }
    slot = g_ascii_strtoull(*text, &end, 16);
    if (*end != '.' || !g_ascii_isdigit(end[1])) {
        return false;
    }
    function = g_ascii_strtoull(end + 1, &end, 10);
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
        if (!take_devfn(&place, &devfn)) {
            return NULL;
        }
        g_string_append_printf(path, ".S%02X", devfn);
    } while (*place++ == '/');
    return place[-1] ? NULL : g_string_free(g_steal_pointer(&path), false);
}

static void free_card(gpointer data)
{
    GuestCard *card = data;

    g_free(card->place);
    g_free(card->host);
    g_free(card->name);
    g_free(card->options);
    g_free(card);
}

static void add_card(Guest *guest, char *place, char *host, char *name,
                     char *options)
{
    GuestCard *card = g_new(GuestCard, 1);

    *card = (GuestCard) { place, host, name, options };
    g_ptr_array_add(guest->cards, card);
}

/* A domain of libvirt's */

typedef struct Address {
    bool known;
    unsigned int domain, bus, slot, function;
} Address;

typedef struct Device {
    bool is_pci;
    bool is_root;               /* pxb: for libvirt it is on a bus, too */
    unsigned int index;         /* of a controller: the number of its bus */
    Address guest, host;
    char *alias;
} Device;

typedef struct Domain {
    Device now;                 /* the one that is being read */
    GHashTable *controllers;    /* by index */
    GArray *hostdevs;
    unsigned int hostdev_count; /* with those that are not PCI */
} Domain;

static const char *attribute(const char **names, const char **values,
                             const char *name)
{
    for (; *names; names++, values++) {
        if (g_str_equal(*names, name)) {
            return *values;
        }
    }
    return "";
}

static unsigned int number(const char **names, const char **values,
                           const char *name)
{
    return g_ascii_strtoull(attribute(names, values, name), NULL, 0);
}

static Address read_address(const char **names, const char **values)
{
    return (Address) {
        .known = true,
        .domain = number(names, values, "domain"),
        .bus = number(names, values, "bus"),
        .slot = number(names, values, "slot"),
        .function = number(names, values, "function"),
    };
}

/* Where the parser is below the devices: "/hostdev/source/address" */
static char *device_path(GMarkupParseContext *context)
{
    GString *path = g_string_new(NULL);

    for (const GSList *e = g_markup_parse_context_get_element_stack(context); e;
         e = e->next) {
        g_string_prepend(path, e->data);
        g_string_prepend_c(path, '/');
    }
    if (g_str_has_prefix(path->str, "/domain/devices/")) {
        g_string_erase(path, 0, strlen("/domain/devices"));
    } else {
        g_string_truncate(path, 0);
    }
    return g_string_free(path, false);
}

static void start_element(GMarkupParseContext *context, const char *element,
                          const char **names, const char **values,
                          gpointer data, GError **error)
{
    g_autofree char *path = device_path(context);
    const char *type = attribute(names, values, "type");
    Domain *domain = data;
    Device *now = &domain->now;

    if (g_str_equal(path, "/controller") || g_str_equal(path, "/hostdev")) {
        g_free(now->alias);
        *now = (Device) {
            .is_pci = g_str_equal(type, "pci"),
            .is_root = g_str_has_suffix(attribute(names, values, "model"),
                                        "-expander-bus"),
            .index = number(names, values, "index"),
        };
    } else if ((g_str_equal(path, "/controller/address") ||
                g_str_equal(path, "/hostdev/address")) &&
               g_str_equal(type, "pci")) {
        now->guest = read_address(names, values);
    } else if (g_str_equal(path, "/hostdev/source/address")) {
        now->host = read_address(names, values);
    } else if (g_str_equal(path, "/hostdev/alias")) {
        now->alias = g_strdup(attribute(names, values, "name"));
    }
}

static void end_element(GMarkupParseContext *context, const char *element,
                        gpointer data, GError **error)
{
    g_autofree char *path = device_path(context);
    Domain *domain = data;
    Device *now = &domain->now;

    if (g_str_equal(path, "/controller") && now->is_pci) {
        Device *controller = g_new(Device, 1);

        *controller = *now;
        g_hash_table_insert(domain->controllers, GUINT_TO_POINTER(now->index),
                            controller);
    } else if (g_str_equal(path, "/hostdev")) {
        if (!now->alias) {
            now->alias = g_strdup_printf("hostdev%u", domain->hostdev_count);
        }
        domain->hostdev_count++;
        if (now->is_pci) {
            g_array_append_val(domain->hostdevs, *now);
            now->alias = NULL;
        }
    }
}

static void prepend_step(GString *place, const Address *at)
{
    g_autofree char *step = g_strdup_printf("%02x.%x%s", at->slot, at->function,
                                            place->len ? "/" : "");

    g_string_prepend(place, step);
}

/* From the card up to the root bus; NULL with @why if there is no way. */
static char *domain_place(const Domain *domain, const Address *at,
                          const char **why)
{
    g_autoptr(GString) place = g_string_new(NULL);

    for (unsigned int depth = 0; depth < DEPTH_MAX && at->known; depth++) {
        const Device *bridge;

        prepend_step(place, at);
        if (!at->bus) {
            return g_string_free(g_steal_pointer(&place), false);
        }
        bridge = g_hash_table_lookup(domain->controllers,
                                     GUINT_TO_POINTER(at->bus));
        if (!bridge) {
            break;
        }
        if (bridge->is_root) {
            *why = "is behind an expander bridge, for which QEMU builds no "
                   "ACPI nodes: put it on a root port of the first root bus";
            return NULL;
        }
        at = &bridge->guest;
    }
    *why = "has no address in the guest, or a bridge above it has none: let "
           "libvirt fill them in, and take the file from virsh dumpxml";
    return NULL;
}

static char *host_name(const Address *host)
{
    return g_strdup_printf("%04x:%02x:%02x.%x", host->domain, host->bus,
                           host->slot, host->function);
}

static bool add_hostdevs(Guest *guest, const Domain *domain, GError **error)
{
    for (unsigned int i = 0; i < domain->hostdevs->len; i++) {
        Device *device = &g_array_index(domain->hostdevs, Device, i);
        g_autofree char *host = host_name(&device->host);
        const char *why = NULL;
        char *place = domain_place(domain, &device->guest, &why);

        if (!place) {
            return fail(error, "'%s': the device %s of the host %s",
                        guest->path, host, why);
        }
        add_card(guest, place, g_steal_pointer(&host),
                 g_strdup(device->alias), NULL);
    }
    return true;
}

static void free_hostdev(gpointer data)
{
    g_free(((Device *)data)->alias);
}

static bool read_domain(Guest *guest, const char *text, GError **error)
{
    static const GMarkupParser parser = {
        .start_element = start_element,
        .end_element = end_element,
    };
    Domain domain = {
        .controllers = g_hash_table_new_full(NULL, NULL, NULL, g_free),
        .hostdevs = g_array_new(false, false, sizeof(Device)),
    };
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, 0,
                                                              &domain, NULL);
    g_autoptr(GError) why = NULL;
    bool good;

    g_array_set_clear_func(domain.hostdevs, free_hostdev);
    good = g_markup_parse_context_parse(context, text, -1, &why) &&
           g_markup_parse_context_end_parse(context, &why);
    if (good) {
        good = add_hostdevs(guest, &domain, error);
    } else {
        fail(error, "'%s' is no domain of libvirt's: %s", guest->path,
             why->message);
    }
    g_markup_parse_context_free(context);
    g_array_free(domain.hostdevs, true);
    g_hash_table_unref(domain.controllers);
    g_free(domain.now.alias);
    return good;
}

/* A configuration of Proxmox' */

/* The value of "NAME: ..." before the first snapshot, to be freed, or NULL */
static char *setting(char **lines, const char *name)
{
    g_autofree char *start = g_strdup_printf("%s:", name);

    for (; *lines && **lines != '['; lines++) {
        if (g_str_has_prefix(*lines, start)) {
            return g_strstrip(g_strdup(*lines + strlen(start)));
        }
    }
    return NULL;
}

/* What stands behind @name, "pcie=", in a list with commas, or NULL */
static char *option(const char *list, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(list, ",", -1);

    for (char **part = parts; *part; part++) {
        if (g_str_has_prefix(*part, name)) {
            return g_strdup(*part + strlen(name));
        }
    }
    return NULL;
}

/*
 * Where qemu-server puts hostpci@i: its PVE/QemuServer/PCI.pm and, for q35,
 * pve-q35-4.0.cfg, with four root ports and, behind 1e.0, the bridges pci.0 to
 * pci.3.
 */
static char *proxmox_place(unsigned int i, bool q35, bool pcie, bool win7)
{
    static const uint8_t on_pcie_0[] = {
        0x10, 0x11, 0x12, 0x13, 0x09, 0x0a, 0x0b, 0x0c,
        0x0d, 0x0e, 0x0f, 0x15, 0x16, 0x17, 0x18, 0x19,
    };
    static const uint8_t on_pci_0[] = { 0x10, 0x11, 0x1b, 0x1c };

    if (pcie && win7) {
        return g_strdup_printf("%02x.0", on_pcie_0[i]);
    }
    if (pcie) {
        return i < 4 ? g_strdup_printf("1c.%u/00.0", i) :
            g_strdup_printf("%02x.%u/00.0", 0x10 + (i - 4) / 8, (i - 4) % 8);
    }
    if (i < G_N_ELEMENTS(on_pci_0)) {
        return g_strdup_printf("%s%02x.0", q35 ? "1e.0/01.0/" : "",
                               on_pci_0[i]);
    }
    return g_strdup_printf("%s/%02x.0", q35 ? "1e.0/03.0" : "1f.0",
                           0x0d + i - 4);
}

/* The first of "01:00.0;01:00.1" or of all functions, as sysfs calls it */
static char *first_host(const char *value)
{
    g_autofree char *named = option(value, "host=");
    g_autofree char *host = g_strdup(named ?: value);

    host[strcspn(host, ";,")] = 0;
    if (strchr(host, '=')) {
        return NULL;            /* mapping=: the host is in another file */
    }
    return g_strdup_printf("%s%s%s", strlen(host) <= strlen("00:00.0") ?
                           "0000:" : "", host, strchr(host, '.') ? "" : ".0");
}

static void read_proxmox(Guest *guest, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *machine = setting(lines, "machine");
    g_autofree char *ostype = setting(lines, "ostype");
    const bool q35 = machine && strstr(machine, "q35");
    const bool win7 = ostype && g_str_equal(ostype, "win7");

    guest->args = setting(lines, "args");
    for (unsigned int i = 0; i < PROXMOX_CARDS; i++) {
        g_autofree char *name = g_strdup_printf("hostpci%u", i);
        char *value = setting(lines, name);

        if (value) {
            g_autofree char *pcie = option(value, "pcie=");

            add_card(guest, proxmox_place(i, q35, pcie && *pcie == '1', win7),
                     first_host(value), g_steal_pointer(&name), value);
        }
    }
}

/* Any file that is not XML is taken for one of Proxmox'. */
static bool read_cards(Guest *guest, const char *text, GError **error)
{
    guest->is_libvirt = *text == '<';
    if (!guest->is_libvirt) {
        read_proxmox(guest, text);
    } else if (!read_domain(guest, text, error)) {
        return false;
    }
    return guest->cards->len ||
           fail(error, "'%s' gives the guest no PCI device of the host: assign "
                "the card first, or name its place with --at", guest->path);
}

Guest *read_guest(const char *path, GError **error)
{
    Guest *guest = g_new(Guest, 1);
    InputFile file;
    bool good = false;

    *guest = (Guest) {
        .path = path,
        .cards = g_ptr_array_new_with_free_func(free_card),
    };
    if (map_input(&file, path, error)) {
        g_autofree char *text = g_strndup((const char *)file.data, file.size);

        good = read_cards(guest, g_strchug(text), error);
        unmap_input(&file);
    }
    if (!good) {
        free_guest(guest);
        return NULL;
    }
    return guest;
}

void free_guest(Guest *guest)
{
    if (guest) {
        g_ptr_array_unref(guest->cards);
        g_free(guest->args);
        g_free(guest);
    }
}
