/*
 * The five shapes of _ROM that the firmware of laptops has, each for a device of
 * its own.  Their video BIOS is at BASE, in memory that the test takes away from
 * the kernel.  Each counts its calls, and those that came to their end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define BASE    0x14000000
#define SIZE    0x9000
#define SECTION 0x8000

DefinitionBlock ("", "SSDT", 1, "VBIOS", "SHAPES", 1)
{
    External (\_SB.PCI0.S10, DeviceObj)
    External (\_SB.PCI0.S18, DeviceObj)
    External (\_SB.PCI0.S20, DeviceObj)
    External (\_SB.PCI0.S28, DeviceObj)
    External (\_SB.PCI0.S30, DeviceObj)

    Scope (\_SB)
    {
        OperationRegion (VBOR, SystemMemory, BASE, SIZE)
        Field (VBOR, DWordAcc, NoLock, Preserve)
        {
            VBS1, 0x40000,      // 32 KiB in bits
            VBS2, 0x8000        // 4 KiB
        }
    }

    // CreateField: a call across the end of a section aborts.
    Scope (\_SB.PCI0.S10)
    {
        Name (CALS, 0)
        Name (DONE, 0)
        Method (_ROM, 2, Serialized)
        {
            CALS++
            Name (RBF1, Buffer (SECTION) {})
            Local0 = Arg0
            Local1 = Arg1
            If (Local1 > 0x1000)
            {
                Local1 = 0x1000
            }
            If (Local0 < SECTION)
            {
                RBF1 = VBS1
            }
            Else
            {
                RBF1 = VBS2
                Local0 -= SECTION
            }
            CreateField (RBF1, Local0 * 8, Local1 * 8, TMPB)
            Local2 = TMPB
            DONE++
            Return (Local2)
        }
    }

    // Mid: zeros for a call across the end of a section.
    Scope (\_SB.PCI0.S18)
    {
        Name (CALS, 0)
        Name (DONE, 0)
        Method (_ROM, 2, Serialized)
        {
            CALS++
            Local0 = Arg0 & 0x7FFF
            Local2 = Buffer (Arg1) {}
            If (Local0 + Arg1 <= SECTION)
            {
                If (Arg0 < SECTION)
                {
                    Local2 = Mid (VBS1, Local0, Arg1)
                }
                Else
                {
                    Local2 = Mid (VBS2, Local0, Arg1)
                }
            }
            DONE++
            Return (Local2)
        }
    }

    // Right across the end of a section, and an abort past the end of the last.
    Scope (\_SB.PCI0.S20)
    {
        Name (CALS, 0)
        Name (DONE, 0)
        Method (GETB, 3, Serialized)
        {
            Local0 = Arg0 * 8
            Local1 = Arg1 * 8
            CreateField (Arg2, Local0, Local1, TBF3)
            Return (TBF3)
        }
        Method (_ROM, 2, Serialized)
        {
            CALS++
            If (Arg0 >= SECTION)
            {
                Local2 = GETB (Arg0 - SECTION, Arg1, VBS2)
            }
            ElseIf (Arg0 + Arg1 > SECTION)
            {
                Local0 = SECTION - Arg0
                Local2 = Concatenate (GETB (Arg0, Local0, VBS1),
                                      GETB (0, Arg1 - Local0, VBS2))
            }
            Else
            {
                Local2 = GETB (Arg0, Arg1, VBS1)
            }
            DONE++
            Return (Local2)
        }
    }

    // A window, and always all of it.
    Scope (\_SB.PCI0.S28)
    {
        Name (CALS, 0)
        Name (DONE, 0)
        Method (_ROM, 2, Serialized)
        {
            CALS++
            OperationRegion (ROMW, SystemMemory, BASE + Arg0, 0x1000)
            Field (ROMW, ByteAcc, NoLock, Preserve)
            {
                ROMI, 0x8000
            }
            Local2 = ROMI
            DONE++
            Return (Local2)
        }
    }

    // A region of eight times the length, below a field of 8 KiB.
    Scope (\_SB.PCI0.S30)
    {
        Name (CALS, 0)
        Name (DONE, 0)
        Method (_ROM, 2, Serialized)
        {
            CALS++
            Name (VBUF, Buffer (Arg1) {})
            OperationRegion (VROM, SystemMemory, BASE + Arg0, Arg1 << 3)
            Field (VROM, ByteAcc, NoLock, Preserve)
            {
                ROMI, 0x10000
            }
            VBUF = ROMI
            DONE++
            Return (VBUF)
        }
    }
}
