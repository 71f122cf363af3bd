#!/usr/bin/env python3
#
# Boots a guest with an IOMMU, in which the QEMU under test assigns a device
# to a nested guest, with vfio-optimus.  The nouveau of the nested guest has to
# take the video BIOS of that device from the ACPI method _ROM.
#
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path, PurePath
from random import Random
import re
from struct import pack
from subprocess import run

from qemu.utils import list_accel
from qemu_test import QemuSystemTest, Asset
from qemu_test import skipIfMissingCommands, skipIfNotMachine
from qemu_test import wait_for_console_pattern
from qemu_test.archive import deb_extract


INIT = '''#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
'''

# bochs-display has memory where the registers of a GPU are: a GT218 is what
# nouveau takes it for, by the first one.
HOST_SCRIPT = '''
device=/sys/bus/pci/devices/0000:00:07.0
echo 1 >$device/enable
devmem $(head -n 1 $device/resource | cut -d ' ' -f 1) 32 0x0a8000a2
echo 0 >$device/enable
echo vfio-pci >$device/driver_override
echo 0000:00:07.0 >/sys/bus/pci/drivers_probe

qemu() {
    LD_LIBRARY_PATH=/lib /qemu/qemu -L /qemu -nodefaults -display none \
        -no-reboot -M q35 -accel kvm -m 384 -serial stdio -kernel /vmlinuz \
        -initrd /guest.cpio -append 'console=ttyS0 quiet panic=-1' \
        -device vfio-optimus,host=00:07.0,romfile=/vbios.rom,romsize=4096,\
x-pci-vendor-id=0x10de,x-pci-device-id=0x0a65$1 </dev/null
}

# The ROM BAR is too small for the video BIOS; then it has none.
qemu
echo "refused with status $?"
qemu ,rombar=0
echo the nested guest is done
poweroff -f
'''

NESTED_GUEST_SCRIPT = '''
dmesg | grep nouveau
poweroff -f
'''


def make_vbios(size):
    """A video BIOS for nouveau's eyes: header, PCIR, and a sum of 0."""
    rom = bytearray(Random(1).randbytes(size))
    rom[0:4] = pack('<HBB', 0xaa55, size // 512, 0xcb)
    rom[0x18:0x1a] = pack('<H', 0x40)
    rom[0x40:0x58] = pack('<4sHHHHB3sHHBBH', b'PCIR', 0x10de, 0x0a65, 0, 0x18,
                          0, b'\x00\x02\x03', size // 512, 0, 0, 0x80, 0)
    rom[-1] = (rom[-1] - sum(rom)) & 0xff
    return rom


def write_cpio(path, files):
    """An initrd of @files, the contents by name; cpio may be missing."""
    entries = {}
    for name, data in files.items():
        for parent in list(PurePath(name).parents)[-2::-1]:
            entries[str(parent)] = (0o40755, b'')
        entries[name] = (0o100755, data)
    entries['TRAILER!!!'] = (0, b'')
    with open(path, 'wb') as out:
        for name, (mode, data) in entries.items():
            fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
                      len(name) + 1, 0)
            header = '070701' + ''.join(f'{field:08x}' for field in fields)
            for part in (header + name + '\0').encode(), data:
                out.write(part + bytes(-len(part) % 4))


class VfioOptimus(QemuSystemTest):

    DEBIAN = ('https://snapshot.debian.org/archive/debian/20260712T000000Z/'
              'pool/main/')
    ASSET_KERNEL = Asset(
        (DEBIAN + 'l/linux-signed-amd64/'
         'linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb'),
        '7b5597492a0a65aee61985a492e6bcc3f2cde830072a0e3b3d8c7e1b90279bd3')
    ASSET_BUSYBOX = Asset(
        DEBIAN + 'b/busybox/busybox-static_1.35.0-4+deb12u1+b1_amd64.deb',
        '3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744')

    def find_modules(self, name, modules, order):
        """Append a kernel module to @order, after those it depends on."""
        name = name.replace('-', '_')
        if not name or name in order:
            return
        depends = re.search(rb'depends=([^\0]*)\0', modules[name].read_bytes())
        for other in depends.group(1).decode().split(','):
            self.find_modules(other, modules, order)
        order.append(name)

    def make_initrd(self, name, modules, script, files):
        """With busybox, kernel modules and their options, and @files"""
        paths = {path.stem.replace('-', '_'): path for path in
                 Path(self.scratch_file('lib/modules')).rglob('*.ko')}
        order = []
        for module in modules:
            self.find_modules(module, paths, order)
        init = INIT
        for module in order:
            files[f'{module}.ko'] = paths[module].read_bytes()
            init += f'insmod /{module}.ko {modules.get(module, "")}\n'
        files['init'] = (init + script).encode()
        files['bin/busybox'] = Path(
            self.scratch_file('bin/busybox')).read_bytes()
        for mountpoint in ('dev', 'proc', 'sys'):
            files[f'{mountpoint}/empty'] = b''
        initrd = self.scratch_file(name)
        write_cpio(initrd, files)
        return initrd

    def qemu_files(self):
        """The QEMU under test, with its libraries and firmware"""
        files = {'qemu/qemu': Path(self.qemu_bin).read_bytes()}
        # which fails for a static program
        ldd = run(['ldd', self.qemu_bin], check=False, capture_output=True,
                  encoding='utf8').stdout
        for library in re.findall(r'(/\S+) \(0x', ldd):
            directory = 'lib64' if 'ld-linux' in library else 'lib'
            files[f'{directory}/{Path(library).name}'] = \
                Path(library).read_bytes()
        dirs = run([self.qemu_bin, '-L', 'help'], check=True,
                   capture_output=True, encoding='utf8').stdout.splitlines()
        for name in ('bios-256k.bin', 'kvmvapic.bin', 'linuxboot_dma.bin'):
            paths = (Path(dir) / name for dir in dirs)
            files[f'qemu/{name}'] = next(
                path for path in paths if path.exists()).read_bytes()
        return files

    # The QEMU under test runs in the guest, too, with KVM there.
    @skipIfNotMachine('x86_64')
    @skipIfMissingCommands('ar', 'ldd')
    def test_nouveau(self):
        self.require_accelerator('tcg')
        if 'kvm' not in list_accel(self.qemu_bin):
            self.skipTest('the QEMU under test has no KVM')
        self.set_machine('q35')
        for device in ('vfio-optimus', 'intel-iommu', 'bochs-display'):
            self.require_device(device)

        for package in self.ASSET_BUSYBOX, self.ASSET_KERNEL:
            deb_extract(package.fetch(), self.scratch_file())
        kernel = next(Path(self.scratch_file('boot')).glob('vmlinuz-*'))
        guest = self.make_initrd('guest.cpio', {'nouveau': 'debug=bios=debug'},
                                 NESTED_GUEST_SCRIPT, {})
        files = self.qemu_files()
        files['vmlinuz'] = kernel.read_bytes()
        files['guest.cpio'] = Path(guest).read_bytes()
        files['vbios.rom'] = make_vbios(64 * 1024 - 512)
        host = self.make_initrd('host.cpio', {'vfio_iommu_type1': '',
                                              'vfio_pci': '', 'kvm_amd': ''},
                                HOST_SCRIPT, files)

        self.vm.set_console()
        self.vm.add_args('-accel', 'tcg', '-cpu', 'max', '-m', '2G',
                         '-nodefaults', '-no-reboot')
        self.vm.add_args('-device', 'intel-iommu,intremap=on,caching-mode=on')
        self.vm.add_args('-device', 'bochs-display,vgamem=32M,addr=7')
        self.vm.add_args('-kernel', str(kernel), '-initrd', host)
        # the kernel's check of the timer fails where TCG is slow
        self.vm.add_args('-append', 'console=ttyS0 quiet panic=-1 '
                         'intel_iommu=on no_timer_check')
        self.vm.launch()
        for message in ('is too large for ROM size 4096',
                        'refused with status 1',
                        'bios: using image from ACPI'):
            wait_for_console_pattern(self, message,
                                     failure_message='nested guest is done')


if __name__ == '__main__':
    QemuSystemTest.main()
