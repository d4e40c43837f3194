/* simulate.h - `outcry simulate`: a limit-order market of simulated traders whose predictability is planted and known.
 *
 * What is predictable, and by what. Time goes in packets (one row each). The state of the market is
 *   regime  +1 momentum, -1 reversal: the side of the latest block trade (OC_BLOCK_LOTS lots or more; a buyer's block
 *           means momentum, a seller's reversal; momentum before the first),
 *   flow    +1 or -1: which side of the best level is the larger,
 *   centre  ticks below the mid: mid = centre + 1/2 tick.
 * All three can be read off the published events; nothing else is hidden. In each packet the market may JUMP by a few
 * ticks; the jump goes in direction regime * flow with probability (1 + edge) / 2, and the flow is then drawn anew. So
 * the direction is a PRODUCT of something seen now and something that must be remembered from a block some packets ago:
 * a linear model on the last row sees only the part that comes from momentum being the commoner regime, and past
 * returns say nothing at all, because the flow that will drive the next jump is independent of the last one.
 * edge = 1 - (1 - signal)^3: 0 at signal 0, where prices are a random walk; 0.875 at 0.5; 1 at 1.
 *
 * The oracle computes P(buy), P(sell), P(hold) of the label `direction:K:THRESHOLD` (mid[n+K] / mid[n] - 1 above
 * THRESHOLD, below -THRESHOLD, neither; rows are packets) from that state by dynamic programming over (regime, flow,
 * displacement): exact, no sampling. They are also the probabilities given ALL published events, as the state is a
 * function of them and the future depends on nothing else. */
#ifndef OC_MARKET_SIMULATE_H
#define OC_MARKET_SIMULATE_H

#include <stdint.h>
#include "base/status.h"

enum {
    OC_BLOCK_LOTS = 128,         /* a trade of so many lots is a block; all others are smaller */
    OC_CENTRE_START = 5000, OC_CENTRE_MIN = 3500, OC_CENTRE_MAX = 6500, /* ticks; a move that would pass is mirrored */
    OC_JUMP_MIN = 3, OC_JUMP_MAX = 5,                                   /* ticks, each size equally likely */
    OC_SIMULATE_HORIZON_MAX = 128, OC_SIMULATE_LEVELS_MAX = 64
};

/* Probabilities per packet. The constants and the arithmetic that made them: simulate.c. */
typedef struct oc_market_rates {
    double jump;                 /* a jump of OC_JUMP_MIN .. OC_JUMP_MAX ticks */
    double drift;                /* else: one tick up or down, a fair coin */
    double block;                /* a block trade, which sets the regime anew */
    double momentum;             /* share of blocks that buy */
    double edge;                 /* 2 P(a jump follows regime * flow) - 1 */
} oc_market_rates;

typedef struct oc_market_state {
    int regime, flow;            /* +1 or -1 */
    int64_t centre_ticks;
} oc_market_state;

oc_market_rates oc_market_rates_standard(double signal);

/* The exact oracle. Answers are cached by state; a cached answer takes nanoseconds. */
typedef struct oc_oracle oc_oracle;
OC_MUST oc_oracle_open(oc_oracle **out, const oc_market_rates *rates, uint32_t horizon, double threshold);
void oc_oracle_close(oc_oracle *o);
/* buy, sell, hold; sums to 1 within rounding. The state must lie within the bounds above. */
const double *oc_oracle_ask(oc_oracle *o, const oc_market_state *state);

typedef struct oc_simulate_options {
    uint64_t events, seed;       /* the packet that reaches `events` is completed */
    uint32_t levels;             /* published a side */
    uint32_t horizon;            /* K of the label, rows */
    double signal;               /* Q, 0 to 1 */
    double threshold;            /* of the label, as a return */
} oc_simulate_options;

typedef struct oc_simulate_result {
    uint64_t events, rows;
    double best_accuracy;        /* mean over rows of the largest probability */
    double share[3];             /* mean probability of buy, sell, hold */
    int64_t first_ns, last_ns;
} oc_simulate_result;

/* "direction:K:THRESHOLD" -> K and THRESHOLD; OC_EUSAGE where it is anything else. */
OC_MUST oc_simulate_label_parse(const char *text, uint32_t *horizon, double *threshold);

/* Writes events_path, then truth_path (truth.h). The same options give the same bytes on every machine. */
OC_MUST oc_simulate(const char *events_path, const char *truth_path, const oc_simulate_options *options,
                    oc_simulate_result *result);

#endif
