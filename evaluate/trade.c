/* trade.c - what a live session does its own way: a server answers, a clock may rule, a session that died goes on. */
#include "evaluate/trade.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "evaluate/backtest.h"
#include "evaluate/backtest_parts.h"
#include "trade/predictors/server.h"
#include "trade/venues/recorded.h"

enum { KEYS_MAX = 128 };

static const oc_config_key own_keys[] = {
    {"clock", OC_CONFIG_CHOICE, 0, 0, "replay", "replay|live", "",
     "replay: time is the events', each answer is waited for; live: time is the clock's"},
    {"feed.speed", OC_CONFIG_REAL, 0, OC_LOOP_SPEED_MAX, "0", NULL, "",
     "seconds of the recorded market in one of the clock; 0: as fast as possible, with clock replay alone"},
    {"serve.socket", OC_CONFIG_TEXT, 0, 0, "/tmp/outcry.sock", NULL, "", "Unix socket of the running server"},
    {"serve.wait_ns", OC_CONFIG_INT, 1e6, 3600e9, "5000000000", NULL, "ns",
     "clock replay: longest wait for one answer, the server's restart included; then on without"},
    {"serve.period_ns", OC_CONFIG_INT, 1, 86400e9, "100000000", NULL, "ns",
     "shortest usual time between two rows of an instrument, by which the server plans"},
    {"serve.deadline_ns", OC_CONFIG_INT, 0, 60e9, "0", NULL, "ns",
     "clock live: an answer later than this is HOLD; 0: policy.prediction_stale_ns alone decides"},
    {"serve.spin_ns", OC_CONFIG_INT, 0, 1e9, "50000", NULL, "ns", "waiting for an answer: spins so long, then sleeps"},
};

static volatile sig_atomic_t stop_requested;

void oc_trade_request_stop(void)
{
    stop_requested = 1;
}

oc_status oc_trade_keys(const oc_config_key **keys, size_t *count)
{
    static oc_config_key all[KEYS_MAX];
    size_t own = sizeof own_keys / sizeof *own_keys;
    if (oc_backtest_key_count + own > KEYS_MAX) return OC_FAIL(OC_ELIMIT, "more than %d configuration keys", KEYS_MAX);
    memcpy(all, oc_backtest_keys, oc_backtest_key_count * sizeof *all);
    memcpy(all + oc_backtest_key_count, own_keys, sizeof own_keys);
    *keys = all;
    *count = oc_backtest_key_count + own;
    return OC_OK;
}

typedef struct session {
    backtest base;
    oc_server_predictor *server; /* NULL: the policy needs no model */
    oc_recorded *venue;
    oc_loop_pace pace;
    oc_delay_record delays;
    bool resumed;
    oc_desk_report recovery;
    int64_t recovery_ns, since_ns; /* how long reading back took; what lies up to here is not traded again */
    oc_action action[OC_ACTIONS_MAX];
    size_t action_count;
} session;

/* ---- opening ---- */

static oc_status pace_read(session *s, const oc_config *c)
{
    s->pace = (oc_loop_pace){.live = strcmp(oc_config_text(c, "clock"), "live") == 0,
                             .speed = oc_config_real(c, "feed.speed")};
    if (s->pace.live && !(s->pace.speed > 0))
        return oc_config_refuse(c, "feed.speed", "clock live runs at a speed above 0; 1 is that of the record");
    return OC_OK;
}

static oc_status server_open(session *s)
{
    const backtest *b = &s->base;
    const oc_bundle *bundle = b->model.bundle;
    const oc_config *c = b->config;
    if (!bundle) return OC_OK;
    const oc_server_options options = {.socket = oc_config_text(c, "serve.socket"),
                                       .wanted = {.name = bundle->name,
                                                  .version = bundle->version,
                                                  .schema = bundle->schema,
                                                  .steps = (uint32_t)bundle->shape.steps,
                                                  .inputs = (uint32_t)bundle->shape.inputs,
                                                  .horizons = (uint32_t)bundle->shape.horizons,
                                                  .horizon = (uint32_t)b->model.horizon},
                                       .universe = b->universe,
                                       .instruments = b->instruments,
                                       .period_ns = oc_config_int(c, "serve.period_ns"),
                                       .wait_ns = oc_config_int(c, "serve.wait_ns"),
                                       .deadline_ns = oc_config_int(c, "serve.deadline_ns"),
                                       .spin_ns = oc_config_int(c, "serve.spin_ns"),
                                       .live = s->pace.live,
                                       .stop = &stop_requested};
    return oc_server_predictor_open(&s->server, &options);
}

static bool journal_there(const char *folder)
{
    char path[OC_PATH_MAX];
    return oc_journal_path(path, sizeof path, folder, 0) == OC_OK && oc_path_exists(path);
}

/* Journal and venue as they were left. Events up to the last of what either knows are history: they fill features,
 * windows and the venue's books, and nothing is decided by them again. */
static void past_take(session *s)
{
    backtest *b = &s->base;
    int64_t journal_ns = oc_engine_time(oc_desk_engine(b->desk)), venue_ns = oc_recorded_last_ns(s->venue);
    s->since_ns = journal_ns > venue_ns ? journal_ns : venue_ns;
    oc_log(OC_LOG_INFO,
           "%s: recovered in %.1f ms: %llu records in %u segments, %llu inputs compared, %llu bytes torn; %llu records "
           "of the venue",
           b->out, (double)s->recovery_ns / 1e6, (unsigned long long)s->recovery.records, s->recovery.segments,
           (unsigned long long)s->recovery.compared, (unsigned long long)s->recovery.torn_bytes,
           (unsigned long long)oc_recorded_count(s->venue));
}

/* The venue is connected, and its record says so, before the first input: with none of it the numbers of its messages
 * would begin anew, and the engine would take them for those that it knows. */
static oc_status record_check(const session *s, const char *path)
{
    if (s->recovery.inputs == 0 || oc_recorded_count(s->venue) > 0) return OC_OK;
    return OC_FAIL(OC_EDATA, "%s: the venue's record is gone, the journal beside it has %llu inputs: put it back", path,
                   (unsigned long long)s->recovery.inputs);
}

/* The desk first: its lock on the folder keeps a second process away from the venue's record too. */
static oc_status books_open(session *s, bool resume)
{
    char path[OC_PATH_MAX];
    backtest *b = &s->base;
    const oc_desk_options desk = backtest_desk_options(b);
    const int64_t start = oc_clock_monotonic_ns();
    s->resumed = resume && journal_there(b->out);
    OC_TRY(oc_path_join(path, sizeof path, b->out, "venue.log"));
    if (s->resumed)
        OC_TRY(oc_desk_recover(&b->desk, &b->setup.engine, &desk, &s->recovery, s->action, OC_ACTIONS_MAX,
                               &s->action_count));
    else
        OC_TRY(oc_desk_open(&b->desk, &b->setup.engine, &desk));
    OC_TRY(oc_recorded_open(&s->venue, &b->setup.venue, path, resume));
    s->recovery_ns = oc_clock_monotonic_ns() - start;
    if (!s->resumed) return OC_OK;
    OC_TRY(record_check(s, path));
    past_take(s);
    return OC_OK;
}

static oc_status session_open(session *s, oc_trade_flags flags)
{
    backtest *b = &s->base;
    OC_TRY(pace_read(s, b->config));
    if (*oc_config_text(b->config, "model.predictions"))
        return oc_config_refuse(b->config, "model.predictions", "a session asks a server; a backtest takes a file");
    OC_TRY(backtest_prepare(b, flags.in_sample));
    OC_TRY(server_open(s));
    OC_TRY(books_open(s, flags.resume));
    return backtest_begin(b);
}

static void session_close(session *s)
{
    oc_server_predictor_close(s->server);
    backtest_close(&s->base);
    oc_recorded_close(s->venue);
    oc_memory_free(s);
}

/* ---- running ---- */

/* Connect, ask, be told, and once more: each takes the way to the venue and back at its longest. */
static int64_t settle_ns(const oc_simulated_config *v)
{
    return 4 * (v->to_ns + v->to_jitter_ns + v->back_ns + v->back_jitter_ns);
}

static oc_status session_loop(session *s)
{
    oc_loop_setup setup = backtest_loop_setup(&s->base);
    if (s->server) setup.predictor = oc_server_predictor_of(s->server);
    setup.venue = oc_recorded_venue(s->venue);
    setup.pace = s->pace;
    setup.first_actions = s->action;
    setup.first_action_count = s->action_count;
    setup.resume_ns = s->since_ns;
    setup.settle_ns = s->resumed ? settle_ns(&s->base.setup.venue) : 0;
    setup.delays = s->pace.live ? &s->delays : NULL;
    setup.stop = &stop_requested;
    return backtest_loop(&s->base, &setup, "trade");
}

/* ---- what it came to ---- */

static json_t *server_counts(const session *s)
{
    const oc_server_counts n = oc_server_predictor_counts(s->server);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "asked", (json_int_t)n.asked, "answered",
                     (json_int_t)n.answered, "unanswered", (json_int_t)n.unanswered, "late", (json_int_t)n.late,
                     "refused", (json_int_t)n.refused, "lost", (json_int_t)n.lost, "connected", (json_int_t)n.connected,
                     "restored_rows", (json_int_t)n.restored_rows, "other_version", (json_int_t)n.other_version);
}

static json_t *resumption(const session *s)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "since_ns", (json_int_t)s->since_ns, "recovery_ns",
                     (json_int_t)s->recovery_ns, "segments", (json_int_t)s->recovery.segments, "records",
                     (json_int_t)s->recovery.records);
}

static json_t *delay_summary(const oc_delay_record *r)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)r->count, "p50",
                     (json_int_t)oc_delay_quantile(r, 0.5), "p99", (json_int_t)oc_delay_quantile(r, 0.99), "max",
                     (json_int_t)r->most_ns);
}

static oc_status session_results(session *s, json_t **results)
{
    char path[OC_PATH_MAX];
    json_t *more = json_pack("{s:s, s:f}", "clock", s->pace.live ? "live" : "replay", "speed", s->pace.speed);
    if (!more) return OC_FAIL(OC_EMEMORY, "no memory for the results");
    if (s->server) (void)json_object_set_new(more, "server", server_counts(s));
    if (s->resumed) (void)json_object_set_new(more, "resumed", resumption(s));
    if (s->delays.count > 0) (void)json_object_set_new(more, "decision_delay_ns", delay_summary(&s->delays));
    s->base.more = more;
    if (s->resumed) OC_TRY(backtest_tally_again(&s->base));
    if (s->delays.count > 0) {
        OC_TRY(oc_path_join(path, sizeof path, s->base.out, "delays.json"));
        OC_TRY(oc_delay_save(&s->delays, path));
    }
    return backtest_results(&s->base, results);
}

oc_status oc_trade_run(const oc_config *config, const char *out, oc_trade_flags flags, json_t **results)
{
    session *s;
    *results = NULL;
    OC_TRY(oc_memory_new(&s, sizeof *s, "trading session"));
    s->base.config = config;
    s->base.out = out;
    oc_status status = session_open(s, flags);
    if (status == OC_OK) status = session_loop(s);
    if (status == OC_OK) status = session_results(s, results);
    session_close(s);
    return status;
}
