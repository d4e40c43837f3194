/* cmd_doctor.c - outcry doctor: what this machine offers and what would be chosen. */
#include <stdio.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "market/features.h"
#include "tools/commands.h"
#include "train/comm.h"

static const oc_cli_option options[] = {
    {"features", NULL, NULL, false,
     "prints the table of market features instead: name, group, parameters, history, source"},
    {NULL, NULL, NULL, false, NULL},
};

static json_t *isas(void)
{
    json_t *list = json_array();
    for (int isa = OC_ISA_SCALAR; isa <= OC_ISA_AVX512; isa++) {
        if (oc_isa_available((oc_isa)isa)) (void)json_array_append_new(list, json_string(oc_isa_name((oc_isa)isa)));
    }
    return list;
}

static oc_status run(oc_cli *cli)
{
    oc_backend *backend = NULL;
    const oc_backend_config config = {.kind = OC_BACKEND_AUTO, .arena_bytes = 4096};
    if (oc_cli_flag(cli, "features")) {
        oc_features_list(stdout);
        return OC_OK;
    }
    OC_TRY(oc_backend_open(&backend, &config));
    const oc_backend_info *info = oc_backend_describe(backend);
    json_t *result =
        json_pack("{s:[s], s:s, s:{s:s, s:s}, s:o, s:s, s:I, s:s}", "backends", "cpu", "chosen", "cpu", "reasons",
                  "cpu", info->reason, "cuda", "this build has no CUDA module", "features", isas(), "device",
                  info->device, "cores", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "ranks", oc_comm_about());
    oc_cli_say(
        cli,
        "backends   cpu\nchosen     cpu (%s): %s\ndevice     %s, %ld cores\ncuda       this build has no CUDA module\n"
        "ranks      %s\n",
        oc_isa_name(info->isa), info->reason, info->device, sysconf(_SC_NPROCESSORS_ONLN), oc_comm_about());
    oc_backend_close(backend);
    int failed = !result || json_object_update(cli->result, result) != 0;
    json_decref(result);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

const oc_command oc_command_doctor = {
    .name = "doctor",
    .summary = "Says what this machine offers and which backend would be chosen, and why",
    .description = "Prints the backends, the chosen one with the reason, the device and the instruction sets. "
                   "OUTCRY_ISA=scalar|avx2|avx512 in the\n"
                   "environment forces one of them; all give the same bits.",
    .options = options,
    .run = run,
};
