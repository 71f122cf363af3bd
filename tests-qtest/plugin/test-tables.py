#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What optimus-vbios ssdt prints, given to QEMUs as users' programs start them:

    test-ssdt.py EMULATOR VBIOS ACPICA_ROOT

VBIOS is optimus-vbios, EMULATOR a directory with a qemu-system-x86_64, which is
started without a plugin.  The arguments are in the order of Proxmox' qemu-server
and libvirt's, with bochs-display in the place of vfio-pci.  That _ROM is in the
card's node acpiexec finds out, with all tables that QEMU has made; guests of
test-matrix read it, through the contract."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

import proxmox
import vbios
from machine import Acpica, Machine, run
from tap import tap_main

ROM = vbios.make()
CARD = "bochs-display,id=card,"
TOOL = ACPICA = QEMU = None


class Case(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.put("v.rom", ROM)
        ACPICA.tool("iasl")

    def put(self, name, data):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as out:
            out.write(data)
        return path

    def ssdt(self, *args):
        """What optimus-vbios prints."""
        return subprocess.run(
            [TOOL, "ssdt", f"{self.dir}/v.rom", "-o", f"{self.dir}/tables",
             *args], env={"PATH": ACPICA.path}, check=True, text=True,
            stdout=subprocess.PIPE).stdout

    def arguments(self, said):
        return shlex.split(said.split("QEMU: add\n\n")[1].split("\n")[0])

    def lengths(self, said, *args):
        """Of what _ROM returns for some calls with these arguments of QEMU's."""
        path = re.search(r", (\\_SB\.PCI0\S*), a _ROM of", said)[1]
        with Machine(QEMU, *args) as machine:
            dsdt, = machine.acpi_tables(b"DSDT")
            ssdts = [table for table in machine.acpi_tables(b"SSDT")
                     if table[10:16] == b"VFIOPT"]
        return ACPICA.buffers(dsdt, [
            f"{path}._ROM 0 0x1000", f"{path}._ROM 0x1FFF 0x1000",
            f"{path}._ROM {len(ROM) - 1:#x} 16", f"{path}._ROM 0xFFFFFFFF 1"],
            ssdts)

    def check(self, said, *args):
        self.assertEqual(self.lengths(said, *args), [0x1000, 0x1000, 16, 1],
                         f"{said}\n{shlex.join(args)}")


class Plain(Case):

    def test_places(self):
        for place, machine, devices in (
                ("01.0", "q35", [CARD + "addr=1"]),
                ("04.0", "pc", [CARD + "addr=4"]),
                ("03.0/1f.0", "pc", ["pci-bridge,id=b,chassis_nr=1,addr=3",
                                     CARD + "bus=b,addr=1f"]),
                ("02.0/00.0/01.0/00.0", "q35", [
                    "pcie-root-port,id=rp,addr=2", "x3130-upstream,id=up,bus=rp",
                    "xio3130-downstream,id=down,bus=up,chassis=3,addr=1",
                    CARD + "bus=down"])):
            said = self.ssdt("--at", place)
            self.check(said, "-M", machine, *self.arguments(said),
                       *(word for device in devices for word in ("-device", device)))
            subprocess.run(["rm", "-r", f"{self.dir}/tables"], check=True)

    def test_function(self):
        """QEMU 7.2 has no node for what is not function 0, newer ones have."""
        said = self.ssdt("--at", "1b.7")
        lengths = self.lengths(
            said, "-M", "q35", *self.arguments(said), "-device",
            "bochs-display,addr=1b.0,multifunction=on", "-device",
            CARD + "addr=1b.7")
        self.assertEqual(lengths, [] if "7.2" in QEMU else
                         [0x1000, 0x1000, 16, 1])

    def test_wrong_place(self):
        """There is no _ROM then, which guest-check tells."""
        said = self.ssdt("--at", "01.0/00.0")
        self.assertEqual(self.lengths(
            said, "-M", "q35", *self.arguments(said), "-device", CARD + "addr=1"),
            [])

    def test_limit(self):
        """The largest ROM leaves QEMU room; before 8.0 it says that such a guest
        may not be migrated."""
        self.put("v.rom", vbios.make(size=1 << 20))
        said = self.ssdt("--at", "01.0")
        status, stderr = run(QEMU, "-M", "q35", *self.arguments(said))
        self.assertEqual(status, 0, stderr)
        self.assertRegex(stderr, "^([^\n]*ACPI table size \\d+ exceeds 65536 bytes,"
                         " migration may not work\nTry removing[^\n]*\n?)*$")


class CommandLine(Case):
    """The card's place is read from the command line that starts the guest."""

    def start(self, words, *options):
        """WORDS are those of the guest with the card as a vfio-pci."""
        said = self.ssdt("--for", self.put("line", shlex.join(words).encode()))
        emulated = [self.emulated(word) if "vfio-pci" in word else word for word in words]
        self.check(said, *options, *emulated, *self.arguments(said))
        subprocess.run(["rm", "-r", f"{self.dir}/tables"], check=True)

    def emulated(self, word):
        """With bochs-display in the place of vfio-pci"""
        if word.startswith("{"):
            device = json.loads(word)
            return json.dumps({"driver": "bochs-display",
                               **{key: device[key] for key in ("id", "bus", "addr")}})
        return "bochs-display," + ",".join(
            part for part in word.split(",") if part.split("=")[0] in ("id", "bus", "addr"))

    def proxmox(self, config, *options):
        """As qemu-server starts a guest with these settings"""
        cfg = self.put("q35.cfg", proxmox.q35_config().encode())
        # without what of it is not for a QEMU that is built otherwise
        words = proxmox.command_line("100", config, cfg)
        self.start(words[words.index("-smp"):], *options)

    def test_proxmox_q35(self):
        # after bridges QEMU 7.2 builds no nodes with that, which newer ones of
        # Proxmox' have
        off = () if "7.2" in QEMU else (
            "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
        for n, pcie in ((0, ",pcie=1"), (3, ",pcie=1"), (5, ",pcie=1"),
                        (13, ",pcie=1"), (1, ""), (6, "")):
            self.proxmox({"machine": "q35", f"hostpci{n}": f"0000:01:00.0{pcie}",
                          "args": "-no-user-config"}, *off)

    def test_proxmox_pc(self):
        for n in (0, 2, 4):
            self.proxmox({f"hostpci{n}": "01:00.0"})

    def test_libvirt(self):
        """In JSON, as libvirt 9.0 and 11.3 print it; suite attach asks them."""
        self.start([
            "-M", "q35",
            "-device", '{"driver":"pcie-root-port","port":8,"chassis":1,"id":"pci.1",'
            '"bus":"pcie.0","multifunction":true,"addr":"0x1"}',
            "-device", '{"driver":"pcie-root-port","port":10,"chassis":3,"id":"pci.3",'
            '"bus":"pcie.0","addr":"0x1.0x2"}',
            "-device", '{"driver":"vfio-pci","host":"0000:02:00.0","id":"hostdev2",'
            '"bootindex":1,"bus":"pci.3","addr":"0x0","rombar":0}'])


def main():
    global TOOL, ACPICA, QEMU
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    QEMU = os.path.join(os.path.abspath(sys.argv.pop(1)), "qemu-system-x86_64")
    TOOL = os.path.abspath(sys.argv.pop(1))
    ACPICA = Acpica(sys.argv.pop(1))
    tap_main(sys.modules[__name__], sys.argv[1:])


if __name__ == "__main__":
    main()
