#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin gets into this QEMU with -plugin, whatever else QEMU is told.

usage: test-entry.py EMULATOR_DIRECTORY
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import vbios
from machine import Machine, PLUGINS, run, TIME_LIMIT, unpacked, with_plugin
from tap import tap_main

EMULATOR = os.path.abspath(sys.argv[1])
PLUGIN = os.path.join(PLUGINS, "vfio-optimus.so")
QEMU = os.path.join(EMULATOR, "qemu-system-x86_64")
TEST = with_plugin(EMULATOR, "test-optimus")
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.folder = folder.name
        self.rom = self.path("vbios.rom")
        with open(self.rom, "wb") as out:
            out.write(vbios.make(vendor=0x1234, device=0x1111))
        self.device = ("-device", f"vfio-optimus,id=gpu,romfile={self.rom}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def starts(self, program, *args):
        self.assertEqual(run(program, *args), (0, ""))

    def refuses(self, program, says):
        """In one sentence, and QEMU ends."""
        status, stderr = run(program)
        self.assertEqual(status, 1, stderr)
        self.assertEqual(len(stderr.splitlines()), 1, stderr)
        self.assertIn(says, stderr)


class File(Case):
    """Which file it is, and how it is named"""

    def test_exports(self):
        """Nothing but what QEMU and GLib look for"""
        names = subprocess.run(
            ["nm", "-D", "--defined-only", "--format=just-symbols", PLUGIN],
            check=True, capture_output=True, text=True).stdout.split()
        self.assertEqual(sorted(names), ["g_module_check_init", "qemu_plugin_install",
                                         "qemu_plugin_version"])

    def test_type(self):
        with Machine([QEMU, "-plugin", PLUGIN], "-M", "none") as machine:
            types = {entry["name"]: entry.get("parent")
                     for entry in machine.qmp("qom-list-types")["return"]}
        self.assertEqual(types["vfio-optimus"], "vfio-pci-nohotplug")

    def test_name_alone(self):
        """As when it is installed: where the dynamic linker looks"""
        unpacked(EMULATOR)
        shutil.copy(PLUGIN, self.folder)
        with open(QEMU) as script:
            text = script.read().replace("libraries='", f"libraries='{self.folder}:")
        program = self.path("qemu")
        with open(program, "w") as out:
            out.write(text)
        os.chmod(program, 0o755)
        self.starts([program, "-plugin", "vfio-optimus"])
        self.refuses([QEMU, "-plugin", "vfio-optimus"], "vfio-optimus.so: cannot open")

    def test_odd_name(self):
        os.mkdir(self.path("it's a \"dir\", *"))
        copy = shutil.copy(TEST[-1], self.path("it's a \"dir\", *"))
        self.starts([QEMU, "-plugin", copy.replace(",", ",,")], *self.device)

    def test_twice(self):
        """The same file twice, two copies, and the one for tests beside it"""
        copy = shutil.copy(PLUGIN, self.folder)
        for second in PLUGIN, copy, TEST[-1]:
            for order in [PLUGIN, second], [second, PLUGIN]:
                self.starts([QEMU, "-plugin", order[0], "-plugin", order[1]])
        self.starts([*TEST, "-plugin", shutil.copy(TEST[-1], self.folder)], *self.device)

    def test_both_entries(self):
        preload = os.path.join(PLUGINS, "vfio-optimus-preload.so")
        self.starts(["env", f"LD_PRELOAD={preload}", QEMU, "-plugin", PLUGIN])

    def test_arguments(self):
        self.refuses_argument(PLUGIN + ",host=01:00.0", "host=01:00.0")

    def refuses_argument(self, plugin, argument):
        status, stderr = run([QEMU, "-plugin", plugin])
        self.assertEqual(status, 1, stderr)
        self.assertIn(f"this plugin takes no argument, and '{argument}' is one", stderr)


class Options(Case):
    """What QEMU does besides"""

    def test_harmless(self):
        for options in (["-sandbox", SANDBOX], ["-S"], ["-incoming", "defer"],
                        ["-M", "pc"]):
            with self.subTest(options=options):
                self.starts([*TEST, *options], *self.device)

    def test_sandbox_as_libvirt(self):
        self.starts([QEMU, "-plugin", PLUGIN, "-sandbox", SANDBOX, "-no-user-config",
                     "-overcommit", "mem-lock=off"])

    def test_preconfig(self):
        with Machine(TEST, "-M", "q35", "-preconfig", *self.device) as machine:
            self.assertEqual(machine.qmp("x-exit-preconfig"), {"return": {}})
            self.assertEqual(machine.get("gpu", "rom-size"), 103936)
            self.assertEqual(machine.quit(), (0, ""))

    def test_incoming(self):
        """The window is looked at before the guest comes."""
        with Machine(TEST, "-M", "q35", "-incoming", "defer", *self.device) as machine:
            self.assertEqual(machine.get("gpu", "rom-size"), 103936)

    @unittest.skipIf(os.getuid(), "only root can do that")
    def test_privileges(self):
        """Another user, and another root directory, in the background"""
        pid = self.path("pid")
        empty = self.path("empty")
        os.mkdir(empty)
        user, chroot = ["-runas", "nobody"], ["-chroot", empty]
        if "-run-with [" in subprocess.check_output([QEMU, "-help"], text=True):
            user, chroot = (["-run-with", option] for option in (
                "user=nobody", f"chroot={empty}"))
        for options in [], user, chroot:
            with self.subTest(options=options):
                subprocess.run(
                    [*TEST, "-M", "q35", "-nodefaults", "-display", "none", "-daemonize",
                     "-pidfile", pid, *options, *self.device], check=True,
                    stdin=subprocess.DEVNULL, timeout=TIME_LIMIT)
                self.end(pid)

    def end(self, pidfile):
        with open(pidfile) as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/maps") as maps:
            self.assertIn("test-optimus.so", maps.read())
        os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + TIME_LIMIT
        while os.path.exists(f"/proc/{pid}/fd/0"):
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.1)


class Program(Case):
    """Other QEMUs than the one as it is packaged"""

    def changed(self, change):
        """The script, with another program"""
        _, _, _, program = unpacked(EMULATOR)
        with open(QEMU) as script:
            text = script.read()
        other = change(program)
        script = self.path("qemu")
        with open(script, "w") as out:
            out.write(text.replace(f"program='{program}'", f"program='{other}'"))
        os.chmod(script, 0o755)
        return [script, *TEST[1:]]

    def copy(self, program, change=lambda image: image):
        copy = self.path("qemu-system-x86_64")
        with open(program, "rb") as original, open(copy, "wb") as out:
            out.write(change(original.read()))
        os.chmod(copy, 0o755)
        return copy

    def test_other_build(self):
        """An upgrade changes nothing: another build is as good."""
        def change(program):
            build_id = bytes.fromhex(re.search(r"Build ID: (\w+)", subprocess.run(
                ["readelf", "-n", program], capture_output=True, text=True,
                check=True).stdout).group(1))
            return self.copy(program, lambda image: image.replace(
                build_id, build_id[::-1]))
        self.starts(self.changed(change), *self.device)

    def test_stripped(self):
        """Of all that strip takes, the plugin needs nothing."""
        def change(program):
            copy = self.copy(program)
            subprocess.run(["strip", "--strip-all", copy], check=True)
            return copy
        self.starts(self.changed(change), *self.device)

    def test_i386(self):
        def change(program):
            folder = os.path.dirname(program)
            # behind a script in 7.2
            others = [path for path in (folder + "/../libexec/qemu-system-i386",
                                        folder + "/qemu-system-i386")
                      if os.path.exists(path)]
            return others[0]
        self.starts(self.changed(change), *self.device)

    def test_host_modules(self):
        """An unpacked QEMU looks for modules where it was unpacked, and nowhere else:
        those of the host's own QEMU would end it."""
        unpacked(EMULATOR)
        log = self.path("log")
        subprocess.run(["strace", "-f", "-o", log, "-e", "trace=file", QEMU, "-device",
                        "help"], check=True, stdout=subprocess.DEVNULL)
        with open(log) as calls:
            modules = re.findall(r'"([^"]*/qemu/[^"]*\.so)"', calls.read())
        self.assertTrue(modules)
        self.assertEqual([path for path in modules if path.startswith("/usr/")], [])


if __name__ == "__main__":
    tap_main(sys.modules[__name__])
