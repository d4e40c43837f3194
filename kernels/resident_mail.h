/* resident_mail.h - the words between host and resident kernel, for kernels/resident.c and kernels/cuda/resident*.cu. A
 * word is eight bytes, written and read as one: the tag of its call above, a number below. */
#ifndef OC_KERNELS_RESIDENT_MAIL_H
#define OC_KERNELS_RESIDENT_MAIL_H

#include "kernels/backend.h"
#include "kernels/resident.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A call: n, then for each row slot, rows consumed (low and high half), F raw numbers; one row's words at least are
 * written, but for n 0. The answer: horizons * 3 numbers for each row; n 0: one word. */
enum { OC_MAIL_ROW = 1, OC_MAIL_ROW_HEAD = 3, OC_MAIL_LINE = 8 };
/* Tags go round soon after the start, so that every run has seen it. */
#define OC_MAIL_TAG_FIRST UINT32_C(0xfffffff0)

struct oc_resident {
    oc_backend *b;
    oc_resident_model model;
    oc_resident_info info;
    uint64_t *leave, *in, *out; /* pinned; leave: the number of the launch that shall */
    size_t in_count, out_count;
    uint32_t tag;             /* of the last call */
    uint32_t running, silent; /* by __atomic */
    void *state;              /* the driver's */
};

#ifdef __CUDACC__
#define OC_MAIL_INLINE static __host__ __device__ inline
#else
#define OC_MAIL_INLINE static inline
#endif

OC_MAIL_INLINE uint64_t oc_mail_word(uint32_t tag, uint32_t number)
{
    return (uint64_t)tag << 32 | number;
}

static inline size_t oc_mail_row_words(const oc_resident_model *m)
{
    return OC_MAIL_ROW_HEAD + (size_t)m->shape.inputs;
}

typedef struct oc_resident_driver {
    oc_status (*open)(oc_resident *r); /* fills info, the words and state, and starts it; on failure nothing is left */
    /* Is it there, started again if need be? False and not silent: it may not be now. */
    bool (*present)(oc_resident *r);
    oc_status (*keep)(oc_resident *r, oc_tensor slots, oc_tensor rows, oc_tensor raw);
    void (*close)(oc_resident *r);
} oc_resident_driver;

#ifdef __cplusplus
}
#endif
#endif
