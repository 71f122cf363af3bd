# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of optimus-vbios and optimus-attach share.

Each file is called as test-COMMAND.py PROGRAM [TEST]..., and runs in a mount
namespace of its own, where /sys and parts of /proc are replaced by directories
that describe a machine with the card in question."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import vbios
from namespace import INSIDE, enter_namespace, mounted
from tap import need, tap_main

TOP = pathlib.Path(__file__).resolve().parents[2]
ROOT = TOP / "build/root"
NOBODY = 65534

VERSION = {"i": bytes([0x00, 0x55, 0x07, 0x82, 0x1a])}   # 82.07.55.00.1a


class Unpacked:
    """A folder of packages that scripts/check unpacks, for the tests that can do
    without them: those that look into it are skipped."""

    def __init__(self, folder):
        self.path = ROOT / folder

    def __truediv__(self, name):
        return need(self.path) / name

    def glob(self, pattern):
        return (self / ".").glob(pattern)


SEABIOS = Unpacked("qemu-7.2/usr/share/seabios")
OVMF = Unpacked("qemu-7.2/usr/share/OVMF")
IPXE = Unpacked("qemu-7.2/usr/lib/ipxe/qemu")
KERNEL = Unpacked("kernel/boot")
TOOLS = Unpacked("vbios-tools/usr")


def break_checksum(image):
    return image[:-1] + bytes([image[-1] ^ 0x5a])


def patched(image, *changes, fix=True):
    """IMAGE with bytes at offsets, and the checksum right again unless FIX is
    False."""
    image = bytearray(image)
    for at, data in changes:
        image[at:at + len(data)] = data
    return vbios.balance(bytes(image), len(image)) if fix else bytes(image)


def cut_by_linux(tokens=None):
    """What the kernel shows in sysfs of x86 and EFI images with more behind
    them: it stops where PCIR says that it is the last."""
    return vbios.make(size=8192, npde=True, last=False, tokens=tokens) + \
        vbios.make(size=4096, kind=3, npde=True, last=False, pcir_last=True)


def memory_dump():
    """What legacy firmware has in memory of an x86 image with more after it."""
    rom = bytearray(vbios.make(size=4096, npde=True, last=False))
    rom[0x66] = 0x14                    # length of NPDE
    return vbios.balance(bytes(rom), len(rom))


def tool_path(directory, name, script=None):
    """A directory for PATH with the program NAME, or SCRIPT in its place."""
    if script is None and shutil.which(name):
        script = f"exec {shutil.which(name)} \"$@\""
    elif script is None:
        script = (f"LD_LIBRARY_PATH={TOOLS / 'lib/x86_64-linux-gnu'} "
                  f"exec {TOOLS / 'bin' / name} \"$@\"")
    path = directory / "bin"
    path.mkdir(exist_ok=True)
    tool = path / name
    tool.write_text("#!/bin/sh\nPATH=/usr/bin:/bin\n" + script + "\n")
    tool.chmod(0o755)
    return path


def uefiextract(directory, script=None):
    return tool_path(directory, "UEFIExtract", script)


class Case(unittest.TestCase):

    program = None
    name = "optimus-vbios"      # which begins what it complains of

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="test-vbios."))
        self.dir.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.dir)

    def put(self, name, data):
        path = self.dir / name
        path.write_bytes(data)
        return path

    def run_tool(self, *args, path=None, **how):
        """Bytes among the arguments are put into a file, v.rom."""
        args = [self.put("v.rom", arg) if isinstance(arg, bytes) else str(arg)
                for arg in args]
        env = dict(os.environ, LC_ALL="C.UTF-8")
        if path is not None:
            env["PATH"] = str(path)
        how.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([self.program, *args], env=env, text=True,
                              stderr=subprocess.PIPE, **how)

    def good(self, *args, **how):
        run = self.run_tool(*args, **how)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run.stdout)
        return run.stdout

    def bad(self, *args, says, code=1, **how):
        """It fails with a single line on stderr, and SAYS in it."""
        run = self.run_tool(*args, **how)
        self.assertEqual(run.returncode, code, run.stderr)
        self.assertIn(says, run.stderr)
        lines = run.stderr.splitlines()
        self.assertEqual(len(lines), 1, run.stderr)
        self.assertTrue(lines[0].startswith(f"{self.name}: "), run.stderr)
        return run

    def info(self, path, *args, code=0, says=""):
        """The facts on a file, or on bytes, with SAYS in the verdict."""
        if isinstance(path, bytes):
            path = self.put("v.rom", path)
        run = self.run_tool("info", "--json", path, *args)
        self.assertEqual((run.returncode, run.stderr), (code, ""))
        facts = json.loads(run.stdout)
        self.assertEqual(facts["usable"], code == 0)
        self.assertEqual(facts["file"], str(path))
        self.assertIn(says, facts["verdict"])
        text = self.run_tool("info", path, *args)
        self.assertEqual((text.returncode, text.stderr), (code, ""))
        self.assertEqual(text.stdout.splitlines()[-1], facts["verdict"])
        return facts

    def files(self, *parts):
        return sorted(os.listdir(self.dir.joinpath(*parts)))


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {os.path.basename(sys.argv[0])} PROGRAM [TEST]...")
    enter_namespace()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if INSIDE:      # in memory, where nothing waits for a disk
            stack.enter_context(mounted(folder, "-t", "tmpfs", "none"))
        # where everybody can run it, wherever the repository is
        os.chmod(folder, 0o755)
        tempfile.tempdir = folder
        Case.program = shutil.copy(sys.argv.pop(1), folder)
        tap_main("__main__", sys.argv[1:])
