#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The card: its group, its driver, who uses it, its power, its IDs."""

import os

from doctor_case import (AUDIO, BDF, CARD, DEVICES, Device, DoctorTest, Link,
                  amd_laptop, intel_laptop, no_iommu, pci, two_cards, without)
from tap import tap_main


class CardTest(DoctorTest):
    def test_card(self):
        self.check_row(intel_laptop(), "card", "ok", "10de:139b, class 0302")

    def test_card_class_0300(self):
        self.check_row(amd_laptop(), "card", "ok", "10de:1f99, class 0300")

    def without_card(self):
        return {path: value for path, value in intel_laptop().items() if BDF not in path}

    def test_no_card(self):
        """That is said, and what the rest of the machine is like."""
        tree = self.without_card()
        rows = {row["check"]: row for row in self.rows(tree)}
        self.assertEqual(rows["card"]["status"], "problem")
        self.assertRegex(rows["card"]["text"], "no display controller of NVIDIA.*"
                         "0000:00:02.0 is a card of Intel's.*OpRegion")
        self.assertIn("rescan", rows["card"]["if_so"])
        self.assertLess({"cpu", "iommu", "qemu", "libvirt"}, set(rows))
        self.assertEqual({row["card"] for row in rows.values()}, {None})

    def test_no_card_amd(self):
        """Whose it is, and no command for another project's card."""
        tree = self.without_card()
        tree.update(pci("/sys/devices/pci0000:00/0000:03:00.0", "1002:7480", "030000", 3))
        self.check_row(tree, "card", "problem", "0000:03:00.0 is a card of AMD's.*ATRM.*"
                       "this project is for NVIDIA's", None, "rescan")

    def test_other_card(self):
        """On another's address it stops, and names the one that was meant."""
        tree = intel_laptop()
        tree.update(pci("/sys/devices/pci0000:00/0000:03:00.0", "1002:7480", "030000", 3))
        for bdf, whose in ("00:02.0", "Intel's"), ("03:00.0", "AMD's"):
            for there, text in (tree, f"name {BDF}"), (
                    self.without_card(), "this machine has none"):
                self.setUp()
                there.update(pci("/sys/devices/pci0000:00/0000:03:00.0", "1002:7480",
                                 "030000", 3))
                done = self.run_doctor(there, bdf)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, f"^doctor: 0000:{bdf} is a card of {whose}.*; "
                                 f"this project is for NVIDIA's: {text}.*\n$")
                self.assertNotIn("romfile=", done.stderr)

    def test_no_display(self):
        self.check_row(intel_laptop(), "card", "warning",
                       "class 0604: not a display controller of NVIDIA", "lspci",
                       args=["00:01.0"])

    def test_two_cards(self):
        rows = self.rows(two_cards())
        self.assertEqual([row["card"] for row in rows if row["check"] == "ids"],
                         [BDF, "0000:02:00.0"])

    def test_one_of_two_cards(self):
        rows = self.rows(two_cards(), "02:00.0")
        self.assertEqual({row["card"] for row in rows}, {None, "0000:02:00.0"})

    def test_group(self):
        """What another function of the card has to be on; and no command here may take
        the disk from the host."""
        audio = AUDIO + "/driver"
        on_vfio = {**amd_laptop(), audio: Link("/sys/bus/pci/drivers/vfio-pci")}
        disk = pci("/sys/devices/pci0000:00/0000:00:17.0", "8086:a102", "010601", 1, "ahci")
        self.check_rows(
            "group",
            (intel_laptop(), "ok", r"^1, shared with 0000:00:01.0 \(pcieport\)$"),
            (no_iommu(intel_laptop()), "problem", "in no IOMMU group", "^sudo dmesg"),
            (amd_laptop(), "problem", r"not viable: .*0000:01:00.1 \(snd_hda_intel\)",
             "vfio-pci; for d in 0000:01:00.1; do"),
            (on_vfio, "ok", r"shared with 0000:01:00.1 \(vfio-pci\)"),
            (without(amd_laptop(), audio), "ok", r"0000:01:00.1 \(no driver\)"),
            ({**intel_laptop(), **disk}, "problem",
             r"not viable: .*0000:00:17.0 \(ahci\).*as a whole",
             None, "^systemctl reboot --firmware-setup$"))

    def test_group_alone(self):
        self.check_row(two_cards(), "group", "ok", "^2, of its own$", args=["02:00.0"])

    def test_driver(self):
        self.check_rows(
            "driver",
            (intel_laptop(), "ok", "^vfio-pci$"),
            (amd_laptop(), "problem", "nouveau has the card; stop what", None,
             "vfio-pci; for d in 0000:01:00.0; do"),
            (without(intel_laptop(), CARD + "/driver"), "problem", "none has the card",
             "for d in 0000:01:00.0; do"))

    def test_users(self):
        self.check_row(intel_laptop(), "users", "ok", "no process")

    def test_users_of_the_desktop(self):
        self.check_row(amd_laptop(), "users", "problem",
                       r"Xorg \(812\) has /dev/dri/card1 open", "^sudo kill 812$")

    def test_users_of_nvidia(self):
        tree = amd_laptop()
        del tree["/proc/812/fd/14"]
        tree[f"/proc/driver/nvidia/gpus/{BDF}/information"] = \
            "Model: \t\t NVIDIA\nDevice Minor: \t 1\n"
        tree["/proc/813/comm"] = "python3\n"
        tree["/proc/813/fd/3"] = Link("/dev/nvidia1")
        # of another card
        tree["/proc/814/fd/3"] = Link("/dev/nvidia0")
        self.check_row(tree, "users", "problem",
                       r"^python3 \(813\) has /dev/nvidia1 open:", "^sudo kill 813$")

    def test_users_guest(self):
        """A guest that runs is no fault."""
        for node in "/dev/vfio/1", "/dev/vfio/devices/vfio0":
            for device, text in (
                    (f"-device\0vfio-optimus,host={BDF}", "as vfio-optimus"),
                    ('-device\0{"driver":"vfio-optimus"}', "as vfio-optimus"),
                    (f"-device\0vfio-pci,host={BDF}", "as plain vfio-pci")):
                self.setUp()
                tree = intel_laptop()
                tree[CARD + "/vfio-dev/vfio0/dev"] = "511:0"
                tree["/proc/99/comm"] = "qemu-system-x86\n"
                tree["/proc/99/cmdline"] = "qemu-system-x86_64\0" + device
                tree["/proc/99/fd/20"] = Link(node)
                self.check_row(tree, "users", "hint", rf"a guest runs with it, {text}.*: "
                               rf"qemu-system-x86 \(99\) has {node} open",
                               None, "^sudo kill 99$")

    def test_users_beside_a_guest(self):
        tree = intel_laptop()
        tree["/proc/99/comm"] = "qemu-system-x86\n"
        tree["/proc/98/comm"] = "test\n"
        tree["/proc/99/fd/20"] = tree["/proc/98/fd/20"] = Link("/dev/vfio/1")
        self.check_row(tree, "users", "problem", "test .98. has", "^sudo kill 98 99$")

    def of_nvidia(self, **files):
        tree = amd_laptop()
        del tree["/proc/812/fd/14"], tree[CARD + "/driver"]
        tree[CARD + "/driver"] = Link("/sys/bus/pci/drivers/nvidia")
        tree.update(files)
        return tree

    def test_users_in_the_kernel(self):
        """No process has the card open, and an unbind hangs all the same."""
        fbdev = "/sys/module/nvidia_drm/parameters/fbdev"
        for files, text in (
                ({fbdev: "Y"}, "nvidia_drm with fbdev"),
                ({"/proc/fb": "0 nvidia-drmdrmfb"}, "nvidia-drmdrmfb"),
                ({"/proc/fb": "0 i915drmfb\n1 nvidia-drmdrmfb"}, "nvidia-drmdrmfb"),
                ({CARD + "/graphics/fb0/dev": "29:0"}, "fb0"),
                ({"/home/dmesg": f"[9.1] NVRM: Attempting to remove device {BDF} with "
                                 "non-zero usage count!"}, "an earlier unbind hung")):
            with self.subTest(text):
                self.setUp()
                self.check_row(self.of_nvidia(**files), "users", "problem",
                               f"^the kernel: .*{text}.*row driver$")
                self.check_row({}, "driver", "problem", "an unbind hangs",
                               "softdep nvidia pre: vfio-pci")
                for row in self.rows({}):
                    self.assertNotIn("driver/unbind; echo $d", (row["mend"] or "").replace(
                        AUDIO.rsplit("/", 1)[-1], "") if row["check"] == "driver" else "")

    def test_users_not_in_the_kernel(self):
        """The console is on another card, or the driver makes none."""
        for files in ({"/sys/module/nvidia_drm/parameters/fbdev": "N"},
                      {"/proc/fb": "0 i915drmfb"},
                      {"/home/dmesg": "[9.1] NVRM: Attempting to remove device 0000:02:00.0 "
                                      "with non-zero usage count!"}):
            with self.subTest(files):
                self.setUp()
                self.check_row(self.of_nvidia(**files), "users", "ok", "no process")

    def test_users_hostile_name(self):
        tree = amd_laptop()
        tree["/proc/812/comm"] = "\33]0;x\7\33[31mX\u202e\n"
        done = self.run_doctor(tree)
        self.assertIn(r"\x1b]0;x\x07\x1b[31mX\u202e (812) has", done.stdout)
        self.assertNotRegex(done.stdout, "[\0-\x09\x0b-\x1f\x7f\u202e]")

    IOMEM = ("00000000-00000fff : Reserved\n"
             "d0000000-efffffff : PCI Bus 0000:00\n"
             "  d0000000-dfffffff : PCI Bus 0000:01\n"
             "    d0000000-dfffffff : {}\n"
             "      d0000000-d07e8fff : BOOTFB\n"
             "    e0000000-e0ffffff : 0000:01:00.1\n")

    def test_display(self):
        tree = intel_laptop()
        tree["/proc/iomem"] = self.IOMEM.format("0000:00:02.0")
        tree[CARD + "/boot_vga"] = "0"
        self.check_row(tree, "display", "ok", "the host has 0000:00:02.0")

    def test_display_boot(self):
        for files, text, mend, if_so in (
                ({CARD + "/boot_vga": "1"}, "boot_vga.*0000:00:02.0", None,
                 "firmware-setup"),
                ({"/proc/iomem": self.IOMEM.format(BDF)}, "BOOTFB",
                 "initcall_blacklist=sysfb_init", None),
                ({"/home/dmesg": f"[1.1] vfio-pci {BDF}: BAR 1: can't reserve [mem "
                                 "0xd0000000-0xdfffffff 64bit pref]"},
                 "can't reserve .mem 0xd", "initcall_blacklist=sysfb_init", None)):
            with self.subTest(text):
                self.setUp()
                self.check_row({**intel_laptop(), **files}, "display", "warning", text,
                               mend, if_so)

    def test_display_only(self):
        tree = {path: value for path, value in intel_laptop().items()
                if "0000:00:02.0" not in path}
        self.check_row(tree, "display", "warning", "the only display controller.*ssh",
                       None, "enable --now ssh")

    def test_users_unseen(self):
        self.make(intel_laptop())
        os.makedirs(self.tree + "/proc/500/fd")
        os.chmod(self.tree + "/proc/500/fd", 0)
        self.check_row({}, "users", "warning",
                       "alice cannot see what 1 processes of others",
                       r"^sudo /usr/bin/doctor 0000:01:00.0$")

    def test_access(self):
        device = "/dev/vfio/1"
        cdev = {**without(intel_laptop(), "/dev/vfio/vfio", device),
                CARD + "/vfio-dev/vfio0/dev": "511:0", "/dev/iommu": Device("all"),
                "/dev/vfio/devices/vfio0": Device("all")}
        self.check_rows(
            "access",
            (intel_laptop(), "ok", "may use /dev/vfio/1$"),
            (cdev, "ok", "may use /dev/vfio/devices/vfio0$"),
            ({**intel_laptop(), device: Device("none")}, "problem",
             "alice may not use /dev/vfio/1 ", "^sudo chown alice /dev/vfio/1$"),
            (without(intel_laptop(), "/dev/vfio/vfio"), "problem",
             "^/dev/vfio/vfio is missing", "^sudo modprobe -a vfio-pci vfio_iommu_type1$"))

    def test_access_other_driver(self):
        self.assertNotIn("access", [row["check"]
                                    for row in self.rows(amd_laptop())])

    def test_reset(self):
        """Old kernels tell only whether there is a way."""
        methods = CARD + "/reset_method"
        none = without(intel_laptop(), methods)
        self.check_rows(
            "reset",
            ({**intel_laptop(), methods: "flr bus"}, "ok", "^flr bus$"),
            ({**none, CARD + "/reset": ""}, "ok", "possible"),
            (none, "warning", "no way to reset", None, "^systemctl suspend$"))

    def power(self, d3cold="0", idle="Y", log="", **files):
        tree = intel_laptop()
        tree["/sys/module/vfio_pci/parameters/disable_idle_d3"] = idle
        for path in CARD, os.path.dirname(CARD):
            tree[path + "/d3cold_allowed"] = d3cold
        tree["/home/dmesg"] = log
        tree.update({f"{CARD}/{name}": value for name, value in files.items()})
        return tree

    def test_power(self):
        self.check_row(self.power(), "power", "ok", "stays awake")

    def test_power_idle(self):
        self.check_row(self.power(idle="N"), "power", "hint", "may go to D3",
                       None, "disable_idle_d3=1 >/etc/modprobe.d.*echo Y >/sys/module/vfio_pci")

    def test_power_cold(self):
        port = os.path.dirname(CARD)
        self.check_row(self.power(d3cold="1"), "power", "hint", "the port above it",
                       None, f"echo 0 >{DEVICES}/{BDF}/d3cold_allowed; "
                       f"echo 0 >{port}/d3cold_allowed'$")

    def test_power_symptoms(self):
        for log in ("not ready 65535ms after resume; giving up",
                    "can't change power state from D3cold to D0",
                    "Unable to change power state from D3hot to D0, device inaccessible",
                    "vfio: Unable to power on device, stuck in D3"):
            with self.subTest(log):
                self.setUp()
                line = f"[  9.1] vfio-pci {BDF}: {log}"
                self.check_row(self.power(idle="N", log=line), "power", "problem",
                               "did not come back from D3: '.*" + log[-12:],
                               "disable_idle_d3")
        self.setUp()
        self.check_row(self.power(power_state="unknown"), "power", "problem",
                       "power state unknown.*told to stay awake", None, "systemctl reboot")

    def test_power_symptoms_of_another(self):
        line = "[  9.1] vfio-pci 0000:02:00.0: not ready 65535ms after resume; giving up"
        self.check_row(self.power(log=line), "power", "ok", "awake")

    def test_audio(self):
        """Only what a guest would get is to go to another place."""
        for driver in "vfio-pci", None:
            self.setUp()
            tree = amd_laptop()
            del tree[AUDIO + "/driver"]
            if driver:
                tree[AUDIO + "/driver"] = Link(f"/sys/bus/pci/drivers/{driver}")
            self.check_row(tree, "audio", "hint", "0000:01:00.1 is the card's audio", None,
                           "modprobe pci-stub; for d in 0000:01:00.1; do echo pci-stub")

    def test_audio_of_the_host(self):
        """The row group has the command, and no other row has another one."""
        tree = amd_laptop()
        self.check_row(tree, "audio", "ok", "0000:01:00.1 .* .snd_hda_intel.")
        commands = [row["mend"] or row["if_so"] for row in self.rows({}) if "0000:01:00.1" in
                    ((row["mend"] or "") + (row["if_so"] or ""))]
        self.assertEqual(len(commands), 1)
        self.assertIn("echo vfio-pci", commands[0])

    def test_audio_with_outputs(self):
        """A card of class 0300 can have the laptop's ports."""
        for state, text in ("connected", "a screen is connected"), \
                ("disconnected", "where the laptop's ports hang on this card"):
            self.setUp()
            tree = amd_laptop()
            tree[CARD + "/drm/card1/card1-HDMI-A-1/status"] = state
            self.check_row(tree, "audio", "ok", text)
            self.assertNotIn("without outputs", self.run_doctor({}).stdout)

    def test_audio_on_stub(self):
        tree = amd_laptop()
        tree[AUDIO + "/driver"] = Link("/sys/bus/pci/drivers/pci-stub")
        self.check_row(tree, "audio", "ok", "0000:01:00.1 is on pci-stub")

    def test_no_audio(self):
        self.assertNotIn("audio", [row["check"] for row in self.rows(intel_laptop())])

    def card_with(self, **settings):
        return {**intel_laptop(), **pci(CARD, "10de:139b", "030200", 1, "vfio-pci",
                                        **settings)}

    def test_ids(self):
        config = CARD + "/config"
        self.check_rows(
            "ids",
            (intel_laptop(), "ok", "17aa:3978, in sysfs and in"),
            (self.card_with(own="0000:0000"), "ok",
             "17aa:3978 in sysfs, .* lost them: 0000:0000"),
            (self.card_with(sub="0000:0000"), "warning",
             "0000:0000 in sysfs: the kernel does not know them",
             "x-pci-sub-vendor-id=0xVVVV,x-pci-sub-device-id=0xDDDD"),
            (self.card_with(sub="ffff:ffff", own="17aa:3978"), "warning",
             "the card has 17aa:3978",
             "x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978"),
            ({**intel_laptop(), config: b"\xff" * 256}, "problem", "does not answer",
             "remove.*rescan"),
            ({**intel_laptop(), config: b""}, "warning", "cannot be read", "^lspci"))


if __name__ == "__main__":
    tap_main("__main__")
