#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The network is down, or sends something else than what was asked for."""

import os
import shutil
import subprocess

from script_case import (BASE, FULL, MESON, NOT_REACHED, NOT_SIGNED, NOT_THERE,
                  RESULTS, UNPACK, VERSION, Case, main)

FAULTS = {
    "down": NOT_REACHED,
    "cut": NOT_REACHED,
    "stalled": NOT_REACHED,
    "broken": NOT_REACHED,
    "missing": NOT_THERE,
    "tampered": NOT_SIGNED,
    "portal": NOT_SIGNED,
}
# What is got from the server, for which of the above, and which of the faults
# are tried if there is no time for all.
OBJECTS = {
    ("InRelease", UNPACK): [],
    ("Packages", UNPACK): ["cut"],
    ("Sources", BASE): [],
    ("optimus-lib_", UNPACK): ["down", "missing", "tampered"],
    ("meson_", MESON): ["tampered"],
    ("orig.tar", BASE): ["cut"],
}


class Network(Case):

    def test_good(self):
        for what in RESULTS:
            output = self.good(*what)
            self.check_result(what)
            if what == UNPACK:
                self.assertRegex(output, r"\[ +[0-9]+ s\] packages from bookworm")

    def test_moved_on(self):
        """A package that the index of some hours ago names, and that a newer
        one has replaced since."""
        self.good(*UNPACK)
        old = self.archive.pool / "optimus-late_1_amd64.deb"
        self.archive.package("optimus-late")
        self.archive.publish()
        self.good("unpack_packages", "other", "bookworm", "optimus-lib")
        (self.build / "apt/complete").unlink()
        self.good("apt_lists")
        old.unlink()
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
        (self.build / "apt/complete").unlink(missing_ok=True)
        self.good(*maybe)
        self.assertTrue((self.build / "root/maybe/packages").exists())

    def test_keeps_what_there_is(self):
        self.good(*UNPACK)
        self.server.fail("cut", "meson_")
        self.bad(*UNPACK, "meson", says=NOT_REACHED)
        self.check_kept()
        self.server.heal()
        self.good(*UNPACK, "meson")
        self.check_result(UNPACK)

    def check_kept(self):
        self.assertEqual(self.content("optimus-test").stat().st_size, 200000)
        # and is good for those who want no more
        self.server.fail("down")
        self.good(*UNPACK)

    def test_wrong_key(self):
        self.archive.key("Other <other@localhost>")
        self.archive.publish("Other <other@localhost>")
        self.addCleanup(self.archive.publish)
        self.bad(*UNPACK, says=NOT_SIGNED)
        self.assertFalse((self.build / "root").exists())
        self.archive.publish()
        self.good(*UNPACK)
        self.check_result(UNPACK)

    def test_revisions_that_are_gone(self):
        """The index has several revisions, and not all have files."""
        for revision in ("0~gone", "2"):
            self.archive.source(VERSION, revision, "gone")
        self.addCleanup(self.archive.publish)
        self.addCleanup(shutil.rmtree, self.archive.pool / "gone")
        self.archive.publish()
        self.server.fail("missing", "gone/")
        self.good(*BASE)
        self.check_result(BASE)

    def test_no_source(self):
        """Only what the archive does not have may be skipped."""
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

    def test_no_network_at_all(self):
        """A namespace without even a loopback device that is up."""
        library = self.dir / "scripts/library"
        library.write_text(library.read_text().replace(
            "#!/bin/bash", "#!/usr/bin/env -S unshare --net bash"))
        self.bad(*UNPACK, says=NOT_REACHED)

    def test_no_mirror(self):
        empty = self.dir / "apt.conf"
        empty.write_text('Dir::Etc::SourceList "/dev/null";'
                         'Dir::Etc::SourceParts "/dev/null";')
        process = subprocess.run(
            [self.dir / "scripts/library", *UNPACK], text=True,
            env=dict(os.environ, APT_CONFIG=str(empty)),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(process.returncode, 1)
        self.assertIn("or add one to /etc/apt", process.stdout.splitlines()[-1])


def add_fault(fault, wanted, what):
    says = FAULTS[fault]
    # a mirror that has no index is none
    if fault == "missing" and wanted in ("InRelease", "Packages", "Sources"):
        says = NOT_REACHED if wanted == "InRelease" else NOT_THERE

    def test(self):
        self.server.fail(fault, wanted)
        self.bad(*what, says=says)
        self.assertFalse((self.build / RESULTS[what]).exists())
        self.server.heal()
        self.good(*what)
        self.check_result(what)
    setattr(Network, f"test_{what[0]}_{wanted}_{fault}".replace(".", "_"), test)


for (wanted, what), faults in OBJECTS.items():
    for fault in FAULTS if FULL else faults:
        # that one is skipped: test_no_source
        if (fault, what) != ("missing", BASE):
            add_fault(fault, wanted, what)


if __name__ == "__main__":
    main()
