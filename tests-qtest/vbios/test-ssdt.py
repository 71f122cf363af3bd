#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios ssdt: the tables, and what is said of them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import vbios
from vbios_case import NOBODY, Case, main, tool_path
from namespace import IS_ROOT, mounted

ROM = vbios.make(size=512)


class Ssdt(Case):
    """Guests of test-matrix read the tables, and plugin/test-tables.py starts real
    QEMUs with the arguments."""

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
        return (self.good if good else self.bad)("ssdt", rom, "-o", self.out, *args, **how)

    def tables(self):
        return [(self.out / name).read_bytes() for name in self.files("out")]

    def test_bytes(self):
        """All of the ROM is there, in order, and no table is too large."""
        for size, count in ((512, 1), (57344, 1), (57856, 2)):
            rom = vbios.make(size=size)
            said = self.ssdt(rom, "--at", "01.0")
            *tables, _ = self.tables()
            self.assertEqual(len(tables), count)
            self.assertLess(max(map(len, tables)), 65536)
            at = 0
            for table in tables:
                start = 0
                for _ in range(7):
                    part = rom[at:at + 8192]
                    start = table.index(part, start) + len(part)
                    at += len(part)
            self.assertEqual(at, size)
            self.assertIn(rf"\_SB.PCI0.S08, a _ROM of {size} bytes", said)
            shutil.rmtree(self.out)

    def test_largest(self):
        """The source is looked at: iasl takes ten seconds for all of it."""
        rom = vbios.make(size=1 << 20)
        said = self.ssdt(rom, "--at", "01.0",
                         path=tool_path(self.dir, "iasl", 'cp "$3" "$2.aml"'))
        self.assertIn("take a bzImage", said)
        *tables, _ = self.tables()
        self.assertEqual(len(tables), 19)
        self.assertEqual(bytes(int(number) for table in tables for number in re.findall(
            rb"\d+", table.split(b"Package ()")[1])), rom)

    def test_place(self):
        for place, path in (("01.0", "S08"), ("1.0", "S08"), ("1f.7", "SFF"),
                            ("1C.0/00.0", "SE0.S00"), ("02.3/00.0", "S13.S00"),
                            ("1e.0/01.0/10.0", "SF0.S08.S80")):
            self.assertIn(rf" \_SB.PCI0.{path}, ",
                          self.ssdt(ROM, "--at", place))
            shutil.rmtree(self.out)

    def test_again(self):
        rom = vbios.make(size=8192)
        said = self.ssdt(rom, "--at", "01.0")
        before = self.tables()
        self.assertEqual(self.ssdt(rom, "--at", "01.0"), said)
        self.assertEqual(self.tables(), before)
        for args in ((vbios.make(size=8192, seed=2), "--at", "01.0"),
                     (rom, "--at", "02.0"), (ROM, "--at", "01.0")):
            self.ssdt(*args, good=False, says="those of another ROM or place: "
                      "remove it, or name another directory")
            self.assertEqual(self.tables(), before)
        self.put("out/more", b"")
        self.ssdt(rom, "--at", "01.0", good=False, says="has other files in it")
        self.assertEqual(self.files(), ["bin", "out", "v.rom"])

    def test_readable(self):
        """For QEMU, which has another user, whatever the umask is."""
        self.out.mkdir()
        self.ssdt(ROM, "--at", "01.0", umask=0o077)
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
        refused(ROM, "install acpica-tools", path=self.dir)
        refused(ROM, "'rom-00.aml' cannot be compiled by iasl: it "
                "ended with exit code 3", path=tool_path(self.dir, "iasl", "exit 3"))
        self.out = self.dir / "no/out"
        refused(ROM, "out' cannot be written: No such file")
        self.out = self.dir / "v.rom"
        refused(ROM, "v.rom' cannot be written: Not a directory")
        for name in ("a b", "a,b", "a'b", "a:b"):
            self.out = self.dir / name
            refused(ROM, "would have to be quoted")

    def test_battery(self):
        """It comes from where the program is installed."""
        share = self.dir / "prefix/share/vfio-optimus"
        program = self.dir / "prefix/bin/optimus-vbios"
        program.parent.mkdir(parents=True)
        shutil.copy(self.program, program)
        tool_path(self.dir, "iasl")
        before = self.files()
        self.ssdt(ROM, "--at", "01.0", "--battery", good=False,
                  says="battery.aml' cannot be read: No such file",
                  executable=program)
        self.assertEqual(self.files(), [*before, "v.rom"])
        share.mkdir(parents=True)
        (share / "battery.aml").write_bytes(b"SSDT and so on")
        said = self.ssdt(ROM, "--at", "01.0", "--battery",
                         executable=program)
        self.assertEqual((self.out / "battery.aml").read_bytes(), b"SSDT and so on")
        self.assertEqual(said.count(f"file={self.out}/battery.aml"), 1)

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_unwritable(self):
        self.ssdt(ROM, "--at", "01.0", good=False, user=NOBODY,
                  says="out' cannot be written: Permission denied")

    def test_interrupt(self):
        path = tool_path(self.dir, "iasl", f": >{self.dir}/started; sleep 60")
        with subprocess.Popen(
                [self.program, "ssdt", self.put("v.rom", ROM), "-o",
                 self.out, "--at", "01.0"], env={**os.environ, "PATH": str(path)},
                stderr=subprocess.PIPE) as tool:
            while not (self.dir / "started").exists():
                time.sleep(0.01)
            tool.send_signal(signal.SIGTERM)
            self.assertEqual(tool.wait(10), -signal.SIGTERM)
        self.assertEqual(self.files(), ["bin", "started", "v.rom"])

    IDS = "x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978"

    def test_ids(self):
        self.assertIn(self.IDS, self.ssdt(ROM, "--at", "01.0"))
        self.set_card("0000:03:00.0", "10de:139b", "17aa:1234")
        self.assertIn("are not known here", self.ssdt(ROM, "--at", "01.0"))
        shutil.rmtree(self.devices / "0000:03:00.0")
        for sub in ("0000:1234", "ffff:ffff", "17aa:0000"):
            self.set_card("0000:01:00.0", "10de:139b", sub)
            self.assertIn("are not known here",
                          self.ssdt(ROM, "--at", "01.0"))

    RP = "-device pcie-root-port,id=rp,bus=pcie.0,addr=1c.1"
    CARD = "-device vfio-pci,host=01:00.0"

    def line(self, text, *args, **how):
        """With TEXT as the guest's command line."""
        return self.ssdt(ROM, "--for", self.put("line", text.encode()), *args, **how)

    def place(self, text, path):
        said = self.line(text)
        self.assertIn(rf" \_SB.PCI0.{path}, ", said, text)
        shutil.rmtree(self.out)
        return said

    def test_devices(self):
        """Key=value, JSON, -set, -global and -readconfig."""
        config = self.put("a.cfg", b"""# a comment
            [machine]
              type = "q35"
            [device "rp"]
              driver = "pcie-root-port"
              bus = "pcie.0"
              addr = "1c.1"
            [device "x\xff"]
            """)
        pci = "pci-bridge,id=b,addr=0x1e"
        for text, path in (
                (f"qemu {self.CARD},addr=0x5", "S28"),
                (f"A=1 B='-device x' /usr/bin/qemu {self.CARD},bus=pci.0,addr=10.7", "S87"),
                (f"qemu {self.CARD},bus=rp,addr=0x0 {self.RP}", "SE1.S00"),
                (f"qemu -{self.CARD},bus=rp -{self.RP}", "SE1.S00"),
                (f"qemu {self.CARD},bus=b,addr=1f.3 -device {pci}", "SF0.SFB"),
                (f"qemu {self.CARD},addr=3,addr=4", "S20"),
                ("qemu -device host=01:00.0,driver=vfio-pci,x=a,,addr=3,addr=6", "S30"),
                ("qemu -device vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:01:00.0,addr=6",
                 "S30"),
                ("qemu -device vfio-optimus,host=0000:01:00.0,addr=6", "S30"),
                (f"qemu {self.CARD},id=c,addr=3 -set device.c.addr=7.1", "S39"),
                (f"qemu {self.CARD},id=c -global vfio-pci.addr=8", "S40"),
                (f"qemu {self.CARD} -global driver=vfio-pci,property=addr,value=9", "S48"),
                (f"qemu -readconfig {config} {self.CARD},bus=rp,addr=0", "SE1.S00"),
                (f"#!/bin/sh\n# a script\nexec qemu \\\n  {self.CARD},addr=1 \\\n -S\n", "S08"),
                ("""qemu -device '{"driver":"vfio-pci","host":"0000:01:00.0","addr":"0x2.0x1"}'""",
                 "S11"),
                ("""qemu -device '{ "x": [1, {"y": "]}"}], "addr" : 17 ,"host":"01:00.0",
                    "driver":"vfio\\u002dpci", "z":true}'""", "S11"),
                ("""qemu -device "{'driver':'vfio-pci','host':'01:00.0','addr':'3','a':''}" """,
                 "S18")):
            self.place(text, path)

    def test_no_place(self):
        for text, says in (
                (f"qemu {self.CARD}", "QEMU chooses its slot"),
                (f"qemu {self.CARD},addr=20", "QEMU chooses its slot"),
                (f"qemu {self.CARD},bus=rp,addr=0", "there is no device with the id rp"),
                (f"qemu {self.CARD},bus=rp -device pcie-root-port,id=rp",
                 "QEMU chooses its slot, or that of a bridge"),
                (f"qemu {self.CARD},bus=b,addr=0 -device pxb-pcie,id=b,addr=3",
                 "behind an expander bridge"),
                (f"qemu {self.CARD},bus=b,addr=0 -device pci-bridge,id=b,bus=b,addr=3",
                 "behind more than 16 bridges"),
                ("qemu -S", "has no -device vfio-pci,host="),
                ("<domain/>", "has no -device vfio-pci,host="),
                ("\0\1", "is no command line"),
                ("qemu 'a", "its quotes do not match"),
                (" ", "is no command line"),
                ("qemu -readconfig /no", "'/no' cannot be read"),
                ("""qemu -device '{"driver":"vfio-pci"'""", "no JSON that QEMU would take"),
                ("""qemu -device '{"driver"}'""", "no JSON that QEMU would take"),
                ("""qemu -device '{"driver":"\\u00"}'""", "no JSON that QEMU would take"),
                ("""qemu -device '{"driver":"a\\'""", "no JSON that QEMU would take"),
                ("""qemu -device '{"a":[{"b":"'""", "no JSON that QEMU would take")):
            self.line(text, good=False, says=says)
            self.assertFalse(self.out.exists())

    def test_standard_input(self):
        said = self.ssdt(ROM, "--for", "-", input=f"qemu {self.CARD},addr=2")
        self.assertIn(r" \_SB.PCI0.S10, ", said)

    def test_several(self):
        """Which of the devices it is, the IDs of the host's tell."""
        line = (f"qemu -device vfio-pci,host=02:00.0,addr=3 {self.CARD},addr=4 "
                "-device vfio-pci,host=01:00.1,addr=4.1")
        self.place(line, "S20")
        shutil.rmtree(self.devices / "0000:01:00.0")
        self.line(line, good=False, says="several devices of the host "
                  "(0000:02:00.0 at 03.0, 0000:01:00.0 at 04.0, 0000:01:00.1 at 04.1)")

    def test_ids_are_set(self):
        """Those that the guest has already are not printed again."""
        line = f"qemu {self.CARD},addr=3"
        self.assertIn(self.IDS, self.place(line, "S18"))
        for more in (f",{self.IDS}", " -global vfio-pci.x-pci-sub-vendor-id=1"
                     " -global vfio-pci.x-pci-sub-device-id=1"):
            said = self.place(line + more, "S18")
            self.assertNotIn("x-pci-sub", said)

    def test_judged(self):
        """What info says of a ROM is said here, too."""
        card = f"qemu {self.CARD},addr=3"
        for rom, says in ((vbios.make(kind=3), "no image is of the type x86"),
                          (vbios.make(vendor=0x1002, device=0x67df), "AMD")):
            self.ssdt(rom, "--at", "01.0", good=False, says=says)
            self.assertFalse(self.out.exists())
        run = self.run_tool("ssdt", vbios.make(size=512, device=0x1234), "-o", self.out,
                            "--for", self.put("line", card.encode()),
                            path=tool_path(self.dir, "iasl"))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("warning: it is for 10de:1234, and the card is 10de:139b", run.stderr)


if __name__ == "__main__":
    main()
