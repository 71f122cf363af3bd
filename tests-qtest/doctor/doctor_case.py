# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-doctor and guest-check in machines made here:

    test-PART.py VBIOS [PLUGIN OTHER]

with optimus-vbios and the directories of the plugins for two QEMUs.  Each
machine is a tree of files like that of a real one, with /sys, /proc and /dev,
into which they are sent with chroot: they have no switch for tests."""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import program_tree

VBIOS, *QEMUS = map(os.path.abspath, sys.argv[1:])
PLUGIN, OTHER = QEMUS or (None, None)
TOP = os.path.normpath(os.path.join(os.path.dirname(__file__), "../.."))
BDF = "0000:01:00.0"
CHROOT = "/usr/sbin/chroot"
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


def without(tree, *paths):
    return {path: value for path, value in tree.items() if path not in paths}


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
        program_tree.copy("/bin/true", f"{cls.tree}/usr/bin/sudo")
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

    def program(self, name, text):
        """A program of that name in /home/bin, for which is looked first."""
        path = f"{self.tree}/home/bin/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)

    def inside(self, user=1000):
        """What runs a command in the tree, as a user without privileges, or as root
        without those over files."""
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if not os.getuid():
            # where this runs in a chroot itself, users have no namespaces
            subprocess.run(["chown", "-R", f"{user}:{user}", self.tree], check=True)
            enter = [CHROOT, f"--userspec={user}:{user}", "--groups=", self.tree]
            return enter if user else [*drop, *enter]
        own = ["unshare", f"--map-user={user}", f"--map-group={user}"]
        return [*own, f"--root={self.tree}"] if user else [*own, *drop, CHROOT, self.tree]

    def run_inside(self, *command, trace=(), env=None, user=1000):
        return subprocess.run(
            [*trace, *self.inside(user), *command], env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
            timeout=60)

    def run_doctor(self, tree, *args, path="/home/bin:/usr/bin", user_name="alice",
                   **how):
        self.make(tree)
        names = {"USER": user_name, "LOGNAME": user_name} if user_name else {}
        return self.run_inside("/usr/bin/doctor", *args, env={
            "PATH": f"{path}:/usr/sbin", **names}, **how)

    def rows(self, tree, *args, **settings):
        done = self.run_doctor(tree, "--json", *args, **settings)
        self.assertEqual(done.stderr, "")
        report = json.loads(done.stdout)
        self.assertEqual(done.returncode, {"ok": 0, "warning": 2, "problem": 3}
                         [report["status"]])
        return report["rows"]

    def check_rows(self, check, *cases, **settings):
        """Of each case the machine, and what check_row shall find there."""
        for tree, *row in cases:
            with self.subTest(row):
                self.setUp()
                self.check_row(tree, check, *row, **settings)

    def check_row(self, tree, check, status, text, mend=None, if_so=None, **settings):
        """The machine has the row, and its text and commands match."""
        rows = self.rows(tree, *settings.pop("args", ()), **settings)
        row, = [row for row in rows if row["check"] == check]
        self.assertEqual(row["status"], status, row)
        self.assertRegex(row["text"], text)
        for key in "mend", "if_so":
            if (if_so if key == "if_so" else mend) is None:
                self.assertIsNone(row[key], row)
            else:
                self.assertRegex(row[key] or "", if_so if key == "if_so" else mend)
