# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt: whether it is there, and whether its guests may read the ROM file."""

import glob
import os
import pwd
import re
import shlex
import stat

from .common import installed, output, read

APPARMOR = "/etc/apparmor.d"
GUESTS = "abstractions/libvirt-qemu"
ROM_FOLDER = "/usr/share/vgabios"       # which the profiles of guests name
# the first with <qemu:override>
OVERRIDE = (8, 2)


def check_libvirt(report):
    daemon = next((path for path in map(installed, ("virtqemud", "libvirtd")) if path),
                  None)
    said = output(daemon, "--version") if daemon else ""
    version = re.search(r"\b(\d+)\.(\d+)\.\d+", said)
    if not daemon:
        report.add("ok", "libvirt", "not installed" if not os.path.exists("/etc/libvirt")
                   else "no libvirtd here")
    elif not version:
        report.add("warning", "libvirt", f"{daemon} does not say its version",
                   f"{daemon} --version")
    elif tuple(map(int, version.groups())) < OVERRIDE:
        report.add("hint", "libvirt", f"{version.group()}: it has no <qemu:override> yet, "
                   "which the device needs: the way for its guests is ACPI tables",
                   "optimus-attach --help")
    else:
        report.add("ok", "libvirt", version.group())


def apparmor_is_on():
    return (read("/sys/module/apparmor/parameters/enabled") == "Y" and
            os.path.exists(f"{APPARMOR}/{GUESTS}"))


def apparmor_text(name):
    """A profile (or part of it) of libvirt's, and what the administrator added."""
    return "\n".join(read(path) or "" for path in
                     [f"{APPARMOR}/{name}",
                      *([f"{APPARMOR}/local/{name}"] if has_local(name) else []),
                      *glob.glob(f"{APPARMOR}/{name}.d/*")])


def has_local(name):
    """Whether the file in local/ is read: by virtqemud from libvirt 9.6 on, and for
    guests on Debian and Ubuntu."""
    return f"<local/{name}>" in (read(f"{APPARMOR}/{name}") or "")


def covers(rules, path):
    """Whether a rule of AppArmor's allows something with @path."""
    for rule in re.findall(r'^\s*(?:owner\s+)?"?(/[^\s"]+)"?\s+\w+\s*,', rules, re.M):
        pattern = re.escape(rule)
        for glob_, regex in ((r"\*\*", ".*"), (r"\*", "[^/]*"), (r"\{", "(?:"),
                             (r"\}", ")"), (",", "|")):
            pattern = pattern.replace(glob_, regex)
        try:
            if re.fullmatch(pattern, path):
                return True
        except re.error:            # brackets that do not match
            pass
    return False


def guest_user():
    """Whom libvirt runs guests as, or None."""
    named = re.search(r'^\s*user\s*=\s*"\+?([^"]+)"',
                      read("/etc/libvirt/qemu.conf") or "", re.M)
    for name in [named.group(1)] if named else ["libvirt-qemu", "qemu"]:
        try:
            return (pwd.getpwuid(int(name)) if name.isdigit() else
                    pwd.getpwnam(name))
        except (KeyError, ValueError, OverflowError):
            pass
    return None


def denies(path, account):
    """Whether the mode of a file, or of a directory on the way, does."""
    try:
        state = os.stat(path)
        if "system.posix_acl_access" in os.listxattr(path):
            return False            # it can say more than the mode
    except OSError:
        return True
    wanted = stat.S_IXOTH if stat.S_ISDIR(state.st_mode) else stat.S_IROTH
    if account.pw_uid == 0:
        return False
    if account.pw_uid == state.st_uid:
        wanted <<= 6
    elif state.st_gid in os.getgrouplist(account.pw_name, account.pw_gid):
        wanted <<= 3
    return not state.st_mode & wanted


def check_rom_access(report, rom):
    """libvirt changes neither owner nor mode of a <rom file>, nor has AppArmor
    let the guest read it."""
    account = guest_user()
    if not os.path.exists("/etc/libvirt") or not account:
        return
    rom = os.path.realpath(rom)
    way = [rom]
    while way[0] != "/":
        way.insert(0, os.path.dirname(way[0]))
    closed = [path for path in way if denies(path, account)]
    if closed:
        state = ("" if not os.path.exists(closed[0]) else
                 f" (mode {stat.S_IMODE(os.stat(closed[0]).st_mode):04o})")
        text = f"{account.pw_name}, as whom libvirt runs guests, may not " \
               f"{'read' if closed[0] == rom else 'enter'} {closed[0]}{state}"
    elif apparmor_is_on() and not covers(apparmor_text(GUESTS), rom):
        text = f"AppArmor lets libvirt's guests read no {rom}"
    else:
        report.add("ok", "readable", f"{account.pw_name}, as whom libvirt runs "
                   f"guests, may read {rom}")
        return
    report.add("warning", "readable", text + ": put it where they may",
               f"sudo install -D -m 644 {shlex.quote(rom)} "
               f"{shlex.quote(os.path.join(ROM_FOLDER, os.path.basename(rom)))}")
