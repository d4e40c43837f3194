/* test_versions.c - a trading loop asks for one version of a model; the server's operator makes another one live. What
 * it would catch: an answer of the other version taken for one of the wanted. */
#include "base/cmocka_all.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "nn/sample_bundle.h"
#include "serve/models_server.h"
#include "serve/models_state.h"
#include "serve/server.h"
#include "trade/predictors/server.h"

enum { T = 6, F = 5 };

static void turn(const char *repository, const char *socket, const char *version)
{
    char wanted[64];
    oc_models_state state;
    json_t *said;
    snprintf(wanted, sizeof wanted, "sample/%s", version);
    assert_int_equal(oc_models_promote(repository, wanted, &state), OC_OK);
    if (oc_models_server_await(socket, repository, "sample", version, false, 60 * OC_SECOND_NS, &said) != OC_OK)
        fail_msg("%s", oc_status_message());
    json_decref(said);
}

static oc_prediction ask(oc_predictor *p, uint64_t number)
{
    float x[F];
    bool made = false;
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, 1, number);
    for (int i = 0; i < F; i++) x[i] = (float)(4 * oc_random_uniform(key, (uint64_t)i) - 2);
    const oc_feature_row row = {.time_ns = (int64_t)number, .run_length = (uint32_t)number, .x = x};
    oc_prediction prediction = {.sequence = number};
    assert_int_equal(p->predict(p->context, &row, &prediction, &made), OC_OK);
    assert_true(made == (number >= T)); /* fewer rows than a window: no prediction */
    return prediction;
}

static void other_version_holds(void **state)
{
    static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 1, 8, 2, 1};
    char folder[] = "/tmp/oc_versions_XXXXXX", repository[64], socket[64], path[96], command[64];
    oc_bundle *b = NULL;
    oc_server *server;
    oc_server_predictor *predictor;
    oc_models_state live;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(repository, sizeof repository, "%s/models", folder);
    snprintf(socket, sizeof socket, "%s/s", folder);
    for (int i = 1; i <= 2; i++) {
        oc_bundle_close(b);
        assert_int_equal(sample_bundle(&b, &shape, 3.0f, 4.0, (uint64_t)i), OC_OK);
        snprintf(b->version, sizeof b->version, "%d", i);
        snprintf(path, sizeof path, "%s/sample/%d", repository, i);
        assert_int_equal(oc_bundle_save(b, path), OC_OK);
    }
    assert_int_equal(oc_models_promote(repository, "sample/1", &live), OC_OK);
    const oc_server_config config = {.repository = repository,
                                     .socket = socket,
                                     .threads = 1,
                                     .batch_max = 4,
                                     .clients_max = 2,
                                     .sessions_max = 2,
                                     .ring_bytes = 4096,
                                     .memory_max_bytes = 64 << 20,
                                     .advance_budget = 0.9,
                                     .backend = {.kind = OC_BACKEND_CPU}};
    if (oc_server_open(&server, &config) != OC_OK) fail_msg("%s", oc_status_message());
    oc_instrument instrument = {.symbol = "SIM"};
    const oc_server_options options = {
        .socket = socket,
        .wanted = {.name = "sample", .version = "1", .schema = b->schema, .steps = T, .inputs = F, .horizons = 1},
        .universe = &instrument,
        .instruments = 1,
        .period_ns = OC_SECOND_NS,
        .wait_ns = 20 * OC_SECOND_NS};
    if (oc_server_predictor_open(&predictor, &options) != OC_OK) fail_msg("%s", oc_status_message());
    oc_predictor p = oc_server_predictor_of(predictor);
    for (uint64_t i = 1; i <= 4 * T; i++) {
        if (i == 2 * T) turn(repository, socket, "2");
        if (i == 3 * T) turn(repository, socket, "1");
        const oc_prediction made = ask(&p, i);
        const bool other = i >= 2 * T && i < 3 * T;
        if (i >= T) assert_int_equal(made.state, other ? OC_PREDICTION_HOLD : OC_PREDICTION_OK);
        if (other) assert_true(made.buy == 0 && made.sell == 0 && made.hold == 1);
    }
    const oc_server_counts n = oc_server_predictor_counts(predictor);
    assert_true(n.other_version == T && n.answered == 4 * T - (T - 1) - T && n.lost == 0);
    oc_server_predictor_close(predictor);
    oc_server_close(server);
    oc_bundle_close(b);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(other_version_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
