/* cmd_doctor.c - outcry doctor: what this machine offers and what would be chosen. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "market/features.h"
#include "tools/commands.h"
#include "tools/doctor_ranks.h"
#include "train/comm.h"

enum { WHY_BYTES = 512 };

static const oc_cli_option options[] = {
    {"backend", "auto|cpu|cuda", "auto", false,
     "the backend that must be there: where it is not, exit 1 and a message that says what is missing"},
    {"features", NULL, NULL, false,
     "prints the table of market features instead: name, group, parameters, history, source"},
    {"ranks", NULL, NULL, false,
     "under mpirun or srun, before a long job: hosts, builds, MPI, NCCL, memory, clocks, latency and bandwidth between "
     "ranks"},
    {"timeout", "SECONDS", "10", false, "with --ranks: how long a rank may take to come"},
    {NULL, NULL, NULL, false, NULL},
};

static json_t *isas(void)
{
    json_t *list = json_array();
    for (int isa = OC_ISA_SCALAR; isa <= OC_ISA_AVX512_BF16; isa++) {
        if (oc_isa_available((oc_isa)isa)) (void)json_array_append_new(list, json_string(oc_isa_name((oc_isa)isa)));
    }
    return list;
}

/* Whether a backend opens, and what it says of itself; or why not. */
static bool there(oc_backend_kind kind, char *why)
{
    const oc_backend_config config = {.kind = kind, .arena_bytes = 4096};
    oc_backend *b = NULL;
    const bool opens = oc_backend_open(&b, &config) == OC_OK;
    snprintf(why, WHY_BYTES, "%s", opens ? oc_backend_describe(b)->reason : oc_status_message());
    oc_backend_close(b);
    return opens;
}

/* Libraries that the CUDA module looks for, by name. */
static json_t *libraries(char *text, size_t cap)
{
    oc_library all[OC_LIBRARIES_MAX];
    const int found = oc_backend_libraries(all, OC_LIBRARIES_MAX),
              count = found < OC_LIBRARIES_MAX ? found : OC_LIBRARIES_MAX;
    json_t *object = json_object();
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < count; i++) {
        const int wrote =
            snprintf(text + used, cap - used, "%-10s %s: %s\n", all[i].name, all[i].purpose, all[i].about);
        used += wrote > 0 && (size_t)wrote < cap - used ? (size_t)wrote : 0;
        (void)json_object_set_new(
            object, all[i].name,
            json_pack("{s:b, s:s, s:s}", "found", (int)all[i].found, "about", all[i].about, "for", all[i].purpose));
    }
    return object;
}

static oc_status kind_read(const oc_cli *cli, oc_backend_kind *kind)
{
    static const char *const names[] = {
        [OC_BACKEND_AUTO] = "auto", [OC_BACKEND_CPU] = "cpu", [OC_BACKEND_CUDA] = "cuda"};
    const char *wish = oc_cli_text(cli, "backend");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(wish, names[i]) != 0) continue;
        *kind = (oc_backend_kind)i;
        return OC_OK;
    }
    return OC_FAIL(OC_EUSAGE, "--backend %s: auto, cpu or cuda", wish);
}

static oc_status ranks_run(oc_cli *cli)
{
    char gpu[WHY_BYTES];
    if (!there(OC_BACKEND_CUDA, gpu)) snprintf(gpu, sizeof gpu, "none");
    OC_TRY(oc_doctor_ranks(cli, gpu));
    return OC_OK;
}

static oc_status run(oc_cli *cli)
{
    char cpu_why[WHY_BYTES], cuda_why[WHY_BYTES], found[OC_LIBRARIES_MAX * 512];
    oc_backend *backend = NULL;
    oc_backend_config config = {.kind = OC_BACKEND_AUTO, .arena_bytes = 4096};
    if (oc_cli_flag(cli, "features")) {
        oc_features_list(stdout);
        return OC_OK;
    }
    OC_TRY(kind_read(cli, &config.kind));
    if (oc_cli_flag(cli, "ranks")) return ranks_run(cli);
    OC_TRY(oc_backend_open(&backend, &config));
    const oc_backend_info *info = oc_backend_describe(backend);
    const bool gpu = info->kind == OC_BACKEND_CUDA, cuda = there(OC_BACKEND_CUDA, cuda_why);
    const char *chosen = gpu ? "cuda" : "cpu";
    if (!there(OC_BACKEND_CPU, cpu_why) || !gpu) snprintf(cpu_why, sizeof cpu_why, "%s", info->reason);
    json_t *backends = cuda ? json_pack("[s, s]", "cpu", "cuda") : json_pack("[s]", "cpu");
    json_t *result = json_pack("{s:o, s:s, s:{s:s, s:s}, s:o, s:o, s:s, s:I, s:s}", "backends", backends, "chosen",
                               chosen, "reasons", "cpu", cpu_why, "cuda", cuda_why, "features", isas(), "libraries",
                               libraries(found, sizeof found), "device", info->device, "cores",
                               (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "ranks", oc_comm_about());
    oc_cli_say(cli,
               "backends   cpu%s\nchosen     %s (%s): %s\ndevice     %s, %ld cores\ncuda       %s\n"
               "ranks      %s\n%s",
               cuda ? ", cuda" : "", chosen, gpu ? "f32" : oc_isa_name(info->isa), info->reason, info->device,
               sysconf(_SC_NPROCESSORS_ONLN), cuda_why, oc_comm_about(), found);
    oc_backend_close(backend);
    int failed = !result || json_object_update(cli->result, result) != 0;
    json_decref(result);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

const oc_command oc_command_doctor = {
    .name = "doctor",
    .summary = "Says what this machine offers and which backend would be chosen, and why",
    .description =
        "Prints the backends, the chosen one with the reason, the device and the instruction sets. "
        "OUTCRY_ISA=scalar|avx2|avx512 in the\n"
        "environment forces one of them; all give the same bits. OUTCRY_CUDA_MODULE=FILE names another CUDA module\n"
        "than the one beside the program; OUTCRY_CUBLASLT=FILE and OUTCRY_CUDNN=FILE other libraries of the vendor\n"
        "than those it looks for.",
    .options = options,
    .run = run,
};
