#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a realize that fails leaves behind: nothing.

usage: test-realize.py PLUGIN_DIRECTORY

The parent is QEMU's bochs-display, which can be hotplugged, so that
QEMU goes on after each failure and can be looked at.
"""

import glob
import os
import random
import re
import sys
import tempfile
import time
import unittest

import vbios
from machine import (has_own_c_library, Machine, run, WINDOW_END, WINDOW_START,
                     with_plugin)
from tap import figures, tap_main

PLUGIN, = sys.argv[1:]
TEST = with_plugin(PLUGIN, "test-optimus")
FULL = bool(os.environ.get("VFIO_OPTIMUS_FULL"))
BOCHS = {"vendor": 0x1234, "device": 0x1111}
ROOM = WINDOW_END - WINDOW_START - 0x2000
HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = [os.path.basename(path) for folder in ("core", "plugin") for path in
           glob.glob(os.path.join(HERE, "../../hw-optimus", folder, "*.c"))]
OURS = re.compile(rf"\(({'|'.join(map(re.escape, SOURCES))}):\d+\)")


class Realize(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.there = self.file("there.rom", vbios.make(**BOCHS))
        self.new = self.file("new.rom", vbios.make(seed=2, **BOCHS))
        # Each step of realize that can fail here, in their order
        self.failures = [
            ({}, "set romfile=FILE"),
            ({"romfile": "/nonexistent"}, "Could not open '/nonexistent'"),
            ({"romfile": self.file("no.rom", bytes(5000))},
             "is not a video BIOS"),
            ({"romfile": self.file("broken.rom", vbios.make()[:5000])},
             "is broken"),
            ({"romfile": self.file("full.rom", vbios.make(size=ROOM, **BOCHS))},
             "does not fit in the ROM window"),
            # the parent's: before its own realize and in it; after it,
            # bochs-display would not let go of its memory
            *(({"romfile": rom, **properties}, sentence)
              for rom in (self.new, self.there)
              for properties, sentence in (
                  ({"bus": "rp2", "addr": "0"}, "not available"),
                  ({"vgamem": 1 << 20}, "video memory too small"))),
        ]

    def file(self, name, content):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as out:
            out.write(content)
        return path

    def start(self, *wrapper):
        return Machine([*wrapper, *TEST], "-M", "q35", "-device", "pcie-root-port,id=rp",
                       "-device", "pcie-root-port,id=rp2,chassis=2",
                       "-device", "bochs-display,bus=rp2",
                       "-device", f"vfio-optimus,romfile={self.there}")

    def fails(self, machine, properties, sentence):
        answer = machine.qmp("device_add", **{
            "driver": "vfio-optimus", "bus": "rp", **properties})
        self.assertIn("error", answer, properties)
        self.assertIn(sentence, answer["error"]["desc"])
        figures["realizes that failed"] += 1

    def state(self, machine):
        """What can be left: descriptors, regions, RAM."""
        def hmp(command):
            return machine.qmp("human-monitor-command",
                               **{"command-line": command})["return"]
        descriptors = {}
        folder = f"/proc/{machine.process.pid}/fd"
        for name in os.listdir(folder):
            descriptors[name] = os.readlink(os.path.join(folder, name))
        return (descriptors, hmp("info mtree"), hmp("info ramblock"),
                hmp("info qtree"))

    def memory(self, machine):
        with open(f"/proc/{machine.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def test_again_and_again(self):
        rounds = 500 if FULL else 20
        seed = random.randrange(1 << 32)
        shuffled = random.Random(seed)
        with self.start() as machine:
            before = self.state(machine)
            self.assertEqual(before[1].count("optimus-rom"), 2)
            for number in range(rounds):
                shuffled.shuffle(self.failures)
                for properties, sentence in self.failures:
                    self.fails(machine, properties, sentence)
                if number == rounds // 10:
                    memory = self.memory(machine)
            grown = self.memory(machine) - memory
            self.settle(machine, before)
            # and then it works, in the place after the first one's
            content = vbios.make(**BOCHS)
            second = WINDOW_START + -(-len(content) // 0x1000) * 0x1000 + 0x2000
            answer = machine.qmp("device_add", driver="vfio-optimus", bus="rp",
                                 id="gpu", romfile=self.there)
            self.assertEqual(answer, {"return": {}})
            self.assertEqual(machine.get("/machine/peripheral/gpu",
                                         "rom-address"), second)
            self.assertTrue(machine.read(second, len(content)) == content)
        calls = rounds * len(self.failures)
        figures["seed"] = seed
        figures["KiB more memory at the end"] = grown
        # QEMU may keep a little of each, but no ROM
        self.assertLess(grown, calls * 8)

    def settle(self, machine, before):
        """Nothing is left but what was there, once RCU has freed the rest."""
        for _ in range(50):
            after = self.state(machine)
            if after == before:
                return
            time.sleep(0.1)
        for was, now in zip(before, after):
            self.assertEqual(was, now)

    @unittest.skipIf(has_own_c_library(PLUGIN),
                     "valgrind knows no C library but this machine's")
    def test_valgrind(self):
        log = os.path.join(self.folder.name, "valgrind")
        with self.start("valgrind", "--trace-children=yes", "--leak-check=full",
                        "--num-callers=40", f"--log-file={log}.%p") as machine:
            for properties, sentence in self.failures * 2:
                self.fails(machine, properties, sentence)
            machine.qmp("quit")
            machine.process.communicate(timeout=60)
        with open(f"{log}.{machine.process.pid}") as report:
            text = report.read()
        self.assertIn("HEAP SUMMARY", text)
        self.assertIn("qemu-system-x86_64", text)
        self.assertIn("device.c", SOURCES)
        records = re.split(r"==\d+== \n", text)
        ours = [record for record in records if OURS.search(record)
                and "still reachable" not in record]
        figures["findings of valgrind"] = len(ours)
        self.assertEqual(ours, [], "\n".join(ours))

    def mmap_calls(self, rom, *fault):
        """QEMU with a fault that strace makes, and the calls of each thread."""
        log = os.path.join(self.folder.name, "calls")
        done = run(["strace", "-f", "-o", log, "-e", "trace=mmap", *fault, *TEST],
                   "-device", f"vfio-optimus,romfile={rom}")
        threads = {}
        with open(log) as lines:
            for line in lines:
                thread, call = line.split(None, 1)
                if call.startswith("mmap("):
                    threads.setdefault(thread, []).append(call)
        return *done, threads.values()

    def test_no_memory(self):
        """The window's memory cannot be had."""
        size = 0x23000
        rom = self.file("odd.rom", vbios.make(size=size - 0x2000, **BOCHS))
        # QEMU maps more, to align it, and then the size itself
        fixed = re.compile(rf"mmap\(0x\w+, {size}, .*MAP_FIXED.MAP_ANON")
        # The number of a thread's calls before that is not always the same.
        for _ in range(10):
            status, stderr, threads = self.mmap_calls(rom)
            self.assertEqual((status, stderr), (0, ""))
            numbers = [number for calls in threads
                       for number, call in enumerate(calls, 1) if fixed.match(call)]
            self.assertEqual(len(numbers), 1)
            status, stderr, threads = self.mmap_calls(
                rom, "-e", f"inject=mmap:error=ENOMEM:when={numbers[0]}")
            failed = [call for calls in threads for call in calls
                      if "(INJECTED)" in call]
            if len(failed) == 1 and fixed.match(failed[0]):
                break
        self.assertEqual(status, 1, stderr)
        self.assertEqual(len(stderr.splitlines()), 1)
        self.assertIn(f"romfile '{rom}': cannot set up guest memory "
                      "'optimus-rom': Cannot allocate memory", stderr)


if __name__ == "__main__":
    tap_main(sys.modules[__name__])
