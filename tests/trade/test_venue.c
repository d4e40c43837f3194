/* test_venue.c - the simulated venue against a second, naive matching engine that was written from the words of
 * venues/simulated.h: unsorted lists, searched in full; and a table of small scenes with their answers by hand.
 * Would catch: a fill too early in the queue, at the wrong price or twice, a cancel that wins a lost race, liquidity
 * had twice, a fee rounded in our favour, an answer out of order, an account that does not add up. Random sequences:
 * 10,000 of 60 steps, with OUTCRY_FULL=1 1,000,000; seed by OUTCRY_SEED. The harness is proven by naive engines with a
 * planted fault each, which must differ. */
#include "trade/trade_case.h"

#include "base/random.h"
#include "trade/venues/simulated.h"

/* ---- the naive engine ---- */

typedef enum fault { FAULT_NONE, FAULT_QUEUE, FAULT_FEE, FAULT_TAKEN, FAULT_PRIORITY, FAULT_TIE, FAULT_END } fault;

enum { LEVELS = 512, ORDERS = 256, ANSWERS = 4096, FLYING = 256 };

typedef struct naive_level {
    int side;
    int64_t ticks, lots, taken;
} naive_level;
typedef struct naive_order {
    uint64_t id;
    int side;
    int64_t ticks, left, ahead;
} naive_order;
typedef struct naive_flight {
    int64_t at;
    oc_action a;
} naive_flight;

typedef struct naive_venue {
    oc_simulated_config c;
    oc_simulated_market m;
    fault fault;
    naive_level level[LEVELS];
    naive_order order[ORDERS];
    naive_flight flying[FLYING];
    oc_venue_message answer[ANSWERS];
    int64_t answer_at[ANSWERS], now, position, cash, fees;
    uint64_t id; /* the highest so far */
    int levels, orders, flights, answers;
    bool in_snapshot;
} naive_venue;

static void answer(naive_venue *n, oc_venue_message m)
{
    m.message_id = (uint64_t)n->answers + 1;
    n->answer_at[n->answers] = n->now + n->c.back_ns;
    n->answer[n->answers++] = m;
}

static naive_level *level_at(naive_venue *n, int side, int64_t ticks)
{
    for (int i = 0; i < n->levels; i++)
        if (n->level[i].side == side && n->level[i].ticks == ticks) return &n->level[i];
    return NULL;
}

/* The best price of a side that has something displayed; NULL: none. `after`: only worse ones than this. */
static naive_level *level_best(naive_venue *n, int side, const naive_level *after)
{
    naive_level *best = NULL;
    for (int i = 0; i < n->levels; i++) {
        naive_level *l = &n->level[i];
        int64_t sign = side == OC_SIDE_BUY ? 1 : -1;
        if (l->side != side || (after && sign * l->ticks >= sign * after->ticks)) continue;
        if (!best || sign * l->ticks > sign * best->ticks) best = l;
    }
    return best;
}

static bool good_for(int side, int64_t limit, int64_t ticks)
{
    return side == OC_SIDE_BUY ? ticks <= limit : ticks >= limit;
}

static void book_fill(naive_venue *n, uint64_t id, int side, int64_t ticks, int64_t lots, bool maker)
{
    /* the fee in long double is exact here: numbers are small */
    long double fee = (long double)ticks * (long double)lots * (long double)n->m.scale.numerator *
                      (long double)(maker ? n->m.maker_ppm : n->m.taker_ppm) /
                      ((long double)n->m.scale.denominator * 1e6L);
    int64_t whole = (int64_t)fee;
    if ((long double)whole < fee && n->fault != FAULT_FEE) whole++;
    n->position += side == OC_SIDE_BUY ? lots : -lots;
    n->cash += side == OC_SIDE_BUY ? -lots * ticks : lots * ticks;
    n->fees += whole;
    answer(n, (oc_venue_message){.order_id = id,
                                 .price_ticks = ticks,
                                 .lots = lots,
                                 .fee_micros = whole,
                                 .kind = OC_VENUE_FILL,
                                 .side = (uint8_t)side,
                                 .maker = maker});
}

static void order_drop(naive_venue *n, int at)
{
    for (int i = at; i + 1 < n->orders; i++) n->order[i] = n->order[i + 1];
    n->orders--;
}

static void order_part(naive_venue *n, int at, int64_t lots)
{
    book_fill(n, n->order[at].id, n->order[at].side, n->order[at].ticks, lots, true);
    n->order[at].left -= lots;
}

static void orders_sweep(naive_venue *n)
{
    for (int i = n->orders - 1; i >= 0; i--)
        if (n->order[i].left == 0) order_drop(n, i);
}

static void naive_new(naive_venue *n, const oc_action *a)
{
    int other = a->side == OC_SIDE_BUY ? OC_SIDE_SELL : OC_SIDE_BUY;
    oc_venue_message m = {.order_id = a->order_id, .price_ticks = a->price_ticks, .lots = a->lots, .side = a->side};
    naive_level *best = level_best(n, other, NULL);
    bool market = a->type == OC_ORDER_MARKET;
    bool cross = best && (market || good_for(a->side, a->price_ticks, best->ticks));
    bool known = a->order_id <= n->id;
    if (!known) n->id = a->order_id;
    bool priced = a->price_ticks >= 1 && a->price_ticks % n->m.order_tick_ticks == 0;
    if (a->lots < 1 || known || (market ? !best : !priced) || (a->type == OC_ORDER_POST && cross)) {
        m.kind = OC_VENUE_REJECT;
        answer(n, m);
        return;
    }
    m.kind = OC_VENUE_ACK;
    answer(n, m);
    int64_t left = a->lots;
    for (naive_level *l = best; cross && l && left > 0; l = level_best(n, other, l)) {
        if (!market && !good_for(a->side, a->price_ticks, l->ticks)) break;
        int64_t lots = l->lots - l->taken < left ? l->lots - l->taken : left;
        if (lots <= 0) continue;
        if (n->fault != FAULT_TAKEN) l->taken += lots;
        book_fill(n, a->order_id, a->side, l->ticks, lots, false);
        left -= lots;
    }
    if (left == 0) return;
    if (a->type == OC_ORDER_LIMIT || a->type == OC_ORDER_POST) {
        naive_level *own = level_at(n, a->side, a->price_ticks);
        int64_t ahead = own && n->fault != FAULT_QUEUE ? own->lots : 0;
        n->order[n->orders++] = (naive_order){a->order_id, a->side, a->price_ticks, left, ahead};
        return;
    }
    answer(n, (oc_venue_message){.order_id = a->order_id, .lots = left, .kind = OC_VENUE_CANCELLED, .side = a->side});
}

static void naive_cancel(naive_venue *n, const oc_action *a)
{
    for (int i = 0; i < n->orders; i++) {
        if (n->order[i].id != a->order_id) continue;
        answer(n, (oc_venue_message){.order_id = a->order_id,
                                     .lots = n->order[i].left,
                                     .kind = OC_VENUE_CANCELLED,
                                     .side = (uint8_t)n->order[i].side});
        order_drop(n, i);
        return;
    }
    answer(n, (oc_venue_message){.order_id = a->order_id, .kind = OC_VENUE_CANCEL_REJECT, .side = a->side});
}

/* Price-time priority by choosing, again and again, the first order not yet looked at. */
static void naive_trade(naive_venue *n, int side, int64_t ticks, int64_t lots)
{
    bool seen[ORDERS] = {false};
    int64_t pool = lots, own = 0;
    for (int k = 0; k < n->orders; k++) {
        int pick = -1;
        for (int i = 0; i < n->orders; i++) {
            if (seen[i] || n->order[i].side != side ||
                !good_for(side == OC_SIDE_BUY ? OC_SIDE_SELL : OC_SIDE_BUY, ticks, n->order[i].ticks))
                continue;
            bool ahead = pick < 0 || (side == OC_SIDE_BUY ? n->order[i].ticks > n->order[pick].ticks
                                                          : n->order[i].ticks < n->order[pick].ticks);
            if (n->fault == FAULT_PRIORITY) ahead = true;
            if (ahead) pick = i;
        }
        if (pick < 0) break;
        seen[pick] = true;
        naive_order *o = &n->order[pick];
        if (o->ticks != ticks) { /* the trade went through it */
            if (pool <= 0) continue;
            int64_t part = n->c.partial && pool < o->left ? pool : o->left;
            order_part(n, pick, part);
            if (n->c.partial) pool -= part;
            continue;
        }
        int64_t reach = pool - o->ahead - own;
        o->ahead = o->ahead > pool ? o->ahead - pool : 0;
        if (reach <= 0) continue;
        int64_t part = n->c.partial && reach < o->left ? reach : o->left;
        order_part(n, pick, part);
        if (n->c.partial) own += part;
    }
    orders_sweep(n);
}

static void naive_level_set(naive_venue *n, int side, int64_t ticks, int64_t lots)
{
    naive_level *l = level_at(n, side, ticks);
    if (l) *l = n->level[--n->levels];
    if (lots > 0) n->level[n->levels++] = (naive_level){side, ticks, lots, 0};
}

static void naive_packet_end(naive_venue *n, bool whole_book)
{
    for (int i = 0; i < n->orders && whole_book; i++) {
        naive_level *l = level_at(n, n->order[i].side, n->order[i].ticks);
        int64_t lots = l ? l->lots : 0;
        if (lots < n->order[i].ahead) n->order[i].ahead = lots;
    }
    naive_level *bid = level_best(n, OC_SIDE_BUY, NULL), *ask = level_best(n, OC_SIDE_SELL, NULL);
    if (bid && ask && bid->ticks >= ask->ticks) return;
    bool seen[ORDERS] = {false};
    for (int k = 0; k < 2 * n->orders; k++) { /* bids, then asks; the best price first, of equal ones the first */
        int side = k < n->orders ? OC_SIDE_BUY : OC_SIDE_SELL, pick = -1;
        for (int i = 0; i < n->orders; i++) {
            int64_t better = pick < 0 ? 1 : n->order[i].ticks - n->order[pick].ticks;
            if (seen[i] || n->order[i].side != side) continue;
            if (pick < 0 || (side == OC_SIDE_BUY ? better > 0 : better < 0)) pick = i;
        }
        if (pick < 0) continue;
        seen[pick] = true;
        naive_order *o = &n->order[pick];
        int other = o->side == OC_SIDE_BUY ? OC_SIDE_SELL : OC_SIDE_BUY;
        for (naive_level *l = level_best(n, other, NULL); l && o->left > 0; l = level_best(n, other, l)) {
            if (!good_for(o->side, o->ticks, l->ticks)) break;
            int64_t there = n->c.partial ? l->lots - l->taken : o->left, lots = there < o->left ? there : o->left;
            if (lots <= 0) continue;
            if (n->c.partial) l->taken += lots;
            order_part(n, pick, lots);
        }
    }
    orders_sweep(n);
}

static void naive_event(naive_venue *n, const oc_event *e)
{
    bool last = e->flags & OC_EVENT_LAST;
    if (e->kind == OC_EVENT_TRADE) {
        if (e->side != OC_SIDE_BUY) naive_trade(n, OC_SIDE_BUY, e->as.price.ticks, e->as.price.lots);
        if (e->side != OC_SIDE_SELL) naive_trade(n, OC_SIDE_SELL, e->as.price.ticks, e->as.price.lots);
        if (last) n->in_snapshot = false;
        return;
    }
    if (e->kind == OC_EVENT_QUOTE) {
        int depth[3] = {0, 0, 0};
        for (int i = 0; i < n->levels; i++) depth[n->level[i].side]++;
        if (depth[OC_SIDE_BUY] > 1 || depth[OC_SIDE_SELL] > 1) return; /* a book with more says it better */
        n->levels = 0;
        n->in_snapshot = false;
        naive_level_set(n, OC_SIDE_BUY, e->as.quote.bid_ticks, e->as.quote.bid_lots);
        naive_level_set(n, OC_SIDE_SELL, e->as.quote.ask_ticks, e->as.quote.ask_lots);
        naive_packet_end(n, true);
        return;
    }
    if (e->kind == OC_EVENT_SNAPSHOT && !n->in_snapshot) n->levels = 0;
    n->in_snapshot = (n->in_snapshot || e->kind == OC_EVENT_SNAPSHOT) && !last;
    naive_level_set(n, e->side, e->as.price.ticks, e->as.price.lots);
    for (int i = 0; i < n->orders && e->kind == OC_EVENT_LEVEL; i++) {
        naive_order *o = &n->order[i];
        if (o->side == e->side && o->ticks == e->as.price.ticks && e->as.price.lots < o->ahead)
            o->ahead = e->as.price.lots;
    }
    if (last) naive_packet_end(n, e->kind == OC_EVENT_SNAPSHOT);
}

static void naive_until(naive_venue *n, int64_t until, bool also_at)
{
    while (n->flights > 0) {
        naive_flight f = n->flying[0];
        bool tie = n->fault == FAULT_TIE ? true : also_at;
        if (f.at > until || (f.at == until && !tie)) return;
        memmove(&n->flying[0], &n->flying[1], (size_t)--n->flights * sizeof f);
        if (f.at > n->now) n->now = f.at;
        if (f.a.kind == OC_ACTION_NEW)
            naive_new(n, &f.a);
        else
            naive_cancel(n, &f.a);
    }
}

/* ---- random sequences ---- */

static naive_venue naive;
static uint32_t key;
static uint64_t draws;

static int64_t draw(int64_t bound)
{
    return (int64_t)oc_random_below(key, draws++, (uint64_t)bound);
}

static oc_event event_draw(int64_t now, int64_t middle, bool last)
{
    oc_event e = {.receive_ns = now, .flags = last ? OC_EVENT_LAST : 0, .side = draw(2) ? OC_SIDE_BUY : OC_SIDE_SELL};
    int64_t what = draw(20), offset = draw(6);
    e.kind = what < 11 ? OC_EVENT_LEVEL : what < 17 ? OC_EVENT_TRADE : what < 19 ? OC_EVENT_SNAPSHOT : OC_EVENT_QUOTE;
    if (e.kind == OC_EVENT_QUOTE) {
        e.flags = OC_EVENT_LAST;
        e.side = 0;
        e.as.quote.bid_ticks = middle - offset;
        e.as.quote.ask_ticks = middle + 1 + draw(3);
        e.as.quote.bid_lots = 1 + draw(9);
        e.as.quote.ask_lots = 1 + draw(9);
        return e;
    }
    e.as.price.ticks = e.side == OC_SIDE_BUY ? middle + 1 - offset : middle - 1 + offset;
    if (e.kind == OC_EVENT_TRADE && draw(4) == 0) e.side = OC_SIDE_NONE;
    e.as.price.lots = e.kind == OC_EVENT_LEVEL && draw(3) == 0 ? 0 : 1 + draw(12);
    return e;
}

static oc_action action_draw(uint64_t *next_id, int64_t middle)
{
    oc_action a = {.kind = OC_ACTION_NEW, .order_id = *next_id, .side = draw(2) ? OC_SIDE_BUY : OC_SIDE_SELL};
    if (*next_id > 1 && draw(3) == 0) {
        a.kind = OC_ACTION_CANCEL;
        a.order_id = 1 + (uint64_t)draw((int64_t)*next_id - 1);
        return a;
    }
    if (draw(30) != 0 || *next_id == 1)
        ++*next_id;
    else
        a.order_id = *next_id - 1; /* an id once more */
    a.type = (uint8_t)(1 + draw(4));
    a.price_ticks = middle + draw(9) - 4;
    a.lots = draw(25) == 0 ? 0 : 1 + draw(8);
    return a;
}

static bool messages_same(oc_venue venue, int *checked, int64_t until)
{
    oc_venue_message m;
    int64_t at;
    while (venue.poll(venue.context, until, &m, &at)) {
        if (*checked >= naive.answers) return false;
        const oc_venue_message *n = &naive.answer[*checked];
        if (at != naive.answer_at[*checked] || memcmp(&m, n, sizeof m) != 0) return false;
        ++*checked;
    }
    return *checked == naive.answers || naive.answer_at[*checked] > until;
}

/* True where both engines say the same from beginning to end. */
static bool sequence_same(uint64_t number, fault planted, uint64_t seed)
{
    key = oc_random_key(seed, OC_RANDOM_TEST, number, 1);
    draws = 0;
    const oc_simulated_market market = {{1 + draw(50), 1 + draw(7)}, 1 + draw(2), draw(400) - 200, draw(500), 0, 0};
    const oc_simulated_config config = {seed, draw(3) * 5, 0, draw(3) * 5, 0, 0, draw(2) == 1, &market, 1};
    oc_simulated *v;
    must(oc_simulated_open(&v, &config));
    oc_venue venue = oc_simulated_venue(v);
    memset(&naive, 0, sizeof naive);
    naive.c = config;
    naive.m = market;
    naive.fault = planted;
    int64_t now = 1000, middle = 1000;
    uint64_t next_id = 1;
    int checked = 0;
    bool same = true;
    for (int step = 0; step < 60 && same; step++) {
        now += draw(3) * 5;
        middle += draw(5) == 0 ? draw(3) - 1 : 0;
        if (draw(3) == 0) {
            naive_flight f = {now + config.to_ns, action_draw(&next_id, middle)};
            must(venue.send(venue.context, &f.a, now));
            naive.flying[naive.flights++] = f;
        } else {
            oc_event e = event_draw(now, middle, draw(3) != 0);
            venue.market(venue.context, &e);
            naive_until(&naive, now, false);
            naive.now = now;
            naive_event(&naive, &e);
        }
        if (draw(2) == 0) {
            naive_until(&naive, now, true);
            same = messages_same(venue, &checked, now);
        }
    }
    naive_until(&naive, now + 1000, true);
    same = same && messages_same(venue, &checked, now + 2000);
    oc_simulated_account a = oc_simulated_account_of(v, 0);
    same = same && a.position_lots == naive.position && a.cash_ticks_lots == naive.cash &&
           a.fees_micros == naive.fees && (int)oc_simulated_open_orders(v) == naive.orders;
    oc_simulated_close(v);
    return same;
}

static void random_sequences(void **state)
{
    (void)state;
    uint64_t seed = getenv("OUTCRY_SEED") ? strtoull(getenv("OUTCRY_SEED"), NULL, 10) : 1;
    uint64_t count = counts_full() ? 1000000 : 10000, fills = 0;
    printf("seed %llu, %llu sequences\n", (unsigned long long)seed, (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        if (!sequence_same(i, FAULT_NONE, seed)) fail_msg("sequence %llu differs", (unsigned long long)i);
        for (int k = 0; k < naive.answers; k++) fills += naive.answer[k].kind == OC_VENUE_FILL;
    }
    printf("%llu fills, all the same\n", (unsigned long long)fills);
    assert_true(fills > count);
}

static void planted_faults_are_found(void **state)
{
    (void)state;
    for (int f = FAULT_NONE + 1; f < FAULT_END; f++) {
        uint64_t i = 0;
        while (i < 2000 && sequence_same(i, (fault)f, 1)) i++;
        if (i == 2000) fail_msg("fault %d was not found", f);
    }
}

/* ---- scenes by hand ---- */

typedef struct scene_step {
    char what;
    int64_t a, b, c, d;
} scene_step;
/* L side price lots: a level  |  T side price lots: a trade  |  B low high close: a bar  |  Q bid ask lots: a quote
 * N type side price lots: an order (ids 1, 2, …)  |  C id: a cancel */

typedef struct scene {
    const char *name;
    bool partial;
    scene_step step[12];
    const char *answers;
} scene;

enum {
    MKT = OC_ORDER_MARKET,
    LMT = OC_ORDER_LIMIT,
    PST = OC_ORDER_POST,
    IOC = OC_ORDER_IOC,
    BUY = OC_SIDE_BUY,
    SELL = OC_SIDE_SELL
};

static const scene scenes[] = {
    {"a market order walks the book",
     true,
     {{'L', SELL, 101, 3, 0}, {'L', SELL, 102, 5, 0}, {'N', MKT, BUY, 101, 5}},
     "ack1x5 fill1x3@101 fill1x2@102"},
    {"what it does not find is cancelled",
     true,
     {{'L', SELL, 101, 3, 0}, {'N', MKT, BUY, 101, 5}},
     "ack1x5 fill1x3@101 cancelled1x2"},
    {"no book, no market order", true, {{'N', MKT, BUY, 101, 5}}, "reject1x5"},
    {"a limit takes, then rests",
     true,
     {{'L', SELL, 101, 3, 0}, {'N', LMT, BUY, 101, 5}, {'C', 1, 0, 0, 0}},
     "ack1x5 fill1x3@101 cancelled1x2"},
    {"a post that crosses is refused", true, {{'L', SELL, 101, 3, 0}, {'N', PST, BUY, 101, 5}}, "reject1x5"},
    {"immediate or cancel", true, {{'L', SELL, 101, 3, 0}, {'N', IOC, BUY, 100, 5}}, "ack1x5 cancelled1x5"},
    {"the same lots are not had twice",
     true,
     {{'L', SELL, 101, 3, 0}, {'N', IOC, BUY, 101, 2}, {'N', IOC, BUY, 101, 2}},
     "ack1x2 fill1x2@101 ack2x2 fill2x1@101 cancelled2x1"},
    {"until the record renews them",
     true,
     {{'L', SELL, 101, 3, 0}, {'N', IOC, BUY, 101, 3}, {'L', SELL, 101, 3, 0}, {'N', IOC, BUY, 101, 2}},
     "ack1x3 fill1x3@101 ack2x2 fill2x2@101"},
    {"behind the queue",
     true,
     {{'L', BUY, 99, 4, 0}, {'N', LMT, BUY, 99, 5}, {'T', SELL, 99, 3, 0}, {'T', SELL, 99, 3, 0}},
     "ack1x5 fill1x2@99"},
    {"a shrinking level moves us up",
     true,
     {{'L', BUY, 99, 9, 0}, {'N', LMT, BUY, 99, 5}, {'L', BUY, 99, 1, 0}, {'T', SELL, 99, 3, 0}},
     "ack1x5 fill1x2@99"},
    {"a growing one does not move us down",
     true,
     {{'L', BUY, 99, 1, 0}, {'N', LMT, BUY, 99, 5}, {'L', BUY, 99, 9, 0}, {'T', SELL, 99, 3, 0}},
     "ack1x5 fill1x2@99"},
    {"through the price",
     true,
     {{'L', BUY, 99, 9, 0}, {'N', LMT, BUY, 99, 5}, {'T', SELL, 98, 3, 0}},
     "ack1x5 fill1x3@99"},
    {"whole where partial is off",
     false,
     {{'L', BUY, 99, 2, 0}, {'N', LMT, BUY, 99, 5}, {'T', SELL, 99, 3, 0}},
     "ack1x5 fill1x5@99"},
    {"time priority of our own",
     true,
     {{'N', LMT, BUY, 99, 2}, {'N', LMT, BUY, 99, 2}, {'T', SELL, 99, 3, 0}},
     "ack1x2 ack2x2 fill1x2@99 fill2x1@99"},
    {"price before time",
     true,
     {{'N', LMT, BUY, 98, 2}, {'N', LMT, BUY, 99, 2}, {'T', SELL, 98, 3, 0}},
     "ack1x2 ack2x2 fill2x2@99 fill1x1@98"},
    {"a buyer's trade does not fill bids", true, {{'N', LMT, BUY, 99, 2}, {'T', BUY, 99, 3, 0}}, "ack1x2"},
    {"the other side comes to us", true, {{'N', LMT, BUY, 99, 5}, {'L', SELL, 99, 3, 0}}, "ack1x5 fill1x3@99"},
    {"the fill wins the race",
     true,
     {{'N', LMT, BUY, 99, 2}, {'T', SELL, 99, 3, 0}, {'C', 1, 0, 0, 0}},
     "ack1x2 fill1x2@99 cancel-reject1x0"},
    {"a bar goes through an order that stood",
     true,
     {{'B', 90, 110, 100, 0}, {'N', LMT, BUY, 95, 5}, {'B', 95, 110, 100, 0}, {'B', 94, 110, 100, 0}},
     "ack1x5 fill1x5@95"},
    {"not one that came within it", true, {{'N', LMT, BUY, 95, 5}, {'B', 90, 110, 100, 0}}, "ack1x5"},
    {"quotes are books of two",
     true,
     {{'Q', 99, 101, 4, 0}, {'N', MKT, SELL, 99, 6}},
     "ack1x6 fill1x4@99 cancelled1x2"},
    {"a quote beside a deeper book is left out",
     true,
     {{'L', BUY, 99, 4, 0}, {'L', BUY, 98, 7, 0}, {'Q', 97, 98, 1, 0}, {'N', MKT, SELL, 98, 12}},
     "ack1x12 fill1x4@99 fill1x7@98 cancelled1x1"},
    {"price before time where the market comes too",
     true,
     {{'N', LMT, BUY, 101, 2}, {'N', LMT, BUY, 103, 2}, {'L', SELL, 100, 3, 0}},
     "ack1x2 ack2x2 fill2x2@103 fill1x1@101"},
    {"no price below 1 out of a bar", true, {{'B', 1, 3, 1, 0}, {'N', MKT, SELL, 1, 5}}, "reject1x5"},
    {"a bar that closes beyond its bounds is none",
     true,
     {{'B', 90, 110, 200, 0}, {'N', MKT, BUY, 200, 5}},
     "reject1x5"},
    {"a bar upside down is none", true, {{'B', 110, 90, 100, 0}, {'N', MKT, BUY, 100, 5}}, "reject1x5"},
    {"a quote that is beyond bounds is none",
     true,
     {{'Q', OC_TRADE_PRICE_MAX + 1, 101, 4, 0}, {'N', MKT, SELL, 101, 5}},
     "reject1x5"},
    {"a quote of less than nothing", true, {{'Q', 99, -5, 4, 0}, {'N', MKT, BUY, 99, 5}}, "reject1x5"},
    {"what no account can hold is not filled",
     true,
     {{'L', SELL, OC_TRADE_PRICE_MAX, OC_TRADE_LOTS_MAX, 0}, {'N', MKT, BUY, OC_TRADE_PRICE_MAX, OC_TRADE_LOTS_MAX}},
     "ack1x70368744177664 cancelled1x70368744177664"},
    {"nor what rests",
     true,
     {{'N', LMT, BUY, OC_TRADE_PRICE_MAX, OC_TRADE_LOTS_MAX}, {'T', SELL, 99, OC_TRADE_LOTS_MAX, 0}},
     "ack1x70368744177664 cancelled1x70368744177664"},
    {"an id that was filled is not used again",
     true,
     {{'N', LMT, BUY, 99, 2}, {'T', SELL, 98, 3, 0}, {'I', LMT, BUY, 99, 2}},
     "ack1x2 fill1x2@99 reject1x2"},
    {"an id is used once", true, {{'N', LMT, BUY, 95, 5}, {'I', LMT, BUY, 95, 5}}, "ack1x5 reject1x5"},
};

static void scene_event(oc_venue venue, const scene_step *s, int64_t now)
{
    oc_event e = {.receive_ns = now, .flags = OC_EVENT_LAST, .side = (uint8_t)s->a};
    e.kind = s->what == 'L'   ? OC_EVENT_LEVEL
             : s->what == 'T' ? OC_EVENT_TRADE
             : s->what == 'B' ? OC_EVENT_BAR
                              : OC_EVENT_QUOTE;
    e.as.price.ticks = s->b;
    e.as.price.lots = s->c;
    if (s->what == 'B') {
        e.as.bar.low_ticks = s->a, e.as.bar.high_ticks = s->b, e.as.bar.close_ticks = s->c;
        e.as.bar.open_ticks = s->c, e.as.bar.volume_lots = 10;
    }
    if (s->what == 'Q') {
        e.as.quote.bid_ticks = s->a, e.as.quote.ask_ticks = s->b;
        e.as.quote.bid_lots = e.as.quote.ask_lots = s->c;
    }
    venue.market(venue.context, &e);
}

static void scene_play(const scene *s)
{
    static const char *const names[] = {"", "ack", "reject", "fill", "cancelled", "cancel-reject", "not-found"};
    const oc_simulated_market market = {{1, 1}, 1, 0, 0, 1, 100};
    const oc_simulated_config config = {1, 0, 0, 0, 0, 0, s->partial, &market, 1};
    char said[512] = "";
    size_t used = 0;
    uint64_t id = 0;
    int64_t now = 0, at;
    oc_simulated *v;
    oc_venue_message m;
    must(oc_simulated_open(&v, &config));
    oc_venue venue = oc_simulated_venue(v);
    for (const scene_step *x = s->step; x->what; x++) {
        now += 10;
        bool order = x->what == 'N' || x->what == 'I' || x->what == 'C';
        if (!order) scene_event(venue, x, now);
        oc_action a = {.kind = x->what == 'C' ? OC_ACTION_CANCEL : OC_ACTION_NEW,
                       .type = (uint8_t)x->a,
                       .side = (uint8_t)x->b,
                       .price_ticks = x->c,
                       .lots = x->d};
        a.order_id = x->what == 'C' ? (uint64_t)x->a : x->what == 'N' ? ++id : id;
        if (order) must(venue.send(venue.context, &a, now));
        while (venue.poll(venue.context, now, &m, &at) && used < sizeof said) {
            int n = snprintf(said + used, sizeof said - used, "%s%s%llux%lld", used ? " " : "", names[m.kind],
                             (unsigned long long)m.order_id, (long long)m.lots);
            used += (size_t)n;
            if (m.kind == OC_VENUE_FILL)
                used += (size_t)snprintf(said + used, sizeof said - used, "@%lld", (long long)m.price_ticks);
        }
    }
    oc_simulated_close(v);
    if (strcmp(said, s->answers) != 0) fail_msg("%s: \"%s\", not \"%s\"", s->name, said, s->answers);
}

static void every_scene(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scenes); i++) scene_play(&scenes[i]);
}

/* ---- the line ---- */

static void jitter_is_drawn_and_never_overtakes(void **state)
{
    (void)state;
    const oc_simulated_market market = {{1, 1}, 1, 0, 0, 1, 100};
    const oc_simulated_config config = {9, 100, 900, 50, 400, 200000, true, &market, 1};
    int64_t first[200];
    for (int pass = 0; pass < 2; pass++) {
        oc_simulated *v;
        oc_venue_message m;
        int64_t at, last = 0;
        int rejects = 0, distinct = 0;
        uint64_t expected = 1;
        must(oc_simulated_open(&v, &config));
        oc_venue venue = oc_simulated_venue(v);
        for (uint64_t i = 0; i < 200; i++) {
            oc_action a = {
                .kind = OC_ACTION_NEW, .order_id = i + 1, .type = LMT, .side = BUY, .price_ticks = 5, .lots = 1};
            must(venue.send(venue.context, &a, (int64_t)i * 2000));
            assert_true(venue.poll(venue.context, (int64_t)i * 2000 + 1999, &m, &at));
            assert_int_equal(m.message_id, expected++);
            int64_t delay = at - (int64_t)i * 2000;
            assert_true(at >= last && delay >= 150 && delay <= 150 + 1300);
            distinct += at != last + 2000;
            last = at;
            rejects += m.kind == OC_VENUE_REJECT;
            if (pass) assert_int_equal(first[i], at);
            first[i] = at;
        }
        assert_true(rejects > 20 && rejects < 60 && distinct > 150);
        assert_int_equal(venue.next_ns(venue.context), INT64_MAX);
        oc_simulated_close(v);
    }
}

static void lost_answers_are_sent_again(void **state)
{
    (void)state;
    const oc_simulated_market market = {{1, 1}, 1, 0, 0, 1, 100};
    const oc_simulated_config config = {9, 10, 0, 10, 0, 0, true, &market, 1};
    oc_simulated *v;
    oc_venue_message m;
    int64_t at;
    must(oc_simulated_open(&v, &config));
    oc_venue venue = oc_simulated_venue(v);
    for (uint64_t i = 1; i <= 5; i++) {
        oc_action a = {.kind = OC_ACTION_NEW, .order_id = i, .type = LMT, .side = BUY, .price_ticks = 5, .lots = 1};
        must(venue.send(venue.context, &a, 0));
    }
    assert_true(venue.poll(venue.context, 20, &m, &at));
    oc_simulated_break(v);
    assert_false(venue.poll(venue.context, 1000, &m, &at));
    oc_action query = {.kind = OC_ACTION_QUERY, .value = 1}, order = {.kind = OC_ACTION_QUERY, .order_id = 3};
    oc_action none = {.kind = OC_ACTION_QUERY, .order_id = 77};
    must(venue.connect(venue.context, 1000));
    must(venue.send(venue.context, &query, 1000));
    must(venue.send(venue.context, &order, 1000));
    must(venue.send(venue.context, &none, 1000));
    const uint64_t ids[] = {0, 2, 3, 4, 5, 6, 7};
    const int kinds[] = {OC_VENUE_CONNECTED, OC_VENUE_ACK, OC_VENUE_ACK,      OC_VENUE_ACK,
                         OC_VENUE_ACK,       OC_VENUE_ACK, OC_VENUE_NOT_FOUND};
    for (size_t i = 0; i < COUNT(ids); i++) {
        assert_true(venue.poll(venue.context, 2000, &m, &at));
        assert_int_equal(m.message_id, ids[i]);
        assert_int_equal(m.kind, kinds[i]);
    }
    assert_false(venue.poll(venue.context, 2000, &m, &at));
    oc_simulated_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scene),
        cmocka_unit_test(random_sequences),
        cmocka_unit_test(planted_faults_are_found),
        cmocka_unit_test(jitter_is_drawn_and_never_overtakes),
        cmocka_unit_test(lost_answers_are_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
