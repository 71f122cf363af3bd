// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The way of lion328/gpu-passthrough: at the first call, look for the ROM in
 * fw_cfg's directory and read it byte by byte into a buffer that stays; every
 * call returns a part of that.  At most 4 KiB a call, with a short tail.
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "FWCFGMID", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        Name (DONE, Zero)
        Name (CACH, Buffer (One) {})

        OperationRegion (PORT, SystemIO, 0x0510, 0x02)
        Field (PORT, WordAcc, Lock, Preserve) { SELE, 16 }
        Field (PORT, ByteAcc, Lock, Preserve) { Offset (1), BYTE, 8 }

        // Big-endian numbers
        Method (BE16, 0, Serialized)
        {
            Local0 = BYTE << 8
            Return (Local0 | BYTE)
        }

        Method (BE32, 0, Serialized)
        {
            Local0 = BE16 () << 16
            Return (Local0 | BE16 ())
        }

        Method (TAKE, 1, Serialized)
        {
            Local0 = Buffer (Arg0) {}
            For (Local1 = 0, Local1 < Arg0, Local1++)
            {
                Local0 [Local1] = BYTE
            }
            Return (Local0)
        }

        Method (FILL, 0, Serialized)
        {
            SELE = 0x19
            Local0 = BE32 ()
            For (Local1 = 0, Local1 < Local0, Local1++)
            {
                Local2 = BE32 ()
                Local3 = BE16 ()
                BE16 ()
                If (ToString (TAKE (56)) == FWCFG_NAME)
                {
                    SELE = Local3
                    CopyObject (TAKE (Local2), CACH)
                    Break
                }
            }
        }

        Method (_ROM, 2, Serialized)
        {
            If (!DONE)
            {
                DONE = One
                FILL ()
            }
            Local0 = Arg1
            If (Local0 > 0x1000) { Local0 = 0x1000 }
            If (Arg0 < SizeOf (CACH)) { Return (Mid (CACH, Arg0, Local0)) }
            Return (Buffer (Local0) {})
        }
    }
}
