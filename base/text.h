/* text.h - a growing text for reports and messages. A failed allocation is remembered and reported once, at finish:
 * a writer of a hundred lines checks one status. */
#ifndef OC_BASE_TEXT_H
#define OC_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

typedef struct oc_text {
    char *data;                  /* NUL-terminated once anything was added */
    size_t bytes, capacity;
    bool failed;
} oc_text;

void oc_text_add(oc_text *t, const char *format, ...) OC_PRINTF(2, 3);
void oc_text_raw(oc_text *t, const char *data, size_t bytes);
void oc_text_html(oc_text *t, const char *plain);                     /* & < > " ' escaped */
OC_MUST oc_text_finish(const oc_text *t, const char *what);           /* OC_EMEMORY where an addition failed */
void oc_text_free(oc_text *t);

#endif
