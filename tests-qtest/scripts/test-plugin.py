#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""build-plugin from end to end."""

import os
import random
import shutil
import signal
import time

from script_case import BUILD, DISK_FULL, FULL, Case, alive, main, small_disk
from machine import run
from namespace import mount
from tap import figures

PROGRAM = BUILD / "emulator/qemu-10.0/qemu-system-x86_64"


class Plugin(Case):

    def setUp(self):
        super().setUp()
        self.plugin = self.build / "plugin"

    def check_works(self):
        self.assertEqual(run([PROGRAM, "-plugin", self.plugin / "vfio-optimus.so"],
                             "-M", "none"), (0, ""))

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
        command = ("tied", self.dir / "scripts/build-plugin")
        process = self.start(*command)
        while not any(b"build-plugin" in command for command in alive(self.dir)):
            self.assertIsNone(process.poll())
            time.sleep(0.1)
        time.sleep(1)
        self.kill(process, signal.SIGKILL, True)
        self.check_gone()
        self.good(*command)

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
                self.kill(process, self.SIGNALS[turn % 4], False)
            else:
                process.communicate()
            self.check_gone()
            output = self.good("build-plugin")
            self.assertIn(f"ready: {self.plugin}/vfio-optimus.so", output)
            self.check_works()

    def test_running(self):
        """A QEMU that runs keeps the plugin that it has mapped."""
        self.good("build-plugin")
        name = "vfio-optimus.so"
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
            self.assertFalse((self.plugin / "vfio-optimus.so").exists())
            mount("-o", "remount,size=64m", self.plugin)
            self.good("build-plugin")
            self.check_works()


if __name__ == "__main__":
    main()
