/* comm_check.c - see comm_check.h. Only gather and sum are used, so that what is measured is what a job will use. */
#include "train/comm_check.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/memory.h"

enum { ROUNDS = 32, REPEATS_MAX = 33 };
#define SKEW_MOST_NS OC_SECOND_NS /* logs and ledgers of several hosts could not be put in order */
#define FREE_LEAST   ((int64_t)1 << 30)
#define BUFFER_MOST  ((size_t)1 << 28)

static const struct {
    size_t bytes;
    int repeats;
} sizes[OC_CHECK_SIZES] = {{8, REPEATS_MAX}, {65536, 17}, {1 << 20, 9}, {8 << 20, 3}};

/* --- what a rank says of itself --- */

static int64_t memory_free(void)
{
    char line[128];
    int64_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %" SCNd64, &kib) == 1) break;
    }
    if (f) fclose(f);
    return kib * 1024;
}

static void seat_fill(const oc_comm *c, const oc_comm_self *own, oc_comm_seat *s)
{
    cpu_set_t set;
    snprintf(s->name, sizeof s->name, "%s", c->name);
    snprintf(s->build, sizeof s->build, "%s", oc_build_text());
    snprintf(s->about, sizeof s->about, "%s", own->about);
    snprintf(s->gpu, sizeof s->gpu, "%s", own->gpu);
    snprintf(s->nccl, sizeof s->nccl, "%s", own->nccl);
    s->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    s->local = c->local;
    s->free_bytes = memory_free();
}

/* --- clocks --- */

void oc_clock_skew(const oc_clock_round *first, const oc_clock_round *other, int rounds, int64_t *skew_ns,
                   int64_t *error_ns)
{
    int best = 0;
    for (int i = 1; i < rounds; i++) {
        if (first[i].took_ns + other[i].took_ns < first[best].took_ns + other[best].took_ns) best = i;
    }
    const oc_clock_round *a = &first[best], *b = &other[best];
    *skew_ns = b->wall_ns - a->wall_ns + (a->took_ns - b->took_ns) / 2;
    *error_ns = (a->took_ns + b->took_ns + 1) / 2;
}

static oc_status clocks_compare(oc_comm *c, int64_t timeout_ns, oc_comm_seat *own)
{
    oc_clock_round(*all)[ROUNDS];
    char none;
    OC_TRY(oc_memory_new_array(&all, (size_t)c->ranks, sizeof *all, "clocks"));
    oc_status status = OC_OK;
    for (int i = 0; i < ROUNDS && status == OC_OK; i++) {
        int64_t start = oc_clock_monotonic_ns();
        status = oc_comm_gather(c, "clock", &none, 0, timeout_ns);
        int64_t wall = oc_clock_wall_ns();
        all[c->rank][i] = (oc_clock_round){.wall_ns = wall, .took_ns = oc_clock_monotonic_ns() - start};
    }
    if (status == OC_OK) status = oc_comm_gather(c, "clocks", all, sizeof *all, timeout_ns);
    if (status == OC_OK && c->rank > 0) oc_clock_skew(all[0], all[c->rank], ROUNDS, &own->skew_ns, &own->skew_error_ns);
    oc_memory_free(all);
    return status;
}

/* --- speed --- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static oc_status speed_measure(oc_comm *c, int64_t timeout_ns, int size, unsigned char *buffer, oc_comm_seat *own)
{
    double gather[REPEATS_MAX], sum[REPEATS_MAX];
    const size_t bytes = sizes[size].bytes;
    const int repeats = sizes[size].repeats;
    for (int i = 0; i < repeats; i++) {
        int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_comm_gather(c, "speed", buffer, bytes, timeout_ns));
        int64_t between = oc_clock_monotonic_ns();
        OC_TRY(oc_comm_sum(c, "speed", (float *)(void *)buffer, bytes / sizeof(float), timeout_ns));
        gather[i] = (double)(between - start) * 1e-3;
        sum[i] = (double)(oc_clock_monotonic_ns() - between) * 1e-3;
    }
    qsort(gather, (size_t)repeats, sizeof *gather, ascending);
    qsort(sum, (size_t)repeats, sizeof *sum, ascending);
    own->gather_us[size] = gather[repeats / 2];
    own->sum_us[size] = sum[repeats / 2];
    return OC_OK;
}

static oc_status speeds_measure(oc_comm *c, int64_t timeout_ns, oc_comm_report *r, oc_comm_seat *own)
{
    unsigned char *buffer;
    size_t ranks = (size_t)c->ranks;
    if (ranks == 1) return OC_OK;
    while (r->sizes < OC_CHECK_SIZES && sizes[r->sizes].bytes * ranks <= BUFFER_MOST) {
        r->bytes[r->sizes] = sizes[r->sizes].bytes;
        r->sizes++;
    }
    OC_TRY(oc_memory_new_array(&buffer, r->bytes[r->sizes - 1], ranks, "exchange"));
    oc_status status = OC_OK;
    for (int i = 0; i < r->sizes && status == OC_OK; i++) status = speed_measure(c, timeout_ns, i, buffer, own);
    oc_memory_free(buffer);
    return status;
}

/* --- what is wrong --- */

static void OC_PRINTF(3, 4) line_add(int *count, char (*lines)[OC_CHECK_LINE], const char *format, ...)
{
    va_list arguments;
    if (*count == OC_CHECK_LINES) return; /* one fault of many ranks is one fault */
    va_start(arguments, format);
    vsnprintf(lines[(*count)++], OC_CHECK_LINE, format, arguments);
    va_end(arguments);
}

static const char *host_of(const oc_comm_seat *s)
{
    const char *on = strstr(s->name, " on ");
    return on ? on + 4 : s->name;
}

/* What is said of a host is said once. */
static bool host_first(const oc_comm_report *r, const oc_comm_seat *s)
{
    for (const oc_comm_seat *other = r->seats; other < s; other++) {
        if (strcmp(host_of(other), host_of(s)) == 0) return false;
    }
    return true;
}

static void seat_judge(oc_comm_report *r, const oc_comm_seat *s)
{
    const oc_comm_seat *first = &r->seats[0];
    const struct {
        const char *what, *one, *other;
    } rows[] = {{"builds", s->build, first->build},
                {"MPI or launchers", s->about, first->about},
                {"NCCL", s->nccl, first->nccl}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].one, rows[i].other) != 0)
            line_add(&r->wrong_count, r->wrong, "different %s: %s has %.60s, %s %.60s", rows[i].what, first->name,
                     rows[i].other, s->name, rows[i].one);
    }
    int64_t least = llabs(s->skew_ns) - s->skew_error_ns;
    if (!(least <= SKEW_MOST_NS))
        line_add(&r->wrong_count, r->wrong, "the clock of %s is %.3f s off rank 0's (+-%.3f): set it (chrony, ntp)",
                 s->name, (double)s->skew_ns * 1e-9, (double)s->skew_error_ns * 1e-9);
    if (!host_first(r, s)) return;
    if (s->free_bytes / s->local < FREE_LEAST)
        line_add(&r->note_count, r->note, "%.64s: %.2f GB of free memory for %d ranks", host_of(s),
                 (double)s->free_bytes * 1e-9, s->local);
    if (s->cores < s->local && s->cores > 1) /* bound to a single core each, they do not meet */
        line_add(&r->note_count, r->note, "%.64s: %d ranks share %d cores: they wait for each other", host_of(s),
                 s->local, s->cores);
}

static oc_status check_run(oc_comm *c, const oc_comm_self *self, int64_t timeout_ns, oc_comm_report *r)
{
    oc_comm_seat *own = &r->seats[c->rank];
    seat_fill(c, self, own);
    OC_TRY(oc_comm_gather(c, "hello", r->seats, sizeof *r->seats, timeout_ns)); /* all are there: now it may be timed */
    OC_TRY(clocks_compare(c, timeout_ns, own));
    OC_TRY(speeds_measure(c, timeout_ns, r, own));
    OC_TRY(oc_comm_gather(c, "report", r->seats, sizeof *r->seats, timeout_ns));
    for (int i = 0; i < r->ranks; i++) seat_judge(r, &r->seats[i]);
    return OC_OK;
}

oc_status oc_comm_check(oc_comm *c, const oc_comm_self *self, int64_t timeout_ns, oc_comm_report *out)
{
    *out = (oc_comm_report){.ranks = c->ranks};
    OC_TRY(oc_memory_new_array(&out->seats, (size_t)c->ranks, sizeof *out->seats, "ranks"));
    oc_status status = check_run(c, self, timeout_ns, out);
    if (status != OC_OK) oc_comm_report_free(out);
    return status;
}

void oc_comm_report_free(oc_comm_report *r)
{
    oc_memory_free(r->seats);
    *r = (oc_comm_report){0};
}
