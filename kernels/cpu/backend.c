/* backend.c - the CPU's driver: which instruction set, its arena, and the table of operations. */
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

static bool avx512_bf16_available(void)
{
    return avx512_available() && __builtin_cpu_supports("avx512bf16");
}
#endif

typedef struct isa_row {
    const char *name;
    bool (*available)(void);
    const oc_cpu_kernels *kernels, *pairs; /* for f32, for bf16 */
} isa_row;

static const isa_row isa_rows[] = {
    /* the best last */
    [OC_ISA_BEST] = {"best", NULL, NULL, NULL},
    [OC_ISA_SCALAR] = {"scalar", scalar_available, &oc_cpu_kernels_scalar, &oc_cpu_kernels_scalar_pairs},
#if defined(__x86_64__)
    [OC_ISA_AVX2] = {"avx2", avx2_available, &oc_cpu_kernels_avx2, &oc_cpu_kernels_avx2_pairs},
    [OC_ISA_AVX512] = {"avx512", avx512_available, &oc_cpu_kernels_avx512, &oc_cpu_kernels_avx512_pairs},
    [OC_ISA_AVX512_BF16] = {"avx512_bf16", avx512_bf16_available, &oc_cpu_kernels_avx512,
                            &oc_cpu_kernels_avx512_native},
#else
    [OC_ISA_AVX2] = {"avx2", NULL, NULL, NULL},
    [OC_ISA_AVX512] = {"avx512", NULL, NULL, NULL},
    [OC_ISA_AVX512_BF16] = {"avx512_bf16", NULL, NULL, NULL},
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

/* In f32 the last row has nothing that the one before it has not. */
static oc_isa isa_best(oc_math math)
{
    for (unsigned i = math == OC_MATH_BF16 ? OC_ISA_AVX512_BF16 : OC_ISA_AVX512; i > OC_ISA_SCALAR; i--)
        if (oc_isa_available((oc_isa)i)) return (oc_isa)i;
    return OC_ISA_SCALAR;
}

/* The config's own wish, else the environment's, else the best there is. A wish that cannot be met is an error. */
static OC_MUST isa_choose(oc_isa wish, oc_math math, oc_isa *chosen)
{
    const char *text = getenv("OUTCRY_ISA"), *from = "the configuration asks for";
    if (wish == OC_ISA_BEST && text && *text) {
        for (unsigned i = OC_ISA_SCALAR; i < ISA_COUNT; i++)
            if (strcmp(text, isa_rows[i].name) == 0) wish = (oc_isa)i;
        if (wish == OC_ISA_BEST)
            return OC_FAIL(OC_ECONFIG, "OUTCRY_ISA is \"%.32s\", not scalar, avx2, avx512 or avx512_bf16", text);
        from = "OUTCRY_ISA asks for";
    }
    if (!oc_isa_available(wish))
        return OC_FAIL(OC_ECONFIG, "%s %s, which this machine does not have", from, oc_isa_name(wish));
    *chosen = wish == OC_ISA_BEST ? isa_best(math) : wish;
    return OC_OK;
}

double oc_cpu_fma_peak(oc_isa isa, double seconds)
{
    const oc_cpu_kernels *kernels = isa_rows[isa == OC_ISA_BEST ? isa_best(OC_MATH_F32) : isa].kernels;
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

static oc_status cpu_open(oc_backend *b, const oc_backend_config *config)
{
    oc_isa isa = OC_ISA_SCALAR;
    const oc_math math = config->math == OC_MATH_BF16 ? OC_MATH_BF16 : OC_MATH_F32;
    OC_TRY(isa_choose(config->isa, math, &isa));
    OC_TRY(oc_arena_init(&b->arena, config->arena_bytes, "backend arena"));
    b->kernels = math == OC_MATH_BF16 ? isa_rows[isa].pairs : isa_rows[isa].kernels;
    b->info.kind = OC_BACKEND_CPU;
    b->info.isa = isa;
    b->info.math = math;
    b->info.shares_host_memory = true;
    device_name(b->info.device, sizeof b->info.device);
    snprintf(b->info.reason, sizeof b->info.reason, "the CPU was asked for; %s%s", oc_isa_name(isa),
             isa == isa_best(math) ? "" : ", by wish");
    return OC_OK;
}

static void cpu_close(oc_backend *b)
{
    oc_arena_deinit(&b->arena);
}

static oc_status cpu_alloc(oc_backend *b, size_t bytes, void **data)
{
    OC_TRY(oc_arena_take(&b->arena, data, bytes, "a tensor"));
    return OC_OK;
}

static void cpu_seal(oc_backend *b)
{
    oc_arena_seal(&b->arena);
}

static oc_status cpu_copy(oc_backend *b, void *to, const void *from, size_t bytes)
{
    (void)b;
    memcpy(to, from, bytes);
    return OC_OK;
}

static oc_status cpu_wait(oc_backend *b)
{
    (void)b; /* the CPU has done everything when a call returns */
    return OC_OK;
}

static oc_status cpu_pin(oc_backend *b, size_t bytes, void **out)
{
    (void)b;
    OC_TRY(oc_memory_new_array(out, bytes, 1, "pinned memory"));
    return OC_OK;
}

static void cpu_unpin(oc_backend *b, void *pinned)
{
    (void)b;
    oc_memory_free(pinned);
}

const oc_backend_driver oc_cpu_driver = {
    .abi = OC_BACKEND_ABI,
    .kind = OC_BACKEND_CPU,
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .seal = cpu_seal,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .wait = cpu_wait,
    .pin = cpu_pin,
    .unpin = cpu_unpin,
    .ops.gather_scale = oc_cpu_gather_scale,
    .ops.lstm_packed_bytes = oc_cpu_lstm_packed_bytes,
    .ops.lstm_pack = oc_cpu_lstm_pack,
    .ops.lstm_reserve_bytes = oc_cpu_lstm_reserve_bytes,
    .ops.lstm_forward = oc_cpu_lstm_forward,
    .ops.lstm_backward = oc_cpu_lstm_backward,
    .ops.lstm_backward_layer = oc_cpu_lstm_backward_layer,
    .ops.lstm_step = oc_cpu_lstm_step,
    .ops.attend_packed_bytes = oc_cpu_attend_packed_bytes,
    .ops.attend_pack = oc_cpu_attend_pack,
    .ops.attend_reserve_bytes = oc_cpu_attend_reserve_bytes,
    .ops.attend_forward = oc_cpu_attend_forward,
    .ops.attend_backward = oc_cpu_attend_backward,
    .ops.slide_bytes = oc_cpu_slide_bytes,
    .ops.slide_work_bytes = oc_cpu_slide_work_bytes,
    .ops.slide_reset = oc_cpu_slide_reset,
    .ops.slide_step = oc_cpu_slide_step,
    .ops.slide_advance = oc_cpu_slide_advance,
    .ops.linear_packed_bytes = oc_cpu_linear_packed_bytes,
    .ops.linear_pack = oc_cpu_linear_pack,
    .ops.linear_forward = oc_cpu_linear_forward,
    .ops.linear_backward = oc_cpu_linear_backward,
    .ops.dropout = oc_cpu_dropout,
    .ops.softmax_loss = oc_cpu_softmax_loss,
    .ops.softmax = oc_cpu_softmax,
    .ops.tree_sum = oc_cpu_tree_sum,
    .ops.square_sum = oc_cpu_square_sum,
    .ops.adamw = oc_cpu_adamw,
    .ops.blend = oc_cpu_blend,
    .ops.fill = oc_cpu_fill,
    .ops.step_begin = oc_cpu_step_begin,
    .ops.step_decide = oc_cpu_step_decide,
    .ops.step_apply = oc_cpu_step_apply,
};
