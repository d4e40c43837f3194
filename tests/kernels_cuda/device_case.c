/* device_case.c - see the header. */
#include "kernels_cuda/device_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/random.h"

enum { POOL_MAX = 4096 };
static void *pool[POOL_MAX];
static int pool_count;

oc_backend *device_open(size_t bytes, oc_math math)
{
    return device_open_by(bytes, math, OC_LSTM_HAND);
}

oc_backend *device_open_by(size_t bytes, oc_math math, oc_lstm_by lstm)
{
    const oc_backend_config config = {
        .kind = OC_BACKEND_CUDA, .arena_bytes = bytes, .math = math, .lstm = lstm, .partial = true};
    oc_backend *b = NULL;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    if (oc_backend_open(&b, &config) == OC_OK) return b;
    printf("skipped: %s\n", oc_status_message());
    return NULL;
}

int device_skip(void)
{
    oc_backend *b;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("fma")) {
        printf("skipped: this machine has no fused multiply-add\n");
        return 77;
    }
#endif
    b = device_open(0, OC_MATH_F32);
    if (!b) return 77;
    printf("device: %s\n", oc_backend_describe(b)->device);
    oc_backend_close(b);
    return -1;
}

oc_tensor device_take(oc_backend *b, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    oc_tensor t = oc_tensor_make(NULL, dtype, d0, d1, d2, 1);
    if (oc_backend_alloc(b, &t) != OC_OK) fail_msg("%s", oc_status_message());
    return t;
}

oc_tensor device_bytes(oc_backend *b, size_t bytes)
{
    return device_take(b, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1);
}

oc_tensor device_put(oc_backend *b, const void *host, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    const oc_tensor t = device_take(b, dtype, d0, d1, d2);
    assert_int_equal(oc_backend_upload(b, t, host, (size_t)oc_tensor_count(t) * oc_dtype_bytes(dtype)), OC_OK);
    return t;
}

void *host_take(size_t bytes)
{
    void *block = calloc(1, bytes ? bytes : 1);
    assert_non_null(block);
    assert_true(pool_count < POOL_MAX);
    pool[pool_count++] = block;
    return block;
}

void *device_get(oc_backend *b, oc_tensor t)
{
    const size_t bytes = (size_t)oc_tensor_count(t) * oc_dtype_bytes(t.dtype);
    void *host = host_take(bytes);
    assert_int_equal(oc_backend_download(b, host, bytes, t), OC_OK);
    if (oc_backend_wait(b) != OC_OK) fail_msg("%s", oc_status_message());
    return host;
}

float *host_numbers(uint64_t stream, double size, int64_t count)
{
    float *x = host_take((size_t)count * sizeof *x);
    const uint32_t key = oc_random_key(stream, OC_RANDOM_TEST, 7, 0);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(size * (2 * oc_random_uniform(key, (uint64_t)i) - 1));
    return x;
}

void device_release(void)
{
    while (pool_count > 0) free(pool[--pool_count]);
}

double worse(double worst, double error)
{
    return !(error <= worst) ? error : worst;
}
