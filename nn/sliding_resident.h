/* sliding_resident.h - staggered windows whose steps go by a resident kernel (kernels/resident.h); inside nn only. The
 * kernel writes no state, so the row of each step is kept here until the advance that hands it to the device. */
#ifndef OC_NN_SLIDING_RESIDENT_H
#define OC_NN_SLIDING_RESIDENT_H

#include "kernels/resident.h"

typedef struct oc_reside oc_reside;
/* name: of the model, for the log; borrowed. */
OC_MUST oc_reside_open(oc_reside **out, oc_backend *b, const oc_resident_model *m, const char *name, size_t slot_max,
                       int64_t bound_ns);
void oc_reside_close(oc_reside *r);
bool oc_reside_answers(const oc_reside *r); /* false: it fell silent, and is not asked again */
/* Keeps the rows; true: answers are those of the windows that they complete. False: ask the operations. */
bool oc_reside_step(oc_reside *r, const uint32_t *slots, const int64_t *rows, const float *raw, size_t n,
                    float *answers);
bool oc_reside_ping(oc_reside *r);
/* The rows kept of n slots -> raw [n,F]. */
void oc_reside_rows(const oc_reside *r, const uint32_t *slots, size_t n, float *raw);
OC_MUST oc_reside_keep(oc_reside *r, oc_tensor slots, oc_tensor rows, oc_tensor raw);

#endif
