/* batcher.c - a batcher's memory, its thread and its sleep. What it does in a round stands in batcher_round.c. */
#include "serve/batcher.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/batcher_parts.h"

enum { YIELDS = 64, WARM_UPS = 8 };
static const int64_t drain_max_ns = 2 * OC_SECOND_NS;

static void idle(oc_batcher *e, int64_t since_ns, int *yields)
{
    if (oc_clock_monotonic_ns() - since_ns < e->spin_ns) {
        oc_ring_pause();
    } else if (*yields < YIELDS) {
        sched_yield();
        (*yields)++;
    } else {
        oc_ring_nod(&e->bell->asleep, true);
        if (!oc_batcher_round(e)) oc_ring_sleep(&e->bell->asleep, OC_WIRE_NAP_NS);
        oc_ring_nod(&e->bell->asleep, false);
    }
}

static void *batcher_main(void *argument)
{
    oc_batcher *e = argument;
    int64_t since_ns = oc_clock_monotonic_ns(), stopped_ns = 0;
    for (int yields = 0;;) {
        const bool any = oc_batcher_round(e);
        if (__atomic_load_n(&e->stop, __ATOMIC_ACQUIRE)) {
            const int64_t now = oc_clock_monotonic_ns();
            stopped_ns = stopped_ns ? stopped_ns : now;
            if (!any || now - stopped_ns > drain_max_ns) return NULL;
        }
        if (any) {
            /* Who sleeps for its answer wakes, on busy cores, on this very core and would wait for the spinning to end:
             * measured 60 us of a request over HTTP. */
            since_ns = oc_clock_monotonic_ns() - (e->woke ? e->spin_ns : 0);
            e->woke = false;
            yields = 0;
        } else {
            idle(e, since_ns, &yields);
        }
    }
}

/* The time of one advance, the least of a few: what a session's admission is reckoned with. */
static OC_MUST advance_measure(oc_batcher *e)
{
    const uint32_t slot = 0;
    uint8_t full;
    e->advance_ns = INT64_MAX;
    for (int i = 0; i < shape_of(e)->steps + WARM_UPS; i++) {
        OC_TRY(oc_sliding_step(e->sliding, &slot, e->push_rows, 1, e->answers, output_count(e), &full));
        const int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_sliding_advance(e->sliding, &slot, 1));
        const int64_t took = oc_clock_monotonic_ns() - start;
        if (i >= shape_of(e)->steps && took < e->advance_ns) e->advance_ns = took;
    }
    oc_sliding_reset(e->sliding, slot);
    e->advance_ns = e->advance_ns > 0 ? e->advance_ns : 1;
    return OC_OK;
}

oc_status oc_batcher_init(oc_batcher *e, int index, const oc_bundle *bundle, const oc_batcher_config *config,
                          oc_channel *channels, int channel_count)
{
    const size_t inputs = (size_t)bundle->shape.inputs, cells = inputs * (size_t)bundle->shape.steps;
    const size_t batch = (size_t)config->batch_max, sessions = (size_t)config->sessions_max,
                 most = batch > sessions ? batch : sessions;
    void *bell = NULL;
    *e = (oc_batcher){.channels = channels,
                      .channel_count = channel_count,
                      .index = index,
                      .batch_max = config->batch_max,
                      .sessions_max = config->sessions_max,
                      .spin_ns = config->spin_ns,
                      .budget = config->budget,
                      .bell_fd = -1};
    const uint64_t window_bytes = oc_ring_record_bytes(cells * sizeof(float)),
                   open_bytes = oc_ring_record_bytes(sizeof(oc_wire_open));
    e->record_max = window_bytes > open_bytes ? window_bytes : open_bytes;
    OC_TRY(oc_model_open(&e->model, bundle, &config->backend, config->batch_max));
    const size_t planned = oc_sliding_bytes(e->model, sessions);
    if (!(planned <= config->memory_max_bytes))
        return OC_FAIL(
            OC_ECONFIG,
            "model %s: windows of %zu sessions take %zu bytes, and this batcher may have %zu: lower serve.sessions or "
            "raise serve.memory_mb",
            bundle->name, sessions, planned, config->memory_max_bytes);
    OC_TRY(oc_sliding_open(&e->sliding, e->model, sessions));
    OC_TRY(oc_memory_new_array(&e->sessions, sessions, sizeof *e->sessions, "sessions"));
    OC_TRY(oc_memory_new_array(&e->windows, batch, sizeof *e->windows, "pending windows"));
    OC_TRY(oc_memory_new_array(&e->pushes, sessions + 1, sizeof *e->pushes, "pending rows"));
    OC_TRY(oc_memory_new_array(&e->window_rows, batch * cells, sizeof(float), "rows of pending windows"));
    OC_TRY(oc_memory_new_array(&e->push_rows, (sessions + 1) * inputs, sizeof(float), "pending rows"));
    OC_TRY(oc_memory_new_array(&e->history.rows, cells, sizeof(float), "stored rows of a session"));
    OC_TRY(oc_memory_new_array(&e->answers, most * output_count(e), sizeof(float), "answers"));
    OC_TRY(oc_memory_new_array(&e->slots, sessions, sizeof *e->slots, "slots"));
    OC_TRY(oc_memory_new_array(&e->full, sessions, sizeof *e->full, "slots"));
    OC_TRY(advance_measure(e));
    OC_TRY(oc_model_predict(e->model, e->window_rows, batch, e->answers, batch * output_count(e))); /* warm */
    OC_TRY(oc_channel_memory("outcry-bell", OC_WIRE_REGION_OFFSET, &e->bell_fd, &bell));
    e->bell = bell;
    return OC_OK;
}

oc_status oc_batcher_start(oc_batcher *e)
{
    const int code = pthread_create(&e->thread, NULL, batcher_main, e);
    if (code != 0) return OC_FAIL(OC_EFAILED, "serve: a thread: %s", strerror(code));
    e->started = true;
    return OC_OK;
}

void oc_batcher_deinit(oc_batcher *e)
{
    __atomic_store_n(&e->stop, 1u, __ATOMIC_RELEASE);
    if (e->started) {
        (void)oc_ring_wake(&e->bell->asleep);
        pthread_join(e->thread, NULL);
    }
    if (e->bell) munmap(e->bell, OC_WIRE_REGION_OFFSET);
    if (e->bell_fd >= 0) close(e->bell_fd);
    oc_sliding_close(e->sliding);
    oc_model_close(e->model);
    void *const owned[] = {e->sessions,  e->windows, e->pushes, e->window_rows, e->history.rows,
                           e->push_rows, e->answers, e->slots,  e->full};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) oc_memory_free(owned[i]);
}
