#!/usr/bin/python3
"""romfile as an attacker's file: everything that the device refuses, word by
word, and everything that it warns of, with the sanitizers watching.

usage: test-romfile.py PLUGIN_DIRECTORY
VFIO_OPTIMUS_FULL=1: all truncations, and more mutants
SEED=N: the mutants of that seed
"""

import concurrent.futures
import glob
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import vbios
from machine import (WINDOW_END, WINDOW_START, figures, run, tap_main)
from sanitized import Sanitized

PLUGIN = os.path.abspath(sys.argv[1])
FULL = os.environ.get("VFIO_OPTIMUS_FULL")
SEED = int(os.environ.get("SEED", 0)) or random.SystemRandom().getrandbits(32)
TOP = os.path.normpath(os.path.join(os.path.dirname(__file__), "../../.."))
QEMU = Sanitized(PLUGIN, "test-optimus")
BOCHS = {"vendor": 0x1234, "device": 0x1111}
PAGE = 0x1000
ROOM = WINDOW_END - WINDOW_START - PAGE
SIZE = 103936                   # of vbios.make()
PCIR = vbios.PCIR


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


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)

    def tearDown(self):
        found = QEMU.findings()
        figures["findings"] += len(found)
        if found:
            self.fail("\n".join(found))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def file(self, content, name="vbios.rom"):
        with open(self.path(name), "wb") as out:
            out.write(content)
        return self.path(name)

    def rom(self, name="vbios.rom", **arguments):
        return self.file(vbios.make(**{**BOCHS, **arguments}), name)

    @staticmethod
    def option(path):
        return "vfio-optimus,romfile=" + path.replace(",", ",,")

    def start(self, path, program=None, **options):
        """QEMU's exit status, and what it says of the option."""
        status, stderr = run(program or QEMU.program, "-device",
                             self.option(path), **options)
        return status, stderr.replace(
            f"qemu-system-x86_64: -device {self.option(path)}: ", "")

    def refused(self, path, sentence, **options):
        status, stderr = self.start(path, **options)
        self.assertEqual(re.sub(r"(?<=read: )\d+", "NUMBER", stderr),
                         sentence.replace("{path}", path) + "\n")
        self.assertEqual(status, 1)
        figures["refusals"] += 1

    def each(self, function, inputs):
        """Call function with each input, on all CPUs."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(function, inputs))


class Table(Case):
    """One test for every entry of the tables above."""


def add(table, test):
    for name, entry in table.items():
        def method(self, entry=entry):
            test(self, entry)
        setattr(Table, "test_" + re.sub(r"\W+", "_", name), method)


def refused_content(self, entry):
    content, sentence = entry
    self.refused(self.file(content), f"romfile '{{path}}' {sentence}")


def refused_place(self, entry):
    make, sentence = entry
    self.refused(make(self), sentence)


def taken(self, content):
    self.assertEqual(self.start(self.file(content)), (0, ""))
    figures["taken"] += 1


add(BROKEN, refused_content)
add(PLACES, refused_place)
add(GOOD, taken)


class Other(Case):
    """What does not fit into a table."""

    def warned(self, path, *words):
        status, stderr = self.start(path)
        self.assertEqual(status, 0, stderr)
        lines = stderr.splitlines()
        self.assertEqual(len(lines), 1, stderr)
        for word in ("warning: ", path, *words):
            self.assertIn(word, lines[0])

    def test_none(self):
        status, stderr = run(QEMU.program, "-device", "vfio-optimus")
        self.assertEqual(status, 1)
        self.assertIn("vfio-optimus needs the video BIOS: set romfile=FILE",
                      stderr)

    def test_found_beside_firmware(self):
        """As the PCI core: by name in the directories of -L."""
        self.rom("card.rom")
        _, stderr = run(QEMU.program, "-L", self.folder.name, "-device",
                        "vfio-optimus,romfile=card.rom")
        # its firmware is not found any more, which comes later
        self.assertNotIn("romfile", stderr)
        self.refused("card.rom", not_open("No such file or directory"))

    def test_no_set_of_descriptors(self):
        status, stderr = self.start("/dev/fdset/7")
        self.assertEqual(status, 1)
        self.assertRegex(stderr, "^romfile: .* /dev/fdset/7.*\n$")

    def test_links(self):
        path = link(self, "a")
        link(self, self.rom(), "a")
        self.assertEqual(self.start(path), (0, ""))

    def test_odd_names(self):
        for name in ("a,b", "a\nb", "-x", "'", "%s", "\udcff"):
            self.assertEqual(self.start(self.rom(name)), (0, ""))

    def test_unreadable(self):
        path = self.rom()
        os.chmod(path, 0)
        self.refused(path, not_open("Permission denied"), privileged=False)
        os.chmod(path, 0o644)
        os.chmod(self.folder.name, 0)
        self.refused(path, not_open("Permission denied"), privileged=False)
        os.chmod(self.folder.name, 0o755)

    def cut_out_with_hint(self, path, sentence):
        status, stderr = self.start(path)
        self.assertEqual(status, 1)
        self.assertTrue(stderr.startswith(sentence + "\n"), stderr)
        hint = re.search(r"Cut it out with: (.*)", stderr, re.S).group(1)
        before = set(os.listdir(self.folder.name))
        with open(path, "rb") as rom:
            content = rom.read()
        subprocess.run(hint, shell=True, cwd=self.folder.name, check=True)
        with open(path, "rb") as rom:
            self.assertEqual(rom.read(), content)
        new, = set(os.listdir(self.folder.name)) - before
        self.assertEqual(self.start(self.path(new)), (0, ""))

    def test_nvgi_header(self):
        path = self.file(vbios.chain([BOCHS], nvgi=True))
        self.cut_out_with_hint(
            path, f"romfile '{path}' does not start with an option ROM image: "
            "behind an NVGI header it starts at offset 0x2000")

    def test_other_header(self):
        # a 55 AA that starts nothing comes first
        content = b"x\x55\xaa".ljust(999, b"x") + vbios.make(**BOCHS)
        for name in ("dump.rom", "-n", "a b", "a'; touch b; '", "a\nb"):
            path = self.file(content, name)
            self.cut_out_with_hint(
                path, f"romfile '{path}' does not start with an option ROM "
                f"image: behind other data it starts at offset {999:#x}")

    def test_checksum(self):
        rom = bytearray(vbios.make(**BOCHS))
        rom[0x1000] = (rom[0x1000] + 3) % 256
        self.warned(self.file(bytes(rom)), "the checksum of the image at offset "
                    "0x0 is wrong: NVIDIA's drivers refuse it")

    def test_other_device(self):
        self.warned(self.rom(vendor=0x10de, device=0x139b),
                    "it is for 10de:139b, and the card is 1234:1111: NVIDIA's "
                    "drivers refuse it, nouveau takes it")
        self.warned(self.rom(device=0x1112), "1234:1111", "1234:1112")
        # NVIDIA's drivers look at the x86 image
        self.warned(self.file(vbios.chain([{"device": 0x1112, "vendor": 0x1234},
                                           {**BOCHS, "kind": 3}])), "1234:1112")
        path = self.file(vbios.chain([{"device": 0x1112, "vendor": 0x1234,
                                       "kind": 3}, BOCHS]))
        self.assertEqual(self.start(path), (0, ""))
        # and not at its list of further devices
        rom = bytearray(vbios.make(device=0x1112, vendor=0x1234))
        rom[0x48:0x4a] = b"\0\1"
        rom[0x140:0x144] = b"\x11\x11\0\0"
        self.warned(self.file(vbios.balance(bytes(rom), len(rom))),
                    "1234:1111 is only in its list of further devices")

    def test_other_class(self):
        """No driver looks at that."""
        self.assertEqual(self.start(self.rom(class_code=0x020000)), (0, ""))

    def test_no_x86(self):
        self.warned(self.rom(kind=3), "no image is of the type x86")


class Faults(Case):
    """The file changes, or cannot be read, after it was opened."""

    def inject(self, path, fault, log="/dev/null"):
        # LeakSanitizer and strace both want to be the debugger
        return ["env", "ASAN_OPTIONS=detect_leaks=0", "strace", "-f", "-o", log,
                "-P", path, "-e", "inject=" + fault, QEMU.program]

    def test_io_error(self):
        path = self.rom()
        self.refused(path, "romfile '{path}' cannot be read: Input/output "
                     "error", program=self.inject(path, "read:error=EIO"))

    def test_end_at_once(self):
        path = self.rom()
        self.refused(path, "romfile '{path}' changed while it was read: NUMBER "
                     f"of its {SIZE} bytes were there",
                     program=self.inject(path, "read:retval=0"))

    def test_interrupted(self):
        path = self.rom()
        program = self.inject(path, "read:error=EINTR:when=1..3")
        self.assertEqual(self.start(path, program=program), (0, ""))

    def test_no_descriptors(self):
        path = self.rom()
        self.refused(path, not_open("Too many open files"),
                     program=self.inject(path, "openat:error=EMFILE"))

    def changed(self, change):
        """What QEMU says when the file is changed between fstat and read."""
        path, log = self.rom(), self.path("log")
        program = self.inject(path, "read:delay_enter=1500000:when=1", log)

        def wait_and_change():
            limit = time.monotonic() + 30
            while time.monotonic() < limit:
                if os.path.exists(log):
                    with open(log) as calls:
                        if "st_size=" in calls.read():
                            change(path)
                            return
                time.sleep(0.01)

        thread = threading.Thread(target=wait_and_change)
        thread.start()
        try:
            return path, self.start(path, program=program)
        finally:
            thread.join()

    def changes(self, change, what=""):
        path, (status, stderr) = self.changed(change)
        self.assertEqual(stderr, f"romfile '{path}' changed while it was read"
                         f"{what}\n")
        self.assertEqual(status, 1)
        figures["refusals"] += 1

    def test_truncated(self):
        self.changes(lambda path: os.truncate(path, 5000),
                     f": 5000 of its {SIZE} bytes were there")

    def test_emptied(self):
        self.changes(lambda path: os.truncate(path, 0),
                     f": 0 of its {SIZE} bytes were there")

    def test_grown(self):
        self.changes(lambda path: os.truncate(path, SIZE + 1))

    def test_touched(self):
        self.changes(lambda path: os.utime(path, ns=(1, 1)))

    def test_removed(self):
        """The PCI core opens it again, for the ROM BAR."""
        path, (status, stderr) = self.changed(os.unlink)
        self.assertEqual((status, stderr),
                         (1, f'failed to find romfile "{path}"\n'))
        figures["refusals"] += 1


class Many(Case):
    """Whole classes of files."""

    def test_truncated(self):
        """Every length up to 1 KiB, or one in twenty."""
        rom = vbios.make(**BOCHS)

        def cut(size):
            if not size:
                says = "is empty"
            elif size < 2:
                says = BROKEN["one byte"][1]
            elif size < 26:
                says = (f"is broken: the image at offset 0x0 is cut off after "
                        f"{size} bytes")
            elif size < PCIR + 0x18:
                says = BROKEN["only a header"][1]
            else:
                says = (f"is broken: the image at offset 0x0 is {SIZE:#x} "
                        f"bytes long, and the file ends {SIZE - size:#x} bytes "
                        "before its end")
            path = self.file(rom[:size], f"{size}.rom")
            self.refused(path, f"romfile '{{path}}' {says}")
            figures["truncations"] += 1

        self.each(cut, [n for n in range(1025) if FULL or n % 20 == 0
                        or n in (1, 2, 25, 26, PCIR + 0x17, PCIR + 0x18)])

    def anything(self, path):
        """Taken or refused, but in our words."""
        status, stderr = self.start(path)
        lines = [line for line in stderr.splitlines()
                 if not re.match("warning: romfile|Cut it out with", line)]
        if status == 0:
            self.assertEqual(lines, [], path)
            return
        self.assertEqual(status, 1, stderr)
        self.assertEqual(len(lines), 1, stderr)
        self.assertRegex(lines[0], "^romfile '.*' is broken: |is not a video "
                         "BIOS: |does not start with|is empty")

    def test_corpus(self):
        """What made the fuzzer of the parser go new ways."""
        corpus = glob.glob(os.path.join(TOP, "tests-qtest/unit/corpus-rom/*"))
        self.assertGreater(len(corpus), 40)
        self.each(self.anything, corpus)
        figures["corpus files"] += len(corpus)

    def test_mutants(self):
        def mutant(number):
            chance = random.Random(f"{SEED} {number}")
            rom = bytearray(chance.choice([
                SMALL, vbios.make(size=1536, npde=True, **BOCHS), NOT_LAST * 2,
                vbios.chain([{**BOCHS, "size": 1024, "npde": True},
                             {**BOCHS, "kind": 3, "size": 512 * 3}])]))
            for _ in range(chance.randint(1, 6)):
                at = chance.choice([chance.randrange(0x70),
                                    chance.randrange(len(rom))])
                rom[at] = chance.choice([0, 1, 0x7f, 0x80, 0xff,
                                         chance.randrange(256)])
            end = chance.choice([len(rom), chance.randrange(len(rom) + 1)])
            self.anything(self.file(bytes(rom[:end]), f"{number}.rom"))
            figures["mutants"] += 1

        with self.subTest(seed=SEED):
            self.each(mutant, range(4000 if FULL else 50))


class Planted(Case):
    """The sanitizers see what is wrong in the plugin."""

    def plant(self, old, new):
        """A QEMU with the plugin, in which one line is another."""
        build = QEMU.build
        objects = os.path.join(build, "hw-optimus/plugin",
                               "sanitized-test-optimus.so.p")
        with open(os.path.join(build, "compile_commands.json")) as commands:
            command, = (c for c in json.load(commands) if c["output"].endswith(
                "sanitized-test-optimus.so.p/vfio-optimus.c.o"))
        source = os.path.join(build, command["file"])
        with open(source) as original:
            text = original.read()
        self.assertEqual(text.count(old), 1, old)
        mutant, made = self.path("mutant.c"), self.path("mutant.o")
        with open(mutant, "w") as out:
            out.write(text.replace(old, new))
        words = shlex.split(command["command"])
        words[words.index(command["file"])] = mutant
        words[words.index("-o") + 1] = made
        subprocess.run([*words, "-I", os.path.dirname(source)], cwd=build,
                       check=True)
        others = [os.path.join(objects, name) for name in os.listdir(objects)
                  if name.endswith(".o") and name != "vfio-optimus.c.o"]
        subprocess.run(["cc", "-shared", "-fsanitize=address,undefined", "-o",
                        self.path("sanitized-test-optimus.so"), made, *others],
                       check=True)
        shutil.copy(os.path.join(QEMU.modules,
                                 "sanitized-test-optimus-preload.so"),
                    self.folder.name)
        return Sanitized(PLUGIN, "test-optimus", self.folder.name)

    LINE = """    optimus_trace(OPTIMUS_EVENT_ROMFILE, "%s: %u bytes, %u images", path,
                  rom->len, images->len);
"""

    def found(self, old, new, word):
        qemu = self.plant(old, new)
        _, stderr = run(qemu.program, "-device", self.option(self.rom()))
        # what UndefinedBehaviorSanitizer says goes to stderr
        found = "\n".join([stderr, *qemu.findings()])
        self.assertIn(word, found)
        self.assertIn("vfio_optimus_realize", found)
        figures["planted bugs found"] += 1

    def test_freed(self):
        self.found(self.LINE, "    { char *p = g_malloc(8); g_free(p);"
                   " *(volatile char *)p = 0; }\n", "heap-use-after-free")

    def test_leak(self):
        rest = " rom = NULL;\n    g_autoptr(GArray)"   # in realize
        self.found("g_autoptr(GByteArray)" + rest, "GByteArray *" + rest,
                   "leak of")

    def test_shift(self):
        self.found(self.LINE, "    { volatile int n = 32; n = 1 << n; }\n",
                   "shift exponent")


if __name__ == "__main__":
    figures["seed"] = SEED
    tap_main(sys.modules[__name__])
