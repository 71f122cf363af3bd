#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: its arguments, its report, and that it changes nothing."""

import fcntl
import hashlib
import os
import pty
import re
import shutil
import struct
import subprocess
import termios

from doctor_case import (BDF, CARD, Device, DoctorTest, Link, amd_laptop, intel_laptop,
                         two_cards)
from tap import need, tap_main


class CommandTest(DoctorTest):
    def wrong(self, tree, args, message):
        done = self.run_doctor(tree, *args)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^doctor: " + message + ".*\n$")

    def test_wrong(self):
        for tree, args, message in (
                (intel_laptop(), ["05:00.0"], "this machine has no device at "
                 "0000:05:00.0: see"),
                (intel_laptop(), ["--jso"], "unrecognized arguments: --jso; see"),
                (intel_laptop(), ["01:00.0", "02:00.0"], "unrecognized"),
                (intel_laptop(), ["--rom"], "argument --rom: expected"),
                (two_cards(), ["--rom", "x"], "--rom is for one card, .* has 2"),
                (intel_laptop(), ["--report", "/nowhere/file"], "/nowhere/file cannot be"),
                (intel_laptop(), ["--guest", "x"], "--guest is for a report"),
                (intel_laptop(), ["--force"], "--force is for a report")):
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

    # what a report must not tell, and where it comes from
    MARKS = ("alice", "bobby", "carolx", "daveuser", "ACMECORP", "erin99", "Alice Example",
             "srvmark", "mediamark", "hostmark", "secretguest", "pveguest", "SERIALMARK",
             "DISKMARK", "BOARDMARK", "BATMARK", "NVMEMARK", "JSONMARK", "SNMARK", "NUMMARK",
             "example.org", "vgmark", "cryptmark", "keymark", "0011.2233.4455",
             "001122334455", "00:11:22:33:44:55", "00-11-22-33-44-55", "0a1b2c3d",
             "10.11.12.13", "fe80::", "romfolder")

    def marked(self):
        tree = amd_laptop()
        tree.update({
            "/proc/cmdline":
                "BOOT_IMAGE=/vmlinuz-vgmark root=/dev/mapper/alice_vg-root ro quiet "
                "cryptdevice=/dev/disk/by-id/ata-cryptmark-SERIALMARK:root "
                "rd.lvm.lv=alice_vg/root rd.luks.key=keymark ip=10.11.12.13::10.11.12.1:"
                "255.255.255.0:hostmark:enx001122334455:off intel_iommu=on,sm_on "
                "vfio-pci.ids=10de:139b pci=noats,cryptmark module_blacklist=keymark",
            "/etc/passwd":
                "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000:Alice Example,,:/home/alice:/bin/sh\n"
                "bobby:x:4000:4000::/srv/people/bobby:/bin/sh\n"
                "carolx:x:1234567:100::/home/ACMECORP/carolx:/bin/sh\n",
            "/etc/hostname": "alice-pc.example.org", "/etc/resolv.conf": "search example.org",
            "/proc/sys/kernel/hostname": "hostmark",
            "/home/ACMECORP/erin99/x/y": "", "/home/daveuser/x": "",
            "/etc/libvirt/qemu/secretguest.xml": "<domain/>",
            "/etc/pve/qemu-server/100.conf": "name: pveguest\n",
            "/sys/class/dmi/id/product_name": "Laptop 15",
            "/sys/class/dmi/id/product_serial": "SERIALMARK",
            "/sys/class/dmi/id/board_serial": "BOARDMARK",
            "/sys/class/nvme/nvme0/serial": "NVMEMARK",
            "/sys/block/sda/device/serial": "DISKMARK",
            "/sys/class/power_supply/BAT0/serial_number": "BATMARK",
            "/sys/class/power_supply/BAT0/type": "Battery",
            "/proc/812/comm": "alice_app secretguest\n",
            "/home/dmesg": f"[1.1] vfio-pci {BDF}: not ready 1ms after resume "
                           "/srv/srvmark/a/vbios.rom SERIALMARK on alice-pc",
            "/home/romfolder/my.rom": "no ROM",
            "/home/guest":
                "ALICE and Alice_x, alice_vg, /home/ACMECORP/alice, /home/ACMECORP/erin99/"
                "roms/my.rom, file:///home/alice/secretguest.rom, '/home/alice/my roms/x.rom'\n"
                "on alice-pc.example.org, ALICE-PC, hostmark: /run/media/mediamark/STICK/v.rom "
                "/run/media/alice /srv/srvmark\n"
                "MACs 0011.2233.4455 enx001122334455 wlx001122334455 001122334455 "
                "00:11:22:33:44:55 00-11-22-33-44-55, fe80::211:22ff:fe33:4455 10.11.12.13\n"
                "S/N: SNMARK\nserial_number=NUMMARK\n\"serial\": \"JSONMARK\", \"x\": 1\n"
                "Serial Number SNMARK2\nBOARDMARK NVMEMARK DISKMARK BATMARK\n"
                "guests secretguest and pveguest, user daveuser, bobby, carolx\n"
                "uuid 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f\n"
                f"ok  method  \\_SB_.PCI0.S08_._ROM is in the DSDT {BDF} 10de:1f99:17aa:3978\n"
                "nvidia has version 94.06.14.00.9b, QEMU 10.0.2, RmInitAdapter failed! "
                "(0x24:0x72:1603)\n"})
        return tree

    def test_report_leaks_nothing(self):
        text, said = self.report(self.marked(), "--guest", "/home/guest", "--rom",
                              "/home/romfolder/my.rom", "01:00.0")
        for mark in self.MARKS:
            self.assertNotIn(mark.lower(), text.lower())
        # what is said here is not for others
        self.assertIn("alice", said)
        # and keeps what is of use
        for pattern in ("options: intel_iommu=on,sm_on vfio-pci.ids=... pci=... "
                        "module_blacklist=...$", "laptop: Laptop 15", "HOST: v.rom",
                        "kernel: ", "^0000:01:00.0 10de:1f99 class 030000 driver nouveau",
                        "^  0000:00:01.0 8086:1901", "problem  driver",
                        r"S08_._ROM is in the DSDT 0000:01:00.0 10de:1f99:17aa:3978",
                        "94.06.14.00.9b, QEMU 10.0.2", "0x24:0x72:1603", "my.rom: ",
                        "/dev/dri/card1 open", "echo vfio-pci >/sys/bus/pci/devices/",
                        "vbios.rom"):
            self.assertRegex(text, "(?m)" + pattern)

    def test_report_of_an_installer_s_host(self):
        """Whose name the report needs for the system."""
        tree = intel_laptop()
        tree["/etc/hostname"] = "debian"
        tree["/etc/os-release"] = 'PRETTY_NAME="Debian GNU/Linux 13"\nID=debian'
        text, _ = self.report(tree)
        self.assertIn("system: Debian GNU/Linux 13", text)

    def left(self):
        return sorted(os.listdir(self.tree + "/home"))

    def test_report_replaces_nothing(self):
        """Not a file, its own input least of all, a device, or what a link points to."""
        tree = {**intel_laptop(), "/home/old": "old", "/home/x.rom": "old",
                "/home/link": Link("old"), "/home/null": Link("/dev/null"),
                "/home/folder/x": ""}
        self.make(tree)
        os.mkfifo(self.tree + "/home/fifo")
        left = self.left()
        for args, message in (
                (["/home/old"], "it exists: name another file, or add --force"),
                (["/home/x.rom", "--rom", "/home/x.rom"], "is to be read"),
                (["/home/x.rom", "--rom", "/home/x.rom", "--force"], "is to be read"),
                (["/home/old", "--guest", "/home/old", "--force"], "is to be read"),
                *(([name, *force], "it is not a file") for force in ([], ["--force"])
                  for name in ("/home/link", "/home/null", "/home/folder", "/home/fifo",
                               "/home"))):
            with self.subTest(args):
                self.wrong({}, ["--report", *args], f"{args[0]} cannot be written: .*"
                           + message)
                self.assertEqual(self.left(), left)
                for name in "old", "x.rom":
                    with open(f"{self.tree}/home/{name}") as file:
                        self.assertEqual(file.read(), "old\n")

    def test_report_forced(self):
        self.make({**intel_laptop(), "/home/report": "old"})
        self.report({}, "--force")
        with open(self.tree + "/home/report") as file:
            self.assertTrue(file.read().startswith("== versions"))

    def test_report_through_a_link(self):
        """Of the directory's owner, where a report was made before it had its name."""
        for name in "report.new", ".report-":
            self.setUp()
            self.report({**intel_laptop(), "/home/victim": "old",
                         f"/home/{name}": Link("victim")})
            with open(self.tree + "/home/victim") as file:
                self.assertEqual(file.read(), "old\n")

    def test_report_beside_a_fifo(self):
        self.make(intel_laptop())
        os.mkfifo(self.tree + "/home/report.new")
        self.report({})
        self.assertEqual(self.left(), ["report", "report.new"])

    def test_report_on_a_full_disk(self):
        """Nothing half-written is left."""
        self.make(intel_laptop())
        done = self.run_inside("/bin/sh", "-c", "ulimit -f 0; exec /usr/bin/doctor --report "
                               "/home/report", env={"PATH": "/usr/bin", "USER": "alice"})
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertRegex(done.stderr, "^doctor: /home/report cannot be written: .*\n$")
        self.assertEqual(self.left(), [])

    def test_hostile_guest_file(self):
        self.make({**intel_laptop(), "/home/large": bytes(2 << 20)})
        os.mkfifo(self.tree + "/home/fifo")
        os.symlink("/dev/zero", self.tree + "/home/zero")
        os.mknod(self.tree + "/home/sock", 0o600 | 0o140000)
        for name in "fifo", "zero", "large", "sock", "none", "":
            with self.subTest(name):
                self.wrong({}, ["--report", "/home/report", "--guest", f"/home/{name}"],
                           f"/home/{name} cannot be read: ")
                self.assertNotIn("report", self.left())

    def test_hostile_names(self):
        """Of files, users and all that the machine says."""
        tree = amd_laptop()
        tree["/proc/812/comm"] = b"\xff\x1b[31m\xe2\x80\xae\n"
        tree["/home/guest"] = b"\xff\xfe \x1b]0;x\x07 \xc2\x9b31m ok\r\n\0"
        for name in CARD + "/vendor", CARD + "/class", CARD + "/subsystem_vendor", \
                os.path.dirname(CARD) + "/class":
            for value in "what", "", "0x", "-", "\x1b[31m":
                with self.subTest(name, value=value):
                    self.setUp()
                    tree[name], old = value, tree[name]
                    done = self.run_doctor(
                        tree, "01:00.0", "--rom", b"/home/\xff\x1b[31m.rom", "--guest",
                        "/home/guest", "--report", "/home/report")
                    tree[name] = old
                    self.assertEqual(done.stderr, "")
                    self.assertIn(done.returncode, (2, 3))
                    with open(self.tree + "/home/report", "rb") as file:
                        text = file.read().decode()
                    for said in done.stdout, text:
                        self.assertNotRegex(said, "[\0-\x09\x0b-\x1f\x7f-\x9f\u202e]")

    def test_hostile_arguments(self):
        for args in ([b"\xff\x1b[31m"], [b"--report", b"/home/\xff\x1b[31m/x"],
                     [b"--report", b"/home/x", b"--guest", b"/home/\xff\x1b[31m"],
                     [b"--\xff\x1b[31m"]):
            self.setUp()
            done = self.run_doctor(intel_laptop(), *args)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, r"^doctor: .*\\x1b.31m.*" + "\n$")
            self.assertNotRegex(done.stderr, "[\0-\x09\x0b-\x1f\x7f]")

    def test_user_without_a_name(self):
        """No account, no variable."""
        for args in [], ["--report", "/home/report"]:
            self.make({})
            done = self.run_doctor(intel_laptop() if not args else {}, *args,
                                   user_name=None)
            self.assertEqual(done.stderr, "")
            self.assertRegex(done.stdout, "memlock +no limit for 1000")

    def test_no_utf8(self):
        """In the C locale, and where it is not said."""
        tree = amd_laptop()
        tree["/proc/812/comm"] = "Xörg\n"
        self.make(tree)
        for name, value in ("LC_ALL", "C"), ("PYTHONIOENCODING", "ascii"), ("LANG", "xx"):
            done = self.run_inside("/usr/bin/doctor", env={"PATH": "/usr/bin", name: value,
                                                           "PYTHONCOERCECLOCALE": "0"})
            self.assertEqual((done.returncode, done.stderr), (3, ""))

    def test_vbios_tool_says_anything(self):
        """As another version may."""
        tree = {**intel_laptop(), "/home/my.rom": "x"}
        for text in '[]', '[{"usable": true}]', '"x"', '7', 'null', '{"usable": true}', \
                '{"usable": 1, "verdict": ["\\u001b"], "nvidia": 3}', '{', '\\377':
            with self.subTest(text):
                self.setUp()
                self.program("optimus-vbios", f"printf '%b' '{text}'")
                rows = self.rows(tree, "--rom", "/home/my.rom")
                row, = [row for row in rows if row["check"] == "romfile"]
                self.assertNotIn("\x1b", row["text"])

    def test_root_and_sudo(self):
        """A command is one that this user can give."""
        tree = amd_laptop()
        for user, sudo, text in ((1000, True, "sudo kill 812"), (0, True, "kill 812"),
                                 (0, False, "kill 812"), (1000, False, "as root: kill 812")):
            with self.subTest(user=user, sudo=sudo):
                self.setUp()
                file = self.tree + "/usr/bin/sudo"
                if not sudo:
                    os.rename(file, file + ".off")
                try:
                    self.check_row(tree, "users", "problem", "Xorg", f"^{text}$", user=user)
                    for row in self.rows({}, user=user):
                        for key in "mend", "if_so":
                            if user == 0 or not sudo:
                                self.assertNotIn("sudo ", row[key] or "")
                finally:
                    if not sudo:
                        os.rename(file + ".off", file)

    def on_terminal(self, tree, width, **environment):
        """What it prints there."""
        self.make(tree)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        with subprocess.Popen(
                [*self.inside(), "/usr/bin/doctor"], stdin=slave, stdout=slave, stderr=slave,
                env={"PATH": "/usr/bin", "USER": "alice", **environment}) as doctor:
            os.close(slave)
            said = b""
            try:
                while part := os.read(master, 65536):
                    said += part
            except OSError:             # the other end is closed
                pass
            os.close(master)
            self.assertEqual(doctor.wait(60), 3)
        return said.decode().replace("\r\n", "\n")

    def test_terminal(self):
        """As wide as it is, but for commands, and in colours where they are wanted."""
        for width in 60, 100:
            for term, more, colours in (("xterm", {}, True), ("dumb", {}, False),
                                        ("xterm", {"NO_COLOR": "1"}, False),
                                        ("xterm", {"NO_COLOR": ""}, True)):
                self.setUp()
                said = self.on_terminal(amd_laptop(), width, TERM=term, **more)
                self.assertEqual("\033[31mproblem\033[m" in said, colours)
                self.assertEqual("\033" in said, colours)
                plain = re.sub("\033\\[[0-9]*m", "", said)
                for line in plain.splitlines():
                    if not re.match(" +(mend|if so): |next: ", line):
                        self.assertLessEqual(len(line), width)
                self.assertRegex(plain, r"(?m)^problem  users    Xorg \(812\) has "
                                        r".*\n {18}.*\n {18}mend: sudo kill 812$"
                                 if width == 60 else "Xorg")
        self.setUp()
        self.assertNotIn("\033", self.run_doctor(amd_laptop()).stdout)

    def test_next(self):
        tree = {**intel_laptop(), "/home/my.rom": "x"}
        self.program("qemu-system-x86_64", "echo 'QEMU \"name\": \"romfile\"'")
        self.program("optimus-vbios", """echo '{"usable": true, "verdict": "good",
            "nvidia": true}'""")
        no_rom = dict(tree)
        del no_rom["/sys/firmware/acpi/tables/SSDT3"]
        no_rom[CARD + "/device"] = "0x1f99"
        for start, args, text in (
                (tree, [], "with a VBIOS in a file: /usr/bin/doctor 0000:01:00.0 --rom"),
                (tree, ["--rom", "/home/my.rom"],
                 "optimus-attach GUEST 0000:01:00.0 /home/my.rom$"),
                (no_rom, [], "give the guest the card as any other, with plain vfio-pci$"),
                ({**two_cards(), "/dev/vfio/2": Device("all")}, [], "choose a card: /usr/bin/doctor 0000:01:00.0$"),
                (amd_laptop(), [], "do what stands below the problems")):
            with self.subTest(text):
                for name in ("sys", "proc", "dev", "etc"):
                    shutil.rmtree(f"{self.tree}/{name}")
                self.make(start)
                done = self.run_doctor({}, *args)
                self.assertRegex(done.stdout, f"(?m)^next: {text}")

    def test_addresses(self):
        """As people write them."""
        for bdf in "1:0.0", "01:00.0", "0000:01:00.0", "0:1:0.0", "0000:01:0.0":
            self.setUp()
            rows = self.rows(intel_laptop(), bdf)
            self.assertEqual({row["card"] for row in rows}, {None, BDF})
        for bdf in "1:0", "1:0.8", "1:20.0", "1:0.0.0", "x:0.0", "01:00.0 ", "１:0.0":
            self.setUp()
            self.wrong(intel_laptop(), [bdf], f"'{bdf}' is not the address of a card")

    def test_report_names_no_host(self):
        host = os.uname().nodename
        tree = intel_laptop()
        tree["/home/guest"] = f"on {host}: ok"
        text, _ = self.report(tree, "--guest", "/home/guest")
        self.assertIn("on HOST: ok", text)

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
        self.assertRegex(done.stdout, r"problems: 4, warnings: 1\n"
                         r"next: do what stands below the problems.*/usr/bin/doctor\n$")

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
                   if not re.search('"/dev/null"|"/proc/self/(.id_map|setgroups)"', line)
                   and re.search(
            r"O_WRONLY|O_RDWR|O_CREAT| (mkdir|unlink|rename|chmod|kill|mount|"
            r"symlink|init_module|finit_module|mknod|link)(at)?2?\(", line)]
        self.assertEqual(writing, [])


if __name__ == "__main__":
    tap_main("__main__")
