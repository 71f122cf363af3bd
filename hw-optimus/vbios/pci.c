/*
 * optimus-vbios: PCI devices of this machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"

/* The first device ID of NVIDIA's generation Turing */
#define DEVICE_TURING 0x1e00

/* @text has @digits hexadecimal digits and then @end. */
static bool take_hex(const char **text, unsigned int digits, char end,
                     unsigned int *value)
{
    *value = 0;
    for (unsigned int i = 0; i < digits; i++, ++*text) {
        if (!g_ascii_isxdigit(**text)) {
            return false;
        }
        *value = *value << 4 | g_ascii_xdigit_value(**text);
    }
    return *(*text)++ == end;
}

bool parse_pci_name(const char *text, PCIName *name)
{
    unsigned int vendor, device;

    if (!take_hex(&text, 4, ':', &vendor) || !take_hex(&text, 4, 0, &device)) {
        return false;
    }
    *name = (PCIName) { .vendor = vendor, .device = device };
    return true;
}

char *full_bdf(const char *text)
{
    const char *at = text;
    unsigned int domain = 0, bus, slot, function;

    if ((strlen(text) > strlen("00:00.0") && !take_hex(&at, 4, ':', &domain)) ||
        !take_hex(&at, 2, ':', &bus) || !take_hex(&at, 2, '.', &slot) ||
        !take_hex(&at, 1, 0, &function) || slot > 31 || function > 7) {
        return NULL;
    }
    return g_strdup_printf("%04x:%02x:%02x.%x", domain, bus, slot, function);
}

bool read_pci_id(const char *dir, const char *file, uint16_t *id)
{
    g_autofree char *path = g_build_filename(dir, file, NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return false;
    }
    *id = g_ascii_strtoull(text, NULL, 16);
    return true;
}

char *find_card(const char *bdf, PCIName *name, GError **error)
{
    g_autofree char *full = full_bdf(bdf);
    g_autofree char *dir = NULL;

    if (!full) {
        fail_usage(error, "'%s' is not the address of a card: give it as lspci "
                   "shows it, such as 01:00.0", bdf);
        return NULL;
    }
    dir = g_build_filename(PCI_SYSFS, full, NULL);
    if (!read_pci_id(dir, "vendor", &name->vendor) ||
        !read_pci_id(dir, "device", &name->device)) {
        fail(error, "this machine has no card at %s: see the output of lspci",
             full);
        return NULL;
    }
    return g_steal_pointer(&dir);
}

bool read_subsystem(const char *dir, PCIName *ids)
{
    return read_pci_id(dir, "subsystem_vendor", &ids->vendor) &&
           read_pci_id(dir, "subsystem_device", &ids->device) &&
           ids->vendor && ids->vendor != 0xffff &&
           ids->device && ids->device != 0xffff;
}

bool has_own_flash(PCIName name)
{
    return name.vendor == OPTIMUS_VENDOR_NVIDIA && name.device >= DEVICE_TURING;
}
