/*
 * optimus-vbios: what a video BIOS may be packed in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "vbios.h"
#include <zlib.h>

#define INFLATE_AT_ONCE (256 * 1024)
#define INFLATE_LEAST   4096    /* what a section counts for, however short */

/* Before each zlib stream; one more byte stands between them. */
static const uint8_t dell_section[] = {
    0xaa, 0xee, 0xaa, 0x76, 0x1b, 0xec, 0xbb, 0x20, 0xf1, 0xe6, 0x51
};
#define DELL_STREAM (sizeof(dell_section) + 1)

/* Texts of hexadecimal numbers, and what makes them binary */
static const struct {
    const char *start;          /* a regular expression */
    bool leaves_out;            /* lines that repeat, with a * instead */
    const char *command;        /* with %s for the file, and %o for a new one */
} texts[] = {
    /* xxd */
    { "^0{4,16}: *55 ?aa", false, "xxd -r %s %o" },
    /* hexdump -C */
    { "^0{8}  55 aa ", true, "cut -c10-58 %s | xxd -r -p >%o" },
    /* od -t x1, with offsets in octal or hexadecimal */
    { "^0{4,8} +55 aa ", true, "sed 's/^[0-9A-Fa-f]* *//; s/ *>.*//' %s | "
      "xxd -r -p >%o" },
    /* hexdump, od -x: words, of which the second byte comes first */
    { "^0{4,8} +aa55 ", true, "sed 's/^[0-9A-Fa-f]* *//; s/ *>.*//' %s | "
      "xxd -r -p | dd conv=swab of=%o" },
    /* acpi_call, xxd -i */
    { "^[^{]{0,99}\\{?\\s*0x55[,\\s]+0xaa", false,
      "grep -ao '0x[0-9A-Fa-f][0-9A-Fa-f]' %s | cut -c3- | xxd -r -p >%o" },
    /* xxd -p, and with blanks or commas in between */
    { "^\\s*55[\\s,]*aa[\\s,0-9a-f]", false,
      "tr -d ',' <%s | xxd -r -p >%o" },
};

/* @command with the file and a new one beside it */
static char *fill_in(const char *command, const char *path)
{
    g_autofree char *out = g_strconcat(path, ".bin", NULL);
    g_autofree char *quoted = g_shell_quote(path);
    g_autofree char *quoted_out = g_shell_quote(out);
    GString *text = g_string_new(NULL);

    for (const char *p = command; *p; p++) {
        if (*p != '%') {
            g_string_append_c(text, *p);
        } else {
            g_string_append(text, *++p == 's' ? quoted : quoted_out);
        }
    }
    return g_string_free(text, false);
}

static char *hex_text_advice(const InputFile *file)
{
    g_autofree char *start = g_strndup((const char *)file->data,
                                       MIN(file->size, 256));

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *command = NULL;

        if (!g_regex_match_simple(texts[i].start, start,
                                  G_REGEX_CASELESS | G_REGEX_RAW, 0)) {
            continue;
        }
        if (texts[i].leaves_out &&
            (memmem(file->data, file->size, "\n*\n", 3) ||
             memmem(file->data, file->size, "\n*\r", 3))) {
            return g_strdup("it is a text of hexadecimal numbers without the "
                            "lines that repeat (*): make it again with xxd");
        }
        command = fill_in(texts[i].command, file->path);
        return g_strdup_printf("it is a text of hexadecimal numbers: make it "
                               "binary with %s", command);
    }
    return NULL;
}

char *container_advice(const InputFile *file)
{
    g_autofree char *command = NULL;
    const char *format;
    const char *name = optimus_rom_packed(file->data, file->size, &format);

    if (!name) {
        return hex_text_advice(file);
    }
    command = fill_in(format, file->path);
    return g_strdup_printf("it is %s: unpack it with %s, and try again with "
                           "what comes out", name, command);
}

/*
 * Inflate what starts at @data, up to @max bytes; sets *@used to the length of
 * the stream.
 */
static GByteArray *inflate_stream(const uint8_t *data, size_t size, size_t max,
                                  size_t *used)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    z_stream z = {
        .next_in = (uint8_t *)data, .avail_in = MIN(size, G_MAXUINT)
    };
    int status = inflateInit(&z);

    while (status == Z_OK && out->len < max && !is_interrupted()) {
        guint before = out->len;
        guint more = MIN(INFLATE_AT_ONCE, max - before);

        show_progress("unpacking", 0, 0);
        g_byte_array_set_size(out, before + more);
        z.next_out = out->data + before;
        z.avail_out = more;
        status = inflate(&z, Z_NO_FLUSH);
        g_byte_array_set_size(out, out->len - z.avail_out);
    }
    *used = z.next_in - data;
    inflateEnd(&z);
    /* What is cut off may have a whole ROM in it all the same. */
    return out->len ? g_steal_pointer(&out) : NULL;
}

GByteArray *next_dell_section(const uint8_t *data, size_t size, size_t *at,
                              size_t *left)
{
    const uint8_t *end = data + size;

    while (*at < size && *left) {
        const uint8_t *section = memmem(data + *at, size - *at, dell_section,
                                        sizeof(dell_section));
        GByteArray *out;
        size_t used;

        if (!section || (size_t)(end - section) <= DELL_STREAM) {
            break;
        }
        section += DELL_STREAM;
        *at = section - data;
        out = inflate_stream(section, end - section, *left, &used);
        *left -= MIN(*left, MAX(out ? out->len : 0, INFLATE_LEAST));
        if (out) {
            *at += used;
            return out;
        }
    }
    return NULL;
}

/*
 * A text in ASCII, or in UTF-16 as regedit writes it, where all that matters
 * here is ASCII, too
 */
typedef struct Text {
    const uint8_t *at, *end;
    unsigned int step;          /* bytes in a character */
} Text;

static Text start_text(const uint8_t *data, size_t size)
{
    bool wide = size >= 2 && data[0] == 0xff && data[1] == 0xfe;

    return (Text) { data, data + size, wide ? 2 : 1 };
}

/* The character @i further on; 0 at the end, and for what is not ASCII */
static char peek(const Text *text, size_t i)
{
    const uint8_t *p = text->at + i * text->step;

    if ((size_t)(text->end - text->at) < (i + 1) * text->step) {
        return 0;
    }
    return p[0] < 0x80 && (text->step == 1 || !p[1]) ? p[0] : 0;
}

static bool has_prefix(const Text *text, const char *prefix)
{
    for (size_t i = 0; prefix[i]; i++) {
        if (peek(text, i) != prefix[i]) {
            return false;
        }
    }
    return true;
}

static void skip(Text *text, size_t count)
{
    text->at += MIN(count * text->step, (size_t)(text->end - text->at));
}

bool is_registry(const uint8_t *data, size_t size)
{
    Text text = start_text(data, size);
    bool utf8 = size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3);

    skip(&text, utf8 ? 3 : text.step - 1);
    return has_prefix(&text, "Windows Registry Editor Version") ||
           has_prefix(&text, "REGEDIT4");
}

/* "55,aa,\", then the same in further lines */
static GByteArray *parse_hex_value(Text *text)
{
    GByteArray *value = g_byte_array_new();

    while (g_ascii_isxdigit(peek(text, 0)) && g_ascii_isxdigit(peek(text, 1))) {
        uint8_t byte = g_ascii_xdigit_value(peek(text, 0)) << 4 |
                       g_ascii_xdigit_value(peek(text, 1));

        g_byte_array_append(value, &byte, 1);
        skip(text, 2);
        if (peek(text, 0) != ',') {
            break;
        }
        do {
            skip(text, 1);
        } while (peek(text, 0) && strchr("\\ \t\r\n", peek(text, 0)));
    }
    return value;
}

GByteArray *next_registry_value(const uint8_t *data, size_t size, size_t *at)
{
    Text text = start_text(data, size);

    text.at += *at;
    while (text.at < text.end) {
        const uint8_t *p = memchr(text.at, '=', text.end - text.at);
        g_autoptr(GByteArray) value = NULL;

        if (!p) {
            break;
        }
        text.at = p;
        /* "name"=hex:55,aa or, of other types, "name"=hex(b):55,aa */
        if ((p - data) % text.step || !has_prefix(&text, "=hex")) {
            text.at++;
            continue;
        }
        skip(&text, strlen("=hex"));
        if (peek(&text, 0) == '(') {
            while (peek(&text, 0) && !strchr(":\n", peek(&text, 0))) {
                skip(&text, 1);
            }
        }
        if (peek(&text, 0) != ':') {
            continue;
        }
        skip(&text, 1);
        value = parse_hex_value(&text);
        if (value->len >= OPTIMUS_HEADER_SIZE) {
            *at = text.at - data;
            return g_steal_pointer(&value);
        }
    }
    return NULL;
}
