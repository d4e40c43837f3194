/* venue.h - where orders go: functions and a context, so that a backtest and a live session differ in how these are
 * filled and in nothing else. A venue never calls back: it is asked. */
#ifndef OC_TRADE_VENUE_H
#define OC_TRADE_VENUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trade/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_venue {
    void *context;
    OC_MUST (*connect)(void *context, int64_t now_ns);                       /* leads to an OC_VENUE_CONNECTED */
    OC_MUST (*send)(void *context, const oc_action *action, int64_t now_ns); /* NEW, CANCEL, QUERY; OC_EAGAIN: full */
    void (*market)(void *context, const oc_event *event);                    /* NULL: it sees its own market */
    /* LEVEL events of one packet, without flags: the same as `market` of each. NULL: there is no shorter way. */
    void (*levels)(void *context, const oc_event *events, size_t count);
    /* One message that has come by until_ns, in order; false: none. */
    bool (*poll)(void *context, int64_t until_ns, oc_venue_message *message, int64_t *at_ns);
    int64_t (*next_ns)(void *context);         /* when something happens by itself; INT64_MAX: nothing will */
} oc_venue;

#ifdef __cplusplus
}
#endif
#endif
