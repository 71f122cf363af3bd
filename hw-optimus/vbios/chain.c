/*
 * optimus-vbios: find chains of option ROM images
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"

#define SEARCH_AT_ONCE (8 * 1024 * 1024)

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

size_t chain_end(const Chain *chain)
{
    return chain->offset + chain->length;
}

char *chain_hash(const Chain *chain, const uint8_t *rom)
{
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, rom + chain->offset,
                                       chain->length);
}

static void clear_chain(void *chain)
{
    chain_free(chain);
}

const Chain *chain_of(const GArray *chains, unsigned int index)
{
    return &g_array_index(chains, Chain, index);
}

const OptimusImage *chain_image(const Chain *chain, unsigned int index)
{
    return &g_array_index(chain->images, OptimusImage, index);
}

const OptimusImage *chain_main_image(const Chain *chain)
{
    return optimus_rom_x86(chain->images) ?: chain_image(chain, 0);
}

PCIName chain_card(const Chain *chain)
{
    const OptimusImage *image = chain_main_image(chain);

    return (PCIName) { image->vendor, image->device };
}

OptimusVerdict chain_judge(const Chain *chain, const uint8_t *rom, PCIName card,
                           char **remarks)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    /* Of other cards no driver looks for _ROM, whatever the ROM is for. */
    bool known = card.vendor == OPTIMUS_VENDOR_NVIDIA;
    OptimusVerdict verdict = optimus_rom_judge(rom, chain->images,
                                               known ? card.vendor : 0,
                                               known ? card.device : 0, list);

    g_ptr_array_add(list, NULL);
    *remarks = g_strjoinv("; ", (char **)list->pdata);
    return verdict;
}

bool chain_is_for(const Chain *chain, const uint8_t *rom, PCIName name)
{
    return optimus_image_is_for(rom, chain_main_image(chain), name.vendor,
                                name.device);
}

bool scan_next(OptimusScan *scan, Chain *chain, bool progress)
{
    while (scan->at < scan->size && !is_interrupted()) {
        if (progress) {
            show_progress("searching", scan->at, scan->size);
        }
        if (optimus_scan_next(scan, MIN(scan->at + SEARCH_AT_ONCE,
                                        scan->size)) &&
            chain_at(scan->rom, scan->size, scan->at, chain, NULL)) {
            scan->at += chain->length;
            return true;
        }
    }
    return false;
}

/* Flash chips of cards from Turing on hold the same chain twice as a rule. */
static void find_repeated(GArray *chains, const InputFile *file)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                       g_free, NULL);

    for (unsigned int i = 0; i < chains->len; i++) {
        Chain *chain = &g_array_index(chains, Chain, i);

        chain->again = !g_hash_table_add(seen, chain_hash(chain, file->data));
    }
}

GArray *find_chains(const InputFile *file, char **why_not,
                    unsigned int *cut_off)
{
    GArray *chains = g_array_new(false, false, sizeof(Chain));
    OptimusScan scan;
    Chain chain;

    *why_not = NULL;
    g_array_set_clear_func(chains, clear_chain);
    optimus_scan_start(&scan, file->data, file->size);
    if (chain_at(file->data, file->size, 0, &chain, why_not)) {
        g_array_append_val(chains, chain);
        scan.at = chain.length;
    }
    while (scan_next(&scan, &chain, true)) {
        g_array_append_val(chains, chain);
    }
    find_repeated(chains, file);
    *cut_off = scan.broken;
    optimus_scan_end(&scan);
    end_progress();
    return chains;
}
