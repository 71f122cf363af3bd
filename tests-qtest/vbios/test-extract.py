#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios extract: ROMs in updates and dumps of firmware."""

import functools
import lzma
import os
import pathlib
import pty
import random
import shutil
import signal
import struct
import subprocess
import time
import zlib

import vbios
from vbios_case import (IPXE, KERNEL, OVMF, SEABIOS, VERSION, Case, main, patched,
                  uefiextract)


def dell(*contents):
    """Sections of an update of Dell's."""
    return b"".join(
        bytes.fromhex("aaeeaa761becbb20f1e651") + bytes([n]) +
        zlib.compress(content) + bytes(16) for n, content in enumerate(contents))


def load_dump(image):
    """A flash dump of 16 MiB with IMAGE somewhere in it."""
    rest = random.Random(7)
    before = rest.randbytes(5 << 20) + b"\xff" * 12345
    return (before + image).ljust(12 << 20, b"\0") + rest.randbytes(4 << 20)


LZMA_GUID = bytes.fromhex("98584eee143959429d6edc7bd79403cf")


@functools.cache
def ovmf_with(image):
    """OVMF with IMAGE in a section of its own among those that are compressed
    together.  Sizes and checksums as in the UEFI PI specification, volume 3."""
    fd = bytearray((OVMF / "OVMF_CODE_4M.fd").read_bytes())
    section = fd.find(LZMA_GUID) - 4
    file = section - 24             # it is the first one in its file
    size = int.from_bytes(fd[section:section + 3], "little")
    start = section + struct.unpack_from("<H", fd, section + 20)[0]
    inner = lzma.decompress(bytes(fd[start:section + size]), lzma.FORMAT_ALONE)
    inner += bytes(-len(inner) % 4)
    inner += (len(image) + 4).to_bytes(3, "little") + b"\x19" + image
    packed = bytearray(subprocess.run(["xz", "-0", "--format=lzma", "--stdout"],
                                      input=inner, check=True,
                                      stdout=subprocess.PIPE).stdout)
    # xz does not say how long it is, and the firmware wants to know.
    packed[5:13] = struct.pack("<Q", len(inner))
    new = start - section + len(packed)
    end = section + max(new, size)
    assert fd[section + size:end].strip(b"\xff") == b""
    fd[start:end] = packed.ljust(end - start, b"\xff")
    fd[section:section + 3] = new.to_bytes(3, "little")
    fd[file + 20:file + 23] = (24 + new).to_bytes(3, "little")
    fd[file + 16] = 0
    fd[file + 16] = -(sum(fd[file:file + 23]) - fd[file + 17]) & 0xff
    return bytes(fd)


def capsule(body):
    guid = bytes.fromhex("bd86663b760d3040b70eb5519e2fc5a0")
    return guid + struct.pack("<3I", 0x50, 0, 0x50 + len(body)) + bytes(
        0x50 - 28) + body


class Extract(Case):

    def extract(self, data, *args, tool=True, code=0, err=""):
        """DATA are bytes, or the path of a file."""
        run = self.run_tool("extract", data, "-o", self.dir / "out", *args,
                            path=uefiextract(self.dir) if tool else "/nonexistent")
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        if err:
            self.assertIn(err, run.stderr)
        else:
            self.assertEqual(run.stderr, "")
        return run.stdout

    def found(self):
        return {name: (self.dir / "out" / name).read_bytes()
                for name in self.files("out")}

    def extracts(self, data, *roms, args=(), **how):
        """ROMS are what it finds.  Returns what it says."""
        said = self.extract(data, *args, **how)
        self.assertEqual(sorted(self.found().values()), sorted(roms))
        return said

    CARD = ("--device", "10de:139b")

    def test_raw(self):
        rom = vbios.make(tokens=VERSION)
        path = self.put("bios.bin", load_dump(rom))
        said = self.extracts(path, rom, args=self.CARD)
        name, = self.found()
        self.assertRegex(name,
                         r"^10de-139b-82\.07\.55\.00\.1a-[0-9a-f]{8}\.rom$")
        self.assertIn("0x00503039", said)
        self.assertIn("(fits)", said)
        self.assertTrue(said.endswith("fits 10de:139b\n"), said)
        # once more: the same file is no obstacle
        self.assertEqual(self.extract(path, *self.CARD), said)
        # not the card
        said = self.extract(path, "--device", "10de:139c", code=1,
                            err="has no option ROM for 10de:139c")
        self.assertNotIn("(fits)", said)

    def test_device_list(self):
        rom = patched(vbios.make(), (0x48, b"\0\1"),
                      (0x140, struct.pack("<3H", 0x1392, 0x1c8d, 0)))
        said = self.extract(rom, "--device", "10de:1c8d")
        self.assertIn("(fits)", said)
        self.assertIn("only in its list of further devices", said)
        # one that is made for the card is better
        said = self.extract(rom + vbios.make(device=0x1c8d), "--device", "10de:1c8d")
        self.assertIn("10de-1c8d", said.splitlines()[-1])
        self.assertTrue(said.endswith("fits 10de:1c8d\n"), said)

    def test_efi_only(self):
        """What has no x86 image does not fit, unless something else does."""
        efi, rom = vbios.make(kind=3, size=8192), vbios.make()
        said = self.extract(efi, *self.CARD, code=1, err="no image is of the type x86")
        self.assertIn("(not usable)", said)
        last = self.extract(efi + rom, *self.CARD).splitlines()[-1]
        self.assertRegex(last, "^'.*' fits 10de:139b$")
        self.assertEqual(pathlib.Path(last.split("'")[1]).read_bytes(), rom)

    def test_other_order(self):
        """The name is of the x86 image, and the column has room."""
        rom = vbios.chain([{"kind": 0xe0, "class_code": 0, "device": 0x2200},
                           {"kind": 3, "size": 4096}, {"tokens": VERSION}])
        six = vbios.chain([{"size": 1024}, {"kind": 3, "size": 4096},
                           *[{"kind": 0xe0, "size": 1024}] * 3,
                           {"kind": 0x70, "size": 1024}])
        for data, images in ((rom, "E0+EFI+x86"), (six, "x86+EFI+E0+E0+E0+70")):
            head, row = self.extract(data).splitlines()
            self.assertEqual(row[head.index("images"):head.index("file")].strip(), images)
        self.assertIn(rom, [data for name, data in self.found().items()
                            if name.startswith("10de-139b-82.07.55.00.1a-")])
        # which a part of NVIDIA's for the chip does not make fit
        self.extract(rom, "--device", "10de:2200", code=1,
                     err="has no option ROM for 10de:2200")

    def test_dell(self):
        """zlib streams, in each other, with UEFI firmware in them, and cut off."""
        # which deflate does not leave as they are
        plain, packed, inner, cut, fv = (
            patched(vbios.make(size=16384), (0x400, b"%d" % n * 15000))
            for n in range(5))
        said = self.extracts(
            b"MZ" + bytes(99) + plain + dell(
                packed, b"PFS.HDR." + dell(bytes(7), inner), ovmf_with(fv)) +
            dell(cut + random.Random(9).randbytes(9999))[:-1000],
            plain, packed, inner, fv, cut, args=self.CARD)
        self.assertEqual(said.count("(compressed)"), 4)
        # stray signatures, and an endless row of containers in each other
        head = dell(b"")[:12]
        self.extract(head + b"x" + head, code=1, err="no complete")
        nested = b"x"
        for _ in range(50):
            nested = dell(nested)
        self.extract(nested, code=1, err="no complete")

    def test_registry(self):
        rom = vbios.make(size=4096)
        digits = ",".join(f"{byte:02x}" for byte in rom)
        lines = ",\\\r\n  ".join(digits[at:at + 75] for at in
                                 range(0, len(digits), 75)).replace(",,", ",")
        text = (f'[HKEY_LOCAL_MACHINE\\SYSTEM]\r\n"x"=hex(2):00,\\\r\n  00\r\n'
                f'"Name"="=hex"\r\n"vbios"=hex:{lines}\r\n"y"=dword:55aa\r\n')
        new = "Windows Registry Editor Version 5.00\r\n\r\n" + text
        for content in (("\ufeff" + new).encode("utf-16-le"),
                        ("\ufeff" + new).encode(), b"REGEDIT4\n" + text.encode()):
            self.assertIn("(registry)", self.extracts(content, rom))
            shutil.rmtree(self.dir / "out")
        self.extract(new.replace(":55", ":54").encode(), code=1,
                     err="no complete option ROM")

    def test_own_flash(self):
        """Nobody is sent to look for what Turing's laptops do not have."""
        for data, device, says in (
                (b"x" * 5000, "1e00", "the card has a flash of its own"),
                (b"x" * 5000, "1dff", "unpack it"),
                (vbios.make(), "2520", "such a card has a flash of its own")):
            self.extract(data, "--device", "10de:" + device, code=1, err=says)

    def test_several(self):
        """Two of three are the same; one does not end; one is a stray 55 AA."""
        first, second = vbios.make(), vbios.make(size=8192, device=0x1111,
                                                 seed=2)
        cut = vbios.make(size=8192, last=False, seed=3)
        said = self.extracts(b"MZ" + bytes(999) + first + b"\x55\xaa" + cut +
                             bytes(77) + second + first + b"\x55", first, second)
        self.assertEqual(said.count(" x86 "), 2)
        self.assertIn("left out: 1 that is incomplete", said)

    def test_real(self):
        """Those of QEMU's devices, one after the other."""
        roms = [path.read_bytes() for path in (
            *sorted(IPXE.glob("*.rom")), SEABIOS / "vgabios-qxl.bin")]
        self.extracts(b"".join(b"\0" * 77 + rom for rom in roms), *set(roms))

    def test_compressed(self):
        rom = vbios.make()
        self.assertNotIn(rom[:0x40], ovmf_with(rom))
        said = self.extracts(ovmf_with(rom), rom, args=self.CARD)
        self.assertIn("(compressed)", said)
        self.assertIn("(fits)", said)

    def test_capsule(self):
        rom, raw = vbios.make(), vbios.make(seed=2)
        self.extracts(capsule(ovmf_with(rom) + raw), rom, raw)

    def test_raw_capsule(self):
        self.extracts(capsule(load_dump(vbios.make())), vbios.make())

    def test_without_uefiextract(self):
        run = self.bad("extract", ovmf_with(vbios.make()), "-o", self.dir / "out",
                       says="install UEFIExtract (Debian: uefitool-cli)",
                       path="/nonexistent")
        self.assertNotIn("no complete", run.stderr)
        self.assertEqual(self.found(), {})
        # what is there without it is found, and it is not asked for where it is of no use
        rom = vbios.make(seed=2)
        self.extracts(ovmf_with(vbios.make()) + rom, rom, tool=False,
                      err="install UEFIExtract")
        self.extracts(rom, rom, tool=False)
        self.extract(capsule(bytes(5000)), tool=False, code=1, err="install UEFIExtract")

    def test_broken_uefiextract(self):
        rom = vbios.make(seed=2)
        data = ovmf_with(vbios.make()) + rom
        for script, says in (("exit 3", "it ended with exit code 3"),
                             ("kill -SEGV $$", "it crashed with signal 11")):
            run = self.run_tool("extract", data, "-o", self.dir / "out",
                                path=uefiextract(self.dir, script))
            self.assertEqual(run.returncode, 0)
            self.assertIn(says, run.stderr)
            self.assertEqual(list(self.found().values()), [rom])

    def test_interrupt(self):
        path = self.put("bios.fd", (OVMF / "OVMF_CODE_4M.fd").read_bytes())
        ready = self.dir / "ready"
        bin_dir = uefiextract(self.dir, f": >{ready}; exec sleep 600")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # which may be ignored here, as by nohup
            with subprocess.Popen([self.program, "extract", path, "-o",
                                   self.dir / "out"],
                                  env=dict(os.environ, PATH=bin_dir),
                                  preexec_fn=lambda n=number: signal.signal(
                                      n, signal.SIG_DFL)) as tool:
                while not ready.exists():
                    self.assertIsNone(tool.poll())
                    time.sleep(0.01)
                ready.unlink()
                tool.send_signal(number)
                self.assertEqual(tool.wait(60), -number)
            self.assertEqual(self.files("out"), [])

    def test_progress(self):
        """On a terminal only, with the time; gone at the end."""
        path = self.put("bios.fd", (OVMF / "OVMF_CODE_4M.fd").read_bytes())
        bin_dir = uefiextract(self.dir, "exec sleep 2")
        master, slave = pty.openpty()
        with subprocess.Popen([self.program, "extract", path, "-o",
                               self.dir / "out"], stderr=slave,
                              env=dict(os.environ, PATH=bin_dir)) as tool:
            tool.wait(60)
        said = os.read(master, 65536).decode()
        os.close(master)
        os.close(slave)
        self.assertIn("\runpacking with UEFIExtract: 1 s\x1b[K", said)
        self.assertRegex(said, "\r\x1b\\[Koptimus-vbios: .*\r\n$")
        run = self.run_tool("extract", path, "-o", self.dir / "out",
                            path=bin_dir)
        self.assertNotIn("unpacking", run.stderr)

    def test_none(self):
        """OVMF drives all devices by itself: its maintainers put no option ROMs in, and
        UEFIExtract's report has none.  SeaBIOS has the vgabios in files of its own."""
        kernel, = KERNEL.glob("vmlinuz-*")
        chance = self.dir / "random"
        with open(chance, "wb") as out:
            for seed in range(4):
                out.write(random.Random(seed).randbytes(16 << 20))
        for path in (OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_CODE.fd",
                     OVMF / "OVMF_VARS_4M.fd", SEABIOS / "bios-256k.bin", kernel, chance):
            with self.subTest(path):
                self.extracts(path, code=1, err="has no complete option ROM in it")

    def test_nothing_but_headers(self):
        """Images without an end would take hours if each were followed to the
        end of the file; and 55 AA everywhere is no problem either."""
        image = bytearray(vbios.make(size=1024, last=False)[:512])
        image[0x50] = 1
        start = time.monotonic()
        for data in (bytes(image) * 200000, b"\x55\xaa" * (8 << 20)):
            self.extract(data, code=1, err="no complete")
        self.assertLess(time.monotonic() - start, 60)


if __name__ == "__main__":
    main()
