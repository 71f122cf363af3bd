/*
 * Fuzz target of the parser of option ROM images
 *
 * With a fuzzer:
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DFUZZER \
 *       -Ihw-optimus/standalone $(pkg-config --cflags --libs glib-2.0) \
 *       tests-qtest/fuzz-optimus-rom.c hw-optimus/optimus-rom.c
 * Without FUZZER it runs once for each file that it is given, or that is in a
 * directory that it is given.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/vfio/optimus-rom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What holds for every chain that the parser takes. */
static void check_chain(const uint8_t *rom, size_t size, size_t offset,
                        const GArray *images)
{
    size_t at = offset;
    unsigned int sum = 0;

    for (unsigned int i = 0; i < images->len; i++) {
        const OptimusImage *image = &g_array_index(images, OptimusImage, i);
        size_t count, list;

        g_assert(image->offset == at);
        g_assert(image->length && image->length <= size - at);
        g_assert(image->length % 512 == 0);
        g_assert(image->pcir >= at);
        g_assert(image->pcir + 0x18 <= at + image->length);
        g_assert(!image->npde || image->npde + 11 <= size);
        g_assert(image->last == (i == images->len - 1));
        list = optimus_image_device_list(rom, image, &count);
        g_assert(!count || list + 2 * count <= at + image->length);
        g_assert(optimus_image_is_for(rom, image, image->vendor,
                                      image->device));
        sum += optimus_image_sum(rom, image);
        at += image->length;
    }
    g_assert(at <= size);
    (void)sum;
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t found = optimus_rom_find(data, size, 0);

    if (try_at(data, size, 0)) {
        g_assert(found == 0);
    }
    g_assert(found <= size);
    if (found < size) {
        g_assert(try_at(data, size, found));
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
