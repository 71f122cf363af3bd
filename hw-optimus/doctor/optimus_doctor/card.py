# SPDX-License-Identifier: GPL-2.0-or-later
"""The card: group, driver, users, access, reset, power, IDs, ROM file."""

import json
import os
import re
import shlex

from .common import (COMMAND, DEVICES, beside, install_command, installed, kernel_log,
                     link_name, may_use, names, number, read, run, user)
from .machine import FIRMWARE_SETUP, kernel_option


class Card:
    def __init__(self, bdf):
        self.bdf = bdf
        self.dir = os.path.join(DEVICES, bdf)
        self.ids = [number(self.dir, name) for name in ("vendor", "device")]
        self.pci_class = number(self.dir, "class") >> 8
        self.driver = link_name(self.dir, "driver")
        self.group = link_name(self.dir, "iommu_group")

    def is_display(self):
        return self.pci_class >> 8 == 0x03

    def is_candidate(self):
        return self.ids[0] == 0x10de and self.is_display()

    def is_vfio(self):
        return (self.driver or "").startswith("vfio")

    def nodes(self):
        """Device files through which a process holds the card."""
        nodes = [f"/dev/vfio/{self.group}"]
        nodes += [f"/dev/vfio/devices/{name}"
                  for name in names(os.path.join(self.dir, "vfio-dev"))]
        nodes += [f"/dev/dri/{name}"
                  for name in names(os.path.join(self.dir, "drm"))]
        minor = re.search(r"Device Minor:\s*(\d+)", read(
            "/proc/driver/nvidia/gpus", self.bdf, "information") or "")
        return nodes + ([f"/dev/nvidia{minor.group(1)}"] if minor else [])


def bind_command(bdfs, driver="vfio-pci"):
    return (f"sudo sh -c 'modprobe {driver}; for d in " + " ".join(bdfs) + "; do "
            f"echo {driver} >{DEVICES}/$d/driver_override; "
            f"echo $d >{DEVICES}/$d/driver/unbind; "
            "echo $d >/sys/bus/pci/drivers_probe; done'")


def bind_at_boot(card):
    """For a card that cannot be taken from a driver of the host."""
    make = next((tool for tool in ("update-initramfs -u", "dracut -f", "mkinitcpio -P")
                 if installed(tool.split()[0])), "make the initramfs anew")
    ids = "%04x:%04x" % tuple(card.ids)
    return (f"sudo sh -c 'printf \"options vfio-pci ids={ids}\\n"
            "softdep nvidia pre: vfio-pci\\nsoftdep nouveau pre: vfio-pci\\n\" "
            f">/etc/modprobe.d/vfio-optimus-bind.conf && {make}'")


def check_card(report, card):
    text = "%04x:%04x, class %04x" % (*card.ids, card.pci_class)
    if card.is_candidate():
        report.add("ok", "card", f"NVIDIA {text}")
    else:
        report.add("warning", "card", f"{text}: not a display controller of NVIDIA, "
                   "whose drivers look for _ROM", "lspci -nn -d 10de:")


def check_group(report, card):
    if not card.group:
        report.add("problem", "group", "the card is in no IOMMU group: the IOMMU "
                   "is off, or does not cover it", "sudo dmesg | grep -i -e DMAR "
                   "-e AMD-Vi -e iommu")
        return
    others = {bdf: link_name(DEVICES, bdf, "driver")
              for bdf in names(os.path.join(card.dir, "iommu_group/devices"))
              if bdf != card.bdf}
    # what the kernel lets stay in the group of a device that is assigned
    taken = {bdf: driver for bdf, driver in others.items()
             if driver and not driver.startswith("vfio") and
             driver not in ("pci-stub", "pcieport")}
    shared = ", ".join(f"{bdf} ({others[bdf] or 'no driver'})" for bdf in others)
    slot = card.bdf[:-1]
    if not taken:
        report.add("ok", "group", f"{card.group}, " +
                   (f"shared with {shared}" if shared else "of its own"))
    elif all(bdf.startswith(slot) for bdf in taken):
        report.add("problem", "group", f"{card.group} is not viable: it is "
                   f"shared with {shared}, which have to be on vfio-pci too",
                   bind_command(taken))
    else:
        report.add("problem", "group", f"{card.group} is not viable: it is "
                   f"shared with {shared}, and can only be given away as a "
                   "whole; look in the firmware's setup for ACS, or for another "
                   "place for the other device", if_so=FIRMWARE_SETUP)


def check_driver(report, card):
    if card.is_vfio():
        report.add("ok", "driver", card.driver)
        return
    by_libvirt = " (libvirt binds it to vfio-pci by itself, with managed='yes')"
    if kernel_users(card):
        report.add("problem", "driver", f"{card.driver} has the card, and the kernel itself "
                   "uses it there: an unbind hangs, libvirt's too; have vfio-pci take it at "
                   "the next boot", bind_at_boot(card))
    elif card.driver:
        report.add("problem", "driver", f"{card.driver} has the card; stop what uses it "
                   f"first{by_libvirt}", if_so=bind_command([card.bdf]))
    else:
        report.add("problem", "driver", f"none has the card{by_libvirt}",
                   bind_command([card.bdf]))


def kernel_users(card):
    """What in the kernel itself has the card, which no process shows."""
    if card.is_vfio():
        return []
    found = []
    consoles = names(os.path.join(card.dir, "graphics"))
    if not consoles and card.driver in ("nvidia", "nouveau"):
        consoles = re.findall(rf"(?m)^\d+ ({card.driver}\S*)", read("/proc/fb") or "")
    if not consoles and card.driver == "nvidia" and read(
            "/sys/module/nvidia_drm/parameters/fbdev") in ("Y", "1"):
        consoles = ["nvidia_drm with fbdev"]
    if consoles:
        found.append(f"the console ({', '.join(consoles)}) uses it")
    if kernel_log(rf"Attempting to remove device {card.bdf} with non-zero usage count"):
        found.append("an earlier unbind hung, as it was in use")
    return found


def check_holders(report, card):
    nodes = card.nodes()
    holders, guests, unseen = {}, [], 0
    for pid in filter(str.isdigit, names("/proc")):
        fds = f"/proc/{pid}/fd"
        try:
            targets = {os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)}
        except PermissionError:
            unseen += 1
            continue
        except OSError:             # it has just ended
            continue
        open_nodes = sorted(targets.intersection(nodes))
        if open_nodes:
            name = read("/proc", pid, "comm") or "a process"
            holders[pid] = f"{name} ({pid}) has {' and '.join(open_nodes)} open"
            if name.startswith(("qemu", "kvm")) and card.is_vfio():
                guests.append(pid)
    kernel = kernel_users(card)
    if holders and set(guests) == set(holders):
        given = {"vfio-optimus" if "vfio-optimus" in (read("/proc", pid, "cmdline") or "")
                 else "plain vfio-pci, or with tables" for pid in guests}
        report.add("hint", "users", f"a guest runs with it, as {' and '.join(given)}: "
                   f"{', '.join(holders.values())}", if_so=f"sudo kill {' '.join(guests)}")
    elif holders:
        report.add("problem", "users", ", ".join([*holders.values(), *kernel]) +
                   ": end it in its own way if you can",
                   f"sudo kill {' '.join(holders)}")
    elif kernel:
        report.add("problem", "users", f"the kernel: {' and '.join(kernel)}; see the row "
                   "driver")
    elif unseen:
        report.add("warning", "users", f"{user()} cannot see what {unseen} "
                   "processes of others have open",
                   f"sudo {COMMAND} {card.bdf}")
    else:
        report.add("ok", "users", "no process has the card open")


def check_display(report, card):
    """A guest takes the screen with the card if it is the host's."""
    others = [bdf for bdf in names(DEVICES) if bdf != card.bdf and
              number(DEVICES, bdf, "class") >> 16 == 0x03]
    part = re.escape(card.bdf)
    # the firmware's screen lies in a BAR of the card, so its line is inside
    boot = re.search(rf"(?m)^( *)\S+ : {part}\n(?:\1 +.*\n)*?\1 +\S+ : (?:BOOTFB|efifb|vesafb)",
                     (read("/proc/iomem") or "") + "\n")
    lost = kernel_log(rf"{part}: BAR \d+: can't reserve")
    if boot or lost:
        report.add("warning", "display", "the firmware's screen (BOOTFB) lies in the card's "
                   "memory, which vfio-pci cannot have then" +
                   (f": '{lost[-1]}'" if lost else "") + "; the option below keeps the "
                   "kernel from it (reboot after it; the host's screen may stay dark)",
                   kernel_option("initcall_blacklist=sysfb_init"))
    elif not others:
        report.add("warning", "display", "this is the only display controller: while a guest "
                   "has it, the host has no screen; have another way in, such as ssh",
                   if_so="sudo systemctl enable --now ssh || "
                         "sudo systemctl enable --now sshd")
    elif read(card.dir, "boot_vga") == "1":
        report.add("warning", "display", "this is what the firmware shows its screen on "
                   "(boot_vga): in its setup make the other one the first, which is "
                   f"{others[0]}, or be without a screen on the host while a guest has it",
                   if_so=FIRMWARE_SETUP)
    else:
        report.add("ok", "display", f"the host has {' and '.join(others)}, too")


def check_reset(report, card):
    # kernels before 5.15 only tell whether there is a way
    methods = read(card.dir, "reset_method")
    if methods is None and os.path.exists(os.path.join(card.dir, "reset")):
        methods = "possible"
    if methods:
        report.add("ok", "reset", methods)
    else:
        report.add("warning", "reset", "the kernel knows no way to reset the "
                   "card: if it hangs after a guest, let the machine sleep",
                   if_so="systemctl suspend")


def check_power(report, card):
    """An idle card on vfio-pci goes to D3hot, and with its port to D3cold, from
    which not every one comes back."""
    port = os.path.dirname(os.path.realpath(card.dir))
    chain = [card.dir] + ([port] if os.path.exists(os.path.join(port, "vendor"))
                          else [])
    cold = [path for path in chain if read(path, "d3cold_allowed") == "1"]
    idle = read("/sys/module/vfio_pci/parameters/disable_idle_d3") != "Y"
    said = [line.split(f"{card.bdf}: ")[1] for line in kernel_log(
        rf"{card.bdf}: (not ready .* after |.*[Cc]hange power state|.*stuck in D3)")]
    mend = "; ".join(f"echo 0 >{path}/d3cold_allowed" for path in cold)
    if idle:
        mend = "; ".join(["echo options vfio-pci disable_idle_d3=1 "
                          ">/etc/modprobe.d/vfio-optimus.conf",
                          "[ ! -e /sys/module/vfio_pci ] || "
                          "echo Y >/sys/module/vfio_pci/parameters/disable_idle_d3",
                          *([mend] if mend else [])])
    state = read(card.dir, "power_state")
    if said or state in ("unknown", "error"):
        text = "the card did not come back from D3: " \
               f"'{said[-1] if said else 'power state ' + state}'; keep it awake from " \
               "the next boot on"
        if mend:
            report.add("problem", "power", text, f"sudo sh -c '{mend}'")
        else:
            report.add("problem", "power", text + "; it is told to stay awake, so look for "
                       "an update of the laptop's firmware", if_so="systemctl reboot")
    elif mend:
        report.add("hint", "power", "an idle card may go to D3; should it not come "
                   "back ('not ready ... after resume', 'stuck in D3'), keep it and "
                   "the port above it awake", if_so=f"sudo sh -c '{mend}'")
    else:
        report.add("ok", "power", "it stays awake: no D3 when idle")


def has_outputs(card):
    """Whether a screen is connected to the card: None if that is not to be seen."""
    states = [read(card.dir, "drm", node, name, "status")
              for node in names(os.path.join(card.dir, "drm"))
              for name in names(os.path.join(card.dir, "drm", node))]
    if "connected" in states:
        return True
    return None if card.pci_class == 0x0300 else False


def check_audio(report, card):
    """What is on a driver of the host has a row already, its group's."""
    for bdf in names(DEVICES):
        device = os.path.join(DEVICES, bdf)
        if (bdf == card.bdf or not bdf.startswith(card.bdf[:-1]) or
                number(device, "class") >> 8 != 0x0403):
            continue
        driver = link_name(device, "driver")
        use = {True: "a screen is connected to the card, which plays sound through it",
               False: "without outputs the guest has no use for it",
               None: "of use where the laptop's ports hang on this card"}[has_outputs(card)]
        if driver == "pci-stub":
            report.add("ok", "audio", f"{bdf} is on pci-stub, and stays on the host")
        elif not driver or driver.startswith("vfio"):
            report.add("hint", "audio", f"{bdf} is the card's audio function: {use}; in "
                       "one report code 43 in Windows ended when it was not given away "
                       "with the card, but put on pci-stub",
                       if_so=bind_command([bdf], "pci-stub"))
        else:
            report.add("ok", "audio", f"{bdf} is the card's audio function ({driver}): {use}")


def check_ids(report, card):
    known = [number(card.dir, "subsystem_" + name)
             for name in ("vendor", "device")]
    try:
        with open(os.path.join(card.dir, "config"), "rb") as file:
            config = file.read(64)
    except OSError:
        config = b""
    if len(config) < 64:
        report.add("warning", "ids", "config space cannot be read", "lspci -xs " +
                   card.bdf)
        return
    if config[:4] == b"\xff" * 4:
        report.add("problem", "ids", "the card does not answer: its config space "
                   "is all ones; it hangs, or its power is off",
                   f"sudo sh -c 'echo 1 >{card.dir}/remove; "
                   "echo 1 >/sys/bus/pci/rescan'")
        return
    own = [int.from_bytes(config[at:at + 2], "little") for at in (0x2c, 0x2e)]
    text = ["%04x:%04x" % tuple(ids) for ids in (known, own)]
    if known == own and not unknown(known):
        report.add("ok", "ids", f"subsystem {text[0]}, in sysfs and in the card")
    elif not unknown(known):
        report.add("ok", "ids", f"subsystem {text[0]} in sysfs, which "
                   f"vfio-optimus takes; the card has lost them: {text[1]}")
    else:
        ids = "0x%04x" % own[0], "0x%04x" % own[1]
        if unknown(own):
            ids = "0xVVVV", "0xDDDD"
        report.add("warning", "ids", f"subsystem {text[0]} in sysfs: the kernel "
                   f"does not know them; the card has {text[1]}; if the driver "
                   "wants those of the laptop (Windows shows them under "
                   "hardware IDs, SUBSYS_DDDDVVVV), set them",
                   "-device vfio-optimus,...,x-pci-sub-vendor-id=%s,"
                   "x-pci-sub-device-id=%s" % ids)


def unknown(ids):
    return any(value in (0, 0xffff) for value in ids)


def check_access(report, card):
    if not card.is_vfio():
        return                      # the node comes with the driver
    group = f"/dev/vfio/{card.group}"
    cdevs = [f"/dev/vfio/devices/{name}"
             for name in names(os.path.join(card.dir, "vfio-dev"))]
    ways = [["/dev/vfio/vfio", group]]
    ways += [["/dev/iommu", cdev] for cdev in cdevs]
    there = [way for way in ways if all(map(os.path.exists, way))]
    usable = [way for way in there if all(map(may_use, way))]
    if usable:
        report.add("ok", "access", f"{user()} may use " +
                   " or ".join(way[1] for way in usable))
    elif there:
        denied = [node for node in there[0] if not may_use(node)]
        report.add("problem", "access", f"{user()} may not use "
                   f"{' and '.join(denied)} (until the next boot; a udev rule "
                   "makes it last)",
                   f"sudo chown {user()} {' '.join(denied)}")
    else:
        gone = [node for node in ways[0] if not os.path.exists(node)]
        report.add("problem", "access", f"{' and '.join(gone)} is missing",
                   "sudo modprobe -a vfio-pci vfio_iommu_type1")


def check_romfile(report, card, rom, wanted):
    tools = beside("build", "plugin", "meson", "hw-optimus", "vbios",
                   "optimus-vbios")
    if not rom:
        if wanted:
            report.add("warning", "romfile", "none was named, with --rom FILE",
                       if_so=f"sudo optimus-vbios dump --host {card.bdf} -o vbios.rom")
        elif wanted is None:
            report.add("hint", "romfile", "none was named; it takes one if plain vfio-pci "
                       "does not do",
                       if_so=f"sudo optimus-vbios dump --host {card.bdf} -o vbios.rom")
        else:
            report.add("ok", "romfile", "none was named, and as a rule none is needed")
        return
    if not tools:
        report.add("warning", "romfile", f"{rom} was not checked: there is no "
                   "optimus-vbios", install_command())
        return
    _, said, why = run(tools[0], "info", os.path.abspath(rom), "--json", "--host", card.bdf)
    try:
        info = json.loads(said)
        usable, verdict = info["usable"], str(info["verdict"])
        refused = not info.get("nvidia")
    except (ValueError, KeyError, TypeError, AttributeError):
        usable, refused, verdict = False, True, why or "optimus-vbios did not say what it is"
    sums = "--fix-checksum" in verdict
    if usable and not refused and not sums:
        report.add("ok", "romfile", f"{rom}: {verdict}")
        return
    mend = f"sudo optimus-vbios dump --host {card.bdf} -o vbios.rom"
    if sums or not usable and "with optimus-vbios trim" in verdict:
        mend = f"optimus-vbios trim {shlex.quote(rom)} vbios.rom" + (
            " --fix-checksum" if sums else "")
    report.add("warning" if usable else "problem", "romfile",
               f"{rom}: {verdict}", mend)
