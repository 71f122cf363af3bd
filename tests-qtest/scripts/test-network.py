#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The network is down, or sends something else than what was asked for."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from script_case import (BASE, MESON, NOBODY, NOT_REACHED, NOT_SIGNED, NOT_THERE,
                         RESULTS, UNPACK, VERSION, Case, main)
from namespace import IS_ROOT, mount

# What happens to what file, what wants it, and what is said
FAULTS = [
    ("portal", "InRelease", UNPACK, NOT_SIGNED),
    ("cut", "Packages", UNPACK, NOT_REACHED),
    ("tampered", "optimus-lib_", UNPACK, NOT_SIGNED),
    ("down", "meson_", MESON, NOT_REACHED),
    ("cut", "orig.tar", BASE, NOT_REACHED),
]


class Network(Case):

    def test_faults(self):
        for fault, where, what, says in FAULTS:
            with self.subTest(fault=fault, where=where):
                shutil.rmtree(self.build, ignore_errors=True)
                self.server.fail(fault, where)
                self.bad(*what, says=says)
                self.assertFalse((self.build / RESULTS[what]).exists())
                self.server.heal()
                self.assertRegex(self.good(*what), r"\[ *[0-9]+ s\] ")
                self.check_result(what)

    def test_moved_on(self):
        """A package that the index of some hours ago names, and that a newer
        one has replaced since."""
        self.archive.package("optimus-late")
        self.archive.publish()
        self.good("apt_lists")
        (self.archive.pool / "optimus-late_1_amd64.deb").unlink()
        self.archive.package("optimus-late", version="2")
        self.archive.publish()
        late = ("unpack_packages", "late", "bookworm", "optimus-late")
        self.bad(*late, says=NOT_THERE)
        self.good(*late)
        self.assertIn("optimus-late_2",
                      (self.build / "root/late/packages").read_text())

    def test_may_be_missing(self):
        """A package that the tests can do without."""
        maybe = ("try_packages", "maybe", "bookworm", "optimus-maybe")
        self.server.fail("down")
        self.bad(*maybe, says=NOT_REACHED)
        self.server.heal()
        self.assertIn("maybe is skipped: Debian's archive does not have "
                      "optimus-maybe", self.good(*maybe))
        self.assertFalse((self.build / "root/maybe").exists())
        # and it is not asked for again in each test
        self.archive.package("optimus-maybe")
        self.archive.publish()
        self.assertEqual(self.good(*maybe), "")
        (self.build / "root/maybe.missing").unlink()
        self.good(*maybe)
        self.assertTrue((self.build / "root/maybe/packages").exists())

    def test_keeps_what_there_is(self):
        self.good(*UNPACK)
        self.server.fail("cut", "meson_")
        self.bad(*UNPACK, "meson", says=NOT_REACHED)
        # and is good for those who want no more
        self.server.fail("down")
        self.good(*UNPACK)
        self.check_result(UNPACK)
        self.server.heal()
        self.good(*UNPACK, "meson")
        self.check_result(UNPACK)

    def test_wrong_key(self):
        self.archive.key("Other <other@localhost>")
        self.archive.publish("Other <other@localhost>")
        self.addCleanup(self.archive.publish)
        self.bad(*UNPACK, says=NOT_SIGNED)
        self.assertFalse((self.build / "root").exists())

    def test_source_that_is_gone(self):
        """The index has several revisions, and not all have files; only what the
        archive does not have may be skipped."""
        self.addCleanup(setattr, self.archive, "sources", self.archive.sources)
        for revision in ("0~gone", "2"):
            self.archive.source(VERSION, revision, "gone")
        self.archive.publish()
        self.server.fail("missing", "gone/")
        self.good(*BASE)
        self.check_result(BASE)
        shutil.rmtree(self.build)
        self.server.fail("missing", "orig.tar")
        skipped = "is skipped: Debian's archive does not have its source"
        # of 10.0 the index knows, of 10.2 it does not
        self.assertIn(f"QEMU 10.0 {skipped}", self.good(*BASE))
        self.assertFalse((self.build / RESULTS[BASE]).exists())
        process = self.start("mkseries", self.dir / "out")
        output = self.finish(process)
        self.assertEqual(process.returncode, 3, output)
        self.assertIn(f"QEMU 10.2 {skipped}", output.splitlines()[-1])

    def test_each_script(self):
        """From nothing, without a network."""
        self.server.fail("down")
        for command in (["demo"], ["demo", "--tree"], ["check"], ["build-tree"],
                        ["check-series"], ["mkseries", self.dir / "out"]):
            self.bad(*command, says=NOT_REACHED)
        self.assertEqual([*(self.dir / "out").iterdir()], [])

    def test_no_mirror(self):
        empty = self.dir / "apt.conf"
        empty.write_text('Dir::Etc::SourceList "/dev/null";'
                         'Dir::Etc::SourceParts "/dev/null";')
        self.bad(*UNPACK, APT_CONFIG=empty, says="or add one to /etc/apt")


class Install(Case):
    """Packages of the system, in a root of their own."""

    def setUp(self):
        super().setUp()
        # they may be what a script needs first
        library = self.dir / "scripts/library"
        library.write_text(library.read_text().replace("lock_build\n", ""))

    def installed(self, name):
        status = (self.work / "system/var/lib/dpkg/status").read_text()
        return f"Package: {name}\nStatus: install ok installed\n" in status

    def test_at_once(self):
        self.server.fail("slow")
        self.at_once("need_packages", "optimus-test")
        self.assertTrue(self.installed("optimus-test"))

    def test_killed(self):
        """What dpkg has begun it ends, and the next run waits for that."""
        begun = self.work / "begun"
        self.archive.package("optimus-long", postinst=f"touch {begun}; sleep 2")
        self.archive.package("optimus-after")
        self.archive.publish()
        process = self.start("need_packages", "optimus-long")
        self.wait_for(begun.exists, process)
        self.kill(process, signal.SIGINT, True)
        self.assertFalse(self.installed("optimus-long"))
        self.good("need_packages", "optimus-after")
        self.assertTrue(self.installed("optimus-long"))
        self.assertTrue(self.installed("optimus-after"))

    def test_network(self):
        # as in root's home, where apt's own user may not go, and apt says so
        self.work.chmod(0o700)
        self.addCleanup(self.work.chmod, 0o755)
        self.server.fail("down")
        self.bad("need_packages", "optimus-none", says=NOT_REACHED)
        self.server.heal()
        self.bad("need_packages", "optimus-none",
                 says="the mirrors in /etc/apt do not have it")

    @unittest.skipUnless(IS_ROOT, "needs root, to be another user")
    def test_no_sudo(self):
        mount("--bind", self.dir, "/mnt")
        self.addCleanup(subprocess.run, ["umount", "--lazy", "/mnt"], check=True)
        os.chown(self.dir, NOBODY, NOBODY)
        self.bad("need_packages", "optimus-none", user=NOBODY,
                 where=pathlib.Path("/mnt"), says="not installed: optimus-none: "
                 "install them as root, then run this again")


if __name__ == "__main__":
    main()
