#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: that it is complete, and what does not depend on time.

usage: test-bench.py TOP

Times decide nothing here.
"""

import json
import os
import subprocess
import sys
import unittest
import xml.etree.ElementTree as tree

from tap import tap_main

TOP = sys.argv[1]
OUT = os.path.join(TOP, "build/bench/quick")
WAYS = {"optimus", "buffer", "ssdt", "segments", "field", "fwcfg-mid", "fwcfg-field"}
SIZE = 128 << 10


def setUpModule():
    done = subprocess.run([os.path.join(TOP, "scripts/bench"), "--quick"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    sys.stderr.write(done.stdout + done.stderr)
    if done.returncode:
        # It fails by itself if a way gave other bytes than those of the ROM.
        raise RuntimeError(f"scripts/bench: exit status {done.returncode}")
    global RESULTS, TABLE
    TABLE = done.stdout
    with open(os.path.join(OUT, "results.json")) as file:
        RESULTS = json.load(file)


class Bench(unittest.TestCase):
    def test_every_way_was_measured(self):
        measured = {(entry["way"], entry["driver"], entry["read"])
                    for entry in RESULTS["reads"] if entry["n"] and entry["min"] > 0}
        wanted = {(way, driver, read) for way in WAYS | {"in-place"}
                  for driver in ["nvidia", "nouveau"] for read in ["first", "again"]}
        self.assertEqual(wanted - measured, set())

    def test_three_samples(self):
        """But for what takes seconds."""
        for entry in RESULTS["reads"]:
            if entry["read"] == "first" and not entry["way"].startswith("fwcfg"):
                self.assertGreaterEqual(entry["n"], 3, entry)

    def test_calls(self):
        calls = {(entry["way"], entry["driver"]): entry["calls"]
                 for entry in RESULTS["reads"] if entry["measured"] == SIZE}
        for way in ["optimus", "in-place", "ssdt"]:
            self.assertEqual(calls[way, "nvidia"], SIZE // 4096)
            # two, the second one in vain, then page by page
            self.assertEqual(calls[way, "nouveau"], 2 + SIZE // 4096)

    def test_aml(self):
        self.assertLessEqual(RESULTS["costs"][f"optimus-{SIZE}"]["aml"], 200)
        one, two, four, eight = RESULTS["devices"]["aml"]
        self.assertEqual([two, four, eight], [2 * one, 4 * one, 8 * one])

    def test_tables_and_initrd_stay(self):
        cost = RESULTS["costs"][f"optimus-{SIZE}"]
        self.assertEqual((cost["tables"], cost["initrd"]), (0, 0))

    def test_no_guest_memory(self):
        self.assertEqual(RESULTS["memory"]["difference"],
                         {"ram": 0, "total_kib": 0, "dsdt": 0, "initrd": 0})
        self.assertGreater(RESULTS["memory"]["vfio-optimus"]["ram"], 300 << 20)

    def test_heap(self):
        """The kernel's heap has the ROM where it is a buffer, and only there."""
        costs = RESULTS["costs"]
        for way in ["buffer", "ssdt"]:
            self.assertGreaterEqual(costs[f"{way}-{SIZE}"]["heap_kib"], 100)
        self.assertLess(abs(costs[f"optimus-{SIZE}"]["heap_kib"]), 64)

    def test_table(self):
        for text in ["vfio-optimus", "fw_cfg loop (lion328)", "guest RAM taken: 0 bytes",
                     "NVIDIA's own driver was not measured (VFIO_OPTIMUS_NONFREE=yes",
                     "start of QEMU in the lab", "boot of a guest", "R^2", "building:"]:
            self.assertIn(text, TABLE)

    def test_picture(self):
        root = tree.parse(os.path.join(OUT, "bench.svg")).getroot()
        texts = " ".join(root.itertext())
        for text in ["vfio-optimus", "coreboot", "Shorter is better", "128 KiB"]:
            self.assertIn(text, texts)


class Usage(unittest.TestCase):
    def run_bench(self, *args):
        done = subprocess.run([os.path.join(TOP, "scripts/bench"), *args],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_help(self):
        status, out, _ = self.run_bench("--help")
        self.assertEqual(status, 0)
        self.assertIn("usage: scripts/bench", out)

    def test_refused(self):
        for args, words in [(["--fast"], "unknown option --fast"),
                            (["--quick", "--readme"], "leave out --quick")]:
            status, _, err = self.run_bench(*args)
            self.assertEqual(status, 1)
            self.assertIn(words, err)
            self.assertEqual(err.count("\n"), 1)


tap_main(sys.modules[__name__])
