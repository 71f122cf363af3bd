/*
 * A battery that is always full, and an AC adapter, for guests of QEMU: what some
 * versions of NVIDIA's Windows driver look for in a laptop.
 *
 *   iasl -p battery battery.asl
 *   qemu-system-x86_64 -acpitable file=battery.aml ...
 *
 * "file=" is needed: without it QEMU takes the file for a table without a header.
 * See "Power Source and Power Meter Devices" in the ACPI specification (6.5: 10.2,
 * 10.3); capacities are in mWh, the voltage in mV.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
DefinitionBlock ("", "SSDT", 1, "VFIOPT", "BATTERY", 1)
{
    Scope (\_SB)
    {
        Device (BAT0)
        {
            Name (_HID, EisaId ("PNP0C0A"))
            Name (_UID, 1)
            Name (_STA, 0x1F)                   // there, and so is its battery
            Name (_PCL, Package () { \_SB })    // what it powers

            // Battery Information, of which Windows reads this older form
            Name (_BIF, Package ()
            {
                0,                              // unit: mWh
                50000,                          // design capacity
                50000,                          // last full charge capacity
                1,                              // rechargeable
                12000,                          // design voltage
                2500,                           // capacity of warning
                1000,                           // capacity of low
                100,                            // granularity, low to warning
                100,                            // granularity, warning to full
                "vfio-optimus",                 // model number
                "1",                            // serial number
                "LION",                         // type
                "QEMU"                          // OEM information
            })

            // Extended Battery Information, which Linux prefers
            Name (_BIX, Package ()
            {
                0,                              // revision
                0,                              // unit: mWh
                50000,                          // design capacity
                50000,                          // last full charge capacity
                1,                              // rechargeable
                12000,                          // design voltage
                2500,                           // capacity of warning
                1000,                           // capacity of low
                1,                              // cycles
                100000,                         // accuracy: 100%
                1000,                           // longest sampling time, ms
                1000,                           // shortest sampling time, ms
                1000,                           // longest averaging interval, ms
                1000,                           // shortest averaging interval, ms
                100,                            // granularity, low to warning
                100,                            // granularity, warning to full
                "vfio-optimus",                 // model number
                "1",                            // serial number
                "LION",                         // type
                "QEMU"                          // OEM information
            })

            // Battery Status
            Name (_BST, Package ()
            {
                0,                              // neither charging nor discharging
                0,                              // rate
                50000,                          // remaining capacity
                12000                           // voltage
            })
        }

        Device (ADP0)
        {
            Name (_HID, "ACPI0003")
            Name (_PCL, Package () { \_SB })
            Name (_PSR, 1)                      // online
        }
    }
}
