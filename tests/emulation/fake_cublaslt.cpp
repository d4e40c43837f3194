/* fake_cublaslt.cpp - stands in for libcublasLt where kernels/cuda runs in emulation: the same functions with the same
 * signatures, arithmetic by plain loops in double over numbers rounded as the compute type says. It believes only what
 * the descriptors say, so a wrong layout, leading dimension, transpose, epilogue or pointer gives wrong numbers, which
 * the oracle of the test finds; and it checks what the real one would check. The environment makes failures:
 *   OUTCRY_FAKE_FAIL=NAME     that function returns a failure (none: the heuristic finds no algorithm)
 *   OUTCRY_FAKE_PLANT=turned  the first operand is taken the other way round: the test must notice */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#pragma GCC visibility push(default)
#include "emulation/runtime.cuh"
#include "kernels/cuda/lt_api.cuh"
extern "C" const emulation::library_door *outcry_emulation_door;
#pragma GCC visibility pop
const emulation::library_door *outcry_emulation_door;

namespace
{
enum : uint64_t { LAYOUT = 0x1a7, DESC = 0xde5c, PREFERENCE = 0x94ef, ALGO = 0xa190, HANDLE = 0x4a4d1e };

struct layout {
    uint64_t kind;
    uint64_t rows, columns;
    int64_t ld;
};
struct desc {
    uint64_t kind;
    cublasComputeType_t compute;
    int32_t turn[2];
    uint32_t epilogue;
    const float *bias;
};
struct preference {
    uint64_t kind, workspace;
    uint32_t scheme, alignment[4];
};
struct algorithm { /* pins what it was asked for */
    uint64_t kind, m, n, k, workspace;
    uint32_t alignment[3];
};
static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm is 64 bytes");

template <class To, class From> To *of(From *x, uint64_t kind)
{
    To *t = reinterpret_cast<To *>(x);
    return t && t->kind == kind ? t : nullptr;
}

bool told(const char *variable, const char *name)
{
    const char *text = getenv(variable);
    return text && strcmp(text, name) == 0;
}

#define MAY_FAIL                                                                                                       \
    if (told("OUTCRY_FAKE_FAIL", __func__)) return CUBLAS_STATUS_EXECUTION_FAILED

float rounded(float x, cublasComputeType_t compute)
{
    const int low = compute == CUBLAS_COMPUTE_32F_FAST_16BF ? 16 : compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 13 : 0;
    if (low == 0 || !std::isfinite(x)) return x;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + (1u << (low - 1))) >> low << low;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Element (row, column) of op(x), column-major. */
float element(const float *x, const layout *l, bool turned, uint64_t row, uint64_t column)
{
    const uint64_t ld = static_cast<uint64_t>(l->ld), count = (l->columns - 1) * ld + l->rows;
    return x[(turned ? column + row * ld : row + column * ld) % count];
}

bool aligned(const void *at, uint32_t bytes)
{
    return bytes != 0 && reinterpret_cast<uintptr_t>(at) % bytes == 0;
}

/* The shape that descriptors describe, or false. */
bool shape_of(const desc *d, const layout *a, const layout *b, const layout *c, algorithm *out)
{
    if (!d || !a || !b || !c) return false;
    out->m = d->turn[0] ? a->columns : a->rows;
    out->k = d->turn[0] ? a->rows : a->columns;
    out->n = d->turn[1] ? b->rows : b->columns;
    return (d->turn[1] ? b->columns : b->rows) == out->k && c->rows == out->m && c->columns == out->n;
}

/* What is enqueued: descriptors by value, as the real one takes them. */
struct product {
    desc d;
    layout al, bl, cl;
    algorithm shape;
    const float *a, *b;
    float *out;
    unsigned char *workspace;
    float scale, keep;
};

void touch(const void *at, const layout &l, bool writes)
{
    outcry_emulation_door->touch(at, ((l.columns - 1) * static_cast<uint64_t>(l.ld) + l.rows) * sizeof(float), writes);
}

void multiply(const void *packet)
{
    product p;
    memcpy(&p, packet, sizeof p);
    const bool turned = (p.d.turn[0] != 0) != told("OUTCRY_FAKE_PLANT", "turned");
    touch(p.a, p.al, false);
    touch(p.b, p.bl, false);
    if (p.keep != 0) touch(p.out, p.cl, false);
    if (p.d.bias) outcry_emulation_door->touch(p.d.bias, p.shape.m * sizeof(float), false);
    if (p.workspace) { /* sums of parts would lie there */
        outcry_emulation_door->touch(p.workspace, 64, true);
        memset(p.workspace, 0xff, 64);
    }
    for (uint64_t j = 0; j < p.shape.n; j++)
        for (uint64_t i = 0; i < p.shape.m; i++) {
            float *to = p.out + i + j * static_cast<uint64_t>(p.cl.ld);
            double sum = 0;
            for (uint64_t k = 0; k < p.shape.k; k++)
                sum += static_cast<double>(rounded(element(p.a, &p.al, turned, i, k), p.d.compute)) *
                       static_cast<double>(rounded(element(p.b, &p.bl, p.d.turn[1] != 0, k, j), p.d.compute));
            sum *= static_cast<double>(p.scale);
            if (p.keep != 0) sum += static_cast<double>(p.keep) * static_cast<double>(*to);
            *to = static_cast<float>(sum + (p.d.bias ? static_cast<double>(p.d.bias[i]) : 0.0));
        }
    touch(p.out, p.cl, true);
}
} // namespace

extern "C" {
size_t cublasLtGetVersion(void)
{
    return 130099;
}

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED" : "CUBLAS_STATUS_INVALID_VALUE";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_EXECUTION_FAILED ? "the double was told to fail" : "the double refuses";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    MAY_FAIL;
    *handle = reinterpret_cast<cublasLtHandle_t>(new uint64_t(HANDLE));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete reinterpret_cast<uint64_t *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    MAY_FAIL;
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(
        new desc{DESC, compute, {CUBLAS_OP_N, CUBLAS_OP_N}, CUBLASLT_EPILOGUE_DEFAULT, nullptr});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete of<desc>(d, DESC);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t where, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    MAY_FAIL;
    desc *d = of<desc>(where, DESC);
    void *to = !d                                          ? nullptr
               : what == CUBLASLT_MATMUL_DESC_TRANSA       ? static_cast<void *>(&d->turn[0])
               : what == CUBLASLT_MATMUL_DESC_TRANSB       ? static_cast<void *>(&d->turn[1])
               : what == CUBLASLT_MATMUL_DESC_EPILOGUE     ? static_cast<void *>(&d->epilogue)
               : what == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? static_cast<void *>(&d->bias)
                                                           : nullptr;
    if (!to || bytes != (what == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? 8 : 4)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    MAY_FAIL;
    if (type != CUDA_R_32F || rows == 0 || columns == 0 || ld < static_cast<int64_t>(rows))
        return CUBLAS_STATUS_INVALID_VALUE;
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(new layout{LAYOUT, rows, columns, ld});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete of<layout>(l, LAYOUT);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    MAY_FAIL;
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new preference{PREFERENCE, 0, 7, {256, 256, 256, 256}});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete of<preference>(p, PREFERENCE);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t where,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                                    size_t bytes)
{
    MAY_FAIL;
    preference *p = of<preference>(where, PREFERENCE);
    void *to = nullptr;
    size_t size = sizeof(uint32_t);
    if (p && what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
        to = &p->workspace;
        size = sizeof p->workspace;
    } else if (p && what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
        to = &p->scheme;
    } else if (p && what >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
               what <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES) {
        to = &p->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
    }
    if (!to || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t wish, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    MAY_FAIL;
    const preference *p = of<preference>(wish, PREFERENCE);
    algorithm all = {ALGO, 0, 0, 0, 0, {0, 0, 0}};
    *found = 0;
    if (told("OUTCRY_FAKE_FAIL", "none")) return CUBLAS_STATUS_SUCCESS;
    if (!p || wanted < 1 || (p->scheme & 5) != 0 /* sums in place or in the output's type */ ||
        !shape_of(of<desc>(d, DESC), of<layout>(a, LAYOUT), of<layout>(b, LAYOUT), of<layout>(c, LAYOUT), &all))
        return CUBLAS_STATUS_INVALID_VALUE;
    all.workspace = p->workspace;
    memcpy(all.alignment, p->alignment, sizeof all.alignment);
    memset(&results[0], 0, sizeof results[0]);
    memcpy(&results[0].algo, &all, sizeof all);
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc_in, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_in, const void *b, cublasLtMatrixLayout_t b_in, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_in, void *out, cublasLtMatrixLayout_t d_in,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    MAY_FAIL;
    const desc *d = of<desc>(desc_in, DESC);
    const layout *al = of<layout>(a_in, LAYOUT), *bl = of<layout>(b_in, LAYOUT), *cl = of<layout>(c_in, LAYOUT);
    algorithm pinned, asked = {ALGO, 0, 0, 0, 0, {0, 0, 0}};
    memcpy(&pinned, algo, sizeof pinned);
    if (!handle || pinned.kind != ALGO || !shape_of(d, al, bl, cl, &asked) || c_in != d_in || pinned.m != asked.m ||
        pinned.n != asked.n || pinned.k != asked.k || (pinned.workspace > 0 && !workspace) ||
        workspace_bytes < pinned.workspace || !aligned(a, pinned.alignment[0]) || !aligned(b, pinned.alignment[1]) ||
        !aligned(out, pinned.alignment[2]) || (d->epilogue == CUBLASLT_EPILOGUE_BIAS) != (d->bias != nullptr))
        return CUBLAS_STATUS_INVALID_VALUE;
    const product p = {*d,
                       *al,
                       *bl,
                       *cl,
                       asked,
                       static_cast<const float *>(a),
                       static_cast<const float *>(b),
                       static_cast<float *>(out),
                       static_cast<unsigned char *>(workspace),
                       *static_cast<const float *>(alpha),
                       c == out ? *static_cast<const float *>(beta) : NAN};
    outcry_emulation_door->enqueue(stream, "cublasLtMatmul", &p, sizeof p, multiply);
    return CUBLAS_STATUS_SUCCESS;
}
}
