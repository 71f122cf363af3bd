// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's side of the tests: calls the ACPI method _ROM of a PCI device
 * as drivers do, as they should not, and watches others call it.
 *
 * insmod optimus_guest.ko action=ACTION [bdf=0000:01:00.0] ...
 *
 * Results are in the kernel log and in the parameter "result".  Loading does
 * not fail when the action does: insmod would try it once more.
 */

#include <linux/pci.h>
#include "optimus_guest.h"

static char *action = "read";
module_param(action, charp, 0);
MODULE_PARM_DESC(action,
		 "read, contract, speed, bench, watch, scan, write or setsub");

static char *bdf;
module_param(bdf, charp, 0);
MODULE_PARM_DESC(bdf, "PCI address (default: the first NVIDIA display)");

static char *sub;
module_param(sub, charp, 0);
MODULE_PARM_DESC(sub, "setsub: subsystem IDs, as 17aa:3978");

static int result;
module_param(result, int, 0444);
MODULE_PARM_DESC(result, "0 or a negative error number, to be read");

static struct pci_dev *find_device(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (bdf ? !strcmp(pci_name(pdev), bdf) :
		    pdev->vendor == PCI_VENDOR_ID_NVIDIA &&
		    pdev->class >> 16 == PCI_BASE_CLASS_DISPLAY)
			return pdev;
	}
	return NULL;
}

/*
 * What the kernel remembers of a card whose configuration space has lost its
 * subsystem IDs since.  For the host, before vfio-pci.
 */
static int do_setsub(struct pci_dev *pdev)
{
	unsigned short vendor, device;

	if (!sub || sscanf(sub, "%hx:%hx", &vendor, &device) != 2)
		return -EINVAL;
	pdev->subsystem_vendor = vendor;
	pdev->subsystem_device = device;
	return 0;
}

static int describe(struct pci_dev *pdev)
{
	struct acpi_buffer path = { ACPI_ALLOCATE_BUFFER, NULL };
	u16 vendor, device, sub_vendor, sub_device;

	pci_read_config_word(pdev, PCI_VENDOR_ID, &vendor);
	pci_read_config_word(pdev, PCI_DEVICE_ID, &device);
	pci_read_config_word(pdev, PCI_SUBSYSTEM_VENDOR_ID, &sub_vendor);
	pci_read_config_word(pdev, PCI_SUBSYSTEM_ID, &sub_device);
	if (handle)
		acpi_get_name(handle, ACPI_FULL_PATHNAME, &path);
	pr_info("device=%s acpi=%s id=%04x:%04x sub=%04x:%04x class=%06x rom=%s\n",
		pci_name(pdev), path.pointer ? (char *)path.pointer : "none",
		vendor, device, sub_vendor, sub_device, pdev->class,
		handle && acpi_has_method(handle, "_ROM") ? "yes" : "no");
	kfree(path.pointer);
	return handle ? 0 : -ENODEV;
}

static int act(struct pci_dev *pdev)
{
	int err;

	handle = ACPI_HANDLE(&pdev->dev);
	if (!strcmp(action, "setsub"))
		return do_setsub(pdev);
	err = describe(pdev);
	if (err)
		return err;
	if (!strcmp(action, "read"))
		return do_read();
	if (!strcmp(action, "contract"))
		return do_contract();
	if (!strcmp(action, "speed"))
		return do_speed();
	if (!strcmp(action, "bench"))
		return do_bench();
	if (!strcmp(action, "watch"))
		return do_watch();
	if (!strcmp(action, "write"))
		return do_write();
	return -EINVAL;
}

static int __init optimus_guest_init(void)
{
	struct pci_dev *pdev = find_device();

	/* Also on a machine without the device, to compare with */
	if (!strcmp(action, "scan"))
		result = do_scan();
	else
		result = pdev ? act(pdev) : -ENODEV;
	pci_dev_put(pdev);
	pr_info("action=%s result=%d\n", action, result);
	return 0;
}

static void __exit optimus_guest_exit(void)
{
	unload_tables();
	end_watch();
}

module_init(optimus_guest_init);
module_exit(optimus_guest_exit);

MODULE_DESCRIPTION("Test of the ACPI method _ROM");
MODULE_LICENSE("GPL");
