/* isa_avx2_pairs.c - the inner loops for AVX2 with FMA3, the LSTM's products in bf16 by fma (body_pairs.h). */
#include "kernels/cpu/vec_avx2.h"

#define OC_PAIRS         1
#define OC_ROWS_MAX      3
#define OC_KERNELS_TABLE oc_cpu_kernels_avx2_pairs
#include "kernels/cpu/body.h"
