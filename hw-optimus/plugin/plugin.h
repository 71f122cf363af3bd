/*
 * The plugin's parts: the device, and what finds out about its QEMU and card
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_PLUGIN_H
#define VFIO_OPTIMUS_PLUGIN_H

typedef void OptimusBuildAml(AcpiDevAmlIf *adev, Aml *scope);

/**
 * optimus_register_types: vfio-optimus.c; makes the device known to QEMU
 */
void optimus_register_types(void);

/**
 * optimus_set_subsystem_ids: subsystem-ids.c; set those IDs that the user did
 * not set, from what the host's kernel read when it enumerated the card
 *
 * To be called before the parent is realized.  Warns if the kernel does not
 * know them.
 *
 * Returns: where they come from: "user", "sysfs", or "device" for what its
 * config space says.
 */
const char *optimus_set_subsystem_ids(Object *obj);

/**
 * optimus_build_aml_slot: where @klass has AcpiDevAmlIfClass.build_dev_aml,
 * which QEMU calls with the device's own ACPI node while it builds the tables
 */
OptimusBuildAml **optimus_build_aml_slot(ObjectClass *klass);

/**
 * optimus_e820_reserve: list addresses in the guest's e820 map, as reserved
 *
 * To be called when nothing can fail any more: the map takes nothing back.
 * Before QEMU 10.0, which points into the map when a device is made, it does
 * nothing.
 */
void optimus_e820_reserve(uint64_t base, uint64_t size);

#endif
