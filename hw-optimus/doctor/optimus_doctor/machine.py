# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: virtualization, IOMMU, locked memory, QEMU with its plugin."""

import grp
import os
import re
import shutil
import subprocess

from .common import (beside, install_command, may_use, names, output, package_command,
                     read, user)

CAP_IPC_LOCK = 14
MIB = 1 << 20


def check_cpu(report):
    flags = (read("/proc/cpuinfo") or "").split()
    module = "kvm_intel" if "vmx" in flags else "kvm_amd"
    if "vmx" not in flags and "svm" not in flags:
        report.add("problem", "cpu", "no virtualization: it is switched off in "
                   "the firmware's setup (VT-x, SVM), or the CPU has none",
                   "systemctl reboot --firmware-setup")
    elif not os.path.exists("/dev/kvm"):
        report.add("problem", "cpu", f"/dev/kvm is missing: {module} is not "
                   "loaded; if it cannot be, virtualization is off in the "
                   "firmware's setup", f"sudo modprobe {module}")
    elif not may_use("/dev/kvm"):
        report.add("problem", "cpu", f"{user()} may not use /dev/kvm (log in "
                   "anew after the command)",
                   f"sudo usermod -aG {group_of('/dev/kvm')} {user()}")
    else:
        report.add("ok", "cpu", "virtualization is on, /dev/kvm can be used")


def group_of(path):
    try:
        return grp.getgrgid(os.stat(path).st_gid).gr_name
    except KeyError:
        return "kvm"


def kernel_option(option):
    """The command that adds to the kernel's command line."""
    name = "GRUB_CMDLINE_LINUX_DEFAULT"

    def there(tool):
        return shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin")

    if there("grubby"):             # Fedora
        return f"sudo grubby --update-kernel=ALL --args={option}"
    if there("update-grub"):        # Debian, Ubuntu
        return (f"echo '{name}=\"${name} {option}\"' | "
                "sudo tee /etc/default/grub.d/iommu.cfg && "
                "sudo update-grub")
    for tool, folder in ("grub2-mkconfig", "grub2"), ("grub-mkconfig", "grub"):
        if there(tool):             # openSUSE; Arch
            return (f"sudo sed -i 's/^{name}=[\"'\\'']/&{option} /' /etc/default/grub "
                    f"&& sudo {tool} -o /boot/{folder}/grub.cfg")
    return f"add {option} to the kernel's command line in the boot loader"


def check_iommu(report):
    groups = names("/sys/kernel/iommu_groups")
    tables = names("/sys/firmware/acpi/tables")
    off = [word for word in (read("/proc/cmdline") or "").split()
           if word in ("intel_iommu=off", "amd_iommu=off", "iommu=off")]
    if groups:
        report.add("ok", "iommu", f"on, with {len(groups)} groups")
    elif off:
        report.add("problem", "iommu", f"switched off by {off[0]} on the "
                   "kernel's command line",
                   f"remove {off[0]} there in the boot loader, and reboot")
    elif "DMAR" in tables:
        report.add("problem", "iommu", "the machine has one that the kernel "
                   "does not use (reboot after the command)",
                   kernel_option("intel_iommu=on"))
    elif "IVRS" in tables:
        report.add("problem", "iommu", "the machine has one that the kernel "
                   "does not use; its log says why",
                   "sudo dmesg | grep -e AMD-Vi -e IOMMU")
    else:
        report.add("problem", "iommu", "the firmware has none: switch on VT-d, "
                   "or AMD-Vi or IOMMU, in its setup",
                   "systemctl reboot --firmware-setup")


def check_memlock(report):
    limit = re.search(r"^Max locked memory\s+(\w+)",
                      read("/proc/self/limits") or "", re.M)
    caps = re.search(r"^CapEff:\s*(\w+)", read("/proc/self/status") or "", re.M)
    if not limit or limit.group(1) == "unlimited" or (
            caps and int(caps.group(1), 16) >> CAP_IPC_LOCK & 1):
        report.add("ok", "memlock", f"no limit for {user()}")
        return
    limit = int(limit.group(1))
    report.add("problem" if limit < 1024 * MIB else "warning", "memlock",
               f"{user()} may lock {limit // MIB} MiB of memory, and all of the "
               "guest's is locked: a larger one fails with VFIO_MAP_DMA (log in "
               "anew after the command; libvirt sets the limit by itself)",
               f"echo '{user()} - memlock unlimited' | "
               "sudo tee /etc/security/limits.d/vfio-optimus.conf")


def check_qemu(report):
    wrappers = beside("build", "plugin", "qemu-optimus")
    plain = shutil.which("qemu-system-x86_64")
    complaint = None
    for qemu in wrappers + ([plain] if plain else []):
        version, why = ask_qemu(qemu)
        if version:
            report.add("ok", "qemu", f"{qemu}: {version}")
            return
        complaint = complaint or why
    if complaint and "in PATH: install QEMU" not in complaint:
        other_way = "optimus-vbios ssdt"    # which the plugin may have named
        report.add("problem", "qemu", complaint, f"{other_way} --help"
                   if other_way in complaint else install_command())
    else:
        report.add("problem", "qemu", "there is no qemu-system-x86_64 in PATH",
                   package_command(apt_get="qemu-system-x86", dnf="qemu-system-x86",
                                   pacman="qemu-system-x86", zypper="qemu-x86"))


def ask_qemu(qemu):
    """Its version if it has the device, or else why not."""
    try:
        device, version = [subprocess.run(
            [qemu, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
            for args in (("-device", "help"), ("--version",))]
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{qemu} does not run: {error}"
    if 'name "vfio-optimus"' in device.stdout:
        return version.stdout.split("\n")[0], None
    said = re.search(r"vfio-optimus: not loaded: .*", device.stderr)
    if said:
        return None, f"{qemu}: {said.group(0)}"
    if device.returncode:
        return None, f"{qemu} does not run: {device.stderr.strip()}"
    return None, f"{qemu} has no device vfio-optimus: its plugin is missing"


def check_battery(report):
    for name in names("/sys/class/power_supply"):
        supply = os.path.join("/sys/class/power_supply", name)
        # not that of a mouse
        if (read(supply, "type") == "Battery" and
                read(supply, "scope") != "Device"):
            report.add("hint", "windows", "a laptop: with code 43 in Windows try "
                       "release 465 or later of NVIDIA's driver, and do not hide "
                       "KVM; where it is hidden, or the driver older, it wants a "
                       "battery in the guest", add_battery())
            return


def add_battery():
    qemu = shutil.which("qemu-system-x86_64")
    if qemu and 'name "battery"' in output(qemu, "-device", "help"):
        return "-device battery (this QEMU has one of its own)"
    return "VFIO_OPTIMUS_BATTERY=on qemu-optimus ..."
