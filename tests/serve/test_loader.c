/* test_loader.c - a server with a repository in this process: loader, batchers and clients in threads of their own, for
 * the thread sanitizer too. Versions change as fast as they can while two clients keep rows and windows on their way:
 * what it would catch is an answer lost, doubled, late, or of another version than it names. Oracle: oc_model_predict.
 */
#include "base/cmocka_all.h"
#include <stdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "serve/client/client.h"
#include "serve/loader.h"
#include "serve/models_server.h"
#include "serve/models_state.h"
#include "serve/pin.h"
#include "serve/served.h"

enum { T = 12, F = 5, OUTPUTS = 6, VERSIONS = 3, CLIENTS = 2, SESSIONS = 3, BURST = 8 };
static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, 16, 2, 2};
static const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};

typedef struct stage {
    served at;
    char repository[48];
    oc_bundle *bundles[VERSIONS];
    uint32_t over; /* by __atomic */
} stage;

typedef struct load {
    const stage *s;
    int number;
    oc_model *models[VERSIONS];
    size_t answers[VERSIONS]; /* by __atomic */
    size_t sent, got;
    pthread_t thread;
} load;

static void row_make(float *row, uint64_t session, uint64_t number)
{
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, session, number);
    for (int i = 0; i < F; i++) row[i] = (float)(4 * oc_random_uniform(key, (uint64_t)i) - 2);
}

static void rows_make(float *rows, uint64_t session, uint64_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) row_make(rows + i * F, session, first + i);
}

/* sequence: row << 16 | session << 8 | kind */
static void reply_check(load *l, const oc_wire_reply *r)
{
    const uint64_t row = r->sequence >> 16, session = (r->sequence >> 8) & 255;
    float window[T * F], want[OUTPUTS];
    assert_int_equal(r->kind, r->sequence & 255);
    l->got++;
    if (row + 1 < T) {
        assert_int_equal(r->state, OC_REPLY_HOLD_SHORT);
        return;
    }
    assert_int_equal(r->state, OC_REPLY_OK); /* LATE would not be */
    const int version = r->version_text[0] - '1';
    assert_true(version >= 0 && version < VERSIONS && r->version_text[1] == 0);
    rows_make(window, session, row + 1 - T, T);
    assert_int_equal(oc_model_predict(l->models[version], window, 1, want, OUTPUTS), OC_OK);
    assert_memory_equal(want, r->probabilities, sizeof want);
    __atomic_fetch_add(&l->answers[version], 1, __ATOMIC_RELAXED);
}

static void *load_run(void *argument)
{
    load *l = argument;
    oc_client *c;
    uint32_t ids[SESSIONS];
    float rows[T * F];
    uint64_t next = 0;
    assert_int_equal(oc_client_open(&c, l->s->at.address, 60 * OC_SECOND_NS), OC_OK);
    const oc_client_model *m = oc_client_describe(c);
    for (int i = 0; i < SESSIONS; i++)
        assert_int_equal(oc_client_session_open(c, m->name, "SIM", m->schema_low, m->schema_high, OC_SECOND_NS,
                                                60 * OC_SECOND_NS, &ids[i]),
                         OC_OK);
    while (!__atomic_load_n(&l->s->over, __ATOMIC_ACQUIRE) || l->got < l->sent) {
        const bool over = __atomic_load_n(&l->s->over, __ATOMIC_ACQUIRE);
        const bool room = l->sent - l->got < BURST * SESSIONS; /* for a whole round: a row of each session, once */
        for (int i = 0; i < SESSIONS && !over && room; i++, next += i == SESSIONS) {
            const uint64_t session = (uint64_t)(l->number * SESSIONS + i);
            oc_stamp stamp = {.sequence = next << 16 | session << 8 | OC_REQUEST_PUSH,
                              .deadline_ns = oc_clock_monotonic_ns() + 60 * OC_SECOND_NS};
            row_make(rows, session, next);
            assert_int_equal(oc_client_push(c, ids[i], stamp, rows, (uint32_t)next + 1), OC_OK);
            l->sent++;
            if (next % 4 != 0 || next + 1 < T) continue;
            rows_make(rows, session, next + 1 - T, T);
            stamp.sequence = next << 16 | session << 8 | OC_REQUEST_WINDOW;
            assert_int_equal(oc_client_window(c, i % 2 ? ids[i] : 0, stamp, rows, T), OC_OK);
            l->sent++;
        }
        oc_wire_reply reply;
        oc_client_wait(c, 0, 100000000);
        while (oc_client_poll(c, &reply, 1) == 1) reply_check(l, &reply);
        assert_true(oc_client_alive(c));
    }
    oc_client_close(c);
    return NULL;
}

static oc_server_config config_of(const stage *s)
{
    oc_server_config config = served_config(&s->at);
    config.repository = s->repository;
    config.threads = 2;
    config.clients_max = 2;
    config.sessions_max = 2;
    return config;
}

static int setup(void **state)
{
    stage *s = calloc(1, sizeof *s);
    oc_models_state live;
    char path[160];
    if (!s) return -1;
    served_make(&s->at);
    snprintf(s->repository, sizeof s->repository, "%s/models", s->at.folder);
    for (int i = 0; i < VERSIONS; i++) {
        assert_int_equal(sample_bundle(&s->bundles[i], &shape, 3.0f, 4.0, (uint64_t)(5 + i)), OC_OK);
        snprintf(s->bundles[i]->version, sizeof s->bundles[i]->version, "%d", i + 1);
        snprintf(path, sizeof path, "%s/sample/%d", s->repository, i + 1);
        assert_int_equal(oc_bundle_save(s->bundles[i], path), OC_OK);
    }
    assert_int_equal(oc_models_promote(s->repository, "sample/1", &live), OC_OK);
    oc_server_config config = config_of(s);
    config.clients_max = 6;
    config.sessions_max = SESSIONS * CLIENTS;
    config.ring_bytes = 16384;
    config.verify_ns = OC_SECOND_NS / 10;
    config.spin_ns = 20000;
    served_start(&s->at, &config);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    stage *s = *state;
    served_remove(&s->at);
    for (int i = 0; i < VERSIONS; i++) oc_bundle_close(s->bundles[i]);
    free(s);
    return 0;
}

static void turn(stage *s, int version, bool candidate)
{
    char wanted[32], text[16];
    oc_models_state state;
    json_t *said;
    snprintf(wanted, sizeof wanted, "sample/%d", version + 1);
    snprintf(text, sizeof text, "%d", version + 1);
    assert_int_equal(candidate ? oc_models_candidate(s->repository, wanted, 0.5, &state)
                               : oc_models_promote(s->repository, wanted, &state),
                     OC_OK);
    if (oc_models_server_await(s->at.socket, s->repository, "sample", text, candidate, 120 * OC_SECOND_NS, &said) !=
        OC_OK)
        fail_msg("%s: %s", wanted, oc_status_message());
    json_decref(said);
}

/* Until the version that is live has answered: on a slow machine the next one could be there before. */
static void answer_await(const load *loads, int version)
{
    size_t before = 0, now = 0;
    for (int i = 0; i < CLIENTS; i++) before += __atomic_load_n(&loads[i].answers[version], __ATOMIC_RELAXED);
    for (int tries = 0; now <= before; tries++) {
        if (tries > 60000) fail_msg("version %d is live and answers nothing", version + 1);
        usleep(1000);
        now = 0;
        for (int i = 0; i < CLIENTS; i++) now += __atomic_load_n(&loads[i].answers[version], __ATOMIC_RELAXED);
    }
}

static void under_load(void **state)
{
    stage *s = *state;
    load loads[CLIENTS] = {{0}};
    const int swaps = getenv("OUTCRY_FULL") ? 100 : 12;
    for (int i = 0; i < CLIENTS; i++) {
        loads[i].s = s;
        loads[i].number = i;
        for (int v = 0; v < VERSIONS; v++)
            assert_int_equal(oc_model_open(&loads[i].models[v], s->bundles[v], &cpu, 1), OC_OK);
        assert_int_equal(pthread_create(&loads[i].thread, NULL, load_run, &loads[i]), 0);
    }
    for (int i = 1; i <= swaps; i++) {
        char hasty[32];
        oc_models_state ignored;
        if (i % 3 == 0) turn(s, i % VERSIONS, true); /* as a canary first */
        snprintf(hasty, sizeof hasty, "sample/%d", (i + 1 + i / 2 % 2) % VERSIONS + 1);
        if (i % 2) assert_int_equal(oc_models_promote(s->repository, hasty, &ignored), OC_OK);
        usleep(i % 2 ? (unsigned)(i * 7919 % 60000) : 0); /* another one is wanted before that one is there, or soon */
        turn(s, i % VERSIONS, false);
        answer_await(loads, i % VERSIONS);
    }
    __atomic_store_n(&s->over, 1u, __ATOMIC_RELEASE);
    size_t got = 0, answers[VERSIONS] = {0};
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(loads[i].thread, NULL);
        assert_int_equal(loads[i].got, loads[i].sent);
        got += loads[i].got;
        for (int v = 0; v < VERSIONS; v++) answers[v] += loads[i].answers[v];
        for (int v = 0; v < VERSIONS; v++) oc_model_close(loads[i].models[v]);
    }
    print_message("%d swaps, %zu answers; by version: %zu %zu %zu\n", swaps, got, answers[0], answers[1], answers[2]);
    for (int v = 0; v < VERSIONS; v++) assert_true(answers[v] > 0);
}

/* The status cannot be written while the server turns, as on a full disk: whoever waits for it is told afterwards. */
static void status_later(void **state)
{
    stage *s = *state;
    char path[128], live[32] = "";
    uint32_t generation;
    oc_models_state wanted;
    json_t *said;
    snprintf(path, sizeof path, "%s.json", s->at.socket);
    for (int i = 0; mkdir(path, 0700) != 0; i++) { /* nothing can be renamed over it */
        assert_true(i < 100);
        (void)unlink(path);
    }
    assert_int_equal(oc_models_promote(s->repository, "sample/2", &wanted), OC_OK);
    for (int i = 0; strcmp(live, "2") != 0; i++) {
        if (i > 6000) fail_msg("version 2 is not live");
        usleep(10000);
        oc_server_live(s->at.server, live, &generation);
    }
    usleep(2200000); /* it is tried again once a second, and in vain so far */
    if (oc_models_server_await(s->at.socket, s->repository, "sample", "2", false, 1, &said) == OC_OK)
        fail_msg("nothing was in the way");
    json_decref(said);
    assert_int_equal(rmdir(path), 0);
    for (int i = 0; !oc_path_exists(path); i++) {
        if (i > 6000) fail_msg("the status is not written again");
        usleep(10000);
    }
    assert_int_equal(
        oc_models_server_await(s->at.socket, s->repository, "sample", "2", false, 20 * OC_SECOND_NS, &said), OC_OK);
    json_decref(said);
}

/* ---- a loader before two batchers whose rounds the test runs ---------------------------------------------------
 */
typedef struct pair {
    oc_loader *loader;
    oc_batcher batchers[2];
    oc_channel channel; /* free, until the test makes it batcher 0's client */
} pair;

/* advance_ns: of the first version, as if that had been measured; 0: as measured. */
static void pair_open(pair *p, const stage *s, int64_t advance_ns)
{
    const oc_loader_config config = {.repository = s->repository,
                                     .name = "sample",
                                     .verify_ns = OC_SECOND_NS,
                                     .batcher = {.batch_max = 2,
                                                 .sessions_max = 2,
                                                 .memory_max_bytes = 32 << 20,
                                                 .budget = 0.9,
                                                 .two_slots = true,
                                                 .backend = cpu}};
    memset(p, 0, sizeof *p);
    if (oc_loader_open(&p->loader, &config) != OC_OK) fail_msg("%s", oc_status_message());
    for (int i = 0; i < 2; i++) {
        oc_batcher *e = &p->batchers[i];
        assert_int_equal(oc_batcher_init(e, i, oc_loader_first(p->loader), &config.batcher, &p->channel, 1), OC_OK);
        if (advance_ns) e->slots[e->live].advance_ns = e->advance_ns = advance_ns;
    }
    assert_int_equal(oc_loader_start(p->loader, p->batchers, 2), OC_OK);
}

static void pair_close(pair *p)
{
    oc_loader_stop(p->loader);
    for (int i = 0; i < 2; i++) oc_batcher_deinit(&p->batchers[i]);
    oc_loader_close(p->loader);
}

static uint32_t ordered(const oc_batcher *e)
{
    return OC_ORDER_GENERATION(__atomic_load_n(&e->order, __ATOMIC_ACQUIRE));
}

/* A round of each that has something of the loader's to take: an offer, or what sessions are admitted by. */
static void rounds_take(pair *p)
{
    for (int k = 0; k < 2; k++) {
        oc_batcher *e = &p->batchers[k];
        if (__atomic_load_n(&e->offer, __ATOMIC_ACQUIRE) ||
            __atomic_load_n(&e->admit_ns, __ATOMIC_ACQUIRE) != e->admit_seen_ns)
            (void)oc_batcher_round(e);
    }
}

/* Until another generation than this one is ordered; rounds take what is there, and go no further. */
static uint32_t order_await(pair *p, uint32_t not_this)
{
    for (int i = 0; ordered(&p->batchers[1]) == not_this; i++) {
        if (i > 20000) fail_msg("no order comes");
        rounds_take(p);
        usleep(1000);
    }
    return ordered(&p->batchers[1]);
}

/* Rounds until it is live, for the loader and for both. */
static void live_is(pair *p, const char *text)
{
    char live[32] = "";
    uint32_t generation = 0;
    for (int i = 0; strcmp(live, text) != 0 || p->batchers[0].live_generation != generation ||
                    p->batchers[1].live_generation != generation;
         i++) {
        if (i > 60000) fail_msg("%s is live, not %s", live, text);
        for (int k = 0; k < 2; k++) (void)oc_batcher_round(&p->batchers[k]);
        usleep(1000);
        oc_loader_live(p->loader, live, &generation);
    }
}

static uint64_t counted(const pair *p, const char *series)
{
    char line[64];
    oc_text text = {0};
    snprintf(line, sizeof line, "\n%s ", series);
    oc_loader_metrics(p->loader, &text);
    const char *at = strstr(text.data, line);
    assert_non_null(at);
    const uint64_t count = strtoull(at + strlen(line), NULL, 10);
    oc_text_free(&text);
    return count;
}

static uint64_t turns_of(const pair *p)
{
    return counted(p, "outcry_model_turns_total");
}

/* A batcher in the middle of a round still goes by the order to turn, and may: the swap is not over before it sees that
 * it shall go back. The other one has gone back. */
static void round_under_way(pair *p, oc_order turning, uint32_t was)
{
    const uint64_t turns = turns_of(p);
    __atomic_store_n(&p->batchers[1].seen, turning, __ATOMIC_RELEASE);
    while (p->batchers[0].live_generation != was) (void)oc_batcher_round(&p->batchers[0]);
    usleep(200000);
    assert_int_equal(turns_of(p), turns);
}

/* What was live is wanted again before all batchers have turned: they go back, nobody waits for the end of a swap that
 * may not come, and a third version finds the loader's slots in order. */
static void turned_round(void **state)
{
    stage *s = *state;
    static pair p;
    oc_models_state wanted;
    pair_open(&p, s, 0);
    for (uint32_t turn = 0; turn < 4; turn++) {
        const uint32_t was = p.batchers[1].live_generation;
        const bool third = turn % 2;
        const char *from = third ? "sample/3" : "sample/1", *to = third ? "sample/1" : "sample/2";
        assert_int_equal(oc_models_promote(s->repository, to, &wanted), OC_OK);
        const uint32_t next = order_await(&p, was);
        const oc_order turning = __atomic_load_n(&p.batchers[1].order, __ATOMIC_ACQUIRE);
        while (p.batchers[0].live_generation != next) (void)oc_batcher_round(&p.batchers[0]);
        assert_int_equal(p.batchers[1].live_generation, was); /* one has turned, one has not */
        assert_int_equal(oc_models_promote(s->repository, from, &wanted), OC_OK);
        assert_int_equal(order_await(&p, next), was);
        round_under_way(&p, turning, was);
        live_is(&p, from + strlen("sample/"));
        for (int i = 0; i < 2; i++) assert_int_equal(p.batchers[i].live_generation, was);
        assert_int_equal(oc_models_promote(s->repository, third ? "sample/1" : "sample/3", &wanted), OC_OK);
        live_is(&p, third ? "1" : "3");
        for (int i = 0; i < 2; i++)
            assert_string_equal(p.batchers[i].slots[p.batchers[i].live].version->text, third ? "1" : "3");
    }
    pair_close(&p);
}

/* ---- admission beside a candidate ---- */
typedef struct guest { /* a client of batcher 0 */
    pair *p;
    oc_ring requests, replies;
} guest;

static void guest_open(guest *g, pair *p)
{
    oc_channel *c = &p->channel;
    int fd;
    assert_int_equal(oc_channel_make(c, 16384, &fd), OC_OK);
    close(fd);
    *g = (guest){.p = p};
    oc_ring_init(&g->requests, c->requests.shared, c->requests.data, c->requests.capacity);
    oc_ring_init(&g->replies, c->replies.shared, c->replies.data, c->replies.capacity);
    c->socket = -1;
    __atomic_store_n(&c->state, OC_CHANNEL_LIVE, __ATOMIC_RELEASE);
    oc_batcher_welcome(&p->batchers[0]);
}

static oc_wire_reply guest_ask(guest *g, oc_wire_request q, const void *payload, size_t bytes)
{
    oc_wire_reply reply;
    q.bytes = (uint32_t)oc_ring_record_bytes(bytes);
    q.count = (uint32_t)bytes;
    assert_int_equal(oc_ring_put(&g->requests, &q, sizeof q, payload, bytes), OC_RING_DONE);
    for (int i = 0; oc_ring_peek(&g->replies, &reply, sizeof reply) != OC_RING_DONE; i++) {
        if (i > 1000) fail_msg("no reply");
        (void)oc_batcher_round(&g->p->batchers[0]);
    }
    oc_ring_copy(&g->replies, (unsigned char *)&reply + OC_WIRE_LINE, sizeof reply - OC_WIRE_LINE);
    oc_ring_take(&g->replies, sizeof reply);
    return reply;
}

static oc_wire_reply guest_session(guest *g, int64_t period_ns)
{
    const oc_batcher *e = &g->p->batchers[0];
    oc_wire_open open = {.schema_low = e->schema.low, .schema_high = e->schema.high, .period_ns = period_ns};
    memcpy(open.model, e->name, sizeof open.model);
    return guest_ask(g, (oc_wire_request){.kind = OC_REQUEST_OPEN}, &open, sizeof open);
}

/* Until both admit by this, with the candidate followed, or none. */
static void admits_by(pair *p, const int64_t advance_ns[2], bool followed)
{
    for (int i = 0; p->batchers[0].advance_ns != advance_ns[0] || p->batchers[1].advance_ns != advance_ns[1] ||
                    OC_ORDER_FOLLOW(__atomic_load_n(&p->batchers[1].order, __ATOMIC_ACQUIRE)) != followed;
         i++) {
        if (i > 20000)
            fail_msg("admission by %lld and %lld ns, not %lld and %lld", (long long)p->batchers[0].advance_ns,
                     (long long)p->batchers[1].advance_ns, (long long)advance_ns[0], (long long)advance_ns[1]);
        for (int k = 0; k < 2; k++) (void)oc_batcher_round(&p->batchers[k]);
        usleep(1000);
    }
}

static void refused_await(pair *p, uint64_t refusals, const char *reason)
{
    oc_text text = {0};
    for (int i = 0; counted(p, "outcry_model_refusals_total") != refusals; i++) {
        if (i > 20000) fail_msg("nothing is refused");
        rounds_take(p);
        usleep(1000);
    }
    oc_loader_write(p->loader, &text);
    if (!strstr(text.data, reason)) fail_msg("%s", text.data);
    oc_text_free(&text);
}

/* What was logged holds all of these. */
static void log_holds(int fd, const char *const *words, size_t n)
{
    static char text[16384];
    const ssize_t bytes = pread(fd, text, sizeof text - 1, 0);
    text[bytes > 0 ? bytes : 0] = 0;
    for (size_t i = 0; i < n; i++)
        if (!strstr(text, words[i])) fail_msg("\"%s\" is not in: %s", words[i], text);
}

/* The live version's advance takes 1 ns, any other's is heavier, and half of a batcher's time each for sessions of this
 * period. While a candidate is there, its advance counts; when it is withdrawn, no more; it does not come back over
 * sessions that it leaves no time for; and the way back to what was live stands open. */
static void heavier_candidate(void **state)
{
    static const char *const refusal[] = {"refuses a session", "of a version that may become live",
                                          "take 0.5000 of its time, this one's 0.5000 more",
                                          "serve.advance_budget is 0.9", "was live before, and may be again"};
    static const int64_t light[2] = {1, 1};
    stage *s = *state;
    static pair p;
    guest g;
    oc_models_state wanted;
    const int log = memfd_create("log", MFD_CLOEXEC);
    oc_log_also(log, OC_LOG_WARN);
    pair_open(&p, s, 1);
    guest_open(&g, &p);
    assert_int_equal(oc_models_candidate(s->repository, "sample/2", 0, &wanted), OC_OK);
    for (int i = 0; !OC_ORDER_FOLLOW(__atomic_load_n(&p.batchers[1].order, __ATOMIC_ACQUIRE)); i++) {
        if (i > 20000) fail_msg("the candidate does not come");
        rounds_take(&p);
        usleep(1000);
    }
    const int64_t heavy[2] = {p.batchers[0].slots[1].advance_ns, p.batchers[1].slots[1].advance_ns},
                  period_ns = 2 * heavy[0];
    assert_int_equal(guest_session(&g, period_ns).state, OC_REPLY_OK);
    assert_int_equal(guest_session(&g, period_ns).state, OC_REPLY_REFUSED_BUDGET);
    admits_by(&p, heavy, true);

    assert_int_equal(oc_models_rollback(s->repository, "sample", &wanted), OC_OK);
    admits_by(&p, light, false);
    const oc_wire_reply second = guest_session(&g, period_ns / 8); /* four times its time, by the candidate's */
    assert_int_equal(second.state, OC_REPLY_OK);
    assert_int_equal(oc_models_candidate(s->repository, "sample/2", 0, &wanted), OC_OK); /* it is in the other slot */
    refused_await(&p, 1, "the open sessions would take 4.5");
    admits_by(&p, light, false);
    assert_int_equal(oc_models_candidate(s->repository, "sample/3", 0, &wanted), OC_OK); /* it has to be loaded */
    refused_await(&p, 2, "the open sessions would take ");
    admits_by(&p, light, false);
    (void)guest_ask(&g, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = second.session}, NULL, 0);
    assert_int_equal(oc_models_promote(s->repository, "sample/2", &wanted), OC_OK);
    live_is(&p, "2");
    admits_by(&p, heavy, false);
    assert_int_equal(guest_session(&g, period_ns).state, OC_REPLY_REFUSED_BUDGET);

    assert_int_equal(oc_models_rollback(s->repository, "sample", &wanted), OC_OK);
    live_is(&p, "1");
    admits_by(&p, light, false);
    assert_int_equal(guest_session(&g, period_ns).state, OC_REPLY_OK);
    assert_int_equal(oc_models_rollback(s->repository, "sample", &wanted), OC_OK);
    live_is(&p, "2");
    assert_int_equal(p.batchers[0].stats.load_ppb, OC_SECOND_NS);
    oc_log_also(-1, OC_LOG_WARN);
    log_holds(log, refusal, sizeof refusal / sizeof refusal[0]);
    close(log);
    pair_close(&p);
    oc_channel_drop(&p.channel);
}

/* Stopped in the middle of whatever the loader is at. */
static void stopped(void **state)
{
    stage *s = *state;
    oc_models_state wanted;
    assert_int_equal(oc_models_promote(s->repository, "sample/2", &wanted), OC_OK);
    for (int i = 0; i < 20; i++) {
        const oc_server_config config = config_of(s);
        served_stop(&s->at);
        served_start(&s->at, &config);
        assert_int_equal(oc_models_promote(s->repository, i % 2 ? "sample/1" : "sample/3", &wanted), OC_OK);
        usleep((unsigned)(i * 3000));
    }
}

/* The cores of the thread of that name, as the kernel tells them. */
static void cores_of(const char *name, char *cores, size_t cap)
{
    char command[256];
    snprintf(command, sizeof command,
             "for t in /proc/%d/task/*; do [ \"$(cat $t/comm)\" = %s ] && sed -n 's/^Cpus_allowed_list:\t//p' "
             "$t/status; done",
             (int)getpid(), name);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    if (!fgets(cores, (int)cap, pipe)) cores[0] = 0;
    pclose(pipe);
    cores[strcspn(cores, "\n")] = 0;
}

static void pinned(void **state)
{
    static const struct {
        const char *pin, *reason;
    } refused[] = {
        {"0,0", "twice"}, {"0", "2 numbers"}, {"0,1,2", "2 numbers"}, {"x,y", "2 numbers"}, {"0,1000", "may not"}};
    static const struct {
        const char *text;
        int devices[4]; /* first below 0: refused */
    } gpus[] = {{NULL, {0, 0, 0, 0}},
                {"", {0, 0, 0, 0}},
                {"2", {2, 2, 2, 2}},
                {"1,0", {1, 0, 1, 0}},
                {"3,1,2", {3, 1, 2, 3}},
                {"0,1,2,3", {0, 1, 2, 3}},
                {"0,1,2,3,4", {-1}},
                {"0,", {-1}},
                {",0", {-1}},
                {"0,x", {-1}},
                {"-1", {-1}},
                {"0 ,1", {-1}},
                {"99999", {-1}}};
    stage *s = *state;
    int cpus[2];
    char cores[64], want[16];
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(oc_pin_parse(refused[i].pin, 2, cpus), OC_ECONFIG);
        if (!strstr(oc_status_message(), refused[i].reason)) fail_msg("%s", oc_status_message());
    }
    assert_int_equal(oc_pin_parse("", 2, cpus), OC_OK);
    assert_true(cpus[0] == -1 && cpus[1] == -1);
    for (size_t i = 0; i < sizeof gpus / sizeof gpus[0]; i++) {
        int got[4] = {-1, -1, -1, -1};
        const bool good = oc_gpus_parse(gpus[i].text, 4, got) == OC_OK;
        assert_int_equal(good, gpus[i].devices[0] >= 0);
        if (good) assert_memory_equal(got, gpus[i].devices, sizeof got);
        if (!good) assert_non_null(strstr(oc_status_message(), "serve.gpus is"));
    }
    if (oc_pin_parse("auto", 2, cpus) != OC_OK) skip(); /* a machine of one core */
    oc_server_config config = config_of(s);
    config.pin = "auto";
    served_stop(&s->at);
    served_start(&s->at, &config);
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "batcher-%d", i);
        snprintf(want, sizeof want, "%d", cpus[i]);
        cores_of(name, cores, sizeof cores);
        assert_string_equal(cores, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(status_later, setup, teardown),
        cmocka_unit_test_setup_teardown(turned_round, setup, teardown),
        cmocka_unit_test_setup_teardown(heavier_candidate, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(pinned, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
