/* json.h - JSON through jansson, with what Outcry needs around it: files with size and depth limits, errors with
 * file:line:column, typed reads whose message names the key. Objects are jansson's (json_decref releases them). */
#ifndef OC_BASE_JSON_H
#define OC_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "base/file.h"
#include "base/status.h"

OC_MUST oc_json_load(const char *path, size_t bytes_max, json_t **out);       /* duplicates and NUL refused: OC_EDATA */
OC_MUST oc_json_parse(const char *text, size_t bytes, const char *name, json_t **out);
OC_MUST oc_json_save(const char *path, const json_t *json); /* atomic; indented, keys in insertion order, %.17g */
OC_MUST oc_json_add(oc_file_writer *w, const char *path, const json_t *json); /* the same text to a writer of `path` */
char *oc_json_line(const json_t *json);                                       /* compact, malloc'ed: free() */

/* `key` may be a path "scaler.mean"; `where` (a file name) opens the message. OC_EDATA where absent or of another type,
 * or not finite. Borrowed results live as long as `root`. */
OC_MUST oc_json_get(const json_t *root, const char *key, const char *where, json_type type, json_t **out);
OC_MUST oc_json_int(const json_t *root, const char *key, const char *where, int64_t min, int64_t max, int64_t *out);
OC_MUST oc_json_real(const json_t *root, const char *key, const char *where, double min, double max, double *out);
OC_MUST oc_json_text(const json_t *root, const char *key, const char *where, const char **out);
OC_MUST oc_json_reals(const json_t *root, const char *key, const char *where, double *out,
                      size_t count); /* exact length */

#endif
