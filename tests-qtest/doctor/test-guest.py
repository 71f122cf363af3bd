#!/usr/bin/python3
"""guest-check."""

import os
import re
import tempfile

import program_tree
import vbios
from doctor_case import (BDF, GUEST_PROGRAMS, PLUGIN, TOP, Device, DoctorTest,
                  add_debian_program, method, pci)
from machine import Machine, with_plugin
from tap import need, tap_main


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
        "340, KVM is seen": (
            "[4.2] NVRM: RmInitAdapter failed! (0x23:0xffff:619)",
            {"vbios": "the driver gave up before", "driver": ".*sees KVM"}),
        "340, taken": (
            "[4.2] NVRM: RmInitAdapter failed! (0x25:0xffff:1197)",
            {"vbios": "the driver has taken it",
             "driver": ".*0x25.*: a step after the VBIOS"}),
        "535, taken": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x24:0xffff:1447)",
            {"vbios": "the driver has taken it",
             "driver": ".*0x24.*: a step after the VBIOS"}),
        "another step": (
            f"[4.2] NVRM: GPU {BDF}: RmInitAdapter failed! (0x26:0xffff:1290)",
            {"vbios": "the driver says nothing of it",
             "driver": ".*0x26.*not the step that looks for a VBIOS"}),
        "taken after another try": (
            "[4.1] NVRM: failed to copy vbios to system memory.\n"
            "[4.2] NVRM: RmInitAdapter failed! (0x30:0xffff:747)\n"
            "[9.2] NVRM: RmInitAdapter failed! (0x25:0xffff:1197)",
            {"vbios": "the driver has taken it"}),
    }
    STATUS = {"the driver has taken it": "ok",
              "the driver gave up before": "warning",
              "the driver says nothing of it": "warning"}

    def test_nvidia_log(self):
        for name, (log, rows) in self.NVIDIA_LOGS.items():
            for check, text in rows.items():
                with self.subTest(name, check=check):
                    self.setUp()
                    self.check_line(self.guest(log), check,
                                    self.STATUS.get(text, "problem"), text)

    def test_nvidia_log_of_another_card(self):
        for bdf in BDF, BDF.replace("01", "02"):
            self.setUp()
            log = f"[4.2] NVRM: GPU {bdf}: RmInitAdapter failed! (0x30:0xffff:988)"
            self.check_line(self.guest(log), "vbios",
                            "problem" if bdf == BDF else "warning",
                            "NVRM" if bdf == BDF else "no driver")

    def test_refused(self):
        """With a _ROM there, the file is at fault, and no other row is."""
        for log in (self.NVIDIA_LOGS["470, no VBIOS"][0],
                    f"[4.1] nouveau {BDF}: bios: unable to locate usable image"):
            for path, text, mend in (
                    (r"\_SB_.PCI0.S18_.S00_", ".*: it has read _ROM, and refused",
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
