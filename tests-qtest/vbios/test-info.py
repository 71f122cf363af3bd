#!/usr/bin/python3
"""Tests of optimus-vbios: test-info.py PROGRAM [TEST]...

They run in a mount namespace of their own, where /sys and parts of /proc are
replaced by directories that describe a machine with the card in question."""

import contextlib
import hashlib
import json
import lzma
import os
import pathlib
import pty
import random
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tty
import unittest
import zlib

import vbios
from machine import tap_main
from namespace import IS_ROOT, enter_namespace, mounted

TOP = pathlib.Path(__file__).resolve().parents[2]
ROOT = TOP / "build/root"
SEABIOS = ROOT / "qemu-7.2/usr/share/seabios"
OVMF = ROOT / "qemu-7.2/usr/share/OVMF"
IPXE = ROOT / "qemu-7.2/usr/lib/ipxe/qemu"
TOOLS = ROOT / "vbios-tools/usr"
PROGRAM = None
NOBODY = 65534

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


VERSION = {"i": bytes([0x00, 0x55, 0x07, 0x82, 0x1a])}   # 82.07.55.00.1a


def break_checksum(image):
    return image[:-1] + bytes([image[-1] ^ 0x5a])


def patched(image, *changes, fix=True):
    """IMAGE with bytes at offsets, and the checksum right again unless FIX is
    False."""
    image = bytearray(image)
    for at, data in changes:
        image[at:at + len(data)] = data
    return vbios.balance(bytes(image), len(image)) if fix else bytes(image)


def without_bit(image):
    return patched(image, (vbios.BIT, bytes(5)))


def cut_by_linux(tokens=None):
    """What the kernel shows in sysfs of x86 and EFI images with more behind
    them: it stops where PCIR says that it is the last."""
    return vbios.make(size=8192, npde=True, last=False, tokens=tokens) + \
        vbios.make(size=4096, kind=3, npde=True, last=False, pcir_last=True)


def dell(*contents):
    """Sections of an update of Dell's."""
    return b"".join(
        bytes.fromhex("aaeeaa761becbb20f1e651") + bytes([n]) +
        zlib.compress(content) + bytes(16) for n, content in enumerate(contents))


def load_dump(image):
    """A flash dump of 16 MiB with IMAGE somewhere in it."""
    rest = random.Random(7)
    before = rest.randbytes(5 << 20) + b"\xff" * 12345
    return (before + image).ljust(12 << 20, b"\0") + rest.randbytes(4 << 20)


LZMA_GUID = bytes.fromhex("98584eee143959429d6edc7bd79403cf")


def ovmf_with(image):
    """OVMF with IMAGE in a section of its own among those that are compressed
    together.  Sizes and checksums as in the UEFI PI specification, volume 3."""
    fd = bytearray((OVMF / "OVMF_CODE_4M.fd").read_bytes())
    section = fd.find(LZMA_GUID) - 4
    file = section - 24             # it is the first one in its file
    size = int.from_bytes(fd[section:section + 3], "little")
    start = section + struct.unpack_from("<H", fd, section + 20)[0]
    inner = lzma.decompress(bytes(fd[start:section + size]), lzma.FORMAT_ALONE)
    inner += bytes(-len(inner) % 4)
    inner += (len(image) + 4).to_bytes(3, "little") + b"\x19" + image
    packed = bytearray(subprocess.run(["xz", "--format=lzma", "--stdout"],
                                      input=inner, check=True,
                                      stdout=subprocess.PIPE).stdout)
    # xz does not say how long it is, and the firmware wants to know.
    packed[5:13] = struct.pack("<Q", len(inner))
    new = start - section + len(packed)
    end = section + max(new, size)
    assert fd[section + size:end].strip(b"\xff") == b""
    fd[start:end] = packed.ljust(end - start, b"\xff")
    fd[section:section + 3] = new.to_bytes(3, "little")
    fd[file + 20:file + 23] = (24 + new).to_bytes(3, "little")
    fd[file + 16] = 0
    fd[file + 16] = -(sum(fd[file:file + 23]) - fd[file + 17]) & 0xff
    return bytes(fd)


def capsule(body):
    guid = bytes.fromhex("bd86663b760d3040b70eb5519e2fc5a0")
    return guid + struct.pack("<3I", 0x50, 0, 0x50 + len(body)) + bytes(
        0x50 - 28) + body


class Case(unittest.TestCase):

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="test-vbios."))
        self.dir.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.dir)

    @contextlib.contextmanager
    def subTest(self, what):
        """pycotap is silent about failures in those of unittest."""
        try:
            yield
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None

    def put(self, name, data):
        path = self.dir / name
        path.write_bytes(data)
        return path

    def run_tool(self, *args, path=None, **how):
        env = dict(os.environ, LC_ALL="C.UTF-8")
        if path is not None:
            env["PATH"] = str(path)
        how.setdefault("stdout", subprocess.PIPE)
        return subprocess.run([PROGRAM, *map(str, args)], env=env, text=True,
                              stderr=subprocess.PIPE, **how)

    def good(self, *args, **how):
        run = self.run_tool(*args, **how)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run.stdout)
        return run.stdout

    def bad(self, *args, says, code=1, **how):
        """It fails with a single line on stderr, and SAYS in it."""
        run = self.run_tool(*args, **how)
        self.assertEqual(run.returncode, code, run.stderr)
        self.assertIn(says, run.stderr)
        lines = run.stderr.splitlines()
        self.assertEqual(len(lines), 2 if code == 2 else 1, run.stderr)
        self.assertTrue(lines[0].startswith("optimus-vbios: "), run.stderr)
        return run

    def info(self, path, *args, code=0):
        run = self.run_tool("info", "--json", path, *args)
        self.assertEqual((run.returncode, run.stderr), (code, ""))
        facts = json.loads(run.stdout)
        self.assertEqual(facts["usable"], code == 0)
        self.assertEqual(facts["file"], str(path))
        text = self.run_tool("info", path, *args)
        self.assertEqual((text.returncode, text.stderr), (code, ""))
        self.assertEqual(text.stdout.splitlines()[-1], facts["verdict"])
        return facts

    def files(self, *parts):
        return sorted(os.listdir(self.dir.joinpath(*parts)))


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

    def test_laptop(self):
        facts = self.info(self.put("v.rom", vbios.make()))
        self.assertEqual(facts["verdict"], "usable as romfile")
        self.assertEqual(facts["trailing"], 0)

    def test_padding(self):
        facts = self.info(self.put("v.rom", vbios.make() + b"\xff" * 100))
        self.assertEqual((facts["trailing"], facts["trailing_padding"]),
                         (100, True))
        self.assertIn("100 bytes behind the images do no harm",
                      facts["verdict"])
        facts = self.info(self.put("v.rom", vbios.make() + b"\xff\xfe"))
        self.assertEqual((facts["trailing"], facts["trailing_padding"]),
                         (2, False))

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
        self.assertIn("offset 0x2000, behind an NVGI header: cut them out "
                      "with optimus-vbios trim", facts["verdict"])
        text = self.run_tool("info", path).stdout
        self.assertIn("NVGI header", text)
        self.assertIn("0x001200  RFRD directory", text)
        self.assertIn("512 bytes: padding", text)

    def test_compressed_efi(self):
        image = bytearray(vbios.make(kind=3))
        image[0x0a:0x0e] = struct.pack("<2H", 0xaa64, 1)
        facts = self.info(self.put("v.rom", bytes(image)), code=1)
        self.assertEqual(facts["images"][0]["efi_machine"], "aa64")
        self.assertTrue(facts["images"][0]["efi_compressed"])
        self.assertIn("no image is of the type x86", facts["verdict"])

    def test_version_of_bit(self):
        facts = self.info(self.put("v.rom", vbios.make(tokens=VERSION)))
        self.assertEqual(facts["images"][0]["version"], "82.07.55.00.1a")

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
            self.assertIn(f"  {fact} {value}\n", text)
        self.assertIn(facts["sha256"], text)
        self.assertIn("NVIDIA 10de:139b", text)

    def test_no_origin(self):
        """What is filled in later, or no date and no string at all."""
        for ids in (b"PMID", b"\xde\x10\0\0", bytes(4), b"\xff" * 4):
            strings = bytes(15) + struct.pack("<HB", 0xffff, 9)
            path = self.put("v.rom", patched(
                vbios.make(size=4096, tokens={"S": strings}, pcir=0x60),
                (0x38, b"13/14\x01/5"), (0x54, ids)))
            image, = self.info(path)["images"]
            for fact in ("subsystem", "date", "board", "version"):
                self.assertNotIn(fact, image)

    def test_version_of_text(self):
        image = bytearray(vbios.make())
        image[0x800:0x816] = b"Version 86.04.50.00.64"
        facts = self.info(self.put("v.rom", bytes(image)))
        self.assertEqual(facts["images"][0]["version"], "86.04.50.00.64")

    def test_version_broken(self):
        """Tables that lead out of the image, at its very end."""
        image = without_bit(vbios.make(size=4096))
        for at, table in ((4096 - 5, b"\xff\xb8BIT"),
                          (4096 - 14, b"\xff\xb8BIT\0\0\1\x0c\6\xff\0i\2"),
                          (0x800, b"\xff\xb8BIT\0\0\1\xff\0\xff\0"),
                          (0x800, b"\xff\xb8BIT\0\0\1\x0c\6\1\0"
                                  b"i\2\5\0\xfc\x0f"),
                          (4096 - 10, b"Version 86")):
            broken = image[:at] + table + image[at + len(table):]
            facts = self.info(self.put("v.rom", broken))
            self.assertNotIn("version", facts["images"][0])

    def test_wrong_checksum(self):
        facts = self.info(self.put("v.rom", break_checksum(
            vbios.make(size=51200))))
        self.assertFalse(facts["images"][0]["checksum_right"])
        self.assertIn("trim --fix-checksum", facts["verdict"])

    def test_truncated(self):
        image = vbios.make(size=51200)
        facts = self.info(self.put("v.rom", image[:-1]), code=1)
        self.assertIn("the file ends 0x1 bytes before its end; get it again",
                      facts["verdict"])
        self.assertIn("0x1 bytes", facts["broken"])

    def test_no_chain(self):
        facts = self.info(self.put("v.rom", b"MZ" + bytes(5000)), code=1)
        self.assertIn("none starts further in", facts["verdict"])

    def test_too_large(self):
        """The device has room for 860 KiB."""
        room = 860 << 10
        self.info(self.put("v.rom", vbios.make(size=room)))
        facts = self.info(self.put("v.rom", vbios.make(size=room) + b"\0"),
                          code=1)
        self.assertIn("cut off what follows", facts["verdict"])
        facts = self.info(self.put("v.rom", vbios.make(size=room + 512)),
                          code=1)
        self.assertIn("the images have 881152 bytes, and the device has room "
                      "for 880640", facts["verdict"])

    def test_cut_by_linux(self):
        path = self.put("v.rom", cut_by_linux())
        facts = self.info(path)
        self.assertEqual([i["type"] for i in facts["images"]], ["x86", "EFI"])
        self.assertIn("it was cut behind the image at offset 0x2000, as "
                      "Linux's sysfs does, and the x86 image does not refer",
                      facts["verdict"])
        self.assertIn("without NPDE: 4096 bytes, last",
                      self.good("info", path))

        # pointers of generations that have something there
        for token, pointer in (("P", 8192), ("p", 0xffffc)):
            facts = self.info(self.put("v.rom", cut_by_linux(
                {token: struct.pack("<3I", 8188, 0xffffffff, pointer)})), code=1)
            self.assertEqual(len(facts["images"]), 2)
            self.assertIn("nvflash, GPU-Z or the laptop's firmware have the "
                          "whole", facts["verdict"])
        self.info(self.put("v.rom", cut_by_linux(
            {"P": struct.pack("<2I", 8188, 0x100000)})))

        # of a card without NPDE it is no rule of Linux's
        facts = self.info(self.put("v.rom", vbios.make(last=False)), code=1)
        self.assertIn("get it again", facts["verdict"])

    def test_second_chain(self):
        """Found by those who look at PCIR alone."""
        first = vbios.make(size=8192, npde=True)
        second = vbios.make(size=4096, kind=3)
        path = self.put("v.rom", first + bytes(512) + second + b"\xff" * 99)
        facts = self.info(path)
        self.assertEqual(len(facts["images"]), 1)
        (image,), = facts["further_chains"]
        self.assertEqual((image["offset"], image["type"]), (8704, "EFI"))
        self.assertEqual(facts["trailing"], 99)
        self.assertIn("trim --all keeps", facts["verdict"])
        text = self.good("info", path)
        self.assertIn("512 bytes: padding", text)
        self.assertIn("another chain of images:\n0x002200  4096 bytes: EFI",
                      text)

    def test_device_list_of_ff(self):
        """A list that is none, and one that ends where the flash is empty."""
        rom = patched(vbios.make(), (0x48, b"\xff\xff"))
        self.assertEqual(self.info(self.put("v.rom", rom))["images"][0]
                         ["device_list"], [])
        rom = patched(vbios.make(), (0x48, b"\0\1"),
                      (0x140, b"\x92\x13" + b"\xff" * 5000))
        path = self.put("v.rom", rom)
        self.assertEqual(self.info(path)["images"][0]["device_list"], ["1392"])
        self.assertIn("device list: 1392\n", self.good("info", path))

    def test_other_vendor(self):
        for vendor, says in ((0x1002, "a device of AMD"),
                             (0x8086, "a device of Intel"),
                             (0x102b, "which is not NVIDIA's")):
            path = self.put("v.rom", vbios.make(vendor=vendor))
            facts = self.info(path, code=1)
            self.assertIn(f"it is for {vendor:04x}:139b of class 030200, "
                          f"{says}, and only drivers of NVIDIA cards look for "
                          "_ROM", facts["verdict"])

    def test_efi_without_class(self):
        facts = self.info(self.put("v.rom", vbios.make(kind=3, class_code=0)),
                          code=1)
        self.assertIn("no image is of the type x86", facts["verdict"])
        self.assertNotIn("class", facts["verdict"])

    def test_other_order(self):
        """The x86 image counts, wherever in the chain it is."""
        rom = vbios.chain([{"kind": 0xe0, "class_code": 0},
                           {"kind": 3, "class_code": 0}, {"tokens": VERSION}])
        self.assertEqual(self.info(self.put("v.rom", rom))["verdict"],
                         "usable as romfile")

    def test_damaged(self):
        """NVIDIA's own images sum up to 0, too, and EFI images do not."""
        parts = [{"size": 4096, "npde": True},
                 {"size": 4096, "kind": 3, "npde": True},
                 {"size": 4096, "kind": 0xe0, "npde": True},
                 {"size": 1024, "kind": 0x70}]
        rom = vbios.chain(parts)
        path = self.put("v.rom", rom)
        self.assertEqual(self.info(path)["verdict"], "usable as romfile")
        self.assertEqual(self.good("info", path).count("checksum right"), 3)
        self.info(self.put("v.rom", patched(rom, (0x1fff, b"x"), fix=False)))
        self.assertEqual(self.info(path)["remarks"], "")
        facts = self.info(self.put("v.rom", patched(
            rom, (0x2fff, b"x"), (0x33ff, b"x"), fix=False)))
        self.assertIn("the checksum of what NVIDIA has at offset 0x2000, 0x3000 "
                      "is wrong: it is damaged", facts["verdict"])
        self.assertIn("--fix-checksum", facts["verdict"])
        self.assertTrue(facts["nvidia"])

    def test_bit(self):
        for rom, says in (
                (without_bit(vbios.make()), "it has no BIT"),
                (patched(vbios.make(), (vbios.BIT + 8, b"\x0d")),
                 "the checksum of its BIT")):
            facts = self.info(self.put("v.rom", rom))
            self.assertIn("usable as romfile with nouveau only: " + says,
                          facts["verdict"])
            self.assertFalse(facts["nvidia"])
            self.assertTrue(facts["nouveau"])
        facts = self.info(self.put("v.rom", without_bit(
            vbios.make(class_code=0x020000))), code=1)
        self.assertIn("it is for devices of class 020000", facts["verdict"])

    def test_nvgi_checksum(self):
        rom = bytearray(vbios.chain([{}], nvgi=True))
        rom[-1] ^= 1
        facts = self.info(self.put("v.rom", bytes(rom)), code=1)
        self.assertIn("cut them out with optimus-vbios trim; and the checksum of "
                      "the image at offset 0x2000 is wrong", facts["verdict"])

    CONTAINERS = {
        b"PK\3\4": "unzip -d", b"7z\xbc\xaf\x27\x1c": "7z x",
        b"\x1f\x8b\x08": "gunzip", b"BZh9": "bunzip2", b"\xfd7zXZ\0": "unxz",
        b"Rar!\x1a\x07\0": "unrar", b"MSCF\0\0\0\0": "cabextract",
        b"MZ" + bytes(999) + b"Inno Setup Setup Data (5.5.7)": "innoextract",
        b"MZ" + bytes(999) + b"7z\xbc\xaf\x27\x1c": "7z x",
        b"MZ" + bytes(999) + b"UPX!": "upx -d",
        b"MZ" + bytes(999) + b"PK\3\4": "unzip -d",
        b"55 AA 7E CB": "xxd -r", b"0x55, 0xAA, 0x7e": "xxd -r",
        b"00000000: 55aa 7ecb": "xxd -r", b"0000  55 aa 7e": "xxd -r"}

    def test_containers(self):
        """What it is, and the command that unpacks it, which all name."""
        for start, command in self.CONTAINERS.items():
            path = self.put("a file", start + bytes(3000))
            self.assertIn(command, self.info(path, code=1)["verdict"])
            self.assertIn("'a file'".replace("a", f"{self.dir}/a", 1),
                          self.info(path, code=1)["verdict"])
            self.bad("trim", path, self.dir / "out.rom", says=command)
            self.bad("extract", path, "-o", self.dir / "out", says=command)
        for start in (b"55 ab 7e", b"MZ" + bytes(999), b"x7z\xbc\xaf\x27\x1c",
                      b"ff 55 aa"):
            self.assertIn("firmware update", self.info(
                self.put("a file", start + bytes(3000)), code=1)["verdict"])

    def test_registry(self):
        path = self.put("v.reg", b'REGEDIT4\r\n"a"=hex:55,aa\r\n')
        self.assertIn("an export of Windows' registry: optimus-vbios extract",
                      self.info(path, code=1)["verdict"])

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

    def test_odd_name(self):
        name = 'a "name" \\ with\ttab \xff'.encode("latin-1")
        path = pathlib.Path(os.fsdecode(bytes(self.dir) + b"/" + name))
        path.write_bytes(vbios.make())
        facts = json.loads(self.good("info", "--json", path))
        self.assertIn('a "name" \\ with\ttab', facts["file"])


class Trim(Case):

    def test_flash_dump(self):
        parts = [{"npde": True, "size": 8192}, {"kind": 3, "size": 4096}]
        out = self.dir / "out.rom"
        said = self.good("trim", self.put("v.rom", vbios.chain(
            parts, nvgi=True, padding=777)), out)
        self.assertEqual(out.read_bytes(), vbios.chain(parts))
        self.assertIn("cut off were 8192 before and 777 behind", said)
        self.assertIn("checksum of the image at offset 0x0 is right, and kept",
                      said)
        self.info(out)
        self.assertEqual(self.files(), ["out.rom", "v.rom"])

    def test_odd_offset(self):
        """NPDE is found wherever the ROM is."""
        rom = vbios.chain([{"npde": True, "size": 8192}, {"kind": 0xe0}])
        out = self.dir / "out.rom"
        self.good("trim", self.put("v.rom", b"123" + rom + b"4"), out)
        self.assertEqual(out.read_bytes(), rom)

    def test_wrong_checksum(self):
        rom = break_checksum(vbios.make(size=51200))
        path = self.put("v.rom", rom)
        said = self.good("trim", path, self.dir / "kept.rom")
        self.assertIn("is wrong, and kept", said)
        self.assertEqual((self.dir / "kept.rom").read_bytes(), rom)

        said = self.good("trim", path, self.dir / "mended.rom",
                         "--fix-checksum")
        self.assertIn("was wrong, and is right now", said)
        mended = (self.dir / "mended.rom").read_bytes()
        self.assertEqual(sum(mended) % 256, 0)
        self.assertEqual(mended[:-1], rom[:-1])

    def test_checksums_of_all(self):
        """Where PCIR counts all images and NPDE each of them: a tool that made
        the whole right has left both wrong."""
        parts = [{"size": 4096, "npde": True, "pcir_units": 16},
                 {"size": 4096, "kind": 0xe0, "npde": True}]
        rom = vbios.chain(parts)
        path = self.put("v.rom", patched(
            rom, (0x200, bytes([rom[0x200] + 1 & 0xff])),
            (0x1200, bytes([rom[0x1200] - 1 & 0xff])), fix=False))
        self.assertEqual(sum(path.read_bytes()) % 256, 0)
        said = self.good("trim", path, self.dir / "out.rom", "--fix-checksum")
        self.assertEqual(said.count("is right now"), 2)
        mended = (self.dir / "out.rom").read_bytes()
        self.assertEqual(sum(mended[:4096]) % 256, 0)
        self.assertEqual(sum(mended) % 256, 0)
        self.assertEqual(self.info(self.dir / "out.rom")["verdict"],
                         "usable as romfile")

    def test_all(self):
        first = vbios.make(size=8192, npde=True)
        whole = first + bytes(512) + vbios.make(size=4096, kind=3)
        path = self.put("v.rom", b"abc" + whole + b"\xff" * 99)
        out = self.dir / "out.rom"
        self.assertIn("cut off were other images at offset 0x2203: --all would "
                      "keep them", self.good("trim", path, out))
        self.assertEqual(out.read_bytes(), first)
        self.good("trim", path, out, "--force", "--all")
        self.assertEqual(out.read_bytes(), whole)

    def test_cut_by_linux(self):
        rom = cut_by_linux()
        self.good("trim", self.put("v.rom", b"x" + rom), self.dir / "out.rom")
        self.assertEqual((self.dir / "out.rom").read_bytes(), rom)

    def test_right_checksum_with_fix(self):
        rom = vbios.make(size=51200)
        self.good("trim", self.put("v.rom", rom), self.dir / "out.rom",
                  "--fix-checksum")
        self.assertEqual((self.dir / "out.rom").read_bytes(), rom)

    def test_force(self):
        path = self.put("v.rom", vbios.make(size=4096) + b"x")
        out = self.put("out.rom", b"precious")
        self.bad("trim", path, out, says="add --force")
        self.assertEqual(out.read_bytes(), b"precious")
        self.good("trim", path, out, "--force")
        self.assertEqual(out.read_bytes(), vbios.make(size=4096))
        self.bad("trim", path, path, says="exists")
        self.good("trim", path, path, "--force")
        self.assertEqual(path.read_bytes(), vbios.make(size=4096))
        self.assertEqual(self.files(), ["out.rom", "v.rom"])

    def test_permissions(self):
        out = self.dir / "out.rom"
        old = os.umask(0o027)
        self.addCleanup(os.umask, old)
        self.good("trim", self.put("v.rom", vbios.make()), out)
        self.assertEqual(out.stat().st_mode & 0o777, 0o640)

    def test_no_chain(self):
        self.bad("trim", self.put("v.rom", bytes(5000)), self.dir / "out.rom",
                 says="none starts further in")
        self.bad("trim", self.put("v.rom", b"x" + vbios.make()[:-1000]),
                 self.dir / "out.rom", says="cut off; get it again")
        self.assertEqual(self.files(), ["v.rom"])

    def test_truncated(self):
        self.bad("trim", self.put("v.rom", vbios.make(size=51200)[:-1]),
                 self.dir / "out.rom", says="is a broken ROM")
        self.assertEqual(self.files(), ["v.rom"])


class Refusals(Case):
    """What every command refuses to read or to write."""

    def commands(self, path):
        yield "info", path
        yield "trim", path, self.dir / "out.rom"
        yield "extract", path, "-o", self.dir / "out"

    def each(self, path, **how):
        for args in self.commands(path):
            with self.subTest(args[0]):
                before = self.files()
                self.bad(*args, **how)
                self.assertEqual(self.files(), before)

    def test_missing(self):
        self.each(self.dir / "none", says="none' cannot be read: No such file")

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_unreadable(self):
        path = self.put("v.rom", vbios.make())
        path.chmod(0)
        self.each(path, says="v.rom' cannot be read: Permission denied",
                  user=NOBODY)

    def test_empty(self):
        self.each(self.put("v.rom", b""), says="v.rom' is empty")

    def test_directory(self):
        self.each(self.dir, says="is a directory, not a file")

    def test_fifo(self):
        os.mkfifo(self.dir / "fifo")
        self.each(self.dir / "fifo", says="fifo' is a FIFO, not a file")

    def test_device(self):
        self.each("/dev/zero", says="'/dev/zero' is a device, not a file")

    def outputs(self, out, **how):
        """Commands that would write into OUT, a directory, or over it."""
        path = self.put("v.rom", vbios.make())
        for args in (("trim", path, out), ("trim", path, out, "--force")):
            with self.subTest(args):
                self.bad(*args, **how)

    def test_output(self):
        os.mkfifo(self.dir / "fifo")
        self.outputs(self.dir, says="is a directory, not a file: name a file")
        self.outputs(self.dir / "fifo", says="is a FIFO")
        self.outputs("/dev/null", says="is a device")
        self.outputs(self.dir / "no/out.rom", says="there is no directory")
        self.assertTrue(pathlib.Path("/dev/null").is_char_device())

    def test_extract_into_file(self):
        path = self.put("v.rom", vbios.make())
        self.bad("extract", path, "-o", path, says="cannot be made a directory")

    def test_disk_full(self):
        rom = vbios.make(size=51200)
        path = self.put("v.rom", rom)
        small = self.dir / "small"
        small.mkdir()
        with mounted(small, "-t", "tmpfs", "-o", "size=32k", "none"):
            self.bad("trim", path, small / "out.rom",
                     says="out.rom' cannot be written: No space left on device")
            (small / "old.rom").write_bytes(b"precious")
            self.bad("trim", path, small / "old.rom", "--force",
                     says="old.rom' cannot be written: No space left on device")
            self.assertEqual((small / "old.rom").read_bytes(), b"precious")
            self.bad("extract", path, "-o", small,
                     says="No space left on device")
            self.assertEqual(self.files("small"), ["old.rom"])

    def test_disk_full_while_unpacking(self):
        path = self.put("bios.fd", (OVMF / "OVMF_CODE_4M.fd").read_bytes())
        small = self.dir / "small"
        small.mkdir()
        with mounted(small, "-t", "tmpfs", "-o", "size=1m", "none"):
            run = self.run_tool("extract", path, "-o", small,
                                path=uefiextract(self.dir))
            self.assertEqual(run.returncode, 1)
            self.assertIn("No space left on device", run.stderr)
            self.assertEqual(self.files("small"), [])

    def test_file_size_limit(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
        self.bad("trim", self.put("v.rom", vbios.make()), self.dir / "out.rom",
                 says="File too large", preexec_fn=limit)
        self.assertEqual(self.files(), ["v.rom"])

    def test_stdout_full(self):
        path = self.put("v.rom", vbios.make())
        with open("/dev/full", "w") as full:
            self.bad("info", path, says="cannot write to the standard output",
                     stdout=full)

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_read_only(self):
        path = self.put("v.rom", vbios.make())
        self.bad("trim", path, self.dir / "out.rom", user=NOBODY,
                 says="out.rom' cannot be written: Permission denied")

    def test_shrinking(self):
        """It gets shorter while it is searched."""
        path = self.dir / "dump"
        with open(path, "wb") as out:
            out.truncate(16 << 30)
        with subprocess.Popen([PROGRAM, "extract", path, "-o",
                               self.dir / "out"], stderr=subprocess.PIPE,
                              text=True) as tool:
            maps = pathlib.Path(f"/proc/{tool.pid}/maps")
            while str(path) not in maps.read_text():
                time.sleep(0.001)
            os.truncate(path, 4096)
            self.assertEqual(tool.wait(60), 1)
            self.assertIn("got shorter", tool.stderr.read())

    def test_usage(self):
        for args, says in (
                ([], "what to do"), (["frob"], "unknown command 'frob'"),
                (["info"], "one file"), (["info", "a", "b"], "one file"),
                (["trim", "a"], "two files"), (["extract", "a"], "-o DIR"),
                (["extract", "a", "-o", "b", "--device", "10de"],
                 "'10de' is not VENDOR:DEVICE"),
                (["extract", "a", "-o", "b", "--device", "10de:139g"],
                 "is not VENDOR:DEVICE"),
                (["extract", "a", "-o", "b", "--device", "10de:139b",
                  "--host", "01:00.0"], "use one"),
                (["dump", "-o", "a"], "--host BDF"),
                (["dump", "--host", "01:00.0"], "-o FILE"),
                (["ssdt", "a", "--at", "01.0"], "-o DIR"),
                (["ssdt", "a", "-o", "b"], "either --at PLACE or --for FILE"),
                (["ssdt", "a", "-o", "b", "--at", "01.0", "--for", "c"],
                 "either --at PLACE or --for FILE"),
                (["ssdt", "a", "-o", "b", "--at", "01"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "20.0"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "1c.8"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "1c.0/"], "no place"),
                (["ssdt", "a", "-o", "b", "--at", "01:00.0"], "no place")):
            with self.subTest(args):
                self.bad(*args, says=says, code=2)
        for command in ("info", "trim", "extract", "dump", "ssdt"):
            run = self.run_tool(command, "--frob")
            self.assertEqual(run.returncode, 2)
            self.assertEqual(run.stderr, f"optimus-vbios {command}: "
                             "unrecognized option '--frob'\n"
                             "See optimus-vbios --help\n")

    def test_bdf(self):
        for bdf in ("01:00", "x", "01:20.0", "01:00.8", "001:00.0",
                    "0000:01:00.00", ""):
            run = self.run_tool("info", "a", "--host", bdf)
            self.assertEqual(run.returncode, 2, bdf)
            self.assertIn("is not the address of a card", run.stderr)

    def test_help(self):
        text = self.good("--help")
        for command in ("info", "trim", "extract", "dump", "ssdt"):
            self.assertEqual(self.good(command, "--help"), text)
            self.assertIn(f"optimus-vbios {command} ", text)


def tool_path(directory, name, script=None):
    """A directory for PATH with the program NAME, or SCRIPT in its place."""
    path = directory / "bin"
    path.mkdir(exist_ok=True)
    script = script or (
        f"LD_LIBRARY_PATH={TOOLS}/lib/x86_64-linux-gnu "
        f"exec {TOOLS}/bin/{name} \"$@\"")
    tool = path / name
    tool.write_text("#!/bin/sh\nPATH=/usr/bin:/bin\n" + script + "\n")
    tool.chmod(0o755)
    return path


def uefiextract(directory, script=None):
    return tool_path(directory, "UEFIExtract", script)


class Extract(Case):

    def extract(self, path, *args, tool=True, code=0, err=""):
        how = {"path": uefiextract(self.dir) if tool else "/nonexistent"}
        run = self.run_tool("extract", path, "-o", self.dir / "out", *args,
                            **how)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        if err:
            self.assertIn(err, run.stderr)
        else:
            self.assertEqual(run.stderr, "")
        return run.stdout

    def found(self):
        return {name: (self.dir / "out" / name).read_bytes()
                for name in self.files("out")}

    def test_raw(self):
        rom = vbios.make(tokens=VERSION)
        path = self.put("bios.bin", load_dump(rom))
        said = self.extract(path, "--device", "10de:139b")
        (name, data), = self.found().items()
        self.assertRegex(name,
                         r"^10de-139b-82\.07\.55\.00\.1a-[0-9a-f]{8}\.rom$")
        self.assertEqual(data, rom)
        self.assertIn("0x00503039", said)
        self.assertIn("(fits)", said)
        self.assertTrue(said.endswith("fits 10de:139b\n"), said)
        # once more: the same file is no obstacle
        self.assertEqual(self.extract(path, "--device", "10de:139b"), said)
        # not the card
        said = self.extract(path, "--device", "10de:139c", code=1,
                            err="has no option ROM for 10de:139c")
        self.assertNotIn("(fits)", said)

    def test_device_list(self):
        rom = bytearray(vbios.make())
        struct.pack_into("<H", rom, 0x48, 0x100)
        struct.pack_into("<3H", rom, 0x140, 0x1392, 0x1c8d, 0)
        path = self.put("bios.bin", bytes(rom))
        said = self.extract(path, "--device", "10de:1c8d")
        self.assertIn("(fits)", said)
        self.assertIn("only in its list of further devices", said)
        # one that is made for the card is better
        other = vbios.make(device=0x1c8d)
        said = self.extract(self.put("bios.bin", bytes(rom) + other), "--device",
                            "10de:1c8d")
        self.assertIn("10de-1c8d", said.splitlines()[-1])
        self.assertTrue(said.endswith("fits 10de:1c8d\n"), said)

    def test_efi_only(self):
        """What has no x86 image does not fit, unless something else does."""
        efi = vbios.make(kind=3, size=8192)
        path = self.put("bios.bin", efi)
        said = self.extract(path, "--device", "10de:139b", code=1,
                            err="no image is of the type x86")
        self.assertIn("(not usable)", said)
        rom = vbios.make()
        said = self.extract(self.put("bios.bin", efi + rom), "--device",
                            "10de:139b")
        self.assertRegex(said.splitlines()[-1], "^'.*' fits 10de:139b$")
        self.assertEqual(pathlib.Path(said.splitlines()[-1].split("'")[1])
                         .read_bytes(), rom)

    def test_other_order(self):
        """The name is of the x86 image, and the column has room."""
        rom = vbios.chain([{"kind": 0xe0, "class_code": 0, "device": 0x2200},
                           {"kind": 3, "size": 4096}, {"tokens": VERSION}])
        said = self.extract(self.put("bios.bin", rom))
        (name, data), = self.found().items()
        self.assertTrue(name.startswith("10de-139b-82.07.55.00.1a-"), name)
        self.assertEqual(data, rom)
        head, row = said.splitlines()
        self.assertEqual(row[head.index("images"):head.index("file")].strip(),
                         "E0+EFI+x86")
        # which a part of NVIDIA's for the chip does not make fit
        self.extract(self.put("bios.bin", rom), "--device", "10de:2200", code=1,
                     err="has no option ROM for 10de:2200")

    def test_dell(self):
        """zlib streams, in each other, with UEFI firmware in them, and cut off."""
        # which deflate does not leave as they are
        plain, packed, inner, cut, fv = (
            patched(vbios.make(size=16384), (0x400, b"%d" % n * 15000))
            for n in range(5))
        path = self.put("update.exe", b"MZ" + bytes(99) + plain + dell(
            packed, b"PFS.HDR." + dell(bytes(7), inner), ovmf_with(fv)) +
            dell(cut + random.Random(9).randbytes(9999))[:-1000])
        said = self.extract(path, "--device", "10de:139b")
        self.assertEqual(sorted(self.found().values()),
                         sorted([plain, packed, inner, fv, cut]))
        self.assertEqual(said.count("(compressed)"), 4)
        # stray signatures, and an endless row of containers in each other
        head = dell(b"")[:12]
        self.extract(self.put("a", head + b"x" + head), code=1,
                     err="no complete")
        nested = b"x"
        for _ in range(50):
            nested = dell(nested)
        self.extract(self.put("b", nested), code=1, err="no complete")

    def test_registry(self):
        rom = vbios.make(size=4096)
        digits = ",".join(f"{byte:02x}" for byte in rom)
        lines = ",\\\r\n  ".join(digits[at:at + 75] for at in
                                 range(0, len(digits), 75)).replace(",,", ",")
        text = (f'[HKEY_LOCAL_MACHINE\\SYSTEM]\r\n"x"=hex(2):00,\\\r\n  00\r\n'
                f'"Name"="=hex"\r\n"vbios"=hex:{lines}\r\n"y"=dword:55aa\r\n')
        new = "Windows Registry Editor Version 5.00\r\n\r\n" + text
        for content in (("\ufeff" + new).encode("utf-16-le"),
                        ("\ufeff" + new).encode(), b"REGEDIT4\n" + text.encode()):
            said = self.extract(self.put("v.reg", content))
            self.assertEqual(list(self.found().values()), [rom])
            self.assertIn("(registry)", said)
            shutil.rmtree(self.dir / "out")
        self.extract(self.put("v.reg", new.replace(":55", ":54").encode()),
                     code=1, err="no complete option ROM")

    def test_own_flash(self):
        """Nobody is sent to look for what Turing's laptops do not have."""
        path = self.put("bios.bin", b"x" * 5000)
        self.extract(path, "--device", "10de:1e00", code=1,
                     err="the card has a flash of its own")
        self.extract(path, "--device", "10de:1dff", code=1, err="unpack it")
        path = self.put("bios.bin", vbios.make())
        self.extract(path, "--device", "10de:2520", code=1,
                     err="such a card has a flash of its own")

    def test_several(self):
        """Two of three are the same; one does not end; one is a stray 55 AA."""
        first, second = vbios.make(), vbios.make(size=8192, device=0x1111,
                                                 seed=2)
        cut = vbios.make(size=8192, last=False, seed=3)
        path = self.put("update.exe", b"MZ" + bytes(999) + first + b"\x55\xaa" +
                        cut + bytes(77) + second + first + b"\x55")
        said = self.extract(path)
        self.assertEqual(sorted(self.found().values()), sorted([first, second]))
        self.assertEqual(said.count(" x86 "), 2)
        self.assertIn("left out: 1 that is incomplete", said)

    def test_real(self):
        """Those of QEMU's devices, one after the other."""
        roms = [path.read_bytes() for path in (
            *sorted(IPXE.glob("*.rom")), SEABIOS / "vgabios-qxl.bin")]
        path = self.put("bios.bin", b"".join(b"\0" * 77 + rom for rom in roms))
        self.extract(path)
        self.assertEqual(set(self.found().values()), set(roms))

    def test_compressed(self):
        rom = vbios.make()
        firmware = ovmf_with(rom)
        self.assertNotIn(rom[:0x40], firmware)
        path = self.put("bios.fd", firmware)
        said = self.extract(path, "--device", "10de:139b")
        self.assertEqual(list(self.found().values()), [rom])
        self.assertIn("(compressed)", said)
        self.assertIn("(fits)", said)

    def test_capsule(self):
        rom = vbios.make()
        raw = vbios.make(seed=2)
        path = self.put("bios.cap", capsule(ovmf_with(rom) + raw))
        self.extract(path)
        self.assertEqual(sorted(self.found().values()), sorted([rom, raw]))

    def test_raw_capsule(self):
        rom = vbios.make()
        path = self.put("bios.cap", capsule(load_dump(rom)))
        self.extract(path)
        self.assertEqual(list(self.found().values()), [rom])

    def test_without_uefiextract(self):
        path = self.put("bios.fd", ovmf_with(vbios.make()))
        run = self.bad("extract", path, "-o", self.dir / "out",
                       says="install UEFIExtract (Debian: uefitool-cli)",
                       path="/nonexistent")
        self.assertNotIn("no complete", run.stderr)
        self.assertEqual(self.found(), {})
        # what is there without it is found
        rom = vbios.make(seed=2)
        path = self.put("bios.fd", ovmf_with(vbios.make()) + rom)
        self.extract(path, tool=False, err="install UEFIExtract")
        self.assertEqual(list(self.found().values()), [rom])
        # and it is not asked for where it is of no use
        self.extract(self.put("bios.bin", rom), tool=False)

    def test_broken_uefiextract(self):
        path = self.put("bios.fd", ovmf_with(vbios.make()) + vbios.make(seed=2))
        for script, says in (("exit 3", "it ended with exit code 3"),
                             ("kill -SEGV $$", "it crashed with signal 11")):
            bin_dir = uefiextract(self.dir, script)
            run = self.run_tool("extract", path, "-o", self.dir / "out",
                                path=bin_dir)
            self.assertEqual(run.returncode, 0)
            self.assertIn(says, run.stderr)
            self.assertEqual(len(self.found()), 1)

    def test_interrupt(self):
        path = self.put("bios.fd", (OVMF / "OVMF_CODE_4M.fd").read_bytes())
        ready = self.dir / "ready"
        bin_dir = uefiextract(self.dir, f": >{ready}; exec sleep 600")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # which may be ignored here, as by nohup
            with subprocess.Popen([PROGRAM, "extract", path, "-o",
                                   self.dir / "out"],
                                  env=dict(os.environ, PATH=bin_dir),
                                  preexec_fn=lambda n=number: signal.signal(
                                      n, signal.SIG_DFL)) as tool:
                while not ready.exists():
                    self.assertIsNone(tool.poll())
                    time.sleep(0.01)
                ready.unlink()
                tool.send_signal(number)
                self.assertEqual(tool.wait(60), -number)
            self.assertEqual(self.files("out"), [])

    def test_progress(self):
        """On a terminal only, with the time; gone at the end."""
        path = self.put("bios.fd", (OVMF / "OVMF_CODE_4M.fd").read_bytes())
        bin_dir = uefiextract(self.dir, "exec sleep 2")
        master, slave = pty.openpty()
        with subprocess.Popen([PROGRAM, "extract", path, "-o",
                               self.dir / "out"], stderr=slave,
                              env=dict(os.environ, PATH=bin_dir)) as tool:
            tool.wait(60)
        said = os.read(master, 65536).decode()
        os.close(master)
        os.close(slave)
        self.assertIn("\runpacking with UEFIExtract: 1 s\x1b[K", said)
        self.assertRegex(said, "\r\x1b\\[Koptimus-vbios: .*\r\n$")
        run = self.run_tool("extract", path, "-o", self.dir / "out",
                            path=bin_dir)
        self.assertNotIn("unpacking", run.stderr)

    def none_in(self, path, **how):
        self.extract(path, code=1, err="has no complete option ROM in it",
                     **how)
        self.assertEqual(self.found(), {})

    def test_ovmf(self):
        """OVMF drives all devices by itself: its maintainers put no option
        ROMs in, and UEFIExtract's report has none."""
        for name in ("OVMF_CODE_4M.fd", "OVMF_CODE.fd", "OVMF_VARS_4M.fd"):
            self.none_in(OVMF / name)

    def test_seabios(self):
        """The vgabios is in files of its own."""
        self.none_in(SEABIOS / "bios-256k.bin")

    def test_kernel(self):
        kernel, = (ROOT / "kernel/boot").glob("vmlinuz-*")
        self.none_in(kernel)

    def test_random(self):
        path = self.dir / "random"
        with open(path, "wb") as out:
            for seed in range(16):
                out.write(random.Random(seed).randbytes(16 << 20))
        start = time.monotonic()
        self.none_in(path)
        tool = time.monotonic() - start
        start = time.monotonic()
        subprocess.run(["grep", "-c", "-F", "vfio-optimus", path],
                       stdout=subprocess.DEVNULL)
        grep = time.monotonic() - start
        print(f"# extract on 256 MiB: {tool:.3f} s, grep -c: {grep:.3f} s, "
              f"ratio {tool / grep:.2f}")

    def test_packed(self):
        """Sections of Dell's take about what zlib takes for them."""
        text = b"".join(b"%07d" % n * 30 for n in range(100000))
        path = self.put("update.exe", dell(*[text] * 12))
        start = time.monotonic()
        self.none_in(path)
        tool = time.monotonic() - start
        packed = zlib.compress(text)
        start = time.monotonic()
        for _ in range(12):
            zlib.decompress(packed)
        alone = time.monotonic() - start
        print(f"# extract of 12 sections, {len(text) * 12 >> 20} MiB: "
              f"{tool:.3f} s, zlib alone: {alone:.3f} s, "
              f"ratio {tool / alone:.2f}")

    def test_nothing_but_headers(self):
        """Images without an end would take hours if each were followed to the
        end of the file; and 55 AA everywhere is no problem either."""
        image = bytearray(vbios.make(size=1024, last=False)[:512])
        image[0x50] = 1
        start = time.monotonic()
        self.extract(self.put("a", bytes(image) * 200000), code=1,
                     err="no complete")
        self.extract(self.put("b", b"\x55\xaa" * (8 << 20)), code=1,
                     err="no complete")
        self.assertLess(time.monotonic() - start, 60)


class Ssdt(Case):
    """The tables and what is said of them; guests of test-matrix read them, and
    test-ssdt.py starts real QEMUs with the arguments."""

    CARDS = {"0000:01:00.0": ("10de:139b", "17aa:3978"),
             "0000:01:00.1": ("10de:0fb9", "17aa:3978"),
             "0000:02:00.0": ("8086:24fd", "8086:1010")}

    def setUp(self):
        super().setUp()
        self.out = self.dir / "out"
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.devices = stack.enter_context(
            mounted("/sys", "-t", "tmpfs", "none")) / "bus/pci/devices"
        for bdf, (ids, sub) in self.CARDS.items():
            self.set_card(bdf, ids, sub)

    def set_card(self, bdf, ids, sub):
        card = self.devices / bdf
        card.mkdir(parents=True, exist_ok=True)
        for name, value in zip(("vendor", "device", "subsystem_vendor",
                                "subsystem_device"), (ids + ":" + sub).split(":")):
            (card / name).write_text(f"0x{value}\n")

    def ssdt(self, rom, *args, good=True, **how):
        if "path" not in how:
            how["path"] = tool_path(self.dir, "iasl")
        return (self.good if good else self.bad)(
            "ssdt", self.put("v.rom", rom), "-o", self.out, *args, **how)

    def tables(self):
        return [(self.out / name).read_bytes() for name in self.files("out")]

    def test_bytes(self):
        """All of the ROM is there, in order, and no table is too large."""
        for size, count in ((512, 1), (8192, 1), (57344, 1), (57856, 2),
                            (103936, 2), (1 << 20, 19)):
            rom = vbios.make(size=size)
            said = self.ssdt(rom, "--at", "01.0")
            tables = self.tables()
            self.assertEqual(len(tables), count + 1)
            self.assertLess(max(map(len, tables)), 65536)
            at = 0
            for table in tables[:-1]:
                start = 0
                for _ in range(7):
                    part = rom[at:at + 8192]
                    start = table.index(part, start) + len(part)
                    at += len(part)
            self.assertEqual(at, size)
            self.assertIn(rf"\_SB.PCI0.S08, a _ROM of {size} bytes", said)
            shutil.rmtree(self.out)

    def test_place(self):
        for place, path in (("01.0", "S08"), ("1.0", "S08"), ("1f.7", "SFF"),
                            ("1C.0/00.0", "SE0.S00"), ("02.3/00.0", "S13.S00"),
                            ("1e.0/01.0/10.0", "SF0.S08.S80")):
            self.assertIn(rf" \_SB.PCI0.{path}, ",
                          self.ssdt(vbios.make(size=512), "--at", place))
            shutil.rmtree(self.out)

    def test_again(self):
        rom = vbios.make()
        said = self.ssdt(rom, "--at", "01.0")
        before = self.tables()
        self.assertEqual(self.ssdt(rom, "--at", "01.0"), said)
        self.assertEqual(self.tables(), before)
        for args in ((vbios.make(seed=2), "--at", "01.0"),
                     (rom, "--at", "02.0"), (vbios.make(size=512), "--at", "01.0")):
            self.ssdt(*args, good=False, says="those of another ROM or place: "
                      "remove it, or name another directory")
            self.assertEqual(self.tables(), before)
        self.assertEqual(self.files(), ["bin", "out", "v.rom"])

    def test_readable(self):
        """For QEMU, which has another user, whatever the umask is."""
        self.out.mkdir()
        self.ssdt(vbios.make(), "--at", "01.0", umask=0o077)
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o755)
        for name in self.files("out"):
            self.assertEqual((self.out / name).stat().st_mode & 0o777, 0o644)

    def test_refused(self):
        def refused(rom, says, at="01.0", **how):
            self.ssdt(rom, "--at", at, good=False, says=says, **how)
            self.assertEqual(self.files(), before)
        tool_path(self.dir, "iasl")
        self.put("v.rom", b"")
        before = self.files()
        refused(vbios.make(size=(1 << 20) + 512), "have room for 1048576")
        refused(b"MZ" * 512, "is no video BIOS")
        refused(vbios.make(), "install acpica-tools", path=self.dir)
        refused(vbios.make(), "'rom-00.aml' cannot be compiled by iasl: it "
                "ended with exit code 3", path=tool_path(self.dir, "iasl", "exit 3"))
        self.out = self.dir / "no/out"
        refused(vbios.make(), "out' cannot be written: No such file")
        self.out = self.dir / "v.rom"
        refused(vbios.make(), "v.rom' cannot be written: Not a directory")
        for name in ("a b", "a,b", "a'b", "a:b"):
            self.out = self.dir / name
            refused(vbios.make(), "would have to be quoted")

    def test_battery(self):
        """It comes from where the program is installed."""
        lib = self.dir / "prefix/lib/vfio-optimus"
        program = self.dir / "prefix/bin/optimus-vbios"
        program.parent.mkdir(parents=True)
        shutil.copy(PROGRAM, program)
        tool_path(self.dir, "iasl")
        before = self.files()
        self.ssdt(vbios.make(), "--at", "01.0", "--battery", good=False,
                  says="battery.aml' cannot be read: No such file",
                  executable=program)
        self.assertEqual(self.files(), [*before, "v.rom"])
        lib.mkdir(parents=True)
        (lib / "battery.aml").write_bytes(b"SSDT and so on")
        said = self.ssdt(vbios.make(), "--at", "01.0", "--battery",
                         executable=program)
        self.assertEqual((self.out / "battery.aml").read_bytes(), b"SSDT and so on")
        self.assertEqual(said.count(f"file={self.out}/battery.aml"), 3)

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_unwritable(self):
        self.ssdt(vbios.make(), "--at", "01.0", good=False, user=NOBODY,
                  says="out' cannot be written: Permission denied")

    def test_interrupt(self):
        path = tool_path(self.dir, "iasl", f": >{self.dir}/started; sleep 60")
        with subprocess.Popen(
                [PROGRAM, "ssdt", self.put("v.rom", vbios.make()), "-o", self.out,
                 "--at", "01.0"], env={**os.environ, "PATH": str(path)},
                stderr=subprocess.PIPE) as tool:
            while not (self.dir / "started").exists():
                time.sleep(0.01)
            tool.send_signal(signal.SIGTERM)
            self.assertEqual(tool.wait(10), -signal.SIGTERM)
        self.assertEqual(self.files(), ["bin", "started", "v.rom"])

    IDS = "x-pci-sub-vendor-id=0x17aa,x-pci-sub-device-id=0x3978"

    def test_ids(self):
        self.assertIn(self.IDS, self.ssdt(vbios.make(), "--at", "01.0"))
        self.set_card("0000:03:00.0", "10de:139b", "17aa:1234")
        self.assertIn("are not known here", self.ssdt(vbios.make(), "--at", "01.0"))
        shutil.rmtree(self.devices / "0000:03:00.0")
        for sub in ("0000:0000", "ffff:ffff", "17aa:0000"):
            self.set_card("0000:01:00.0", "10de:139b", sub)
            self.assertIn("are not known here",
                          self.ssdt(vbios.make(), "--at", "01.0"))

    def guest(self, name, text, *args, **how):
        return self.ssdt(vbios.make(), "--for", self.put(name, text.encode()),
                         *args, **how)

    def test_proxmox(self):
        """hostpciN of q35 and pc, by their lines in a configuration."""
        places = {
            "hostpci0: 01:00,pcie=1|q35": "SE0.S00",
            "hostpci3: 0000:01:00.0,pcie=1,rombar=0|pc-q35-9.2+pve1": "SE3.S00",
            "hostpci4: 0000:01:00.0,pcie=1|q35": "S80.S00",
            "hostpci11: host=01:00.0;01:00.1,pcie=1|q35,viommu=intel": "S87.S00",
            "hostpci15: 01:00.0,pcie=1|q35": "S8B.S00",
            "hostpci0: 01:00.0|q35": "SF0.S08.S80",
            "hostpci2: mapping=gpu,pcie=0|q35": "SF0.S08.SD8",
            "hostpci4: 01:00.0|q35": "SF0.S18.S68",
            "hostpci0: 01:00.0|pc": "S80",
            "hostpci1: 01:00.0|": "S88",
            "hostpci5: 01:00.0|pc-i440fx-9.2": "SF8.S70",
        }
        for line, path in places.items():
            line, machine = line.split("|")
            said = self.guest("100.conf", f"{machine and 'machine: '}{machine}\n"
                              f"{line}\nmemory: 4096\n\n[old]\nhostpci9: 0f:00.0\n")
            self.assertIn(rf" \_SB.PCI0.{path}, ", said, line)
            self.assertNotIn("libvirt", said)
            self.assertIn("    qm set 100 --args '-acpitable file=", said)
            if "mapping" not in line:
                key, value = line.split(": ")
                self.assertIn(f"    qm set 100 --{key} {value},sub-vendor-id="
                              "0x17aa,sub-device-id=0x3978\n", said)
            shutil.rmtree(self.out)
        conf = "args: %s\nostype: win7\nmachine: q35\nhostpci1: 01:00.0,pcie=1\n"
        args = "-cpu 'host,kvm=off'"
        for _ in range(2):
            # the second time those of the first time are in the file
            said = self.guest("100.conf", conf % args)
            self.assertIn(r" \_SB.PCI0.S88, ", said)
            _, args = shlex.split(said.split("qm set 100 ")[1].splitlines()[0])
            self.assertEqual(args, "-cpu 'host,kvm=off' " + " ".join(
                f"-acpitable file={self.out}/{name}" for name in
                ("rom-00.aml", "rom-01.aml", "rom-method.aml")))

    def test_several(self):
        """Which of the devices it is, the IDs of the host's tell."""
        conf = ("machine: q35\nhostpci0: 02:00.0,pcie=1\n"
                "hostpci1: 01:00.0,pcie=1\n")
        self.assertIn(r"\_SB.PCI0.SE1.S00", self.guest("1.conf", conf))
        shutil.rmtree(self.devices / "0000:01:00.0")
        self.guest("1.conf", conf, good=False, says="several devices of the host "
                   "(0000:02:00.0 at 1c.0/00.0, 0000:01:00.0 at 1c.1/00.0)")

    DOMAIN = """<!-- made by virsh -->
        <domain type='kvm'><devices>
          <controller type='pci' index='0' model='pcie-root'/>
          <controller type='pci' index='1' model='pcie-root-port'>
            <address type='pci' domain='0' bus='0x00' slot='0x02' function='0x1'/>
          </controller>
          <controller type='pci' index='7' model='%s'>
            <address type='pci' domain='0' bus='0x00' slot='0x09' function='0x0'/>
          </controller>
          <controller type='usb' index='0'>
            <address type='pci' bus='0x00' slot='0x1d' function='0x7'/>
          </controller>
          <hostdev mode='subsystem' type='usb'>
            <source><address bus='1' device='2'/></source>
          </hostdev>
          <hostdev mode='subsystem' type='pci' managed='yes'>
            <source><address domain='0' bus='1' slot='0' function='0'/></source>
            %s
          </hostdev>
        </devices></domain>"""

    def test_libvirt(self):
        here = "<address type='pci' domain='0' bus='0x0%d' slot='0x00' function='0x0'/>"
        said = self.guest("a.xml", self.DOMAIN % ("pcie-to-pci-bridge", here % 1))
        self.assertIn(r" \_SB.PCI0.S11.S00, ", said)
        self.assertNotIn("qm set", said)
        self.assertIn("<qemu:device alias='hostdev1'>", said)
        self.assertIn("name='x-pci-sub-device-id' type='unsigned' value='14712'",
                      said)
        shutil.rmtree(self.out)
        said = self.guest("a.xml", self.DOMAIN % (
            "pcie-to-pci-bridge", here % 7 + "<alias name='ua-gpu'/>"))
        self.assertIn(r" \_SB.PCI0.S48.S00, ", said)
        self.assertIn("<qemu:device alias='ua-gpu'>", said)
        shutil.rmtree(self.out)
        for model, address, says in (
                ("pcie-root-port", "", "has no address in the guest"),
                ("pcie-root-port", here % 3, "or a bridge above it has none"),
                ("pcie-expander-bus", here % 7, "behind an expander bridge")):
            self.guest("a.xml", self.DOMAIN % (model, address), good=False,
                       says=says)
        self.guest("a.xml", "<domain><devices>", good=False,
                   says="a.xml' is no domain of libvirt's: ")
        for text in ("<domain/>", "machine: q35\n", "\0\1\n"):
            self.guest("a.xml", text, good=False,
                       says="gives the guest no PCI device of the host")


class Documents(Case):

    SOURCE = TOP / "hw-optimus/vbios"

    def options(self):
        words = self.good("--help").replace("[", " ").replace("]", " ").split()
        return {word for word in words if word.startswith("--")}

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
                         {"info", "trim", "extract", "dump", "ssdt", "--help"})
        offered = set()
        for command in ("info", "trim", "extract", "dump", "ssdt"):
            offered |= self.complete(f"optimus-vbios {command} --")
        self.assertEqual(offered, self.options())
        self.put("vbios.rom", b"")
        (self.dir / "vdir").mkdir()
        self.assertEqual(self.complete("optimus-vbios info v"),
                         {"vbios.rom", "vdir"})
        for command in ("extract", "ssdt"):
            self.assertEqual(self.complete(f"optimus-vbios {command} f -o v"),
                             {"vdir"})


class Answers(threading.Thread):
    """acpi_call, in a terminal: one call, one answer."""

    def __init__(self, method):
        super().__init__(daemon=True)
        self.method = method
        self.calls = []
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)

    def run(self):
        while True:
            try:
                request = os.read(self.master, 4096).decode()
            except OSError:
                return
            name, *numbers = request.split()
            self.calls.append((name, *(int(n, 16) for n in numbers)))
            answer = self.method(*self.calls[-1])
            if answer is None:
                continue
            if isinstance(answer, bytes):
                answer = "{" + ", ".join(f"0x{b:02x}" for b in answer) + "}"
            os.write(self.master, answer.encode() + b"\0")


@unittest.skipIf(not os.path.isdir("/proc/acpi"), "no /proc/acpi here")
class Dump(Case):

    def setUp(self):
        super().setUp()
        stack = self.enterContext_(contextlib.ExitStack())
        self.stack = stack
        self.out = self.dir / "out.rom"
        sysfs = stack.enter_context(mounted("/sys", "-t", "tmpfs", "none"))
        stack.enter_context(mounted("/proc/acpi", "-t", "tmpfs", "none"))
        self.card = sysfs / "bus/pci/devices/0000:01:00.0"
        (self.card / "firmware_node").mkdir(parents=True)
        (self.card / "vendor").write_text("0x10de\n")
        (self.card / "device").write_text("0x139b\n")
        (self.card / "firmware_node/path").write_text(
            "\\_SB_.PCI0.PEG0.PEGP\n")

    def enterContext_(self, manager):
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    def acpi(self, method):
        call = pathlib.Path("/proc/acpi/call")
        call.touch()
        answers = Answers(method)
        self.stack.enter_context(
            mounted(call, "--bind", os.ttyname(answers.slave)))
        answers.start()
        return answers

    def nouveau(self, rom, bdf="0000:01:00.0", minor="1"):
        dri = pathlib.Path("/sys/kernel/debug/dri") / minor
        dri.mkdir(parents=True)
        (dri / "name").write_text(f"nouveau dev={bdf} unique={bdf}\n")
        (dri / "vbios.rom").write_bytes(rom)

    def dump(self, *args, code=0, **how):
        run = self.run_tool("dump", "--host", "01:00.0", "-o", self.out, *args,
                            **how)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        return run

    ROM = vbios.chain([{"size": 72192, "npde": True},
                       {"size": 8192, "kind": 0xe0}])

    def shape_aborts(self, offset, length):
        """Sections of 32 KiB, of which CreateField takes a part."""
        if offset // 0x8000 != (offset + length - 1) // 0x8000:
            return "Error: AE_AML_BUFFER_LIMIT"
        return self.ROM[offset:offset + length]

    def shape_zeros(self, offset, length):
        """The same with Mid."""
        if offset // 0x8000 != (offset + length - 1) // 0x8000:
            return bytes(length)
        return self.ROM[offset:offset + length]

    def shape_whole(self, offset, length):
        return self.ROM[offset:offset + length]

    def shape_window(self, offset, length):
        """Pages, whatever is asked for; acpi_call shows the first bytes."""
        return (self.ROM + bytes(4096))[offset:offset + 42]

    def shape_region(self, offset, length):
        """A region of eight times the length, below a field of 8 KiB."""
        if length << 3 < 0x2000:
            return "Error: AE_AML_REGION_LIMIT"
        return (self.ROM + bytes(4096))[offset:offset + min(length, 42)]

    def test_shapes(self):
        """Vendors' methods, on a kernel that turns short fields into numbers."""
        for shape, most_fail in (("aborts", 0), ("zeros", 0), ("whole", 0),
                                 ("window", 0), ("region", 1)):
            failed = []

            def method(name, offset, length):
                self.assertEqual(name, "\\_SB_.PCI0.PEG0.PEGP._ROM")
                if offset + 9 > len(self.ROM):
                    return "Error: AE_AML_BUFFER_LIMIT"
                if length <= 8:
                    return "0x1234"
                answer = getattr(self, "shape_" + shape)(offset, length)
                if isinstance(answer, str):
                    failed.append((offset, length))
                return answer

            with self.subTest(shape), contextlib.ExitStack() as self.stack:
                answers = self.acpi(method)
                run = self.dump("--force")
                self.assertEqual(run.stderr, "")
                self.assertIn(f"has {len(self.ROM)} bytes from the card's ACPI "
                              "method _ROM", run.stdout)
                self.assertEqual(self.out.read_bytes(), self.ROM)
                self.assertLessEqual(len(failed), most_fail)
                # 98 for each page, and a few for headers and ends
                self.assertLess(len(answers.calls),
                                98 * (len(self.ROM) / 4096 + 1))

    def test_not_overwritten(self):
        self.acpi(lambda name, *what: self.shape_whole(*what))
        self.dump()
        self.bad("dump", "--host", "01:00.0", "-o", self.out,
                 says="add --force")
        self.dump("--force")

    def test_no_method(self):
        """What that means is said, for the generation of the card."""
        answers = self.acpi(lambda name, *what: "Error: AE_NOT_FOUND")
        for device, says in (("1c8d", "a card without _ROM often has a flash"),
                             ("2520", "Turing on, as this one, nearly always")):
            (self.card / "device").write_text(f"0x{device}\n")
            run = self.dump(code=1)
            self.assertIn("the firmware has no _ROM for it; ", run.stderr)
            self.assertIn(says, run.stderr)
        self.assertIn("needs no romfile", run.stderr)
        self.assertEqual(len(answers.calls), 2)

    def test_cut_by_linux(self):
        """Of sysfs, or the kernel's own idea of the end."""
        shutil.rmtree(self.card / "firmware_node")
        needed = {"P": struct.pack("<I", 8192)}
        (self.card / "rom").write_bytes(cut_by_linux(needed))
        run = self.dump(code=1)
        self.assertIn("not from the card's ROM BAR in sysfs: it was cut",
                      run.stderr)
        (self.card / "rom").write_bytes(cut_by_linux())
        self.assertIn("warning: it was cut", self.dump().stderr)
        self.assertEqual(self.out.read_bytes(), cut_by_linux())

    def test_end(self):
        """An image that ends with PCIR is not read past its end."""
        rom = bytearray(vbios.make(size=4096, revision=0))
        rom[-0x18:] = rom[0x40:0x58]
        struct.pack_into("<H", rom, 0x18, len(rom) - 0x18)

        def method(name, offset, length):
            if offset + length > len(rom):
                return "Error: AE_AML_BUFFER_LIMIT"
            return bytes(rom[offset:offset + length])

        self.acpi(method)
        self.dump()
        self.assertEqual(self.out.read_bytes(), rom)

    def test_pages(self):
        """Firmware that gives pages, whatever is asked for."""
        rom = vbios.make(size=10240)
        self.acpi(lambda name, offset, length:
                  (rom + bytes(42))[offset:offset + 42])
        self.dump()
        self.assertEqual(self.out.read_bytes(), rom)

    def test_other_card(self):
        self.acpi(lambda name, offset, length:
                  vbios.make(size=2048, device=1)[offset:offset + length])
        run = self.dump()
        self.assertIn("warning: it is for 10de:0001, and the card is 10de:139b: "
                      "NVIDIA's drivers refuse it, nouveau takes it", run.stderr)

    def test_bad_checksum(self):
        rom = break_checksum(vbios.make(size=2048))
        self.acpi(lambda name, offset, length: rom[offset:offset + length])
        self.assertIn("warning: the checksum of the image at offset 0x0 is "
                      "wrong", self.dump().stderr)

    def test_acpi_fails(self):
        rom = vbios.make(size=2048)
        self.nouveau(rom + bytes(100))
        self.nouveau(vbios.make(seed=2), "0000:00:02.0", "0")
        for answer, says in (("Error: AE_NOT_FOUND", "has no _ROM for it"),
                             ("Error: AE_ERROR", "gave: Error: AE_ERROR"),
                             ("0x0", "gave: 0x0"), ("{}", "gave: {}"),
                             ("not called", "gave: not called"),
                             (bytes(42), "starts with 00 00, not with 55 aa")):
            with self.subTest(answer):
                with contextlib.ExitStack() as self.stack:
                    self.acpi(lambda name, offset, length: answer)
                    run = self.dump("--force")
                self.assertIn(says, run.stderr)
                self.assertIn("2048 bytes from nouveau's copy", run.stdout)
                self.assertEqual(self.out.read_bytes(), rom)

    def test_acpi_endless(self):
        """A chain without an end is not followed for ever."""
        image = vbios.make(size=0x1fffe00 // 512 * 512, last=False)
        self.acpi(lambda name, offset, length: image[offset:offset + length])
        run = self.dump(code=1)
        self.assertIn("not from the card's ACPI method _ROM", run.stderr)
        self.assertFalse(self.out.exists())

    def test_interrupt(self):
        """While _ROM does not return; the answer comes after the signal."""
        rom = vbios.make(size=20480)
        tool = None

        def method(name, offset, length):
            if len(answers.calls) == 100:
                tool.send_signal(signal.SIGINT)
                time.sleep(0.2)
            return rom[offset:offset + length]

        answers = self.acpi(method)
        with subprocess.Popen([PROGRAM, "dump", "--host", "01:00.0", "-o",
                               self.out]) as tool:
            self.assertEqual(tool.wait(60), -signal.SIGINT)
        self.assertEqual(len(answers.calls), 100)
        self.assertEqual(self.files(), [])

    def test_nouveau_without_acpi_call(self):
        rom = vbios.make(size=2048)
        self.nouveau(rom, minor="0000:01:00.0")
        run = self.dump()
        self.assertIn("acpi_call is not loaded: install the package "
                      "acpi-call-dkms and run modprobe acpi_call", run.stderr)
        self.assertEqual(self.out.read_bytes(), rom)

    def test_bar(self):
        """A ROM that is switched on already; the rest needs a kernel."""
        shutil.rmtree(self.card / "firmware_node")
        rom = vbios.make(size=2048)
        (self.card / "rom").write_bytes(rom + b"\xff" * 2048)
        run = self.dump()
        self.assertIn("the firmware has no ACPI node", run.stderr)
        self.assertIn("/sys/kernel/debug/dri cannot be read", run.stderr)
        self.assertIn("2048 bytes from the card's ROM BAR", run.stdout)
        self.assertEqual(self.out.read_bytes(), rom)

    def test_nothing(self):
        run = self.dump(code=1)
        self.assertEqual(len(run.stderr.splitlines()), 4, run.stderr)
        self.assertIn("the card has none", run.stderr)
        self.assertIn("optimus-vbios extract", run.stderr)
        self.assertFalse(self.out.exists())

    def test_disk_full(self):
        rom = vbios.make(size=51200)
        self.nouveau(rom)
        self.stack.enter_context(mounted(self.dir, "-t", "tmpfs", "-o",
                                         "size=32k", "none"))
        run = self.dump(code=1)
        self.assertIn("No space left on device", run.stderr)
        self.assertEqual(self.files(), [])

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_not_root(self):
        self.bad("dump", "--host", "01:00.0", "-o", self.out, user=NOBODY,
                 says="dump needs root: run it with sudo")

    def test_no_card(self):
        self.bad("dump", "--host", "02:00.0", "-o", self.out,
                 says="no card at 0000:02:00.0")
        self.assertEqual(self.run_tool("dump", "--host", "02:00", "-o",
                                       self.out).returncode, 2)

    def test_host(self):
        """What --host means for the other commands."""
        path = self.put("v.rom", vbios.make())
        facts = self.info(path, "--host", "0000:01:00.0")
        self.assertEqual(facts["verdict"],
                         "usable as romfile for the card at 0000:01:00.0")
        self.assertIn("(fits)", self.good("extract", path, "-o",
                                          self.dir / "out", "--host",
                                          "01:00.0"))
        (self.card / "device").write_text("0x1c8d\n")
        facts = self.info(path, "--host", "01:00.0")
        self.assertEqual(facts["verdict"], "usable as romfile for the card at "
                         "01:00.0 with nouveau only: it is for 10de:139b, and "
                         "the card is 10de:1c8d: NVIDIA's drivers refuse it, "
                         "nouveau takes it")
        self.assertFalse(facts["nvidia"])
        path = self.put("v.rom", patched(
            vbios.make(), (0x48, b"\0\1"), (0x140, b"\x8d\x1c\0\0")))
        facts = self.info(path, "--host", "01:00.0")
        self.assertIn("the card 10de:1c8d is only in its list of further "
                      "devices", facts["verdict"])
        self.assertFalse(facts["nvidia"])


def main():
    global PROGRAM
    if len(sys.argv) < 2:
        sys.exit(__doc__.splitlines()[0])
    enter_namespace("""
        . "$0/scripts/lib/builds.sh"
        . "$0/tests-qtest/lib/lab.sh"
        lock_build
        lab_unpack
        unpack_tools
    """)
    with tempfile.TemporaryDirectory() as folder:
        # where everybody can run it, wherever the repository is
        os.chmod(folder, 0o755)
        PROGRAM = shutil.copy(sys.argv.pop(1), folder)
        tap_main(sys.modules[__name__], sys.argv[1:])


if __name__ == "__main__":
    main()
