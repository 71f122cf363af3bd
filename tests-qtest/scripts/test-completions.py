#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion in bash, zsh and fish themselves: every option that a program's help
has and no other, NVIDIA's cards, guests, files: test-completions.py VBIOS ATTACH
[TEST]..."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from namespace import enter_namespace, mount
from tap import need, tap_main

TOP = pathlib.Path(__file__).resolve().parents[2]
SOURCE = TOP / "hw-optimus/completions"
PROGRAMS = {"optimus-doctor": TOP / "scripts/optimus-doctor"}
CARDS = {"01:00.0", "10000:02:00.0"}
DEVICES = {                     # vendor, class
    "0000:01:00.0": ("0x10de", "0x030200"),
    "0000:01:00.1": ("0x10de", "0x040300"),
    "0000:00:02.0": ("0x8086", "0x030000"),
    "10000:02:00.0": ("0x10de", "0x030000"),
}

BASH = r"""
    . "$0"
    compopt() { :; }
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=()
    # as bash takes them apart
    while read -r word; do COMP_WORDS+=("$word"); done < <(
        sed 's/\([:=]\)/ \1 /g; s/  */\n/g' <<<"$1")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _${COMP_WORDS[0]//-/_}
    before=${1##* } cur=${COMP_WORDS[COMP_CWORD]}
    printf "${before%"$cur"}%s\n" "${COMPREPLY[@]}"
"""

# zsh completes in an interactive shell only: here its functions show what they are
# given.
ZSH = r"""
    _arguments() {
        local spec
        # the words that are no options, and their values
        local -a plain
        plain=(${words[2,CURRENT-1]:#-*})
        for spec; do
            case $spec in
            [1-9]:*) [[ $words[CURRENT] = -* || $#plain != $((${spec[1]} - 1)) ]] ||
                act ${spec##*:} ;;
            *${words[CURRENT-1]}[+=\[]*:*) act ${spec##*:} ;;
            *--*) [[ $words[CURRENT] != -* ]] ||
                print -r -- ${(M)spec##*--[a-z-]##} | sed 's/.*--/--/' ;;
            esac
        done
    }
    act() {
        case $1 in
        \(*) print -rl -- ${=1[2,-2]} ;;
        *) ${=1} ;;
        esac
    }
    compadd() { print -rl -- ${(PM)2:#$words[CURRENT]*} }
    _files() { print -rl -- $words[CURRENT]*(N${1+/}) }
    setopt extended_glob
    words=("${(@s: :)1}") CURRENT=$#words service=$words[1]
    . $0
"""


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          timeout=60, **more).stdout


class Completion(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        devices = cls.dir / "devices"
        for name, (vendor, kind) in DEVICES.items():
            (devices / name).mkdir(parents=True)
            (devices / name / "vendor").write_text(vendor + "\n")
            (devices / name / "class").write_text(kind + "\n")
        mount("--bind", devices, "/sys/bus/pci/devices")
        cls.addClassCleanup(run, "umount", "--lazy", "/sys/bus/pci/devices")
        cls.work = cls.dir / "work"
        (cls.work / "vdir").mkdir(parents=True)
        (cls.work / "vbios.rom").touch()
        cls.bin = cls.dir / "bin"
        cls.bin.mkdir()
        cls.program("virsh", "echo win11; echo; echo 'linux'")
        cls.program("qm", "echo ' VMID NAME'; echo ' 100 a'; echo ' 4711 b'")
        for name, path in PROGRAMS.items():
            (cls.bin / name).symlink_to(path)

    @classmethod
    def program(cls, name, text):
        path = cls.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def offered(self, shell, line):
        need(shutil.which(shell) or shell)
        env = dict(os.environ, PATH=f"{self.bin}:{os.environ['PATH']}",
                   HOME=str(self.work), LC_ALL="C.UTF-8", TERM="dumb")
        if shell == "bash":
            out = run("bash", "-c", BASH, SOURCE / "optimus.bash", line, env=env,
                      cwd=self.work)
        elif shell == "fish":
            out = run("fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]",
                      SOURCE / "optimus.fish", line, env=env, cwd=self.work)
            out = re.sub(r"\t.*", "", out)
        else:
            out = run("zsh", "-f", "-c", ZSH, SOURCE / "_optimus", line, env=env,
                      cwd=self.work)
        return {word.rstrip("/=") for word in out.split("\n") if word.strip()}

    def help_of(self, *command):
        text = run(PROGRAMS[command[0]], *command[1:], "--help")
        return set(re.findall(r"--[a-z][a-z-]*", text))


def check(self, shell):
    for command in COMMANDS:
        options = {word for word in self.offered(shell, " ".join(command) + " --")
                   if word.startswith("--")}
        self.assertEqual(options, self.help_of(*command), command)
    for line in ("optimus-vbios info v.rom --host ", "optimus-doctor ",
                 "optimus-attach win11 "):
        self.assertEqual(self.offered(shell, line) & {*CARDS, "00:02.0", "01:00.1"},
                         CARDS, line)
    self.assertEqual(self.offered(shell, "optimus-doctor 01:0"), {"01:00.0"})
    self.assertLessEqual({"win11", "linux", "100", "4711"},
                         self.offered(shell, "optimus-attach "))
    self.assertEqual(self.offered(shell, "optimus-attach wi"), {"win11"})
    self.assertEqual(self.offered(shell, "optimus-vbios info v"),
                     {"vbios.rom", "vdir"})
    self.assertEqual(self.offered(shell, "optimus-vbios extract f -o v"), {"vdir"})
    self.assertEqual(self.offered(shell, "optimus-attach win11 01:00.0 vb"),
                     {"vbios.rom"})
    self.assertLessEqual({"info", "trim", "extract", "dump", "ssdt"},
                         self.offered(shell, "optimus-vbios "))


COMMANDS = [("optimus-vbios", name)
            for name in ("info", "trim", "extract", "dump", "ssdt")]
COMMANDS += ("optimus-doctor",), ("optimus-attach",)

for one in "bash", "zsh", "fish":
    setattr(Completion, f"test_{one}", lambda self, shell=one: check(self, shell))


if __name__ == "__main__":
    enter_namespace()
    PROGRAMS["optimus-vbios"] = need(sys.argv[1])
    PROGRAMS["optimus-attach"] = need(sys.argv[2])
    tap_main("__main__", sys.argv[3:])
