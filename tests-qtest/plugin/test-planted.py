#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The sanitizers see what is wrong in the plugin.

usage: test-planted.py PLUGIN_DIRECTORY
"""

import json
import os
import shlex
import subprocess

from romfile_case import PLUGIN, Case
from machine import PLUGINS, run
from tap import figures, tap_main
from sanitized import Sanitized


class Planted(Case):

    def plant(self, old, new):
        """A QEMU with the plugin, in which one line is another."""
        build = os.path.normpath(os.path.join(PLUGINS, "../.."))
        with open(os.path.join(build, "compile_commands.json")) as commands:
            command, = (c for c in json.load(commands) if c["output"].endswith(
                "sanitized-test-optimus.so.p/device.c.o"))
        source = os.path.join(build, command["file"])
        with open(source) as original:
            text = original.read()
        self.assertEqual(text.count(old), 1, old)
        mutant, made = self.path("mutant.c"), self.path("mutant.o")
        with open(mutant, "w") as out:
            out.write(text.replace(old, new))
        words = shlex.split(command["command"])
        words[words.index(command["file"])] = mutant
        words[words.index("-o") + 1] = made
        subprocess.run([*words, "-I", os.path.dirname(source)], cwd=build,
                       check=True)
        inputs = subprocess.run(
            ["ninja", "-C", build, "-t", "query", os.path.relpath(
                os.path.join(PLUGINS, "sanitized-test-optimus.so"), build)],
            check=True, capture_output=True, text=True).stdout.split()
        others = [os.path.join(build, name) for name in inputs
                  if name.endswith(".o") and not name.endswith("/device.c.o")]
        subprocess.run(["cc", "-shared", "-fsanitize=address,undefined", "-o",
                        self.path("sanitized-test-optimus.so"), made, *others],
                       check=True)
        return Sanitized(PLUGIN, "test-optimus", self.folder.name)

    LINE = """    s->subsystem_ids = optimus_set_subsystem_ids(obj);
"""

    def found(self, old, new, word):
        qemu = self.plant(old, new)
        _, stderr = run(qemu.program, "-device", self.option(self.rom()))
        # what UndefinedBehaviorSanitizer says goes to stderr
        found = "\n".join([stderr, *qemu.findings()])
        self.assertIn(word, found)
        self.assertIn("vfio_optimus_realize", found)
        figures["planted bugs found"] += 1

    def test_freed(self):
        self.found(self.LINE, "    { char *p = g_malloc(8); g_free(p);"
                   " *(volatile char *)p = 0; }\n", "heap-use-after-free")

    def test_leak(self):
        rest = " rom = NULL;\n    g_autoptr(GArray)"   # in realize
        self.found("g_autoptr(GByteArray)" + rest, "GByteArray *" + rest,
                   "leak of")

    def test_shift(self):
        self.found(self.LINE, "    { volatile int n = 32; n = 1 << n; }\n",
                   "shift exponent")


if __name__ == "__main__":
    tap_main("__main__")
