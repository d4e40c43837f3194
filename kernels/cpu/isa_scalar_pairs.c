/* isa_scalar_pairs.c - the inner loops for any machine, the LSTM's products in bf16 (body_pairs.h). */
#include "kernels/cpu/vec_scalar.h"

#define OC_PAIRS         1
#define OC_ROWS_MAX      2
#define OC_KERNELS_TABLE oc_cpu_kernels_scalar_pairs
#include "kernels/cpu/body.h"
