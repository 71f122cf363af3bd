/*
 * Assignment of a muxless NVIDIA Optimus GPU, with its video BIOS in ACPI _ROM
 *
 * Such a GPU has no flash: the laptop's firmware keeps its video BIOS, which
 * drivers get by _ROM (ACPI 6.5, B.3.3).  See docs/specs/vfio-optimus.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/datadir.h"
#include "hw/acpi/acpi_aml_interface.h"
#include "hw/i386/e820_memory_layout.h"
#include "hw/i386/pc.h"
#include "system/address-spaces.h"
#include "system/kvm_xen.h"
#include "system/runstate.h"
#include "system/system.h"
#include "optimus-aml.h"
#include "optimus-window.h"
#include "pci.h"
#include "trace.h"

#define TYPE_VFIO_OPTIMUS "vfio-optimus"
OBJECT_DECLARE_TYPE(VFIOOptimus, VFIOOptimusClass, VFIO_OPTIMUS)

struct VFIOOptimus {
    VFIOPCIDevice parent_obj;

    MemoryRegion rom_mr;
    uint32_t rom_base;      /* guest physical address */
    uint32_t rom_size;      /* of the video BIOS; rom_mr is larger */
    Notifier machine_done;
};

struct VFIOOptimusClass {
    PCIDeviceClass parent_class;

    void (*parent_realize)(PCIDevice *dev, Error **errp);
    PCIUnregisterFunc *parent_exit;
};

static bool vfio_optimus_check_place(PCIDevice *pdev, Error **errp)
{
    PCMachineState *pcms = (PCMachineState *)
        object_dynamic_cast(qdev_get_machine(), TYPE_PC_MACHINE);

    if (!pcms || !pcms->acpi_build_enabled || MACHINE(pcms)->cgs ||
        !x86_machine_is_acpi_enabled(X86_MACHINE(pcms))) {
        error_setg(errp, "_ROM needs a machine of the type q35 or pc with "
                   "acpi=on, and no confidential guest");
        return false;
    }
    if (pci_device_root_bus(pdev) != pcms->pcibus) {
        error_setg(errp, "QEMU describes no devices behind a PCI expander "
                   "bridge in ACPI, and so there can be no _ROM");
        return false;
    }
    if (pdev->acpi_index) {
        error_setg(errp, "acpi-index is for devices without _ROM");
        return false;
    }
    return true;
}

/* PCI Firmware Specification 3.3, 5.1.1 and 5.1.2 */
static bool is_option_rom(const char *rom, size_t size)
{
    size_t pcir;

    if (size < 0x1a || lduw_le_p(rom) != 0xaa55) {
        return false;
    }
    pcir = lduw_le_p(rom + 0x18);
    return pcir + 4 <= size && !memcmp(rom + pcir, "PCIR", 4);
}

static bool vfio_optimus_map_rom(VFIOOptimus *vo, Error **errp)
{
    PCIDevice *pdev = PCI_DEVICE(vo);
    g_autofree char *path = NULL, *rom = NULL, *name = NULL;
    g_autoptr(GError) gerr = NULL;
    gsize size;

    if (!pdev->romfile || !*pdev->romfile) {
        error_setg(errp, "romfile is not set: it names the video BIOS");
        return false;
    }
    path = qemu_find_file(QEMU_FILE_TYPE_BIOS, pdev->romfile) ?:
           g_strdup(pdev->romfile);
    if (!g_file_get_contents(path, &rom, &size, &gerr)) {
        error_setg(errp, "romfile: %s", gerr->message);
        return false;
    }
    if (!is_option_rom(rom, size)) {
        error_setg(errp, "romfile '%s' does not start with an option ROM image",
                   path);
        return false;
    }

    vo->rom_base = optimus_window_find(OPTIMUS_WINDOW_SIZE(size));
    if (!vo->rom_base) {
        error_setg(errp, "romfile '%s' has %zu bytes, for which there is no "
                   "room at 0x%x-0x%x", path, size, OPTIMUS_WINDOW_START,
                   OPTIMUS_WINDOW_END - 1);
        return false;
    }
    vo->rom_size = size;

    /* The DSDT has the address: migration is to fail where it is another. */
    name = g_strdup_printf("acpi-rom-%x", vo->rom_base);
    if (!memory_region_init_rom(&vo->rom_mr, OBJECT(vo), name,
                                OPTIMUS_WINDOW_SIZE(size), errp)) {
        return false;
    }
    /* Incoming migration, CPR included, brings the contents. */
    if (!runstate_check(RUN_STATE_INMIGRATE)) {
        memcpy(memory_region_get_ram_ptr(&vo->rom_mr), rom, size);
    }
    memory_region_add_subregion(get_system_memory(), vo->rom_base, &vo->rom_mr);

    if (!pdev->rom_bar) {
        /* In _ROM only: the PCI core would hand it to the firmware instead. */
        g_clear_pointer(&pdev->romfile, g_free);
    }
    return true;
}

/* A device that was created later may have been mapped over the window. */
static void vfio_optimus_check_window(VFIOOptimus *vo, Error **errp)
{
    uint64_t size = memory_region_size(&vo->rom_mr), seen = 0;

    while (seen < size) {
        MemoryRegionSection section =
            memory_region_find(get_system_memory(), vo->rom_base + seen,
                               size - seen);

        if (section.mr != &vo->rom_mr) {
            error_setg(errp, VFIO_MSG_PREFIX "%s is mapped over the video BIOS "
                       "at 0x%" PRIx64, VFIO_PCI_DEVICE(vo)->vbasedev.name,
                       memory_region_name(section.mr), vo->rom_base + seen);
            memory_region_unref(section.mr);
            return;
        }
        seen += int128_get64(section.size);
        memory_region_unref(section.mr);
    }
}

static void vfio_optimus_machine_done(Notifier *notifier, void *data)
{
    vfio_optimus_check_window(container_of(notifier, VFIOOptimus, machine_done),
                              &error_fatal);
}

static void vfio_optimus_realize(PCIDevice *pdev, Error **errp)
{
    ERRP_GUARD();
    VFIOOptimus *vo = VFIO_OPTIMUS(pdev);

    if (!vfio_optimus_check_place(pdev, errp) ||
        !vfio_optimus_map_rom(vo, errp)) {
        return;
    }

    VFIO_OPTIMUS_GET_CLASS(vo)->parent_realize(pdev, errp);
    if (*errp) {
        memory_region_del_subregion(get_system_memory(), &vo->rom_mr);
        return;
    }

    e820_add_entry(vo->rom_base, memory_region_size(&vo->rom_mr),
                   E820_RESERVED);
    vo->machine_done.notify = vfio_optimus_machine_done;
    qemu_add_machine_init_done_notifier(&vo->machine_done);
}

static void vfio_optimus_exit(PCIDevice *pdev)
{
    VFIOOptimus *vo = VFIO_OPTIMUS(pdev);

    qemu_remove_machine_init_done_notifier(&vo->machine_done);
    VFIO_OPTIMUS_GET_CLASS(vo)->parent_exit(pdev);
    memory_region_del_subregion(get_system_memory(), &vo->rom_mr);
}

static void vfio_optimus_build_aml(AcpiDevAmlIf *adev, Aml *scope)
{
    VFIOOptimus *vo = VFIO_OPTIMUS(adev);

    trace_vfio_optimus_build_aml(VFIO_PCI_DEVICE(vo)->vbasedev.name,
                                 vo->rom_base, vo->rom_size);
    optimus_build_rom_method(scope, vo->rom_base,
                             OPTIMUS_ROM_END(vo->rom_size));
}

/*
 * Not hotpluggable, as the parent: ACPI tables are built at boot.  QEMU's _DSM,
 * of such slots and of acpi-index, is none that NVIDIA's drivers should call.
 */
static void vfio_optimus_class_init(ObjectClass *klass, const void *data)
{
    PCIDeviceClass *pdc = PCI_DEVICE_CLASS(klass);
    VFIOOptimusClass *voc = VFIO_OPTIMUS_CLASS(klass);

    QEMU_BUILD_BUG_ON(OPTIMUS_WINDOW_END > XEN_SPECIAL_AREA_ADDR);

    DEVICE_CLASS(klass)->desc = "VFIO-based PCI device assignment, ACPI _ROM";
    voc->parent_realize = pdc->realize;
    pdc->realize = vfio_optimus_realize;
    voc->parent_exit = pdc->exit;
    pdc->exit = vfio_optimus_exit;
    ACPI_DEV_AML_IF_CLASS(klass)->build_dev_aml = vfio_optimus_build_aml;
}

static const TypeInfo vfio_optimus_types[] = {
    {
        .name = TYPE_VFIO_OPTIMUS,
        .parent = TYPE_VFIO_PCI_NOHOTPLUG,
        .instance_size = sizeof(VFIOOptimus),
        .class_size = sizeof(VFIOOptimusClass),
        .class_init = vfio_optimus_class_init,
        .interfaces = (const InterfaceInfo[]) {
            { TYPE_ACPI_DEV_AML_IF },
            { }
        },
    },
};

DEFINE_TYPES(vfio_optimus_types)
