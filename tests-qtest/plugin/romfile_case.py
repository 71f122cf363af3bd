# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of romfile share: test-NAME.py PLUGIN_DIRECTORY"""

import os
import re
import sys
import tempfile
import unittest

import vbios
from machine import run
from tap import figures
from sanitized import Sanitized

PLUGIN = os.path.abspath(sys.argv[1])
QEMU = Sanitized(PLUGIN, "test-optimus")
BOCHS = {"vendor": 0x1234, "device": 0x1111}
SIZE = 103936                   # of vbios.make()
PCIR = vbios.PCIR


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)

    def tearDown(self):
        found = QEMU.findings()
        figures["findings"] += len(found)
        if found:
            self.fail("\n".join(found))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def file(self, content, name="vbios.rom"):
        with open(self.path(name), "wb") as out:
            out.write(content)
        return self.path(name)

    def rom(self, name="vbios.rom", **arguments):
        return self.file(vbios.make(**{**BOCHS, **arguments}), name)

    @staticmethod
    def option(path):
        return "vfio-optimus,romfile=" + path.replace(",", ",,")

    def start(self, path, program=None, **options):
        """QEMU's exit status, and what it says of the option."""
        status, stderr = run(program or QEMU.program, "-device",
                             self.option(path), **options)
        return status, stderr.replace(
            f"qemu-system-x86_64: -device {self.option(path)}: ", "")

    def refused(self, path, sentence, **options):
        status, stderr = self.start(path, **options)
        self.assertEqual(re.sub(r"(?<=read: )\d+", "NUMBER", stderr),
                         sentence.replace("{path}", path) + "\n")
        self.assertEqual(status, 1)
        figures["refusals"] += 1
