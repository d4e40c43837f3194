/* test_simulate.c - the simulated market and its truth. Would catch: an oracle that forgets a transition, a truth that
 * needs what is not published, a book that crosses or a trade larger than what rests there, a market that is
 * predictable where it should not be, a truth file in which a byte may change.
 *
 * Independence: the state is read here off the file alone (block trades and the sizes at the touch), the futures are
 * drawn here by a second walk written from simulate.h, and labels come from mids of oc_book. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "market/book.h"
#include "market/event_file.h"
#include "market/simulate.h"
#include "market/truth.h"

enum { HORIZON = 12 };
static const double threshold = 0.0003;
static char folder[64];

static const char *path_of(const char *name, char *path, size_t cap)
{
    snprintf(path, cap, "%s/%.40s", folder, name);
    return path;
}

static oc_simulate_result market_make(const char *name, uint64_t events, uint64_t seed, uint32_t levels, double signal)
{
    oc_simulate_options o = {.events = events, .seed = seed, .levels = levels, .horizon = HORIZON, .signal = signal,
                             .threshold = threshold};
    oc_simulate_result result;
    char events_path[128], truth_path[128], full[80];
    snprintf(full, sizeof full, "%s.events", name);
    path_of(full, events_path, sizeof events_path);
    snprintf(full, sizeof full, "%s.truth", name);
    path_of(full, truth_path, sizeof truth_path);
    if (oc_simulate(events_path, truth_path, &o, &result) != OC_OK) fail_msg("%s", oc_status_message());
    return result;
}

/* What a reader of the file knows after each packet. */
typedef struct row {
    int64_t receive_ns, twice_mid;
    oc_market_state state;
} row;

typedef struct seen {
    row *rows;
    size_t count, cap;
    uint64_t events, trades, blocks, wide;
} seen;

static int64_t lots_at(const oc_book_side *s, int64_t ticks)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->level[i].ticks == ticks) return s->level[i].lots;
    }
    return 0;
}

/* A trade hits the best price of the other side, takes no more than rests there; the next event says what is left. */
static void trade_check(const oc_book *book, const oc_event *e, const oc_event *after, seen *s, int *regime)
{
    const oc_book_side *resting = e->side == OC_SIDE_BUY ? &book->ask : &book->bid;
    assert_true(e->side == OC_SIDE_BUY || e->side == OC_SIDE_SELL);
    assert_true(resting->count > 0 && resting->level[0].ticks == e->as.price.ticks);
    assert_true(e->as.price.lots > 0 && e->as.price.lots <= resting->level[0].lots);
    assert_int_equal(after->kind, OC_EVENT_LEVEL);
    assert_int_equal(after->as.price.ticks, e->as.price.ticks);
    assert_int_equal(after->as.price.lots, lots_at(resting, e->as.price.ticks) - e->as.price.lots);
    s->trades++;
    if (e->as.price.lots < OC_BLOCK_LOTS) return;
    s->blocks++;
    *regime = e->side == OC_SIDE_BUY ? 1 : -1;
}

static void row_add(seen *s, const oc_book *book, const oc_event *e, int regime, uint32_t levels)
{
    const oc_book_side *bid = &book->bid, *ask = &book->ask;
    assert_true(oc_book_two_sided(book) && !oc_book_crossed(book));
    assert_int_equal(bid->count, levels);
    assert_int_equal(ask->count, levels);
    for (uint32_t i = 0; i < levels; i++) {
        assert_true(bid->level[i].lots > 0 && ask->level[i].lots > 0);
        assert_int_equal(bid->level[i].ticks, bid->level[0].ticks - i);
        assert_int_equal(ask->level[i].ticks, ask->level[0].ticks + i);
    }
    assert_true(bid->level[0].lots != ask->level[0].lots);
    assert_true(s->count == 0 || e->receive_ns > s->rows[s->count - 1].receive_ns);
    assert_true(e->receive_ns > e->exchange_ns && e->exchange_ns > 0);
    int64_t twice_mid = bid->level[0].ticks + ask->level[0].ticks, spread = ask->level[0].ticks - bid->level[0].ticks;
    assert_true(spread == 1 || spread == 3);
    s->wide += spread == 3;
    assert_int_equal(oc_memory_grow(&s->rows, &s->cap, s->count + 1, sizeof *s->rows, "rows"), OC_OK);
    s->rows[s->count++] = (row){e->receive_ns, twice_mid,
                                {regime, bid->level[0].lots > ask->level[0].lots ? 1 : -1, (twice_mid - 1) / 2}};
}

static seen market_read(const char *name, uint32_t levels)
{
    static oc_book book;
    oc_event_reader *r;
    const oc_event *run;
    size_t count, first_packet = 0;
    char path[128];
    int regime = 1;
    seen s = {0};
    assert_int_equal(oc_event_reader_open(&r, path_of(name, path, sizeof path)), OC_OK);
    oc_book_init(&book);
    for (;;) {
        assert_int_equal(oc_event_reader_next(r, &run, &count), OC_OK);
        if (count == 0) break;
        for (size_t i = 0; i < count; i++) {
            const oc_event *e = &run[i];
            if (s.count == 0) first_packet += e->kind == OC_EVENT_SNAPSHOT;
            else assert_true(e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_TRADE);
            if (e->kind == OC_EVENT_TRADE && i + 1 < count) trade_check(&book, e, e + 1, &s, &regime);
            else if (e->kind == OC_EVENT_TRADE && e->as.price.lots >= OC_BLOCK_LOTS)
                regime = e->side == OC_SIDE_BUY ? 1 : -1;
            oc_book_apply(&book, e);
            assert_false(s.count > 0 && oc_book_crossed(&book));    /* not even inside a packet */
            if (e->flags & OC_EVENT_LAST) row_add(&s, &book, e, regime, levels);
        }
        s.events += count;
    }
    assert_int_equal(first_packet, 2 * levels);
    oc_event_reader_close(r);
    return s;
}

/* The label as the dataset forms it: mids in the reader's doubles. */
static int label_of(const seen *s, size_t i)
{
    double change = (double)s->rows[i + HORIZON].twice_mid / (double)s->rows[i].twice_mid - 1.0;
    return change > threshold ? 0 : change < -threshold ? 1 : 2;
}

static oc_truth *truth_get(const char *name)
{
    oc_truth *t;
    char path[128];
    if (oc_truth_open(&t, path_of(name, path, sizeof path)) != OC_OK) fail_msg("%s", oc_status_message());
    return t;
}

/* Invariants of the book at every packet, and the truth equals the oracle at the state that the FILE shows. */
static void test_book_and_state(void **state)
{
    static const struct { uint32_t levels; uint64_t events; double signal; } cases[] = {
        {10, 200000, 0.5}, {1, 20000, 1.0}, {2, 20000, 0.0}, {64, 60000, 0.8},
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        oc_simulate_result result = market_make("book", cases[c].events, 3 + c, cases[c].levels, cases[c].signal);
        seen s = market_read("book.events", cases[c].levels);
        oc_truth *t = truth_get("book.truth");
        oc_market_rates rates = oc_market_rates_standard(cases[c].signal);
        oc_oracle *o;
        double best = 0;
        assert_int_equal(oc_oracle_open(&o, &rates, HORIZON, threshold), OC_OK);
        assert_int_equal(s.events, result.events);
        assert_int_equal(s.count, result.rows);
        assert_int_equal(oc_truth_about(t)->rows, result.rows);
        assert_int_equal(oc_truth_about(t)->horizon, HORIZON);
        for (size_t i = 0; i < s.count; i++) {
            const oc_truth_row *true_row = oc_truth_find(t, s.rows[i].receive_ns);
            assert_ptr_equal(true_row, oc_truth_at(t, i));
            assert_memory_equal(true_row->p, oc_oracle_ask(o, &s.rows[i].state), sizeof true_row->p);
            assert_true(fabs(true_row->p[0] + true_row->p[1] + true_row->p[2] - 1) <= 1e-12);
            best += fmax(true_row->p[0], fmax(true_row->p[1], true_row->p[2])) / (double)s.count;
        }
        assert_true(fabs(best - result.best_accuracy) <= 1e-9);
        assert_null(oc_truth_find(t, s.rows[0].receive_ns + 1));
        assert_null(oc_truth_find(t, s.rows[s.count - 1].receive_ns + 1));
        print_message("%u levels: %llu events, %zu rows, %llu trades, %llu blocks, %llu rows wide\n", cases[c].levels,
                      (unsigned long long)s.events, s.count, (unsigned long long)s.trades, (unsigned long long)s.blocks,
                      (unsigned long long)s.wide);
        assert_true(s.trades > s.count / 4 && s.blocks > s.count / 25 && s.wide < s.count / 4);
        oc_oracle_close(o);
        oc_truth_close(t);
        oc_memory_free(s.rows);
    }
}

/* A second walk of the market, with xorshift numbers of its own. */
static double draw(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return (double)(*x >> 11) * 0x1p-53;
}

static int walk(const oc_market_rates *rates, oc_market_state at, uint32_t horizon, uint64_t *x)
{
    int64_t from = at.centre_ticks;
    for (uint32_t k = 0; k < horizon; k++) {
        int64_t move = 0;
        if (draw(x) < rates->jump) {
            int direction = at.regime * at.flow;
            if (draw(x) >= (1 + rates->edge) / 2) direction = -direction;
            move = direction * (OC_JUMP_MIN + (int64_t)(draw(x) * (OC_JUMP_MAX - OC_JUMP_MIN + 1)));
            at.flow = draw(x) < 0.5 ? 1 : -1;
        } else if (draw(x) < rates->drift) {
            move = draw(x) < 0.5 ? 1 : -1;
        }
        if (at.centre_ticks + move < OC_CENTRE_MIN || at.centre_ticks + move > OC_CENTRE_MAX) move = -move;
        at.centre_ticks += move;
        if (draw(x) < rates->block) at.regime = draw(x) < rates->momentum ? 1 : -1;
    }
    double change = ((double)at.centre_ticks + 0.5) / ((double)from + 0.5) - 1;
    return change > threshold ? 0 : change < -threshold ? 1 : 2;
}

/* Largest distance, in standard errors, of the oracle from `draws` walks over all classes of one state. */
static double walk_distance(oc_oracle *o, const oc_market_rates *rates, oc_market_state at, uint32_t horizon, int draws)
{
    uint64_t x = 88172645463325252u + (uint64_t)at.centre_ticks * 4;
    x += (uint64_t)(at.regime + 1) + (uint64_t)(at.flow + 1) / 2;
    const double *p = oc_oracle_ask(o, &at);
    double seen_class[3] = {0}, worst = 0;
    for (int i = 0; i < draws; i++) seen_class[walk(rates, at, horizon, &x)]++;
    for (int c = 0; c < 3; c++) {
        double error = sqrt(p[c] * (1 - p[c]) / draws) + 1e-9;
        worst = fmax(worst, fabs(seen_class[c] / draws - p[c]) / error);
    }
    return worst;
}

static double walk_worst(const oc_market_rates *truth, const oc_market_rates *claimed, uint32_t horizon)
{
    static const int64_t centres[] = {OC_CENTRE_START, OC_CENTRE_MIN, OC_CENTRE_MIN + 2, OC_CENTRE_MAX - 7,
                                      OC_CENTRE_MAX};
    oc_oracle *o;
    double worst = 0;
    assert_int_equal(oc_oracle_open(&o, claimed, horizon, threshold), OC_OK);
    for (size_t c = 0; c < sizeof centres / sizeof *centres; c++) {
        for (int state = 0; state < 4; state++) {
            oc_market_state at = {state & 2 ? 1 : -1, state & 1 ? 1 : -1, centres[c]};
            worst = fmax(worst, walk_distance(o, truth, at, horizon, 40000));
        }
    }
    oc_oracle_close(o);
    return worst;
}

/* 60 comparisons a row: 4.5 standard errors are passed by chance in 4 of 10,000 runs; the seed is fixed. */
static void test_oracle_by_walks(void **state)
{
    static const struct { double signal; uint32_t horizon; } cases[] = {
        {0, 12}, {0.5, 1}, {0.5, 12}, {0.8, 30}, {1, 12},
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        oc_market_rates rates = oc_market_rates_standard(cases[c].signal);
        double worst = walk_worst(&rates, &rates, cases[c].horizon);
        print_message("signal %.1f, %2u rows: worst of 60 is %.2f standard errors\n", cases[c].signal, cases[c].horizon,
                      worst);
        assert_true(worst <= 4.5);
    }
}

/* An oracle that forgets one thing must be found by the walks. */
static void test_planted_faults(void **state)
{
    oc_market_rates right = oc_market_rates_standard(0.5), wrong[5] = {right, right, right, right, right};
    static const char *const names[] = {"no block", "no drift", "edge 0.80 for 0.875", "jumps 5 % rarer",
                                        "fair blocks"};
    (void)state;
    wrong[0].block = 0;
    wrong[1].drift = 0;
    wrong[2].edge = 0.8;
    wrong[3].jump *= 0.95;
    wrong[4].momentum = 0.5;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        double worst = walk_worst(&right, &wrong[i], HORIZON);
        print_message("%s: %.1f standard errors\n", names[i], worst);
        assert_true(worst > 6);
    }
}

/* Standardised sum of (label - p) over rows HORIZON apart, whose labels do not overlap, in one (regime, flow). */
static double calibration(const seen *s, oc_oracle *o, int group, int class)
{
    double sum = 0, variance = 0;
    for (size_t i = 0; i + HORIZON < s->count; i += HORIZON) {
        const oc_market_state *at = &s->rows[i].state;
        if ((at->regime > 0) * 2 + (at->flow > 0) != group) continue;
        double p = oc_oracle_ask(o, at)[class];
        sum += (label_of(s, i) == class) - p;
        variance += p * (1 - p);
    }
    assert_true(variance > 100);
    return sum / sqrt(variance);
}

/* Sum of squares of 12 standardised cells a run, several runs. A cell has mean 0 and variance 1, so a run's sum has
 * mean 12; the three cells of a group sum to nearly nothing: two eigenvalues of 1.5, and a deviation of 6. */
static double calibration_all(double signal, double claimed)
{
    enum { RUNS = 5, FIRST = 11 };
    oc_market_rates rates = oc_market_rates_standard(claimed);
    double chi = 0;
    for (uint64_t seed = FIRST; seed < FIRST + RUNS; seed++) {
        oc_oracle *o;
        assert_int_equal(oc_oracle_open(&o, &rates, HORIZON, threshold), OC_OK);
        market_make("calibration", 400000, seed, 10, signal);
        seen s = market_read("calibration.events", 10);
        for (int group = 0; group < 4; group++) {
            for (int class = 0; class < 3; class++) chi += pow(calibration(&s, o, group, class), 2);
        }
        oc_oracle_close(o);
        oc_memory_free(s.rows);
    }
    print_message("signal %.2f, oracle told %.2f: %.1f over %d seeds\n", signal, claimed, chi, RUNS);
    return chi;
}

/* Five runs: mean 60, deviation 13.4; 115 lies 4 deviations out. Other 60 runs at signal 0.5
 * measured 13.0 each (12 +- 0.8). A claim that is wrong by 0.1 to 0.15 gives 77 and more a run. */
static void test_calibration(void **state)
{
    (void)state;
    assert_true(calibration_all(0, 0) < 115);
    assert_true(calibration_all(0.5, 0.5) < 115);
    assert_true(calibration_all(0.8, 0.8) < 115);
    assert_true(calibration_all(0.5, 0.35) > 200);
    assert_true(calibration_all(0, 0.1) > 200);
}

/* What the planted signal is worth, and that nothing is there at 0. */
static void test_worth(void **state)
{
    static const struct { double signal, gap_min, gap_max; } cases[] = {
        {0, 0, 0.001}, {0.5, 0.12, 0.2}, {0.8, 0.15, 0.25},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oc_simulate_result r = market_make("worth", 300000, 7, 10, cases[i].signal);
        double majority = fmax(r.share[0], fmax(r.share[1], r.share[2])), gap = r.best_accuracy - majority;
        print_message("signal %.1f: majority %.4f, best %.4f, gap %.4f\n", cases[i].signal, majority, r.best_accuracy,
                      gap);
        assert_true(gap >= cases[i].gap_min && gap <= cases[i].gap_max);
        assert_true(fmin(r.share[0], fmin(r.share[1], r.share[2])) > 0.28 && majority < 0.4);
        assert_true(r.events >= 300000 && r.events < 300200 && r.rows > 5300 * 300000 / 120000 && r.first_ns > 0);
    }
}

static void test_repeatable(void **state)
{
    oc_hash first[2], again[2], other[2];
    char path[128];
    (void)state;
    for (int i = 0; i < 3; i++) {
        oc_hash *h = i == 0 ? first : i == 1 ? again : other;
        market_make("same", 50000, i == 2 ? 6 : 5, 10, 0.5);
        assert_int_equal(oc_hash_file(path_of("same.events", path, sizeof path), &h[0]), OC_OK);
        assert_int_equal(oc_hash_file(path_of("same.truth", path, sizeof path), &h[1]), OC_OK);
    }
    assert_true(oc_hash_equal(first[0], again[0]) && oc_hash_equal(first[1], again[1]));
    assert_false(oc_hash_equal(first[0], other[0]) || oc_hash_equal(first[1], other[1]));
}

static bool truth_opens(const char *path)
{
    oc_truth *t;
    if (oc_truth_open(&t, path) != OC_OK) return false;
    oc_truth_close(t);
    return true;
}

/* Every bit flip and every cut of a small file is refused; so is a file with something added. */
static void test_damage(void **state)
{
    char good[128], bad[128], *data;
    size_t bytes;
    (void)state;
    market_make("damage", 60, 9, 2, 0.5);
    path_of("damage.truth", good, sizeof good);
    path_of("bad.truth", bad, sizeof bad);
    assert_int_equal(oc_file_read(good, 1 << 20, &data, &bytes), OC_OK);
    assert_true(truth_opens(good) && bytes > 168 + 5 * 32 && bytes < 4096);
    FILE *file = fopen(bad, "wb+");
    assert_non_null(file);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        rewind(file);
        assert_true(fwrite(data, 1, bytes, file) == bytes && fflush(file) == 0);
        if (truth_opens(bad)) fail_msg("flip of bit %zu of byte %zu goes unseen", bit % 8, bit / 8);
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
    }
    rewind(file);
    assert_true(fwrite(data, 1, bytes, file) == bytes && fputc(0, file) == 0 && fflush(file) == 0);
    assert_false(truth_opens(bad));
    for (size_t cut = bytes; cut-- > 0;) {
        assert_int_equal(ftruncate(fileno(file), (off_t)cut), 0);
        if (truth_opens(bad)) fail_msg("a cut to %zu bytes goes unseen", cut);
    }
    fclose(file);
    oc_memory_free(data);
}

static void test_label_parse(void **state)
{
    static const struct { const char *text; uint32_t horizon; double threshold; bool good; } cases[] = {
        {"direction:12:0.0003", 12, 0.0003, true}, {"direction:1:0", 1, 0, true},
        {"direction:128:1e-4", 128, 1e-4, true},
        {"direction:0:0.1", .good = false}, {"direction:129:0.1", .good = false}, {"direction:12", .good = false},
        {"direction:12:", .good = false}, {"direction:12:nan", .good = false}, {"direction:12:-0.1", .good = false},
        {"direction:-1:0.1", .good = false}, {"direction: 3:0.1", .good = false}, {"direction:12:0.1x", .good = false},
        {"direction:12:1", .good = false}, {"smooth:12:0.1", .good = false}, {"", .good = false},
        {"direction:99999999999999999999:0.1", .good = false}, {"direction:12:inf", .good = false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t horizon = 0;
        double value = -1;
        oc_status status = oc_simulate_label_parse(cases[i].text, &horizon, &value);
        assert_int_equal(status, cases[i].good ? OC_OK : OC_EUSAGE);
        if (cases[i].good) assert_true(horizon == cases[i].horizon && value == cases[i].threshold);
    }
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/outcry-simulate-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"book", "calibration", "worth", "same", "damage", "bad"};
    char path[128], name[80];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int truth = 0; truth < 2; truth++) {
            snprintf(name, sizeof name, "%s.%s", names[i], truth ? "truth" : "events");
            unlink(path_of(name, path, sizeof path));
        }
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_book_and_state), cmocka_unit_test(test_oracle_by_walks),
        cmocka_unit_test(test_planted_faults), cmocka_unit_test(test_calibration),
        cmocka_unit_test(test_worth),          cmocka_unit_test(test_repeatable),
        cmocka_unit_test(test_damage),         cmocka_unit_test(test_label_parse),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
