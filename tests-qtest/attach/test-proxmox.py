#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-attach and guests of Proxmox', with a stand-in for qm that checks what it
is told (lib/proxmox.py)."""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import unittest

import proxmox
import vbios
from namespace import mounted
from vbios_case import TOP, Case, main, tool_path

FILES = pathlib.Path("/usr/share/vgabios")
IDS = "sub-vendor-id=0x17aa,sub-device-id=0x3978"
FULL = "VFIO_OPTIMUS_FULL" in os.environ
PLACES = {"q35": r"\_SB.PCI0.SE0.S00", "pc": r"\_SB.PCI0.S80"}


class Proxmox(Case):

    name = "optimus-attach"
    CARDS = {"0000:01:00.0": ("10de:139b", "17aa:3978", None, 1),
             "0000:01:00.1": ("10de:0fb9", "17aa:3978", None, 1),
             "0000:02:00.0": ("8086:24fd", "8086:1010", "iwlwifi", 2)}

    def setUp(self):
        super().setUp()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.sys = stack.enter_context(mounted("/sys", "-t", "tmpfs", "none"))
        share = stack.enter_context(mounted("/usr/share", "-t", "tmpfs", "none"))
        cfg = share / "qemu-server"
        cfg.mkdir()
        (cfg / "pve-q35-4.0.cfg").write_text(proxmox.q35_config())
        for bdf, facts in self.CARDS.items():
            self.set_card(bdf, *facts)
        self.path = tool_path(self.dir, "iasl")
        self.qm()
        self.rom = self.put("v.rom", vbios.make(size=1024))
        self.state = self.dir / "state"
        self.set_guests({"100": {"machine": "q35"}})

    def set_card(self, bdf, ids, sub, driver, group):
        card = self.sys / "bus/pci/devices" / bdf
        card.mkdir(parents=True, exist_ok=True)
        for name, value in zip(("vendor", "device", "subsystem_vendor",
                                "subsystem_device"), (ids + ":" + sub).split(":")):
            (card / name).write_text(f"0x{value}\n")
        (card / "driver").unlink(missing_ok=True)
        if driver:
            (card / "driver").symlink_to(f"../../drivers/{driver}")
        devices = self.sys / f"groups/{group}/devices"
        devices.mkdir(parents=True, exist_ok=True)
        (devices / bdf).touch()
        (card / "iommu_group").unlink(missing_ok=True)
        (card / "iommu_group").symlink_to(devices.parent)

    def qm(self, before="", after=""):
        """The program, with commands of a shell around it."""
        tool_path(self.dir, "qm", f"{before}\n'{sys.executable}' "
                  f"'{TOP}/tests-qtest/lib/proxmox.py' '{self.dir}/state' \"$@\"\n"
                  f"status=$?\n{after}\nexit $status")

    def set_guests(self, guests, running=False, pending=None):
        self.state.write_text(json.dumps({
            number: {"config": config, "running": running, "pending": pending or {}}
            for number, config in guests.items()}))

    def config(self, number="100"):
        guest = json.loads(self.state.read_text())[number]
        return {**guest["config"], **guest["pending"]}

    def attach(self, *args, guest="100", card="01:00.0", yes=("--yes",), **how):
        return self.good(guest, card, self.rom, *args, *yes, path=self.path, **how)

    def refused(self, *args, says, **how):
        before = self.state.read_text()
        self.bad(*(args or ("100", "01:00.0", self.rom, "--yes")), says=says,
                 path=self.path, **how)
        self.assertEqual(self.state.read_text(), before)
        self.assertFalse(FILES.exists() and any(FILES.iterdir()))

    def undo(self, **how):
        return self.good("--undo", "100", "--yes", path=self.path, **how)

    def check(self, scope, config=None):
        """The guest has the card with its IDs, and the tables for that place."""
        config = config or self.config()
        words = proxmox.command_line("100", config)
        cards = [word for word in words if word.startswith("vfio-pci,host=0000:01:00.0")]
        self.assertEqual(len(cards), 1, words)
        self.assertIn("x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978", cards[0])
        tables = [pathlib.Path(word.removeprefix("file=")) for before, word
                  in zip(words, words[1:]) if before == "-acpitable"]
        self.assertEqual([table.name for table in tables],
                         ["rom-00.aml", "rom-method.aml"])
        rest = [path for path in FILES.glob("optimus-100/*/*") if path not in tables]
        self.assertEqual(rest, [])
        names = scope.encode().split(b".")
        self.assertIn(b"".join(name.ljust(4, b"_") for name in names[1:]),
                      tables[-1].read_bytes())
        return cards[0]

    def test_attach_and_undo(self):
        for machine, scope in PLACES.items():
            before = {"machine": machine, "args": "-cpu 'host,kvm=off'", "memory": "512"}
            self.set_guests({"100": before})
            said = self.attach()
            config = self.config()
            pcie = ",pcie=1" if machine == "q35" else ""
            self.assertEqual(config["hostpci0"], f"0000:01:00.0{pcie},{IDS}")
            self.assertTrue(config["args"].startswith("-cpu 'host,kvm=off' -acpitable "))
            self.check(scope)
            for line in said.splitlines():
                if line.startswith("    qm set 100 --"):
                    key, value = shlex.split(line)[3:]
                    self.assertEqual(config[key[2:]], value)
            self.assertIn("The guest '100' is as it should be.", self.attach())
            self.assertEqual(self.config(), config)
            self.undo()
            self.assertEqual(self.config(), before)
            self.assertFalse((FILES / "optimus-100").exists())

    def test_assigned_already(self):
        """With the GPU second, IDs, blanks, booleans of Proxmox', and at any place."""
        for line, scope in (
                ("0000:01:00.0,pcie=on,rombar=0", "SE0.S00"),
                ("0000:01:00.1;0000:01:00.0,pcie=1", None),
                ("host=0000:01:00.0,x-vga=1", "SF0.S08.S80"),
                (f"0000:01:00.0,pcie=1,{IDS}", "SE0.S00"),
                ("0000:01:00.0,pcie=1,sub-vendor-id=0x17aa", "SE0.S00")):
            before = {"machine": "pc-q35-9.2+pve1", "hostpci0": line}
            self.set_guests({"100": before})
            self.attach()
            if scope:
                self.check(r"\_SB.PCI0." + scope)
            elif "\\_SB" not in line:
                method = next(FILES.glob("optimus-100/*/rom-method.aml"))
                self.assertIn(b"PCI0SE0_S01_", method.read_bytes())
            self.assertTrue(self.config()["hostpci0"].startswith(line))
            self.undo()
            self.assertEqual(self.config(), before)

    def test_every_place(self):
        """Bus and address are QEMU's own business."""
        # each of the first four has an address of its own, the others count up
        for i in range(16) if FULL else (0, 1, 2, 3, 4, 15):
            for machine, pcie in (("q35", ",pcie=1"), ("q35", ""), ("pc", "")):
                self.set_guests({"100": {"machine": machine, f"hostpci{i}":
                                         f"0000:01:00.0{pcie},{IDS}"}})
                self.attach()
                scope = "SF0.S08." if machine == "q35" else ""
                if pcie and i < 4:
                    scope = f"S{0x1c << 3 | i:02X}.S00"
                elif pcie:
                    scope = f"S{0x80 + i - 4:02X}.S00"
                elif i < 4:
                    scope += ("S80", "S88", "SD8", "SE0")[i]
                else:
                    scope = f"{'SF0.S18' if machine == 'q35' else 'SF8'}." \
                            f"S{(0x0d + i - 4) << 3:02X}"
                self.check(r"\_SB.PCI0." + scope)
                self.undo()

    def test_after_a_change(self):
        """Another place, another ROM: the old tables go, and undo knows all."""
        self.attach()
        config = self.config()
        self.set_guests({"100": {**config, "hostpci3": config["hostpci0"]}})
        state = json.loads(self.state.read_text())
        del state["100"]["config"]["hostpci0"]
        self.state.write_text(json.dumps(state))
        self.rom = self.put("v.rom", vbios.make(size=1024, seed=2))
        self.attach()
        self.check(r"\_SB.PCI0.SE3.S00")
        # what the user has changed since, stays
        state = json.loads(self.state.read_text())
        state["100"]["config"]["args"] += " -cpu max"
        self.state.write_text(json.dumps(state))
        self.undo()
        self.assertEqual(self.config()["args"], "-cpu max")

    def test_options(self):
        self.attach("--function")
        self.assertTrue(self.config()["hostpci0"].startswith(
            "0000:01:00.0;0000:01:00.1,pcie=1,"))
        self.undo()
        said = self.attach("--dry-run", yes=())
        self.assertIn("--hostpci0 '0000:01:00.0,pcie=1,", said.replace("=1,", "=1,"))
        self.assertIn("Nothing was changed.", said)
        self.assertEqual(self.config(), {"machine": "q35"})

    def test_asks(self):
        for answer, changed in (("n\n", False), ("", False), ("y\ny\n", True)):
            run = self.run_tool("100", "01:00.0", self.rom, path=self.path, input=answer)
            self.assertEqual("hostpci0" in self.config(), changed)
            self.assertEqual(run.returncode, 0 if changed else 1)

    def test_pending(self):
        for pending in ({"args": "-cpu max"}, {"machine": None}, {"hostpci1": "02:00.0"}):
            self.set_guests({"100": {"machine": "q35", "hostpci0": "0000:01:00.0,pcie=1"}},
                            True, pending)
            self.refused(says="shut it down, then run this again")

    def test_running(self):
        self.set_guests({"100": {"machine": "q35"}}, True)
        self.refused(says="the guest 100 runs, and only when it is off")
        self.set_guests({"100": {"machine": "q35", "hostpci0": "0000:01:00.0,pcie=1"}}, True)
        self.assertIn("it runs, so shut it down and start it", self.attach())
        self.check(PLACES["q35"])

    def test_refused(self):
        self.refused("101", "01:00.0", self.rom, says="101.conf' does not exist")
        self.refused("100", "05:00.0", self.rom, says="no card at 0000:05:00.0")
        self.refused("100", "1.0", self.rom, says="not the address of a card")
        self.refused("100", "01:00.0", self.dir / "no", says="cannot be read")
        self.refused("--undo", "100", says="has nothing of optimus-attach's")
        self.set_card("0000:01:00.1", "10de:0fb9", "17aa:3978", "snd_hda_intel", 1)
        self.refused(says="a function of its own: add --function")
        self.set_card("0000:03:00.0", "8086:24fd", "8086:1010", "iwl\x1bwifi", 1)
        self.refused("100", "01:00.0", self.rom, "--function",
                     says="with 0000:03:00.0 (iwl\\x1bwifi), and a group")
        shutil.rmtree(self.sys / "groups")
        self.refused(says="is in no IOMMU group")

    def test_rom_is_judged(self):
        self.rom = self.put("v.rom", vbios.make(size=1024, device=0x1234))
        self.refused(says="10de:1234")
        self.attach("--force")
        self.undo()
        self.rom = self.put("v.rom", vbios.make(size=1024, kind=3))
        self.refused("100", "01:00.0", self.rom, says="x86")

    def test_in_another_guest(self):
        self.set_guests({"100": {"machine": "q35"}, "101": {
            "machine": "q35", "hostpci2": "0000:01:00.0,pcie=1"}})
        self.refused(says="the guest '101' has 0000:01:00.0 already")
        self.attach("--force")

    def test_quotes(self):
        """Nothing goes through a shell, and lines can be pasted into one."""
        args = "-name 'a b$(touch bad)`touch bad`' -fw_cfg name=x,string=\"1;2\""
        self.set_guests({"100": {"machine": "q35", "args": args}})
        said = self.attach()
        self.assertTrue(self.config()["args"].startswith(args + " -acpitable"))
        lines = [line for line in said.splitlines() if line.startswith("    qm set")]
        for line in lines:
            words = subprocess.run(["bash", "-c", f"qm() {{ printf '%s\\0' \"$@\"; }};{line}"],
                                   check=True, stdout=subprocess.PIPE,
                                   text=True).stdout.split("\0")
            self.assertEqual(words[3], self.config()[words[2][2:]])
        self.undo()
        self.assertEqual(self.config()["args"], args)
        self.assertFalse((self.dir / "bad").exists())

    def test_killed(self):
        """Before and after each call of qm, and while tables are compiled: what is
        there starts, and a second run finishes."""
        before = {"machine": "q35", "args": "-cpu max"}
        done = False
        for count in range(1, 40):
            for when in ("before", "after"):
                self.set_guests({"100": before})
                shutil.rmtree(FILES, ignore_errors=True)
                counter = self.put("count", b"0")
                kill = f"n=$(cat '{counter}'); n=$((n + 1)); echo $n >'{counter}'\n" \
                       f"[ $n != {count} ] || kill -KILL $PPID"
                self.qm(**{when: kill if when == "before" else ""})
                if when == "after":
                    self.qm(after=kill)
                run = self.run_tool("100", "01:00.0", self.rom, "--yes", path=self.path)
                self.assertIn(run.returncode, (0, -signal.SIGKILL))
                done = not run.returncode
                for table in shlex.split(self.config()["args"]):
                    if table.startswith("file="):
                        self.assertTrue(pathlib.Path(table[5:]).exists())
                self.qm()
                self.attach()
                self.check(PLACES["q35"])
                self.undo()
                self.assertEqual(self.config(), before)
            if done:
                break
        self.assertTrue(done)
        self.assertGreater(count, 8)


if __name__ == "__main__":
    main()
