/* simulate.c - the simulated traders and their book; simulate.h says what is planted, the oracle what it is worth.
 *
 * The constants. jump 1/10 and K = 12 rows: 0.9^12 = 28 % of the windows see no jump, and with the ones that cancel
 * "hold" comes to 36 %, a clear majority, so that a weak linear hint does not change decisions. Jumps of 3 to 5 ticks
 * against a threshold of 0.0003: at 5,000 ticks that is 1.5 ticks, and 2 ticks are the least move beyond it for every
 * centre from 3,500 to 6,500, so the classes mean the same at any price. A tick is 2 basis points: at signal 0.5 a
 * position that follows regime * flow earns 1/10 * 0.875 * 8 bp = 0.70 bp a packet and turns in jump / 2 + block * 2 *
 * 0.68 * 0.32 = 8 % of the packets, a turn costing two trades of 1 bp + half a spread of 1 bp: 0.32 bp. block 0.07: a
 * window of 60 rows misses its block in 0.93^60 = 1.3 % of the cases, one of 100 rows in 0.07 %. momentum 0.68: flow
 * alone is worth 2 * 0.68 - 1 = 0.36 of the edge, which lets a model begin to learn (with faster jumps or without this
 * hint, a small LSTM sits on the plateau for its first 200 steps), and gives logistic regression a third of the gap.
 *
 * A packet: a block may be dealt at the touch; the market may jump (part of the touch is taken, what stood in the way
 * is cancelled, makers quote around the new centre) or drift by a tick; makers may widen or narrow the spread on both
 * sides at once, so that the mid stays; small orders trade, deeper levels come and go; at last the makers put the
 * touch back into the proportions of the flow. Trades take resting lots at the touched price, always. */
#include "market/simulate.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"
#include "base/random.h"
#include "market/event_file.h"
#include "market/truth.h"

enum {
    EVENTS_MAX = 6 * OC_SIMULATE_LEVELS_MAX + 64,  /* of a packet: a move changes each level of a side twice at most */
    HEAVY_MIN = 24, HEAVY_MAX = 48,                /* lots at the touch on the side that flow favours; below a block */
    LIGHT_MIN = 3, LIGHT_MAX = 10,                 /* and on the other */
    SWEEP_MIN = 2, SWEEP_MAX = 8,                  /* lots of the trade with which the price moves */
    DEEP_MIN = 1, DEEP_MAX = 24                    /* behind the touch: little, so that any depth shows the flow */
};

static const int64_t start_ns = INT64_C(1704186000000000000);       /* 2024-01-02 09:00 UTC */
/* Between packets 4 ms + 144 ms * u^2, mean 52 ms: recursive features, whose clock is time, warm up in 2,200 rows. */
static const int64_t gap_min_ns = 4000000, gap_span_ns = 144000000;
static const int64_t wire_min_ns = 50000, wire_span_ns = 800000;    /* exchange to receiver: below the least gap */

typedef struct side {
    int64_t best, away;                            /* price of level 0; -1 for bids, +1 for asks: from level to level */
    uint8_t code;                                  /* oc_side */
    int64_t lots[OC_SIMULATE_LEVELS_MAX];
} side;

typedef struct simulation {
    oc_market_rates rates;
    oc_market_state state;
    side bid, ask;
    bool wide;                                     /* a spread of 3 ticks instead of 1 */
    uint32_t levels, key;
    uint64_t counter, sequence;                    /* of random numbers, of events */
    int64_t exchange_ns;
    size_t count;
    oc_event events[EVENTS_MAX];
} simulation;

oc_market_rates oc_market_rates_standard(double signal)
{
    double rest = 1 - signal;
    return (oc_market_rates){.jump = 0.1, .drift = 1.0 / 16, .block = 0.07, .momentum = 0.68,
                             .edge = 1 - rest * rest * rest};
}

static bool chance(simulation *s, double probability)
{
    return oc_random_uniform(s->key, s->counter++) < probability;
}

static int64_t between(simulation *s, int64_t low, int64_t high)
{
    return low + (int64_t)oc_random_below(s->key, s->counter++, (uint64_t)(high - low + 1));
}

static void emit(simulation *s, uint8_t kind, uint8_t side_code, size_t level, int64_t ticks, int64_t lots)
{
    s->events[s->count++] = (oc_event){.kind = kind, .side = side_code, .level = (uint8_t)level,
                                       .as.price = {ticks, lots}};
}

static int64_t price(const side *x, size_t level)
{
    return x->best + x->away * (int64_t)level;
}

static void level_set(simulation *s, side *x, size_t level, int64_t lots)
{
    if (x->lots[level] == lots) return;
    x->lots[level] = lots;
    emit(s, OC_EVENT_LEVEL, x->code, level, price(x, level), lots);
}

/* A trade at the touch of x, which rests; the other side is the aggressor. `left` stays. */
static void touch_trade(simulation *s, side *x, int64_t lots)
{
    emit(s, OC_EVENT_TRADE, x->code == OC_SIDE_BUY ? OC_SIDE_SELL : OC_SIDE_BUY, 0, x->best, lots);
    level_set(s, x, 0, x->lots[0] - lots);
}

static int64_t deep_lots(simulation *s, size_t level)
{
    int64_t middle = 6 + (int64_t)(level < 10 ? level : 10) / 2;
    return between(s, middle / 2, middle + middle / 2);
}

/* The first `ticks` levels go, as many new ones appear behind the last. What was traded away is not sent twice. */
static void side_retreat(simulation *s, side *x, int64_t ticks)
{
    size_t levels = s->levels, gone = (size_t)ticks < levels ? (size_t)ticks : levels;
    for (size_t i = 0; i < gone; i++) level_set(s, x, i, 0);
    memmove(x->lots, x->lots + gone, (levels - gone) * sizeof *x->lots);
    x->best += x->away * ticks;
    for (size_t i = levels - gone; i < levels; i++) {
        x->lots[i] = 0;
        level_set(s, x, i, deep_lots(s, i));
    }
}

/* The last `ticks` levels fall out of what is published, as many new ones appear before the first. */
static void side_advance(simulation *s, side *x, int64_t ticks)
{
    size_t levels = s->levels, fresh = (size_t)ticks < levels ? (size_t)ticks : levels;
    for (size_t i = levels - fresh; i < levels; i++) level_set(s, x, i, 0);
    memmove(x->lots + fresh, x->lots, (levels - fresh) * sizeof *x->lots);
    x->best -= x->away * ticks;
    for (size_t i = 0; i < fresh; i++) {
        x->lots[i] = 0;
        level_set(s, x, i, deep_lots(s, i));
    }
}

static void book_move(simulation *s, int64_t ticks)
{
    side *ahead = ticks > 0 ? &s->ask : &s->bid, *behind = ticks > 0 ? &s->bid : &s->ask;
    side_retreat(s, ahead, llabs(ticks));
    side_advance(s, behind, llabs(ticks));
    s->state.centre_ticks += ticks;
}

static int64_t mirrored(const simulation *s, int64_t ticks)
{
    int64_t end = s->state.centre_ticks + ticks;
    return end < OC_CENTRE_MIN || end > OC_CENTRE_MAX ? -ticks : ticks;
}

/* Takes what others do not cancel in time: little, so that blocks alone decide the sign of a volume over some rows. */
static void sweep(simulation *s, side *hit)
{
    int64_t lots = between(s, SWEEP_MIN, SWEEP_MAX);
    touch_trade(s, hit, lots < hit->lots[0] ? lots : hit->lots[0]);
}

/* An informed trader takes from the touch, the others step aside; then a new flow begins. */
static void jump(simulation *s)
{
    bool follows = chance(s, (1 + s->rates.edge) / 2);
    int64_t size = between(s, OC_JUMP_MIN, OC_JUMP_MAX);
    int64_t ticks = mirrored(s, (follows ? size : -size) * s->state.regime * s->state.flow);
    side *hit = ticks > 0 ? &s->ask : &s->bid;
    sweep(s, hit);
    book_move(s, ticks);
    s->state.flow = chance(s, 0.5) ? 1 : -1;
}

static void drift(simulation *s)
{
    int64_t ticks = mirrored(s, chance(s, 0.5) ? 1 : -1);
    side *hit = ticks > 0 ? &s->ask : &s->bid;
    if (chance(s, 0.5)) sweep(s, hit);             /* else all of the touch is cancelled */
    book_move(s, ticks);
}

/* A resting order as large as the block shows at the touch and is taken whole. Its side is the new regime. */
static void block(simulation *s)
{
    bool buys = chance(s, s->rates.momentum);
    side *resting = buys ? &s->ask : &s->bid;
    int64_t lots = between(s, OC_BLOCK_LOTS, OC_BLOCK_LOTS * 3 / 2);
    level_set(s, resting, 0, resting->lots[0] + lots);
    touch_trade(s, resting, lots);
    s->state.regime = buys ? 1 : -1;
}

static void spread_change(simulation *s)
{
    if (!chance(s, s->wide ? 0.25 : 1.0 / 32)) return;
    void (*const change)(simulation *, side *, int64_t) = s->wide ? side_advance : side_retreat;
    change(s, &s->bid, 1);
    change(s, &s->ask, 1);
    s->wide = !s->wide;
}

static void small_orders(simulation *s)
{
    side *const sides[2] = {&s->bid, &s->ask};
    if (chance(s, 0.5)) {
        side *x = sides[between(s, 0, 1)];
        int64_t lots = between(s, 1, 4);
        if (lots < x->lots[0]) touch_trade(s, x, lots);
    }
    for (int64_t i = between(s, 0, 2); i > 0; i--) {
        side *x = sides[between(s, 0, 1)];
        size_t level = (size_t)between(s, 0, (int64_t)s->levels - 1);
        int64_t lots = x->lots[level] + between(s, -4, 4);
        level_set(s, x, level, lots < DEEP_MIN ? DEEP_MIN : lots > DEEP_MAX ? DEEP_MAX : lots);
    }
}

/* The makers' last word: the touch shows the flow, and nothing but the flow decides which side is the larger. */
static void touch_restore(simulation *s)
{
    side *heavy = s->state.flow > 0 ? &s->bid : &s->ask, *light = s->state.flow > 0 ? &s->ask : &s->bid;
    if (heavy->lots[0] < HEAVY_MIN || heavy->lots[0] > HEAVY_MAX)
        level_set(s, heavy, 0, between(s, HEAVY_MIN, HEAVY_MAX));
    if (light->lots[0] < LIGHT_MIN || light->lots[0] > LIGHT_MAX)
        level_set(s, light, 0, between(s, LIGHT_MIN, LIGHT_MAX));
}

/* One time for all events of the packet; the counter alone tells them apart. */
static void packet_stamp(simulation *s)
{
    double u = oc_random_uniform(s->key, s->counter++);
    s->exchange_ns += gap_min_ns + (int64_t)(u * u * (double)gap_span_ns);
    int64_t receive_ns = s->exchange_ns + wire_min_ns + between(s, 0, wire_span_ns - 1);
    for (size_t i = 0; i < s->count; i++) {
        s->events[i].exchange_ns = s->exchange_ns;
        s->events[i].receive_ns = receive_ns;
        s->events[i].sequence = ++s->sequence;
    }
    s->events[s->count - 1].flags = OC_EVENT_LAST;
}

static void packet_first(simulation *s)
{
    side *const sides[2] = {&s->bid, &s->ask};
    s->count = 0;
    for (size_t i = 0; i < s->levels; i++) {
        for (size_t x = 0; x < 2; x++) sides[x]->lots[i] = deep_lots(s, i);
    }
    touch_restore(s);
    s->count = 0;                                  /* the snapshot says it all */
    for (size_t x = 0; x < 2; x++) {
        for (size_t i = 0; i < s->levels; i++)
            emit(s, OC_EVENT_SNAPSHOT, sides[x]->code, i, price(sides[x], i), sides[x]->lots[i]);
    }
    packet_stamp(s);
}

static void packet_next(simulation *s)
{
    s->count = 0;
    bool jumps = chance(s, s->rates.jump), drifts = !jumps && chance(s, s->rates.drift);
    bool deals = chance(s, s->rates.block);
    if (jumps) jump(s);                            /* by the regime and flow that were published before this packet */
    if (drifts) drift(s);
    if (deals) block(s);
    spread_change(s);
    small_orders(s);
    touch_restore(s);
    if (s->count == 0) level_set(s, &s->bid, s->levels - 1, s->bid.lots[s->levels - 1] + 1);       /* never empty */
    packet_stamp(s);
}

static void simulation_start(simulation *s, const oc_simulate_options *options)
{
    s->rates = oc_market_rates_standard(options->signal);
    s->levels = options->levels;
    s->key = oc_random_key(options->seed, OC_RANDOM_MARKET, 0, 0);
    s->exchange_ns = start_ns;
    s->state = (oc_market_state){.regime = 1, .flow = chance(s, 0.5) ? 1 : -1, .centre_ticks = OC_CENTRE_START};
    s->bid = (side){.best = OC_CENTRE_START, .away = -1, .code = OC_SIDE_BUY};
    s->ask = (side){.best = OC_CENTRE_START + 1, .away = 1, .code = OC_SIDE_SELL};
}

oc_status oc_simulate_label_parse(const char *text, uint32_t *horizon, double *threshold)
{
    static const char kind[] = "direction:";
    char *end = NULL;
    if (strncmp(text, kind, sizeof kind - 1) == 0 && text[sizeof kind - 1] >= '0' && text[sizeof kind - 1] <= '9') {
        unsigned long rows = strtoul(text + sizeof kind - 1, &end, 10);
        if (rows >= 1 && rows <= OC_SIMULATE_HORIZON_MAX && *end == ':' && end[1] >= '0' && end[1] <= '9') {
            *horizon = (uint32_t)rows;
            *threshold = strtod(end + 1, &end);
            if (*end == '\0' && *threshold >= 0 && *threshold < 1) return OC_OK;
        }
    }
    return OC_FAIL(OC_EUSAGE, "label \"%s\" is not direction:K:THRESHOLD with K from 1 to %d rows and THRESHOLD, a "
                   "return, from 0 to below 1, as direction:12:0.0003", text, OC_SIMULATE_HORIZON_MAX);
}

static oc_status options_check(const oc_simulate_options *o)
{
    if (o->levels < 1 || o->levels > OC_SIMULATE_LEVELS_MAX)
        return OC_FAIL(OC_ELIMIT, "%u levels, not 1 to %d", o->levels, OC_SIMULATE_LEVELS_MAX);
    if (!(o->signal >= 0 && o->signal <= 1)) return OC_FAIL(OC_ELIMIT, "a signal of %g, not in [0, 1]", o->signal);
    if (o->events < 1) return OC_FAIL(OC_ELIMIT, "0 events: a market has at least its snapshot");
    return OC_OK;
}

static oc_status packet_write(simulation *s, oc_oracle *oracle, oc_event_writer *events, oc_truth_writer *truth,
                              oc_simulate_result *result)
{
    const double *p = oc_oracle_ask(oracle, &s->state);
    oc_truth_row row = {s->events[0].receive_ns, {p[0], p[1], p[2]}};
    double best = p[0] > p[1] ? p[0] : p[1];
    if (result->rows == 0) result->first_ns = row.receive_ns;
    result->last_ns = row.receive_ns;
    result->best_accuracy += best > p[2] ? best : p[2];
    for (size_t i = 0; i < 3; i++) result->share[i] += p[i];
    result->events += s->count;
    result->rows++;
    OC_TRY(oc_event_writer_add(events, s->events, s->count));
    OC_TRY(oc_truth_writer_add(truth, &row));
    return OC_OK;
}

static oc_status packets_write(simulation *s, oc_oracle *oracle, oc_event_writer *events, oc_truth_writer *truth,
                               uint64_t wanted, oc_simulate_result *result)
{
    oc_progress progress;
    oc_progress_start(&progress, "simulate", "events", wanted);
    *result = (oc_simulate_result){0};
    packet_first(s);
    OC_TRY(packet_write(s, oracle, events, truth, result));
    while (result->events < wanted) {
        packet_next(s);
        OC_TRY(packet_write(s, oracle, events, truth, result));
        if (result->rows % 4096 == 0) oc_progress_update(&progress, result->events);
    }
    oc_progress_finish(&progress);
    result->best_accuracy /= (double)result->rows;
    for (size_t i = 0; i < 3; i++) result->share[i] /= (double)result->rows;
    return OC_OK;
}

/* Events first: the truth names them by their content hash, which the finished file knows. Closes both. */
static oc_status files_commit(oc_event_writer *events, oc_truth_writer *truth, const char *events_path,
                              const oc_simulate_options *options, double best_accuracy)
{
    oc_truth_info about = {.horizon = options->horizon, .seed = options->seed, .signal = options->signal,
                           .threshold = options->threshold, .best_accuracy = best_accuracy};
    oc_event_reader *reader = NULL;
    oc_status status = oc_event_writer_commit(events);
    if (status == OC_OK) status = oc_event_reader_open(&reader, events_path);
    if (status != OC_OK) {
        oc_truth_writer_abort(truth);
        return status;
    }
    about.events = oc_event_reader_info(reader)->content;
    oc_event_reader_close(reader);
    snprintf(about.label, sizeof about.label, "direction:%u:%.17g", options->horizon, options->threshold);
    return oc_truth_writer_commit(truth, &about);
}

oc_status oc_simulate(const char *events_path, const char *truth_path, const oc_simulate_options *options,
                      oc_simulate_result *result)
{
    static const oc_instrument instrument = {"SIM", {1, -2, 0}, {1, 0, 0}, {1, -2, 0}};
    simulation *s = NULL;
    oc_oracle *oracle = NULL;
    oc_event_writer *events = NULL;
    oc_truth_writer *truth = NULL;
    char origin[160];
    oc_status status;
    OC_TRY(options_check(options));
    snprintf(origin, sizeof origin, "simulate seed %llu signal %.17g levels %u", (unsigned long long)options->seed,
             options->signal, options->levels);
    OC_TRY_GOTO(status, done, oc_memory_new(&s, sizeof *s, "simulation"));
    simulation_start(s, options);
    OC_TRY_GOTO(status, done, oc_oracle_open(&oracle, &s->rates, options->horizon, options->threshold));
    OC_TRY_GOTO(status, done, oc_event_writer_open(&events, events_path, &instrument, 1, origin));
    OC_TRY_GOTO(status, done, oc_truth_writer_open(&truth, truth_path));
    OC_TRY_GOTO(status, done, packets_write(s, oracle, events, truth, options->events, result));
    status = files_commit(events, truth, events_path, options, result->best_accuracy);
    events = NULL;
    truth = NULL;
done:
    oc_truth_writer_abort(truth);
    oc_event_writer_abort(events);
    oc_oracle_close(oracle);
    oc_memory_free(s);
    return status;
}
