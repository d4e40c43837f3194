/* test_infer.c - requests as bytes, without a network: what is taken, what is refused and with which word, and that
 * numbers keep their bits on the way out and in. What it would catch: a number rounded twice, a shape believed, a body
 * read beyond its end. */
#include "base/cmocka_all.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/json.h"
#include "nn/sample_bundle.h"
#include "serve/client/wire.h"
#include "serve/http/infer.h"
#include "serve/http/scan.h"

static const oc_model_shape shape = {OC_TRUNK_MLP, 2, 3, 1, 4, 0, 2}; /* windows [2,3], answers [2,3] */
enum { CELLS = 6, BATCH_MAX = 4, CAP = 64 };

#define INPUT(shape, rest) "{\"inputs\":[{\"name\":\"window\",\"shape\":" shape ",\"datatype\":\"FP32\"" rest "}]}"
#define MORE(rest)                                                                                                     \
    "{" rest ",\"inputs\":[{\"name\":\"window\",\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[" SIX "]}]}"
#define SIX "1,2,3.5,-4e-1,0,1e2"
static const struct {
    const char *body;
    const char *refusal;
    size_t batch;
} cases[] = {
    {INPUT("[1,2,3]", ",\"data\":[" SIX "]"), NULL, 1},
    {INPUT("[1,2,3]", ",\"data\":[[[1,2,3.5],[-4e-1,0,1e2]]]"), NULL, 1},
    {INPUT("[2,2,3]", ",\"data\":[" SIX "," SIX "]"), NULL, 2},
    {" { \"id\" : \"a\\\"b\", \"inputs\" : [ { \"data\" : [ " SIX
     " ] , \"name\":\"window\",\"shape\":[1,2,3],\"datatype\":\"FP32\"} ] } ",
     NULL, 1},
    {INPUT("[1,2,3]", ",\"data\":[1,2,3,4,5]"), "holds 5 numbers", 0},
    {INPUT("[1,2,3]", ",\"data\":[" SIX ",7]"), "holds 7 numbers", 0},
    {INPUT("[1,2,3]", ",\"data\":[1,2,3,4,5,nan]"), "number 5", 0},
    {INPUT("[1,2,3]", ",\"data\":[1,2,3,4,5,1e39]"), "number 5", 0},
    {INPUT("[1,2,3]", ",\"data\":[01,2,3,4,5,6]"), "number 0", 0},
    {INPUT("[1,2,3]", ",\"data\":[1,,2]"), "number 1", 0},
    {INPUT("[1,2,3]", ",\"data\":[1 2]"), "number 1", 0},
    {INPUT("[1,2,3]", ",\"data\":[1.]"), "number 0", 0},
    {INPUT("[1,2,3]", ",\"data\":[0x1]"), "number 1", 0},
    {INPUT("[1,2,3]", ",\"data\":[1,2,3"), "number", 0},
    {INPUT("[1,2,3]", ",\"data\":[1,]"), "number 1", 0},
    {INPUT("[1,2,3]", ",\"data\":[" SIX "],\"data\":[" SIX "]"), "second", 0},
    {INPUT("[1,2,3]", ",\"d\\u0061ta\":[" SIX "]"), "holds 0 numbers", 0},
    {"{\"outputs\":[{\"name\":\"probabilities\",\"data\":[" SIX
     "]}],\"inputs\":[{\"name\":\"window\",\"shape\":[1,2,3],"
     "\"datatype\":\"FP32\",\"data\":\"x\"}]}",
     "holds 6 numbers", 0}, /* another tensor's numbers are not this one's */
    {INPUT("[1,2,3]", ",\"data\":null,\"x\":[" SIX "]"), "holds 0 numbers", 0},
    {INPUT("[1,2,3]", ",\"parameters\":{\"shared_memory_region\":\"a\"},\"data\":[" SIX "]"), "shared_memory_region",
     0},
    {MORE("\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"classification\":2}}]"), "classification", 0},
    {MORE("\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":1}}]"), "binary_data", 0},
    {MORE("\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":false}}]"), NULL, 1},
    {MORE("\"outputs\":[{\"name\":\"logits\"}]"), "probabilities", 0},
    {MORE("\"outputs\":[{\"name\":\"probabilities\"},{\"name\":\"probabilities\"}]"), "at most one", 0},
    {MORE("\"outputs\":[]"), NULL, 1},
    {MORE("\"parameters\":{\"sequence_start\":1}"), "sequence_start", 0},
    {MORE("\"parameters\":{\"sequence_end\":\"true\"}"), "sequence_end", 0},
    {MORE("\"parameters\":{\"binary_data_output\":\"true\"}"), "binary_data_output", 0},
    {MORE("\"parameters\":{\"priority\":0,\"timeout\":0,\"own\":{}}"), NULL, 1},
    {MORE("\"id\":\"a\\nb\""), "id", 0},
    {MORE("\"id\":7"), "id", 0},
    {INPUT("[1,3,2]", ",\"data\":[" SIX "]"), "shape", 0},
    {INPUT("[0,2,3]", ",\"data\":[]"), "shape", 0},
    {INPUT("[-1,2,3]", ",\"data\":[" SIX "]"), "shape", 0},
    {INPUT("[5,2,3]", ",\"data\":[" SIX "]"), "batch of 5", 0},
    {INPUT("[4611686018427387904,2,3]", ",\"data\":[" SIX "]"), "batch", 0},
    {INPUT("[6]", ",\"data\":[" SIX "]"), "shape", 0},
    {INPUT("[1,2,3]", ""), "0 bytes follow", 0},
    {"{\"inputs\":[{\"name\":\"rows\",\"shape\":[1,2,3],\"datatype\":\"FP32\",\"data\":[" SIX "]}]}", "window", 0},
    {"{\"inputs\":[{\"name\":\"window\",\"shape\":[1,2,3],\"datatype\":\"FP64\",\"data\":[" SIX "]}]}", "FP32", 0},
    {"{\"inputs\":[]}", "inputs", 0},
    {"{\"inputs\":{}}", "inputs", 0},
    {"{}", "inputs", 0},
    {"[]", "inputs", 0},
    {"", "request", 0},
    {"{\"inputs\":", "request", 0},
    {"[[[[[[[[", "request", 0},
};

static oc_bundle *model;
static int setup(void **state)
{
    (void)state;
    return sample_bundle(&model, &shape, 1.0f, 4.0, 5) == OC_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    oc_bundle_close(model);
    return 0;
}

/* In a buffer of exactly its size and the one byte that is promised, so that a sanitizer sees every step beyond. */
static oc_status parse(oc_infer *r, const void *text, size_t bytes, int64_t json_bytes)
{
    char *body = malloc(bytes + 1);
    assert_non_null(body);
    memcpy(body, text, bytes);
    const oc_status status = oc_infer_parse(r, model, BATCH_MAX, body, bytes, json_bytes);
    free(body);
    return status;
}

static void bodies(void **state)
{
    static const float six[CELLS] = {1, 2, 3.5f, -0.4f, 0, 100};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float values[CAP];
        oc_infer r = {.values = values, .values_cap = CAP};
        const oc_status status = parse(&r, cases[i].body, strlen(cases[i].body), -1);
        if ((status == OC_OK) != !cases[i].refusal)
            fail_msg("case %zu: %s", i, status == OC_OK ? "taken" : oc_status_message());
        if (cases[i].refusal && !strstr(oc_status_message(), cases[i].refusal))
            fail_msg("case %zu: \"%s\"", i, oc_status_message());
        if (cases[i].refusal) continue;
        assert_int_equal(r.batch, cases[i].batch);
        for (size_t k = 0; k < r.batch; k++) assert_memory_equal(values + k * CELLS, six, sizeof six);
    }
}

static void binary(void **state)
{
    const char *json = "{\"inputs\":[{\"name\":\"window\",\"shape\":[1,2,3],\"datatype\":\"FP32\",\"parameters\":{"
                       "\"binary_data_size\":24}}],"
                       "\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":true}}]}";
    const float six[CELLS] = {1, -2, 3e-40f, 4, 5, 6};
    float values[CAP];
    char body[512];
    oc_infer r = {.values = values, .values_cap = CAP};
    const size_t n = strlen(json);
    (void)state;
    memcpy(body, json, n);
    memcpy(body + n, six, sizeof six);
    assert_int_equal(parse(&r, body, n + sizeof six, (int64_t)n), OC_OK);
    assert_memory_equal(values, six, sizeof six);
    assert_true(r.binary);
    for (size_t bytes = 0; bytes < n + sizeof six; bytes++)
        assert_int_not_equal(parse(&r, body, bytes, (int64_t)n), OC_OK);
    for (int64_t json_bytes = -1; json_bytes < (int64_t)(n + sizeof six + 3); json_bytes++)
        if (json_bytes != (int64_t)n) assert_int_not_equal(parse(&r, body, n + sizeof six, json_bytes), OC_OK);
}

/* Random floats as a client may print them: nine digits, seventeen, the shortest that %g finds, plain decimals. */
static void bits(void **state)
{
    static const int digits[] = {9, 17, 16};
    const uint32_t key = oc_random_key(3, OC_RANDOM_TEST, 0, 0);
    size_t plain = 0;
    (void)state;
    for (uint64_t i = 0; i < 40000; i++) {
        char text[128];
        float value, got[1];
        uint32_t word = (uint32_t)oc_random_philox(key, i);
        bool found;
        size_t count, bytes;
        memcpy(&value, &word, sizeof value);
        if (i % 4 == 3) value = (float)(oc_random_uniform(key, i) * 8 - 4);
        if (!isfinite(value)) continue;
        char number[80]; /* %.12f only where the value is small */
        if (i % 4 == 3)
            snprintf(number, sizeof number, "%.12f", (double)value);
        else
            snprintf(number, sizeof number, "%.*g", digits[i % 4], (double)value);
        bytes = (size_t)snprintf(text, sizeof text, "{\"x\":[{\"data\":[%s]}]}", number);
        assert_int_equal(oc_scan_data(text, &bytes, got, 1, &count, &found), OC_OK);
        value = strtof(number, NULL);
        assert_true(found && count == 1);
        assert_memory_equal(got, &value, sizeof value);
        assert_int_equal(strncmp(text, "{\"x\":[{\"data\":[]}]}", bytes), 0);
        plain++;
    }
    for (unsigned i = 0; i < 200000; i++) { /* the short way: small decimals */
        char text[64];
        float got[1];
        size_t count, bytes = (size_t)snprintf(text, sizeof text, "{\"x\":[{\"data\":[%u.%0*u]}]}", i % 90,
                                               (int)(i % 5) + 1, i % 7);
        bool found;
        const float want = strtof(strchr(text, '[') + 10, NULL);
        assert_int_equal(oc_scan_data(text, &bytes, got, 1, &count, &found), OC_OK);
        assert_memory_equal(got, &want, sizeof want);
    }
    assert_true(plain > 30000);
}

/* Whatever byte stands behind one to seventeen digits of a fraction, only a digit is taken for one. */
static void no_digits(void **state)
{
    static const char ends[] = ",] \t\n\reE0123456789";
    size_t refused = 0;
    (void)state;
    for (int count = 1; count <= 17; count++)
        for (int byte = 1; byte < 256; byte++) {
            char text[96];
            float got[2];
            bool found;
            size_t values, bytes = (size_t)snprintf(text, sizeof text, "{\"x\":[{\"data\":[2.%.*s%c,5]}]}", count,
                                                    "12345678901234567", byte);
            if (strchr(ends, byte)) continue;
            assert_int_equal(oc_scan_data(text, &bytes, got, 2, &values, &found), OC_EDATA);
            refused++;
        }
    assert_int_equal(refused, 17 * (255 - (sizeof ends - 1)));
}

/* Numbers next to the middle of two f32, where one rounding too many would show: in as many digits as f64 prints. */
static void middles(void **state)
{
    const uint32_t key = oc_random_key(6, OC_RANDOM_TEST, 0, 0);
    size_t hard = 0;
    (void)state;
    for (uint64_t i = 0; i < 120000; i++) {
        char text[128], number[80];
        float value, got[1];
        uint32_t word = (uint32_t)oc_random_philox(key, i) & 0x7fffffffu;
        bool found;
        size_t count, bytes;
        if (i % 2) word = 0x3a000000u + (word >> 6); /* 0.0005 to 1e6: the short way */
        memcpy(&value, &word, sizeof value);
        const float next = nextafterf(value, HUGE_VALF);
        if (!isfinite(next)) continue;
        double middle = ((double)value + (double)next) / 2;
        for (uint64_t k = 0; k < i / 2 % 7; k++) middle = nextafter(middle, i % 3 ? HUGE_VAL : 0);
        snprintf(number, sizeof number, "%.*g", 15 + (int)(i % 5), middle);
        bytes = (size_t)snprintf(text, sizeof text, "{\"x\":[{\"data\":[%s]}]}", number);
        assert_int_equal(oc_scan_data(text, &bytes, got, 1, &count, &found), OC_OK);
        const float want = strtof(number, NULL);
        assert_memory_equal(got, &want, sizeof want);
        hard += want != (float)strtod(number, NULL); /* two roundings are not one */
    }
    assert_true(hard > 100);
}

/* Answers: nine digits come back as the same bits; a flipped bit would not. */
static void answers(void **state)
{
    float p[CELLS * BATCH_MAX], back;
    char out[4096];
    size_t json_bytes;
    oc_infer r = {.batch = BATCH_MAX, .id = "x"};
    const uint32_t key = oc_random_key(4, OC_RANDOM_TEST, 0, 0);
    (void)state;
    for (int i = 0; i < CELLS * BATCH_MAX; i++) p[i] = (float)oc_random_uniform(key, (uint64_t)i);
    p[0] = 1e-30f;
    const oc_infer_answer answer = {.probabilities = p, .times = {1, 2}, .state = OC_REPLY_OK, .version = "7"};
    const size_t bytes = oc_infer_print(&r, model, &answer, out, sizeof out, &json_bytes);
    assert_true(bytes > 0 && bytes == json_bytes && bytes < oc_infer_answer_bytes(model, BATCH_MAX));
    const char *at = strstr(out, "\"data\":[");
    assert_non_null(at);
    at += strlen("\"data\":");
    for (int i = 0; i < CELLS * BATCH_MAX; i++) {
        char *stop;
        back = strtof(at + 1, &stop);
        assert_memory_equal(&back, &p[i], sizeof back);
        uint32_t word;
        memcpy(&word, &back, sizeof word);
        word ^= 1;
        assert_memory_not_equal(&word, &p[i], sizeof word);
        at = stop;
    }
    assert_int_equal(oc_infer_print(&r, model, &answer, out, 100, &json_bytes), 0);
}

/* An id comes back as it was; the longest one that is taken has room. */
static void names(void **state)
{
    char body[1024], id[OC_INFER_ID], out[8192];
    float values[CAP];
    size_t json_bytes;
    json_t *said;
    oc_infer r = {.values = values, .values_cap = CAP};
    const char *const ids[] = {"a", "\xc3\xa9\xe2\x82\xac \\\"\\\\", id};
    (void)state;
    for (size_t i = 0; i + 1 < sizeof id; i++) id[i] = '~';
    id[sizeof id - 1] = 0;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        snprintf(body, sizeof body, MORE("\"id\":\"%s\",\"parameters\":{\"sequence_id\":\"%.40s\"}"), ids[i], ids[i]);
        assert_int_equal(parse(&r, body, strlen(body), -1), OC_OK);
        const oc_infer_answer answer = {.probabilities = values, .state = OC_REPLY_OK, .version = "7"};
        const size_t bytes = oc_infer_print(&r, model, &answer, out, sizeof out, &json_bytes);
        assert_int_equal(oc_json_parse(out, bytes, "answer", &said), OC_OK);
        assert_string_equal(json_string_value(json_object_get(said, "id")), r.id);
        assert_string_equal(json_string_value(json_object_get(json_object_get(said, "parameters"), "sequence_id")),
                            r.sequence_id);
        json_decref(said);
        assert_true(strchr(ids[i], '\\') || strcmp(r.id, ids[i]) == 0);
    }
    snprintf(body, sizeof body, MORE("\"id\":\"%s~\""), id);
    assert_int_not_equal(parse(&r, body, strlen(body), -1), OC_OK);
}

/* Numbers of sequences are of 64 bits without a sign; what is none, or is not the request's own, is left alone. */
static void large_ids(void **state)
{
    static const struct {
        const char *parameters, *id; /* NULL: refused */
    } rows[] = {
        {"\"sequence_id\":9223372036854775807", "9223372036854775807"},
        {"\"sequence_id\" : 9223372036854775808", "9223372036854775808"},
        {"\"sequence_id\":18446744073709551615", "18446744073709551615"},
        {"\"sequence_id\":18446744073709551616", NULL},
        {"\"sequence_id\":99999999999999999999", NULL},
        {"\"sequence_id\":184467440737095516150", NULL},
        {"\"sequence_id\":9999999999999999999.5", NULL},
        {"\"sequence_id\":9999999999999999999e1", NULL},
        {"\"sequence_id\":-9999999999999999999", NULL},
        {"\"sequence_id\":\"9999999999999999999\"", "9999999999999999999"},
        {"\"own\":{\"sequence_id\":9999999999999999999}", ""},
        {"\"own\":{\"sequence_id\":9999999999999999999},\"sequence_id\":5", NULL},
        {"\"own\":\"\\\"sequence_id\\\":9999999999999999999\",\"sequence_id\":5", "5"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[512];
        float values[CAP];
        oc_infer r = {.values = values, .values_cap = CAP};
        snprintf(body, sizeof body, MORE("\"parameters\":{%s}"), rows[i].parameters);
        const oc_status status = parse(&r, body, strlen(body), -1);
        if ((status == OC_OK) != (rows[i].id != NULL)) fail_msg("row %zu: %d", i, status);
        if (rows[i].id) assert_string_equal(r.sequence_id, rows[i].id);
    }
    for (size_t bytes = 0; bytes < 60; bytes++) { /* an end anywhere */
        float values[CAP];
        oc_infer r = {.values = values, .values_cap = CAP};
        assert_int_not_equal(parse(&r, "{\"parameters\":{\"sequence_id\":9999999999999999999 } }", bytes % 54, -1),
                             OC_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies),    cmocka_unit_test(binary),  cmocka_unit_test(bits),  cmocka_unit_test(middles),
        cmocka_unit_test(no_digits), cmocka_unit_test(answers), cmocka_unit_test(names), cmocka_unit_test(large_ids)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
