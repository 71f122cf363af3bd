#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A synthetic VBIOS that NVIDIA's own driver takes.  All that it has is what
NVIDIA documents (https://nvidia.github.io/open-gpu-doc/): the BIOS Information
Table, BIT, with tokens whose tables are empty but for the one that lists init
scripts; what follows them is noise."""

import argparse
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from vbios import PCIR, balance, make  # noqa: E402

BIT, TABLES, NOISE = 0x200, 0x800, 0x4000
INIT_ZM_REG, INIT_DONE = 0x7a, 0x71
VERSION = bytes.fromhex("003207821f")           # 82.07.32.00.1f
# What fake-gpu's register is to hold after the init script
REGISTER, MAGIC = 0x14f0, 0xc0ffee42
# token: version and size of its table
TOKENS = {
    "2": (1, 4), "B": (2, 0x20), "C": (2, 0x28), "D": (1, 4), "I": (1, 0x24),
    "L": (1, 4), "M": (2, 0x28), "N": (0, 0), "P": (2, 0x88), "S": (2, 0x15),
    "T": (1, 2), "U": (1, 0x0b), "V": (1, 6), "c": (0, 0), "d": (1, 2),
    "i": (2, 0x60), "p": (2, 4), "u": (1, 0x11), "x": (1, 8),
}


def add_tables(image):
    """Put BIT, the tables of its tokens and an init script into the image."""
    # as far back as a pointer of 16 bits goes
    script = min(len(image), 0x10000) - 0x20
    struct.pack_into("<BIIB", image, script, INIT_ZM_REG, REGISTER, MAGIC,
                     INIT_DONE)
    at, tokens = TABLES, b""
    for token, (version, size) in TOKENS.items():
        tokens += struct.pack("<BBHH", ord(token), version, size, at)
        if token in "Bi":
            image[at:at + len(VERSION)] = VERSION
        if token == "I":
            struct.pack_into("<H", image, at, at + size)
            struct.pack_into("<HH", image, at + size, script, 0)
            at += 4
        at += size
    header = bytearray(struct.pack("<H4sH4B", 0xb8ff, b"BIT", 0x0100, 12, 6,
                                   len(TOKENS), 0))
    header[11] = -sum(header) & 0xff
    image[BIT:BIT + 12 + len(tokens)] = header + tokens


def main():
    def number(text):
        return int(text, 0)

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--size", type=number, default=103936)
    parser.add_argument("--vendor", type=number, default=0x10de)
    parser.add_argument("--device", type=number, default=0x139b)
    parser.add_argument("--list", type=number, help="a second device ID, in the "
                        "device list of the PCIR data structure")
    parser.add_argument("--second", type=number, metavar="SIZE",
                        help="put an EFI image of that size after it")
    parser.add_argument("--break", choices=["checksum", "bit", "bit-sum"],
                        dest="broken", help="do it wrong")
    a = parser.parse_args()

    image = bytearray(make(a.size, a.vendor, a.device, last=not a.second))
    image[4:0x18] = bytes(0x14)
    image[0x1a:PCIR] = b"\0\0\0\0IBM VGA Compatible BIOS".ljust(PCIR - 0x1a, b"\0")
    image[0x60:NOISE] = bytes(NOISE - 0x60)
    add_tables(image)
    if a.list is not None:
        struct.pack_into("<H", image, PCIR + 8, 0x180 - PCIR)
        struct.pack_into("<HH", image, 0x180, a.list, 0)
    if a.broken == "bit":
        image[BIT + 2] ^= 1
    if a.broken == "bit-sum":
        image[BIT + 11] ^= 1
    image = bytearray(balance(bytes(image), len(image)))
    if a.broken == "checksum":
        image[-0x40] ^= 1
    if a.second:
        image += make(a.second, a.vendor, a.device, kind=3)
    with open(a.out, "wb") as out:
        out.write(image)


if __name__ == "__main__":
    main()
