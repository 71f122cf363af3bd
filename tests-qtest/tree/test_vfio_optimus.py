#!/usr/bin/env python3
#
# Boots a guest with an IOMMU, in which the QEMU under test assigns a device
# to a nested guest, with vfio-optimus.  The nouveau of the nested guest has to
# take the video BIOS of that device from the ACPI method _ROM.  A second device
# has one, too.
#
# SPDX-License-Identifier: GPL-2.0-or-later

from pathlib import Path
from random import Random
import re
import shutil
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
for module in $(cat /modules/order); do
    insmod /modules/$module.ko $(cat /modules/$module.options 2>/dev/null)
done
'''

# bochs-display has memory where the registers of a GPU are: a GT218 is what
# nouveau takes it for, by the first one.
HOST_SCRIPT = '''
for slot in 07 08; do
    device=/sys/bus/pci/devices/0000:00:$slot.0
    echo 1 >$device/enable
    devmem $(head -n 1 $device/resource | cut -d ' ' -f 1) 32 0x0a8000a2
    echo 0 >$device/enable
    echo vfio-pci >$device/driver_override
    echo 0000:00:$slot.0 >/sys/bus/pci/drivers_probe
done

LD_LIBRARY_PATH=/lib /qemu/qemu -L /qemu -nodefaults -display none -no-reboot \
-M q35 -accel kvm -m 384 -serial stdio -kernel /vmlinuz -initrd /guest.cpio \
-append 'console=ttyS0 quiet panic=-1' \
-device vfio-optimus,host=00:07.0,romfile=/vbios.rom,rombar=0,\
x-pci-vendor-id=0x10de,x-pci-device-id=0x0a65 \
-device vfio-optimus,host=00:08.0,romfile=/vbios.rom,rombar=0 </dev/null

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


class VfioOptimus(QemuSystemTest):

    # snapshot.debian.org has files by their SHA-1.
    ASSET_KERNEL = Asset(
        ('https://snapshot.debian.org/file/'
         'ab49acaac82ed54455b384f861eac71d080f5e4a'),
        '7b5597492a0a65aee61985a492e6bcc3f2cde830072a0e3b3d8c7e1b90279bd3')

    ASSET_BUSYBOX = Asset(
        ('https://snapshot.debian.org/file/'
         '388095e72f44cefd025b869d917e45108d124655'),
        '3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744')

    def unpack(self, package, name):
        """All of a package of Debian's; archive_extract() takes one file."""
        dest = Path(self.scratch_file(name))
        dest.mkdir()
        deb_extract(package.fetch(), dest)

    def copy_module(self, name, modules, dest, order):
        """Copy a kernel module, after those that it depends on."""
        name = name.replace('-', '_')
        if not name or name in order:
            return
        depends = re.search(rb'depends=([^\0]*)\0', modules[name].read_bytes())
        for other in depends.group(1).decode().split(','):
            self.copy_module(other, modules, dest, order)
        shutil.copy(modules[name], dest / f'{name}.ko')
        order.append(name)

    def start_tree(self, name, modules, script):
        """The directory of an initrd, with busybox and kernel modules."""
        tree = Path(self.scratch_file(name))
        for sub in ('bin', 'dev', 'lib', 'lib64', 'modules', 'proc', 'qemu',
                    'sys'):
            (tree / sub).mkdir(parents=True)
        shutil.copy(self.scratch_file('busybox', 'bin', 'busybox'),
                    tree / 'bin')
        found = {path.stem.replace('-', '_'): path for path in
                 Path(self.scratch_file('kernel', 'lib')).rglob('*.ko')}
        order = []
        for module in modules:
            self.copy_module(module, found, tree / 'modules', order)
        (tree / 'modules/order').write_text('\n'.join(order))
        (tree / 'init').write_text(INIT + script)
        (tree / 'init').chmod(0o755)
        return tree

    def make_initrd(self, tree):
        initrd = tree.with_suffix('.cpio')
        with open(initrd, 'wb') as out:
            run('find . | cpio -o -H newc --quiet', shell=True, check=True,
                cwd=tree, stdout=out)
        return initrd

    def copy_qemu(self, tree):
        """The QEMU under test, with its libraries and firmware."""
        shutil.copy(self.qemu_bin, tree / 'qemu/qemu')
        # which fails for a static program
        ldd = run(['ldd', self.qemu_bin], check=False, capture_output=True,
                  encoding='utf8').stdout
        for library in re.findall(r'(/\S+) \(0x', ldd):
            shutil.copy(library, tree / ('lib64' if 'ld-linux' in library
                                         else 'lib'))
        dirs = run([self.qemu_bin, '-L', 'help'], check=True,
                   capture_output=True, encoding='utf8').stdout.splitlines()
        for name in ('bios-256k.bin', 'kvmvapic.bin', 'linuxboot_dma.bin'):
            paths = (Path(dir) / name for dir in dirs)
            shutil.copy(next(p for p in paths if p.exists()), tree / 'qemu')

    # The QEMU under test runs in the guest, too, with KVM there.
    @skipIfNotMachine('x86_64')
    @skipIfMissingCommands('ar', 'cpio', 'ldd')
    def test_nouveau(self):
        self.require_accelerator('tcg')
        if 'kvm' not in list_accel(self.qemu_bin):
            self.skipTest('the QEMU under test has no KVM')
        self.set_machine('q35')
        for device in ('vfio-optimus', 'intel-iommu', 'bochs-display'):
            self.require_device(device)

        self.unpack(self.ASSET_BUSYBOX, 'busybox')
        self.unpack(self.ASSET_KERNEL, 'kernel')
        boot = Path(self.scratch_file('kernel', 'boot'))
        kernel = next(boot.glob('vmlinuz-*'))

        guest = self.start_tree('guest', ['nouveau'], NESTED_GUEST_SCRIPT)
        (guest / 'modules/nouveau.options').write_text('debug=bios=debug')
        host = self.start_tree('host', ['vfio_iommu_type1', 'vfio_pci',
                                        'kvm_amd'], HOST_SCRIPT)
        self.copy_qemu(host)
        shutil.copy(kernel, host / 'vmlinuz')
        shutil.copy(self.make_initrd(guest), host / 'guest.cpio')
        (host / 'vbios.rom').write_bytes(make_vbios(64 * 1024 - 512))

        self.vm.set_console()
        self.vm.add_args('-accel', 'tcg', '-cpu', 'max', '-m', '2G')
        self.vm.add_args('-nodefaults', '-no-reboot')
        self.vm.add_args('-device',
                         'intel-iommu,intremap=on,caching-mode=on')
        for addr in (7, 8):
            self.vm.add_args('-device',
                             f'bochs-display,vgamem=32M,addr={addr}')
        self.vm.add_args('-kernel', str(kernel))
        self.vm.add_args('-initrd', str(self.make_initrd(host)))
        # the kernel's check of the timer fails where TCG is slow
        self.vm.add_args('-append', 'console=ttyS0 quiet panic=-1 '
                         'intel_iommu=on no_timer_check')
        self.vm.launch()
        wait_for_console_pattern(self, 'bios: using image from ACPI',
                                 failure_message='the nested guest is done')


if __name__ == '__main__':
    QemuSystemTest.main()
