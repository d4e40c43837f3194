/* onnx_operators.h - the operators that onnx.c writes, in f64 and in the plainest form, for onnx_evaluate.c alone. */
#ifndef OC_NN_ONNX_OPERATORS_H
#define OC_NN_ONNX_OPERATORS_H

#include "base/memory.h"
#include "nn/onnx_proto.h"

enum { OC_ONNX_RANK_MAX = 4, OC_ONNX_INPUTS_MAX = 4 };

typedef struct oc_onnx_value {
    const char *name;
    int rank;
    int64_t dims[OC_ONNX_RANK_MAX];
    double *x; /* integers too: they are small */
} oc_onnx_value;

typedef struct oc_onnx_call {
    const Onnx__NodeProto *node;
    const oc_onnx_value *in[OC_ONNX_INPUTS_MAX];
    size_t inputs;
    oc_onnx_value *out;
    oc_arena *arena;
} oc_onnx_call;

size_t oc_onnx_count(const oc_onnx_value *v);
OC_MUST oc_onnx_value_new(oc_onnx_value *out, oc_arena *arena, int rank, const int64_t *dims);
OC_MUST
oc_onnx_call_run(const oc_onnx_call *call); /* OC_EDATA: an operator that is not in the table, shapes that do not fit */

#endif
