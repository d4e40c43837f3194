/* cuda_runtime.h - stands in for CUDA's header of this name where kernels/cuda is built by the host compiler (C++ only:
 * not self-contained as C). What it offers is what kernels/cuda uses, no more; what it proves: docs/emulation.md. */
#ifndef OC_TESTS_EMULATION_CUDA_RUNTIME_H
#define OC_TESTS_EMULATION_CUDA_RUNTIME_H

#include "emulation/language.cuh"
#include "emulation/runtime.cuh"

#endif
