/* resident_plan.cuh - what the files of the resident kernel know of each other: resident.cu (the host's side),
 * resident_plan.cu (how many blocks, what lies where), resident_kernel.cu (what they do). */
#ifndef OC_KERNELS_CUDA_RESIDENT_PLAN_CUH
#define OC_KERNELS_CUDA_RESIDENT_PLAN_CUH

#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/slide_layout.cuh"
#include "kernels/resident_mail.h"

static constexpr int OC_RESIDENT_THREADS = 512;

/* k of every chain in registers: 512 threads have 128 each, of which a layer takes so many. */
constexpr int oc_resident_held(int layers)
{
    return layers == 1 ? 64 : layers == 2 ? 32 : layers == 3 ? 20 : 12;
}

typedef struct oc_resident_command {
    int n;                                             /* rows; 0: empty; -1: leave */
    uint32_t word[OC_RESIDENT_ROWS][OC_MAIL_ROW_HEAD]; /* slot, rows consumed: low and high half */
} oc_resident_command;

/* Weights of attention and head as chains read them, [k][output], and their biases; floats. */
typedef struct oc_resident_far {
    size_t query, key, value, out, query_b, value_b, out_b, head[2], head_b[2], count;
} oc_resident_far;

/* Shared memory of a block, in floats. `work`: sums of a layer, then a window's states. */
typedef struct oc_resident_shared {
    size_t w[OC_RESIDENT_LAYERS_MAX], bias, x, h, c, scaler, work, q, absorbed, maps, pooled, joined, seen, hidden,
        logits, far, count;
    int x_row, h_row; /* floats from row to row, whole vectors of 4 */
    int tile;         /* steps */
} oc_resident_shared;

typedef struct oc_resident_args {
    oc_slide_layout m;
    oc_resident_far at;
    oc_resident_shared in;
    int layers, hidden, inputs, heads, horizons, units;
    bool far_near; /* attention and head in shared memory */
    const float *w_ih[OC_RESIDENT_LAYERS_MAX], *w_hh[OC_RESIDENT_LAYERS_MAX], *bias[OC_RESIDENT_LAYERS_MAX], *far,
        *mean, *scale, *states;
    float clip;
    oc_cuda_temperatures temperature;
    uint64_t *leave, *words, *answers;
    float *exchange;               /* [layers][ROWS][H] */
    float *command_x;              /* [2][ROWS][F] scaled */
    oc_resident_command *commands; /* [2] */
    unsigned *met;
    uint32_t tag, launch;
} oc_resident_args;

/* Fills units, at, in, far_near and *info; OC_ELIMIT with the numbers where the model does not fit. */
OC_MUST oc_resident_plan(oc_backend *b, const oc_resident_model *m, oc_resident_args *a, oc_resident_info *info);

/* Starts the kernel on c's stream. */
cudaError_t oc_resident_start(const oc_cuda *c, const oc_resident_args &a, const oc_resident_info &info);

#endif
