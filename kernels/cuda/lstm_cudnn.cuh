/* lstm_cudnn.cuh - training's LSTM by cuDNN, for lstm.cu and lstm_backward.cu: the same numbers in the same tensors,
 * its weights behind ours in `packed`, its memory in `reserve`. The peer of our kernels and their oracle per layer. */
#ifndef OC_KERNELS_CUDA_LSTM_CUDNN_CUH
#define OC_KERNELS_CUDA_LSTM_CUDNN_CUH

#include "kernels/cuda/ops_cuda.cuh"

/* Whether it computes the training passes of this backend and shape (oc_backend_config.lstm). */
bool oc_cuda_dnn_serves(oc_backend *b, const oc_lstm_shape *s);

/* Bytes, or 0 where cuDNN could not be asked: the operation that follows fails with the reason. */
size_t oc_cuda_dnn_packed_bytes(oc_backend *b, const oc_lstm_shape *s);
size_t oc_cuda_dnn_reserve_bytes(oc_backend *b, const oc_lstm_shape *s);

/* As lstm_pack, lstm_forward in training and lstm_backward of ops.h. Without dropout between layers the whole stack is
 * one call (fused), else a call a layer. `packed` is what packed_bytes asked for. */
OC_MUST oc_cuda_dnn_pack(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, void *packed);
OC_MUST oc_cuda_dnn_forward(oc_backend *b, const oc_lstm_shape *s, void *packed, oc_tensor x, const oc_dropout *dropout,
                            oc_tensor y, oc_tensor reserve);
OC_MUST oc_cuda_dnn_backward(oc_backend *b, const oc_lstm_shape *s, void *packed, oc_tensor x, oc_tensor y,
                             oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw);

#endif
