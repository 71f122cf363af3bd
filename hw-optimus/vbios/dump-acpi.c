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

/* What has to be there of an image to know how long it is. */
#define HEADER_SIZE   0x1a
#define PCIR_POINTER  0x18
#define PCIR_SIZE     0x18
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
} AcpiRom;

/* The answer of acpi_call to @command, or NULL with errno set. */
static char *ask(const char *command)
{
    g_autoptr(GString) answer = g_string_new(NULL);
    int fd = open(ACPI_CALL, O_RDWR | O_CLOEXEC);
    char buffer[512];
    ssize_t n;

    if (fd < 0) {
        return NULL;
    }
    n = write(fd, command, strlen(command));
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
    close_keeping_errno(fd);
    return n < 0 ? NULL : g_strdup(answer->str);
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

/* One call for the bytes up to @end; NULL for success. */
static char *call(AcpiRom *r, size_t start, size_t end)
{
    size_t want = r->ask_more ? SECTION : end - start;
    g_autofree char *command = g_strdup_printf("%s 0x%zx 0x%zx", r->method,
                                               start, want);
    g_autofree char *answer = ask(command);
    size_t n;

    if (!answer) {
        return g_strdup_printf(ACPI_CALL ": %s", g_strerror(errno));
    }
    n = parse_buffer(answer, r->rom + start, end - start);
    if (start + n <= r->got) {
        return g_strdup_printf("%s (0x%zx, 0x%zx) gave: %s", r->method, start,
                               want, answer);
    }
    r->got = start + n;
    return NULL;
}

/*
 * Fetch some more; NULL for success.  Some methods look at their memory through
 * a region of eight times the length asked for, below a field of 8 KiB, and fail
 * if that is too short: these are asked for a whole section.  Others fail if
 * they are asked for a whole section where none starts.
 */
static char *fetch_some(AcpiRom *r)
{
    size_t end = MIN(MIN(r->got + CALL_MAX, r->length),
                     (r->got / SECTION + 1) * SECTION);
    size_t start = MIN(r->got, end - CALL_MIN);
    char *why = call(r, start, end);

    if (why && !r->ask_more && !strstr(why, NOT_FOUND) && !is_interrupted()) {
        r->ask_more = true;
        g_free(call(r, start, end));
        if (r->got >= end) {
            g_clear_pointer(&why, g_free);
        }
    }
    return why;
}

/*
 * Fetch up to @end, and the rest of its unit: images are a multiple of that
 * long.  False with *@why set, or after a signal.
 */
static bool fetch_to(AcpiRom *r, size_t end, char **why)
{
    end = (end + UNIT - 1) / UNIT * UNIT;
    if (end > ROM_MAX) {
        *why = g_strdup_printf("it is longer than %d MiB", ROM_MAX >> 20);
        return false;
    }
    r->length = MAX(r->length, end);
    while (r->got < r->length) {
        if (is_interrupted()) {
            return false;
        }
        show_progress("calling _ROM", r->got, r->length);
        *why = fetch_some(r);
        if (*why) {
            return false;
        }
    }
    return true;
}

/*
 * Fetch the image at @offset, which tells how long it is.  What is behind it is
 * not touched: there may be nothing.
 */
static bool fetch_image(AcpiRom *r, size_t offset, OptimusImage *image,
                        char **why)
{
    size_t pcir, end;

    if (!fetch_to(r, offset + HEADER_SIZE, why)) {
        return false;
    }
    pcir = offset + optimus_le16(r->rom + offset + PCIR_POINTER);
    if (!fetch_to(r, pcir + PCIR_SIZE, why) ||
        !optimus_rom_image(r->rom, ROM_MAX, offset, !offset, image, why)) {
        return false;
    }
    /* That was without NPDE. */
    end = MIN(offset + image->length, pcir + PCIR_AND_NPDE);
    return fetch_to(r, end, why) &&
           optimus_rom_image(r->rom, ROM_MAX, offset, !offset, image, why) &&
           fetch_to(r, offset + image->length, why);
}

static bool fetch_chain(AcpiRom *r, char **why)
{
    OptimusImage image = { };

    do {
        if (!fetch_image(r, image.offset + image.length, &image, why)) {
            return false;
        }
    } while (!image.last);
    return true;
}

GByteArray *get_from_acpi(const char *card, PCIName name, char **why)
{
    g_autoptr(GByteArray) node = read_file(card, "firmware_node/path");
    g_autofree char *path = NULL, *method = NULL;
    GByteArray *rom = NULL;
    AcpiRom r = { };

    if (!node) {
        *why = g_strdup("the firmware has no ACPI node for the card");
        return NULL;
    }
    if (access(ACPI_CALL, R_OK | W_OK)) {
        *why = g_strdup("the module acpi_call is not loaded: install the "
                        "package acpi-call-dkms and run modprobe acpi_call");
        return NULL;
    }
    path = g_strstrip(g_strndup((const char *)node->data, node->len));
    method = g_strdup_printf("%s._ROM", path);
    r.method = method;
    r.rom = g_malloc0(ROM_MAX);
    if (fetch_chain(&r, why)) {
        rom = g_byte_array_new();
        g_byte_array_append(rom, r.rom, r.got);
    } else if (*why && strstr(*why, NOT_FOUND)) {
        g_free(*why);
        *why = g_strdup_printf("the firmware has no _ROM for it; a card %s has "
            "a flash of its own", has_own_flash(name) ?
            "from the generation Turing on, as this one, nearly always" :
            "without _ROM often");
    }
    g_free(r.rom);
    return rom;
}
