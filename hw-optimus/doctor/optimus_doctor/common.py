# SPDX-License-Identifier: GPL-2.0-or-later
"""What all parts of the doctor use: files, programs, and what is beside it."""

import getpass
import glob
import os
import shutil
import subprocess
import sys

# hw-optimus/doctor, or where it is installed: PREFIX/share/vfio-optimus
HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
DEVICES = "/sys/bus/pci/devices"
# to be run again, as root
COMMAND = os.path.abspath(sys.argv[0])

def read(*path):
    """The text of a file, or None."""
    try:
        with open(os.path.join(*path), errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def version():
    """As it was installed, or of the repository that this is in."""
    return (read(HERE, "version") or
            output(os.path.join(HERE, "../../scripts/lib/version")).strip() or
            "(of a copy)")


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
             *sorted(glob.glob(os.path.join(HERE, "../..", *path)))]
    return [os.path.normpath(name) for name in found if name]


def sibling(folder, name):
    """A file that is installed with this one, or of hw-optimus/@folder."""
    installed = os.path.join(HERE, name)
    return installed if os.path.exists(installed) else os.path.normpath(
        os.path.join(HERE, "..", folder, name))


def install_command():
    """What builds and installs all anew."""
    script = os.path.normpath(os.path.join(HERE, "../../scripts/install"))
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
