# SPDX-License-Identifier: GPL-2.0-or-later
"""What all parts of the doctor use: the rows of its report, and files."""

import getpass
import glob
import json
import os
import shutil
import subprocess
import sys

# scripts/, or where it is installed: PREFIX/share/vfio-optimus
HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
DEVICES = "/sys/bus/pci/devices"
# to be run again, as root
COMMAND = os.path.abspath(sys.argv[0])

# hint: to know, nothing is wrong
EXIT = {"ok": 0, "hint": 0, "warning": 2, "problem": 3}


class Report:
    """The rows of the table, each of the machine or of a card."""

    def __init__(self):
        self.rows = []
        self.card = None

    def add(self, status, check, text, mend=None):
        self.rows.append({"card": self.card, "check": check, "status": status,
                          "text": text, "mend": mend})

    def worst(self):
        return max((row["status"] for row in self.rows), key=EXIT.get)

    def json(self):
        return json.dumps({"status": self.worst(), "rows": self.rows}, indent=2)

    def text(self):
        card = None
        lines = []
        for row in self.rows:
            if row["card"] != card:
                card = row["card"]
                lines.append(f"\n{card}")
            lines.append(f"{row['status']:<8} {row['check']:<8} {row['text']}")
            if row["mend"]:
                lines.append(f"{'':<18}mend: {row['mend']}")
        count = [sum(row["status"] == status for row in self.rows)
                 for status in ("problem", "warning")]
        return "\n".join([*lines, "", f"problems: {count[0]}, warnings: {count[1]}"])


def read(*path):
    """The text of a file, or None."""
    try:
        with open(os.path.join(*path), errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def names(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def link_name(*path):
    """The last part of what a symbolic link points to, or None."""
    try:
        return os.path.basename(os.readlink(os.path.join(*path)))
    except OSError:
        return None


def number(*path):
    return int(read(*path) or "0", 16)


def may_use(path):
    return os.access(path, os.R_OK | os.W_OK)


def beside(*path):
    """A program of this repository: in PATH, installed with this one, or built."""
    name = os.path.basename(path[-1])
    found = [shutil.which(name), *glob.glob(os.path.join(HERE, "../../bin", name)),
             *sorted(glob.glob(os.path.join(HERE, "..", *path)))]
    return [os.path.normpath(name) for name in found if name]


def install_command():
    """What builds and installs all anew."""
    script = os.path.join(HERE, "install")
    return "sudo " + (script if os.path.exists(script) else "scripts/install")


def user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def output(*command):
    """What a program says, or "" if there is no such program or it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              universal_newlines=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def package_command(**names):
    """What installs a package, by the distribution's own tool and name."""
    for tool, command in (("apt-get", "apt-get install"), ("dnf", "dnf install"),
                          ("pacman", "pacman -S"), ("zypper", "zypper install")):
        if shutil.which(tool):
            return f"sudo {command} {names[tool.replace('-', '_')]}"
    return f"install {names['apt_get']}, or what your distribution calls it"
