#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk is full."""

import shutil

from script_case import (BASE, BUILD, DISK_FULL, FULL, RESULTS, TOP, UNPACK, Case, main,
                         small_disk)
from namespace import mount


class Disk(Case):

    def test_full(self):
        """On ever larger disks, until one is large enough."""
        sizes = range(8, 1400, 8 if FULL else 400)
        for what in (UNPACK, BASE):
            tried = 0
            for size in sizes:
                with small_disk(self.build, f"{size}k"):
                    process = self.start(*what)
                    output = self.finish(process)
                    if process.returncode == 0:
                        break
                    self.assertEqual(process.returncode, 1, output)
                    self.assertRegex(output.splitlines()[-1],
                                     "^library: failed: .*" + DISK_FULL)
                    self.assertFalse((self.build / RESULTS[what]).exists())
                    mount("-o", "remount,size=64m", self.build)
                    self.good(*what)
                    self.check_result(what)
                tried += 1
            self.assertGreater(tried, 2)

    def test_no_inodes(self):
        with small_disk(self.build, "64m"):
            mount("-o", "remount,nr_inodes=12", self.build)
            self.bad(*UNPACK, says=DISK_FULL)
            mount("-o", "remount,nr_inodes=10000", self.build)
            self.good(*UNPACK)
            self.check_result(UNPACK)

    def test_demo(self):
        """What it lacks, the demo says before it gets or builds anything."""
        with small_disk(self.build, "500m"):
            self.bad("demo", says=" takes 2048: make room, or move the repository")
            self.assertEqual([*self.build.iterdir()], [])
        blank = self.dir / "a b"
        shutil.copytree(self.dir / "scripts", blank / "scripts")
        self.bad("demo", where=blank, says="blanks and the like in this name")
        self.assertFalse((blank / "build").exists())

    def test_series(self):
        """All patches or none, from the source that scripts/check has got."""
        source = BUILD / "qemu/base-10.2"
        if not source.exists():
            self.skipTest("the source of QEMU 10.2 is not to be had")
        out = self.dir / "out"
        for size in ("16k", "40k"):
            with small_disk(out, size):
                self.bad("mkseries", "--source", source, out, says=DISK_FULL)
                self.assertEqual([*out.iterdir()], [])
                mount("-o", "remount,size=64m", out)
                self.good("mkseries", "--source", source, out)
                # and the cover letter
                self.assertEqual(len([*out.iterdir()]),
                                 len([*(TOP / "patches").glob("0*.patch")]) + 1)


if __name__ == "__main__":
    main()
