# The files of the CUDA module, for nvcc (kernels/CMakeLists.txt) and for the host compiler (tests/emulation).
set(OUTCRY_CUDA_SOURCES
    cuda/attend.cu
    cuda/attend_backward.cu
    cuda/backend.cu
    cuda/linear.cu
    cuda/loss.cu
    cuda/lstm.cu
    cuda/lstm_backward.cu
    cuda/lstm_pack.cu
    cuda/lstm_persistent.cu
    cuda/lstm_persistent_backward.cu
    cuda/product.cu
    cuda/product_mma.cu
    cuda/record.cu
    cuda/slide.cu
    cuda/update.cu)
