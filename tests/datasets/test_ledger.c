/* test_ledger.c - the ledger counts, chains, and says what was done to it: every changed byte, removed and swapped line
 * is refused; a line cut by a crash is reported and then named by the next append. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/ledger.h"

static oc_dataset d = {.path = "test_datasets_ledger.h5", .sources = {11, 12}, .root = {13, 14}};
static char path[OC_PATH_MAX];

static oc_status add(uint64_t config, const char *split)
{
    static const int64_t time_ns[] = {1, 2, 3};
    static const double returns[] = {0.1, -0.2, 0.3};
    const oc_ledger_entry e = {.command = "evaluate",
                               .config = {config, 1},
                               .seed = config,
                               .fold = "fold-1",
                               .split = split,
                               .time_ns = time_ns,
                               .returns = returns,
                               .return_count = 3};
    return oc_ledger_append(&d, &e);
}

static void fill(size_t count)
{
    unlink(path);
    for (size_t i = 0; i < count; i++) assert_int_equal(add(i % 3, i % 2 ? "test" : "valid"), OC_OK);
}

static void counts(void **state)
{
    oc_ledger_summary s;
    (void)state;
    unlink(path);
    assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
    assert_false(s.present);
    fill(7);
    assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
    assert_true(s.present && !s.torn);
    assert_int_equal(s.records, 7);
    assert_int_equal(s.trials, 3);
    assert_int_equal(s.distinct_configs, 3);
    oc_hash head = s.head;
    assert_int_equal(add(1, "test"), OC_OK);
    assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
    assert_false(oc_hash_equal(head, s.head));
    assert_int_equal(s.trials, 4);
}

/* One byte in place: replacing the whole file syncs it, 17 s for all bytes. */
static void poke(size_t at, char value)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc((unsigned char)value, f), (unsigned char)value);
    assert_int_equal(fclose(f), 0);
}

static void tampering_found(void **state)
{
    char *text;
    size_t bytes, found = 0;
    oc_ledger_summary s;
    (void)state;
    fill(5);
    assert_int_equal(oc_file_read(path, 1 << 20, &text, &bytes), OC_OK);
    char *copy = malloc(bytes);
    for (size_t i = 0; i + 1 < bytes;
         i++) { /* the last byte is the end of the last line: without it the line is torn */
        poke(i, (char)(text[i] ^ 1));
        found += oc_ledger_read(&d, &s) == OC_EDATA;
        assert_int_equal(i % 50 ? OC_EDATA : add(1, "test"), OC_EDATA);          /* nothing is written behind it */
        poke(i, text[i]);
    }
    assert_int_equal(found, bytes - 1);
    char *second = strchr(text, '\n') + 1, *third = strchr(second, '\n') + 1;
    memcpy(copy, text, (size_t)(second - text));
    memcpy(copy + (second - text), third, bytes - (size_t)(third - text));       /* the second line is gone */
    assert_int_equal(oc_file_write(path, copy, bytes - (size_t)(third - second)), OC_OK);
    assert_int_equal(oc_ledger_read(&d, &s), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), ":2:"));
    assert_int_equal(oc_file_write(path, text, bytes), OC_OK);
    assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
    free(copy);
    oc_memory_free(text);
}

static void torn_line(void **state)
{
    char *text;
    size_t bytes;
    oc_ledger_summary s;
    (void)state;
    fill(3);
    assert_int_equal(oc_file_read(path, 1 << 20, &text, &bytes), OC_OK);
    size_t last = bytes - 2;
    while (text[last - 1] != '\n') last--;
    for (size_t cut = last + 1; cut < bytes; cut += 37) {
        assert_int_equal(oc_file_write(path, text, cut), OC_OK);
        assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
        assert_true(s.torn);
        assert_int_equal(s.records, 2);
        assert_int_equal(add(1, "test"), OC_OK);
        assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
        assert_false(s.torn);
        assert_int_equal(s.records, 3);
        assert_int_equal(add(2, "test"), OC_OK);
        assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
        assert_int_equal(s.records, 4);
    }
    oc_memory_free(text);
}

static void many_processes(void **state)
{
    enum { PROCESSES = 4, EACH = 10 };
    oc_ledger_summary s;
    (void)state;
    unlink(path);
    for (int p = 0; p < PROCESSES; p++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int i = 0; i < EACH; i++) if (add((uint64_t)p, "test") != OC_OK) _exit(1);
            _exit(0);
        }
        assert_true(pid > 0);
    }
    for (int p = 0; p < PROCESSES; p++) {
        int code;
        assert_true(wait(&code) > 0);
        assert_int_equal(code, 0);
    }
    assert_int_equal(oc_ledger_read(&d, &s), OC_OK);
    assert_int_equal(s.trials, PROCESSES * EACH);
    assert_int_equal(s.distinct_configs, PROCESSES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts), cmocka_unit_test(tampering_found),
                                       cmocka_unit_test(torn_line), cmocka_unit_test(many_processes)};
    oc_log_set_level(OC_LOG_ERROR);
    if (oc_ledger_path(&d, path, sizeof path) != OC_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
