// SPDX-License-Identifier: GPL-2.0-or-later
/* What any table costs, for comparison: a method that returns zeros. */
DefinitionBlock ("", "SSDT", 1, "BENCH", "NOTHING", 1)
{
    External (\_SB.PCI0.S80, DeviceObj)

    Scope (\_SB.PCI0.S80)
    {
        Method (_ROM, 2, Serialized) { Return (Buffer (Arg1) {}) }
    }
}
