/*
 * As much of an NVIDIA GPU as makes NVIDIA's own driver look for its video BIOS
 *
 * It has 256 MiB and, as in a muxless laptop, no ROM.  BAR 0 is its registers:
 * they keep what is written to them, start as 0, and a few are what the driver
 * looks at before it is content.  It draws nothing and answers no command: the
 * driver executes the init scripts of the VBIOS and soon after that gives up.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu.h"
#include <malloc.h>
#include "plugin.h"
#include "fake-gpu-qemu.h"

#define TYPE_FAKE_GPU "fake-gpu"

#define NVIDIA 0x10de
#define DISPLAY_3D 0x0302

#define MIB (1024 * 1024)
#define REGS_SIZE (16 * MIB)

/* Registers; names as in NVIDIA's open-gpu-doc and in nouveau */
#define PMC_BOOT_0 0x000000
#define PMC_BOOT_42 0x000a00
#define PTIMER_TIME_0 0x009400
#define PTIMER_TIME_1 0x009410
#define PTOP_DEVICE_INFO 0x022700
#define PCFG 0x088000           /* a mirror of config space */
#define PCFG_END 0x089000
#define PROM 0x300000           /* a mirror of the card's flash */
#define PROM_END 0x380000

typedef struct Chip {
    const char *name;
    uint32_t boot_0;
    uint32_t boot_42;
    uint16_t device_id;
} Chip;

/* The first one is the default. */
static const Chip chips[] = {
    { "GM107", 0x117000a2, 0x117a2000, 0x139b },    /* Maxwell */
    { "GF108", 0x0c1000a1, 0x0c1a1000, 0x0df4 },    /* Fermi */
};

typedef struct FakeGpu {
    uint64_t pci_device[MAX_PCI_DEVICE / 8];
    Region regs, vram, bar3;
    const Chip *chip;
    uint32_t *value;
    char *prom;
} FakeGpu;

/* @value as read from @address, with another @byte if it is of those at @at */
static uint32_t with_byte(uint32_t value, uint32_t address, int len,
                          uint32_t at, uint8_t byte)
{
    unsigned int shift = 8 * (at - address);

    if (at < address || at >= address + len) {
        return value;
    }
    return (value & ~(0xffu << shift)) | (uint32_t)byte << shift;
}

/* What the PCI core lets no function set: the chip's ID and an interrupt pin */
static uint32_t config_read(PCIDevice *dev, uint32_t address, int len)
{
    uint32_t value = pci_default_read_config(dev, address, len);
    uint16_t id = ((FakeGpu *)dev)->chip->device_id;

    value = with_byte(value, address, len, PCI_DEVICE_ID, id & 0xff);
    value = with_byte(value, address, len, PCI_DEVICE_ID + 1, id >> 8);
    return with_byte(value, address, len, PCI_INTERRUPT_PIN, 1);
}

static uint64_t regs_read(void *opaque, hwaddr addr, unsigned size)
{
    FakeGpu *s = opaque;
    uint64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    uint32_t value;

    if (addr >= PCFG && addr < PCFG_END) {
        return config_read((PCIDevice *)s, addr - PCFG, size);
    }
    switch (addr & ~3) {
    case PTIMER_TIME_0:
        value = now & 0xffffffe0;
        break;
    case PTIMER_TIME_1:
        value = now >> 32;
        break;
    default:
        value = s->value[addr / 4];
    }
    return value >> 8 * (addr & 3);
}

static void regs_write(void *opaque, hwaddr addr, uint64_t data, unsigned size)
{
    FakeGpu *s = opaque;
    bool read_only = addr < 4 || (addr & ~3) == PMC_BOOT_42 ||
                     (addr >= PROM && addr < PROM_END);

    if (!read_only) {
        memcpy((char *)s->value + addr, &data, size);   /* little-endian */
    }
}

static const MemoryRegionOps regs_ops = {
    .read = regs_read,
    .write = regs_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 4 },
    .impl = { .min_access_size = 1, .max_access_size = 4 },
};

static bool init_regs(FakeGpu *s, Error **errp)
{
    g_autofree char *prom = NULL;
    g_autoptr(GError) error = NULL;
    gsize size = 0;

    s->value = g_new0(uint32_t, REGS_SIZE / 4);
    s->value[PMC_BOOT_0 / 4] = s->chip->boot_0;
    s->value[PMC_BOOT_42 / 4] = s->chip->boot_42;
    /* One graphics engine: release 550 does not like to find none. */
    s->value[PTOP_DEVICE_INFO / 4] = 0x80400001;
    s->value[PTOP_DEVICE_INFO / 4 + 1] = 0x8006183e;
    s->value[PTOP_DEVICE_INFO / 4 + 2] = 0x00000003;
    memset(&s->value[PROM / 4], 0xff, PROM_END - PROM);
    if (s->prom && !g_file_get_contents(s->prom, &prom, &size, &error)) {
        error_setg(errp, "prom: %s", error->message);
        return false;
    }
    memcpy(&s->value[PROM / 4], prom, MIN(size, PROM_END - PROM));
    return true;
}

static void fake_gpu_realize(PCIDevice *dev, Error **errp)
{
    FakeGpu *s = (FakeGpu *)dev;
    Object *obj = OBJECT(dev);

    if (!init_regs(s, errp)) {
        return;
    }
    memory_region_init_io(REGION(s->regs), obj, &regs_ops, s, "fake-gpu-regs",
                          REGS_SIZE);
    memory_region_init_ram_flags_nomigrate(REGION(s->vram), obj,
                                           "fake-gpu-vram", 256 * MIB, 0, errp);
    memory_region_init_ram_flags_nomigrate(REGION(s->bar3), obj,
                                           "fake-gpu-bar3", 32 * MIB, 0, errp);
    pci_register_bar(dev, 0, PCI_BASE_ADDRESS_SPACE_MEMORY, REGION(s->regs));
    pci_register_bar(dev, 1, PCI_BASE_ADDRESS_MEM_PREFETCH |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, REGION(s->vram));
    pci_register_bar(dev, 3, PCI_BASE_ADDRESS_MEM_PREFETCH |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, REGION(s->bar3));
    pci_add_capability(dev, PCI_CAP_ID_PM, 0x60, PCI_PM_SIZEOF, errp);
    msi_init(dev, 0x68, 1, true, false, errp);
    pcie_endpoint_cap_init(dev, 0x78);
}

static void fake_gpu_exit(PCIDevice *dev)
{
    msi_uninit(dev);
    g_free(((FakeGpu *)dev)->value);
}

static char *get_prom(Object *obj, Error **errp)
{
    return g_strdup(((FakeGpu *)obj)->prom);
}

static void set_prom(Object *obj, const char *value, Error **errp)
{
    FakeGpu *s = (FakeGpu *)obj;

    g_free(s->prom);
    s->prom = g_strdup(value);
}

static char *get_chip(Object *obj, Error **errp)
{
    return g_strdup(((FakeGpu *)obj)->chip->name);
}

static void set_chip(Object *obj, const char *value, Error **errp)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(chips); i++) {
        if (!strcmp(chips[i].name, value)) {
            ((FakeGpu *)obj)->chip = &chips[i];
            return;
        }
    }
    error_setg(errp, "chip '%s' is not known", value);
}

static void fake_gpu_init(Object *obj)
{
    ((FakeGpu *)obj)->chip = chips;
}

static void fake_gpu_finalize(Object *obj)
{
    g_free(((FakeGpu *)obj)->prom);
}

/*
 * The fields are as far into @klass as into the class of a device whose IDs are
 * known; what is in front of them, DeviceClass, is not the same in all versions.
 */
static PCIClassFields *pci_class_fields(ObjectClass *klass)
{
    char *known = (char *)object_class_by_name("bochs-display");
    size_t end = malloc_usable_size(known) - sizeof(PCIClassFields);

    for (size_t at = 0; at <= end; at += sizeof(void *)) {
        PCIClassFields *fields = (PCIClassFields *)(known + at);

        if (fields->vendor_id == 0x1234 && fields->device_id == 0x1111) {
            return (PCIClassFields *)((char *)klass + at);
        }
    }
    g_error("fake-gpu: PCIDeviceClass is not as it was up to QEMU 11.1");
}

static void fake_gpu_class_init(ObjectClass *klass, const void *data)
{
    PCIClassFields *pc = pci_class_fields(klass);

    pc->realize = fake_gpu_realize;
    pc->exit = fake_gpu_exit;
    pc->config_read = config_read;
    pc->vendor_id = NVIDIA;
    pc->device_id = chips->device_id;
    pc->revision = 0xa2;
    pc->class_id = DISPLAY_3D;
    pc->subsystem_vendor_id = 0x17aa;
    pc->subsystem_id = 0x3978;
    object_class_property_add_str(klass, "chip", get_chip, set_chip);
    object_class_property_set_description(klass, "chip", "GM107 or GF108");
    object_class_property_add_str(klass, "prom", get_prom, set_prom);
    object_class_property_set_description(klass, "prom",
        "file that the card has in a flash of its own (default: none)");
}

/* Other QEMUs are none of its business. */
const char *optimus_check_qemu(void)
{
    return NULL;
}

void optimus_register_types(void)
{
    static const InterfaceInfo interfaces[] = {
        { "pci-express-device" },
        { NULL }
    };
    static const TypeInfo type = {
        .name = TYPE_FAKE_GPU,
        .parent = "pci-device",
        .instance_size = sizeof(FakeGpu),
        .instance_init = fake_gpu_init,
        .instance_finalize = fake_gpu_finalize,
        .class_init = fake_gpu_class_init,
        .interfaces = interfaces,
    };

    type_register_static(&type);
}
