#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copy programs with what they need into a tree, for chroot and for the lab:

    program_tree.py TREE [PROGRAM]...

puts this Python there, as /usr/bin/python3, and each PROGRAM with its
libraries, into /usr/bin."""

import glob
import os
import re
import shutil
import subprocess
import sys

UNWANTED = ("__pycache__", "*-packages", "test", "idlelib", "lib2to3",
            "ensurepip", "config-*", "pydoc_data", "tkinter")


def copy(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(source, target)


def add_libraries(tree, file, library_path=None):
    """Static programs and modules have none."""
    environment = dict(os.environ)
    if library_path:
        environment["LD_LIBRARY_PATH"] = library_path
    text = subprocess.run(["ldd", file], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=environment,
                          universal_newlines=True).stdout
    for path in re.findall(r"(/\S+) \(0x", text):
        copy(path, tree + path)


def add_program(tree, path):
    copy(path, f"{tree}/usr/bin/{os.path.basename(path)}")
    add_libraries(tree, path)


def add_python(tree):
    library = os.path.dirname(os.__file__)
    copy(os.path.realpath(sys.executable), f"{tree}/usr/bin/python3")
    shutil.copytree(library, tree + library,
                    ignore=shutil.ignore_patterns(*UNWANTED))
    for file in sys.executable, *glob.glob(library + "/lib-dynload/*"):
        add_libraries(tree, file)


def main():
    tree, *programs = sys.argv[1:]
    add_python(tree)
    for program in programs:
        add_program(tree, program)


if __name__ == "__main__":
    main()
