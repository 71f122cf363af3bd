// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The way of jscinoz/optimus-vfio-docs: as in fwcfg-mid.asl, but with the ports
 * from the resources of fw_cfg's device, a region for each, and every call
 * makes a field on the buffer.  At most 4 KiB a call.
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "FWCFGFLD", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)
    External (\_SB.PCI0.FWCF._CRS, BuffObj)

    Scope (\_SB.PCI0.S80)
    {
        Name (DONE, Zero)
        Name (CACH, Buffer (ROM_SIZE) {})

        CreateWordField (\_SB.PCI0.FWCF._CRS, 2, BASE)
        OperationRegion (CTRL, SystemIO, BASE, 0x02)
        OperationRegion (DATA, SystemIO, BASE + 1, 0x01)
        Field (CTRL, WordAcc, Lock, Preserve) { SELE, 16 }
        Field (DATA, ByteAcc, NoLock, Preserve) { BYTE, 8 }

        Method (TAKE, 1, NotSerialized)
        {
            Local0 = Arg0
            Local1 = Buffer (Local0) {}
            For (Local2 = 0, Local2 < Local0, Local2++)
            {
                Local1 [Local2] = BYTE
            }
            Return (Local1)
        }

        // A big-endian number of Arg0 bytes
        Method (NUMB, 1, NotSerialized)
        {
            Local0 = TAKE (Arg0)
            Local1 = Zero
            For (Local2 = 0, Local2 < Arg0, Local2++)
            {
                Local1 = (Local1 << 8) | DerefOf (Local0 [Local2])
            }
            Return (Local1)
        }

        Method (FILL, 0, Serialized)
        {
            SELE = 0x19
            Local0 = NUMB (4)
            For (Local1 = 0, Local1 < Local0, Local1++)
            {
                Local2 = NUMB (4)
                Local3 = NUMB (2)
                NUMB (2)
                If (ToString (TAKE (56)) == FWCFG_NAME)
                {
                    SELE = Local3
                    CACH = TAKE (Local2)
                    Break
                }
            }
        }

        Method (_ROM, 2, Serialized)
        {
            If (DONE == Zero)
            {
                DONE = One
                FILL ()
            }
            Local0 = Arg0
            Local1 = Arg1
            If (Local1 > 0x1000) { Local1 = 0x1000 }
            If (Local0 > ROM_SIZE) { Return (Buffer (Local1) {}) }
            CreateField (CACH, Local0 * 8, Local1 * 8, PART)
            Return (PART)
        }
    }
}
