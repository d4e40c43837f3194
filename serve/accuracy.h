/* accuracy.h - which versions may answer in bf16: those whose answers stay close to f32's on windows drawn for it
 * (nn/agreement.h), on a machine with instructions for bf16. In f32 every version passes. */
#ifndef OC_SERVE_ACCURACY_H
#define OC_SERVE_ACCURACY_H

#include "nn/agreement.h"
#include "serve/version.h"

typedef struct oc_accuracy {
    double difference_max; /* of any probability */
    double decisions_max;  /* share of answers whose most probable class may be another one */
} oc_accuracy;

/* Fills v->agreement and logs it. OC_EDATA with the numbers where it does not pass. OC_ECONFIG where bf16 was asked of
 * another backend than the CPU, or of one that has no instructions for it: there it would be slower than f32. */
OC_MUST oc_accuracy_pass(oc_version *v, const oc_backend_config *backend, const oc_accuracy *accuracy);

#endif
