# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for Proxmox' qm, which Debian does not have: it keeps the guests' settings
in a JSON file, starts no guest, and takes only what qemu-server's published rules
(PVE/JSONSchema.pm, PVE/QemuServer.pm and PVE/QemuServer/PCI.pm) allow.

    proxmox.py STATE ARGUMENT...

It is no parser of optimus-attach's: that one reads what `qm showcmd` prints."""

import json
import re
import shlex
import sys

CFG = "/usr/share/qemu-server/pve-q35-4.0.cfg"
Q35 = {
    **{f"ich9-pcie-port-{n + 1}": {
        "driver": "pcie-root-port", "multifunction": "on", "bus": "pcie.0",
        "addr": f"1c.{n}", "port": n + 1, "chassis": n + 1} for n in range(4)},
    "pcidmi": {"driver": "i82801b11-bridge", "bus": "pcie.0", "addr": "1e.0"},
    **{f"pci.{n}": {
        "driver": "pci-bridge", "bus": "pcidmi", "addr": f"{n + 1}.0",
        "chassis_nr": n + 1} for n in range(4)},
}
# The keys that a hostpciN may have
KEYS = {"host", "mapping", "device-id", "driver", "legacy-igd", "mdev", "pcie", "rombar",
        "romfile", "sub-device-id", "sub-vendor-id", "vendor-id", "x-vga"}
# What a guest that runs gets only when it starts next
COLD = re.compile("hostpci|machine|args")


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(255)


def q35_config():
    """What the file CFG says, in the language of QEMU's -readconfig."""
    return "# as qemu-server has it\n" + "".join(
        f'[device "{name}"]\n' + "".join(
            f'  {key} = "{value}"\n' for key, value in device.items()) + "\n"
        for name, device in Q35.items())


def property_string(text):
    """A list with commas: each key once, and only the first may have none."""
    result = {}
    for number, part in enumerate(text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            if number:
                fail(f"400 Parameter verification failed.\ninvalid format - missing "
                     f"key in comma-separated list property: {part}")
            key, value = "host", part
        if key not in KEYS or key in result:
            fail("400 Parameter verification failed.\ninvalid format - duplicate or "
                 f"unknown key in comma-separated list property: {key}")
        result[key] = value
    return result


def place(i, q35, pcie):
    """-device of a bridge, or none, and bus and address of hostpci I."""
    if pcie and i < 4:
        return [], f"bus=ich9-pcie-port-{i + 1},addr=0x0"
    if pcie:
        port, n = f"ich9-pcie-port-{i + 1}", i - 4
        return ["-device", f"pcie-root-port,id={port},addr={0x10 + n // 8:x}.{n % 8},"
                f"multifunction=on,bus=pcie.0,port={i + 1},chassis={i + 1}"], \
            f"bus={port},addr=0x0"
    if i < 4:
        return [], f"bus=pci.0,addr={(0x10, 0x11, 0x1b, 0x1c)[i]:#x}"
    return [], f"bus=pci.2,addr={0x0d + i - 4:#x}"


def card(i, value, q35):
    """The arguments of one hostpciN."""
    options = property_string(value)
    bridge, where = place(i, q35, options.get("pcie") in ("1", "on", "yes", "true"))
    hosts = options["host"].split(";")
    arguments = bridge
    for j, host in enumerate(hosts):
        several = len(hosts) > 1
        device = f"vfio-pci,host={host},id=hostpci{i}" + (f".{j}" if several else "")
        device += f",{where}" + (f".{j}" if several else "")
        if j == 0:
            device += ",multifunction=on" if several else ""
            for key in ("sub-vendor-id", "sub-device-id"):
                if key in options:
                    device += f",x-pci-{key}={options[key]}"
        arguments += ["-device", device]
    return arguments


def command_line(number, config, cfg=CFG):
    """As qemu-server starts a guest with these settings."""
    q35 = "q35" in config.get("machine", "")
    arguments = ["/usr/bin/kvm", "-id", number, "-name", f"guest{number},debug-threads=on",
                 "-no-shutdown", "-smp", "2,sockets=2,cores=1,maxcpus=2", "-m", "512",
                 "-global", "PIIX4_PM.disable_s3=1"]
    arguments += ["-readconfig", cfg] if q35 else [
        "-device", "pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e",
        "-device", "pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f"]
    arguments += ["-device", "vmgenid,guid=54d1c06c-8f5b-440f-b5b2-6eab1380e13d"]
    for i in range(16):
        if f"hostpci{i}" in config:
            arguments += card(i, config[f"hostpci{i}"], q35)
    arguments += ["-device", "VGA,id=vga," + (
        "bus=pcie.0,addr=0x1" if q35 else "bus=pci.0,addr=0x2"),
        "-device", "virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x3",
        "-machine", "hpet=off,type=" + config.get("machine", "pc")]
    return arguments + shlex.split(config.get("args", ""))


def set_values(guest, words):
    changes, deleted = {}, []
    while words:
        option, value, *words = [*words, None][:2] + words[2:]
        if not option.startswith("--") or value is None:
            fail("400 wrong number of arguments")
        key = option[2:]
        if key in changes or "\n" in value:
            fail(f"400 duplicate or wrong: {key}")
        if key == "delete":
            deleted = value.split(",")
            continue
        if re.fullmatch(r"hostpci\d+", key):
            options = property_string(value)
            hosts = options.get("host", "")
            if not all(re.fullmatch(r"([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}(\.[0-7])?", h)
                       for h in hosts.split(";")):
                fail(f"400 Parameter verification failed.\n{key}: invalid format")
            if options.get("pcie") and "q35" not in guest["config"].get("machine", ""):
                fail("q35 machine model is not enabled")
        elif key == "args":
            shlex.split(value)
        else:
            fail(f"Unknown option: {key}")
        changes[key] = value
    for key in deleted:
        if key in changes or key not in guest["config"]:
            fail(f"400 cannot delete {key}")
    for key, value in [*changes.items(), *((key, None) for key in deleted)]:
        waits = guest["running"] and COLD.match(key)
        where = guest["pending"] if waits else guest["config"]
        if value is None and not waits:
            del where[key]
        else:
            where[key] = value


def main():
    path, command, *words = sys.argv[1:]
    with open(path) as file:
        state = json.load(file)
    if command == "list" and not words:
        print("      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID")
        for number, guest in state.items():
            print(f"{number:>10} guest{number:<15} {'running' if guest['running'] else 'stopped'}"
                  "    512               0.00 0")
        return
    number, *words = words
    if number not in state:
        fail(f"Configuration file 'nodes/pve/qemu-server/{number}.conf' does not exist")
    guest = state[number]
    merged = {key: value for key, value in {**guest["config"], **guest["pending"]}.items()
              if value is not None}
    if command == "set":
        set_values(guest, words)
        with open(path, "w") as file:
            json.dump(state, file)
    elif words:
        fail("400 too many arguments")
    elif command == "config":
        print(*(f"{key}: {merged[key]}" for key in sorted(merged)), sep="\n")
    elif command == "pending":
        for key in sorted({*guest["config"], *guest["pending"]}):
            if key in guest["config"]:
                word = "del" if guest["pending"].get(key, "") is None else "cur"
                print(f"{word} {key}: {guest['config'][key]}")
            if guest["pending"].get(key) is not None:
                print(f"new {key}: {guest['pending'][key]}")
    elif command == "showcmd":
        print(shlex.join(command_line(number, guest["config"])))
    elif command == "status":
        print("status: " + ("running" if guest["running"] else "stopped"))
    else:
        fail(f"ERROR: unknown command 'qm {command}'")


if __name__ == "__main__":
    main()
