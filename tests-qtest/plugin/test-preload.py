#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin's other entry, LD_PRELOAD: in a QEMU, in all that a QEMU starts, and in
programs that the plugin cannot be used in.

usage: test-preload.py EMULATOR_DIRECTORY TOOLS_ROOT

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
from machine import Acpica, Machine, PLUGINS, run, unpacked, with_plugin
from tap import tap_main

DIRECTORY, TOOLS = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
PLUGIN_SOURCE = os.path.join(HERE, "../../hw-optimus/plugin")
QEMU = os.path.join(DIRECTORY, "qemu-system-x86_64")
PRELOAD = os.path.join(PLUGINS, "vfio-optimus-preload.so")
GLIB = subprocess.run(["pkg-config", "--cflags", "--libs", "glib-2.0"],
                      check=True, capture_output=True, text=True).stdout.split()
START = "vfio-optimus: not loaded: "


def undefined():
    """The functions of QEMU's that the plugin needs."""
    plugin = os.path.join(PLUGINS, "vfio-optimus.so")
    names = subprocess.run(["nm", "-D", "--undefined-only", plugin], check=True,
                           capture_output=True, text=True).stdout.split()
    return {name for name in names if len(name) > 1
            and re.match(r"[a-z]", name) and "@" not in name
            and not name.startswith(("g_", "__"))}


class Stub(unittest.TestCase):
    """What optimus_check_qemu() refuses, in programs that are no such QEMU"""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.aml = os.path.join(cls.folder.name, "aml")
        rom = os.path.join(cls.folder.name, "rom")
        with open(rom, "wb") as out:
            out.write(vbios.make(vendor=0x1234, device=0x1111, size=0x12345))
        with Machine(with_plugin(DIRECTORY, "test-optimus"),
                     "-device", f"vfio-optimus,romfile={rom}") as machine:
            method = re.search(rb"\x14.._ROM", dsdt := machine.dsdt(), re.S).start()
            size = 1 + (dsdt[method + 1] & 0xf | dsdt[method + 2] << 4)
        with open(cls.aml, "wb") as out:
            out.write(dsdt[method:method + size])

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
        env = {**os.environ, "LD_PRELOAD": PRELOAD, "STUB": stub,
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
        """What the plugin compares is what a QEMU has in its DSDT."""
        with open(os.path.join(PLUGIN_SOURCE, "check-qemu.c")) as source, \
                open(self.aml, "rb") as aml:
            self.assertIn(hashlib.sha256(aml.read()).hexdigest(), source.read())

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
        self.refused("undefined symbol: memory_region_find",
                     without=["memory_region_find"])

    def test_exports_nothing(self):
        self.refused("exports no symbols (it was built without "
                     "--enable-modules)", exports=False)
        self.refused("optimus-vbios ssdt", exports=False)


class Real(unittest.TestCase):
    """It loads into a QEMU, and harms nothing else."""

    @classmethod
    def setUpClass(cls):
        _, cls.linker, cls.libraries, cls.program = unpacked(DIRECTORY)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.folder = folder.name

    def harmless(self, command, status, stdout, stderr=""):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                              env={**os.environ, "LD_PRELOAD": PRELOAD})
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (status, stdout, stderr))

    def devices(self, *preload):
        done = subprocess.run(
            ["env", "LD_PRELOAD=" + ":".join(preload), QEMU, "-device", "help"],
            capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.count('name "vfio-optimus", bus PCI'), done.stderr

    def test_node(self):
        """The device, and its method"""
        rom = os.path.join(self.folder, "rom")
        with open(rom, "wb") as out:
            out.write(vbios.make(vendor=0x1234, device=0x1111))
        for name in "vfio-optimus-preload.so", "test-optimus.so":
            shutil.copy(os.path.join(PLUGINS, name), self.folder)
        os.rename(f"{self.folder}/test-optimus.so", f"{self.folder}/vfio-optimus.so")
        with Machine(["env", f"LD_PRELOAD={self.folder}/vfio-optimus-preload.so", QEMU],
                     "-M", "q35", "-device", f"vfio-optimus,addr=1,romfile={rom}"
                     ) as machine:
            self.assertEqual(Acpica(TOOLS).find(machine.dsdt(), "_ROM"),
                             ["\\_SB.PCI0.S08._ROM"])

    def test_twice(self):
        """The same file twice, two copies, and through the other entry, too"""
        copy = shutil.copy(PRELOAD, self.folder)
        shutil.copy(os.path.join(PLUGINS, "vfio-optimus.so"), self.folder)
        for second in PRELOAD, copy:
            for order in [PRELOAD, second], [second, PRELOAD]:
                self.assertEqual(self.devices(*order), (1, ""))
                self.assertEqual(run(["env", "LD_PRELOAD=" + ":".join(order),
                                      *with_plugin(DIRECTORY)]), (0, ""))

    def test_no_plugin(self):
        count, stderr = self.devices(shutil.copy(PRELOAD, self.folder))
        self.assertEqual(count, 0)
        self.assertEqual(len(stderr.splitlines()), 1, stderr)
        self.assertIn(START, stderr)
        self.assertIn("vfio-optimus.so: cannot open shared object file", stderr)

    def test_shell(self):
        self.harmless(["bash", "-c", "echo fine; (exit 3)"], 3, "fine\n")
        # and what a shell starts, one after the other
        self.harmless(["sh", "-c", "ls -d / | cat; env true"], 0, "/\n")

    def test_other_programs_of_qemu(self):
        """They have no device models."""
        libraries = ":".join(f"{TOOLS}/{name}/x86_64-linux-gnu"
                             for name in ("usr/lib", "lib"))
        for path, folder, names in (
                (libraries, os.path.join(TOOLS, "usr/bin"),
                 ("qemu-img", "qemu-io", "qemu-nbd")),
                (self.libraries, os.path.dirname(self.program),
                 ("qemu-pr-helper",))):
            for name in names:
                command = [self.linker, "--library-path", path,
                           os.path.join(folder, name), "--version"]
                plain = subprocess.run(command, capture_output=True, text=True,
                                       timeout=60)
                self.assertEqual(plain.returncode, 0, plain.stderr)
                self.harmless(command, 0, plain.stdout, plain.stderr)

    def test_static_program(self):
        source = os.path.join(self.folder, "a.c")
        program = os.path.join(self.folder, "a")
        with open(source, "w") as out:
            out.write("int main(void) { return 7; }")
        subprocess.run(["cc", "-static", "-o", program, source], check=True)
        self.harmless([program], 7, "")

    def test_setuid_program(self):
        """The dynamic linker drops what does not come from the system."""
        program = os.path.join(self.folder, "id")
        shutil.copy("/usr/bin/id", program)
        os.chmod(program, 0o4755)
        user = [] if os.getuid() else ["setpriv", "--reuid=65534",
                                       "--clear-groups"]
        self.harmless([*user, program, "-u"], 0, f"{os.getuid()}\n")


if __name__ == "__main__":
    tap_main(__name__)
