/*
 * optimus-vbios: whether a file is usable as romfile
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "../core/optimus-window.h"

#define OWN_FLASH "a card of its generation has a flash of its own as a " \
                  "rule, and needs no romfile"

bool starts_with_nvgi(const InputFile *file)
{
    return file->size >= 4 && !memcmp(file->data, "NVGI", 4);
}

unsigned int chains_worth(const GArray *chains)
{
    unsigned int count = chains->len;

    while (count > 1 && chain_of(chains, count - 1)->again) {
        count--;
    }
    return count;
}

bool all_fits(const GArray *chains)
{
    const Chain *last = chain_of(chains, chains_worth(chains) - 1);

    return chain_end(last) - chain_of(chains, 0)->offset <= OPTIMUS_ROM_MAX;
}

/* Why the file cannot be used as it is, whatever is in it, or NULL. */
static char *find_fault(const Judgement *j, const InputFile *file)
{
    const Chain *chain;

    if (j->starts_as_rom && j->broken) {
        return g_strdup_printf("the ROM is broken: %s; get it again%s",
            j->broken, j->chains->len ? ", or see with optimus-vbios extract "
            "what further in is whole" : "");
    }
    if (!j->chains->len) {
        if (is_registry(file->data, file->size)) {
            return g_strdup("it is an export of Windows' registry: "
                "optimus-vbios extract gets the video BIOS out of it");
        }
        if (optimus_is_fill(file->data, file->size)) {
            return g_strdup_printf("%s; get it another way", j->broken);
        }
        return container_advice(file) ?:
            g_strdup_printf("%s, and none starts further in; if it is a "
                "firmware update, try optimus-vbios extract", j->broken);
    }
    chain = chain_of(j->chains, 0);
    if (chain->length > OPTIMUS_ROM_MAX) {
        return g_strdup_printf("the images have %zu bytes, and the device has "
            "room for %u", chain->length, OPTIMUS_ROM_MAX);
    }
    if (chain->offset) {
        return g_strdup_printf("the images start at offset 0x%zx%s: cut them "
            "out with optimus-vbios trim", chain->offset,
            starts_with_nvgi(file) ? ", after an NVGI header" : "");
    }
    if (file->size > OPTIMUS_ROM_MAX) {
        return g_strdup_printf("the file has %zu bytes, and the device has "
            "room for %u: cut off what follows the images with "
            "optimus-vbios trim", file->size, OPTIMUS_ROM_MAX);
    }
    return NULL;
}

static bool has_wrong_sum(const Chain *chain, const InputFile *file)
{
    for (unsigned int i = 0; i < chain->images->len; i++) {
        if (has_bad_checksum(file->data, chain_image(chain, i))) {
            return true;
        }
    }
    return false;
}

/* What is to be said of the chains after the first one */
static void add_further(GString *text, const GArray *chains)
{
    const Chain *other = NULL, *again = NULL;
    unsigned int count = 0;

    for (unsigned int i = 1; i < chains->len; i++) {
        const Chain *chain = chain_of(chains, i);

        if (!chain->again) {
            other = other ?: chain;
        } else if (!count++) {
            again = chain;
        }
    }
    if (other && all_fits(chains)) {
        g_string_append(text, "; after the images are others, which "
                        "optimus-vbios trim --all keeps");
    } else if (other) {
        g_string_append_printf(text, "; after the images are others, from "
                               "offset 0x%zx on, for which the device has no "
                               "room", other->offset);
    }
    if (again) {
        g_string_append_printf(text, "; the chain at 0x%zx is the same again: "
                               "not needed", again->offset);
    }
    if (count > 1) {
        g_string_append_printf(text, ", as %u more", count - 1);
    }
}

/* What to do about the checksums, and about what follows the images. */
static void add_advice(GString *text, const Judgement *j, const InputFile *file)
{
    const Chain *first = chain_of(j->chains, 0);
    size_t rest = file->size - chain_end(first);

    if (has_wrong_sum(first, file)) {
        g_string_append(text, " (optimus-vbios trim --fix-checksum mends "
                        "checksums, if the file is right otherwise)");
    }
    add_further(text, j->chains);
    if (j->chains->len == 1 && j->usable && rest) {
        g_string_append_printf(text, "; the %zu bytes after the images do no "
                               "harm", rest);
    }
    if (has_own_flash(chain_card(first))) {
        g_string_append(text, "; " OWN_FLASH);
    }
}

/* Whether the first chain is of no NVIDIA card, and nothing else matters. */
static bool is_foreign(const Judgement *j)
{
    return j->chains->len && !(j->broken && j->starts_as_rom) &&
           chain_card(chain_of(j->chains, 0)).vendor != OPTIMUS_VENDOR_NVIDIA;
}

/* Say whose it is, and where in the file there is something for NVIDIA's. */
static char *foreign_sentence(const Judgement *j)
{
    for (unsigned int i = 1; i < j->chains->len; i++) {
        const Chain *chain = chain_of(j->chains, i);

        if (chain_card(chain).vendor == OPTIMUS_VENDOR_NVIDIA) {
            return g_strdup_printf("not usable as romfile: %s; optimus-vbios "
                "extract gets the one at offset 0x%zx, which is NVIDIA's",
                j->remarks, chain->offset);
        }
    }
    return g_strdup_printf("not usable as romfile: %s", j->remarks);
}

static char *make_sentence(const Judgement *j, const InputFile *file,
                           const char *bdf, const char *fault)
{
    GString *text = g_string_new(j->usable ? "usable as romfile" :
                                             "not usable as romfile");

    if (j->usable && bdf) {
        g_string_append_printf(text, " for the card at %s", bdf);
    }
    if (j->usable && j->verdict == OPTIMUS_NOUVEAU_ONLY) {
        g_string_append(text, " with nouveau only");
    }
    if (fault) {
        g_string_append_printf(text, ": %s", fault);
    }
    if (*j->remarks) {
        g_string_append_printf(text, "%s%s", fault ? "; and " :
                               j->verdict == OPTIMUS_TAKEN ? "; but " : ": ",
                               j->remarks);
    }
    if (j->chains->len) {
        add_advice(text, j, file);
    }
    return g_string_free(text, false);
}

Judgement judge_romfile(const InputFile *file, const char *bdf, PCIName card)
{
    g_autofree char *fault = NULL;
    unsigned int cut_off;
    Judgement j = { };

    j.chains = find_chains(file, &j.broken, &cut_off);
    j.starts_as_rom = optimus_has_signature(file->data, file->size);
    fault = find_fault(&j, file);
    if (j.chains->len) {
        j.verdict = chain_judge(chain_of(j.chains, 0), file->data, card,
                                &j.remarks);
    } else {
        j.remarks = g_strdup("");
    }
    j.usable = !fault && j.verdict != OPTIMUS_USELESS;
    j.sentence = is_foreign(&j) ? foreign_sentence(&j) :
                                  make_sentence(&j, file, bdf, fault);
    return j;
}

void judgement_clear(Judgement *j)
{
    g_array_unref(j->chains);
    g_free(j->broken);
    g_free(j->remarks);
    g_free(j->sentence);
}

bool accept_rom(const uint8_t *rom, size_t size, PCIName card, Chain *chain,
                GError **error)
{
    g_autofree char *why = NULL, *remarks = NULL;
    OptimusVerdict verdict;

    if (!chain_at(rom, size, 0, chain, &why)) {
        return fail(error, "%s", why);
    }
    verdict = chain_judge(chain, rom, card, &remarks);
    if (verdict == OPTIMUS_USELESS) {
        chain_free(chain);
        return fail(error, "%s", remarks);
    }
    if (*remarks) {
        complain("warning: %s", remarks);
    }
    if (has_own_flash(chain_card(chain))) {
        complain("warning: " OWN_FLASH);
    }
    return true;
}
