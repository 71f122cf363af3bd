/*
 * Other shapes of vfio-optimus's own method, all with the same result, chosen by
 * VARIANT.  See hw-optimus/optimus-aml.c for the one that it has.
 *
 *   1  every page goes through Mid
 *   2  a large request is put together page by page: no static field
 *   3  the whole window is touched first, so that it is mapped already
 *   4  a static field for each page: 12 bytes of AML a page
 *   5  accesses of 4 bytes
 *   6  nouveau's second request, all but the first page, has a field of its own
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "VARIANT", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        OperationRegion (VROM, SystemMemory, ROM_BASE, ROM_LIMIT)
        Field (VROM, QWordAcc, NoLock, Preserve) { VALL, LIMIT_BITS }
#if VARIANT == 3
        Field (VROM, QWordAcc, NoLock, Preserve) { FRST, 64 }
#endif
#if VARIANT == 6
        Field (VROM, QWordAcc, NoLock, Preserve) { Offset (0x1000), REST, REST_BITS }
#endif
#if VARIANT == 4
        Field (VROM, QWordAcc, NoLock, Preserve) { PAGE_FIELDS }
        Name (PGES, Package () { PAGE_NAMES })
#endif

#if VARIANT == 2
        Method (PGET, 1, Serialized)
        {
            OperationRegion (PAGR, SystemMemory, ROM_BASE + Arg0, 0x1000)
            Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
            Return (PAGE)
        }
#endif

        Method (_ROM, 2, Serialized)
        {
            Local0 = Arg1
            If (Arg0 >= ROM_SIZE)
            {
                If (Local0 > 0x1000) { Local0 = 0x1000 }
                Return (Buffer (Local0) {})
            }
            If (Local0 > ROM_LIMIT) { Local0 = ROM_LIMIT }
            Local1 = Arg0 & 7
#if VARIANT == 3
            Local2 = FRST
#endif
#if VARIANT == 4
            If (((Arg0 & 0xFFF) == 0) && (Local0 == 0x1000))
            {
                Return (DerefOf (PGES [Arg0 >> 12]))
            }
#endif
            If ((Local0 + Local1) <= 0x1000)
            {
                OperationRegion (PAGR, SystemMemory, ROM_BASE + (Arg0 - Local1), 0x1000)
#if VARIANT == 5
                Field (PAGR, DWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
#else
                Field (PAGR, QWordAcc, NoLock, Preserve) { PAGE, 0x8000 }
#endif
#if VARIANT != 1
                If (Local0 == 0x1000) { Return (PAGE) }
#endif
                Return (Mid (PAGE, Local1, Local0))
            }
#if VARIANT == 2
            // page by page, from the page that it begins in
            Local1 = Arg0 & 0xFFF
            Local2 = PGET (Arg0 - Local1)
            Local3 = (Arg0 - Local1) + 0x1000
            While ((SizeOf (Local2) < (Local0 + Local1)) && (Local3 < ROM_LIMIT))
            {
                Local2 = Concatenate (Local2, PGET (Local3))
                Local3 += 0x1000
            }
            Local2 = Mid (Local2, Local1, Local0)
            Local1 = Local0 - SizeOf (Local2)
            If (Local1) { Local2 = Concatenate (Local2, Buffer (Local1) {}) }
            Return (Local2)
#else
#if VARIANT == 6
            If ((Arg0 == 0x1000) && (Local0 == (ROM_LIMIT - 0x2000))) { Return (REST) }
#endif
            Local2 = Mid (VALL, Arg0, Local0)
            Local1 = Local0 - SizeOf (Local2)
            If (Local1) { Local2 = Concatenate (Local2, Buffer (Local1) {}) }
            Return (Local2)
#endif
        }
    }
}
