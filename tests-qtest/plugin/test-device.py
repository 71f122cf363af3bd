#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What vfio-optimus does without a guest: which machines it refuses, and what
it puts into memory and ACPI tables.

usage: test-device.py PLUGIN_DIRECTORY TOOLS_ROOT

The parent is QEMU's bochs-display, wherever no VFIO device is needed.
"""

import itertools
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

import vbios
from machine import Acpica, Machine, run, WINDOW_END, WINDOW_START, with_plugin
from tap import tap_main

PLUGIN, ACPICA = sys.argv[1:]
VFIO = with_plugin(PLUGIN)
TEST = with_plugin(PLUGIN, "test-optimus")
# with a parent that cannot be hotplugged, either
NO_HOTPLUG = with_plugin(PLUGIN, "test-nohotplug")
VERSION = tuple(int(n) for n in re.match(
    r"QEMU emulator version (\d+)\.(\d+)",
    subprocess.run([TEST[0], "--version"], capture_output=True,
                   text=True, check=True).stdout).groups())
BOCHS = {"vendor": 0x1234, "device": 0x1111}
PAGE = 0x1000
ROOM = WINDOW_END - WINDOW_START - 2 * PAGE


def padded(rom):
    return rom + bytes(-len(rom) % PAGE + 2 * PAGE)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)

    def file(self, content, name="vbios.rom"):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as out:
            out.write(content)
        return path

    def rom(self, name="vbios.rom", **arguments):
        return self.file(vbios.make(**{**BOCHS, **arguments}), name)


class Machines(Files):
    def refused(self, program, *args, says):
        status, stderr = run(program, *args)
        self.assertEqual(status, 1, stderr)
        self.assertIn(says, stderr)

    def test_no_acpi(self):
        device = f"vfio-optimus,romfile={self.rom()}"
        for machine in ("q35", "pc"):
            self.refused(TEST, "-M", machine + ",acpi=off", "-device", device,
                         says="vfio-optimus needs ACPI tables to put _ROM into,"
                         " and this machine has none")

    def test_no_pc(self):
        self.refused(TEST, "-M", "microvm,pcie=on,acpi=on", "-device",
                     f"vfio-optimus,romfile={self.rom()}",
                     says="vfio-optimus needs a machine of the type q35 or pc")

    def test_confidential(self):
        self.refused(TEST, "-object", "sev-guest,id=sev,cbitpos=47,reduced-phys-bits=1",
                     "-M", "q35,confidential-guest-support=sev",
                     "-device", f"vfio-optimus,romfile={self.rom()}",
                     says="vfio-optimus cannot be in a confidential guest")

    def test_old_machine(self):
        """On its root bus no advice on bridges helps."""
        if VERSION >= (8, 0):
            self.skipTest("this QEMU has no machine without ACPI tables of its own")
        self.refused(TEST, "-M", "pc-i440fx-1.6", "-device",
                     f"vfio-optimus,romfile={self.rom()}",
                     says="Take another machine type, such as pc or q35")

    def test_acpi_index(self):
        self.refused(TEST, "-device",
                     f"vfio-optimus,acpi-index=1,romfile={self.rom()}",
                     says="vfio-optimus cannot have an acpi-index: QEMU adds a")

    def test_no_host_device(self):
        self.refused(VFIO, "-device", f"vfio-optimus,romfile={self.rom()}",
                     says="No provided host device")
        self.refused(VFIO, "-device", "vfio-optimus,host=ff:1f.7,"
                     f"romfile={self.rom()}", says="no such host device")

    def test_hotplug(self):
        device = f"vfio-optimus,romfile={self.rom()},id=gpu"
        with Machine(NO_HOTPLUG, "-M", "q35", "-device",
                     "pcie-root-port,id=rp", "-device", device) as machine:
            answer = machine.qmp("device_add", driver="vfio-optimus", bus="rp",
                                 romfile=self.rom())
            # the sentence of 7.2 and the one of later versions
            self.assertRegex(answer["error"]["desc"],
                             "expects a pluggable device type|"
                             "does not support hotplugging")
            answer = machine.qmp("device_del", id="gpu")
            self.assertIn("does not support hotplugging",
                          answer["error"]["desc"])

    def test_introspection(self):
        """The type can be asked about before any device is there."""
        with Machine(VFIO, "-M", "q35") as machine:
            properties = machine.qmp("device-list-properties",
                                     typename="vfio-optimus")["return"]
        types = {p["name"]: p["type"] for p in properties}
        self.assertEqual(types["rom-size"], "uint32")
        self.assertEqual(types["rom-address"], "uint32")
        self.assertEqual(types["subsystem-ids"], "string")
        self.assertIn("host", types)


class Window(Files):
    def machine(self, *roms):
        devices = []
        for number, rom in enumerate(roms):
            path = self.file(rom, f"{number}.rom")
            devices += ["-device", f"vfio-optimus,romfile={path},id=gpu{number}"]
        return Machine(TEST, "-M", "q35", *devices)

    def address(self, machine, number):
        return machine.get(f"/machine/peripheral/gpu{number}", "rom-address")

    def test_content(self):
        for size in (1024, PAGE, 65536, 103936, ROOM):
            rom = vbios.make(size=size, **BOCHS)
            with self.machine(rom) as machine:
                self.assertEqual(
                    machine.get("/machine/peripheral/gpu0", "rom-size"), size)
                self.assertEqual(self.address(machine, 0), WINDOW_START)
                content = machine.read(WINDOW_START, len(padded(rom)))
                self.assertTrue(content == padded(rom))
                # read-only
                machine.write(WINDOW_START, b"xyz")
                self.assertTrue(
                    machine.read(WINDOW_START, len(content)) == content)

    def test_several(self):
        """First fit, a window for each device."""
        a = vbios.make(size=0x10000, seed=1, **BOCHS)
        b = vbios.make(size=0x10200, seed=2, **BOCHS)
        with self.machine(a, b, a) as machine:
            second = WINDOW_START + len(padded(a))
            third = second + len(padded(b))
            self.assertEqual([self.address(machine, n) for n in range(3)],
                             [WINDOW_START, second, third])
            self.assertTrue(machine.read(second, len(b)) == b)
            self.assertTrue(machine.read(third, len(a)) == a)

    def test_full(self):
        roms = [vbios.make(size=n << 10, seed=n, **BOCHS) for n in (500, 401)]
        args = []
        for number, rom in enumerate(roms):
            args += ["-device", "vfio-optimus,romfile="
                     + self.file(rom, f"{number}.rom")]
        status, stderr = run(TEST, *args)
        left = ROOM - len(padded(roms[0]))
        self.assertEqual(status, 1)
        self.assertIn("1.rom': a ROM of 410624 bytes does not fit in the ROM "
                      f"window at {WINDOW_START:#x}-{WINDOW_END - 1:#x}: the "
                      f"room left is {left} bytes", stderr)
        # what is left is enough for that much
        with self.machine(roms[0], vbios.make(size=left, **BOCHS)) as machine:
            self.assertEqual(self.address(machine, 1) + left + 2 * PAGE, WINDOW_END)

    def test_e820(self):
        """Reserved, where QEMU lets a device do that."""
        rom = vbios.make(**BOCHS)
        with self.machine(rom) as machine:
            entries = list(struct.iter_unpack(
                "<QQI", machine.fw_cfg_file("etc/e820")))
        ours = [e for e in entries if WINDOW_START <= e[0] < WINDOW_END]
        if VERSION >= (10, 0):
            self.assertEqual(ours, [(WINDOW_START, len(padded(rom)), 2)])
        else:
            self.assertEqual(ours, [])

    def test_parent_fails(self):
        status, stderr = run(TEST, "-device", "vfio-optimus,vgamem=1k,romfile="
                             + self.rom())
        self.assertEqual(status, 1)
        self.assertIn("video memory too small", stderr)


class Topology(Files):
    """_ROM is under the device's own node, wherever the device sits."""

    def dsdt(self, machine, *args, seed=1, also=(), program=TEST):
        path = self.rom(f"{seed}.rom", seed=seed)
        args = [arg.replace("OPTIMUS", f"vfio-optimus,romfile={path}")
                for arg in args]
        devices = [word for arg in args for word in ("-device", arg)]
        with Machine(program, "-M", machine, *also, *devices) as qemu:
            return qemu.dsdt()

    def place(self, machine, *args, **options):
        paths = Acpica(ACPICA).find(self.dsdt(machine, *args, **options),
                                    "_ROM")
        return [path.removeprefix("\\_SB.PCI0.") for path in paths]

    def test_root(self):
        self.assertEqual(self.place("q35", "OPTIMUS,addr=1"), ["S08._ROM"])
        self.assertEqual(self.place("pc", "OPTIMUS,addr=4"), ["S20._ROM"])

    def test_function(self):
        self.assertEqual(
            self.place("q35", "OPTIMUS,addr=3.0,multifunction=on",
                       "OPTIMUS,addr=3.5"), ["S18._ROM", "S1D._ROM"])

    def test_root_port(self):
        self.assertEqual(
            self.place("q35", "pcie-root-port,id=rp,addr=2", "OPTIMUS,bus=rp"),
            ["S10.S00._ROM"])

    def test_switch(self):
        self.assertEqual(
            self.place("q35", "pcie-root-port,id=rp,addr=2",
                       "x3130-upstream,id=up,bus=rp",
                       "xio3130-downstream,id=down,bus=up,chassis=1,addr=1",
                       "OPTIMUS,bus=down"), ["S10.S00.S08.S00._ROM"])

    def test_bridge(self):
        self.assertEqual(
            self.place("q35", "pcie-pci-bridge,id=b,addr=3",
                       "OPTIMUS,bus=b,addr=4"), ["S18.S20._ROM"])
        self.assertEqual(
            self.place("pc", "pci-bridge,id=b,chassis_nr=1,addr=3",
                       "OPTIMUS,bus=b,addr=4"), ["S18.S20._ROM"])

    def test_no_hotplug_methods(self):
        """The driver would call a _DSM with arguments of its own."""
        places = [("S08", ["OPTIMUS,addr=1"])]
        if VERSION >= (8, 0):   # 7.2 gives one to every device after a bridge
            places.append(("S00", ["pcie-root-port,id=rp,addr=2",
                                   "OPTIMUS,bus=rp"]))
        for name, args in places:
            table = self.dsdt("q35", *args, program=NO_HOTPLUG)
            source = Acpica(ACPICA).node(table, "S10" if len(args) > 1 else name)
            node = source[source.index(f"Device ({name})"):]
            self.assertIn("Method (_ROM, 2, Serialized)", node)
            self.assertNotIn("_DSM", node)
            self.assertNotIn("_EJ0", node)

    def no_node(self, machine, *args, also=()):
        path = self.rom()
        devices = [word for arg in args for word in (
            "-device", arg.replace("OPTIMUS", f"vfio-optimus,romfile={path}"))]
        status, stderr = run(TEST, *also, "-M", machine, *devices)
        self.assertEqual(status, 1, stderr)
        self.assertIn("vfio-optimus: QEMU has built no ACPI node for the "
                      "device at 0000:", stderr)
        self.assertIn("Attach it to the root bus", stderr)
        return stderr

    def test_expander(self):
        self.no_node("q35", "pxb-pcie,id=pxb,bus_nr=64",
                     "pcie-root-port,id=rp,bus=pxb", "OPTIMUS,bus=rp")
        self.no_node("pc", "pxb,id=pxb,bus_nr=64", "OPTIMUS,bus=pxb,addr=1")

    def test_no_acpi_hotplug(self):
        off = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
        args = ("pcie-root-port,id=rp,addr=2", "OPTIMUS,bus=rp")
        self.assertEqual(self.place("q35", "OPTIMUS,addr=1", also=off),
                         ["S08._ROM"])
        if VERSION >= (8, 0):
            self.assertEqual(self.place("q35", *args, also=off),
                             ["S10.S00._ROM"])
        else:
            self.assertIn("acpi-pci-hotplug-with-bridge-support",
                          self.no_node("q35", *args, also=off))

    def test_recompiles(self):
        """iasl takes its own disassembly, without a word about our method."""
        acpica = Acpica(ACPICA)
        node = acpica.node(self.dsdt("q35", "OPTIMUS,addr=1"), "S08")
        self.assertIn("Method (_ROM, 2, Serialized)", node)
        status, messages = acpica.compile_node(node)
        self.assertEqual(status, 0, messages)
        self.assertIn("0 Errors, 0 Warnings", messages)

    def test_lengths(self):
        """As long as asked for, up to 4 KiB; no argument fails."""
        numbers = [0, 1, 7, 0xfff, PAGE, 0x1001, 0x195ff, 0x1a000, 0x80000000,
                   0xffffffff]
        asked = list(itertools.product(numbers, numbers))
        self.assertEqual(
            Acpica(ACPICA).buffers(self.dsdt("q35", "OPTIMUS,addr=1"), [
                f"\\_SB.PCI0.S08._ROM {offset:#x} {length:#x}"
                for offset, length in asked]),
            [min(length, PAGE) for _, length in asked])

    def test_size(self):
        """At most 200 bytes for a device, whatever the size of its ROM."""
        with Machine(TEST, "-M", "q35", "-device",
                     "bochs-display,addr=1") as machine:
            without = len(machine.dsdt())
        with_rom = len(self.dsdt("q35", "OPTIMUS,addr=1"))
        self.assertLessEqual(with_rom - without, 200)


if __name__ == "__main__":
    tap_main(sys.modules[__name__])
