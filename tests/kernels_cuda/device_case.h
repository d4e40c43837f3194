/* device_case.h - a backend `cuda` for tests, and tensors that lie in its memory with a copy on the host. The module is
 * the emulation's unless OUTCRY_CUDA_MODULE names another, so the same tests run on a GPU (CTest label gpu). */
#ifndef OC_TESTS_DEVICE_CASE_H
#define OC_TESTS_DEVICE_CASE_H

#include "kernels/ops.h"

/* Opens with `bytes` of planned memory; NULL where the module or a device is missing, with the reason printed as
 * "skipped: …". */
oc_backend *device_open(size_t bytes, oc_math math);
oc_backend *device_open_by(size_t bytes, oc_math math, oc_lstm_by lstm);
/* Exit code of a test program: 77 where the machine cannot run it, -1 where it can. Call it first in main. */
int device_skip(void);

/* Zeroed, on the device. */
oc_tensor device_take(oc_backend *b, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2);
oc_tensor device_bytes(oc_backend *b, size_t bytes);
/* From numbers of the host: count is d0 d1 d2. */
oc_tensor device_put(oc_backend *b, const void *host, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2);
/* The numbers of a tensor, after a wait. From a pool that device_release empties, as do the next two. */
void *device_get(oc_backend *b, oc_tensor t);
float *host_numbers(uint64_t stream, double size, int64_t count); /* uniform in +-size */
void *host_take(size_t bytes);
void device_release(void);

double worse(double worst, double error); /* NaN is worst */

#endif
