/* zone.h - local civil time to UTC through the system's time zone database. The C library's conversion works on the
 * process-wide TZ; it is set only inside a look-up and put back, and look-ups are cached by quarter hours, in which no
 * zone has ever changed its offset. Not for several threads at once. */
#ifndef OC_MARKET_ZONE_H
#define OC_MARKET_ZONE_H

#include <stdint.h>
#include "base/status.h"

typedef struct oc_zone {
    char name[64];                             /* "UTC", "America/New_York", "+02:00" */
    int fixed;                                 /* no look-up: offset_s[0] always */
    int64_t bucket;                            /* of the cached local time */
    int count; /* offsets that fit it: 0 skipped, 1 usual, 2 the hour that comes twice */
    int64_t offset_s[2];                       /* local - UTC; the earlier instant first */
} oc_zone;

OC_MUST oc_zone_open(oc_zone *z, const char *name);            /* OC_EUSAGE where the system does not know it */
/* local_ns: civil time counted as if it were UTC. Returns how many instants have this local time; utc_ns gets them,
 * the earlier one first. */
int oc_zone_utc(oc_zone *z, int64_t local_ns, int64_t utc_ns[2]);

#endif
