#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The scripts are killed, or run at the same time."""

import os
import random
import shutil
import signal
import time

from script_case import BASE, BUILD, FULL, RESULTS, UNPACK, Case, main
from machine import run

PROGRAM = BUILD / "emulator/qemu-10.0/qemu-system-x86_64"
PLUGIN = ("build-plugin",)


class Death(Case):

    def test_killed(self):
        """At any moment: all ends, and the next run does what is left."""
        chance = random.Random(int(os.environ.get("SEED", "1")))
        for what, turns in (UNPACK, 4), (BASE, 1), (PLUGIN, 2):
            begin = time.monotonic()
            self.server.fail("slow")
            self.good(*what)
            whole = time.monotonic() - begin
            for turn in range(60 if FULL else turns):
                self.server.fail("slow")
                if chance.random() < 0.5:
                    shutil.rmtree(self.build)
                else:
                    shutil.rmtree(self.result(what), ignore_errors=True)
                process = self.start(*what)
                time.sleep(chance.uniform(0, whole * 0.9))
                if process.poll() is None:
                    self.kill(process, self.SIGNALS[turn % 4],
                              chance.random() < 0.5)
                else:
                    process.communicate()
                self.check_gone()
                self.server.heal()
                self.good(*what)
                self.check(what)

    def result(self, what):
        return self.build / RESULTS.get(what, "plugin")

    def check(self, what):
        if what != PLUGIN:
            return self.check_result(what)
        plugin = self.result(PLUGIN) / "vfio-optimus.so"
        self.assertEqual(run([PROGRAM, "-plugin", plugin], "-M", "none"), (0, ""))

    def test_plugin_in_use(self):
        """A QEMU that runs keeps the plugin that it has mapped."""
        self.good(*PLUGIN)
        plugin = self.result(PLUGIN) / "vfio-optimus.so"
        with open(plugin, "rb") as mapped:
            before = mapped.read()
            self.good(*PLUGIN)
            self.assertNotEqual(os.fstat(mapped.fileno()).st_ino,
                                plugin.stat().st_ino)
            mapped.seek(0)
            self.assertEqual(mapped.read(), before)

    def killed_in(self, commands, number, group):
        """Shell commands end with the script that they are in."""
        library = self.dir / "scripts/library"
        begun = self.dir / "begun"
        library.write_text(library.read_text().replace(
            '"$@"\n', f'[ $# = 0 ] || {{ "$@"; exit; }}\n{commands}\n'))
        process = self.start("library", begun=begun)
        self.wait_for(begun.exists, process)
        self.kill(process, number, group)
        self.check_gone()

    def test_stubborn(self):
        """What ignores SIGTERM is ended too."""
        self.killed_in('''
            stubborn() { trap '' TERM INT HUP; touch "$begun"
                for i in 1 2 3 4 5 6 7 8 9; do sleep 5; done; }
            step "stubborn" stubborn''', signal.SIGTERM, False)

    def test_interrupted(self):
        """^C ends a script even if the program that it waits for does not
        die of it, or has ended just then."""
        self.killed_in('''
            sh -c 'trap "" INT; touch "$begun"; sleep 1'
            sleep 60''', signal.SIGINT, True)

    def test_caller_killed(self):
        """A script ends with the one that has called it."""
        self.killed_in('''
            tied "$0" step "waiting" bash -c 'touch "$begun"; sleep 60'
            ''', signal.SIGKILL, True)

    def test_at_once(self):
        self.server.fail("slow")
        outputs = self.at_once(*UNPACK)
        self.check_result(UNPACK)
        waited = [output for output in outputs if "waiting: " in output]
        self.assertEqual(len(waited), len(outputs) - 1, outputs)
        for output in waited:
            self.assertRegex(output, f"another script works in {self.build} "
                             r"\((library, process [0-9]+)?\)\n")
        got = [path for path in self.server.requests if "optimus-lib_" in path]
        self.assertEqual(len(got), 1)

    def test_lock_outlives(self):
        """The next run does not wait for what the one that was killed left."""
        patient = self.dir / "apt.conf"
        patient.write_text(self.config.read_text().replace('Timeout "1"',
                                                           'Timeout "60"'))
        self.server.fail("stalled", "optimus-lib_")
        process = self.start(*UNPACK, APT_CONFIG=patient)
        self.wait_for(lambda: any("optimus-lib_" in path
                                  for path in self.server.requests), process)
        self.kill(process, signal.SIGKILL, False)
        self.check_gone()
        self.server.heal()
        self.good(*UNPACK)
        self.check_result(UNPACK)


if __name__ == "__main__":
    main()
