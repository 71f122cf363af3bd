#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios ssdt: the tables, and what is said of them."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
import unittest

import vbios
from vbios_case import NOBODY, Case, main, tool_path
from namespace import IS_ROOT, mounted


class Ssdt(Case):
    """The tables and what is said of them; guests of test-matrix read them, and
    device/test-ssdt.py starts real QEMUs with the arguments."""

    CARDS = {"0000:01:00.0": ("10de:139b", "17aa:3978"),
             "0000:01:00.1": ("10de:0fb9", "17aa:3978"),
             "0000:02:00.0": ("8086:24fd", "8086:1010")}

    def setUp(self):
        super().setUp()
        self.out = self.dir / "out"
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.devices = stack.enter_context(
            mounted("/sys", "-t", "tmpfs", "none")) / "bus/pci/devices"
        for bdf, (ids, sub) in self.CARDS.items():
            self.set_card(bdf, ids, sub)

    def set_card(self, bdf, ids, sub):
        card = self.devices / bdf
        card.mkdir(parents=True, exist_ok=True)
        for name, value in zip(("vendor", "device", "subsystem_vendor",
                                "subsystem_device"), (ids + ":" + sub).split(":")):
            (card / name).write_text(f"0x{value}\n")

    def ssdt(self, rom, *args, good=True, **how):
        if "path" not in how:
            how["path"] = tool_path(self.dir, "iasl")
        return (self.good if good else self.bad)(
            "ssdt", self.put("v.rom", rom), "-o", self.out, *args, **how)

    def tables(self):
        return [(self.out / name).read_bytes() for name in self.files("out")]

    def test_bytes(self):
        """All of the ROM is there, in order, and no table is too large."""
        for size, count in ((512, 1), (8192, 1), (57344, 1), (57856, 2),
                            (103936, 2), (1 << 20, 19)):
            rom = vbios.make(size=size)
            said = self.ssdt(rom, "--at", "01.0")
            tables = self.tables()
            self.assertEqual(len(tables), count + 1)
            self.assertLess(max(map(len, tables)), 65536)
            at = 0
            for table in tables[:-1]:
                start = 0
                for _ in range(7):
                    part = rom[at:at + 8192]
                    start = table.index(part, start) + len(part)
                    at += len(part)
            self.assertEqual(at, size)
            self.assertIn(rf"\_SB.PCI0.S08, a _ROM of {size} bytes", said)
            shutil.rmtree(self.out)

    def test_place(self):
        for place, path in (("01.0", "S08"), ("1.0", "S08"), ("1f.7", "SFF"),
                            ("1C.0/00.0", "SE0.S00"), ("02.3/00.0", "S13.S00"),
                            ("1e.0/01.0/10.0", "SF0.S08.S80")):
            self.assertIn(rf" \_SB.PCI0.{path}, ",
                          self.ssdt(vbios.make(size=512), "--at", place))
            shutil.rmtree(self.out)

    def test_again(self):
        rom = vbios.make()
        said = self.ssdt(rom, "--at", "01.0")
        before = self.tables()
        self.assertEqual(self.ssdt(rom, "--at", "01.0"), said)
        self.assertEqual(self.tables(), before)
        for args in ((vbios.make(seed=2), "--at", "01.0"),
                     (rom, "--at", "02.0"), (vbios.make(size=512), "--at", "01.0")):
            self.ssdt(*args, good=False, says="those of another ROM or place: "
                      "remove it, or name another directory")
            self.assertEqual(self.tables(), before)
        self.assertEqual(self.files(), ["bin", "out", "v.rom"])

    def test_readable(self):
        """For QEMU, which has another user, whatever the umask is."""
        self.out.mkdir()
        self.ssdt(vbios.make(), "--at", "01.0", umask=0o077)
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o755)
        for name in self.files("out"):
            self.assertEqual((self.out / name).stat().st_mode & 0o777, 0o644)

    def test_refused(self):
        def refused(rom, says, at="01.0", **how):
            self.ssdt(rom, "--at", at, good=False, says=says, **how)
            self.assertEqual(self.files(), before)
        tool_path(self.dir, "iasl")
        self.put("v.rom", b"")
        before = self.files()
        refused(vbios.make(size=(1 << 20) + 512), "have room for 1048576")
        refused(b"MZ" * 512, "is no video BIOS")
        refused(vbios.make(), "install acpica-tools", path=self.dir)
        refused(vbios.make(), "'rom-00.aml' cannot be compiled by iasl: it "
                "ended with exit code 3", path=tool_path(self.dir, "iasl", "exit 3"))
        self.out = self.dir / "no/out"
        refused(vbios.make(), "out' cannot be written: No such file")
        self.out = self.dir / "v.rom"
        refused(vbios.make(), "v.rom' cannot be written: Not a directory")
        for name in ("a b", "a,b", "a'b", "a:b"):
            self.out = self.dir / name
            refused(vbios.make(), "would have to be quoted")

    def test_battery(self):
        """It comes from where the program is installed."""
        share = self.dir / "prefix/share/vfio-optimus"
        program = self.dir / "prefix/bin/optimus-vbios"
        program.parent.mkdir(parents=True)
        shutil.copy(self.program, program)
        tool_path(self.dir, "iasl")
        before = self.files()
        self.ssdt(vbios.make(), "--at", "01.0", "--battery", good=False,
                  says="battery.aml' cannot be read: No such file",
                  executable=program)
        self.assertEqual(self.files(), [*before, "v.rom"])
        share.mkdir(parents=True)
        (share / "battery.aml").write_bytes(b"SSDT and so on")
        said = self.ssdt(vbios.make(), "--at", "01.0", "--battery",
                         executable=program)
        self.assertEqual((self.out / "battery.aml").read_bytes(), b"SSDT and so on")
        self.assertEqual(said.count(f"file={self.out}/battery.aml"), 3)

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_unwritable(self):
        self.ssdt(vbios.make(), "--at", "01.0", good=False, user=NOBODY,
                  says="out' cannot be written: Permission denied")

    def test_interrupt(self):
        path = tool_path(self.dir, "iasl", f": >{self.dir}/started; sleep 60")
        with subprocess.Popen(
                [self.program, "ssdt", self.put("v.rom", vbios.make()), "-o",
                 self.out, "--at", "01.0"], env={**os.environ, "PATH": str(path)},
                stderr=subprocess.PIPE) as tool:
            while not (self.dir / "started").exists():
                time.sleep(0.01)
            tool.send_signal(signal.SIGTERM)
            self.assertEqual(tool.wait(10), -signal.SIGTERM)
        self.assertEqual(self.files(), ["bin", "started", "v.rom"])

    IDS = "x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978"

    def test_ids(self):
        self.assertIn(self.IDS, self.ssdt(vbios.make(), "--at", "01.0"))
        self.set_card("0000:03:00.0", "10de:139b", "17aa:1234")
        self.assertIn("are not known here", self.ssdt(vbios.make(), "--at", "01.0"))
        shutil.rmtree(self.devices / "0000:03:00.0")
        for sub in ("0000:0000", "ffff:ffff", "17aa:0000"):
            self.set_card("0000:01:00.0", "10de:139b", sub)
            self.assertIn("are not known here",
                          self.ssdt(vbios.make(), "--at", "01.0"))

    def guest(self, name, text, *args, **how):
        return self.ssdt(vbios.make(), "--for", self.put(name, text.encode()),
                         *args, **how)

    def test_proxmox(self):
        """hostpciN of q35 and pc, by their lines in a configuration."""
        places = {
            "hostpci0: 01:00,pcie=1|q35": "SE0.S00",
            "hostpci3: 0000:01:00.0,pcie=1,rombar=0|pc-q35-9.2+pve1": "SE3.S00",
            "hostpci4: 0000:01:00.0,pcie=1|q35": "S80.S00",
            "hostpci11: host=01:00.0;01:00.1,pcie=1|q35,viommu=intel": "S87.S00",
            "hostpci15: 01:00.0,pcie=1|q35": "S8B.S00",
            "hostpci0: 01:00.0|q35": "SF0.S08.S80",
            "hostpci2: mapping=gpu,pcie=0|q35": "SF0.S08.SD8",
            "hostpci4: 01:00.0|q35": "SF0.S18.S68",
            "hostpci0: 01:00.0|pc": "S80",
            "hostpci1: 01:00.0|": "S88",
            "hostpci5: 01:00.0|pc-i440fx-9.2": "SF8.S70",
        }
        for line, path in places.items():
            line, machine = line.split("|")
            said = self.guest("100.conf", f"{machine and 'machine: '}{machine}\n"
                              f"{line}\nmemory: 4096\n\n[old]\nhostpci9: 0f:00.0\n")
            self.assertIn(rf" \_SB.PCI0.{path}, ", said, line)
            self.assertNotIn("libvirt", said)
            self.assertIn("    qm set 100 --args '-acpitable file=", said)
            if "mapping" not in line:
                key, value = line.split(": ")
                self.assertIn(f"    qm set 100 --{key} {value},sub-vendor-id="
                              "0x17aa,sub-device-id=0x3978\n", said)
            shutil.rmtree(self.out)
        conf = "args: %s\nostype: win7\nmachine: q35\nhostpci1: 01:00.0,pcie=1\n"
        args = "-cpu 'host,kvm=off'"
        for _ in range(2):
            # the second time those of the first time are in the file
            said = self.guest("100.conf", conf % args)
            self.assertIn(r" \_SB.PCI0.S88, ", said)
            _, args = shlex.split(said.split("qm set 100 ")[1].splitlines()[0])
            self.assertEqual(args, "-cpu 'host,kvm=off' " + " ".join(
                f"-acpitable file={self.out}/{name}" for name in
                ("rom-00.aml", "rom-01.aml", "rom-method.aml")))

    def test_several(self):
        """Which of the devices it is, the IDs of the host's tell."""
        conf = ("machine: q35\nhostpci0: 02:00.0,pcie=1\n"
                "hostpci1: 01:00.0,pcie=1\n")
        self.assertIn(r"\_SB.PCI0.SE1.S00", self.guest("1.conf", conf))
        shutil.rmtree(self.devices / "0000:01:00.0")
        self.guest("1.conf", conf, good=False, says="several devices of the host "
                   "(0000:02:00.0 at 1c.0/00.0, 0000:01:00.0 at 1c.1/00.0)")

    DOMAIN = """<!-- made by virsh -->
        <domain type='kvm'><devices>
          <controller type='pci' index='0' model='pcie-root'/>
          <controller type='pci' index='1' model='pcie-root-port'>
            <address type='pci' domain='0' bus='0x00' slot='0x02' function='0x1'/>
          </controller>
          <controller type='pci' index='7' model='%s'>
            <address type='pci' domain='0' bus='0x00' slot='0x09' function='0x0'/>
          </controller>
          <controller type='usb' index='0'>
            <address type='pci' bus='0x00' slot='0x1d' function='0x7'/>
          </controller>
          <hostdev mode='subsystem' type='usb'>
            <source><address bus='1' device='2'/></source>
          </hostdev>
          <hostdev mode='subsystem' type='pci' managed='yes'>
            <source><address domain='0' bus='1' slot='0' function='0'/></source>
            %s
          </hostdev>
        </devices></domain>"""

    def test_libvirt(self):
        here = "<address type='pci' domain='0' bus='0x0%d' slot='0x00' function='0x0'/>"
        said = self.guest("a.xml", self.DOMAIN % ("pcie-to-pci-bridge", here % 1))
        self.assertIn(r" \_SB.PCI0.S11.S00, ", said)
        self.assertNotIn("qm set", said)
        self.assertIn("<qemu:device alias='hostdev1'>", said)
        self.assertIn("name='x-pci-sub-device-id' type='unsigned' value='14712'",
                      said)
        shutil.rmtree(self.out)
        said = self.guest("a.xml", self.DOMAIN % (
            "pcie-to-pci-bridge", here % 7 + "<alias name='ua-gpu'/>"))
        self.assertIn(r" \_SB.PCI0.S48.S00, ", said)
        self.assertIn("<qemu:device alias='ua-gpu'>", said)
        shutil.rmtree(self.out)
        for model, address, says in (
                ("pcie-root-port", "", "has no address in the guest"),
                ("pcie-root-port", here % 3, "or a bridge above it has none"),
                ("pcie-expander-bus", here % 7, "behind an expander bridge")):
            self.guest("a.xml", self.DOMAIN % (model, address), good=False,
                       says=says)
        self.guest("a.xml", "<domain><devices>", good=False,
                   says="a.xml' is no domain of libvirt's: ")
        for text in ("<domain/>", "machine: q35\n", "\0\1\n"):
            self.guest("a.xml", text, good=False,
                       says="gives the guest no PCI device of the host")


if __name__ == "__main__":
    main()
