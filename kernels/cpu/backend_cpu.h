/* backend_cpu.h - what the files of kernels/cpu know of a backend: its arena and its inner loops. */
#ifndef OC_KERNELS_CPU_BACKEND_CPU_H
#define OC_KERNELS_CPU_BACKEND_CPU_H

#include "kernels/backend.h"
#include "kernels/cpu/kernels_cpu.h"

#endif
