#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""From what scripts/bench measured to results.json, a table, a picture and
tests-qtest/README.md.

usage: report.py [--readme] OUT TOP

OUT is what scripts/bench has filled, TOP the repository.
"""

import datetime
import glob
import json
import os
import platform
import re
import shutil
import statistics
import sys
from collections import defaultdict

from presentation import (DRIVERS, KIB, LOOPS, WAYS, print_table, readme,
                          svg)

SAMPLE = re.compile(r"bench=(\S+) driver=(\S+) size=(\d+) read=(\S+) ns=(\d+) "
                    r"calls=(\d+) equal=([01])")
FAILED = re.compile(r"read=failed .*status=(\S+)")
HEAP = re.compile(r"lab: heap (-?\d+) KiB name=(?:warm-)?(\S+) size=(\d+) "
                  r"driver=(\S+)")


def fail(text):
    sys.exit(f"report.py: {text}")


def summary(values):
    """Milliseconds from nanoseconds."""
    quartiles = (statistics.quantiles(values, n=4, method="inclusive")
                 if len(values) > 1 else values * 3)
    return {"n": len(values), "median": statistics.median(values) / 1e6,
            "low": quartiles[0] / 1e6, "high": quartiles[2] / 1e6,
            "min": min(values) / 1e6}


def fit(points):
    """The line through them, by least squares, and R squared."""
    xs, ys = zip(*points)
    slope, base = statistics.linear_regression(xs, ys)
    return {"slope": slope, "base": base,
            "r2": statistics.correlation(xs, ys) ** 2}


def ratio(ones, others):
    """Of times that were taken by turns: the median of the ratios, so that a
    machine that is slower for a while counts for both."""
    pairs = sorted(one / other for one, other in zip(ones, others))
    return {"n": len(pairs), "median": statistics.median(pairs),
            "low": pairs[0], "high": pairs[-1]}


class Reads:
    """What a guest said."""

    def __init__(self, path):
        self.times = defaultdict(list)
        self.calls = {}
        self.heap = defaultdict(list)
        self.failed = {}
        status = None
        with open(path, errors="replace") as log:
            for line in log:
                if match := SAMPLE.search(line):
                    name, driver, size, read, ns, calls, equal = match.groups()
                    if name == "warm-nothing":
                        continue
                    if equal != "1":
                        fail(f"{name} gave other bytes than the ROM has, see {path}")
                    if name.startswith("warm-"):
                        continue
                    key = name, driver, int(size), read
                    self.times[key].append(int(ns))
                    self.calls[key[:3]] = int(calls)
                elif match := FAILED.search(line):
                    status = match[1]
                elif match := HEAP.search(line):
                    grown, name, size, driver = match.groups()
                    self.heap[name, int(size)].append(int(grown))
                    if status:
                        self.failed[name, driver, int(size)] = status
                        status = None

    def all(self, *key):
        if key not in self.times:
            fail("nothing was measured of " + " ".join(map(str, key)))
        return self.times[key]


def read_times(path):
    times = defaultdict(list)
    with open(path) as lines:
        for line in lines:
            name, ns = line.split()
            times[name].append(int(ns))
    return times


def ways_results(reads, costs, quick):
    sizes = sorted({key[2] for key in reads.times if key[0] == "optimus"})
    results = []
    for size in sizes:
        for name in [*WAYS, "in-place"]:
            measured = 8 * KIB if quick and name in LOOPS else size
            for driver in DRIVERS:
                for read in ["first", "again"]:
                    key = name, driver, measured, read
                    if (name in LOOPS and key not in reads.times and
                            key[:3] in reads.failed):
                        # ACPICA aborts a loop after 30 seconds
                        results.append({
                            "way": name, "size": size, "driver": driver,
                            "read": read, "measured": measured,
                            "failed": reads.failed[key[:3]]})
                        continue
                    entry = {"way": name, "size": size, "driver": driver,
                             "read": read, "measured": measured,
                             "calls": reads.calls.get(key[:3]),
                             **summary(reads.all(*key))}
                    if read == "again" or measured == size:
                        scale = 1
                    else:
                        # A loop reads all bytes once, at the first call
                        scale = size / measured
                    for field in ["median", "low", "high", "min"]:
                        entry[field] *= scale
                    if read == "first" or measured == size:
                        # Of the least times: what is more is the machine's
                        for other in ["optimus", "buffer"]:
                            least = min(reads.all(other, driver, size, read))
                            entry["to_" + other] = entry["min"] / (least / 1e6)
                    results.append(entry)
    # What any table takes does not count, and what the kernel keeps for the next
    # ones is taken the first time only
    empty = min(reads.heap["nothing", sizes[0]])
    for name in WAYS:
        for size in sizes:
            measured = 8 * KIB if quick and name in LOOPS else size
            costs[f"{name}-{size}"].update(
                heap_kib=max(0, max(reads.heap[name, measured]) - empty),
                heap_of=measured)
    return results


def nvidia_results(out):
    """What NVIDIA's own driver asked of each way, and for how long."""
    results = []
    for path in sorted(glob.glob(os.path.join(out, "nvidia-*.log")), reverse=True):
        with open(path, errors="replace") as log:
            text = log.read()
        with open(os.path.join(out, "nvidia.cards")) as file:
            cards = [line.split() for line in file]
        found = {}
        for bdf, way in cards:
            card = re.search(rf"card {bdf} begins.*watch us=(\d+).*calls=(\d+)"
                             rf".*card {bdf} ends", text, re.S)
            if not card:
                fail(f"NVIDIA's driver did not come to {bdf} ({way}), see {path}")
            given = re.search(r"given: (equal|a part)", card[0])
            taken = "register 14f0: 0xC0FFEE42" in card[0]      # by the init script
            if way == "optimus" and not (given and given[1] == "equal" and taken):
                fail(f"NVIDIA's driver did not take the ROM from {bdf}, see {path}")
            entry = found.setdefault(way, {
                "driver": re.search(r"nvidia-(\d+)", path)[1], "way": way, "ms": []})
            entry.update(calls=int(card[2]), taken=taken,
                         given=given[1] if given else "other bytes")
            entry["ms"].append(int(card[1]) / 1000)
        for entry in found.values():
            entry["to_optimus"] = min(entry["ms"]) / min(found["optimus"]["ms"])
        results += found.values()
    return results


def memory(out):
    """With and without the device."""
    found = {}
    for kind in ["plain", "vfio-optimus"]:
        with open(os.path.join(out, f"boot-{kind}.log"), errors="replace") as log:
            text = log.read()
        found[kind] = {"ram": sum(
            int(end, 16) + 1 - int(start, 16) for start, end in re.findall(
                r"lab: memory (0x\w+) (0x\w+) System RAM", text))}
        for name, base, pattern in (
                ("total_kib", 10, r"lab: memory total (\d+)"),
                ("dsdt", 16, r"lab: memory: ACPI: DSDT 0x(\w+)"),
                ("initrd", 16, r"lab: memory: RAMDISK: \[mem 0x(\w+)")):
            match = re.search(pattern, text)
            if not match:
                fail(f"the guest with {kind} did not tell its memory")
            found[kind][name] = int(match[1], base)
    without, with_it = found["plain"], found["vfio-optimus"]
    return {**found, "difference": {name: with_it[name] - without[name]
                                    for name in without}}


def tree_seconds(top):
    """How long the last complete build took, by what ninja wrote of it."""
    for path in sorted(glob.glob(f"{top}/build/tree-*/build/.ninja_log")):
        with open(path) as log:
            ends = [int(line.split("\t")[1]) for line in log
                    if not line.startswith("#")]
        if len(ends) > 1000:
            return max(ends) / 1000
    return None


def collect(out, top):
    quick = os.path.basename(out) == "quick"
    with open(os.path.join(out, "costs.json")) as file:
        costs = json.load(file)
    times = read_times(os.path.join(out, "times"))
    reads = Reads(os.path.join(out, "ways.log"))
    sizes = Reads(os.path.join(out, "sizes.log"))
    devices = Reads(os.path.join(out, "devices.log"))
    with open(os.path.join(out, "load")) as file:
        load = float(file.read())
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"model name\s*: (.*)", file.read())

    growth = {}
    for driver in DRIVERS:
        points = [(size / KIB, summary(sizes.all("optimus", driver, size, "again"))
                   ["min"]) for size in sorted(
                       {key[2] for key in sizes.times if key[0] == "optimus"})]
        growth[driver] = {"points": points, **fit(points)}
    places = [summary(devices.all(f"device-{n}", "nvidia", 64 * KIB, "again"))["min"]
              for n in range(1, 9)]
    starts = [(count, (statistics.median(times[f"start-vfio-optimus-{count}"]) -
                       statistics.median(times[f"start-bochs-display-{count}"]))
               / 1e6) for count in [1, 2, 4, 8]]

    return {
        "quick": quick,
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu[1] if cpu else platform.machine()}, "
                   f"{os.cpu_count()} CPUs, load {load} before",
        "reads": ways_results(reads, costs, quick),
        "nvidia": nvidia_results(out),
        "costs": costs,
        "memory": memory(out),
        "growth": growth,
        "devices": {"read_ms": places,
                    "aml": [costs[f"devices-{n}"]["aml"] for n in [1, 2, 4, 8]],
                    "start_ms": {"points": starts, **fit(starts)}},
        "load_ms": (min(times["nothing-plugin"]) -
                    min(times["nothing-plain"])) / 1e6,
        "start": {**ratio(times["lab-vfio-optimus"], times["lab-vfio-pci"]),
                  "vfio-pci": summary(times["lab-vfio-pci"]),
                  "vfio-optimus": summary(times["lab-vfio-optimus"])},
        "boot": {**ratio(times["boot-vfio-optimus"], times["boot-plain"]),
                 "plain": summary(times["boot-plain"]),
                 "vfio-optimus": summary(times["boot-vfio-optimus"])},
        "unused": {**ratio(times["boot-unused"], times["boot-plain"]),
                   "unused": summary(times["boot-unused"])},
        "effort_s": {
            "plugin, again": times["plugin-warm"][0] / 1e9,
            "plugin, from a clone": times["plugin-cold"][0] / 1e9
            if "plugin-cold" in times else None,
            "tree": tree_seconds(top)},
    }


def save(path, text):
    with open(path + ".new", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(path + ".new", path)


def main():
    arguments = sys.argv[1:]
    renew = "--readme" in arguments
    out, top = [word for word in arguments if word != "--readme"]
    results = collect(out.rstrip("/"), top)
    save(os.path.join(out, "results.json"), json.dumps(results, indent=1) + "\n")
    save(os.path.join(out, "bench.svg"), svg(results))
    print_table(results)
    if not renew:
        return
    path = os.path.join(top, "tests-qtest/README.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    block = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.S)
    if not block.search(text):
        fail(f"{path} has no lines <!-- bench --> and <!-- /bench --> to fill: "
             "put them where the results shall be")
    save(path, block.sub(lambda match: f"{match[1]}{readme(results)}\n{match[2]}",
                         text))
    shutil.copyfile(os.path.join(out, "bench.svg"),
                    os.path.join(top, "tests-qtest/bench/bench.svg"))


main()
