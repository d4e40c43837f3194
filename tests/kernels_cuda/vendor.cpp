/* vendor.cpp - prints what kernels/cuda believes of a vendor's library: values, sizes, signatures. Built twice, with
 * our declarations (lt_api.cuh; OC_DNN: dnn_api.cuh) and with the vendor's header (OC_VENDOR); check_vendor.sh
 * compares. */
#ifdef OC_DNN
#define PREFIX(name) OC_DNN_##name
#ifdef OC_VENDOR
#include <cudnn.h>
#else
#include "kernels/cuda/dnn_api.cuh"
#endif
#include "kernels/cuda/dnn_calls.cuh"
#else
#define PREFIX(name) OC_LT_##name
#ifdef OC_VENDOR
#include <cublasLt.h>
#else
#include "kernels/cuda/lt_api.cuh"
#endif
#include "kernels/cuda/lt_calls.cuh"
#endif
#include <cstdio>

template <class T> static const char *type_of(void)
{
    return __PRETTY_FUNCTION__;
}

#define VALUE(name) printf("%s = %lld\n", #name, static_cast<long long>(name));
#define SIZE(name)  printf("%s: %zu bytes\n", #name, sizeof(name));
#define CALL(name)  printf("%s: %s\n", #name, type_of<decltype(name)>());

int main(void)
{
    PREFIX(VALUES)(VALUE) PREFIX(TYPES)(SIZE) PREFIX(CALLS)(CALL) return 0;
}
