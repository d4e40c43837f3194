/* vendor.cpp - prints what kernels/cuda believes of the vendor's libraries: values, sizes, signatures. Built twice,
 * with our declarations (kernels/cuda/lt_api.cuh, dnn_api.cuh) and with the vendor's headers (OC_VENDOR);
 * check_vendor.sh compares. */
#ifdef OC_VENDOR
#include <cublasLt.h>
#else
#include "kernels/cuda/lt_api.cuh"
#endif
#include <cstdio>
#include "kernels/cuda/lt_calls.cuh"

template <class T> static const char *type_of(void)
{
    return __PRETTY_FUNCTION__;
}

#define VALUE(name) printf("%s = %lld\n", #name, static_cast<long long>(name));
#define SIZE(name)  printf("%s: %zu bytes\n", #name, sizeof(name));
#define CALL(name)  printf("%s: %s\n", #name, type_of<decltype(name)>());

int main(void)
{
    OC_LT_VALUES(VALUE)
    OC_LT_TYPES(SIZE)
    OC_LT_CALLS(CALL)
    return 0;
}
