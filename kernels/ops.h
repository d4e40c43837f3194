/* ops.h - the numeric operations of Outcry, one table per backend (DESIGN section 5). Numbers only: no layer, no file,
 * no market. kernels/cpu fills it by hand-written C (scalar, AVX2, AVX-512: the same bits), kernels/cuda for a GPU.
 *
 * Tensors are views and never own. Activations are TIME-MAJOR: [T,B,H], so that one step is one contiguous [B,H].
 * Weights have PyTorch's shapes. Shapes are asserted, sizes beyond a limit are OC_ELIMIT. NaN in gives NaN out.
 * Order of sums: every product is one fused-multiply-add chain over ascending k; a sum over (t, b) runs over t outer, b
 * inner, ascending. So the same bits for any batch, thread count and instruction set (f32, CPU).
 * Gradients OVERWRITE their output unless a row says "added".
 * Gates: i, f, g, o (PyTorch). Pre-activation = ((x.W_ih chain + (b_ih + b_hh)) + (h.W_hh chain)): two chains and one
 * addition in every path, so that x.W may be computed for all steps beforehand, or h.W before x arrives. */
#ifndef OC_KERNELS_OPS_H
#define OC_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/memory.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_LAYERS_MAX = 8, OC_STEPS_MAX = 4096, OC_HIDDEN_MAX = 4096, OC_HEADS_MAX = 64, OC_INPUTS_MAX = 4096,
       OC_CLASSES = 3, OC_HORIZONS_MAX = 8 };

typedef enum { OC_DTYPE_F32, OC_DTYPE_I32, OC_DTYPE_I64, OC_DTYPE_BYTES, OC_DTYPE_F64, OC_DTYPE_BF16 } oc_dtype;
typedef enum { OC_GATE_I, OC_GATE_F, OC_GATE_G, OC_GATE_O, OC_GATES } oc_gate;
typedef enum { OC_BACKEND_AUTO, OC_BACKEND_CPU, OC_BACKEND_CUDA } oc_backend_kind;
/* How products are taken; sums are f32 in all of them, master weights and gradients stay f32. The CPU knows F32 and, in
 * inference, BF16: weights of the LSTM and what they meet (rows, states) rounded to bf16, chains of f32 over ascending
 * k as ever, subnormal sums as 0; gates, attention and head in f32. The same bits on every instruction set and for any
 * batch. */
typedef enum { OC_MATH_F32, OC_MATH_TF32, OC_MATH_BF16 } oc_math;
/* Who computes the LSTM in training. CUDNN: the vendor's library on a GPU, or an error; AUTO: HAND unless CUDNN was
 * measured faster for the shape. Inference is HAND in all of them. */
typedef enum { OC_LSTM_HAND, OC_LSTM_CUDNN, OC_LSTM_AUTO } oc_lstm_by;
/* AVX512_BF16: products of bf16 by instructions for them; elsewhere two fma each, slower than f32. In f32: AVX512. */
typedef enum { OC_ISA_BEST, OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512, OC_ISA_AVX512_BF16 } oc_isa;

typedef struct oc_tensor {
    void *data;                                /* row-major, in the backend's memory */
    int64_t dims[4];                           /* unused ones are 1 */
    oc_dtype dtype;
} oc_tensor;

/* One device, one stream, one sealed arena; one thread at a time. CPU backends of one process share memory: a tensor
 * of one may be read by another, so a trainer opens one backend per worker thread. CUDA backends of one device share
 * that device's memory the same way; there a pointer to host memory is a fault, so all data goes through upload. */
typedef struct oc_backend oc_backend;
typedef struct oc_backend_config {
    oc_backend_kind kind;
    oc_isa isa;                                /* CPU; BEST unless OUTCRY_ISA or a test says other */
    int device;
    size_t arena_bytes;
    int64_t wait_max_ns;                       /* CUDA: oc_backend_wait fails where it takes longer; 0: never */
    oc_math math;                              /* TF32: CUDA */
    oc_lstm_by lstm;                           /* CUDA */
    bool partial;                              /* tests: a table with rows that are still missing is good enough */
} oc_backend_config;
typedef struct oc_backend_info {
    oc_backend_kind kind;
    oc_isa isa;
    oc_math math;
    oc_lstm_by lstm;                           /* HAND, or CUDNN, AUTO where some shapes may go there */
    bool shares_host_memory;                   /* tensors may lie in plain memory of the process, and be read there */
    bool records;                              /* oc_backend_record_begin works; elsewhere just run the operations */
    int64_t wait_max_ns;                       /* of the config */
    int device_index, devices;                 /* CUDA: which, of how many that this process sees */
    char device[64], reason[320];              /* "AMD EPYC …", "auto: no CUDA module …; so the CPU" */
    char products[48];                         /* CUDA: who takes training's large ones: hand, cuBLASLt 13.0.2 */
    char lstm_by[48];                          /* CUDA: who computes the LSTM in training: hand, cuDNN 9.19.0 */
} oc_backend_info;

OC_MUST oc_backend_open(oc_backend **out, const oc_backend_config *config);  /* an explicit cuda without one: error */
void oc_backend_close(oc_backend *b);
/* CUDA: once a wait of this process took longer than wait_max_ns. From then on every call that would ask the device
 * fails at once, and what is closed keeps its memory, since freeing it might wait for ever. */
bool oc_backend_lost(const oc_backend *b);
const oc_backend_info *oc_backend_describe(const oc_backend *b);
bool oc_isa_available(oc_isa isa);

/* Libraries that the CUDA module looks for on this machine, GPU or not. Their number, 0 without a module; at most cap
 * are filled. */
enum { OC_LIBRARIES_MAX = 8, OC_LIBRARY_ABOUT_BYTES = 400 };
typedef struct oc_library {
    const char *name, *purpose;
    bool found;
    char about[OC_LIBRARY_ABOUT_BYTES];        /* version and file, or what was tried */
} oc_library;
int oc_backend_libraries(oc_library *out, int cap);

const char *oc_isa_name(oc_isa isa);
OC_MUST oc_backend_alloc(oc_backend *b, oc_tensor *t);       /* data from the arena, zeroed; dims and dtype given */
void oc_backend_seal(oc_backend *b);
/* Copies enqueue like operations do. What is uploaded may change once the call is back; what is downloaded is there
 * after wait. */
OC_MUST oc_backend_upload(oc_backend *b, oc_tensor dst, const void *host, size_t bytes);
OC_MUST oc_backend_download(oc_backend *b, void *host, size_t bytes, oc_tensor src);
OC_MUST oc_backend_copy(oc_backend *b, oc_tensor dst, oc_tensor src);        /* all of src, same memory */
OC_MUST oc_backend_wait(oc_backend *b);        /* operations only enqueue: device errors appear here, named */
/* Host memory that a device reads and writes by itself (page-locked there), zeroed: copies from and to it never hold up
 * the caller, so it must not change before they are done. Elsewhere plain memory. */
OC_MUST oc_backend_pin(oc_backend *b, size_t bytes, void **out);
void oc_backend_unpin(oc_backend *b, void *pinned);

/* A recording: what is enqueued between begin and end is kept and not run; replay enqueues all of it as one piece, as
 * often as wished, with the tensors and numbers of then and what lies in memory now. Kinds with info.records only.
 * In between: no alloc, no wait; up- and downloads from and to pinned memory, at each replay. Run the operations once
 * before they are recorded (a first launch may load its kernel). After a failure in between: drop. Errors of a replay
 * cannot name their kernel. Free before the backend is closed. */
typedef struct oc_recording oc_recording;
OC_MUST oc_backend_record_begin(oc_backend *b);
OC_MUST oc_backend_record_end(oc_backend *b, oc_recording **out);
void oc_backend_record_drop(oc_backend *b);
OC_MUST oc_backend_replay(oc_backend *b, oc_recording *recording);
void oc_backend_recording_free(oc_backend *b, oc_recording *recording);

size_t oc_dtype_bytes(oc_dtype dtype);
int64_t oc_tensor_count(oc_tensor t);
oc_tensor oc_tensor_make(void *data, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3);

typedef struct oc_lstm_shape { int layers, batch, steps, inputs, hidden; } oc_lstm_shape;   /* batch: the largest */
typedef struct oc_lstm_weights {               /* [4H,in] [4H,H] [4H] [4H] per layer; as gradients: the same shapes */
    oc_tensor w_ih[OC_LAYERS_MAX], w_hh[OC_LAYERS_MAX], b_ih[OC_LAYERS_MAX], b_hh[OC_LAYERS_MAX];
} oc_lstm_weights;
/* Dropout by counter: element j of row t of sample s = sample_first + b is kept iff its number is >= p, and then
 * divided by (1 - p). Its number is draw / 2^16, draw = bits 16 (j mod 4) … of
 *     oc_random_philox(key, s 2^22 + t ceil(N/4) + j/4) with key = oc_random_key(seed, OC_RANDOM_DROPOUT, step,
 * tensor). The same mask on every backend. Layer l of an LSTM: tensor + l. keys: NULL, or in the backend's memory those
 * of a step (oc_step): then the key is keys[tensor], and seed and step are not looked at. */
typedef struct oc_dropout {
    float p;
    uint64_t seed, step, sample_first;
    uint32_t tensor;
    const uint32_t *keys;
} oc_dropout;
typedef struct oc_attention_shape { int batch, steps, hidden, heads; } oc_attention_shape;
typedef struct oc_attention_weights {          /* [3H,H] [3H] [H,H] [H] */
    oc_tensor in_w, in_b, out_w, out_b;
} oc_attention_weights;
enum { OC_SLIDE_KEPT = 16 };                   /* rows of a slot that wait for some of its windows */
typedef struct oc_slide_shape {
    int layers, steps, inputs, hidden, heads;
} oc_slide_shape;                                                                    /* heads 0: no attention */
typedef struct oc_slide_weights { oc_tensor lstm, attention; } oc_slide_weights;     /* packed; attention where heads */
typedef struct oc_loss_rule { float class_weight[OC_CLASSES]; float label_smoothing; int horizons; } oc_loss_rule;
typedef struct oc_adamw_rule {                 /* [Loshchilov19] */
    float rate, beta1, beta2, epsilon, weight_decay, gradient_scale;
    int64_t step;                              /* from 1 */
} oc_adamw_rule;

/* A training step whose numbers lie in the backend's memory, so that one recording serves every step: the caller
 * uploads plans and windows of some steps, the operations step_* take them turn by turn and leave results. */
enum { OC_STEP_KEYS = OC_LAYERS_MAX + 1 };     /* dropout's tensors 0 … OC_LAYERS_MAX */
typedef struct oc_step_rule {                  /* the same for all steps */
    uint64_t seed;                             /* of dropout */
    double clip_norm, average;                 /* 0: any norm; 0: no average */
    float beta1, beta2, epsilon, weight_decay;
} oc_step_rule;
typedef struct oc_step_plan { uint64_t step; float rate, unused; } oc_step_plan;   /* step: of dropout, from 0 */
typedef struct oc_step {                       /* begins as zeros */
    int64_t turn, updates;                     /* the next plan; steps that changed weights */
    double loss_sum, weight_sum, square_sum, norm;       /* norm: of the mean loss' gradient, before clipping */
    float gradient_scale, decay, rate, root, keep;       /* of AdamW and the average */
    int32_t finite;                            /* 0: loss or norm is not, and the step changes nothing */
    uint32_t keys[OC_STEP_KEYS];               /* of dropout */
} oc_step;
typedef struct oc_step_result { double loss_sum, weight_sum, norm; int64_t finite; } oc_step_result;

typedef struct oc_ops {
    /* x[t,b,:] = clip((rows[index[b] - T + 1 + t,:] - mean) / scale). rows [N,F], index [B] i64, x [T,B,F].
     * clip <= 0: none */
    OC_MUST (*gather_scale)(oc_backend *b, oc_tensor rows, oc_tensor index, oc_tensor mean, oc_tensor scale, float clip,
                            oc_tensor x);

    /* Weights in the layout that the kernels of this backend want. One packing serves any batch and many readers. */
    size_t (*lstm_packed_bytes)(oc_backend *b, const oc_lstm_shape *s);
    OC_MUST (*lstm_pack)(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, oc_tensor packed);
    /* reserve: gates, cells, layer outputs, workspace */
    size_t (*lstm_reserve_bytes)(oc_backend *b, const oc_lstm_shape *s, bool training);
    /* x [T,B,F] -> y [T,B,H] of the last layer. dropout (between layers, tensor + layer) NULL: none. reserve is kept
     * for backward, which overwrites dy. */
    OC_MUST (*lstm_forward)(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x,
                            const oc_dropout *dropout, bool training, oc_tensor y, oc_tensor reserve);
    OC_MUST (*lstm_backward)(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x, oc_tensor y,
                             oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw);
    /* Its part for one layer, the same arguments: all layers, from the last down to 0, are lstm_backward. */
    OC_MUST (*lstm_backward_layer)(oc_backend *b, const oc_lstm_shape *s, int layer, oc_tensor packed, oc_tensor x,
                                   oc_tensor y, oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve,
                                   const oc_lstm_weights *dw);
    /* One time step of all layers for n <= batch rows: x [n,F]; h, c [layers,n,H] in place. The bits of
     * lstm_forward. */
    OC_MUST (*lstm_step)(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int n, oc_tensor x, oc_tensor h,
                         oc_tensor c, oc_tensor reserve);

    /* Last-query attention, absorbed form: W_k folded into the query, W_v applied after pooling. [Vaswani17 eq.1]
     * h [T,B,H] -> y [B,H]; map [B,N,T] kept for backward, its data may be NULL in inference. Backward overwrites
     * dh [T,B,H]. */
    size_t (*attend_packed_bytes)(oc_backend *b, const oc_attention_shape *s);
    OC_MUST (*attend_pack)(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w,
                           oc_tensor packed);
    size_t (*attend_reserve_bytes)(oc_backend *b, const oc_attention_shape *s);
    OC_MUST (*attend_forward)(oc_backend *b, const oc_attention_shape *s, oc_tensor packed, oc_tensor h, oc_tensor y,
                              oc_tensor map, oc_tensor reserve);
    OC_MUST (*attend_backward)(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w, oc_tensor h,
                               oc_tensor map, oc_tensor reserve, oc_tensor dy, const oc_attention_weights *dw,
                               oc_tensor dh);

    /* Staggered windows (DESIGN section 6): a slot holds T - 1 windows that began one row apart, each in a place of its
     * own: the one that began at row s in place s mod (T - 1). states [slots, slide_bytes]. A call is for n slots:
     * slots [n] i32, each once, and rows [n] i64, the number of the row (from 0, since the slot's reset), or -1:
     * nobody, so that a call of n (a recording) serves fewer. Both lie in the backend's memory. work: slide_work_bytes
     * for n or more, of no use between calls.
     * step: row x[i] (scaled, [n,F]) completes the oldest window, in place rows[i] mod (T - 1), which has consumed all
     * rows before -> seen [n,H], what the head reads: the bits of lstm_forward and attend_forward on the last T rows;
     * garbage while rows[i] < T - 1.
     * advance: the windows in places first ... first + count - 1 consume that row, behind its step; another one begins
     * with it where the step completed one. Each place takes the rows one after the other; places need not stand at the
     * same row, but none may lag OC_SLIDE_KEPT rows behind the last step when the next one comes. T 1: no places. */
    size_t (*slide_bytes)(oc_backend *b, const oc_slide_shape *s);
    size_t (*slide_work_bytes)(oc_backend *b, const oc_slide_shape *s, int n);
    OC_MUST (*slide_reset)(oc_backend *b, const oc_slide_shape *s, oc_tensor states, uint32_t slot);
    OC_MUST (*slide_step)(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                          oc_tensor work, oc_tensor slots, oc_tensor rows, oc_tensor x, oc_tensor seen);
    OC_MUST (*slide_advance)(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                             oc_tensor work, oc_tensor slots, oc_tensor rows, int first, int count);

    /* y [B,N] = x [B,K] . w[N,K]^T from bias [N]; relu: max(0, y), NaN stays NaN. Backward overwrites dy by the
     * gradient before relu; dx.data may be NULL. */
    size_t (*linear_packed_bytes)(oc_backend *b, int outputs, int inputs);
    OC_MUST (*linear_pack)(oc_backend *b, oc_tensor w, oc_tensor packed);
    OC_MUST (*linear_forward)(oc_backend *b, oc_tensor x, oc_tensor packed, oc_tensor bias, bool relu, oc_tensor y);
    OC_MUST (*linear_backward)(oc_backend *b, oc_tensor x, oc_tensor w, oc_tensor y, bool relu, oc_tensor dy,
                               oc_tensor dx, oc_tensor dw, oc_tensor dbias);
    /* In place; backward is the same call on dx. x [B,N]: t is 0; x [T,B,N] (dims[2] > 1). */
    OC_MUST (*dropout)(oc_backend *b, const oc_dropout *d, oc_tensor x);

    /* Cross entropy with class weights and label smoothing [Szegedy16], averaged as PyTorch does (over the weights of
     * the targets): logits [B,horizons*3]; target [B,horizons] i32, -1: not counted. Adds to loss_sum[0] and
     * weight_sum[0] (f64, in the backend's memory); dlogits = the gradient of the weighted SUM (the caller divides by
     * the whole batch's weight: gradient_scale of adamw). */
    OC_MUST (*softmax_loss)(oc_backend *b, const oc_loss_rule *rule, oc_tensor logits, oc_tensor target,
                            double *loss_sum, double *weight_sum, oc_tensor dlogits);
    /* probabilities [B,horizons,3] = softmax(logits / temperature[horizon]) */
    OC_MUST (*softmax)
    (oc_backend *b, int horizons, const float *temperature, oc_tensor logits, oc_tensor probabilities);

    /* [S,P] -> [n], n <= P, S a power of two: fixed binary tree, of the first n columns. data may begin at a later
     * column: a column's sum knows nothing of the others. */
    OC_MUST (*tree_sum)(oc_backend *b, oc_tensor partials, oc_tensor sum);
    /* f64, fixed blocks: same bits for any split; sum[0] in the backend's memory */
    OC_MUST (*square_sum)(oc_backend *b, oc_tensor x, double *sum);
    OC_MUST (*adamw)(oc_backend *b, const oc_adamw_rule *rule, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v);
    /* average = keep * average + (1 - keep) * x */
    OC_MUST (*blend)(oc_backend *b, float keep, oc_tensor x, oc_tensor average);
    OC_MUST (*fill)(oc_backend *b, float value, oc_tensor x);

    /* step, plans [n], indices [n,B] i64, targets [n,B,horizons] i32, results [n] lie in the backend's memory. begin:
     * keys of plan step->turn, loss and weight 0, and windows [first, first + count) of its B into index [count],
     * target [count,horizons]. decide, after loss_sum, weight_sum (softmax_loss) and square_sum: everything else of
     * *step, its result, and the next turn. apply: AdamW and the average (data NULL: none), where the step is finite:
     * the bits of adamw and blend with these numbers. */
    OC_MUST (*step_begin)(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                          oc_tensor indices, oc_tensor targets, int64_t first, oc_tensor index, oc_tensor target);
    OC_MUST (*step_decide)(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                           oc_step_result *results, int64_t count);
    OC_MUST (*step_apply)(oc_backend *b, const oc_step_rule *rule, const oc_step *step, oc_tensor p, oc_tensor g,
                          oc_tensor m, oc_tensor v, oc_tensor average);
} oc_ops;

const oc_ops *oc_backend_ops(const oc_backend *b);

#ifdef __cplusplus
}
#endif
#endif
