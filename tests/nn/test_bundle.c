/* test_bundle.c - a bundle comes back as it was saved, and nothing else is ever taken for one.
 * Oracle: the bytes themselves: every single bit of both files is flipped, and both are cut at every length.
 * Harness proven by a run in which the hashes are mended after the flip: then some flips must be accepted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/bundle.h"
#include "nn/bundle_json.h"
#include "nn/safetensors.h"

#define OK(expression)                                                                                                 \
    do {                                                                                                               \
        if ((expression) != OC_OK) fail_msg("%s: %s", #expression, oc_status_message());                               \
    } while (0)

static char folder[64], json_path[128], weights_path[128];

static void text_set(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text);
}

static oc_bundle *sample(void)
{
    const oc_model_shape shape = {OC_TRUNK_LSTM, 5, 2, 1, 4, 2, 2};
    oc_bundle *b;
    oc_parameters p;
    OK(oc_bundle_new(&b, &shape, 2));
    text_set(b->name, sizeof b->name, "tiny-1");
    text_set(b->version, sizeof b->version, "1");
    text_set(b->build, sizeof b->build, "test");
    text_set(b->created, sizeof b->created, "2020-01-01 00:00:00.000000000Z");
    text_set(b->features[0], sizeof b->features[0], "return:1");
    text_set(b->features[1], sizeof b->features[1], "spread");
    text_set(b->labels[0], sizeof b->labels[0], "direction:10:0.0002");
    text_set(b->labels[1], sizeof b->labels[1], "direction:20:0.0002");
    text_set(b->fold_name, sizeof b->fold_name, "fold-0");
    for (int i = 0; i < 2; i++) {
        b->mean[i] = 0.1 * (i + 1);
        b->scale[i] = 1.0 / 3.0 + i;
        b->temperature[i] = 1.25 - 0.5 * i;
        snprintf(b->seen[i].symbol, sizeof b->seen[i].symbol, "S%d", i);
        b->seen[i].first_ns = INT64_C(1234567890123456789) + i;
        b->seen[i].last_ns = INT64_C(1234567890123456799) + i;
    }
    b->clip = 8;
    b->schema = (oc_hash){1, 2};
    b->dataset = (oc_hash){3, 4};
    b->fold = (oc_hash){5, 6};
    b->seed = 7;
    b->train_steps = 4242;
    oc_parameters_describe(&p, &shape);
    oc_parameters_init(&p, 11, b->flat);
    return b;
}

static void plain_write(const char *path, const void *data, size_t bytes) /* no sync: no test waits for the disk */
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static bool loads(void)
{
    oc_bundle *b;
    oc_status status = oc_bundle_load(&b, folder);
    if (status == OC_OK)
        oc_bundle_close(b);
    else
        assert_true(oc_status_message()[0] != '\0' && status == OC_EDATA);
    return status == OC_OK;
}

static void round_trip(void **state)
{
    (void)state;
    oc_bundle *a = sample(), *b;
    oc_parameters p;
    OK(oc_bundle_save(a, folder));
    OK(oc_bundle_load(&b, folder));
    oc_parameters_describe(&p, &a->shape);
    assert_memory_equal(&a->shape, &b->shape, sizeof a->shape);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->created, b->created);
    assert_memory_equal(a->features, b->features, 2 * sizeof *a->features);
    assert_memory_equal(a->mean, b->mean, 2 * sizeof(double)); /* the doubles' bits */
    assert_memory_equal(a->scale, b->scale, 2 * sizeof(double));
    assert_memory_equal(a->temperature, b->temperature, sizeof a->temperature);
    assert_memory_equal(a->labels, b->labels, sizeof a->labels);
    assert_memory_equal(a->seen, b->seen, 2 * sizeof *a->seen);
    assert_memory_equal(a->flat, b->flat, p.total * sizeof(float));
    assert_true(oc_hash_equal(a->weights, b->weights) && oc_hash_equal(a->dataset, b->dataset) &&
                oc_hash_equal(a->fold, b->fold));
    assert_true(oc_hash_equal(a->schema, b->schema) && a->seed == b->seed && a->train_steps == b->train_steps &&
                a->clip == b->clip);
    oc_bundle_close(a);
    oc_bundle_close(b);
}

/* The same hash as the format's description says, by another way than bundle_json.c takes. */
static void reseal(char *text, size_t bytes)
{
    char digits[OC_HASH_TEXT];
    char *at = text + bytes - 4 - 32;
    memset(at, '0', 32);
    oc_hash_text(oc_hash_bytes(text, bytes), digits);
    memcpy(at, digits, 32);
}

/* Flips every bit (step 1) or a sample of them, in place: a file cut and written anew 60,000 times would wait for the
 * disk. Counts what is accepted. */
static size_t flips_accepted(const char *path, size_t step, bool mend, size_t *tried)
{
    char *good;
    size_t bytes, accepted = 0;
    OK(oc_file_read(path, 1 << 20, &good, &bytes));
    char *bad = malloc(bytes);
    int fd = open(path, O_WRONLY);
    assert_true(bad && fd >= 0);
    for (size_t bit = 0; bit < bytes * 8; bit += step, ++*tried) {
        memcpy(bad, good, bytes);
        bad[bit / 8] = (char)(bad[bit / 8] ^ 1 << bit % 8);
        if (mend && bit / 8 + 64 < bytes) reseal(bad, bytes);
        assert_int_equal(pwrite(fd, bad, bytes, 0), bytes);
        accepted += loads();
    }
    assert_int_equal(pwrite(fd, good, bytes, 0), bytes);
    assert_int_equal(close(fd), 0);
    free(bad);
    oc_memory_free(good);
    return accepted;
}

static size_t cuts_accepted(const char *path, size_t *tried)
{
    char *good;
    size_t bytes, accepted = 0;
    OK(oc_file_read(path, 1 << 20, &good, &bytes));
    for (size_t length = bytes; length-- > 0; ++*tried) {
        assert_int_equal(truncate(path, (off_t)length), 0);
        accepted += loads();
    }
    plain_write(path, good, bytes);
    oc_memory_free(good);
    return accepted;
}

static void every_bit_counts(void **state)
{
    (void)state;
    oc_bundle *a = sample();
    size_t tried = 0;
    OK(oc_bundle_save(a, folder));
    oc_bundle_close(a);
    assert_int_equal(flips_accepted(json_path, 1, false, &tried), 0);
    assert_int_equal(flips_accepted(weights_path, 1, false, &tried), 0);
    assert_int_equal(cuts_accepted(json_path, &tried), 0);
    assert_int_equal(cuts_accepted(weights_path, &tried), 0);
    assert_true(loads()); /* and undamaged it still loads */
    print_message("%zu damages\n", tried);
    assert_true(flips_accepted(json_path, 7, true, &tried) > 0); /* the injected fault: mended hashes */
}

/* Well-hashed but wrong: what a careless or hostile writer could make. */
typedef struct edit {
    const char *from, *to;
} edit;
static const edit edits[] = {
    {"\"steps\": 5", "\"steps\": 0"},
    {"\"steps\": 5", "\"steps\": 4097"},
    {"\"steps\": 5", "\"steps\": \"5\""},
    {"\"hidden\": 4", "\"hidden\": 4096"},
    {"\"hidden\": 4", "\"hidden\": 5"},
    {"\"hidden\": 4", "\"hidden\": 8"},
    {"\"heads\": 2", "\"heads\": 3"},
    {"\"layers\": 1", "\"layers\": 2"},
    {"\"horizons\": 2", "\"horizons\": 1"},
    {"\"inputs\": 2", "\"inputs\": 3"},
    {"\"clip\": 8.0", "\"clip\": -8.0"},
    {"\"clip\": 8.0", "\"clip\": 1e999"},
    {"\"tiny-1\"", "\"../../x\""},
    {"\"tiny-1\"", "\"\""},
    {"\"tiny-1\"", "\"a\\u0000b\""},
    {"\"version\": \"1\"", "\"version\": \"\""},
    {"\"version\": \"1\"", "\"version\": \"1\\\",x=\\\"\""}, /* labels of a metric of the server */
    {"\"version\": \"1\"", "\"version\": \"1/2\""},
    {"\"version\": \"1\"", "\"version\": \"..\""},
    {"\"version\": \"1\"", "\"version\": \"1\\n\""},
    {"\"ifgo\"", "\"iofc\""},
    {"\"return:1\"", "\"\""},
    {"\"return:1\"", "17"},
    {"0.33333333333333331", "0.0"},
    {"0.33333333333333331", "-1.0"},
    {"0.33333333333333331", "1e-60"},
    {"0.33333333333333331", "NaN"},
    {"1.25", "0.0"},
    {"1.25", "1e30"},
    {"\"format_version\": 1", "\"format_version\": 2"},
    {"outcry-bundle", "another"},
    {"\"seed\": 7", "\"seed\": -7"},
    {"\"last_ns\": 1234567890123456799", "\"last_ns\": 5"},
    {"\"bytes\": ", "\"bytes\": 1"},
    {"\"mean\"", "\"mean\": [1,2], \"mean\""},
    {"\"scaler\"", "\"skaler\""},
    {"\"weights_hash\": \"", "\"weights_hash\": \"0"},
    {"\"seen\": [", "\"seen\": [7, "},
};

static void wrong_fields(void **state)
{
    (void)state;
    oc_bundle *a = sample();
    char *good;
    size_t bytes;
    OK(oc_bundle_save(a, folder));
    OK(oc_file_read(json_path, 1 << 20, &good, &bytes));
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *bad = calloc(1, bytes + 256), *at = strstr(good, edits[i].from);
        assert_non_null(bad);
        if (!at) fail_msg("edit %zu: no %s in the bundle", i, edits[i].from);
        snprintf(bad, bytes + 256, "%.*s%s%s", (int)(at - good), good, edits[i].to, at + strlen(edits[i].from));
        reseal(bad, strlen(bad));
        plain_write(json_path, bad, strlen(bad));
        if (loads()) fail_msg("accepted: %s", edits[i].to);
        free(bad);
    }
    reseal(good, bytes); /* the resealer itself makes good bundles */
    plain_write(json_path, good, bytes);
    assert_true(loads());
    oc_memory_free(good);
    oc_bundle_close(a);
}

typedef struct header {
    const char *text;
    bool good;
} header;
#define ENTRY(name, shape, offsets) "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
/* An MLP of one input and two hidden: trunk.0.weight [2,1], trunk.0.bias [2], head.0 [1,2] [1], head.3 [3,1] [3] */
#define REST                                                                                                           \
    ENTRY("head.0.weight", "[1,2]", "[16,24]")                                                                         \
    "," ENTRY("head.0.bias", "[1]", "[24,28]") "," ENTRY("head.3.weight", "[3,1]",                                     \
                                                         "[28,40]") "," ENTRY("head.3.bias", "[3]", "[40,52]")
#define BIAS   ENTRY("trunk.0.bias", "[2]", "[8,16]") ","
#define WEIGHT ENTRY("trunk.0.weight", "[2,1]", "[0,8]") ","
static const header headers[] = {
    {"{" WEIGHT BIAS REST "}", true},
    {"{\"__metadata__\":{\"a\":\"b\"}," WEIGHT BIAS REST "}   ", true},
    {"{" BIAS WEIGHT REST "}", true},                                          /* the order of keys says nothing */
    {"{" WEIGHT REST "}", false},                                              /* missing */
    {"{" WEIGHT WEIGHT BIAS REST "}", false},                                  /* twice */
    {"{" ENTRY("trunk.0.weight", "[2,1]", "[0,16]") "," BIAS REST "}", false}, /* overlap */
    {"{" ENTRY("trunk.0.weight", "[2,1]", "[8,16]") "," BIAS REST "}", false}, /* the same bytes twice */
    {"{" ENTRY("trunk.0.weight", "[1,2]", "[0,8]") "," BIAS REST "}", false},  /* transposed */
    {"{" ENTRY("trunk.0.weight", "[2]", "[0,8]") "," BIAS REST "}", false},
    {"{" ENTRY("trunk.0.weight", "[2,1]", "[0,8,9]") "," BIAS REST "}", false},
    {"{" ENTRY("trunk.0.weight", "[2,1]", "[0.0,8]") "," BIAS REST "}", false},
    {"{" ENTRY("trunk.0.weight", "[2,1]", "[-1,7]") "," BIAS REST "}", false},
    {"{" ENTRY("trunk.0.weight", "[2,1]", "[0,18446744073709551615]") "," BIAS REST "}", false},
    {"{" ENTRY("trunk.0.weight", "[9223372036854775807,9223372036854775807]", "[0,8]") "," BIAS REST "}", false},
    {"{" ENTRY("extra", "[0]", "[0,0]") "," WEIGHT BIAS REST "}", false},
    {"{\"trunk.0.weight\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[0,8]}," BIAS REST "}", false},
    {"{\"trunk.0.weight\":{\"dtype\":\"F32\",\"shape\":[2,1]}," BIAS REST "}", false},
    {"{\"trunk.0.weight\":17," BIAS REST "}", false},
    {"[]", false},
    {"17", false},
    {"", false},
    {"{", false},
    {"{}", false},
    {"null", false},
};

static oc_status header_read(const char *text, uint64_t claimed, size_t data_bytes, float fill)
{
    const oc_model_shape shape = {OC_TRUNK_MLP, 1, 1, 1, 2, 0, 1};
    unsigned char file[4096];
    float flat[256];
    oc_parameters p;
    oc_parameters_describe(&p, &shape);
    assert_true(p.total <= 256 && 8 + strlen(text) + data_bytes <= sizeof file);
    memcpy(file, &claimed, 8);
    memcpy(file + 8, text, strlen(text));
    for (size_t i = 0; i < data_bytes; i += 4) memcpy(file + 8 + strlen(text) + i, &fill, 4);
    return oc_safetensors_read(file, 8 + strlen(text) + data_bytes, "case", &p, flat);
}

static void hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        oc_status status = header_read(headers[i].text, strlen(headers[i].text), 52, 0.5f);
        if (status != (headers[i].good ? OC_OK : OC_EDATA)) fail_msg("%s: %s", headers[i].text, oc_status_message());
    }
    const char *good = headers[0].text;
    const uint64_t claims[] = {0,       1,          strlen(good) - 1, strlen(good) + 1,
                               1000001, UINT64_MAX, UINT64_MAX - 7,   (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        assert_int_equal(header_read(good, claims[i], 52, 0.5f), OC_EDATA);
    assert_int_equal(header_read(good, strlen(good), 48, 0.5f), OC_EDATA);
    assert_int_equal(header_read(good, strlen(good), 56, 0.5f), OC_EDATA);
    assert_int_equal(header_read(good, strlen(good), 52, NAN), OC_EDATA);
    assert_int_equal(header_read(good, strlen(good), 52, INFINITY), OC_EDATA);
}

static void refuses_to_save(void **state)
{
    (void)state;
    oc_bundle *a = sample();
    OK(oc_bundle_save(a, folder));
    a->flat[3] = NAN;
    assert_int_equal(oc_bundle_save(a, folder), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "lstm.weight_ih_l0[3]"));
    assert_true(loads()); /* the old files stand */
    a->flat[3] = 0;
    a->scale[1] = 0;
    assert_int_equal(oc_bundle_save(a, folder), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "spread"));
    assert_true(loads());
    oc_bundle_close(a);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/outcry-bundle-XXXXXX");
    if (!mkdtemp(folder)) return 1;
    snprintf(json_path, sizeof json_path, "%s/bundle.json", folder);
    snprintf(weights_path, sizeof weights_path, "%s/weights.safetensors", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(json_path);
    unlink(weights_path);
    return rmdir(folder); /* fails where anything else was left behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),      cmocka_unit_test(every_bit_counts), cmocka_unit_test(wrong_fields),
        cmocka_unit_test(hostile_headers), cmocka_unit_test(refuses_to_save),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
