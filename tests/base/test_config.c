/* test_config.c - would catch: an error without its place, the second error of a file unreported, a wrong value
 * accepted, an attack on the parser (depth, aliases, size), a dump that reads back differently. */
#include "base/cmocka_all.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/file.h"

static const oc_config_key keys[] = {
    {"seed", OC_CONFIG_INT, 0, 1e9, "1", NULL, "", "seed of everything random"},
    {"backend", OC_CONFIG_CHOICE, 0, 0, "auto", "auto|cpu|cuda", "", "where to compute"},
    {"data.events", OC_CONFIG_LIST, 1, 3, NULL, NULL, "", "event files"},
    {"model.hidden", OC_CONFIG_INT, 1, 4096, "64", NULL, "", "width of a layer"},
    {"model.dropout", OC_CONFIG_REAL, 0, 1, "0.2", NULL, "", "share of dropped inputs"},
    {"model.attention", OC_CONFIG_BOOL, 0, 0, "true", NULL, "", "attention on"},
    {"data.folds", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "fold manifest"},
    {"data.names", OC_CONFIG_LIST, 0, 100, "a,b", NULL, "", "names"}};

enum { KEYS = COUNT(keys) };

static oc_status parse(oc_config **c, const char *text, const char *set)
{
    return oc_config_parse(c, text, strlen(text), "f.yaml", keys, KEYS, &set, set != NULL);
}

static void test_values(void **state)
{
    (void)state;
    oc_config *c;
    must(parse(&c,
               "# comment\nseed: 7\ndata:\n  events: [a.events, 'b c.events']\n  names: []\nmodel: {hidden: 4096, "
               "dropout: 1e-1}\n",
               "model.hidden=1"));
    assert_int_equal(oc_config_int(c, "seed"), 7);
    assert_int_equal(oc_config_int(c, "model.hidden"), 1);      /* both bounds are inclusive */
    assert_true(oc_config_real(c, "model.dropout") == 0.1);
    assert_true(oc_config_bool(c, "model.attention"));
    assert_string_equal(oc_config_text(c, "backend"), "auto");
    assert_int_equal(oc_config_count(c, "data.events"), 2);
    assert_string_equal(oc_config_item(c, "data.events", 1), "b c.events");
    assert_int_equal(oc_config_count(c, "data.names"), 0);
    assert_string_equal(oc_config_place(c, "seed"), "f.yaml:2:7");
    assert_string_equal(oc_config_place(c, "model.hidden"), "--set");
    assert_string_equal(oc_config_place(c, "backend"), "default");
    assert_true(oc_config_given(c, "seed") && oc_config_given(c, "model.hidden") && !oc_config_given(c, "backend"));
    must_fail(oc_config_refuse(c, "seed", "is over %d", 5), OC_ECONFIG, "f.yaml:2:7: seed is \"7\": is over 5");
    must_fail(oc_config_refuse(c, "data.events", "no"), OC_ECONFIG, "data.events is a list of 2: no");
    oc_config_close(c);
    must(parse(&c, "data: {events: one}\nmodel:\n", NULL));     /* a scalar is a list of one; an empty section */
    assert_int_equal(oc_config_count(c, "data.events"), 1);
    assert_string_equal(oc_config_item(c, "data.names", 1), "b");
    oc_config_close(c);
}

/* Each text is followed by a valid rest, so that exactly this is wrong. */
static const struct { const char *text, *set, *says; } wrong[] = {
    {"seed: many", NULL, "f.yaml:1:7: seed is \"many\", not an integer from 0 to 1000000000 [1]"},
    {"seed: 1.5", NULL, "seed is \"1.5\""},
    {"seed: 0x10", NULL, "seed is"},
    {"seed: 99999999999999999999", NULL, "seed is"},
    {"seed: 1000000001", NULL, "seed is"},
    {"seed: -1", NULL, "seed is"},
    {"seed:", NULL, "seed is empty"},
    {"seed: ' 1'", NULL, "seed is"},
    {"seed: [1]", NULL, "f.yaml:1:7: seed is a list, not an integer"},
    {"seed: {a: 1}", NULL, "seed is a section, not an integer"},
    {"seed: 1\nseed: 2", NULL, "f.yaml:2:1: seed is given twice, first at f.yaml:1:7"},
    {"sed: 1", NULL, "f.yaml:1:1: sed is not a key; did you mean seed?"},
    {"hidden: 1", NULL, "hidden is not a key; did you mean model.hidden?"},
    {"zebra: {a: {b: [1, {c: d}]}}", NULL, "f.yaml:1:1: zebra is not a key"},
    {"model: {hiden: 3}", NULL, "did you mean model.hidden?"},
    {"model: 3", NULL, "model is \"3\", not a section"},
    {"model: [3]", NULL, "model is a list, not a section"},
    {"model: {hidden: 1}\nmodel: {dropout: 0}", NULL, "f.yaml:2:1: model is opened twice"},
    {"model: {dropout: .nan}", NULL, "model.dropout is \".nan\""},
    {"model: {dropout: nan}", NULL, "model.dropout is \"nan\""},
    {"model: {dropout: inf}", NULL, "model.dropout"},
    {"model: {dropout: 1e999}", NULL, "model.dropout"},
    {"model: {dropout: 1.0000001}", NULL, "model.dropout"},
    {"model: {attention: yes}", NULL, "is \"yes\", not true or false"},
    {"backend: gpu", NULL, "backend is \"gpu\", not one of auto|cpu|cuda"},
    {"backend: aut", NULL, "backend is"},
    {"backend: \"cpu\\0\"", NULL, "zero byte"},
    {"seed: &a 1", NULL, "anchors and aliases"},
    {"seed: *a", NULL, "alias"},
    {"seed: !!int 1", NULL, "tags are not read"},
    {"? [a, b]\n: 1", NULL, "f.yaml:1:3: a key must be a plain name"},
    {"seed: [", NULL, "f.yaml:"},
    {"seed: \"\xff\"", NULL, "f.yaml: byte"},
    {"a: b: c", NULL, "f.yaml:1:5: mapping values are not allowed"},
    {"\tseed: 1", NULL, "f.yaml:1:1"},
    {"seed: 1\n---\nseed: 2", NULL, "a second document"},
    {"", "model.hidden=-1", "--set: model.hidden is \"-1\", not an integer from 1 to 4096 [64]"},
    {"", "model.hidden=", "--set: model.hidden is \"\""},
    {"", "model.hiden=1", "--set: model.hiden is not a key; did you mean model.hidden?"},
    {"", "=1", "not key.path=value"},
    {"", "nothing", "not key.path=value"},
    {"", "data.events=", "--set: data.events is a list of 0, not a list of 1 to 3"},
    {"", "data.events=a,b,c,d", "data.events is a list of 4"},
    {"", "data.folds=\xff", "data.folds is not UTF-8"}};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(wrong); i++) {
        char text[512];
        oc_config *c;
        bool own = strstr(wrong[i].text, "---") || *wrong[i].text == '\t';
        snprintf(text, sizeof text, "%s\n%s", wrong[i].text, own ? "" : "data: {events: e}\n");
        oc_status status = parse(&c, text, wrong[i].set);
        if (status != OC_ECONFIG || !strstr(oc_status_message(), wrong[i].says))
            fail_msg("%s %s: %s", wrong[i].text, wrong[i].set ? wrong[i].set : "", oc_status_message());
        assert_null(c);
    }
    oc_config *c;
    must_fail(parse(&c, "- a\n", NULL), OC_ECONFIG, "f.yaml:1:1: the file must be a mapping");
    must_fail(parse(&c, "a\n", NULL), OC_ECONFIG, "must be a mapping");
    must_fail(parse(&c, "", NULL), OC_ECONFIG, "f.yaml: data.events is missing: event files");
    must_fail(parse(&c, "data:\n  events:\n    - [a]\n", NULL), OC_ECONFIG,
              "f.yaml:3:7: data.events: an item is a list");
}

static size_t lines_count(const char *text)
{
    size_t lines = 1;
    for (; *text; text++) lines += *text == '\n';
    return lines;
}

static void test_all_errors_at_once(void **state)
{
    (void)state;
    oc_config *c;
    must_fail(parse(&c, "model:\n  hidden: many\n  hidden: 3\n  dropout: 7\nzebra: 1\n", "seed=x"), OC_ECONFIG,
              "6 errors");
    static const char *const says[] = {"\n    f.yaml:2:11: model.hidden is \"many\"",
                                       "\n    f.yaml:3:3: model.hidden is given twice",
                                       "\n    f.yaml:4:12: model.dropout",
                                       "\n    f.yaml:5:1: zebra",
                                       "\n    --set: seed",
                                       "\n    f.yaml: data.events is missing"};
    for (size_t i = 0; i < COUNT(says); i++) assert_non_null(strstr(oc_status_message(), says[i]));
    assert_int_equal(lines_count(oc_status_message()), 7);
    char text[4096] = "";
    for (int i = 0; i < 200; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "k%d: 1\n", i);
    must_fail(parse(&c, text, NULL), OC_ECONFIG, "more");       /* what does not fit is counted */
    assert_true(strlen(oc_status_message()) < 2047);
}

static void test_attacks(void **state)
{
    (void)state;
    static char text[65537];
    static const char *const fills[] = {
        "[", "{", "- ", "? ", "a: ", "[a, ", "{a: ", "\"", "#\n", "&a [*a,", "!", "|\n", "k: v\n"};
    oc_config *c;
    for (size_t i = 0; i < COUNT(fills); i++) {
        size_t bytes = strlen(fills[i]);
        for (size_t at = 0; at < 65536; at++) text[at] = fills[i][at % bytes];
        int64_t before = oc_clock_monotonic_ns();
        assert_int_equal(parse(&c, text, NULL), OC_ECONFIG);
        int64_t took = oc_clock_monotonic_ns() - before;
        if (took > 20 * OC_SECOND_NS) fail_msg("64 KiB of \"%s\" took %.1f s", fills[i], (double)took * 1e-9);
    }
    char deep[256] = "model: ";
    memset(deep + strlen(deep), '[', 33);
    must_fail(parse(&c, deep, NULL), OC_ECONFIG, "nested over 32");
    must_fail(oc_config_parse(&c, text, sizeof text, "f.yaml", keys, KEYS, NULL, 0), OC_ECONFIG, "limit of 65536");
    must_fail(oc_config_open(&c, "no-such.yaml", keys, KEYS, NULL, 0), OC_ECONFIG, "no-such.yaml: cannot open");
    must_fail(oc_config_open(&c, "/dev/zero", keys, KEYS, NULL, 0), OC_ECONFIG, "/dev/zero");
}

static void test_dump(void **state)
{
    (void)state;
    static const char *const folds[] = {"plain.yaml",   "",          "null",        "~",   "true",  "a: b",
                                        "# no",         "tab\there", "line\nbreak", "ü€😀", "\"'\\", "\xe2\x80\xa8",
                                        "\xef\xbb\xbf", "\xc2\x85",  " edge ",      "- x", "1.5",   "\x7f\x01",
                                        "*a",           "%"};
    static const char *const drops[] = {"0", "1", "0.1", "0.30000000000000004", "1e-300", "-0.0", "4.9e-324"};
    for (size_t i = 0; i < COUNT(folds) * COUNT(drops); i++) {
        char folds_set[64], drop_set[64];
        const char *const sets[] = {folds_set, drop_set, "data.events=x,y z"};
        oc_config *c, *again;
        snprintf(folds_set, sizeof folds_set, "data.folds=%s", folds[i % COUNT(folds)]);
        snprintf(drop_set, sizeof drop_set, "model.dropout=%s", drops[i / COUNT(folds)]);
        must(oc_config_open(&c, NULL, keys, KEYS, sets, 3));
        char *text = oc_config_dump(c);
        must(parse(&again, text, NULL));
        char *text_again = oc_config_dump(again);
        assert_string_equal(text, text_again);
        assert_string_equal(oc_config_text(again, "data.folds"), folds[i % COUNT(folds)]);
        double a = oc_config_real(c, "model.dropout"), b = oc_config_real(again, "model.dropout");
        assert_memory_equal(&a, &b, sizeof a);
        free(text);
        free(text_again);
        oc_config_close(c);
        oc_config_close(again);
    }
    oc_config *c;
    must(parse(&c, "data: {events: [a.ev]}", NULL));
    char *text = oc_config_dump(c);
    assert_string_equal(text, "seed: 1\nbackend: auto\ndata:\n  events: [a.ev]\n  folds: \"\"\n  names: [a, b]\n"
                              "model:\n  hidden: 64\n  dropout: 0.2\n  attention: true\n");
    free(text);
    oc_config_close(c);
}

static void test_help(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    oc_config_help(keys, KEYS, out);
    fclose(out);
    for (size_t i = 0; i < KEYS; i++) assert_true(strstr(text, keys[i].key) && strstr(text, keys[i].help));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),  cmocka_unit_test(test_wrong), cmocka_unit_test(test_all_errors_at_once),
        cmocka_unit_test(test_attacks), cmocka_unit_test(test_dump),  cmocka_unit_test(test_help)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
