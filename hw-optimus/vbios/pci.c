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

static bool parse_bdf(const char *text, char **full)
{
    const char *at = text;
    unsigned int domain = 0, bus, slot, function;

    if (strlen(text) > strlen("00:00.0") && !take_hex(&at, 4, ':', &domain)) {
        return false;
    }
    if (!take_hex(&at, 2, ':', &bus) || !take_hex(&at, 2, '.', &slot) ||
        !take_hex(&at, 1, 0, &function) || slot > 31 || function > 7) {
        return false;
    }
    *full = g_strdup_printf("%04x:%02x:%02x.%x", domain, bus, slot, function);
    return true;
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
    g_autofree char *full = NULL;
    g_autofree char *dir = NULL;

    if (!parse_bdf(bdf, &full)) {
        fail_usage(error, "'%s' is not the address of a card: give it as lspci "
                   "shows it, such as 01:00.0", bdf);
        return NULL;
    }
    dir = g_build_filename("/sys/bus/pci/devices", full, NULL);
    if (!read_pci_id(dir, "vendor", &name->vendor) ||
        !read_pci_id(dir, "device", &name->device)) {
        fail(error, "this machine has no card at %s: see the output of lspci",
             full);
        return NULL;
    }
    return g_steal_pointer(&dir);
}

bool has_own_flash(PCIName name)
{
    return name.vendor == OPTIMUS_VENDOR_NVIDIA && name.device >= DEVICE_TURING;
}
