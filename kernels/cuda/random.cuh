/* random.cuh - the counter-based numbers of base/random.h on the device, and the dropout of kernels/ops.h made of them:
 * whole numbers, so the same mask as on the CPU. */
#ifndef OC_KERNELS_CUDA_RANDOM_CUH
#define OC_KERNELS_CUDA_RANDOM_CUH

#include <math.h>
#include "base/random.h"
#include "kernels/cuda/backend_cuda.cuh"

OC_DEVICE uint64_t oc_device_philox(uint32_t key, uint64_t counter)
{
    uint32_t low = (uint32_t)counter, high = (uint32_t)(counter >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t product = (uint64_t)0xD256D193u * low;
        low = (uint32_t)(product >> 32) ^ key ^ high;
        high = (uint32_t)product;
        key += 0x9E3779B9u;
    }
    return (uint64_t)high << 32 | low;
}

/* oc_random_key on the device. */
OC_DEVICE uint32_t oc_device_random_key(uint64_t seed, oc_random_use use, uint64_t a, uint64_t b)
{
    uint64_t state = seed;
    const uint64_t parts[3] = {(uint64_t)use, a, b};
    for (int i = 0; i < 3; i++) {
        state += 0x9E3779B97F4A7C15u + parts[i] * 0xD1342543DE82EF95u;
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9u;
        state = (state ^ state >> 27) * 0x94D049BB133111EBu;
        state ^= state >> 31;
    }
    return (uint32_t)(state >> 32) ^ (uint32_t)state;
}

/* What a kernel needs of an oc_dropout; least 0: everything is kept. key_at: NULL, or where a step left its key. */
typedef struct oc_device_dropout {
    const uint32_t *key_at;
    uint32_t key, least;
    float factor;
    uint64_t sample_first;
} oc_device_dropout;

static inline oc_device_dropout oc_device_dropout_of(const oc_dropout *d)
{
    oc_device_dropout made = {};
    if (!d || !(d->p > 0.0f)) return made;
    assert(!d->keys || d->tensor < OC_STEP_KEYS);
    if (d->keys)
        made.key_at = d->keys + d->tensor;
    else
        made.key = oc_random_key(d->seed, OC_RANDOM_DROPOUT, d->step, d->tensor);
    made.least = (uint32_t)ceil((double)d->p * 65536.0);
    made.factor = (float)(1 / (1 - (double)d->p));
    made.sample_first = d->sample_first;
    return made;
}

/* The factor of element j of row t of sample b, of rows with `columns` elements. */
OC_DEVICE float oc_device_dropout_factor(const oc_device_dropout &d, int64_t b, int64_t t, int64_t columns, int64_t j)
{
    if (d.least == 0) return 1.0f;
    const uint64_t groups = (uint64_t)(columns + 3) / 4;
    const uint64_t counter = (d.sample_first + (uint64_t)b) << 22 | ((uint64_t)t * groups + (uint64_t)j / 4);
    const uint32_t key = d.key_at ? *d.key_at : d.key;
    const uint32_t draw = (uint32_t)(oc_device_philox(key, counter) >> 16 * (j % 4)) & 0xffffu;
    return draw >= d.least ? d.factor : 0.0f;
}

#endif
