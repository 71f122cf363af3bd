#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the card needs a ROM file, and whether a file is one."""

import os
import re
import shutil
import sys

import vbios
from doctor_case import (CARD, TOP, Device, DoctorTest, intel_laptop, method, pci,
                  two_cards)
from tap import need, tap_main


def without_rom(tree, ids):
    """A laptop whose firmware has no _ROM for its card."""
    del tree["/sys/firmware/acpi/tables/SSDT3"]
    tree.update({CARD + "/vendor": "0x10de", CARD + "/device": "0x" + ids})
    return tree


class NeedTest(DoctorTest):
    """Does the card at hand need it, and a ROM file?"""

    def check_need(self, tree, status, text, mend, romfile, *args):
        first, *rows = self.rows(tree, *args)
        self.assertEqual((first["check"], first["status"]), ("need", status), first)
        self.assertRegex(first["text"], text)
        self.assertRegex(first["mend"] or first["if_so"] or "none", mend)
        rows = {row["check"]: row for row in rows}
        self.assertEqual(rows["romfile"]["status"], romfile)

    def test_maxwell(self):
        self.check_need(intel_laptop(), "ok", r"^Maxwell: yes: the firmware has _ROM for "
                        r"the card, at \\_SB.PCI0.PEG0.PEGP in the SSDT3; nouveau.*"
                        "Windows driver ask for it$", "^none$", "warning")

    def test_rom_of_another(self):
        tree = intel_laptop()
        tree["/sys/firmware/acpi/tables/SSDT3"] = method("_SB_.PCI0.PEG1.PEGP")
        self.check_need(tree, "hint", "^probably not: use plain vfio-pci. Because the "
                        "firmware has no _ROM for the card .Maxwell.", "dump", "ok")

    def test_what_looks_like_a_scope(self):
        """Real laptops: bytes that are no scope lie before the method, and after it."""
        for code in ("100e4a554e4b 101d5c2f045f53425f504349305045475f5649445f 14095f524f4d02a400",
                     "10235c2f045f53425f504349305045475f5649445f 100e4a554e4b "
                     "14095f524f4d02a400"):
            for node in r"\_SB_.PCI0.PEG_.VID_", r"\_SB.PCI0.PEG.VID":
                self.setUp()
                tree = intel_laptop()
                tree["/sys/firmware/acpi/tables/SSDT3"] = bytes(36) + bytes.fromhex(code)
                tree[CARD + "/firmware_node/path"] = node
                self.check_need(tree, "ok", r"^Maxwell: yes: .*\\_SB.PCI0.PEG.VID in the "
                                "SSDT3", "^none$", "warning")

    def test_empty_method(self):
        tree = intel_laptop()
        tree["/sys/firmware/acpi/tables/SSDT3"] = method("_SB_.PCI0.PEG0.PEGP").replace(
            b"\x14\x09_ROM\x02\xa4\x00", b"\x14\x06_ROM\x02\xa3\xa3")
        self.check_need(tree, "hint", "^Maxwell: perhaps: .*PEGP in the SSDT3, but it is empty",
                        "^none$", "hint")

    def test_method_that_cannot_be_placed(self):
        """What is not known is called so."""
        tree = intel_laptop()
        tree["/sys/firmware/acpi/tables/SSDT3"] = bytes(36) + bytes.fromhex(
            "0202 111000 1408 5f524f4d 02a400 ffffffffffff")
        self.check_need(tree, "hint", "^Maxwell: perhaps: the SSDT3 has a _ROM, but not to "
                        "tell", "^none$", "hint")

    def test_no_tables(self):
        tree = {path: value for path, value in intel_laptop().items()
                if "/acpi/tables/" not in path}
        self.check_need(tree, "hint", "^Maxwell: perhaps: .*no ACPI tables", "^none$", "hint")

    def test_pascal_not_root(self):
        tree = intel_laptop()
        tree[CARD + "/device"] = "0x1c8d"
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        self.check_need(tree, "hint", "^Pascal: yes, if the firmware has .* only root",
                        "^sudo /usr/bin/doctor 0000:01:00.0$", "warning")

    def test_pascal_with_flash(self):
        self.check_need(without_rom(intel_laptop(), "1c8d"), "hint",
                        "^probably not: use plain vfio-pci. Because .*Pascal.*flash of its own",
                        "^sudo optimus-vbios dump --host 0000:01:00.0", "ok")

    def test_turing(self):
        """Nobody is sent looking for a VBIOS."""
        for ids, name in ("1f99", "Turing"), ("2520", "Ampere"), ("28a0", "Ada"):
            with self.subTest(name):
                self.setUp()
                self.check_need(without_rom(intel_laptop(), ids), "ok",
                                "^probably not: use plain vfio-pci. Because .*"
                                f"{name}.*flash of their own: do not look for a VBIOS", "^none$", "ok")

    def test_turing_not_root(self):
        tree = without_rom(intel_laptop(), "1f99")
        tree["/sys/firmware/acpi/tables/DSDT"] = Device("none")
        self.check_need(tree, "hint", "^probably not: .* only root sees",
                        "^sudo /usr/bin/doctor", "ok")

    def test_turing_with_method(self):
        tree = intel_laptop()
        tree[CARD + "/device"] = "0x1f99"
        self.check_need(tree, "ok", "^Turing: yes: .*; its open modules do not$",
                        "^none$", "warning")

    def test_two_gpus(self):
        """Of two cards each has its own answer."""
        tree = two_cards()
        rows = [row for row in self.rows(tree) if row["check"] == "need"]
        self.assertRegex(rows[0]["text"], "^Maxwell: yes")
        self.assertRegex(rows[1]["text"], "^probably not: .*Pascal")

    def test_thunderbolt(self):
        bridge = "/sys/devices/pci0000:00/0000:00:07.0/0000:03:00.0"
        tree = intel_laptop()
        tree.update(pci("/sys/devices/pci0000:00/0000:00:07.0", "8086:9a23", "060400", 5))
        tree.update(pci(bridge, "8086:15d3", "060400", 5, removable="removable"))
        tree.update(pci(bridge + "/0000:04:00.0", "10de:1b81", "030000", 5, "vfio-pci"))
        self.check_need(tree, "ok", "^no: use plain vfio-pci. Because .*Pascal.*Thunderbolt",
                        "^none$", "ok", "04:00.0")

    def test_no_node(self):
        tree = intel_laptop()
        del tree[CARD + "/firmware_node/path"]
        self.check_need(tree, "hint", "^probably not: .*Maxwell", "dump", "ok")

    def test_generations(self):
        """All cards of NVIDIA's that the PCI ID Repository (of trixie) knows."""
        chips = {"GF": "Fermi", "GK": "Kepler", "GM": "Maxwell", "GP": "Pascal",
                 "GV": "Volta", "TU": "Turing", "GA": "Ampere", "GH": "Hopper",
                 "AD": "Ada", "GB": "Blackwell", "G": "Tesla", "GT": "Tesla"}
        with open(need(f"{TOP}/build/root/pci-ids/usr/share/misc/pci.ids")) as file:
            text = re.search(r"(?ms)^10de .*?^(?=[0-9a-f]{4} )", file.read()).group()
        found = {int(number, 16): chips[chip] for number, chip, name in re.findall(
            r"(?m)^\t([0-9a-f]{4})  (G[FKMPVAHB]|TU|AD|GT?)\d+(.*)$", text)
            if not re.search("Audio|USB|UCSI|PCI|NVSwitch", name)}
        self.assertGreater(len(found), 1000)
        sys.path.insert(0, f"{TOP}/hw-optimus/doctor")
        self.addCleanup(sys.path.remove, f"{TOP}/hw-optimus/doctor")
        # pylint: disable=import-outside-toplevel
        from optimus_doctor.need import generation
        wrong = {hex(number): (name, generation(number))
                 for number, name in found.items()
                 if not generation(number).startswith(name)}
        self.assertEqual(wrong, {})


class RomfileTest(DoctorTest):
    def rom(self, image):
        tree = intel_laptop()
        tree["/home/my.rom"] = image
        return tree

    def test_usable(self):
        self.check_row(self.rom(vbios.make()), "romfile", "ok",
                       "^/home/my.rom: usable as romfile for the card",
                       args=["--rom", "/home/my.rom"])

    def test_not_named(self):
        self.check_row(intel_laptop(), "romfile", "warning", "--rom FILE", None,
                       "optimus-vbios dump --host 0000:01:00.0 -o vbios.rom")

    def test_checksum(self):
        image = bytearray(vbios.make())
        image[0x1000] ^= 1
        self.check_row(self.rom(bytes(image)), "romfile", "warning",
                       "checksum .* is wrong", "trim /home/my.rom vbios.rom "
                       "--fix-checksum$", args=["--rom", "/home/my.rom"])

    def test_header(self):
        self.check_row(self.rom(vbios.chain([{}], nvgi=True)), "romfile",
                       "problem", "NVGI", "trim /home/my.rom vbios.rom$",
                       args=["--rom", "/home/my.rom"])

    def test_other_card(self):
        self.check_row(self.rom(vbios.make(device=0x1234)), "romfile", "warning",
                       "nouveau only: it is for 10de:1234", "optimus-vbios dump",
                       args=["--rom", "/home/my.rom"])

    def test_missing(self):
        self.check_row(intel_laptop(), "romfile", "problem", "No such file",
                       "optimus-vbios dump", args=["--rom", "/home/my.rom"])

    def for_libvirt(self, mode=0o644, folder=0o755, place="/home/roms/my.rom",
                    **files):
        """Where libvirt's guests are run by somebody else than whose ROM it is."""
        tree = intel_laptop()
        tree["/etc/libvirt/libvirtd.conf"] = ""
        tree["/etc/passwd"] = ("root:x:0:0::/:/bin/sh\n"
                               "libvirt-qemu:x:64055:64055::/:/bin/false\n"
                               "carol:x:1001:1001::/:/bin/sh")
        tree[place] = vbios.make()
        tree.update(files)
        self.make(tree)
        os.chmod(self.tree + place, mode)
        os.chmod(self.tree + os.path.dirname(place), folder)
        return {}

    def check_readable(self, tree, status, text, place="/home/roms/my.rom"):
        mend = None if status == "ok" else (
            f"^sudo install -D -m 644 {place} /usr/share/vgabios/my.rom$")
        self.check_row(tree, "readable", status, text, mend, args=["--rom", place])

    def test_readable(self):
        self.check_readable(self.for_libvirt(), "ok", "libvirt-qemu.* may read /home")

    def test_readable_mode(self):
        self.check_readable(self.for_libvirt(0o600), "warning", "libvirt-qemu.* may not "
                            r"read /home/roms/my.rom \(mode 0600\)")

    def test_readable_folder(self):
        self.check_readable(self.for_libvirt(folder=0o700), "warning", "may not enter "
                            r"/home/roms \(mode 0700\)")

    def test_readable_user_of_the_settings(self):
        for user, status in ("root", "ok"), ("carol", "warning"), ("+1001", "warning"):
            self.setUp()
            self.check_readable(self.for_libvirt(0o600, **{
                "/etc/libvirt/qemu.conf": f'#user = "x"\nuser = "{user}"'}), status,
                "root" if user == "root" else "carol")

    def test_readable_apparmor(self):
        for place, status in (("/usr/share/vgabios/my.rom", "ok"),
                              ("/home/roms/my.rom", "warning")):
            self.setUp()
            self.check_readable(self.for_libvirt(place=place, **{
                "/sys/module/apparmor/parameters/enabled": "Y",
                "/etc/apparmor.d/abstractions/libvirt-qemu":
                    "  /usr/share/{seabios,vgabios}/** r,\n"}), status,
                "may read" if status == "ok" else "AppArmor lets .* no /home", place)
        shutil.rmtree(self.tree + "/usr/share/vgabios")

    def test_readable_without_libvirt(self):
        rows = self.rows(self.rom(vbios.make()), "--rom", "/home/my.rom")
        self.assertNotIn("readable", [row["check"] for row in rows])

    def test_no_tool(self):
        tool = f"{self.tree}/usr/bin/optimus-vbios"
        os.rename(tool, tool + ".off")
        try:
            self.check_row(self.rom(vbios.make()), "romfile", "warning",
                           "there is no optimus-vbios", "scripts/install",
                           args=["--rom", "/home/my.rom"])
        finally:
            os.rename(tool + ".off", tool)


if __name__ == "__main__":
    tap_main("__main__")
