# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the card need vfio-optimus?"""

import os

from .common import COMMAND, DEVICES, names, number, output, read, sibling

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

OTHER_VENDORS = {
    0x1002: "a card of AMD's: its drivers do not look for _ROM, but for ATRM, which "
            "nothing gives to a guest, and then for the ROM BAR: use -device "
            "vfio-pci with romfile=",
    0x8086: "a card of Intel's: its drivers do not look for _ROM, but for an "
            "OpRegion: use -device vfio-pci with x-igd-opregion=on",
}


def generation(device):
    """By the device ID of a card of NVIDIA's; of later ones the last that is known."""
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
    """Where this machine's own tables have _ROM for the card, "" if nowhere, None
    if they cannot be read.  guest-check reads tables, and needs root for it."""
    node = read(card.dir, "firmware_node/path")
    if not node:
        return ""
    if not os.access("/sys/firmware/acpi/tables/DSDT", os.R_OK):
        return None
    node = ".".join(part.rstrip("_") for part in node.split("."))
    for line in output("sh", sibling("guest", "guest-check"), "--methods").splitlines():
        table, path = line.split(" ", 1)
        if path == node:
            return f"{path} in the {table}"
    return ""


def check_need(report, card):
    """Returns whether the guest should have a ROM file."""
    new = card.ids[1] >= TURING
    name = generation(card.ids[1])
    asks = ("nouveau, NVIDIA's closed modules for Linux and its Windows driver ask "
            "for it" + ("; its open modules do not" if new else ""))
    if is_external(card):
        report.add("ok", "need", f"{name}: no: the card is not built in (Thunderbolt), "
                   "and has a flash of its own; -device vfio-pci will do")
        return False
    firmware = rom_in_firmware(card)
    if firmware:
        report.add("ok", "need", f"{name}: yes: the firmware has _ROM for the card, "
                   f"at {firmware}; {asks}")
        return True
    if firmware is None and not new:
        report.add("hint", "need", f"{name}: yes, if the firmware has _ROM for the "
                   f"card, which only root sees; {asks}", f"sudo {COMMAND} {card.bdf}")
        return True
    if firmware is None:
        report.add("hint", "need", f"{name}: as a rule not: since Turing cards have a "
                   "flash of their own; yes, if the firmware has _ROM all the same, "
                   f"which only root sees; {asks}", f"sudo {COMMAND} {card.bdf}")
        return False
    if new:
        report.add("ok", "need", f"{name}: as a rule not: the firmware has no _ROM for "
                   "the card, and since Turing cards have a flash of their own: do "
                   "not look for a VBIOS; -device vfio-pci will do, unless the "
                   "subsystem IDs get lost; code 43 has other causes, see the README")
        return False
    report.add("hint", "need", f"{name}: perhaps not: the firmware has no _ROM for the "
               "card, which often has a flash of its own then; try -device vfio-pci "
               "first; if the command below finds a VBIOS, that is in the card",
               f"sudo optimus-vbios dump --host {card.bdf} -o vbios.rom")
    return False


def check_none(report):
    """No card of NVIDIA's: what there is instead."""
    others = [bdf for bdf in names(DEVICES)
              if number(DEVICES, bdf, "class") >> 16 == 0x03]
    text = "this machine has no display controller of NVIDIA that the kernel sees"
    for bdf in others:
        vendor = number(DEVICES, bdf, "vendor")
        if vendor in OTHER_VENDORS:
            text += f"; {bdf} is {OTHER_VENDORS[vendor]}"
    amd = any(number(DEVICES, bdf, "vendor") == 0x1002 for bdf in others)
    report.add("problem", "card", text + "; one that is there all the same is "
               "switched off: by the firmware's setup, or by a tool of the laptop's, "
               "or it was removed from the bus",
               None if amd else "sudo sh -c 'echo 1 >/sys/bus/pci/rescan'")
