/* body.h - the table of inner loops of one instruction set. isa_NAME.c includes its vec_NAME.h, defines OC_ROWS_MAX
 * (the rows of a register tile) and OC_KERNELS_TABLE, then this. */
#ifndef OC_KERNELS_CPU_BODY_H
#define OC_KERNELS_CPU_BODY_H

#include <math.h>

#include "kernels/cpu/body_cell.h"
#include "kernels/cpu/body_peak.h"
#include "kernels/cpu/body_product.h"
#include "kernels/cpu/body_rows.h"
#include "kernels/cpu/body_backward.h"

const oc_cpu_kernels OC_KERNELS_TABLE = {
#define OC_CPU_KERNELS_ROW(name, result, arguments) .name = name,
    OC_CPU_KERNELS(OC_CPU_KERNELS_ROW)
#undef OC_CPU_KERNELS_ROW
};

#endif
