/*
 * optimus-vbios: find chains of option ROM images
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"

#define SEARCH_AT_ONCE (8 * 1024 * 1024)
#define PCIR_POINTER   0x18

bool chain_at(const uint8_t *rom, size_t size, size_t offset, Chain *chain,
              char **why)
{
    GArray *images = optimus_rom_parse(rom, size, offset, why);
    const OptimusImage *last;

    if (!images) {
        return false;
    }
    last = &g_array_index(images, OptimusImage, images->len - 1);
    *chain = (Chain) {
        .offset = offset,
        .length = last->offset + last->length - offset,
        .images = images,
    };
    return true;
}

void chain_free(Chain *chain)
{
    g_array_unref(chain->images);
}

const OptimusImage *chain_image(const Chain *chain, unsigned int index)
{
    return &g_array_index(chain->images, OptimusImage, index);
}

bool chain_is_for(const Chain *chain, const uint8_t *rom, PCIName name)
{
    for (unsigned int i = 0; i < chain->images->len; i++) {
        if (optimus_image_is_for(rom, chain_image(chain, i), name.vendor,
                                 name.device)) {
            return true;
        }
    }
    return false;
}

void scan_start(ChainScan *scan, const uint8_t *rom, size_t size, bool progress)
{
    *scan = (ChainScan) {
        .rom = rom,
        .size = size,
        .dead_ends = g_hash_table_new(NULL, NULL),
        .progress = progress,
    };
}

void scan_end(ChainScan *scan)
{
    g_hash_table_unref(scan->dead_ends);
}

/* Whether what starts at @offset, with 55 AA, is no stray 55 AA. */
static bool has_pcir(const ChainScan *scan, size_t offset)
{
    size_t left = scan->size - offset;
    const uint8_t *header = scan->rom + offset;
    size_t pcir;

    if (left < PCIR_POINTER + 2) {
        return false;
    }
    pcir = lduw_le_p(header + PCIR_POINTER);
    return pcir + 4 <= left && !memcmp(header + pcir, "PCIR", 4);
}

/*
 * Whether a complete chain starts at @offset.  The images of one that does not
 * end are remembered, so that a file of nothing but images is not gone through
 * once for each of them.
 */
static bool try_chain(ChainScan *scan, size_t offset)
{
    size_t next = offset;
    OptimusImage image;

    if (g_hash_table_contains(scan->dead_ends, (gpointer)offset)) {
        return false;
    }
    while (!g_hash_table_contains(scan->dead_ends, (gpointer)next) &&
           optimus_rom_image(scan->rom, scan->size, next, next == offset,
                             &image, NULL)) {
        next += image.length;
        if (image.last) {
            return true;
        }
    }

    scan->broken += has_pcir(scan, offset);
    for (size_t at = offset; at != next; at += image.length) {
        g_hash_table_add(scan->dead_ends, (gpointer)at);
        optimus_rom_image(scan->rom, scan->size, at, at == offset, &image,
                          NULL);
    }
    return false;
}

bool scan_next(ChainScan *scan, Chain *chain)
{
    while (scan->at < scan->size) {
        size_t end = MIN(scan->at + SEARCH_AT_ONCE, scan->size);

        if (is_interrupted()) {
            return false;
        }
        if (scan->progress) {
            show_progress("searching", scan->at, scan->size);
        }
        while (scan->at < end) {
            const uint8_t *p = memchr(scan->rom + scan->at, 0x55,
                                      end - scan->at);

            if (!p) {
                scan->at = end;
                break;
            }
            scan->at = p - scan->rom;
            if (scan->at + 1 < scan->size && p[1] == 0xaa &&
                try_chain(scan, scan->at) &&
                chain_at(scan->rom, scan->size, scan->at, chain, NULL)) {
                scan->at += chain->length;
                return true;
            }
            scan->at++;
        }
    }
    return false;
}
