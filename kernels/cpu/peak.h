/* peak.h - how many operations a second one core can do at best: independent fused multiply-adds on registers, two
 * operations a lane each. What shares of the peak in benches are measured against. */
#ifndef OC_KERNELS_CPU_PEAK_H
#define OC_KERNELS_CPU_PEAK_H

#include "kernels/ops.h"

/* Operations a second of the calling thread; the best of short runs. */
double oc_cpu_fma_peak(oc_isa isa, double seconds);

#endif
