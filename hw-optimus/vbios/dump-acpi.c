/*
 * optimus-vbios dump: the card's ACPI method _ROM, with the module acpi_call
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include "dump.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define ACPI_CALL "/proc/acpi/call"

/* acpi_call has 256 bytes for "{0x55, 0xaa, ...}". */
#define CALL_MAX 42

/* Kernels before 5.5 turn a field of up to 8 bytes into a number. */
#define CALL_MIN 9

/*
 * Firmware makes _ROM of sections, and most fails or returns zeros for a call
 * that goes from one into the next.  They are of 4 KiB or a multiple.
 */
#define SECTION 0x1000

/* The length of an image counts in these. */
#define UNIT 512

/* A ROM BAR cannot be larger. */
#define ROM_MAX (16 * 1024 * 1024)

/* PCIR, and NPDE after it */
#define PCIR_AND_NPDE 0x40

/* What ACPICA says of a method that is not there. */
#define NOT_FOUND "AE_NOT_FOUND"

/* A ROM that is fetched piece by piece.  What was not yet is zeros. */
typedef struct AcpiRom {
    const char *method;
    uint8_t *rom;               /* ROM_MAX bytes */
    size_t got;
    size_t length;              /* as far as it is known */
    bool ask_more;              /* than acpi_call can return */
    bool holds_nothing;
} AcpiRom;

/* The answer of acpi_call to @command */
static char *ask(const char *command, GError **error)
{
    g_autoptr(GString) answer = g_string_new(NULL);
    int fd = open(ACPI_CALL, O_RDWR | O_CLOEXEC);
    char buffer[512];
    ssize_t n = fd < 0 ? fd : write(fd, command, strlen(command));

    while (n > 0) {
        n = read(fd, buffer, sizeof(buffer));
        if (n > 0) {
            g_string_append_len(answer, buffer, n);
        }
        /* It ends with a NUL; the next read() would start again. */
        if (n > 0 && memchr(buffer, 0, n)) {
            n = 0;
        }
    }
    if (n < 0) {
        fail(error, ACPI_CALL ": %s", g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return n < 0 ? NULL : g_strdup(answer->str);
}

static bool is_not_found(const GError *why)
{
    return g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT);
}

/* "{0x55, 0xaa, ...}"; returns the number of bytes, at most @max. */
static size_t parse_buffer(const char *text, uint8_t *bytes, size_t max)
{
    size_t n = 0;

    if (*text++ != '{') {
        return 0;
    }
    while (n < max && g_str_has_prefix(text, "0x")) {
        bytes[n++] = g_ascii_strtoull(text, (char **)&text, 16);
        text += strspn(text, ", ");
    }
    return n;
}

/* Whether the method returned something, as acpi_call shows it, or nothing. */
static bool is_value(const char *answer)
{
    return !*answer || strchr("{[\"", *answer) ||
           g_str_has_prefix(answer, "0x");
}

/* One call for the bytes up to @end */
static bool call(AcpiRom *r, size_t start, size_t end, GError **error)
{
    size_t want = r->ask_more ? SECTION : end - start;
    g_autofree char *command = g_strdup_printf("%s 0x%zx 0x%zx", r->method,
                                               start, want);
    g_autofree char *answer = ask(command, error);
    size_t n;

    if (!answer) {
        return false;
    }
    if (strstr(answer, NOT_FOUND)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "%s", answer);
        return false;
    }
    n = parse_buffer(answer, r->rom + start, end - start);
    r->holds_nothing = start + n < 2 && is_value(answer);
    if (start + n <= r->got) {
        return fail(error, "%s (0x%zx, 0x%zx) gave: %s", r->method, start, want,
                    answer);
    }
    r->got = start + n;
    return true;
}

/*
 * Fetch some more.  Some methods look at their memory through a region of eight
 * times the length asked for, below a field of 8 KiB, and fail if that is too
 * short: these are asked for a whole section.  Others fail if they are asked
 * for a whole section where none starts.
 */
static bool fetch_some(AcpiRom *r, GError **error)
{
    size_t end = MIN(MIN(r->got + CALL_MAX, r->length),
                     (r->got / SECTION + 1) * SECTION);
    size_t start = MIN(r->got, end - CALL_MIN);
    g_autoptr(GError) why = NULL;

    if (call(r, start, end, &why)) {
        return true;
    }
    if (!r->ask_more && !is_not_found(why) && !is_interrupted()) {
        r->ask_more = true;
        if (call(r, start, end, NULL) && r->got >= end) {
            return true;
        }
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/*
 * Fetch up to @end, and the rest of its unit: images are a multiple of that
 * long.
 */
static bool fetch_to(AcpiRom *r, size_t end, GError **error)
{
    end = (end + UNIT - 1) / UNIT * UNIT;
    if (end > ROM_MAX) {
        return fail(error, "it is longer than %d MiB", ROM_MAX >> 20);
    }
    r->length = MAX(r->length, end);
    while (r->got < r->length) {
        show_progress("calling _ROM", r->got, r->length);
        if (!check_signal(error) || !fetch_some(r, error)) {
            return false;
        }
        if (r->got >= 2 && !optimus_has_signature(r->rom, r->got)) {
            r->holds_nothing = true;
            return fail(error, "no signature");
        }
    }
    return true;
}

static bool parse_image(const AcpiRom *r, size_t offset, OptimusImage *image,
                        GError **error)
{
    g_autofree char *why = NULL;

    return optimus_rom_image(r->rom, ROM_MAX, offset, image, &why) ||
           fail(error, "%s", why);
}

/*
 * Fetch the image at @offset, which tells how long it is.  What follows it is
 * not touched: there may be nothing.
 */
static bool fetch_image(AcpiRom *r, size_t offset, OptimusImage *image,
                        GError **error)
{
    size_t pcir, end;

    if (!fetch_to(r, offset + OPTIMUS_HEADER_SIZE, error)) {
        return false;
    }
    pcir = offset + optimus_pcir_pointer(r->rom + offset);
    if (!fetch_to(r, pcir + OPTIMUS_PCIR_SIZE, error) ||
        !parse_image(r, offset, image, error)) {
        return false;
    }
    /* That was without NPDE. */
    end = MIN(offset + image->length, pcir + PCIR_AND_NPDE);
    return fetch_to(r, end, error) && parse_image(r, offset, image, error) &&
           fetch_to(r, offset + image->length, error);
}

static bool fetch_chain(AcpiRom *r, GError **error)
{
    OptimusImage image = { };

    do {
        g_autoptr(GError) why = NULL;
        OptimusImage next;

        if (!fetch_image(r, image.offset + image.length, &next, &why)) {
            /* Firmware may have cut the ROM where PCIR says that it ends. */
            if (image.npde && check_signal(error)) {
                r->got = image.offset + image.length;
                return true;
            }
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        image = next;
    } while (!image.last);
    return true;
}

/* Whether the kernel takes modules only that are signed. */
static bool is_locked_down(void)
{
    g_autoptr(GByteArray) lockdown = read_file("/sys/kernel/security",
                                               "lockdown", NULL);
    g_autoptr(GByteArray) enforce =
        read_file("/sys/module/module/parameters", "sig_enforce", NULL);

    return (lockdown && lockdown->len &&
            !memmem(lockdown->data, lockdown->len, "[none]", 6)) ||
           (enforce && enforce->len && *enforce->data == 'Y');
}

/* What is to be said of @why, of a card of this generation or that */
static void explain(const AcpiRom *r, GError *why, PCIName name, GError **error)
{
    bool own_flash = has_own_flash(name);

    if (is_not_found(why)) {
        fail(error, "the firmware has no _ROM for it; a card %s has a flash of "
             "its own", own_flash ? "from the generation Turing on, as this "
             "one, nearly always" : "without _ROM often");
    } else if (r->holds_nothing) {
        fail(error, "_ROM is there, and holds no video BIOS: %s", own_flash ?
             "the card has a flash of its own as a rule" :
             "look for it in a firmware update of the machine's maker "
             "(optimus-vbios extract) or in Windows' registry (see the manual "
             "page)");
    } else {
        g_propagate_error(error, g_error_copy(why));
    }
}

GByteArray *get_from_acpi(const char *card, PCIName name, GError **error)
{
    g_autoptr(GByteArray) node = read_file(card, "firmware_node/path", NULL);
    g_autoptr(GByteArray) rom = g_byte_array_new();
    g_autoptr(GError) why = NULL;
    g_autofree char *path = NULL, *method = NULL;
    g_autofree uint8_t *bytes = NULL;
    AcpiRom r = { };

    if (!node) {
        fail(error, "the firmware has no ACPI node for the card");
        return NULL;
    }
    if (access(ACPI_CALL, R_OK | W_OK)) {
        fail(error, "the module acpi_call is not loaded: install the package "
             "acpi-call-dkms and run modprobe acpi_call%s", is_locked_down() ?
             "; this kernel is locked down, as with Secure Boot, and takes it "
             "only if it is signed with a key that mokutil has put into the "
             "firmware: do that, or switch Secure Boot off for the time" : "");
        return NULL;
    }
    path = g_strstrip(g_strndup((const char *)node->data, node->len));
    method = g_strdup_printf("%s._ROM", path);
    bytes = g_malloc0(ROM_MAX);
    r.method = method;
    r.rom = bytes;
    if (fetch_chain(&r, &why)) {
        g_byte_array_append(rom, r.rom, r.got);
        return g_steal_pointer(&rom);
    }
    explain(&r, why, name, error);
    return NULL;
}
