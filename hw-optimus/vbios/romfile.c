/*
 * optimus-vbios: whether a file is usable as romfile
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "../core/optimus-window.h"

bool is_fill(const uint8_t *data, size_t size)
{
    return size && (data[0] == 0x00 || data[0] == 0xff) &&
           !memcmp(data, data + 1, size - 1);
}

bool starts_with_nvgi(const InputFile *file)
{
    return file->size >= 4 && !memcmp(file->data, "NVGI", 4);
}

/* Why the file cannot be used as it is, whatever is in it, or NULL. */
static char *find_fault(const Judgement *j, const InputFile *file)
{
    const Chain *chain;

    if (is_rom(file->data, file->size) && j->broken) {
        return g_strdup_printf("the ROM is broken: %s; get it again%s",
            j->broken, j->chains->len ? ", or see with optimus-vbios extract "
            "what further in is whole" : "");
    }
    if (!j->chains->len) {
        g_autoptr(GPtrArray) values = registry_values(file->data, file->size);

        if (values) {
            return g_strdup("it is an export of Windows' registry: "
                "optimus-vbios extract gets the video BIOS out of it");
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

/* What to do about the checksums, and about what follows the images. */
static void add_advice(GString *text, const Judgement *j, const InputFile *file)
{
    const Chain *first = chain_of(j->chains, 0);
    size_t rest = file->size - first->offset - first->length;

    if (has_wrong_sum(first, file)) {
        g_string_append(text, " (optimus-vbios trim --fix-checksum mends "
                        "checksums, if the file is right otherwise)");
    }
    if (j->chains->len > 1) {
        g_string_append(text, "; after the images are others, which "
                        "optimus-vbios trim --all keeps");
    } else if (j->usable && rest) {
        g_string_append_printf(text, "; the %zu bytes after the images do no "
                               "harm", rest);
    }
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
    fault = find_fault(&j, file);
    if (j.chains->len) {
        j.verdict = chain_judge(chain_of(j.chains, 0), file->data, card,
                                &j.remarks);
    } else {
        j.remarks = g_strdup("");
    }
    j.usable = !fault && j.verdict != OPTIMUS_USELESS;
    j.sentence = make_sentence(&j, file, bdf, fault);
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
    return true;
}
