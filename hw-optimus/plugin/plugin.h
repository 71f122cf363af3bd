/*
 * The plugin's parts: what checks its QEMU, the device, and its subsystem IDs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_PLUGIN_H
#define VFIO_OPTIMUS_PLUGIN_H

#define TYPE_VFIO_OPTIMUS "vfio-optimus"
#define TYPE_ACPI_DEV_AML_IF "acpi-dev-aml-interface"

typedef void OptimusBuildAml(AcpiDevAmlIf *adev, Aml *scope);

/**
 * optimus_check_qemu: check-qemu.c; look whether this QEMU is as the plugin
 * expects it to be, when all its types are there
 *
 * Returns: NULL, or a sentence that says what is not so, which is never freed.
 */
const char *optimus_check_qemu(void);

/**
 * optimus_build_aml_slot: check-qemu.c; where @klass has
 * AcpiDevAmlIfClass.build_dev_aml, which QEMU calls with the device's own ACPI
 * node while it builds the tables
 */
OptimusBuildAml **optimus_build_aml_slot(ObjectClass *klass);

/**
 * optimus_register_types: device.c; make the device known to QEMU, unless it is
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

#endif
