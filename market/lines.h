/* lines.h - lines of a text file or buffer, plain, .xz or .gz, and fields of a line. Bounded: a line over the limit is
 * skipped and says so; packed data never expands in memory beyond one buffer. */
#ifndef OC_MARKET_LINES_H
#define OC_MARKET_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct oc_lines oc_lines;

typedef enum { OC_LINE_GOOD, OC_LINE_LONG, OC_LINE_BYTES } oc_line_state;     /* BYTES: control bytes within */

typedef struct oc_line {
    char *text;                                /* NUL-terminated, without the end of line; valid until the next */
    uint32_t length;
    uint64_t number;                           /* 1 first */
    oc_line_state state;
} oc_line;

/* data NULL: the file `name`. line_max: bytes of the longest line accepted. */
OC_MUST oc_lines_open(oc_lines **out, const char *name, const void *data, size_t bytes, uint32_t line_max);
void oc_lines_close(oc_lines *t);
OC_MUST oc_lines_next(oc_lines *t, oc_line *line, bool *have);   /* OC_EDATA where packed data is damaged or cut */
uint64_t oc_lines_consumed(const oc_lines *t);                   /* bytes of the (packed) input, for progress */
uint64_t oc_lines_bytes(const oc_lines *t);

/* A field of a line; not NUL-terminated. */
typedef struct oc_field { const char *text; uint32_t length; } oc_field;

/* Splits at `delimiter`; a field in double quotes may hold it. Returns the number of fields, at most `cap`; cap + 1
 * where there are more. Blanks around a field are left off. */
uint32_t oc_fields_split(const char *text, uint32_t length, char delimiter, oc_field *fields, uint32_t cap);
bool oc_field_int(oc_field field, int64_t *value);             /* decimal, optional minus, whole field, no overflow */
bool oc_field_is(oc_field field, const char *name);            /* ignoring case */

#endif
