/* test_share.c - venue and features with one book and levels by the packet, against the two with a book each and one
 * event at a time: random streams of two instruments with what parts the books strewn in (prices and sizes beyond the
 * venue's bounds, bars, snapshots that a trade or a status ends, quotes), random orders. Rows, books, answers and
 * accounts must be the same. Would catch: an order that meets another queue, a book that is read behind the parting, an
 * event applied twice or not at all. Proven by two faults: a reader that stays when the venue parts, a changed size. */
#include "tests/market/feature_stream.h"
#include "tests/trade/trade_case.h"

#include "market/features.h"
#include "trade/venues/simulated.h"

enum { EVENTS = 4000, RUN_MAX = 64 };
typedef enum fault { FAULT_NONE, FAULT_STAYS, FAULT_SIZE } fault;

typedef struct side {
    oc_simulated *venue;
    oc_venue line;
    oc_features *features;
    uint32_t parted;
    bool stays;
} side;

typedef struct world {
    side plain, shared;
    uint32_t key;
    uint64_t counter, next_id, rows, answers, runs;
    int64_t now_ns;
    bool odd;
} world;

static const char *const names[] = {"group:book", "return:1"};

static int64_t draw(world *w, uint64_t bound)
{
    return (int64_t)oc_random_below(w->key, w->counter++, bound);
}

static void part(void *context, uint32_t market)
{
    side *s = context;
    s->parted |= 1u << market;
    if (!s->stays) oc_features_share_book(s->features, market, NULL);
}

static void side_open(side *s, const oc_simulated_config *config, bool shared)
{
    const oc_feature_spec spec = {.features = names, .feature_count = 2, .sample = "packet"};
    must(oc_features_open(&s->features, &spec, stream_universe, 2));
    must(oc_simulated_open(&s->venue, config));
    s->line = oc_simulated_venue(s->venue);
    for (uint32_t i = 0; shared && i < 2; i++)
        oc_features_share_book(s->features, i, oc_simulated_share(s->venue, i, (oc_simulated_reader){s, part}));
}

static void side_close(side *s)
{
    oc_simulated_close(s->venue);
    oc_features_close(s->features);
}

static void oddity(world *w, oc_event *e)
{
    bool level = e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_SNAPSHOT;
    switch (draw(w, 9)) {
    case 0:
        if (level) e->as.price.ticks = -e->as.price.ticks;
        break;
    case 1:
        if (level) e->as.price.lots = OC_TRADE_LOTS_MAX + 1;
        break;
    case 2:
        if (level) e->as.price.ticks = OC_TRADE_PRICE_MAX + draw(w, 2);
        break;
    case 3:
        e->kind = OC_EVENT_STATUS;
        memset(&e->as, 0, sizeof e->as);
        break;
    case 4:
        if (level) e->kind = OC_EVENT_TRADE;
        break;
    case 5:
        if (level) e->kind = OC_EVENT_ORDER_ADD;
        break;
    case 6:
        if (!level) break;
        e->kind = OC_EVENT_BAR;
        e->as.bar.open_ticks = e->as.bar.high_ticks = e->as.bar.low_ticks = e->as.bar.close_ticks = e->as.price.ticks;
        break;
    default:
        if (!level) break;
        e->kind = OC_EVENT_QUOTE;
        int64_t bid = e->as.price.ticks;
        e->as.quote.bid_ticks = bid;
        e->as.quote.ask_ticks = bid + 1;
        e->as.quote.bid_lots = e->as.quote.ask_lots = 1 + draw(w, 9);
    }
}

static bool row_same(const oc_feature_row *a, const oc_feature_row *b, size_t width)
{
    if (!a || !b) return a == b;
    return a->time_ns == b->time_ns && a->run_length == b->run_length && a->mid == b->mid && a->spread == b->spread &&
           memcmp(a->x, b->x, width * sizeof *a->x) == 0 && memcmp(a->mask, b->mask, (width + 63) / 64 * 8) == 0;
}

static bool side_same(const oc_book_side *a, const oc_book_side *b)
{
    return a->count == b->count && a->depth == b->depth && memcmp(a->level, b->level, a->count * sizeof *a->level) == 0;
}

static bool books_same(const world *w, uint32_t i)
{
    const oc_book *a = oc_features_book(w->plain.features, i), *b = oc_features_book(w->shared.features, i);
    return a->stale == b->stale && a->snapshot_open == b->snapshot_open && side_same(&a->bid, &b->bid) &&
           side_same(&a->ask, &b->ask);
}

static bool venues_same(world *w, int64_t until_ns)
{
    oc_venue_message a, b;
    int64_t a_ns, b_ns;
    for (;;) {
        const side *p = &w->plain, *s = &w->shared;
        bool more = p->line.poll(p->line.context, until_ns, &a, &a_ns);
        if (s->line.poll(s->line.context, until_ns, &b, &b_ns) != more) return false;
        if (!more) return true;
        if (a_ns != b_ns || memcmp(&a, &b, sizeof a) != 0) return false;
        w->answers++;
    }
}

static void order_send(world *w, int64_t middle, uint32_t instrument)
{
    oc_action a = {.kind = draw(w, 4) && w->next_id > 1 ? OC_ACTION_NEW : OC_ACTION_CANCEL, .instrument = instrument};
    a.order_id = a.kind == OC_ACTION_NEW ? w->next_id++ : (uint64_t)draw(w, w->next_id + 1);
    a.side = (uint8_t)(OC_SIDE_BUY + draw(w, 2));
    a.type = (uint8_t)(OC_ORDER_MARKET + draw(w, OC_ORDER_TYPE_END - OC_ORDER_MARKET));
    a.price_ticks = middle + draw(w, 15) - 7;
    a.lots = 1 + draw(w, 60);
    if (w->next_id == 1) w->next_id = 2;
    must(w->plain.line.send(w->plain.line.context, &a, w->now_ns));
    must(w->shared.line.send(w->shared.line.context, &a, w->now_ns));
}

/* The events of one time, as the loop gives them. */
static bool run_give(world *w, const oc_event *e, size_t count, fault planted)
{
    const oc_feature_row *a = NULL, *b = NULL;
    const side *p = &w->plain, *s = &w->shared;
    for (size_t i = 0; i < count; i++) {
        p->line.market(p->line.context, &e[i]);
        must(oc_features_apply(p->features, &e[i], &a));
    }
    oc_event changed = *e;
    if (planted == FAULT_SIZE && count == 1 && e->kind == OC_EVENT_LEVEL) changed.as.price.lots++;
    if (count > 1) {
        s->line.levels(s->line.context, e, count);
        must(oc_features_levels(s->features, e, count));
        w->runs++;
    } else {
        s->line.market(s->line.context, &changed);
        must(oc_features_apply(s->features, &changed, &b));
    }
    w->rows += a != NULL;
    return row_same(a, b, oc_features_width(p->features)) && books_same(w, e->instrument);
}

static bool inside(const oc_event *e, const oc_event *first)
{
    return e->kind == OC_EVENT_LEVEL && !e->flags && e->instrument == first->instrument &&
           e->receive_ns == first->receive_ns;
}

static bool stream_same(world *w, uint64_t seed, fault planted)
{
    static oc_event event[EVENTS + 1];
    feature_stream stream;
    stream_init(&stream, seed, false, false);
    for (int i = 0; i < EVENTS; i++) {
        event[i] = stream_next(&stream);
        if (w->odd && i > EVENTS / 4 && draw(w, 200) == 0) oddity(w, &event[i]);
    }
    event[EVENTS] = (oc_event){0};
    for (size_t i = 0, count; i < EVENTS; i += count) {
        for (count = 0; inside(&event[i + count], &event[i]);) count++;
        if (count == 0) count = 1;
        w->now_ns = event[i].receive_ns;
        if (!run_give(w, &event[i], count, planted)) return false;
        if (draw(w, 3) == 0) order_send(w, stream.mid[event[i].instrument], event[i].instrument);
        if (draw(w, 4) == 0 && !venues_same(w, w->now_ns - 1)) return false;
    }
    if (!venues_same(w, INT64_MAX)) return false;
    for (uint32_t i = 0; i < 2; i++) {
        oc_simulated_account a = oc_simulated_account_of(w->plain.venue, i),
                             b = oc_simulated_account_of(w->shared.venue, i);
        if (memcmp(&a, &b, sizeof a) != 0) return false;
    }
    return oc_simulated_ignored(w->plain.venue) == oc_simulated_ignored(w->shared.venue);
}

static bool world_same(uint64_t seed, bool odd, fault planted, world *w)
{
    *w = (world){.key = oc_random_key(seed, OC_RANDOM_TEST, 9, 0), .next_id = 1, .odd = odd};
    const oc_simulated_market market[2] = {{.scale = {1, 1}, .order_tick_ticks = 1, .bar_lots = 5},
                                           {.scale = {1, 1}, .order_tick_ticks = 1, .bar_lots = 5}};
    const oc_simulated_config config = {.seed = seed,
                                        .to_ns = draw(w, 3) * 1000000,
                                        .to_jitter_ns = draw(w, 1000),
                                        .back_ns = draw(w, 3) * 1000000,
                                        .partial = draw(w, 2) == 1,
                                        .market = market,
                                        .markets = 2};
    side_open(&w->plain, &config, false);
    side_open(&w->shared, &config, true);
    w->shared.stays = planted == FAULT_STAYS;
    bool same = stream_same(w, seed, planted);
    side_close(&w->plain);
    side_close(&w->shared);
    return same;
}

static void one_book_or_two(void **state)
{
    (void)state;
    static world w;
    uint64_t seed = getenv("OUTCRY_SEED") ? strtoull(getenv("OUTCRY_SEED"), NULL, 10) : 1;
    uint64_t rows = 0, answers = 0, runs = 0, parted = 0, whole = 0;
    for (uint64_t i = 0; i < (counts_full() ? 2000u : 40u); i++) {
        if (!world_same(seed + i, i % 2, FAULT_NONE, &w))
            fail_msg("OUTCRY_SEED=%llu differs", (unsigned long long)(seed + i));
        rows += w.rows;
        answers += w.answers;
        runs += w.runs;
        parted += w.shared.parted != 0;
        whole += w.shared.parted == 0;
    }
    printf("%llu rows, %llu answers, %llu runs of levels, %llu streams parted\n", (unsigned long long)rows,
           (unsigned long long)answers, (unsigned long long)runs, (unsigned long long)parted);
    assert_true(rows > 1000 && answers > 1000 && runs > 1000 && parted > 3 && whole > 3);
}

static void planted_faults_are_found(void **state)
{
    (void)state;
    static world w;
    bool stays = false, size = false;
    for (uint64_t i = 0; i < 20; i++) {
        stays |= !world_same(i + 1, true, FAULT_STAYS, &w);
        size |= !world_same(i + 1, false, FAULT_SIZE, &w);
    }
    assert_true(stays);
    assert_true(size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_book_or_two),
        cmocka_unit_test(planted_faults_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
