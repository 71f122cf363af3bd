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

/* The path of a file beside this library */
static const char *beside(const char *name)
{
    static char path[PATH_MAX];
    const char *slash;
    Dl_info self;

    if (!dladdr(&vfio_optimus_loaded, &self) ||
        !(slash = strrchr(self.dli_fname, '/'))) {
        return name;
    }
    snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self.dli_fname),
             self.dli_fname, name);
    return path;
}

static void refuse(const char *build_id)
{
    char command[PATH_MAX] = "scripts/build-plugin QEMU";
    FILE *file = fopen(beside("renew"), "r");   /* of an installed plugin */

    if (file) {
        if (fgets(command, sizeof(command), file)) {
            command[strcspn(command, "\n")] = '\0';
        }
        fclose(file);
    }
    fprintf(stderr, "vfio-optimus: not loaded: it was built for QEMU "
            QEMU_VERSION " with build-id " QEMU_BUILD_ID ", and this QEMU has "
            "%s%s; build it for this one with: %s\n",
            *build_id ? "build-id " : "no build-id", build_id, command);
}

__attribute__((constructor)) static void load_device(void)
{
    char build_id[2 * MAX_ID + 1] = "";

    if (!dlsym(RTLD_DEFAULT, "qemu_init") || vfio_optimus_loaded) {
        return;
    }
    dl_iterate_phdr(program_build_id, build_id);
    if (strcmp(build_id, QEMU_BUILD_ID)) {
        refuse(build_id);
        return;
    }
    if (!dlopen(beside(DEVICE_FILE), RTLD_NOW | RTLD_LOCAL)) {
        fprintf(stderr, "vfio-optimus: not loaded: %s\n", dlerror());
        return;
    }
    vfio_optimus_loaded = 1;
}
