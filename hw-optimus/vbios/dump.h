/*
 * optimus-vbios dump: where a video BIOS can be got from
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef OPTIMUS_VBIOS_DUMP_H
#define OPTIMUS_VBIOS_DUMP_H

/* What the source has for the card with the sysfs directory @card. */
GByteArray *get_from_acpi(const char *card, PCIName name, GError **error);
GByteArray *get_from_bar(const char *card, PCIName name, GError **error);

#endif
