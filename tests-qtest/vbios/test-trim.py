#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios trim, and what every command refuses to read or to write."""

import os
import pathlib
import re
import resource
import subprocess
import time
import unittest

import vbios
from vbios_case import (NOBODY, OVMF, TOP, Case, break_checksum, cut_by_linux, main,
                  memory_dump, patched, uefiextract)
from namespace import IS_ROOT, mounted

COMMANDS = ("info", "trim", "extract", "dump", "ssdt")


class Trim(Case):

    def setUp(self):
        super().setUp()
        self.out = self.dir / "out.rom"

    def trims(self, data, to, *args):
        """Of DATA it makes TO.  Returns what it says."""
        said = self.good("trim", data, self.out, *args)
        self.assertEqual(self.out.read_bytes(), to)
        self.assertEqual(self.files(), ["out.rom", "v.rom"])
        # the file that is read stays as it is
        self.assertEqual((self.dir / "v.rom").read_bytes(), data)
        self.out.unlink()
        return said

    def test_flash_dump(self):
        parts = [{"npde": True, "size": 8192}, {"kind": 3, "size": 4096}]
        rom = vbios.chain(parts)
        said = self.trims(vbios.chain(parts, nvgi=True, padding=777), rom)
        self.assertIn("cut off were 8192 before and 777 after", said)
        self.assertIn("checksum of the image at offset 0x0 is right, and kept",
                      said)
        self.info(rom)

    def test_kept(self):
        """NPDE is found wherever the ROM is, what Linux has cut is enough, and a right
        checksum is not mended."""
        odd = vbios.chain([{"npde": True, "size": 8192}, {"kind": 0xe0}])
        self.trims(b"123" + odd + b"4", odd)
        self.trims(b"x" + cut_by_linux(), cut_by_linux())
        rom = vbios.make(size=51200)
        self.trims(rom, rom, "--fix-checksum")

    def test_wrong_checksum(self):
        right = vbios.make(size=51200)
        rom = break_checksum(right)
        for before in (b"", b"x"):
            self.assertIn("is wrong, and kept", self.trims(before + rom, rom))
            self.assertIn("was wrong, and is right now",
                          self.trims(before + rom, right, "--fix-checksum"))

    def test_checksums_of_all(self):
        """Where PCIR counts all images and NPDE each of them: a tool that made
        the whole right has left both wrong."""
        parts = [{"size": 4096, "npde": True, "pcir_units": 16},
                 {"size": 4096, "kind": 0xe0, "npde": True}]
        rom = vbios.chain(parts)
        wrong = patched(rom, (0x200, bytes([rom[0x200] + 1 & 0xff])),
                        (0x1200, bytes([rom[0x1200] - 1 & 0xff])), fix=False)
        self.assertEqual(sum(wrong) % 256, 0)
        said = self.good("trim", wrong, self.out, "--fix-checksum")
        self.assertEqual(said.count("is right now"), 2)
        mended = self.out.read_bytes()
        self.assertEqual(sum(mended[:4096]) % 256, 0)
        self.assertEqual(sum(mended) % 256, 0)
        self.assertEqual(self.info(mended)["verdict"], "usable as romfile")

    def test_all(self):
        first = vbios.make(size=8192, npde=True)
        whole = first + bytes(512) + vbios.make(size=4096, kind=3)
        data = b"abc" + whole + b"\xff" * 99
        self.assertIn("cut off were other images at offset 0x2203: --all would "
                      "keep them", self.trims(data, first))
        self.trims(data, whole, "--all")

    def test_same_again(self):
        """What Turing's flash chips hold: the same chain twice, with a gap."""
        rom = vbios.make(size=0x70000)
        for args in ((), ("--all",)):
            said = self.trims(rom + bytes(0x70000) + rom, rom, *args)
            self.assertIn("cut off was the chain at offset 0xe0000: it is the "
                          "same again", said)
            self.assertNotIn("would keep", said)

    def test_all_too_large(self):
        first = vbios.make(size=8192)
        data = first + bytes(0xe0000) + vbios.make(size=4096, kind=3)
        self.assertNotIn("--all", self.trims(data, first))
        run = self.run_tool("trim", data, self.out, "--all")
        self.assertEqual(run.returncode, 0)
        self.assertIn(f"warning: '{self.out}' has 929792 bytes, and the "
                      "device has room for 876544: it fits without --all",
                      run.stderr)

    def test_fill(self):
        """Of a dump of memory the whole images are kept."""
        for fill in (b"\xff" * 4096, bytes(1), bytes(0x10000)):
            self.trims(memory_dump() + fill, memory_dump())

    def test_force(self):
        path = self.put("v.rom", vbios.make(size=4096) + b"x")
        out = self.put("out.rom", b"precious")
        self.bad("trim", path, out, says="add --force")
        self.assertEqual(out.read_bytes(), b"precious")
        self.bad("trim", path, path, says="exists")
        for out in (out, path):
            self.good("trim", path, out, "--force")
            self.assertEqual(out.read_bytes(), vbios.make(size=4096))
        self.assertEqual(self.files(), ["out.rom", "v.rom"])

    def test_permissions(self):
        old = os.umask(0o027)
        self.addCleanup(os.umask, old)
        self.good("trim", vbios.make(), self.out)
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o640)

    def test_no_chain(self):
        for data, says in ((bytes(5000), "none starts further in"),
                           (b"x" + vbios.make()[:-1000], "cut off; get it again"),
                           (vbios.make(size=51200)[:-1], "is a broken ROM")):
            self.bad("trim", data, self.out, says=says)
            self.assertEqual(self.files(), ["v.rom"])


class Refusals(Case):
    """What every command refuses to read or to write."""

    def each(self, path, **how):
        for args in (("info", path), ("trim", path, self.dir / "out.rom"),
                     ("extract", path, "-o", self.dir / "out")):
            with self.subTest(args):
                before = self.files()
                self.bad(*args, **how)
                self.assertEqual(self.files(), before)

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_unreadable(self):
        path = self.put("v.rom", vbios.make())
        path.chmod(0)
        self.each(path, says="v.rom' cannot be read: Permission denied",
                  user=NOBODY)

    def test_input(self):
        os.mkfifo(self.dir / "fifo")
        for path, says in ((self.dir / "none", "none' cannot be read: No such file"),
                           (self.put("v.rom", b""), "v.rom' is empty"),
                           (self.dir, "is a directory, not a file"),
                           (self.dir / "fifo", "fifo' is a FIFO, not a file"),
                           ("/dev/zero", "'/dev/zero' is a device, not a file")):
            self.each(path, says=says)

    def test_huge(self):
        path = self.dir / "huge"
        for start in (b"REGEDIT4\n", vbios.make(size=8192)):
            path.write_bytes(start)
            os.truncate(path, 100 << 30)
            self.each(path, says="huge' has 107374182400 bytes, and no file "
                      "with a video BIOS in it has more than 4294967296")

    def test_output(self):
        """What is in the place of the file, or of its directory"""
        os.mkfifo(self.dir / "fifo")
        for out, says in ((self.dir, "is a directory, not a file: name a file"),
                          (self.dir / "fifo", "is a FIFO"), ("/dev/null", "is a device"),
                          (self.dir / "no/out.rom", "there is no directory")):
            for args in ((), ("--force",)):
                with self.subTest((out, args)):
                    self.bad("trim", vbios.make(), out, *args, says=says)
        self.assertTrue(pathlib.Path("/dev/null").is_char_device())
        self.bad("extract", vbios.make(), "-o", self.dir / "v.rom",
                 says="cannot be made a directory")

    def test_disk_full(self):
        path = self.put("v.rom", vbios.make(size=51200))
        small = self.dir / "small"
        small.mkdir()
        with mounted(small, "-t", "tmpfs", "-o", "size=32k", "none"):
            self.bad("trim", path, small / "out.rom",
                     says="out.rom' cannot be written: No space left on device")
            (small / "old.rom").write_bytes(b"precious")
            self.bad("trim", path, small / "old.rom", "--force",
                     says="old.rom' cannot be written: No space left on device")
            self.assertEqual((small / "old.rom").read_bytes(), b"precious")
            self.bad("extract", path, "-o", small,
                     says="No space left on device")
            self.assertEqual(self.files("small"), ["old.rom"])

    def test_disk_full_while_unpacking(self):
        path = self.put("bios.fd", (OVMF / "OVMF_CODE_4M.fd").read_bytes())
        small = self.dir / "small"
        small.mkdir()
        with mounted(small, "-t", "tmpfs", "-o", "size=1m", "none"):
            run = self.run_tool("extract", path, "-o", small,
                                path=uefiextract(self.dir))
            self.assertEqual(run.returncode, 1)
            self.assertIn("No space left on device", run.stderr)
            self.assertEqual(self.files("small"), [])

    def test_file_size_limit(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
        self.bad("trim", vbios.make(), self.dir / "out.rom",
                 says="File too large", preexec_fn=limit)
        self.assertEqual(self.files(), ["v.rom"])

    def test_stdout_full(self):
        with open("/dev/full", "w") as full:
            self.bad("info", vbios.make(), stdout=full,
                     says="cannot write to the standard output")

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_read_only(self):
        self.bad("trim", vbios.make(), self.dir / "out.rom", user=NOBODY,
                 says="out.rom' cannot be written: Permission denied")

    def test_shrinking(self):
        """It gets shorter while it is searched."""
        path = self.dir / "dump"
        with open(path, "wb") as out:
            out.truncate(4 << 30)
        with subprocess.Popen([self.program, "extract", path, "-o",
                               self.dir / "out"], stderr=subprocess.PIPE,
                              text=True) as tool:
            maps = pathlib.Path(f"/proc/{tool.pid}/maps")
            while str(path) not in maps.read_text():
                self.assertIsNone(tool.poll())
                time.sleep(0.001)
            os.truncate(path, 4096)
            self.assertEqual(tool.wait(60), 1)
            self.assertIn("got shorter", tool.stderr.read())

    def test_usage(self):
        for args, says in (
                ([], "what to do"), (["frob"], "unknown command 'frob'"),
                (["info"], "info takes: FILE"),
                (["info", "a", "b"], "info takes: FILE"),
                (["trim", "a"], "trim takes: IN OUT"),
                (["extract", "a"], "-o DIR"),
                (["extract", "a", "-o", "b", "--device", "10de"],
                 "'10de' is not VENDOR:DEVICE"),
                (["extract", "a", "-o", "b", "--device", "10de:139g"],
                 "is not VENDOR:DEVICE"),
                (["extract", "a", "-o", "b", "--device", "10de:139b",
                  "--host", "01:00.0"], "use one"),
                (["dump", "-o", "a"], "--host BDF"),
                (["dump", "--host", "01:00.0"], "-o FILE"),
                (["ssdt", "a", "--at", "01.0"], "-o DIR"),
                (["ssdt", "a", "-o", "b"], "either --at PLACE or --for FILE"),
                (["ssdt", "a", "-o", "b", "--at", "01.0", "--for", "c"],
                 "either --at PLACE or --for FILE"),
                (["ssdt", "a", "-o", "b", "--at", "01"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "20.0"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "1c.8"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "1c.0/"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "01:00.0"], "no place")):
            with self.subTest(args):
                self.bad(*args, says=says)
        for command in COMMANDS:
            self.bad(command, "--frob", says=f"{command}: Unknown option --frob; see "
                     "--help")
        for bdf in ("01:00", "x", "01:20.0", "01:00.8", "001:00.0",
                    "0000:01:00.00", ""):
            self.bad("info", "a", "--host", bdf, says="is not the address of a card")

    def test_help(self):
        text = self.good("--help")
        for command in COMMANDS:
            self.assertIn(f"optimus-vbios {command} ", text)
            for option in ("--help", "-h"):
                self.assertIn(f"optimus-vbios {command} [OPTION",
                              self.good(command, option))
        self.assertEqual(self.good("-h"), text)

    def test_man_page(self):
        page = (TOP / "hw-optimus/vbios/optimus-vbios.1").read_text()
        text = "".join(self.good(command, "--help") for command in COMMANDS)
        for option in set(re.findall(r"--[a-z-]+", text)):
            self.assertIn(option, page.replace("\\-", "-"))


if __name__ == "__main__":
    main()
