# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the card need vfio-optimus?"""

import os

from .common import COMMAND, DEVICES, names, number, output, read, sibling

TABLES = "/sys/firmware/acpi/tables"
PLAIN = "use plain vfio-pci"

TURING = 0x1e00

# What each range of device IDs begins with, as in pci.ids
GENERATIONS = (
    (0x0000, "Tesla or older"), (0x06c0, "Fermi"), (0x06e0, "Tesla"),
    (0x0dc0, "Fermi"), (0x0fa0, "Kepler"), (0x1040, "Fermi"), (0x10c0, "Tesla"),
    (0x1100, "Fermi"), (0x1180, "Kepler"), (0x1200, "Fermi"), (0x1280, "Kepler"),
    (0x1340, "Maxwell"), (0x15c0, "Pascal"), (0x1600, "Maxwell"), (0x1720, "Pascal"),
    (0x1730, "Maxwell"), (0x1b00, "Pascal"), (0x1d80, "Volta"), (TURING, "Turing"),
    (0x2080, "Ampere"), (0x2180, "Turing"), (0x2200, "Ampere"), (0x2300, "Hopper"),
    (0x2400, "Ampere"), (0x2600, "Ada"), (0x2900, "Blackwell"))

# Whose cards this project is not for, and what their drivers look for
OTHER_VENDORS = {
    0x1002: "a card of AMD's, whose drivers look for ATRM, which nothing gives to a "
            "guest, and then for the ROM BAR",
    0x8086: "a card of Intel's, whose drivers look for an OpRegion (-device vfio-pci "
            "with x-igd-opregion=on)",
}


def generation(device):
    """By the device ID of an NVIDIA card; of later ones the last that is known."""
    return [name for first, name in GENERATIONS if first <= device][-1]


def is_external(card):
    """Behind Thunderbolt, as the kernel since 5.13 says of the device or of what
    is above it."""
    path = os.path.realpath(card.dir)
    while os.path.exists(os.path.join(path, "vendor")):
        if read(path, "removable") == "removable":
            return True
        path = os.path.dirname(path)
    return False


def rom_in_firmware(card):
    """What this machine's own tables have of a _ROM for the card: "there" and where,
    "empty" and where, "unsure" and why, "none", or "unseen" if they cannot be read.
    guest-check reads tables, and needs root for it."""
    node = read(card.dir, "firmware_node/path")
    if not names(TABLES):
        return "unsure", "this machine shows no ACPI tables"
    if not os.access(f"{TABLES}/DSDT", os.R_OK):
        return "unseen", None
    if not node:
        return "none", None
    node = ".".join(part.rstrip("_") for part in node.split("."))
    unsure = None
    for line in output("sh", sibling("guest", "guest-check"), "--methods").splitlines():
        table, path, *empty = line.split(" ")
        if path == node:
            return "empty" if empty else "there", f"{path} in the {table}"
        if path == "?":
            unsure = f"the {table} has a _ROM, but not to tell in which node"
    return ("unsure", unsure) if unsure else ("none", None)


def check_need(report, card):
    """Returns whether the guest should have a ROM file: True, False, or None if that
    is not known."""
    new = card.ids[1] >= TURING
    name = generation(card.ids[1])
    asks = ("nouveau, NVIDIA's closed modules for Linux and its Windows driver ask "
            "for it" + ("; its open modules do not" if new else ""))
    if is_external(card):
        report.add("ok", "need", f"no: {PLAIN}. Because the card ({name}) is not built in "
                   "(Thunderbolt), and has a flash of its own")
        return False
    found, where = rom_in_firmware(card)
    again = f"sudo {COMMAND} {card.bdf}"
    if found == "there":
        report.add("ok", "need", f"{name}: yes: the firmware has _ROM for the card, at "
                   f"{where}; {asks}")
        return True
    if found in ("empty", "unsure"):
        report.add("hint", "need", f"{name}: perhaps: " + (
            f"the firmware has _ROM for the card, at {where}, but it is empty there"
            if found == "empty" else where) + f"; try plain vfio-pci first; {asks}")
        return None
    if found == "unseen" and not new:
        report.add("hint", "need", f"{name}: yes, if the firmware has _ROM for the card, "
                   f"which only root sees; {asks}", again)
        return True
    if found == "unseen":
        report.add("hint", "need", f"probably not: {PLAIN}. Because since Turing (this is "
                   f"{name}) cards have a flash of their own as a rule; yes, if the "
                   f"firmware has _ROM all the same, which only root sees; {asks}", again)
        return False
    if new:
        report.add("ok", "need", f"probably not: {PLAIN}. Because the firmware has no _ROM "
                   f"for the card, and since Turing (this is {name}) cards have a flash of "
                   "their own: do not look for a VBIOS. The device helps where the "
                   "subsystem IDs get lost; code 43 has other causes, see the README")
        return False
    report.add("hint", "need", f"probably not: {PLAIN}. Because the firmware has no _ROM "
               f"for the card ({name}), which often has a flash of its own then; if the "
               "guest's driver finds no VBIOS all the same, look for one in the card",
               if_so=f"sudo optimus-vbios dump --host {card.bdf} -o vbios.rom")
    return False


def check_none(report):
    """No NVIDIA card: what there is instead."""
    text = "this machine has no display controller of NVIDIA that the kernel sees"
    for bdf in names(DEVICES):
        vendor = number(DEVICES, bdf, "vendor")
        if number(DEVICES, bdf, "class") >> 16 == 0x03 and vendor in OTHER_VENDORS:
            text += f"; {bdf} is {OTHER_VENDORS[vendor]}: this project is for NVIDIA's"
    report.add("problem", "card", text + "; one that is there all the same is "
               "switched off: by the firmware's setup, or by a tool of the laptop's, "
               "or it was removed from the bus",
               if_so="sudo sh -c 'echo 1 >/sys/bus/pci/rescan'")
