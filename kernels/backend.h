/* backend.h - what stands behind an oc_backend: one driver per kind. Inside kernels/ only; users see ops.h.
 * kernels/backend.c chooses a driver and calls through it; kernels/cpu is one, liboutcry-cuda.so, loaded at run time,
 * brings another. The module links nothing of the program: what it needs (messages) comes in oc_backend_host. */
#ifndef OC_KERNELS_BACKEND_H
#define OC_KERNELS_BACKEND_H

#include "kernels/link.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Both sides compare it first. Goes up with every change of this header, ops.h or resident_mail.h. */
enum { OC_BACKEND_ABI = 9 };

/* One failing call = one call through here: the message is complete, `place` is the source file of the module. */
typedef struct oc_backend_host {
    uint32_t abi;
    uint32_t host_bytes, config_bytes, info_bytes, ops_bytes; /* sizeof, so that two builds never mix */
    oc_status (*fail)(oc_status code, const char *place, int line, const char *message);
    oc_status (*trail)(oc_status code, const char *place, int line);
} oc_backend_host;

typedef enum { OC_LINK_GATHER, OC_LINK_SUM } oc_link_work;
typedef struct oc_link_driver {
    oc_status (*id)(oc_backend *b, unsigned char *id);
    oc_status (*open)(oc_link *l, const oc_link_seat *seat); /* fills state; on failure nothing of it is left */
    oc_status (*start)(oc_link *l, oc_link_work work, float *data, size_t count);
    oc_status (*poll)(oc_link *l, oc_link_state *state);
    void (*close)(oc_link *l);
} oc_link_driver;

struct oc_link {
    oc_backend *b;
    int rank, ranks;
    void *state;
};

typedef struct oc_backend_driver {
    uint32_t abi;
    oc_backend_kind kind;
    /* Fills *b, which is zeroed but for driver: info, state. On failure nothing of it is left. */
    oc_status (*open)(oc_backend *b, const oc_backend_config *config);
    void (*close)(oc_backend *b);
    oc_status (*alloc)(oc_backend *b, size_t bytes, void **data); /* zeroed, of the sealed block */
    void (*seal)(oc_backend *b);
    oc_status (*upload)(oc_backend *b, void *to, const void *host, size_t bytes);
    oc_status (*download)(oc_backend *b, void *host, const void *from, size_t bytes);
    oc_status (*copy)(oc_backend *b, void *to, const void *from, size_t bytes);
    oc_status (*wait)(oc_backend *b);
    bool (*lost)(const oc_backend *b); /* NULL: never */
    oc_status (*pin)(oc_backend *b, size_t bytes, void **out);
    void (*unpin)(oc_backend *b, void *pinned);
    oc_status (*record_begin)(oc_backend *b); /* NULL, as the four below, where info.records is false for the kind */
    oc_status (*record_end)(oc_backend *b, oc_recording **out);
    void (*record_drop)(oc_backend *b);
    oc_status (*replay)(oc_backend *b, oc_recording *recording);
    void (*recording_free)(oc_backend *b, oc_recording *recording);
    int (*libraries)(oc_library *out, int cap); /* a module's; NULL: none */
    const struct oc_resident_driver *resident;  /* resident_mail.h; NULL: none */
    const oc_link_driver *link;                 /* NULL: its ranks move their vectors through the host */
    oc_ops ops;
} oc_backend_driver;

struct oc_backend {
    const oc_backend_driver *driver;
    oc_backend_info info;
    oc_arena arena;                       /* host memory, the CPU's */
    const struct oc_cpu_kernels *kernels; /* the CPU's, of the chosen instruction set */
    void *state;                          /* of another driver */
};

extern const oc_backend_driver oc_cpu_driver;

/* The one function that a module exports, under the name OC_CUDA_MODULE_ENTRY. NULL, with a message, where host and
 * module are of different builds. */
typedef const oc_backend_driver *(*oc_backend_module_entry)(const oc_backend_host *host);
#define OC_CUDA_MODULE_ENTRY "outcry_cuda_module"
#define OC_CUDA_MODULE_FILE  "liboutcry-cuda.so"

static inline size_t oc_round_up(size_t count, size_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

#ifdef __cplusplus
}
#endif
#endif
