# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell as a guest, and what has to be in its logs."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time

import vbios
from machine import PLUGINS, WINDOW_START
from cells import BUILD, COLUMNS, HERE, ROOT, SSDT_TOOL, read_text, sha256

RUN = os.path.join(BUILD, "lab/run")
WORK = os.path.join(BUILD, "lab/matrix")
SHELL = os.path.join(HERE, "matrix.sh")
BOCHS = {"vendor": 0x1234, "device": 0x1111}
PAGE = 0x1000
TIME_LIMIT = 180                # of a guest, in seconds

# life: what the guest does, and how often it then has read all ROMs
LIVES = {
    "read": ("map,all", 1),
    "reboot": ("map,all", 2),
    "reset": ("map,all,contract", 2),
    "rebind": ("map,all,rebind,all", 4),
    "kexec": ("map,all,kexec", 2),
    "suspend": ("map,all,suspend,all", 2),
    "hibernate": ("map,all,hibernate,all", 3),
}


class Failed(Exception):
    """The cell is red, with the reasons as arguments."""


class Monitor:
    """QMP of a guest that lab_guest starts."""

    def __init__(self, guest, name):
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect("\0" + name)
                break
            except ConnectionRefusedError:
                guest.alive()
                time.sleep(0.1)
        self.stream = connection.makefile("rw")
        self.stream.readline()
        self.execute("qmp_capabilities")

    def execute(self, command):
        self.stream.write(json.dumps({"execute": command}))
        self.stream.flush()
        self.wait_for("return")

    def wait_for(self, key, value=None):
        for line in self.stream:
            message = json.loads(line)
            if key in message and value in (None, message[key]):
                return
        raise Failed(f"QEMU ended before {value or key}")


class Guest:
    """One cell as a guest: matrix.sh guest does the work."""

    def __init__(self, cell):
        row, options = cell.row, cell.row.options
        self.cell, self.column = cell, COLUMNS[cell.column]
        self.name = "matrix-" + "-".join(
            re.findall(r"[a-z0-9]+", f"{cell.column} {row.what}".lower()))
        self.run = os.path.join(RUN, self.name)
        self.console = os.path.join(self.run, "console.log")
        self.life = options.get("life")
        self.error = row.expected.removeprefix("error:").strip()
        if self.error == row.expected:
            self.error = None
        self.kernel = options.get("kernel", "6.1")
        self.image = options.get("image")
        self.ssdt = options.get("ssdt")
        # a Buffer at a time is not as simple as a window
        self.count = 2000 if self.ssdt else 200
        self.seed = random.randrange(1, 1 << 31)
        self.roms = self.write_roms()
        self.nodes = [] if self.error else [
            tuple(node.split()) for node in row.expected.split(",")]

    def write_roms(self):
        """The files for the gpus, as many as there are."""
        sizes = self.cell.row.options.get("rom", "103936").split(",")
        gpus = sum(device.startswith(("gpu", "card"))
                   for device in self.cell.row.devices)
        paths = []
        for number in range(gpus):
            size = sizes[number % len(sizes)]
            seed = number + 1
            # optimus-vbios takes none but NVIDIA's
            ids = {} if self.ssdt else BOCHS
            kind = "-tables" if self.ssdt else ""
            path = os.path.join(WORK, f"{size}-{seed}{kind}.rom")
            if size == "chain":
                rom = vbios.chain([{"size": 65536, **ids},
                                   {"size": 40960, "kind": 3, **ids}])
            else:
                rom = vbios.make(size=int(size), seed=seed, **ids)
            if not os.path.exists(path):
                temporary = f"{path}.{self.name}"
                with open(temporary, "wb") as file:
                    file.write(rom)
                os.rename(temporary, path)
            paths.append((path, rom))
        return paths

    def tables(self):
        """The arguments with the tables of optimus-vbios ssdt, written anew."""
        folder = os.path.join(WORK, f"{self.name}.tables")
        shutil.rmtree(folder, ignore_errors=True)
        (path, _), = self.roms
        subprocess.run([SSDT_TOOL, "ssdt", path, "-o", folder, "--at", self.ssdt],
                       check=True, stdout=subprocess.DEVNULL, env={
                           **os.environ, "PATH": f"{ROOT}/vbios-tools/usr/bin"})
        return [word for name in sorted(os.listdir(folder)) for word in
                ("-acpitable", f"file={folder}/{name}")]

    def arguments(self, monitor):
        """The environment for lab_guest, and QEMU's arguments."""
        column = self.column
        share = os.path.join(ROOT, column.root, "usr/share")
        machine = self.cell.row.machine
        args = ["-m", self.cell.row.options.get("mem", "384"),
                "-qmp", f"unix:{monitor},abstract=on,server=on,wait=off",
                *(self.tables() if self.ssdt else
                  ["-plugin", os.path.join(PLUGINS, "test-optimus.so")])]
        if "global" in self.cell.row.options:
            args += ["-global", self.cell.row.options["global"]]
        if column.kind != "s":
            args += ["-drive", "if=pflash,format=raw,snapshot=on,file="
                     + os.path.join(share, "OVMF/OVMF_VARS_4M.fd")]
        if column.kind == "x":
            machine += ",smm=on"
            args += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        roms = iter(self.roms)
        for device in self.cell.row.devices:
            if device.startswith("gpu"):
                device = (f"vfio-optimus,romfile={next(roms)[0]},vgamem=32M"
                          + device[3:])
            elif device.startswith("card"):
                device = "bochs-display,vgamem=32M" + device[4:]
            args += ["-device", device]
        if self.life in ("reboot", "reset", "hibernate"):
            args += ["-action", "reboot=reset"]
        if self.life == "hibernate":
            args += self.disk("swap", 1 << 30)
        if self.image == "grub":
            args += self.disk("grub")
        return {
            "LAB_KERNEL": f"kernel-{self.kernel}".removesuffix("-6.1"),
            "LAB_MACHINE": machine, "LAB_TIMEOUT": str(TIME_LIMIT),
            "LAB_FIRMWARE": os.path.join(share, column.file),
            **({"LAB_IMAGE": self.image.replace("grub", "disk")}
               if self.image else {}),
        }, args

    def disk(self, name, size=None):
        path = os.path.join(WORK, f"{self.name}.{name}")
        if size:
            with open(path, "wb") as file:
                file.truncate(size)
        return ["-drive", f"if=none,id=disk,format=raw,file={path}",
                "-device", "virtio-blk-pci,drive=disk,addr=1e"]

    def command_line(self):
        row, (actions, _) = self.cell.row, LIVES.get(self.life, (None, 1))
        if "boot0" in row.options:
            actions = "map,all,watch,nouveau"
        words = [f"optimus={actions or 'map,all,contract'}",
                 "cards=" + ",".join(f"0000:{bdf}={number}.rom" for number,
                                     (bdf, _) in enumerate(self.nodes)),
                 f"seed={self.seed} count={self.count}"]
        if self.efi_map():
            words.append("efi=debug")
        if "boot0" in row.options:
            words += [f"boot0={row.options['boot0']}", "video=efifb:off",
                      "nouveau.debug=bios=debug"]
        return " ".join(words)

    def boot(self):
        """Run the guest to its end; returns QEMU's exit status."""
        files = [f"{path}:{number}.rom"
                 for number, (path, _) in enumerate(self.roms)]
        if self.life:
            files.append(os.path.join(BUILD, "lab/kernel/life:life"))
        monitor = f"{self.name}-{os.getpid()}"
        environment, args = self.arguments(monitor)
        environment = {**os.environ, **environment}
        if self.image == "grub":
            subprocess.run([SHELL, "grub-disk",
                            os.path.join(WORK, f"{self.name}.grub"),
                            self.command_line(), *files], env=environment,
                           check=True, stdout=subprocess.DEVNULL)
            files = []
        self.process = subprocess.Popen(
            [SHELL, "guest", self.name, os.path.join(ROOT, self.column.qemu),
             self.command_line(), *files, "--", *args], env=environment,
            stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            drive = getattr(self, f"live_{self.life}", None)
            if drive:
                drive(Monitor(self, monitor))
        finally:
            self.process.wait()
        return self.process.returncode

    def alive(self):
        if self.process.poll() is not None:
            raise Failed("QEMU ended too early, with status "
                         f"{self.process.returncode}")

    def wait_for(self, text, times=1):
        while read_text(self.console).count(text) < times:
            self.alive()
            time.sleep(0.1)

    def live_reboot(self, monitor):
        """l2-init ends with a reset, which QEMU then does."""
        self.wait_for("lab: 1..", 2)
        monitor.execute("quit")

    def live_reset(self, monitor):
        self.wait_for("lab: contract starts")
        monitor.execute("system_reset")
        self.wait_for("lab: 1..")
        monitor.execute("quit")

    def live_suspend(self, monitor):
        monitor.wait_for("event", "SUSPEND")
        monitor.execute("system_wakeup")

    def live_hibernate(self, monitor):
        self.wait_for("lab: 1..")
        monitor.execute("quit")

    # What has to be in the logs

    def check(self, status):
        """Returns what the memory map says of the ROMs."""
        wrong = []
        log = read_text(os.path.join(self.run, "qemu.log"))
        if self.error:
            if status != 1:
                wrong.append(f"QEMU's exit status is {status}, not 1")
            if self.error not in log:
                wrong.append(f"QEMU does not say \"{self.error}\"")
            if os.path.getsize(self.console):
                wrong.append("the guest has started")
            if wrong:
                raise Failed(*wrong)
            return None
        console = read_text(self.console)
        if "lab: 1.." not in console or status not in (0, 1):
            wrong.append(f"the guest did not come to its end, status {status}")
        wrong += self.check_reads(console)
        wrong += re.findall("lab: (not ok - .*)", console)
        if "boot0" in self.cell.row.options:
            pages = -(-len(self.roms[0][1]) // PAGE)
            wrong += [f"nouveau: no \"{text}\"" for text in (
                "bios: using image from ACPI", "bios: scored 4",
                f"watch=done calls={2 + pages}\n") if text not in console]
        memory, more = self.check_memory(console)
        wrong += more
        if memory != (None if self.ssdt else self.column.memory):
            wrong.append(f"the memory map says of the ROM: {memory}")
        if wrong:
            raise Failed(*wrong)
        return memory

    def check_reads(self, console):
        """Every card's bytes, length and place, each time."""
        # the kernel's own lines come in between
        ours = "\n".join(re.findall(r"(?:optimus|lab): .*", console))
        found = re.findall(
            r"optimus: device=(\S+) acpi=(\S+) .*\n"
            r"optimus: read=ok bytes=(\d+) calls=(\d+) .*\n"
            r"optimus: action=read result=0\n"
            r"lab: sha256 (\w+) +/read.rom", ours)
        want = [(f"0000:{bdf}", "\\_SB_.PCI0." + ".".join(
                    name.ljust(4, "_") for name in path.split(".")),
                 str(len(rom)), str(-(-len(rom) // PAGE)), sha256(rom))
                for (bdf, path), (_, rom) in zip(self.nodes, self.roms)]
        want *= LIVES.get(self.life, (None, 1))[1]
        if self.life in ("reboot", "reset"):
            # it may have come further before QEMU ended
            found = found[:len(want)]
        if found == want:
            return []
        return [f"read {found}, not {want}"]

    def check_memory(self, console):
        """What the memory maps say of the ROM windows; and what is wrong.
        Windows needs them not to be memory of the OS."""
        windows, at = [], WINDOW_START
        for _, rom in () if self.ssdt else self.roms:
            end = at + -(-len(rom) // PAGE) * PAGE + 2 * PAGE
            windows.append((at, end))
            at = end
        maps = [[(int(start, 16), int(end, 16) + 1, kind.strip())
                 for start, end, kind in found] for found in (
            re.findall(r"lab: memory (0x\w+) (0x\w+) (.*)", console),
            [(start, end, kind) for kind, start, end in re.findall(
                r"efi: mem\d+: \[([^|]*)\|.*range=\[(0x\w+)-(0x\w+)\]",
                console)])]
        if not maps[0] or (self.efi_map() and not maps[1]):
            return None, ["no memory map"]
        if self.ssdt:
            return None, self.overlaps(console, [])
        said, wrong = set(), []
        for window in windows:
            words = [self.in_map(entries, window, wrong)
                     for entries in maps if entries]
            said.add(", EFI: ".join(dict.fromkeys(words)))
        return " or ".join(sorted(said)), wrong + self.overlaps(console, windows)

    def efi_map(self):
        return self.column.kind != "s" and self.life != "kexec"

    @staticmethod
    def in_map(entries, window, wrong):
        """What the map says of the window."""
        over = [e for e in entries if e[0] < window[1] and window[0] < e[1]]
        kinds = {kind for _, _, kind in over}
        if not over:
            return "not listed"
        if len(kinds) > 1 or not kinds <= {"Reserved", "MMIO"} or (
                over[0][0] > window[0] or over[-1][1] < window[1]):
            wrong.append(f"the memory map has {over} at the ROM window")
        return kinds.pop().replace("Reserved", "reserved")

    @staticmethod
    def overlaps(console, windows):
        """ACPI tables, initrd and ROMs that share memory, as sentences."""
        used = [(int(at, 16), int(at, 16) + int(size, 16), name)
                for name, at, size in re.findall(
                    r"lab: memory: ACPI: (\w{4}) (0x\w+) (\w+)", console)]
        initrd = re.search(r"RAMDISK: \[mem (0x\w+)-(0x\w+)\]", console)
        if not used or not initrd:
            return ["no ACPI tables or no initrd in the kernel's log"]
        used.append((int(initrd[1], 16), int(initrd[2], 16) + 1, "initrd"))
        used += [(*window, "ROM") for window in set(windows)]
        used.sort()
        # a table is listed once for each kernel
        return [f"{first} and {second} overlap at {start:#x}"
                for (_, end, first), (start, _, second) in zip(used, used[1:])
                if start < end and first != second]

    def clean(self):
        shutil.rmtree(os.path.join(WORK, f"{self.name}.tables"),
                      ignore_errors=True)
        for path in [os.path.join(self.run, "initrd"),
                     *(os.path.join(WORK, f"{self.name}.{name}")
                       for name in ("swap", "grub"))]:
            if os.path.exists(path):
                os.unlink(path)


def run_guest(cell):
    guest = Guest(cell)
    try:
        return guest.check(guest.boot())
    except Exception as error:
        reasons = error.args if isinstance(error, Failed) else [repr(error)]
        raise Failed(*reasons, f"console: {guest.console}",
                     f"QEMU: {guest.run}/command and qemu.log") from error
