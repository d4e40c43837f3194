/* resident.h - the last step of pushed rows by a kernel that does not end: one launch, then a doorbell. It holds the
 * weights of the LSTM in registers and shared memory, polls words of pinned host memory, computes what slide_step, the
 * head and softmax compute, with their bits, and writes the probabilities to pinned host memory, each word marked with
 * the number of its call, so that a result is its own completion flag. It reads the states of the windows and writes
 * none, so whatever becomes of it they are as they were. CUDA, f32. An experiment: not run on a GPU.
 *
 * One thread at a time may step. The backend's and other backends' calls that a device may hold up behind a kernel that
 * does not end (memory, recordings made) send it away first; the next step starts it again. */
#ifndef OC_KERNELS_RESIDENT_H
#define OC_KERNELS_RESIDENT_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_RESIDENT_ROWS = 4, OC_RESIDENT_LAYERS_MAX = 4 };

typedef struct oc_resident oc_resident;
typedef struct oc_resident_model { /* its memory is borrowed until close; weights as packed */
    oc_slide_shape shape;
    int horizons;
    oc_tensor lstm, attention, head[2], head_bias[2], mean, scale, states;
    float clip, temperature[OC_HORIZONS_MAX];
} oc_resident_model;
typedef struct oc_resident_info {
    int blocks;                      /* multiprocessors that it keeps */
    size_t lstm_bytes, shared_bytes; /* weights of the LSTM; shared memory of a block */
    size_t far_bytes;                /* of attention and head, where they did not fit and come from L2 */
} oc_resident_info;
/* ANSWERED; AWAY: it was sent away, or is being; ask the operations this time; SILENT: nothing came within the bound,
 * or it cannot be started again, and it is not asked again. */
typedef enum { OC_RESIDENT_ANSWERED, OC_RESIDENT_AWAY, OC_RESIDENT_SILENT } oc_resident_state;

/* Everything of b that will be allocated or recorded should be: it starts here. OC_ELIMIT, with the numbers, where the
 * model does not fit; OC_ECONFIG where the backend has no such kernel. */
OC_MUST oc_resident_open(oc_resident **out, oc_backend *b, const oc_resident_model *m);
const oc_resident_info *oc_resident_describe(const oc_resident *r);
/* raw [n,F] -> answers [n,horizons,3] for n <= OC_RESIDENT_ROWS slots; rows as in slide_step, its advance done and
 * waited for. n 0: the bare way there and back. */
oc_resident_state oc_resident_step(oc_resident *r, const uint32_t *slots, const int64_t *rows, const float *raw,
                                   size_t n, float *answers, int64_t bound_ns);
/* An operation of b: scaled, raw [n,F] is the row that the next slide_advance of these slots consumes, which slide_step
 * would have left there. slots, rows, raw as in slide_step, in the backend's memory. */
OC_MUST oc_resident_keep(oc_resident *r, oc_tensor slots, oc_tensor rows, oc_tensor raw);
/* A kernel that does not leave within two seconds keeps its memory, and no CUDA backend can be opened in this process
 * any more. NULL is fine. */
void oc_resident_close(oc_resident *r);

#ifdef __cplusplus
}
#endif
#endif
