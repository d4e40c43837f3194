/* ops_cuda.cuh - the operations of the CUDA backend: oc_cuda_ROW for each row of oc_ops, in the table of backend.cu.
 * What each does is said once, in kernels/ops.h. Below them, what files of kernels/cuda ask of each other. */
#ifndef OC_KERNELS_CUDA_OPS_CUDA_CUH
#define OC_KERNELS_CUDA_OPS_CUDA_CUH

#include "kernels/cuda/backend_cuda.cuh"

/* record.cu: the driver's rows of these names. */
OC_MUST oc_cuda_record_begin(oc_backend *b);
OC_MUST oc_cuda_record_end(oc_backend *b, oc_recording **out);
void oc_cuda_record_drop(oc_backend *b);
OC_MUST oc_cuda_replay(oc_backend *b, oc_recording *recording);
void oc_cuda_recording_free(oc_backend *b, oc_recording *recording);
extern const oc_link_driver oc_cuda_link; /* link_nccl.cu */

OC_MUST oc_cuda_gather_scale(oc_backend *b, oc_tensor rows, oc_tensor index, oc_tensor mean, oc_tensor scale,
                             float clip, oc_tensor x);

size_t oc_cuda_lstm_packed_bytes(oc_backend *b, const oc_lstm_shape *s);
OC_MUST oc_cuda_lstm_pack(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, oc_tensor packed);
size_t oc_cuda_lstm_reserve_bytes(oc_backend *b, const oc_lstm_shape *s, bool training);
OC_MUST oc_cuda_lstm_forward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x,
                             const oc_dropout *dropout, bool training, oc_tensor y, oc_tensor reserve);
OC_MUST oc_cuda_lstm_backward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x, oc_tensor y,
                              oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw);
OC_MUST oc_cuda_lstm_backward_layer(oc_backend *b, const oc_lstm_shape *s, int n, oc_tensor packed, oc_tensor x,
                                    oc_tensor y, oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve,
                                    const oc_lstm_weights *dw);
OC_MUST oc_cuda_lstm_step(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int n, oc_tensor x, oc_tensor h,
                          oc_tensor c, oc_tensor reserve);

size_t oc_cuda_linear_packed_bytes(oc_backend *b, int outputs, int inputs);
OC_MUST oc_cuda_linear_pack(oc_backend *b, oc_tensor w, oc_tensor packed);
OC_MUST oc_cuda_linear_forward(oc_backend *b, oc_tensor x, oc_tensor packed, oc_tensor bias, bool relu, oc_tensor y);
OC_MUST oc_cuda_linear_backward(oc_backend *b, oc_tensor x, oc_tensor w, oc_tensor y, bool relu, oc_tensor dy,
                                oc_tensor dx, oc_tensor dw, oc_tensor dbias);

OC_MUST oc_cuda_softmax_loss(oc_backend *b, const oc_loss_rule *rule, oc_tensor logits, oc_tensor target,
                             double *loss_sum, double *weight_sum, oc_tensor dlogits);
OC_MUST oc_cuda_softmax(oc_backend *b, int horizons, const float *temperature, oc_tensor logits,
                        oc_tensor probabilities);

OC_MUST oc_cuda_tree_sum(oc_backend *b, oc_tensor partials, oc_tensor sum);
OC_MUST oc_cuda_square_sum(oc_backend *b, oc_tensor x, double *sum);
OC_MUST oc_cuda_adamw(oc_backend *b, const oc_adamw_rule *rule, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v);
OC_MUST oc_cuda_blend(oc_backend *b, float keep, oc_tensor x, oc_tensor average);
OC_MUST oc_cuda_fill(oc_backend *b, float value, oc_tensor x);
OC_MUST oc_cuda_step_begin(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                           oc_tensor indices, oc_tensor targets, int64_t first, oc_tensor index, oc_tensor target);
OC_MUST oc_cuda_step_decide(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                            oc_step_result *results, int64_t count);
OC_MUST oc_cuda_step_apply(oc_backend *b, const oc_step_rule *rule, const oc_step *step, oc_tensor p, oc_tensor g,
                           oc_tensor m, oc_tensor v, oc_tensor average);

size_t oc_cuda_attend_packed_bytes(oc_backend *b, const oc_attention_shape *s);
OC_MUST oc_cuda_attend_pack(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w,
                            oc_tensor packed);
size_t oc_cuda_attend_reserve_bytes(oc_backend *b, const oc_attention_shape *s);
OC_MUST oc_cuda_attend_forward(oc_backend *b, const oc_attention_shape *s, oc_tensor packed, oc_tensor h, oc_tensor y,
                               oc_tensor map, oc_tensor reserve);
OC_MUST oc_cuda_attend_backward(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w, oc_tensor h,
                                oc_tensor map, oc_tensor reserve, oc_tensor dy, const oc_attention_weights *dw,
                                oc_tensor dh);
OC_MUST oc_cuda_dropout(oc_backend *b, const oc_dropout *d, oc_tensor x);

size_t oc_cuda_slide_bytes(oc_backend *b, const oc_slide_shape *s);
size_t oc_cuda_slide_work_bytes(oc_backend *b, const oc_slide_shape *s, int n);
OC_MUST oc_cuda_slide_reset(oc_backend *b, const oc_slide_shape *s, oc_tensor states, uint32_t slot);
OC_MUST oc_cuda_slide_step(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                           oc_tensor work, oc_tensor slots, oc_tensor rows, oc_tensor x, oc_tensor seen);
OC_MUST oc_cuda_slide_advance(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                              oc_tensor work, oc_tensor slots, oc_tensor rows, int first, int count);

/* c(i,j) (+)= sum over k of a(i,k) b(k,j), m x n, one fused chain over ascending k from start[j], c or 0 (product.cu).
 * a(i,k) = a[i * a_row + k * a_k], b(k,j) = b[k * b_k + j * b_column], c(i,j) = c[i * c_row + j]. f32, the CPU's bits.
 * splits > 1: k is cut into that many ranges whose sums go to parts [splits][m][n] and are added in ascending order;
 * then neither start nor add. batch > 1: that many such products in one launch, whose a, b, c, start lie X_next apart
 * (parts [batch][splits][m][n]). */
typedef struct oc_cuda_product {
    int m, n, k;
    const float *a;
    int64_t a_row, a_k;
    const float *b;
    int64_t b_k, b_column;
    float *c;
    int64_t c_row;
    const float *start;
    bool add, relu;
    int splits;
    float *parts;
    int batch;
    int64_t a_next, b_next, c_next, start_next;
    oc_math math; /* f32 unless wished: TF32, BF16 round a and b, and take start and add last */
    bool large;   /* one of training's over all (t, b): cuBLASLt may take it; then splits and parts are not used */
} oc_cuda_product;
OC_MUST oc_cuda_product_run(oc_backend *b, const oc_cuda_product *p);
OC_MUST oc_cuda_product_mma(oc_backend *b, const oc_cuda_product *p, dim3 grid); /* of product_run alone */
bool oc_cuda_lt_serves(oc_backend *b, const oc_cuda_product *p);                 /* the same */
OC_MUST oc_cuda_lt_run(oc_backend *b, const oc_cuda_product *p);

/* sums[j] = sum over ascending i of x(i,j) = x[i * columns + j], one chain each; sums2 (may be NULL) gets the same.
 * splits as above, parts [splits][columns]. */
OC_MUST oc_cuda_column_sums(oc_backend *b, const float *x, int64_t rows, int columns, int splits, float *parts,
                            float *sums, float *sums2);

#endif
