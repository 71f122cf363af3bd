#!/usr/bin/python3
"""Everything that the benchmark's guests need, and what it costs.

usage: prepare.py [--quick] OUT QEMU ACPICA_ROOT

QEMU has the device with bochs-display as its parent.  OUT gets two folders of
files for guests, "ways" and "sizes", with ROMs, SSDTs and the plan for the
guest's init, the arguments for QEMU in ways.args and sizes.args, and costs.json:
bytes of AML, and what each way does to the tables and the initrd.

Every SSDT gives the same plain device a _ROM.  That of vfio-optimus is its own
method, as QEMU built it for the device that has the ROM, byte by byte; the ways
that want the ROM in memory find it in that device's window.
"""

import argparse
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import vbios  # noqa: E402
from machine import Machine  # noqa: E402

PAGE = 0x1000
PLAIN = ["-device", "bochs-display,addr=0x10"]      # S80, without a _ROM
FW_CFG_INITRD_ADDR = 0x0a
LOOPS = {"fwcfg-mid": "fw_cfg loop, Mid", "fwcfg-field": "fw_cfg loop, CreateField"}
WAYS = ["nothing", "buffer", "segments", "field", *LOOPS]
VARIANTS = {1: "no-mid", 2: "join-pages", 3: "map-whole", 4: "page-fields",
            5: "dword"}
LIMIT_ACPITABLE = 0xffff


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)
    return path


def make_rom(folder, size):
    return write(os.path.join(folder, f"rom-{size}"),
                 vbios.make(size, vendor=0x1234, device=0x1111, seed=size))


def device(number, rom):
    return ["-device", f"vfio-optimus,id=gpu{number},addr={number + 1},romfile={rom}"]


def methods(dsdt):
    """The AML of every device: from its first region to the end of _ROM."""
    found = []
    at = dsdt.find(b"\x5b\x80VROM")
    while at >= 0:
        name = dsdt.index(b"_ROM", at)
        head = name - 2
        if dsdt[head - 1] != 0x14 or dsdt[head] >> 6 != 1:
            raise ValueError("_ROM is no method of 64 to 4095 bytes")
        end = head + (dsdt[head] & 0xf | dsdt[head + 1] << 4)
        found.append(dsdt[at:end])
        at = dsdt.find(b"\x5b\x80VROM", end)
    return found


def ssdt(aml):
    """A table that has AML in the plain device's node."""
    scope = b"\\\x2f\x03_SB_PCI0S80_" + aml
    size = len(scope) + 2
    scope = bytes([0x10, 0x40 | size & 0xf, size >> 4]) + scope
    table = bytearray(b"SSDT" + (36 + len(scope)).to_bytes(4, "little") +
                      b"\x01\0" + b"BENCH\0" + b"OPTIMUS\0" + b"\1\0\0\0" +
                      b"BNCH" + b"\1\0\0\0" + scope)
    table[9] = -sum(table) % 256
    return bytes(table)


class Compiler:
    def __init__(self, root):
        self.iasl = os.path.join(root, "usr/bin/iasl")

    def __call__(self, source, out, **values):
        with open(os.path.join(HERE, source), encoding="ascii") as text:
            text = text.read()
        # What is long is put in as text, the rest is for iasl
        for name in [name for name, value in values.items()
                     if isinstance(value, str) and len(value) > 100]:
            text = re.sub(rf"\b{name}\b", values.pop(name), text)
        text = "".join(f"#define {name} {value}\n"
                       for name, value in values.items()) + text
        write(out + ".asl", text.encode())
        done = subprocess.run([self.iasl, "-p", out, out + ".asl"],
                              capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"iasl does not take {source}:\n{done.stdout}{done.stderr}")
        os.remove(out + ".asl")
        return out + ".aml"


def hexadecimal(data):
    lines = (data[at:at + 16] for at in range(0, len(data), 16))
    return ",\n".join(", ".join(f"{byte:#x}" for byte in line) for line in lines)


def compile_ways(compiler, folder, base, size, loop_size):
    """The tables of all ways but ours for a ROM; returns their names."""
    with open(os.path.join(folder, f"rom-{size}"), "rb") as rom:
        rom = rom.read()
    limit = -(-size // PAGE) * PAGE + PAGE
    names = []
    for way in WAYS:
        part = loop_size if way in LOOPS else size
        compiler(f"{way}.asl", os.path.join(folder, f"{way}-{size}"),
                 ROM_BASE=f"{base:#x}", ROM_SIZE=f"{part:#x}",
                 ROM_BITS=f"{part * 8:#x}", ROM_BYTES=hexadecimal(rom),
                 FWCFG_NAME=f'"opt/rom-{part}"')
        names.append(way)
    pages = limit // PAGE
    for number, variant in VARIANTS.items():
        compiler("variants.asl", os.path.join(folder, f"{variant}-{size}"),
                 ROM_BASE=f"{base:#x}", ROM_SIZE=f"{size:#x}",
                 ROM_LIMIT=f"{limit:#x}", LIMIT_BITS=f"{limit * 8:#x}",
                 VARIANT=number,
                 PAGE_FIELDS=", ".join(f"P{n:03X}, 0x8000" for n in range(pages)),
                 PAGE_NAMES=", ".join(f"P{n:03X}" for n in range(pages)))
        names.append(variant)
    return names


def cost(qemu, kernel, *args):
    """What QEMU makes for the firmware: lengths of DSDT and of all tables, and
    where the initrd shall go."""
    with Machine(qemu, "-M", "q35", "-m", "384", *kernel, *PLAIN, *args) as machine:
        return {
            "dsdt": len(machine.dsdt()),
            "tables": len(machine.fw_cfg_file("etc/acpi/tables")),
            "initrd": int.from_bytes(machine._fw_cfg(FW_CFG_INITRD_ADDR, 4),
                                     "little"),
        }


class Plan:
    """What the guest's init gives to the module, line by line."""

    def __init__(self):
        self.lines = []

    def add(self, name, size, driver, fresh, again, rom=None, bdf="0000:00:10.0",
            table=True):
        table = f"table=/bench/{name}-{rom or size}.aml " if table else ""
        self.lines.append(
            f"name={name} size={size} driver={driver} fresh={fresh} "
            f"again={again} bdf={bdf} {table}rom=/bench/rom-{rom or size}")

    def save(self, folder):
        write(os.path.join(folder, "plan"),
              ("\n".join(self.lines) + "\n").encode())


def plan_ways(names, sizes, rounds, quick, loop_sizes):
    plan = Plan()
    for size in sizes:
        for name in ["nothing", *names, "optimus"]:     # for the heap, and warm
            if name not in LOOPS:
                plan.add(name, size, "nvidia", 1, 0)
    for turn in range(rounds):
        for size in sizes:
            for driver in ["nvidia", "nouveau"]:
                for name in ["optimus", *names]:
                    slow = name in ["segments", "field"]
                    if name in LOOPS:
                        # whole, as often as all others, for one ROM only
                        whole = size == sizes[0] and driver == "nvidia"
                        if whole or not turn:
                            plan.add(name, loop_sizes[size], driver, 1, 1, size)
                    elif name != "nothing":
                        plan.add(name, size, driver, 1 if slow else 5,
                                 1 if slow else 3)
                plan.add("in-place", size, driver, 1, 1, table=False,
                         bdf=f"0000:00:{sizes.index(size) + 1:02x}.0")
    return plan


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("out")
    parser.add_argument("qemu")
    parser.add_argument("acpica")
    parser.add_argument("kernel", nargs=2, help="kernel and initrd")
    options = parser.parse_args()
    compiler = Compiler(options.acpica)
    kernel = ["-kernel", options.kernel[0], "-initrd", options.kernel[1]]
    rounds = 3 if options.quick else 5

    # One guest for the ways, with a device for each size of ROM
    ways = os.path.join(options.out, "ways")
    os.makedirs(ways)
    sizes = [128 << 10] if options.quick else [128 << 10, 256 << 10]
    loop_sizes = {size: 8 << 10 if options.quick else size for size in sizes}
    args = list(PLAIN)
    for number, size in enumerate(sizes):
        args += device(number, make_rom(ways, size))
    with Machine(options.qemu, "-M", "q35", *args) as machine:
        amls = methods(machine.dsdt())
        bases = [machine.get(f"/machine/peripheral/gpu{number}", "rom-address")
                 for number in range(len(sizes))]
    names, costs = [], {}
    before = cost(options.qemu, kernel)
    for number, size in enumerate(sizes):
        write(os.path.join(ways, f"optimus-{size}.aml"), ssdt(amls[number]))
        names = compile_ways(compiler, ways, bases[number], size, loop_sizes[size])
        rom = os.path.join(ways, f"rom-{size}")
        args += ["-fw_cfg", f"name=opt/rom-{size},file={rom}"]
        if loop_sizes[size] != size:
            with open(rom, "rb") as whole:
                part = write(os.path.join(ways, "part"), whole.read(loop_sizes[size]))
            args += ["-fw_cfg", f"name=opt/rom-{loop_sizes[size]},file={part}"]
        after = cost(options.qemu, kernel, *device(0, rom))
        without = cost(options.qemu, kernel, "-device", "bochs-display,addr=1")
        costs[f"optimus-{size}"] = {
            "aml": after["dsdt"] - without["dsdt"],
            "tables": after["tables"] - before["tables"],
            "initrd": before["initrd"] - after["initrd"]}
        for name in names:
            table = os.path.join(ways, f"{name}-{size}.aml")
            bytes_ = os.path.getsize(table)
            costs[f"{name}-{size}"] = {"aml": bytes_}
            if bytes_ <= LIMIT_ACPITABLE:
                after = cost(options.qemu, kernel, "-acpitable", f"file={table}")
                costs[f"{name}-{size}"].update(
                    tables=after["tables"] - before["tables"],
                    initrd=before["initrd"] - after["initrd"])
    plan_ways(names, sizes, rounds, options.quick, loop_sizes).save(ways)
    write(os.path.join(options.out, "ways.args"), "\n".join(args).encode() + b"\n")
    write(os.path.join(options.out, "costs.json"),
          json.dumps(costs, indent=1).encode() + b"\n")


main()
