/* ops_cpu.h - the operations of the CPU backend: oc_cpu_ROW for each row of oc_ops, in the table of backend.c. What
 * each does is said once, in kernels/ops.h. */
#ifndef OC_KERNELS_CPU_OPS_CPU_H
#define OC_KERNELS_CPU_OPS_CPU_H

#include "kernels/cpu/kernels_cpu.h"
#include "kernels/cpu/update.h"
#include "kernels/ops.h"

OC_MUST oc_cpu_gather_scale(oc_backend *b, oc_tensor rows, oc_tensor index, oc_tensor mean, oc_tensor scale, float clip,
                            oc_tensor x);

size_t oc_cpu_lstm_packed_bytes(oc_backend *b, const oc_lstm_shape *s);
OC_MUST oc_cpu_lstm_pack(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, oc_tensor packed);
size_t oc_cpu_lstm_reserve_bytes(oc_backend *b, const oc_lstm_shape *s, bool training);
OC_MUST oc_cpu_lstm_forward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x,
                            const oc_dropout *dropout, bool training, oc_tensor y, oc_tensor reserve);
OC_MUST oc_cpu_lstm_step(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int n, oc_tensor x, oc_tensor h,
                         oc_tensor c, oc_tensor reserve);
OC_MUST oc_cpu_lstm_backward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x, oc_tensor y,
                             oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw);
OC_MUST oc_cpu_lstm_backward_layer(oc_backend *b, const oc_lstm_shape *s, int n, oc_tensor packed, oc_tensor x,
                                   oc_tensor y, oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve,
                                   const oc_lstm_weights *dw);

size_t oc_cpu_attend_packed_bytes(oc_backend *b, const oc_attention_shape *s);
OC_MUST oc_cpu_attend_pack(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w, oc_tensor packed);
size_t oc_cpu_attend_reserve_bytes(oc_backend *b, const oc_attention_shape *s);
OC_MUST oc_cpu_attend_forward(oc_backend *b, const oc_attention_shape *s, oc_tensor packed, oc_tensor h, oc_tensor y,
                              oc_tensor map, oc_tensor reserve);
OC_MUST oc_cpu_attend_backward(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w, oc_tensor h,
                               oc_tensor map, oc_tensor reserve, oc_tensor dy, const oc_attention_weights *dw,
                               oc_tensor dh);

size_t oc_cpu_slide_bytes(oc_backend *b, const oc_slide_shape *s);
size_t oc_cpu_slide_work_bytes(oc_backend *b, const oc_slide_shape *s, int n);
OC_MUST oc_cpu_slide_reset(oc_backend *b, const oc_slide_shape *s, oc_tensor states, uint32_t slot);
OC_MUST oc_cpu_slide_step(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                          oc_tensor work, oc_tensor slots, oc_tensor rows, oc_tensor x, oc_tensor seen);
OC_MUST oc_cpu_slide_advance(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                             oc_tensor work, oc_tensor slots, oc_tensor rows, int first, int count);

size_t oc_cpu_linear_packed_bytes(oc_backend *b, int outputs, int inputs);
OC_MUST oc_cpu_linear_pack(oc_backend *b, oc_tensor w, oc_tensor packed);
OC_MUST oc_cpu_linear_forward(oc_backend *b, oc_tensor x, oc_tensor packed, oc_tensor bias, bool relu, oc_tensor y);
OC_MUST oc_cpu_linear_backward(oc_backend *b, oc_tensor x, oc_tensor w, oc_tensor y, bool relu, oc_tensor dy,
                               oc_tensor dx, oc_tensor dw, oc_tensor dbias);
/* Rows first … first + count - 1 of the step-major rows of a [T,B,columns] tensor, which lie at x: for callers that
 * have them in cache. */
OC_MUST oc_cpu_dropout_rows(const oc_cpu_kernels *k, const oc_dropout *d, int64_t first, int64_t count, int64_t batch,
                            int64_t columns, float *x);
OC_MUST oc_cpu_dropout(oc_backend *b, const oc_dropout *d, oc_tensor x);
OC_MUST oc_cpu_softmax(oc_backend *b, int horizons, const float *temperature, oc_tensor logits,
                       oc_tensor probabilities);

#endif
