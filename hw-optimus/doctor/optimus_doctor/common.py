# SPDX-License-Identifier: GPL-2.0-or-later
"""What all parts of the doctor use: files, programs, and what is beside it."""

import getpass
import glob
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys

# hw-optimus/doctor, or where it is installed: PREFIX/share/vfio-optimus
HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
DEVICES = "/sys/bus/pci/devices"
# to be run again, as root
COMMAND = shlex.quote(os.path.abspath(sys.argv[0]))
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
MIB = 1 << 20


def clean(text):
    """What comes from the machine, for a terminal or a report: no control
    character, none that turns a line around, no byte that is no text."""
    return "".join(char if char.isprintable() else
                   char.encode("unicode-escape").decode() for char in text)


def command(text):
    """A command as this user can give it: not everybody has sudo."""
    plain = re.sub(r"\bsudo ", "", text)
    if plain == text or os.geteuid() == 0:
        return plain
    return text if shutil.which("sudo") else f"as root: {plain}"


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


def read_input(path):
    """The text of a file that the user named: a regular one, and not endless.
    Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), errors="replace") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(0, "it is not a file")
        if state.st_size > MIB:
            raise OSError(0, "it is larger than 1 MiB")
        return file.read(MIB)


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
    """A number of sysfs, or 0."""
    try:
        return int(read(*path) or "0", 16)
    except ValueError:
        return 0


def may_use(path):
    return os.access(path, os.R_OK | os.W_OK)


def installed(name):
    """Whether there is such a program; some are for root only."""
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)


def beside(*path):
    """Files of this repository: in PATH, installed with this one, or built."""
    name = os.path.basename(path[-1])
    found = [shutil.which(name), *glob.glob(os.path.join(HERE, "../../bin", name)),
             *sorted(glob.glob(os.path.join(HERE, "../..", *path)))]
    return [os.path.normpath(name) for name in found if name]


def sibling(folder, name):
    """A file that is installed with this one, or of hw-optimus/@folder."""
    there = os.path.join(HERE, name)
    return there if os.path.exists(there) else os.path.normpath(
        os.path.join(HERE, "..", folder, name))


def install_command():
    """What builds and installs all anew."""
    script = os.path.normpath(os.path.join(HERE, "../../scripts/install"))
    return "sudo " + (shlex.quote(script) if os.path.exists(script) else "scripts/install")


def user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def run(*words, text=None):
    """A program's exit status, output and errors; status None if it does not run,
    or not to an end, with the reason in place of the errors."""
    try:
        done = subprocess.run(words, input=text or "", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True,
                              encoding="utf-8", errors="replace", timeout=30, cwd="/")
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, "", str(error)
    return done.returncode, done.stdout, done.stderr.strip()


def output(*words):
    """What a program says, or "" if there is no such program or it fails."""
    status, said, _ = run(*words)
    return said if status == 0 else ""


_LOG = []


def kernel_log(pattern):
    """The lines of the kernel's log with @pattern, without their times."""
    if not _LOG:
        _LOG.append(output("dmesg"))
    return [re.sub(r"^(\[[^\]]*\] *)+", "", line) for line in _LOG[0].splitlines()
            if re.search(pattern, line)]


def package_command(**packages):
    """What installs a package, by the distribution's own tool and name."""
    for tool, words in (("apt-get", "apt-get install"), ("dnf", "dnf install"),
                        ("pacman", "pacman -S"), ("zypper", "zypper install")):
        if shutil.which(tool):
            name = packages[tool.replace("-", "_")]
            if tool == "dnf" and is_rhel():
                name = packages.get("rhel", name)
            return f"sudo {words} {name}"
    return f"install {packages['apt_get']}, or what your distribution calls it"


def is_rhel():
    """Red Hat's, or one of its kin; Fedora has other packages."""
    kin = re.findall(r'^ID(?:_LIKE)?="?(.*?)"?$', read("/etc/os-release") or "", re.M)
    return "rhel" in " ".join(kin).split()
