# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's report: its rows, and the next step."""

import json
import os
import shlex
import shutil
import textwrap

from .common import COMMAND, clean, command

# hint: to know, nothing is wrong
EXIT = {"ok": 0, "hint": 0, "warning": 2, "problem": 3}
COLOURS = {"ok": 32, "hint": 36, "warning": 33, "problem": 31}
INDENT = 18


class Report:
    """The rows of the table, each of the machine or of a card."""

    def __init__(self):
        self.rows = []
        self.card = None
        self.next = None

    def add(self, status, check, text, mend=None, if_so=None):
        """@mend helps now; @if_so only if what @text says applies."""
        self.rows.append({"card": self.card, "check": check, "status": status,
                          "text": clean(text), "mend": mend and clean(command(mend)),
                          "if_so": if_so and clean(command(if_so))})

    def worst(self):
        return max((row["status"] for row in self.rows), key=EXIT.get)

    def next_step(self, cards, rom, wanted):
        if not cards:
            step = f"once the kernel sees the card: {COMMAND}"
        elif self.worst() == "problem":
            step = "do what stands below the problems, from the first one on; then the " \
                   f"doctor again: {COMMAND}"
        elif len(cards) > 1:
            step = f"choose a card: {COMMAND} {cards[0].bdf}"
        elif wanted.get(cards[0].bdf) is False and not rom:
            step = "give the guest the card as any other, with plain vfio-pci"
        elif not rom:
            step = f"with a VBIOS in a file: {COMMAND} {cards[0].bdf} --rom vbios.rom"
        else:
            step = f"optimus-attach GUEST {cards[0].bdf} {shlex.quote(rom)}"
        self.next = clean(command(step))

    def json(self):
        return json.dumps({"status": self.worst(), "next": self.next, "rows": self.rows},
                          indent=2)

    def text(self, terminal=False):
        """For a terminal as wide as that is; commands stay as they are, in one line."""
        width = max(shutil.get_terminal_size().columns, 40) if terminal else None
        colours = (terminal and not os.environ.get("NO_COLOR") and
                   os.environ.get("TERM", "dumb") != "dumb")

        def wrap(text):
            return text if not width else textwrap.fill(
                text, width, subsequent_indent=" " * INDENT, break_long_words=False,
                break_on_hyphens=False)

        card = None
        lines = []
        for row in self.rows:
            if row["card"] != card or not lines:
                card = row["card"]
                lines.append(("\n" if lines else "") + (card or "this machine"))
            line = wrap(f"{row['status']:<8} {row['check']:<8} {row['text']}")
            if colours:
                line = line.replace(row["status"], f"\033[{COLOURS[row['status']]}m"
                                    f"{row['status']}\033[m", 1)
            lines.append(line)
            for key, name in ("mend", "mend"), ("if_so", "if so"):
                if row[key]:
                    lines.append(f"{'':<{INDENT}}{name}: {row[key]}")
        count = [sum(row["status"] == status for row in self.rows)
                 for status in ("problem", "warning")]
        lines += ["", f"problems: {count[0]}, warnings: {count[1]}"]
        if self.next:
            lines.append(f"next: {self.next}")
        return "\n".join(lines)
