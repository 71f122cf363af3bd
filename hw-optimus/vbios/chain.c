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

const OptimusImage *chain_main_image(const Chain *chain)
{
    return optimus_rom_x86(chain->images) ?: chain_image(chain, 0);
}

OptimusFate chain_judge(const Chain *chain, const uint8_t *rom, PCIName card,
                        char **remarks)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    OptimusFate fate = optimus_rom_judge(rom, chain->images, card.vendor,
                                         card.device, list);

    g_ptr_array_add(list, NULL);
    *remarks = g_strjoinv("; ", (char **)list->pdata);
    return fate;
}

bool chain_is_for(const Chain *chain, const uint8_t *rom, PCIName name)
{
    return optimus_image_is_for(rom, chain_main_image(chain), name.vendor,
                                name.device);
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
    pcir = optimus_le16(header + PCIR_POINTER);
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
        if (optimus_image_ends_chain(&image, scan->size)) {
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

bool is_rom(const uint8_t *data, size_t size)
{
    return size >= 2 && data[0] == 0x55 && data[1] == 0xaa;
}

GArray *find_chains(const InputFile *file, char **why_not,
                    unsigned int *cut_off)
{
    GArray *chains = g_array_new(false, false, sizeof(Chain));
    ChainScan scan;
    Chain chain;

    *why_not = NULL;
    scan_start(&scan, file->data, file->size, true);
    if (chain_at(file->data, file->size, 0, &chain, why_not)) {
        g_array_append_val(chains, chain);
        scan.at = chain.length;
    }
    while (scan_next(&scan, &chain)) {
        g_array_append_val(chains, chain);
    }
    *cut_off = scan.broken;
    scan_end(&scan);
    end_progress();
    return chains;
}

void free_chains(GArray *chains)
{
    for (unsigned int i = 0; i < chains->len; i++) {
        chain_free(&g_array_index(chains, Chain, i));
    }
    g_array_unref(chains);
}
