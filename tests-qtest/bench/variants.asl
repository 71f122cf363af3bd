/*
 * Other shapes of vfio-optimus's own method, chosen by VARIANT.  The one that it
 * has is in hw-optimus/core/optimus-aml.c: whole pages first, told by one mask, and
 * accesses of 8 bytes.
 *
 *   1  every request by Mid, with no test for whole pages (as it once was)
 *   2  the same, with a test for whole pages behind the clamps
 *   3  as 1, and a large request is put together page by page: no static field
 *   4  a static field for each page, found through a package: 11 bytes a page
 *   5  whole pages first, with accesses of 4 bytes
 *   6  whole pages first, and the whole window touched, so that it is mapped
 *   7  whole pages first, and a field for nouveau's second request
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "VARIANT", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        OperationRegion (VROM, SystemMemory, ROM_BASE, ROM_LIMIT)
        Field (VROM, QWordAcc, NoLock, Preserve) { VALL, LIMIT_BITS }
#if VARIANT == 3
        Method (PGET, 1, Serialized)
        {
            OperationRegion (PAGR, SystemMemory, ROM_BASE + Arg0, 0x1000)
            Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
            Return (PAGE)
        }
#endif
#if VARIANT == 4
        Field (VROM, QWordAcc, NoLock, Preserve) { PAGE_FIELDS }
        Name (PGES, Package () { PAGE_NAMES })
#endif
#if VARIANT == 6
        Field (VROM, QWordAcc, NoLock, Preserve) { FRST, 64 }
#endif
#if VARIANT == 7
        Field (VROM, QWordAcc, NoLock, Preserve) { Offset (0x1000), REST, REST_BITS }
#endif

        Method (_ROM, 2, Serialized)
        {
#if VARIANT >= 4
            If ((Arg0 & PAGE_MASK) | (Arg1 - 0x1000))
            {
#endif
            Local0 = Arg1
            If (Arg0 >= ROM_SIZE)
            {
                If (Local0 > 0x1000) { Local0 = 0x1000 }
                Return (Buffer (Local0) {})
            }
            If (Local0 > ROM_LIMIT) { Local0 = ROM_LIMIT }
            Local1 = Arg0 & 7
            If ((Local0 + Local1) <= 0x1000)
            {
                OperationRegion (PARR, SystemMemory, ROM_BASE + (Arg0 - Local1), 0x1000)
                Field (PARR, QWordAcc, NoLock, Preserve) { PART, 0x8000 }
#if VARIANT == 2
                If (Local0 == 0x1000) { Return (PART) }
#endif
                Return (Mid (PART, Local1, Local0))
            }
#if VARIANT == 3
            // from the page that it begins in
            Local1 = Arg0 & 0xFFF
            Local2 = PGET (Arg0 - Local1)
            Local3 = (Arg0 - Local1) + 0x1000
            While ((SizeOf (Local2) < (Local0 + Local1)) && (Local3 < ROM_LIMIT))
            {
                Local2 = Concatenate (Local2, PGET (Local3))
                Local3 += 0x1000
            }
            Local2 = Mid (Local2, Local1, Local0)
#else
#if VARIANT == 7
            If ((Arg0 == 0x1000) && (Local0 == (ROM_LIMIT - 0x2000))) { Return (REST) }
#endif
            Local2 = Mid (VALL, Arg0, Local0)
#endif
            Local1 = Local0 - SizeOf (Local2)
            If (Local1) { Local2 = Concatenate (Local2, Buffer (Local1) {}) }
            Return (Local2)
#if VARIANT >= 4
            }
            If (Arg0 < ROM_SIZE)
            {
#if VARIANT == 4
                Return (DerefOf (PGES [Arg0 >> 12]))
#else
#if VARIANT == 6
                Local0 = FRST
#endif
                OperationRegion (PAGR, SystemMemory, ROM_BASE + Arg0, 0x1000)
#if VARIANT == 5
                Field (PAGR, DWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
#else
                Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
#endif
                Return (PAGE)
#endif
            }
            Return (Buffer (0x1000) {})
#endif
        }
    }
}
