# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's report: its rows, and what a user can send when it worked, or did
not, without serial numbers, addresses of networks, names of users or of the host."""

import getpass
import json
import os
import pwd
import re

from .common import DEVICES, link_name, names, number, output, read, version

# hint: to know, nothing is wrong
EXIT = {"ok": 0, "hint": 0, "warning": 2, "problem": 3}
DMI = ("sys_vendor", "product_name", "product_version", "bios_version", "bios_date")
# of the kernel's command line the rest is nobody's business
OPTIONS = r"\S*(?:iommu|vfio|kvm|pci|acpi|nouveau|nvidia)\S*"


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


def versions():
    system = re.search(r'^PRETTY_NAME="?(.*?)"?$', read("/etc/os-release") or "", re.M)
    cpu = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo") or "", re.M)
    yield "vfio-optimus", version()
    yield "laptop", ", ".join(filter(None, (read("/sys/class/dmi/id", name)
                                            for name in DMI)))
    yield "CPU", cpu and cpu.group(1)
    yield "system", system and system.group(1)
    yield "kernel", os.uname().release
    yield "options", " ".join(re.findall(OPTIONS, read("/proc/cmdline") or ""))
    for program in "qemu-system-x86_64", "qemu-optimus", "libvirtd", "virtqemud":
        yield program, output(program, "--version").split("\n")[0]


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


def scrub(text):
    users = {getpass.getuser(), os.environ.get("SUDO_USER")} - {"root", None, ""}
    for user in users:
        text = re.sub(rf"\b{re.escape(user)}\b", "USER", text)
    for entry in pwd.getpwall():
        if entry.pw_dir.startswith("/home/"):
            text = text.replace(entry.pw_dir, "/home/USER")
    host = os.uname().nodename.split(".")[0]
    if host and host != "localhost":
        text = re.sub(rf"\b{re.escape(host)}\b", "HOST", text)
    text = re.sub(r"/home/[^/\s'\"]+", "/home/USER", text)
    text = re.sub(r"(?i)\b[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}\b", "MAC",
                  text)
    text = re.sub(r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text)
    return re.sub(r"(?i)\b(serial(?: number)?\s*[:=]\s*)\S+", r"\1SERIAL", text)


def write_sendable(path, doctor, guest):
    """@doctor and @guest are what the doctor and guest-check have said.  The file
    is complete, or not there."""
    parts = [("versions", "\n".join(f"{name}: {value}" for name, value in versions()
                                    if value)),
             ("topology", "\n".join(topology())),
             ("optimus-doctor", doctor),
             ("guest-check", guest or "(not given: --guest FILE)")]
    text = scrub("\n".join(f"== {title}\n{part.strip()}\n" for title, part in parts))
    new = path + ".new"
    try:
        with open(new, "w") as file:
            file.write(text)
        os.rename(new, path)
    except OSError:
        if os.path.exists(new):
            os.unlink(new)
        raise
