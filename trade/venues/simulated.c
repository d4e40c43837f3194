/* simulated.c - the line to the simulated exchange and back: two bounded queues ordered by time of arrival, numbered
 * answers that are kept for being asked again. */
#include "trade/venues/simulated.h"

#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "trade/venues/simulated_internal.h"

/* ---- back to us ---- */

static void out_add(oc_simulated *v, oc_venue_message message)
{
    int64_t jitter = (int64_t)oc_random_below(v->key_back, v->drawn++, (uint64_t)v->config.back_jitter_ns + 1);
    int64_t at = v->now_ns + v->config.back_ns + jitter;
    if (at < v->out_last_ns) at = v->out_last_ns;
    v->out_last_ns = at;
    v->out[v->out_tail++ % OC_SIMULATED_MESSAGES_MAX] = (outbound_slot){at, message};
    if (v->out_tail - v->out_head > OC_SIMULATED_MESSAGES_MAX) v->out_head = v->out_tail - OC_SIMULATED_MESSAGES_MAX;
}

void oc_simulated_say(oc_simulated *v, oc_venue_message message)
{
    message.message_id = ++v->message_id;
    if (v->clerk.said) v->clerk.said(v->clerk.context, v->now_ns, &message);
    out_add(v, message);
}

/* All numbered messages after `after` once more, in order; OC_VENUE_LOST where one of them is no longer kept. */
static void resend(oc_simulated *v, uint64_t after)
{
    uint64_t first = v->out_tail > OC_SIMULATED_MESSAGES_MAX ? v->out_tail - OC_SIMULATED_MESSAGES_MAX : 0;
    uint64_t end = v->out_tail, next = after + 1;
    for (uint64_t i = first; i < end && next <= v->message_id; i++) {
        oc_venue_message m = v->out[i % OC_SIMULATED_MESSAGES_MAX].message;
        if (m.message_id != next) continue;                      /* an older one, or one sent again */
        if (v->out_tail - i >= OC_SIMULATED_MESSAGES_MAX) break; /* the copy would fall on what is read */
        out_add(v, m);
        next++;
    }
    if (next <= v->message_id) out_add(v, (oc_venue_message){.kind = OC_VENUE_LOST});
}

/* ---- to the venue ---- */

static void query(oc_simulated *v, const oc_action *a)
{
    if (a->order_id == 0) {
        resend(v, (uint64_t)a->value);
        return;
    }
    for (uint32_t i = 0; i < v->order_count; i++) {
        const resting_order *o = &v->order[i];
        if (o->id != a->order_id) continue;
        oc_simulated_say(v, (oc_venue_message){.order_id = o->id,
                                               .price_ticks = o->price_ticks,
                                               .lots = o->left_lots,
                                               .instrument = o->instrument,
                                               .kind = OC_VENUE_ACK,
                                               .side = o->side});
        return;
    }
    oc_simulated_say(v, (oc_venue_message){.order_id = a->order_id, .kind = OC_VENUE_NOT_FOUND});
}

static void arrive(oc_simulated *v, const oc_action *a)
{
    switch (a->kind) {
    case OC_ACTION_NEW:
        oc_simulated_new(v, a);
        break;
    case OC_ACTION_CANCEL:
        oc_simulated_cancel(v, a);
        break;
    default:
        query(v, a);
    }
}

/* Something arrives before `before_ns`. */
static inline bool arrives(const oc_simulated *v, int64_t before_ns)
{
    return v->flight_head < v->flight_tail && v->flight[v->flight_head % OC_SIMULATED_FLIGHT_MAX].at_ns < before_ns;
}

static void advance(oc_simulated *v, int64_t before_ns)
{
    while (arrives(v, before_ns)) {
        const flight_slot *f = &v->flight[v->flight_head % OC_SIMULATED_FLIGHT_MAX];
        if (f->at_ns > v->now_ns) v->now_ns = f->at_ns;
        v->flight_head++;
        oc_action action = f->action;
        arrive(v, &action);
    }
}

static oc_status venue_send(void *context, const oc_action *action, int64_t now_ns)
{
    oc_simulated *v = context;
    if (!(action->kind == OC_ACTION_NEW || action->kind == OC_ACTION_CANCEL || action->kind == OC_ACTION_QUERY))
        return OC_OK; /* for people and for the loop */
    if (v->flight_tail - v->flight_head == OC_SIMULATED_FLIGHT_MAX)
        return OC_FAIL(OC_EAGAIN, "simulated venue: %d actions are under way, no more fit", OC_SIMULATED_FLIGHT_MAX);
    uint64_t counter = action->order_id * 4 + action->kind;
    int64_t jitter = (int64_t)oc_random_below(v->key_to, counter, (uint64_t)v->config.to_jitter_ns + 1);
    int64_t at = now_ns + v->config.to_ns + jitter;
    if (at < v->flight_last_ns) at = v->flight_last_ns;
    v->flight_last_ns = at;
    v->flight[v->flight_tail++ % OC_SIMULATED_FLIGHT_MAX] = (flight_slot){at, *action};
    return OC_OK;
}

static oc_status venue_connect(void *context, int64_t now_ns)
{
    oc_simulated *v = context;
    if (now_ns > v->now_ns) v->now_ns = now_ns;
    out_add(v, (oc_venue_message){.kind = OC_VENUE_CONNECTED});
    return OC_OK;
}

static inline void time_pass(oc_simulated *v, int64_t now_ns)
{
    if (arrives(v, now_ns)) advance(v, now_ns);
    if (now_ns > v->now_ns) v->now_ns = now_ns;
}

static void venue_market(void *context, const oc_event *event)
{
    time_pass(context, event->receive_ns);
    oc_simulated_event(context, event);
}

static void venue_levels(void *context, const oc_event *events, size_t count)
{
    if (count == 0) return;
    time_pass(context, events->receive_ns); /* one packet has one time */
    oc_simulated_levels(context, events, count);
}

static bool venue_poll(void *context, int64_t until_ns, oc_venue_message *message, int64_t *at_ns)
{
    oc_simulated *v = context;
    advance(v, until_ns + (until_ns < INT64_MAX)); /* what arrives at that time too */
    if (v->out_head == v->out_tail) return false;
    const outbound_slot *o = &v->out[v->out_head % OC_SIMULATED_MESSAGES_MAX];
    if (o->at_ns > until_ns) return false;
    *message = o->message;
    *at_ns = o->at_ns;
    v->out_head++;
    return true;
}

static int64_t venue_next_ns(void *context)
{
    const oc_simulated *v = context;
    int64_t next = INT64_MAX;
    if (v->flight_head < v->flight_tail) next = v->flight[v->flight_head % OC_SIMULATED_FLIGHT_MAX].at_ns;
    if (v->out_head < v->out_tail && v->out[v->out_head % OC_SIMULATED_MESSAGES_MAX].at_ns < next)
        next = v->out[v->out_head % OC_SIMULATED_MESSAGES_MAX].at_ns;
    return next;
}

/* ---- opening ---- */

static oc_status config_check(const oc_simulated_config *c)
{
    const int64_t delay_max = INT64_C(60000000000);
    const struct {
        const char *key;
        int64_t value, min, max;
    } rows[] = {
        {"to_ns", c->to_ns, 0, delay_max},         {"to_jitter_ns", c->to_jitter_ns, 0, delay_max},
        {"back_ns", c->back_ns, 0, delay_max},     {"back_jitter_ns", c->back_jitter_ns, 0, delay_max},
        {"reject_ppm", c->reject_ppm, 0, 1000000}, {"markets", c->markets, 1, OC_INSTRUMENTS_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!(rows[i].value >= rows[i].min && rows[i].value <= rows[i].max))
            return OC_FAIL(OC_ECONFIG, "simulated venue: %s is %lld, not from %lld to %lld", rows[i].key,
                           (long long)rows[i].value, (long long)rows[i].min, (long long)rows[i].max);
    }
    for (uint32_t i = 0; i < c->markets; i++) {
        const oc_simulated_market *m = &c->market[i];
        bool sane = m->scale.numerator >= 1 && m->scale.denominator >= 1 && m->scale.numerator <= OC_TRADE_SCALE_MAX &&
                    m->scale.denominator <= OC_TRADE_SCALE_MAX && m->order_tick_ticks >= 1 && m->maker_ppm >= -100000 &&
                    m->maker_ppm <= 100000 && m->taker_ppm >= -100000 && m->taker_ppm <= 100000 &&
                    m->bar_half_spread_ticks >= 0 && m->bar_half_spread_ticks <= OC_TRADE_PRICE_MAX && m->bar_lots >= 0;
        if (!sane)
            return OC_FAIL(OC_ECONFIG,
                           "simulated venue: market %u: scale, order tick, fees (+-100,000 ppm) or bars "
                           "out of bounds",
                           i);
    }
    return OC_OK;
}

oc_status oc_simulated_open(oc_simulated **out, const oc_simulated_config *config)
{
    oc_simulated *v;
    *out = NULL;
    OC_TRY(config_check(config));
    OC_TRY(oc_memory_new(&v, sizeof *v + config->markets * sizeof *v->market, "simulated venue"));
    v->config = *config;
    v->config.market = NULL;
    v->key_to = oc_random_key(config->seed, OC_RANDOM_VENUE, 0, 0);
    v->key_back = oc_random_key(config->seed, OC_RANDOM_VENUE, 1, 0);
    v->key_reject = oc_random_key(config->seed, OC_RANDOM_VENUE, 2, 0);
    for (uint32_t i = 0; i < config->markets; i++) {
        v->market[i].config = config->market[i];
        oc_book_init(&v->market[i].book);
    }
    *out = v;
    return OC_OK;
}

void oc_simulated_close(oc_simulated *v)
{
    oc_memory_free(v);
}

void oc_simulated_told(oc_simulated *v, oc_simulated_clerk clerk)
{
    v->clerk = clerk;
}

oc_venue oc_simulated_venue(oc_simulated *v)
{
    return (oc_venue){v, venue_connect, venue_send, venue_market, venue_levels, venue_poll, venue_next_ns};
}

const oc_book *oc_simulated_share(oc_simulated *v, uint32_t market, oc_simulated_reader reader)
{
    v->market[market].reader = reader;
    return &v->market[market].book;
}

void oc_simulated_break(oc_simulated *v)
{
    v->out_head = v->out_tail;
}

oc_simulated_account oc_simulated_account_of(const oc_simulated *v, uint32_t market)
{
    return v->market[market].account;
}

uint32_t oc_simulated_open_orders(const oc_simulated *v)
{
    return v->order_count;
}

uint64_t oc_simulated_messages(const oc_simulated *v)
{
    return v->message_id;
}

uint64_t oc_simulated_ignored(const oc_simulated *v)
{
    return v->ignored;
}
