/* library.cuh - libraries of the vendor that are looked for at run time, by name: the module links none, and loads on a
 * machine that has none. Their functions are declared in lt_api.cuh, dnn_api.cuh and nccl_api.h; who uses a library
 * asks for all of its functions at once, so that one that lacks a function is refused when the backend opens, not in
 * mid-run. */
#ifndef OC_KERNELS_CUDA_LIBRARY_CUH
#define OC_KERNELS_CUDA_LIBRARY_CUH

#include "kernels/cuda/backend_cuda.cuh"

typedef struct oc_cuda_library {
    const char *name, *purpose;
    const char *variable; /* of the environment: names another file than these */
    const char *files[3]; /* NULL behind the last */
    const char *version;  /* the function that tells it, as major 10000 + minor 100 + patch */
    bool version_out;     /* through a pointer, its result being 0 */
} oc_cuda_library;
extern const oc_cuda_library oc_cuda_lt_library, oc_cuda_dnn_library, oc_cuda_nccl_library;

static constexpr int OC_LIBRARY_VERSION_BYTES = 24, OC_LIBRARY_FILE_BYTES = 160;
typedef struct oc_cuda_loaded {
    void *handle;
    char file[OC_LIBRARY_FILE_BYTES], version[OC_LIBRARY_VERSION_BYTES];
    int number; /* of the version */
} oc_cuda_loaded;

/* Loads it, for as long as the process runs. The error names every file that was tried. */
OC_MUST oc_cuda_library_load(const oc_cuda_library *l, oc_cuda_loaded *out);
OC_MUST oc_cuda_library_function(const oc_cuda_loaded *l, const char *name, void *function, size_t bytes);

/* What `outcry doctor` says of them: a row of oc_backend_driver. */
int oc_cuda_libraries(oc_library *out, int cap);

#endif
