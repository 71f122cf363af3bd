#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""romfile as an attacker's file: what the device refuses, word by word, with the
sanitizers watching.  What it says of a ROM's contents is core/test-optimus-judge.c's.

usage: test-romfile.py PLUGIN_DIRECTORY
"""

import os
import re
import socket
import subprocess
import threading
import time

import vbios
from romfile_case import BOCHS, QEMU, SIZE, Case
from machine import run, WINDOW_END, WINDOW_START
from tap import figures, tap_main

ROOM = WINDOW_END - WINDOW_START - 0x2000
SMALL = vbios.make(size=1024, **BOCHS)


def many_chains():
    """Ten chains side by side through the whole of the file, none of which
    ends, after something else: as much work as the search can be given."""
    block = bytearray(50)
    block[0:2] = vbios.SIGNATURE
    block[0x18:0x1a] = b"\x1a\0"
    block[0x1a:0x1e] = b"PCIR"
    block[0x1a + 0x0a] = 0x18
    block[0x1a + 0x10] = 1
    row = bytes(block) * 10 + bytes(12)
    return bytes(512) + row * (ROOM // 512 - 1)


# contents that are refused: "romfile 'PATH' ..."; what else can be wrong in a chain
# of images is core/test-optimus-broken.c's
BROKEN = {
    "empty": (b"", "is empty"),
    "one byte": (b"\x55", "is not a video BIOS: the image at offset 0x0 is cut "
                 "off after 1 bytes, and none starts further in"),
    "zeros": (bytes(70000), "is not a video BIOS: all its bytes are 00: nothing "
              "was read when it was made, and none starts further in"),
    "archive": (b"PK\3\4".ljust(70000, b"x"), "is not a video BIOS: it is a ZIP "
                "archive, and none starts further in"),
    "ten chains without end": (
        many_chains(), "is not a video BIOS: there is no option ROM image at "
        "offset 0x0: it starts with 00 00, not with 55 aa, and none starts "
        "further in"),
    "two bytes": (SMALL[:2], "is broken: the image at offset 0x0 is cut off "
                  "after 2 bytes"),
    "one byte short": (SMALL[:-1], "is broken: the image at offset 0x0 is "
                       "0x400 bytes long, and the file ends 0x1 bytes before "
                       "its end"),
}


def sparse(size):
    def make(case):
        path = case.file(vbios.make(**BOCHS))
        os.truncate(path, size)
        return path
    return make, (f"romfile '{{path}}' has {size} bytes; the ROM window has "
                  f"room for {ROOM}, of which {ROOM} are left")


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
    "link to a device": (lambda case: link(case, "/dev/zero"),
                         "romfile '{path}' is not a regular file"),
    "dangling link": (lambda case: link(case, "nothing"),
                      not_open("No such file or directory")),
    "long name": (lambda case: case.path("x" * 256),
                  not_open("File name too long")),
    "path with a newline and formats": (lambda case: case.path("a\nb%s%n%99999d"),
                                        not_open("No such file or directory")),
    "path with a comma": (lambda case: case.path("a,romfile=b"),
                          not_open("No such file or directory")),
    "of /proc": (lambda case: "/proc/version", "romfile '{path}' is empty"),
    # it says 4096 bytes and gives what there is
    "of /sys": (lambda case: "/sys/kernel/mm/transparent_hugepage/enabled",
                "romfile '{path}' changed while it was read: NUMBER of its "
                "4096 bytes were there"),
    "one byte too large": sparse(ROOM + 1),
    # what is left of it in 32 bits is a good ROM
    "4 GiB and a ROM": sparse((4 << 30) + SIZE),
}

# contents that are taken without a word
GOOD = {
    "one image": vbios.make(**BOCHS),
    "trailing rubbish": vbios.make(**BOCHS) + vbios.SIGNATURE * 999,
    "chain": vbios.chain([BOCHS, {**BOCHS, "kind": 3}]),
    "as large as the window": vbios.make(size=ROOM, **BOCHS),
    "smallest": SMALL,
}


class Table(Case):
    """One test for every entry of the tables."""


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
            "after an NVGI header it starts at offset 0x2000")

    def test_other_header(self):
        # a 55 AA that starts nothing comes first
        content = b"x\x55\xaa".ljust(999, b"x") + vbios.make(**BOCHS)
        for name in ("dump.rom", "-n", "a b", "a'; touch b; '", "a\nb"):
            path = self.file(content, name)
            self.cut_out_with_hint(
                path, f"romfile '{path}' does not start with an option ROM "
                f"image: after other data it starts at offset {999:#x}")

    def test_other_device(self):
        self.warned(self.rom(vendor=0x10de, device=0x139b),
                    "it is for 10de:139b, and the card is 1234:1111: NVIDIA's "
                    "drivers refuse it, nouveau takes it")
        # NVIDIA's drivers look at the x86 image
        self.warned(self.file(vbios.chain([{"device": 0x1112, "vendor": 0x1234},
                                           {**BOCHS, "kind": 3}])), "1234:1112")
        path = self.file(vbios.chain([{"device": 0x1112, "vendor": 0x1234,
                                       "kind": 3}, BOCHS]))
        self.assertEqual(self.start(path), (0, ""))

    def test_no_x86(self):
        self.refused(self.rom(kind=3), "romfile '{path}' cannot be used: no image "
                     "is of the type x86, which is the video BIOS: get a file "
                     "that has it")


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


if __name__ == "__main__":
    tap_main("__main__")
