/* test_journal.c - the journal and the desk: what was written is read back, decided the same, and whatever is not as it
 * was written is found and named, with no byte of it written over.
 * Would catch: a bit that no checksum covers, a cut file taken for a whole one, a recovery that decides again, writes
 * over the tail, or sends under an old epoch, an order that leaves before its record, a full disk that loses records.
 * Repetitions: kills 10, with OUTCRY_FULL=1 200. Every bit and every byte of a small journal in both. */
#include "trade/trade_case.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/random.h"
#include "trade/desk.h"
#include "trade/venues/simulated.h"

enum { INPUTS = 24, FILE_MAX = 1 << 20 };

static const oc_hash build_a = {1, 2}, build_b = {3, 4};
static char folder[64], copy[64];
static rig r;
static oc_hash state_after[INPUTS + 1]; /* by number of inputs */
static unsigned char bytes[FILE_MAX];
static size_t bytes_count;

static void journal_path(char *path, const char *in, unsigned segment)
{
    must(oc_journal_path(path, OC_PATH_MAX, in, segment));
}

static oc_desk_options options_of(const char *in, oc_hash build)
{
    return (oc_desk_options){.folder = in, .build = build};
}

/* The ith input of the story: quotes, predictions that turn, acks and fills of the order that the last action made. */
static oc_input story(const oc_engine *e, int i)
{
    oc_input in = {.time_ns = SECOND + i * (SECOND / 10)};
    const oc_open_order *o = oc_engine_order_count(e) ? oc_engine_order(e, 0) : NULL;
    uint64_t next = oc_engine_totals_of(e).message_id + 1;
    if (i == 0) {
        in.kind = OC_INPUT_VENUE;
        in.as.venue = (oc_venue_message){.kind = OC_VENUE_CONNECTED};
    } else if (o && o->state != OC_ORDER_LIVE) {
        in.kind = OC_INPUT_VENUE;
        in.as.venue = (oc_venue_message){next, o->id, 0, o->lots, 0, 0, OC_VENUE_ACK, o->side, 0, 0};
    } else if (o && i % 5 != 4) {
        in.kind = OC_INPUT_VENUE;
        in.as.venue = (oc_venue_message){
            next, o->id, o->price_ticks, 1 + (o->lots - o->filled_lots) / 2, 3, 0, OC_VENUE_FILL, o->side, 0, 0};
    } else if (i % 3 == 1) {
        in.kind = OC_INPUT_MARKET;
        in.as.market = (oc_event){.receive_ns = in.time_ns, .kind = OC_EVENT_QUOTE, .flags = OC_EVENT_LAST};
        in.as.market.as.quote.bid_ticks = 10000 + i % 7;
        in.as.market.as.quote.ask_ticks = 10002 + i % 7;
    } else {
        float buy = i % 4 < 2 ? 0.8f : 0.1f;
        in.kind = OC_INPUT_PREDICTION;
        in.as.prediction = (oc_prediction){in.time_ns, (uint64_t)i, 0, 1, buy, 0.9f - buy, 0.1f, 0};
    }
    return in;
}

static void story_tell(oc_desk *d, int from, int to)
{
    for (int i = from; i < to; i++) {
        oc_input in = story(oc_desk_engine(d), i);
        must(oc_desk_apply(d, &in, r.action, OC_ACTIONS_MAX, &r.count));
        if (i < INPUTS) state_after[i + 1] = oc_engine_state_hash(oc_desk_engine(d));
    }
}

static void folder_empty(const char *in)
{
    char path[OC_PATH_MAX];
    for (unsigned i = 0; i < 4; i++) {
        journal_path(path, in, i);
        unlink(path);
    }
}

static void file_read(const char *in, unsigned segment)
{
    char path[OC_PATH_MAX], *data;
    journal_path(path, in, segment);
    must(oc_file_read(path, FILE_MAX, &data, &bytes_count));
    memcpy(bytes, data, bytes_count);
    oc_memory_free(data);
}

static void file_write(const char *in, const unsigned char *data, size_t count)
{
    char path[OC_PATH_MAX];
    journal_path(path, in, 0);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, count), (ssize_t)count);
    close(fd);
}

static bool file_same(const char *in, const unsigned char *data, size_t count)
{
    char path[OC_PATH_MAX], *now;
    size_t now_count;
    journal_path(path, in, 0);
    must(oc_file_read(path, FILE_MAX, &now, &now_count));
    bool same = now_count == count && memcmp(now, data, count) == 0;
    oc_memory_free(now);
    return same;
}

/* In memory where the system offers it: the syncs of thousands of segments are not what is tested. */
static void make_folder(char *path, size_t cap, const char *name)
{
    snprintf(path, cap, "/dev/shm/outcry-test-%s-XXXXXX", name);
    if (!mkdtemp(path)) folder_make(path, cap, name);
}

static int opened(void **state)
{
    (void)state;
    oc_desk *d;
    oc_desk_options options;
    rig_defaults(&r, 1);
    make_folder(folder, sizeof folder, "journal");
    make_folder(copy, sizeof copy, "journal-copy");
    options = options_of(folder, build_a);
    must(oc_desk_open(&d, &r.config, &options));
    state_after[0] = oc_engine_state_hash(oc_desk_engine(d));
    story_tell(d, 0, INPUTS);
    must(oc_desk_close(d, true));
    file_read(folder, 0);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    folder_empty(folder);
    folder_empty(copy);
    rmdir(folder);
    rmdir(copy);
    return 0;
}

static void replays_to_the_same_state(void **state)
{
    (void)state;
    oc_desk_report report;
    must(oc_desk_replay(folder, build_a, &report));
    assert_int_equal(report.inputs, INPUTS);
    assert_int_equal(report.compared, INPUTS);
    assert_int_equal(report.tail, OC_JOURNAL_CLOSED);
    assert_true(oc_hash_equal(report.state_hash, state_after[INPUTS]));
    must_fail(oc_desk_replay(folder, build_b, &report), OC_EDATA, "another build");
}

static void every_bit_flip_is_found(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    for (size_t bit = 0; bit < bytes_count * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        file_write(copy, bytes, bytes_count);
        oc_status status = oc_desk_replay(copy, build_a, &report);
        if (status != OC_EDATA) fail_msg("bit %zu: %s", bit, oc_status_name(status));
        if (!strstr(oc_status_message(), "journal-000000.ocj")) fail_msg("bit %zu: %s", bit, oc_status_message());
        if (bit % 101 == 0) {
            status = oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count);
            if (status == OC_OK || !file_same(copy, bytes, bytes_count)) fail_msg("bit %zu: recovered or written", bit);
        }
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    printf("%zu bits of %zu bytes\n", bytes_count * 8, bytes_count);
}

/* From the file's first `count` bytes: recovered, told to the end, replayed. */
static void cut_at(size_t count)
{
    oc_desk_report report;
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    folder_empty(copy);
    file_write(copy, bytes, count);
    must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    if (report.tail == OC_JOURNAL_CLOSED) fail_msg("%zu bytes: taken for a whole journal", count);
    if (!oc_hash_equal(report.state_hash, state_after[report.inputs])) fail_msg("%zu bytes: another state", count);
    if (!file_same(copy, bytes, count)) fail_msg("%zu bytes: written over", count);
    bool first = report.records == 0 && report.epoch == 0;
    uint32_t epoch = oc_engine_totals_of(oc_desk_engine(d)).epoch;
    if (epoch != (first ? 1u : 2u)) fail_msg("%zu bytes: epoch %u", count, epoch);
    oc_hash journal = oc_desk_journal_hash(d), at_end = oc_engine_state_hash(oc_desk_engine(d));
    must(oc_desk_close(d, false));
    must(oc_desk_replay(copy, build_a, &report));
    assert_true(oc_hash_equal(report.state_hash, at_end));
    assert_true(oc_hash_equal(report.journal_hash, journal));
}

static void every_cut_is_found_and_recovered(void **state)
{
    (void)state;
    oc_desk_report report;
    for (size_t count = 0; count < bytes_count; count++) cut_at(count);
    folder_empty(copy);
    file_write(copy, bytes, bytes_count - 1);
    must(oc_desk_replay(copy, build_a, &report));
    assert_int_equal(report.tail, OC_JOURNAL_TORN);
    assert_true(report.torn_bytes > 0);
    file_write(copy, bytes, bytes_count - OC_JOURNAL_RECORD_BYTES); /* the END record alone is missing */
    must(oc_desk_replay(copy, build_a, &report));
    assert_int_equal(report.tail, OC_JOURNAL_CUT);
}

/* Zeros from `count` on are the same file as zeros from any byte of the run of zeros there. The last record's edge in
 * it; SIZE_MAX: none. */
static size_t edge_beside(size_t count)
{
    oc_journal_reader reader;
    oc_journal_item item;
    bool more = true;
    size_t low = count, high = count, edge = SIZE_MAX;
    while (low > 0 && bytes[low - 1] == 0) low--;
    while (high < bytes_count && bytes[high] == 0) high++;
    if (low == 0) edge = 0;
    file_write(copy, bytes, bytes_count);
    must(oc_journal_reader_open(&reader, copy, 0));
    for (; more; must(oc_journal_reader_next(&reader, &item, &more)))
        if (reader.at >= low && reader.at <= high) edge = reader.at;
    oc_journal_reader_close(&reader);
    return edge;
}

/* Power is lost: the file has its length, but from some byte on it holds zeros. From every byte: at a record's edge it
 * is a torn write, counted and recovered from; within a record it is damage, unless the record held zeros there. */
static void every_tail_of_zeros_is_torn_or_named(void **state)
{
    (void)state;
    static unsigned char zeroed[sizeof bytes];
    oc_desk_report report;
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    int torn = 0;
    for (size_t count = 0; count < bytes_count; count++) {
        size_t edge = edge_beside(count);
        folder_empty(copy);
        memset(zeroed, 0, bytes_count);
        memcpy(zeroed, bytes, count);
        file_write(copy, zeroed, bytes_count);
        oc_status status = oc_desk_replay(copy, build_a, &report);
        if (memcmp(zeroed, bytes, bytes_count) == 0) continue; /* it says what it said */
        if (edge == SIZE_MAX && status != OC_EDATA) fail_msg("%zu: %s", count, oc_status_name(status));
        if (edge == SIZE_MAX) continue;
        must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
        if (report.tail != OC_JOURNAL_TORN || report.torn_bytes != bytes_count - edge)
            fail_msg("%zu: %llu bytes torn", count, (unsigned long long)report.torn_bytes);
        assert_true(oc_hash_equal(report.state_hash, state_after[report.inputs]));
        assert_true(file_same(copy, zeroed, bytes_count));
        must(oc_desk_close(d, false));
        must(oc_desk_replay(copy, build_a, &report));
        torn++;
        zeroed[bytes_count - 1] = 1; /* one byte of it is none: damage */
        folder_empty(copy);
        file_write(copy, zeroed, bytes_count);
        must_fail(oc_desk_replay(copy, build_a, &report), OC_EDATA, "journal-000000.ocj");
    }
    assert_true(torn > INPUTS);
}

/* A crash during the recovery itself: the second segment is cut, the first one and what is left of it stay as they are.
 */
static void cuts_of_a_recovery_are_recovered(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d;
    char path[OC_PATH_MAX];
    oc_desk_options options = options_of(copy, build_a);
    struct stat whole;
    journal_path(path, copy, 1);
    file_write(copy, bytes, bytes_count - OC_JOURNAL_RECORD_BYTES - 5); /* the END and the last input are gone */
    must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    must(oc_desk_close(d, false));
    assert_int_equal(stat(path, &whole), 0);
    for (off_t cut = whole.st_size; cut >= 0; cut -= cut > 1000 ? 97 : 1) {
        assert_int_equal(truncate(path, cut), 0);
        must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
        uint32_t epoch = oc_engine_totals_of(oc_desk_engine(d)).epoch;
        if (report.segments != 2 || epoch != (cut < OC_JOURNAL_HEADER_BYTES ? 2u : 3u))
            fail_msg("cut at %lld", (long long)cut);
        assert_int_equal(oc_engine_position(oc_desk_engine(d), 0).lots != 0, 1);
        must(oc_desk_close(d, false));
        must(oc_desk_replay(copy, build_a, &report));
        assert_int_equal(report.segments, 3);
        journal_path(path, copy, 2);
        unlink(path);
        journal_path(path, copy, 1);
    }
}

static void closed_journals_are_not_continued(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d;
    oc_desk_options options = options_of(folder, build_a);
    must_fail(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count), OC_EFAILED,
              "closed");
    must_fail(oc_desk_open(&d, &r.config, &options), OC_EFAILED, "cannot create");
    assert_true(file_same(folder, bytes, bytes_count));
}

static void bytes_behind_the_end_are_found(void **state)
{
    (void)state;
    oc_desk_report report;
    memset(bytes + bytes_count, 0, OC_JOURNAL_RECORD_BYTES);
    file_write(copy, bytes, bytes_count + 1);
    must_fail(oc_desk_replay(copy, build_a, &report), OC_EDATA, "behind the end");
}

static void another_configuration_is_refused(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    file_write(copy, bytes, bytes_count - OC_JOURNAL_RECORD_BYTES);
    r.config.account.policy.buy_threshold = 0.51;
    must_fail(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count), OC_EDATA,
              "another configuration");
}

static void another_build_takes_over(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d, *same;
    oc_desk_options options = options_of(copy, build_b), first = options_of(copy, build_a);
    file_write(copy, bytes, bytes_count - OC_JOURNAL_RECORD_BYTES);
    must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    assert_int_equal(report.absorbed, INPUTS);
    assert_int_equal(report.compared, 0);
    oc_position absorbed = oc_engine_position(oc_desk_engine(d), 0);
    oc_engine_totals totals = oc_engine_totals_of(oc_desk_engine(d));
    must(oc_desk_close(d, false));
    folder_empty(copy);
    file_write(copy, bytes, bytes_count - OC_JOURNAL_RECORD_BYTES);
    must(oc_desk_recover(&same, &r.config, &first, &report, r.action, OC_ACTIONS_MAX, &r.count));
    oc_position decided = oc_engine_position(oc_desk_engine(same), 0);
    oc_engine_totals expected = oc_engine_totals_of(oc_desk_engine(same));
    must(oc_desk_close(same, false));
    assert_memory_equal(&absorbed, &decided, sizeof decided);
    assert_int_equal(totals.orders, expected.orders);
    assert_int_equal(totals.fills, expected.fills);
    assert_int_equal(totals.equity_micros, expected.equity_micros);
    assert_int_equal(totals.exposure_micros, expected.exposure_micros);
    assert_int_equal(totals.message_id, expected.message_id);
}

/* A record that is sound but says what the engine would not have said. */
static void another_decision_halts(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_journal_reader reader;
    oc_journal_item item;
    oc_journal *j;
    oc_input input;
    bool more = true, planted = false;
    must(oc_journal_reader_open(&reader, folder, 0));
    oc_journal_start start = {.build = build_a, .config = reader.header.config, .epoch = 1};
    must(oc_journal_create(&j, copy, &start));
    for (;;) {
        must(oc_journal_reader_next(&reader, &item, &more));
        if (!more) break;
        if (item.kind != OC_JOURNAL_INPUT) {
            must(oc_journal_add(j, item.kind, item.payload, item.bytes));
            continue;
        }
        must(oc_journal_input_read(&item, &input, r.action, OC_ACTIONS_MAX, &r.count));
        if (!planted && r.count && r.action[0].kind == OC_ACTION_NEW) {
            r.action[0].lots++;
            planted = true;
        }
        must(oc_journal_add_input(j, &input, r.action, r.count));
    }
    oc_journal_reader_close(&reader);
    must(oc_journal_close(j, false));
    assert_true(planted);
    must_fail(oc_desk_replay(copy, build_a, &report), OC_EDATA, "decides otherwise");
}

static void a_second_process_is_kept_out(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d, *other;
    oc_desk_options options = options_of(copy, build_a);
    must(oc_desk_open(&d, &r.config, &options));
    story_tell(d, 0, 5);
    must_fail(oc_desk_recover(&other, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count), OC_EAGAIN,
              "another process");
    must(oc_desk_close(d, false));
    must(oc_desk_recover(&other, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    must(oc_desk_close(other, true));
}

static void snapshots_shorten_the_recovery(void **state)
{
    (void)state;
    oc_desk_report report;
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    options.snapshot_every = 7;
    must(oc_desk_open(&d, &r.config, &options));
    story_tell(d, 0, INPUTS);
    must(oc_desk_close(d, false));
    must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    assert_int_equal(report.inputs, INPUTS);
    assert_int_equal(report.compared, INPUTS - 21);
    assert_true(oc_hash_equal(report.state_hash, state_after[INPUTS]));
    must(oc_desk_close(d, true));
    must(oc_desk_replay(copy, build_a, &report));
    assert_int_equal(report.compared, INPUTS + 1); /* and the recovery's own */
}

/* No more room after `room` further bytes: what was recorded stays, cancels may leave, nothing else. */
static void full_disk_halts(void **state)
{
    (void)state;
    for (size_t room = 0; room < 400; room += 13) {
        oc_desk_report report;
        oc_desk *d;
        oc_desk_options options = options_of(copy, build_a);
        struct rlimit before, limit;
        struct stat now;
        char path[OC_PATH_MAX];
        folder_empty(copy);
        must(oc_desk_open(&d, &r.config, &options));
        story_tell(d, 0, 4); /* an order is open */
        assert_int_equal(oc_engine_order_count(oc_desk_engine(d)), 1);
        journal_path(path, copy, 0);
        assert_int_equal(stat(path, &now), 0);
        getrlimit(RLIMIT_FSIZE, &before);
        signal(SIGXFSZ, SIG_IGN);
        limit = before;
        limit.rlim_cur = (rlim_t)now.st_size + room;
        setrlimit(RLIMIT_FSIZE, &limit);
        oc_status status = OC_OK;
        int told = 4;
        for (; told < INPUTS && status == OC_OK; told++) {
            oc_input in = story(oc_desk_engine(d), told);
            status = oc_desk_apply(d, &in, r.action, OC_ACTIONS_MAX, &r.count);
        }
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(status, OC_EFAILED);
        for (size_t i = 0; i < r.count; i++) assert_int_equal(r.action[i].kind, OC_ACTION_CANCEL);
        oc_input more = {.kind = OC_INPUT_TIMER, .time_ns = 100 * SECOND};
        must_fail(oc_desk_apply(d, &more, r.action, OC_ACTIONS_MAX, &r.count), OC_EFAILED, "halted");
        assert_int_equal(r.count, 0);
        assert_int_not_equal(oc_desk_close(d, true), OC_OK);
        must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
        assert_true(report.inputs >= 4 && report.inputs < (uint64_t)told);
        assert_true(oc_hash_equal(report.state_hash, state_after[report.inputs]));
        must(oc_desk_close(d, true));
    }
}

/* The child trades and tells every order that it "sends" through the pipe, after the desk gave it out; then dies. */
static void child_trade(int out, oc_durability durability)
{
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    options.durability = durability;
    options.snapshot_every = 50;
    if (oc_desk_open(&d, &r.config, &options) != OC_OK) _exit(1);
    for (int i = 0;; i++) {
        oc_input in = story(oc_desk_engine(d), i);
        if (oc_desk_apply(d, &in, r.action, OC_ACTIONS_MAX, &r.count) != OC_OK) _exit(1);
        for (size_t k = 0; k < r.count; k++) {
            if (r.action[k].kind != OC_ACTION_NEW) continue;
            if (write(out, &r.action[k], sizeof r.action[k]) != (ssize_t)sizeof r.action[k]) _exit(1);
        }
    }
}

static size_t recorded_orders(const char *in, uint64_t *ids, size_t cap)
{
    size_t count = 0;
    oc_journal_reader reader;
    oc_journal_item item;
    oc_input input;
    bool more = true;
    must(oc_journal_reader_open(&reader, in, 0));
    for (;;) {
        must(oc_journal_reader_next(&reader, &item, &more));
        if (!more) break;
        if (item.kind != OC_JOURNAL_INPUT) continue;
        must(oc_journal_input_read(&item, &input, r.action, OC_ACTIONS_MAX, &r.count));
        for (size_t i = 0; i < r.count; i++) {
            if (r.action[i].kind == OC_ACTION_NEW && count < cap) ids[count++] = r.action[i].order_id;
        }
    }
    oc_journal_reader_close(&reader);
    return count;
}

static void kills_lose_no_order(void **state)
{
    (void)state;
    static uint64_t ids[1 << 18];
    int kills = counts_full() ? 200 : 10;
    size_t total = 0;
    for (int k = 0; k < kills; k++) {
        int ends[2], status;
        oc_action sent;
        oc_desk *d;
        oc_desk_report report;
        oc_desk_options options = options_of(copy, build_a);
        folder_empty(copy);
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) child_trade(ends[1], k % 4 == 0 ? OC_DURABILITY_ORDER : OC_DURABILITY_GROUP);
        close(ends[1]);
        uint64_t wait_orders = oc_random_below(7, (uint64_t)k, 300) + 1, read_orders = 0;
        static uint64_t sent_ids[1 << 18];
        bool killed = false;
        while (read(ends[0], &sent, sizeof sent) == (ssize_t)sizeof sent) {
            if (read_orders < COUNT(sent_ids)) sent_ids[read_orders++] = sent.order_id;
            if (read_orders >= wait_orders && !killed) killed = kill(child, SIGKILL) == 0;
        }
        close(ends[0]);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        size_t recorded = recorded_orders(copy, ids, COUNT(ids));
        assert_true(recorded >= read_orders && recorded <= read_orders + 1); /* one may be written and not yet sent */
        for (size_t i = 0; i < read_orders; i++) assert_int_equal(ids[i], sent_ids[i]);
        must(oc_desk_recover(&d, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
        for (uint32_t i = 0; i < oc_engine_order_count(oc_desk_engine(d)); i++)
            assert_int_not_equal(oc_engine_order(oc_desk_engine(d), i)->state, OC_ORDER_SENT);
        must(oc_desk_close(d, true));
        must(oc_desk_replay(copy, build_a, &report));
        total += read_orders;
    }
    printf("%d kills, %zu orders sent, none without its record\n", kills, total);
}

/* ---- a crash at every boundary, against the venue's own record ---- */

enum { DAY_STEPS = 150 };

typedef struct day {
    oc_desk *desk;
    oc_simulated *venue;
    oc_venue line;
    int64_t now, timer;
    uint64_t prediction;
    int inputs, crash_at; /* crash_at: after the record of this input */
    bool before_send, crashed;
} day;

static void day_send(day *d, const oc_action *a)
{
    if (a->kind == OC_ACTION_TIMER) d->timer = a->at_ns;
    must(d->line.send(d->line.context, a, d->now));
}

static void day_crash(day *d)
{
    oc_desk_report report;
    oc_desk_options options = options_of(copy, build_a);
    must(oc_desk_close(d->desk, false));
    oc_simulated_break(d->venue);
    must(oc_desk_recover(&d->desk, &r.config, &options, &report, r.action, OC_ACTIONS_MAX, &r.count));
    for (size_t i = 0; i < r.count; i++) day_send(d, &r.action[i]);
    must(d->line.connect(d->line.context, d->now));
}

static void day_apply(day *d, oc_input in)
{
    in.time_ns = d->now;
    must(oc_desk_apply(d->desk, &in, r.action, OC_ACTIONS_MAX, &r.count));
    bool now = !d->crashed && d->inputs++ == d->crash_at;
    d->crashed |= now;
    for (size_t i = 0; i < r.count && !(now && d->before_send); i++) day_send(d, &r.action[i]);
    if (now) day_crash(d);
}

static void day_venue(day *d)
{
    oc_venue_message m;
    int64_t at;
    while (d->line.poll(d->line.context, d->now, &m, &at))
        day_apply(d, (oc_input){.kind = OC_INPUT_VENUE, .as.venue = m});
}

static void day_step(day *d, int step)
{
    uint64_t luck = oc_random_philox(3, (uint64_t)step);
    int64_t middle = 1000 + (int64_t)(luck % 12);
    d->now += (int64_t)(luck >> 8 & 511);
    day_venue(d);
    if (d->now >= d->timer) {
        d->timer = INT64_MAX;
        day_apply(d, (oc_input){.kind = OC_INPUT_TIMER});
    }
    oc_input in = {.kind = OC_INPUT_MARKET};
    in.as.market = (oc_event){.receive_ns = d->now, .kind = OC_EVENT_QUOTE, .flags = OC_EVENT_LAST};
    in.as.market.as.quote.bid_ticks = middle - 1;
    in.as.market.as.quote.ask_ticks = middle + 1;
    in.as.market.as.quote.bid_lots = in.as.market.as.quote.ask_lots = 7;
    d->line.market(d->line.context, &in.as.market);
    day_apply(d, in);
    float buy = luck & 1 << 20 ? 0.8f : 0.1f;
    oc_prediction p = {d->now, ++d->prediction, 0, 1, buy, 0.9f - buy, 0.1f, 0};
    if (step % 3 == 0) day_apply(d, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
}

/* True where the crash took place within the day. */
static bool day_run(int crash_at, bool before_send)
{
    const oc_simulated_market market = {{1, 1}, 1, 10, 20, 0, 0};
    const oc_simulated_config config = {5, 300, 200, 300, 200, 50000, true, &market, 1};
    oc_desk_options options = options_of(copy, build_a);
    oc_desk_report report;
    day d = {.now = 1000, .timer = INT64_MAX, .crash_at = crash_at, .before_send = before_send};
    folder_empty(copy);
    must(oc_desk_open(&d.desk, &r.config, &options));
    must(oc_simulated_open(&d.venue, &config));
    d.line = oc_simulated_venue(d.venue);
    must(d.line.connect(d.line.context, d.now));
    for (int step = 0; step < DAY_STEPS; step++) day_step(&d, step);
    bool crashed = d.crashed;
    d.crashed = true; /* not while settling */
    day_apply(&d, (oc_input){.kind = OC_INPUT_OPERATOR, .as.command = {OC_OPERATOR_HALT, 0, 0}});
    for (int i = 0; i < 8; i++) {
        d.now += 2000;
        day_venue(&d);
    }
    oc_simulated_account account = oc_simulated_account_of(d.venue, 0);
    oc_position p = oc_engine_position(oc_desk_engine(d.desk), 0);
    oc_engine_totals t = oc_engine_totals_of(oc_desk_engine(d.desk));
    bool same = p.lots == account.position_lots && p.cash_ticks_lots == account.cash_ticks_lots &&
                p.fees_micros == account.fees_micros && t.fills == account.fills &&
                t.message_id == oc_simulated_messages(d.venue) && oc_simulated_open_orders(d.venue) == 0 &&
                oc_engine_order_count(oc_desk_engine(d.desk)) == 0;
    if (!same)
        fail_msg("crash after input %d, %s the send: our account is not the venue's", crash_at,
                 before_send ? "before" : "after");
    if (account.fills <= 3)
        fail_msg("crash after input %d: %llu fills, %llu orders, state %u", crash_at, (unsigned long long)account.fills,
                 (unsigned long long)t.orders, t.state);
    must(oc_desk_close(d.desk, true));
    oc_simulated_close(d.venue);
    must(oc_desk_replay(copy, build_a, &report));
    return crashed;
}

static void a_crash_at_every_boundary_loses_nothing(void **state)
{
    (void)state;
    int boundaries = 0;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    r.config.account.policy.lifetime_ns = 2000;
    while (day_run(boundaries, false)) {
        assert_true(day_run(boundaries, true));
        boundaries++;
    }
    printf("%d boundaries, before and after the send\n", boundaries);
    assert_true(boundaries > DAY_STEPS);
}

static void apply_allocates_nothing(void **state)
{
    (void)state;
    oc_desk *d;
    oc_desk_options options = options_of(copy, build_a);
    options.snapshot_every = 10;
    must(oc_desk_open(&d, &r.config, &options));
    size_t before = oc_memory_count();
    story_tell(d, 0, 200);
    assert_int_equal(oc_memory_count(), before);
    must(oc_desk_close(d, true));
}

int main(void)
{
#define WITH(name) cmocka_unit_test_setup_teardown(name, opened, closed)
    const struct CMUnitTest tests[] = {
        WITH(replays_to_the_same_state),
        WITH(every_bit_flip_is_found),
        WITH(every_cut_is_found_and_recovered),
        WITH(every_tail_of_zeros_is_torn_or_named),
        WITH(cuts_of_a_recovery_are_recovered),
        WITH(closed_journals_are_not_continued),
        WITH(bytes_behind_the_end_are_found),
        WITH(another_configuration_is_refused),
        WITH(another_build_takes_over),
        WITH(another_decision_halts),
        WITH(a_second_process_is_kept_out),
        WITH(snapshots_shorten_the_recovery),
        WITH(full_disk_halts),
        WITH(kills_lose_no_order),
        WITH(a_crash_at_every_boundary_loses_nothing),
        WITH(apply_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
