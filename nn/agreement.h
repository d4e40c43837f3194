/* agreement.h - how far the answers of a smaller dtype lie from those in f32, on windows drawn for it: what a server
 * asks before it lets bf16 answer. */
#ifndef OC_NN_AGREEMENT_H
#define OC_NN_AGREEMENT_H

#include "nn/ensemble.h"

enum { OC_AGREEMENT_WINDOWS = 256 };

typedef struct oc_agreement {
    double difference; /* the largest of any probability; NaN where an answer is */
    double decisions;  /* share of answers whose most probable class is another one */
} oc_agreement;

/* OC_AGREEMENT_WINDOWS windows, the same in every run: rows around the scaler's mean with its deviation, in even
 * windows independent of each other, in odd ones moving slowly (correlation 0.95 from row to row). `config` against the
 * CPU's f32. Opens the members twice; memory of 8 windows beside them. */
OC_MUST oc_agreement_measure(const oc_ensemble *e, const oc_backend_config *config, oc_agreement *out);

#endif
