# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU with a plugin, controlled through QMP and qtest, for the tests.

The guest's CPU is stopped before its first instruction; qtest takes its place."""

import collections
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile

from tap import figures, lacking, need, tap_main    # noqa: F401

# Where the plugins are, of the build directory that meson runs the test of
PLUGINS = os.environ.get("VFIO_OPTIMUS_PLUGINS") or os.path.normpath(os.path.join(
    os.path.dirname(__file__), "../../build/check/hw-optimus/plugin"))

WINDOW_START = 0xfef20000
WINDOW_END = 0xfeff8000
TIME_LIMIT = 60

FW_CFG_DIRECTORY = 0x19
FW_CFG_READ_SELECT = 0x0a
SCRATCH = 0x100000              # guest memory for fw_cfg's DMA


Unpacked = collections.namedtuple("Unpacked", "script linker libraries program")


def unpacked(emulator):
    """What runs the QEMU of the directory EMULATOR: the script there, and of it
    the dynamic linker, the folders of the libraries, and the program."""
    with open(os.path.join(emulator, "qemu-system-x86_64"), errors="replace") as file:
        script = file.read()
    if not script.startswith("#!"):
        lacking("a QEMU that is unpacked, and not the system's")
    return Unpacked(script, *(re.search(pattern, script, re.M).group(1)
                              for pattern in ("^exec '(.*)' --library-path",
                                              "^libraries='(.*)'$",
                                              "^program='(.*)'$")))


def with_plugin(emulator, name="vfio-optimus"):
    """The QEMU of the directory EMULATOR, with a plugin, as a command."""
    return [os.path.join(emulator, "qemu-system-x86_64"),
            "-plugin", os.path.join(PLUGINS, name + ".so")]


def run(program, *args, privileged=True):
    """Start QEMU and let it quit as soon as the machine is there.

    Returns its exit status and what it wrote to stderr."""
    command = [*([program] if isinstance(program, str) else program),
               "-nodefaults", "-display", "none", "-S",
               "-qmp", "stdio", *args]
    if not privileged and not os.getuid():
        # root, but for reading what nobody may read
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
                   *command]
    quit_at_once = '{"execute":"qmp_capabilities"}{"execute":"quit"}'
    done = subprocess.run(command, input=quit_at_once, text=True,
                          capture_output=True, timeout=TIME_LIMIT)
    return done.returncode, done.stderr


def has_own_c_library(emulator):
    program = unpacked(emulator).program
    return os.path.exists(os.path.join(os.path.dirname(program),
                                       "../lib64/ld-linux-x86-64.so.2"))


class Machine:
    """A running QEMU."""

    def __init__(self, program, *args):
        self.dir = tempfile.TemporaryDirectory()
        listeners = {name: self._listen(name) for name in ("qmp", "qtest")}
        self.process = subprocess.Popen(
            [*([program] if isinstance(program, str) else program),
             "-nodefaults", "-display", "none", "-S",
             "-qmp", f"unix:{self.dir.name}/qmp",
             "-qtest", f"unix:{self.dir.name}/qtest", "-qtest-log", "/dev/null",
             *args], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.streams = {}
        for name, listener in listeners.items():
            self.streams[name] = self._accept(listener)
        self.streams["qmp"].readline()
        self.qmp("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        for stream in self.streams.values():
            stream.close()
        self.dir.cleanup()

    def _listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(self.dir.name, name))
        listener.listen()
        return listener

    def _accept(self, listener):
        listener.settimeout(0.1)
        while self.process.poll() is None:
            try:
                connection, _ = listener.accept()
                break
            except TimeoutError:
                continue
        else:
            raise RuntimeError(self.process.communicate()[1])
        listener.close()
        connection.settimeout(TIME_LIMIT)
        return connection.makefile("rw")

    def qmp(self, command, **arguments):
        stream = self.streams["qmp"]
        stream.write(json.dumps({"execute": command, "arguments": arguments}))
        stream.flush()
        while True:
            answer = json.loads(stream.readline())
            if "event" not in answer:
                return answer

    def quit(self):
        """End it; returns its exit status and what it wrote to stderr."""
        self.qmp("quit")
        stderr = self.process.communicate(timeout=TIME_LIMIT)[1]
        return self.process.returncode, stderr

    def get(self, path, name):
        return self.qmp("qom-get", path=path, property=name)["return"]

    def qtest(self, command):
        stream = self.streams["qtest"]
        stream.write(command + "\n")
        stream.flush()
        answer = stream.readline().split()
        if answer[0] != "OK":
            raise RuntimeError(f"qtest: {command}: {answer}")
        return answer[1] if len(answer) > 1 else None

    def read(self, address, size):
        return bytes.fromhex(self.qtest(f"read {address:#x} {size:#x}")[2:])

    def write(self, address, data):
        self.qtest(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def fw_cfg(self, key, size):
        self.write(SCRATCH, struct.pack(">IIQ", key << 16 | FW_CFG_READ_SELECT,
                                        size, SCRATCH + 0x1000))
        swapped, = struct.unpack("<I", struct.pack(">I", SCRATCH))
        self.qtest("outl 0x514 0")
        self.qtest(f"outl 0x518 {swapped:#x}")
        return self.read(SCRATCH + 0x1000, size)

    def fw_cfg_file(self, name):
        count, = struct.unpack(">I", self.fw_cfg(FW_CFG_DIRECTORY, 4))
        entries = self.fw_cfg(FW_CFG_DIRECTORY, 4 + 64 * count)[4:]
        for size, key, _, raw in struct.iter_unpack(">IHH56s", entries):
            if raw.rstrip(b"\0").decode() == name:
                return self.fw_cfg(key, size)
        raise KeyError(name)

    def acpi_tables(self, signature):
        """Those tables as firmware leaves them: with a checksum."""
        found = []
        tables = self.fw_cfg_file("etc/acpi/tables")
        at = tables.find(signature)
        while at >= 0:
            size, = struct.unpack_from("<I", tables, at + 4)
            table = bytearray(tables[at:at + size])
            table[9] = 0
            table[9] = -sum(table) % 256
            found.append(bytes(table))
            at = tables.find(signature, at + size)
        return found

    def dsdt(self):
        return self.acpi_tables(b"DSDT")[0]


class Acpica:
    """Debian's acpica-tools, unpacked in @root, or else the system's."""

    def __init__(self, root):
        self.path = f"{os.path.abspath(root)}/usr/bin:{os.environ['PATH']}"

    def tool(self, name):
        return need(shutil.which(name, path=self.path) or name)

    def _run(self, tool, *args, cwd):
        done = subprocess.run([self.tool(tool), *args], cwd=cwd,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", timeout=TIME_LIMIT)
        return done.returncode, done.stdout + done.stderr

    def find(self, table, name):
        """The full paths of all objects with this name."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "table"), "wb") as out:
                out.write(table)
            _, text = self._run("acpiexec", "-b", f"find {name}", "table",
                                cwd=folder)
        return sorted(set(re.findall(rf"(\\\S*\.{name})\s+Method", text)))

    def disassemble(self, table):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "table"), "wb") as out:
                out.write(table)
            status, text = self._run("iasl", "-d", "table", cwd=folder)
            if status:
                raise RuntimeError(text)
            with open(os.path.join(folder, "table.dsl")) as source:
                return source.read()

    def buffers(self, table, calls, more=()):
        """The lengths of the Buffers that these calls return; those of more
        than 0x3fe8 bytes as a multiple of 8.  MORE tables are SSDTs."""
        lengths = []
        names = ["table", *(f"more{number}" for number, _ in enumerate(more))]
        with tempfile.TemporaryDirectory() as folder:
            for name, data in zip(names, (table, *more)):
                with open(os.path.join(folder, name), "wb") as out:
                    out.write(data)
            # it does not take long command lines
            for at in range(0, len(calls), 16):
                commands = [f"execute {call}" for call in calls[at:at + 16]]
                _, text = self._run("acpiexec", "-b", ";".join(commands),
                                    *names, cwd=folder)
                # it shows those that its own buffer has room for
                lengths += [int(shown, 16) if shown else int(needed, 16) - 0x18
                            for shown, needed in re.findall(
                                r"\[Buffer\] Length (\w+)|needed 0x(\w+)",
                                text)]
        return lengths

    def round_trip(self, table):
        """What iasl makes of its own disassembly, not optimized."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "table.dsl"), "w") as out:
                out.write(self.disassemble(table))
            status, text = self._run("iasl", "-oa", "-p", "again", "table.dsl",
                                     cwd=folder)
            if status:
                raise RuntimeError(text)
            with open(os.path.join(folder, "again.aml"), "rb") as again:
                return again.read()

    @staticmethod
    def method(table, name):
        """The AML of the only method with this name."""
        match, = re.finditer(
            rb"\x14(?:[\0-\x3f]|([\x40-\x4f])(.))" + name.encode(), table, re.S)
        size = table[match.start() + 1]
        if match[1]:
            size = ord(match[2]) << 4 | ord(match[1]) & 0xf
        return table[match.end():match.start() + 1 + size]

    def node(self, table, name):
        """The source of the device node with this name."""
        return re.search(rf"\n( *)Device \({name}\)\n.*?\n\1}}",
                         self.disassemble(table), re.S).group(0)

    def compile_node(self, source):
        """Compile a device node; returns iasl's status and messages."""
        source = ('DefinitionBlock ("", "DSDT", 1, "TEST", "TEST", 1) {\n'
                  "Scope (\\_SB) { Device (PCI0) {\n"
                  'Name (_HID, "PNP0A08")\n' + source + "\n}}}\n")
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "table.dsl"), "w") as out:
                out.write(source)
            return self._run("iasl", "-vi", "-we", "table.dsl", cwd=folder)
