#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios dump, with a card and an acpi_call that are made up."""

import contextlib
import os
import pathlib
import pty
import shutil
import signal
import struct
import subprocess
import threading
import time
import tty
import unittest

import vbios
from vbios_case import (NOBODY, Case, break_checksum, cut_by_linux, main,
                        memory_dump, patched)
from namespace import IS_ROOT, mounted


class Answers(threading.Thread):
    """acpi_call, in a terminal: one call, one answer."""

    def __init__(self, method):
        super().__init__(daemon=True)
        self.method = method
        self.calls = []
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)

    def run(self):
        while True:
            try:
                request = os.read(self.master, 4096).decode()
            except OSError:
                return
            name, *numbers = request.split()
            self.calls.append((name, *(int(n, 16) for n in numbers)))
            answer = self.method(*self.calls[-1])
            if answer is None:
                continue
            if isinstance(answer, bytes):
                answer = "{" + ", ".join(f"0x{b:02x}" for b in answer) + "}"
            os.write(self.master, answer.encode() + b"\0")


@unittest.skipIf(not os.path.isdir("/proc/acpi"), "no /proc/acpi here")
class Dump(Case):

    def setUp(self):
        super().setUp()
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.out = self.dir / "out.rom"
        sysfs = self.stack.enter_context(mounted("/sys", "-t", "tmpfs", "none"))
        self.stack.enter_context(mounted("/proc/acpi", "-t", "tmpfs", "none"))
        self.card = sysfs / "bus/pci/devices/0000:01:00.0"
        (self.card / "firmware_node").mkdir(parents=True)
        (self.card / "firmware_node/path").write_text(
            "\\_SB_.PCI0.PEG0.PEGP\n")
        self.set_card("10de:139b")

    def set_card(self, ids):
        for name, value in zip(("vendor", "device"), ids.split(":")):
            (self.card / name).write_text(f"0x{value}\n")

    def acpi(self, method):
        """acpi_call, in the place of the one before"""
        call = pathlib.Path("/proc/acpi/call")
        call.touch()
        answers = Answers(method)
        self.stack.enter_context(
            mounted(call, "--bind", os.ttyname(answers.slave)))
        answers.start()
        return answers

    def give(self, rom):
        """A _ROM that has no more than ROM, and fails for what is past its end"""
        def method(name, offset, length):
            if offset + length > len(rom):
                return "Error: AE_AML_BUFFER_LIMIT"
            return rom[offset:offset + length]
        return self.acpi(method)

    def nouveau(self, rom, bdf="0000:01:00.0", minor="1"):
        dri = pathlib.Path("/sys/kernel/debug/dri") / minor
        dri.mkdir(parents=True)
        (dri / "name").write_text(f"nouveau dev={bdf} unique={bdf}\n")
        (dri / "vbios.rom").write_bytes(rom)

    DUMP = ("dump", "--host", "01:00.0", "-o")

    def dump(self, *args, code=0):
        run = self.run_tool(*self.DUMP, self.out, *args)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        return run

    def dumps(self, rom, says=""):
        """It writes ROM, with SAYS among what is complained of."""
        run = self.dump("--force")
        self.assertEqual(self.out.read_bytes(), rom)
        self.assertIn(says, run.stderr)
        return run

    ROM = vbios.chain([{"size": 72192, "npde": True},
                       {"size": 8192, "kind": 0xe0}])

    def shape_aborts(self, offset, length):
        """Sections of 32 KiB, of which CreateField takes a part."""
        if offset // 0x8000 != (offset + length - 1) // 0x8000:
            return "Error: AE_AML_BUFFER_LIMIT"
        return self.ROM[offset:offset + length]

    def shape_zeros(self, offset, length):
        """The same with Mid."""
        if offset // 0x8000 != (offset + length - 1) // 0x8000:
            return bytes(length)
        return self.ROM[offset:offset + length]

    def shape_whole(self, offset, length):
        return self.ROM[offset:offset + length]

    def shape_window(self, offset, length):
        """Pages, whatever is asked for; acpi_call shows the first bytes."""
        return (self.ROM + bytes(4096))[offset:offset + 42]

    def shape_region(self, offset, length):
        """A region of eight times the length, below a field of 8 KiB."""
        if length << 3 < 0x2000:
            return "Error: AE_AML_REGION_LIMIT"
        return (self.ROM + bytes(4096))[offset:offset + min(length, 42)]

    def test_shapes(self):
        """Vendors' methods, on a kernel that turns short fields into numbers."""
        for shape, most_fail in (("aborts", 0), ("zeros", 0), ("whole", 0),
                                 ("window", 0), ("region", 1)):
            failed = []

            def method(name, offset, length):
                self.assertEqual(name, "\\_SB_.PCI0.PEG0.PEGP._ROM")
                if offset + 9 > len(self.ROM):
                    return "Error: AE_AML_BUFFER_LIMIT"
                if length <= 8:
                    return "0x1234"
                answer = getattr(self, "shape_" + shape)(offset, length)
                if isinstance(answer, str):
                    failed.append((offset, length))
                return answer

            with self.subTest(shape):
                answers = self.acpi(method)
                run = self.dumps(self.ROM)
                self.assertEqual(run.stderr, "")
                self.assertIn(f"has {len(self.ROM)} bytes from the card's ACPI "
                              "method _ROM", run.stdout)
                self.assertLessEqual(len(failed), most_fail)
                # 98 for each page, and a few for headers and ends
                self.assertLess(len(answers.calls),
                                98 * (len(self.ROM) / 4096 + 1))

    def test_not_overwritten(self):
        self.give(vbios.make(size=2048))
        self.dump()
        self.bad(*self.DUMP, self.out, says="add --force")
        self.dump("--force")

    def test_no_method(self):
        """What that means is said, for the generation of the card."""
        answers = self.acpi(lambda name, *what: "Error: AE_NOT_FOUND")
        for ids, says in (("10de:1c8d", "a card without _ROM often has a flash"),
                          ("10de:2520", "Turing on, as this one, nearly always")):
            self.set_card(ids)
            run = self.dump(code=1)
            self.assertIn("the firmware has no _ROM for it; ", run.stderr)
            self.assertIn(says, run.stderr)
        self.assertIn("needs no romfile", run.stderr)
        self.assertEqual(len(answers.calls), 2)

    def test_cut_by_linux(self):
        """Of sysfs, or the kernel's own idea of the end."""
        shutil.rmtree(self.card / "firmware_node")
        needed = {"P": struct.pack("<I", 8192)}
        (self.card / "rom").write_bytes(cut_by_linux(needed))
        run = self.dump(code=1)
        self.assertIn("not from the card's ROM BAR in sysfs: it was cut",
                      run.stderr)
        (self.card / "rom").write_bytes(cut_by_linux())
        self.dumps(cut_by_linux(), "warning: it was cut")

    def test_ends(self):
        """An image that ends with PCIR, which is not read past its end, and pages"""
        rom = bytearray(vbios.make(size=4096, revision=0))
        rom[-0x18:] = rom[0x40:0x58]
        struct.pack_into("<H", rom, 0x18, len(rom) - 0x18)
        self.give(bytes(rom))
        self.dumps(rom)
        # firmware that gives pages, whatever is asked for
        rom = vbios.make(size=10240)
        self.acpi(lambda name, offset, length:
                  (rom + bytes(42))[offset:offset + 42])
        self.dumps(rom)

    def test_warnings(self):
        for rom, ids, says in (
                (vbios.make(size=2048, device=1), "10de:139b", "it is for 10de:0001, and "
                 "the card is 10de:139b: NVIDIA's drivers refuse it, nouveau takes it"),
                (vbios.make(size=2048, device=0x2520), "10de:2520",
                 "a card of its generation has a flash of its own"),
                (break_checksum(vbios.make(size=2048)), "10de:139b",
                 "the checksum of the image at offset 0x0 is wrong")):
            self.give(rom)
            self.set_card(ids)
            self.dumps(rom, "warning: " + says)

    def test_acpi_fails(self):
        rom = vbios.make(size=2048)
        self.nouveau(rom + bytes(100))
        self.nouveau(vbios.make(seed=2), "0000:00:02.0", "0")
        for answer, says in (("Error: AE_NOT_FOUND", "has no _ROM for it"),
                             ("Error: AE_ERROR", "gave: Error: AE_ERROR"),
                             ("not called", "gave: not called")):
            with self.subTest(answer):
                self.acpi(lambda name, offset, length: answer)
                self.assertIn("2048 bytes from nouveau's copy",
                              self.dumps(rom, says).stdout)

    def test_holds_nothing(self):
        """Ways in which a _ROM that is there gives nothing."""
        for answer in ("0x0", "{}", "", b"\0", bytes(42), b"\xff" * 42, b"\0\0",
                       "[]", '"x"'):
            for ids, where in (("10de:139b", "optimus-vbios extract"),
                               ("10de:2520", "has a flash of its own as a rule")):
                self.set_card(ids)
                with self.subTest((answer, ids)):
                    answers = self.acpi(lambda name, *what: answer)
                    run = self.dump(code=1)
                    self.assertIn("_ROM is there, and holds no video BIOS: ",
                                  run.stderr)
                    self.assertIn(where, run.stderr.splitlines()[0])
                    self.assertNotIn("gave", run.stderr)
                    self.assertLessEqual(len(answers.calls), 2)

    def test_cut_by_firmware(self):
        """A chain of which _ROM has less than NPDE says."""
        rom = memory_dump()
        for rest in (b"", bytes(8192), b"\xff" * 8192, b"x" * 8192):
            with self.subTest(rest[:1]):
                self.give(rom + rest)
                self.dumps(rom, "warning: it was cut after the image")

    def test_lockdown(self):
        """Where acpi_call is to be installed, what stands in the way is said."""
        for name, text, locked in (
                ("kernel/security/lockdown", "none [integrity] confidentiality",
                 True),
                ("kernel/security/lockdown", "[none] integrity confidentiality",
                 False),
                ("module/module/parameters/sig_enforce", "Y", True),
                ("module/module/parameters/sig_enforce", "N", False)):
            path = pathlib.Path("/sys") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
            run = self.dump(code=1)
            self.assertIn("run modprobe acpi_call", run.stderr)
            self.assertEqual("Secure Boot" in run.stderr, locked, text)

    def test_acpi_endless(self):
        """A chain without an end is not followed for ever."""
        self.give(vbios.make(size=0x1fffe00, last=False))
        run = self.dump(code=1)
        self.assertIn("not from the card's ACPI method _ROM", run.stderr)
        self.assertFalse(self.out.exists())

    def test_interrupt(self):
        """While _ROM does not return; the answer comes after the signal."""
        rom = vbios.make(size=20480)
        tool = None

        def method(name, offset, length):
            if len(answers.calls) == 100:
                tool.send_signal(signal.SIGINT)
                time.sleep(0.2)
            return rom[offset:offset + length]

        answers = self.acpi(method)
        with subprocess.Popen([self.program, *self.DUMP, self.out]) as tool:
            self.assertEqual(tool.wait(60), -signal.SIGINT)
        self.assertEqual(len(answers.calls), 100)
        self.assertEqual(self.files(), [])

    def test_nouveau_without_acpi_call(self):
        rom = vbios.make(size=2048)
        self.nouveau(rom, minor="0000:01:00.0")
        self.dumps(rom, "acpi_call is not loaded: install the package "
                   "acpi-call-dkms and run modprobe acpi_call")

    def test_bar(self):
        """A ROM that is switched on already; the rest needs a kernel."""
        shutil.rmtree(self.card / "firmware_node")
        rom = vbios.make(size=2048)
        (self.card / "rom").write_bytes(rom + b"\xff" * 2048)
        run = self.dumps(rom, "the firmware has no ACPI node")
        self.assertIn("/sys/kernel/debug/dri cannot be read", run.stderr)
        self.assertIn("2048 bytes from the card's ROM BAR", run.stdout)

    def test_nothing(self):
        run = self.dump(code=1)
        self.assertEqual(len(run.stderr.splitlines()), 4, run.stderr)
        self.assertIn("the card has none", run.stderr)
        self.assertIn("optimus-vbios extract", run.stderr)
        self.assertFalse(self.out.exists())

    def test_disk_full(self):
        self.nouveau(vbios.make(size=51200))
        self.stack.enter_context(mounted(self.dir, "-t", "tmpfs", "-o",
                                         "size=32k", "none"))
        run = self.dump(code=1)
        self.assertIn("No space left on device", run.stderr)
        self.assertEqual(self.files(), [])

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_not_root(self):
        self.bad(*self.DUMP, self.out, user=NOBODY,
                 says="dump needs root: run it with sudo")

    def test_no_card(self):
        for host, says in (("02:00.0", "no card at 0000:02:00.0"),
                           ("02:00", "is not the address of a card")):
            self.bad("dump", "--host", host, "-o", self.out, says=says)

    def test_host(self):
        """What --host means for the other commands."""
        host = ("--host", "01:00.0")
        rom = vbios.make()
        facts = self.info(rom, "--host", "0000:01:00.0")
        self.assertEqual(facts["verdict"],
                         "usable as romfile for the card at 0000:01:00.0")
        self.assertIn("(fits)", self.good("extract", rom, "-o", self.dir / "out", *host))
        self.set_card("10de:1c8d")
        facts = self.info(rom, *host)
        self.assertEqual(facts["verdict"], "usable as romfile for the card at "
                         "01:00.0 with nouveau only: it is for 10de:139b, and "
                         "the card is 10de:1c8d: NVIDIA's drivers refuse it, "
                         "nouveau takes it")
        self.assertFalse(facts["nvidia"])
        facts = self.info(patched(rom, (0x48, b"\0\1"), (0x140, b"\x8d\x1c\0\0")), *host,
                          says="the card 10de:1c8d is only in its list of further devices")
        self.assertFalse(facts["nvidia"])
        # of a card that is not NVIDIA's, whosever the ROM is
        self.set_card("1002:1c8d")
        self.info(vbios.make(vendor=0x1002, device=0x1c8d), *host, code=1,
                  says="a device of AMD")


if __name__ == "__main__":
    main()
