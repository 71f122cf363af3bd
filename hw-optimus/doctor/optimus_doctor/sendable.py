# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user can send when it worked, or did not: without serial numbers, addresses
of networks, names of users, of guests or of the host."""

import glob
import os
import pwd
import re
import shlex
import stat
import tempfile

from .common import DEVICES, clean, link_name, names, number, output, read, user, version

DMI = ("sys_vendor", "product_name", "product_version", "bios_version", "bios_date")
# of the kernel's command line the names of these; and values, if all of it is words
OPTIONS = ("iommu", "intel_iommu", "amd_iommu", "iommu.passthrough", "iommu.strict",
           "vfio-pci.ids", "vfio-pci.disable_idle_d3", "vfio-pci.disable_vga",
           "vfio_iommu_type1.allow_unsafe_interrupts", "kvm.ignore_msrs", "pci", "acpi",
           "acpi_osi", "acpi_rev_override", "pcie_acs_override", "pcie_aspm",
           "pcie_port_pm", "nouveau.modeset", "nouveau.runpm", "nouveau.config",
           "nvidia-drm.modeset", "nvidia_drm.modeset", "nvidia-drm.fbdev",
           "nvidia_drm.fbdev", "modprobe.blacklist", "module_blacklist",
           "rd.driver.pre", "rd.driver.blacklist", "initcall_blacklist", "video",
           "nomodeset", "efifb")
WORDS = ("on", "off", "pt", "force", "noforce", "0", "1", "y", "n", "sm_on", "igfx_off",
         "strict", "realloc", "noats", "nommconf", "downstream", "multifunction",
         "nouveau", "nvidia", "nvidia_drm", "vfio-pci", "sysfb_init", "efifb", "!", "5")
SERIALS = ("/sys/class/dmi/id/*serial", "/sys/class/dmi/id/*uuid",
           "/sys/class/dmi/id/*asset_tag", "/sys/class/nvme/*/serial",
           "/sys/block/*/device/serial", "/sys/block/*/serial",
           "/sys/class/power_supply/*/serial_number")
# what is no secret in a path
PUBLIC = r"(?:usr|bin|s?bin|lib\w*|etc|proc|sys|boot)(?:/|$)|" \
         r"dev/(?:kvm|vfio|dri|nvidia|iommu|null|zero|fb)|run/ostree"
SUFFIX = r"\.(?:rom|bin|img|aml|conf|xml|txt|so|sh|py|iso|qcow2|raw|exe|json)$"
# accounts of the system that have numbers of users
NOBODY = {"nobody", "nfsnobody", "libvirt-qemu", "root"}


def versions():
    system = re.search(r'^PRETTY_NAME="?(.*?)"?$', read("/etc/os-release") or "", re.M)
    cpu = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo") or "", re.M)
    yield "vfio-optimus", version()
    yield "laptop", ", ".join(filter(None, (read("/sys/class/dmi/id", name)
                                            for name in DMI)))
    yield "CPU", cpu and cpu.group(1)
    yield "system", system and system.group(1)
    yield "kernel", os.uname().release
    yield "options", " ".join(options(read("/proc/cmdline") or ""))
    for program in "qemu-system-x86_64", "libvirtd", "virtqemud":
        yield program, output(program, "--version").split("\n")[0]


def options(cmdline):
    for option in cmdline.split():
        name, equals, value = option.partition("=")
        if name in OPTIONS:
            known = all(word in WORDS for word in re.split("[,:]", value))
            yield name + (equals + value if known else equals and "=...")


def topology():
    """Each display controller, with what is above it."""
    for bdf in names(DEVICES):
        if number(DEVICES, bdf, "class") >> 16 != 0x03:
            continue
        path = os.path.realpath(os.path.join(DEVICES, bdf))
        depth = 0
        while os.path.exists(os.path.join(path, "vendor")):
            yield "  " * depth + "%s %04x:%04x class %06x driver %s node %s%s" % (
                os.path.basename(path), number(path, "vendor"),
                number(path, "device"), number(path, "class"),
                link_name(path, "driver"), read(path, "firmware_node/path"),
                "".join(f" {name} {read(path, name)}" for name in
                        ("power_state", "removable", "reset_method")
                        if read(path, name)))
            path = os.path.dirname(path)
            depth += 1


def host_names():
    """Of pc.example.org all, its first part, and the domain."""
    found = {os.uname().nodename}
    for path in ("/etc/hostname", "/proc/sys/kernel/hostname",
                 "/proc/sys/kernel/domainname"):
        found.update((read(path) or "").split())
    for line in (read("/etc/resolv.conf") or "").splitlines():
        if line.startswith(("search", "domain")):
            found.update(line.split()[1:])
    for name in list(found):
        found.update(name.split(".", 1))
    # as installers name a host, which the report needs for the system
    system = re.findall(r'(?m)^ID="?(.*?)"?$', read("/etc/os-release") or "")
    return found - {"localhost", "localdomain", "local", "lan", "home", "(none)", *system}


def guest_names():
    found = {os.path.basename(path)[:-len(".xml")] for path in
             glob.glob("/etc/libvirt/qemu/*.xml") +
             glob.glob(os.path.expanduser("~/.config/libvirt/qemu/*.xml"))}
    for path in glob.glob("/etc/pve/qemu-server/*.conf"):
        found.update(re.findall(r"(?m)^name: *(\S+)", read(path) or ""))
    return found


def folders(path):
    return [name for name in names(path) if os.path.isdir(os.path.join(path, name))]


def user_names():
    accounts = [entry for entry in pwd.getpwall()
                if entry.pw_uid >= 1000 or entry.pw_dir.startswith("/home/")]
    found = {entry.pw_name for entry in accounts}
    found.update(entry.pw_gecos.split(",")[0] for entry in accounts)
    found.update({user(), *map(os.environ.get, ("SUDO_USER", "USER", "LOGNAME"))} - {None})
    found.update(folders("/run/media") + folders("/media"))
    homes = {entry.pw_dir for entry in accounts}
    for name in folders("/home"):
        found.add(name)
        if f"/home/{name}" not in homes:    # a domain, with users of its own
            found.update(folders(f"/home/{name}"))
    # in a domain
    for name in list(found):
        found.update(re.split(r"[\\@+]", name))
    return {name for name in found - NOBODY if not name.isdigit()}


def replace(text, words, mark):
    """In any case; a letter or digit beside it makes another word of it, but "_" does
    not."""
    for word in sorted(filter(None, words), key=len, reverse=True):
        text = re.sub(rf"(?i)(?<![^\W_]){re.escape(clean(word))}(?![^\W_])", mark, text)
    return text


def shorten(match):
    """Of a path the last part, if that is the name of a file."""
    path = match.group()
    if re.match(PUBLIC, path.lstrip("/")):
        return path
    name = os.path.basename(path)
    return name if re.search(SUFFIX, name) else "PATH"


def scrub(text, *paths):
    for path in filter(None, paths):
        for form in shlex.quote(path), path, os.path.abspath(path), os.path.realpath(path):
            text = text.replace(clean(form), os.path.basename(clean(path)))
    for entry in pwd.getpwall():
        if entry.pw_uid >= 1000 and len(entry.pw_dir) > 1:
            text = text.replace(entry.pw_dir + "/", "/home/USER/")
    # in quotes a blank may be in it
    text = re.sub(r"(?<=')/[^'\n]+(?=')|(?<=\")/[^\"\n]+(?=\")", shorten, text)
    text = re.sub(r"(?<![\w./-])/+(?:[^\s'\"/:;,|()<>]+/+)*[^\s'\"/:;,|()<>]*", shorten,
                  text)
    serials = {read(path) for pattern in SERIALS for path in glob.glob(pattern)}
    text = replace(text, {word for word in serials - {None} if len(word) > 4}, "SERIAL")
    text = re.sub(r"(?i)\b((?:[a-z]*[ _.-])?(?:serial|s/n|sn)(?:[ _-]?(?:number|num|no))?"
                  r"[\"']?(?:\s*[:=#]\s*|(?<=number)\s+|(?<=s/n)\s+)[\"']?)"
                  r"(?!SERIAL)[^\n,;\"']+", r"\1SERIAL", text)
    text = replace(text, host_names(), "HOST")
    text = replace(text, guest_names(), "GUEST")
    text = replace(text, user_names(), "USER")
    text = re.sub(r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text)
    for mac in (r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}",
                r"[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}",
                r"(?:en|wl|ww)x[0-9a-f]{12}", r"[0-9a-f]{12}"):
        text = re.sub(rf"(?i)(?<![0-9a-z]){mac}(?![0-9a-z])", "MAC", text)
    text = re.sub(r"(?<![\w.-])(?:(?:[1-9]\d?|1\d\d|2[0-5]\d|0)\.){3}"
                  r"(?:[1-9]\d?|1\d\d|2[0-5]\d|0)(?![\w.-])", "ADDRESS", text)
    return re.sub(r"(?i)(?<![\w:])[0-9a-f]{0,4}(?::[0-9a-f]{1,4})*::[0-9a-f:]+", "ADDRESS",
                  text)


def make(doctor, guest, rom):
    """@doctor and @guest are what the doctor and guest-check have said, @rom the file
    that was looked at."""
    parts = [("versions", "\n".join(f"{name}: {value}" for name, value in versions()
                                    if value)),
             ("topology", "\n".join(topology())),
             ("optimus-doctor", doctor),
             ("guest-check", guest or "(not given: --guest FILE)")]
    return "\n".join(
        f"== {title}\n" + scrub("\n".join(clean(line.expandtabs()) for line in
                                         part.strip().splitlines()), rom) + "\n"
        for title, part in parts)


def check(path, force, inputs=()):
    """Raises ValueError, with a sentence, if the report cannot go there."""
    state = os.lstat(path) if os.path.lexists(path) else None
    if state and not stat.S_ISREG(state.st_mode):
        raise ValueError("it is not a file: name another one")
    if state and any(name and os.path.exists(name) and os.path.samefile(path, name)
                     for name in inputs):
        raise ValueError("it is a file that is to be read: name another one")
    if state and not force:
        raise ValueError("it exists: name another file, or add --force")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError("there is no such directory: name another file")


def write(path, force, text):
    """The file is complete, or as it was.  Raises OSError or ValueError."""
    handle, new = tempfile.mkstemp(prefix=".report-", dir=os.path.dirname(path) or ".")
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), 0o666 & ~mask)
        check(path, force)
        if force:
            os.rename(new, path)
        else:
            place(new, path)
    finally:
        if os.path.lexists(new):
            os.unlink(new)


def place(new, path):
    """Move it where nothing is."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:                 # no links on this file system
        os.rename(new, path)
