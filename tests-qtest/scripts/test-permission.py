#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody else owns what has to be written."""

import os
import pathlib
import shutil
import subprocess

from script_case import NOBODY, UNPACK, Case, main
from namespace import IS_ROOT, mount


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

    def give(self, *paths):
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", *paths], check=True)

    def test_nothing_may_be_made(self):
        self.bad(*UNPACK, **self.how, says="/mnt/build is where all is built, "
                 "and it cannot be made: Permission denied")

    def test_of_another_user(self):
        for name in (".", "log", "lock"):
            shutil.rmtree(self.build, ignore_errors=True)
            (self.build / "log").mkdir(parents=True)
            (self.build / "lock").touch()
            self.give(self.build)
            os.chown(self.build / name, 0, 0)
            said = os.path.normpath(f"/mnt/build/{name}")
            self.bad(*UNPACK, **self.how, says=f"{said} cannot be written: it "
                     "belongs to root: run this as that user, or remove /mnt/build")
        self.give(self.build)
        self.good(*UNPACK, **self.how)
        self.check_result(UNPACK)

    def test_parts_of_another_user(self):
        """As after a run with sudo and one without."""
        for part in ("apt", "root"):
            shutil.rmtree(self.build, ignore_errors=True)
            self.good(*UNPACK)
            self.give(self.build)
            self.good(*UNPACK, **self.how)
            (self.build / "apt/complete").unlink()
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
