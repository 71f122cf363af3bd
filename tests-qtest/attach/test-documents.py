#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page of optimus-attach."""

import re

from vbios_case import TOP, Case, main


class Documents(Case):

    name = "optimus-attach"

    def test_man_page(self):
        page = (TOP / "hw-optimus/attach/optimus-attach.1").read_text().replace("\\-", "-")
        options = set(re.findall("--[a-z-]+", self.good("--help")))
        self.assertGreater(len(options), 6)
        for option in options:
            self.assertIn(option, page)

    def test_usage(self):
        for args in ((), ("guest",), ("a", "b", "c", "d"), ("--undo",), ("--no-such",)):
            self.bad(*args, says="; see --help")


if __name__ == "__main__":
    main()
