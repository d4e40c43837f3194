/* simulate_oracle.c - the exact probabilities of a label from a published state of the simulated market.
 *
 * Forward dynamic programming: mass[regime][flow][centre] over the centres that K packets can reach, K times one packet
 * as simulate.c draws it (a jump or a drift moves the centre, then a block may set the regime). The mirror at the
 * bounds is in it. Far from both bounds the spread around the start does not depend on the start, so four spreads serve
 * almost all questions; a start near a bound costs one recursion of its own, once. Every answer is kept by state. */
#include "market/simulate.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

enum {
    CENTRES = OC_CENTRE_MAX - OC_CENTRE_MIN + 1,
    STATES = 4,                                    /* regime -1, -1, +1, +1; flow -1, +1, -1, +1 */
    REACH_MAX = OC_SIMULATE_HORIZON_MAX * OC_JUMP_MAX,
    SPREAD_MAX = 2 * REACH_MAX + 1,
    SIZES = OC_JUMP_MAX - OC_JUMP_MIN + 1
};

typedef struct answer {
    double p[3];
    bool known;
} answer;

typedef struct mass {
    double of[STATES][SPREAD_MAX];
} mass;

struct oc_oracle {
    oc_market_rates rates;
    uint32_t horizon;
    int64_t reach;                                 /* ticks that `horizon` packets can move */
    double threshold;
    bool far_known[STATES];
    double far[STATES][SPREAD_MAX];                /* at index reach + displacement */
    mass work[2];
    answer answers[CENTRES][STATES];
};

static size_t state_index(int regime, int flow)
{
    return (size_t)(regime > 0) * 2 + (size_t)(flow > 0);
}

oc_status oc_oracle_open(oc_oracle **out, const oc_market_rates *rates, uint32_t horizon, double threshold)
{
    *out = NULL;
    if (horizon < 1 || horizon > OC_SIMULATE_HORIZON_MAX)
        return OC_FAIL(OC_ELIMIT, "a horizon of %u rows, not 1 to %d", horizon, OC_SIMULATE_HORIZON_MAX);
    if (!(threshold >= 0 && threshold < 1)) return OC_FAIL(OC_ELIMIT, "a threshold of %g, not in [0, 1)", threshold);
    OC_TRY(oc_memory_new(out, sizeof **out, "simulation oracle"));
    (*out)->rates = *rates;
    (*out)->horizon = horizon;
    (*out)->reach = (int64_t)horizon * OC_JUMP_MAX;
    (*out)->threshold = threshold;
    return OC_OK;
}

void oc_oracle_close(oc_oracle *o)
{
    oc_memory_free(o);
}

/* Where a move of `ticks` from `centre` ends. */
static int64_t mirrored(int64_t centre, int64_t ticks)
{
    int64_t end = centre + ticks;
    return end < OC_CENTRE_MIN || end > OC_CENTRE_MAX ? centre - ticks : end;
}

/* The moves of one packet out of one cell; a jump leaves both flows equally likely. `origin`: the centre of index 0. */
static void cell_step(const oc_oracle *o, mass *next, size_t state, int64_t origin, int64_t centre, double p)
{
    int regime = state & 2 ? 1 : -1, flow = state & 1 ? 1 : -1;
    double still = p * (1 - o->rates.jump), *same = next->of[state];
    same[centre - origin] += still * (1 - o->rates.drift);
    same[mirrored(centre, 1) - origin] += still * o->rates.drift / 2;
    same[mirrored(centre, -1) - origin] += still * o->rates.drift / 2;
    for (int side = -1; side <= 1; side += 2) {
        double each = p * o->rates.jump * (1 + side * regime * flow * o->rates.edge) / 2 / SIZES / 2;
        for (int64_t ticks = OC_JUMP_MIN; ticks <= OC_JUMP_MAX; ticks++) {
            int64_t end = mirrored(centre, side * ticks) - origin;
            next->of[state & 2][end] += each;
            next->of[state | 1][end] += each;
        }
    }
}

/* A block sets the regime anew, whatever it was. */
static void block_step(const oc_oracle *o, mass *m, size_t count)
{
    for (size_t flow = 0; flow < 2; flow++) {
        double *reversal = m->of[flow], *momentum = m->of[2 + flow];
        for (size_t i = 0; i < count; i++) {
            double renewed = (reversal[i] + momentum[i]) * o->rates.block;
            reversal[i] = reversal[i] * (1 - o->rates.block) + renewed * (1 - o->rates.momentum);
            momentum[i] = momentum[i] * (1 - o->rates.block) + renewed * o->rates.momentum;
        }
    }
}

/* The distribution of the centre `horizon` packets on, at index reach + displacement. */
static void spread_compute(oc_oracle *o, size_t state, int64_t centre, double *spread)
{
    size_t count = (size_t)(2 * o->reach + 1);
    int64_t origin = centre - o->reach;
    mass *now = &o->work[0], *next = &o->work[1];
    for (size_t s = 0; s < STATES; s++) memset(now->of[s], 0, count * sizeof(double));
    now->of[state][o->reach] = 1;
    for (uint32_t step = 0; step < o->horizon; step++) {
        int64_t reached = (int64_t)step * OC_JUMP_MAX;
        for (size_t s = 0; s < STATES; s++) memset(next->of[s], 0, count * sizeof(double));
        for (size_t s = 0; s < STATES; s++) {
            for (int64_t c = centre - reached; c <= centre + reached; c++) {
                double p = now->of[s][c - origin];
                if (p > 0) cell_step(o, next, s, origin, c, p);
            }
        }
        block_step(o, next, count);
        mass *done = now;
        now = next;
        next = done;
    }
    for (size_t i = 0; i < count; i++) {
        spread[i] = 0;
        for (size_t s = 0; s < STATES; s++) spread[i] += now->of[s][i];
    }
}

/* The label's class from half ticks, in the doubles that the label itself uses (datasets): 0 buy, 1 sell, 2 hold. */
static int label_class(int64_t centre, int64_t end, double threshold)
{
    double change = (double)(2 * end + 1) / (double)(2 * centre + 1) - 1.0;
    return change > threshold ? 0 : change < -threshold ? 1 : 2;
}

static void answer_compute(oc_oracle *o, size_t state, int64_t centre, answer *a)
{
    double own[SPREAD_MAX];
    double *spread = own;
    if (centre - o->reach >= OC_CENTRE_MIN && centre + o->reach <= OC_CENTRE_MAX) {
        spread = o->far[state];
        if (!o->far_known[state]) spread_compute(o, state, centre, spread);
        o->far_known[state] = true;
    } else {
        spread_compute(o, state, centre, own);
    }
    for (int64_t d = -o->reach; d <= o->reach; d++) {
        a->p[label_class(centre, centre + d, o->threshold)] += spread[o->reach + d];
    }
    a->known = true;
}

const double *oc_oracle_ask(oc_oracle *o, const oc_market_state *state)
{
    assert(state->centre_ticks >= OC_CENTRE_MIN && state->centre_ticks <= OC_CENTRE_MAX);
    size_t index = state_index(state->regime, state->flow);
    answer *a = &o->answers[state->centre_ticks - OC_CENTRE_MIN][index];
    if (!a->known) answer_compute(o, index, state->centre_ticks, a);
    return a->p;
}
