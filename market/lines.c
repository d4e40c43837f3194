/* lines.c - a line reader over three sources of bytes (mapped, xz, gzip), chosen by the first bytes of the data. */
#include "market/lines.h"

#define ZLIB_CONST
#include <lzma.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"

enum { OUT_BYTES = 256 * 1024, LINE_BYTES = 4096, IN_MAX = 1 << 20, XZ_MEMORY = 256 << 20 };

typedef oc_status (*fill_function)(oc_lines *t);

struct oc_lines {
    const char *name;
    oc_file_map map;
    bool mapped, ended;
    const unsigned char *data;                 /* the whole input, packed or not */
    size_t bytes, consumed;
    fill_function fill;
    lzma_stream xz;
    z_stream gz;
    bool xz_open, gz_open, gz_between;         /* between two members of a gzip file */
    unsigned char *out;                        /* unpacked bytes */
    size_t out_at, out_count;
    char *line;
    size_t line_cap;                           /* grows up to line_max and the NUL */
    uint32_t line_max;
    uint64_t number;
};

static oc_status fill_plain(oc_lines *t)
{
    size_t left = t->bytes - t->consumed;
    t->out_count = left < OUT_BYTES ? left : OUT_BYTES;
    if (t->out_count) memcpy(t->out, t->data + t->consumed, t->out_count);
    t->consumed += t->out_count;
    t->ended = t->consumed == t->bytes;
    return OC_OK;
}

static oc_status fill_xz(oc_lines *t)
{
    t->xz.next_out = t->out;
    t->xz.avail_out = OUT_BYTES;
    while (t->xz.avail_out == OUT_BYTES && !t->ended) {
        t->xz.next_in = t->data + t->consumed;
        t->xz.avail_in = t->bytes - t->consumed;
        lzma_ret code = lzma_code(&t->xz, LZMA_FINISH);
        t->consumed = t->bytes - t->xz.avail_in;
        t->ended = code == LZMA_STREAM_END;
        if (code == LZMA_BUF_ERROR)
            return OC_FAIL(OC_EDATA, "%s: the xz data is cut short at byte %zu", t->name, t->bytes);
        if (code == LZMA_MEMLIMIT_ERROR)
            return OC_FAIL(OC_ELIMIT, "%s: unpacking would take over %d MiB", t->name, XZ_MEMORY >> 20);
        if (code != LZMA_OK && code != LZMA_STREAM_END)
            return OC_FAIL(OC_EDATA, "%s: the xz data is damaged near byte %zu (code %d)", t->name, t->consumed,
                           (int)code);
    }
    t->out_count = OUT_BYTES - t->xz.avail_out;
    return OC_OK;
}

static oc_status fill_gz(oc_lines *t)
{
    t->gz.next_out = t->out;
    t->gz.avail_out = OUT_BYTES;
    while (t->gz.avail_out == OUT_BYTES && !t->ended) {
        size_t left = t->bytes - t->consumed;
        if (left == 0) {
            if (!t->gz_between)
                return OC_FAIL(OC_EDATA, "%s: the gzip data is cut short at byte %zu", t->name, t->bytes);
            t->ended = true;
            break;
        }
        t->gz.next_in = t->data + t->consumed;
        t->gz.avail_in = (uInt)(left < IN_MAX ? left : IN_MAX);
        uInt given = t->gz.avail_in;
        if (t->gz_between && inflateReset(&t->gz) != Z_OK) return OC_FAIL(OC_EFAILED, "%s: zlib failed", t->name);
        t->gz_between = false;
        int code = inflate(&t->gz, Z_NO_FLUSH);
        t->consumed += given - t->gz.avail_in;
        if (code != Z_OK && code != Z_STREAM_END)
            return OC_FAIL(OC_EDATA, "%s: the gzip data is damaged near byte %zu (code %d)", t->name, t->consumed,
                           code);
        t->gz_between = code == Z_STREAM_END;
    }
    t->out_count = OUT_BYTES - t->gz.avail_out;
    return OC_OK;
}

static oc_status source_choose(oc_lines *t)
{
    static const unsigned char xz_magic[] = {0xFD, '7', 'z', 'X', 'Z', 0}, gz_magic[] = {0x1F, 0x8B};
    t->fill = fill_plain;
    if (t->bytes >= sizeof xz_magic && memcmp(t->data, xz_magic, sizeof xz_magic) == 0) {
        lzma_stream fresh = LZMA_STREAM_INIT;
        t->xz = fresh;
        if (lzma_stream_decoder(&t->xz, XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
            return OC_FAIL(OC_EMEMORY, "%s: no memory for unpacking", t->name);
        t->xz_open = true;
        t->fill = fill_xz;
    } else if (t->bytes >= sizeof gz_magic && memcmp(t->data, gz_magic, sizeof gz_magic) == 0) {
        if (inflateInit2(&t->gz, 15 + 16) != Z_OK) return OC_FAIL(OC_EMEMORY, "%s: no memory for unpacking", t->name);
        t->gz_open = true;
        t->fill = fill_gz;
    }
    return OC_OK;
}

oc_status oc_lines_open(oc_lines **out, const char *name, const void *data, size_t bytes, uint32_t line_max)
{
    oc_lines *t = NULL;
    oc_status status;
    *out = NULL;
    OC_TRY(oc_memory_new(&t, sizeof *t, "text reader"));
    t->name = name;
    t->line_max = line_max;
    if (data) {
        t->data = data;
        t->bytes = bytes;
    } else {
        OC_TRY_GOTO(status, fail, oc_file_map_open(&t->map, name));
        t->mapped = true;
        t->data = t->map.data;
        t->bytes = t->map.bytes;
    }
    OC_TRY_GOTO(status, fail, oc_memory_new(&t->out, OUT_BYTES, "text buffer"));
    OC_TRY_GOTO(status, fail, oc_memory_grow(&t->line, &t->line_cap, LINE_BYTES, 1, "line buffer"));
    OC_TRY_GOTO(status, fail, source_choose(t));
    *out = t;
    return OC_OK;
fail:
    oc_lines_close(t);
    return status;
}

void oc_lines_close(oc_lines *t)
{
    if (!t) return;
    if (t->xz_open) lzma_end(&t->xz);
    if (t->gz_open) inflateEnd(&t->gz);
    if (t->mapped) oc_file_map_close(&t->map);
    oc_memory_free(t->out);
    oc_memory_free(t->line);
    oc_memory_free(t);
}

uint64_t oc_lines_consumed(const oc_lines *t)
{
    return t->consumed;
}

uint64_t oc_lines_bytes(const oc_lines *t)
{
    return t->bytes;
}

static bool has_control_bytes(const char *text, uint32_t length)
{
    unsigned found = 0;
    for (uint32_t i = 0; i < length; i++) found |= ((unsigned char)text[i] < ' ') & (text[i] != '\t');
    return found != 0;
}

oc_status oc_lines_next(oc_lines *t, oc_line *line, bool *have)
{
    uint32_t length = 0;
    bool long_line = false, end = false;
    *have = false;
    while (!end) {
        if (t->out_at == t->out_count) {
            if (t->ended) break;
            t->out_at = t->out_count = 0;
            OC_TRY(t->fill(t));
            continue;
        }
        const unsigned char *from = t->out + t->out_at, *newline = memchr(from, '\n', t->out_count - t->out_at);
        size_t bytes = newline ? (size_t)(newline - from) : t->out_count - t->out_at;
        *have = true;
        end = newline != NULL;
        t->out_at += bytes + end;
        if (bytes > t->line_max - length) {
            long_line = true;
            bytes = t->line_max - length;
        }
        OC_TRY(oc_memory_grow(&t->line, &t->line_cap, length + bytes + 1, 1, "line buffer"));
        memcpy(t->line + length, from, bytes);
        length += (uint32_t)bytes;
    }
    if (!*have) return OC_OK;
    if (t->number++ == 0 && length >= 3 && memcmp(t->line, "\xEF\xBB\xBF", 3) == 0) {   /* byte order mark */
        length -= 3;
        memmove(t->line, t->line + 3, length);
    }
    if (length > 0 && t->line[length - 1] == '\r') length--;
    t->line[length] = '\0';
    *line = (oc_line){t->line, length, t->number, OC_LINE_GOOD};
    if (long_line) line->state = OC_LINE_LONG;
    else if (has_control_bytes(t->line, length)) line->state = OC_LINE_BYTES;
    return OC_OK;
}

static oc_field field_trim(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t')) from++;
    while (from < to && (to[-1] == ' ' || to[-1] == '\t')) to--;
    return (oc_field){from, (uint32_t)(to - from)};
}

uint32_t oc_fields_split(const char *text, uint32_t length, char delimiter, oc_field *fields, uint32_t cap)
{
    const char *at = text, *end = text + length;
    uint32_t count = 0;
    for (;; at++) {
        if (count == cap) return cap + 1;
        const char *close = at < end && *at == '"' ? memchr(at + 1, '"', (size_t)(end - at - 1)) : NULL;
        if (close && (close + 1 == end || close[1] == delimiter)) {
            fields[count++] = (oc_field){at + 1, (uint32_t)(close - at - 1)};
            at = close + 1;
        } else {
            const char *stop = at < end ? memchr(at, delimiter, (size_t)(end - at)) : NULL;
            if (!stop) stop = end;
            fields[count++] = field_trim(at, stop);
            at = stop;
        }
        if (at >= end) return count;
    }
}

bool oc_field_int(oc_field field, int64_t *value)
{
    uint32_t at = field.length > 0 && field.text[0] == '-' ? 1 : 0;
    uint64_t magnitude = 0;
    if (at == field.length || field.length - at > 19) return false;
    for (; at < field.length; at++) {
        if (field.text[at] < '0' || field.text[at] > '9') return false;
        magnitude = magnitude * 10 + (uint64_t)(field.text[at] - '0');
    }
    if (magnitude > INT64_MAX) return false;
    *value = field.text[0] == '-' ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

bool oc_field_is(oc_field field, const char *name)
{
    return strlen(name) == field.length && strncasecmp(field.text, name, field.length) == 0;
}
