# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/bench measured, as a table, a picture and the text of a README."""

import math

KIB = 1 << 10
LOOPS = ["fwcfg-mid", "fwcfg-field"]
WAYS = {
    "optimus": "vfio-optimus",
    "buffer": "ROM as AML buffer (bound)",
    "ssdt": "optimus-vbios ssdt",
    "segments": "32 KiB segments (patched OVMF)",
    "field": "one field (coreboot)",
    "fwcfg-mid": "fw_cfg loop (lion328)",
    "fwcfg-field": "fw_cfg loop (jscinoz)",
}
DRIVERS = {"nvidia": "NVIDIA, 4 KiB steps", "nouveau": "nouveau"}


def number(value):
    """Three digits, or as many as there are before the point."""
    if math.isinf(value):
        return "never"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(max(value, 0.01))))}f}"


def duration(ms):
    return f"{number(ms / 1000)} s" if ms >= 1000 else f"{number(ms)} ms"


def find(results, way, size, driver, read):
    return next(entry for entry in results["reads"] if
                (entry["way"], entry["size"], entry["driver"], entry["read"]) ==
                (way, size, driver, read))


def nvidia_table(results):
    if not results["nvidia"]:
        return ["NVIDIA's own driver was not measured (VFIO_OPTIMUS_NONFREE=yes "
                "scripts/bench downloads and measures it)"]
    lines = ["NVIDIA's own driver and a fake GPU, ROM of two images: its calls of "
             "`_ROM`, the least time of all of them, what it was given of the ROM, and "
             "whether it executed the init script there.", "",
             "| driver | way | calls | time | given | executed |",
             "|---|---|---:|---:|---|---|"]
    for entry in results["nvidia"]:
        lines.append(f"| {entry['driver']} | {WAYS[entry['way']]} "
                     f"| {entry['calls']} | {duration(min(entry['ms']))} "
                     f"({number(entry['to_optimus'])}×) "
                     f"| {entry['given']} | {'yes' if entry['taken'] else 'no'} |")
    return lines


def print_table(results):
    sizes = sorted({entry["size"] for entry in results["reads"]})
    rows = []
    for size in sizes:
        for driver, title in DRIVERS.items():
            for read in ["first", "again"]:
                rows.append((f"{size // KIB} KiB, {title}, " + (
                    "first read" if read == "first" else "repeated"), None))
                for way, text in {**WAYS,
                                  "in-place": "vfio-optimus, its own node"}.items():
                    rows.append((text, find(results, way, size, driver, read)))
    print(f"\n{'':34}{'median':>10}{'quartiles':>22}{'n':>4}"
          f"{'to vfio-optimus':>17}{'to bound':>10}   (ratios: of the least times)")
    for text, entry in rows:
        if not entry:
            print(f"\n{text}")
            continue
        if "failed" in entry:
            print(f"  {text:32}{'fails':>10}  {entry['failed']}")
            continue
        scaled = entry["measured"] != entry["size"]
        note = ""
        if scaled:
            note = f"  of {entry['measured'] // KIB} KiB"
            if entry["read"] == "first":
                note += f", times {entry['size'] // entry['measured']}"
        ratios = [number(entry[key]) if key in entry else "-"
                  for key in ["to_optimus", "to_buffer"]]
        spread = f"{number(entry['low'])}-{number(entry['high'])} ms"
        print(f"  {text:32}{duration(entry['median']):>10}{spread:>22}"
              f"{entry['n']:>4}{ratios[0]:>17}{ratios[1]:>10}{note}")

    print(f"\n{'':34}{'AML':>9}{'kernel heap':>13}{'QEMU tables':>13}{'initrd':>8}")
    for size in sizes:
        for way, text in WAYS.items():
            cost = results["costs"][f"{way}-{size}"]
            tables = (f"{cost['tables']:+d} B" if "tables" in cost
                      else "too large")
            moved = f"{cost['initrd']:+d}" if "initrd" in cost else ""
            print(f"  {text:32}{cost['aml']:>7} B{cost['heap_kib']:>9.0f} KiB"
                  f"{tables:>13}{moved:>8}  {size // KIB} KiB" +
                  (f", heap of {cost['heap_of'] // KIB} KiB"
                   if cost["heap_of"] != size else ""))
    print('  "too large": -acpitable takes 64 KiB.  The heap is exact to some KiB.')
    print("\n" + "\n".join(nvidia_table(results)))
    print("\n" + "\n".join(facts(results)))
    print("\nAimed at, and the result (times decide nothing):")
    print("\n".join(goals(results)))


def goals(results):
    """What was aimed at, and what came of it."""
    size = min(entry["size"] for entry in results["reads"])

    def to(way, driver, read="first", other="optimus"):
        entry = find(results, way, size, driver, read)
        return math.inf if "failed" in entry else entry["to_" + other]

    rows = []

    def goal(text, value, met):
        rows.append(f"  {'met' if met else 'missed':8}{text}: {number(value)}")

    least = min(to(way, driver) for way in LOOPS for driver in DRIVERS)
    goal("first read, times faster than the fw_cfg loops, at least 500", least,
         least >= 500)
    for way in ["segments", "field"]:
        least = min(to(way, "nvidia", read) for read in ["first", "again"])
        goal(f"4 KiB steps, times faster than {WAYS[way]}, at least 8", least,
             least >= 8)
    most = max(to("optimus", "nvidia", read, "buffer") for read in ["first", "again"])
    goal(f"{DRIVERS['nvidia']}, times the bound, at most 3", most, most <= 3)
    for key in ["start", "boot", "unused"]:
        low, high = results[key]["low"], results[key]["high"]
        goal(f"{key}, ratio, 1 within {low:.3f}-{high:.3f}",
             results[key]["median"], low <= 1 <= high)
    goal("start of QEMU with the plugin, ms more, at most 5", results["load_ms"],
         results["load_ms"] <= 5)
    worst = min(line["r2"] for line in results["growth"].values())
    goal("time is linear in the size, R^2 at least 0.99", worst, worst >= 0.99)
    return rows


def measured(seconds, how):
    return f"{seconds:.0f} s" if seconds else f"not measured ({how})"


def facts(results):
    moved = results["memory"]["difference"]
    growth, devices = results["growth"], results["devices"]
    effort = results["effort_s"]
    lines = [
        f"guest RAM taken: {-moved['ram']} bytes by the firmware's memory map, "
        f"{-moved['total_kib']} KiB of MemTotal; the guest's DSDT moved by "
        f"{moved['dsdt']} bytes, its initrd by {moved['initrd']}",
    ]
    for key, what in [("start", "start of QEMU in the lab, to vfio-pci"),
                      ("boot", "boot of a guest, to one of QEMU without the plugin"),
                      ("unused", "the same without the device")]:
        entry = results[key]
        lines.append(f"{what}: {entry['median']:.3f} times "
                     f"({entry['low']:.3f}-{entry['high']:.3f}, {entry['n']} pairs)")
    lines.append("start of QEMU with the plugin, with all that it looks at in QEMU: "
                 f"{results['load_ms']:+.1f} ms")
    for driver, title in DRIVERS.items():
        line = growth[driver]
        lines.append(
            f"{title}, 64 to 856 KiB: {line['slope'] * 1000:.1f} us a KiB, "
            f"{line['base']:.2f} ms at 0, R^2 = {line['r2']:.5f}")
    lines += [
        "1, 2, 4, 8 devices: AML " + ", ".join(map(str, devices["aml"])) +
        f" bytes; read of 64 KiB {min(devices['read_ms']):.2f}-"
        f"{max(devices['read_ms']):.2f} ms; QEMU's start "
        f"{devices['start_ms']['slope']:+.2f} ms a device "
        f"(R^2 = {devices['start_ms']['r2']:.2f})",
        "building: the plugin again "
        f"{measured(effort['plugin, again'], '')}, from a fresh clone with all "
        f"downloads {measured(effort['plugin, from a clone'], 'left out or failed')}, "
        f"QEMU with the series {measured(effort['tree'], 'run scripts/build-tree')}",
    ]
    failed = {entry["failed"] for entry in results["reads"] if "failed" in entry}
    if failed:
        lines.append(f"fails: {', '.join(sorted(failed))}; Linux stops a method "
                     "that loops for 30 seconds")
    return lines


def svg(results):
    """Bars on a log axis: the first read of one ROM, by both drivers."""
    size = min(entry["size"] for entry in results["reads"])
    ways = list(WAYS)
    left, right, top, step = 250, 130, 104, 26
    width = 900
    entries = {driver: [find(results, way, size, driver, "first") for way in ways]
               for driver in DRIVERS}
    values = [entry["median"] for group in entries.values() for entry in group
              if "median" in entry]
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    plot = width - left - right

    def x(value):
        return left + plot * (math.log10(value) - low) / (high - low)

    parts, y, bold = [], top, ' class="b"'
    for driver, title in [("nvidia", "NVIDIA's driver: calls of 4 KiB"),
                          ("nouveau", "nouveau: two calls, then 4 KiB a call")]:
        parts.append(f'<text x="20" y="{y}" class="b">{title}</text>')
        y += 10
        for way, entry in zip(ways, entries[driver]):
            ours = way == "optimus"
            if "failed" in entry:
                parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">'
                             f'{WAYS[way]}</text><text x="{left + 6}" y="{y + 15}">'
                             f'fails: {entry["failed"]}</text>')
                y += step
                continue
            color = "#0a7d4f" if ours else "#9aa5b1" if way == "buffer" else "#c2571a"
            ms = entry["median"]
            factor = "" if ours else f" · {number(entry['to_optimus'])}×"
            about = "≈ " if entry["measured"] != size else ""
            parts.append(
                f'<text x="{left - 8}" y="{y + 15}" text-anchor="end"'
                f'{bold if ours else ""}>{WAYS[way]}</text>'
                f'<rect x="{left}" y="{y + 2}" width="{x(ms) - left:.1f}" height="18" '
                f'rx="2" fill="{color}"/>'
                f'<text x="{x(ms) + 6:.1f}" y="{y + 15}">{about}{duration(ms)}'
                f'{factor}</text>')
            y += step
        y += 30
    bottom = y - 30
    axis = []
    for power in range(low, high + 1):
        at = x(10 ** power)
        text = f"{10 ** power:g} ms" if power < 3 else f"{10 ** (power - 3):g} s"
        axis.append(f'<line x1="{at:.1f}" y1="{top - 14}" x2="{at:.1f}" '
                    f'y2="{bottom}" stroke="#e1e5ea"/>'
                    f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle" '
                    f'class="s">{text}</text>')
    height = bottom + 66
    notes = ["Shorter is better; each line stands for ten times the one before. "
             "×: times what vfio-optimus takes.",
             "Grey: the least that AML can take, at the price of the ROM in the "
             "kernel's memory."]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>Time to read a VBIOS of {size // KIB} KiB from ACPI _ROM</title>
<style>text {{ font: 13px sans-serif; fill: #1f2933 }} .b {{ font-weight: bold }}
.h {{ font: bold 17px sans-serif }} .s {{ font-size: 11px; fill: #52606d }}</style>
<rect width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="#cbd2d9"/>
<text x="20" y="30" class="h">First read of a {size // KIB} KiB VBIOS by a guest's driver</text>
<text x="20" y="50" class="s">{notes[0]}</text>
<text x="20" y="66" class="s">{notes[1]}</text>
{chr(10).join(axis)}
{chr(10).join(parts)}
<text x="20" y="{height - 14}" class="s">Guest under TCG, median. {results['date']}, {results['machine'].replace('&', 'and')}</text>
</svg>
"""


def readme(results):
    sizes = sorted({entry["size"] for entry in results["reads"]})
    lines = [
        "A driver's first read of the VBIOS, in a guest under TCG (`scripts/bench`, "
        f"{results['date']}, {results['machine']}): the median, and how "
        "many times as long as vfio-optimus it takes at the least.", "",
        "![Time of a first read, by way](bench/bench.svg)", "",
        "| | " + " | ".join(f"NVIDIA, {size // KIB} KiB | nouveau, {size // KIB} KiB"
                            for size in sizes) + " | AML | kernel heap |",
        "|---|" + "---:|" * (2 * len(sizes) + 2)]
    for way, text in WAYS.items():
        cells = []
        for size in sizes:
            for driver in DRIVERS:
                entry = find(results, way, size, driver, "first")
                if "failed" in entry:
                    cells.append(f"fails: {entry['failed']}")
                    continue
                factor = ("" if way == "optimus" else
                          f" ({number(entry['to_optimus'])}×)")
                cells.append(duration(entry["median"]) + factor)
        cost = results["costs"][f"{way}-{sizes[0]}"]
        lines.append(f"| {text} | " + " | ".join(cells) +
                     f" | {cost['aml']} B | {max(0, cost['heap_kib']):.0f} KiB |")
    lines += ["", *nvidia_table(results), "",
              *[f"- {line}" for line in facts(results)]]
    return "\n".join(lines)
