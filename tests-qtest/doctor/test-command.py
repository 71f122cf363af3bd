#!/usr/bin/python3
"""The command: its arguments, its report, and that it changes nothing."""

import glob
import hashlib
import os
import re
import shutil

from doctor_case import BDF, DoctorTest, amd_laptop, intel_laptop, two_cards
from tap import need, tap_main


class CommandTest(DoctorTest):
    def wrong(self, tree, args, message):
        done = self.run_doctor(tree, *args)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^doctor: " + message + ".*\n$")

    def test_wrong(self):
        for tree, args, message in (
                (intel_laptop(), ["1:0"], "'1:0' is not the address of a card"),
                (intel_laptop(), ["05:00.0"], "this machine has no device at "
                 "0000:05:00.0: see"),
                (intel_laptop(), ["--jso"], "unrecognized arguments: --jso; see"),
                (intel_laptop(), ["01:00.0", "02:00.0"], "unrecognized"),
                (intel_laptop(), ["--rom"], "argument --rom: expected"),
                (two_cards(), ["--rom", "x"], "--rom is for one card, .* has 2")):
            with self.subTest(args):
                self.setUp()
                self.wrong(tree, args, message)

    def report(self, tree, *args):
        """The report in the file, and what is said."""
        file = "/home/report"
        done = self.run_doctor(tree, "--report", file, *args)
        self.assertIn(f"written: {file}", done.stdout)
        self.assertEqual(done.stderr, "")
        with open(self.tree + file) as text:
            return text.read(), done.stdout

    def test_report(self):
        tree = amd_laptop()
        tree["/home/guest"] = "ok  method  \\_SB_.PCI0.S08_._ROM is in the DSDT\n" \
                              "alice@guest serial number: ABC123"
        tree["/home/alice/x"] = ""
        tree["/sys/class/dmi/id/product_name"] = "Laptop 15"
        tree["/sys/class/dmi/id/product_serial"] = "PF0SERIAL"
        tree["/proc/cmdline"] = "root=UUID=0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f " \
                                "ip=10.0.0.1 intel_iommu=on"
        tree["/home/dmesg"] = f"vfio-pci {BDF}: not ready 1ms after resume, " \
                              "52:54:00:ab:cd:ef /home/alice/disk"
        text, said = self.report(tree, "--guest", "/home/guest", "01:00.0")
        for pattern in ("laptop: Laptop 15", "kernel: ", "options: intel_iommu=on",
                        "(?m)^0000:01:00.0 10de:1f99 class 030000 driver nouveau",
                        "(?m)^  0000:00:01.0 8086:1901", "problem  driver",
                        "S08_._ROM is in the DSDT", "MAC /home/USER/disk"):
            self.assertRegex(text, pattern)
        for secret in ("alice", "PF0SERIAL", "ABC123", "52:54:00", "0a1b2c3d",
                       "10.0.0.1"):
            self.assertNotIn(secret, text)
        # what is said here is not for others
        self.assertIn("alice", said)

    def test_report_names_no_host(self):
        host = os.uname().nodename
        tree = intel_laptop()
        tree["/home/guest"] = f"on {host}: ok"
        text, _ = self.report(tree, "--guest", "/home/guest")
        self.assertIn("on HOST: ok", text)

    def test_report_cannot_be_written(self):
        for args, message in ((["--report", "/nowhere/file"], "/nowhere/file cannot be"),
                              (["--guest", "x"], "--guest is for a report"),
                              (["--report", "/home/r", "--guest", "/home/none"],
                               "/home/none cannot be read")):
            self.setUp()
            self.wrong(intel_laptop(), args, message)
            self.assertEqual(glob.glob(self.tree + "/home/r*"), [])

    def test_help(self):
        done = self.run_doctor({}, "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("exit status: 0", done.stdout)

    def test_text(self):
        done = self.run_doctor(amd_laptop())
        self.assertEqual((done.returncode, done.stderr), (3, ""))
        self.assertRegex(done.stdout, r"(?m)^ok       cpu      virtual")
        self.assertRegex(done.stdout, r"(?m)^0000:01:00.0$")
        self.assertRegex(done.stdout, r"(?m)^problem  users    Xorg.*\n"
                                      r"                  mend: sudo kill 812$")
        self.assertRegex(done.stdout, r"problems: 4, warnings: 1\n$")

    def test_short_address(self):
        rows = self.rows(intel_laptop(), "01:00.0")
        self.assertEqual(rows, self.rows({}, BDF))

    def state(self):
        found = {}
        for folder, _, files in os.walk(self.tree):
            found[folder] = sorted(os.listdir(folder))
            for file in set(files) - {"null"}:
                path = os.path.join(folder, file)
                stat = os.lstat(path)
                found[path] = stat.st_mode, stat.st_mtime_ns, stat.st_size
        return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()

    def test_changes_nothing(self):
        """Not a file, and no call of the kernel that could change anything."""
        need(shutil.which("strace") or "strace")
        self.run_doctor(amd_laptop())       # Python compiles its own library
        before = self.state()
        log = os.path.join(self.folder.name, "trace")
        self.run_doctor({}, trace=["strace", "-f", "-o", log])
        self.assertEqual(before, self.state())
        with open(log) as file:
            trace = file.read()
        self.assertIn('"/sys/bus/pci/devices', trace)
        writing = [line for line in trace.splitlines()
                   if '"/dev/null"' not in line and re.search(
            r"O_WRONLY|O_RDWR|O_CREAT| (mkdir|unlink|rename|chmod|kill|mount|"
            r"symlink|init_module|finit_module|mknod|link)(at)?2?\(", line)]
        self.assertEqual(writing, [])


if __name__ == "__main__":
    tap_main("__main__")
