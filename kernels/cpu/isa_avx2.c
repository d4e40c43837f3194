/* isa_avx2.c - the inner loops for AVX2 with FMA3: 8 lanes. */
#include "kernels/cpu/vec_avx2.h"

#define OC_ROWS_MAX 3
#define OC_KERNELS_TABLE oc_cpu_kernels_avx2
#include "kernels/cpu/body.h"
