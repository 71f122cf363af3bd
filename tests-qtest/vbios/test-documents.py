#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page of optimus-vbios."""

import re

from vbios_case import TOP, Case, main

COMMANDS = ("info", "trim", "extract", "dump", "ssdt")


class Documents(Case):

    SOURCE = TOP / "hw-optimus/vbios"

    def options(self):
        text = "".join(self.good(command, "--help") for command in COMMANDS)
        return set(re.findall(r"--[a-z-]+", text))

    def test_man_page(self):
        page = (self.SOURCE / "optimus-vbios.1").read_text()
        for option in self.options():
            self.assertIn(option, page.replace("\\-", "-"))


if __name__ == "__main__":
    main()
