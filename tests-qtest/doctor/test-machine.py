#!/usr/bin/python3
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
from tap import need, tap_main


class MachineTest(DoctorTest):
    def test_cpu(self):
        tree = intel_laptop()
        self.check_row(tree, "cpu", "ok", "virtualization is on")

    def test_cpu_without(self):
        tree = intel_laptop()
        tree["/proc/cpuinfo"] = "flags\t\t: fpu vme sse\n"
        self.check_row(tree, "cpu", "problem", "VT-x, SVM", "firmware-setup")

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
        self.check_row(tree, "iommu", "problem", "VT-d", "firmware-setup")

    def test_iommu_unused(self):
        """The command is the one of the distribution."""
        for tool, mend in (("grubby", "^sudo grubby .*--args=intel_iommu=on$"),
                           ("update-grub", "intel_iommu=on.*update-grub$"),
                           ("grub2-mkconfig", "sed -i .*intel_iommu=on .*"
                            "/etc/default/grub && sudo grub2-mkconfig -o "
                            "/boot/grub2/grub.cfg$"),
                           ("grub-mkconfig", "grub-mkconfig -o /boot/grub/grub.cfg$"),
                           (None, "^add intel_iommu=on ")):
            self.setUp()
            shutil.rmtree(f"{self.tree}/usr/sbin", ignore_errors=True)
            if tool:
                program_tree.copy("/bin/true", f"{self.tree}/usr/sbin/{tool}")
            tree = no_iommu(intel_laptop())
            tree["/proc/cmdline"] = "root=/dev/sda1"
            self.check_row(tree, "iommu", "problem", "does not use", mend)

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

    def test_libvirt_unconfined(self):
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/sys/fs/selinux/enforce"] = "0"
        tree["/sys/module/apparmor/parameters/enabled"] = "N"
        self.check_row(tree, "libvirt", "ok", "neither")

    def apparmor(self):
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/sys/module/apparmor/parameters/enabled"] = "Y"
        tree["/etc/apparmor.d/abstractions/libvirt-qemu"] = \
            "  #include <local/abstractions/libvirt-qemu>"
        return tree

    def test_apparmor(self):
        path = self.installed("/usr/local")
        self.check_row(self.apparmor(), "libvirt", "warning",
                       "without rules for .*/vfio-optimus-preload.so: it cannot be loaded",
                       "mkdir -p /etc/apparmor.d/local/abstractions && "
                       "cat .*/apparmor-qemu "
                       ">>/etc/apparmor.d/local/abstractions/libvirt-qemu'", path=path)

    def rules(self, name="apparmor-qemu"):
        with open(f"{TOP}/hw-optimus/libvirt/{name}") as file:
            return file.read()

    def installed(self, prefix):
        """The wrapper, and the rules, as scripts/install puts them there."""
        wrapper = f"{self.tree}{prefix}/lib/vfio-optimus/qemu-optimus"
        program_tree.copy("/bin/true", wrapper)
        self.addCleanup(os.unlink, wrapper)
        share = f"{self.tree}/usr/share/vfio-optimus"
        for name in "apparmor-qemu", "apparmor-libvirtd", "vfio-optimus.cil":
            program_tree.copy(f"{TOP}/hw-optimus/libvirt/{name}", f"{share}/{name}")
            self.addCleanup(os.unlink, f"{share}/{name}")
        return f"{prefix}/lib/vfio-optimus:/usr/bin"

    def test_apparmor_libvirtd(self):
        """Only a guest whose emulator it is needs rules for the wrapper."""
        path = self.installed("/usr/local")
        tree = self.apparmor()
        tree["/etc/apparmor.d/local/abstractions/libvirt-qemu"] = self.rules()
        tree["/etc/apparmor.d/usr.sbin.libvirtd"] = \
            "profile libvirtd {\n  include if exists <local/usr.sbin.libvirtd>\n}"
        domain = "<emulator>/usr/%s</emulator>"
        tree["/etc/libvirt/qemu/other.xml"] = domain % "bin/qemu-system-x86_64"
        self.check_row(tree, "libvirt", "ok", "for vfio-optimus-preload.so$", path=path)
        self.check_row({"/etc/libvirt/qemu/win.xml": domain % "local/bin/qemu-optimus"},
                       "libvirt", "warning", "usr.sbin.libvirtd is without rules "
                       "for .*/qemu-optimus: it cannot be started",
                       "mkdir -p /etc/apparmor.d/local && "
                       "cat /usr/share/vfio-optimus/apparmor-libvirtd "
                       ">>/etc/apparmor.d/local/usr.sbin.libvirtd && "
                       "apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd'",
                       path=path)
        self.check_row({"/etc/apparmor.d/local/usr.sbin.libvirtd":
                        self.rules("apparmor-libvirtd")}, "libvirt", "ok",
                       "for qemu-optimus and vfio-optimus-preload.so$", path=path)

    def test_apparmor_virtqemud(self):
        """In libvirt 9.0 the profile does not read what is in local/."""
        path = self.installed("/usr/local")
        tree = self.apparmor()
        tree["/etc/apparmor.d/local/abstractions/libvirt-qemu"] = self.rules()
        profile = "/etc/apparmor.d/usr.sbin.virtqemud"
        tree[profile] = "profile virtqemud {\n  profile child {\n  }\n}\n"
        tree["/etc/libvirt/qemu/win.xml"] = \
            "<emulator>/usr/local/bin/qemu-optimus</emulator>"
        local = "/etc/apparmor.d/local/usr.sbin.virtqemud"
        self.check_row({**tree, local: self.rules("apparmor-libvirtd")},
                       "libvirt", "warning", "usr.sbin.virtqemud is without",
                       "apparmor_parser -r " + profile, path=path)
        self.mend(path, " && apparmor_parser")
        with open(self.tree + profile) as file:
            self.assertIn("  }\n#include <local/usr.sbin.virtqemud>\n}\n", file.read())
        self.check_row({}, "libvirt", "ok", "for qemu-optimus and", path=path)

    def test_apparmor_without_local(self):
        path = self.installed("/usr/local")
        tree = self.apparmor()
        tree["/etc/apparmor.d/abstractions/libvirt-qemu"] = "# as upstream has it"
        tree["/etc/apparmor.d/local/abstractions/libvirt-qemu"] = self.rules()
        self.check_row(tree, "libvirt", "warning", "without rules for",
                       "libvirt-qemu.d/vfio-optimus", path=path)
        self.mend(path)
        self.check_row({}, "libvirt", "ok", "with rules", path=path)

    def mend(self, path, until=None):
        """Do what the doctor says, but for what comes after @until."""
        row, = [row for row in self.rows({}, path=path) if row["check"] == "libvirt"]
        command = row["mend"].replace("sudo ", "")
        if until:
            command = command.split(until)[0] + "'"
        for place in "/usr/share", "/etc/apparmor.d":
            command = command.replace(place, self.tree + place)
        subprocess.run(command, shell=True, check=True)

    def test_apparmor_with_rules(self):
        for file in ("local/abstractions/libvirt-qemu",
                     "abstractions/libvirt-qemu.d/vfio-optimus"):
            self.setUp()
            path = self.installed("/usr/local")
            tree = self.apparmor()
            tree["/etc/apparmor.d/" + file] = self.rules()
            self.check_row(tree, "libvirt", "ok", "AppArmor is on, with rules", path=path)
            self.doCleanups()

    def test_apparmor_other_prefix(self):
        """The rules that come with it do not cover that: what mends it does."""
        path = self.installed("/home/opt")
        tree = self.apparmor()
        self.make(tree)
        self.check_row({}, "libvirt", "warning", "libvirt-qemu is without rules for "
                       "/home/opt/lib/vfio-optimus/.*, .*another --prefix",
                       "sed .*/home/opt/", path=path)
        self.mend(path)
        self.check_row({}, "libvirt", "ok", "with rules", path=path)

    def test_apparmor_not_installed(self):
        wrapper = f"{self.tree}/home/build/qemu-optimus"
        program_tree.copy("/bin/true", wrapper)
        self.check_row(self.apparmor(), "libvirt", "warning", "which is not installed",
                       "scripts/install", path="/home/build:/usr/bin")

    def test_selinux_other_prefix(self):
        path = self.installed("/home/opt")
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/sys/fs/selinux/enforce"] = "1"
        self.check_row(tree, "libvirt", "warning", "is none, not qemu_exec_t",
                       "semanage fcontext -a -t qemu_exec_t '/home/opt/", path=path)

    def test_selinux(self):
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/sys/fs/selinux/enforce"] = "1"
        path = self.installed("/usr/local")
        self.check_row(tree, "libvirt", "warning", "qemu-optimus is none, not qemu_exec_t",
                       "semodule -i .*/vfio-optimus.cil .*restorecon .*"
                       "/usr/local/lib/vfio-optimus/qemu-optimus", path=path)

    def test_selinux_labelled(self):
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/sys/fs/selinux/enforce"] = "1"
        wrapper = self.tree + "/usr/bin/qemu-optimus"
        program_tree.copy("/bin/true", wrapper)
        self.addCleanup(os.unlink, wrapper)
        try:
            os.setxattr(wrapper, "security.selinux",
                        b"system_u:object_r:qemu_exec_t:s0\0")
        except OSError as error:
            self.skipTest(f"no label can be set here: {error}")
        self.check_row(tree, "libvirt", "ok",
                       "SELinux is on, /usr/bin/qemu-optimus is labelled")

    def test_battery(self):
        tree = intel_laptop()
        tree["/sys/class/power_supply/AC/type"] = "Mains"
        tree["/sys/class/power_supply/BAT0/type"] = "Battery"
        self.check_row(tree, "windows", "hint",
                       "code 43 .* 465 or later.* do not hide KVM.* battery",
                       "^VFIO_OPTIMUS_BATTERY=on qemu-optimus")

    def test_battery_of_qemu(self):
        tree = intel_laptop()
        tree["/sys/class/power_supply/BAT0/type"] = "Battery"
        tree["/home/bin/qemu-system-x86_64"] = "#!/bin/sh\necho 'name \"battery\", bus ISA'"
        self.make(tree)
        os.chmod(self.tree + "/home/bin/qemu-system-x86_64", 0o755)
        self.check_row({}, "windows", "hint", "code 43", "^-device battery .*of its own",
                       path="/home/bin:/usr/bin")

    def test_no_battery(self):
        tree = intel_laptop()
        tree["/sys/class/power_supply/hid-0/type"] = "Battery"
        tree["/sys/class/power_supply/hid-0/scope"] = "Device"
        self.assertNotIn("windows", [row["check"] for row in self.rows(tree)])


class QEMUTest(DoctorTest):
    """The real QEMU and the real plugins."""

    def setUp(self):
        super().setUp()
        need(PLUGIN)
        shutil.rmtree(self.tree + PLUGIN, ignore_errors=True)
        self.path = f"{PLUGIN}:/usr/bin"

    def add_qemu(self, emulator):
        """QEMU, its wrapper and the plugin."""
        with open(f"{emulator}/qemu-system-x86_64") as file:
            script = file.read()
        qemu, = re.findall(r"^program='(.*)'", script, re.M)
        program_tree.add_libraries(
            self.tree, qemu, *re.findall(r"^libraries='(.*)'", script, re.M))
        program_tree.copy(qemu, self.tree + qemu)
        for name in "qemu-system-x86_64", "qemu-optimus":
            program_tree.copy(f"{emulator}/{name}", f"{self.tree}{emulator}/{name}")
        for file in glob.glob(f"{emulator}/*.so"):
            program_tree.copy(file, self.tree + file)

    def test_fine(self):
        """All is well: nothing but "ok", and status 0."""
        self.add_qemu(PLUGIN)
        tree = intel_laptop()
        tree["/home/vbios.rom"] = vbios.make()
        rows = self.rows(tree, "--rom", "/home/vbios.rom", path=self.path)
        self.assertEqual({row["status"] for row in rows}, {"ok"}, rows)
        self.assertEqual([row["mend"] for row in rows], [None] * len(rows))
        row, = [row for row in rows if row["check"] == "qemu"]
        self.assertRegex(row["text"], "^" + re.escape(PLUGIN) +
                         "/qemu-optimus: QEMU emulator version [0-9]")

    def test_other_qemu(self):
        """The same files in another one, as after an upgrade."""
        self.add_qemu(OTHER)
        self.check_row(intel_laptop(), "qemu", "ok",
                       f"{OTHER}/qemu-optimus: QEMU emulator version",
                       path=f"{OTHER}:/usr/bin")

    def test_exports_nothing(self):
        self.add_qemu(PLUGIN)
        name = f"{self.tree}{PLUGIN}/qemu-system-x86_64"
        os.unlink(name)
        program_tree.copy("/bin/sleep", name)
        program_tree.add_libraries(self.tree, "/bin/sleep")
        tree = intel_laptop()
        tree["/proc/self/exe"] = Link(f"{PLUGIN}/qemu-system-x86_64")
        self.check_row(tree, "qemu", "problem",
                       "not loaded: this QEMU exports no symbols",
                       "^optimus-vbios ssdt --help$", path=self.path)

    def test_wrapper_without_qemu(self):
        wrapper = f"{self.tree}/usr/bin/qemu-optimus"
        program_tree.copy(f"{TOP}/build/plugin/qemu-optimus", wrapper)
        self.addCleanup(os.unlink, wrapper)
        self.check_row(intel_laptop(), "qemu", "problem",
                       "^there is no qemu-system-x86_64 in PATH$", "qemu-system-x86")

    def test_no_plugin(self):
        self.add_qemu(PLUGIN)
        os.unlink(f"{self.tree}{PLUGIN}/qemu-optimus")
        self.check_row(intel_laptop(), "qemu", "problem",
                       "has no device vfio-optimus", "scripts/install",
                       path=self.path)

    def test_half_a_plugin(self):
        self.add_qemu(PLUGIN)
        os.unlink(f"{self.tree}{PLUGIN}/vfio-optimus.so")
        self.check_row(intel_laptop(), "qemu", "problem",
                       "not loaded: .*vfio-optimus.so", "scripts/install",
                       path=self.path)

    def test_does_not_run(self):
        self.add_qemu(PLUGIN)
        for library in glob.glob(self.tree + "/**/libpixman*", recursive=True):
            os.unlink(library)
        self.check_row(intel_laptop(), "qemu", "problem",
                       "does not run: .*libpixman", "scripts/install",
                       path=self.path)

    def test_no_qemu(self):
        """The command is the one of the distribution."""
        for tool, mend in (
                ("apt-get", "^sudo apt-get install qemu-system-x86$"),
                ("dnf", "^sudo dnf install qemu-system-x86$"),
                ("pacman", "^sudo pacman -S qemu-system-x86$"),
                ("zypper", "^sudo zypper install qemu-x86$"),
                (None, "^install qemu-system-x86, or what your")):
            with self.subTest(tool):
                self.setUp()
                if tool:
                    program_tree.copy("/bin/true", f"{self.tree}/home/bin/{tool}")
                self.check_row(intel_laptop(), "qemu", "problem",
                               "no qemu-system-x86_64", mend, path="/home/bin:/usr/bin")


if __name__ == "__main__":
    tap_main("__main__")
