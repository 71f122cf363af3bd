/*
 * The plugin's two parts: the device, and what finds out about its QEMU
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
