/* test_tether.c - a tether over the real socket while its server goes away, comes back, ends the session and is slow.
 * Oracle: oc_model_predict on the last T rows, bit by bit: a tether that loses a row, or hands in another, is seen.
 * Weights are enlarged. */
#include "base/cmocka_all.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "serve/client/tether.h"
#include "serve/served.h"

enum { T = 12, F = 5, OUTPUTS = 6, PERIOD = 1000000 };

typedef struct fixture {
    served at;
    oc_bundle *bundle;
    oc_model *model;
    uint64_t number; /* of the last row */
    uint32_t run;
} fixture;

static void server_start(fixture *f)
{
    oc_server_config config = served_config(&f->at);
    config.session_idle_ns = 5 * PERIOD;
    served_start(&f->at, &config);
}

static int setup(void **state)
{
    static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, 16, 2, 2};
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    fixture *f = calloc(1, sizeof *f);
    if (!f) return -1;
    served_make(&f->at);
    f->bundle = served_bundle(&f->at, &shape);
    assert_int_equal(oc_model_open(&f->model, f->bundle, &cpu, 1), OC_OK);
    server_start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    served_remove(&f->at);
    oc_model_close(f->model);
    oc_bundle_close(f->bundle);
    free(f);
    return 0;
}

static void row_make(float *row, uint64_t number)
{
    const uint32_t key = oc_random_key(17, OC_RANDOM_TEST, number, 0);
    for (int i = 0; i < F; i++) row[i] = (float)(4 * oc_random_uniform(key, (uint64_t)i) - 2);
}

static oc_tether *tether_of(const fixture *f, int64_t timeout_ns)
{
    const oc_tether_config config = {
        .address = f->at.address, .symbol = "EURUSD", .period_ns = PERIOD, .timeout_ns = timeout_ns, .spin_ns = 20000};
    oc_tether *l;
    if (oc_tether_open(&l, &config) != OC_OK) fail_msg("%s", oc_status_message());
    return l;
}

static oc_status row_push(fixture *f, oc_tether *l, oc_wire_reply *reply)
{
    float row[F];
    row_make(row, ++f->number);
    return oc_tether_push(l, row, ++f->run, reply);
}

/* Pushes `count` rows; each answer is the oracle's, HOLD while the run is short. */
static void rows_check(fixture *f, oc_tether *l, int count)
{
    float window[T * F], want[OUTPUTS];
    oc_wire_reply reply;
    for (int i = 0; i < count; i++) {
        if (row_push(f, l, &reply) != OC_OK) fail_msg("row %d: %s", i, oc_status_message());
        assert_int_equal(reply.state, f->run >= T ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT);
        if (f->run < T) continue;
        for (uint64_t k = 0; k < T; k++) row_make(window + k * F, f->number + 1 - T + k);
        assert_int_equal(oc_model_predict(f->model, window, 1, want, OUTPUTS), OC_OK);
        assert_memory_equal(reply.probabilities, want, sizeof want);
    }
}

static void test_comes_back(void **state)
{
    fixture *f = *state;
    oc_wire_reply reply;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS), *hasty;
    rows_check(f, l, T + 5);
    served_stop(&f->at);
    server_start(f);
    rows_check(f, l, 3); /* as if nothing had been */
    assert_int_equal(oc_tether_connects(l), 2);
    oc_tether_close(l);

    f->run = 0; /* while no server is there, in little time */
    hasty = tether_of(f, 300000000);
    for (int i = 0; i < 5; i++) { /* a machine that is busy for so long answers later */
        const oc_status status = row_push(f, hasty, &reply);
        assert_true(status == OC_OK || status == OC_EAGAIN);
    }
    served_stop(&f->at);
    assert_int_equal(row_push(f, hasty, &reply), OC_EAGAIN);
    assert_non_null(strstr(oc_status_message(), f->at.socket));
    for (int i = 0; i < T; i++) assert_int_equal(row_push(f, hasty, &reply), OC_EAGAIN);
    server_start(f);
    oc_tether_close(hasty);
}

/* Rows of the time without a server count: the first answer afterwards is that of the whole window. */
static void test_outage(void **state)
{
    fixture *f = *state;
    oc_wire_reply reply;
    f->run = 0;
    oc_tether *l = tether_of(f, 5 * OC_SECOND_NS);
    rows_check(f, l, T - 2);
    served_stop(&f->at);
    assert_int_equal(row_push(f, l, &reply), OC_EAGAIN);
    server_start(f);
    rows_check(f, l, 4);
    oc_tether_close(l);
}

/* Until the server has ended the session, as it does with idle ones once a second. */
static void session_end_await(const fixture *f)
{
    for (int i = 0;; i++) {
        oc_text text = {0};
        oc_server_metrics(f->at.server, &text);
        const bool none = strstr(text.data, "\noutcry_sessions 0\n") != NULL;
        oc_text_free(&text);
        if (none) return;
        if (i > 6000) fail_msg("an idle session is not ended");
        usleep(10000);
    }
}

static void test_idle(void **state)
{
    fixture *f = *state;
    f->run = 0;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS);
    rows_check(f, l, T + 1);
    session_end_await(f);
    rows_check(f, l, 2);
    assert_int_equal(oc_tether_connects(l), 1);
    oc_tether_close(l);
}

static void test_values(void **state)
{
    fixture *f = *state;
    oc_wire_reply reply;
    float row[F] = {0}, window[T * F], want[OUTPUTS];
    f->run = 0;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS);
    rows_check(f, l, T);
    row[2] = (float)NAN;
    f->number++;
    assert_int_equal(oc_tether_push(l, row, ++f->run, &reply), OC_OK);
    assert_int_equal(reply.state, OC_REPLY_REFUSED_VALUE);
    f->run = 0;
    rows_check(f, l, 3);
    served_stop(&f->at);
    server_start(f);
    rows_check(f, l, T); /* what lay before the refused row does not come back */
    for (uint64_t k = 0; k < T; k++) row_make(window + k * F, k);
    assert_int_equal(oc_model_predict(f->model, window, 1, want, OUTPUTS), OC_OK);
    assert_int_equal(oc_tether_window(l, window, T, &reply), OC_OK);
    assert_memory_equal(reply.probabilities, want, sizeof want);
    assert_int_equal(oc_tether_window(l, window, T - 1, &reply), OC_EUSAGE);
    oc_tether_close(l);
}

static void test_usage(void **state)
{
    const fixture *f = *state;
    oc_wire_reply reply;
    float row[F] = {0};
    oc_tether *l;
    oc_tether_config config = {.address = f->at.address, .timeout_ns = OC_SECOND_NS};
    assert_int_equal(oc_tether_open(&l, &config), OC_OK); /* no symbol: windows only */
    assert_int_equal(oc_tether_push(l, row, 1, &reply), OC_EUSAGE);
    oc_tether_close(l);
    config.timeout_ns = 0;
    assert_int_equal(oc_tether_open(&l, &config), OC_EUSAGE);
    config = (oc_tether_config){.address = f->at.address, .symbol = "X", .timeout_ns = OC_SECOND_NS};
    assert_int_equal(oc_tether_open(&l, &config), OC_EUSAGE);
    config = (oc_tether_config){.address = "unix:/tmp/nobody-is-there", .timeout_ns = OC_SECOND_NS};
    assert_int_equal(oc_tether_open(&l, &config), OC_EAGAIN);
    oc_tether_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_usage), cmocka_unit_test(test_comes_back),
                                       cmocka_unit_test(test_outage), cmocka_unit_test(test_idle),
                                       cmocka_unit_test(test_values)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
