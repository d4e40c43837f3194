/* test_json.c - would catch: damage accepted, an error without its place, a value of the wrong type, range or length.
 */
#include "base/cmocka_all.h"

#include <math.h>

#include "base/file.h"
#include "base/json.h"

static void test_damage(void **state)
{
    (void)state;
    static const struct { const char *text, *says; } cases[] = {
        {"", "f.json:"},               {"{\"a\": 1,}", "f.json:1:"},     {"{\"a\": 1, \"a\": 2}", "f.json:1:"},
        {"{\n\"a\": tru}", "f.json:2:"}, {"{\"a\": 1} x", "f.json:1:"},  {"{\"a\": \"\\u0000\"}", "f.json:1:"},
        {"[1e999]", "f.json:1:"},      {"[NaN]", "f.json:1:"},           {"[99999999999999999999]", "f.json:1:"},
        {"\"\xff\"", "f.json:"}};
    json_t *json;
    for (size_t i = 0; i < COUNT(cases); i++) {
        must_fail(oc_json_parse(cases[i].text, strlen(cases[i].text), "f.json", &json), OC_EDATA, cases[i].says);
        assert_null(json);
    }
    char deep[2000];
    memset(deep, '[', sizeof deep);
    must_fail(oc_json_parse(deep, sizeof deep, "f.json", &json), OC_EDATA, "nested over 64");
    memset(deep, '[', sizeof deep); /* within a string they nest nothing; nor does an escaped quote end it */
    memcpy(deep, "[\"\\\"", 4);
    memcpy(deep + 1000, "\"]", 2);
    must(oc_json_parse(deep, 1002, "f.json", &json));
    json_decref(json);
}

static void test_reads(void **state)
{
    (void)state;
    static const char text[] =
        "{\"scaler\": {\"mean\": [1, 2.5], \"clip\": 8, \"odd\": [1, \"x\"]}, \"lstm.weight\": 7, \"name\": \"n\","
        " \"big\": 9007199254740993, \"yes\": true}";
    json_t *root, *found;
    int64_t integer;
    double real, reals[2];
    const char *name;
    must(oc_json_parse(text, strlen(text), "b", &root));
    must(oc_json_reals(root, "scaler.mean", "b", reals, 2));
    assert_true(reals[0] == 1 && reals[1] == 2.5);
    must_fail(oc_json_reals(root, "scaler.mean", "b", reals, 1), OC_EDATA, "b: scaler.mean has 2 numbers, not 1");
    must_fail(oc_json_reals(root, "scaler.odd", "b", reals, 2), OC_EDATA, "scaler.odd[1] is a string");
    must(oc_json_real(root, "scaler.clip", "b", 8, 8, &real));
    must_fail(oc_json_real(root, "scaler.clip", "b", 9, 10, &real), OC_EDATA, "scaler.clip is 8, not from 9 to 10");
    must_fail(oc_json_real(root, "scaler.clip", "b", (double)NAN, 10, &real), OC_EDATA, "scaler.clip");
    must_fail(oc_json_real(root, "name", "b", 9, 10, &real), OC_EDATA, "name is a string");
    must(oc_json_int(root, "big", "b", 0, INT64_MAX, &integer));
    assert_true(integer == INT64_C(9007199254740993));
    must(oc_json_int(root, "lstm.weight", "b", 7, 7, &integer));               /* a key with a dot in it */
    must_fail(oc_json_int(root, "lstm.weight", "b", 8, 9, &integer), OC_EDATA, "lstm.weight is 7");
    must_fail(oc_json_int(root, "scaler.mean", "b", 8, 9, &integer), OC_EDATA, "is an array, not an integer");
    must_fail(oc_json_int(root, "scaler.none", "b", 8, 9, &integer), OC_EDATA, "scaler.none is missing");
    must_fail(oc_json_int(root, "name.none", "b", 8, 9, &integer), OC_EDATA, "name.none is missing");
    must(oc_json_text(root, "name", "b", &name));
    assert_string_equal(name, "n");
    must(oc_json_get(root, "yes", "b", JSON_FALSE, &found));
    must_fail(oc_json_get(root, "yes", "b", JSON_OBJECT, &found), OC_EDATA, "a boolean, not an object");
    json_decref(root);
}

static void test_round_trip(void **state)
{
    (void)state;
    json_t *json = json_pack("{s:f, s:I, s:s}", "z", 0.1 + 0.2, "a", (json_int_t)INT64_MIN, "t", "line\nü"), *back;
    must(oc_json_save("test.json", json));
    must(oc_json_load("test.json", 1000, &back));
    assert_true(json_equal(json, back));
    char *line = oc_json_line(back);            /* insertion order, 17 digits, one line */
    assert_string_equal(line, "{\"z\":0.30000000000000004,\"a\":-9223372036854775808,\"t\":\"line\\nü\"}");
    free(line);
    json_decref(back);
    must_fail(oc_json_load("test.json", 10, &back), OC_EDATA, "limit of 10");
    remove("test.json");
    must_fail(oc_json_load("test.json", 10, &back), OC_EFAILED, "test.json");
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damage), cmocka_unit_test(test_reads),
                                       cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
