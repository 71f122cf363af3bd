#!/usr/bin/python3
"""Random arguments for the wrapper:

    fuzz-wrapper.py WRAPPER COUNT [SEED]

WRAPPER runs a program that prints each argument with a NUL at its end.  sysfs
has display controllers of NVIDIA's at CARDS.  Devices are made from what is
known of them, in QEMU's JSON or as key=value; so is what has to come out."""

import json
import random
import subprocess
import sys

CARDS = {(0, 1, 0, 0), (0, 2, 0, 0), (1, 1, 0, 0)}
OTHERS = {(0, 1, 0, 1), (0, 4, 0, 0), (0, 5, 0, 0), (0, 0x0a, 0, 0), (0, 0xf, 0, 0)}
OTHER_OPTIONS = ["-name", "-acpitable", "-readconfig", "-object", "-m", "-netdev", "-S", "--machine", ""]
# what shells, JSON and QEMU's options have a use for
PIECES = [",", ",,", '"', "'", "\\", "{", "}", "[", "]", ":", "=", " ", "\n", "\t",
          "*", "?", "$HOME", "`id`", "$(id)", "%s", "~", "ä", "vfio-pci", "romfile=",
          "host=01:00.0", "driver", "-device", "\x7f", "a", "0", "#", "!", ";", "&"]


def text(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(6)))


def address(rng, place):
    """As QEMU takes it."""
    domain, bus, slot, function = place
    digits = [rng.choice(["%x", "%02x", "%X", "%02X", "0x%x"]) for _ in range(3)]
    short = f"{digits[0] % bus}:{digits[1] % slot}.{function}"
    if domain or rng.random() < 0.5:
        return rng.choice([f"{domain:04x}:", f"{domain:x}:"]) + short
    return short


def device(rng):
    """The argument as it is and as it has to come out."""
    driver = rng.choice(["vfio-pci"] * 9 + ["e1000", "vfio-pci-nohotplug", "vfio-optimus"])
    place = rng.choice([*sorted(CARDS) * 3, *sorted(OTHERS)])
    properties = {}
    if rng.random() < 0.8:
        properties["romfile"] = text(rng)
    if rng.random() < 0.8:
        properties["host"] = address(rng, place)
    else:
        properties["sysfsdev"] = ("/sys/bus/pci/devices/%04x:%02x:%02x.%x" % place)
    for name in rng.sample(["id", "bus", "x-ramfb", "fd", "host-nqn"], 3):
        properties[name] = text(rng)
    changed = (driver == "vfio-pci" and place in CARDS and
               bool(properties.get("romfile")))
    after = "vfio-optimus" if changed else driver
    names = list(properties)
    rng.shuffle(names)
    return (as_json if rng.random() < 0.5 else as_options)(
        rng, driver, after, {name: properties[name] for name in names})


def as_json(rng, driver, after, properties):
    def blank():
        return rng.choice(["", "", " ", "\n", "\t "])

    members = [json.dumps(name) + blank() + ":" + blank() +
               json.dumps(value, ensure_ascii=False)
               for name, value in properties.items()]
    members.append('"more":' + rng.choice(
        ['{"driver":"vfio-pci","host":"04:00.0"}', '["host","04:00.0",{}]', "true", "-1"]))
    name = f'"driver"{blank()}:{blank()}"%s"'
    members.insert(rng.randrange(len(members) + 1), name)
    whole = "{" + blank() + (blank() + "," + blank()).join(
        member.replace("%", "%%") if member != name else member
        for member in members) + blank() + "}"
    return whole % driver, whole % after


def as_options(rng, driver, after, properties):
    fields = [f"{name}={value.replace(',', ',,')}" for name, value in properties.items()]
    if rng.random() < 0.5:
        fields = ["%s", *fields]
        at = 0
    else:
        at = rng.randrange(len(fields) + 1)
        fields.insert(at, "driver=%s")
    before, behind = fields[:at], fields[at + 1:]
    return tuple(",".join([*before, fields[at] % name, *behind])
                 for name in (driver, after))


def vector(rng):
    """Arguments, and for each what may come out."""
    arguments, wanted = [], []
    for _ in range(rng.randrange(1, 6)):
        option = rng.choice(["-device"] * 3 + ["--device"] + OTHER_OPTIONS)
        given, after = device(rng)
        if rng.random() < 0.3:
            # broken: nothing but the name may change, if that does
            at = rng.randrange(len(given) + 1)
            given = given[:at] + text(rng) + given[at + rng.randrange(3):]
            may = {given, *(given[:n] + "vfio-optimus" + given[n + 8:]
                            for n in range(len(given)) if given[n:n + 8] == "vfio-pci")}
        else:
            may = {after}
        if option not in ("-device", "--device"):
            may = {given}
        # what stands there is no option to the wrapper
        if given in ("-device", "--device"):
            continue
        arguments += [option, given]
        wanted += [{option}, may]
    return arguments, wanted


def main():
    wrapper, count = sys.argv[1], int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    rng = random.Random(seed)
    changed = 0
    for number in range(count):
        arguments, wanted = vector(rng)
        done = subprocess.run([wrapper, *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        out = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
        if done.returncode or len(out) != len(wanted) or not all(
                one in may for one, may in zip(out, wanted)):
            sys.exit(f"seed {seed}, vector {number}: {arguments}\n"
                     f"became {out}\nstatus {done.returncode}, {done.stderr}")
        lines = done.stderr.decode().splitlines()
        difference = sum(a != b for a, b in zip(arguments, out))
        if sum(line.endswith(" becomes a vfio-optimus") for line in lines) != difference:
            sys.exit(f"seed {seed}, vector {number}: {arguments}\nsaid {lines}")
        changed += difference
    print(f"{count} vectors, {changed} devices changed, seed {seed}")


if __name__ == "__main__":
    main()
