# SPDX-License-Identifier: GPL-2.0-or-later
"""What libvirt's guests may not do: load the plugin, read the ROM file."""

import glob
import os
import pwd
import re
import shlex
import stat

from .common import beside, install_command, read, sibling

APPARMOR = "/etc/apparmor.d"
GUESTS = "abstractions/libvirt-qemu"
DAEMONS = ("usr.sbin.libvirtd", "usr.sbin.virtqemud")
ROM_FOLDER = "/usr/share/vgabios"       # which the profiles of guests name


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
        if re.fullmatch(pattern, path):
            return True
    return False


def check_confinement(report):
    """What keeps libvirt's guests from the plugin, and libvirt from qemu-optimus."""
    if not os.path.exists("/etc/libvirt"):
        report.add("ok", "libvirt", "not installed, no rules are needed")
        return
    wrapper = os.path.realpath(
        (beside("build", "plugin", "qemu-optimus") or
         ["/usr/bin/qemu-optimus"])[0])
    if apparmor_is_on():
        check_apparmor(report, wrapper)
    elif read("/sys/fs/selinux/enforce") == "1":
        check_selinux(report, wrapper)
    else:
        report.add("ok", "libvirt", "neither AppArmor nor SELinux confines it")


def is_emulator():
    """Whether a guest that libvirt knows has qemu-optimus for it."""
    return any(re.search("<emulator>[^<]*/qemu-optimus</", read(path) or "")
               for path in glob.glob("/etc/libvirt/qemu/*.xml"))


def check_apparmor(report, wrapper):
    folder = os.path.dirname(wrapper)
    needed = [(GUESTS, f"{folder}/vfio-optimus-preload.so")]
    if is_emulator():
        needed += [(name, wrapper) for name in (GUESTS, *DAEMONS)
                   if os.path.exists(f"{APPARMOR}/{name}")]
    missing = [(name, path) for name, path in needed
               if not covers(apparmor_text(name), path)]
    if not missing:
        report.add("ok", "libvirt", "AppArmor is on, with rules for " +
                   " and ".join(sorted({os.path.basename(path) for _, path in needed})))
        return
    name, path = missing[0]
    source = sibling("libvirt", "apparmor-qemu" if name == GUESTS
                     else "apparmor-libvirtd")
    local = f"{APPARMOR}/local/{name}"
    copy = f"cat {source}"
    place = ""
    if not covers(read(source) or "", path):
        # they are for --prefix /usr and /usr/local
        prefix = folder.rsplit("/lib/vfio-optimus", 1)[0]
        if prefix == folder:
            report.add("warning", "libvirt", "AppArmor is on, and there can be no "
                       f"rules for {path}, which is not installed",
                       install_command())
            return
        copy = f"sed \"s,/usr/{{\\,local/}},{prefix}/,\" {source}"
        place = ", and the rules that come with it are for another --prefix"
    profile = f"{APPARMOR}/{name}"
    reload_ = "" if name == GUESTS else f" && apparmor_parser -r {profile}"
    if not has_local(name):
        if name == GUESTS:
            local = f"{profile}.d/vfio-optimus"
        else:
            reload_ = f' && sed -i "/^}}/i #include <local/{name}>" {profile}{reload_}'
    report.add("warning", "libvirt", f"AppArmor is on, and {name} is without rules "
               f"for {path}{place}: it cannot be "
               f"{'started' if path == wrapper else 'loaded'}",
               f"sudo sh -c 'mkdir -p {os.path.dirname(local)} && "
               f"{copy} >>{local}{reload_}'")


def check_selinux(report, wrapper):
    label = selinux_label(wrapper)
    if "qemu_exec_t" in label:
        report.add("ok", "libvirt", f"SELinux is on, {wrapper} is labelled")
        return
    rules = sibling("libvirt", "vfio-optimus.cil")
    if wrapper in (read(rules) or ""):
        rule = f"semodule -i {rules}"
    else:                           # another --prefix
        rule = f"semanage fcontext -a -t qemu_exec_t '{wrapper}'"
    report.add("warning", "libvirt", "SELinux is on, and the label of "
               f"{wrapper} is {label}, not qemu_exec_t",
               f"sudo {rule} && sudo restorecon -F '{wrapper}'")


def selinux_label(path):
    try:
        return os.getxattr(path, "security.selinux").decode().strip("\0")
    except OSError:
        return "none"


def guest_user():
    """Whom libvirt runs guests as, or None."""
    named = re.search(r'^\s*user\s*=\s*"\+?([^"]+)"',
                      read("/etc/libvirt/qemu.conf") or "", re.M)
    for name in [named.group(1)] if named else ["libvirt-qemu", "qemu"]:
        try:
            return (pwd.getpwuid(int(name)) if name.isdigit() else
                    pwd.getpwnam(name))
        except KeyError:
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
