/* loop.c - events forward in time; between two of them what is due, earliest first. */
#include "trade/loop.h"

#include <string.h>
#include <time.h>

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
    uint64_t head, tail; /* counters; the ring is modulo its size. In order: predictions do not overtake */
    int64_t pending_last_ns;
    bool begun, paced;
    int64_t passed_ns; /* what is due before it has been given, unless time is live; what is sent at it comes later */
    int64_t clock_ns, market_ns; /* the same moment on the clock and in the market */
    uint64_t sequence[OC_INSTRUMENTS_MAX];
    oc_quote_state quote[OC_INSTRUMENTS_MAX];
    oc_action action[OC_ACTIONS_MAX];
    pending_slot pending[OC_LOOP_PENDING_MAX];
} loop;

enum { NAP_MAX_NS = 20000000 }; /* so often a request to stop is looked at */

/* ---- time ---- */

static int64_t clock_now(const loop *l)
{
    const oc_clock *clock = &l->setup->pace.clock;
    return clock->now_ns ? clock->now_ns(clock->context) : oc_clock_monotonic_ns();
}

static int64_t market_now(const loop *l)
{
    return l->market_ns + (int64_t)((double)(clock_now(l) - l->clock_ns) * l->setup->pace.speed);
}

/* The time of an input that is due at at_ns. */
static int64_t stamp_ns(const loop *l, int64_t at_ns)
{
    if (!l->setup->pace.live) return at_ns;
    int64_t now = market_now(l), last = oc_engine_time(oc_desk_engine(l->setup->desk));
    if (now < at_ns) now = at_ns;
    return now > last ? now : last;
}

static bool stop_asked(loop *l)
{
    if (l->setup->stop && *l->setup->stop) l->result->stopped = true;
    return l->result->stopped;
}

static void nap(const loop *l, int64_t until_ns)
{
    double left = (double)(until_ns - market_now(l)) / l->setup->pace.speed;
    int64_t left_ns = left > NAP_MAX_NS ? NAP_MAX_NS : (int64_t)left;
    const oc_predictor *p = &l->setup->predictor;
    if (left_ns <= 0) return;
    if (l->setup->pace.live && p->wait)
        p->wait(p->context, left_ns);
    else
        (void)nanosleep(&(struct timespec){0, (long)left_ns}, NULL);
}

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
    if (decided == OC_OK && l->setup->tally) oc_tally_after(l->setup->tally, engine, input, &mark, l->action, count);
    oc_status sent = actions_send(l, count, now_ns);
    return decided == OC_OK ? sent : decided;
}

static oc_status market_input(loop *l, const oc_event *event)
{
    oc_input input = {.kind = OC_INPUT_MARKET, .as.market = *event};
    return input_give(l, &input, stamp_ns(l, event->receive_ns));
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

static oc_status due_give(loop *l, int64_t due)
{
    const oc_venue *venue = &l->setup->venue;
    oc_input input = {.kind = OC_INPUT_VENUE};
    int64_t at_ns, now_ns = stamp_ns(l, due);
    while (venue->poll(venue->context, due, &input.as.venue, &at_ns)) {
        OC_TRY(input_give(l, &input, now_ns));
        input = (oc_input){.kind = OC_INPUT_VENUE};
    }
    if (l->timer_ns <= due) {
        l->timer_ns = INT64_MAX;
        input = (oc_input){.kind = OC_INPUT_TIMER};
        OC_TRY(input_give(l, &input, now_ns));
    }
    while (l->head < l->tail && l->pending[l->head % OC_LOOP_PENDING_MAX].at_ns <= due) {
        input = (oc_input){.kind = OC_INPUT_PREDICTION,
                           .as.prediction = l->pending[l->head++ % OC_LOOP_PENDING_MAX].prediction};
        OC_TRY(input_give(l, &input, now_ns));
    }
    return OC_OK;
}

/* Everything that is due before this time. Ends: with a latency what is sent comes back later; with none the throttle
 * bounds the orders of one moment, and each of them leads to a bounded number of messages. */
static oc_status due_run(loop *l, int64_t before_ns)
{
    for (int64_t at = due_ns(l); at < before_ns; at = due_ns(l)) {
        int64_t now = oc_engine_time(oc_desk_engine(l->setup->desk));
        OC_TRY(due_give(l, at > now ? at : now));
    }
    return OC_OK;
}

/* ---- live ---- */

static oc_status answers_take(loop *l)
{
    const oc_predictor *p = &l->setup->predictor;
    bool came = p->poll != NULL;
    while (came) {
        oc_input input = {.kind = OC_INPUT_PREDICTION};
        OC_TRY(p->poll(p->context, &input.as.prediction, &came));
        if (!came) break;
        int64_t now = stamp_ns(l, 0);
        OC_TRY(input_give(l, &input, now));
        l->result->predictions++;
        double late = (double)(now - input.as.prediction.input_ns) / l->setup->pace.speed;
        if (l->setup->delays) oc_delay_add(l->setup->delays, (int64_t)late);
    }
    return OC_OK;
}

/* Until the clock says until_ns; what is due before it, and what comes, is given meanwhile. */
static oc_status live_until(loop *l, int64_t until_ns)
{
    while (!stop_asked(l)) {
        OC_TRY(answers_take(l));
        int64_t now = market_now(l), due = due_ns(l);
        if (due < until_ns && due <= now)
            OC_TRY(due_give(l, due));
        else if (until_ns <= now)
            break;
        else
            nap(l, due < until_ns ? due : until_ns);
    }
    return OC_OK;
}

/* Everything that lies before this time has been given behind it. */
static oc_status pass_until(loop *l, int64_t until_ns)
{
    if (!l->paced) {
        l->paced = true;
        l->market_ns = until_ns;
        l->clock_ns = clock_now(l);
    }
    if (l->setup->pace.live) return live_until(l, until_ns);
    while (l->setup->pace.speed > 0 && market_now(l) < until_ns && !stop_asked(l)) nap(l, until_ns);
    return stop_asked(l) ? OC_OK : due_run(l, until_ns);
}

/* ---- events ---- */

/* The engine keeps no book: it is told of the best prices when they change or are confirmed, and of a break as it
 * comes. */
static oc_status market_give(loop *l, const oc_event *event)
{
    oc_event quote;
    oc_quote_state *state = &l->quote[event->instrument];
    if (event->kind == OC_EVENT_STATUS) state->known = false; /* to the engine too: the same prices are news again */
    if (event->kind == OC_EVENT_BAR || event->kind == OC_EVENT_STATUS) return market_input(l, event);
    if (!event->flags) return OC_OK; /* within a packet */
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

static oc_status prediction_wait(loop *l, oc_prediction p)
{
    const oc_loop_setup *s = l->setup;
    if (l->tail - l->head == OC_LOOP_PENDING_MAX)
        return OC_FAIL(OC_ELIMIT, "%d predictions wait for decision_delay_ns %lld to pass: make it shorter",
                       OC_LOOP_PENDING_MAX, (long long)s->decision_delay_ns);
    int64_t delay = s->delay ? oc_delay_draw(s->delay, p.instrument, p.sequence) : s->decision_delay_ns;
    int64_t at = p.input_ns + delay;
    if (at < l->pending_last_ns) at = l->pending_last_ns;
    l->pending_last_ns = at;
    l->pending[l->tail++ % OC_LOOP_PENDING_MAX] = (pending_slot){at, p};
    l->result->predictions++;
    return OC_OK;
}

static oc_status predict(loop *l, const oc_feature_row *row)
{
    bool made = false;
    const oc_predictor *predictor = &l->setup->predictor;
    const oc_prediction stamp = {
        .input_ns = row->time_ns, .sequence = l->sequence[row->instrument], .instrument = row->instrument};
    oc_prediction p = stamp;
    if (!predictor->predict) return OC_OK;
    if (l->setup->pace.live) return predictor->send(predictor->context, row, &stamp);
    OC_TRY(predictor->predict(predictor->context, row, &p, &made));
    p.input_ns = stamp.input_ns;
    p.sequence = stamp.sequence;
    p.instrument = stamp.instrument;
    return made ? prediction_wait(l, p) : OC_OK;
}

static oc_status begin(loop *l, int64_t now_ns)
{
    l->begun = true;
    if (l->setup->first_action_count > 0) {
        memcpy(l->action, l->setup->first_actions, l->setup->first_action_count * sizeof *l->action);
        OC_TRY(actions_send(l, l->setup->first_action_count, now_ns));
    }
    return l->setup->venue.connect(l->setup->venue.context, now_ns);
}

static void events_count(loop *l, int64_t now_ns, size_t events, size_t rows)
{
    oc_loop_result *r = l->result;
    if (r->traded_events == 0) r->first_ns = now_ns;
    r->traded_events += events;
    r->last_ns = now_ns;
    r->rows += rows;
}

/* Before the events of a time what is due. */
static oc_status time_pass(loop *l, int64_t now_ns)
{
    if (now_ns == l->passed_ns && !l->setup->pace.live) return OC_OK;
    OC_TRY(pass_until(l, now_ns));
    l->passed_ns = now_ns;
    return OC_OK;
}

static oc_status event_take(loop *l, const oc_event *event)
{
    const oc_feature_row *row;
    const oc_venue *venue = &l->setup->venue;
    bool counted = event->receive_ns >= l->setup->first_ns, traded = counted && event->receive_ns > l->setup->resume_ns;
    if (traded) OC_TRY(time_pass(l, event->receive_ns));
    if (l->result->stopped) return OC_OK;
    l->result->events++;
    if (venue->market) venue->market(venue->context, event);
    OC_TRY(oc_features_apply(l->setup->features, event, &row));
    if (row) l->sequence[row->instrument]++;
    if (counted) events_count(l, event->receive_ns, 1, row != NULL);
    if (!traded) return remember(l, row);
    if (!l->begun) OC_TRY(begin(l, stamp_ns(l, event->receive_ns)));
    OC_TRY(market_give(l, event));
    return row ? predict(l, row) : OC_OK;
}

/* How many of these events, from the first, change levels within one packet: nothing looks at the book between them. */
static size_t levels_count(const loop *l, const oc_event *events, size_t count)
{
    size_t n = 0;
    if (!l->setup->venue.levels || l->setup->pace.live) return 0;
    for (; n < count; n++) {
        const oc_event *e = &events[n];
        if (e->kind != OC_EVENT_LEVEL || e->flags || e->instrument != events->instrument ||
            e->receive_ns != events->receive_ns)
            break;
    }
    return n;
}

/* What event_take does with each of them, at once. */
static oc_status levels_take(loop *l, const oc_event *events, size_t count)
{
    const oc_venue *venue = &l->setup->venue;
    int64_t now_ns = events->receive_ns;
    bool counted = now_ns >= l->setup->first_ns, traded = counted && now_ns > l->setup->resume_ns;
    if (traded) OC_TRY(time_pass(l, now_ns));
    if (l->result->stopped) return OC_OK;
    l->result->events += count;
    venue->levels(venue->context, events, count);
    OC_TRY(oc_features_levels(l->setup->features, events, count));
    if (counted) events_count(l, now_ns, count, 0);
    return traded && !l->begun ? begin(l, stamp_ns(l, now_ns)) : OC_OK;
}

/* Also where no event was left of a session that goes on: its venue may know of fills that it does not. */
static oc_status finish(loop *l)
{
    int64_t before = l->setup->first_ns - 1, now = before > l->setup->resume_ns ? before : l->setup->resume_ns;
    if (l->begun) now = l->result->last_ns;
    if (l->begun) OC_TRY(pass_until(l, now + 1));
    if (l->setup->settle_ns == 0 || l->result->stopped) return OC_OK;
    if (!l->begun) {
        l->market_ns = now;
        l->clock_ns = clock_now(l);
        OC_TRY(begin(l, now));
    }
    return due_run(l, now + l->setup->settle_ns);
}

static oc_status events_run(loop *l)
{
    const oc_event *events;
    size_t count;
    for (;;) {
        OC_TRY(l->setup->feed.next(l->setup->feed.context, &events, &count));
        if (count == 0) return finish(l);
        for (size_t i = 0; i < count;) {
            if (events[i].receive_ns > l->setup->last_ns) return finish(l);
            size_t levels = levels_count(l, &events[i], count - i);
            OC_TRY(levels ? levels_take(l, &events[i], levels) : event_take(l, &events[i]));
            if (l->result->stopped) return OC_OK;
            i += levels ? levels : 1;
        }
    }
}

static oc_status setup_check(const oc_loop_setup *s)
{
    const oc_loop_pace *pace = &s->pace;
    if (!(pace->speed >= 0 && pace->speed <= OC_LOOP_SPEED_MAX) || (pace->live && !(pace->speed > 0)))
        return OC_FAIL(OC_ECONFIG, "a feed at %g times its time: live time needs more than 0, and %g is the most",
                       pace->speed, OC_LOOP_SPEED_MAX);
    if (pace->live && s->predictor.predict && !(s->predictor.send && s->predictor.poll))
        return OC_FAIL(OC_ECONFIG, "live time needs a predictor that answers when it can, such as a server");
    if (s->first_action_count > OC_ACTIONS_MAX)
        return OC_FAIL(OC_ELIMIT, "%zu first actions, at most %d", s->first_action_count, OC_ACTIONS_MAX);
    return OC_OK;
}

/* Half of the time after which the engine calls a quote stale: then one that still stands is given again. */
static void quotes_begin(loop *l)
{
    const oc_engine *engine = oc_desk_engine(l->setup->desk);
    for (uint32_t i = 0; i < oc_engine_markets(engine); i++) l->quote[i].repeat_ns = oc_engine_stale_ns(engine, i) / 2;
}

oc_status oc_loop_run(const oc_loop_setup *setup, oc_loop_result *result)
{
    loop *l;
    memset(result, 0, sizeof *result);
    OC_TRY(setup_check(setup));
    OC_TRY(oc_memory_new(&l, sizeof *l, "trading loop"));
    l->setup = setup;
    l->result = result;
    l->timer_ns = INT64_MAX;
    l->pending_last_ns = l->passed_ns = INT64_MIN;
    quotes_begin(l);
    oc_features_begin(setup->features);
    oc_status status = events_run(l);
    oc_memory_free(l);
    return status;
}
