# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what the scripts do when the network, the disk or they themselves
fail: test-KIND.py [TEST]...

Copies of the scripts get packages from a small archive that is made and signed
here; in a mount namespace of their own, where its key is in the place of
Debian's.  apt, its checks and the rest are the real ones."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import archive
from namespace import enter_namespace, mount, mounted
from tap import figures, tap_main

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
FULL = "VFIO_OPTIMUS_FULL" in os.environ
NOBODY = 65534
TIME_LIMIT = 120
VERSION = "10.0.2+ds"

# What the library gets, and where that is below build/ afterwards.
UNPACK = ("unpack_packages", "test", "bookworm", "optimus-test")
MESON = ("need_meson",)
BASE = ("base_source", "10.0")
RESULTS = {
    UNPACK: "root/test",
    MESON: "root/meson",
    BASE: "qemu/base-10.0",
}

NOT_REACHED = "Debian's archive was not reached: see to the network"
NOT_SIGNED = "the mirror sent what Debian did not sign, and it was not used"
NOT_THERE = "the mirror does not have what its index says: run this again"
DISK_FULL = " is full: make room, then run this again"


def small_disk(where, size):
    """A disk of SIZE at WHERE."""
    where.mkdir(exist_ok=True)
    return mounted(where, "-t", "tmpfs", "-o", f"size={size},mode=755", "none")


def alive(folder):
    """The processes that belong to the copy in FOLDER, by their environment."""
    mark = f"TEST_COPY={folder}\0".encode()
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
    return found


class Case(unittest.TestCase):
    # what main() makes for all of them
    work = archive = server = config = None

    SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]

    def setUp(self):
        self.server.heal()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="copy.", dir=self.work))
        self.dir.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.dir)
        for name in ("scripts", "tests-qtest", "hw-optimus", "patches"):
            shutil.copytree(TOP / name, self.dir / name)
        for file in TOP.iterdir():
            if file.is_file():
                shutil.copy(file, self.dir)
        self.build = self.dir / "build"
        library = self.dir / "scripts/library"
        library.write_text('#!/bin/bash\nset -euo pipefail\n'
                           '. "$(dirname "$0")/lib/builds.sh"\nlock_build\n"$@"\n')
        library.chmod(0o755)

    def start(self, *command, user=None, where=None, **more):
        """Start a script; of the library, if the first word is not one."""
        if not (self.dir / "scripts" / command[0]).exists():
            command = ("library", *command)
        where = where or self.dir
        command = [where / "scripts" / command[0], *command[1:]]
        if user is not None:
            command = ["setpriv", "--reuid", user, "--regid", user,
                       "--clear-groups", *command]
        env = dict(os.environ, APT_CONFIG=self.config, LC_ALL="C.UTF-8",
                   TEST_COPY=self.dir, GIT_CONFIG_COUNT="2",
                   GIT_CONFIG_KEY_0="user.name", GIT_CONFIG_VALUE_0="test",
                   GIT_CONFIG_KEY_1="user.email", GIT_CONFIG_VALUE_1="test@test")
        env.update(more)
        env.pop("VFIO_OPTIMUS_LOCKED", None)
        return subprocess.Popen(
            [*map(str, command)], env={k: str(v) for k, v in env.items()},
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, cwd="/")

    def finish(self, process):
        try:
            output = process.communicate(timeout=TIME_LIMIT)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            self.fail(f"{process.args} hangs")
        figures["failures"] += process.returncode == 1
        return output

    def good(self, *command, **how):
        process = self.start(*command, **how)
        output = self.finish(process)
        self.assertEqual(process.returncode, 0, output)
        return output

    def bad(self, *command, says, **how):
        """It fails, and its last line says that it does, why and what to do."""
        process = self.start(*command, **how)
        output = self.finish(process)
        self.assertEqual(process.returncode, 1, output)
        last = output.splitlines()[-1]
        self.assertIn(says, last, output)
        # or one that the script has called
        self.assertRegex(last, f"^({command[0]}|library|build-tree|mkseries): ", output)

    def at_once(self, *command):
        """Three times; returns what they say."""
        processes = [self.start(*command) for _ in range(3)]
        outputs = [self.finish(process) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * 3,
                         outputs)
        return outputs

    def wait_for(self, condition, process):
        while not condition():
            self.assertIsNone(process.poll(), "it has ended before")
            time.sleep(0.05)

    def check_result(self, what):
        """It is there, whole, with the checksums of what the archive has."""
        result = self.build / RESULTS[what]
        if what == UNPACK:
            for name in ("test", "lib"):
                file = result / f"{archive.CONTENT}.optimus-{name}"
                self.assertEqual(file.stat().st_size, 200000)
        sums = "fetched" if what == BASE else "packages"
        lines = (result / sums).read_text().splitlines()
        self.assertGreater(len(lines), 0)
        for line in lines:
            digest, name = line.split()
            data = (self.archive.pool / name).read_bytes()
            self.assertEqual(hashlib.sha256(data).hexdigest(), digest, name)
        for path in result.parent.iterdir():
            self.assertNotIn(path.suffix, (".new", ".debs", ".files", ".old"))

    def check_gone(self):
        """Soon, nothing of this copy runs any more."""
        end = time.monotonic() + 10
        while alive(self.dir):
            self.assertLess(time.monotonic(), end, alive(self.dir))
            time.sleep(0.1)

    def kill(self, process, number, group):
        # ^C goes to all of the terminal's foreground group
        if group or number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        figures["scripts killed"] += 1
        # it has died, and nobody else writes to its output
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.fail(f"{number!r}: these go on: {alive(self.dir)}")
        self.assertNotIn(process.returncode, (0, 1))


def main():
    enter_namespace("""
        . "$0/scripts/lib/builds.sh"
        lock_build
        need_packages dpkg-dev git gpg gpg-agent util-linux \\
            debian-archive-keyring
    """)
    # clean up then, too; and what is started here does not ignore what it is
    # killed with, even if this was started in the background
    for number in Case.SIGNALS[1:]:
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="test-scripts.", dir=BUILD) as folder:
        Case.work = pathlib.Path(folder)
        Case.work.chmod(0o755)
        Case.archive = archive.Archive(Case.work)
        try:
            for name in ("optimus-lib", "meson"):
                Case.archive.package(name)
            Case.archive.package("optimus-test", depends="optimus-lib")
            Case.archive.source(VERSION, "1")
            Case.archive.publish()
            Case.server = archive.Server(Case.archive)
            Case.config = Case.server.settings(Case.work, KEY)
            mount("--bind", Case.work / "key", KEY)
            tap_main("__main__", sys.argv[1:])
        finally:
            Case.archive.close()
