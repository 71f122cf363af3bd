#!/usr/bin/python3
"""What vfio-optimus does without a guest: which machines it refuses, and what
it puts into memory and ACPI tables.

usage: test-device.py PLUGIN_DIRECTORY TOOLS_ROOT

The device behind it is QEMU's bochs-display, wherever no VFIO device is needed.
"""

import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import vbios
from machine import (Acpica, LINKER, Machine, WINDOW_END, WINDOW_START, run,
                     tap_main, unpacked)

PLUGIN, ACPICA = sys.argv[1:]
VFIO = os.path.join(PLUGIN, "qemu-optimus")
TEST = os.path.join(PLUGIN, "qemu-test-optimus")
NO_HOTPLUG = [      # with a device behind it that cannot be hotplugged, either
    "env", "LD_PRELOAD=" + os.path.join(PLUGIN, "test-nohotplug-preload.so"),
    os.path.join(PLUGIN, "qemu-system-x86_64")]
VERSION = tuple(int(n) for n in re.match(
    r"QEMU emulator version (\d+)\.(\d+)",
    subprocess.run([TEST, "--version"], capture_output=True,
                   text=True, check=True).stdout).groups())
BOCHS = {"vendor": 0x1234, "device": 0x1111}
PAGE = 0x1000
ROOM = WINDOW_END - WINDOW_START - 2 * PAGE


def padded(rom):
    return rom + bytes(-len(rom) % PAGE + 2 * PAGE)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)

    def file(self, content, name="vbios.rom"):
        path = os.path.join(self.folder.name, name)
        with open(path, "wb") as out:
            out.write(content)
        return path

    def rom(self, name="vbios.rom", **arguments):
        return self.file(vbios.make(**{**BOCHS, **arguments}), name)


class Machines(Files):
    def refused(self, program, *args, says):
        status, stderr = run(program, *args)
        self.assertEqual(status, 1, stderr)
        self.assertIn(says, stderr)

    def test_no_acpi(self):
        device = f"vfio-optimus,romfile={self.rom()}"
        for machine in ("q35", "pc"):
            self.refused(TEST, "-M", machine + ",acpi=off", "-device", device,
                         says="vfio-optimus needs ACPI tables to put _ROM into,"
                         " and this machine has none")

    def test_no_pc(self):
        self.refused(TEST, "-M", "microvm,pcie=on,acpi=on", "-device",
                     f"vfio-optimus,romfile={self.rom()}",
                     says="vfio-optimus needs a machine of the type q35 or pc")

    def test_acpi_index(self):
        self.refused(TEST, "-device",
                     f"vfio-optimus,acpi-index=1,romfile={self.rom()}",
                     says="vfio-optimus cannot have an acpi-index: QEMU adds a")

    def test_no_host_device(self):
        self.refused(VFIO, "-device", f"vfio-optimus,romfile={self.rom()}",
                     says="No provided host device")
        self.refused(VFIO, "-device", "vfio-optimus,host=ff:1f.7,"
                     f"romfile={self.rom()}", says="no such host device")

    def test_hotplug(self):
        device = f"vfio-optimus,romfile={self.rom()},id=gpu"
        with Machine(NO_HOTPLUG, "-M", "q35", "-device",
                     "pcie-root-port,id=rp", "-device", device) as machine:
            answer = machine.qmp("device_add", driver="vfio-optimus", bus="rp",
                                 romfile=self.rom())
            # the sentence of 7.2 and the one of later versions
            self.assertRegex(answer["error"]["desc"],
                             "expects a pluggable device type|"
                             "does not support hotplugging")
            answer = machine.qmp("device_del", id="gpu")
            self.assertIn("does not support hotplugging",
                          answer["error"]["desc"])

    def test_introspection(self):
        """The type can be asked about before any device is there."""
        with Machine(VFIO, "-M", "q35") as machine:
            properties = machine.qmp("device-list-properties",
                                     typename="vfio-optimus")["return"]
        types = {p["name"]: p["type"] for p in properties}
        self.assertEqual(types["rom-size"], "uint32")
        self.assertEqual(types["rom-address"], "uint32")
        self.assertEqual(types["subsystem-ids"], "string")
        self.assertIn("host", types)

    def test_trace(self):
        status, stderr = run(TEST, "-trace", "vfio_optimus_*", "-device",
                             f"vfio-optimus,romfile={self.rom()}")
        self.assertEqual(status, 0)
        self.assertIn("vfio_optimus_romfile", stderr)
        self.assertIn(f"vfio_optimus_window ROM window at {WINDOW_START:#x}, "
                      "103936 bytes of ROM\n", stderr)
        self.assertIn("vfio_optimus_build_aml _ROM of 0000:00:", stderr)


class Window(Files):
    def machine(self, *roms):
        devices = []
        for number, rom in enumerate(roms):
            path = self.file(rom, f"{number}.rom")
            devices += ["-device", f"vfio-optimus,romfile={path},id=gpu{number}"]
        return Machine(TEST, "-M", "q35", *devices)

    def address(self, machine, number):
        return machine.get(f"/machine/peripheral/gpu{number}", "rom-address")

    def test_content(self):
        for size in (1024, PAGE, 65536, 103936, ROOM):
            rom = vbios.make(size=size, **BOCHS)
            with self.machine(rom) as machine:
                self.assertEqual(
                    machine.get("/machine/peripheral/gpu0", "rom-size"), size)
                self.assertEqual(self.address(machine, 0), WINDOW_START)
                content = machine.read(WINDOW_START, len(padded(rom)))
                self.assertTrue(content == padded(rom))
                # read-only
                machine.write(WINDOW_START, b"xyz")
                self.assertTrue(
                    machine.read(WINDOW_START, len(content)) == content)

    def test_several(self):
        """First fit, a window for each device."""
        a = vbios.make(size=0x10000, seed=1, **BOCHS)
        b = vbios.make(size=0x10200, seed=2, **BOCHS)
        with self.machine(a, b, a) as machine:
            second = WINDOW_START + len(padded(a))
            third = second + len(padded(b))
            self.assertEqual([self.address(machine, n) for n in range(3)],
                             [WINDOW_START, second, third])
            self.assertTrue(machine.read(second, len(b)) == b)
            self.assertTrue(machine.read(third, len(a)) == a)

    def test_full(self):
        roms = [vbios.make(size=n << 10, seed=n, **BOCHS) for n in (500, 401)]
        args = []
        for number, rom in enumerate(roms):
            args += ["-device", "vfio-optimus,romfile="
                     + self.file(rom, f"{number}.rom")]
        status, stderr = run(TEST, *args)
        left = ROOM - len(padded(roms[0]))
        self.assertEqual(status, 1)
        self.assertIn("1.rom': a ROM of 410624 bytes does not fit in the ROM "
                      f"window at {WINDOW_START:#x}-{WINDOW_END - 1:#x}: the "
                      f"room left is {left} bytes", stderr)
        # what is left is enough for that much
        with self.machine(roms[0], vbios.make(size=left, **BOCHS)) as machine:
            self.assertEqual(self.address(machine, 1) + left + 2 * PAGE, WINDOW_END)

    def test_e820(self):
        """Reserved, where QEMU lets a device do that."""
        rom = vbios.make(**BOCHS)
        with self.machine(rom) as machine:
            entries = list(struct.iter_unpack(
                "<QQI", machine.fw_cfg_file("etc/e820")))
        ours = [e for e in entries if WINDOW_START <= e[0] < WINDOW_END]
        if VERSION >= (10, 0):
            self.assertEqual(ours, [(WINDOW_START, len(padded(rom)), 2)])
        else:
            self.assertEqual(ours, [])

    def test_parent_fails(self):
        status, stderr = run(TEST, "-device", "vfio-optimus,vgamem=1k,romfile="
                             + self.rom())
        self.assertEqual(status, 1)
        self.assertIn("video memory too small", stderr)


class Topology(Files):
    """_ROM is under the device's own node, wherever the device sits."""

    def dsdt(self, machine, *args, seed=1, also=(), program=TEST):
        path = self.rom(f"{seed}.rom", seed=seed)
        args = [arg.replace("OPTIMUS", f"vfio-optimus,romfile={path}")
                for arg in args]
        devices = [word for arg in args for word in ("-device", arg)]
        with Machine(program, "-M", machine, *also, *devices) as qemu:
            return qemu.dsdt()

    def place(self, machine, *args, **options):
        paths = Acpica(ACPICA).find(self.dsdt(machine, *args, **options),
                                    "_ROM")
        return [path.removeprefix("\\_SB.PCI0.") for path in paths]

    def test_root(self):
        self.assertEqual(self.place("q35", "OPTIMUS,addr=1"), ["S08._ROM"])
        self.assertEqual(self.place("pc", "OPTIMUS,addr=4"), ["S20._ROM"])

    def test_function(self):
        self.assertEqual(
            self.place("q35", "OPTIMUS,addr=3.0,multifunction=on",
                       "OPTIMUS,addr=3.5"), ["S18._ROM", "S1D._ROM"])

    def test_root_port(self):
        self.assertEqual(
            self.place("q35", "pcie-root-port,id=rp,addr=2", "OPTIMUS,bus=rp"),
            ["S10.S00._ROM"])

    def test_switch(self):
        self.assertEqual(
            self.place("q35", "pcie-root-port,id=rp,addr=2",
                       "x3130-upstream,id=up,bus=rp",
                       "xio3130-downstream,id=down,bus=up,chassis=1,addr=1",
                       "OPTIMUS,bus=down"), ["S10.S00.S08.S00._ROM"])

    def test_bridge(self):
        self.assertEqual(
            self.place("q35", "pcie-pci-bridge,id=b,addr=3",
                       "OPTIMUS,bus=b,addr=4"), ["S18.S20._ROM"])
        self.assertEqual(
            self.place("pc", "pci-bridge,id=b,chassis_nr=1,addr=3",
                       "OPTIMUS,bus=b,addr=4"), ["S18.S20._ROM"])

    def test_no_hotplug_methods(self):
        """The driver would call a _DSM with arguments of its own."""
        places = [("S08", ["OPTIMUS,addr=1"])]
        if VERSION >= (8, 0):   # 7.2 gives one to every device behind a bridge
            places.append(("S00", ["pcie-root-port,id=rp,addr=2",
                                   "OPTIMUS,bus=rp"]))
        for name, args in places:
            table = self.dsdt("q35", *args, program=NO_HOTPLUG)
            source = Acpica(ACPICA).node(table, "S10" if len(args) > 1 else name)
            node = source[source.index(f"Device ({name})"):]
            self.assertIn("Method (_ROM, 2, Serialized)", node)
            self.assertNotIn("_DSM", node)
            self.assertNotIn("_EJ0", node)

    def no_node(self, machine, *args, also=()):
        path = self.rom()
        devices = [word for arg in args for word in (
            "-device", arg.replace("OPTIMUS", f"vfio-optimus,romfile={path}"))]
        status, stderr = run(TEST, *also, "-M", machine, *devices)
        self.assertEqual(status, 1, stderr)
        self.assertIn("vfio-optimus: QEMU has built no ACPI node for the "
                      "device at 0000:", stderr)
        self.assertIn("Attach it to the root bus", stderr)
        return stderr

    def test_expander(self):
        self.no_node("q35", "pxb-pcie,id=pxb,bus_nr=64",
                     "pcie-root-port,id=rp,bus=pxb", "OPTIMUS,bus=rp")
        self.no_node("pc", "pxb,id=pxb,bus_nr=64", "OPTIMUS,bus=pxb,addr=1")

    def test_no_acpi_hotplug(self):
        off = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
        args = ("pcie-root-port,id=rp,addr=2", "OPTIMUS,bus=rp")
        self.assertEqual(self.place("q35", "OPTIMUS,addr=1", also=off),
                         ["S08._ROM"])
        if VERSION >= (8, 0):
            self.assertEqual(self.place("q35", *args, also=off),
                             ["S10.S00._ROM"])
        else:
            self.assertIn("acpi-pci-hotplug-with-bridge-support",
                          self.no_node("q35", *args, also=off))

    def test_recompiles(self):
        """iasl takes its own disassembly, without a word about our method."""
        acpica = Acpica(ACPICA)
        node = acpica.node(self.dsdt("q35", "OPTIMUS,addr=1"), "S08")
        self.assertIn("Method (_ROM, 2, Serialized)", node)
        status, messages = acpica.compile_node(node)
        self.assertEqual(status, 0, messages)
        self.assertIn("0 Errors, 0 Warnings", messages)

    def test_lengths(self):
        """As long as asked for, up to 4 KiB; no argument fails."""
        numbers = [0, 1, 3, 7, 8, 0xff8, 0xfff, PAGE, 0x1001, 0x1008, 0x195f8,
                   0x195ff, 0x19600, 0x19ff8, 0x19fff, 0x1a000, 0x1a001,
                   0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff]
        asked = list(itertools.product(numbers, numbers))
        self.assertEqual(
            Acpica(ACPICA).buffers(self.dsdt("q35", "OPTIMUS,addr=1"), [
                f"\\_SB.PCI0.S08._ROM {offset:#x} {length:#x}"
                for offset, length in asked]),
            [min(length, PAGE) for _, length in asked])

    def test_size(self):
        """At most 200 bytes for a device, whatever the size of its ROM."""
        with Machine(TEST, "-M", "q35", "-device",
                     "bochs-display,addr=1") as machine:
            without = len(machine.dsdt())
        with_rom = len(self.dsdt("q35", "OPTIMUS,addr=1"))
        self.assertLessEqual(with_rom - without, 200)


class Plugin(unittest.TestCase):
    """The plugin loads into this QEMU, and harms nothing else."""

    preload = os.path.join(PLUGIN, "vfio-optimus-preload.so")

    @classmethod
    def setUpClass(cls):
        _, cls.linker, cls.libraries, cls.program = unpacked(PLUGIN)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.folder = folder.name

    def run_with(self, *command, **environment):
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60,
            env={**os.environ, "LD_PRELOAD": self.preload, **environment})

    def harmless(self, command, status, stdout, stderr="", **environment):
        done = self.run_with(*command, **environment)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (status, stdout, stderr))

    def emulator(self, program, *args, **environment):
        return self.run_with(self.linker, "--library-path", self.libraries,
                             program, *args, **environment)

    def loaded(self, program):
        done = self.emulator(program, "-device", "help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn('name "vfio-optimus", bus PCI', done.stdout)

    def copy_of_qemu(self, change=lambda image: image):
        copy = os.path.join(self.folder, "qemu-system-x86_64")
        with open(self.program, "rb") as original, open(copy, "wb") as out:
            out.write(change(original.read()))
        os.chmod(copy, 0o755)
        return copy

    def test_listed(self):
        done = subprocess.run([VFIO, "-device", "help"], capture_output=True,
                              text=True, timeout=60)
        self.assertIn('name "vfio-optimus", bus PCI', done.stdout)
        self.assertEqual(done.stderr, "")

    def test_shell(self):
        self.harmless(["bash", "-c", "echo fine; (exit 3)"], 3, "fine\n")
        # and what a shell starts, one after the other
        self.harmless(["sh", "-c", "ls -d / | cat; env true"], 0, "/\n")

    def test_other_programs_of_qemu(self):
        """They have no device models."""
        tools = os.path.join(ACPICA, "usr/bin")
        libraries = ":".join(f"{ACPICA}/{name}/x86_64-linux-gnu"
                             for name in ("usr/lib", "lib"))
        for linker, path, folder, names in (
                (LINKER, libraries, tools, ("qemu-img", "qemu-io", "qemu-nbd")),
                (self.linker, self.libraries, os.path.dirname(self.program),
                 ("qemu-pr-helper",))):
            for name in names:
                command = [linker, "--library-path", path,
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

    def test_other_build(self):
        """An upgrade changes nothing: another build is as good."""
        build_id = re.search(r"Build ID: (\w+)", subprocess.run(
            ["readelf", "-n", self.program], capture_output=True, text=True,
            check=True).stdout).group(1)
        build_id = bytes.fromhex(build_id)
        copy = self.copy_of_qemu(
            lambda image: image.replace(build_id, build_id[::-1]))
        self.loaded(copy)

    def test_stripped(self):
        """Of all that strip takes, the plugin needs nothing."""
        copy = self.copy_of_qemu()
        subprocess.run(["strip", "--strip-all", copy], check=True)
        self.loaded(copy)

    def test_other_emulator(self):
        """Of the same package, for another target."""
        folder = os.path.dirname(self.program)
        # behind a script in 7.2
        others = [path for path in (folder + "/../libexec/qemu-system-i386",
                                    folder + "/qemu-system-i386")
                  if os.path.exists(path)]
        self.loaded(others[0])

    def test_no_device_file(self):
        copy = shutil.copy(self.preload, self.folder)
        done = self.emulator(self.program, "-device", "help", LD_PRELOAD=copy)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("vfio-optimus: not loaded: ", done.stderr)
        self.assertIn("vfio-optimus.so: cannot open shared object file",
                      done.stderr)

    def test_loaded_twice(self):
        """The same file twice, two copies, and the one for tests beside it."""
        copy = shutil.copy(self.preload, self.folder)
        shutil.copy(os.path.join(PLUGIN, "vfio-optimus.so"), self.folder)
        for second in (self.preload, copy,
                       os.path.join(PLUGIN, "test-optimus-preload.so")):
            for order in ([self.preload, second], [second, self.preload]):
                done = self.emulator(self.program, "-device", "help",
                                     LD_PRELOAD=":".join(order))
                self.assertEqual(done.stdout.count('name "vfio-optimus"'), 1)
                self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    tap_main(sys.modules[__name__])
