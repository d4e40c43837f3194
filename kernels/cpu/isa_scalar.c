/* isa_scalar.c - the inner loops for any machine: one lane, fmaf of libm. */
#include "kernels/cpu/vec_scalar.h"

#define OC_ROWS_MAX 2
#define OC_KERNELS_TABLE oc_cpu_kernels_scalar
#include "kernels/cpu/body.h"
