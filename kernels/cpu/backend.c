/* backend.c - opening a CPU backend: which instruction set, its arena, and the table of operations. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include "base/clock.h"
#include "kernels/cpu/backend_cpu.h"
#include "kernels/cpu/ops_cpu.h"
#include "kernels/cpu/peak.h"

static const oc_ops cpu_ops = {
    .gather_scale = oc_cpu_gather_scale,
    .lstm_packed_bytes = oc_cpu_lstm_packed_bytes,
    .lstm_pack = oc_cpu_lstm_pack,
    .lstm_reserve_bytes = oc_cpu_lstm_reserve_bytes,
    .lstm_forward = oc_cpu_lstm_forward,
    .lstm_backward = oc_cpu_lstm_backward,
    .lstm_step = oc_cpu_lstm_step,
    .attend_packed_bytes = oc_cpu_attend_packed_bytes,
    .attend_pack = oc_cpu_attend_pack,
    .attend_reserve_bytes = oc_cpu_attend_reserve_bytes,
    .attend_forward = oc_cpu_attend_forward,
    .attend_backward = oc_cpu_attend_backward,
    .slide_bytes = oc_cpu_slide_bytes,
    .slide_reset = oc_cpu_slide_reset,
    .slide_step = oc_cpu_slide_step,
    .slide_advance = oc_cpu_slide_advance,
    .linear_packed_bytes = oc_cpu_linear_packed_bytes,
    .linear_pack = oc_cpu_linear_pack,
    .linear_forward = oc_cpu_linear_forward,
    .linear_backward = oc_cpu_linear_backward,
    .dropout = oc_cpu_dropout,
    .softmax_loss = oc_cpu_softmax_loss,
    .softmax = oc_cpu_softmax,
    .tree_sum = oc_cpu_tree_sum,
    .square_sum = oc_cpu_square_sum,
    .adamw = oc_cpu_adamw,
    .blend = oc_cpu_blend,
    .fill = oc_cpu_fill,
};

static bool scalar_available(void)
{
    return true;
}

#if defined(__x86_64__)
static bool avx2_available(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool avx512_available(void)
{
    return avx2_available() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

typedef struct isa_row {
    const char *name;
    bool (*available)(void);
    const oc_cpu_kernels *kernels;
} isa_row;

static const isa_row isa_rows[] = {
    /* the best last */
    [OC_ISA_BEST] = {"best", NULL, NULL},
    [OC_ISA_SCALAR] = {"scalar", scalar_available, &oc_cpu_kernels_scalar},
#if defined(__x86_64__)
    [OC_ISA_AVX2] = {"avx2", avx2_available, &oc_cpu_kernels_avx2},
    [OC_ISA_AVX512] = {"avx512", avx512_available, &oc_cpu_kernels_avx512},
#else
    [OC_ISA_AVX2] = {"avx2", NULL, NULL},
    [OC_ISA_AVX512] = {"avx512", NULL, NULL},
#endif
};

enum { ISA_COUNT = sizeof isa_rows / sizeof isa_rows[0] };

bool oc_isa_available(oc_isa isa)
{
    return isa == OC_ISA_BEST || ((unsigned)isa < ISA_COUNT && isa_rows[isa].available && isa_rows[isa].available());
}

const char *oc_isa_name(oc_isa isa)
{
    return (unsigned)isa < ISA_COUNT ? isa_rows[isa].name : "unknown";
}

static oc_isa isa_best(void)
{
    for (unsigned i = ISA_COUNT - 1; i > OC_ISA_SCALAR; i--)
        if (oc_isa_available((oc_isa)i)) return (oc_isa)i;
    return OC_ISA_SCALAR;
}

/* The config's own wish, else the environment's, else the best there is. A wish that cannot be met is an error. */
static OC_MUST isa_choose(oc_isa wish, oc_isa *chosen)
{
    const char *text = getenv("OUTCRY_ISA"), *from = "the configuration asks for";
    if (wish == OC_ISA_BEST && text && *text) {
        for (unsigned i = OC_ISA_SCALAR; i < ISA_COUNT; i++)
            if (strcmp(text, isa_rows[i].name) == 0) wish = (oc_isa)i;
        if (wish == OC_ISA_BEST)
            return OC_FAIL(OC_ECONFIG, "OUTCRY_ISA is \"%.32s\", not scalar, avx2 or avx512", text);
        from = "OUTCRY_ISA asks for";
    }
    if (!oc_isa_available(wish))
        return OC_FAIL(OC_ECONFIG, "%s %s, which this machine does not have", from, oc_isa_name(wish));
    *chosen = wish == OC_ISA_BEST ? isa_best() : wish;
    return OC_OK;
}

double oc_cpu_fma_peak(oc_isa isa, double seconds)
{
    const oc_cpu_kernels *kernels = isa_rows[isa == OC_ISA_BEST ? isa_best() : isa].kernels;
    const int64_t start = oc_clock_monotonic_ns(), end = start + (int64_t)(seconds * 1e9);
    double best = 0;
    volatile float sink = 0;
    assert(oc_isa_available(isa));
    for (int64_t now = start; now < end;) {
        int64_t operations;
        sink = sink + kernels->fma_burst(20000, &operations);
        const int64_t after = oc_clock_monotonic_ns();
        const double rate = (double)operations * 1e9 / (double)(after - now);
        if (rate > best) best = rate;
        now = after;
    }
    return best;
}

static void device_name(char *text, size_t cap)
{
    snprintf(text, cap, "CPU");
#if defined(__x86_64__)
    unsigned words[12];
    char brand[sizeof words + 1] = {0};
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]))
            return;
    memcpy(brand, words, sizeof words);
    const char *start = brand + strspn(brand, " ");
    if (*start) snprintf(text, cap, "%s", start);
#endif
}

oc_status oc_backend_open(oc_backend **out, const oc_backend_config *config)
{
    oc_isa isa = OC_ISA_SCALAR;
    assert(out && config);
    *out = NULL;
    if (config->kind == OC_BACKEND_CUDA)
        return OC_FAIL(OC_ECONFIG, "backend is cuda, but this build has no CUDA module: set backend to cpu or auto");
    OC_TRY(isa_choose(config->isa, &isa));
    OC_TRY(oc_memory_new(out, sizeof **out, "backend"));
    oc_backend *b = *out;
    oc_status status = oc_arena_init(&b->arena, config->arena_bytes, "backend arena");
    if (status != OC_OK) {
        oc_backend_close(b);
        *out = NULL;
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    b->kernels = isa_rows[isa].kernels;
    b->info.kind = OC_BACKEND_CPU;
    b->info.isa = isa;
    device_name(b->info.device, sizeof b->info.device);
    snprintf(b->info.reason, sizeof b->info.reason, "%s; %s%s",
             config->kind == OC_BACKEND_AUTO ? "auto: no CUDA module, so the CPU" : "the CPU was asked for",
             oc_isa_name(isa), isa == isa_best() ? "" : ", by wish");
    return OC_OK;
}

void oc_backend_close(oc_backend *b)
{
    if (!b) return;
    oc_arena_deinit(&b->arena);
    oc_memory_free(b);
}

const oc_backend_info *oc_backend_describe(const oc_backend *b)
{
    return &b->info;
}

const oc_ops *oc_backend_ops(const oc_backend *b)
{
    (void)b;
    return &cpu_ops;
}

oc_status oc_backend_alloc(oc_backend *b, oc_tensor *t)
{
    OC_TRY(oc_arena_take(&b->arena, &t->data, (size_t)oc_tensor_count(*t) * oc_dtype_bytes(t->dtype), "a tensor"));
    return OC_OK;
}

void oc_backend_seal(oc_backend *b)
{
    oc_arena_seal(&b->arena);
}

oc_status oc_backend_upload(oc_backend *b, oc_tensor dst, const void *host, size_t bytes)
{
    (void)b;
    assert(bytes <= (size_t)oc_tensor_count(dst) * oc_dtype_bytes(dst.dtype));
    if (bytes > 0) memcpy(dst.data, host, bytes);
    return OC_OK;
}

oc_status oc_backend_download(oc_backend *b, void *host, size_t bytes, oc_tensor src)
{
    (void)b;
    assert(bytes <= (size_t)oc_tensor_count(src) * oc_dtype_bytes(src.dtype));
    if (bytes > 0) memcpy(host, src.data, bytes);
    return OC_OK;
}

oc_status oc_backend_wait(oc_backend *b)
{
    (void)b; /* the CPU has done everything when a call returns */
    return OC_OK;
}

size_t oc_dtype_bytes(oc_dtype dtype)
{
    static const size_t bytes[] = {[OC_DTYPE_F32] = 4, [OC_DTYPE_I32] = 4, [OC_DTYPE_I64] = 8, [OC_DTYPE_BYTES] = 1};
    assert((unsigned)dtype < sizeof bytes / sizeof bytes[0]);
    return bytes[dtype];
}

int64_t oc_tensor_count(oc_tensor t)
{
    return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3];
}

oc_tensor oc_tensor_make(void *data, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return (oc_tensor){.data = data, .dims = {d0, d1, d2, d3}, .dtype = dtype};
}
