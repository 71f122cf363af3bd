#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios extract: ROMs in updates and dumps of firmware."""

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
    packed = bytearray(subprocess.run(["xz", "--format=lzma", "--stdout"],
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

    def extract(self, path, *args, tool=True, code=0, err=""):
        how = {"path": uefiextract(self.dir) if tool else "/nonexistent"}
        run = self.run_tool("extract", path, "-o", self.dir / "out", *args,
                            **how)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        if err:
            self.assertIn(err, run.stderr)
        else:
            self.assertEqual(run.stderr, "")
        return run.stdout

    def found(self):
        return {name: (self.dir / "out" / name).read_bytes()
                for name in self.files("out")}

    def test_raw(self):
        rom = vbios.make(tokens=VERSION)
        path = self.put("bios.bin", load_dump(rom))
        said = self.extract(path, "--device", "10de:139b")
        (name, data), = self.found().items()
        self.assertRegex(name,
                         r"^10de-139b-82\.07\.55\.00\.1a-[0-9a-f]{8}\.rom$")
        self.assertEqual(data, rom)
        self.assertIn("0x00503039", said)
        self.assertIn("(fits)", said)
        self.assertTrue(said.endswith("fits 10de:139b\n"), said)
        # once more: the same file is no obstacle
        self.assertEqual(self.extract(path, "--device", "10de:139b"), said)
        # not the card
        said = self.extract(path, "--device", "10de:139c", code=1,
                            err="has no option ROM for 10de:139c")
        self.assertNotIn("(fits)", said)

    def test_device_list(self):
        rom = bytearray(vbios.make())
        struct.pack_into("<H", rom, 0x48, 0x100)
        struct.pack_into("<3H", rom, 0x140, 0x1392, 0x1c8d, 0)
        path = self.put("bios.bin", bytes(rom))
        said = self.extract(path, "--device", "10de:1c8d")
        self.assertIn("(fits)", said)
        self.assertIn("only in its list of further devices", said)
        # one that is made for the card is better
        other = vbios.make(device=0x1c8d)
        said = self.extract(self.put("bios.bin", bytes(rom) + other), "--device",
                            "10de:1c8d")
        self.assertIn("10de-1c8d", said.splitlines()[-1])
        self.assertTrue(said.endswith("fits 10de:1c8d\n"), said)

    def test_efi_only(self):
        """What has no x86 image does not fit, unless something else does."""
        efi = vbios.make(kind=3, size=8192)
        path = self.put("bios.bin", efi)
        said = self.extract(path, "--device", "10de:139b", code=1,
                            err="no image is of the type x86")
        self.assertIn("(not usable)", said)
        rom = vbios.make()
        said = self.extract(self.put("bios.bin", efi + rom), "--device",
                            "10de:139b")
        self.assertRegex(said.splitlines()[-1], "^'.*' fits 10de:139b$")
        self.assertEqual(pathlib.Path(said.splitlines()[-1].split("'")[1])
                         .read_bytes(), rom)

    def test_other_order(self):
        """The name is of the x86 image, and the column has room."""
        rom = vbios.chain([{"kind": 0xe0, "class_code": 0, "device": 0x2200},
                           {"kind": 3, "size": 4096}, {"tokens": VERSION}])
        said = self.extract(self.put("bios.bin", rom))
        (name, data), = self.found().items()
        self.assertTrue(name.startswith("10de-139b-82.07.55.00.1a-"), name)
        self.assertEqual(data, rom)
        head, row = said.splitlines()
        self.assertEqual(row[head.index("images"):head.index("file")].strip(),
                         "E0+EFI+x86")
        six = vbios.chain([{"size": 1024}, {"kind": 3, "size": 4096},
                           *[{"kind": 0xe0, "size": 1024}] * 3,
                           {"kind": 0x70, "size": 1024}])
        head, row = self.extract(self.put("bios.bin", six)).splitlines()
        self.assertEqual(row[head.index("images"):head.index("file")].strip(),
                         "x86+EFI+E0+E0+E0+70")
        # which a part of NVIDIA's for the chip does not make fit
        self.extract(self.put("bios.bin", rom), "--device", "10de:2200", code=1,
                     err="has no option ROM for 10de:2200")

    def test_dell(self):
        """zlib streams, in each other, with UEFI firmware in them, and cut off."""
        # which deflate does not leave as they are
        plain, packed, inner, cut, fv = (
            patched(vbios.make(size=16384), (0x400, b"%d" % n * 15000))
            for n in range(5))
        path = self.put("update.exe", b"MZ" + bytes(99) + plain + dell(
            packed, b"PFS.HDR." + dell(bytes(7), inner), ovmf_with(fv)) +
            dell(cut + random.Random(9).randbytes(9999))[:-1000])
        said = self.extract(path, "--device", "10de:139b")
        self.assertEqual(sorted(self.found().values()),
                         sorted([plain, packed, inner, fv, cut]))
        self.assertEqual(said.count("(compressed)"), 4)
        # stray signatures, and an endless row of containers in each other
        head = dell(b"")[:12]
        self.extract(self.put("a", head + b"x" + head), code=1,
                     err="no complete")
        nested = b"x"
        for _ in range(50):
            nested = dell(nested)
        self.extract(self.put("b", nested), code=1, err="no complete")

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
            said = self.extract(self.put("v.reg", content))
            self.assertEqual(list(self.found().values()), [rom])
            self.assertIn("(registry)", said)
            shutil.rmtree(self.dir / "out")
        self.extract(self.put("v.reg", new.replace(":55", ":54").encode()),
                     code=1, err="no complete option ROM")

    def test_own_flash(self):
        """Nobody is sent to look for what Turing's laptops do not have."""
        path = self.put("bios.bin", b"x" * 5000)
        self.extract(path, "--device", "10de:1e00", code=1,
                     err="the card has a flash of its own")
        self.extract(path, "--device", "10de:1dff", code=1, err="unpack it")
        path = self.put("bios.bin", vbios.make())
        self.extract(path, "--device", "10de:2520", code=1,
                     err="such a card has a flash of its own")

    def test_several(self):
        """Two of three are the same; one does not end; one is a stray 55 AA."""
        first, second = vbios.make(), vbios.make(size=8192, device=0x1111,
                                                 seed=2)
        cut = vbios.make(size=8192, last=False, seed=3)
        path = self.put("update.exe", b"MZ" + bytes(999) + first + b"\x55\xaa" +
                        cut + bytes(77) + second + first + b"\x55")
        said = self.extract(path)
        self.assertEqual(sorted(self.found().values()), sorted([first, second]))
        self.assertEqual(said.count(" x86 "), 2)
        self.assertIn("left out: 1 that is incomplete", said)

    def test_real(self):
        """Those of QEMU's devices, one after the other."""
        roms = [path.read_bytes() for path in (
            *sorted(IPXE.glob("*.rom")), SEABIOS / "vgabios-qxl.bin")]
        path = self.put("bios.bin", b"".join(b"\0" * 77 + rom for rom in roms))
        self.extract(path)
        self.assertEqual(set(self.found().values()), set(roms))

    def test_compressed(self):
        rom = vbios.make()
        firmware = ovmf_with(rom)
        self.assertNotIn(rom[:0x40], firmware)
        path = self.put("bios.fd", firmware)
        said = self.extract(path, "--device", "10de:139b")
        self.assertEqual(list(self.found().values()), [rom])
        self.assertIn("(compressed)", said)
        self.assertIn("(fits)", said)

    def test_capsule(self):
        rom = vbios.make()
        raw = vbios.make(seed=2)
        path = self.put("bios.cap", capsule(ovmf_with(rom) + raw))
        self.extract(path)
        self.assertEqual(sorted(self.found().values()), sorted([rom, raw]))

    def test_raw_capsule(self):
        rom = vbios.make()
        path = self.put("bios.cap", capsule(load_dump(rom)))
        self.extract(path)
        self.assertEqual(list(self.found().values()), [rom])

    def test_without_uefiextract(self):
        path = self.put("bios.fd", ovmf_with(vbios.make()))
        run = self.bad("extract", path, "-o", self.dir / "out",
                       says="install UEFIExtract (Debian: uefitool-cli)",
                       path="/nonexistent")
        self.assertNotIn("no complete", run.stderr)
        self.assertEqual(self.found(), {})
        # what is there without it is found
        rom = vbios.make(seed=2)
        path = self.put("bios.fd", ovmf_with(vbios.make()) + rom)
        self.extract(path, tool=False, err="install UEFIExtract")
        self.assertEqual(list(self.found().values()), [rom])
        # and it is not asked for where it is of no use
        self.extract(self.put("bios.bin", rom), tool=False)

    def test_broken_uefiextract(self):
        path = self.put("bios.fd", ovmf_with(vbios.make()) + vbios.make(seed=2))
        for script, says in (("exit 3", "it ended with exit code 3"),
                             ("kill -SEGV $$", "it crashed with signal 11")):
            bin_dir = uefiextract(self.dir, script)
            run = self.run_tool("extract", path, "-o", self.dir / "out",
                                path=bin_dir)
            self.assertEqual(run.returncode, 0)
            self.assertIn(says, run.stderr)
            self.assertEqual(len(self.found()), 1)

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

    def none_in(self, path, **how):
        self.extract(path, code=1, err="has no complete option ROM in it",
                     **how)
        self.assertEqual(self.found(), {})

    def test_ovmf(self):
        """OVMF drives all devices by itself: its maintainers put no option
        ROMs in, and UEFIExtract's report has none."""
        for name in ("OVMF_CODE_4M.fd", "OVMF_CODE.fd", "OVMF_VARS_4M.fd"):
            self.none_in(OVMF / name)

    def test_seabios(self):
        """The vgabios is in files of its own."""
        self.none_in(SEABIOS / "bios-256k.bin")

    def test_kernel(self):
        kernel, = KERNEL.glob("vmlinuz-*")
        self.none_in(kernel)

    def test_random(self):
        path = self.dir / "random"
        with open(path, "wb") as out:
            for seed in range(16):
                out.write(random.Random(seed).randbytes(16 << 20))
        start = time.monotonic()
        self.none_in(path)
        tool = time.monotonic() - start
        start = time.monotonic()
        subprocess.run(["grep", "-c", "-F", "vfio-optimus", path],
                       stdout=subprocess.DEVNULL)
        grep = time.monotonic() - start
        print(f"# extract on 256 MiB: {tool:.3f} s, grep -c: {grep:.3f} s, "
              f"ratio {tool / grep:.2f}")

    def test_packed(self):
        """Sections of Dell's take about what zlib takes for them."""
        text = b"".join(b"%07d" % n * 30 for n in range(100000))
        path = self.put("update.exe", dell(*[text] * 8))
        start = time.monotonic()
        self.none_in(path)
        tool = time.monotonic() - start
        packed = zlib.compress(text)
        start = time.monotonic()
        for _ in range(8):
            zlib.decompress(packed)
        alone = time.monotonic() - start
        print(f"# extract of 8 sections, {len(text) * 8 >> 20} MiB: "
              f"{tool:.3f} s, zlib alone: {alone:.3f} s, "
              f"ratio {tool / alone:.2f}")

    def test_nothing_but_headers(self):
        """Images without an end would take hours if each were followed to the
        end of the file; and 55 AA everywhere is no problem either."""
        image = bytearray(vbios.make(size=1024, last=False)[:512])
        image[0x50] = 1
        start = time.monotonic()
        self.extract(self.put("a", bytes(image) * 200000), code=1,
                     err="no complete")
        self.extract(self.put("b", b"\x55\xaa" * (8 << 20)), code=1,
                     err="no complete")
        self.assertLess(time.monotonic() - start, 60)


if __name__ == "__main__":
    main()
