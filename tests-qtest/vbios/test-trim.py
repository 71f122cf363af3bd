#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios trim, and what every command refuses to read or to write."""

import os
import pathlib
import resource
import subprocess
import time
import unittest

import vbios
from vbios_case import (NOBODY, OVMF, Case, break_checksum, cut_by_linux, main,
                  memory_dump, patched, uefiextract)
from namespace import IS_ROOT, mounted


class Trim(Case):

    def test_flash_dump(self):
        parts = [{"npde": True, "size": 8192}, {"kind": 3, "size": 4096}]
        out = self.dir / "out.rom"
        said = self.good("trim", self.put("v.rom", vbios.chain(
            parts, nvgi=True, padding=777)), out)
        self.assertEqual(out.read_bytes(), vbios.chain(parts))
        self.assertIn("cut off were 8192 before and 777 after", said)
        self.assertIn("checksum of the image at offset 0x0 is right, and kept",
                      said)
        self.info(out)
        self.assertEqual(self.files(), ["out.rom", "v.rom"])

    def test_odd_offset(self):
        """NPDE is found wherever the ROM is."""
        rom = vbios.chain([{"npde": True, "size": 8192}, {"kind": 0xe0}])
        out = self.dir / "out.rom"
        self.good("trim", self.put("v.rom", b"123" + rom + b"4"), out)
        self.assertEqual(out.read_bytes(), rom)

    def test_wrong_checksum(self):
        rom = break_checksum(vbios.make(size=51200))
        path = self.put("v.rom", rom)
        said = self.good("trim", path, self.dir / "kept.rom")
        self.assertIn("is wrong, and kept", said)
        self.assertEqual((self.dir / "kept.rom").read_bytes(), rom)

        said = self.good("trim", path, self.dir / "mended.rom",
                         "--fix-checksum")
        self.assertIn("was wrong, and is right now", said)
        mended = (self.dir / "mended.rom").read_bytes()
        self.assertEqual(sum(mended) % 256, 0)
        self.assertEqual(mended[:-1], rom[:-1])

    def test_checksums_of_all(self):
        """Where PCIR counts all images and NPDE each of them: a tool that made
        the whole right has left both wrong."""
        parts = [{"size": 4096, "npde": True, "pcir_units": 16},
                 {"size": 4096, "kind": 0xe0, "npde": True}]
        rom = vbios.chain(parts)
        path = self.put("v.rom", patched(
            rom, (0x200, bytes([rom[0x200] + 1 & 0xff])),
            (0x1200, bytes([rom[0x1200] - 1 & 0xff])), fix=False))
        self.assertEqual(sum(path.read_bytes()) % 256, 0)
        said = self.good("trim", path, self.dir / "out.rom", "--fix-checksum")
        self.assertEqual(said.count("is right now"), 2)
        mended = (self.dir / "out.rom").read_bytes()
        self.assertEqual(sum(mended[:4096]) % 256, 0)
        self.assertEqual(sum(mended) % 256, 0)
        self.assertEqual(self.info(self.dir / "out.rom")["verdict"],
                         "usable as romfile")

    def test_all(self):
        first = vbios.make(size=8192, npde=True)
        whole = first + bytes(512) + vbios.make(size=4096, kind=3)
        path = self.put("v.rom", b"abc" + whole + b"\xff" * 99)
        out = self.dir / "out.rom"
        self.assertIn("cut off were other images at offset 0x2203: --all would "
                      "keep them", self.good("trim", path, out))
        self.assertEqual(out.read_bytes(), first)
        self.good("trim", path, out, "--force", "--all")
        self.assertEqual(out.read_bytes(), whole)

    def test_same_again(self):
        """What Turing's flash chips hold: the same chain twice, with a gap."""
        rom = vbios.make(size=0x70000)
        path = self.put("v.rom", rom + bytes(0x70000) + rom)
        out = self.dir / "out.rom"
        for args in ((), ("--all", "--force")):
            said = self.good("trim", path, out, *args)
            self.assertIn("cut off was the chain at offset 0xe0000: it is the "
                          "same again", said)
            self.assertNotIn("would keep", said)
            self.assertEqual(out.read_bytes(), rom)

    def test_all_too_large(self):
        first = vbios.make(size=8192)
        path = self.put("v.rom", first + bytes(0xe0000) +
                        vbios.make(size=4096, kind=3))
        out = self.dir / "out.rom"
        self.assertNotIn("--all", self.good("trim", path, out))
        run = self.run_tool("trim", path, out, "--all", "--force")
        self.assertEqual(run.returncode, 0)
        self.assertIn("warning: '" + str(out) + "' has 929792 bytes, and the "
                      "device has room for 876544: it fits without --all",
                      run.stderr)

    def test_fill(self):
        """Of a dump of memory the whole images are kept."""
        rom = memory_dump()
        out = self.dir / "out.rom"
        for fill in (b"\xff" * 4096, bytes(1), bytes(0x10000)):
            self.good("trim", self.put("v.rom", rom + fill), out, "--force")
            self.assertEqual(out.read_bytes(), rom)

    def test_fix_in_gap(self):
        """The file that is read stays as it is."""
        rom = break_checksum(vbios.make(size=8192))
        path = self.put("v.rom", b"x" + rom)
        self.good("trim", path, self.dir / "out.rom", "--fix-checksum")
        self.assertEqual(path.read_bytes(), b"x" + rom)

    def test_cut_by_linux(self):
        rom = cut_by_linux()
        self.good("trim", self.put("v.rom", b"x" + rom), self.dir / "out.rom")
        self.assertEqual((self.dir / "out.rom").read_bytes(), rom)

    def test_right_checksum_with_fix(self):
        rom = vbios.make(size=51200)
        self.good("trim", self.put("v.rom", rom), self.dir / "out.rom",
                  "--fix-checksum")
        self.assertEqual((self.dir / "out.rom").read_bytes(), rom)

    def test_force(self):
        path = self.put("v.rom", vbios.make(size=4096) + b"x")
        out = self.put("out.rom", b"precious")
        self.bad("trim", path, out, says="add --force")
        self.assertEqual(out.read_bytes(), b"precious")
        self.good("trim", path, out, "--force")
        self.assertEqual(out.read_bytes(), vbios.make(size=4096))
        self.bad("trim", path, path, says="exists")
        self.good("trim", path, path, "--force")
        self.assertEqual(path.read_bytes(), vbios.make(size=4096))
        self.assertEqual(self.files(), ["out.rom", "v.rom"])

    def test_permissions(self):
        out = self.dir / "out.rom"
        old = os.umask(0o027)
        self.addCleanup(os.umask, old)
        self.good("trim", self.put("v.rom", vbios.make()), out)
        self.assertEqual(out.stat().st_mode & 0o777, 0o640)

    def test_no_chain(self):
        self.bad("trim", self.put("v.rom", bytes(5000)), self.dir / "out.rom",
                 says="none starts further in")
        self.bad("trim", self.put("v.rom", b"x" + vbios.make()[:-1000]),
                 self.dir / "out.rom", says="cut off; get it again")
        self.assertEqual(self.files(), ["v.rom"])

    def test_truncated(self):
        self.bad("trim", self.put("v.rom", vbios.make(size=51200)[:-1]),
                 self.dir / "out.rom", says="is a broken ROM")
        self.assertEqual(self.files(), ["v.rom"])


class Refusals(Case):
    """What every command refuses to read or to write."""

    def commands(self, path):
        yield "info", path
        yield "trim", path, self.dir / "out.rom"
        yield "extract", path, "-o", self.dir / "out"

    def each(self, path, **how):
        for args in self.commands(path):
            with self.subTest(args[0]):
                before = self.files()
                self.bad(*args, **how)
                self.assertEqual(self.files(), before)

    def test_missing(self):
        self.each(self.dir / "none", says="none' cannot be read: No such file")

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_unreadable(self):
        path = self.put("v.rom", vbios.make())
        path.chmod(0)
        self.each(path, says="v.rom' cannot be read: Permission denied",
                  user=NOBODY)

    def test_empty(self):
        self.each(self.put("v.rom", b""), says="v.rom' is empty")

    def test_directory(self):
        self.each(self.dir, says="is a directory, not a file")

    def test_fifo(self):
        os.mkfifo(self.dir / "fifo")
        self.each(self.dir / "fifo", says="fifo' is a FIFO, not a file")

    def test_huge(self):
        path = self.dir / "huge"
        for start in (b"REGEDIT4\n", vbios.make(size=8192)):
            path.write_bytes(start)
            os.truncate(path, 100 << 30)
            self.each(path, says="huge' has 107374182400 bytes, and no file "
                      "with a video BIOS in it has more than 4294967296")

    def test_device(self):
        self.each("/dev/zero", says="'/dev/zero' is a device, not a file")

    def outputs(self, out, **how):
        """Commands that would write into OUT, a directory, or over it."""
        path = self.put("v.rom", vbios.make())
        for args in (("trim", path, out), ("trim", path, out, "--force")):
            with self.subTest(args):
                self.bad(*args, **how)

    def test_output(self):
        os.mkfifo(self.dir / "fifo")
        self.outputs(self.dir, says="is a directory, not a file: name a file")
        self.outputs(self.dir / "fifo", says="is a FIFO")
        self.outputs("/dev/null", says="is a device")
        self.outputs(self.dir / "no/out.rom", says="there is no directory")
        self.assertTrue(pathlib.Path("/dev/null").is_char_device())

    def test_extract_into_file(self):
        path = self.put("v.rom", vbios.make())
        self.bad("extract", path, "-o", path, says="cannot be made a directory")

    def test_disk_full(self):
        rom = vbios.make(size=51200)
        path = self.put("v.rom", rom)
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
        self.bad("trim", self.put("v.rom", vbios.make()), self.dir / "out.rom",
                 says="File too large", preexec_fn=limit)
        self.assertEqual(self.files(), ["v.rom"])

    def test_stdout_full(self):
        path = self.put("v.rom", vbios.make())
        with open("/dev/full", "w") as full:
            self.bad("info", path, says="cannot write to the standard output",
                     stdout=full)

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_read_only(self):
        path = self.put("v.rom", vbios.make())
        self.bad("trim", path, self.dir / "out.rom", user=NOBODY,
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
        for command in ("info", "trim", "extract", "dump", "ssdt"):
            run = self.run_tool(command, "--frob")
            self.assertEqual(run.returncode, 1)
            self.assertEqual(run.stderr, f"optimus-vbios: {command}: Unknown "
                             "option --frob; see --help\n")

    def test_bdf(self):
        for bdf in ("01:00", "x", "01:20.0", "01:00.8", "001:00.0",
                    "0000:01:00.00", ""):
            run = self.run_tool("info", "a", "--host", bdf)
            self.assertEqual(run.returncode, 1, bdf)
            self.assertIn("is not the address of a card", run.stderr)

    def test_help(self):
        text = self.good("--help")
        for command in ("info", "trim", "extract", "dump", "ssdt"):
            self.assertIn(f"optimus-vbios {command} ", text)
            for option in ("--help", "-h"):
                self.assertIn(f"optimus-vbios {command} [OPTION",
                              self.good(command, option))
        self.assertEqual(self.good("-h"), text)


if __name__ == "__main__":
    main()
