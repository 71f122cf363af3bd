/*
 * Load the device into the one QEMU that it was compiled for
 *
 * To be set as LD_PRELOAD, which everything that QEMU starts inherits: this
 * needs no symbol but the C library's, and does nothing in a program that is not
 * a QEMU system emulator.  The device knows QEMU's structures, so that another
 * build of QEMU, even of the same version, would be memory corruption: compare
 * the ELF build-id.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#define ALIGN4(n) (((n) + 3) & ~(size_t)3)
#define MAX_ID 64

/* The same object in all copies of this library that a process may have. */
int vfio_optimus_loaded;

static void read_build_id(const char *note, size_t size, char *hex)
{
    while (size > sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *header = (const void *)note;
        const char *name = note + sizeof(*header);
        const unsigned char *desc =
            (const void *)(name + ALIGN4(header->n_namesz));
        size_t length = (const char *)desc + ALIGN4(header->n_descsz) - note;

        if (length > size) {
            return;
        }
        if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 &&
            !memcmp(name, "GNU", 4) && header->n_descsz < MAX_ID) {
            for (size_t i = 0; i < header->n_descsz; i++) {
                sprintf(hex + 2 * i, "%02x", desc[i]);
            }
            return;
        }
        note += length;
        size -= length;
    }
}

/* The first object of dl_iterate_phdr() is the program itself. */
static int program_build_id(struct dl_phdr_info *info, size_t size, void *hex)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

        if (segment->p_type == PT_NOTE) {
            read_build_id((const char *)info->dlpi_addr + segment->p_vaddr,
                          segment->p_memsz, hex);
        }
    }
    return 1;
}

__attribute__((constructor)) static void load_device(void)
{
    char build_id[2 * MAX_ID + 1] = "";
    char path[PATH_MAX];
    const char *slash;
    Dl_info self;

    if (!dlsym(RTLD_DEFAULT, "qemu_init") || vfio_optimus_loaded) {
        return;
    }
    dl_iterate_phdr(program_build_id, build_id);
    if (strcmp(build_id, QEMU_BUILD_ID)) {
        fprintf(stderr, "vfio-optimus: not loaded: it was built for QEMU "
                QEMU_VERSION " with build-id " QEMU_BUILD_ID ", and this QEMU "
                "has %s%s; build it for this one with: scripts/build-plugin "
                "QEMU\n", *build_id ? "build-id " : "no build-id", build_id);
        return;
    }
    if (!dladdr(&vfio_optimus_loaded, &self) ||
        !(slash = strrchr(self.dli_fname, '/'))) {
        return;
    }
    snprintf(path, sizeof(path), "%.*s/" DEVICE_FILE,
             (int)(slash - self.dli_fname), self.dli_fname);
    if (!dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
        fprintf(stderr, "vfio-optimus: not loaded: %s\n", dlerror());
        return;
    }
    vfio_optimus_loaded = 1;
}
