/*
 * Fuzz target of the parser of option ROM images, and of what a video BIOS may be
 * packed in
 *
 * With a fuzzer:
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DFUZZER -D_GNU_SOURCE \
 *       tests-qtest/core/fuzz-optimus-rom.c hw-optimus/core/optimus-{judge,rom}.c \
 *       hw-optimus/vbios/{container,image,terminal}.c \
 *       $(pkg-config --cflags --libs glib-2.0 zlib)
 * Without FUZZER it runs once for each file that it is given, or that is in a
 * directory that it is given.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "../../hw-optimus/vbios/vbios.h"

const char *const program = "fuzz-optimus-rom";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an image says of itself is read without leaving it. */
static void check_image(const uint8_t *rom, const OptimusImage *image)
{
    g_autofree char *version = image_version(rom, image);
    g_autofree char *board = image_board(rom, image);
    g_autofree char *date = image_date(rom, image);
    g_autofree char *card = image_card(image);
    bool wrong = has_bad_checksum(rom, image);
    PCIName sub;

    g_assert(!wrong || optimus_image_sum(rom, image));
    image_subsystem(rom, image, &sub);
}

/* The judgement has reasons, unless it is a good one. */
static OptimusVerdict judge(const uint8_t *rom, const GArray *images,
                         uint16_t vendor, uint16_t device)
{
    g_autoptr(GPtrArray) remarks = g_ptr_array_new_with_free_func(g_free);
    OptimusVerdict verdict = optimus_rom_judge(rom, images, vendor, device, remarks);

    g_assert(verdict == OPTIMUS_TAKEN || remarks->len);
    return verdict;
}

/* What holds for every chain that the parser takes. */
static void check_chain(const uint8_t *rom, size_t size, size_t offset,
                        const GArray *images)
{
    size_t at = offset;

    for (unsigned int i = 0; i < images->len; i++) {
        const OptimusImage *image = &g_array_index(images, OptimusImage, i);
        size_t count, list;

        g_assert(image->offset == at);
        g_assert(image->length && image->length <= size - at);
        g_assert(image->length % 512 == 0);
        g_assert(image->pcir >= at);
        g_assert(image->pcir + 0x18 <= at + image->length);
        g_assert(!image->npde || image->npde + 11 <= size);
        g_assert(optimus_image_ends_chain(rom, size, image) ==
                 (i == images->len - 1));
        list = optimus_image_device_list(rom, image, &count);
        g_assert(!count || list + 2 * count <= at + image->length);
        g_assert(optimus_image_is_for(rom, image, image->vendor,
                                      image->device));
        check_image(rom, image);
        at += image->length;
    }
    g_assert(at <= size);
    g_assert(!optimus_rom_x86(images) || judge(rom, images, 0x10de, 0x139b) ||
             optimus_bit_find(rom, optimus_rom_x86(images), NULL));
    judge(rom, images, 0, 0);
}

static bool try_at(const uint8_t *rom, size_t size, size_t offset)
{
    g_autofree char *why = NULL;
    g_autoptr(GArray) images = optimus_rom_parse(rom, size, offset, &why);

    g_assert(!images == !!why);
    if (images) {
        check_chain(rom, size, offset, images);
    }
    return images;
}

static void unpack(const uint8_t *data, size_t size)
{
    InputFile file = { .path = "a 'file'", .data = data, .size = size };
    g_autofree char *advice = container_advice(&file);
    const bool registry = is_registry(data, size);
    size_t left = 1 << 20, at = 0, before = 0, sum = 0;
    GByteArray *part;

    while ((part = registry ? next_registry_value(data, size, &at) :
                              next_dell_section(data, size, &at, &left))) {
        g_assert(part->len && at > before && at <= size);
        sum += part->len;
        before = at;
        g_byte_array_unref(part);
    }
    g_assert(sum <= 1 << 20 || (registry && sum <= size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t found = optimus_rom_find(data, size, 0);

    if (try_at(data, size, 0)) {
        g_assert(found == 0 || data[0] != 0x55);
    }
    g_assert(found <= size);
    if (found < size) {
        g_assert(try_at(data, size, found));
    }
    /* The program refuses empty files. */
    if (size) {
        unpack(data, size);
    }
    return 0;
}

#ifndef FUZZER

static unsigned int run_file(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_autofree uint8_t *exact = NULL;
    size_t size;

    if (!g_file_get_contents(path, &text, &size, &error)) {
        g_error("%s", error->message);
    }
    /* glib adds a NUL, which may hide a read past the end. */
    exact = g_malloc(size);
    if (size) {
        memcpy(exact, text, size);
    }
    LLVMFuzzerTestOneInput(exact, size);
    return 1;
}

static unsigned int run_directory(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned int n = 0;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        n += run_file(file);
    }
    return n;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        unsigned int n = g_file_test(argv[i], G_FILE_TEST_IS_DIR) ?
            run_directory(argv[i]) : run_file(argv[i]);

        g_print("%s %d - %s: %u inputs\n", n ? "ok" : "not ok", i, argv[i], n);
    }
    g_print("1..%d\n", argc - 1);
    return 0;
}

#endif
