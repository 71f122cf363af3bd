/*
 * optimus-vbios: the compressed parts of UEFI firmware, with UEFIExtract
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <stdio.h>

#define TOOL        "UEFIExtract"
#define COPY_NAME   "firmware"

/* In the header of a firmware volume. */
#define FV_SIGNATURE 0x28
#define FV_HEADER    0x30       /* length of the header: at least 0x38 + 0x10 */
#define FV_REVISION  0x37       /* 1 or 2 */

/* The GUIDs of capsules, as they stand in the file. */
static const uint8_t capsules[][16] = {
    /* EFI_CAPSULE_GUID 3b6686bd-0d76-4030-b70e-b5519e2fc5a0 */
    { 0xbd, 0x86, 0x66, 0x3b, 0x76, 0x0d, 0x30, 0x40,
      0xb7, 0x0e, 0xb5, 0x51, 0x9e, 0x2f, 0xc5, 0xa0 },
    /* for firmware management: 6dcbd5ed-e82d-4c44-bda1-7194199ad92a */
    { 0xed, 0xd5, 0xcb, 0x6d, 0x2d, 0xe8, 0x44, 0x4c,
      0xbd, 0xa1, 0x71, 0x94, 0x19, 0x9a, 0xd9, 0x2a },
    /* AMI, signed: 4a3ca68b-7723-48fb-803d-578cc1fec44d */
    { 0x8b, 0xa6, 0x3c, 0x4a, 0x23, 0x77, 0xfb, 0x48,
      0x80, 0x3d, 0x57, 0x8c, 0xc1, 0xfe, 0xc4, 0x4d },
    /* AMI, not signed: 14eebb90-890a-43db-aed1-5d3c4588a418 */
    { 0x90, 0xbb, 0xee, 0x14, 0x0a, 0x89, 0xdb, 0x43,
      0xae, 0xd1, 0x5d, 0x3c, 0x45, 0x88, 0xa4, 0x18 },
};

bool is_uefi(const InputFile *file)
{
    const uint8_t *end = file->data + file->size;
    const uint8_t *p = file->data;

    for (size_t i = 0; i < G_N_ELEMENTS(capsules); i++) {
        if (file->size > sizeof(capsules[i]) &&
            !memcmp(file->data, capsules[i], sizeof(capsules[i]))) {
            return true;
        }
    }
    while ((p = memmem(p, end - p, "_FVH", 4))) {
        const uint8_t *volume = p - FV_SIGNATURE;

        if (p - file->data >= FV_SIGNATURE && end - volume > FV_REVISION &&
            optimus_le16(volume + FV_HEADER) >= 0x48 &&
            (volume[FV_REVISION] == 1 || volume[FV_REVISION] == 2)) {
            return true;
        }
        p++;
    }
    return false;
}

char *unpack_uefi(const InputFile *file, const char *dir, GError **error)
{
    g_autofree char *tool = g_find_program_in_path(TOOL);
    g_autofree char *work = g_build_filename(dir, ".unpacked.XXXXXX", NULL);
    g_autofree char *copy = NULL;
    g_autoptr(GError) why = NULL;
    char *argv[] = { (char *)TOOL, (char *)COPY_NAME, (char *)"dump", NULL };

    if (!tool) {
        fail(error, "'%s' is UEFI firmware, and its compressed parts were not "
             "searched: install " TOOL " (Debian: uefitool-cli) and try again",
             file->path);
        return NULL;
    }
    if (!g_mkdtemp(work)) {
        fail(error, "'%s' cannot be written: %s", dir, g_strerror(errno));
        return NULL;
    }
    /* It writes beside its input, and follows links to find out where. */
    copy = g_build_filename(work, COPY_NAME, NULL);
    if (!write_output(copy, false, file->data, file->size, error)) {
        remove_tree(g_steal_pointer(&work));
        return NULL;
    }
    if (!run_tool(work, argv, "unpacking with " TOOL, &why)) {
        fail(error, "the compressed parts of '%s' were not searched: %s "
             "cannot unpack them: %s", file->path, tool, why->message);
        remove_tree(g_steal_pointer(&work));
        return NULL;
    }
    remove(copy);
    return g_steal_pointer(&work);
}
