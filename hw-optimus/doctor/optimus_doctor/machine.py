# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: virtualization, IOMMU, locked memory, QEMU with its plugin."""

import glob
import grp
import json
import os
import re
import shutil

from .common import (HERE, MIB, beside, install_command, installed, kernel_log, may_use,
                     names, output, package_command, read, run, sibling, user)

CAP_IPC_LOCK = 14
FIRMWARE_SETUP = "systemctl reboot --firmware-setup"
EFIVARS = "/sys/firmware/efi/efivars"
# which systemd-boot sets, and newer GRUBs
LOADER_INFO = f"{EFIVARS}/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
TABLES = "optimus-attach, or optimus-vbios ssdt"


def is_xen(report):
    if read("/sys/hypervisor/type") != "xen":
        return False
    report.add("problem", "machine", "this is Xen, which hides from its systems what is "
               "looked at here; the device is for QEMU with KVM: boot the kernel without "
               "Xen for it")
    return True


def check_cpu(report):
    flags = (read("/proc/cpuinfo") or "").split()
    module = "kvm_intel" if "vmx" in flags else "kvm_amd"
    if "vmx" not in flags and "svm" not in flags:
        report.add("problem", "cpu", "no virtualization: it is switched off in "
                   "the firmware's setup (VT-x, SVM), or the CPU has none",
                   if_so=FIRMWARE_SETUP)
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


def boots_with_systemd():
    """Whether systemd-boot has started this system, and not GRUB: their files can
    lie side by side."""
    info = (read(LOADER_INFO) or "").replace("\0", "").replace("\ufffd", "")
    if "systemd-boot" in info:
        return True
    if "GRUB" in info or installed("grubby"):   # which knows both
        return False
    return os.path.exists("/etc/kernel/cmdline")


def kernel_option(option):
    """The command that adds to the kernel's command line, with the loader that has
    booted this system."""
    name = "GRUB_CMDLINE_LINUX_DEFAULT"
    cmdline = f"sudo sed -i '1s/$/ {option}/' /etc/kernel/cmdline && sudo "
    proxmox = os.path.exists("/etc/kernel/proxmox-boot-uuids")
    refresh = "sudo proxmox-boot-tool refresh"
    if os.path.exists("/run/ostree-booted"):
        return f"sudo rpm-ostree kargs --append-if-missing={option}"
    if os.path.exists("/etc/NIXOS"):
        return (f"add \"{option}\" to boot.kernelParams in the system's configuration, "
                "and nixos-rebuild boot")
    if boots_with_systemd():
        if installed("kernelstub"):     # Pop!_OS
            return f"sudo kernelstub -a {option}"
        if not os.path.exists("/etc/kernel/cmdline"):
            return f"add {option} to the line options in /boot/loader/entries/*.conf"
        return cmdline + (refresh[5:] if proxmox else
                          "mkinitcpio -P" if installed("mkinitcpio") else
                          "kernel-install add $(uname -r) /boot/vmlinuz-$(uname -r)")
    if installed("grubby"):             # Fedora
        return f"sudo grubby --update-kernel=ALL --args={option}"
    if proxmox or installed("update-grub"):     # Debian, Ubuntu
        return (f"echo '{name}=\"${name} {option}\"' | "
                "sudo tee /etc/default/grub.d/iommu.cfg && " +
                (refresh if proxmox else "sudo update-grub"))
    for tool, folder in ("grub2-mkconfig", "grub2"), ("grub-mkconfig", "grub"):
        if installed(tool):             # openSUSE; Arch
            return (f"sudo sed -i 's/^{name}=[\"'\\'']/&{option} /' /etc/default/grub "
                    f"&& sudo {tool} -o /boot/{folder}/grub.cfg")
    return f"add {option} to the kernel's command line in the boot loader"


def check_iommu(report):
    groups = names("/sys/kernel/iommu_groups")
    tables = names("/sys/firmware/acpi/tables")
    # the last one of a name counts
    given = dict(word.partition("=")[::2] for word in (read("/proc/cmdline") or "").split())
    off = [f"{name}=off" for name in ("intel_iommu", "amd_iommu", "iommu")
           if given.get(name) == "off"]
    told = "on" in given.get("intel_iommu", "").split(",")
    if groups:
        report.add("ok", "iommu", f"on, with {len(groups)} groups")
    elif off:
        report.add("problem", "iommu", f"switched off by {off[0]} on the "
                   "kernel's command line",
                   f"remove {off[0]} there in the boot loader, and reboot")
    elif "DMAR" in tables and not told:
        report.add("problem", "iommu", "the machine has one that the kernel "
                   "does not use (reboot after the command)",
                   kernel_option("intel_iommu=on"))
    elif "DMAR" in tables or "IVRS" in tables:
        name = "DMAR" if "DMAR" in tables else "AMD-Vi"
        said = kernel_log(name)
        report.add("problem", "iommu", "the machine has one that the kernel does not use"
                   + (", though it is told to" if name == "DMAR" else "") +
                   (f"; its log says: '{said[-1]}'" if said else "; its log says why"),
                   f"sudo dmesg | grep -i -e {name} -e IOMMU")
    elif not tables:
        report.add("problem", "iommu", "the kernel uses none, and shows no ACPI tables that "
                   "tell whether there is one", "sudo dmesg | grep -i -e ACPI -e IOMMU")
    else:
        report.add("problem", "iommu", "the firmware shows none: switch on VT-d, "
                   "or AMD-Vi or IOMMU, in its setup", if_so=FIRMWARE_SETUP)


def check_memlock(report):
    limit = re.search(r"^Max locked memory\s+(\d+)",
                      read("/proc/self/limits") or "", re.M)
    caps = re.search(r"^CapEff:\s*([0-9a-f]+)", read("/proc/self/status") or "", re.M)
    if not limit or (caps and int(caps.group(1), 16) >> CAP_IPC_LOCK & 1):
        report.add("ok", "memlock", f"no limit for {user()}")
        return
    limit = int(limit.group(1))
    report.add("problem" if limit < 1024 * MIB else "warning", "memlock",
               f"{user()} may lock {limit // MIB} MiB of memory, and all of the "
               "guest's is locked: a larger one fails with VFIO_MAP_DMA (log in "
               "anew after the command; libvirt sets the limit by itself)",
               f"echo '{user()} - memlock unlimited' | "
               "sudo tee /etc/security/limits.d/vfio-optimus.conf")


def emulators():
    """Distributions have one, or some, of these."""
    found = [shutil.which("qemu-system-x86_64"), "/usr/libexec/qemu-kvm",
             shutil.which("kvm")]
    return [path for path in found if path and os.access(path, os.X_OK)]


def plugins():
    """What -plugin can be given: the name alone, or where the file is."""
    found = beside("build", "plugin", "vfio-optimus.so")
    found += glob.glob(os.path.join(HERE, "../../lib*/**/vfio-optimus.so"),
                       recursive=True)
    return ["vfio-optimus", *map(os.path.normpath, found)]


def check_qemu(report):
    complaint = None
    for qemu in emulators():
        status, *words = ask_qemu(qemu)
        if status == "ok":
            report.add(status, *words)
            return
        complaint = complaint or (status, *words)
    if complaint:
        report.add(*complaint)
    else:
        report.add("problem", "qemu", "there is no qemu-system-x86_64 in PATH",
                   package_command(apt_get="qemu-system-x86", dnf="qemu-system-x86",
                                   pacman="qemu-system-x86", zypper="qemu-x86",
                                   rhel="qemu-kvm"))


def has_device(qemu, *args):
    """Whether it has, and what it says.  It starts without a machine, and ends."""
    ask = ("qmp_capabilities", None), ("device-list-properties", "vfio-optimus"), \
          ("quit", None)
    text = "".join(json.dumps({"execute": word, **(
        {"arguments": {"typename": name}} if name else {})}) for word, name in ask)
    status, said, why = run(qemu, "-machine", "none,accel=kvm:tcg", "-nodefaults",
                            "-display", "none", "-S", "-qmp", "stdio", *args, text=text)
    return status == 0 and '"name": "romfile"' in said, status, why


def ask_qemu(qemu):
    """A row of the report: can it have the device?"""
    known, status, why = has_device(qemu)
    version = output(qemu, "--version").split("\n")[0]
    if known:
        return "ok", "qemu", f"{qemu}: {version}, which has the device itself"
    if status != 0:
        return ("problem", "qemu", f"{qemu} does not run: {why}",
                f"{qemu} --version")
    said = ""
    for plugin in plugins():
        known, status, why = has_device(qemu, "-plugin", plugin)
        if known:
            return "ok", "qemu", f"{qemu}: {version}, with -plugin {plugin}"
        # what a file says that is there, rather than that there is none
        if not said or "cannot open shared object" in said:
            said = why
    where = f"{qemu}: {version}"
    said = said.replace("\n", " ")
    if "plugin interface not enabled" in said:
        return ("hint", "qemu", f"{where}: it takes no plugins ('{said}'): the guest gets "
                "_ROM by ACPI tables; or, where QEMU is started by hand and has modules, "
                "the device by LD_PRELOAD=PATH/vfio-optimus-preload.so", TABLES)
    if re.search("undefined symbol: (?!qemu_plugin_)", said):
        return ("hint", "qemu", f"{where}: it was built without modules, so a plugin "
                f"cannot use it ('{said}'): the guest gets _ROM by ACPI tables", TABLES)
    if "cannot open shared object" in said:
        return ("problem", "qemu", f"{where}: the plugin is not installed ('{said}')",
                install_command())
    return ("problem", "qemu", f"{where}: it does not take the plugin: '{said}'",
            install_command())


def check_battery(report):
    for name in names("/sys/class/power_supply"):
        supply = os.path.join("/sys/class/power_supply", name)
        # not that of a mouse
        if (read(supply, "type") == "Battery" and
                read(supply, "scope") != "Device"):
            report.add("hint", "windows", "a laptop: with code 43 in Windows try "
                       "release 465 or later of NVIDIA's driver, and do not hide "
                       "KVM; where it is hidden, or the driver older, it wants a "
                       "battery in the guest", if_so=add_battery())
            return


def add_battery():
    qemu = next(iter(emulators()), None)
    if qemu and 'name "battery"' in output(qemu, "-device", "help"):
        return "-device battery (this QEMU has one of its own)"
    return f"-acpitable file={sibling('guest', 'battery.aml')}"
