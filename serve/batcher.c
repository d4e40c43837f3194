/* batcher.c - a batcher's memory, its thread and its sleep. What it does in a round stands in batcher_round.c. */
#include "serve/batcher.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/batcher_parts.h"

enum { YIELDS = 64 };
static const int64_t drain_max_ns = 2 * OC_SECOND_NS;

static void idle(oc_batcher *e, int64_t since_ns, int *yields)
{
    if (e->wait == OC_WAIT_SPIN || oc_clock_monotonic_ns() - since_ns < e->spin_ns) {
        oc_ring_pause();
    } else if (e->wait == OC_WAIT_YIELD || *yields < YIELDS) {
        sched_yield();
        *yields += e->wait == OC_WAIT_BLOCK;
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

/* Rows and answers of the last T of each session. */
size_t oc_batcher_kept_bytes(const oc_model_shape *shape, size_t sessions)
{
    return sessions * (size_t)shape->steps *
           (((size_t)shape->inputs + (size_t)shape->horizons * OC_CLASSES) * sizeof(float) + 1);
}

/* Beside the windows of the slots. */
static size_t rows_bytes(const oc_model_shape *shape, size_t sessions, bool two_slots)
{
    return oc_observed_bytes(shape, sessions) + (two_slots ? oc_batcher_kept_bytes(shape, sessions) : 0);
}

oc_slot_config oc_batcher_slot_config(const oc_model_shape *shape, const oc_batcher_config *c, int gpu)
{
    const size_t rows = rows_bytes(shape, (size_t)c->sessions_max, c->two_slots);
    const size_t left = c->memory_max_bytes > rows ? c->memory_max_bytes - rows : 0;
    oc_slot_config slot = {.batch_max = c->batch_max,
                           .sessions_max = c->sessions_max,
                           .memory_max_bytes = c->two_slots ? left / 2 : left,
                           .backend = c->backend,
                           .resident = c->resident};
    slot.backend.device = gpu;
    return slot;
}

size_t oc_batcher_planned_bytes(const oc_batcher *e)
{
    const bool two_slots = e->kept.rows != NULL;
    return (two_slots ? 2 : 1) * e->slots[0].bytes + rows_bytes(&e->shape, (size_t)e->sessions_max, two_slots) +
           e->stream_bytes;
}

static OC_MUST kept_make(oc_batcher *e)
{
    const size_t rows = (size_t)e->sessions_max * (size_t)e->shape.steps;
    OC_TRY(oc_memory_new_array(&e->kept.rows, rows * (size_t)e->shape.inputs, sizeof(float), "kept rows"));
    OC_TRY(oc_memory_new_array(&e->kept.answers, rows * output_count(e), sizeof(float), "kept answers"));
    OC_TRY(oc_memory_new_array(&e->sample.rows, window_cells(e), sizeof(float), "a window to compare"));
    OC_TRY(oc_memory_new_array(&e->kept.answered, rows, 1, "kept answers"));
    return OC_OK;
}

static OC_MUST batcher_fill(oc_batcher *e, const oc_version *version, const oc_batcher_config *config)
{
    const size_t inputs = (size_t)e->shape.inputs, cells = window_cells(e);
    const size_t batch = (size_t)config->batch_max, sessions = (size_t)config->sessions_max,
                 most = batch > sessions ? batch : sessions;
    const oc_slot_config slot = oc_batcher_slot_config(&e->shape, config, e->gpu);
    void *bell = NULL;
    OC_TRY(oc_slot_open(&e->slots[0], version, &slot));
    e->advance_ns = e->slots[0].advance_ns;
    e->answers_cap = most * output_count(e);
    OC_TRY(oc_memory_new_array(&e->sessions, sessions, sizeof *e->sessions, "sessions"));
    OC_TRY(oc_memory_new_array(&e->windows, batch, sizeof *e->windows, "pending windows"));
    OC_TRY(oc_memory_new_array(&e->pushes, sessions + 1, sizeof *e->pushes, "pending rows"));
    OC_TRY(oc_memory_new_array(&e->window_rows, batch * cells, sizeof(float), "rows of pending windows"));
    OC_TRY(oc_memory_new_array(&e->push_rows, (sessions + 1) * inputs, sizeof(float), "pending rows"));
    OC_TRY(oc_memory_new_array(&e->history.rows, cells, sizeof(float), "stored rows of a session"));
    OC_TRY(oc_memory_new_array(&e->answers, e->answers_cap, sizeof(float), "answers"));
    OC_TRY(oc_memory_new_array(&e->chosen, sessions, sizeof *e->chosen, "sessions of a call"));
    OC_TRY(oc_memory_new_array(&e->due, sessions, sizeof *e->due, "sessions to advance"));
    OC_TRY(oc_memory_new_array(&e->ours, (size_t)e->channel_count, sizeof(oc_channel *), "clients"));
    OC_TRY(oc_memory_new_array(&e->turns, (size_t)e->channel_count, sizeof(oc_channel *), "clients of a round"));
    OC_TRY(oc_memory_new_array(&e->full, most, sizeof *e->full, "answers of a call"));
    if (config->two_slots) OC_TRY(kept_make(e));
    OC_TRY(oc_observed_init(&e->observed, version->first, sessions));
    OC_TRY(oc_channel_memory("outcry-bell", OC_WIRE_REGION_OFFSET, &e->bell_fd, &bell));
    e->bell = bell;
    return OC_OK;
}

oc_status oc_batcher_init(oc_batcher *e, int index, const oc_version *version, const oc_batcher_config *config,
                          oc_channel *channels, int channel_count)
{
    const oc_model_shape *shape = oc_version_shape(version);
    const uint64_t window_bytes = oc_ring_record_bytes((size_t)shape->steps * (size_t)shape->inputs * sizeof(float)),
                   open_bytes = oc_ring_record_bytes(sizeof(oc_wire_open));
    *e = (oc_batcher){.channels = channels,
                      .channel_count = channel_count,
                      .welcomed = 1, /* a first look */
                      .index = index,
                      .batch_max = config->batch_max,
                      .sessions_max = config->sessions_max,
                      .wait = config->wait,
                      .cpu = -1,
                      .gpu = config->backend.device,
                      .spin_ns = config->spin_ns,
                      .queue_max_ns = config->queue_max_ns,
                      .idle_max_ns = config->idle_max_ns,
                      .budget = config->budget,
                      .shape = *shape,
                      .schema = version->first->schema,
                      .live_generation = version->generation,
                      .order = OC_ORDER_MAKE(version->generation, 0, 0),
                      .seen = OC_ORDER_MAKE(version->generation, 0, 0),
                      .record_max = window_bytes > open_bytes ? window_bytes : open_bytes,
                      .bell_fd = -1};
    memcpy(e->name, version->name, sizeof e->name);
    OC_TRY(batcher_fill(e, version, config));
    return oc_ticks_init(e, version->first, &config->ticks);
}

oc_status oc_batcher_start(oc_batcher *e, int cpu)
{
    char name[16];
    cpu_set_t set;
    int code = pthread_create(&e->thread, NULL, batcher_main, e);
    if (code != 0) return OC_FAIL(OC_EFAILED, "serve: a thread: %s", strerror(code));
    e->started = true;
    snprintf(name, sizeof name, "batcher-%d", e->index % 1000);
    (void)pthread_setname_np(e->thread, name);
    if (cpu < 0) return OC_OK;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    code = pthread_setaffinity_np(e->thread, sizeof set, &set);
    if (code != 0) return OC_FAIL(OC_ECONFIG, "serve.pin: batcher %d on core %d: %s", e->index, cpu, strerror(code));
    e->cpu = cpu;
    return OC_OK;
}

void oc_batcher_deinit(oc_batcher *e)
{
    __atomic_store_n(&e->stop, 1u, __ATOMIC_RELEASE);
    if (e->started) {
        (void)oc_ring_wake(&e->bell->asleep);
        pthread_join(e->thread, NULL);
    }
    oc_observed_deinit(&e->observed);
    oc_ticks_deinit(e);
    if (e->bell) munmap(e->bell, OC_WIRE_REGION_OFFSET);
    if (e->bell_fd >= 0) close(e->bell_fd);
    for (int i = 0; i < 2; i++) oc_slot_close(&e->slots[i]);
    void *const owned[] = {e->sessions,  e->windows, e->pushes, e->window_rows, e->history.rows, e->kept.rows,
                           e->push_rows, e->answers, e->chosen, e->full,        e->kept.answers, e->kept.answered,
                           e->due,       e->turns,   e->ours,   e->sample.rows};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) oc_memory_free(owned[i]);
}
