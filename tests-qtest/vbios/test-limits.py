#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios: no file of up to 10 MB takes more than 5 s of CPU or 256 MB,
whatever is in it.  With the sanitizers it is given ten times the time, and as much
memory as it likes."""

import os
import struct
import subprocess
import zlib

import vbios
from vbios_case import Case, main

SIZE = 10 << 20
DELL = bytes.fromhex("aaeeaa761becbb20f1e651") + b"\0"


def filled(part):
    return part * (SIZE // len(part))


def compressed_zeros(size):
    """Without that much memory here, which would be counted as the program's: the
    kernel keeps the most that a process had before exec, too."""
    pack = zlib.compressobj(9)
    parts = [pack.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join(parts) + pack.flush()


def shared_pcir(npde=False):
    """Image headers as close as can be, that share what follows them."""
    rom = vbios.make(size=4096, npde=npde, last=False)
    tail = bytearray(rom[0x40:0x200])
    tail[0x10:0x12] = b"\xff\x7f"
    headers = bytearray()
    count = 0xff00 // 0x1a
    for i in range(count):
        headers += b"\x55\xaa" + bytes(22) + struct.pack(
            "<H", (count - i) * 0x1a)
    return bytes(headers + tail)


class Limits(Case):

    def run_limited(self, *args, code=0, says=""):
        with open(self.program, "rb") as program:
            sanitized = b"__asan_init" in program.read()
        with open(self.dir / "said", "w") as said:
            tool = subprocess.Popen([self.program, *map(str, args)], stdout=said,
                                    stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(tool.pid, 0)
            tool.returncode = os.waitstatus_to_exitcode(status)
        text = (self.dir / "said").read_text()
        self.assertEqual(tool.returncode, code, text[-500:])
        self.assertIn(says, text)
        self.assertLess(usage.ru_utime + usage.ru_stime, 50 if sanitized else 5)
        if not sanitized:
            self.assertLess(usage.ru_maxrss, 256 << 10)

    def each(self, data, codes=(1, 1, 1), says=("", "", "")):
        path = self.put("file", data)
        self.run_limited("info", path, code=codes[0], says=says[0])
        if codes != (1, 1, 1):      # else there is nothing more for programs
            self.run_limited("info", "--json", path, code=codes[0])
        self.run_limited("trim", path, self.dir / "out.rom", "--force", "--all",
                         code=codes[1], says=says[1])
        self.run_limited("extract", path, "-o", self.dir / "out", code=codes[2],
                         says=says[2])

    def test_chains(self):
        """Each of its own, and each the same"""
        images = [vbios.make(size=512, kind=3, seed=seed)
                  for seed in range(SIZE // 512)]
        self.each(b"".join(images), (1, 0, 0),
                  ("", "", "has more than 256 option ROMs in it: 20224 were left"))
        self.assertEqual(len(self.files("out")), 256)
        self.each(filled(images[0]), (1, 0, 0))

    def test_chain_without_end(self):
        image = vbios.make(size=512, kind=3, last=False)
        self.each(filled(image))
        self.each(filled(image)[:-1] + b"x")

    def test_shared_pcir(self):
        self.each(filled(shared_pcir()))
        for end in (b"", b"x"):
            part = shared_pcir(npde=True)
            self.each(part * (SIZE // 2 // len(part)) + bytes(SIZE // 2) + end,
                      (1, 1, 1 if end else 0))

    def test_device_list(self):
        rom = bytearray(vbios.make(size=SIZE))
        struct.pack_into("<H", rom, 0x48, 0x200)
        self.each(bytes(rom).replace(b"\0\0", b"\1\1"), (1, 0, 0))

    def test_sections(self):
        """Dell's: a few large ones, and many small ones"""
        large = DELL + compressed_zeros(255 << 20)
        says = "has more than 192 MiB: the rest was not searched"
        self.each(large * 8, says=("", "", says))
        self.each(large * (SIZE // len(large)), says=("", "", says))
        nested = DELL + zlib.compress(large * 30, 9)
        self.each(nested * 100, says=("", "", says))
        for content in (b"x", b"_FVH" * 20):
            self.each(filled(DELL + zlib.compress(content)), says=("", "", says))
        self.each(filled(DELL + b"\x78\x9c"), says=("", "", says))
        self.each(filled(DELL))

    def test_registry(self):
        for part in (b'"a"=hex:', b"=hex(", b'"a"=hex:55,aa\n', b"=",
                     b'"a"=hex:' + b"55,aa," * 20 + b"\n"):
            self.each(b"REGEDIT4\n" + filled(part))
            self.each(("\ufeffREGEDIT4\n" + filled(part)[:SIZE // 2].decode())
                      .encode("utf-16-le"))

    def test_texts(self):
        for part in (b"MZ", b"MZ" + b"Rar!" * 99, b"Version 12.34", b"_FVH",
                     b"55 aa ", b"U", b"\x55\xaa", b"\n*", b"PCIR"):
            self.each(filled(part))


if __name__ == "__main__":
    main()
