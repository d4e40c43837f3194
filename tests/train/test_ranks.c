/* test_ranks.c - a job of many ranks is the job of one: the same weights, whatever the network does, and after a loss
 * and a resume on another count. Ranks are threads behind comm_double.h; MPI's own ways are tests/tools/ranks.py. The
 * harness's injected faults: a bit that flips on its way to one rank, a rank with another job. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "train/comm_double.h"
#include "train/sample_run.h"

enum { RANKS_MAX = 64 };

static sample_dataset *data;
static int folders;

typedef struct rank_run {
    oc_comm comm;
    const oc_dataset *d;
    const oc_config *config;
    const char *out;
    bool resume;
    oc_train_result result;
    oc_status status;
    int64_t ended_ns;
    char message[512];
} rank_run;

static void *rank_main(void *argument)
{
    rank_run *r = argument;
    r->status = oc_train_run_ranks(&r->comm, r->config, r->d, &data->folds, 0, r->out, r->resume, &r->result);
    snprintf(r->message, sizeof r->message, "%s", r->status == OC_OK ? "" : oc_status_message());
    oc_comm_close(&r->comm, r->status);
    r->ended_ns = oc_clock_monotonic_ns();
    return NULL;
}

typedef struct job {
    int ranks;
    double_fault fault;
    bool resume;
    const char *out;
    int other_rank; /* that has other_sets or other_data; 0: none */
    const char *const *other_sets;
    const oc_dataset *other_data;
} job;

static rank_run runs[RANKS_MAX];

static void job_run(const job *j, const char *const *sets)
{
    pthread_t threads[RANKS_MAX];
    oc_config *config = sample_config(sets), *other = j->other_sets ? sample_config(j->other_sets) : NULL;
    double_net *net = double_open(j->ranks, j->fault);
    for (int r = 0; r < j->ranks; r++) {
        bool odd = j->other_rank > 0 && r == j->other_rank;
        runs[r] = (rank_run){.comm = double_rank(net, r),
                             .d = odd && j->other_data ? j->other_data : &data->d,
                             .config = odd && other ? other : config,
                             .out = j->out,
                             .resume = j->resume};
        assert_int_equal(pthread_create(&threads[r], NULL, rank_main, &runs[r]), 0);
    }
    for (int r = 0; r < j->ranks; r++) pthread_join(threads[r], NULL);
    double_close(net);
    oc_config_close(config);
    if (other) oc_config_close(other);
}

static const char *folder_new(char *path, size_t cap)
{
    snprintf(path, cap, "%s/run-%d", root, folders++);
    return path;
}

static oc_train_result alone(const char *const *sets)
{
    char out[128];
    oc_train_result result;
    if (sample_train(data, folder_new(out, sizeof out), false, sets, &result) != OC_OK)
        fail_msg("%s", oc_status_message());
    return result;
}

static void all_well(int ranks, const oc_train_result *wanted)
{
    for (int r = 0; r < ranks; r++) {
        if (runs[r].status != OC_OK) fail_msg("rank %d: %s", r, runs[r].message);
        assert_true(oc_hash_equal(runs[r].result.weights, wanted->weights));
        assert_true(runs[r].result.steps == wanted->steps && runs[r].result.best_step == wanted->best_step);
        assert_true(runs[r].result.skipped_steps == wanted->skipped_steps);
        assert_true(memcmp(&runs[r].result.valid_loss, &wanted->valid_loss, sizeof(double)) == 0);
    }
    assert_true(runs[0].result.temperature == wanted->temperature);
}

/* --- the same weights --- */

/* Dropout is on in all (model.dropout 0.2, head 0.3); batches and epochs end unevenly (48 of 397). */
#define UNEVEN "train.windows_per_epoch=397", "train.class_weights=balanced", "train.shards=8"

static void any_number_of_ranks(void **state)
{
    (void)state;
    const struct {
        int ranks;
        const char *threads;
        uint64_t jitter;
    } rows[] = {
        {1, "threads=2", 0}, {2, "threads=1", 0}, {2, "threads=2", 5}, {4, "threads=1", 6}, {8, "threads=1", 7}};
    oc_train_result wanted = alone(SETS(UNEVEN));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[128];
        const job j = {.ranks = rows[i].ranks, .fault.jitter_seed = rows[i].jitter, .out = folder_new(out, sizeof out)};
        job_run(&j, SETS(UNEVEN, rows[i].threads));
        all_well(rows[i].ranks, &wanted);
        int64_t all = 0; /* no window is dropped: 2 epochs of 397, in batches of 48 */
        for (int r = 0; r < rows[i].ranks; r++) {
            int64_t own = runs[0].result.rank_windows[r];
            assert_true(own > 0 && llabs(own * rows[i].ranks - 2 * 397) < 60 * rows[i].ranks);
            all += own;
        }
        assert_int_equal(all, 2 * 397);
    }
}

static void sixty_four_ranks(void **state)
{
    (void)state;
    char out[128];
#define WIDE "train.shards=64", "train.batch=64", "train.epochs=1", "train.valid_every=3", "comm.timeout_ns=60000000000"
    oc_train_result wanted = alone(SETS(WIDE));
    const job j = {.ranks = 64,
                   .fault = {.kind = DOUBLE_LATE, .rank = 41, .at = 20, .late_ns = 300000000, .jitter_seed = 9},
                   .out = folder_new(out, sizeof out)};
    job_run(&j, SETS(WIDE));
    all_well(64, &wanted);
}

/* The same with one that is lost for good: all others name it, and half as many go on. */
static void one_of_sixty_four_is_lost(void **state)
{
    (void)state;
    char out[128];
    oc_train_result wanted = alone(SETS(WIDE));
    job j = {.ranks = 64,
             .fault = {.kind = DOUBLE_LOST, .rank = 41, .at = 20, .jitter_seed = 9},
             .out = folder_new(out, sizeof out)};
    job_run(&j, SETS(WIDE, "comm.timeout_ns=10000000000", "train.checkpoint_seconds=0"));
    for (int r = 0; r < 64; r++) {
        if (r == 41) continue;
        if (!strstr(runs[r].message, "no answer from rank 41 (")) fail_msg("rank %d: %s", r, runs[r].message);
    }
    j = (job){.ranks = 32, .resume = true, .out = out};
    job_run(&j, SETS(WIDE));
    all_well(32, &wanted);
}

/* A number that is not finite in one rank's gradients: all leave the same step out. */
static void a_bad_number_is_skipped_by_all(void **state)
{
    (void)state;
    char out[128];
    const job j = {.ranks = 4,
                   .fault = {.kind = DOUBLE_NAN, .rank = 2, .at = 20, .what = "gradients"},
                   .out = folder_new(out, sizeof out)};
    oc_train_result unharmed = alone(NULL);
    job_run(&j, NULL);
    oc_train_result first = runs[0].result;
    assert_int_equal(first.skipped_steps, 1);
    assert_true(first.steps == unharmed.steps && !oc_hash_equal(first.weights, unharmed.weights));
    all_well(4, &first);
}

/* reduce: allreduce gives the promise up, and says so: all ranks of a job end with the same weights, near the tree's,
 * but not its bits; log and bundle name it, a resume with the other way is refused, and what goes wrong is seen. */
static void a_sum_of_the_network(void **state)
{
    (void)state;
    char out[128], path[192], *text;
    size_t bytes;
    const char *const *sets = SETS("reduce=allreduce", "train.pause_after=9"), *const *rest = SETS("reduce=allreduce");
    oc_train_result tree = alone(NULL);
    job j = {.ranks = 4, .fault.jitter_seed = 8, .out = folder_new(out, sizeof out)};
    job_run(&j, sets);
    for (int r = 0; r < 4; r++) assert_int_equal(runs[r].status, OC_EAGAIN);
    j.resume = true;
    job_run(&j, NULL);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(runs[r].status, OC_ECONFIG);
        if (!strstr(runs[r].message, "\"reduce: allreduce\", this run \"reduce: tree\""))
            fail_msg("%s", runs[r].message);
    }
    job_run(&j, rest);
    oc_train_result first = runs[0].result;
    all_well(4, &first);
    assert_false(oc_hash_equal(first.weights, tree.weights));
    assert_true(first.steps == tree.steps && fabs(first.valid_loss - tree.valid_loss) <= 1e-3 * tree.valid_loss);
    const struct {
        const char *file, *said;
    } rows[] = {{"log.jsonl", "\"reduce\":\"allreduce\""},
                {"model/bundle.json", "\"reduce\": \"allreduce of 4 ranks\""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(path, sizeof path, "%s/%s", out, rows[i].file);
        assert_int_equal(oc_file_read(path, 1 << 20, &text, &bytes), OC_OK);
        assert_non_null(memmem(text, bytes, rows[i].said, strlen(rows[i].said)));
        oc_memory_free(text);
    }
    j = (job){.ranks = 2,
              .fault = {.kind = DOUBLE_FLIPPED, .rank = 1, .at = 10, .what = "gradients"},
              .out = folder_new(out, sizeof out)};
    job_run(&j, rest);
    assert_non_null(strstr(runs[0].message, "rank 1 holds other weights"));
    assert_non_null(strstr(runs[0].message, "set reduce to tree"));
}

/* --- losses --- */

/* Long enough for a rank that is there on a machine that is busy, as only the lost one may be named. */
#define LOST_SETS "comm.timeout_ns=3000000000", "comm.start_timeout_ns=3000000000"

static void a_lost_rank_is_named(void **state)
{
    (void)state;
    const struct {
        int ranks, lost, resumed;
        int64_t at;
    } rows[] = {{2, 1, 1, 20}, {4, 2, 2, 31}, {4, 0, 4, 25}};
    oc_train_result wanted = alone(SETS("train.checkpoint_seconds=0"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[128], name[32];
        job j = {.ranks = rows[i].ranks,
                 .fault = {.kind = DOUBLE_LOST, .rank = rows[i].lost, .at = rows[i].at},
                 .out = folder_new(out, sizeof out)};
        snprintf(name, sizeof name, "rank %d (", rows[i].lost);
        int64_t start = oc_clock_monotonic_ns();
        job_run(&j, SETS("train.checkpoint_seconds=0", LOST_SETS));
        for (int r = 0; r < j.ranks; r++) {
            assert_int_equal(runs[r].status, OC_EFAILED);
            assert_true(runs[r].ended_ns - start < 60 * OC_SECOND_NS); /* the start's own time-out is 120 s */
            if (r != rows[i].lost && !strstr(runs[r].message, name)) fail_msg("rank %d: %s", r, runs[r].message);
        }
        j = (job){.ranks = rows[i].resumed, .resume = true, .out = out}; /* on another count */
        job_run(&j, SETS("train.checkpoint_seconds=0"));
        all_well(rows[i].resumed, &wanted);
    }
}

/* One bit on its way to one rank: its weights are others from then on, which no message shows. */
static void a_flipped_bit_is_found(void **state)
{
    (void)state;
    char out[128];
    const job j = {.ranks = 2,
                   .fault = {.kind = DOUBLE_FLIPPED, .rank = 1, .at = 10, .what = "gradients"},
                   .out = folder_new(out, sizeof out)};
    job_run(&j, SETS("train.epochs=1"));
    for (int r = 0; r < 2; r++) {
        assert_int_equal(runs[r].status, OC_EFAILED);
        assert_non_null(strstr(runs[r].message, "rank 1 holds other weights"));
    }
}

/* The signal comes behind some exchange of one rank, while others are behind it, before it or in it: each of those of a
 * step in turn. */
static void all_stop_after_the_same_step(void **state)
{
    (void)state;
    oc_train_result wanted = alone(SETS("train.epochs=20"));
    for (int64_t at = 60; at < 66; at++) {
        char out[128];
        job j = {.ranks = 4,
                 .fault = {.kind = DOUBLE_STOPPED, .rank = (int)(at % 4), .at = at, .jitter_seed = 3},
                 .out = folder_new(out, sizeof out)};
        job_run(&j, SETS("train.epochs=20"));
        oc_train_clear_stop();
        for (int r = 0; r < 4; r++) {
            assert_int_equal(runs[r].status, OC_EAGAIN);
            assert_string_equal(runs[r].message, runs[0].message); /* the step is in it */
        }
        j = (job){.ranks = 2, .resume = true, .out = out};
        job_run(&j, SETS("train.epochs=20"));
        all_well(2, &wanted);
    }
}

/* --- refused at the start --- */

static void another_job_on_one_rank(void **state)
{
    (void)state;
    oc_dataset changed = data->d;
    changed.root = (oc_hash){99, 98};
    const struct {
        const char *const *sets;
        const oc_dataset *d;
        const char *said;
    } rows[] = {
        {SETS("train.rate=0.02"), NULL, "rank 2 \"train.rate: 0.02"},
        {SETS("seed=9"), NULL, "rank 2 \"seed: 9\""},
        {SETS("train.pause_after=3"), NULL, "start"},
        {NULL, &changed, "differ in their dataset"},
        {SETS("data.embargo_ns=7", "threads=2"), NULL, "data.embargo_ns"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[128];
        const job j = {.ranks = 4,
                       .out = folder_new(out, sizeof out),
                       .other_rank = 2,
                       .other_sets = rows[i].sets,
                       .other_data = rows[i].d};
        job_run(&j, NULL);
        for (int r = 0; r < 4; r++) {
            assert_int_equal(runs[r].status, OC_ECONFIG);
            if (!strstr(runs[r].message, rows[i].said)) fail_msg("%s", runs[r].message);
        }
        assert_false(oc_path_exists(out)); /* refused before anything is written */
    }
}

static void counts_that_cannot_be(void **state)
{
    (void)state;
    const struct {
        int ranks;
        const char *set, *said;
    } rows[] = {
        {3, "seed=1", "1, 2, 4 are possible"},
        {8, "seed=1", "train.shards 4 cannot be divided over 8 ranks: 1, 2, 4 are possible"},
        {2, "train.batch=3", "train.batch 3 is fewer windows than train.shards 4"},
        {2, "train.windows_per_epoch=3", "an epoch of 3 windows is fewer than train.shards 4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[128];
        const job j = {.ranks = rows[i].ranks, .out = folder_new(out, sizeof out)};
        job_run(&j, SETS(rows[i].set));
        for (int r = 0; r < j.ranks; r++) {
            assert_int_equal(runs[r].status, OC_ECONFIG);
            if (!strstr(runs[r].message, rows[i].said)) fail_msg("%s", runs[r].message);
        }
    }
}

/* What fails on rank 0 alone, a folder that cannot be, ends the others at once and with its message. */
static void rank_0_cannot_write(void **state)
{
    (void)state;
    char out[128];
    snprintf(out, sizeof out, "%s/file", root);
    assert_int_equal(oc_file_write(out, "x", 1), OC_OK);
    snprintf(out, sizeof out, "%s/file/run", root);
    const job j = {.ranks = 4, .out = out};
    int64_t start = oc_clock_monotonic_ns();
    job_run(&j, SETS("comm.timeout_ns=600000000000", "comm.start_timeout_ns=600000000000"));
    assert_true(oc_clock_monotonic_ns() - start < 60 * OC_SECOND_NS);
    for (int r = 1; r < 4; r++) {
        assert_int_equal(runs[r].status, runs[0].status);
        assert_true(strncmp(runs[r].message, "rank 0 has failed: ", 19) == 0);
    }
    assert_int_equal(runs[0].status, OC_EFAILED);
}

static int setup(void **state)
{
    (void)state;
    oc_log_set_level(OC_LOG_ERROR);
    if (root_make() != 0) return 1;
    char path[128];
    snprintf(path, sizeof path, "%s/sample.h5", root);
    data = sample_dataset_open(path, 500, 5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sample_dataset_close(data);
    return root_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks),       cmocka_unit_test(sixty_four_ranks),
        cmocka_unit_test(one_of_sixty_four_is_lost), cmocka_unit_test(a_bad_number_is_skipped_by_all),
        cmocka_unit_test(a_sum_of_the_network),      cmocka_unit_test(a_lost_rank_is_named),
        cmocka_unit_test(a_flipped_bit_is_found),    cmocka_unit_test(all_stop_after_the_same_step),
        cmocka_unit_test(another_job_on_one_rank),   cmocka_unit_test(counts_that_cannot_be),
        cmocka_unit_test(rank_0_cannot_write),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
