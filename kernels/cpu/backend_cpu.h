/* backend_cpu.h - what a CPU backend is, and the operations that fill its table: oc_cpu_ROW for every row of oc_ops. */
#ifndef OC_KERNELS_CPU_BACKEND_CPU_H
#define OC_KERNELS_CPU_BACKEND_CPU_H

#include "kernels/cpu/kernels_cpu.h"
#include "kernels/ops.h"

struct oc_backend {
    oc_backend_info info;
    oc_arena arena;
    const oc_cpu_kernels *kernels;             /* of the chosen instruction set */
};

static inline size_t oc_round_up(size_t count, size_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

#endif
