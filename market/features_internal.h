/* features_internal.h - what the files of the feature engine share. Not for users of the engine, except tests, which
 * read raw f64 values and plant faults through it.
 *
 * Idea: a row is made in three steps. (1) The stream of its instrument closes its interval into one ring row of
 * integers (prices in half ticks, lots, fixed-point log returns). (2) Nodes, the shared computations (a window sum, an
 * extreme, a recursive average), advance by this row; columns that ask for the same node share it. (3) Each column
 * evaluates its formula from nodes and ring. All state is one flat block without pointers: save and load are copies.
 *
 * Bounds (they make every integer sum safe): |price| < 2^40 ticks, so < 2^41 half ticks; sizes saturate at 2^40 lots;
 * a log return saturates at 4 (2^42 at its scale); windows have at most 2048 rows (2^11). Then a sum is below 2^53, a
 * sum of squares or products below 2^95, and rows * sum of squares below 2^107: inside int64 and int128. */
#ifndef OC_MARKET_FEATURES_INTERNAL_H
#define OC_MARKET_FEATURES_INTERNAL_H

#include <stdbool.h>
#include "market/book.h"
#include "market/features.h"

__extension__ typedef __int128 oc_i128;

enum {
    OC_FEATURES_VERSION = 2,                 /* raise with any change of a value: part of the schema hash */
    OC_FEATURE_PARAMETERS = 4,
    OC_FEATURE_NODES = 6,                    /* a column's */
    OC_FEATURES_NODES_MAX = 4 * OC_FEATURES_MAX,
    OC_FEATURE_WINDOW_MAX = 2048,
    OC_VALUE_BITS = 40,                      /* of the low part of a traded value */
    OC_DEPTH_LEVELS = 10,                    /* of OC_SERIES_DEPTH, a side */
    OC_OTHER_AGE = 4                         /* rows after which the other instrument's price is stale */
};
#define OC_VALUE_BOUND 1e30                  /* a value beyond is missing: f32 stays finite */
#define OC_PRICE_BOUND ((int64_t)1 << 40)    /* ticks */
#define OC_LOTS_BOUND ((int64_t)1 << 40)
#define OC_RETURN_BOUND ((int64_t)1 << 42)
#define OC_RETURN_SCALE 0x1p40

/* The integers of one row. Prices in half ticks. Rows of packets and trades: open is the mid after the first packet
 * since the previous row, high and low its extremes since then, close the mid now; `packet` sampling makes all four
 * equal. Rows of bars: the bar. */
typedef enum oc_series {
    OC_SERIES_OPEN,
    OC_SERIES_HIGH,
    OC_SERIES_LOW,
    OC_SERIES_CLOSE,
    OC_SERIES_CHANGE,   /* close - previous close */
    OC_SERIES_MOVE,     /* |change| */
    OC_SERIES_SIGN,     /* -1, 0, 1 of change */
    OC_SERIES_TYPICAL,  /* high + low + close */
    OC_SERIES_RANGE,    /* true range */
    OC_SERIES_PRESSURE, /* close - true low */
    OC_SERIES_LOCATION, /* (2 close - high - low) / (high - low) at 2^16; 0 without range */
    OC_SERIES_VOLUME,   /* lots of the bar, or traded since the previous row */
    OC_SERIES_SIGNED,   /* traded, buys - sells; bars: volume with the sign of change */
    OC_SERIES_OBV,      /* volume with the sign of change */
    OC_SERIES_TRADES,   /* trades since the previous row */
    OC_SERIES_VALUE_HIGH,
    OC_SERIES_VALUE_LOW, /* sum of 3 price * lots = high * 2^40 + low; bars: typical * volume */
    OC_SERIES_RETURN,
    OC_SERIES_RETURN_ABS,
    OC_SERIES_RETURN_DOWN, /* fixed point, 2^40 */
    OC_SERIES_LOG_RANGE,   /* log(high / low), fixed point */
    OC_SERIES_OTHER,
    OC_SERIES_EXCESS, /* the other instrument's return since the previous row; own - other */
    OC_SERIES_SPREAD,
    OC_SERIES_OFI,
    OC_SERIES_DEPTH,
    OC_SERIES_BID_LOTS,
    OC_SERIES_ASK_LOTS,
    OC_SERIES_TIME,
    OC_SERIES_COUNT = 32
} oc_series;

typedef struct oc_ring_row { int64_t s[OC_SERIES_COUNT]; } oc_ring_row;

typedef struct oc_best { int64_t bid, bid_lots, ask, ask_lots; } oc_best;

/* One instrument's state. */
typedef struct oc_stream {
    oc_best best;                            /* after the latest packet; valid where `quoted` */
    oc_i128 value;                           /* sum of 3 * trade price (half ticks) * lots since the previous row */
    int64_t open, high, low;                 /* mids since the previous row; valid where `opened` */
    int64_t ofi, signed_lots, traded_lots, trades;
    int64_t price, trade_price;              /* half ticks; price 0: none yet */
    int64_t other_price;                     /* the other instrument's at the previous row; 0: none */
    uint64_t rows;                           /* since the last restart of the windows */
    uint64_t updates, other_updates;         /* of price; of the other's price as of the previous row */
    uint32_t packets, run_length;            /* packets or trades since the previous row */
    uint32_t other_age, other_run;           /* rows since the other's update; rows in a row with its return */
    uint8_t quoted, opened, known_start, pending, reserved[12];     /* pending: an event of a packet still open */
} oc_stream;

#define OC_STREAM_BYTES ((sizeof(oc_stream) + 63) / 64 * 64)

typedef struct oc_node oc_node;
typedef struct oc_view oc_view;
typedef struct oc_feature_column oc_feature_column;
typedef struct oc_feature_plan oc_feature_plan;
typedef struct oc_feature_def oc_feature_def;

typedef void (*oc_node_update)(const oc_node *n, void *state, const oc_view *v);

struct oc_node {
    oc_node_update update;
    uint32_t window, lag;                    /* rows */
    oc_series a, b;
    uint32_t p[3];                           /* parameters of a recursive average */
    uint32_t samples;                        /* declared minimum of samples of a recursive average */
    uint32_t rows;                           /* rows it needs since the windows' restart, this one included */
    int64_t period_ns;
    double k[4];
    size_t offset, bytes;
};

/* What nodes and columns see of the row being made. */
struct oc_view {
    const oc_features *engine;
    oc_stream *stream;
    unsigned char *nodes;                    /* of this instrument */
    const oc_ring_row *ring;
    const oc_ring_row *now, *before;         /* before: zeros where now is the first since the restart */
    const oc_book *book;                     /* NULL with bars */
    uint64_t rows;                           /* since restart, this one included */
    uint32_t mask, instrument;
    int64_t time_ns;
    bool known_start, two_sided;
};

static inline const oc_ring_row *oc_row_ago(const oc_view *v, uint32_t rows)
{
    return &v->ring[(uint32_t)(v->rows - rows) & v->mask];
}

struct oc_feature_column {
    bool (*evaluate)(const oc_feature_column *c, const oc_view *v, double *value);
    uint32_t rows;                           /* missing until so many rows since the restart */
    uint32_t p[OC_FEATURE_PARAMETERS];
    const oc_node *node[OC_FEATURE_NODES];
    const oc_feature_def *def;
    oc_feature_info *info;                   /* apart: what is read per row lies close together */
};

typedef bool (*oc_feature_evaluate)(const oc_feature_column *c, const oc_view *v, double *value);

/* What the row of a feature needs from sampling and universe: "all" and "group:…" leave out what cannot be there. */
typedef enum { OC_NEEDS_NOTHING, OC_NEEDS_BOOK, OC_NEEDS_TWO } oc_feature_needs;

/* One row of a group's table: the whole definition of a feature. */
struct oc_feature_def {
    const char *name;
    uint32_t parameter_count, parameter[OC_FEATURE_PARAMETERS], least[OC_FEATURE_PARAMETERS];
    oc_missing_rule missing;
    float imputed;
    oc_feature_needs needs;
    oc_status (*init)(oc_feature_plan *plan, oc_feature_column *c);      /* asks for nodes, declares the history */
    oc_feature_evaluate evaluate;                                        /* false: missing */
    const char *source, *help;
};

typedef struct oc_feature_table {
    oc_feature_group group;
    const char *name;
    const oc_feature_def *rows;
    size_t count;
} oc_feature_table;

extern const oc_feature_table oc_group_price, oc_group_average, oc_group_momentum, oc_group_volatility,
    oc_group_pattern, oc_group_book, oc_group_flow, oc_group_statistics, oc_group_time,
    oc_group_cross;

/* What open builds up. */
struct oc_feature_plan {
    oc_node nodes[OC_FEATURES_NODES_MAX];
    uint32_t node_count;
    uint32_t lookback;                       /* rows of the ring that are read */
    uint32_t series;                         /* bit s: series s is read */
    int64_t row_ns;
};

typedef enum { OC_SAMPLE_PACKET, OC_SAMPLE_BAR, OC_SAMPLE_TRADE } oc_sample;

struct oc_features {
    oc_feature_plan plan;
    oc_feature_column *columns;
    oc_feature_info *infos;
    size_t width, instruments, instruments_max, stream_bytes, state_bytes; /* max: that there is memory for */
    size_t nodes_offset, windows_bytes, book_offset;     /* in a stream: ring and nodes lie together; 0: no book */
    oc_instrument *universe;
    double *half_tick;                       /* price units */
    oc_sample sample;
    uint32_t every, ring_mask;
    const oc_book *shared[OC_INSTRUMENTS_MAX];           /* another's, NULL: the one in the stream */
    double bar_spread;
    oc_hash schema;
    oc_hasher *hasher;
    unsigned char *state;                    /* instruments * stream_bytes */
    double *value;                           /* raw f64 of the latest row */
    float *x;
    uint64_t *mask;
    oc_feature_row row;
};

/* Nodes: asked for in a feature's init; the same request gives the same node. Each also raises the column's declared
 * history and the number of rows it waits for. */
OC_MUST oc_plan_sum(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window);
OC_MUST oc_plan_squares(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window);
/* sum, sum of squares and the root of their scatter */
OC_MUST oc_plan_moments(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window);
/* sum, and the sum of the positive deviations from the mean */
OC_MUST oc_plan_deviation(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series,
                          uint32_t window);
/* sum over the window of a[t] * b[t - lag] */
OC_MUST oc_plan_product(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series a, oc_series b,
                        uint32_t lag, uint32_t window);
/* sum over the window of i * x, i = 0 for the oldest; the plain sum beside it */
OC_MUST oc_plan_ramp(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window);
OC_MUST oc_plan_highest(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window);
OC_MUST oc_plan_lowest(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window);
OC_MUST oc_plan_stochastic(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, const uint32_t p[3]);
/* Recursive averages on two overlapped accumulators. */
OC_MUST oc_plan_ema(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n);
OC_MUST oc_plan_macd(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, const uint32_t p[3]);
OC_MUST oc_plan_rsi(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n);
OC_MUST oc_plan_atr(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n);
OC_MUST oc_plan_adx(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n);
/* The feature reads `rows` rows, the present one included, straight from the ring. */
void oc_plan_rows(oc_feature_plan *plan, oc_feature_column *c, uint32_t rows);
void oc_plan_series(oc_feature_plan *plan, oc_series series);            /* the series is read: compute it */
/* A request that `node` describes, in features_plan.c. */
OC_MUST oc_plan_node(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, const oc_node *node);

static inline const void *oc_node_state(const oc_view *v, const oc_feature_column *c, uint32_t slot)
{
    return v->nodes + c->node[slot]->offset;
}

typedef struct oc_extreme { int64_t value; uint32_t age, reserved; } oc_extreme;       /* age: rows since, 0 now */
typedef struct oc_ramp { oc_i128 ramp; int64_t sum, reserved; } oc_ramp;
/* scatter = window * squares - sum^2, exact before it becomes a double; root: its square root, window * deviation */
typedef struct oc_moments { oc_i128 squares; int64_t sum, reserved; double scatter, root; } oc_moments;
/* sum; sum of the positive deviations; the window follows in memory, twice */
typedef struct oc_deviation { int64_t sum; double above; uint64_t at, reserved; } oc_deviation;
typedef struct oc_stochastic { double fast[64], slow_k[64], k, d; } oc_stochastic;

static inline int64_t oc_sum(const oc_view *v, const oc_feature_column *c, uint32_t slot)
{
    return *(const int64_t *)oc_node_state(v, c, slot);
}

double oc_wide(oc_i128 x);                   /* nearest enough: one rounding a word, the same on every machine */

static inline double oc_wide_sum(const oc_view *v, const oc_feature_column *c, uint32_t slot)
{
    return oc_wide(*(const oc_i128 *)oc_node_state(v, c, slot));
}

/* A recursive average: features_recursive.c. */
enum { OC_LANE_PAIRS = 4 };

typedef struct oc_lanes {
    int64_t next_ns;                         /* first boundary that is not yet passed; valid where `seen` */
    uint32_t count[2];                       /* samples of the older and the younger; 0: there is none */
    uint32_t seen, live;                     /* live: a beginning was known, so lane 1 runs */
    uint32_t doubt, reserved;                /* boundaries to come until the older lane is surely the right one */
    double x[OC_LANE_PAIRS][2];
} oc_lanes;

/* Results of a recursive average, at most four numbers; false until the accumulator has its samples. */
static inline bool oc_recursive(const oc_view *v, const oc_feature_column *c, uint32_t slot, double out[OC_LANE_PAIRS])
{
    const oc_lanes *l = (const oc_lanes *)oc_node_state(v, c, slot);
    int lane = l->count[0] == 0;
    if (l->doubt || !(l->count[lane] >= c->node[slot]->samples)) return false;
    for (int i = 0; i < OC_LANE_PAIRS; i++) out[i] = l->x[i][lane];
    return true;
}

/* Engine internals that two files need. */
oc_stream *oc_features_stream(const oc_features *e, size_t instrument);
void oc_stream_series(uint32_t used, oc_ring_row *now, const oc_ring_row *before);   /* derived series of a row */
double oc_features_value(const oc_features *e, size_t column);           /* raw f64 of the latest row; tests */

#endif
