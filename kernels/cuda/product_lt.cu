/* product_lt.cu - training's large products by cuBLASLt: x . W of all steps, dx, and dW over all (t, b).
 * Operands stay f32 in memory and are rounded inside the library (FAST_16BF, FAST_TF32), so nothing is cast beforehand.
 * Our row-major c [m][n] is the library's column-major c' [n][m] = b' a': its A is our b, its B our a, and a number a
 * column of ours is one a row of its (the bias). What a shape wants is asked once: descriptors and the heuristic's
 * first algorithm stay in the table, so a shape is computed by one algorithm from the first step to the last. Sums are
 * the same from run to run: split sums only in the workspace (COMPUTE_TYPE), never added in place. Nothing here waits,
 * allocates on the device or depends on the stream's state, so a stream that records takes it. Not run on a GPU. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/library.cuh"
#include "kernels/cuda/lt_api.cuh"
#include "kernels/cuda/ops_cuda.cuh"

#ifdef OC_EMULATION
static constexpr size_t WORKSPACE_BYTES = 4096;
#else
static constexpr size_t WORKSPACE_BYTES = 32u << 20; /* what the library asks for on compute capability 9.0 */
#endif
/* Eight layers have 31 products, of up to four batch sizes (whole and last batch, in shards of two sizes), which differ
 * where their pointers are aligned otherwise: 124. */
static constexpr int SHAPES_MAX = 256, ALIGNMENT_MAX = 256;

/* Products of so many multiply-adds and more go to the library, by math; f32 keeps the CPU's bits and never goes by
 * itself. Not measured: 2^28 is some 0.5 ms of f32 arithmetic, where a launch more weighs nothing. */
static constexpr int64_t NEVER = INT64_MAX;
static const struct choice {
    int64_t work_min;
    cublasComputeType_t compute;
} choices[] = {{NEVER, CUBLAS_COMPUTE_32F},
               {(int64_t)1 << 28, CUBLAS_COMPUTE_32F_FAST_TF32},
               {(int64_t)1 << 28, CUBLAS_COMPUTE_32F_FAST_16BF}}; /* by oc_math */

typedef struct lt_side {
    int64_t ld, turned, alignment;
} lt_side;
typedef struct lt_shape { /* numbers of one width: compared as bytes */
    int64_t m, n, k, math, bias, add, workspace;
    lt_side a, b, c;
} lt_shape;
typedef struct lt_plan {
    lt_shape shape;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
} lt_plan;

struct oc_cuda_lt {
    oc_cuda_loaded library;
#define MEMBER(name) decltype(&::name) name;
    OC_LT_CALLS(MEMBER)
#undef MEMBER
    cublasLtHandle_t handle;
    void *workspace;
    bool always; /* OUTCRY_CUDA_PRODUCT=lt: whatever the size */
    int count;
    lt_plan plan[SHAPES_MAX];
};

/* The call by name, so that an error can name it. */
#define LT_TRY(lt, call, ...) OC_TRY(lt_result(lt, #call, (lt)->call(__VA_ARGS__)))

static OC_MUST lt_result(const oc_cuda_lt *lt, const char *call, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS) return OC_OK;
    return OC_FAIL(status == CUBLAS_STATUS_ALLOC_FAILED ? OC_EMEMORY : OC_EFAILED,
                   "backend cuda: %s of cuBLASLt %s failed with %s (%s); OUTCRY_CUDA_PRODUCT=hand does without", call,
                   lt->library.version, lt->cublasLtGetStatusName(status), lt->cublasLtGetStatusString(status));
}

/* ---------------------------------------------------------------- opening */
static OC_MUST functions_find(oc_cuda_lt *lt)
{
#define FIND(name) OC_TRY(oc_cuda_library_function(&lt->library, #name, &lt->name, sizeof lt->name));
    OC_LT_CALLS(FIND)
#undef FIND
    return OC_OK;
}

size_t oc_cuda_lt_bytes(oc_backend *b)
{
    return oc_cuda_of(b)->lt ? WORKSPACE_BYTES + 256 : 0; /* it begins at a multiple of 256 */
}

void oc_cuda_lt_memory(oc_backend *b, void *workspace)
{
    oc_cuda_of(b)->lt->workspace = workspace;
#ifdef OC_EMULATION
    emulation::hand_out(workspace, WORKSPACE_BYTES);
#endif
}

oc_status oc_cuda_lt_open(oc_backend *b)
{
    const char *wish = getenv("OUTCRY_CUDA_PRODUCT");
    const bool hand = wish && strcmp(wish, "hand") == 0, always = wish && strcmp(wish, "lt") == 0;
    char *said = b->info.products;
    if (wish && *wish && !hand && !always)
        return OC_FAIL(OC_ECONFIG, "OUTCRY_CUDA_PRODUCT is %s, not hand or lt", wish);
    snprintf(said, sizeof b->info.products, "hand");
    if (hand || (!always && choices[b->info.math].work_min == NEVER)) return OC_OK;
    oc_cuda_loaded library;
    const oc_status found = oc_cuda_library_load(&oc_cuda_lt_library, &library);
    if (found != OC_OK && always) return oc_status_trail(found, __FILE__, __LINE__);
    if (found != OC_OK) {
        snprintf(said, sizeof b->info.products, "hand (no cuBLASLt)");
        return OC_OK;
    }
    oc_cuda_lt *lt = (oc_cuda_lt *)calloc(1, sizeof *lt);
    if (!lt) return OC_FAIL(OC_EMEMORY, "backend cuda: no memory for %zu bytes", sizeof *lt);
    oc_cuda_of(b)->lt = lt; /* closed with the backend, also when the next line fails */
    lt->library = library;
    lt->always = always;
    OC_TRY(functions_find(lt));
    LT_TRY(lt, cublasLtCreate, &lt->handle);
    snprintf(said, sizeof b->info.products, "cuBLASLt %s%s", library.version, always ? " always" : "");
    const size_t used = strlen(b->info.reason);
    snprintf(b->info.reason + used, sizeof b->info.reason - used, ", large products by %s", said);
    return OC_OK;
}

static void plan_close(oc_cuda_lt *lt, lt_plan *p)
{
    if (p->desc) (void)lt->cublasLtMatmulDescDestroy(p->desc);
    if (p->a) (void)lt->cublasLtMatrixLayoutDestroy(p->a);
    if (p->b) (void)lt->cublasLtMatrixLayoutDestroy(p->b);
    if (p->c) (void)lt->cublasLtMatrixLayoutDestroy(p->c);
    *p = lt_plan();
}

void oc_cuda_lt_close(oc_backend *b)
{
    oc_cuda_lt *lt = oc_cuda_of(b)->lt;
    if (!lt) return;
    for (int i = 0; i < lt->count; i++) plan_close(lt, &lt->plan[i]);
    if (lt->handle) (void)lt->cublasLtDestroy(lt->handle);
    free(lt);
    oc_cuda_of(b)->lt = NULL;
}

/* ---------------------------------------------------------------- what a shape wants */
static int64_t alignment_of(const void *at)
{
    const uintptr_t address = (uintptr_t)at, low = address & (~address + 1);
    return low == 0 || low > ALIGNMENT_MAX ? ALIGNMENT_MAX : (int64_t)low;
}

/* One operand, x(i,k) = x[i * x_i + k * x_k], i below `rows`. Not turned: neighbours along i lie side by side, columns
 * ld apart. Where both steps are 1 one side is a single number wide, and ld tells which. */
static lt_side side_of(const float *x, int64_t x_i, int64_t x_k, int64_t rows)
{
    const bool turned = !(x_i == 1 && x_k >= rows);
    return {turned ? x_i : x_k, turned, alignment_of(x)};
}

/* Lanes may run side by side, and the workspace is lane 0's: elsewhere an algorithm without one. */
static lt_shape shape_of(const oc_cuda *c, const oc_cuda_product *p)
{
    const bool first = c->lt->workspace && c->stream == c->lanes[0];
    lt_shape s = {
        p->m,      p->n,      p->k,     p->math, p->start != NULL, p->add, first ? (int64_t)WORKSPACE_BYTES : 0,
        {0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
    s.a = side_of(p->b, p->b_column, p->b_k, p->n); /* c' = b' a' */
    s.b = side_of(p->a, p->a_k, p->a_row, p->k);
    s.c = {p->c_row, 0, alignment_of(p->c)};
    return s;
}

static OC_MUST layout_make(oc_cuda_lt *lt, cublasLtMatrixLayout_t *out, const lt_side *s, int64_t rows, int64_t columns)
{
    const int64_t tall = s->turned ? columns : rows, wide = s->turned ? rows : columns;
    LT_TRY(lt, cublasLtMatrixLayoutCreate, out, CUDA_R_32F, (uint64_t)tall, (uint64_t)wide, s->ld);
    return OC_OK;
}

static OC_MUST desc_make(oc_cuda_lt *lt, lt_plan *p, const float *bias)
{
    const lt_shape *s = &p->shape;
    const int32_t turn[2] = {s->a.turned ? CUBLAS_OP_T : CUBLAS_OP_N, s->b.turned ? CUBLAS_OP_T : CUBLAS_OP_N};
    const uint32_t epilogue = s->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    LT_TRY(lt, cublasLtMatmulDescCreate, &p->desc, choices[s->math].compute, CUDA_R_32F);
    const struct {
        cublasLtMatmulDescAttributes_t what;
        const void *value;
        size_t bytes;
    } rows[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &turn[0], sizeof turn[0]},
                {CUBLASLT_MATMUL_DESC_TRANSB, &turn[1], sizeof turn[1]},
                {CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue},
                {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias}};
    for (const auto &r : rows) LT_TRY(lt, cublasLtMatmulDescSetAttribute, p->desc, r.what, r.value, r.bytes);
    OC_TRY(layout_make(lt, &p->a, &s->a, s->n, s->k));
    OC_TRY(layout_make(lt, &p->b, &s->b, s->k, s->m));
    OC_TRY(layout_make(lt, &p->c, &s->c, s->n, s->m));
    return OC_OK;
}

static OC_MUST preference_fill(oc_cuda_lt *lt, cublasLtMatmulPreference_t to, const lt_shape *s)
{
    const uint64_t workspace = (uint64_t)s->workspace;
    const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, a = (uint32_t)s->a.alignment,
                   b = (uint32_t)s->b.alignment, c = (uint32_t)s->c.alignment;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t bytes;
    } rows[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
                {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof scheme},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c},
                {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c, sizeof c}};
    for (const auto &r : rows) LT_TRY(lt, cublasLtMatmulPreferenceSetAttribute, to, r.what, r.value, r.bytes);
    return OC_OK;
}

static OC_MUST algorithm_ask(oc_cuda_lt *lt, lt_plan *p, cublasLtMatmulPreference_t preference)
{
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    OC_TRY(preference_fill(lt, preference, &p->shape));
    LT_TRY(lt, cublasLtMatmulAlgoGetHeuristic, lt->handle, p->desc, p->a, p->b, p->c, p->c, preference, 1, &result,
           &found);
    if (found < 1)
        return OC_FAIL(OC_EFAILED,
                       "backend cuda: cuBLASLt %s has no algorithm for a product %lld x %lld x %lld; "
                       "OUTCRY_CUDA_PRODUCT=hand does without",
                       lt->library.version, (long long)p->shape.m, (long long)p->shape.n, (long long)p->shape.k);
    OC_TRY(lt_result(lt, "the answer of cublasLtMatmulAlgoGetHeuristic", result.state));
    p->algo = result.algo;
    return OC_OK;
}

static OC_MUST plan_fill(oc_cuda_lt *lt, lt_plan *p, const float *bias)
{
    cublasLtMatmulPreference_t preference = NULL;
    OC_TRY(desc_make(lt, p, bias));
    LT_TRY(lt, cublasLtMatmulPreferenceCreate, &preference);
    const oc_status status = algorithm_ask(lt, p, preference);
    (void)lt->cublasLtMatmulPreferenceDestroy(preference);
    return status == OC_OK ? OC_OK : oc_status_trail(status, __FILE__, __LINE__);
}

static OC_MUST plan_find(oc_cuda_lt *lt, const lt_shape *s, const float *bias, lt_plan **out)
{
    for (int i = 0; i < lt->count; i++) {
        *out = &lt->plan[i];
        if (memcmp(&lt->plan[i].shape, s, sizeof *s) == 0) return OC_OK;
    }
    if (lt->count == SHAPES_MAX)
        return OC_FAIL(OC_ELIMIT, "backend cuda: products of more than %d shapes for cuBLASLt", SHAPES_MAX);
    lt_plan *fresh = *out = &lt->plan[lt->count];
    fresh->shape = *s;
    const oc_status status = plan_fill(lt, fresh, bias);
    if (status != OC_OK) {
        plan_close(lt, fresh);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    lt->count++;
    return OC_OK;
}

/* ---------------------------------------------------------------- running */
bool oc_cuda_lt_serves(oc_backend *b, const oc_cuda_product *p)
{
    const oc_cuda_lt *lt = oc_cuda_of(b)->lt;
    if (!lt || !p->large || p->k < 1 || p->batch > 1 || p->relu) return false;
    if ((p->a_k != 1 && p->a_row != 1) || (p->b_k != 1 && p->b_column != 1)) return false;
    return lt->always || (int64_t)p->m * p->n * p->k >= choices[p->math].work_min;
}

oc_status oc_cuda_lt_run(oc_backend *b, const oc_cuda_product *p)
{
    oc_cuda *c = oc_cuda_of(b);
    oc_cuda_lt *lt = c->lt;
    const lt_shape s = shape_of(c, p);
    const float one = 1.0f, old = p->add ? 1.0f : 0.0f;
    lt_plan *plan = NULL;
    OC_TRY(plan_find(lt, &s, p->start, &plan));
    LT_TRY(lt, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->start,
           sizeof p->start);
    c->launched = "cublasLtMatmul";
    LT_TRY(lt, cublasLtMatmul, lt->handle, plan->desc, &one, p->b, plan->a, p->a, plan->b, &old, p->c, plan->c, p->c,
           plan->c, &plan->algo, s.workspace ? lt->workspace : NULL, (size_t)s.workspace, c->stream);
    if (c->wait_always) OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(c->stream), "it"));
    return OC_OK;
}
