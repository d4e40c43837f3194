/* doctor_ranks.c - outcry doctor --ranks: the table that rank 0 prints of oc_comm_check. */
#include "tools/doctor_ranks.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/ops.h"
#include "train/comm_check.h"

static json_t *seat_json(const oc_comm_report *r, const oc_comm_seat *s)
{
    json_t *seat = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I}", "name", s->name, "build", s->build,
                             "mpi", s->about, "nccl", s->nccl, "gpu", s->gpu, "cores", (int)s->cores, "local",
                             (int)s->local, "free_bytes", (json_int_t)s->free_bytes, "skew_ns", (json_int_t)s->skew_ns,
                             "skew_error_ns", (json_int_t)s->skew_error_ns);
    json_t *exchanges = json_array();
    for (int i = 0; i < r->sizes; i++)
        (void)json_array_append_new(exchanges, json_pack("{s:I, s:f, s:f}", "bytes", (json_int_t)r->bytes[i],
                                                         "gather_us", s->gather_us[i], "sum_us", s->sum_us[i]));
    if (!seat || json_object_set_new(seat, "exchanges", exchanges) != 0) {
        json_decref(seat);
        return NULL;
    }
    return seat;
}

static json_t *lines_json(char (*lines)[OC_CHECK_LINE], int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) (void)json_array_append_new(list, json_string(lines[i]));
    return list;
}

static oc_status report_put(json_t *result, oc_comm_report *r)
{
    json_t *seats = json_array();
    for (int i = 0; i < r->ranks; i++) (void)json_array_append_new(seats, seat_json(r, &r->seats[i]));
    json_t *check = json_pack("{s:o, s:o, s:o}", "seats", seats, "wrong", lines_json(r->wrong, r->wrong_count), "notes",
                              lines_json(r->note, r->note_count));
    if (!check || json_object_set_new(result, "rank_check", check) != 0)
        return OC_FAIL(OC_EMEMORY, "no memory for the result");
    return OC_OK;
}

/* MB/s into a rank, by the largest gather. */
static double arrives_mbs(const oc_comm_report *r, const oc_comm_seat *s)
{
    int last = r->sizes - 1;
    return last < 0 ? 0 : (double)r->bytes[last] * (r->ranks - 1) / s->gather_us[last];
}

static void seats_say(const oc_cli *cli, const oc_comm_report *r)
{
    oc_cli_say(cli, "\n%-24s %5s %5s %8s %10s %14s %10s %s\n", "rank", "local", "cores", "free GB", "latency us",
               "clock ms", "MB/s into", "NCCL");
    for (int i = 0; i < r->ranks; i++) {
        const oc_comm_seat *s = &r->seats[i];
        char clock[32];
        snprintf(clock, sizeof clock, "%.3f +-%.3f", (double)s->skew_ns * 1e-6, (double)s->skew_error_ns * 1e-6);
        oc_cli_say(cli, "%-24s %5d %5d %8.2f %10.1f %14s %10.0f %s\n", s->name, (int)s->local, (int)s->cores,
                   (double)s->free_bytes * 1e-9, s->gather_us[0], clock, arrives_mbs(r, s), s->nccl);
    }
}

/* The slowest rank's medians. */
static void sizes_say(const oc_cli *cli, const oc_comm_report *r)
{
    if (r->sizes > 0) oc_cli_say(cli, "\n%12s %12s %12s\n", "bytes", "gather us", "sum us");
    for (int i = 0; i < r->sizes; i++) {
        double gather = 0, sum = 0;
        for (int k = 0; k < r->ranks; k++) {
            if (r->seats[k].gather_us[i] > gather) gather = r->seats[k].gather_us[i];
            if (r->seats[k].sum_us[i] > sum) sum = r->seats[k].sum_us[i];
        }
        oc_cli_say(cli, "%12zu %12.1f %12.1f\n", r->bytes[i], gather, sum);
    }
}

static oc_status report_say(oc_cli *cli, oc_comm_report *r)
{
    oc_cli_say(cli, "build      %s\nranks      %d: %s\n", r->seats[0].build, r->ranks, r->seats[0].about);
    seats_say(cli, r);
    sizes_say(cli, r);
    for (int i = 0; i < r->note_count; i++) oc_cli_say(cli, "note: %s\n", r->note[i]);
    for (int i = 0; i < r->wrong_count; i++) oc_cli_say(cli, "wrong: %s\n", r->wrong[i]);
    if (r->ranks == 1)
        oc_cli_say(cli, "one rank: start it with the launcher of the job (mpirun -n 4 outcry doctor --ranks)\n");
    return report_put(cli->result, r);
}

/* Version of the NCCL that a GPU rank of this build would load: the module says, which also heeds OUTCRY_NCCL. */
static void nccl_look(char *text, size_t cap)
{
    oc_library all[OC_LIBRARIES_MAX];
    const int count = oc_backend_libraries(all, OC_LIBRARIES_MAX);
    snprintf(text, cap, "no CUDA module");
    for (int i = 0; i < count && i < OC_LIBRARIES_MAX; i++) {
        if (strcmp(all[i].name, "NCCL") != 0) continue;
        snprintf(text, cap, "%.*s", all[i].found ? (int)strcspn(all[i].about, ",") : 9,
                 all[i].found ? all[i].about : "not found");
    }
}

oc_status oc_doctor_ranks(oc_cli *cli, const char *gpu)
{
    oc_comm comm;
    char nccl[32];
    oc_comm_report report;
    int64_t seconds;
    char name[OC_COMM_NAME], wrong[OC_CHECK_LINE] = "";
    OC_TRY(oc_cli_int(cli, "timeout", 1, 3600, &seconds));
    OC_TRY(oc_comm_open(&comm, NULL, seconds * OC_SECOND_NS));
    memcpy(name, comm.name, sizeof name);
    const bool first = comm.rank == 0, several = comm.ranks > 1;
    if (!first) cli->json = false;
    nccl_look(nccl, sizeof nccl);
    const oc_comm_self self = {.about = oc_comm_about(), .gpu = gpu, .nccl = nccl};
    oc_status status = oc_comm_check(&comm, &self, seconds * OC_SECOND_NS, &report);
    if (status == OC_OK) {
        if (first) status = report_say(cli, &report);
        if (first && report.wrong_count > 0) memcpy(wrong, report.wrong[0], sizeof wrong);
        oc_comm_report_free(&report);
    }
    oc_comm_close(&comm, status);
    if (status != OC_OK && several) return oc_status_prefix(status, "%s", name);
    OC_TRY(status);
    return *wrong ? OC_FAIL(OC_EFAILED, "not fit for a job: %s", wrong) : OC_OK;
}
