/* config_internal.h - what config.c (values and checks), config_yaml.c (libyaml events) and config_dump.c (printing)
 * share. A value is kept as its texts; numbers are parsed once when it is taken. */
#ifndef OC_BASE_CONFIG_INTERNAL_H
#define OC_BASE_CONFIG_INTERNAL_H

#include "base/config.h"

enum {
    CONFIG_BYTES_MAX = 64 << 10,
    CONFIG_DEPTH_MAX = 32,
    CONFIG_ERRORS_MAX = 100,
    CONFIG_PATH_MAX = 128,
    CONFIG_SHOW_BYTES = 72
};

typedef struct config_value {
    char **items;                               /* one unless LIST */
    size_t count, capacity;
    int64_t integer;
    double real;
    bool boolean, given, given_in_file, refused;
    char *place;
} config_value;

struct oc_config {
    const oc_config_key *keys;
    size_t key_count;
    char *name;                                 /* of the file, for messages */
    config_value *values;
    char errors[1900];                          /* fits into a status message with its first line */
    size_t errors_used, error_count, errors_kept;
};

#define CONFIG_NONE SIZE_MAX

size_t config_find(const oc_config *c, const char *key);                      /* or CONFIG_NONE */
bool config_is_section(const oc_config *c, const char *path);                 /* some key begins with "path." */

/* A value is taken in three steps; bad values are collected errors, the status is for want of memory. */
OC_MUST config_value_begin(oc_config *c, size_t index, const char *place);
OC_MUST config_value_add(oc_config *c, size_t index, const char *text, size_t bytes);
void config_value_check(oc_config *c, size_t index);

void config_error(oc_config *c, const char *place, const char *format, ...) OC_PRINTF(3, 4);
void config_error_unknown(oc_config *c, const char *place, const char *path);
void config_error_kind(oc_config *c, const char *place, size_t index, const char *what); /* "is WHAT, not TYPE" */

/* `text` in quotes, one line, cut to CONFIG_SHOW_BYTES. Returns out. */
const char *config_show(const char *text, char out[CONFIG_SHOW_BYTES]);
void config_describe(const oc_config_key *key, char *out, size_t cap);        /* "an integer from 1 to 4096 [64]" */

OC_MUST config_yaml_read(oc_config *c, const char *text, size_t bytes);

#endif
