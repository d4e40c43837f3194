/* shape.h - the model of DESIGN section 3: its shape, and its parameters as one flat f32 vector with a table of
 * PyTorch's names. Everything that stores, sums or updates weights works on the flat vector. */
#ifndef OC_NN_SHAPE_H
#define OC_NN_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "kernels/ops.h"

typedef enum { OC_TRUNK_LSTM, OC_TRUNK_MLP } oc_trunk;   /* MLP on the last row: the baseline */

typedef struct oc_model_shape {
    oc_trunk trunk;
    int steps, inputs, layers, hidden;         /* T, F, L, H */
    int heads;                                 /* 0: attention left out (the ablation): the head sees the last state */
    int horizons;
} oc_model_shape;

typedef struct oc_parameter {
    char name[48];                             /* lstm.weight_ih_l0 …, or trunk.0.weight, trunk.2.weight … of an MLP;
                                                * attention.in_proj_weight … head.0.weight, head.3.bias */
    int64_t dims[2];                           /* dims[1] = 1 and rank 1 for biases */
    int rank;
    size_t first, count;                       /* in the flat vector; every first is a multiple of 16 */
    bool begins;                               /* the first of its module */
    float init_bound;                          /* uniform in +-bound at the start, PyTorch's rule; 0: zeros */
} oc_parameter;

enum { OC_PARAMETERS_MAX = 4 * OC_LAYERS_MAX + 8 };

typedef struct oc_parameters {
    oc_parameter row[OC_PARAMETERS_MAX];
    size_t count, total;                       /* total: length of the flat vector, gaps of alignment included (zero) */
    size_t weights;                            /* numbers that are weights */
} oc_parameters;

/* Places of the flat vector whose gradients become final together: whole modules, from the head back to the first
 * layer, as many as it takes to be at least `least` numbers (0: each module by itself); the last may be smaller. They
 * cover [0, total), and each ends where the one before begins. */
typedef struct oc_parameter_range { size_t first, count; } oc_parameter_range;
size_t oc_parameters_buckets(const oc_parameters *p, size_t least, oc_parameter_range out[OC_PARAMETERS_MAX]);

OC_MUST oc_model_shape_check(const oc_model_shape *shape);             /* OC_ECONFIG with the limits */
void oc_parameters_describe(oc_parameters *out, const oc_model_shape *shape);
const oc_parameter *oc_parameters_find(const oc_parameters *p, const char *name);   /* NULL where absent */
void oc_parameters_init(const oc_parameters *p, uint64_t seed, float *flat);    /* counter-based: same on any machine */
/* Asserts that it is there; flat NULL: only its shape. */
oc_tensor oc_parameters_tensor(const oc_parameters *p, const char *name, float *flat);
oc_lstm_weights oc_parameters_lstm(const oc_parameters *p, const oc_model_shape *shape, float *flat);
oc_attention_weights oc_parameters_attention(const oc_parameters *p, const oc_model_shape *shape, float *flat);

#endif
