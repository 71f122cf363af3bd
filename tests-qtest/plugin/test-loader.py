#!/usr/bin/python3
"""What the plugin does in programs that it cannot be used in.

usage: test-loader.py EMULATOR_DIRECTORY

stub-qemu.c is made a QEMU of each of these kinds; what it is not is shown by the
QEMU in EMULATOR_DIRECTORY, whose AML it has.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import vbios
from machine import Machine, tap_main

DIRECTORY = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
PLUGIN_SOURCE = os.path.join(HERE, "../../hw-optimus/plugin")
LOADER = os.path.join(DIRECTORY, "vfio-optimus-preload.so")
GLIB = subprocess.run(["pkg-config", "--cflags", "--libs", "glib-2.0"],
                      check=True, capture_output=True, text=True).stdout.split()
START = "vfio-optimus: not loaded: "


def method(dsdt):
    """The AML of _ROM, with the window that is declared in front of it."""
    start = dsdt.index(b"\x5b\x80VROM")
    name = dsdt.index(b"_ROM", start)
    size = dsdt[name - 2] & 0xf | dsdt[name - 1] << 4
    return dsdt[start:name - 2 + size]


def undefined():
    """The functions of QEMU's that the plugin needs."""
    plugin = os.path.join(DIRECTORY, "vfio-optimus.so")
    names = subprocess.run(["nm", "-D", "--undefined-only", plugin], check=True,
                           capture_output=True, text=True).stdout.split()
    return {name for name in names if len(name) > 1
            and re.match(r"[a-z]", name) and "@" not in name
            and not name.startswith(("g_", "__"))}


class Loader(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.aml = os.path.join(cls.folder.name, "aml")
        rom = os.path.join(cls.folder.name, "rom")
        with open(rom, "wb") as out:
            out.write(vbios.make(vendor=0x1234, device=0x1111, size=0x12345))
        with Machine(os.path.join(DIRECTORY, "qemu-test-optimus"),
                     "-device", f"vfio-optimus,romfile={rom}") as machine:
            with open(cls.aml, "wb") as out:
                out.write(method(machine.dsdt()))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def compile(self, without=(), exports=True):
        """The stub, without some of the functions that the plugin needs."""
        folder = tempfile.mkdtemp(dir=self.folder.name)
        program = os.path.join(folder, "qemu-system-x86_64")
        with open(os.path.join(HERE, "stub-qemu.c")) as source:
            text = source.read()
        has = set(re.findall(r"^[\w *]+?(\w+)\([^;]*?\)\n\{", text, re.M))
        rest = os.path.join(folder, "rest.c")
        with open(rest, "w") as out:
            out.write("#include <stdlib.h>\n")
            for name in sorted(undefined() - has - set(without)):
                # what makes terms of AML need not make any
                body = ("return calloc(1, 64);" if name.startswith("aml_")
                        else "abort();")
                out.write(f"void *{name}(void);\n"
                          f"void *{name}(void) {{ {body} }}\n")
        subprocess.run(["gcc", "-w", *(["-rdynamic"] if exports else []), "-I",
                        PLUGIN_SOURCE, "-o", program, rest,
                        os.path.join(HERE, "stub-qemu.c"), *GLIB], check=True)
        return program

    def run_stub(self, program, stub="good"):
        env = {**os.environ, "LD_PRELOAD": LOADER, "STUB": stub,
               "STUB_AML": self.aml}
        done = subprocess.run([program], capture_output=True, text=True,
                              timeout=60, env=env)
        self.assertEqual(done.returncode, 0, done.stderr)
        types = re.findall("^type (.*)", done.stdout, re.M)
        return types, done.stderr

    def refused(self, says, stub="good", **arguments):
        types, stderr = self.run_stub(self.compile(**arguments), stub)
        self.assertNotIn("vfio-optimus", types)
        self.assertTrue(stderr.startswith(START), stderr)
        self.assertEqual(stderr.count("\n"), 1, stderr)
        self.assertIn(says, stderr)

    def test_good(self):
        types, stderr = self.run_stub(self.compile())
        self.assertEqual((types, stderr),
                         (["vfio-optimus-probe", "vfio-optimus"], ""))

    def test_method(self):
        """What the loader compares is what a QEMU has in its DSDT."""
        with open(os.path.join(PLUGIN_SOURCE, "loader.c")) as source:
            self.assertIn(hashlib.sha256(open(self.aml, "rb").read())
                          .hexdigest(), source.read())

    def test_old(self):
        self.refused("this is QEMU 7.1, and the device needs 7.2", "old")

    def test_no_parent(self):
        self.refused("this QEMU has no device vfio-pci-nohotplug", "parent")

    def test_interface(self):
        """No function in the class, and one too many"""
        for stub in ("interface", "functions"):
            self.refused("the class acpi-dev-aml-interface of this QEMU's "
                         "mc146818rtc is not as it was", stub)

    def test_aml(self):
        self.refused("this QEMU writes the AML of _ROM otherwise", "aml")

    def test_types(self):
        self.refused("this QEMU does not take types as QEMU did", "types")

    def test_symbol(self):
        self.refused("this QEMU does not export what the device needs: "
                     "memory_region_find", without=["memory_region_find"])

    def test_exports_nothing(self):
        self.refused("exports no symbols (it was built without "
                     "--enable-modules)", exports=False)
        self.refused("optimus-vbios ssdt", exports=False)

    def test_other_programs(self):
        """It is silent in what QEMU starts."""
        for program in (shutil.which("true"), shutil.which("ls")):
            done = subprocess.run([program], env={"LD_PRELOAD": LOADER},
                                  stderr=subprocess.PIPE, check=True,
                                  stdout=subprocess.DEVNULL)
            self.assertEqual(done.stderr, b"")


if __name__ == "__main__":
    tap_main(__name__)
