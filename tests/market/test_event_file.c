/* test_event_file.c - the `.events` file. Would catch: a bit that no hash covers, a cut that goes unseen, a record that
 * comes back changed, a writer that destroys the old file when it fails, a merge out of order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "market/event_file.h"

#define START_NS (INT64_C(1700000000) * OC_SECOND_NS)

static char folder[64];
static const oc_instrument two[] = {
    {.symbol = "AAA", .tick = {1, -2, 0}, .lot = {1, 0, 0}, .order_tick = {1, -2, 0}},
    {.symbol = "BBB", .tick = {1, -5, 0}, .lot = {1, 2, 0}, .order_tick = {5, -5, 0}},
};

static const char *path_of(const char *name, char *path, size_t cap)
{
    snprintf(path, cap, "%s/%s", folder, name);
    return path;
}

static oc_event event_make(uint64_t i, uint32_t instruments)
{
    uint32_t key = oc_random_key(11, OC_RANDOM_TEST, instruments, 0);
    oc_event e = {.exchange_ns = (int64_t)i, .receive_ns = START_NS + (int64_t)(i / 3) * 1000, .sequence = i,
                  .instrument = (uint32_t)oc_random_below(key, i, instruments), .flags = OC_EVENT_LAST, .level = 255};
    e.kind = i % 2 ? OC_EVENT_LEVEL : OC_EVENT_TRADE;
    e.side = i % 3 ? OC_SIDE_BUY : OC_SIDE_SELL;
    e.as.price.ticks = 1000 + (int64_t)(oc_random_philox(key, i) & 0xff);
    e.as.price.lots = (int64_t)(i % 7);
    return e;
}

static void file_make(const char *path, uint64_t count, uint32_t instruments)
{
    oc_event_writer *w;
    assert_int_equal(oc_event_writer_open(&w, path, two, instruments, "a test"), OC_OK);
    for (uint64_t i = 0; i < count; i++) {
        oc_event e = event_make(i, instruments);
        assert_int_equal(oc_event_writer_add(w, &e, 1), OC_OK);
    }
    assert_int_equal(oc_event_writer_commit(w), OC_OK);
}

static oc_status read_all(const char *path, uint64_t *read)
{
    oc_event_reader *r;
    const oc_event *events;
    size_t count;
    *read = 0;
    OC_TRY(oc_event_reader_open(&r, path));
    oc_status status;
    do {
        status = oc_event_reader_next(r, &events, &count);
        *read += count;
    } while (status == OC_OK && count);
    oc_event_reader_close(r);
    return status;
}

static void round_trip(void **state)
{
    (void)state;
    static const uint64_t counts[] = {0, 1, 4095, 4096, 4097, 20000};
    char path[256];
    path_of("round.events", path, sizeof path);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        oc_event_reader *r;
        const oc_event *events;
        size_t count;
        uint64_t at = 0;
        file_make(path, counts[c], 2);
        assert_int_equal(oc_event_reader_open(&r, path), OC_OK);
        const oc_event_info *info = oc_event_reader_info(r);
        assert_true(info->event_count == counts[c] && info->instrument_count == 2);
        assert_string_equal(info->origin, "a test");
        assert_memory_equal(info->instruments, two, sizeof two);
        for (int pass = 0; pass < 2; pass++) {
            size_t before = oc_memory_count();
            do {
                assert_int_equal(oc_event_reader_next(r, &events, &count), OC_OK);
                for (size_t i = 0; i < count; i++, at++) {
                    oc_event expected = event_make(at, 2);
                    assert_memory_equal(&events[i], &expected, sizeof expected);
                }
            } while (count);
            assert_true(at == counts[c]);
            assert_true(oc_memory_count() == before);
            assert_int_equal(oc_event_reader_rewind(r), OC_OK);
            at = 0;
        }
        assert_true(info->first_ns == (counts[c] ? START_NS : 0));
        oc_event_reader_close(r);
    }
}

/* In place: some file systems flush a file at close that was emptied and written again, here thousands of times. */
static void damage_write(const char *path, const char *data, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_true(pwrite(fd, data, bytes, 0) == (ssize_t)bytes);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(close(fd), 0);
}

/* Every bit of a small file, one at a time; then every length. Each must be refused with a message. */
static void every_damage_is_refused(void **state)
{
    (void)state;
    char path[256], *data;
    size_t bytes;
    uint64_t read;
    path_of("damage.events", path, sizeof path);
    file_make(path, 5, 2);
    assert_int_equal(oc_file_read(path, 1 << 20, &data, &bytes), OC_OK);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
        damage_write(path, data, bytes);
        oc_status status = read_all(path, &read);
        if (status != OC_EDATA || !strstr(oc_status_message(), "damage.events"))
            fail_msg("bit %zu: %d", bit, (int)status);
        data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t cut = 0; cut < bytes; cut++) {
        damage_write(path, data, cut);
        if (read_all(path, &read) != OC_EDATA) fail_msg("cut at %zu", cut);
    }
    damage_write(path, data, bytes);
    assert_int_equal(read_all(path, &read), OC_OK);
    assert_true(read == 5);
    print_message("%zu bits and %zu cuts refused\n", bytes * 8, bytes);
    oc_memory_free(data);
}

/* A larger file: random bits, and the message says how far the good part goes. */
static void damage_is_named(void **state)
{
    (void)state;
    char path[256], *data;
    size_t bytes;
    uint64_t read;
    uint32_t key = oc_random_key(5, OC_RANDOM_TEST, 0, 0);
    path_of("named.events", path, sizeof path);
    file_make(path, 10000, 1);
    assert_int_equal(oc_file_read(path, 1 << 24, &data, &bytes), OC_OK);
    for (uint64_t i = 0; i < 300; i++) {
        size_t at = (size_t)oc_random_below(key, i, bytes);
        data[at] = (char)(data[at] ^ 0x10);
        damage_write(path, data, bytes);
        assert_int_equal(read_all(path, &read), OC_EDATA);
        data[at] = (char)(data[at] ^ 0x10);
        damage_write(path, data, (size_t)oc_random_below(key, 1000 + i, bytes));
        assert_int_equal(read_all(path, &read), OC_EDATA);
    }
    data[bytes / 2] = (char)(data[bytes / 2] ^ 1);         /* the second of three blocks */
    damage_write(path, data, bytes);
    assert_int_equal(read_all(path, &read), OC_EDATA);
    assert_true(read == 4096);
    assert_non_null(strstr(oc_status_message(), "block 2 of 3 fails its hash"));
    assert_non_null(strstr(oc_status_message(), "1 good block holds events up to 2023-11-14 22:13:20.001365000"));
    data[bytes / 2] = (char)(data[bytes / 2] ^ 1);
    damage_write(path, data, bytes - 100);
    assert_int_equal(read_all(path, &read), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "3 good blocks hold events up to"));
    oc_memory_free(data);
}

/* Every bit of the header, the heads of blocks, the index and the tail of a file of several blocks. */
static void damage_outside_records_is_refused(void **state)
{
    (void)state;
    enum { BLOCK = 32 + 4096 * 88, TAIL = 3 * 32 + 88 };
    char path[256], *data;
    size_t bytes, flips = 0;
    uint64_t read;
    path_of("outside.events", path, sizeof path);
    file_make(path, 10000, 1);
    assert_int_equal(oc_file_read(path, 1 << 24, &data, &bytes), OC_OK);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    size_t header = bytes - TAIL - 3 * 32 - 10000 * 88;
    for (size_t at = 0; at < bytes; at++) {
        if (at >= header && at < bytes - TAIL && (at - header) % BLOCK >= 32) continue;
        for (int bit = 0; bit < 8; bit++, flips++) {
            assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
            assert_int_not_equal(fputc((unsigned char)data[at] ^ 1 << bit, f), EOF);
            assert_int_equal(fflush(f), 0);
            if (read_all(path, &read) != OC_EDATA) fail_msg("byte %zu bit %d", at, bit);
        }
        assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
        assert_int_not_equal(fputc((unsigned char)data[at], f), EOF);
        assert_int_equal(fflush(f), 0);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(read_all(path, &read), OC_OK);
    print_message("%zu bits outside the records refused\n", flips);
    oc_memory_free(data);
}

static void bad_records_are_refused(void **state)
{
    (void)state;
    char path[256];
    path_of("bad.events", path, sizeof path);
    file_make(path, 3, 1);
    for (int fault = 0; fault < 10; fault++) {
        oc_event_writer *w;
        uint64_t read;
        oc_event e = event_make(100, 1), first = event_make(99, 1);
        if (fault == 0) e.kind = 0;
        if (fault == 1) e.kind = OC_EVENT_KIND_END;
        if (fault == 2) e.side = 3;
        if (fault == 3) e.instrument = 1;
        if (fault == 4) e.receive_ns = first.receive_ns - 1;
        if (fault == 5) e.receive_ns = first.receive_ns, e.sequence = first.sequence;
        if (fault == 6) e.reserved[3] = 1;
        if (fault == 7) e.as.price.lots = -1;
        if (fault == 8) e.receive_ns = 0;
        if (fault == 9) e.source = 1;
        assert_int_equal(oc_event_writer_open(&w, path, two, 1, ""), OC_OK);
        assert_int_equal(oc_event_writer_add(w, &first, 1), OC_OK);
        assert_int_equal(oc_event_writer_add(w, &e, 1), OC_EDATA);
        assert_int_equal(oc_event_writer_commit(w), OC_EDATA);     /* a refused event must not leave a file */
        assert_int_equal(read_all(path, &read), OC_OK);
        assert_true(read == 3);
    }
}

/* The disk is full (a file size limit stands for it): an error, and the old file as it was. */
static void full_disk_keeps_the_old_file(void **state)
{
    (void)state;
    char path[256];
    uint64_t read;
    struct rlimit old, small;
    oc_event_writer *w;
    path_of("full.events", path, sizeof path);
    file_make(path, 3, 1);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 500000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(oc_event_writer_open(&w, path, two, 1, ""), OC_OK);
    oc_status status = OC_OK;
    for (uint64_t i = 0; i < 20000 && status == OC_OK; i++) {
        oc_event e = event_make(i, 1);
        status = oc_event_writer_add(w, &e, 1);
    }
    oc_status committed = oc_event_writer_commit(w);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_not_equal(committed, OC_OK);
    assert_int_equal(read_all(path, &read), OC_OK);
    assert_true(read == 3);
}

/* Three files, one of them without events, one with the instruments in the other order. */
static void merge_is_in_order(void **state)
{
    (void)state;
    char a[256], b[256], c[256];
    const oc_instrument turned[] = {two[1], two[0]};
    const char *paths[] = {path_of("a.events", a, sizeof a), path_of("b.events", b, sizeof b),
                           path_of("c.events", c, sizeof c)};
    oc_event_writer *w;
    file_make(a, 9000, 2);
    assert_int_equal(oc_event_writer_open(&w, b, turned, 2, "b"), OC_OK);
    for (uint64_t i = 0; i < 7000; i++) {
        oc_event e = event_make(i, 2);
        e.receive_ns = START_NS + (int64_t)i * 500;
        assert_int_equal(oc_event_writer_add(w, &e, 1), OC_OK);
    }
    assert_int_equal(oc_event_writer_commit(w), OC_OK);
    file_make(c, 0, 1);
    oc_event_merge *m;
    uint32_t instruments;
    assert_int_equal(oc_event_merge_open(&m, paths, 3), OC_OK);
    assert_true(oc_event_merge_total(m) == 16000);
    assert_string_equal(oc_event_merge_instruments(m, &instruments)[1].symbol, "BBB");
    assert_int_equal(instruments, 2);
    uint64_t seen[3] = {0};
    oc_event e, last = {0};
    int have;
    for (uint64_t i = 0;; i++, last = e) {
        assert_int_equal(oc_event_merge_next(m, &e, &have), OC_OK);
        if (!have) break;
        oc_event original = event_make(seen[e.source]++, 2);
        assert_true(e.sequence == original.sequence && e.as.price.ticks == original.as.price.ticks);
        assert_int_equal(e.instrument, e.source == 0 ? original.instrument : 1 - original.instrument);
        if (i) assert_true(e.receive_ns > last.receive_ns || (e.receive_ns == last.receive_ns && (e.source > last.source
                           || (e.source == last.source && e.sequence > last.sequence))));
    }
    assert_true(seen[0] == 9000 && seen[1] == 7000);
    oc_event_merge_close(m);
}

static void merge_refuses_other_ticks(void **state)
{
    (void)state;
    char a[256], b[256];
    oc_instrument other = two[0];
    oc_event_writer *w;
    oc_event_merge *m;
    const char *paths[] = {path_of("t1.events", a, sizeof a), path_of("t2.events", b, sizeof b)};
    file_make(a, 3, 1);
    other.tick.exponent = -3;
    assert_int_equal(oc_event_writer_open(&w, b, &other, 1, ""), OC_OK);
    assert_int_equal(oc_event_writer_commit(w), OC_OK);
    assert_int_equal(oc_event_merge_open(&m, paths, 2), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "AAA"));
    assert_int_equal(oc_event_merge_open(&m, paths, 1), OC_OK);
    size_t count, total = 0;
    const oc_event *events;
    do {
        assert_int_equal(oc_event_merge_run(m, &events, &count), OC_OK);
        total += count;
    } while (count);
    assert_true(total == 3);
    oc_event_merge_close(m);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "test_event_file.%d", (int)getpid());
    return oc_path_make_folders(folder) == OC_OK ? 0 : 1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"round", "damage", "named", "outside", "bad", "full",
                                        "a",     "b",      "c",     "t1",      "t2"};
    char path[256];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s.events", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);                       /* fails where something was left behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(every_damage_is_refused),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(damage_outside_records_is_refused),
        cmocka_unit_test(bad_records_are_refused),
        cmocka_unit_test(full_disk_keeps_the_old_file),
        cmocka_unit_test(merge_is_in_order),
        cmocka_unit_test(merge_refuses_other_ticks),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
