#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else may have the video BIOS, and its place: a device that lies over the
ROM window ends QEMU, what the guest maps there does not, and with rombar=0 the
firmware does not get the ROM.

usage: test-window.py EMULATOR_DIRECTORY SQUATTER
"""

import os
import subprocess
import sys
import tempfile
import time
import unittest

import vbios
from machine import Machine, run, TIME_LIMIT, WINDOW_START, with_plugin
from tap import tap_main

DIRECTORY, SQUATTER = sys.argv[1:]
QEMU = with_plugin(DIRECTORY, "test-optimus")
LAST_PAGE = WINDOW_START + 27 * 0x1000      # of zeros, after the ROM
MARK_AT, MARK = 0x4f0, b"\x55\x4d"          # in the BIOS data area, for anybody
# push ax; push ds; mov ax, 0x40; mov ds, ax; mov word [0xf0], MARK; pop ds;
# pop ax; retf
LEAVE_A_MARK = b"\x50\x1e\xb8\x40\0\x8e\xd8\xc7\x06\xf0\0" + MARK + b"\x1f\x58\xcb"


class WithRom(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.rom = os.path.join(self.folder.name, "vbios.rom")
        self.image = bytearray(vbios.make(vendor=0x1234, device=0x1111))
        self.image[3:3 + len(LEAVE_A_MARK)] = LEAVE_A_MARK
        with open(self.rom, "wb") as out:
            out.write(vbios.balance(bytes(self.image), len(self.image)))
        self.device = f"vfio-optimus,romfile={self.rom}"


class Squatter(WithRom):
    """The devices in the order of the command line"""

    PROGRAM = [*QEMU, "-plugin", SQUATTER, "-M", "q35"]

    def ends(self, status, stderr, address):
        self.assertEqual(status, 1, stderr)
        self.assertIn(f"vfio-optimus: 'squatter' at {address:#x} lies over the "
                      "video BIOS of the device at 0000:00:01.0 "
                      f"({WINDOW_START:#x}-{LAST_PAGE + 0xfff:#x})", stderr)

    def test_after(self):
        """At the first, an inner and the last page"""
        for address in (WINDOW_START, WINDOW_START + 0x7000, LAST_PAGE):
            self.ends(*run(self.PROGRAM, "-device", self.device, "-device",
                           f"squatter,address={address:#x}"), address)

    def test_within_a_page(self):
        address = WINDOW_START + 0x7800
        self.ends(*run(self.PROGRAM, "-device", self.device, "-device",
                       f"squatter,address={address:#x}"), address)

    def test_before(self):
        """The window goes where nothing is."""
        with Machine(self.PROGRAM, "-device",
                     f"squatter,address={WINDOW_START + 0x7000:#x}",
                     "-device", self.device + ",id=gpu") as machine:
            self.assertEqual(machine.get("gpu", "rom-address"),
                             WINDOW_START + 0x8000)
            machine.qmp("cont")
            self.assertEqual(machine.quit()[0], 0)

    def test_at_reset(self):
        """What maps itself after the device has looked, is seen at the start."""
        with Machine(self.PROGRAM, "-device", self.device, "-device",
                     f"squatter,address={WINDOW_START:#x}-late") as machine:
            machine.streams["qmp"].write('{"execute":"cont"}')
            machine.streams["qmp"].flush()
            stderr = machine.process.communicate(timeout=TIME_LIMIT)[1]
        self.ends(machine.process.returncode, stderr, WINDOW_START)

    def test_beside(self):
        with Machine(self.PROGRAM, "-device", self.device, "-device",
                     f"squatter,address={LAST_PAGE + 0x1000:#x}") as machine:
            machine.qmp("cont")
            self.assertEqual(machine.quit()[0], 0)


class Guest(WithRom):
    """A guest maps something over the video BIOS, and cannot end QEMU by it."""

    def maps(self, name, function, register, value):
        firmware = os.path.join(self.folder.name, "firmware")
        with open(firmware, "wb") as out:
            out.write(bytes(0xfff0) + b"\xeb\xfe".ljust(16))   # jmp $
        with Machine(QEMU, "-M", "q35", "-bios", firmware,
                     "-device", self.device) as machine:
            machine.qmp("cont")
            for _ in range(2):
                address = f"outl 0xcf8 {0x80000000 | function << 8 | register:#x}"
                machine.qtest(address)
                machine.qtest(f"outl 0xcfc {value:#x}")
                tree = machine.qmp("human-monitor-command", **{
                    "command-line": "info mtree"})["return"]
                self.assertRegex(tree, f"{value - 1:016x}-[^\n]*{name}")
                for command in "stop", "cont", "system_reset", "stop", "cont":
                    self.assertEqual(machine.qmp(command), {"return": {}})
                end = time.monotonic() + TIME_LIMIT
                while int(machine.qtest("inl 0xcfc"), 16) == value:
                    self.assertLess(time.monotonic(), end, "there was no reset")
                    machine.qtest(address)
            self.assertEqual(machine.quit(), (0, ""))

    def test_root_complex_registers(self):
        self.maps("lpc-rcrb-mmio", 0x1f << 3, 0xf0, WINDOW_START | 1)

    def test_configuration_space(self):
        self.maps("pcie-mmcfg-mmio", 0, 0x60, 0xf0000001)


class UEFIVars(WithRom):
    """A device of QEMU's, of 10.0 and later, with a page just below the window: over
    what used to be the window"""

    PAGE_OF_ITS_OWN = 0xfef10000

    def setUp(self):
        super().setUp()
        if b"uefi-vars-x64" not in subprocess.check_output(
                [QEMU[0], "-device", "help"]):
            self.skipTest("this QEMU has no uefi-vars-x64")

    def check(self, *devices):
        args = [word for device in devices for word in ("-device", device)]
        with open(self.rom, "rb") as file:
            content = file.read()
        with Machine(QEMU, "-M", "q35", *args) as machine:
            self.assertEqual(machine.get("gpu", "rom-address"), WINDOW_START)
            self.assertTrue(machine.read(WINDOW_START, len(content)) == content)
            tree = machine.qmp("human-monitor-command", **{
                "command-line": "info mtree"})["return"]
            self.assertIn(f"{self.PAGE_OF_ITS_OWN:016x}-", tree)
            machine.qmp("cont")
            self.assertTrue(machine.read(WINDOW_START, len(content)) == content)
            self.assertEqual(machine.quit()[0], 0)

    def test_after(self):
        self.check(self.device + ",id=gpu", "uefi-vars-x64")

    def test_before(self):
        self.check("uefi-vars-x64", self.device + ",id=gpu")


class RomBar(WithRom):
    def after_bios(self, device):
        """Two bytes of guest memory, after SeaBIOS has done all it can; the
        ROM BAR; and whether SeaBIOS got a ROM through fw_cfg"""
        log = os.path.join(self.folder.name, "log")
        with Machine(QEMU, "-M", "q35", "-device", device + ",id=gpu",
                     "-chardev", f"file,id=log,path={log}", "-device",
                     "isa-debugcon,iobase=0x402,chardev=log") as machine:
            self.assertEqual(machine.read(machine.get("gpu", "rom-address"), 2),
                             b"\x55\xaa")
            machine.qmp("cont")
            end = time.monotonic() + TIME_LIMIT
            while b"No bootable device" not in open(log, "rb").read():
                self.assertLess(time.monotonic(), end, "SeaBIOS does not end")
                time.sleep(0.1)
            mark = machine.read(MARK_AT, 2)
            machine.qtest("outl 0xcf8 0x80000830")
            machine.qtest("outl 0xcfc 0xfffffffe")
            bar = int(machine.qtest("inl 0xcfc"), 16)
            try:
                rom = machine.fw_cfg_file("genroms/vbios.rom")
            except KeyError:
                rom = None
        return mark, bar, rom

    def test_rombar(self):
        """As with vfio-pci: SeaBIOS executes it."""
        mark, bar, rom = self.after_bios(self.device)
        self.assertEqual((mark, rom), (MARK, None))
        self.assertNotEqual(bar, 0)

    def test_no_rombar(self):
        mark, bar, rom = self.after_bios(self.device + ",rombar=0")
        self.assertEqual((mark, bar, rom), (b"\0\0", 0, None))


if __name__ == "__main__":
    tap_main(__name__)
