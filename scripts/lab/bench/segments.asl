// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The way of the patched OVMF (arne-claeys, T-vK), which has it from laptops'
 * own firmware: the ROM in memory, one field for each 32 KiB, and every call
 * takes a part of the field that it begins in.  At most 4 KiB a call.
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "SEGMENTS", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        OperationRegion (VBOR, SystemMemory, ROM_BASE, 0x40000)
        Field (VBOR, DWordAcc, NoLock, Preserve)
        {
            SEG0, 0x40000, SEG1, 0x40000, SEG2, 0x40000, SEG3, 0x40000,
            SEG4, 0x40000, SEG5, 0x40000, SEG6, 0x40000, SEG7, 0x40000
        }

        Method (_ROM, 2, Serialized)
        {
            Local0 = Arg0
            Local1 = Arg1
            If (Local1 > 0x1000) { Local1 = 0x1000 }
            If (Local0 >= ROM_SIZE) { Return (Buffer (Local1) {}) }
            Local2 = Local0 & 0x7FFF
            Switch (ToInteger (Local0 >> 15))
            {
                Case (0) { Return (Mid (SEG0, Local2, Local1)) }
                Case (1) { Return (Mid (SEG1, Local2, Local1)) }
                Case (2) { Return (Mid (SEG2, Local2, Local1)) }
                Case (3) { Return (Mid (SEG3, Local2, Local1)) }
                Case (4) { Return (Mid (SEG4, Local2, Local1)) }
                Case (5) { Return (Mid (SEG5, Local2, Local1)) }
                Case (6) { Return (Mid (SEG6, Local2, Local1)) }
            }
            Return (Mid (SEG7, Local2, Local1))
        }
    }
}
