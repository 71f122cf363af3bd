#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Synthetic VBIOS images for the tests: valid in form, random in content, and
the same for the same arguments."""

import argparse
import os
import random
import struct

UNIT = 512
PCIR = 0x40
BIT = 0x100
SIGNATURE = b"\x55\xaa"


def bit(tokens):
    """NVIDIA's BIOS Information Table at BIT, and what it points to after it.
    TOKENS are names and data."""
    head = bytearray(struct.pack("<2s3sxH4B", b"\xff\xb8", b"BIT", 0x100, 12, 6,
                                 len(tokens), 0))
    head[11] = -sum(head) & 0xff
    at = BIT + len(head) + 6 * len(tokens)
    entries = content = b""
    for name, data in tokens.items():
        entries += struct.pack("<2B2H", ord(name), 1, len(data),
                               at + len(content))
        content += data
    return bytes(head) + entries + content


def make(size=103936, vendor=0x10de, device=0x139b, class_code=0x030200,
         seed=1, kind=0, last=True, revision=3, npde=False, tokens=None,
         pcir_units=None, pcir_last=None, pcir=PCIR):
    """One image of an option ROM.  Bytes past the last whole unit of 512 are
    0xFF and not part of the image.  The payload has no second 55 AA in it.
    TOKENS are for bit().  With NPDE, PCIR may say something else."""
    units = size // UNIT
    if not 1 <= units <= 0xffff:
        raise ValueError(f"impossible size: {size}")
    length = 0x1c if revision >= 3 else 0x18
    image = bytearray(random.Random(seed).randbytes(units * UNIT))
    image[0:3] = SIGNATURE + bytes([min(units, 0xff)])
    image[0x18:0x1a] = struct.pack("<H", pcir)
    image[pcir:pcir + length] = struct.pack(
        "<4s4HB3s2H2B3H", b"PCIR", vendor, device, 0, length, revision,
        class_code.to_bytes(3, "little"), pcir_units or units, 1, kind,
        0x80 if (last if pcir_last is None else pcir_last) else 0, units, 0,
        0)[:length]
    if kind == 3:
        image[3:8] = struct.pack("<BI", 0, 0x0ef1)
    else:
        image[3] = 0xcb         # retf: firmware calls what stands here
    if kind == 0:
        table = bit({"2": bytes(4)} if tokens is None else tokens)
        image[BIT:BIT + len(table)] = table
    if npde:
        at = (pcir + length + 15) & ~15
        image[at:at + 16] = struct.pack("<4s3HB5x", b"NPDE", 0x0101, 11,
                                        units, 0x80 if last else 0)
    body = bytes(image[2:]).replace(SIGNATURE, b"\x55\xab")
    # Firmware sums what byte 2 says, nouveau what the PCIR says.
    return balance(balance(SIGNATURE + body, image[2] * UNIT),
                   len(image)) + b"\xff" * (size % UNIT)


def balance(image, end):
    """Make the first END bytes sum up to zero by the last but one of them,
    with zeros around it, so that no second 55 AA can come of it."""
    head = image[:end - 3]
    return head + bytes([0, -sum(head) & 0xff, 0]) + image[end:]


def chain(images, nvgi=False, padding=0):
    """Several images in a row, each given as the arguments of make().  With
    NVGI, as a flash chip holds them: header and ROM directory in front.
    PADDING bytes of 0xFF follow."""
    head = bytearray()
    if nvgi:
        status, directory, head = 0x200, 0x1200, bytearray(0x2000)
        struct.pack_into("<4sII", head, 0, b"NVGI", 0x00400300, 0x40)
        struct.pack_into("<I", head, 0x40, status)
        struct.pack_into("<4sIII", head, directory, b"RFRD", 0x00010000,
                         len(head), 0)
    body = b"".join(
        make(**{"seed": number, **arguments, "last": number == len(images)})
        for number, arguments in enumerate(images, 1))
    return bytes(head) + body + b"\xff" * padding


def main():
    def number(text):
        return int(text, 0)

    parser = argparse.ArgumentParser(
        description="Write a synthetic VBIOS of one image.")
    parser.add_argument("out")
    parser.add_argument("--size", type=number, default=103936)
    parser.add_argument("--vendor", type=number, default=0x10de)
    parser.add_argument("--device", type=number, default=0x139b)
    parser.add_argument("--class", type=number, default=0x030200,
                        dest="class_code")
    parser.add_argument("--seed", type=number, default=1)
    arguments = vars(parser.parse_args())
    name = arguments.pop("out")
    # another test may read the same one
    with open(f"{name}.{os.getpid()}", "wb") as out:
        out.write(make(**arguments))
    os.replace(out.name, name)


if __name__ == "__main__":
    main()
