/* slide_layout.cuh - where things lie in the state of a slot of staggered windows (slide.cu). Offsets count floats;
 * every part begins at a multiple of 32.
 *   h, c    [layers][W][H]     the windows lie in a ring: the one that began at row s at s modulo W, W = T - 1
 *   x       [OC_SLIDE_KEPT][F] the last rows, at row modulo OC_SLIDE_KEPT
 *   trail   as in kernels/cpu/slide.c, a triangle of rings */
#ifndef OC_KERNELS_CUDA_SLIDE_LAYOUT_CUH
#define OC_KERNELS_CUDA_SLIDE_LAYOUT_CUH

#include "kernels/cuda/lstm_layout.cuh"
#include "kernels/cuda/ops_cuda.cuh"

typedef struct oc_slide_layout {
    oc_attention_shape attention;
    int64_t steps, hidden, windows, layers, inputs;
    size_t h, c, x, trail, count;
} oc_slide_layout;

static inline oc_slide_layout oc_slide_layout_make(const oc_slide_shape *s)
{
    oc_slide_layout m = {};
    const size_t hidden = (size_t)s->hidden, steps = (size_t)s->steps;
    m.attention = {1, s->steps, s->hidden, s->heads};
    m.steps = s->steps;
    m.hidden = s->hidden;
    m.windows = s->steps > 1 ? s->steps - 1 : 1;
    m.layers = s->layers;
    m.inputs = s->inputs;
    const size_t each = (size_t)(m.layers * m.windows) * hidden;
    m.h = oc_cuda_take(&m.count, each);
    m.c = oc_cuda_take(&m.count, each);
    m.x = oc_cuda_take(&m.count, (size_t)OC_SLIDE_KEPT * (size_t)s->inputs);
    m.trail = oc_cuda_take(&m.count, s->heads > 0 ? steps * (steps - 1) / 2 * hidden : 0);
    return m;
}

OC_DEVICE int64_t oc_slide_x_at(const oc_slide_layout &m, int64_t row)
{
    return (int64_t)m.x + row % OC_SLIDE_KEPT * m.inputs;
}

/* Row t of the trail of the window that began at row `start`; the ring of step t has T - 1 - t rows, behind those of
 * T - 1, T - 2, … rows. */
OC_DEVICE int64_t oc_slide_trail_at(const oc_slide_layout &m, int64_t t, int64_t start)
{
    const int64_t before = t * (m.steps - 1) - t * (t - 1) / 2;
    return (int64_t)m.trail + (before + start % (m.steps - 1 - t)) * m.hidden;
}

#endif
