/* trade.c - what a live session does its own way: a server answers, a clock may rule, a session that died goes on. */
#include "evaluate/trade.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "evaluate/backtest.h"
#include "evaluate/backtest_parts.h"
#include "trade/predictors/server.h"

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
    oc_loop_pace pace;
    oc_delay_record delays;
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

static oc_status session_open(session *s, oc_trade_flags flags)
{
    backtest *b = &s->base;
    OC_TRY(pace_read(s, b->config));
    if (*oc_config_text(b->config, "model.predictions"))
        return oc_config_refuse(b->config, "model.predictions", "a session asks a server; a backtest takes a file");
    OC_TRY(backtest_prepare(b, flags.in_sample));
    OC_TRY(server_open(s));
    OC_TRY(oc_simulated_open(&b->venue, &b->setup.venue));
    const oc_desk_options desk = backtest_desk_options(b);
    OC_TRY(oc_desk_open(&b->desk, &b->setup.engine, &desk));
    return backtest_begin(b);
}

static void session_close(session *s)
{
    oc_server_predictor_close(s->server);
    backtest_close(&s->base);
    oc_memory_free(s);
}

/* ---- running ---- */

static oc_status session_loop(session *s)
{
    oc_loop_setup setup = backtest_loop_setup(&s->base);
    if (s->server) setup.predictor = oc_server_predictor_of(s->server);
    setup.pace = s->pace;
    setup.delays = s->pace.live ? &s->delays : NULL;
    setup.stop = &stop_requested;
    return backtest_loop(&s->base, &setup, "trade");
}

/* ---- what it came to ---- */

static json_t *server_counts(const session *s)
{
    const oc_server_counts n = oc_server_predictor_counts(s->server);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "asked", (json_int_t)n.asked, "answered",
                     (json_int_t)n.answered, "unanswered", (json_int_t)n.unanswered, "late", (json_int_t)n.late,
                     "refused", (json_int_t)n.refused, "lost", (json_int_t)n.lost, "connected", (json_int_t)n.connected,
                     "restored_rows", (json_int_t)n.restored_rows);
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
    if (s->delays.count > 0) (void)json_object_set_new(more, "decision_delay_ns", delay_summary(&s->delays));
    s->base.more = more;
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
