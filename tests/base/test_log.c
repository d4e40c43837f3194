/* test_log.c - would catch: a record split over two writes, a control byte that reaches the terminal, a level that is
 * not obeyed, a cut line without its end. */
#include "base/capture.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"

/* What follows the time stamp and the level of one record. */
static const char *text_of(const char *line)
{
    return strlen(line) > 37 ? line + 37 : line;
}

static void test_escapes(void **state)
{
    (void)state;
    static const struct { const char *text, *shown; } cases[] = {
        {"plain", "plain\n"},      {"a\nb\tc", "a\\x0ab\\x09c\n"}, {"\033[31m", "\\x1b[31m\n"}, {"\x7f", "\\x7f\n"},
        {"Köln €", "Köln €\n"},    {"\xff\xc3", "\\xff\\xc3\n"},   {"\xc2\x9b", "\\xc2\\x9b\n"}, {"\x9b", "\\x9b\n"}};
    char line[4096];
    for (size_t i = 0; i < COUNT(cases); i++) {
        capture c;
        capture_begin(&c);
        oc_log(OC_LOG_WARN, "%s", cases[i].text);
        int first = capture_next(&c, line, sizeof line);
        capture_end(&c);
        assert_true(first);
        assert_non_null(strstr(line, "Z warn "));
        assert_string_equal(text_of(line), cases[i].shown);
    }
}

static void test_one_write(void **state)
{
    (void)state;
    char text[9000], line[9000];
    capture c;
    memset(text, '\001', sizeof text - 1);      /* four bytes each when escaped */
    text[sizeof text - 1] = '\0';
    capture_begin(&c);
    errno = 77;
    oc_log(OC_LOG_ERROR, "%s", text);
    int kept = errno, first = capture_next(&c, line, sizeof line), second = capture_next(&c, text, sizeof text);
    capture_end(&c);
    assert_true(first && !second && kept == 77);
    assert_true(strlen(line) > 2000 && strlen(line) <= 4096);
    assert_int_equal(line[strlen(line) - 1], '\n');
}

/* Quotes, controls and what is no UTF-8 inside one JSON object a line; a long text is cut, and the object closed. */
static void test_json(void **state)
{
    (void)state;
    static const struct { const char *text, *shown; } cases[] = {
        {"plain", "plain"}, {"a\nb", "a\\u000ab"}, {"\"\\", "\\\"\\\\"}, {"Köln", "Köln"},
        {"\xff\x7f", "\\ufffd\\u007f"}};
    char line[9000], want[256], text[9000];
    capture c;
    for (size_t i = 0; i <= COUNT(cases); i++) {
        memset(text, '\001', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        capture_begin(&c);
        oc_log_set_json(true);
        oc_log(OC_LOG_WARN, "%s", i < COUNT(cases) ? cases[i].text : text);
        oc_log_set_json(false);
        int first = capture_next(&c, line, sizeof line);
        capture_end(&c);
        assert_true(first && strncmp(line, "{\"time\":\"2", 10) == 0 && strlen(line) <= 4096);
        assert_string_equal(line + strlen(line) - 3, "\"}\n");
        snprintf(want, sizeof want, "Z\",\"level\":\"warn\",\"message\":\"%s\"}\n",
                 i < COUNT(cases) ? cases[i].shown : "");
        if (i < COUNT(cases)) assert_non_null(strstr(line, want));
    }
}

static void test_levels(void **state)
{
    (void)state;
    char line[4096], more[4096];
    oc_log_level level;
    capture c;
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_true(oc_log_level_parse(names[i], &level));
        assert_int_equal(level, i);
    }
    assert_false(oc_log_level_parse("verbose", &level));
    capture_begin(&c);
    oc_log(OC_LOG_DEBUG, "hidden");
    int hidden = capture_next(&c, line, sizeof line);
    oc_log_set_level(OC_LOG_DEBUG);
    (void)OC_FAIL(OC_EDATA, "one\ntwo");
    oc_log_failure(OC_LOG_ERROR);
    int shown = capture_next(&c, line, sizeof line) && capture_next(&c, more, sizeof more);
    char trail[4096] = "";
    shown = shown && capture_next(&c, trail, sizeof trail);
    oc_log_bar(true);
    oc_log(OC_LOG_INFO, "after a bar");
    char bar[4096] = "";
    capture_next(&c, bar, sizeof bar);
    oc_log_set_level(OC_LOG_INFO);
    capture_end(&c);
    assert_false(hidden);
    assert_true(shown);
    assert_string_equal(text_of(line), "one\n");
    assert_string_equal(text_of(more), "two\n");
    assert_non_null(strstr(trail, "test_log.c:"));
    assert_int_equal(strncmp(bar, "\r\033[K", 4), 0);
}

/* A second place: records up to its own level, without the escape that clears a bar, whatever stderr shows. */
static void test_also(void **state)
{
    (void)state;
    char path[] = "/tmp/outcry-log-XXXXXX", text[4096], line[4096];
    int fd = mkstemp(path);
    capture c;
    assert_true(fd >= 0);
    oc_log_set_level(OC_LOG_ERROR);
    oc_log_also(fd, OC_LOG_INFO);
    capture_begin(&c);
    oc_log_bar(true);
    oc_log(OC_LOG_DEBUG, "to none");
    oc_log(OC_LOG_INFO, "to the file");
    oc_log(OC_LOG_ERROR, "to both");
    oc_log_also(-1, OC_LOG_ERROR);
    oc_log(OC_LOG_INFO, "to none again");
    int first = capture_next(&c, line, sizeof line), second = capture_next(&c, text, sizeof text);
    capture_end(&c);
    oc_log_set_level(OC_LOG_INFO);
    assert_true(first && !second && strstr(line, "to both") && line[0] == '\r');
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    assert_true(got > 0);
    text[got] = '\0';
    assert_true(strstr(text, "info  to the file\n") && strstr(text, "error to both\n"));
    assert_true(!strstr(text, "none") && !strchr(text, '\r'));
    close(fd);
    unlink(path);
}

/* What repeats is said at once, then no more for a second, then again. */
static void test_due(void **state)
{
    (void)state;
    int64_t next = 0;
    const int64_t start = oc_clock_monotonic_ns();
    assert_true(oc_log_due(&next));
    assert_true(next >= start + OC_SECOND_NS && next <= oc_clock_monotonic_ns() + OC_SECOND_NS);
    next += 60 * OC_SECOND_NS; /* a machine that is busy for a second in between is no fault */
    assert_false(oc_log_due(&next));
    next = oc_clock_monotonic_ns();
    assert_true(oc_log_due(&next));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_escapes), cmocka_unit_test(test_one_write),
                                       cmocka_unit_test(test_json), cmocka_unit_test(test_levels),
                                       cmocka_unit_test(test_also), cmocka_unit_test(test_due)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
