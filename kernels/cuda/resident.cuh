/* resident.cuh - what the driver (backend.cu, record.cu) knows of resident kernels (resident.cu). */
#ifndef OC_KERNELS_CUDA_RESIDENT_CUH
#define OC_KERNELS_CUDA_RESIDENT_CUH

/* While one lives, no resident kernel of this process runs: around calls that a device may hold up until all kernels
 * have ended (memory, pinned memory, streams, recordings prepared and freed). stuck: one does not end, so these calls
 * would never come back: make none, what they would free stays. */
struct oc_cuda_quiet {
    oc_cuda_quiet();
    ~oc_cuda_quiet();
    oc_cuda_quiet(const oc_cuda_quiet &) = delete;
    oc_cuda_quiet &operator=(const oc_cuda_quiet &) = delete;
    bool stuck;
};

/* What is not freed because of that is not forgotten either. */
void oc_cuda_leave(void *what);

/* backend.cu: did a wait take longer than it may? Then quiet.stuck too. */
bool oc_cuda_lost();
#define OC_CUDA_STUCK                                                                                                  \
    "the GPU does not answer, or a resident kernel does not end: it is lost to this process, which must be started "   \
    "anew"

extern const struct oc_resident_driver oc_cuda_resident;

#endif
