/* test_crash.c - what must be out of the process when it dies, and that one process alone writes. The system calls of
 * the journal are answered by this file: counted, interrupted, cut short, refused. Would catch: a breaker that a crash
 * lets go, a kill switch that power loss forgets, a sync that fails unseen or is tried again, a short write taken for a
 * whole one, two recoveries of one journal at once. */
#include "trade/trade_case.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trade/desk.h"

static int syncs, sync_error, write_calls;
static bool writes_short;

int fdatasync(int fd)
{
    (void)fd;
    syncs++;
    errno = sync_error;
    return sync_error ? -1 : 0;
}

/* While writes_short: every other call is interrupted, the rest take seven bytes at most. */
ssize_t write(int fd, const void *data, size_t bytes)
{
    if (writes_short && write_calls++ % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_write, fd, data, writes_short && bytes > 7 ? 7 : bytes);
}

static rig r;
static char folder[32], other[32];
static oc_desk *desk;
static oc_desk_options options;
static int64_t now_ns;

static void folder_take(char *path, size_t cap)
{
    snprintf(path, cap, "crash-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void folder_drop(const char *path)
{
    char file[OC_PATH_MAX];
    for (unsigned i = 0; i < 4; i++) {
        must(oc_journal_path(file, sizeof file, path, i));
        unlink(file);
    }
    assert_int_equal(rmdir(path), 0);
}

static int opened(void **state)
{
    (void)state;
    folder_take(folder, sizeof folder);
    folder_take(other, sizeof other);
    rig_defaults(&r, 1);
    options = (oc_desk_options){.folder = folder, .build = {1, 2}};
    syncs = sync_error = 0;
    writes_short = false;
    now_ns = SECOND;
    desk = NULL;
    return 0;
}

static int closed(void **state)
{
    (void)state;
    sync_error = 0;
    writes_short = false;
    if (desk) must(oc_desk_close(desk, false));
    folder_drop(folder);
    folder_drop(other);
    return 0;
}

static oc_status apply(oc_input in)
{
    in.time_ns = now_ns += SECOND / 100;
    return oc_desk_apply(desk, &in, r.action, OC_ACTIONS_MAX, &r.count);
}

static oc_input quote(int64_t bid)
{
    oc_input in = {.kind = OC_INPUT_MARKET};
    in.as.market = (oc_event){.receive_ns = now_ns, .kind = OC_EVENT_QUOTE, .flags = OC_EVENT_LAST};
    in.as.market.as.quote.bid_ticks = in.as.market.as.quote.ask_ticks = bid;
    return in;
}

static oc_input prediction(void)
{
    oc_prediction p = {now_ns, ++r.prediction, 0, 1, 0.9f, 0.05f, 0.05f, 0};
    return (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p};
}

static oc_input venue(oc_venue_message m)
{
    if (m.kind != OC_VENUE_CONNECTED) m.message_id = ++r.message_id;
    return (oc_input){.kind = OC_INPUT_VENUE, .as.venue = m};
}

/* A journal with ten lots held at 10,000 and no order open. */
static void position_taken(void)
{
    r.message_id = r.prediction = 0;
    must(oc_desk_open(&desk, &r.config, &options));
    must(apply(venue((oc_venue_message){.kind = OC_VENUE_CONNECTED})));
    must(apply(quote(10000)));
    must(apply(prediction()));
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    must(apply(venue((oc_venue_message){0, a.order_id, 0, 10, 0, 0, OC_VENUE_ACK, a.side, 0, 0})));
    must(apply(venue((oc_venue_message){0, a.order_id, 10000, 10, 0, 0, OC_VENUE_FILL, a.side, 0, 0})));
    assert_int_equal(oc_engine_order_count(oc_desk_engine(desk)), 0);
}

/* The folder as another process would find it if this one died now. */
static oc_trading_state state_after_death(void)
{
    oc_desk_report report;
    oc_desk *after;
    char from[OC_PATH_MAX], to[OC_PATH_MAX], *data;
    size_t bytes;
    oc_desk_options there = options;
    there.folder = other;
    must(oc_journal_path(from, sizeof from, folder, 0));
    must(oc_journal_path(to, sizeof to, other, 0));
    must(oc_file_read(from, 1 << 20, &data, &bytes));
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_int_equal(syscall(SYS_write, fd, data, bytes), (long)bytes);
    close(fd);
    oc_memory_free(data);
    must(oc_desk_recover(&after, &r.config, &there, &report, r.action, OC_ACTIONS_MAX, &r.count));
    oc_trading_state state = oc_engine_trading_state(oc_desk_engine(after));
    must(oc_desk_close(after, false));
    return state;
}

/* Nothing leaves when this breaker trips, since no order is open: its record must not wait in a buffer all the same. */
static void a_tripped_breaker_survives_a_crash(void **state)
{
    (void)state;
    r.config.account.risk.drawdown_micros = 1000;
    position_taken();
    must(apply(quote(9800)));
    assert_int_equal(oc_engine_trading_state(oc_desk_engine(desk)), OC_TRADING_REDUCING);
    assert_int_equal(state_after_death(), OC_TRADING_REDUCING);
}

/* durability: order. What a person says, and every rise of the state, is on the disk like an order. */
static void what_must_survive_power_loss_is_synced(void **state)
{
    (void)state;
    options.durability = OC_DURABILITY_ORDER;
    r.config.account.risk.drawdown_micros = 1000;
    position_taken();
    syncs = 0;
    must(apply(quote(9990)));
    assert_int_equal(syncs, 0);
    must(apply(quote(9800)));
    assert_int_equal(syncs, 1);
    must(apply((oc_input){.kind = OC_INPUT_OPERATOR, .as.command = {OC_OPERATOR_KILL, 0, 0}}));
    assert_int_equal(syncs, 2);
}

/* After a failed sync the kernel may have dropped the pages: it is not asked again, and no order leaves. */
static void a_failed_sync_is_final(void **state)
{
    (void)state;
    options.durability = OC_DURABILITY_ORDER;
    r.message_id = r.prediction = 0;
    must(oc_desk_open(&desk, &r.config, &options));
    must(apply(venue((oc_venue_message){.kind = OC_VENUE_CONNECTED})));
    must(apply(quote(10000)));
    sync_error = EIO;
    syncs = 0;
    must_fail(apply(prediction()), OC_EFAILED, "sync");
    assert_int_equal(r.count, 0);
    sync_error = 0;
    must_fail(apply(quote(10000)), OC_EFAILED, "halted");
    assert_int_equal(oc_desk_close(desk, true), OC_EFAILED);
    desk = NULL;
    assert_int_equal(syncs, 1);
}

static void short_and_interrupted_writes_are_whole(void **state)
{
    oc_desk_report report;
    (void)state;
    writes_short = true;
    position_taken();
    must(oc_desk_close(desk, true));
    desk = NULL;
    writes_short = false;
    assert_true(write_calls > 100);
    must(oc_desk_replay(folder, options.build, &report));
    assert_int_equal(report.tail, OC_JOURNAL_CLOSED);
    assert_int_equal(report.compared, 5);
}

/* Another process is recovering and has made its segment, but not yet written a byte of it. */
static void two_recoveries_at_once_are_one(void **state)
{
    oc_desk_report report;
    oc_desk *second;
    int lock;
    (void)state;
    position_taken();
    must(oc_desk_close(desk, false));
    desk = NULL;
    must(oc_journal_lock(folder, &lock));
    must_fail(oc_desk_recover(&second, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count), OC_EAGAIN,
              "another process");
    must_fail(oc_desk_open(&second, &r.config, &options), OC_EAGAIN, "another process");
    close(lock);
    must(oc_desk_recover(&desk, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    must_fail(oc_desk_recover(&second, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count), OC_EAGAIN,
              "another process");
    must(oc_desk_replay(folder, options.build, &report)); /* who only reads needs no lock */
}

/* A group is synced when it is full: about a MiB of quotes that lead to nothing. */
static void groups_are_synced(void **state)
{
    (void)state;
    position_taken();
    syncs = 0;
    for (int i = 0; i < 8000; i++) must(apply(quote(10000)));
    assert_int_equal(syncs, 1);
}

/* A segment that goes on from the right byte, yet under an epoch whose order ids were given out before. */
static void an_epoch_is_not_used_twice(void **state)
{
    oc_desk_report report;
    oc_journal_reader reader;
    oc_journal_item item;
    oc_journal *j;
    bool more = true;
    (void)state;
    position_taken();
    must(oc_desk_close(desk, false));
    desk = NULL;
    must(oc_journal_reader_open(&reader, folder, 0));
    while (more) must(oc_journal_reader_next(&reader, &item, &more));
    for (uint32_t epoch = 2; epoch > 0; epoch--) {
        oc_journal_start start = {reader.header.build, reader.header.config, epoch,         1, 0,
                                  reader.at,           reader.check,         reader.number, 0, OC_DURABILITY_GROUP};
        char path[OC_PATH_MAX];
        must(oc_journal_create(&j, folder, &start));
        must(oc_journal_close(j, false));
        oc_status status = oc_desk_replay(folder, options.build, &report);
        assert_int_equal(status, epoch == 2 ? OC_OK : OC_EDATA);
        must(oc_journal_path(path, sizeof path, folder, 1));
        assert_int_equal(unlink(path), 0);
    }
    oc_journal_reader_close(&reader);
}

int main(void)
{
#define WITH(name) cmocka_unit_test_setup_teardown(name, opened, closed)
    const struct CMUnitTest tests[] = {
        WITH(a_tripped_breaker_survives_a_crash),
        WITH(what_must_survive_power_loss_is_synced),
        WITH(a_failed_sync_is_final),
        WITH(short_and_interrupted_writes_are_whole),
        WITH(two_recoveries_at_once_are_one),
        WITH(groups_are_synced),
        WITH(an_epoch_is_not_used_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
