#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""guest-check."""

import os
import random
import re
import subprocess
import tempfile

import program_tree
import vbios
from doctor_case import (BDF, GUEST_PROGRAMS, PLUGIN, TOP, Device, DoctorTest,
                  add_debian_program, method, pci)
from machine import Machine, with_plugin
from tap import need, tap_main


ROM = "Method (_ROM, 2) { Return (Buffer (Arg1) {}) }"

# What firmware has beside and around a _ROM, and the nodes that have one
ASL = {
    "what looks like a scope before it": (
        "Name (SMBL, 0x10) OperationRegion (GNVS, SystemMemory, 0x1000, 0x100) "
        "Field (GNVS, AnyAcc, NoLock, Preserve) { A000, 8, Offset (0x10), B000, 32 } "
        f"Scope (\\_SB) {{ Device (PCI0) {{ Device (PEG) {{ {ROM} }} "
        "Name (PADD, Buffer (2100) {}) } }", [r"\_SB.PCI0.PEG"]),
    "data that looks like a scope": (
        'Name (BUFB, Buffer () { 0x10, 0x3f, 0x4a, 0x55, 0x4e, 0x4b }) '
        'Name (WRDD, 0x104a3f10) Name (TXTT, "\\x10\\x3fJUNK") '
        "Name (PCKG, Package () { 0x10, Package () { 0x3f10, \"JUNK\" } }) "
        f"Device (\\_SB.VID) {{ Name (_ADR, 0x10) {ROM} }}", [r"\_SB.VID"]),
    "scopes in scopes": (
        "Device (\\_SB.PCI0) { Device (PEG) { Device (VID) { Name (_ADR, 0) } } } "
        f"Scope (\\_SB) {{ Scope (PCI0) {{ Scope (PEG.VID) {{ {ROM} }} "
        "Device (NEXT) { Name (_ADR, 0) } } }", [r"\_SB.PCI0.PEG.VID"]),
    "a scope of another table's device": (
        f"External (\\_SB.PCI0.PEG, DeviceObj) Scope (\\_SB.PCI0) {{ Scope (PEG) "
        f"{{ Device (VID) {{ {ROM} }} }} }}", [r"\_SB.PCI0.PEG.VID"]),
    "from above and from the root": (
        "Device (\\_SB.PCI0) { Device (VID) { Name (_ADR, 0) } Device (OTHR) { "
        f"Scope (^^VID) {{ Name (AAAA, 0) }} Method (^VID._ROM, 2) {{ Return "
        "(Buffer (Arg1) {}) } } } Device (\\_SB.PCI1) { Name (_ADR, 1) } "
        "Scope (\\) { Method (_SB.PCI1._ROM, 2) { Return (Buffer (Arg1) {}) } }",
        [r"\_SB.PCI0.VID", r"\_SB.PCI1"]),
    "not its own, but a child's and a neighbour's": (
        f"Device (\\_SB.PEG) {{ Device (VID) {{ Device (SUB) {{ {ROM} }} }} Device (AUD) "
        f"{{ {ROM} }} }}", [r"\_SB.PEG.VID.SUB", r"\_SB.PEG.AUD"]),
    "under a condition": (
        "External (\\VARX, IntObj) If (\\VARX == 0x10) { Device (\\_SB.AAAA) { "
        f"{ROM} }} }} Else {{ \\VARX = 0x104a5510 Device (\\_SB.BBBB) {{ {ROM} }} }}",
        [r"\_SB.AAAA", r"\_SB.BBBB"]),
    "after everything else that a table can hold": (
        "External (\\FUNC, MethodObj, IntObj, {IntObj, IntObj}) Mutex (MUTX, 1) Event (EVNT) "
        "Name (BUFF, Buffer (16) {}) CreateDWordField (BUFF, 4, FELD) CreateField (BUFF, 16, "
        "16, FELE) OperationRegion (REGI, SystemIO, 0x10, 0x4a) Field (REGI, ByteAcc, NoLock, "
        "Preserve) { INDX, 8, DATX, 8 } IndexField (INDX, DATX, ByteAcc, NoLock, Preserve) "
        "{ AAAA, 8 } BankField (REGI, INDX, 0x10, ByteAcc, NoLock, Preserve) { BBBB, 8 } "
        "PowerResource (PWRR, 0x10, 0x1010) { Method (_ON) {} Method (_OFF) {} "
        "Method (_STA) { Return (1) } } ThermalZone (THRM) { Name (_TZP, 0x10) } "
        "Processor (CPUU, 0x10, 0x10101010, 6) { Name (CCCC, 1) } "
        "Alias (BUFF, BUFG) Name (QWRD, 0x1010101010101010) \\FUNC (0x10, 0x4a) "
        "Method (METH, 0, Serialized) { Name (DDDD, 0x10) Local0 = 0x10 } "
        f"Device (\\_SB.VID) {{ {ROM} }}", [r"\_SB.VID"]),
    "one that only a method would make, and an empty one": (
        "Device (\\_SB.VID) { Method (MAKE) { Method (_ROM, 2) { Return (Buffer (1) {}) } } } "
        "Device (\\_SB.STUB) { Method (_ROM, 2) { } }", [r"\_SB.STUB empty"]),
}

# Bytes after a table's header; a scope without a device of its name may be data
AML = {
    "10 0e 4a554e4b 10 1d 5c2f04 5f53425f 50434930 5045475f 5649445f 14 09 5f524f4d 02 a4 00":
        [r"\_SB.PCI0.PEG.VID"],
    "10 23 5c2f04 5f53425f 50434930 5045475f 5649445f 10 0e 4a554e4b 14 09 5f524f4d 02 a4 00":
        [r"\_SB.PCI0.PEG.VID.JUNK", r"\_SB.PCI0.PEG.VID"],
    # no term, and then one that cannot be placed
    "02 02 11 10 00 14 08 5f524f4d 02 a4 00 ff ff ff ff ff ff": ["?"],
}


def compile_asl(source):
    """What is wrong by iasl's rules, firmware has, too."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/table.asl", "w") as file:
            file.write(f'DefinitionBlock ("", "SSDT", 2, "TEST", "TEST", 1) {{ {source} }}')
        done = subprocess.run(
            [need(f"{TOP}/build/root/vbios-tools/usr/bin/iasl"), "-oa", "-f", "-p", "table",
             "table.asl"], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, universal_newlines=True)
        if not os.path.exists(f"{folder}/table.aml"):
            raise RuntimeError(done.stdout)
        with open(f"{folder}/table.aml", "rb") as table:
            return table.read()


class GuestTest(DoctorTest):
    """The guest's check, with busybox."""

    @classmethod
    def setUpClass(cls):
        need(PLUGIN)
        cls.folder = tempfile.TemporaryDirectory()
        cls.tree = os.path.join(cls.folder.name, "tree")
        cls.add_programs()
        os.symlink("usr/bin", cls.tree + "/bin")
        program_tree.copy(f"{TOP}/hw-optimus/guest/guest-check",
                          f"{cls.tree}/usr/bin/guest-check")
        with open(f"{cls.tree}/usr/bin/dmesg", "w") as file:
            file.write("#!/bin/sh\nexec cat /home/dmesg\n")
        os.chmod(file.name, 0o755)
        rom = os.path.join(cls.folder.name, "rom")
        with open(rom, "wb") as file:
            file.write(vbios.make())
        # the firmware's table of a guest with the device behind a root port
        with Machine(with_plugin(PLUGIN, "test-optimus"), "-M", "q35", "-device",
                     "pcie-root-port,id=rp,addr=3", "-device",
                     f"vfio-optimus,bus=rp,romfile={rom}", "-device",
                     "bochs-display,addr=4") as machine:
            cls.dsdt = machine.dsdt()

    @classmethod
    def add_programs(cls):
        program_tree.add_program(cls.tree,
                                 need(f"{TOP}/build/root/kernel/bin/busybox"))
        for name in "readlink", *GUEST_PROGRAMS:
            os.symlink("busybox", f"{cls.tree}/usr/bin/{name}")

    def guest(self, log="", path=r"\_SB_.PCI0.S18_.S00_", sub="17aa:3978",
              ids="10de:139b", driver=None, **files):
        device = "/sys/devices/pci0000:00/0000:00:03.0/" + BDF
        tree = pci(device, ids, "030200", None, driver, sub)
        tree["/sys/firmware/acpi/tables/DSDT"] = self.dsdt
        tree["/dev/null"] = Device("all")
        if path:
            tree[f"{device}/firmware_node/path"] = path
        if log is not None:
            tree["/home/dmesg"] = log
        tree.update(files)
        return tree

    def run_check(self, tree, *args):
        self.make(tree)
        return self.run_inside("/usr/bin/guest-check", *args)

    def check_line(self, tree, check, status, text, *args):
        done = self.run_check(tree, *args)
        self.assertEqual(done.stderr, "")
        line, = re.findall(rf"(?m)^\w+ +{check} .*$", done.stdout)
        self.assertRegex(line, rf"^{status} +{check} +{text}")
        # what is not ok has what mends it
        if status != "ok":
            self.assertRegex(done.stdout,
                             re.escape(line) + r"\n +mend: \S")
        statuses = re.findall(r"(?m)^(ok|warning|problem) ", done.stdout)
        self.assertEqual(done.returncode, 3 if "problem" in statuses else
                         2 if "warning" in statuses else 0)

    TAKEN = f"[    4.100000] nouveau {BDF}: bios: using image from ACPI"

    def test_fine(self):
        done = self.run_check(self.guest(self.TAKEN))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(re.findall(r"(?m)^(\w+) +(\w+) ", done.stdout), [
            ("ok", "method"), ("ok", "ids"), ("ok", "vbios")])

    def test_method(self):
        for path in r"\_SB_.PCI0.S18_.S00_", r"\_SB.PCI0.S18.S00":
            self.setUp()
            self.check_line(self.guest(path=path), "method", "ok",
                            re.escape(path) + "._ROM is in the DSDT")

    def test_method_elsewhere(self):
        """It is the device's own, or none: not that of another one."""
        for path in (r"\_SB_.PCI0.S20_", r"\_SB_.PCI0.S18_", r"\_SB_.PCI0.S00_",
                     r"\_SB_.PCI0"):
            self.setUp()
            self.check_line(self.guest(path=path), "method", "problem",
                            re.escape(path) + " has no _ROM")

    def test_method_in_ssdt(self):
        tree = self.guest(path=r"\_SB_.PCI0.S20_")
        tree["/sys/firmware/acpi/tables/SSDT"] = method("_SB_.PCI0.S20_",
                                                        b"_ON_")
        tree["/sys/firmware/acpi/tables/SSDT2"] = method("_SB_.PCI0.S20_")
        self.check_line(tree, "method", "ok", ".*is in the SSDT2")

    def test_method_twice(self):
        """Whichever table comes first has it; so did somebody's OVMF."""
        tree = self.guest(path=r"\_SB_.PCI0.S18_.S00_")
        tree["/sys/firmware/acpi/tables/SSDT1"] = method("_SB_.PCI0.S18_.S00_")
        self.check_line(tree, "method", "problem",
                        r".*\._ROM is there twice: DSDT SSDT1$")

    def test_method_at_another_place(self):
        tree = self.guest(path=r"\_SB_.PCI0.SE1_.S00_")
        done = self.run_check(tree)
        self.assertIn(r" has no _ROM, and \_SB.PCI0.S18.S00 has one", done.stdout)
        self.assertIn("optimus-vbios ssdt ... --at 1c.1/00.0\n", done.stdout)

    def test_stale_tables(self):
        """Of two earlier places; the directory of the tables has to be made anew."""
        tree = self.guest(path=r"\_SB_.PCI0.SE1_.S00_")
        tree["/sys/firmware/acpi/tables/DSDT"] = bytes(36)
        tree["/sys/firmware/acpi/tables/SSDT1"] = method("_SB_.PCI0.S08_")
        tree["/sys/firmware/acpi/tables/SSDT2"] = method("_SB_.PCI0.S10_")
        self.check_line(tree, "method", "problem", r".*has no _ROM; .*\_SB.PCI0.S08 "
                        r"\(SSDT1\) \\_SB.PCI0.S10 \(SSDT2\)")
        self.assertRegex(self.run_check({}).stdout, "mend: on the host: remove the directory "
                         "that QEMU's -acpitable names, and run again: optimus-attach, or "
                         "optimus-vbios ssdt ... --at 1c.1/00.0\n")

    def test_no_node(self):
        self.check_line(self.guest(path=None), "method", "problem",
                        "the device has no ACPI node")

    def test_tables_denied(self):
        tree = self.guest()
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        self.check_line(tree, "method", "warning", "the ACPI tables cannot be")

    def test_ids(self):
        self.check_line(self.guest(), "ids", "ok", "subsystem 17aa:3978")

    def test_ids_lost(self):
        for sub in "0000:0000", "17aa:0000", "ffff:ffff":
            self.setUp()
            self.check_line(self.guest(sub=sub), "ids", "problem",
                            f"subsystem {sub}: the card has lost them")

    def test_ids_of_qemu(self):
        self.check_line(self.guest(sub="1af4:1100"), "ids", "problem",
                        "subsystem 1af4:1100: QEMU's own")

    def test_log(self):
        for log, status, text in (
                (self.TAKEN, "ok", "nouveau .*using image from ACPI"),
                (self.TAKEN.replace("ACPI", "PROM"), "warning",
                 ".*image from PROM: not from _ROM"),
                (f"[4.1] nouveau {BDF}: bios: version 82.07.87.00.01", "ok",
                 ".*version 82.07.87"),
                (f"[4.1] nouveau {BDF}: bios: unable to locate usable image",
                 "problem", ".*unable to locate"),
                # of another card, or only spoken of
                ("[4.1] nouveau 0000:02:00.0: bios: using image from ACPI\n"
                 f"[4.2] lab: nouveau {BDF}: bios: using image from ACPI",
                 "warning", "no driver has the device"),
                (None, "warning", "the kernel's log cannot be read")):
            with self.subTest(log):
                self.setUp()
                self.check_line(self.guest(log), "vbios", status, text)

    # how five releases of NVIDIA's driver end with a GPU that is made up
    NVIDIA_LOGS = {
        "340, no VBIOS": (
            "[4.1] NVRM: failed to copy vbios to system memory.\n"
            "[4.2] NVRM: RmInitAdapter failed! (0x30:0xffff:747)",
            {"vbios": "NVRM: failed to copy vbios to system memory"}),
        "470, no VBIOS": (
            f"[4.1] NVRM: GPU {BDF}: Failed to copy vbios to system memory.\n"
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x30:0xffff:874)",
            {"vbios": f"NVRM: GPU {BDF}: Failed to copy vbios"}),
        "550, no VBIOS": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x30:0xffff:1098)",
            {"vbios": f"NVRM: GPU {BDF}: RmInitAdapter failed! .0x30"}),
        "another step": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x26:0xffff:1290)",
            {"vbios": "not known",
             "driver": ".*0x26.*not the step that looks for a video BIOS"}),
        "340, a later step": (
            "[4.2] NVRM: RmInitAdapter failed! (0x25:0xffff:1197)",
            {"vbios": "not known", "driver": ".*0x25.*: a step after"}),
        "535, a later step": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x24:0xffff:1447)",
            {"vbios": "not known", "driver": ".*0x24.*: a step after"}),
        "a later step after another try": (
            "[4.1] NVRM: failed to copy vbios to system memory.\n"
            "[4.2] NVRM: RmInitAdapter failed! (0x30:0xffff:747)\n"
            "[9.2] NVRM: RmInitAdapter failed! (0x25:0xffff:1197)",
            {"vbios": "not known"}),
        "POST": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x31:0xffff:988)",
            {"vbios": f"NVRM: GPU {BDF}: RmInitAdapter failed! .0x31"}),
        "X86EMU": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x32:0xffff:988)",
            {"vbios": f"NVRM: GPU {BDF}: RmInitAdapter failed! .0x32"}),
    }

    def test_nvidia_log(self):
        for name, (log, rows) in self.NVIDIA_LOGS.items():
            for check, text in rows.items():
                with self.subTest(name, check=check):
                    self.setUp()
                    self.check_line(self.guest(log), check, "warning" if
                                    text == "not known" else "problem", text)

    KVM = "RmInitAdapter failed! (0x23:0xffff:619)"

    def test_early_step(self):
        """0x23 has many reasons; KVM is one with two releases only."""
        for release, text, hide in (("340.108", "sees KVM", True),
                                    ("390.157", "sees KVM", True),
                                    ("535.261.03", "release 535 not because", False),
                                    ("580.95.05", "release 580 not because", False),
                                    (None, "an early step$", None)):
            for kind in "Kernel Module ", "Open Kernel Module for x86_64":
                with self.subTest(release, kind=kind):
                    self.setUp()
                    log = f"[4.2] NVRM: {self.KVM}"
                    if release:
                        log = (f"[4.1] NVRM: loading NVIDIA UNIX x86_64 {kind} {release}  "
                               f"Wed Dec 11 11:06:58 UTC 2019\n{log}")
                    self.check_line(self.guest(log), "driver", "problem", ".*" + text)
                    said = self.run_check({}).stdout
                    self.assertEqual("kvm=off" in said, hide is not False, said)
                    self.assertEqual("only if it is release 340" in said, hide is None)

    def test_never_taken(self):
        """A code is no proof, and without _ROM least of all."""
        for code in range(0x20, 0x40):
            for path in r"\_SB_.PCI0.S18_.S00_", r"\_SB_.PCI0.S20_":
                self.setUp()
                tree = self.guest(f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! "
                                  f"({code:#x}:0x72:1603)", path=path)
                done = self.run_check(tree)
                self.assertNotRegex(done.stdout, "taken|done its part")
                self.assertNotRegex(done.stdout, "(?m)^ok +(vbios|driver)")
                self.assertEqual(done.returncode, 3)

    OPEN = (f"[4.1] NVRM: The NVIDIA GPU {BDF} (PCI ID: 10de:1c94)\n"
            "[4.1] NVRM: installed in this system is not supported by open\n"
            "[4.1] NVRM: nvidia.ko because it does not include the required GPU\n"
            "[4.1] NVRM: System Processor (GSP).\n")
    STOPS = {
        "open module": (
            OPEN + f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x24:0x72:1603)",
            ".*not supported by open nvidia.ko.*System Processor .GSP.*",
            "the open module, which needs a Turing card or a later one: .*proprietary"),
        "open module, bare lines": (
            OPEN.replace("[4.1] ", "").replace("NVRM: ", ""),
            ".*not supported by open", "proprietary"),
        "open module, as dmesg indents them": (
            OPEN.replace("\n[4.1] ", "\n      "), ".*not supported by open nvidia.ko",
            "proprietary"),
        "no room": (
            "[4.1] NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\n"
            f"[4.1] NVRM: BAR1 is 0M @ 0x0 (PCI:{BDF})",
            ".*BAR1 is 0M @ 0x0", "X-PciMmio64Mb"),
        "no room, alone": ("[4.1] BAR1 is 0M @ 0x0", "BAR1 is 0M", "X-PciMmio64Mb"),
        "release": (
            f"[4.1] NVRM: The NVIDIA GPU {BDF} (PCI ID: 10de:139b)\n"
            "[4.1] NVRM: installed in this system is not supported by the\n"
            "[4.1] NVRM: NVIDIA 590.48.01 driver release.\n"
            "[4.1] NVRM: Please see 'Appendix A - Supported NVIDIA GPU Products'",
            ".*not supported by the NVIDIA 590.48.01 driver release", "580 is the last for "
            "Maxwell, Pascal and Volta"),
        "release, one line": (
            "[4.1] not supported by the NVIDIA 590.48.01 driver release", "not supported",
            "580 is the last"),
        "legacy": (
            "[4.1] NVRM: The NVIDIA GeForce GT 630M GPU installed in this system is\n"
            "[4.1] NVRM:  supported through the NVIDIA 390.xx Legacy drivers. Please",
            ".*NVIDIA 390", "390 for Fermi"),
        "wants the open module": (
            f"[4.1] NVRM: The NVIDIA GPU {BDF} (PCI ID: 10de:2d39)\n"
            "[4.1] NVRM: installed in this system requires use of the NVIDIA open kernel "
            "modules.", ".*requires use of the NVIDIA open", "install NVIDIA's open"),
        "lost": (
            f"[4.1] NVRM: GPU {BDF}: GPU has fallen off the bus.", ".*fallen off the bus",
            "on the host: the card does not answer"),
        "lost, Xid": (
            f"[4.1] NVRM: Xid (PCI:{BDF[:-2]}): 79, pid=812, GPU has fallen off the bus.",
            ".*fallen off the bus", "on the host: the card does not answer"),
        "lost, nouveau": (
            f"[4.1] nouveau {BDF}: unknown chipset (ffffffff)", ".*unknown chipset",
            "on the host: the card does not answer"),
        "new card, nouveau": (
            f"[4.1] nouveau {BDF}: unknown chipset (1b7000a1)", ".*unknown chipset",
            "a newer kernel"),
        "Secure Boot": (
            "[4.1] Loading of module with unavailable key is rejected",
            "Loading of module with unavailable key", "Secure Boot"),
        "Secure Boot, lockdown": (
            "[4.1] Lockdown: modprobe: unsigned module loading is restricted; see man "
            "kernel_lockdown.7", "Lockdown: ", "Secure Boot"),
        "a probe that failed": (
            f"[4.1] nouveau {BDF}: probe with driver nouveau failed with error -12",
            "nouveau .*error -12", "dmesg"),
        "a probe of nvidia's that failed": (
            "[4.1] NVRM: The NVIDIA probe routine failed for 1 device(s).",
            "NVRM: .*probe routine failed", "dmesg"),
    }

    def test_stopped(self):
        """What a driver stops at stands there without a driver's link."""
        for name, (log, text, mend) in self.STOPS.items():
            for path in r"\_SB_.PCI0.S18_.S00_", r"\_SB_.PCI0.S20_":
                with self.subTest(name, path=path):
                    self.setUp()
                    self.check_line(self.guest(log, path=path), "driver", "problem", text)
                    said = self.run_check({}).stdout
                    self.assertRegex(said, "(?m)^problem +driver .*\n +mend: .*" + mend)
                    self.assertNotRegex(said, "no driver has|says nothing|taken")

    def test_stopped_of_another_card(self):
        for log, *_ in (self.NVIDIA_LOGS["550, no VBIOS"], *(self.STOPS[name] for name in (
                "open module", "no room", "release", "lost", "lost, Xid",
                "lost, nouveau", "wants the open module"))):
            with self.subTest(log):
                self.setUp()
                log = log.replace(BDF[:-2], "0000:02:00")
                self.check_line(self.guest(log), "vbios", "warning", "no driver has")

    def test_lost_with_a_driver(self):
        for driver in "nvidia", "nouveau":
            self.setUp()
            self.check_line(self.guest(self.STOPS["lost"][0], driver=driver), "driver",
                            "problem", ".*fallen off the bus")
            self.assertNotIn("says nothing", self.run_check({}).stdout)

    def test_works_without_method(self):
        """The outcome overrules what was thought to be needed for it."""
        for ids, version in ("10de:1f99", "90.17.42.00.36"), ("10de:2520", "94.06.14.00.9b"), \
                ("10de:1c8d", "86.07.51.00.0e"):
            self.setUp()
            tree = self.guest(ids=ids, driver="nvidia", path=r"\_SB_.PCI0.S20_",
                              **self.nvidia(version))
            done = self.run_check(tree)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
            self.assertRegex(done.stdout, "(?m)^ok +method .*has no _ROM, .*and the driver "
                                          "has a video BIOS without it")
            self.assertIn(f"nvidia has version {version}", done.stdout)
        self.setUp()
        done = self.run_check(self.guest(self.TAKEN.replace("ACPI", "PRAMIN"), path=None))
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_turing_without_method(self):
        """Without a driver yet, it is no problem; if that finds no VBIOS, it is."""
        self.check_line(self.guest(ids="10de:2520", path=r"\_SB_.PCI0.S20_"), "method",
                        "ok", ".*needs none as a rule")
        self.setUp()
        self.check_line(self.guest(self.NVIDIA_LOGS["550, no VBIOS"][0], ids="10de:2520",
                                   path=r"\_SB_.PCI0.S20_"), "method", "problem",
                        ".*has no _ROM")

    def test_log_is_hostile(self):
        """Nothing of it reaches the terminal raw."""
        log = f"[4.1] nouveau {BDF}: bios: unable to locate \33[31m\33]0;x\7\x7f"
        done = self.run_check(self.guest(log))
        self.assertNotRegex(done.stdout, "[\0-\x09\x0b-\x1f\x7f]")

    def test_refused(self):
        """With a _ROM there, the file is at fault, and no other row is."""
        for log in (self.NVIDIA_LOGS["470, no VBIOS"][0],
                    f"[4.1] nouveau {BDF}: bios: unable to locate usable image"):
            for path, text, mend in (
                    (r"\_SB_.PCI0.S18_.S00_", ".*may have refused the file",
                     "on the host: optimus-vbios info FILE"),
                    (r"\_SB_.PCI0.S20_", "", "see the rows above")):
                with self.subTest(log, path=path):
                    self.setUp()
                    tree = self.guest(log, path=path)
                    self.check_line(tree, "vbios", "problem", text)
                    self.assertRegex(self.run_check({}).stdout,
                                     r"(?m)^problem +vbios .*\n +mend: " + mend)

    def test_methods(self):
        tree = self.guest()
        tree["/sys/firmware/acpi/tables/SSDT2"] = method("_SB_.PCI0.S20_")
        done = self.run_check(tree, "--methods")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.splitlines(), [
            r"DSDT \_SB.PCI0.S18.S00", r"SSDT2 \_SB.PCI0.S20"])

    def methods(self, table, folder=""):
        self.setUp()
        self.make({"/sys/firmware/acpi/tables/DSDT": bytes(36),
                   f"/sys/firmware/acpi/tables/{folder}SSDT1": table,
                   "/dev/null": Device("all")})
        done = self.run_inside("/usr/bin/guest-check", "--methods")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [line[len("SSDT1 "):] for line in done.stdout.splitlines()]

    def test_methods_of_firmware(self):
        for name, (source, nodes) in ASL.items():
            with self.subTest(name):
                self.assertEqual(self.methods(compile_asl(source)), nodes)

    def test_methods_of_bytes(self):
        for text, nodes in AML.items():
            with self.subTest(text):
                self.assertEqual(self.methods(bytes(36) + bytes.fromhex(text)), nodes)

    def test_methods_of_loaded_tables(self):
        """Load() has its tables in a folder of their own."""
        self.assertEqual(self.methods(method("_SB_.PCI0.PEG0"), "dynamic/"),
                         [r"\_SB.PCI0.PEG0"])

    def test_methods_of_noise(self):
        """Whatever is in a table: an end, and no error."""
        for seed in range(20):
            noise = random.Random(seed)
            table = bytes(36) + bytes(noise.choice(b"\x10\x14\x5b\x82\xa0\x11\x0d_ROMX\x08"
                                                   b"\x2f\x5e\x5c\xff\x00\x40\x80\xc0")
                                      for _ in range(1000)) + b"_ROM"
            self.methods(table)
            self.methods(self.dsdt[:len(self.dsdt) * seed // 20])

    def test_methods_denied(self):
        tree = self.guest()
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        done = self.run_check(tree, "--methods")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("tables cannot be read: run this as root", done.stderr)

    def test_drivers(self):
        self.check_line(self.guest(driver="nouveau"), "vbios", "warning",
                        "nouveau has the device, and says nothing")

    def nvidia(self, version):
        return {f"/proc/driver/nvidia/gpus/{BDF}/information":
                f"Model: \t\t Unknown\nVideo BIOS: \t {version}\n"}

    def test_nvidia(self):
        self.check_line(self.guest(driver="nvidia", **self.nvidia(
            "82.07.87.00.01")), "vbios", "ok", "nvidia has version 82.07.87.00.01")

    def test_nvidia_without(self):
        self.check_line(self.guest(driver="nvidia", **self.nvidia(
            "??.??.??.??.??")), "vbios", "warning", "nvidia has the device")

    def test_debugfs(self):
        debug = "/sys/kernel/debug/dri"
        other = "0000:02:00.0"
        self.check_line(self.guest(driver="nouveau", **{
            f"{debug}/0/name": f"nouveau dev={other} unique={other}",
            f"{debug}/0/vbios.rom": vbios.make(),
            f"{debug}/1/name": f"nouveau dev={BDF} unique={BDF}",
            f"{debug}/1/vbios.rom": vbios.make()}), "vbios", "ok",
            f"nouveau has it: {debug}/1/vbios.rom")

    def test_no_card(self):
        done = self.run_check(self.guest(ids="1234:1111"))
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        self.assertRegex(done.stdout, "^problem +card +this guest has no display")

    def test_named(self):
        for bdf in BDF, "01:00.0":
            self.setUp()
            self.check_line(self.guest(ids="1234:1111"), "ids", "ok", "", bdf)

    def test_wrong(self):
        for args, message in ((["05:00.0"], "this guest has no device at 05:00.0"),
                              (["--jso"], "unknown option --jso; see --help")):
            self.setUp()
            done = self.run_check(self.guest(), *args)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, f"^guest-check: {message}.*\n$")

    def test_help(self):
        done = self.run_check({}, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("Exit status: 0", done.stdout)


class GuestDebianTest(GuestTest):
    """With Debian's programs."""

    @classmethod
    def add_programs(cls):
        for name in "readlink", *GUEST_PROGRAMS:
            add_debian_program(cls.tree, name)


if __name__ == "__main__":
    tap_main("__main__")
