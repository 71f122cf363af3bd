#!/usr/bin/python3
"""romfile as an attacker's file: everything that the device refuses, word by
word, and everything that it warns of, with the sanitizers watching.

usage: test-romfile.py PLUGIN_DIRECTORY
VFIO_OPTIMUS_FULL=1: all truncations, and more mutants
SEED=N: the mutants of that seed
"""

import glob
import os
import random
import re
import subprocess
import threading
import time

import vbios
from romfile_case import BOCHS, PCIR, QEMU, SIZE, Case
from machine import run
from tap import figures, tap_main
from broken_roms import BROKEN, GOOD, NOT_LAST, PLACES, SMALL, link, not_open

FULL = os.environ.get("VFIO_OPTIMUS_FULL")
SEED = int(os.environ.get("SEED", 0)) or random.SystemRandom().getrandbits(32)
TOP = os.path.normpath(os.path.join(os.path.dirname(__file__), "../.."))


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
        corpus = glob.glob(os.path.join(TOP, "tests-qtest/core/corpus-rom/*"))
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


if __name__ == "__main__":
    figures["seed"] = SEED
    tap_main("__main__")
