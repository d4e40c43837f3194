/* Vectors between ranks (kernels/link.h) through the NCCL that is there: on a GPU the real one, which OUTCRY_NCCL may
 * name, in emulation its double. One rank, with the time of a gather; two ranks on one device, which NCCL may refuse,
 * but by its own words and in time. Proven by the double: told to break, both fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "kernels/link.h"
#include "kernels_cuda/device_case.h"

enum { COUNT = 70001, LARGE = 4500000, REPEATS = 20, RANKS = 2, BOUND_S = 120 };

typedef struct meeting { /* of processes that share it */
    unsigned char id[OC_LINK_ID_BYTES];
    atomic_int made, failed;
    struct {
        int status;
        char said[1100];
    } seats[RANKS];
} meeting;

static meeting *met;
static bool emulated;

static oc_status settle(oc_link *l)
{
    const struct timespec moment = {.tv_nsec = 50000};
    const int64_t start = oc_clock_monotonic_ns();
    for (oc_link_state at = OC_LINK_STARTS; at != OC_LINK_DONE;) {
        OC_TRY(oc_link_poll(l, &at));
        if (at != OC_LINK_DONE &&
            (atomic_load(&met->failed) || oc_clock_monotonic_ns() - start > BOUND_S / 2 * OC_SECOND_NS))
            return OC_FAIL(OC_EFAILED, "NCCL: the other rank has failed, or nothing moves");
        if (at != OC_LINK_DONE) (void)nanosleep(&moment, NULL);
    }
    return OC_OK;
}

static float number(int rank, int i)
{
    return (float)((rank + 1) * (i * 37 % 1009));
}

/* A sum, then a gather, each behind an upload that nobody waited for. */
static oc_status exchange(oc_link *l, oc_backend *b, int rank, int ranks)
{
    const size_t bytes = COUNT * sizeof(float);
    const oc_tensor own = device_take(b, OC_DTYPE_F32, COUNT, 1, 1),
                    all = device_take(b, OC_DTYPE_F32, ranks, COUNT, 1);
    float *host = host_take(bytes * (size_t)ranks);
    for (int i = 0; i < COUNT; i++) host[i] = host[(ranks - 1) * COUNT + i] = number(rank, i);
    OC_TRY(oc_backend_upload(b, own, host, bytes));
    OC_TRY(oc_link_sum(l, own.data, COUNT));
    OC_TRY(settle(l));
    for (int i = 0; i < COUNT; i++) host[rank * COUNT + i] = number(rank, i);
    OC_TRY(oc_backend_upload(b, all, host, bytes * (size_t)ranks));
    OC_TRY(oc_link_gather(l, all.data, COUNT));
    OC_TRY(settle(l));
    const float *sum = device_get(b, own), *found = device_get(b, all);
    for (int i = 0; i < ranks * COUNT; i++)
        if (found[i] != number(i / COUNT, i % COUNT)) return OC_FAIL(OC_EDATA, "number %d of a gather is wrong", i);
    for (int i = 0; i < COUNT; i++)
        if (sum[i] != number(0, i) + (ranks > 1 ? number(1, i) : 0))
            return OC_FAIL(OC_EDATA, "number %d of a sum is wrong", i);
    return OC_OK;
}

static oc_status rank_run(oc_backend *b, int rank, int ranks)
{
    oc_link *l = NULL;
    oc_link_seat seat = {.rank = rank, .ranks = ranks};
    if (rank == 0) {
        OC_TRY(oc_link_id(b, met->id));
        atomic_store(&met->made, 1);
    }
    while (!atomic_load(&met->made) && !atomic_load(&met->failed)) (void)usleep(1000);
    memcpy(seat.id, met->id, sizeof seat.id);
    OC_TRY(oc_link_open(&l, b, &seat));
    oc_status status = settle(l);
    if (status == OC_OK) status = exchange(l, b, rank, ranks);
    oc_link_close(l);
    return status;
}

/* --- two on one device: processes of their own, before this one has touched it */

static void two_ranks_run(void)
{
    for (int r = 0; r < RANKS; r++) met->seats[r].status = -1; /* where it ends without a word */
    for (int r = 0; r < RANKS; r++) {
        if (fork() != 0) continue;
        (void)alarm(BOUND_S);
        oc_backend *b = device_open((size_t)COUNT * 16, OC_MATH_F32);
        const oc_status status = b ? rank_run(b, r, RANKS) : OC_EFAILED;
        if (status != OC_OK) atomic_store(&met->failed, 1);
        snprintf(met->seats[r].said, sizeof met->seats[r].said, "%s", status == OC_OK ? "" : oc_status_message());
        met->seats[r].status = (int)status;
        _exit(0);
    }
    for (int r = 0; r < RANKS; r++) (void)wait(NULL);
}

static void two_on_one_device(void **state)
{
    (void)state;
    for (int r = 0; r < RANKS; r++) {
        printf("rank %d of 2 on one device: %s\n", r, met->seats[r].status == OC_OK ? "well" : met->seats[r].said);
        if (emulated || met->seats[r].status == OC_OK)
            assert_int_equal(met->seats[r].status, OC_OK);
        else
            assert_non_null(strstr(met->seats[r].said, "NCCL"));
    }
}

static void alone(void **state)
{
    oc_backend *b = device_open((size_t)(LARGE + 4 * COUNT) * sizeof(float), OC_MATH_F32);
    oc_link *l;
    oc_link_seat seat = {.ranks = 1};
    (void)state;
    assert_non_null(b);
    memset(met, 0, sizeof *met);
    if (rank_run(b, 0, 1) != OC_OK) fail_msg("%s", oc_status_message());
    const oc_tensor large = device_take(b, OC_DTYPE_F32, LARGE, 1, 1);
    assert_int_equal(oc_link_id(b, seat.id), OC_OK);
    assert_int_equal(oc_link_open(&l, b, &seat), OC_OK);
    assert_int_equal(settle(l), OC_OK);
    const int64_t start = oc_clock_monotonic_ns();
    for (int i = 0; i < REPEATS; i++) {
        assert_int_equal(oc_link_gather(l, large.data, LARGE), OC_OK);
        assert_int_equal(settle(l), OC_OK);
    }
    printf("NCCL, one rank: a gather of %d numbers takes %.3f ms\n", LARGE,
           (double)(oc_clock_monotonic_ns() - start) * 1e-6 / REPEATS);
    oc_link_close(l);
    oc_backend_close(b);
    device_release();
}

/* On a GPU without NCCL nothing is proven, and the line says so; jobs of one rank do not need it. */
static bool nccl_there(void)
{
    unsigned char id[OC_LINK_ID_BYTES];
    oc_backend *b = device_open(0, OC_MATH_F32);
    const bool there = b && oc_link_id(b, id) == OC_OK;
    if (!there) printf("not run through NCCL: %s\n", oc_status_message());
    oc_backend_close(b);
    return there;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_on_one_device), cmocka_unit_test(alone)};
    emulated = !getenv("OUTCRY_CUDA_MODULE");
    if (emulated) {
        (void)setenv("OUTCRY_NCCL", OC_TEST_LINK_LIBRARY, 1);
        (void)setenv("TMPDIR", ".", 1);
    }
    met = mmap(NULL, sizeof *met, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (met == MAP_FAILED) return 1;
    two_ranks_run();
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    if (!emulated && !nccl_there()) return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
