/* test_hash.c - known values of XXH3-128, streaming equal to whole, one flipped bit seen, texts both ways. */
#include "base/cmocka_all.h"

#include "base/file.h"
#include "base/hash.h"

static void test_known_values(void **state)
{
    (void)state;
    char text[OC_HASH_TEXT];                    /* xxhsum -H2 of an empty file and of "abc" */
    assert_string_equal(oc_hash_text(oc_hash_bytes(NULL, 0), text), "99aa06d3014798d86001c324468d497f");
    assert_string_equal(oc_hash_text(oc_hash_bytes("abc", 3), text), "06b05ab6733a618578af5f94892f3950");
}

static void test_streaming(void **state)
{
    (void)state;
    static unsigned char data[100000];
    oc_hasher *h;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * i >> 3);
    must(oc_hasher_open(&h));
    oc_hasher_add(h, "old", 3);
    oc_hasher_reset(h);
    for (size_t at = 0, n = 1; at < sizeof data; at += n, n = n * 2 % 9973 + 1) {
        if (n > sizeof data - at) n = sizeof data - at;
        oc_hasher_add(h, data + at, n);
    }
    oc_hasher_add(h, NULL, 0);
    oc_hash whole = oc_hash_bytes(data, sizeof data);
    assert_true(oc_hash_equal(oc_hasher_result(h), whole));
    char text[OC_HASH_TEXT]; /* by xxhash.h's scalar code: every instruction set gives the same */
    assert_string_equal(oc_hash_text(whole, text), "bb34bf7b2426ababde7b34649650c701");
    data[50000] ^= 1;                           /* the injected fault */
    assert_false(oc_hash_equal(oc_hash_bytes(data, sizeof data), whole));
    data[50000] ^= 1;
    oc_hasher_close(h);
    oc_hasher_close(NULL);
    must(oc_file_write("test-hash.bin", data, sizeof data));
    oc_hash of_file;
    must(oc_hash_file("test-hash.bin", &of_file));
    assert_true(oc_hash_equal(of_file, whole));
    remove("test-hash.bin");
    must_fail(oc_hash_file("test-hash.bin", &of_file), OC_EFAILED, "test-hash.bin");
}

static void test_texts(void **state)
{
    (void)state;
    static const struct { const char *text; bool good;
    } cases[] = {{"0123456789abcdefFEDCBA9876543210", true},
                 {"0123456789abcdeffedcba987654321", false},
                 {"0123456789abcdeffedcba98765432100", false},
                 {"0123456789abcdeg0123456789abcdef", false},
                 {"", false},
                 {NULL, false}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        oc_hash hash = {1, 2};
        assert_int_equal(oc_hash_parse(cases[i].text, &hash), cases[i].good);
        assert_true(cases[i].good ? hash.high == 0x0123456789abcdefu && hash.low == 0xfedcba9876543210u
                                  : hash.low == 1 && hash.high == 2);
    }
    oc_hash a = oc_hash_bytes("a", 1), b = oc_hash_bytes("b", 1);
    assert_false(oc_hash_equal(oc_hash_pair(a, b), oc_hash_pair(b, a)));
    assert_true(oc_hash_equal(oc_hash_pair(a, b), oc_hash_pair(a, b)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_values), cmocka_unit_test(test_streaming),
                                       cmocka_unit_test(test_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
