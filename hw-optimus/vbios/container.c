/*
 * optimus-vbios: what a video BIOS may be packed in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <zlib.h>

#define INFLATE_AT_ONCE (256 * 1024)
#define INFLATE_MAX     (256 * 1024 * 1024)

/* Before each zlib stream; one more byte stands between them. */
static const uint8_t dell_section[] = {
    0xaa, 0xee, 0xaa, 0x76, 0x1b, 0xec, 0xbb, 0x20, 0xf1, 0xe6, 0x51
};
#define DELL_STREAM (sizeof(dell_section) + 1)

#define MAGIC(text) text, sizeof(text) - 1

/* What makes a file of each kind, and a command, with %s for the file. */
static const struct {
    const char *name;
    const char *magic;
    size_t length;
    bool in_program;            /* also behind a Windows program: an installer */
    const char *command;
} containers[] = {
    { "an installer of Inno Setup", MAGIC("Inno Setup Setup Data"), true,
      "innoextract --output-dir unpacked %s" },
    { "a 7z archive", MAGIC("7z\xbc\xaf\x27\x1c"), true,
      "7z x -ounpacked %s" },
    { "a cabinet archive", MAGIC("MSCF\0\0\0\0"), true,
      "cabextract --directory unpacked %s" },
    { "a RAR archive", MAGIC("Rar!\x1a\x07"), true, "unrar x %s unpacked/" },
    { "a ZIP archive", MAGIC("PK\x03\x04"), true, "unzip -d unpacked %s" },
    { "a program packed by UPX", MAGIC("UPX!"), true,
      "upx -d -o unpacked.exe %s" },
    { "compressed by gzip", MAGIC("\x1f\x8b\x08"), false,
      "gunzip --stdout %s >unpacked" },
    { "compressed by bzip2", MAGIC("BZh"), false,
      "bunzip2 --stdout %s >unpacked" },
    { "compressed by xz", MAGIC("\xfd""7zXZ\0"), false,
      "unxz --stdout %s >unpacked" },
};

static bool starts_with(const InputFile *file, const void *magic, size_t length)
{
    return file->size >= length && !memcmp(file->data, magic, length);
}

/* "55 aa", "0x55, 0xaa", "00000000: 55aa" and the like, as a text starts */
static bool is_hex_text(const InputFile *file)
{
    g_autofree char *start = g_strndup((const char *)file->data,
                                       MIN(file->size, 64));

    return g_regex_match_simple("^\\s*([0-9a-f]{4,16}(:|\\s)\\s*)?(0x)?55"
                                "[\\s,]*(0x)?aa[\\s,0-9a-f]", start,
                                G_REGEX_CASELESS | G_REGEX_RAW, 0);
}

char *container_advice(const InputFile *file)
{
    g_autofree char *quoted = g_shell_quote(file->path);
    bool program = starts_with(file, "MZ", 2);

    for (size_t i = 0; i < G_N_ELEMENTS(containers); i++) {
        g_autofree char *command = NULL;
        g_auto(GStrv) parts = NULL;

        if (!starts_with(file, containers[i].magic, containers[i].length) &&
            !(program && containers[i].in_program &&
              memmem(file->data, file->size, containers[i].magic,
                     containers[i].length))) {
            continue;
        }
        parts = g_strsplit(containers[i].command, "%s", 2);
        command = g_strjoinv(quoted, parts);
        return g_strdup_printf("it is %s: unpack it with %s, and try again with "
                               "what comes out", containers[i].name, command);
    }
    if (is_hex_text(file)) {
        return g_strdup_printf("it is a text of hexadecimal numbers: make it "
            "binary with xxd -r %s vbios.rom, or, if the lines do not begin "
            "with an offset, xxd -r -p", quoted);
    }
    return NULL;
}

/* Inflate what starts at @data; sets *@used to the length of the stream. */
static GByteArray *inflate_stream(const uint8_t *data, size_t size,
                                  size_t *used)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    z_stream z = { .next_in = (uint8_t *)data, .avail_in = MIN(size, G_MAXUINT) };
    int status = inflateInit(&z);

    while (status == Z_OK && out->len < INFLATE_MAX && !is_interrupted()) {
        guint before = out->len;

        g_byte_array_set_size(out, before + INFLATE_AT_ONCE);
        z.next_out = out->data + before;
        z.avail_out = INFLATE_AT_ONCE;
        status = inflate(&z, Z_NO_FLUSH);
        g_byte_array_set_size(out, out->len - z.avail_out);
    }
    *used = z.next_in - data;
    inflateEnd(&z);
    /* What is cut off may have a whole ROM in it all the same. */
    return out->len ? g_steal_pointer(&out) : NULL;
}

GByteArray *next_dell_section(const uint8_t *data, size_t size, size_t *at)
{
    const uint8_t *end = data + size;

    while (*at < size) {
        const uint8_t *section = memmem(data + *at, size - *at, dell_section,
                                        sizeof(dell_section));
        GByteArray *out;
        size_t used;

        if (!section || (size_t)(end - section) <= DELL_STREAM) {
            break;
        }
        section += DELL_STREAM;
        *at = section - data;
        out = inflate_stream(section, end - section, &used);
        if (out) {
            *at += used;
            return out;
        }
    }
    return NULL;
}

/* regedit writes UTF-16, and all that matters here is ASCII. */
static char *registry_text(const uint8_t *data, size_t size)
{
    size_t step = size >= 2 && data[0] == 0xff && data[1] == 0xfe ? 2 : 1;
    char *text = g_malloc(size / step + 1);
    size_t length = 0;

    for (size_t at = step == 2 ? 2 : 0; at + step <= size; at += step) {
        bool ascii = data[at] && data[at] < 0x80 && (step == 1 || !data[at + 1]);

        text[length++] = ascii ? data[at] : '?';
    }
    text[length] = 0;
    return text;
}

/* "55,aa,\", then the same in further lines; moves *@text behind it. */
static GByteArray *parse_hex_value(const char **text)
{
    GByteArray *value = g_byte_array_new();
    const char *p = *text;

    while (g_ascii_isxdigit(p[0]) && g_ascii_isxdigit(p[1])) {
        uint8_t byte = g_ascii_xdigit_value(p[0]) << 4 |
                       g_ascii_xdigit_value(p[1]);

        g_byte_array_append(value, &byte, 1);
        p += 2;
        if (*p != ',') {
            break;
        }
        p++;
        p += strspn(p, "\\ \t\r\n");
    }
    *text = p;
    return value;
}

GPtrArray *registry_values(const uint8_t *data, size_t size)
{
    /* The text has to begin with one of these, behind a byte order mark. */
    static const char *const headers[] = {
        "Windows Registry Editor Version", "REGEDIT4"
    };
    g_autofree char *start = registry_text(data, MIN(size, 128));
    g_autofree char *text = NULL;
    GPtrArray *values;
    const char *p;

    p = start + strspn(start, "?");
    if (!g_str_has_prefix(p, headers[0]) && !g_str_has_prefix(p, headers[1])) {
        return NULL;
    }
    text = registry_text(data, size);
    values = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    /* "name"=hex:55,aa or, of other types, "name"=hex(b):55,aa */
    for (p = text; (p = strstr(p, "=hex"));) {
        p += strlen("=hex");
        if (*p == '(') {
            p += strcspn(p, ")\n");
            p += *p == ')';
        }
        if (*p == ':') {
            p++;
            g_ptr_array_add(values, parse_hex_value(&p));
        }
    }
    return values;
}
