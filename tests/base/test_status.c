/* test_status.c - would catch: a wrong exit code, a message that grows past its buffer, a lost trail, arguments that
 * point into the message itself, an escape sequence that reaches the terminal. */
#include "base/cmocka_all.h"

#include <pthread.h>

static oc_status deep(void)
{
    return OC_FAIL(OC_EDATA, "file %s, row %d", "x.csv", 7);
}

static oc_status middle(void)
{
    OC_TRY(deep());
    return OC_OK;
}

static void test_message_and_trail(void **state)
{
    (void)state;
    assert_int_equal(middle(), OC_EDATA);
    assert_string_equal(oc_status_message(), "file x.csv, row 7");
    assert_non_null(strstr(oc_status_places(), " < "));
    assert_int_equal(oc_status_prefix(OC_EDATA, "import %d", 2), OC_EDATA);
    assert_string_equal(oc_status_message(), "import 2: file x.csv, row 7");
    assert_int_equal(OC_FAIL(OC_ELIMIT, "again: %s", oc_status_message()), OC_ELIMIT);
    assert_string_equal(oc_status_message(), "again: import 2: file x.csv, row 7");
}

static void test_long_messages_are_cut(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 3; i++) {
        (void)OC_FAIL(OC_EFAILED, "%s", text);
        assert_int_equal(strlen(oc_status_message()), 2047);
        oc_status_prefix(OC_EFAILED, "%s", i == 2 ? text : "before");
        assert_int_equal(strlen(oc_status_message()), 2047);
    }
    for (int i = 0; i < 1000; i++) oc_status_trail(OC_EFAILED, "some/long/file/name.c", i);
    assert_true(strlen(oc_status_places()) < 1024);
}

static void test_control_bytes(void **state)
{
    (void)state;
    (void)OC_FAIL(OC_EFAILED, "%s", "a\033[31mb\nc\td\x7f");
    assert_string_equal(oc_status_message(), "a?[31mb\nc?d?");
}

static void test_codes(void **state)
{
    (void)state;
    static const struct { oc_status code; const char *name; int exit;
    } cases[] = {{OC_OK, "ok", 0},         {OC_EFAILED, "failed", 1},      {OC_EMEMORY, "memory", 1},
                 {OC_ELIMIT, "limit", 1},  {OC_EUSAGE, "usage", 64},       {OC_EDATA, "bad data", 65},
                 {OC_EAGAIN, "again", 75}, {OC_ECONFIG, "bad config", 78}, {(oc_status)99, "unknown", 1}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_string_equal(oc_status_name(cases[i].code), cases[i].name);
        assert_int_equal(oc_status_exit_code(cases[i].code), cases[i].exit);
    }
}

static void *other_thread(void *argument)
{
    (void)argument;
    return *oc_status_message() ? NULL : argument;
}

static void test_threads_have_their_own(void **state)
{
    (void)state;
    pthread_t thread;
    void *result;
    int token = 0;
    (void)OC_FAIL(OC_EFAILED, "mine");
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &token), 0);
    pthread_join(thread, &result);
    assert_ptr_equal(result, &token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_message_and_trail),
                                       cmocka_unit_test(test_long_messages_are_cut),
                                       cmocka_unit_test(test_control_bytes), cmocka_unit_test(test_codes),
                                       cmocka_unit_test(test_threads_have_their_own)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
