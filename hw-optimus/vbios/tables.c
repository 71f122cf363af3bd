/*
 * optimus-vbios: what a guest gets of a video BIOS, in a directory of its own
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define COMPILER "iasl"
#define BATTERY  "battery.aml"
#define METHOD   "rom-method"
#define ROM      "vbios.rom"

/* QEMU aborts when all ACPI tables together have more than 2 MiB. */
#define ROM_MAX 0x100000u

bool is_plain(const char *path)
{
    for (; *path; path++) {
        if (!g_ascii_isalnum(*path) && !strchr("/._-+@", *path)) {
            return false;
        }
    }
    return true;
}

GPtrArray *guest_file_names(const GuestFiles *files)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const unsigned int tables = files->scope ? rom_tables(files->rom->size) : 0;

    if (files->battery) {
        g_ptr_array_add(names, g_strdup(BATTERY));
    }
    for (unsigned int i = 0; i < tables; i++) {
        g_ptr_array_add(names, g_strdup_printf("rom-%02u.aml", i));
    }
    g_ptr_array_add(names, g_strdup(tables ? METHOD ".aml" : ROM));
    return names;
}

bool check_guest_files(const GuestFiles *files, GError **error)
{
    g_autofree char *compiler = g_find_program_in_path(COMPILER);

    if (!is_plain(files->out)) {
        return fail(error, "'%s' would have to be quoted in arguments: name a "
                    "directory of letters, digits and ._-+@ only", files->out);
    }
    if (files->scope && files->rom->size > ROM_MAX) {
        return fail(error, "'%s' has %zu bytes, and the ACPI tables of QEMU "
                    "have room for %u: see with optimus-vbios info what it is",
                    files->rom->path, files->rom->size, ROM_MAX);
    }
    if (files->scope && !compiler) {
        return fail(error, "there is no " COMPILER " here, which compiles the "
                    "tables: install acpica-tools (Arch and openSUSE: acpica)");
    }
    return true;
}

/* Whoever runs the guest is to read it, whatever the umask is. */
static bool put_file(const char *dir, const char *name, const uint8_t *data,
                     size_t size, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    if (!write_output(path, true, data, size, error)) {
        return false;
    }
    if (chmod(path, 0644)) {
        return fail(error, "'%s' cannot be written: %s", path,
                    g_strerror(errno));
    }
    return true;
}

/* The battery is installed in PREFIX/share/vfio-optimus. */
static bool copy_battery(const char *dir, GError **error)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *bin = g_path_get_dirname(exe ?: "");
    g_autofree char *prefix = g_path_get_dirname(bin);
    g_autofree char *data = g_build_filename(prefix, "share/vfio-optimus",
                                             NULL);
    g_autoptr(GByteArray) table = read_file(data, BATTERY, error);

    if (!table) {
        g_prefix_error(error, "run scripts/install, which makes the battery "
                       "where " COMPILER " is installed: ");
        return false;
    }
    return put_file(dir, BATTERY, table->data, table->len, error);
}

/* Compile @asl into @name.aml in @dir. */
static bool compile(const char *dir, const char *name, const char *asl,
                    GError **error)
{
    g_autofree char *source = g_build_filename(dir, "source.asl", NULL);
    g_autofree char *path = g_strdup_printf("%s/%s.aml", dir, name);
    char *argv[] = { (char *)COMPILER, (char *)"-p", (char *)name,
                     (char *)"source.asl", NULL };

    if (!write_output(source, true, (const uint8_t *)asl, strlen(asl), error)) {
        return false;
    }
    if (!run_tool(dir, argv, "compiling with " COMPILER, error)) {
        g_prefix_error(error, "'%s.aml' cannot be compiled by " COMPILER ": ",
                       name);
        return false;
    }
    remove(source);
    return !chmod(path, 0644) ||
           fail(error, "'%s' cannot be written: %s", path, g_strerror(errno));
}

static bool fill(const GuestFiles *files, const char *dir, GError **error)
{
    const InputFile *rom = files->rom;

    if (files->battery && !copy_battery(dir, error)) {
        return false;
    }
    if (!files->scope) {
        return put_file(dir, ROM, rom->data, rom->size, error);
    }
    for (unsigned int i = 0; i < rom_tables(rom->size); i++) {
        g_autofree char *asl = rom_table_asl(rom, files->scope, i);
        g_autofree char *name = g_strdup_printf("rom-%02u", i);

        if (!compile(dir, name, asl, error)) {
            return false;
        }
    }
    g_autofree char *method = method_table_asl(rom->size, files->scope);

    return compile(dir, METHOD, method, error);
}

/* Whether what is in @dir is all that is in files->out. */
static bool is_there_already(const GuestFiles *files, const char *dir)
{
    g_autoptr(GPtrArray) names = guest_file_names(files);
    g_autoptr(GDir) listing = g_dir_open(files->out, 0, NULL);
    unsigned int count = 0;

    while (listing && g_dir_read_name(listing)) {
        count++;
    }
    for (unsigned int i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        g_autoptr(GByteArray) old = read_file(files->out, name, NULL);
        g_autoptr(GByteArray) new = read_file(dir, name, NULL);

        if (!old || !new || old->len != new->len ||
            memcmp(old->data, new->data, new->len)) {
            return false;
        }
    }
    return count == names->len;
}

bool write_guest_files(const GuestFiles *files, GError **error)
{
    char *dir = g_strconcat(files->out, ".XXXXXX", NULL);
    bool written;

    if (!g_mkdtemp_full(dir, 0755)) {
        fail(error, "'%s' cannot be written: %s", files->out,
             g_strerror(errno));
        g_free(dir);
        return false;
    }
    written = fill(files, dir, error);
    end_progress();
    if (written && !chmod(dir, 0755) && !rename(dir, files->out)) {
        g_free(dir);
        return true;
    }
    if (written && errno != ENOTEMPTY && errno != EEXIST) {
        written = fail(error, "'%s' cannot be written: %s", files->out,
                       g_strerror(errno));
    } else if (written && !is_there_already(files, dir)) {
        written = fail(error, "'%s' has other files in it than these, perhaps "
                       "those of another ROM or place: remove it, or name "
                       "another directory", files->out);
    }
    remove_tree(dir);
    return written;
}
