/* backend.c - choosing a backend and calling through its driver. The CUDA driver is a shared library that is looked for
 * once a process: at OUTCRY_CUDA_MODULE where that is set, else beside the program, else in ../lib of the program. An
 * explicit wish that cannot be met is an error that says what was missing; `auto` takes the CPU and says why. */
#include "kernels/backend.h"

#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, WHY_BYTES = 512 };

/* ---------------------------------------------------------------- the module */
static struct {
    const oc_backend_driver *driver;
    char why[WHY_BYTES]; /* where driver is NULL */
} module;
static pthread_once_t module_once = PTHREAD_ONCE_INIT;

static oc_status module_fail(oc_status code, const char *place, int line, const char *message)
{
    return oc_status_fail(code, place, line, "%s", message);
}

static const oc_backend_host host = {.abi = OC_BACKEND_ABI,
                                     .host_bytes = sizeof(oc_backend_host),
                                     .config_bytes = sizeof(oc_backend_config),
                                     .info_bytes = sizeof(struct oc_backend),
                                     .ops_bytes = sizeof(oc_backend_driver),
                                     .fail = module_fail,
                                     .trail = oc_status_trail};

/* 0 … 1: beside the program, ../lib. */
static bool module_path(int choice, char *path, size_t cap)
{
    char program[PATH_BYTES];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = 0;
    char *slash = strrchr(program, '/');
    if (!slash) return false;
    *slash = 0;
    const int written = snprintf(path, cap, "%s/%s%s", program, choice == 0 ? "" : "../lib/", OC_CUDA_MODULE_FILE);
    return written > 0 && (size_t)written < cap;
}

/* The place to load from, or false with the reason in module.why. */
static bool module_find(char *path, size_t cap)
{
    const char *wish = getenv("OUTCRY_CUDA_MODULE");
    if (wish && *wish) {
        snprintf(path, cap, "%s", wish);
        return true;
    }
    for (int choice = 0; choice < 2; choice++)
        if (module_path(choice, path, cap) && access(path, R_OK) == 0) return true;
    snprintf(module.why, sizeof module.why,
             "no CUDA module: %s is neither beside the program nor in ../lib (a build without nvcc has none)",
             OC_CUDA_MODULE_FILE);
    return false;
}

/* POSIX lets a function's address come out of dlsym, ISO C has no cast for it. */
static oc_backend_module_entry module_entry(void *library)
{
    union {
        void *object;
        oc_backend_module_entry function;
    } u = {.object = dlsym(library, OC_CUDA_MODULE_ENTRY)};
    return u.function;
}

static void module_load(void)
{
    char path[PATH_BYTES] = "";
    if (!module_find(path, sizeof path)) return;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(module.why, sizeof module.why, "the CUDA module cannot be loaded: %s", dlerror());
        return;
    }
    const oc_backend_module_entry entry = module_entry(library);
    const oc_backend_driver *driver = entry ? entry(&host) : NULL;
    if (driver && driver->abi == OC_BACKEND_ABI) {
        module.driver = driver; /* stays loaded: its kernels may be in use until the process ends */
        return;
    }
    snprintf(module.why, sizeof module.why, "%.400s is no CUDA module of this build", path);
    (void)dlclose(library);
}

static const oc_backend_driver *cuda_driver(void)
{
    (void)pthread_once(&module_once, module_load);
    return module.driver;
}

/* ---------------------------------------------------------------- opening */
static OC_MUST driver_open(oc_backend **out, const oc_backend_driver *driver, const oc_backend_config *config)
{
    OC_TRY(oc_memory_new(out, sizeof **out, "backend"));
    (*out)->driver = driver;
    oc_status status = driver->open(*out, config);
    if (status == OC_OK) return OC_OK;
    oc_memory_free(*out);
    *out = NULL;
    return oc_status_trail(status, __FILE__, __LINE__);
}

/* Every row is a pointer to a function, so a hole is a pointer's worth of zero bytes. */
static int ops_missing(const oc_ops *ops)
{
    static const unsigned char zero[sizeof(void (*)(void))];
    const unsigned char *at = (const unsigned char *)ops;
    int missing = 0;
    for (size_t i = 0; i < sizeof *ops; i += sizeof zero) missing += memcmp(at + i, zero, sizeof zero) == 0;
    return missing;
}

static OC_MUST cuda_open(oc_backend **out, const oc_backend_config *config)
{
    const oc_backend_driver *driver = cuda_driver();
    if (!driver) return OC_FAIL(OC_EFAILED, "backend cuda: %s", module.why);
    if (ops_missing(&driver->ops) > 0 && !config->partial)
        return OC_FAIL(OC_EFAILED, "backend cuda: the module lacks %d of %zu operations, so no model runs on it yet",
                       ops_missing(&driver->ops), sizeof driver->ops / sizeof(void (*)(void)));
    OC_TRY(driver_open(out, driver, config));
    return OC_OK;
}

oc_status oc_backend_open(oc_backend **out, const oc_backend_config *config)
{
    char why[WHY_BYTES] = "";
    assert(out && config);
    *out = NULL;
    if (config->kind == OC_BACKEND_CUDA) return cuda_open(out, config);
    if (config->kind == OC_BACKEND_AUTO) {
        const oc_status status = cuda_open(out, config);
        if (status == OC_OK) return OC_OK;
        if (status == OC_EMEMORY) return oc_status_prefix(status, "backend auto: there is a GPU, but ");
        snprintf(why, sizeof why, "%s", oc_status_message());
    }
    if (config->lstm == OC_LSTM_CUDNN)
        return OC_FAIL(OC_ECONFIG, "lstm is cudnn, which computes on a GPU alone: set lstm to hand or auto%s%s",
                       *why ? "; there is none: " : ", or backend to cuda", why);
    OC_TRY(driver_open(out, &oc_cpu_driver, config));
    if (*why) snprintf((*out)->info.reason, sizeof(*out)->info.reason, "auto: %.280s; so the CPU", why);
    return OC_OK;
}

void oc_backend_close(oc_backend *b)
{
    if (!b) return;
    b->driver->close(b);
    oc_memory_free(b);
}

bool oc_backend_lost(const oc_backend *b)
{
    return b->driver->lost && b->driver->lost(b);
}

const oc_backend_info *oc_backend_describe(const oc_backend *b)
{
    return &b->info;
}

const oc_ops *oc_backend_ops(const oc_backend *b)
{
    return &b->driver->ops;
}

int oc_backend_libraries(oc_library *out, int cap)
{
    const oc_backend_driver *driver = cuda_driver();
    return driver && driver->libraries ? driver->libraries(out, cap) : 0;
}

/* ---------------------------------------------------------------- memory */
static size_t tensor_bytes(oc_tensor t)
{
    return (size_t)oc_tensor_count(t) * oc_dtype_bytes(t.dtype);
}

oc_status oc_backend_alloc(oc_backend *b, oc_tensor *t)
{
    OC_TRY(b->driver->alloc(b, tensor_bytes(*t), &t->data));
    return OC_OK;
}

void oc_backend_seal(oc_backend *b)
{
    b->driver->seal(b);
}

oc_status oc_backend_upload(oc_backend *b, oc_tensor dst, const void *from, size_t bytes)
{
    assert(bytes <= tensor_bytes(dst));
    if (bytes > 0) OC_TRY(b->driver->upload(b, dst.data, from, bytes));
    return OC_OK;
}

oc_status oc_backend_download(oc_backend *b, void *to, size_t bytes, oc_tensor src)
{
    assert(bytes <= tensor_bytes(src));
    if (bytes > 0) OC_TRY(b->driver->download(b, to, src.data, bytes));
    return OC_OK;
}

oc_status oc_backend_copy(oc_backend *b, oc_tensor dst, oc_tensor src)
{
    const size_t bytes = tensor_bytes(src);
    assert(bytes <= tensor_bytes(dst));
    if (bytes > 0) OC_TRY(b->driver->copy(b, dst.data, src.data, bytes));
    return OC_OK;
}

oc_status oc_backend_wait(oc_backend *b)
{
    OC_TRY(b->driver->wait(b));
    return OC_OK;
}

oc_status oc_backend_pin(oc_backend *b, size_t bytes, void **out)
{
    *out = NULL;
    OC_TRY(b->driver->pin(b, bytes, out));
    return OC_OK;
}

void oc_backend_unpin(oc_backend *b, void *pinned)
{
    if (pinned) b->driver->unpin(b, pinned);
}

/* ---------------------------------------------------------------- recordings */
oc_status oc_backend_record_begin(oc_backend *b)
{
    assert(b->info.records);
    OC_TRY(b->driver->record_begin(b));
    return OC_OK;
}

oc_status oc_backend_record_end(oc_backend *b, oc_recording **out)
{
    *out = NULL;
    OC_TRY(b->driver->record_end(b, out));
    return OC_OK;
}

void oc_backend_record_drop(oc_backend *b)
{
    b->driver->record_drop(b);
}

oc_status oc_backend_replay(oc_backend *b, oc_recording *recording)
{
    OC_TRY(b->driver->replay(b, recording));
    return OC_OK;
}

void oc_backend_recording_free(oc_backend *b, oc_recording *recording)
{
    if (recording) b->driver->recording_free(b, recording);
}

size_t oc_dtype_bytes(oc_dtype dtype)
{
    static const size_t bytes[] = {[OC_DTYPE_F32] = 4,   [OC_DTYPE_I32] = 4, [OC_DTYPE_I64] = 8,
                                   [OC_DTYPE_BYTES] = 1, [OC_DTYPE_F64] = 8, [OC_DTYPE_BF16] = 2};
    assert((unsigned)dtype < sizeof bytes / sizeof bytes[0]);
    return bytes[dtype];
}

int64_t oc_tensor_count(oc_tensor t)
{
    return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3];
}

oc_tensor oc_tensor_make(void *data, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return (oc_tensor){.data = data, .dims = {d0, d1, d2, d3}, .dtype = dtype};
}
