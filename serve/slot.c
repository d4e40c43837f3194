/* slot.c - opening, warming and measuring a version; its members side by side. */
#include "serve/slot.h"

#include "base/clock.h"
#include "base/memory.h"

enum { WARM_UPS = 8 };

static size_t output_count(const oc_slot *s)
{
    return (size_t)oc_version_shape(s->version)->horizons * OC_CLASSES;
}

/* A few windows, and the time of one advance: what a session's admission is reckoned with. */
static OC_MUST slot_warm(oc_slot *s, float *rows, size_t windows)
{
    const int steps = oc_version_shape(s->version)->steps;
    const uint32_t first = 0;
    float answer[OC_HORIZONS_MAX * OC_CLASSES], *answers;
    uint8_t full;
    s->advance_ns = INT64_MAX;
    for (int i = 0; i < steps + WARM_UPS; i++) {
        OC_TRY(oc_slot_step(s, &first, rows, 1, answer, sizeof answer / sizeof answer[0], &full));
        const int64_t start = oc_clock_monotonic_ns();
        while (oc_slot_due(s, first)) OC_TRY(oc_slot_advance_some(s, first));
        const int64_t took = oc_clock_monotonic_ns() - start;
        if (i >= steps && took < s->advance_ns) s->advance_ns = took;
    }
    oc_slot_reset(s, first);
    s->advance_ns = s->advance_ns > 0 ? s->advance_ns : 1;
    OC_TRY(oc_memory_new_array(&answers, windows * output_count(s), sizeof *answers, "answers"));
    const oc_status status = oc_slot_predict(s, rows, windows, answers, windows * output_count(s));
    oc_memory_free(answers);
    return status;
}

static OC_MUST slot_fill(oc_slot *s, const oc_slot_config *c)
{
    const size_t sessions = (size_t)c->sessions_max, batch = (size_t)c->batch_max;
    const oc_model_shape *shape = oc_version_shape(s->version);
    float *rows;
    for (int i = 0; i < s->version->ensemble->count; i++) {
        OC_TRY(oc_model_open(&s->models[i], s->version->ensemble->members[i], &c->backend, c->batch_max));
        s->bytes += oc_sliding_bytes(s->models[i], sessions);
        if (!(s->bytes <= c->memory_max_bytes))
            return OC_FAIL(
                OC_ECONFIG,
                "model %s version %s: windows of %zu sessions take %zu bytes, and a slot of this batcher may have "
                "%zu beside the sessions' last rows: lower serve.sessions or raise serve.memory_mb",
                s->version->name, s->version->text, sessions, s->bytes, c->memory_max_bytes);
        OC_TRY(oc_sliding_open(&s->slidings[i], s->models[i], sessions));
        if (c->resident) OC_TRY(oc_sliding_reside(s->slidings[i], c->backend.wait_max_ns));
    }
    s->scratch_cap = (sessions > batch ? sessions : batch) * output_count(s);
    if (s->version->ensemble->count > 1)
        OC_TRY(oc_memory_new_array(&s->scratch, s->scratch_cap, sizeof *s->scratch, "answers"));
    OC_TRY(oc_memory_new_array(&rows, batch * (size_t)shape->steps * (size_t)shape->inputs, sizeof *rows, "rows"));
    const oc_status status = slot_warm(s, rows, batch);
    oc_memory_free(rows);
    return status;
}

oc_status oc_slot_open(oc_slot *s, const oc_version *version, const oc_slot_config *config)
{
    *s = (oc_slot){.version = version};
    const oc_status status = slot_fill(s, config);
    if (status != OC_OK) {
        oc_slot_close(s);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    return OC_OK;
}

void oc_slot_close(oc_slot *s)
{
    for (int i = 0; i < OC_ENSEMBLE_MAX; i++) {
        oc_sliding_close(s->slidings[i]);
        oc_model_close(s->models[i]);
    }
    oc_memory_free(s->scratch);
    *s = (oc_slot){.version = NULL};
}

oc_status oc_slot_predict(oc_slot *s, const float *rows_raw, size_t windows, float *probabilities, size_t cap)
{
    for (int i = 0; i < s->version->ensemble->count; i++) {
        OC_TRY(oc_model_predict(s->models[i], rows_raw, windows, i == 0 ? probabilities : s->scratch,
                                i == 0 ? cap : s->scratch_cap));
        oc_ensemble_add(s->version->ensemble, i, s->scratch, probabilities, windows * output_count(s));
    }
    return OC_OK;
}

oc_status oc_slot_step(oc_slot *s, const uint32_t *slots, const float *rows_raw, size_t n, float *probabilities,
                       size_t cap, uint8_t *full)
{
    for (int i = 0; i < s->version->ensemble->count; i++) {
        OC_TRY(oc_sliding_step(s->slidings[i], slots, rows_raw, n, i == 0 ? probabilities : s->scratch,
                               i == 0 ? cap : s->scratch_cap, full));
        oc_ensemble_add(s->version->ensemble, i, s->scratch, probabilities, n * output_count(s));
    }
    return OC_OK;
}

/* The first member with a piece to be done; count: none. */
static int due_member(const oc_slot *s, uint32_t slot)
{
    int i = 0;
    while (i < s->version->ensemble->count && !oc_sliding_due(s->slidings[i], slot)) i++;
    return i;
}

oc_status oc_slot_advance_some(oc_slot *s, uint32_t slot)
{
    const int member = due_member(s, slot); /* where none has anything due, the first one says so */
    return oc_sliding_advance_some(s->slidings[member < s->version->ensemble->count ? member : 0], slot);
}

oc_status oc_slot_hasten(oc_slot *s, uint32_t slot)
{
    for (int i = 0; i < s->version->ensemble->count; i++) OC_TRY(oc_sliding_hasten(s->slidings[i], slot));
    return OC_OK;
}

bool oc_slot_due(const oc_slot *s, uint32_t slot)
{
    return due_member(s, slot) < s->version->ensemble->count;
}

void oc_slot_reset(oc_slot *s, uint32_t slot)
{
    for (int i = 0; s->version && i < s->version->ensemble->count; i++) oc_sliding_reset(s->slidings[i], slot);
}
