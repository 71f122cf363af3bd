#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-vbios info: what is in a file, and whether it is usable."""

import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import unittest

import vbios
from vbios_case import (IPXE, SEABIOS, VERSION, Case, break_checksum, cut_by_linux,
                  main, memory_dump, patched)

# The IDs are those of the devices that QEMU emulates, for which SeaBIOS and
# iPXE are packaged: include/hw/pci/pci_ids.h and docs/specs/pci-ids.rst of
# QEMU.  The sizes are those of the files: an option ROM fills its file.
VGABIOS = {
    "vgabios-stdvga.bin": "1234:1111",
    "vgabios-bochs-display.bin": "1234:1111",
    "vgabios-cirrus.bin": "1013:00b8",
    "vgabios-qxl.bin": "1b36:0100",
    "vgabios-vmware.bin": "15ad:0405",
    "vgabios-virtio.bin": "1af4:1050",
    "vgabios-ati.bin": "1002:5159",
}
# For ISA and fw_cfg, where there is no PCIR.
VGABIOS_WITHOUT_PCIR = ["vgabios-isavga.bin", "vgabios-ramfb.bin"]
NICS = {
    "e1000": "8086:100e",
    "e1000e": "8086:10d3",
    "eepro100": "8086:1229",
    "ne2k_pci": "0000:0000",    # a driver of iPXE's for ISA cards, without IDs
    "pcnet": "1022:2000",
    "rtl8139": "10ec:8139",
    "virtio": "1af4:1041",
    "vmxnet3": "15ad:07b0",
}

ROOM = 856 << 10        # of the device


def without_bit(image):
    return patched(image, (vbios.BIT, bytes(5)))


class Info(Case):

    def test_vgabios(self):
        for name, card in VGABIOS.items():
            with self.subTest(name):
                path = SEABIOS / name
                facts = self.info(path, code=1)
                self.assertIn(f"it is for {card} of class 030000, ",
                              facts["verdict"])
                image, = facts["images"]
                self.assertEqual(image.pop("vendor_name", None),
                                 "AMD" if card.startswith("1002") else None)
                self.assertEqual(image, {
                    "offset": 0, "length": path.stat().st_size, "type": "x86",
                    "code_type": 0, "vendor": card[:4], "device": card[5:],
                    "device_list": [], "class": "030000", "pcir_revision": 0,
                    "last": True, "checksum_right": True})

    def test_no_pcir(self):
        for name in VGABIOS_WITHOUT_PCIR:
            with self.subTest(name):
                facts = self.info(SEABIOS / name, code=1)
                self.assertEqual(facts["images"], [])
                self.assertIn("no PCIR data structure", facts["verdict"])

    def test_ipxe(self):
        for name, card in NICS.items():
            with self.subTest(name):
                pxe = IPXE / f"pxe-{name}.rom"
                efi = IPXE / f"efi-{name}.rom"
                facts = self.info(pxe, code=1)
                self.assertIn("class 020000", facts["verdict"])
                x86, = facts["images"]
                self.assertEqual(x86["length"], pxe.stat().st_size)
                self.assertEqual(f"{x86['vendor']}:{x86['device']}", card)
                self.assertEqual(x86["type"], "x86")
                self.assertEqual(x86["class"], "020000")
                self.assertEqual(x86["pcir_revision"], 3)
                self.assertEqual(x86["device_list"],
                                 [card[5:]] if card != "0000:0000" else [])
                self.assertTrue(x86["checksum_right"])
                self.assertTrue(x86["last"])

                # The same image with an EFI one behind it.
                first, second = self.info(efi, code=1)["images"]
                self.assertEqual(first, dict(x86, last=False))
                self.assertEqual(second["offset"], x86["length"])
                self.assertEqual(second["length"],
                                 efi.stat().st_size - x86["length"])
                self.assertEqual(second["type"], "EFI")
                self.assertEqual(second["code_type"], 3)
                self.assertEqual(second["efi_machine"], "x64")
                self.assertEqual(second["efi_machine_type"], 0x8664)
                self.assertFalse(second["efi_compressed"])
                self.assertTrue(second["last"])
                self.assertNotIn("checksum_right", second)

    def test_usable(self):
        for rom in (vbios.make(), vbios.make(size=ROOM), vbios.chain(
                # the x86 image counts, wherever in the chain it is
                [{"kind": 0xe0, "class_code": 0}, {"kind": 3, "class_code": 0}, {}])):
            facts = self.info(rom)
            self.assertEqual(facts["verdict"], "usable as romfile")
            self.assertEqual(facts["trailing"], 0)

    def test_padding(self):
        for more, padding in ((b"\xff" * 100, True), (b"\xff\xfe", False)):
            facts = self.info(vbios.make() + more, says=f"the {len(more)} bytes after the "
                              "images do no harm")
            self.assertEqual((facts["trailing"], facts["trailing_padding"]),
                             (len(more), padding))

    def test_flash_dump(self):
        path = self.put("v.rom", vbios.chain(
            [{"npde": True}, {"kind": 3, "size": 4096}, {"kind": 0xe0},
             {"kind": 0x70, "size": 1024}], nvgi=True, padding=512))
        facts = self.info(path, code=1)
        self.assertTrue(facts["nvgi"])
        self.assertEqual(facts["leading"], 0x2000)
        self.assertEqual(facts["rfrd"], 0x1200)
        self.assertEqual(facts["trailing"], 512)
        self.assertEqual([i["type"] for i in facts["images"]],
                         ["x86", "EFI", "NVIDIA E0", "NVIDIA 70"])
        self.assertEqual(facts["images"][0]["npde_revision"], "1.1")
        self.assertIn("offset 0x2000, after an NVGI header: cut them out "
                      "with optimus-vbios trim", facts["verdict"])
        text = self.run_tool("info", path).stdout
        self.assertIn("NVGI header", text)
        self.assertIn("0x001200  RFRD directory", text)
        self.assertIn("512 bytes: padding", text)

    def test_compressed_efi(self):
        rom = patched(vbios.make(kind=3), (0x0a, struct.pack("<2H", 0xaa64, 1)))
        facts = self.info(rom, code=1, says="no image is of the type x86")
        self.assertEqual(facts["images"][0]["efi_machine"], "aa64")
        self.assertTrue(facts["images"][0]["efi_compressed"])

    def test_version_of_text(self):
        rom = patched(vbios.make(), (0x800, b"Version 86.04.50.00.64"))
        self.assertEqual(self.info(rom)["images"][0]["version"], "86.04.50.00.64")

    def test_origin(self):
        """What helps to choose, in JSON and in the text."""
        name = b"GM107 Board - 1234\r\n\0"
        strings = bytes(15) + struct.pack("<HB", 0x800, len(name)) + bytes(3)
        rom = patched(vbios.make(tokens={**VERSION, "S": strings}, pcir=0x60),
                      (0x38, b"03/14/15"), (0x54, b"\xaa\x17\x78\x39"),
                      (0x800, name))
        path = self.put("v.rom", rom)
        facts = self.info(path)
        image, = facts["images"]
        self.assertEqual(facts["sha256"], hashlib.sha256(rom).hexdigest())
        expected = {"version": "82.07.55.00.1a", "board": "GM107 Board - 1234",
                    "date": "03/14/15", "subsystem": "17aa:3978"}
        self.assertEqual({fact: image[fact] for fact in expected}, expected)
        text = self.good("info", path)
        for fact, value in expected.items():
            self.assertIn(f" {fact} {value}", text)
        self.assertIn(facts["sha256"], text)
        self.assertIn("NVIDIA 10de:139b", text)

    def test_no_origin(self):
        """What is filled in later, or no date and no string at all."""
        for ids in (b"PMID", b"\xde\x10\0\0", bytes(4), b"\xff" * 4):
            strings = bytes(15) + struct.pack("<HB", 0xffff, 9)
            image, = self.info(patched(
                vbios.make(size=4096, tokens={"S": strings}, pcir=0x60),
                (0x38, b"13/14\x01/5"), (0x54, ids)))["images"]
            self.assertFalse({"subsystem", "date", "board", "version"} & image.keys())

    def test_version_broken(self):
        """Tables that lead out of the image, at its very end."""
        image = without_bit(vbios.make(size=4096))
        for at, table in ((4096 - 5, b"\xff\xb8BIT"),
                          (4096 - 14, b"\xff\xb8BIT\0\0\1\x0c\6\xff\0i\2"),
                          (0x800, b"\xff\xb8BIT\0\0\1\xff\0\xff\0"),
                          (0x800, b"\xff\xb8BIT\0\0\1\x0c\6\1\0"
                                  b"i\2\5\0\xfc\x0f"),
                          (4096 - 10, b"Version 86")):
            facts = self.info(patched(image, (at, table), fix=False))
            self.assertNotIn("version", facts["images"][0])

    def test_verdicts(self):
        whole = vbios.make(size=51200)
        for rom, code, says in (
                (whole[:-1], 1, "the file ends 0x1 bytes before its end; get it again"),
                (break_checksum(whole), 0, "trim --fix-checksum"),
                (break_checksum(vbios.chain([{}], nvgi=True)), 1,
                 "cut them out with optimus-vbios trim; and the checksum of the image at "
                 "offset 0x2000 is wrong"),
                (b"MZ" + bytes(5000), 1, "none starts further in"),
                (vbios.make(size=ROOM) + b"\0", 1, "cut off what follows"),
                (vbios.make(size=ROOM + 512), 1, "the images have 877056 bytes, and the "
                 "device has room for 876544"),
                # of a card without NPDE to cut there is no rule of Linux's
                (vbios.make(last=False), 1, "get it again"),
                (vbios.make(kind=3, class_code=0), 1, "romfile: no image is of the type "
                 "x86"),
                (without_bit(vbios.make(class_code=0x020000)), 1,
                 "it is for devices of class 020000"),
                (b'REGEDIT4\r\n"a"=hex:55,aa\r\n', 1,
                 "an export of Windows' registry: optimus-vbios extract")):
            with self.subTest(says):
                facts = self.info(rom, code=code, says=says)
                self.assertEqual(facts["verdict"].count("class"), says.count("class"))
        self.assertIn("0x1 bytes", self.info(whole[:-1], code=1)["broken"])
        self.assertFalse(self.info(break_checksum(whole))["images"][0]["checksum_right"])

    def test_nouveau_only(self):
        for rom, says in (
                (without_bit(vbios.make()), "it has no BIT"),
                (patched(vbios.make(), (vbios.BIT + 8, b"\x0d")),
                 "the checksum of its BIT"),
                (patched(vbios.make(), (0, b"VN")), "it starts with 56 4e (VN), which is "
                 "NVIDIA's own")):
            facts = self.info(rom, says="usable as romfile with nouveau only: " + says)
            self.assertEqual((facts["nvidia"], facts["nouveau"]), (False, True))
            self.assertEqual(len(facts["images"]), 1)
        self.info(rom[:-1], code=1, says="is broken")

    def test_cut_by_linux(self):
        facts = self.info(cut_by_linux(), says="it was cut after the image at offset "
                          "0x2000, as Linux's sysfs and dumps of memory are, and the x86 "
                          "image does not refer")
        self.assertEqual([i["type"] for i in facts["images"]], ["x86", "EFI"])
        self.assertIn("pcir length 4096,\n          pcir last, not last",
                      self.good("info", cut_by_linux()))
        # pointers of generations that have something there
        for token, pointer in (("P", 8192), ("p", 0xffffc)):
            facts = self.info(cut_by_linux(
                {token: struct.pack("<3I", 8188, 0xffffffff, pointer)}), code=1,
                says="nvflash, GPU-Z or the laptop's firmware have the whole")
            self.assertEqual(len(facts["images"]), 2)
        self.info(cut_by_linux({"P": struct.pack("<2I", 8188, 0x100000)}))

    def test_second_chain(self):
        """Found by those who look at PCIR alone."""
        first = vbios.make(size=8192, npde=True)
        second = vbios.make(size=4096, kind=3)
        rom = first + bytes(512) + second + b"\xff" * 99
        facts = self.info(rom, says="trim --all keeps")
        self.assertEqual(len(facts["images"]), 1)
        (image,), = facts["further_chains"]
        self.assertEqual((image["offset"], image["type"]), (8704, "EFI"))
        self.assertEqual(facts["trailing"], 99)
        text = self.good("info", rom)
        self.assertIn("512 bytes: padding", text)
        self.assertIn("another chain of images:\n0x002200  4096 bytes: EFI", text)

    def test_device_list_of_ff(self):
        """A list that is none, and one that ends where the flash is empty."""
        for at, after, devices in ((b"\xff\xff", b"", []), (
                b"\0\1", b"\x92\x13" + b"\xff" * 5000, ["1392"])):
            rom = patched(vbios.make(), (0x48, at), (0x140, after))
            self.assertEqual(self.info(rom)["images"][0]["device_list"], devices)
        self.assertIn(" device list 1392,", self.good("info", rom))

    def test_other_vendor(self):
        for vendor, says in ((0x1002, "a device of AMD"),
                             (0x8086, "a device of Intel"),
                             (0x102b, "which is not NVIDIA's")):
            rom = vbios.make(vendor=vendor)
            whose = (f"not usable as romfile: it is for {vendor:04x}:139b of "
                     f"class 030200, {says}, and only drivers of NVIDIA cards "
                     "look for _ROM: a laptop's firmware has option ROMs of "
                     "other devices, too")
            # and nothing else is said, whatever else is wrong
            for other in (rom, break_checksum(rom), vbios.make(vendor=vendor, kind=3),
                          b"x" + rom, rom + bytes(0x100000), rom + rom,
                          vbios.make(vendor=vendor, size=900 << 10)):
                self.assertEqual(self.info(other, code=1)["verdict"], whose)
            facts = self.info(rom + vbios.make(), code=1)
            self.assertEqual(facts["verdict"], whose + "; optimus-vbios extract "
                             f"gets the one at offset 0x{len(rom):x}, which is "
                             "NVIDIA's")

    def test_damaged(self):
        """NVIDIA's own images sum up to 0, too, and EFI images do not."""
        rom = vbios.chain([{"size": 4096, "npde": True},
                           {"size": 4096, "kind": 3, "npde": True},
                           {"size": 4096, "kind": 0xe0, "npde": True},
                           {"size": 1024, "kind": 0x70}])
        self.assertEqual(self.info(rom)["verdict"], "usable as romfile")
        self.assertEqual(self.good("info", rom).count("checksum right"), 3)
        facts = self.info(patched(rom, (0x1fff, b"x"), fix=False))
        self.assertEqual(facts["remarks"], "")
        facts = self.info(patched(rom, (0x2fff, b"x"), (0x33ff, b"x"), fix=False),
                          says="the checksum of what NVIDIA has at offset 0x2000, 0x3000 "
                          "is wrong: it is damaged")
        self.assertIn("--fix-checksum", facts["verdict"])
        self.assertTrue(facts["nvidia"])

    CONTAINERS = {
        b"PK\3\4": "unzip -d", b"7z\xbc\xaf\x27\x1c": "7z x",
        b"\x1f\x8b\x08": "gunzip", b"BZh9": "bunzip2", b"\xfd7zXZ\0": "unxz",
        b"Rar!\x1a\x07\0": "unrar", b"MSCF\0\0\0\0": "cabextract",
        b"MZ" + bytes(999) + b"Inno Setup Setup Data (5.5.7)": "innoextract",
        b"MZ" + bytes(999) + b"7z\xbc\xaf\x27\x1c": "7z x",
        b"MZ" + bytes(999) + b"UPX!": "upx -d",
        b"MZ" + bytes(999) + b"PK\3\4": "unzip -d",
        b"MZ" + bytes(999) + b"MSCF\0\0\0\0": "cabextract",
        b"\x28\xb5\x2f\xfd": "unzstd"}

    def test_containers(self):
        """What it is, and the command that unpacks it, which all name."""
        for start, command in self.CONTAINERS.items():
            path = self.put("a file", start + bytes(3000))
            verdict = self.info(path, code=1, says=command)["verdict"]
            self.assertIn(f"'{self.dir}/a file'", verdict)
            self.bad("trim", path, self.dir / "out.rom", says=command)
            self.bad("extract", path, "-o", self.dir / "out", says=command)
        for start in (b"55 ab 7e", b"MZ" + bytes(999), b"x7z\xbc\xaf\x27\x1c",
                      b"ff 55 aa"):
            self.info(start + bytes(3000), code=1, says="firmware update")

    @unittest.skipUnless(shutil.which("xxd") and shutil.which("hexdump"),
                         "no xxd or hexdump here")
    def test_hex_text(self):
        """The command that info names makes of each text the ROM again."""
        rom = vbios.make(size=4096)
        binary = self.put("v.rom", rom)
        words = ", ".join(f"0x{byte:02x}" for byte in rom)
        texts = {
            "acpi_call": "{" + words + "}", "list": words.upper().replace(
                "X", "x"),
            "blanks": rom.hex(" "), "commas": rom.hex(","), "plain": rom.hex()}
        for command in ("xxd", "xxd -u", "xxd -g1", "xxd -p", "xxd -i",
                        "hexdump -C", "hexdump", "od -t x1", "od -A x -t x1",
                        "od -A n -t x1", "od -t x1z", "od -x", "hexdump -v -C"):
            texts[command] = subprocess.run(
                [*command.split(), binary], check=True, text=True,
                stdout=subprocess.PIPE).stdout
        for name, text in texts.items():
            with self.subTest(name):
                path = self.put("a 'text'", text.encode())
                verdict = self.info(path, code=1)["verdict"]
                self.assertIn("text of hexadecimal numbers: make it binary with ",
                              verdict)
                command = verdict.split("make it binary with ")[1]
                subprocess.run(["sh", "-ec", command], check=True,
                               stderr=subprocess.DEVNULL)
                self.assertEqual((self.dir / "a 'text'.bin").read_bytes(), rom)
                self.assertEqual(path.read_bytes(), text.encode())
                for args in (("trim", path, self.dir / "out.rom"),
                             ("extract", path, "-o", self.dir / "out")):
                    self.bad(*args, says=command)

    @unittest.skipUnless(shutil.which("hexdump"), "no hexdump here")
    def test_hex_text_with_gaps(self):
        """Lines that repeat are left out: no command gets them back."""
        binary = self.put("binary", patched(vbios.make(size=4096), (0x400, bytes(256))))
        for command in ("hexdump -C", "hexdump", "od -t x1"):
            text = subprocess.run([*command.split(), binary], check=True,
                                  stdout=subprocess.PIPE).stdout
            self.assertIn(b"\n*\n", text)
            self.info(text, code=1, says="make it again with xxd")

    def test_same_again(self):
        rom = vbios.make(size=0x70000)
        rom += bytes(0x70000) + rom
        # three times, and with another one in between, which has room or not
        small, other = vbios.make(size=8192), vbios.make(size=4096, kind=3)
        for data, code, says in (
                (rom, 1, "cut off what follows the images with optimus-vbios trim; "
                 "the chain at 0xe0000 is the same again: not needed"),
                (small * 3, 0, "the chain at 0x2000 is the same again: not needed, as 1 "
                 "more"),
                (small + other + small + other, 0,
                 "trim --all keeps; the chain at 0x3000 is the same again"),
                (small + bytes(0xe0000) + other, 1, "others, from offset 0xe2000 on, for "
                 "which the device has no room")):
            verdict = self.info(data, code=code, says=says)["verdict"]
            self.assertEqual("--all" in verdict, "--all" in says)
            self.assertTrue(verdict.endswith(says) or "--all" in says, verdict)
        self.assertIn("the same chain again:\n0x0e0000", self.run_tool("info", rom).stdout)

    def test_fill(self):
        """Whole images, and then the rest of the memory that was dumped."""
        rom = memory_dump()
        bare = self.info(rom, says="usable as romfile; but it was cut after the image at "
                         "offset 0x0, as Linux's sysfs and dumps of memory are")
        for fill in (b"\xff" * 4096, b"\0" * 4096, b"\xff"):
            facts = self.info(rom + fill)
            self.assertEqual(facts["verdict"], bare["verdict"] + f"; the "
                             f"{len(fill)} bytes after the images do no harm")
            self.assertEqual(facts["images"], bare["images"])
        self.info(rom + b"\xff" * 4095 + b"x", code=1, says="is broken")

    def test_nothing_read(self):
        for byte in (b"\0", b"\xff"):
            facts = self.info(byte * 0x20000, code=1)
            self.assertEqual(facts["verdict"], "not usable as romfile: all its "
                             f"bytes are {byte.hex()}: nothing was read when it "
                             "was made; get it another way")
            self.bad("trim", byte * 0x20000, self.dir / "out.rom",
                     says="nothing was read when it was made")

    def test_own_flash(self):
        """What a card needs, by its generation."""
        says = "a card of its generation has a flash of its own as a rule"
        for device, own in ((0x1dff, False), (0x1e00, True), (0x2f04, True)):
            facts = self.info(vbios.make(device=device))
            self.assertEqual(says in facts["verdict"], own)
        self.info(vbios.make(size=881152, device=0x2f04), code=1, says="the images have "
                  "881152 bytes, and the device has room for 876544; " + says)

    def test_control_characters(self):
        """Are not sent to the terminal."""
        path = self.put("a\x1b[31mb\n\x9b.rom", vbios.make())
        shown = f"{self.dir}/a\\x1b[31mb\\x0a\\xc2\\x9b.rom"
        self.assertTrue(self.good("info", path).startswith(shown + ": "))
        out = self.dir / "out\x1b.rom"
        self.assertIn("/out\\x1b.rom' has", self.good("trim", path, out))
        self.bad("trim", path, out, says="/out\\x1b.rom' exists")
        self.assertIn("/ro\\x1b/10de", self.good("extract", path, "-o",
                                               self.dir / "ro\x1b"))

    def test_direction(self):
        """Neither is what turns round the direction of the text."""
        path = self.put("a\u202eb\u2028c\u200bd.rom", vbios.make())
        shown = f"{self.dir}/a\\xe2\\x80\\xaeb\\xe2\\x80\\xa8c\\xe2\\x80\\x8bd.rom: "
        self.assertTrue(self.good("info", path).startswith(shown))
        text = self.good("info", "--json", path)
        self.assertTrue(text.isascii())
        self.assertEqual(json.loads(text)["file"], str(path))

    def test_odd_name(self):
        name = 'a "name" \\ with\ttab \xff'.encode("latin-1")
        path = pathlib.Path(os.fsdecode(bytes(self.dir) + b"/" + name))
        path.write_bytes(vbios.make())
        facts = json.loads(self.good("info", "--json", path))
        self.assertIn('a "name" \\ with\ttab', facts["file"])


if __name__ == "__main__":
    main()
