#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk is full, or somebody else owns what has to be written."""

import os
import pathlib
import shutil
import subprocess

from script_case import (BASE, BUILD, DISK_FULL, NOBODY, RESULTS, TOP, UNPACK, Case,
                         main, small_disk)
from namespace import IS_ROOT, mount


class Disk(Case):

    def test_full(self):
        """When something is unpacked, of which there is nothing then"""
        for what, kib in (UNPACK, 600), (BASE, 450):
            with self.subTest(what=what), small_disk(self.build, "64m"):
                self.good(*what)
                shutil.rmtree(self.build / RESULTS[what])
                disk = os.statvfs(self.build)
                used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024
                self.check_full(what, f"size={used + kib}k")

    def test_full_at_once(self):
        for option in "size=8k", "nr_inodes=12":
            with self.subTest(option=option), small_disk(self.build, "64m"):
                self.check_full(UNPACK, option)

    def check_full(self, what, option):
        mount("-o", f"remount,{option}", self.build)
        self.bad(*what, says=DISK_FULL)
        self.assertFalse((self.build / RESULTS[what]).exists())
        mount("-o", "remount,size=64m,nr_inodes=10000", self.build)
        self.good(*what)
        self.check_result(what)

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
        with small_disk(out, "40k"):
            self.bad("mkseries", "--source", source, out, says=DISK_FULL)
            self.assertEqual([*out.iterdir()], [])
            mount("-o", "remount,size=64m", out)
            self.good("mkseries", "--source", source, out)
            # and the cover letter
            self.assertEqual(len([*out.iterdir()]),
                             len([*(TOP / "patches").glob("0*.patch")]) + 1)


class Permission(Case):

    def setUp(self):
        super().setUp()
        if not IS_ROOT:
            self.skipTest("needs root, to be another user")
        # where everybody may go, wherever the repository is
        for folder, where in (self.dir, "/mnt"), (self.work, "/media"):
            mount("--bind", folder, where)
            self.addCleanup(subprocess.run, ["umount", "--lazy", where],
                            check=True)
        (self.dir / "apt.conf").write_text(
            self.config.read_text().replace(str(self.work), "/media"))
        self.how = {"user": NOBODY, "where": pathlib.Path("/mnt"),
                    "APT_CONFIG": "/mnt/apt.conf"}

    def give(self):
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", self.build], check=True)

    def test_of_another_user(self):
        self.bad(*UNPACK, **self.how, says="/mnt/build is where all is built, "
                 "and it cannot be made: Permission denied")
        (self.build / "log").mkdir(parents=True)
        (self.build / "lock").touch()
        for name in (".", "log", "lock"):
            self.give()
            os.chown(self.build / name, 0, 0)
            said = os.path.normpath(f"/mnt/build/{name}")
            self.bad(*UNPACK, **self.how, says=f"{said} cannot be written: it "
                     "belongs to root: run this as that user, or remove /mnt/build")

    def test_parts_of_another_user(self):
        """As after a run with sudo and one without."""
        self.good(*UNPACK)
        for part in ("apt", "root"):
            self.give()
            (self.build / "apt/complete").unlink(missing_ok=True)
            subprocess.run(["chown", "-R", "0:0", self.build / part], check=True)
            self.bad(*UNPACK, "meson", **self.how,
                     says="not all of /mnt/build is yours: remove it, then run")
            shutil.rmtree(self.build / part)
        self.good(*UNPACK, "meson", **self.how)
        self.check_result(UNPACK)

    def test_help(self):
        """Needs nothing to be written."""
        for script in ("check", "demo", "build-plugin", "build-tree", "mkseries",
                       "check-series"):
            self.good(script, "--help", **self.how)
        self.assertFalse(self.build.exists())

    def test_series(self):
        self.bad("mkseries", "/root/series", **self.how,
                 says="/root/series cannot be written: name another directory")


if __name__ == "__main__":
    main()
