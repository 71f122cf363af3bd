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
import xml.etree.ElementTree as xml

import vbios
from machine import Acpica, Machine, run
from tap import tap_main

HERE = os.path.dirname(os.path.abspath(__file__))
ROM = vbios.make()
CARD = "bochs-display,id=card,"
TOOL = ACPICA = QEMU = None
PROXMOX_Q35 = {
    **{f"ich9-pcie-port-{n + 1}": {
        "driver": "pcie-root-port", "multifunction": "on", "bus": "pcie.0",
        "addr": f"1c.{n}", "port": n + 1, "chassis": n + 1} for n in range(4)},
    "pcidmi": {"driver": "i82801b11-bridge", "bus": "pcie.0", "addr": "1e.0"},
    **{f"pci.{n}": {
        "driver": "pci-bridge", "bus": "pcidmi", "addr": f"{n + 1}.0",
        "chassis_nr": n + 1} for n in range(4)},
}


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

    def arguments(self, said):
        return shlex.split(said.split("QEMU: add\n\n")[1].split("\n")[0])

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


class Proxmox(Case):

    def start(self, conf, devices, *options):
        """As qemu-server does for CONF, with DEVICES in the place of the card."""
        said = self.ssdt("--for", self.put("100.conf", conf.encode()))
        words = shlex.split(said.split("qm set 100 --args ")[1].split("\n")[0])
        q35 = "machine: q35" in conf
        self.put("q35.cfg", "".join(
            f'[device "{name}"]\n' + "".join(
                f'  {key} = "{value}"\n' for key, value in device.items())
            for name, device in PROXMOX_Q35.items()).encode())
        self.check(
            said, *options, "-smp", "2,sockets=2,cores=1,maxcpus=2", "-m", "512",
            *(["-readconfig", f"{self.dir}/q35.cfg"] if q35 else [
                "-device", "pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e",
                "-device", "pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f"]),
            "-device", "vmgenid,guid=54d1c06c-8f5b-440f-b5b2-6eab1380e13d",
            *(word for device in devices for word in ("-device", device)),
            "-device", "VGA,id=vga," + (
                "bus=pcie.0,addr=0x1" if q35 else "bus=pci.0,addr=0x2"),
            "-device", "virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x3",
            "-machine", "hpet=off,type=" + ("q35" if q35 else "pc"),
            *shlex.split(words[0]))
        subprocess.run(["rm", "-r", f"{self.dir}/tables"], check=True)

    def test_q35(self):
        # after bridges QEMU 7.2 builds no nodes with that, which newer ones of
        # Proxmox' have
        off = () if "7.2" in QEMU else (
            "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
        port = "pcie-root-port,id={},addr={},multifunction=on,bus=pcie.0,port={},chassis={}"
        for line, devices in (
                ("hostpci0: 01:00,pcie=1", ["bus=ich9-pcie-port-1,addr=0x0"]),
                ("hostpci3: 01:00.0,pcie=1", ["bus=ich9-pcie-port-4,addr=0x0"]),
                ("hostpci5: 01:00.0,pcie=1", [
                    port.format("ich9-pcie-port-6", "10.1", 6, 6),
                    "bus=ich9-pcie-port-6,addr=0x0"]),
                ("hostpci13: 01:00.0,pcie=1", [
                    port.format("ich9-pcie-port-14", "11.1", 14, 14),
                    "bus=ich9-pcie-port-14,addr=0x0"]),
                ("hostpci1: 01:00.0", ["bus=pci.0,addr=0x11"]),
                ("hostpci6: 01:00.0", ["bus=pci.2,addr=0xf"])):
            self.start(f"args: -no-user-config\nmachine: q35\n{line}\n",
                       [*devices[:-1], CARD + devices[-1]], *off)

    def test_pc(self):
        for line, device in (("hostpci0: 01:00.0", "bus=pci.0,addr=0x10"),
                             ("hostpci2: 01:00.0", "bus=pci.0,addr=0x1b"),
                             ("hostpci4: 01:00.0", "bus=pci.2,addr=0xd")):
            self.start(f"ostype: win10\n{line}\n", [CARD + device])


class Libvirt(Case):
    """libvirt/argv-N is how libvirt N (9.0.0, 11.3.0) starts libvirt/devices.xml.
    This is what it fills in there, of the third device."""

    DOMAIN = b"""<domain type='qemu'><devices>
        <controller type='pci' index='0' model='pcie-root'/>
        <controller type='pci' index='3' model='pcie-root-port'>
          <model name='pcie-root-port'/><target chassis='3' port='0xa'/>
          <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x2'/>
        </controller>
        <hostdev mode='subsystem' type='pci' managed='no'>
          <driver name='vfio'/>
          <source>
            <address domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
          </source>
          <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>
        </hostdev></devices></domain>"""

    def devices(self, release):
        with open(f"{HERE}/../libvirt/argv-{release}") as argv:
            words = shlex.split(argv.read())
        for before, word in zip(words, words[1:]):
            if before == "-device":
                device = json.loads(word)
                if device["driver"] == "vfio-pci":
                    device = {"driver": "bochs-display", "bus": device["bus"],
                              "id": device["id"], "addr": device["addr"]}
                yield from ("-device", json.dumps(device))

    def test_arguments(self):
        said = self.ssdt("--for", self.put("domain.xml", self.DOMAIN))
        self.assertIn("at 01.2/00.0 in the guest", said)
        end = "</qemu:commandline>"
        text = said[said.index("<qemu:commandline>"):said.index(end)] + end
        line, = xml.fromstring(
            "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
            f"{text}</domain>")
        args = [arg.get("value") for arg in line]
        for release in (9, 11):
            self.check(said, "-M", "q35", *self.devices(release), *args)


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
