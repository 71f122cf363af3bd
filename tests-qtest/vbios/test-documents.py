#!/usr/bin/python3
"""The manual page of optimus-vbios and the completion of its options."""

import re
import subprocess

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

    def complete(self, line):
        words = line.split(" ")
        out = subprocess.run(
            ["bash", "-c", """
                . "$0"
                compopt() { :; }
                COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=("${@:2}")
                COMP_CWORD=$(($# - 2))
                _optimus_vbios
                printf '%s\\n' "${COMPREPLY[@]}"
            """, self.SOURCE / "completion.bash", line, *words],
            check=True, stdout=subprocess.PIPE, text=True, cwd=self.dir)
        return set(out.stdout.split())

    def test_completion(self):
        self.assertEqual(self.complete("optimus-vbios "),
                         {*COMMANDS, "--help"})
        offered = set()
        for command in COMMANDS:
            offered |= self.complete(f"optimus-vbios {command} --")
        self.assertEqual(offered, self.options())
        self.put("vbios.rom", b"")
        (self.dir / "vdir").mkdir()
        self.assertEqual(self.complete("optimus-vbios info v"),
                         {"vbios.rom", "vdir"})
        for command in ("extract", "ssdt"):
            self.assertEqual(self.complete(f"optimus-vbios {command} f -o v"),
                             {"vdir"})


if __name__ == "__main__":
    main()
