/* isa_avx512_native.c - the inner loops for AVX-512 with its instructions for bf16: vdpbf16ps takes a word of two in
 * one step, twice the products a second of f32. */
#include "kernels/cpu/vec_avx512.h"

#define OC_PAIRS         1
#define OC_ROWS_MAX      6
#define OC_KERNELS_TABLE oc_cpu_kernels_avx512_native
#include "kernels/cpu/body.h"
