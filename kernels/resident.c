/* resident.c - the host's side of a resident kernel: words out, words in, never longer than the bound. */
#include "kernels/resident.h"

#include <assert.h>
#include <sched.h>
#include <string.h>
#include "base/clock.h"
#include "kernels/resident_mail.h"

enum {
    LOOKS = 64,
    PATIENCE_NS = 100000
}; /* at the answer, between two at the clock; until the core is offered to others */

oc_status oc_resident_open(oc_resident **out, oc_backend *b, const oc_resident_model *m)
{
    *out = NULL;
    if (!b->driver->resident)
        return OC_FAIL(OC_ECONFIG, "gpu_path resident is a kernel of a GPU; this backend is the CPU");
    OC_TRY(oc_memory_new(out, sizeof **out, "resident kernel"));
    **out = (oc_resident){.b = b, .model = *m, .tag = OC_MAIL_TAG_FIRST};
    const oc_status status = b->driver->resident->open(*out);
    if (status == OC_OK) return OC_OK;
    oc_memory_free(*out);
    *out = NULL;
    return oc_status_trail(status, __FILE__, __LINE__);
}

const oc_resident_info *oc_resident_describe(const oc_resident *r)
{
    return &r->info;
}

oc_status oc_resident_keep(oc_resident *r, oc_tensor slots, oc_tensor rows, oc_tensor raw)
{
    OC_TRY(r->b->driver->resident->keep(r, slots, rows, raw));
    return OC_OK;
}

void oc_resident_close(oc_resident *r)
{
    if (!r) return;
    r->b->driver->resident->close(r);
    oc_memory_free(r);
}

/* ---------------------------------------------------------------- a call */
/* Released: what the device did and the host waited for lies before every word. */
static void put(uint64_t *at, uint32_t tag, uint32_t number)
{
    __atomic_store_n(at, oc_mail_word(tag, number), __ATOMIC_RELEASE);
}

/* 0 is the tag of words that were never written; behind it old words could be taken for new ones. */
static uint32_t tag_next(oc_resident *r)
{
    if (++r->tag != 0) return r->tag;
    for (size_t i = 0; i < r->in_count; i++) put(r->in + i, 0, 0);
    for (size_t i = 0; i < r->out_count; i++) put(r->out + i, 0, 0);
    return ++r->tag;
}

static void call_write(oc_resident *r, uint32_t tag, const uint32_t *slots, const int64_t *rows, const float *raw,
                       size_t n)
{
    const size_t inputs = (size_t)r->model.shape.inputs, words = oc_mail_row_words(&r->model);
    for (size_t i = n; i-- > 0;) {
        uint64_t *row = r->in + OC_MAIL_ROW + i * words;
        put(row, tag, slots[i]);
        put(row + 1, tag, (uint32_t)(uint64_t)rows[i]);
        put(row + 2, tag, (uint32_t)((uint64_t)rows[i] >> 32));
        for (size_t j = 0; j < inputs; j++) {
            uint32_t bits;
            memcpy(&bits, &raw[i * inputs + j], sizeof bits);
            put(row + OC_MAIL_ROW_HEAD + j, tag, bits);
        }
    }
    put(r->in, tag, (uint32_t)n);
}

/* The words from *at on that are there go to answers. */
static bool answer_read(const oc_resident *r, uint32_t tag, size_t count, size_t *at, float *answers)
{
    for (; *at < count; ++*at) {
        const uint64_t word = __atomic_load_n(&r->out[*at], __ATOMIC_RELAXED);
        const uint32_t bits = (uint32_t)word;
        if (word >> 32 != tag) return false;
        if (answers) memcpy(&answers[*at], &bits, sizeof bits);
    }
    return true;
}

oc_resident_state oc_resident_step(oc_resident *r, const uint32_t *slots, const int64_t *rows, const float *raw,
                                   size_t n, float *answers, int64_t bound_ns)
{
    const size_t count = n > 0 ? n * (size_t)(r->model.horizons * OC_CLASSES) : 1;
    assert(n <= OC_RESIDENT_ROWS);
    if (!r->b->driver->resident->present(r))
        return __atomic_load_n(&r->silent, __ATOMIC_RELAXED) ? OC_RESIDENT_SILENT : OC_RESIDENT_AWAY;
    const uint32_t tag = tag_next(r);
    const int64_t start = oc_clock_monotonic_ns();
    size_t at = 0;
    call_write(r, tag, slots, rows, raw, n);
    for (uint32_t looks = 0;; looks++) {
        const bool left = !__atomic_load_n(&r->running, __ATOMIC_ACQUIRE); /* seen before the last look */
        if (answer_read(r, tag, count, &at, n > 0 ? answers : NULL)) return OC_RESIDENT_ANSWERED;
        if (left) return OC_RESIDENT_AWAY;
        if (looks % LOOKS != LOOKS - 1) continue;
        const int64_t waited_ns = oc_clock_monotonic_ns() - start;
        if (waited_ns >= bound_ns) break;
        if (waited_ns > PATIENCE_NS) (void)sched_yield();
    }
    __atomic_store_n(&r->silent, 1u, __ATOMIC_RELAXED);
    return OC_RESIDENT_SILENT;
}
