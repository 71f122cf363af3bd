#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of the system, in a root of their own."""

import os
import pathlib
import signal
import subprocess
import time
import unittest

from script_case import NOBODY, NOT_REACHED, NOT_SIGNED, Case, main
from namespace import IS_ROOT, mount


class Install(Case):

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
        processes = [self.start("need_packages", "optimus-test")
                     for _ in range(3)]
        for process in processes:
            output = self.finish(process)
            self.assertEqual(process.returncode, 0, output)
        self.assertTrue(self.installed("optimus-test"))

    def test_killed(self):
        """What dpkg has begun it ends, and the next run waits for that."""
        begun = self.work / "begun"
        self.archive.package("optimus-long", postinst=f"touch {begun}; sleep 4")
        self.archive.package("optimus-after")
        self.archive.publish()
        process = self.start("need_packages", "optimus-long")
        while not begun.exists():
            self.assertIsNone(process.poll(), "it failed")
            time.sleep(0.1)
        self.kill(process, signal.SIGINT, True)
        self.assertFalse(self.installed("optimus-long"))
        self.good("need_packages", "optimus-after")
        self.assertTrue(self.installed("optimus-long"))
        self.assertTrue(self.installed("optimus-after"))

    def test_service(self):
        """One that is started on the way does not keep the lock."""
        pid = self.work / "pid"
        self.archive.package("optimus-service", postinst="setsid sleep 100 "
                        f"</dev/null >/dev/null 2>&1 & echo $! >{pid}")
        self.archive.publish()
        self.good("need_packages", "optimus-service")
        self.addCleanup(lambda: os.kill(int(pid.read_text()), signal.SIGKILL))
        self.assertNotIn("waiting", self.good("lock_build"))

    def test_network(self):
        # as in root's home, where apt's own user may not go, and apt says so
        self.work.chmod(0o700)
        self.addCleanup(self.work.chmod, 0o755)
        self.server.fail("down")
        self.bad("need_packages", "optimus-lost", says=NOT_REACHED)
        self.server.heal()
        self.bad("need_packages", "optimus-lost",
                 says="the mirrors in /etc/apt do not have it")
        self.archive.package("optimus-lost")
        self.archive.publish()
        self.server.fail("tampered", "optimus-lost_")
        self.bad("need_packages", "optimus-lost", says=NOT_SIGNED)
        self.assertFalse(self.installed("optimus-lost"))
        self.server.heal()
        self.good("need_packages", "optimus-lost")
        self.assertTrue(self.installed("optimus-lost"))

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
