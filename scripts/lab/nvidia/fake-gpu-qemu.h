/*
 * What fake-gpu.c uses of QEMU, beyond what the plugin does (qemu.h)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef FAKE_GPU_QEMU_H
#define FAKE_GPU_QEMU_H

#include <linux/pci_regs.h>

/* Structures whose size depends on the version have room for more than any. */
#define MAX_PCI_DEVICE 16384
typedef struct Region {
    uint64_t memory_region[128];
} Region;
#define REGION(r) ((MemoryRegion *)&(r))

/* exec/memory.h */

enum device_endian { DEVICE_LITTLE_ENDIAN = 2 };

typedef struct MemoryRegionOps {
    uint64_t (*read)(void *opaque, hwaddr addr, unsigned size);
    void (*write)(void *opaque, hwaddr addr, uint64_t data, unsigned size);
    void (*read_with_attrs)(void);
    void (*write_with_attrs)(void);
    enum device_endian endianness;
    struct {
        unsigned min_access_size;
        unsigned max_access_size;
        bool unaligned;
        void (*accepts)(void);
    } valid;
    struct {
        unsigned min_access_size;
        unsigned max_access_size;
        bool unaligned;
    } impl;
} MemoryRegionOps;

void memory_region_init_io(MemoryRegion *mr, Object *owner,
                           const MemoryRegionOps *ops, void *opaque,
                           const char *name, uint64_t size);
bool memory_region_init_ram_flags_nomigrate(MemoryRegion *mr, Object *owner,
                                            const char *name, uint64_t size,
                                            uint32_t ram_flags, Error **errp);

/* qemu/timer.h */

enum { QEMU_CLOCK_VIRTUAL = 1 };
int64_t qemu_clock_get_ns(int type);

/* hw/pci/pci.h, hw/pci/pcie.h, hw/pci/msi.h */

void pci_register_bar(PCIDevice *dev, int number, uint8_t attributes,
                      MemoryRegion *region);
int pci_add_capability(PCIDevice *dev, uint8_t id, uint8_t offset, uint8_t size,
                       Error **errp);
int pcie_endpoint_cap_init(PCIDevice *dev, uint8_t offset);
int msi_init(PCIDevice *dev, uint8_t offset, unsigned int vectors, bool msi64bit,
             bool per_vector_mask, Error **errp);
void msi_uninit(PCIDevice *dev);

/* PCIDeviceClass from "realize" on */
typedef struct PCIClassFields {
    void (*realize)(PCIDevice *dev, Error **errp);
    void (*exit)(PCIDevice *dev);
    uint32_t (*config_read)(PCIDevice *dev, uint32_t address, int len);
    void (*config_write)(PCIDevice *dev, uint32_t address, uint32_t value,
                         int len);
    uint16_t vendor_id;
    uint16_t device_id;
    uint8_t revision;
    uint16_t class_id;
    uint16_t subsystem_vendor_id;
    uint16_t subsystem_id;
} PCIClassFields;

#endif
