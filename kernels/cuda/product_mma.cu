/* product_mma.cu - products of bf16 or tf32 numbers with f32 sums by matrix fragments: what product.cu does in f32.
 * Both sides are f32 in memory and are rounded as they enter shared memory. Parallel over 64 x 64 tiles of C, four
 * warps of 32 x 32 (2 x 4 fragments); 32 k at a time, whole tiles as zeros beyond the edges. The twin that is correct
 * everywhere; large products of training go to cuBLASLt where that is measured faster. Bound: shared memory and the
 * conversion, not the tensor cores. Not run on a GPU. */
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/ops_cuda.cuh"

static constexpr int TILE = 64, DEPTH = 32, WARPS = 4, THREADS = 32 * WARPS;

/* Rows first … first + 63 of x(i,k), k from k0, as tile[i][k]. */
template <int MATH>
OC_DEVICE void load_tile(const float *x, int64_t x_i, int64_t x_k, int first, int count, int k0, int k_end,
                         typename oc_number<MATH>::type (*tile)[DEPTH + oc_number<MATH>::PAD])
{
    const bool along_k = x_k == 1; /* neighbouring threads read neighbouring numbers */
    for (int n = threadIdx.x; n < TILE * DEPTH; n += THREADS) {
        const int k = along_k ? n % DEPTH : n / TILE, i = along_k ? n / DEPTH : n % TILE;
        const bool there = first + i < count && k0 + k < k_end;
        tile[i][k] = oc_number<MATH>::of(there ? x[(first + i) * x_i + (k0 + k) * x_k] : 0.0f);
    }
}

/* The warp's 32 x 32 of C from 32 k. */
template <int MATH, class T> OC_DEVICE void multiply_tile(const T *a, const T *b, float (*sum)[4][4])
{
    typedef oc_number<MATH> number;
    constexpr int ROW = DEPTH + number::PAD;
    const int lane = threadIdx.x % 32, g = lane / 4, i = lane % 4;
    OC_UNROLL
    for (int k = 0; k < DEPTH; k += number::DEPTH) {
        uint32_t left[2][4], right[4][2];
        OC_UNROLL
        for (int m = 0; m < 2; m++) OC_UNROLL
        for (int n = 0; n < 4; n++) left[m][n] = number::b(a + (16 * m + n % 2 * 8 + g) * ROW, k, i, n / 2);
        OC_UNROLL
        for (int j = 0; j < 4; j++) OC_UNROLL
        for (int n = 0; n < 2; n++) right[j][n] = number::b(b + (8 * j + g) * ROW, k, i, n);
        OC_UNROLL
        for (int m = 0; m < 2; m++) OC_UNROLL
        for (int j = 0; j < 4; j++) number::multiply(sum[m][j], left[m], right[j]);
    }
}

template <int MATH> static __global__ void __launch_bounds__(THREADS) product_mma(oc_cuda_product p)
{
    typedef typename oc_number<MATH>::type type;
    constexpr int ROW = DEPTH + oc_number<MATH>::PAD;
    OC_SHARED(type, a, [TILE][ROW]);
    OC_SHARED(type, b, [TILE][ROW]);
    const int row = blockIdx.x * TILE, column = blockIdx.y * TILE, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int part = blockIdx.z % p.splits, number = blockIdx.z / p.splits;
    const int k_first = (int)((int64_t)p.k * part / p.splits), k_end = (int)((int64_t)p.k * (part + 1) / p.splits);
    const float *start = p.start ? p.start + number * p.start_next : NULL;
    float *c = p.splits > 1 ? p.parts + (int64_t)blockIdx.z * p.m * p.n : p.c + number * p.c_next;
    const int64_t c_row = p.splits > 1 ? p.n : p.c_row;
    float sum[2][4][4] = {};
    for (int k0 = k_first; k0 < k_end; k0 += DEPTH) {
        load_tile<MATH>(p.a + number * p.a_next, p.a_row, p.a_k, row, p.m, k0, k_end, a);
        load_tile<MATH>(p.b + number * p.b_next, p.b_column, p.b_k, column, p.n, k0, k_end, b);
        __syncthreads();
        multiply_tile<MATH>(&a[warp / 2 * 32][0], &b[warp % 2 * 32][0], sum);
        __syncthreads();
    }
    OC_UNROLL
    for (int m = 0; m < 2; m++) OC_UNROLL
    for (int j = 0; j < 4; j++) OC_UNROLL
    for (int e = 0; e < 4; e++) {
        const int r = row + warp / 2 * 32 + 16 * m + lane / 4 + e / 2 * 8;
        const int s = column + warp % 2 * 32 + 8 * j + lane % 4 * 2 + e % 2;
        if (r >= p.m || s >= p.n) continue;
        float x = sum[m][j][e];
        if (start) x += start[s];
        if (p.add) x += c[r * c_row + s];
        c[r * c_row + s] = p.relu && x < 0.0f ? 0.0f : x;
    }
}

oc_status oc_cuda_product_mma(oc_backend *b, const oc_cuda_product *p, dim3 grid)
{
    if (p->math == OC_MATH_BF16)
        OC_LAUNCH(b, product_mma<OC_MATH_BF16>, grid, THREADS, 0, *p);
    else
        OC_LAUNCH(b, product_mma<OC_MATH_TF32>, grid, THREADS, 0, *p);
    return OC_OK;
}
