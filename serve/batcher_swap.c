/* batcher_swap.c - two versions in one batcher. The other slot's windows take the rows that the batcher keeps, in their
 * order, a row at a time and its advance in pieces: in idle time while it runs as a shadow, and behind the answers of a
 * round where its session is to move there. A session moves when the other slot has every row of it in all windows and
 * nothing of it is under way, so between two requests: what it is asked next is answered by the other version, from
 * windows with the same rows. What it leaves behind goes on following, so that the way back is as short. */
#include <math.h>
#include <string.h>
#include "base/clock.h"
#include "serve/batcher_parts.h"

/* A round, for a session that is to move: rows or pieces; and whole rows where it was given one itself in the round,
 * one more than that, so that it gets there. */
enum { MOVE_ROWS = 2 };

static size_t steps_of(const oc_batcher *e)
{
    return (size_t)shape_of(e)->steps;
}

static size_t place_of(const oc_batcher *e, const oc_session *s, uint64_t row)
{
    return (size_t)(s - e->sessions) * steps_of(e) + (size_t)(row % steps_of(e));
}

void oc_swap_keep(oc_batcher *e, oc_session *s, const float *row, const float *answer)
{
    const size_t inputs = (size_t)shape_of(e)->inputs, outputs = output_count(e), at = place_of(e, s, s->rows_next);
    if (!e->kept.rows) return;
    memcpy(e->kept.rows + at * inputs, row, inputs * sizeof *row);
    e->kept.answered[at] = answer != NULL;
    if (answer) memcpy(e->kept.answers + at * outputs, answer, outputs * sizeof *answer);
    s->rows_next++;
    s->row_round = e->rounds;
    e->lagging = true;
}

int oc_swap_slot(const oc_batcher *e, uint32_t canary)
{
    const int other = !e->live;
    if (!e->slots[other].version) return e->live;
    if (OC_ORDER_GENERATION(e->seen) == e->slots[other].version->generation) return other;
    return canary < OC_ORDER_CANARY(e->seen) ? other : e->live;
}

static void compare(oc_batcher *e, const float *given, const float *answer)
{
    oc_batcher_stats *t = &e->stats;
    const bool good = oc_batcher_probable(e, answer); /* the given one is */
    double most = good ? 0 : 1;
    bool decided_other = !good;
    for (int h = 0; good && h < shape_of(e)->horizons; h++) {
        int one = 0, two = 0;
        for (int k = 0; k < OC_CLASSES; k++) {
            const double difference = fabs((double)given[h * OC_CLASSES + k] - (double)answer[h * OC_CLASSES + k]);
            if (difference > most) most = difference;
            if (given[h * OC_CLASSES + k] > given[h * OC_CLASSES + one]) one = k;
            if (answer[h * OC_CLASSES + k] > answer[h * OC_CLASSES + two]) two = k;
        }
        decided_other |= one != two;
    }
    const uint64_t ppb = (uint64_t)(1e9 * most + 0.5);
    count(&t->compared, 1);
    count(&t->decided_other, decided_other);
    count(&t->difference_ppb, ppb);
    if (ppb > t->difference_max_ppb) __atomic_store_n(&t->difference_max_ppb, ppb, __ATOMIC_RELAXED);
}

static void begin_other(oc_batcher *e, oc_session *s, bool late)
{
    const uint64_t needed = steps_of(e) - 1, oldest = s->rows_next > needed ? s->rows_next - needed : 0;
    oc_slot_reset(&e->slots[!s->slot], (uint32_t)(s - e->sessions));
    s->followed = oldest > s->rows_first ? oldest : s->rows_first;
    s->follows = true;
    count(&e->stats.restarts, late);
}

static bool other_due(const oc_batcher *e, const oc_session *s)
{
    return oc_slot_due(&e->slots[!s->slot], (uint32_t)(s - e->sessions));
}

static bool other_has_all(const oc_batcher *e, const oc_session *s)
{
    return s->follows && s->followed == s->rows_next && !other_due(e, s);
}

/* A piece of the session's advance in the other slot where that has one to do, else one row; false where it has all. */
static bool follow(oc_batcher *e, oc_session *s)
{
    oc_slot *other = &e->slots[!s->slot];
    const uint32_t session = (uint32_t)(s - e->sessions);
    const bool late = s->rows_next - s->followed > steps_of(e); /* the next row is no longer kept */
    if (!s->follows || late) begin_other(e, s, s->follows && late);
    const bool piece = other_due(e, s);
    if (!piece && s->followed == s->rows_next) return false;
    const int64_t start = oc_clock_monotonic_ns();
    const size_t at = place_of(e, s, s->followed);
    const float *row = e->kept.rows + at * (size_t)shape_of(e)->inputs;
    if ((piece ? oc_slot_advance_some(other, session)
               : oc_slot_step(other, &session, row, 1, e->answers, e->answers_cap, e->full)) != OC_OK) {
        oc_batcher_failure_say(e);
        s->follows = false;
        return false;
    }
    count(&e->stats.follow_ns, (uint64_t)(oc_clock_monotonic_ns() - start));
    if (piece) return true;
    s->followed++;
    count(&e->stats.followed, 1);
    if (e->full[0] && e->kept.answered[at]) compare(e, e->kept.answers + at * output_count(e), e->answers);
    return true;
}

/* Only where nobody pushes: a whole window is longer than a step and an advance, and would hold a row up. */
void oc_swap_sample(oc_batcher *e, const float *window, const float *answer)
{
    if (!e->sample.rows || e->sample.held || e->stats.sessions > 0 || !OC_ORDER_FOLLOW(e->seen)) return;
    memcpy(e->sample.rows, window, window_cells(e) * sizeof *window);
    memcpy(e->sample.answer, answer, output_count(e) * sizeof *answer);
    e->sample.held = true;
}

static bool sample_follow(oc_batcher *e)
{
    if (!e->sample.held) return false;
    e->sample.held = false;
    const int64_t start = oc_clock_monotonic_ns();
    if (oc_slot_predict(&e->slots[!e->live], e->sample.rows, 1, e->answers, e->answers_cap) == OC_OK)
        compare(e, e->sample.answer, e->answers);
    else
        oc_batcher_failure_say(e);
    count(&e->stats.follow_ns, (uint64_t)(oc_clock_monotonic_ns() - start));
    return true;
}

bool oc_swap_follow(oc_batcher *e)
{
    if (!OC_ORDER_FOLLOW(e->seen) || !e->slots[!e->live].version) return false;
    if (sample_follow(e)) return true;
    if (!e->lagging) return false;
    for (int i = 0; i < e->sessions_max; i++) {
        oc_session *s = &e->sessions[e->follow_at];
        e->follow_at = (e->follow_at + 1) % e->sessions_max;
        if (s->id == 0 || other_has_all(e, s)) continue;
        (void)follow(e, s);
        return true;
    }
    e->lagging = false;
    return false;
}

static bool busy(const oc_batcher *e, const oc_session *s)
{
    return s->taken || (e->history.busy && e->history.pending.session == s);
}

static void live_turn(oc_batcher *e)
{
    const oc_slot *old = &e->slots[e->live];
    e->live = !e->live;
    e->sample.held = false;
    oc_session_reckon(e);
    __atomic_store_n(&e->other_generation, old->version->generation, __ATOMIC_RELEASE);
    __atomic_store_n(&e->live_generation, e->slots[e->live].version->generation, __ATOMIC_RELEASE);
}

/* Every session is where it shall be. */
static void moved_all(oc_batcher *e)
{
    const oc_version *other = e->slots[!e->live].version;
    e->moving = false;
    e->lagging = true;
    if (other && OC_ORDER_GENERATION(e->seen) == other->generation) live_turn(e);
}

static void move_nearer(oc_batcher *e, oc_session *s)
{
    const bool pressed = s->row_round == e->rounds;
    for (int n = 0; n < MOVE_ROWS && follow(e, s); n += !pressed || !other_due(e, s)) continue;
}

bool oc_swap_move(oc_batcher *e)
{
    bool any = false;
    if (!e->moving) return false;
    for (int i = 0; i < e->sessions_max; i++) {
        oc_session *s = &e->sessions[i];
        if (s->id == 0 || s->slot == oc_swap_slot(e, s->canary)) continue;
        any = true;
        move_nearer(e, s);
        if (busy(e, s)) continue; /* it moves behind its history, of which the other slot has every row by then */
        if (!other_has_all(e, s)) return true;
        s->slot = !s->slot; /* and what it leaves has every row too, if not yet in all windows */
        count(&e->stats.advances, s->due);
        s->due = 0;
        count(&e->stats.moves, 1);
        return true;
    }
    if (!any) moved_all(e);
    return any;
}

/* Takes the loader's version into the other slot, where no session is in that. */
static void offer_take(oc_batcher *e, oc_slot *offer)
{
    const int other = !e->live;
    const oc_slot old = e->slots[other];
    oc_batcher_stats *t = &e->stats;
    for (int i = 0; i < e->sessions_max; i++)
        if (e->sessions[i].id != 0 && e->sessions[i].slot == other) return;
    e->slots[other] = *offer;
    *offer = old;
    for (int i = 0; i < e->sessions_max; i++) e->sessions[i].follows = false;
    uint64_t *const begun_anew[] = {&t->followed,       &t->restarts,           &t->compared, &t->decided_other,
                                    &t->difference_ppb, &t->difference_max_ppb, &t->follow_ns};
    for (size_t i = 0; i < sizeof begun_anew / sizeof begun_anew[0]; i++)
        __atomic_store_n(begun_anew[i], 0, __ATOMIC_RELAXED);
    e->lagging = e->moving = true;
    e->sample.held = false;
    __atomic_store_n(&e->other_generation, e->slots[other].version ? e->slots[other].version->generation : 0,
                     __ATOMIC_RELEASE);
    __atomic_store_n(&e->offer, NULL, __ATOMIC_RELEASE);
}

void oc_swap_tend(oc_batcher *e)
{
    const oc_order order = __atomic_load_n(&e->order, __ATOMIC_ACQUIRE);
    if (order != e->seen) {
        __atomic_store_n(&e->seen, order, __ATOMIC_RELEASE);
        e->moving = e->lagging = true;
    }
    if (__atomic_load_n(&e->admit_ns, __ATOMIC_RELAXED) != e->admit_seen_ns) oc_session_reckon(e);
    oc_slot *offer = __atomic_load_n(&e->offer, __ATOMIC_ACQUIRE);
    if (offer) offer_take(e, offer);
}
