/* observed.c - one writer, many readers, all by relaxed or release stores: on x86 plain moves. A seat is guarded by a
 * count that is odd while it is written [Boehm12]. */
#include "serve/observed.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

enum { TRIES = 1000, KEEP_NS = 100000000 };
static const float FAR =
    64; /* deviations: one such row of OC_DRIFT_ROWS widens a spread of 1 to 1.7, below the alarm */

static void add(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

/* 1, 1.5, 2, 3, 4, 6, ... us */
int64_t oc_histogram_bound_ns(int bucket)
{
    const int64_t octave = INT64_C(1000) << (bucket / 2);
    return bucket == OC_HISTOGRAM_BUCKETS - 1 ? INT64_MAX : octave + (bucket & 1 ? octave / 2 : 0);
}

static int bucket_of(int64_t ns)
{
    int bucket = 0;
    if (ns >= 2000) bucket = 2 * (63 - __builtin_clzll((uint64_t)ns / 1000)) - 1;
    while (bucket < OC_HISTOGRAM_BUCKETS - 1 && ns >= oc_histogram_bound_ns(bucket)) bucket++;
    return bucket < OC_HISTOGRAM_BUCKETS ? bucket : OC_HISTOGRAM_BUCKETS - 1;
}

void oc_histogram_add(oc_histogram *h, int64_t ns)
{
    add(&h->buckets[bucket_of(ns)], 1);
    add(&h->ns, (uint64_t)ns);
    add(&h->count, 1);
}

void oc_histogram_add_shared(oc_histogram *h, int64_t ns)
{
    __atomic_fetch_add(&h->buckets[bucket_of(ns)], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&h->ns, (uint64_t)ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&h->count, 1, __ATOMIC_RELAXED);
}

enum { DRIFT_ARRAYS = 6 };

size_t oc_observed_bytes(const oc_model_shape *shape, size_t sessions)
{
    const size_t inputs = (size_t)shape->inputs, window = inputs * (size_t)shape->steps * sizeof(float);
    return (sessions + 1) * (sizeof(oc_seat) + window) + DRIFT_ARRAYS * inputs * sizeof(float);
}

oc_status oc_observed_init(oc_observed *o, const oc_bundle *bundle, size_t sessions)
{
    const size_t inputs = (size_t)bundle->shape.inputs, cells = inputs * (size_t)bundle->shape.steps;
    *o = (oc_observed){.steps = bundle->shape.steps,
                       .inputs = bundle->shape.inputs,
                       .horizons = bundle->shape.horizons,
                       .seat_count = sessions + 1};
    OC_TRY(oc_memory_new_array(&o->seats, o->seat_count, sizeof *o->seats, "observed sessions"));
    OC_TRY(oc_memory_new_array(&o->room, o->seat_count * cells, sizeof(float), "observed windows"));
    float **const arrays[DRIFT_ARRAYS] = {&o->means, &o->scales, &o->shift, &o->spread, &o->shown, &o->shown_spread};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        OC_TRY(oc_memory_new_array(arrays[i], inputs, sizeof(float), "drift"));
    for (size_t i = 0; i < inputs; i++) {
        o->means[i] = (float)bundle->mean[i];
        o->scales[i] = (float)(1 / bundle->scale[i]);
    }
    for (size_t i = 0; i < o->seat_count; i++) o->seats[i].rows = o->room + i * cells;
    return OC_OK;
}

void oc_observed_deinit(oc_observed *o)
{
    void *const owned[] = {o->seats, o->room, o->means, o->scales, o->shift, o->spread, o->shown, o->shown_spread};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) oc_memory_free(owned[i]);
}

void oc_observed_times(oc_observed *o, int64_t queue_ns, int64_t service_ns, int64_t now_ns)
{
    __atomic_store_n(&o->last_ns, now_ns, __ATOMIC_RELAXED);
    oc_histogram_add(&o->queue, queue_ns);
    oc_histogram_add(&o->service, service_ns);
    oc_histogram_add(&o->whole, queue_ns + service_ns);
}

void oc_observed_batch(oc_observed *o, int n, int64_t ns)
{
    if (n < 1 || n > OC_OBSERVED_BATCH_MAX) return;
    add(&o->batches[n - 1], 1);
    add(&o->batches_ns[n - 1], (uint64_t)ns);
    __atomic_store_n(&o->in_queue, (uint64_t)n, __ATOMIC_RELAXED);
}

/* The release keeps the count's odd value before what is written behind it. */
static void word_put(float *to, float value)
{
    __atomic_store(to, &value, __ATOMIC_RELEASE);
}

static float word_get(const float *from)
{
    float value;
    __atomic_load(from, &value, __ATOMIC_ACQUIRE);
    return value;
}

/* A number may be finite and yet so far away that sums with it are infinite for good. */
static float near(float z)
{
    return z >= -FAR ? (z <= FAR ? z : FAR) : -FAR;
}

/* Means over all rows until there are OC_DRIFT_ROWS of them, then with a weight that decays [West79 eq. 7]. */
static void drift_add(oc_observed *o, const float *row)
{
    const uint64_t seen = o->rows + 1;
    const float part = 1.0f / (float)(seen < OC_DRIFT_ROWS ? seen : OC_DRIFT_ROWS);
    for (int i = 0; i < o->inputs; i++) {
        const float z = near((row[i] - o->means[i]) * o->scales[i]), off = z - o->shift[i];
        o->shift[i] += part * off;
        o->spread[i] = (1 - part) * (o->spread[i] + part * off * off);
    }
    for (int i = 0; i < o->inputs; i++) {
        word_put(&o->shown[i], o->shift[i]);
        word_put(&o->shown_spread[i], o->spread[i]);
    }
    add(&o->rows, 1);
}

static void symbol_put(oc_seat *s, const char *symbol)
{
    char whole[OC_WIRE_SYMBOL] = {0};
    memcpy(whole, symbol, strnlen(symbol, sizeof whole - 1));
    for (size_t i = 0; i < sizeof whole; i++) __atomic_store_n(&s->symbol[i], whole[i], __ATOMIC_RELEASE);
}

static void answer_put(const oc_observed *o, oc_seat *s, const float *answer, uint32_t generation)
{
    if (!answer) return;
    for (int h = 0; h < o->horizons; h++)
        for (int k = 0; k < 3; k++) word_put(&s->answer[h][k], answer[h * 3 + k]);
    __atomic_store_n(&s->answered_ns, oc_clock_monotonic_ns(), __ATOMIC_RELEASE);
    __atomic_store_n(&s->generation, generation, __ATOMIC_RELEASE);
}

static void rows_put(const oc_observed *o, oc_seat *s, const float *rows, size_t n)
{
    const size_t inputs = (size_t)o->inputs;
    for (size_t r = 0; r < n; r++) {
        float *to = s->rows + s->at * inputs;
        for (size_t i = 0; i < inputs; i++) word_put(&to[i], rows[r * inputs + i]);
        __atomic_store_n(&s->at, (s->at + 1) % (uint64_t)o->steps, __ATOMIC_RELEASE);
    }
}

void oc_observed_push(oc_observed *o, size_t session, const char *symbol, const float *row, const float *answer,
                      uint32_t generation)
{
    oc_seat *s = &o->seats[session];
    drift_add(o, row);
    __atomic_store_n(&s->turn, s->turn + 1, __ATOMIC_RELAXED);
    if (strncmp(s->symbol, symbol, sizeof s->symbol) != 0) symbol_put(s, symbol);
    rows_put(o, s, row, 1);
    __atomic_store_n(&s->full, answer != NULL, __ATOMIC_RELEASE);
    answer_put(o, s, answer, generation);
    __atomic_store_n(&s->turn, s->turn + 1, __ATOMIC_RELEASE);
}

void oc_observed_window(oc_observed *o, const float *rows, const float *answer, uint32_t generation)
{
    oc_seat *s = &o->seats[o->seat_count - 1];
    const size_t last = (size_t)(o->steps - 1) * (size_t)o->inputs;
    const int64_t now = oc_clock_monotonic_ns();
    drift_add(o, rows + last);
    if (now - o->window_ns < KEEP_NS) return;
    o->window_ns = now;
    __atomic_store_n(&s->turn, s->turn + 1, __ATOMIC_RELAXED);
    if (!s->symbol[0]) symbol_put(s, "(windows)");
    rows_put(o, s, rows, (size_t)o->steps);
    __atomic_store_n(&s->full, 1, __ATOMIC_RELEASE);
    answer_put(o, s, answer, generation);
    __atomic_store_n(&s->turn, s->turn + 1, __ATOMIC_RELEASE);
}

void oc_observed_leave(oc_observed *o, size_t session)
{
    oc_seat *s = &o->seats[session];
    __atomic_store_n(&s->turn, s->turn + 1, __ATOMIC_RELAXED);
    symbol_put(s, "");
    __atomic_store_n(&s->full, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&s->answered_ns, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&s->turn, s->turn + 1, __ATOMIC_RELEASE);
}

/* ---- readers -------------------------------------------------------------------------------------------------------
 */
static void seat_copy(const oc_observed *o, const oc_seat *s, oc_seat_view *out, float *window)
{
    const uint64_t steps = (uint64_t)o->steps, inputs = (uint64_t)o->inputs,
                   at = __atomic_load_n(&s->at, __ATOMIC_ACQUIRE);
    for (size_t i = 0; i < sizeof out->symbol; i++) out->symbol[i] = __atomic_load_n(&s->symbol[i], __ATOMIC_ACQUIRE);
    out->symbol[sizeof out->symbol - 1] = 0;
    for (int h = 0; h < o->horizons; h++)
        for (int k = 0; k < 3; k++) out->answer[h][k] = word_get(&s->answer[h][k]);
    out->answered_ns = __atomic_load_n(&s->answered_ns, __ATOMIC_ACQUIRE);
    out->generation = __atomic_load_n(&s->generation, __ATOMIC_ACQUIRE);
    out->full = __atomic_load_n(&s->full, __ATOMIC_ACQUIRE) != 0;
    for (uint64_t r = 0; window && r < steps; r++)
        for (uint64_t i = 0; i < inputs; i++)
            window[r * inputs + i] = word_get(&s->rows[(at + r) % steps * inputs + i]);
}

bool oc_observed_read(const oc_observed *o, size_t seat, oc_seat_view *out, float *window)
{
    const oc_seat *s = &o->seats[seat];
    for (int i = 0; i < TRIES; i++) {
        const uint64_t before = __atomic_load_n(&s->turn, __ATOMIC_ACQUIRE);
        seat_copy(o, s, out, window);
        if (!(before & 1) && __atomic_load_n(&s->turn, __ATOMIC_RELAXED) == before) return out->symbol[0] != 0;
    }
    return false;
}

void oc_observed_drift(const oc_observed *o, float *mean, float *variance)
{
    for (int i = 0; i < o->inputs; i++) {
        mean[i] = word_get(&o->shown[i]);
        variance[i] = word_get(&o->shown_spread[i]);
    }
}
