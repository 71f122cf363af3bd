#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine, the permissions of its user, libvirt, and QEMU."""

import glob
import os
import re
import shutil
import subprocess

import program_tree
import vbios
from doctor_case import (OTHER, PLUGIN, TOP, Device, DoctorTest, Link, amd_laptop,
                  intel_laptop, no_iommu)
from machine import PLUGINS, unpacked
from tap import need, tap_main


class MachineTest(DoctorTest):
    def test_cpu(self):
        tree = intel_laptop()
        self.check_row(tree, "cpu", "ok", "virtualization is on")

    def test_cpu_without(self):
        tree = intel_laptop()
        tree["/proc/cpuinfo"] = "flags\t\t: fpu vme sse\n"
        self.check_row(tree, "cpu", "problem", "VT-x, SVM", None, "firmware-setup")

    def test_kvm_missing(self):
        for start, module in (intel_laptop, "kvm_intel"), (amd_laptop, "kvm_amd"):
            self.setUp()
            tree = start()
            del tree["/dev/kvm"]
            self.check_row(tree, "cpu", "problem", f"{module} is not loaded",
                           f"^sudo modprobe {module}$")

    def test_kvm_denied(self):
        tree = intel_laptop()
        tree["/dev/kvm"] = Device("none")
        self.check_row(tree, "cpu", "problem", "alice may not use /dev/kvm",
                       "^sudo usermod -aG kvm alice$")

    def test_iommu(self):
        self.check_row(intel_laptop(), "iommu", "ok", "on, with 2 groups")

    def test_iommu_none(self):
        tree = no_iommu(intel_laptop())
        del tree["/sys/firmware/acpi/tables/DMAR"]
        self.check_row(tree, "iommu", "problem", "VT-d", None, "firmware-setup")

    def test_iommu_unknown(self):
        """Where there are no ACPI tables, the firmware is not to blame."""
        tree = {path: value for path, value in no_iommu(intel_laptop()).items()
                if "/acpi/tables/" not in path}
        self.check_row(tree, "iommu", "problem", "no ACPI tables", "^sudo dmesg")

    def unused(self, *tools, cmdline="root=/dev/sda1", **files):
        self.setUp()
        shutil.rmtree(f"{self.tree}/usr/sbin", ignore_errors=True)
        for tool in tools:
            program_tree.copy("/bin/true", f"{self.tree}/usr/sbin/{tool}")
        self.addCleanup(shutil.rmtree, f"{self.tree}/usr/sbin", ignore_errors=True)
        tree = no_iommu(intel_laptop())
        tree["/proc/cmdline"] = cmdline
        shutil.rmtree(f"{self.tree}/run", ignore_errors=True)
        tree.update(files)
        return tree

    def test_iommu_unused(self):
        """The command is the one of the distribution."""
        for tool, mend in (("grubby", "^sudo grubby .*--args=intel_iommu=on$"),
                           ("update-grub", "intel_iommu=on.*sudo update-grub$"),
                           ("grub2-mkconfig", "sed -i .*intel_iommu=on .*"
                            "/etc/default/grub && sudo grub2-mkconfig -o "
                            "/boot/grub2/grub.cfg$"),
                           ("grub-mkconfig", "grub-mkconfig -o /boot/grub/grub.cfg$"),
                           (None, "^add intel_iommu=on ")):
            self.check_row(self.unused(*([tool] if tool else [])), "iommu", "problem",
                           "does not use", mend)

    LOADER = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

    def test_iommu_loader(self):
        """That of the loader which boots, whatever tools there are."""
        cmdline = {"/etc/kernel/cmdline": "root=/dev/sda1 quiet"}
        proxmox = {"/etc/kernel/proxmox-boot-uuids": "ABCD-1234"}
        systemd = {self.LOADER: b"\7\0\0\0" + "systemd-boot 252.22".encode("utf-16-le")}
        grub = {self.LOADER: b"\7\0\0\0" + "GRUB 2.12".encode("utf-16-le")}
        sed = r"^sudo sed -i '1s/\$/ intel_iommu=on/' /etc/kernel/cmdline && sudo "
        for files, tools, mend in (
                ({"/run/ostree-booted": ""}, ["grubby", "grub2-mkconfig"],
                 "^sudo rpm-ostree kargs --append-if-missing=intel_iommu=on$"),
                (cmdline, ["update-grub"], sed + "kernel-install add "),
                (cmdline, ["mkinitcpio", "grub-mkconfig"], sed + "mkinitcpio -P$"),
                ({**cmdline, **proxmox}, ["update-grub"], sed + "proxmox-boot-tool refresh$"),
                ({**cmdline, **proxmox, **systemd}, ["update-grub"],
                 sed + "proxmox-boot-tool refresh$"),
                ({**cmdline, **proxmox, **grub}, ["update-grub"],
                 "/etc/default/grub.d/.* && sudo proxmox-boot-tool refresh$"),
                (proxmox, ["update-grub"],
                 "/etc/default/grub.d/.* && sudo proxmox-boot-tool refresh$"),
                ({**cmdline, **grub}, ["update-grub"], "sudo update-grub$"),
                (cmdline, ["grubby"], "^sudo grubby"),
                (systemd, ["update-grub"], "^add intel_iommu=on to .*/boot/loader/entries"),
                (systemd, ["kernelstub", "update-grub"],
                 "^sudo kernelstub -a intel_iommu=on$"),
                ({"/etc/NIXOS": ""}, ["grub-mkconfig"], "boot.kernelParams")):
            with self.subTest(mend):
                self.check_row(self.unused(*tools, **files), "iommu", "problem",
                               "does not use", mend)
        shutil.rmtree(f"{self.tree}/run", ignore_errors=True)

    def test_iommu_unused_though_told(self):
        """It is not told again: the kernel's log says what is wrong."""
        for cmdline in "intel_iommu=on", "quiet intel_iommu=on,sm_on", \
                "intel_iommu=off intel_iommu=on":
            for log, text in (("[0.1] DMAR: IOMMU batching disallowed\n[0.2] DMAR: "
                               "Failed to map dmar0", "'DMAR: Failed to map dmar0'"),
                              ("", "its log says why")):
                tree = self.unused("update-grub", cmdline=cmdline)
                tree["/home/dmesg"] = log
                self.check_row(tree, "iommu", "problem", f"though it is told to.*{text}",
                               "^sudo dmesg [^&]*DMAR")

    def test_xen(self):
        """One row, whatever else is missing there."""
        tree = no_iommu(amd_laptop())
        tree["/sys/hypervisor/type"] = "xen"
        row, = self.rows(tree)
        self.assertEqual((row["check"], row["status"]), ("machine", "problem"))
        self.assertRegex(row["text"], "this is Xen.*KVM")

    def test_no_xen(self):
        tree = intel_laptop()
        tree["/sys/hypervisor/type"] = "kvm"
        self.check_row(tree, "cpu", "ok", "is on")

    def test_iommu_unused_amd(self):
        self.check_row(no_iommu(amd_laptop()), "iommu", "problem",
                       "does not use", "^sudo dmesg .*AMD-Vi")

    def test_iommu_off(self):
        for option in "intel_iommu=off", "amd_iommu=off", "iommu=off":
            self.setUp()
            tree = no_iommu(intel_laptop())
            tree["/proc/cmdline"] = "quiet " + option
            self.check_row(tree, "iommu", "problem", "switched off by " + option,
                           "^remove " + option)

    def test_memlock(self):
        self.check_row(intel_laptop(), "memlock", "ok", "no limit for alice")

    def limited(self, limit):
        tree = intel_laptop()
        tree["/proc/self/limits"] = (
            "Max processes             95838                95838                "
            f"processes\nMax locked memory         {limit:<20} {limit:<20} bytes")
        return tree

    def test_memlock_capable(self):
        tree = self.limited(8 << 20)
        tree["/proc/self/status"] = "CapEff:\t0000000000004000\n"
        self.check_row(tree, "memlock", "ok", "no limit")

    def test_memlock_small(self):
        self.check_row(self.limited(8 << 20), "memlock", "problem",
                       " 8 MiB.*VFIO_MAP_DMA",
                       "alice - memlock unlimited.*limits.d")

    def test_memlock_limited(self):
        self.check_row(self.limited(4 << 30), "memlock", "warning", "4096 MiB",
                       "alice - memlock unlimited")

    def test_libvirt_not_installed(self):
        self.check_row(intel_laptop(), "libvirt", "ok", "not installed")

    def test_libvirt(self):
        for daemon, version, status, text in (
                ("libvirtd", "9.0.0", "ok", "^9.0.0$"), ("virtqemud", "11.3.0", "ok", "11.3"),
                ("libvirtd", "8.0.0", "hint", "^8.0.0: .*qemu:override.*tables"),
                ("libvirtd", "what", "warning", "does not say its version")):
            with self.subTest(version):
                self.setUp()
                self.program(daemon, f"echo '{daemon} (libvirt) {version}'")
                mend = {"ok": None, "hint": "^optimus-attach", "warning": "--version"}[status]
                self.check_row(intel_laptop(), "libvirt", status, text, mend)

    def test_battery(self):
        tree = intel_laptop()
        tree["/usr/share/vfio-optimus/battery.aml"] = ""
        self.addCleanup(os.unlink, f"{self.tree}/usr/share/vfio-optimus/battery.aml")
        tree["/sys/class/power_supply/AC/type"] = "Mains"
        tree["/sys/class/power_supply/BAT0/type"] = "Battery"
        self.check_row(tree, "windows", "hint",
                       "code 43 .* 465 or later.* do not hide KVM.* battery",
                       None, "^-acpitable file=/usr/share/vfio-optimus/battery.aml$")

    def test_battery_of_qemu(self):
        tree = intel_laptop()
        tree["/sys/class/power_supply/BAT0/type"] = "Battery"
        self.program("qemu-system-x86_64", "echo 'name \"battery\", bus ISA'")
        self.check_row(tree, "windows", "hint", "code 43", None,
                       "^-device battery .*of its own")

    def test_no_battery(self):
        tree = intel_laptop()
        tree["/sys/class/power_supply/hid-0/type"] = "Battery"
        tree["/sys/class/power_supply/hid-0/scope"] = "Device"
        self.assertNotIn("windows", [row["check"] for row in self.rows(tree)])


class QEMUTest(DoctorTest):
    """The real QEMU, and the real plugin."""

    def setUp(self):
        super().setUp()
        need(PLUGIN)
        shutil.rmtree(self.tree + PLUGIN, ignore_errors=True)
        self.path = f"{PLUGIN}:/usr/bin"

    def add_qemu(self, emulator):
        qemu = unpacked(emulator)
        place = os.path.dirname(qemu.program)
        root = os.path.dirname(os.path.dirname(place))
        for file in (qemu.program, qemu.linker, f"{emulator}/qemu-system-x86_64",
                     *glob.glob(f"{root}/usr/lib/*/qemu/accel-*.so")):
            program_tree.add_libraries(self.tree, file, qemu.libraries)
            program_tree.copy(file, self.tree + file)
        if not os.path.lexists(f"{self.tree}{place}/qemu-bundle"):
            os.symlink("../..", f"{self.tree}{place}/qemu-bundle")

    def add_plugin(self, source):
        """Where scripts/install has it beside this doctor."""
        file = f"{self.tree}/usr/lib/vfio-optimus/vfio-optimus.so"
        os.makedirs(os.path.dirname(file), exist_ok=True)
        self.addCleanup(shutil.rmtree, os.path.dirname(file))
        shutil.copy(source, file)

    def compile(self, text):
        plugin = f"{self.folder.name}/plugin"
        subprocess.run([need(shutil.which("cc")), "-shared", "-fPIC", "-xc", "-o", plugin, "-"], input=text,
                       universal_newlines=True, check=True)
        self.add_plugin(plugin)

    def test_fine(self):
        """All is well: nothing but "ok", and status 0."""
        for emulator in PLUGIN, OTHER:
            self.add_qemu(need(emulator))
            self.add_plugin(f"{PLUGINS}/vfio-optimus.so")
            tree = intel_laptop()
            tree["/home/vbios.rom"] = vbios.make()
            rows = self.rows(tree, "--rom", "/home/vbios.rom", path=f"{emulator}:/usr/bin")
            self.assertEqual({row["status"] for row in rows}, {"ok"}, rows)
            self.assertEqual({(row["mend"], row["if_so"]) for row in rows}, {(None, None)})
            row, = [row for row in rows if row["check"] == "qemu"]
            self.assertRegex(row["text"], "^" + re.escape(emulator) + "/qemu-system-x86_64: "
                             "QEMU emulator version [0-9].*, with -plugin .*vfio-optimus.so$")
            self.setUp()
            self.doCleanups()

    def test_no_plugin(self):
        self.add_qemu(PLUGIN)
        self.check_row(intel_laptop(), "qemu", "problem", "the plugin is not installed .'.*"
                       "Could not load plugin vfio-optimus: .*cannot open shared object",
                       "scripts/install$", path=self.path)

    def test_no_modules(self):
        """A QEMU that exports nothing."""
        self.add_qemu(PLUGIN)
        self.compile("extern void type_register_static_array_(void); int qemu_plugin_version;"
                     "int qemu_plugin_install(void) { type_register_static_array_(); return 0; }")
        self.check_row(intel_laptop(), "qemu", "hint", "without modules.*undefined symbol.*"
                       "tables", "^optimus-attach, or optimus-vbios ssdt$", path=self.path)

    def test_plugin_refuses(self):
        self.add_qemu(PLUGIN)
        self.compile("const char *g_module_check_init(void *module)"
                     "{ return \"vfio-optimus needs QEMU 7.2\"; }")
        self.check_row(intel_laptop(), "qemu", "problem", "does not take the plugin: '.*: "
                       "vfio-optimus needs QEMU 7.2'$", "scripts/install$", path=self.path)

    def test_plugin_of_another_version(self):
        self.add_qemu(PLUGIN)
        self.compile("int qemu_plugin_version = 99;"
                     "int qemu_plugin_install(void) { return 0; }")
        self.check_row(intel_laptop(), "qemu", "problem", "does not take the plugin: '.*version",
                       "scripts/install$", path=self.path)

    def test_does_not_run(self):
        self.add_qemu(PLUGIN)
        for library in set(map(os.path.realpath, glob.glob(self.tree + "/**/libpixman*",
                                                           recursive=True))):
            os.unlink(library)
        self.check_row(intel_laptop(), "qemu", "problem", "does not run: .*libpixman",
                       "qemu-system-x86_64 --version$", path=self.path)


class WordsTest(DoctorTest):
    """QEMUs that there is no package of here."""

    def say(self, text, status=1, name="qemu-system-x86_64", version="QEMU emulator version 9"):
        """A QEMU that there is no package of here, with its own words for -plugin."""
        known = '{"return": [{"name": "romfile", "type": "str"}]}' if text is None else ""
        self.program(name, f"""case $* in
            --version) echo '{version}' ;;
            *-plugin*) echo 'qemu-system-x86_64: {text}' >&2; exit {status} ;;
            *) echo '{known}' ;;
            esac""")

    def test_no_plugins(self):
        self.say("-plugin vfio-optimus: plugin interface not enabled in this build")
        self.check_row(intel_laptop(), "qemu", "hint", "takes no plugins.*tables; or, .*"
                       "LD_PRELOAD=PATH/vfio-optimus-preload.so",
                       "^optimus-attach, or optimus-vbios ssdt$")

    def test_device_of_its_own(self):
        self.say(None)
        self.check_row(intel_laptop(), "qemu", "ok", "has the device itself")

    def test_other_places(self):
        """RHEL's is in no PATH, Proxmox' has another name."""
        place = f"{self.tree}/usr/libexec/qemu-kvm"
        os.makedirs(os.path.dirname(place))
        self.addCleanup(shutil.rmtree, os.path.dirname(place))
        self.say("plugin interface not enabled in this build")
        shutil.move(f"{self.tree}/home/bin/qemu-system-x86_64", place)
        self.check_row(intel_laptop(), "qemu", "hint", "^/usr/libexec/qemu-kvm: QEMU", "ssdt")
        self.setUp()
        os.unlink(place)
        self.say("undefined symbol: type_register", name="kvm")
        self.check_row(intel_laptop(), "qemu", "hint", "^/home/bin/kvm: QEMU", "ssdt")

    def test_hostile_qemu(self):
        """What it prints is no text, or never ends."""
        self.program("qemu-system-x86_64", r"printf '\377\376 \033[31m'; exit 1")
        self.check_row(intel_laptop(), "qemu", "problem", "does not run",
                       "qemu-system-x86_64 --version$")
        self.setUp()
        self.say("undefined symbol: x", version=r"\377\033[31m")
        self.check_row(intel_laptop(), "qemu", "hint", r"\\x1b.31m", "ssdt")

    def test_no_qemu(self):
        """The command is the one of the distribution."""
        for tool, mend in (
                ("apt-get", "^sudo apt-get install qemu-system-x86$"),
                ("dnf", "^sudo dnf install qemu-system-x86$"),
                ("dnf rhel", "^sudo dnf install qemu-kvm$"),
                ("pacman", "^sudo pacman -S qemu-system-x86$"),
                ("zypper", "^sudo zypper install qemu-x86$"),
                (None, "^install qemu-system-x86, or what your")):
            with self.subTest(tool):
                self.setUp()
                tool, *kin = (tool or " ").split(" ")
                if tool:
                    self.program(tool, "")
                tree = intel_laptop()
                tree["/etc/os-release"] = f'ID="alma"\nID_LIKE="{" ".join(kin)} fedora"'
                self.check_row(tree, "qemu", "problem",
                               "no qemu-system-x86_64", mend)


if __name__ == "__main__":
    tap_main("__main__")
