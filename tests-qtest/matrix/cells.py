# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of matrix-cells, and the firmware that is in their columns."""

import hashlib
import os
from collections import namedtuple

from machine import PLUGINS

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.normpath(os.path.join(HERE, "../.."))
BUILD = os.path.join(TOP, "build")
ROOT = os.path.join(BUILD, "root")
SSDT_TOOL = os.path.join(PLUGINS, "../vbios/optimus-vbios")

# firmware: package, in which folder of build/root, and its file; memory: what
# the guest's memory map has to say of the ROM, which QEMU 7.2 cannot claim
Column = namedtuple("Column", "qemu package root file kind memory")
SEABIOS = ("seabios", "seabios/bios-256k.bin", "s")
OVMF = ("ovmf", "OVMF/OVMF_CODE_4M.fd", "u")
SECURE_OVMF = ("ovmf", "OVMF/OVMF_CODE_4M.secboot.fd", "x")
NEWEST_OVMF = ("ovmf-generic", "OVMF/OVMF_CODE_4M.fd", "u")
COLUMNS = {
    f"{kind}{debian}": Column(qemu, package, root, file, kind, memory)
    for debian, qemu, root, memory, firmware in (
        ("12", "qemu-7.2", "qemu-7.2", "not listed", (SEABIOS, OVMF, SECURE_OVMF)),
        ("13", "qemu-10.0", "firmware-13", "reserved", (SEABIOS, OVMF, SECURE_OVMF)),
        ("14", "qemu-11.1", "qemu-11.1", "reserved", (SEABIOS,)),
        ("14", "qemu-11.1", "firmware-14", "reserved", (NEWEST_OVMF,)))
    for package, file, kind in firmware}

Row = namedtuple("Row", "group what columns machine devices expected options "
                 "note")
Cell = namedtuple("Cell", "name row column")


def read_rows():
    rows, group = [], None
    with open(os.path.join(HERE, "matrix-cells")) as lines:
        for line in map(str.strip, lines):
            if line.startswith("= "):
                group = line[2:]
            elif line and not line.startswith("#"):
                fields = [field.strip() for field in line.split("|")] + ["", ""]
                what, columns, machine, devices, expected, options, note = fields[:7]
                rows.append(Row(group, what, columns.split(), machine,
                                devices.split(), expected,
                                dict(option.split("=", 1) for option in
                                     options.split()), note))
    return rows


def read_cells(rows, slice_only):
    return [Cell(f"{row.what}, {column.rstrip('*')}", row, column.rstrip("*"))
            for row in rows for column in row.columns
            if column.rstrip("*") in COLUMNS
            and (column.endswith("*") or not slice_only)]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read_text(path):
    with open(path, errors="replace") as file:
        return file.read()


def fingerprint(cell):
    """Changes with what is tested and with the line of the cell."""
    tested = SSDT_TOOL if "ssdt" in cell.row.options else os.path.join(
        PLUGINS, "test-optimus.so")
    with open(tested, "rb") as file:
        row = cell.row._replace(columns=None, note=None)
        return sha256(file.read() + repr(row).encode())
