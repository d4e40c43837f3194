/* isa_avx512_pairs.c - the inner loops for AVX-512, the LSTM's products in bf16 by fma (body_pairs.h). */
#include "kernels/cpu/vec_avx512.h"

#define OC_PAIRS         1
#define OC_ROWS_MAX      6
#define OC_KERNELS_TABLE oc_cpu_kernels_avx512_pairs
#include "kernels/cpu/body.h"
