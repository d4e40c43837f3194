/* config.h - YAML configuration against a schema table. One row a key: type, bounds, default, unit, help; a key that
 * no row names is an error, as are duplicates, aliases, tags, depth over 32 and files over 64 KiB. All errors are
 * collected, each "file:line:column: key is VALUE, not …", and returned in one OC_ECONFIG message, a line each.
 *
 * Keys are dotted paths ("train.batch"). A list key accepts a scalar or a sequence of scalars. */
#ifndef OC_BASE_CONFIG_H
#define OC_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/status.h"

typedef enum {
    OC_CONFIG_INT,
    OC_CONFIG_REAL,
    OC_CONFIG_BOOL,
    OC_CONFIG_TEXT,
    OC_CONFIG_CHOICE,
    OC_CONFIG_LIST
} oc_config_type;

typedef struct oc_config_key {
    const char *key;
    oc_config_type type;
    double min, max;              /* INT, REAL; for LIST: smallest and largest count; for TEXT unused */
    const char *standard;         /* default as text; NULL: required; "" with LIST: empty list */
    const char *choices;          /* CHOICE: "auto|cpu|cuda" */
    const char *unit, *help;
} oc_config_key;

typedef struct oc_config oc_config;

/* sets: "key.path=value" strings of --set, applied last; lists as "a,b,c". path NULL: defaults and sets only. */
OC_MUST oc_config_open(oc_config **out, const char *path, const oc_config_key *keys, size_t key_count,
                       const char *const *sets, size_t set_count);
OC_MUST oc_config_parse(oc_config **out, const char *text, size_t bytes, const char *name, const oc_config_key *keys,
                        size_t key_count, const char *const *sets, size_t set_count);
void oc_config_close(oc_config *c);

/* Reads assert that the key is in the schema with that type. Texts live as long as c. */
int64_t oc_config_int(const oc_config *c, const char *key);
double oc_config_real(const oc_config *c, const char *key);
bool oc_config_bool(const oc_config *c, const char *key);
const char *oc_config_text(const oc_config *c, const char *key);               /* TEXT and CHOICE */
size_t oc_config_count(const oc_config *c, const char *key);                  /* LIST */
const char *oc_config_item(const oc_config *c, const char *key, size_t index);
bool oc_config_given(const oc_config *c, const char *key);                    /* in the file or by --set */
const char *oc_config_place(const oc_config *c, const char *key); /* "file:line:col", "--set" or "default" */

/* Fails with OC_ECONFIG "place: key is VALUE: reason" for checks that a table cannot say. */
oc_status oc_config_refuse(const oc_config *c, const char *key, const char *format, ...) OC_PRINTF(3, 4);

/* The resolved configuration as YAML, keys in schema order; the same text for the same values. malloc'ed: free(). */
char *oc_config_dump(const oc_config *c);
void oc_config_help(const oc_config_key *keys, size_t key_count, FILE *out);  /* the table as documentation */

#endif
