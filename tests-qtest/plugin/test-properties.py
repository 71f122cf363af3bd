#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The device in the hands of a user: any properties on the command line and
through QMP, introspection, migration and snapshots, with the sanitizers
watching.

usage: test-properties.py PLUGIN_DIRECTORY
VFIO_OPTIMUS_FULL=1: forty times as much
SEED=N: the same again
"""

import concurrent.futures
import json
import os
import random
import re
import sys
import tempfile
import time
import unittest

import vbios
from machine import Machine, run, WINDOW_START
from tap import figures, tap_main
from sanitized import Sanitized

PLUGIN = os.path.abspath(sys.argv[1])
TIMES = 40 if os.environ.get("VFIO_OPTIMUS_FULL") else 1
SEED = int(os.environ.get("SEED", 0)) or random.SystemRandom().getrandbits(32)
QEMUS = {"bochs-display": Sanitized(PLUGIN, "test-optimus"),
         "VGA": Sanitized(PLUGIN, "test-nohotplug"),
         "vfio-pci-nohotplug": Sanitized(PLUGIN, "vfio-optimus")}
TEST = QEMUS["bochs-display"]
ROM = vbios.make(size=0x10400, vendor=0x1234, device=0x1111)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.rom = self.path("vbios.rom")
        with open(self.rom, "wb") as out:
            out.write(ROM)
        self.gpu = f"vfio-optimus,id=gpu,romfile={self.rom}"

    def tearDown(self):
        found = [text for qemu in QEMUS.values() for text in qemu.findings()]
        figures["findings"] += len(found)
        if found:
            self.fail("\n".join(found))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def ends_well(self, machine):
        self.assertEqual(machine.quit(), (0, ""))


class Values:
    """Random values for properties, and random places for a device."""

    STRINGS = ("", "x", "none", "on", "0", "-1", "/dev/null", "/dev/zero", "/",
               "x" * 5000, "%s%n", "a=b", "rp", "gpu", "pci.0", "pcie.0",
               "{}", "\u00e9")
    NUMBERS = (0, 1, 2, 7, 8, 255, 256, 4096, 65535, 65536, 0x10de, 1 << 20,
               1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1, -1)
    HOSTS = ("0000:00:00.0", "ff:1f.7", "0", "0000:00:1f", "zz", ":::", "")

    def __init__(self, chance, properties, rom):
        self.chance = chance
        self.properties = properties
        self.rom = rom

    def value(self, name, kind):
        strings, numbers = list(self.STRINGS), list(self.NUMBERS)
        if name == "romfile":
            return self.chance.choice([self.rom] * 6 + strings)
        if name in ("host", "sysfsdev"):
            return self.chance.choice([*self.HOSTS, *strings])
        if name == "addr":
            return self.chance.choice(["1", "2.3", "1f.7", "20", "0", "-1",
                                       *strings])
        if kind == "bool":
            return self.chance.choice([True, False])
        if re.match("u?int|size", kind) and self.chance.random() < 0.8:
            return self.chance.choice(numbers)
        return self.chance.choice(["auto", "off", *strings, *numbers])

    def some(self):
        names = self.chance.sample(sorted(self.properties),
                                   self.chance.choice([0, 1, 1, 2, 3, 5]))
        result = {name: self.value(name, self.properties[name])
                  for name in names}
        if self.chance.random() < 0.9:
            result["romfile"] = self.rom
        if self.chance.random() < 0.1:
            result["addr"] = self.value("addr", "str")
        if "fd" in result:
            # without which QEMU 11.1 crashes, with plain vfio-pci, too
            result["id"] = "x"
        return result

    def place(self):
        """A machine, bridges on it, and maybe the bus that the device is on."""
        bridges = {
            "q35": [("pcie-root-port,id=rp", "rp"), ("pxb-pcie,id=px,bus_nr=32",
                                                     "px"),
                    ("pcie-pci-bridge,id=pb", "pb"), ("", "pcie.0")],
            "pc": [("pci-bridge,id=pb,chassis_nr=1", "pb"),
                   ("pxb,id=px,bus_nr=32", "px"), ("", "pci.0")]}
        machine = self.chance.choice(sorted(bridges))
        bridge, bus = self.chance.choice(bridges[machine])
        bus = self.chance.choice([bus, bus, bus, None, None, None, "ide.0",
                                  "nowhere", ""])
        also = ["-device", bridge] if bridge else []
        return ["-M", machine, *also], bus


def option(driver, properties, as_json):
    if as_json:
        return json.dumps({"driver": driver, **properties})
    words = [driver]
    for name, value in properties.items():
        if isinstance(value, bool):
            value = "on" if value else "off"
        words.append(f"{name}=" + str(value).replace(",", ",,"))
    return ",".join(words)


class Fuzz(Files):
    def properties(self, parent):
        with Machine(QEMUS[parent].program, "-M", "q35") as machine:
            answer = machine.qmp("device-list-properties",
                                 typename="vfio-optimus")
        found = {p["name"]: p["type"] for p in answer["return"]}
        self.assertIn("romfile", found)
        self.assertIn("rom-size", found)
        return found

    def command_line(self, parent, number, properties):
        values = Values(random.Random(f"{SEED} {number}"), properties, self.rom)
        machine, bus = values.place()
        some = values.some()
        if bus is not None:
            some["bus"] = bus
        as_json = values.chance.random() < 0.3

        def start(driver):
            return run(QEMUS[parent].program, *machine, "-device",
                       option(driver, some, as_json))

        status, stderr = start("vfio-optimus")
        words = f"{machine} {option('vfio-optimus', some, as_json)}: {stderr}"
        if status < 0 and start(parent)[0] == status:
            print(f"# QEMU's own, of {parent}: {words}")
            figures["faults of QEMU's own"] += 1
            return
        self.assertIn(status, (0, 1), words)
        self.assertNotRegex(stderr, "(?i)assert", words)
        self.assertEqual(status == 1, bool(re.sub(
            "qemu-system-x86_64: .*warning: .*\n", "", stderr)), words)
        figures[f"command lines, {parent}"] += 1
        figures["of them taken"] += status == 0

    def command_lines(self, parent):
        properties = self.properties(parent)
        with self.subTest(seed=SEED), \
                concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda n: self.command_line(parent, n, properties),
                          range(15 * TIMES)))

    def test_command_lines(self):
        self.command_lines("bochs-display")

    def test_command_lines_vfio(self):
        self.command_lines("vfio-pci-nohotplug")

    def commands(self, values, properties):
        """Random QMP commands, of which none is to be obeyed but reading."""
        chance = values.chance
        paths = ["/machine/peripheral/gpu", "/machine/peripheral/gpu/optimus-rom",
                 "/machine/peripheral", "/machine"]
        names = [*sorted(set(properties) - {"realized"}), "type", "x",
                 "optimus-rom"]
        for _ in range(100 * TIMES):
            name = chance.choice(names)
            path = chance.choice(paths)
            value = values.value(name, properties.get(name, "str"))
            yield chance.choice([
                ("device_add", {"driver": "vfio-optimus", "bus": "rp",
                                **values.some()}),
                ("object-add", {"qom-type": "vfio-optimus", "id": "x"}),
                ("qom-set", {"path": path, "property": name, "value": value}),
                ("qom-get", {"path": path, "property": name}),
                ("qom-list", {"path": path}),
                ("device_del", {"id": chance.choice(["gpu", "x", path])}),
                ("qom-list-properties", {"typename": "vfio-optimus"}),
                ("device-list-properties", {"typename": "vfio-optimus"}),
                ("query-pci", {}), ("system_reset", {})])

    def qmp(self, parent, *args):
        properties = self.properties(parent)
        values = Values(random.Random(SEED), properties, self.rom)
        # with a slot that can be plugged into
        args = ["-M", "q35", "-device", "pcie-root-port,id=rp", *args]
        with self.subTest(seed=SEED), \
                Machine(QEMUS[parent].program, *args) as machine:
            for command, arguments in self.commands(values, properties):
                try:
                    answer = machine.qmp(command, **arguments)
                except (ValueError, OSError):
                    self.fail(f"QEMU is gone after {command} {arguments}: "
                              f"{machine.process.communicate()[1]}")
                if command in ("device_add", "object-add", "device_del"):
                    self.assertIn("error", answer, arguments)
                figures["QMP commands"] += 1
            for name in ("rom-size", "rom-address") if self.gpu in args else ():
                self.assertTrue(machine.get("/machine/peripheral/gpu", name))
            self.assertEqual(machine.quit()[0], 0)

    def test_qmp(self):
        self.qmp("VGA", "-device", self.gpu)

    def test_qmp_without_device(self):
        self.qmp("VGA")
        self.qmp("vfio-pci-nohotplug")


class SubsystemIDs(Files):
    """sysfsdev can be any directory."""

    def refused(self, prepare, says):
        for name in "subsystem_vendor", "subsystem_device":
            prepare(self.path(name))
        status, stderr = run(
            QEMUS["vfio-pci-nohotplug"].program, "-device",
            f"vfio-optimus,romfile={self.rom},sysfsdev={self.folder.name}")
        self.assertEqual(status, 1)
        self.assertIn("no iommu_group found", stderr)
        for name in "subsystem_vendor", "subsystem_device":
            self.assertIn(says.replace("{path}", self.path(name)), stderr)
            os.unlink(self.path(name))

    def text(self, content):
        def write(path):
            with open(path, "wb") as out:
                out.write(content)
        return write

    def test_odd(self):
        cannot = "cannot read '{path}'; set x-pci-sub-"
        self.refused(os.mkfifo, cannot)
        self.refused(lambda path: os.symlink("/dev/zero", path), cannot)
        self.refused(self.text(b""), cannot)
        for content in b"x", b"0x", b"0x12 0x34", b"\n", b"9" * 100:
            self.refused(self.text(content), cannot)
        self.refused(self.text(b"0x0000\n"), "'{path}' is 0x0000; set")
        self.refused(self.text(b"0xffff\n"), "'{path}' is 0xffff; set")


class Introspection(Files):
    """As QEMU's qom-test and device-introspect-test."""

    def test_types(self):
        for parent, qemu in QEMUS.items():
            with Machine(qemu.program, "-M", "q35") as machine:
                types = {t["name"]: t.get("parent")
                         for t in machine.qmp("qom-list-types")["return"]}
                self.assertEqual(types["vfio-optimus"], parent)
                for command in "qom-list-properties", "device-list-properties":
                    self.assertIn("return", machine.qmp(
                        command, typename="vfio-optimus"))
                self.assertIn("error", machine.qmp(
                    "object-add", **{"qom-type": "vfio-optimus", "id": "x"}))
                self.assertIn("error", machine.qmp("device_add",
                                                   driver="vfio-optimus"))
                self.ends_well(machine)

    def test_read_only(self):
        for name, value in (("rom-size", 1), ("rom-address", 1),
                            ("subsystem-ids", "user")):
            status, stderr = run(TEST.program, "-device",
                                 f"{self.gpu},{name}={value}")
            self.assertEqual(status, 1)
            self.assertIn(f"vfio-optimus.{name}' is not writable", stderr)

    def walk(self, machine, path="/machine"):
        """Get every property of every object."""
        for entry in machine.qmp("qom-list", path=path)["return"]:
            name = entry["name"]
            machine.qmp("qom-get", path=path, property=name)
            figures["properties read"] += 1
            if entry["type"].startswith("child<"):
                self.walk(machine, f"{path}/{name}")

    def monitor(self, machine):
        return {command: machine.qmp("human-monitor-command", **{
            "command-line": command})["return"] for command in (
                "info qtree", "info qom-tree", "info mtree", "info mtree -o",
                "info mtree -f", "info ramblock", "info pci")}

    def test_tree(self):
        for args in ([], ["-device", self.gpu],
                     ["-device", self.gpu, "-device",
                      self.gpu.replace("id=gpu", "id=second")]):
            with Machine(TEST.program, "-M", "q35", *args) as machine:
                self.walk(machine)
                said = self.monitor(machine)
                self.assertEqual("optimus-rom" in said["info mtree"],
                                 bool(args))
                self.assertEqual("rom-address" in said["info qtree"], False)
                self.ends_well(machine)

    def test_unrealized(self):
        """QMP can switch a device off.  (On again, bochs-display aborts.)"""
        path = "/machine/peripheral/gpu"
        with Machine(TEST.program, "-M", "q35", "-device", self.gpu) as machine:
            self.assertIn(b"_ROM", machine.dsdt())
            self.assertEqual(machine.qmp(
                "qom-set", path=path, property="realized", value=False),
                {"return": {}})
            for name in "rom-size", "rom-address":
                self.assertEqual(machine.get(path, name), 0)
            self.assertNotEqual(machine.read(WINDOW_START, len(ROM)), ROM)
            self.walk(machine)
            self.monitor(machine)
            machine.qmp("system_reset")
            self.assertNotIn(b"_ROM", machine.dsdt())
            self.ends_well(machine)

    def test_dump(self):
        """The window is memory like other memory to what dumps it."""
        with Machine(TEST.program, "-M", "q35", "-m", "16", "-device",
                     self.gpu) as machine:
            answer = machine.qmp("dump-guest-memory", paging=False,
                                 protocol="file:" + self.path("dump"))
            self.assertEqual(answer, {"return": {}})
            answer = machine.qmp("pmemsave", val=WINDOW_START, size=len(ROM),
                                 filename=self.path("saved"))
            self.assertEqual(answer, {"return": {}})
            self.ends_well(machine)
        with open(self.path("saved"), "rb") as saved:
            self.assertEqual(saved.read(), ROM)


class Migration(Files):
    """The window is not part of the state, and each side has its own: with the
    same romfile the guest finds the same bytes in the same place."""

    def machine(self, *args):
        return Machine(TEST.program, "-M", "q35", "-m", "16", "-device",
                       self.gpu + ",addr=5", *args)

    def wait(self, machine, command, done):
        for _ in range(600):
            answer = machine.qmp(command)["return"]
            if done(answer):
                return answer
            time.sleep(0.1)
        self.fail(f"{command}: {answer}")

    def check_window(self, machine):
        path = "/machine/peripheral/gpu"
        self.assertEqual(machine.get(path, "rom-address"), WINDOW_START)
        self.assertEqual(machine.read(WINDOW_START, len(ROM) + 0x2000),
                         ROM.ljust(len(ROM) + 0x2000, b"\0"))

    def test_migrate(self):
        state = self.path("state")
        with self.machine() as source:
            source.write(0x1000, b"from there")
            source.qmp("migrate", uri=f"exec:cat >{state}")
            answer = self.wait(source, "query-migrate", lambda a: a.get(
                "status") in ("completed", "failed"))
            self.assertEqual(answer["status"], "completed")
            self.ends_well(source)
        with open(state, "rb") as content:
            content = content.read()
        self.assertNotIn(b"optimus", content)
        with self.machine("-incoming", f"exec:cat {state}") as target:
            self.wait(target, "query-status", lambda a: a["status"] not in (
                "inmigrate", "postmigrate"))
            self.assertEqual(target.read(0x1000, 10), b"from there")
            self.check_window(target)
            self.ends_well(target)

    def test_snapshot(self):
        disk = self.path("disk")
        with self.machine() as machine:
            def done(**arguments):
                job = arguments["job-id"]

                def of_job(jobs):
                    return [j for j in jobs if j["id"] == job
                            and j["status"] == "concluded"]

                answer = self.wait(machine, "query-jobs", of_job)
                self.assertNotIn("error", of_job(answer)[0])
                machine.qmp("job-dismiss", id=job)

            def job(command, name, **arguments):
                arguments["job-id"] = name
                self.assertEqual(machine.qmp(command, **arguments),
                                 {"return": {}})
                done(**arguments)

            job("blockdev-create", "file", options={
                "driver": "file", "filename": disk, "size": 0})
            machine.qmp("blockdev-add", **{"driver": "file", "filename": disk,
                                           "node-name": "file"})
            job("blockdev-create", "qcow2", options={
                "driver": "qcow2", "file": "file", "size": 1 << 20})
            machine.qmp("blockdev-add", **{"driver": "qcow2", "file": "file",
                                           "node-name": "disk"})
            machine.write(0x1000, b"before")
            job("snapshot-save", "save", tag="s", vmstate="disk",
                devices=["disk"])
            machine.write(0x1000, b"after!")
            job("snapshot-load", "load", tag="s", vmstate="disk",
                devices=["disk"])
            self.assertEqual(machine.read(0x1000, 6), b"before")
            self.check_window(machine)
            self.ends_well(machine)


if __name__ == "__main__":
    figures["seed"] = SEED
    tap_main(sys.modules[__name__])
