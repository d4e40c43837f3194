/* product.cu - f32 products on ordinary multiply-adders, one order of every sum.
 * Parallel over 64 x 64 tiles of C, 256 threads of 4 x 4 outputs; A and B pass through shared memory, 16 k at a time.
 * Moves (m n k) / 64 * 8 bytes through L2; expect half of the f32 peak where there are tiles enough. For training's
 * large products of bf16 and tf32 this is the twin of what tensor cores do. Not run on a GPU. */
#include "kernels/cuda/ops_cuda.cuh"

static constexpr int TILE = 64, DEPTH = 16, SIDE = 16, EACH = TILE / SIDE, THREADS = SIDE * SIDE;

/* Rows first … first + 63 of x(i,k), k from k0, into tile[k][i]; what lies outside is not read and not used. */
OC_DEVICE void load_tile(const float *x, int64_t x_i, int64_t x_k, int first, int count, int k0, int k_end,
                         float (*tile)[TILE + 4])
{
    const bool along_k = x_k == 1; /* neighbouring threads read neighbouring numbers */
    for (int n = threadIdx.x; n < TILE * DEPTH; n += THREADS) {
        const int k = along_k ? n % DEPTH : n / TILE, i = along_k ? n / DEPTH : n % TILE;
        if (first + i < count && k0 + k < k_end)
            tile[k][i] = x[(first + i) * x_i + (k0 + k) * x_k];
        else
            tile[k][i] = 0.0f;
    }
}

static __global__ void __launch_bounds__(THREADS) product(oc_cuda_product p)
{
    OC_SHARED(float, a, [DEPTH][TILE + 4]);
    OC_SHARED(float, b, [DEPTH][TILE + 4]);
    const int row = blockIdx.x * TILE, column = blockIdx.y * TILE, x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    const int part = blockIdx.z % p.splits, number = blockIdx.z / p.splits;
    const int k_first = (int)((int64_t)p.k * part / p.splits), k_end = (int)((int64_t)p.k * (part + 1) / p.splits);
    const float *start = p.start ? p.start + number * p.start_next : NULL;
    float *c = p.splits > 1 ? p.parts + (int64_t)blockIdx.z * p.m * p.n : p.c + number * p.c_next;
    const int64_t c_row = p.splits > 1 ? p.n : p.c_row;
    float sum[EACH][EACH];
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const int r = row + y + i * SIDE, s = column + x + j * SIDE;
            const bool inside = r < p.m && s < p.n;
            sum[i][j] = inside && p.add ? c[r * c_row + s] : inside && start ? start[s] : 0.0f;
        }
    for (int k0 = k_first; k0 < k_end; k0 += DEPTH) {
        load_tile(p.a + number * p.a_next, p.a_row, p.a_k, row, p.m, k0, k_end, a);
        load_tile(p.b + number * p.b_next, p.b_column, p.b_k, column, p.n, k0, k_end, b);
        __syncthreads();
        const int depth = k_end - k0 < DEPTH ? k_end - k0 : DEPTH;
        for (int k = 0; k < depth; k++) {
            float left[EACH], right[EACH];
            for (int i = 0; i < EACH; i++) left[i] = a[k][y + i * SIDE];
            for (int j = 0; j < EACH; j++) right[j] = b[k][x + j * SIDE];
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            const int r = row + y + i * SIDE, s = column + x + j * SIDE;
            if (r < p.m && s < p.n) c[r * c_row + s] = p.relu && sum[i][j] < 0.0f ? 0.0f : sum[i][j];
        }
}

static __global__ void add_parts(oc_cuda_product p)
{
    const int64_t count = (int64_t)p.m * p.n;
    for (int64_t at = oc_thread_first(); at < count * p.batch; at += oc_thread_step()) {
        const int64_t number = at / count, i = at % count;
        const float *parts = p.parts + number * p.splits * count;
        float sum = parts[i];
        for (int s = 1; s < p.splits; s++) sum += parts[s * count + i];
        p.c[number * p.c_next + i / p.n * p.c_row + i % p.n] = sum;
    }
}

oc_status oc_cuda_product_run(oc_backend *b, const oc_cuda_product *wanted)
{
    oc_cuda_product p = *wanted;
    if (p.splits < 1) p.splits = 1;
    if (p.batch < 1) p.batch = 1;
    assert(p.splits == 1 || (p.parts && !p.add && !p.start && !p.relu));
    if (p.m == 0 || p.n == 0) return OC_OK;
    if (oc_cuda_lt_serves(b, &p)) {
        OC_TRY(oc_cuda_lt_run(b, &p));
        return OC_OK;
    }
    const dim3 grid((unsigned)((p.m + TILE - 1) / TILE), (unsigned)((p.n + TILE - 1) / TILE),
                    (unsigned)(p.splits * p.batch));
    if (grid.y > 65535) return OC_FAIL(OC_ELIMIT, "a product of %d columns; a GPU's grid holds %d", p.n, 65535 * TILE);
    if (p.math != OC_MATH_F32)
        OC_TRY(oc_cuda_product_mma(b, &p, grid));
    else
        OC_LAUNCH(b, product, grid, THREADS, 0, p);
    if (p.splits > 1) OC_LAUNCH(b, add_parts, oc_flat_grid(b, (int64_t)p.m * p.n * p.batch), OC_FLAT_THREADS, 0, p);
    return OC_OK;
}

/* Part blockIdx.y of the rows. */
static __global__ void column_sums(const float *x, int64_t rows, int columns, float *sums, float *sums2)
{
    const int64_t first = rows * blockIdx.y / gridDim.y, end = rows * (blockIdx.y + 1) / gridDim.y;
    for (int64_t j = oc_thread_first(); j < columns; j += oc_thread_step()) {
        float sum = 0.0f;
        for (int64_t i = first; i < end; i++) sum += x[i * columns + j];
        sums[(int64_t)blockIdx.y * columns + j] = sum;
        if (sums2) sums2[j] = sum;
    }
}

oc_status oc_cuda_column_sums(oc_backend *b, const float *x, int64_t rows, int columns, int splits, float *parts,
                              float *sums, float *sums2)
{
    const dim3 grid(oc_flat_grid(b, columns), (unsigned)(splits < 1 ? 1 : splits));
    if (splits <= 1) {
        OC_LAUNCH(b, column_sums, grid, OC_FLAT_THREADS, 0, x, rows, columns, sums, sums2);
        return OC_OK;
    }
    OC_LAUNCH(b, column_sums, grid, OC_FLAT_THREADS, 0, x, rows, columns, parts, (float *)NULL);
    OC_LAUNCH(b, column_sums, oc_flat_grid(b, columns), OC_FLAT_THREADS, 0, (const float *)parts, splits, columns, sums,
              sums2);
    return OC_OK;
}
