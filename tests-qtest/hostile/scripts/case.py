#!/usr/bin/python3
"""Tests of what the scripts do when the network, the disk or they themselves
fail: case.py [TEST]...

Copies of the scripts get packages from a small archive that is made and signed
here; in a mount namespace of their own, where its key is in the place of
Debian's.  apt, its checks and the rest are the real ones."""

import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import archive
from machine import figures, tap_main
from namespace import IS_ROOT, enter_namespace, mount, mounted

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = TOP / "build"
KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
FULL = "VFIO_OPTIMUS_FULL" in os.environ
NOBODY = 65534
TIME_LIMIT = 120
VERSION = "10.0.2+ds"
QEMU = BUILD / "root/qemu-10.0"
PROGRAM = BUILD / "emulator/qemu-10.0/qemu-system-x86_64"

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
    ("InRelease", UNPACK): ["tampered"],
    ("Packages", UNPACK): ["cut"],
    ("Sources", BASE): ["tampered"],
    ("optimus-lib_", UNPACK): [*FAULTS],
    ("meson_", MESON): ["tampered"],
    ("orig.tar", BASE): ["cut", "tampered"],
}

ARCHIVE = SERVER = CONFIG = None


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

    def setUp(self):
        SERVER.heal()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="copy.", dir=WORK))
        self.dir.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.dir)
        for name in ("scripts", "tests-qtest", "hw-optimus", "patches"):
            shutil.copytree(TOP / name, self.dir / name)
        for file in TOP.glob("meson*"):
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
        env = dict(os.environ, APT_CONFIG=CONFIG, LC_ALL="C.UTF-8",
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
        name = command[0]
        if not (self.dir / "scripts" / name).exists():
            name = "library"
        # which the script may have called
        self.assertRegex(last, f"^({name}|build-tree|mkseries): ", output)
        return output

    def content(self, name):
        return (self.build / f"{RESULTS[UNPACK]}/{archive.CONTENT}.{name}")

    def check_result(self, what):
        """It is there, whole, with the checksums of what the archive has."""
        result = self.build / RESULTS[what]
        if what == UNPACK:
            self.assertEqual(self.content("optimus-test").stat().st_size, 200000)
            self.assertEqual(self.content("optimus-lib").stat().st_size, 200000)
        sums = "fetched" if what == BASE else "packages"
        lines = (result / sums).read_text().splitlines()
        self.assertGreater(len(lines), 0)
        for line in lines:
            digest, name = line.split()
            data = (ARCHIVE.pool / name).read_bytes()
            self.assertEqual(hashlib.sha256(data).hexdigest(), digest, name)
        for path in result.parent.iterdir():
            self.assertNotIn(path.suffix, (".new", ".debs", ".files", ".old"))

    def check_gone(self):
        """Soon, nothing of this copy runs any more."""
        end = time.monotonic() + 10
        while alive(self.dir):
            self.assertLess(time.monotonic(), end, alive(self.dir))
            time.sleep(0.1)


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
        old = ARCHIVE.pool / "optimus-late_1_amd64.deb"
        ARCHIVE.package("optimus-late")
        ARCHIVE.publish()
        self.good("unpack_packages", "other", "bookworm", "optimus-lib")
        (self.build / "apt/complete").unlink()
        self.good("apt_lists")
        old.unlink()
        ARCHIVE.package("optimus-late", version="2")
        ARCHIVE.publish()
        late = ("unpack_packages", "late", "bookworm", "optimus-late")
        self.bad(*late, says=NOT_THERE)
        self.good(*late)
        self.assertIn("optimus-late_2",
                      (self.build / "root/late/packages").read_text())

    def test_may_be_missing(self):
        """A package that the tests can do without."""
        maybe = ("try_packages", "maybe", "bookworm", "optimus-maybe")
        SERVER.fail("down")
        self.bad(*maybe, says=NOT_REACHED)
        SERVER.heal()
        self.assertIn("maybe is skipped: Debian's archive does not have "
                      "optimus-maybe", self.good(*maybe))
        self.assertFalse((self.build / "root/maybe").exists())
        # and it is not asked for again in each test
        ARCHIVE.package("optimus-maybe")
        ARCHIVE.publish()
        self.assertEqual(self.good(*maybe), "")
        (self.build / "root/maybe.missing").unlink()
        (self.build / "apt/complete").unlink(missing_ok=True)
        self.good(*maybe)
        self.assertTrue((self.build / "root/maybe/packages").exists())

    def test_keeps_what_there_is(self):
        self.good(*UNPACK)
        SERVER.fail("cut", "meson_")
        self.bad(*UNPACK, "meson", says=NOT_REACHED)
        self.check_kept()
        SERVER.heal()
        self.good(*UNPACK, "meson")
        self.check_result(UNPACK)

    def check_kept(self):
        self.assertEqual(self.content("optimus-test").stat().st_size, 200000)
        # and is good for those who want no more
        SERVER.fail("down")
        self.good(*UNPACK)

    def test_wrong_key(self):
        ARCHIVE.key("Other <other@localhost>")
        ARCHIVE.publish("Other <other@localhost>")
        self.addCleanup(ARCHIVE.publish)
        self.bad(*UNPACK, says=NOT_SIGNED)
        self.assertFalse((self.build / "root").exists())
        ARCHIVE.publish()
        self.good(*UNPACK)
        self.check_result(UNPACK)

    def test_revisions_that_are_gone(self):
        """The index has several revisions, and not all have files."""
        for revision in ("0~gone", "2"):
            ARCHIVE.source(VERSION, revision, "gone")
        self.addCleanup(ARCHIVE.publish)
        self.addCleanup(shutil.rmtree, ARCHIVE.pool / "gone")
        ARCHIVE.publish()
        SERVER.fail("missing", "gone/")
        self.good(*BASE)
        self.check_result(BASE)

    def test_no_source(self):
        """Only what the archive does not have may be skipped."""
        SERVER.fail("missing", "orig.tar")
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
        SERVER.fail("down")
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
        SERVER.fail(fault, wanted)
        self.bad(*what, says=says)
        self.assertFalse((self.build / RESULTS[what]).exists())
        SERVER.heal()
        self.good(*what)
        self.check_result(what)
    setattr(Network, f"test_{what[0]}_{wanted}_{fault}".replace(".", "_"), test)


for (wanted, what), faults in OBJECTS.items():
    for fault in FAULTS if FULL else faults:
        # that one is skipped: test_no_source
        if (fault, what) != ("missing", BASE):
            add_fault(fault, wanted, what)


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
                self.assertEqual(len([*out.iterdir()]), 9)


class Permission(Case):

    def setUp(self):
        super().setUp()
        if not IS_ROOT:
            self.skipTest("needs root, to be another user")
        # where everybody may go, wherever the repository is
        for folder, where in (self.dir, "/mnt"), (WORK, "/media"):
            mount("--bind", folder, where)
            self.addCleanup(subprocess.run, ["umount", "--lazy", where],
                            check=True)
        (self.dir / "apt.conf").write_text(
            CONFIG.read_text().replace(str(WORK), "/media"))
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


class Death(Case):

    SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]

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

    def test_killed(self):
        """At any moment: all ends, and the next run does what is left."""
        chance = random.Random(int(os.environ.get("SEED", "1")))
        for what in (UNPACK, BASE):
            shutil.rmtree(self.build, ignore_errors=True)
            begin = time.monotonic()
            SERVER.fail("slow")
            self.good(*what)
            whole = time.monotonic() - begin
            for turn in range(200 if FULL else 4):
                SERVER.fail("slow")
                if chance.random() < 0.5:
                    shutil.rmtree(self.build)
                else:
                    shutil.rmtree(self.build / RESULTS[what], ignore_errors=True)
                process = self.start(*what)
                time.sleep(chance.uniform(0, whole * 0.9))
                if process.poll() is None:
                    self.kill(process, self.SIGNALS[turn % 4],
                              chance.random() < 0.5)
                else:
                    process.communicate()
                self.check_gone()
                SERVER.heal()
                self.good(*what)
                self.check_result(what)

    def killed_in(self, commands, number, group):
        """Shell commands end with the script that they are in."""
        library = self.dir / "scripts/library"
        library.write_text(f"{library.read_text()}{commands}\n")
        process = self.start("true")
        time.sleep(1)
        self.kill(process, number, group)
        self.check_gone()

    def test_stubborn(self):
        """What ignores SIGTERM is ended too."""
        self.killed_in('''
            stubborn() { trap '' TERM INT HUP; for i in 1 2 3 4 5 6 7 8 9; do
                sleep 5; done; }
            step "stubborn" stubborn''', signal.SIGTERM, False)

    def test_interrupted(self):
        """^C ends a script even if the program that it waits for does not
        die of it, or has ended just then."""
        self.killed_in('''
            sh -c 'trap "" INT; sleep 2'
            sleep 60''', signal.SIGINT, True)

    def test_at_once(self):
        SERVER.fail("slow")
        processes = [self.start(*UNPACK) for _ in range(4)]
        outputs = [self.finish(process) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * 4,
                         outputs)
        self.check_result(UNPACK)
        waited = [output for output in outputs if "waiting: " in output]
        self.assertEqual(len(waited), 3, outputs)
        for output in waited:
            self.assertRegex(output, f"another script works in {self.build} "
                             r"\((library, process [0-9]+)?\)\n")
        got = [path for path in SERVER.requests if "optimus-lib_" in path]
        self.assertEqual(len(got), 1)

    def test_lock_outlives(self):
        """The next run does not wait for what the one that was killed left."""
        patient = self.dir / "apt.conf"
        patient.write_text(CONFIG.read_text().replace('Timeout "1"',
                                                      'Timeout "60"'))
        SERVER.fail("stalled", "optimus-lib_")
        process = self.start(*UNPACK, APT_CONFIG=patient)
        while not any("optimus-lib_" in path for path in SERVER.requests):
            self.assertIsNone(process.poll())
            time.sleep(0.1)
        self.kill(process, signal.SIGKILL, False)
        self.check_gone()
        SERVER.heal()
        self.good(*UNPACK)
        self.check_result(UNPACK)


class Install(Case):
    """Packages of the system, in a root of their own."""

    def setUp(self):
        super().setUp()
        # they may be what a script needs first
        library = self.dir / "scripts/library"
        library.write_text(library.read_text().replace("lock_build\n", ""))

    def installed(self, name):
        status = (WORK / "system/var/lib/dpkg/status").read_text()
        return f"Package: {name}\nStatus: install ok installed\n" in status

    def test_at_once(self):
        SERVER.fail("slow")
        processes = [self.start("need_packages", "optimus-test")
                     for _ in range(3)]
        for process in processes:
            output = self.finish(process)
            self.assertEqual(process.returncode, 0, output)
        self.assertTrue(self.installed("optimus-test"))

    def test_killed(self):
        """What dpkg has begun it ends, and the next run waits for that."""
        begun = WORK / "begun"
        ARCHIVE.package("optimus-long", postinst=f"touch {begun}; sleep 4")
        ARCHIVE.package("optimus-after")
        ARCHIVE.publish()
        process = self.start("need_packages", "optimus-long")
        while not begun.exists():
            self.assertIsNone(process.poll(), "it failed")
            time.sleep(0.1)
        Death.kill(self, process, signal.SIGINT, True)
        self.assertFalse(self.installed("optimus-long"))
        self.good("need_packages", "optimus-after")
        self.assertTrue(self.installed("optimus-long"))
        self.assertTrue(self.installed("optimus-after"))

    def test_service(self):
        """One that is started on the way does not keep the lock."""
        pid = WORK / "pid"
        ARCHIVE.package("optimus-service", postinst="setsid sleep 100 "
                        f"</dev/null >/dev/null 2>&1 & echo $! >{pid}")
        ARCHIVE.publish()
        self.good("need_packages", "optimus-service")
        self.addCleanup(lambda: os.kill(int(pid.read_text()), signal.SIGKILL))
        self.assertNotIn("waiting", self.good("lock_build"))

    def test_network(self):
        # as in root's home, where apt's own user may not go, and apt says so
        WORK.chmod(0o700)
        self.addCleanup(WORK.chmod, 0o755)
        SERVER.fail("down")
        self.bad("need_packages", "optimus-lost", says=NOT_REACHED)
        SERVER.heal()
        self.bad("need_packages", "optimus-lost",
                 says="the mirrors in /etc/apt do not have it")
        ARCHIVE.package("optimus-lost")
        ARCHIVE.publish()
        SERVER.fail("tampered", "optimus-lost_")
        self.bad("need_packages", "optimus-lost", says=NOT_SIGNED)
        self.assertFalse(self.installed("optimus-lost"))
        SERVER.heal()
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


class Plugin(Case):
    """build-plugin from end to end."""

    def setUp(self):
        super().setUp()
        self.plugin = self.build / "plugin"

    def check_works(self):
        devices = subprocess.run(
            [self.plugin / "qemu-optimus", "-device", "help"], text=True,
            env=dict(os.environ, VFIO_OPTIMUS_QEMU=str(PROGRAM)), check=True,
            stdout=subprocess.PIPE).stdout
        self.assertIn('"vfio-optimus"', devices)

    def test_no_network(self):
        """It needs none, nor anything of the archive."""
        program = self.dir / "scripts/build-plugin"
        program.write_text(program.read_text().replace(
            "#!/bin/bash", "#!/usr/bin/env -S unshare --net bash"))
        begin = time.monotonic()
        self.good("build-plugin")
        figures["seconds for the plugin"] = round(time.monotonic() - begin)
        self.check_works()
        self.assertEqual({path.name for path in self.build.iterdir()},
                         {"lock", "log", "plugin"})

    def test_caller_killed(self):
        """A script ends with the one that has called it."""
        (self.build / "root").mkdir(parents=True)
        (self.build / "root/qemu-10.0").symlink_to(QEMU)
        process = self.start("emulator", QEMU.name)
        while not any(b"build-plugin" in command for command in alive(self.dir)):
            self.assertIsNone(process.poll())
            time.sleep(0.1)
        time.sleep(1)
        Death.kill(self, process, signal.SIGKILL, True)
        self.check_gone()
        self.good("emulator", QEMU.name)

    def test_killed(self):
        chance = random.Random(int(os.environ.get("SEED", "2")))
        begin = time.monotonic()
        self.good("build-plugin")
        whole = time.monotonic() - begin
        for turn in range(30 if FULL else 2):
            shutil.rmtree(self.plugin)
            process = self.start("build-plugin")
            time.sleep(chance.uniform(0, whole))
            if process.poll() is None:
                Death.kill(self, process, Death.SIGNALS[turn % 4], False)
            else:
                process.communicate()
            self.check_gone()
            output = self.good("build-plugin")
            self.assertIn(f"ready: {self.plugin}/qemu-optimus", output)
            self.check_works()

    def test_running(self):
        """A QEMU that runs keeps the plugin that it has mapped."""
        self.good("build-plugin")
        name = "vfio-optimus-preload.so"
        with open(self.plugin / name, "rb") as mapped:
            before = mapped.read()
            self.good("build-plugin")
            self.assertNotEqual(os.fstat(mapped.fileno()).st_ino,
                                (self.plugin / name).stat().st_ino)
            mapped.seek(0)
            self.assertEqual(mapped.read(), before)

    def test_disk_full(self):
        self.build.mkdir()
        with small_disk(self.plugin, "200k"):
            self.bad("build-plugin", says=DISK_FULL)
            self.assertFalse((self.plugin / "qemu-optimus").exists())
            mount("-o", "remount,size=64m", self.plugin)
            self.good("build-plugin")
            self.check_works()


def main():
    global WORK, ARCHIVE, SERVER, CONFIG
    enter_namespace("""
        . "$0/scripts/lib/builds.sh"
        lock_build
        need_packages dpkg-dev git gpg gpg-agent util-linux \\
            debian-archive-keyring
    """)
    # clean up then, too; and what is started here does not ignore what it is
    # killed with, even if this was started in the background
    for number in Death.SIGNALS[1:]:
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="test-scripts.", dir=BUILD) as folder:
        WORK = pathlib.Path(folder)
        WORK.chmod(0o755)
        ARCHIVE = archive.Archive(WORK)
        try:
            for name in ("optimus-lib", "meson"):
                ARCHIVE.package(name)
            ARCHIVE.package("optimus-test", depends="optimus-lib")
            ARCHIVE.source(VERSION, "1")
            ARCHIVE.publish()
            SERVER = archive.Server(ARCHIVE)
            CONFIG = SERVER.settings(WORK, KEY)
            mount("--bind", WORK / "key", KEY)
            tap_main(sys.modules[__name__], sys.argv[1:])
        finally:
            ARCHIVE.close()


if __name__ == "__main__":
    main()
