#!/usr/bin/env python3
#
# What vfio-optimus refuses.  It looks at the machine and at the video BIOS
# before vfio-pci looks for a device to assign, so that none is needed.
#
# SPDX-License-Identifier: GPL-2.0-or-later

from qemu_test import QemuSystemTest


class VfioOptimusArgs(QemuSystemTest):

    def refused(self, message, romfile=None, machine='q35', args=(), props=''):
        self.set_machine(machine.split(',')[0])
        self.require_device('vfio-optimus')
        self.vm.set_machine(machine)
        if romfile is not None:
            props += f',romfile={romfile}'
        self.vm.add_args('-accel', 'qtest', '-nodefaults', *args,
                         '-device', f'vfio-optimus{props}')
        self.vm.set_qmp_monitor(enabled=False)
        self.vm.launch()
        self.vm.wait()
        self.assertEqual(self.vm.exitcode(), 1)
        self.assertRegex(self.vm.get_log(), message)

    def rom(self, size, start=b'\x55\xaa'):
        path = self.scratch_file('vbios.rom')
        with open(path, 'wb') as rom:
            rom.write(start)
            rom.truncate(size)
        return path

    def test_no_romfile(self):
        self.refused('romfile is not set')

    def test_missing(self):
        self.refused('No such file', self.scratch_file('missing.rom'))

    def test_endless(self):
        self.refused('does not start with 55 AA', '/dev/zero')

    def test_other_file(self):
        self.refused('does not start with 55 AA', self.rom(512, b'NVGI'))

    # Two pages of zeros follow the video BIOS.
    def test_largest(self):
        self.refused('No provided host', self.rom(856 * 1024))

    def test_too_large(self):
        self.refused('has no room', self.rom(856 * 1024 + 1))

    def test_huge(self):
        self.refused('has no room', self.rom(3 << 30))

    def test_microvm(self):
        self.refused('needs a machine of the type q35 or pc', self.rom(512),
                     machine='microvm,pcie=on')

    def test_acpi_off(self):
        self.refused('needs a machine with acpi=on', self.rom(512),
                     machine='q35,acpi=off')

    def test_i440fx(self):
        self.refused('No provided host', self.rom(512), machine='pc')

    def test_expander_bridge(self):
        self.require_device('pxb-pcie')
        self.refused('not possible behind a PCI expander', self.rom(512),
                     args=('-device', 'pxb-pcie,id=pxb,bus_nr=64', '-device',
                           'pcie-root-port,id=rp,bus=pxb'), props=',bus=rp')

    def test_hotplug(self):
        self.set_machine('q35')
        self.require_device('vfio-optimus')
        self.vm.add_args('-accel', 'qtest', '-nodefaults',
                         '-device', 'pcie-root-port,id=rp')
        self.vm.launch()
        reply = self.vm.qmp('device_add', driver='vfio-optimus', bus='rp')
        self.assertIn('does not support hotplugging', reply['error']['desc'])


if __name__ == '__main__':
    QemuSystemTest.main()
