/* timestamp.h - text to time by a format: %Y %m %d %H %M %S (with an optional fraction of up to 9 digits) %z (Z,
 * +02:00) and literal characters; or one of epoch_s, epoch_ms, epoch_us, epoch_ns. */
#ifndef OC_MARKET_TIMESTAMP_H
#define OC_MARKET_TIMESTAMP_H

#include <stdbool.h>
#include <stdint.h>
#include "market/lines.h"

typedef struct oc_timestamp {
    int64_t ns;                                /* civil time as if it were UTC; UTC itself where is_utc */
    bool is_utc;                               /* the text says its offset, or is an epoch */
} oc_timestamp;

bool oc_timestamp_parse(const char *format, oc_field field, oc_timestamp *out);
bool oc_timestamp_format_known(const char *format);
const char *oc_timestamp_guess(oc_field field); /* first of a table of usual formats that fits; else NULL */

#endif
