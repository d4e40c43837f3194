/* library.cu - see library.cuh. A library is never closed: its kernels may be in use until the process ends. */
#include "kernels/cuda/library.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In emulation nothing is found by itself: a real library would take the emulation's memory for a device's. */
#ifdef OC_EMULATION
#define FILES(...)                                                                                                     \
    {                                                                                                                  \
        NULL                                                                                                           \
    }
#else
#define FILES(...)                                                                                                     \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#endif

const oc_cuda_library oc_cuda_lt_library = {"cuBLASLt",           "large products of training in tf32 and bf16",
                                            "OUTCRY_CUBLASLT",    FILES("libcublasLt.so.13", "libcublasLt.so.12"),
                                            "cublasLtGetVersion", false};
const oc_cuda_library oc_cuda_nccl_library = {"NCCL",           "gradients between the GPUs of several ranks",
                                              "OUTCRY_NCCL",    FILES("libnccl.so.2"),
                                              "ncclGetVersion", true};

const oc_cuda_library oc_cuda_dnn_library = {
    "cuDNN",           "lstm: cudnn, the peer and oracle of the LSTM in training",
    "OUTCRY_CUDNN",    FILES("libcudnn.so.9"),
    "cudnnGetVersion", false};

static const oc_cuda_library *const libraries[] = {&oc_cuda_lt_library, &oc_cuda_dnn_library, &oc_cuda_nccl_library};

oc_status oc_cuda_library_function(const oc_cuda_loaded *l, const char *name, void *function, size_t bytes)
{
    void *found = dlsym(l->handle, name);
    if (!found)
        return OC_FAIL(OC_EFAILED, "backend cuda: %s has no function %s: it is of a version that Outcry does not know",
                       l->file, name);
    memcpy(function, &found, bytes);
    return OC_OK;
}

static OC_MUST version_ask(const oc_cuda_library *l, oc_cuda_loaded *out)
{
    size_t (*ask)(void) = NULL, version = 0;
    int (*ask_out)(int *) = NULL, told = 0;
    if (l->version_out) {
        OC_TRY(oc_cuda_library_function(out, l->version, &ask_out, sizeof ask_out));
        if (ask_out(&told) != 0) return OC_FAIL(OC_EFAILED, "backend cuda: %s does not tell its version", out->file);
        version = (size_t)told;
    } else {
        OC_TRY(oc_cuda_library_function(out, l->version, &ask, sizeof ask));
        version = ask();
    }
    out->number = (int)version;
    snprintf(out->version, sizeof out->version, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return OC_OK;
}

/* A double of the emulation is told how to reach its streams. */
static void door_give(void *handle)
{
#ifdef OC_EMULATION
    void *at = dlsym(handle, OC_LIBRARY_DOOR);
    if (at) *static_cast<const emulation::library_door **>(at) = &emulation::door;
#else
    (void)handle;
#endif
}

/* Tries the files; `why` says what was wrong with each. */
static bool open_one(const oc_cuda_library *l, oc_cuda_loaded *out, char *why, size_t cap)
{
    const char *wish = getenv(l->variable), *const wished[] = {wish, NULL};
    const char *const *files = wish && *wish ? wished : l->files;
    size_t used = 0;
    *out = oc_cuda_loaded();
    for (int i = 0; files[i] && used < cap; i++) {
        snprintf(out->file, sizeof out->file, "%s", files[i]);
        out->handle = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
        if (out->handle) {
            door_give(out->handle);
            return true;
        }
        const char *error = dlerror();
        const int wrote = snprintf(why + used, cap - used, "%s%.180s", used ? "; " : "", error ? error : files[i]);
        used += wrote > 0 ? (size_t)wrote : cap;
    }
    if (used == 0) snprintf(why, cap, "in emulation none is looked for");
    return false;
}

oc_status oc_cuda_library_load(const oc_cuda_library *l, oc_cuda_loaded *out)
{
    char why[OC_LIBRARY_ABOUT_BYTES];
    if (!open_one(l, out, why, sizeof why))
        return OC_FAIL(OC_EFAILED, "backend cuda: no %s: %s. %s=FILE names another", l->name, why, l->variable);
    OC_TRY(version_ask(l, out));
    return OC_OK;
}

int oc_cuda_libraries(oc_library *out, int cap)
{
    const int count = (int)(sizeof libraries / sizeof *libraries);
    for (int i = 0; i < count && i < cap; i++) {
        oc_cuda_loaded loaded;
        out[i].name = libraries[i]->name;
        out[i].purpose = libraries[i]->purpose;
        out[i].found = open_one(libraries[i], &loaded, out[i].about, sizeof out[i].about);
        if (!out[i].found) continue;
        out[i].found = version_ask(libraries[i], &loaded) == OC_OK;
        snprintf(out[i].about, sizeof out[i].about, "%s, %s", out[i].found ? loaded.version : "of no known version",
                 loaded.file);
    }
    return count;
}
