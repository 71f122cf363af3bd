/*
 * optimus-vbios ssdt: the source of the tables
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"

#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))

/*
 * A table of -acpitable has at most 65535 bytes, and the time that iasl takes
 * for a Buffer grows with the square of its length.
 */
#define CHUNK     0x2000u       /* bytes of a Buffer */
#define CHUNKS    7u            /* Buffers in a table */
#define PER_TABLE (CHUNKS * CHUNK)

unsigned int rom_tables(size_t size)
{
    return DIV_ROUND_UP(size, PER_TABLE);
}

/*
 * Scope (@scope)
 * {
 *     Name (VR00, Package () { Buffer () { ... }, ... })
 * }
 */
char *rom_table_asl(const InputFile *rom, const char *scope,
                    unsigned int number)
{
    GString *asl = g_string_new(NULL);
    const size_t start = number * PER_TABLE;
    const size_t end = MIN(start + PER_TABLE, rom->size);

    g_string_printf(asl,
        "DefinitionBlock (\"\", \"SSDT\", 1, \"VFIOPT\", \"OPTROM%02X\", 1)\n"
        "{\n"
        "External (%s, DeviceObj)\n"
        "Scope (%s)\n"
        "{\n"
        "Name (VR%02X, Package ()\n"
        "{", number, scope, scope, number);
    for (size_t at = start; at < end; at++) {
        const char *before = at % 16 ? ", " : ",\n";

        if ((at - start) % CHUNK == 0) {
            before = at == start ? "\nBuffer () {\n" : " },\nBuffer () {\n";
        }
        g_string_append_printf(asl, "%s%u", before, rom->data[at]);
    }
    g_string_append(asl, " }\n})\n}\n}\n");
    return g_string_free(asl, false);
}

/*
 * The same contract as that of optimus_build_rom_method().  The length is clamped
 * before any buffer is made of it, and nothing is added to an offset before it is
 * known to be in the ROM: integers have 32 bits, as long as QEMU's DSDT has
 * revision 1.  4 KiB are in at most two chunks.
 */
static const char rom_method[] =
    "Method (_ROM, 2, Serialized)        // Arg0: offset, Arg1: length\n"
    "{\n"
    "    Local0 = Arg1\n"
    "    If (Local0 > 0x1000) { Local0 = 0x1000 }\n"
    "    If (Arg0 >= SIZE) { Return (Buffer (Local0) {}) }\n"
    "    Local1 = Arg0 / CHUNK\n"
    "    Local2 = Mid (VRCK (Local1), Arg0 % CHUNK, Local0)\n"
    "    Local3 = Local0 - SizeOf (Local2)\n"
    "    Local1++\n"
    "    If (Local3 && (Local1 < COUNT))\n"
    "    {\n"
    "        Local2 = Concatenate (Local2, Mid (VRCK (Local1), 0, Local3))\n"
    "        Local3 = Local0 - SizeOf (Local2)\n"
    "    }\n"
    "    If (Local3) { Local2 = Concatenate (Local2, Buffer (Local3) {}) }\n"
    "    Return (Local2)\n"
    "}\n";

/*
 * Scope (@scope)
 * {
 *     Method (VRCK, 1)                     // the chunk with the number Arg0
 *     {
 *         Local0 = Arg0 % CHUNKS
 *         Local1 = Arg0 / CHUNKS
 *         If (Local1 == 0) { Return (DerefOf (VR00 [Local0])) }
 *         ...
 *         Return (Buffer () {})
 *     }
 *     Method (_ROM, 2, Serialized) { ... }
 * }
 */
char *method_table_asl(unsigned int size, const char *scope)
{
    const unsigned int tables = rom_tables(size);
    GString *asl = g_string_new(NULL);

    g_string_printf(asl,
        "#define SIZE %#x\n"
        "#define CHUNK %#x\n"
        "#define COUNT %u\n"
        "DefinitionBlock (\"\", \"SSDT\", 1, \"VFIOPT\", \"OPTROM\", 1)\n"
        "{\n"
        "External (%s, DeviceObj)\n",
        size, CHUNK, DIV_ROUND_UP(size, CHUNK), scope);
    for (unsigned int i = 0; i < tables; i++) {
        g_string_append_printf(asl, "External (%s.VR%02X, PkgObj)\n", scope, i);
    }
    g_string_append_printf(asl,
        "Scope (%s)\n"
        "{\n"
        "Method (VRCK, 1)\n"
        "{\n"
        "    Local0 = Arg0 %% %u\n"
        "    Local1 = Arg0 / %u\n", scope, CHUNKS, CHUNKS);
    for (unsigned int i = 0; i < tables; i++) {
        g_string_append_printf(asl, "    If (Local1 == %u) "
                               "{ Return (DerefOf (VR%02X [Local0])) }\n", i,
                               i);
    }
    g_string_append_printf(asl, "    Return (Buffer (0) {})\n}\n%s}\n}\n",
                           rom_method);
    return g_string_free(asl, false);
}
