/*
 * The bound: the ROM as an AML buffer, which the guest's kernel keeps in its
 * own memory, and a method that does nothing but return a part of it.
 */
DefinitionBlock ("", "SSDT", 1, "BENCH", "BUFFER", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        Name (VROM, Buffer (ROM_SIZE)
        {
            ROM_BYTES
        })

        Method (_ROM, 2, Serialized)
        {
            Return (Mid (VROM, Arg0, Arg1))
        }
    }
}
