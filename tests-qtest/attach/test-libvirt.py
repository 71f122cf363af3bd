#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""optimus-attach and guests of libvirt's, with the libvirt and QEMU of a Debian suite:

    test-libvirt.py PROGRAM SUITE PLUGIN

What is unpacked in build/root/libvirt-SUITE runs as qemu:///session, see in-root.  A
script there does all that the tests look at, and leaves it in a folder: of each step
what was said, its exit status, the domain and QEMU's arguments."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as tree

import vbios
from tap import figures, need, tap_main

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
PROGRAM = SUITE = PLUGIN = None
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
IDS = {"x-pci-sub-vendor-id": 0x17aa, "x-pci-sub-device-id": 0x3978}
FULL = "VFIO_OPTIMUS_FULL" in os.environ

# A guest as virt-install defines it, in parts
GUEST = """<domain type='qemu'{ns}>
  <name>{name}</name>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://microsoft.com/win/11"/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit='MiB'>384</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>{emulator}</emulator>
    <graphics type='vnc' passwd='secret'/>
    {devices}
  </devices>
  {qemu}
</domain>
"""
HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='{managed}'>
  <source><address domain='0' bus='{bus}' slot='0' function='{function}'/></source>{more}
</hostdev>"""

# Functions of the script.  A card is host:vendor:device:driver:group
FUNCTIONS = r"""
exec 2>&1
card() {
    local d=/sys/bus/pci/devices/$1 g=/sys/groups/$5/devices
    mkdir -p $d $g
    echo "0x$2" >$d/vendor; echo "0x$3" >$d/device
    echo 0x17aa >$d/subsystem_vendor; echo 0x3978 >$d/subsystem_device
    [ -z "$4" ] || ln -sfn "/sys/drivers/$4" $d/driver
    touch $g/$1
    ln -sfn /sys/groups/$5 $d/iommu_group
}
# run NAME COMMAND...: what it says is in out/NAME.said, its status in out/NAME.status
run() {
    name=$1; shift
    "$@" >out/$name.said 2>out/$name.wrong
    echo $? >out/$name.status
}
attach() { optimus-attach "$@"; }
# keep NAME DOMAIN: the domain, and what libvirt makes of it
keep() {
    virsh dumpxml --inactive --security-info "$2" >out/$1.xml
    awk '{ print }
        /<hostdev mode=.subsystem. type=.pci./ { getline line
            if (line !~ /<driver/) print "<driver name=\"vfio\"/>"
            print line }' out/$1.xml |
        virsh domxml-to-native qemu-argv /proc/self/fd/0 >out/$1.argv
    find /usr/share/vgabios -type f >out/$1.files
}
with_plugin() { mkdir -p "${plugin%/*}"; cp plugin.so "$plugin"; }
without_plugin() { rm -f "$plugin"; }
"""


def devices(words):
    """The assigned devices of a command line: host, and id, bus and addr"""
    found = {}
    for before, word in zip(words, words[1:]):
        if before != "-device":
            continue
        if word.startswith("{"):
            device = json.loads(word)
        else:
            device = dict(part.split("=", 1) for part in
                          ("driver=" + word).replace(",,", ";").split(",") if "=" in part)
        if device["driver"].startswith(("vfio-pci", "vfio-optimus")) and "host" in device:
            found[device["host"]] = device
    return found


class Libvirt(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.root = need(TOP / f"build/root/libvirt-{SUITE}")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.dir = pathlib.Path(folder.name)
        (cls.dir / "out").mkdir()
        (cls.dir / "bin").mkdir()
        for tool in ("diff", "find", "iasl", "awk", "sed"):
            shutil.copy(os.path.realpath(shutil.which(tool)), cls.dir / "bin" / tool)
        cls.copy_program()
        shutil.copy(PLUGIN, cls.dir / "plugin.so")
        for name, rom in (("v.rom", vbios.make(size=2048)),
                          ("2.rom", vbios.make(size=2048, seed=2)),
                          ("other.rom", vbios.make(size=2048, device=0x1234))):
            (cls.dir / name).write_bytes(rom)
        cls.script = FUNCTIONS + f"plugin={cls.plugin_file()}\n"
        cls.prepare()
        cls.script += 'kill "$(cat /tmp/run/libvirt/libvirtd.pid)"\n'
        (cls.dir / "script").write_text(cls.script)
        done = subprocess.run([HERE / "in-root", cls.root, cls.dir / "script"],
                              stdout=subprocess.PIPE, text=True, timeout=600)
        cls.log = done.stdout
        print(done.stdout, file=sys.stderr)

    @classmethod
    def copy_program(cls):
        """With the libraries of its sanitizers, if it has any"""
        shutil.copy(PROGRAM, cls.dir / "program")
        needed = subprocess.run(["ldd", PROGRAM], check=True, stdout=subprocess.PIPE,
                                text=True).stdout
        for library in re.findall(r"=> (\S*/lib(?:asan|ubsan|stdc|gcc_s)\S*)", needed):
            shutil.copy(library, cls.dir)
        program = cls.dir / "bin/optimus-attach"
        program.write_text("#!/bin/sh\nLD_LIBRARY_PATH=/libvirt-test exec "
                           "/libvirt-test/program \"$@\"\n")
        program.chmod(0o755)

    @staticmethod
    def plugin_file():
        """Where the program looks for it"""
        return re.search(rb"/[!-~]*/vfio-optimus\.so", pathlib.Path(PROGRAM).read_bytes()) \
            [0].decode()

    @classmethod
    def define(cls, name, devices="", qemu="", emulator="/usr/bin/qemu-system-x86_64"):
        ns = " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'" if qemu else ""
        (cls.dir / f"{name}.xml").write_text(GUEST.format(
            name=name, ns=ns, devices=devices, qemu=qemu, emulator=emulator))
        cls.script += f"virsh -q define {name}.xml\n"

    def said(self, name, status=0, wrong=None):
        """What step NAME said; it was well, or it failed with one sentence."""
        text = (self.dir / f"out/{name}.said").read_text()
        errors = (self.dir / f"out/{name}.wrong").read_text()
        self.assertEqual((self.dir / f"out/{name}.status").read_text().strip(), str(status),
                         text + errors)
        if wrong:
            self.assertIn(wrong, errors)
            self.assertRegex(errors, r"^optimus-attach: [^\n]*\n$")
        else:
            self.assertEqual(errors, "")
        return text

    def domain(self, name):
        return (self.dir / f"out/{name}.xml").read_text()

    def argv(self, name):
        return shlex.split((self.dir / f"out/{name}.argv").read_text())

    def files(self, name):
        return (self.dir / f"out/{name}.files").read_text().split()

    def check(self, name, plugin, scope, host="0000:01:00.0"):
        """The card is in the arguments with all that it needs; the files are there, and
        no others."""
        words = self.argv(name)
        card = devices(words)[host]
        self.assertEqual({key: card.get(key) for key in IDS}, IDS)
        self.assertRegex(card["driver"], "^vfio-(optimus|pci(-nohotplug)?)$")
        self.assertEqual(card["driver"] == "vfio-optimus", plugin)
        tables = [word.removeprefix("file=") for before, word in zip(words, words[1:])
                  if before == "-acpitable"]
        if plugin:
            self.assertEqual(words[words.index("-plugin") + 1], self.plugin_file())
            self.assertEqual(words.count("-plugin"), 1)
            self.assertEqual(self.files(name), [card["romfile"]])
            self.assertEqual(tables, [])
        else:
            self.assertNotIn("-plugin", words)
            self.assertEqual([os.path.basename(path) for path in tables],
                             ["rom-00.aml", "rom-method.aml"])
            self.assertEqual(sorted(self.files(name)), tables)
            self.assertEqual(scope, self.scope(words, card))
            self.assertTrue((self.dir / f"out/{name}.said").exists())
        return card

    def scope(self, words, device):
        """The ACPI path of a device that has a bus and addr, by other devices' IDs"""
        every = {}
        for before, word in zip(words, words[1:]):
            if before == "-device" and word.startswith("{"):
                every[json.loads(word).get("id")] = json.loads(word)
        path = ""
        while True:
            slot, _, function = device["addr"].partition(".")
            path = f".S{int(slot, 16) << 3 | int(function or '0', 16):02X}{path}"
            if device["bus"] not in every:
                return path[1:]
            device = every[device["bus"]]


class Guests(Libvirt):
    """A guest as people have it, through all its changes."""

    @classmethod
    def prepare(cls):
        add = cls.add
        add("card 0000:01:00.0 10de 139b '' 1; card 0000:01:00.1 10de 0fb9 '' 1")
        add("card 0000:02:00.0 10de 139b nouveau 2; card 0000:02:00.1 10de 0fb9 snd_hda_intel 2")
        add("card 0000:03:00.0 10de 139b '' 3; card 0000:04:00.0 8086 1234 xhci_hcd 3")
        cls.define("win11")
        for way in ("plugin", "tables"):
            add("with_plugin" if way == "plugin" else "without_plugin")
            add(f"keep {way}-before win11")
            add(f"run {way}-dry attach win11 01:00.0 v.rom --dry-run; keep {way}-dry win11")
            add(f"run {way} attach win11 01:00.0 v.rom --yes; keep {way} win11")
            add(f"run {way}-again attach win11 01:00.0 v.rom --yes; keep {way}-again win11")
            add(f"run {way}-undo attach --undo win11 --yes; keep {way}-undo win11")
        # from one way to the other, with another ROM, and with the audio function
        add("with_plugin; run p attach win11 01:00.0 v.rom --yes")
        add("without_plugin; run p-t attach win11 01:00.0 2.rom --yes; keep p-t win11")
        add("with_plugin; run t-p attach win11 01:00.0 v.rom --yes --function; keep t-p win11")
        add("run t-p-undo attach --undo win11 --yes; keep t-p-undo win11")
        # the guest's devices change: the card is on another bus then
        add("without_plugin; run moved1 attach win11 01:00.0 v.rom --yes; keep moved1 win11")
        add("sed '/ua-optimus/{n;s/bus=.0x[0-9a-f]*./bus=\"0x00\"/;s/slot=.0x00./slot=\"0x1b\"/}'"
            " out/moved1.xml >moved.xml; virsh -q define moved.xml")
        add("run moved2 attach win11 01:00.0 v.rom --yes; keep moved2 win11")
        # what the user has changed since stays
        add("sed \"s/<qemu:commandline>/&<qemu:arg value='-name'\\/><qemu:arg value='x'\\/>/;"
            "s/value='14712'/value='1'/\" out/moved2.xml >user.xml; virsh -q define user.xml")
        add("run user-undo attach --undo win11 --yes; keep user-undo win11")
        add("run none attach --undo win11 --yes")
        # a guest that has the card already, and more
        cls.define("own", HOSTDEV.format(
            managed="no", bus=1, function=0, more="<rom bar='off' file='/my.rom'/>"
            "<alias name='ua-gpu'/>") + HOSTDEV.format(managed="yes", bus=1, function=1, more=""),
            """<qemu:commandline><qemu:arg value='-name'/><qemu:arg value='a'/>
            <qemu:env name='A' value='b;c'/></qemu:commandline>
            <qemu:override><qemu:device alias='ua-gpu'><qemu:frontend>
              <qemu:property name='x-vga' type='bool' value='true'/>
              <qemu:property name='driver' type='string' value='vfio-pci-nohotplug'/>
            </qemu:frontend></qemu:device></qemu:override>""")
        add("virsh -q undefine win11; keep own-before own")
        add("with_plugin; run own attach own 01:00.0 v.rom --yes; keep own own")
        add("run own-undo attach --undo own --yes; keep own-undo own")
        # a libvirt that has no overrides, as those before 8.2
        add(r"""mkdir -p old; cat >old/virsh <<END
#!/bin/sh
virsh=$(command -v virsh)
[ \$1 = domxml-to-native ] || exec \$virsh "\$@"
sed '/<qemu:override>/,/<.qemu:override>/d' /proc/self/fd/0 | exec \$virsh "\$@"
END
            chmod +x old/virsh""")
        cls.define("old")
        add("virsh -q undefine own; keep old-before old")
        add("PATH=/libvirt-test/old:$PATH run old attach old 01:00.0 v.rom --yes; keep old old")
        add("run old-undo attach --undo old --yes; keep old-undo old; virsh -q undefine old")
        add("virsh -q define out/own-before.xml")
        # errors
        cls.define("emulator", emulator="/usr/bin/qemu-system-x86_64")
        add("run no-guest attach nobody 01:00.0 v.rom --yes")
        add("run taken attach emulator 01:00.0 v.rom --yes")
        add("run function attach emulator 02:00.0 v.rom --yes")
        add("run group attach emulator 03:00.0 v.rom --yes")
        add("run refused attach emulator 02:00.0 other.rom --yes --function")
        add("run no-rom attach emulator 02:00.0 no.rom --yes --function")
        add("run other-card attach emulator 02:00.0 v.rom --yes --function")
        add("run other-card2 attach emulator 01:00.0 v.rom --yes --force; keep errors emulator")
        add("run says-no sh -c 'echo n | optimus-attach --undo emulator'")
        add("run says-nothing sh -c 'optimus-attach --undo emulator </dev/null'")
        add("keep errors-after emulator")
        # killed before and after each call of virsh, diff and iasl
        add("run other-undo attach --undo emulator --yes; virsh -q undefine own")
        add("keep killed-before emulator")
        for tool in ("virsh", "diff", "iasl"):
            add(f"tool=$(command -v {tool}); mkdir -p killing; cat >killing/{tool} <<END\n"
                "#!/bin/sh\n"
                "count() { read -r n </tmp/counter; n=\\$((n + 1)); echo \\$n >/tmp/counter\n"
                "    [ \\$n != \"\\$KILL_AT\" ] || { kill -KILL \\$PPID; exit 1; }\n}\n"
                f"count; $tool \"\\$@\"; status=\\$?; count; exit \\$status\nEND\n"
                f"chmod +x killing/{tool}")
        add("""for way in with_plugin without_plugin; do
                $way
                run good attach emulator 02:00.0 v.rom --yes --function
                keep killed-$way emulator
                run back attach --undo emulator --yes
                at=1
                while [ $at -lt 60 ]; do
                    echo 0 >/tmp/counter
                    KILL_AT=$at PATH=/libvirt-test/killing:$PATH run killed-$way-$at \\
                        attach emulator 02:00.0 v.rom --yes --function
                    keep killed-$way-$at emulator
                    run second-$way-$at attach emulator 02:00.0 v.rom --yes --function
                    keep second-$way-$at emulator
                    [ "$(cat out/killed-$way-$at.status)" != 0 ] || break
                    echo 0 >/tmp/counter
                    KILL_AT=$at PATH=/libvirt-test/killing:$PATH run unkilled-$way-$at \\
                        attach --undo emulator --yes
                    keep unkilled-$way-$at emulator
                    run third-$way-$at attach --undo emulator --yes
                    keep third-$way-$at emulator
                    at=$((at + 1))
                done
                run back attach --undo emulator --yes
            done""")
        add("run no-libvirt env LIBVIRT_DEFAULT_URI=qemu+unix:///session?socket=/no "
            "optimus-attach emulator 02:00.0 v.rom --yes --function")

    @classmethod
    def add(cls, line):
        cls.script += line + "\n"

    def test_ways(self):
        for way, plugin in (("plugin", True), ("tables", False)):
            said = self.said(way)
            self.assertIn("takes the plugin" if plugin else "does not take the plugin", said)
            self.assertIn("+    <hostdev", said)
            self.assertIn("has the card from its next start on.", said)
            scope = self.scope(self.argv(way), devices(self.argv(way))["0000:01:00.0"])
            self.check(way, plugin, scope)
            self.assertIn("managed='yes'", self.domain(way))
            self.assertIn("passwd='secret'", self.domain(way))
            self.assertIn("libosinfo:os", self.domain(way))
            self.assertIn("is as it should be", self.said(f"{way}-again"))
            self.assertEqual(self.domain(f"{way}-again"), self.domain(way))
            self.said(f"{way}-undo")
            self.assertEqual(self.domain(f"{way}-undo"), self.domain(f"{way}-before"))
            self.assertEqual(self.files(f"{way}-undo"), [])
            self.assertIn("Nothing was changed.", self.said(f"{way}-dry"))
            self.assertEqual(self.domain(f"{way}-dry"), self.domain(f"{way}-before"))

    def test_between_ways(self):
        self.said("p-t")
        self.check("p-t", False, self.scope(
            self.argv("p-t"), devices(self.argv("p-t"))["0000:01:00.0"]))
        self.assertNotIn("<rom", self.domain("p-t"))
        self.said("t-p")
        self.check("t-p", True, None)
        self.assertIn("0000:01:00.1", devices(self.argv("t-p")))
        self.said("t-p-undo")
        self.assertEqual(self.domain("t-p-undo"), self.domain("plugin-before"))

    def test_moved(self):
        self.said("moved1")
        self.assertNotIn("SD8", self.scope(
            self.argv("moved1"), devices(self.argv("moved1"))["0000:01:00.0"]))
        self.said("moved2")
        self.check("moved2", False, "SD8")
        self.assertNotEqual(self.files("moved1"), self.files("moved2"))

    def test_of_the_user(self):
        self.said("user-undo")
        domain = tree.fromstring(self.domain("user-undo"))
        self.assertEqual([arg.get("value") for arg in domain.iter(f"{QEMU}arg")], ["-name", "x"])
        self.assertEqual([(p.get("name"), p.get("value")) for p in
                          domain.iter(f"{QEMU}property")], [("x-pci-sub-device-id", "1")])
        self.assertIsNone(domain.find("devices/hostdev"))
        self.said("none", 1, "has nothing of optimus-attach's")

    def test_assigned_already(self):
        self.said("own")
        card = self.check("own", True, None)
        self.assertEqual((card["id"], card["rombar"], card["x-vga"]), ("ua-gpu", 0, True))
        self.assertEqual(len(devices(self.argv("own"))), 2)
        self.said("own-undo")
        self.assertEqual(self.domain("own-undo"), self.domain("own-before"))

    def test_without_overrides(self):
        """There are tables, and IDs for all devices."""
        said = self.said("old")
        self.assertIn("This libvirt has no <qemu:override>: the guest gets ACPI tables", said)
        words = self.argv("old")
        self.assertEqual([word for before, word in zip(words, words[1:])
                          if before == "-global" and "x-pci" in word],
                         ["vfio-pci.x-pci-sub-vendor-id=6058",
                          "vfio-pci.x-pci-sub-device-id=14712"])
        self.assertIn("-acpitable", words)
        self.assertNotIn("-plugin", words)
        self.said("old-undo")
        self.assertEqual(self.domain("old-undo"), self.domain("old-before"))

    def test_errors(self):
        self.said("no-guest", 1, "failed to get domain 'nobody'")
        self.said("taken", 1, "the guest 'own' has 0000:01:00.0 already")
        self.said("function", 1, "a function of its own: add --function")
        self.said("group", 1, "with 0000:04:00.0 (xhci_hcd), and a group")
        self.said("refused", 1, "it is for 10de:1234, and the card is 10de:139b")
        self.said("no-rom", 1, "'no.rom' cannot be read")
        self.said("other-card")
        self.said("other-card2", 1, "has the card at 0000:02:00.0: take that away first")
        self.said("says-no", 1, "nothing was changed")
        self.said("says-nothing", 1, "--yes does it without a question")
        self.assertEqual(self.domain("errors"), self.domain("errors-after"))
        self.said("no-libvirt", 1, "libvirt does not give the guest: virsh: failed to connect")

    def test_killed(self):
        """The domain is the old or the new one, with its files, and a second run
        finishes."""
        old = self.domain("killed-before")
        for way in ("with_plugin", "without_plugin"):
            new = self.domain(f"killed-{way}")
            self.assertNotEqual(old, new)
            seen = set()
            for at in range(1, 100):
                if not (self.dir / f"out/killed-{way}-{at}.xml").exists():
                    break
                status = (self.dir / f"out/killed-{way}-{at}.status").read_text().strip()
                self.assertIn(status, ("137", "0"))
                for step in ("killed", "unkilled"):
                    name = f"{step}-{way}-{at}"
                    if not (self.dir / f"out/{name}.xml").exists():
                        continue
                    self.assertIn(self.domain(name), (old, new), name)
                    seen.add((step, self.domain(name) == new, status))
                    if self.domain(name) == new:
                        for path in self.files(f"killed-{way}"):
                            self.assertIn(path, self.files(name))
                self.said(f"second-{way}-{at}")
                self.assertEqual(self.domain(f"second-{way}-{at}"), new)
                self.assertEqual(self.files(f"second-{way}-{at}"), self.files(f"killed-{way}"))
                third = self.dir / f"out/third-{way}-{at}.xml"
                if third.exists():
                    self.assertEqual(third.read_text(), old)
                    self.assertEqual(self.files(f"third-{way}-{at}"), [])
            self.assertEqual(status, "0")
            self.assertGreater(at, 12)
            self.assertLessEqual({("killed", False, "137"), ("killed", True, "137"),
                                  ("unkilled", True, "137"), ("unkilled", False, "137")}, seen)
            figures["times killed"] += 2 * at


class Domains(Libvirt):
    """The domains of libvirt's own tests, with a card that is assigned already; in full
    those without one, too."""

    @classmethod
    def prepare(cls):
        source = need(TOP / f"build/root/domains-{SUITE}")
        (cls.dir / "xml").mkdir()
        cls.cases = []
        cls.shifted = set()
        for path in sorted(source.glob("*.xml")):
            # some lead into folders that are not there, and some are none of XML's
            text = path.read_text() if path.exists() else ""
            if not re.search(r"qemu-system-(x86_64|i386)</emulator>\s", text):
                continue
            host = cls.host(text)
            if not host and not FULL:
                continue
            text = re.sub("<domain type=(['\"])kvm", r"<domain type=\1qemu", text)
            text = text.replace("qemu-system-i386", "qemu-system-x86_64")
            # libvirt makes a tap device for each, which needs more than there is here;
            # without a place of their own they have taken one from the others
            network = re.compile("<interface.*?</interface>", re.S)
            if any("type='pci'" not in interface for interface in network.findall(text)):
                cls.shifted.add(path.stem)
            text = network.sub("", text)
            (cls.dir / "xml" / path.name).write_text(text)
            cls.cases.append((path.stem, host or "0000:01:00.0"))
        for name, host in cls.cases:
            cls.script += f"""
                card {host} 10de 139b '' 1
                rm -f define.said
                if virsh -q define xml/{name}.xml >out/{name}.define 2>&1; then
                    uuid=$(virsh list --all --uuid)
                    for way in with_plugin without_plugin; do
                        $way
                        keep {name}-$way-before $uuid
                        run {name}-$way attach $uuid {host} v.rom --yes
                        keep {name}-$way $uuid
                        run {name}-$way-undo attach --undo $uuid --yes
                        keep {name}-$way-undo $uuid
                    done
                    virsh -q undefine --nvram $uuid >>out/{name}.define 2>&1
                fi
                """

    @staticmethod
    def host(text):
        """Of the first device of the host that a domain has"""
        for hostdev in tree.fromstring(text).iter("hostdev"):
            address = hostdev.find("source/address")
            if hostdev.get("type") == "pci" and address is not None:
                return "%04x:%02x:%02x.%x" % tuple(
                    int(address.get(name) or "0", 0)
                    for name in ("domain", "bus", "slot", "function"))
        return None

    def recorded(self, name):
        """The devices in libvirt's own arguments for it"""
        source = TOP / f"build/root/domains-{SUITE}"
        for suffix in (".x86_64-latest.args", ".args"):
            path = source / f"{name}{suffix}"
            if path.exists() and name not in self.shifted:
                return devices(shlex.split(path.read_text()))
        return {}

    def test_domains(self):
        done = 0
        for name, host in self.cases:
            if not (self.dir / f"out/{name}-with_plugin-before.xml").exists():
                continue
            for way in ("with_plugin", "without_plugin"):
                with self.subTest(name=name, way=way):
                    self.check_domain(f"{name}-{way}", host, self.recorded(name))
            done += 1
        figures[f"domains of libvirt's tests, {SUITE}"] = done
        self.assertGreater(done, 100 if FULL else 5)

    def check_domain(self, name, host, recorded):
        self.said(name)
        before, after = (devices(self.argv(step)) for step in (f"{name}-before", name))
        self.check(name, "without" not in name, self.scope(
            self.argv(name), after[host]), host)
        for where in (before, recorded):
            for other, device in where.items():
                for key in ("id", "bus", "addr"):
                    self.assertEqual(after[other][key], device[key], (other, key))
        self.said(f"{name}-undo")
        self.assertEqual(self.domain(f"{name}-undo"), self.domain(f"{name}-before"))
        self.assertEqual(self.files(f"{name}-undo"), [])


def main():
    global PROGRAM, SUITE, PLUGIN
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    PROGRAM, SUITE, PLUGIN = (sys.argv.pop(1) for _ in range(3))
    tap_main(sys.modules[__name__], sys.argv[1:])


if __name__ == "__main__":
    main()
