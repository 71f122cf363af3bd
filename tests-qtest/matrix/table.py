# SPDX-License-Identifier: GPL-2.0-or-later
"""The results, and the table of them in the README."""

import json
import os
import re
import sys
import textwrap

from cells import (BUILD, COLUMNS, ROOT, TOP, fingerprint, read_cells,
                   read_text)

RESULTS = os.path.join(BUILD, "matrix.json")
README = os.path.join(TOP, "tests-qtest/README.md")


def load_results():
    try:
        with open(RESULTS) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def replace_file(path, text):
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(text)
    os.rename(temporary, path)


def version(root, package):
    packages = read_text(os.path.join(ROOT, root, "packages"))
    return re.search(rf" {package}_(?:\d%3a)?([\d.]+)", packages).group(1)


def is_there(column):
    """Whether Debian's archive still had that QEMU and that firmware."""
    qemu, _, root = COLUMNS[column][:3]
    return (all(os.path.exists(os.path.join(ROOT, name, "packages"))
                for name in (qemu, root))
            and version(qemu, "qemu-system-x86").startswith(
                qemu.removeprefix("qemu-")))


def missing(column):
    qemu, package, _ = COLUMNS[column][:3]
    return f"Debian's archive does not have {qemu}, or {package} for it"


def heading(column):
    kind, package = COLUMNS[column].kind, COLUMNS[column].package
    name = "SeaBIOS" if package == "seabios" else "OVMF"
    return (f"{name} {version(COLUMNS[column].root, package)}"
            + (", Secure Boot code" if kind == "x" else ""))


def table_lines(rows, results):
    """Rows of a group with equal results are one line."""
    merged = {}
    for row in rows:
        columns = [column.rstrip("*") for column in row.columns]
        said = tuple(results[f"{row.what}, {column}"]["result"]
                     if column in columns else "" for column in COLUMNS)
        merged.setdefault((row.group, said), []).append(row.what)
    return merged


def write_table(rows):
    for column in [column for column in COLUMNS if not is_there(column)]:
        print(f"# not in the table: {missing(column)}")
        del COLUMNS[column]
    cells = read_cells(rows, False)
    results = load_results()
    not_run = [cell.name for cell in cells if cell.name not in results or
               results[cell.name]["fingerprint"] != fingerprint(cell)]
    if not_run:
        sys.exit(f"test-matrix: {len(not_run)} of {len(cells)} cells were not "
                 "run with the plugin as it is now; run test-matrix --full "
                 f"(or --only).  The first one is: {not_run[0]}")
    shown = {"ok": "ok", "error": "error", "failed": "**failed**", "": ""}
    qemus = {column.qemu: version(column.qemu, "qemu-system-x86")
             for column in COLUMNS.values()}
    lines = ["| | | " + " | ".join(
        f"{heading(column)}, QEMU {qemus[COLUMNS[column].qemu]}"
        for column in COLUMNS) + " |", "|" + "---|" * (2 + len(COLUMNS))]
    last = None
    for (group, said), whats in table_lines(rows, results).items():
        lines.append("| " + " | ".join(
            [group if group != last else "", "; ".join(whats),
             *(shown[word] for word in said)]) + " |")
        last = group
    memory = {column: " or ".join(sorted(
        {results[cell.name]["memory"] for cell in cells
         if cell.column == column and results[cell.name]["memory"]}))
        for column in COLUMNS}
    lines.append("| Memory map | what it says of the ROM window | "
                 + " | ".join(memory.values()) + " |")
    good = sum(results[cell.name]["result"] != "failed" for cell in cells)
    errors = ", ".join(f"{row.what} (`{row.expected[6:].strip()}`)"
                       for row in rows if row.expected.startswith("error:"))
    lines += ["", *textwrap.wrap(
        f"{good} of {len(cells)} are as expected. *ok*: the guest found each "
        "card's `_ROM` through the ACPI companion of its PCI device, and what "
        "it read has the SHA-256 of the file. *error*: QEMU stops and says "
        f"why: {errors}. Empty: not tried. Unless said otherwise the ROM has "
        "103936 bytes, the guest 384 MiB and Linux 6.1."
        + "".join(f" {row.what}: {row.note}." for row in rows if row.note), 118)]
    text = read_text(README)
    begin, end = "<!-- matrix -->\n", "<!-- /matrix -->"
    if begin not in text or end not in text:
        sys.exit(f"test-matrix: {README} has no lines {begin.strip()} and {end}")
    head, rest = text.split(begin)
    replace_file(README, head + begin + "\n".join(lines) + "\n" + end
                 + rest.split(end)[1])
