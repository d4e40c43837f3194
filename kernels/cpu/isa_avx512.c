/* isa_avx512.c - the inner loops for AVX-512: 16 lanes. */
#include "kernels/cpu/vec_avx512.h"

#define OC_ROWS_MAX 6
#define OC_KERNELS_TABLE oc_cpu_kernels_avx512
#include "kernels/cpu/body.h"
