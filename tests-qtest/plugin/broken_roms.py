"""Files, what the device says of each, and what it takes without a word."""

import os
import socket

import vbios
from romfile_case import BOCHS, PCIR, SIZE
from machine import WINDOW_END, WINDOW_START

PAGE = 0x1000
ROOM = WINDOW_END - WINDOW_START - 2 * PAGE


def patched(*patches, rom=None):
    """A good ROM, or ROM, with (OFFSET, BYTES) put over it."""
    rom = bytearray(vbios.make(**BOCHS) if rom is None else rom)
    for offset, data in patches:
        rom[offset:offset + len(data)] = data
    return bytes(rom)


def units(number):
    return PCIR + 0x10, number.to_bytes(2, "little")


def pointer(number):
    return 0x18, number.to_bytes(2, "little")


def many_chains():
    """Ten chains side by side through the whole of the file, none of which
    ends, behind something else: as much work as the search can be given."""
    block = bytearray(50)
    block[0:2] = vbios.SIGNATURE
    block[0x18:0x1a] = b"\x1a\0"
    block[0x1a:0x1e] = b"PCIR"
    block[0x1a + 0x0a] = 0x18
    block[0x1a + 0x10] = 1
    row = bytes(block) * 10 + bytes(12)
    return bytes(512) + row * (ROOM // 512 - 1)


SMALL = vbios.make(size=1024, **BOCHS)
CHAIN = vbios.chain([BOCHS, {**BOCHS, "kind": 3}])
NOT_LAST = vbios.make(size=512 * 2, last=False, **BOCHS)

# contents that are refused: "romfile 'PATH' ..."
BROKEN = {
    "empty": (b"", "is empty"),
    "one byte": (b"\x55", "is not a video BIOS: the image at offset 0x0 is cut "
                 "off after 1 bytes, and none starts further in"),
    "zeros": (bytes(70000), "is not a video BIOS: there is no option ROM image "
              "at offset 0x0: it starts with 00 00, not with 55 aa, and none "
              "starts further in"),
    "erased flash": (b"\xff" * 70000, "is not a video BIOS: there is no option "
                     "ROM image at offset 0x0: it starts with ff ff, not with "
                     "55 aa, and none starts further in"),
    "signature swapped": (
        patched((0, b"\xaa\x55")), "is not a video BIOS: there is no option "
        "ROM image at offset 0x0: it starts with aa 55, not with 55 aa, and "
        "none starts further in"),
    "signature of a later image": (
        patched((0, b"\x77\xbb")), "is not a video BIOS: there is no option "
        "ROM image at offset 0x0: it starts with 77 bb, not with 55 aa, and "
        "none starts further in"),
    "a 55 aa that starts nothing": (
        b"\x55\xaa".ljust(999, b"x") + vbios.make(), "is broken: the image at "
        "offset 0x0 has no PCIR data structure at 0x7878, where its header "
        "points"),
    "ten chains without end": (
        many_chains(), "is not a video BIOS: there is no option ROM image at "
        "offset 0x0: it starts with 00 00, not with 55 aa, and none starts "
        "further in"),
    "two bytes": (SMALL[:2], "is broken: the image at offset 0x0 is cut off "
                  "after 2 bytes"),
    "half a header": (SMALL[:25], "is broken: the image at offset 0x0 is cut "
                      "off after 25 bytes"),
    "only a header": (SMALL[:26], "is broken: the image at offset 0x0 has its "
                      "PCIR data structure at 0x40, past the end of the file"),
    "half a PCIR": (SMALL[:PCIR + 0x17], "is broken: the image at offset 0x0 "
                    "has its PCIR data structure at 0x40, past the end of the "
                    "file"),
    "only a PCIR": (SMALL[:PCIR + 0x18], "is broken: the image at offset 0x0 "
                    "is 0x400 bytes long, and the file ends 0x3a8 bytes before "
                    "its end"),
    "one byte short": (SMALL[:-1], "is broken: the image at offset 0x0 is "
                       "0x400 bytes long, and the file ends 0x1 bytes before "
                       "its end"),
    "pointer 0": (patched(pointer(0)), "is broken: the image at offset 0x0 has "
                  "no PCIR data structure at 0x0, where its header points"),
    "pointer to itself": (
        patched(pointer(0x18)), "is broken: the image at offset 0x0 has no "
        "PCIR data structure at 0x18, where its header points"),
    "pointer one byte off": (
        patched(pointer(PCIR + 1)), "is broken: the image at offset 0x0 has no "
        "PCIR data structure at 0x41, where its header points"),
    "pointer to the last place": (
        patched(pointer(1024 - 0x18), rom=SMALL), "is broken: the image at "
        "offset 0x0 has no PCIR data structure at 0x3e8, where its header "
        "points"),
    "pointer behind the last place": (
        patched(pointer(1024 - 0x17), rom=SMALL), "is broken: the image at "
        "offset 0x0 has its PCIR data structure at 0x3e9, past the end of the "
        "file"),
    "pointer 0xffff": (
        patched(pointer(0xffff), rom=SMALL), "is broken: the image at offset "
        "0x0 has its PCIR data structure at 0xffff, past the end of the file"),
    "other structure": (
        patched((PCIR, b"PCIX")), "is broken: the image at offset 0x0 has no "
        "PCIR data structure at 0x40, where its header points"),
    "PCIR of 0 bytes": (
        patched((PCIR + 0x0a, b"\0\0")), "is broken: the PCIR data structure "
        "of the image at offset 0x0 says that it is 0 bytes long, less than "
        "the 24 that it must have"),
    "PCIR of 23 bytes": (
        patched((PCIR + 0x0a, b"\x17\0")), "is broken: the PCIR data structure "
        "of the image at offset 0x0 says that it is 23 bytes long, less than "
        "the 24 that it must have"),
    "length 0": (patched(units(0)), "is broken: the image at offset 0x0 has "
                 "length 0"),
    "length 0xffff": (
        patched(units(0xffff)), "is broken: the image at offset 0x0 is "
        "0x1fffe00 bytes long, and the file ends 0x1fe6800 bytes before its "
        "end"),
    "length 0 in NPDE": (
        patched((0x60 + 8, b"\0\0"), rom=vbios.make(npde=True, **BOCHS)),
        "is broken: the image at offset 0x0 has length 0"),
    "length 0xffff in NPDE": (
        patched((0x60 + 8, b"\xff\xff"), rom=vbios.make(npde=True, **BOCHS)),
        "is broken: the image at offset 0x0 is 0x1fffe00 bytes long, and the "
        "file ends 0x1fe6800 bytes before its end"),
    "PCIR outside of the image": (
        patched(pointer(0x300), (0x300, SMALL[PCIR:PCIR + 0x1c]),
                (0x310, b"\1\0"), rom=SMALL),
        "is broken: the image at offset 0x0 is 0x200 bytes long, and its PCIR "
        "data structure at 0x300 is outside of it"),
    "PCIR over the end of the image": (
        patched(pointer(0x1f0), (0x1f0, SMALL[PCIR:PCIR + 0x1c]),
                (0x200, b"\1\0"), rom=SMALL),
        "is broken: the image at offset 0x0 is 0x200 bytes long, and its PCIR "
        "data structure at 0x1f0 is outside of it"),
    "chain that ends early": (
        CHAIN[:SIZE], "is broken: the file ends behind the image at offset "
        "0x0, which does not have the last-image bit"),
    "chain cut in the second image": (
        CHAIN[:-1], "is broken: the image at offset 0x19600 is 0x19600 bytes "
        "long, and the file ends 0x1 bytes before its end"),
    "chain cut in the second header": (
        CHAIN[:SIZE + 3], "is broken: the image at offset 0x19600 is cut off "
        "after 3 bytes"),
    "chain without a second image": (
        patched((SIZE, b"ab"), rom=CHAIN), "is broken: there is no option ROM "
        "image at offset 0x19600: it starts with 61 62, not with 55 aa"),
    "chain whose second image has length 0": (
        patched((SIZE + PCIR + 0x10, b"\0\0"), rom=CHAIN), "is broken: the "
        "image at offset 0x19600 has length 0"),
    "chain that overlaps": (
        patched(units(1), rom=CHAIN), "is broken: there is no option ROM image "
        f"at offset 0x200: it starts with {CHAIN[0x200]:02x} "
        f"{CHAIN[0x201]:02x}, not with 55 aa"),
    "chain as long as the window, without end": (
        NOT_LAST * (ROOM // len(NOT_LAST)), "is broken: the file ends behind "
        f"the image at offset {ROOM - len(NOT_LAST):#x}, which does not have "
        "the last-image bit"),
}


def sparse(size):
    def make(case):
        path = case.file(vbios.make(**BOCHS))
        os.truncate(path, size)
        return path
    return make, (f"romfile '{{path}}' has {size} bytes; the ROM window has "
                  f"room for {ROOM}, of which {ROOM} are left")


def device(path):
    return lambda case: path, f"romfile '{path}' is not a regular file"


def link(case, target, name="link"):
    path = case.path(name)
    os.symlink(target, path)
    return path


def fifo(case):
    os.mkfifo(case.path("fifo"))
    return case.path("fifo")


def unix_socket(case):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(case.path("socket"))
    return case.path("socket")


def not_open(error):
    return f"romfile: Could not open '{{path}}': {error}"


# what is no file with a ROM in it
PLACES = {
    "nothing": (lambda case: case.path("nothing"),
                not_open("No such file or directory")),
    "no name": (lambda case: "", "vfio-optimus needs the video BIOS: set "
                "romfile=FILE"),
    "directory": (lambda case: case.folder.name,
                  "romfile '{path}' is not a regular file"),
    "FIFO": (fifo, "romfile '{path}' is not a regular file"),
    "socket": (unix_socket, not_open("No such device or address")),
    "/dev/zero": device("/dev/zero"),
    "/dev/null": device("/dev/null"),
    "/dev/urandom": device("/dev/urandom"),
    "link to a device": (lambda case: link(case, "/dev/zero"),
                         "romfile '{path}' is not a regular file"),
    "link to a FIFO": (lambda case: link(case, fifo(case)),
                       "romfile '{path}' is not a regular file"),
    "dangling link": (lambda case: link(case, "nothing"),
                      not_open("No such file or directory")),
    "looping link": (lambda case: link(case, "link"),
                     not_open("Too many levels of symbolic links")),
    "below a file": (lambda case: case.rom() + "/x",
                     not_open("Not a directory")),
    "long name": (lambda case: case.path("x" * 256),
                  not_open("File name too long")),
    "long path": (lambda case: case.path("./" * 2100 + "x"),
                  not_open("File name too long")),
    "path with a newline": (lambda case: case.path("a\nb"),
                            not_open("No such file or directory")),
    "path with a comma": (lambda case: case.path("a,romfile=b"),
                          not_open("No such file or directory")),
    "path with formats": (lambda case: case.path("%s%n%99999d"),
                          not_open("No such file or directory")),
    "of /proc": (lambda case: "/proc/version", "romfile '{path}' is empty"),
    "own memory": (lambda case: "/proc/self/mem", "romfile '{path}' is empty"),
    # it says 4096 bytes and gives what there is
    "of /sys": (lambda case: "/sys/kernel/mm/transparent_hugepage/enabled",
                "romfile '{path}' changed while it was read: NUMBER of its "
                "4096 bytes were there"),
    "one byte too large": sparse(ROOM + 1),
    "4 GiB": sparse(4 << 30),
    # what is left of it in 32 bits is a good ROM
    "4 GiB and a ROM": sparse((4 << 30) + SIZE),
}

# contents that are taken without a word
GOOD = {
    "one image": vbios.make(**BOCHS),
    "trailing padding": vbios.make(**BOCHS) + b"\xff" * 5000,
    "trailing rubbish": vbios.make(**BOCHS) + vbios.SIGNATURE * 999,
    "chain": CHAIN,
    "chain with 77 bb": patched((SIZE, b"\x77\xbb"), (SIZE + 0x14, b"\3"),
                                rom=CHAIN),
    "as large as the window": vbios.make(size=ROOM, **BOCHS),
    "smallest": SMALL,
    "with NPDE": vbios.make(npde=True, **BOCHS),
    "PCIR of 0xffff bytes": vbios.balance(
        patched((PCIR + 0x0a, b"\xff\xff")), SIZE),
    "PCIR at an odd place": vbios.balance(
        patched(pointer(0x81), (0x81, SMALL[PCIR:PCIR + 0x1c]),
                (0x91, b"\2\0"), rom=SMALL), 1024),
}
