// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The way of coreboot, for bare metal: the ROM in memory, one field for all of
 * it, and every call makes a field on that.  At most 4 KiB a call.
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "FIELD", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        Method (_ROM, 2, Serialized)
        {
            OperationRegion (ROMR, SystemMemory, ROM_BASE, ROM_SIZE)
            Field (ROMR, AnyAcc, NoLock, Preserve) { WHOL, ROM_BITS }

            Local0 = Arg0
            Local1 = Arg1
            If (Local1 > 0x1000) { Local1 = 0x1000 }
            If (Local0 >= ROM_SIZE) { Return (Buffer (Local1) {}) }
            Local2 = Local1
            If (Local1 > (ROM_SIZE - Local0)) { Local1 = ROM_SIZE - Local0 }
            Name (RSLT, Buffer (Local2) {})
            CreateField (WHOL, Local0 * 8, Local1 * 8, PART)
            RSLT = PART
            Return (RSLT)
        }
    }
}
