/* bench_market.h - a simulated order book in memory, for benches that feed the feature engine. */
#ifndef OC_TOOLS_BENCH_MARKET_H
#define OC_TOOLS_BENCH_MARKET_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "market/event.h"
#include "market/instrument.h"

typedef struct bench_market {
    oc_instrument instrument;
    oc_event *events; /* a snapshot of ten levels a side, then packets; each makes a row where rows are packets */
    size_t count;
} bench_market;

OC_MUST bench_market_open(bench_market *m, uint64_t seed, size_t events); /* that many, the last packet completed */
void bench_market_close(bench_market *m);                                 /* NULL within is fine */

#endif
