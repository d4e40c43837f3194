/* loop.c - events forward in time; between two of them what is due, earliest first. */
#include "trade/loop.h"

#include <string.h>

#include "base/memory.h"
#include "trade/quote.h"

typedef struct pending_slot {
    int64_t at_ns;
    oc_prediction prediction;
} pending_slot;

typedef struct loop {
    const oc_loop_setup *setup;
    oc_loop_result *result;
    int64_t timer_ns;    /* INT64_MAX: none is set */
    uint64_t head, tail; /* counters; the ring is modulo its size. The delay is fixed, so it is in order */
    bool begun;
    uint64_t sequence[OC_INSTRUMENTS_MAX];
    oc_quote_state quote[OC_INSTRUMENTS_MAX];
    oc_action action[OC_ACTIONS_MAX];
    pending_slot pending[OC_LOOP_PENDING_MAX];
} loop;

/* ---- inputs and what they lead to ---- */

static oc_status actions_send(loop *l, size_t count, int64_t now_ns)
{
    for (size_t i = 0; i < count; i++) {
        const oc_action *a = &l->action[i];
        if (a->kind != OC_ACTION_TIMER)
            OC_TRY(l->setup->venue.send(l->setup->venue.context, a, now_ns));
        else if (a->at_ns < l->timer_ns)
            l->timer_ns = a->at_ns;
    }
    return OC_OK;
}

/* Where the journal fails, the cancels that it leaves us are sent before the failure goes up. */
static oc_status input_give(loop *l, oc_input *input, int64_t now_ns)
{
    size_t count;
    const oc_engine *engine = oc_desk_engine(l->setup->desk);
    input->time_ns = now_ns;
    oc_tally_mark mark = oc_tally_before(engine, input);
    oc_status decided = oc_desk_apply(l->setup->desk, input, l->action, OC_ACTIONS_MAX, &count);
    if (decided == OC_OK && l->setup->tally)
        oc_tally_after(l->setup->tally, engine, input, &mark, l->action, count);
    oc_status sent = actions_send(l, count, now_ns);
    return decided == OC_OK ? sent : decided;
}

static oc_status market_input(loop *l, const oc_event *event)
{
    oc_input input = {.kind = OC_INPUT_MARKET, .as.market = *event};
    return input_give(l, &input, event->receive_ns);
}

/* ---- what is due ---- */

static int64_t due_ns(const loop *l)
{
    int64_t due = l->setup->venue.next_ns(l->setup->venue.context);
    if (l->timer_ns < due) due = l->timer_ns;
    if (l->head < l->tail && l->pending[l->head % OC_LOOP_PENDING_MAX].at_ns < due)
        due = l->pending[l->head % OC_LOOP_PENDING_MAX].at_ns;
    return due;
}

static oc_status due_give(loop *l, int64_t now_ns)
{
    const oc_venue *venue = &l->setup->venue;
    oc_input input = {.kind = OC_INPUT_VENUE};
    int64_t at_ns;
    while (venue->poll(venue->context, now_ns, &input.as.venue, &at_ns)) {
        OC_TRY(input_give(l, &input, now_ns));
        input = (oc_input){.kind = OC_INPUT_VENUE};
    }
    if (l->timer_ns <= now_ns) {
        l->timer_ns = INT64_MAX;
        input = (oc_input){.kind = OC_INPUT_TIMER};
        OC_TRY(input_give(l, &input, now_ns));
    }
    while (l->head < l->tail && l->pending[l->head % OC_LOOP_PENDING_MAX].at_ns <= now_ns) {
        input = (oc_input){.kind = OC_INPUT_PREDICTION,
                           .as.prediction = l->pending[l->head++ % OC_LOOP_PENDING_MAX].prediction};
        OC_TRY(input_give(l, &input, now_ns));
    }
    return OC_OK;
}

/* Everything that is due before this time. Ends, because latencies are above 0: what is sent comes back later. */
static oc_status due_run(loop *l, int64_t before_ns)
{
    for (int64_t at = due_ns(l); at < before_ns; at = due_ns(l)) {
        int64_t now = oc_engine_time(oc_desk_engine(l->setup->desk));
        OC_TRY(due_give(l, at > now ? at : now));
    }
    return OC_OK;
}

/* ---- events ---- */

/* The engine keeps no book: it is told of the best prices when they change, and of a break as it comes. */
static oc_status market_give(loop *l, const oc_event *event)
{
    oc_event quote;
    oc_quote_state *state = &l->quote[event->instrument];
    if (event->kind == OC_EVENT_BAR || event->kind == OC_EVENT_STATUS) return market_input(l, event);
    const oc_book *book = oc_features_book(l->setup->features, event->instrument);
    if (!book) return OC_OK;
    if (event->flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) {
        quote = *event;
        quote.kind = OC_EVENT_STATUS;
        memset(&quote.as, 0, sizeof quote.as);
        state->known = false;
        OC_TRY(market_input(l, &quote));
    }
    return oc_quote_next(state, book, event, &quote) ? market_input(l, &quote) : OC_OK;
}

/* A row before first_ns: nobody is asked, but windows fill. */
static oc_status remember(loop *l, const oc_feature_row *row)
{
    const oc_predictor *p = &l->setup->predictor;
    return row && p->predict && p->history ? p->history(p->context, row) : OC_OK;
}

static oc_status predict(loop *l, const oc_feature_row *row)
{
    bool made = false;
    oc_prediction p = {0};
    l->result->rows++;
    if (!l->setup->predictor.predict) return OC_OK;
    OC_TRY(l->setup->predictor.predict(l->setup->predictor.context, row, &p, &made));
    if (!made) return OC_OK;
    if (l->tail - l->head == OC_LOOP_PENDING_MAX)
        return OC_FAIL(OC_ELIMIT, "%d predictions wait for decision_delay_ns %lld to pass: make it shorter",
                       OC_LOOP_PENDING_MAX, (long long)l->setup->decision_delay_ns);
    p.input_ns = row->time_ns;
    p.instrument = row->instrument;
    p.sequence = ++l->sequence[row->instrument];
    l->pending[l->tail++ % OC_LOOP_PENDING_MAX] = (pending_slot){row->time_ns + l->setup->decision_delay_ns, p};
    l->result->predictions++;
    return OC_OK;
}

static oc_status event_take(loop *l, const oc_event *event)
{
    const oc_feature_row *row;
    const oc_venue *venue = &l->setup->venue;
    bool traded = event->receive_ns >= l->setup->first_ns;
    OC_TRY(due_run(l, event->receive_ns));
    l->result->events++;
    if (venue->market) venue->market(venue->context, event);
    OC_TRY(oc_features_apply(l->setup->features, event, &row));
    if (!traded) return remember(l, row);
    if (!l->begun) {
        l->begun = true;
        l->result->first_ns = event->receive_ns;
        OC_TRY(venue->connect(venue->context, event->receive_ns));
    }
    l->result->traded_events++;
    l->result->last_ns = event->receive_ns;
    OC_TRY(market_give(l, event));
    return row ? predict(l, row) : OC_OK;
}

static oc_status events_run(loop *l)
{
    const oc_event *events;
    size_t count;
    for (;;) {
        OC_TRY(l->setup->feed.next(l->setup->feed.context, &events, &count));
        if (count == 0) break;
        for (size_t i = 0; i < count; i++) {
            if (events[i].receive_ns > l->setup->last_ns) return due_run(l, l->result->last_ns + 1);
            OC_TRY(event_take(l, &events[i]));
        }
    }
    return due_run(l, l->result->last_ns + 1);
}

oc_status oc_loop_run(const oc_loop_setup *setup, oc_loop_result *result)
{
    loop *l;
    memset(result, 0, sizeof *result);
    OC_TRY(oc_memory_new(&l, sizeof *l, "trading loop"));
    l->setup = setup;
    l->result = result;
    l->timer_ns = INT64_MAX;
    oc_features_begin(setup->features);
    oc_status status = events_run(l);
    oc_memory_free(l);
    return status;
}
