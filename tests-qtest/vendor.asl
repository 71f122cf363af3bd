/*
 * What the firmware of a laptop has for its muxless card: sections of 32 KiB,
 * and zeros for a call that goes from one into the next.  The test fills in
 * the sections.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
DefinitionBlock ("", "SSDT", 1, "VBIOS", "SECTIONS", 1)
{
    External (\_SB.PCI0.S10, DeviceObj)

    Scope (\_SB.PCI0.S10)
    {
        Name (SEC0, Buffer () { @SECTION0@ })
        Name (SEC1, Buffer () { @SECTION1@ })

        Method (_ROM, 2, Serialized)
        {
            Local0 = Arg0 & 0x7FFF
            If (Local0 + Arg1 > 0x8000)
            {
                Return (Buffer (Arg1) {})
            }
            If (Arg0 < 0x8000)
            {
                Return (Mid (SEC0, Local0, Arg1))
            }
            If (Local0 + Arg1 > SizeOf (SEC1))
            {
                Return (Buffer (Arg1) {})
            }
            Return (Mid (SEC1, Local0, Arg1))
        }
    }
}
