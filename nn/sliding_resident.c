/* sliding_resident.c - see the header. */
#include "nn/sliding_resident.h"

#include <string.h>
#include "base/log.h"

struct oc_reside {
    oc_resident *kernel;
    const char *name;
    size_t inputs;
    int64_t bound_ns;
    float *raw; /* [slot_max,F]: the last row of each */
    bool silent;
};

static OC_MUST reside_fill(oc_reside *r, oc_backend *b, const oc_resident_model *m, size_t slot_max)
{
    OC_TRY(oc_memory_new_array(&r->raw, slot_max * r->inputs, sizeof *r->raw, "last rows"));
    OC_TRY(oc_resident_open(&r->kernel, b, m));
    const oc_resident_info *info = oc_resident_describe(r->kernel);
    oc_log(
        OC_LOG_INFO,
        "model %s: gpu_path resident on %d multiprocessors, %zu bytes of shared memory each, %.3f MB of LSTM weights "
        "held%s",
        r->name, info->blocks, info->shared_bytes, (double)info->lstm_bytes * 1e-6,
        info->far_bytes ? "; attention and head come from L2" : ", attention and head too");
    return OC_OK;
}

oc_status oc_reside_open(oc_reside **out, oc_backend *b, const oc_resident_model *m, const char *name, size_t slot_max,
                         int64_t bound_ns)
{
    *out = NULL;
    OC_TRY(oc_memory_new(out, sizeof **out, "resident steps"));
    **out = (oc_reside){.name = name, .inputs = (size_t)m->shape.inputs, .bound_ns = bound_ns};
    const oc_status status = reside_fill(*out, b, m, slot_max);
    if (status == OC_OK) return OC_OK;
    oc_reside_close(*out);
    *out = NULL;
    return oc_status_trail(status, __FILE__, __LINE__);
}

void oc_reside_close(oc_reside *r)
{
    if (!r) return;
    oc_resident_close(r->kernel);
    oc_memory_free(r->raw);
    oc_memory_free(r);
}

bool oc_reside_answers(const oc_reside *r)
{
    return !r->silent;
}

static bool answered(oc_reside *r, oc_resident_state state)
{
    if (state == OC_RESIDENT_SILENT && !r->silent) {
        r->silent = true;
        oc_log(
            OC_LOG_ERROR,
            "model %s: the resident kernel did not answer within %.3f ms, or could not be started again: this row and "
            "all further ones go by gpu_path graph",
            r->name, (double)r->bound_ns * 1e-6);
    }
    return state == OC_RESIDENT_ANSWERED;
}

bool oc_reside_step(oc_reside *r, const uint32_t *slots, const int64_t *rows, const float *raw, size_t n,
                    float *answers)
{
    for (size_t i = 0; i < n; i++) memcpy(r->raw + slots[i] * r->inputs, raw + i * r->inputs, r->inputs * sizeof *raw);
    if (r->silent || n > OC_RESIDENT_ROWS) return false;
    return answered(r, oc_resident_step(r->kernel, slots, rows, raw, n, answers, r->bound_ns));
}

bool oc_reside_ping(oc_reside *r)
{
    return !r->silent && answered(r, oc_resident_step(r->kernel, NULL, NULL, NULL, 0, NULL, r->bound_ns));
}

void oc_reside_rows(const oc_reside *r, const uint32_t *slots, size_t n, float *raw)
{
    for (size_t i = 0; i < n; i++) memcpy(raw + i * r->inputs, r->raw + slots[i] * r->inputs, r->inputs * sizeof *raw);
}

oc_status oc_reside_keep(oc_reside *r, oc_tensor slots, oc_tensor rows, oc_tensor raw)
{
    OC_TRY(oc_resident_keep(r->kernel, slots, rows, raw));
    return OC_OK;
}
