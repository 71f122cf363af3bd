#!/usr/bin/python3
"""optimus-doctor and guest-check in machines made here:

    test-machine.py VBIOS PLUGIN OTHER

with optimus-vbios and the directories of the plugins for two QEMUs.  Each
machine is a tree of files like that of a real one, with /sys, /proc and /dev,
into which they are sent with chroot: they have no switch for tests."""

import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import program_tree
import vbios
from machine import Machine, tap_main

TOP = os.path.normpath(os.path.join(os.path.dirname(__file__), "../../.."))
BDF = "0000:01:00.0"
DEVICES = "/sys/bus/pci/devices"
CARD = "/sys/devices/pci0000:00/0000:00:01.0/" + BDF


class Link(str):
    """What a symbolic link points to."""


class Device(str):
    """A device file; a plain file will do.  Its text is who may use it."""


def pci(path, ids, pci_class, group, driver=None, sub="17aa:3978", own=None,
        **files):
    """A device in sysfs.  SUB is what the kernel knows of the subsystem IDs,
    OWN what is in config space."""
    bdf = os.path.basename(path)
    words = [int(word, 16) for word in ids.split(":") + (own or sub).split(":")]
    config = bytearray(256)
    for at, word in zip((0, 2, 0x2c, 0x2e), words):
        config[at:at + 2] = word.to_bytes(2, "little")
    tree = {
        f"/sys/bus/pci/devices/{bdf}": Link("../../../" + path[len("/sys/"):]),
        f"{path}/vendor": "0x" + ids[:4],
        f"{path}/device": "0x" + ids[5:],
        f"{path}/class": "0x" + pci_class,
        f"{path}/subsystem_vendor": "0x" + sub[:4],
        f"{path}/subsystem_device": "0x" + sub[5:],
        f"{path}/config": bytes(config),
        f"{path}/reset_method": "bus",
    }
    if group is not None:
        groups = "/sys/kernel/iommu_groups"
        tree[f"{path}/iommu_group"] = Link(f"{groups}/{group}")
        tree[f"{groups}/{group}/devices/{bdf}"] = Link(path)
    if driver:
        tree[f"{path}/driver"] = Link(f"/sys/bus/pci/drivers/{driver}")
    tree.update({f"{path}/{name}": value for name, value in files.items()})
    return tree


def method(path, name=b"_ROM"):
    """An SSDT with a method in a scope, as people write them by hand."""
    # what looks like the start of a long scope
    body = b"\x10\x3fJUNK" + b"\x14\x09" + name + b"\x02\xa4\x00"
    names = path.encode().split(b".")
    body = b"\x5c\x2f" + bytes([len(names)]) + b"".join(names) + body
    return bytes(36) + b"\x10" + bytes([len(body) + 1]) + body


def intel_laptop():
    """Muxless, with all that is needed: the card is on vfio-pci, and shares its
    group with the root port, as is usual."""
    return {
        "/proc/cpuinfo": "flags\t\t: fpu vme vmx sse\n",
        "/proc/cmdline": "root=/dev/sda1 intel_iommu=on",
        "/proc/self/limits": "Max locked memory         unlimited            "
                             "unlimited            bytes",
        "/proc/self/status": "Name:\tdoctor\nCapEff:\t0000000000000000\n",
        "/proc/1/comm": "init\n",
        "/proc/1/fd/0": Link("/dev/null"),
        "/sys/firmware/acpi/tables/DMAR": "",
        "/sys/firmware/acpi/tables/DSDT": bytes(36),
        "/sys/firmware/acpi/tables/SSDT3": method("_SB_.PCI0.PEG0.PEGP"),
        "/sys/module/vfio_pci/parameters/disable_idle_d3": "Y",
        "/etc/group": "kvm:x:0:\n",
        "/dev/null": Device("all"),
        "/dev/kvm": Device("all"),
        "/dev/vfio/vfio": Device("all"),
        "/dev/vfio/1": Device("all"),
        **pci("/sys/devices/pci0000:00/0000:00:01.0", "8086:1901", "060400", 1,
              "pcieport"),
        **pci("/sys/devices/pci0000:00/0000:00:02.0", "8086:191b", "030000", 0,
              "i915"),
        **pci(CARD, "10de:139b", "030200", 1, "vfio-pci",
              **{"firmware_node/path": r"\_SB_.PCI0.PEG0.PEGP"}),
    }


AUDIO = CARD[:-1] + "1"


def amd_laptop():
    """The host's drivers have the card, which is of class 0300 and has a
    second function, and a desktop uses it."""
    tree = intel_laptop()
    del tree["/sys/firmware/acpi/tables/DMAR"], tree["/dev/vfio/1"]
    tree.update({
        "/proc/cpuinfo": "flags\t\t: fpu svm sse\n",
        "/sys/firmware/acpi/tables/IVRS": "",
        **pci(CARD, "10de:1f99", "030000", 12, "nouveau"),
        **pci(AUDIO, "10de:10fa", "040300", 12, "snd_hda_intel"),
        CARD + "/drm/card1/dev": "226:1",
        "/proc/812/comm": "Xorg\n",
        "/proc/812/fd/14": Link("/dev/dri/card1"),
    })
    return tree


def no_iommu(tree):
    return {path: value for path, value in tree.items()
            if "iommu_group" not in path}


def two_cards():
    tree = intel_laptop()
    tree.update(pci("/sys/devices/pci0000:00/0000:02:00.0", "10de:1c8d",
                    "030200", 2, "vfio-pci"))
    return tree


GUEST_PROGRAMS = "sh", "od", "awk", "sed", "grep", "tail", "tr", "cat"


def add_debian_program(tree, name):
    """dash, mawk and GNU's tools, or what else this machine has."""
    path = os.path.realpath(shutil.which(name))
    program_tree.add_program(tree, path)
    if os.path.basename(path) != name:
        os.symlink(os.path.basename(path), f"{tree}/usr/bin/{name}")


class DoctorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.tree = os.path.join(cls.folder.name, "tree")
        os.makedirs(cls.tree + "/usr/bin")
        os.symlink("usr/bin", cls.tree + "/bin")
        program_tree.add_python(cls.tree)
        program_tree.add_program(cls.tree, VBIOS)
        # as it is installed
        share = f"{cls.tree}/usr/share/vfio-optimus"
        for folder, name in (("doctor", "doctor"), ("guest", "guest-check"), *(
                ("doctor", f"optimus_doctor/{os.path.basename(path)}") for path in
                glob.glob(f"{TOP}/hw-optimus/doctor/optimus_doctor/*.py"))):
            program_tree.copy(f"{TOP}/hw-optimus/{folder}/{name}", f"{share}/{name}")
        os.symlink("../share/vfio-optimus/doctor", f"{cls.tree}/usr/bin/doctor")
        for program in ("readlink", "dirname", *GUEST_PROGRAMS):
            add_debian_program(cls.tree, program)
        with open(f"{cls.tree}/usr/bin/dmesg", "w") as file:
            file.write("#!/bin/sh\nexec cat /home/dmesg\n")
        os.chmod(file.name, 0o755)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        for name in ("sys", "proc", "dev", "etc", "home"):
            shutil.rmtree(f"{self.tree}/{name}", ignore_errors=True)
            os.mkdir(f"{self.tree}/{name}")

    def make(self, tree):
        for path, value in tree.items():
            path = self.tree + path
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(value, Link):
                os.symlink(value, path)
                continue
            with open(path, "wb") as file:
                file.write(value if isinstance(value, bytes)
                           else value.encode() + b"\n")
            if value == Device("none"):
                os.chmod(path, 0)

    def run_doctor(self, tree, *args, path="/usr/bin", trace=()):
        """Without the privileges that root has over files."""
        self.make(tree)
        me = [] if not os.getuid() else ["unshare", "--map-root-user"]
        return subprocess.run(
            [*me, "setpriv", "--bounding-set=-dac_override,-dac_read_search", *trace,
             "chroot", self.tree, "/usr/bin/doctor", *args],
            env={"PATH": os.environ["PATH"] if not path else f"{path}:/usr/sbin",
                 "USER": "alice", "LOGNAME": "alice"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True, timeout=60)

    def rows(self, tree, *args, **settings):
        done = self.run_doctor(tree, "--json", *args, **settings)
        self.assertEqual(done.stderr, "")
        report = json.loads(done.stdout)
        self.assertEqual(done.returncode, {"ok": 0, "warning": 2, "problem": 3}
                         [report["status"]])
        return report["rows"]

    def check_row(self, tree, check, status, text, mend=None, **settings):
        """The machine has the row, and its text and command match."""
        rows = self.rows(tree, *settings.pop("args", ()), **settings)
        row, = [row for row in rows if row["check"] == check]
        self.assertEqual(row["status"], status, row)
        self.assertRegex(row["text"], text)
        if mend is None:
            self.assertIsNone(row["mend"])
        else:
            self.assertRegex(row["mend"] or "", mend)


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
        tree["/etc/apparmor.d/abstractions/libvirt-qemu"] = "# libvirt's"
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
        tree["/etc/apparmor.d/usr.sbin.libvirtd"] = "# libvirt's"
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
        row, = [row for row in self.rows({}, path=path) if row["check"] == "libvirt"]
        command = row["mend"].replace("sudo ", "")
        for place in "/usr/share", "/etc/apparmor.d/local":
            command = command.replace(place, self.tree + place)
        subprocess.run(command, shell=True, check=True)
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


class CardTest(DoctorTest):
    def test_card(self):
        self.check_row(intel_laptop(), "card", "ok", "10de:139b, class 0302")

    def test_card_class_0300(self):
        self.check_row(amd_laptop(), "card", "ok", "10de:1f99, class 0300")

    def test_no_card(self):
        """That is said, and no more."""
        tree = {path: value for path, value in intel_laptop().items()
                if BDF not in path}
        row, = self.rows(tree)
        self.assertEqual((row["check"], row["status"]), ("card", "problem"))
        self.assertRegex(row["text"], "no display controller of NVIDIA.*"
                                      "0000:00:02.0 is a card of Intel's.*OpRegion")
        self.assertIn("rescan", row["mend"])

    def test_no_card_amd(self):
        """Nothing that a rescan could find."""
        tree = {path: value for path, value in intel_laptop().items()
                if BDF not in path}
        tree.update(pci("/sys/devices/pci0000:00/0000:03:00.0", "1002:7480", "030000", 3))
        row, = self.rows(tree)
        self.assertRegex(row["text"], "0000:03:00.0 is a card of AMD's.*ATRM.*vfio-pci "
                                      "with romfile=")
        self.assertIsNone(row["mend"])

    def test_other_card(self):
        self.check_row(intel_laptop(), "card", "warning",
                       "8086:191b, class 0300: a card of Intel's",
                       "lspci", args=["00:02.0"])

    def test_no_display(self):
        self.check_row(intel_laptop(), "card", "warning",
                       "class 0604: not a display controller of NVIDIA", "lspci",
                       args=["00:01.0"])

    def test_two_cards(self):
        rows = self.rows(two_cards())
        self.assertEqual([row["card"] for row in rows if row["check"] == "ids"],
                         [BDF, "0000:02:00.0"])

    def test_one_of_two_cards(self):
        rows = self.rows(two_cards(), "02:00.0")
        self.assertEqual({row["card"] for row in rows}, {None, "0000:02:00.0"})

    def test_group(self):
        self.check_row(intel_laptop(), "group", "ok",
                       r"^1, shared with 0000:00:01.0 \(pcieport\)$")

    def test_group_alone(self):
        self.check_row(two_cards(), "group", "ok", "^2, of its own$",
                       args=["02:00.0"])

    def test_group_none(self):
        self.check_row(no_iommu(intel_laptop()), "group", "problem",
                       "in no IOMMU group", "^sudo dmesg")

    def test_group_own_function(self):
        self.check_row(amd_laptop(), "group", "problem",
                       r"not viable: .*0000:01:00.1 \(snd_hda_intel\)",
                       "vfio-pci; for d in 0000:01:00.1; do")

    def test_group_own_function_bound(self):
        tree = amd_laptop()
        tree[AUDIO + "/driver"] = Link("/sys/bus/pci/drivers/vfio-pci")
        self.check_row(tree, "group", "ok", r"shared with 0000:01:00.1 \(vfio-pci\)")

    def test_group_own_function_unbound(self):
        tree = amd_laptop()
        del tree[AUDIO + "/driver"]
        self.check_row(tree, "group", "ok", r"0000:01:00.1 \(no driver\)")

    def test_group_other_device(self):
        """No command here may take the disk from the host."""
        tree = intel_laptop()
        tree.update(pci("/sys/devices/pci0000:00/0000:00:17.0", "8086:a102",
                        "010601", 1, "ahci"))
        self.check_row(tree, "group", "problem",
                       r"not viable: .*0000:00:17.0 \(ahci\).*as a whole",
                       "^systemctl reboot --firmware-setup$")

    def test_driver(self):
        self.check_row(intel_laptop(), "driver", "ok", "^vfio-pci$")

    def test_driver_of_the_host(self):
        self.check_row(amd_laptop(), "driver", "problem", "nouveau has the card",
                       "vfio-pci; for d in 0000:01:00.0; do")

    def test_driver_none(self):
        tree = intel_laptop()
        del tree[CARD + "/driver"]
        self.check_row(tree, "driver", "problem", "none has the card",
                       "for d in 0000:01:00.0; do")

    def test_users(self):
        self.check_row(intel_laptop(), "users", "ok", "no process")

    def test_users_of_the_desktop(self):
        self.check_row(amd_laptop(), "users", "problem",
                       r"Xorg \(812\) has /dev/dri/card1 open", "^sudo kill 812$")

    def test_users_of_nvidia(self):
        tree = amd_laptop()
        del tree["/proc/812/fd/14"]
        tree[f"/proc/driver/nvidia/gpus/{BDF}/information"] = \
            "Model: \t\t NVIDIA\nDevice Minor: \t 1\n"
        tree["/proc/813/comm"] = "python3\n"
        tree["/proc/813/fd/3"] = Link("/dev/nvidia1")
        # of another card
        tree["/proc/814/fd/3"] = Link("/dev/nvidia0")
        self.check_row(tree, "users", "problem",
                       r"^python3 \(813\) has /dev/nvidia1 open:", "^sudo kill 813$")

    def test_users_guest(self):
        for node in "/dev/vfio/1", "/dev/vfio/devices/vfio0":
            self.setUp()
            tree = intel_laptop()
            tree[CARD + "/vfio-dev/vfio0/dev"] = "511:0"
            tree["/proc/99/comm"] = "qemu-system-x86\n"
            tree["/proc/99/fd/20"] = Link(node)
            self.check_row(tree, "users", "problem",
                           rf"qemu-system-x86 \(99\) has {node} open",
                           "^sudo kill 99$")

    def test_users_unseen(self):
        self.make(intel_laptop())
        os.makedirs(self.tree + "/proc/500/fd")
        os.chmod(self.tree + "/proc/500/fd", 0)
        self.check_row({}, "users", "warning",
                       "alice cannot see what 1 processes of others",
                       r"^sudo /usr/bin/doctor 0000:01:00.0$")

    def test_access(self):
        self.check_row(intel_laptop(), "access", "ok", "may use /dev/vfio/1$")

    def test_access_cdev(self):
        tree = intel_laptop()
        del tree["/dev/vfio/vfio"], tree["/dev/vfio/1"]
        tree[CARD + "/vfio-dev/vfio0/dev"] = "511:0"
        tree["/dev/iommu"] = tree["/dev/vfio/devices/vfio0"] = Device("all")
        self.check_row(tree, "access", "ok", "may use /dev/vfio/devices/vfio0$")

    def test_access_denied(self):
        tree = intel_laptop()
        tree["/dev/vfio/1"] = Device("none")
        self.check_row(tree, "access", "problem", "alice may not use /dev/vfio/1 ",
                       "^sudo chown alice /dev/vfio/1$")

    def test_access_missing(self):
        tree = intel_laptop()
        del tree["/dev/vfio/vfio"]
        self.check_row(tree, "access", "problem", "^/dev/vfio/vfio is missing",
                       "^sudo modprobe -a vfio-pci vfio_iommu_type1$")

    def test_access_other_driver(self):
        self.assertNotIn("access", [row["check"]
                                    for row in self.rows(amd_laptop())])

    def test_reset(self):
        tree = intel_laptop()
        tree[CARD + "/reset_method"] = "flr bus"
        self.check_row(tree, "reset", "ok", "^flr bus$")

    def test_reset_old_kernel(self):
        tree = intel_laptop()
        del tree[CARD + "/reset_method"]
        tree[CARD + "/reset"] = ""
        self.check_row(tree, "reset", "ok", "possible")

    def test_reset_none(self):
        tree = intel_laptop()
        del tree[CARD + "/reset_method"]
        self.check_row(tree, "reset", "warning", "no way to reset",
                       "^systemctl suspend$")

    def power(self, d3cold="0", idle="Y", log="", **files):
        tree = intel_laptop()
        tree["/sys/module/vfio_pci/parameters/disable_idle_d3"] = idle
        for path in CARD, os.path.dirname(CARD):
            tree[path + "/d3cold_allowed"] = d3cold
        tree["/home/dmesg"] = log
        tree.update({f"{CARD}/{name}": value for name, value in files.items()})
        return tree

    def test_power(self):
        self.check_row(self.power(), "power", "ok", "stays awake")

    def test_power_idle(self):
        self.check_row(self.power(idle="N"), "power", "hint", "may go to D3",
                       "disable_idle_d3=1 >/etc/modprobe.d.*echo Y >/sys/module/vfio_pci")

    def test_power_cold(self):
        port = os.path.dirname(CARD)
        self.check_row(self.power(d3cold="1"), "power", "hint", "the port above it",
                       f"echo 0 >{DEVICES}/{BDF}/d3cold_allowed; "
                       f"echo 0 >{port}/d3cold_allowed'$")

    def test_power_symptoms(self):
        for log in ("not ready 65535ms after resume; giving up",
                    "can't change power state from D3cold to D0",
                    "Unable to change power state from D3hot to D0, device inaccessible",
                    "vfio: Unable to power on device, stuck in D3"):
            with self.subTest(log):
                self.setUp()
                line = f"[  9.1] vfio-pci {BDF}: {log}"
                self.check_row(self.power(idle="N", log=line), "power", "problem",
                               "did not come back from D3: '.*" + log[-12:],
                               "disable_idle_d3")
        self.setUp()
        self.check_row(self.power(power_state="unknown"), "power", "problem",
                       "power state unknown.*told to stay awake", "systemctl reboot")

    def test_power_symptoms_of_another(self):
        line = "[  9.1] vfio-pci 0000:02:00.0: not ready 65535ms after resume; giving up"
        self.check_row(self.power(log=line), "power", "ok", "awake")

    def test_audio(self):
        self.check_row(amd_laptop(), "audio", "hint", "0000:01:00.1 is the card's audio",
                       "modprobe pci-stub; for d in 0000:01:00.1; do echo pci-stub")

    def test_audio_on_stub(self):
        tree = amd_laptop()
        tree[AUDIO + "/driver"] = Link("/sys/bus/pci/drivers/pci-stub")
        self.check_row(tree, "audio", "ok", "0000:01:00.1 is on pci-stub")

    def test_no_audio(self):
        self.assertNotIn("audio", [row["check"] for row in self.rows(intel_laptop())])

    def test_ids(self):
        self.check_row(intel_laptop(), "ids", "ok", "17aa:3978, in sysfs and in")

    def card_with(self, **settings):
        tree = intel_laptop()
        tree.update(pci(CARD, "10de:139b", "030200", 1, "vfio-pci", **settings))
        return tree

    def test_ids_lost(self):
        self.check_row(self.card_with(own="0000:0000"), "ids", "ok",
                       "17aa:3978 in sysfs, .* lost them: 0000:0000")

    def test_ids_unknown(self):
        self.check_row(self.card_with(sub="0000:0000"), "ids", "warning",
                       "0000:0000 in sysfs: the kernel does not know them",
                       "x-pci-sub-vendor-id=0xVVVV,x-pci-sub-device-id=0xDDDD")

    def test_ids_only_in_the_card(self):
        self.check_row(self.card_with(sub="ffff:ffff", own="17aa:3978"), "ids",
                       "warning", "the card has 17aa:3978",
                       "x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978")

    def test_ids_no_answer(self):
        tree = intel_laptop()
        tree[CARD + "/config"] = b"\xff" * 256
        self.check_row(tree, "ids", "problem", "does not answer",
                       "remove.*rescan")

    def test_ids_unreadable(self):
        tree = intel_laptop()
        tree[CARD + "/config"] = b""
        self.check_row(tree, "ids", "warning", "cannot be read", "^lspci")


def without_rom(tree, ids):
    """A laptop whose firmware has no _ROM for its card."""
    del tree["/sys/firmware/acpi/tables/SSDT3"]
    tree.update({CARD + "/vendor": "0x10de", CARD + "/device": "0x" + ids})
    return tree


class NeedTest(DoctorTest):
    """Does the card at hand need it, and a ROM file?"""

    def check_need(self, tree, need, text, mend, romfile, *args):
        rows = {row["check"]: row for row in self.rows(tree, *args)}
        self.assertEqual(rows["need"]["status"], need, rows["need"])
        self.assertRegex(rows["need"]["text"], text)
        self.assertRegex(rows["need"]["mend"] or "none", mend)
        self.assertEqual(rows["romfile"]["status"], romfile)

    def test_maxwell(self):
        self.check_need(intel_laptop(), "ok", r"^Maxwell: yes: the firmware has _ROM for "
                        r"the card, at \\_SB.PCI0.PEG0.PEGP in the SSDT3; nouveau.*"
                        "Windows driver ask for it$", "^none$", "warning")

    def test_rom_of_another(self):
        tree = intel_laptop()
        tree["/sys/firmware/acpi/tables/SSDT3"] = method("_SB_.PCI0.PEG1.PEGP")
        self.check_need(tree, "hint", "the firmware has no _ROM", "dump", "ok")

    def test_pascal_not_root(self):
        tree = intel_laptop()
        tree[CARD + "/device"] = "0x1c8d"
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        self.check_need(tree, "hint", "^Pascal: yes, if the firmware has .* only root",
                        "^sudo /usr/bin/doctor 0000:01:00.0$", "warning")

    def test_pascal_with_flash(self):
        self.check_need(without_rom(intel_laptop(), "1c8d"), "hint",
                        "^Pascal: perhaps not.*flash of its own",
                        "^sudo optimus-vbios dump --host 0000:01:00.0", "ok")

    def test_turing(self):
        """Nobody is sent looking for a VBIOS."""
        for ids, name in ("1f99", "Turing"), ("2520", "Ampere"), ("28a0", "Ada"):
            with self.subTest(name):
                self.setUp()
                self.check_need(without_rom(intel_laptop(), ids), "ok",
                                f"^{name}: as a rule not.*flash of their own: do not "
                                "look for a VBIOS", "^none$", "ok")

    def test_turing_not_root(self):
        tree = without_rom(intel_laptop(), "1f99")
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        self.check_need(tree, "hint", "^Turing: as a rule not: .* only root sees",
                        "^sudo /usr/bin/doctor", "ok")

    def test_turing_with_method(self):
        tree = intel_laptop()
        tree[CARD + "/device"] = "0x1f99"
        self.check_need(tree, "ok", "^Turing: yes: .*; its open modules do not$",
                        "^none$", "warning")

    def test_two_gpus(self):
        """Of two cards each has its own answer."""
        tree = two_cards()
        rows = [row for row in self.rows(tree) if row["check"] == "need"]
        self.assertRegex(rows[0]["text"], "^Maxwell: yes")
        self.assertRegex(rows[1]["text"], "^Pascal: perhaps not")

    def test_thunderbolt(self):
        bridge = "/sys/devices/pci0000:00/0000:00:07.0/0000:03:00.0"
        tree = intel_laptop()
        tree.update(pci("/sys/devices/pci0000:00/0000:00:07.0", "8086:9a23", "060400", 5))
        tree.update(pci(bridge, "8086:15d3", "060400", 5, removable="removable"))
        tree.update(pci(bridge + "/0000:04:00.0", "10de:1b81", "030000", 5, "vfio-pci"))
        self.check_need(tree, "ok", "^Pascal: no: .*Thunderbolt.*-device vfio-pci",
                        "^none$", "ok", "04:00.0")

    def test_no_node(self):
        tree = intel_laptop()
        del tree[CARD + "/firmware_node/path"]
        self.check_need(tree, "hint", "^Maxwell: perhaps not", "dump", "ok")

    def test_generations(self):
        """All cards of NVIDIA's that the PCI ID Repository (of trixie) knows."""
        chips = {"GF": "Fermi", "GK": "Kepler", "GM": "Maxwell", "GP": "Pascal",
                 "GV": "Volta", "TU": "Turing", "GA": "Ampere", "GH": "Hopper",
                 "AD": "Ada", "GB": "Blackwell", "G": "Tesla", "GT": "Tesla"}
        with open(f"{TOP}/build/root/pci-ids/usr/share/misc/pci.ids") as file:
            text = re.search(r"(?ms)^10de .*?^(?=[0-9a-f]{4} )", file.read()).group()
        found = {int(number, 16): chips[chip] for number, chip, name in re.findall(
            r"(?m)^\t([0-9a-f]{4})  (G[FKMPVAHB]|TU|AD|GT?)\d+(.*)$", text)
            if not re.search("Audio|USB|UCSI|PCI|NVSwitch", name)}
        self.assertGreater(len(found), 1000)
        sys.path.insert(0, f"{TOP}/hw-optimus/doctor")
        self.addCleanup(sys.path.remove, f"{TOP}/hw-optimus/doctor")
        # pylint: disable=import-outside-toplevel
        from optimus_doctor.need import generation
        wrong = {hex(number): (name, generation(number))
                 for number, name in found.items()
                 if not generation(number).startswith(name)}
        self.assertEqual(wrong, {})


class RomfileTest(DoctorTest):
    def rom(self, image):
        tree = intel_laptop()
        tree["/home/my.rom"] = image
        return tree

    def test_usable(self):
        self.check_row(self.rom(vbios.make()), "romfile", "ok",
                       "^/home/my.rom: usable as romfile for the card",
                       args=["--rom", "/home/my.rom"])

    def test_not_named(self):
        self.check_row(intel_laptop(), "romfile", "warning", "--rom FILE",
                       "optimus-vbios dump --host 0000:01:00.0 -o vbios.rom")

    def test_checksum(self):
        image = bytearray(vbios.make())
        image[0x1000] ^= 1
        self.check_row(self.rom(bytes(image)), "romfile", "warning",
                       "checksum .* is wrong", "trim /home/my.rom vbios.rom "
                       "--fix-checksum$", args=["--rom", "/home/my.rom"])

    def test_header(self):
        self.check_row(self.rom(vbios.chain([{}], nvgi=True)), "romfile",
                       "problem", "NVGI", "trim /home/my.rom vbios.rom$",
                       args=["--rom", "/home/my.rom"])

    def test_other_card(self):
        self.check_row(self.rom(vbios.make(device=0x1234)), "romfile", "warning",
                       "nouveau only: it is for 10de:1234", "optimus-vbios dump",
                       args=["--rom", "/home/my.rom"])

    def test_missing(self):
        self.check_row(intel_laptop(), "romfile", "problem", "No such file",
                       "optimus-vbios dump", args=["--rom", "/home/my.rom"])

    def for_libvirt(self, mode=0o644, folder=0o755, place="/home/roms/my.rom",
                    **files):
        """Where libvirt's guests are run by somebody else than whose ROM it is."""
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/etc/passwd"] = ("root:x:0:0::/:/bin/sh\n"
                               "libvirt-qemu:x:64055:64055::/:/bin/false\n"
                               "carol:x:1001:1001::/:/bin/sh")
        tree[place] = vbios.make()
        tree.update(files)
        self.make(tree)
        os.chmod(self.tree + place, mode)
        os.chmod(self.tree + os.path.dirname(place), folder)
        return {}

    def check_readable(self, tree, status, text, place="/home/roms/my.rom"):
        mend = None if status == "ok" else (
            f"^sudo install -D -m 644 {place} /usr/share/vgabios/my.rom$")
        self.check_row(tree, "readable", status, text, mend, args=["--rom", place])

    def test_readable(self):
        self.check_readable(self.for_libvirt(), "ok", "libvirt-qemu.* may read /home")

    def test_readable_mode(self):
        self.check_readable(self.for_libvirt(0o600), "warning", "libvirt-qemu.* may not "
                            r"read /home/roms/my.rom \(mode 0600\)")

    def test_readable_folder(self):
        self.check_readable(self.for_libvirt(folder=0o700), "warning", "may not enter "
                            r"/home/roms \(mode 0700\)")

    def test_readable_user_of_the_settings(self):
        for user, status in ("root", "ok"), ("carol", "warning"), ("+1001", "warning"):
            self.setUp()
            self.check_readable(self.for_libvirt(0o600, **{
                "/etc/libvirt/qemu.conf": f'#user = "x"\nuser = "{user}"'}), status,
                "root" if user == "root" else "carol")

    def test_readable_apparmor(self):
        for place, status in (("/usr/share/vgabios/my.rom", "ok"),
                              ("/home/roms/my.rom", "warning")):
            self.setUp()
            self.check_readable(self.for_libvirt(place=place, **{
                "/sys/module/apparmor/parameters/enabled": "Y",
                "/etc/apparmor.d/abstractions/libvirt-qemu":
                    "  /usr/share/{seabios,vgabios}/** r,\n"}), status,
                "may read" if status == "ok" else "AppArmor lets .* no /home", place)
        shutil.rmtree(self.tree + "/usr/share/vgabios")

    def test_readable_without_libvirt(self):
        rows = self.rows(self.rom(vbios.make()), "--rom", "/home/my.rom")
        self.assertNotIn("readable", [row["check"] for row in rows])

    def test_no_tool(self):
        tool = f"{self.tree}/usr/bin/optimus-vbios"
        os.rename(tool, tool + ".off")
        try:
            self.check_row(self.rom(vbios.make()), "romfile", "warning",
                           "there is no optimus-vbios", "scripts/install",
                           args=["--rom", "/home/my.rom"])
        finally:
            os.rename(tool + ".off", tool)


class CommandTest(DoctorTest):
    def wrong(self, tree, args, message):
        done = self.run_doctor(tree, *args)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^doctor: " + message + ".*\n$")

    def test_wrong(self):
        for tree, args, message in (
                (intel_laptop(), ["1:0"], "'1:0' is not the address of a card"),
                (intel_laptop(), ["05:00.0"], "this machine has no device at "
                 "0000:05:00.0: see"),
                (intel_laptop(), ["--jso"], "unrecognized arguments: --jso; see"),
                (intel_laptop(), ["01:00.0", "02:00.0"], "unrecognized"),
                (intel_laptop(), ["--rom"], "argument --rom: expected"),
                (two_cards(), ["--rom", "x"], "--rom is for one card, .* has 2")):
            with self.subTest(args):
                self.setUp()
                self.wrong(tree, args, message)

    def report(self, tree, *args):
        """The report in the file, and what is said."""
        file = "/home/report"
        done = self.run_doctor(tree, "--report", file, *args)
        self.assertIn(f"written: {file}", done.stdout)
        self.assertEqual(done.stderr, "")
        with open(self.tree + file) as text:
            return text.read(), done.stdout

    def test_report(self):
        tree = amd_laptop()
        tree["/home/guest"] = "ok  method  \\_SB_.PCI0.S08_._ROM is in the DSDT\n" \
                              "alice@guest serial number: ABC123"
        tree["/home/alice/x"] = ""
        tree["/sys/class/dmi/id/product_name"] = "Laptop 15"
        tree["/sys/class/dmi/id/product_serial"] = "PF0SERIAL"
        tree["/proc/cmdline"] = "root=UUID=0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f " \
                                "ip=10.0.0.1 intel_iommu=on"
        tree["/home/dmesg"] = f"vfio-pci {BDF}: not ready 1ms after resume, " \
                              "52:54:00:ab:cd:ef /home/alice/disk"
        text, said = self.report(tree, "--guest", "/home/guest", "01:00.0")
        for pattern in ("laptop: Laptop 15", "kernel: ", "options: intel_iommu=on",
                        "(?m)^0000:01:00.0 10de:1f99 class 030000 driver nouveau",
                        "(?m)^  0000:00:01.0 8086:1901", "problem  driver",
                        "S08_._ROM is in the DSDT", "MAC /home/USER/disk"):
            self.assertRegex(text, pattern)
        for secret in ("alice", "PF0SERIAL", "ABC123", "52:54:00", "0a1b2c3d",
                       "10.0.0.1"):
            self.assertNotIn(secret, text)
        # what is said here is not for others
        self.assertIn("alice", said)

    def test_report_names_no_host(self):
        host = os.uname().nodename
        tree = intel_laptop()
        tree["/home/guest"] = f"on {host}: ok"
        text, _ = self.report(tree, "--guest", "/home/guest")
        self.assertIn("on HOST: ok", text)

    def test_report_cannot_be_written(self):
        for args, message in ((["--report", "/nowhere/file"], "/nowhere/file cannot be"),
                              (["--guest", "x"], "--guest is for a report"),
                              (["--report", "/home/r", "--guest", "/home/none"],
                               "/home/none cannot be read")):
            self.setUp()
            self.wrong(intel_laptop(), args, message)
            self.assertEqual(glob.glob(self.tree + "/home/r*"), [])

    def test_help(self):
        done = self.run_doctor({}, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("exit status: 0", done.stdout)

    def test_text(self):
        done = self.run_doctor(amd_laptop())
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        self.assertRegex(done.stdout, r"(?m)^ok       cpu      virtual")
        self.assertRegex(done.stdout, r"(?m)^0000:01:00.0$")
        self.assertRegex(done.stdout, r"(?m)^problem  users    Xorg.*\n"
                                      r"                  mend: sudo kill 812$")
        self.assertRegex(done.stdout, r"problems: 4, warnings: 1\n$")

    def test_short_address(self):
        rows = self.rows(intel_laptop(), "01:00.0")
        self.assertEqual(rows, self.rows({}, BDF))

    def state(self):
        found = {}
        for folder, _, files in os.walk(self.tree):
            found[folder] = sorted(os.listdir(folder))
            for file in set(files) - {"null"}:
                path = os.path.join(folder, file)
                stat = os.lstat(path)
                found[path] = stat.st_mode, stat.st_mtime_ns, stat.st_size
        return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()

    def test_changes_nothing(self):
        """Not a file, and no call of the kernel that could change anything."""
        self.run_doctor(amd_laptop())       # Python compiles its own library
        before = self.state()
        log = os.path.join(self.folder.name, "trace")
        self.run_doctor({}, trace=["strace", "-f", "-o", log])
        self.assertEqual(before, self.state())
        with open(log) as file:
            trace = file.read()
        self.assertIn('"/sys/bus/pci/devices', trace)
        writing = [line for line in trace.splitlines()
                   if '"/dev/null"' not in line and re.search(
            r"O_WRONLY|O_RDWR|O_CREAT| (mkdir|unlink|rename|chmod|kill|mount|"
            r"symlink|init_module|finit_module|mknod|link)(at)?2?\(", line)]
        self.assertEqual(writing, [])


class GuestTest(DoctorTest):
    """The guest's check, with busybox."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.tree = os.path.join(cls.folder.name, "tree")
        cls.add_programs()
        os.symlink("usr/bin", cls.tree + "/bin")
        program_tree.copy(f"{TOP}/hw-optimus/guest/guest-check",
                          f"{cls.tree}/usr/bin/guest-check")
        with open(f"{cls.tree}/usr/bin/dmesg", "w") as file:
            file.write("#!/bin/sh\nexec cat /home/dmesg\n")
        os.chmod(file.name, 0o755)
        rom = os.path.join(cls.folder.name, "rom")
        with open(rom, "wb") as file:
            file.write(vbios.make())
        # the firmware's table of a guest with the device behind a root port
        with Machine(f"{PLUGIN}/qemu-test-optimus", "-M", "q35", "-device",
                     "pcie-root-port,id=rp,addr=3", "-device",
                     f"vfio-optimus,bus=rp,romfile={rom}", "-device",
                     "bochs-display,addr=4") as machine:
            cls.dsdt = machine.dsdt()

    @classmethod
    def add_programs(cls):
        program_tree.add_program(cls.tree, f"{TOP}/build/root/kernel/bin/busybox")
        for name in "readlink", *GUEST_PROGRAMS:
            os.symlink("busybox", f"{cls.tree}/usr/bin/{name}")

    def guest(self, log="", path=r"\_SB_.PCI0.S18_.S00_", sub="17aa:3978",
              ids="10de:139b", driver=None, **files):
        device = "/sys/devices/pci0000:00/0000:00:03.0/" + BDF
        tree = pci(device, ids, "030200", None, driver, sub)
        tree["/sys/firmware/acpi/tables/DSDT"] = self.dsdt
        tree["/dev/null"] = Device("all")
        if path:
            tree[f"{device}/firmware_node/path"] = path
        if log is not None:
            tree["/home/dmesg"] = log
        tree.update(files)
        return tree

    def run_check(self, tree, *args):
        self.make(tree)
        me = [] if not os.getuid() else ["unshare", "--map-root-user"]
        return subprocess.run(
            [*me, "setpriv", "--bounding-set=-dac_override,-dac_read_search",
             "chroot", self.tree, "/usr/bin/guest-check", *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True, timeout=60)

    def check_line(self, tree, check, status, text, *args):
        done = self.run_check(tree, *args)
        self.assertEqual(done.stderr, "")
        line, = re.findall(rf"(?m)^\w+ +{check} .*$", done.stdout)
        self.assertRegex(line, rf"^{status} +{check} +{text}")
        # what is not ok has what mends it
        if status != "ok":
            self.assertRegex(done.stdout,
                             re.escape(line) + r"\n +mend: \S")
        statuses = re.findall(r"(?m)^(ok|warning|problem) ", done.stdout)
        self.assertEqual(done.returncode, 3 if "problem" in statuses else
                         2 if "warning" in statuses else 0)

    TAKEN = f"[    4.100000] nouveau {BDF}: bios: using image from ACPI"

    def test_fine(self):
        done = self.run_check(self.guest(self.TAKEN))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(re.findall(r"(?m)^(\w+) +(\w+) ", done.stdout), [
            ("ok", "method"), ("ok", "ids"), ("ok", "vbios")])

    def test_method(self):
        for path in r"\_SB_.PCI0.S18_.S00_", r"\_SB.PCI0.S18.S00":
            self.setUp()
            self.check_line(self.guest(path=path), "method", "ok",
                            re.escape(path) + "._ROM is in the DSDT")

    def test_method_elsewhere(self):
        """It is the device's own, or none: not that of another one."""
        for path in (r"\_SB_.PCI0.S20_", r"\_SB_.PCI0.S18_", r"\_SB_.PCI0.S00_",
                     r"\_SB_.PCI0"):
            self.setUp()
            self.check_line(self.guest(path=path), "method", "problem",
                            re.escape(path) + " has no _ROM")

    def test_method_in_ssdt(self):
        tree = self.guest(path=r"\_SB_.PCI0.S20_")
        tree["/sys/firmware/acpi/tables/SSDT"] = method("_SB_.PCI0.S20_",
                                                        b"_ON_")
        tree["/sys/firmware/acpi/tables/SSDT2"] = method("_SB_.PCI0.S20_")
        self.check_line(tree, "method", "ok", ".*is in the SSDT2")

    def test_method_twice(self):
        """Whichever table comes first has it; so did somebody's OVMF."""
        tree = self.guest(path=r"\_SB_.PCI0.S18_.S00_")
        tree["/sys/firmware/acpi/tables/SSDT1"] = method("_SB_.PCI0.S18_.S00_")
        self.check_line(tree, "method", "problem",
                        r".*\._ROM is there twice: DSDT SSDT1$")

    def test_method_at_another_place(self):
        tree = self.guest(path=r"\_SB_.PCI0.SE1_.S00_")
        done = self.run_check(tree)
        self.assertIn(r" has no _ROM, and \_SB.PCI0.S18.S00 has one", done.stdout)
        self.assertIn("optimus-vbios ssdt ... --at 1c.1/00.0\n", done.stdout)

    def test_no_node(self):
        self.check_line(self.guest(path=None), "method", "problem",
                        "the device has no ACPI node")

    def test_tables_denied(self):
        tree = self.guest()
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        self.check_line(tree, "method", "warning", "the ACPI tables cannot be")

    def test_ids(self):
        self.check_line(self.guest(), "ids", "ok", "subsystem 17aa:3978")

    def test_ids_lost(self):
        for sub in "0000:0000", "17aa:0000", "ffff:ffff":
            self.setUp()
            self.check_line(self.guest(sub=sub), "ids", "problem",
                            f"subsystem {sub}: the card has lost them")

    def test_ids_of_qemu(self):
        self.check_line(self.guest(sub="1af4:1100"), "ids", "problem",
                        "subsystem 1af4:1100: QEMU's own")

    def test_log(self):
        for log, status, text in (
                (self.TAKEN, "ok", "nouveau .*using image from ACPI"),
                (self.TAKEN.replace("ACPI", "PROM"), "warning",
                 ".*image from PROM: not from _ROM"),
                (f"[4.1] nouveau {BDF}: bios: version 82.07.87.00.01", "ok",
                 ".*version 82.07.87"),
                (f"[4.1] nouveau {BDF}: bios: unable to locate usable image",
                 "problem", ".*unable to locate"),
                # of another card, or only spoken of
                ("[4.1] nouveau 0000:02:00.0: bios: using image from ACPI\n"
                 f"[4.2] lab: nouveau {BDF}: bios: using image from ACPI",
                 "warning", "no driver has the device"),
                (None, "warning", "the kernel's log cannot be read")):
            with self.subTest(log):
                self.setUp()
                self.check_line(self.guest(log), "vbios", status, text)

    # how five releases of NVIDIA's driver end with a GPU that is made up
    NVIDIA_LOGS = {
        "340, no VBIOS": (
            "[4.1] NVRM: failed to copy vbios to system memory.\n"
            "[4.2] NVRM: RmInitAdapter failed! (0x30:0xffff:747)",
            {"vbios": "NVRM: failed to copy vbios to system memory"}),
        "470, no VBIOS": (
            f"[4.1] NVRM: GPU {BDF}: Failed to copy vbios to system memory.\n"
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x30:0xffff:874)",
            {"vbios": f"NVRM: GPU {BDF}: Failed to copy vbios"}),
        "550, no VBIOS": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x30:0xffff:1098)",
            {"vbios": f"NVRM: GPU {BDF}: RmInitAdapter failed! .0x30"}),
        "340, KVM is seen": (
            "[4.2] NVRM: RmInitAdapter failed! (0x23:0xffff:619)",
            {"vbios": "the driver gave up before", "driver": ".*sees KVM"}),
        "340, taken": (
            "[4.2] NVRM: RmInitAdapter failed! (0x25:0xffff:1197)",
            {"vbios": "the driver has taken it",
             "driver": ".*0x25.*: a step after the VBIOS"}),
        "535, taken": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x24:0xffff:1447)",
            {"vbios": "the driver has taken it",
             "driver": ".*0x24.*: a step after the VBIOS"}),
        "another step": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x26:0xffff:1290)",
            {"vbios": "the driver says nothing of it",
             "driver": ".*0x26.*not the step that looks for a VBIOS"}),
        "taken after another try": (
            "[4.1] NVRM: failed to copy vbios to system memory.\n"
            "[4.2] NVRM: RmInitAdapter failed! (0x30:0xffff:747)\n"
            "[9.2] NVRM: RmInitAdapter failed! (0x25:0xffff:1197)",
            {"vbios": "the driver has taken it"}),
    }
    STATUS = {"the driver has taken it": "ok",
              "the driver gave up before": "warning",
              "the driver says nothing of it": "warning"}

    def test_nvidia_log(self):
        for name, (log, rows) in self.NVIDIA_LOGS.items():
            for check, text in rows.items():
                with self.subTest(name, check=check):
                    self.setUp()
                    self.check_line(self.guest(log), check,
                                    self.STATUS.get(text, "problem"), text)

    def test_nvidia_log_of_another_card(self):
        for bdf in BDF, BDF.replace("01", "02"):
            self.setUp()
            log = f"[4.2] NVRM: GPU {bdf}: RmInitAdapter failed! (0x30:0xffff:988)"
            self.check_line(self.guest(log), "vbios",
                            "problem" if bdf == BDF else "warning",
                            "NVRM" if bdf == BDF else "no driver")

    def test_refused(self):
        """With a _ROM there, the file is at fault, and no other row is."""
        for log in (self.NVIDIA_LOGS["470, no VBIOS"][0],
                    f"[4.1] nouveau {BDF}: bios: unable to locate usable image"):
            for path, text, mend in (
                    (r"\_SB_.PCI0.S18_.S00_", ".*: it has read _ROM, and refused",
                     "on the host: optimus-vbios info FILE"),
                    (r"\_SB_.PCI0.S20_", "", "see the rows above")):
                with self.subTest(log, path=path):
                    self.setUp()
                    tree = self.guest(log, path=path)
                    self.check_line(tree, "vbios", "problem", text)
                    self.assertRegex(self.run_check({}).stdout,
                                     r"(?m)^problem +vbios .*\n +mend: " + mend)

    def test_methods(self):
        tree = self.guest()
        tree["/sys/firmware/acpi/tables/SSDT2"] = method("_SB_.PCI0.S20_")
        done = self.run_check(tree, "--methods")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.splitlines(), [
            r"DSDT \_SB.PCI0.S18.S00", r"SSDT2 \_SB.PCI0.S20"])

    def test_methods_denied(self):
        tree = self.guest()
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        done = self.run_check(tree, "--methods")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("tables cannot be read: run this as root", done.stderr)

    def test_drivers(self):
        self.check_line(self.guest(driver="nouveau"), "vbios", "warning",
                        "nouveau has the device, and says nothing")

    def nvidia(self, version):
        return {f"/proc/driver/nvidia/gpus/{BDF}/information":
                f"Model: \t\t Unknown\nVideo BIOS: \t {version}\n"}

    def test_nvidia(self):
        self.check_line(self.guest(driver="nvidia", **self.nvidia(
            "82.07.87.00.01")), "vbios", "ok", "nvidia has version 82.07.87.00.01")

    def test_nvidia_without(self):
        self.check_line(self.guest(driver="nvidia", **self.nvidia(
            "??.??.??.??.??")), "vbios", "warning", "nvidia has the device")

    def test_debugfs(self):
        debug = "/sys/kernel/debug/dri"
        other = "0000:02:00.0"
        self.check_line(self.guest(driver="nouveau", **{
            f"{debug}/0/name": f"nouveau dev={other} unique={other}",
            f"{debug}/0/vbios.rom": vbios.make(),
            f"{debug}/1/name": f"nouveau dev={BDF} unique={BDF}",
            f"{debug}/1/vbios.rom": vbios.make()}), "vbios", "ok",
            f"nouveau has it: {debug}/1/vbios.rom")

    def test_no_card(self):
        done = self.run_check(self.guest(ids="1234:1111"))
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        self.assertRegex(done.stdout, "^problem +card +this guest has no display")

    def test_named(self):
        for bdf in BDF, "01:00.0":
            self.setUp()
            self.check_line(self.guest(ids="1234:1111"), "ids", "ok", "", bdf)

    def test_wrong(self):
        for args, message in ((["05:00.0"], "this guest has no device at 05:00.0"),
                              (["--jso"], "unknown option --jso; see --help")):
            self.setUp()
            done = self.run_check(self.guest(), *args)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, f"^guest-check: {message}.*\n$")

    def test_help(self):
        done = self.run_check({}, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("Exit status: 0", done.stdout)


class GuestDebianTest(GuestTest):
    """With Debian's programs."""

    @classmethod
    def add_programs(cls):
        for name in "readlink", *GUEST_PROGRAMS:
            add_debian_program(cls.tree, name)


if __name__ == "__main__":
    VBIOS, PLUGIN, OTHER = map(os.path.abspath, sys.argv[1:])
    tap_main(sys.modules["__main__"])
