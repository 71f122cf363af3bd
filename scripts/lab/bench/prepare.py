#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that the benchmark's guests need, and what each way costs.

usage: prepare.py [--quick] [--nvidia] OUT EMULATOR VBIOS ACPICA_ROOT KERNEL INITRD

EMULATOR is a directory in build/emulator, VBIOS is optimus-vbios.  OUT gets two folders with
files for guests, ways and sizes: ROMs, SSDTs and the plan, which is what the
guest's init tells the module, line by line; with each the arguments for QEMU,
in ways.args and sizes.args; and costs.json: bytes of AML, and what becomes of
QEMU's tables and the initrd.

Every SSDT gives the same plain device a _ROM.  That of vfio-optimus is its own
method, byte by byte as QEMU built it for the device that has the ROM; the ways
that want the ROM in memory find it in that device's window.

With --nvidia also nvidia.args and nvidia.cards, for a guest with NVIDIA's own driver.
"""

import argparse
import json
import os
import re
import subprocess
import sys

import vbios
from machine import Machine, WINDOW_END, WINDOW_START, with_plugin

HERE = os.path.dirname(os.path.abspath(__file__))

PAGE = 0x1000
KIB = 1 << 10
PLAIN = ["-device", "bochs-display,addr=0x10"]      # S80, without a _ROM
FW_CFG_INITRD_ADDR = 0x0a
ACPITABLE_MAX = 0xffff
LOOPS = ["fwcfg-mid", "fwcfg-field"]
SLOW = [*LOOPS, "segments", "field"]


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)
    return path


def make_rom(folder, size):
    return write(os.path.join(folder, f"rom-{size}"),
                 vbios.make(size, seed=size))


def device(slot, rom, kind="vfio-optimus"):
    return ["-device", f"{kind},id=gpu{slot},addr={slot:#x},romfile={rom}"]


def methods(dsdt):
    """The AML of _ROM of every device; each has 64 to 4095 bytes."""
    found = []
    for match in re.finditer(rb"\x14([\x40-\x4f])(.)_ROM", dsdt, re.S):
        size = ord(match[1]) & 0xf | ord(match[2]) << 4
        found.append(dsdt[match.start():match.start() + 1 + size])
    return found


def package(block):
    """The block after a PkgLength of four bytes."""
    size = len(block) + 4
    return bytes([0xc0 | size & 0xf, size >> 4 & 0xff, size >> 12 & 0xff,
                  size >> 20]) + block


def ssdt(aml):
    """A table that has AML in the plain device's node."""
    scope = b"\x10" + package(b"\\\x2f\x03_SB_PCI0S80_" + aml)
    table = bytearray(b"SSDT" + (36 + len(scope)).to_bytes(4, "little") +
                      b"\x01\0BENCH\0OPTIMUS\0\1\0\0\0BNCH\1\0\0\0" + scope)
    table[9] = -sum(table) % 256
    return bytes(table)


def buffer_way(rom):
    """The bound: the ROM as an AML buffer, of which the guest's kernel keeps a
    copy in its own memory, and a method that only returns a part of it:

        Name (VROM, Buffer (SIZE) {...})
        Method (_ROM, 2, Serialized) { Return (Mid (VROM, Arg0, Arg1)) }

    By hand, as iasl takes half a minute for it."""
    return ssdt(b"\x08VROM\x11" +
                package(b"\x0c" + len(rom).to_bytes(4, "little") + rom) +
                b"\x14" + package(b"_ROM\x0a\xa4\x9eVROM\x68\x69\0"))


def compile_asl(acpica, source, out, node="S80", **values):
    with open(os.path.join(HERE, source), encoding="ascii") as text:
        text = text.read().replace("S80", node)
    text = "".join(f"#define {name} {value}\n"
                   for name, value in values.items()) + text
    write(out + ".asl", text.encode())
    done = subprocess.run([os.path.join(acpica, "usr/bin/iasl"), "-p", out,
                           out + ".asl"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"iasl does not take {source}:\n{done.stdout}{done.stderr}")
    os.remove(out + ".asl")


def table_files(folder, name, number):
    """All but one way have one table."""
    path = os.path.join(folder, f"{name}-{number}")
    return ([os.path.join(path, file) for file in sorted(os.listdir(path))]
            if os.path.isdir(path) else [path + ".aml"])


def make_ssdt(options, rom, out, at):
    subprocess.run([options.vbios, "ssdt", rom, "-o", out, "--at", at],
                   check=True, stdout=subprocess.DEVNULL,
                   env={"PATH": os.path.join(options.acpica, "usr/bin")})


def make_tables(options, folder, base, size, loop_size, method):
    """The tables of all ways for a ROM; returns their names."""
    acpica = options.acpica

    def path(name):
        return os.path.join(folder, f"{name}-{size}")

    with open(path("rom"), "rb") as rom:
        write(path("buffer") + ".aml", buffer_way(rom.read()))
    make_ssdt(options, path("rom"), path("ssdt"), "10.0")
    write(path("optimus") + ".aml", ssdt(method))
    for way in ["nothing", "segments", "field", *LOOPS]:
        part = loop_size if way in LOOPS else size
        compile_asl(acpica, f"{way}.asl", path(way), ROM_BASE=f"{base:#x}",
                    ROM_SIZE=f"{part:#x}", ROM_BITS=f"{part * 8:#x}",
                    FWCFG_NAME=f'"opt/rom-{part}"')
    return ["optimus", "buffer", "ssdt", "segments", "field", *LOOPS]


class Costs:
    """What QEMU makes for the firmware with a way, and without it."""

    def __init__(self, qemu, kernel, initrd):
        self.qemu = qemu
        self.args = ["-M", "q35", "-m", "384", "-kernel", kernel,
                     "-initrd", initrd, *PLAIN]
        self.found = {}

    def _measure(self, *args):
        with Machine(self.qemu, *self.args, *args) as machine:
            return {
                "aml": len(machine.dsdt()),
                "tables": len(machine.fw_cfg_file("etc/acpi/tables")),
                "initrd": int.from_bytes(
                    machine.fw_cfg(FW_CFG_INITRD_ADDR, 4), "little"),
            }

    def _difference(self, without, with_it):
        one, other = self._measure(*without), self._measure(*with_it)
        return {key: other[key] - one[key] for key in one}

    def devices(self, name, devices, plain):
        self.found[name] = self._difference(plain, devices)

    def tables(self, name, paths):
        found = {}
        sizes = [os.path.getsize(path) for path in paths]
        if max(sizes) <= ACPITABLE_MAX:
            found = self._difference([], [
                word for path in paths for word in ("-acpitable", f"file={path}")])
        self.found[name] = {**found, "aml": sum(sizes)}


class Plan:
    """What the guest does with the files of FOLDER, which it has as /bench."""

    def __init__(self, folder):
        self.folder = folder
        self.lines = []

    def table(self, name, size, driver, fresh, again, of=None, prefix=""):
        """With SSDTs.  OF: the size of the ROM, if only a part is read."""
        tables = ",".join("/bench/" + os.path.relpath(file, self.folder) for file
                          in table_files(self.folder, name, of or size))
        self.lines.append(
            f"name={prefix}{name} size={size} driver={driver} fresh={fresh} again={again} "
            f"bdf=0000:00:10.0 table={tables} "
            f"rom=/bench/rom-{of or size}")

    def device(self, name, slot, size, driver, of=None):
        """The device itself, as it is after boot."""
        self.lines.append(
            f"name={name} size={size} driver={driver} fresh=1 again=1 "
            f"bdf=0000:00:{slot:02x}.0 rom=/bench/rom-{of or size}")

    def save(self, out, name, args):
        write(os.path.join(out, name, "plan"), "".join(
            line + "\n" for line in self.lines).encode())
        write(os.path.join(out, f"{name}.args"), "".join(
            arg + "\n" for arg in args).encode())


def prepare_ways(options, costs):
    """One guest for all ways, with one device for each size."""
    folder = os.path.join(options.out, "ways")
    os.mkdir(folder)
    sizes = [128 * KIB] if options.quick else [128 * KIB, 256 * KIB]
    args = list(PLAIN)
    for slot, size in enumerate(sizes, 1):
        args += device(slot, make_rom(folder, size))
    with Machine(options.qemu, "-M", "q35", *args) as machine:
        found = methods(machine.dsdt())
        bases = [machine.get(f"/machine/peripheral/gpu{slot}", "rom-address")
                 for slot, _ in enumerate(sizes, 1)]

    plan = Plan(folder)
    for slot, (size, base, method) in enumerate(zip(sizes, bases, found), 1):
        rom = os.path.join(folder, f"rom-{size}")
        part = 8 * KIB if options.quick else size
        names = make_tables(options, folder, base, size, part, method)
        with open(rom, "rb") as data:
            file = write(os.path.join(options.out, f"part-{part}"),
                         data.read(part))
        args += ["-fw_cfg", f"name=opt/rom-{part},file={file}"]
        costs.devices(f"optimus-{size}", device(1, rom),
                      device(1, rom, "bochs-display"))
        for name in names[1:]:
            costs.tables(f"{name}-{size}", table_files(folder, name, size))
        # For the heap, and to have the kernel's code translated by QEMU
        for name in ["nothing", "nothing", *names]:
            if name not in LOOPS:
                plan.table(name, size, "nvidia", 1, 0, prefix="warm-")
    for turn in range(options.rounds):
        for slot, size in enumerate(sizes, 1):
            for driver in ["nvidia", "nouveau"]:
                for name in names:
                    if name not in SLOW:
                        plan.table(name, size, driver, 3, 2)
                    elif name not in LOOPS:
                        # What is slow each time need not be read twice
                        plan.table(name, size, driver, 1,
                                   int(turn == 0 or size == sizes[0]))
                    elif turn == 0 or (slot == 1 and driver == "nvidia" and
                                       not options.quick):
                        # Whole as often as the others for one ROM and driver
                        plan.table(name, 8 * KIB if options.quick else size,
                                   driver, 1, 1, of=size)
                plan.device("in-place", slot, size, driver)
    plan.save(options.out, "ways", args)


def prepare_sizes(options, costs):
    """A guest with the largest ROM.  Smaller ROMs are its first part, read with
    the method that QEMU makes for that size."""
    folder = os.path.join(options.out, "sizes")
    os.mkdir(folder)
    largest = WINDOW_END - WINDOW_START - 2 * PAGE
    rom = make_rom(folder, largest)
    sizes = [64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, largest]
    for size in sizes:
        name = make_rom(options.out, size)
        with Machine(options.qemu, "-M", "q35", *device(1, name)) as machine:
            method, = methods(machine.dsdt())
        write(os.path.join(folder, f"optimus-{size}.aml"), ssdt(method))
        os.remove(name)
        if size != largest:
            os.symlink(f"rom-{largest}", os.path.join(folder, f"rom-{size}"))
    plan = Plan(folder)
    for _ in range(options.rounds):
        for size in sizes:
            for driver in ["nvidia", "nouveau"]:
                plan.table("optimus", size, driver, 1, 2)
    plan.save(options.out, "sizes", PLAIN + device(1, rom))


def prepare_devices(options, costs):
    """A guest with eight devices."""
    folder = os.path.join(options.out, "devices")
    os.mkdir(folder)
    rom = make_rom(folder, 64 * KIB)
    devices = [device(slot, rom) for slot in range(1, 9)]
    plain = [device(slot, rom, "bochs-display") for slot in range(1, 9)]
    for count in [1, 2, 4, 8]:
        costs.devices(f"devices-{count}", sum(devices[:count], []),
                      sum(plain[:count], []))
    plan = Plan(folder)
    for _ in range(options.rounds):
        for slot in range(1, 9):
            plan.device(f"device-{slot}", slot, 64 * KIB, "nvidia")
    plan.save(options.out, "devices", PLAIN + sum(devices, []))


def prepare_nvidia(options):
    """A guest with NVIDIA's own driver: a fake GPU for each way and turn.

    Ways that want the ROM in memory find it in the first vfio-optimus's window."""
    folder = os.path.join(options.out, "nvidia")
    rom = os.path.join(folder, "two-images.rom")
    size = os.path.getsize(rom)
    with Machine(options.qemu, "-M", "q35", *device(1, rom)) as machine:
        base = machine.get("/machine/peripheral/gpu1", "rom-address")
    args, cards = ["-fw_cfg", f"name=opt/rom-{size},file={rom}"], ""
    # SeaBIOS has room for one set of ssdt's tables; the loops take seconds.
    ways = 3 * ["optimus", "segments", "field"] + ["ssdt", *LOOPS]
    for slot, way in enumerate(ways, 1):
        cards += f"0000:00:{slot:02x}.0 {way}\n"
        if way == "optimus":
            args += device(slot, rom)
            continue
        args += ["-device", f"fake-gpu,addr={slot:#x}"]
        tables = os.path.join(folder, f"{way}-{slot}")
        if way == "ssdt":
            make_ssdt(options, rom, tables, f"{slot:02x}.0")
        else:
            compile_asl(options.acpica, f"{way}.asl", tables,
                        node=f"S{slot * 8:02X}", ROM_BASE=f"{base:#x}",
                        ROM_SIZE=f"{size:#x}", ROM_BITS=f"{size * 8:#x}",
                        FWCFG_NAME=f'"opt/rom-{size}"')
        for file in table_files(folder, way, slot):
            args += ["-acpitable", f"file={file}"]
    write(os.path.join(options.out, "nvidia.cards"), cards.encode())
    write(os.path.join(options.out, "nvidia.args"), "".join(
        arg + "\n" for arg in args).encode())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--nvidia", action="store_true")
    for name in ["out", "emulator", "vbios", "acpica", "kernel", "initrd"]:
        parser.add_argument(name)
    options = parser.parse_args()
    options.rounds = 3 if options.quick else 5
    options.qemu = with_plugin(options.emulator, "test-optimus")
    costs = Costs(options.qemu, options.kernel, options.initrd)
    prepare_ways(options, costs)
    prepare_sizes(options, costs)
    prepare_devices(options, costs)
    if options.nvidia:
        prepare_nvidia(options)
    write(os.path.join(options.out, "costs.json"),
          json.dumps(costs.found, indent=1).encode() + b"\n")


main()
