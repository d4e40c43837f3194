/* test_folds.c - shuffling is a permutation; manifests come back; purge and embargo against loops over all pairs of
 * samples, written from the header. The harness is proven by a naive form that forgets the embargo, which must differ.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "datasets/folds.h"

enum { ROWS = 300, SYMBOLS = 2, ALL = ROWS * SYMBOLS };

static void shuffle_permutes(void **state)
{
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 100, 1023, 1025, 65537};
    static uint8_t seen[65537];
    (void)state;
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            size_t fixed = 0;
            memset(seen, 0, sizeof seen);
            for (uint64_t i = 0; i < counts[k]; i++) {
                uint64_t to = oc_shuffle(7, epoch, counts[k], i);
                assert_true(to < counts[k]);
                assert_int_equal(seen[to]++, 0);
                fixed += to == i;
            }
            if (counts[k] > 1000) assert_true(fixed < 12);       /* expected: one */
        }
    }
    assert_true(oc_shuffle(7, 0, 1000000, 5) != oc_shuffle(7, 1, 1000000, 5));
    assert_true(oc_shuffle(7, 0, 1000000, 5) != oc_shuffle(8, 0, 1000000, 5));
    assert_true(oc_shuffle(7, 0, UINT64_C(1) << 60, 5) < UINT64_C(1) << 60);
}

/* A dataset in memory: only what samples look at. */
typedef struct fake {
    oc_dataset d;
    oc_dataset_symbol symbols[SYMBOLS];
    int64_t time_ns[ALL], known_ns[ALL];
    uint32_t run[ALL];
    uint8_t valid[ALL];
} fake;

static void fake_make(fake *f, uint64_t seed)
{
    memset(f, 0, sizeof *f);
    for (size_t s = 0; s < SYMBOLS; s++) {
        uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, s, 0), run = 0;
        int64_t at = (int64_t)(seed % 50);
        for (size_t i = s * ROWS; i < (s + 1) * ROWS; i++) {
            uint64_t r = oc_random_philox(key, i);
            at += (int64_t)(r % 7);
            run = r / 7 % 53 == 0 ? 0 : run + 1;
            f->time_ns[i] = at;
            f->run[i] = run;
            f->valid[i] = r / 1000 % 17 != 0;
            f->known_ns[i] = f->valid[i] ? at + (int64_t)(r / 100000 % 40) : at;
        }
        f->symbols[s] = (oc_dataset_symbol){.first = s * ROWS, .rows = ROWS};
    }
    f->d = (oc_dataset){.rows = ALL,
                        .symbol_count = SYMBOLS,
                        .symbols = f->symbols,
                        .time_ns = f->time_ns,
                        .run_length = f->run,
                        .label_count = 1};
    f->d.labels[0] = (oc_dataset_label){.valid = f->valid, .known_ns = f->known_ns};
}

static int inside(const oc_fold *f, int split, int64_t t, size_t *which)
{
    for (size_t i = 0; i < f->interval_count[split]; i++)
        if (t >= f->interval[split][i].first_ns && t < f->interval[split][i].last_ns) {
            *which = i;
            return 1;
        }
    return 0;
}

/* Is row a kept in `split`? Every other sample is looked at; for the embargo the latest known_ns of the interval is. */
static int naive_kept(const fake *f, const oc_fold *fold, int64_t embargo, int split, uint32_t steps, size_t a)
{
    size_t which, other;
    if (!inside(fold, split, f->time_ns[a], &which) || f->run[a] < steps || !f->valid[a]) return 0;
    int64_t a_first = f->time_ns[a + 1 - steps],
            a_known = f->known_ns[a] > f->time_ns[a] ? f->known_ns[a] : f->time_ns[a];
    for (size_t b = 0; b < ALL; b++) {
        for (int s = split + 1; s < OC_SPLIT_COUNT; s++) {
            if (!inside(fold, s, f->time_ns[b], &other) || f->run[b] < steps || !f->valid[b]) continue;
            int64_t b_first = f->time_ns[b + 1 - steps], b_known = f->known_ns[b];
            const oc_interval *v = &fold->interval[s][other];
            if (f->time_ns[a] < v->first_ns && a_known >= b_first) return 0;
            if (f->time_ns[a] >= v->last_ns && (a_first <= b_known || a_first < b_known + embargo)) return 0;
        }
    }
    return 1;
}

static size_t differences(int64_t forgotten, size_t *kept)
{
    static fake f;
    size_t different = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        fake_make(&f, seed);
        int64_t last = f.time_ns[ROWS - 1];
        oc_fold fold = {.name = "t",
                        .interval = {{{0, last / 3}, {last / 2, last * 3 / 4}, {last * 9 / 10, last + 100}},
                                     {{last / 3, last * 2 / 5}},
                                     {{last * 2 / 5, last / 2}, {last * 3 / 4, last * 9 / 10}}},
                        .interval_count = {3, 1, 2}};
        const oc_dataset_label *labels[] = {&f.d.labels[0]};
        int64_t embargo = (int64_t)(seed % 4) * 15;
        uint32_t steps = (uint32_t)(seed % 3 * 6 + 1);
        for (int split = 0; split < OC_SPLIT_COUNT; split++) {
            oc_samples s;
            assert_int_equal(oc_samples_select(&s, &f.d, &fold, embargo, (oc_split)split, (int)steps, labels, 1),
                             OC_OK);
            size_t at = 0;
            for (size_t row = 0; row < ALL; row++) {
                int got = at < s.count && s.row[at] == (int64_t)row;
                at += (size_t)got;
                different += got != naive_kept(&f, &fold, embargo - (embargo ? forgotten : 0), split, steps, row);
            }
            assert_int_equal(at, s.count);
            *kept += s.count;
            oc_samples_free(&s);
        }
    }
    return different;
}

static void samples_against_pairs(void **state)
{
    size_t kept = 0, ignored = 0;
    (void)state;
    assert_int_equal(differences(0, &kept), 0);
    assert_true(kept > 1000);
    assert_true(differences(14, &ignored) > 0);                  /* a forgotten embargo is found */
}

static const char path[] = "test_datasets_folds.yaml";

static void manifest_round_trip(void **state)
{
    static fake f;
    oc_folds *a, *b;
    (void)state;
    fake_make(&f, 3);
    assert_int_equal(oc_folds_open(&a, "walk-forward:4:rolling", 25, &f.d), OC_OK);
    assert_int_equal(a->count, 4);
    for (size_t i = 0; i + 1 < a->count; i++)                    /* the test pieces follow each other */
        assert_int_equal(a->fold[i].interval[OC_SPLIT_TEST][0].last_ns,
                         a->fold[i + 1].interval[OC_SPLIT_TEST][0].first_ns);
    a->fold[1].interval[OC_SPLIT_TRAIN][1] = (oc_interval){-500, -400};
    a->fold[1].interval_count[OC_SPLIT_TRAIN] = 2;
    assert_int_equal(oc_folds_save(a, path), OC_OK);
    oc_status status = oc_folds_open(&b, path, 0, &f.d);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(b->count, 4);
    assert_int_equal(b->embargo_ns, 25);
    for (size_t i = 0; i < 4; i++)
        assert_true(oc_hash_equal(oc_fold_hash(&a->fold[i], 25), oc_fold_hash(&b->fold[i], b->embargo_ns)));
    assert_false(oc_hash_equal(oc_fold_hash(&a->fold[0], 25), oc_fold_hash(&a->fold[0], 24)));
    oc_folds_close(b);
    char *text;
    size_t bytes;
    assert_int_equal(oc_file_read(path, 1 << 20, &text, &bytes), OC_OK);
    char *digit = strstr(text, ".."); /* a changed manifest does not pass under its old hash */
    digit[2] = digit[2] == '1' ? '2' : '1';
    assert_int_equal(oc_file_write(path, text, bytes), OC_OK);
    assert_true(oc_folds_open(&b, path, 0, &f.d) != OC_OK);
    oc_memory_free(text);
    oc_folds_close(a);
}

static void specs_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "chronological",
                                      "chronological:0.5:0.5",
                                      "chronological:0.5:0.5:0.5",
                                      "chronological:1:0:0",
                                      "chronological:nan:0.1:0.1",
                                      "chronological:0.7:0.15:0.15:",
                                      "walk-forward:0",
                                      "walk-forward:x",
                                      "walk-forward:4:sideways",
                                      "walk-forward:1000",
                                      "no/such/file.yaml"};
    static fake f;
    oc_folds *folds;
    (void)state;
    fake_make(&f, 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (oc_folds_open(&folds, bad[i], 0, &f.d) != OC_ECONFIG) fail_msg("accepted \"%s\"", bad[i]);
    assert_int_equal(oc_folds_open(&folds, "walk-forward:4", -1, &f.d), OC_ECONFIG);
    assert_int_equal(oc_folds_open(&folds, "chronological:0.7:0.15:0.15", 0, &f.d), OC_OK);
    assert_int_equal(folds->fold[0].interval[OC_SPLIT_TRAIN][0].last_ns,
                     folds->fold[0].interval[OC_SPLIT_VALID][0].first_ns);
    oc_folds_close(folds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shuffle_permutes), cmocka_unit_test(samples_against_pairs),
                                       cmocka_unit_test(manifest_round_trip), cmocka_unit_test(specs_refused)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
