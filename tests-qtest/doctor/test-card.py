#!/usr/bin/python3
"""The card: its group, its driver, who uses it, its power, its IDs."""

import os

from doctor_case import (AUDIO, BDF, CARD, DEVICES, Device, DoctorTest, Link,
                  amd_laptop, intel_laptop, no_iommu, pci, two_cards)
from tap import tap_main


class CardTest(DoctorTest):
    def test_card(self):
        self.check_row(intel_laptop(), "card", "ok", "10de:139b, class 0302")

    def test_card_class_0300(self):
        self.check_row(amd_laptop(), "card", "ok", "10de:1f99, class 0300")

    def test_no_card(self):
        """That is said, and no more."""
        tree = {path: value for path, value in intel_laptop().items()
                if BDF not in path}
        row, = self.rows(tree)
        self.assertEqual((row["check"], row["status"]), ("card", "problem"))
        self.assertRegex(row["text"], "no display controller of NVIDIA.*"
                                      "0000:00:02.0 is a card of Intel's.*OpRegion")
        self.assertIn("rescan", row["mend"])

    def test_no_card_amd(self):
        """Nothing that a rescan could find."""
        tree = {path: value for path, value in intel_laptop().items()
                if BDF not in path}
        tree.update(pci("/sys/devices/pci0000:00/0000:03:00.0", "1002:7480", "030000", 3))
        row, = self.rows(tree)
        self.assertRegex(row["text"], "0000:03:00.0 is a card of AMD's.*ATRM.*vfio-pci "
                                      "with romfile=")
        self.assertIsNone(row["mend"])

    def test_other_card(self):
        self.check_row(intel_laptop(), "card", "warning",
                       "8086:191b, class 0300: a card of Intel's",
                       "lspci", args=["00:02.0"])

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
        self.check_row(intel_laptop(), "group", "ok",
                       r"^1, shared with 0000:00:01.0 \(pcieport\)$")

    def test_group_alone(self):
        self.check_row(two_cards(), "group", "ok", "^2, of its own$",
                       args=["02:00.0"])

    def test_group_none(self):
        self.check_row(no_iommu(intel_laptop()), "group", "problem",
                       "in no IOMMU group", "^sudo dmesg")

    def test_group_own_function(self):
        self.check_row(amd_laptop(), "group", "problem",
                       r"not viable: .*0000:01:00.1 \(snd_hda_intel\)",
                       "vfio-pci; for d in 0000:01:00.1; do")

    def test_group_own_function_bound(self):
        tree = amd_laptop()
        tree[AUDIO + "/driver"] = Link("/sys/bus/pci/drivers/vfio-pci")
        self.check_row(tree, "group", "ok", r"shared with 0000:01:00.1 \(vfio-pci\)")

    def test_group_own_function_unbound(self):
        tree = amd_laptop()
        del tree[AUDIO + "/driver"]
        self.check_row(tree, "group", "ok", r"0000:01:00.1 \(no driver\)")

    def test_group_other_device(self):
        """No command here may take the disk from the host."""
        tree = intel_laptop()
        tree.update(pci("/sys/devices/pci0000:00/0000:00:17.0", "8086:a102",
                        "010601", 1, "ahci"))
        self.check_row(tree, "group", "problem",
                       r"not viable: .*0000:00:17.0 \(ahci\).*as a whole",
                       "^systemctl reboot --firmware-setup$")

    def test_driver(self):
        self.check_row(intel_laptop(), "driver", "ok", "^vfio-pci$")

    def test_driver_of_the_host(self):
        self.check_row(amd_laptop(), "driver", "problem", "nouveau has the card",
                       "vfio-pci; for d in 0000:01:00.0; do")

    def test_driver_none(self):
        tree = intel_laptop()
        del tree[CARD + "/driver"]
        self.check_row(tree, "driver", "problem", "none has the card",
                       "for d in 0000:01:00.0; do")

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
        for node in "/dev/vfio/1", "/dev/vfio/devices/vfio0":
            self.setUp()
            tree = intel_laptop()
            tree[CARD + "/vfio-dev/vfio0/dev"] = "511:0"
            tree["/proc/99/comm"] = "qemu-system-x86\n"
            tree["/proc/99/fd/20"] = Link(node)
            self.check_row(tree, "users", "problem",
                           rf"qemu-system-x86 \(99\) has {node} open",
                           "^sudo kill 99$")

    def test_users_unseen(self):
        self.make(intel_laptop())
        os.makedirs(self.tree + "/proc/500/fd")
        os.chmod(self.tree + "/proc/500/fd", 0)
        self.check_row({}, "users", "warning",
                       "alice cannot see what 1 processes of others",
                       r"^sudo /usr/bin/doctor 0000:01:00.0$")

    def test_access(self):
        self.check_row(intel_laptop(), "access", "ok", "may use /dev/vfio/1$")

    def test_access_cdev(self):
        tree = intel_laptop()
        del tree["/dev/vfio/vfio"], tree["/dev/vfio/1"]
        tree[CARD + "/vfio-dev/vfio0/dev"] = "511:0"
        tree["/dev/iommu"] = tree["/dev/vfio/devices/vfio0"] = Device("all")
        self.check_row(tree, "access", "ok", "may use /dev/vfio/devices/vfio0$")

    def test_access_denied(self):
        tree = intel_laptop()
        tree["/dev/vfio/1"] = Device("none")
        self.check_row(tree, "access", "problem", "alice may not use /dev/vfio/1 ",
                       "^sudo chown alice /dev/vfio/1$")

    def test_access_missing(self):
        tree = intel_laptop()
        del tree["/dev/vfio/vfio"]
        self.check_row(tree, "access", "problem", "^/dev/vfio/vfio is missing",
                       "^sudo modprobe -a vfio-pci vfio_iommu_type1$")

    def test_access_other_driver(self):
        self.assertNotIn("access", [row["check"]
                                    for row in self.rows(amd_laptop())])

    def test_reset(self):
        tree = intel_laptop()
        tree[CARD + "/reset_method"] = "flr bus"
        self.check_row(tree, "reset", "ok", "^flr bus$")

    def test_reset_old_kernel(self):
        tree = intel_laptop()
        del tree[CARD + "/reset_method"]
        tree[CARD + "/reset"] = ""
        self.check_row(tree, "reset", "ok", "possible")

    def test_reset_none(self):
        tree = intel_laptop()
        del tree[CARD + "/reset_method"]
        self.check_row(tree, "reset", "warning", "no way to reset",
                       "^systemctl suspend$")

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
                       "disable_idle_d3=1 >/etc/modprobe.d.*echo Y >/sys/module/vfio_pci")

    def test_power_cold(self):
        port = os.path.dirname(CARD)
        self.check_row(self.power(d3cold="1"), "power", "hint", "the port above it",
                       f"echo 0 >{DEVICES}/{BDF}/d3cold_allowed; "
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
                       "power state unknown.*told to stay awake", "systemctl reboot")

    def test_power_symptoms_of_another(self):
        line = "[  9.1] vfio-pci 0000:02:00.0: not ready 65535ms after resume; giving up"
        self.check_row(self.power(log=line), "power", "ok", "awake")

    def test_audio(self):
        self.check_row(amd_laptop(), "audio", "hint", "0000:01:00.1 is the card's audio",
                       "modprobe pci-stub; for d in 0000:01:00.1; do echo pci-stub")

    def test_audio_on_stub(self):
        tree = amd_laptop()
        tree[AUDIO + "/driver"] = Link("/sys/bus/pci/drivers/pci-stub")
        self.check_row(tree, "audio", "ok", "0000:01:00.1 is on pci-stub")

    def test_no_audio(self):
        self.assertNotIn("audio", [row["check"] for row in self.rows(intel_laptop())])

    def test_ids(self):
        self.check_row(intel_laptop(), "ids", "ok", "17aa:3978, in sysfs and in")

    def card_with(self, **settings):
        tree = intel_laptop()
        tree.update(pci(CARD, "10de:139b", "030200", 1, "vfio-pci", **settings))
        return tree

    def test_ids_lost(self):
        self.check_row(self.card_with(own="0000:0000"), "ids", "ok",
                       "17aa:3978 in sysfs, .* lost them: 0000:0000")

    def test_ids_unknown(self):
        self.check_row(self.card_with(sub="0000:0000"), "ids", "warning",
                       "0000:0000 in sysfs: the kernel does not know them",
                       "x-pci-sub-vendor-id=0xVVVV,x-pci-sub-device-id=0xDDDD")

    def test_ids_only_in_the_card(self):
        self.check_row(self.card_with(sub="ffff:ffff", own="17aa:3978"), "ids",
                       "warning", "the card has 17aa:3978",
                       "x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978")

    def test_ids_no_answer(self):
        tree = intel_laptop()
        tree[CARD + "/config"] = b"\xff" * 256
        self.check_row(tree, "ids", "problem", "does not answer",
                       "remove.*rescan")

    def test_ids_unreadable(self):
        tree = intel_laptop()
        tree[CARD + "/config"] = b""
        self.check_row(tree, "ids", "warning", "cannot be read", "^lspci")


if __name__ == "__main__":
    tap_main("__main__")
