/* server.c - one client, one session an instrument, the last T rows of each. The connection is either whole (client
 * and all sessions) or absent. */
#include "trade/predictors/server.h"

#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"
#include "serve/client/client.h"

static const int64_t pause_least_ns = 10000000, pause_most_ns = OC_SECOND_NS; /* between attempts to connect */
static const int64_t first_connect_ns = 2 * OC_SECOND_NS;                     /* for a hello, for a session */
static const int64_t connect_ns = 200000000; /* for both together later on: it holds the loop up */
static const int64_t look_ns = 10000000;     /* so often the kernel is asked whether the server lives */
enum { REPLIES = 64, ADDRESS_MAX = 128 };

typedef struct stream {
    uint32_t session;
    bool begun;          /* the session has its history */
    uint32_t run_length; /* of the last row kept */
    uint64_t kept;       /* rows since the last break; the ring holds the last T */
    uint64_t sequence;   /* of the last row kept */
    uint64_t answered;   /* of the last answer: older ones are not given */
    float *rows;         /* [T][F] */
} stream;

struct oc_server_predictor {
    oc_server_options options;
    char address[ADDRESS_MAX];
    oc_client *client; /* NULL: absent */
    oc_server_counts counts;
    uint64_t under_way; /* live: rows that the server took and has not answered yet */
    int64_t pause_ns, next_try_ns, next_look_ns;
    bool given_up; /* nobody waits for a server again until one is there */
    bool complained;
    float *rows, *history; /* of all streams; T - 1 rows in one piece */
    oc_wire_reply reply[REPLIES];
    size_t reply_count, reply_at;
    stream stream[OC_INSTRUMENTS_MAX];
};

static bool stopped(const oc_server_predictor *s)
{
    return s->options.stop && *s->options.stop;
}

/* ---- rows that are kept ---- */

static size_t width(const oc_server_predictor *s)
{
    return s->options.wanted.inputs;
}

static void keep(oc_server_predictor *s, const oc_feature_row *row, uint64_t sequence)
{
    stream *t = &s->stream[row->instrument];
    if (row->run_length <= 1) t->kept = 0;
    t->run_length = row->run_length;
    t->sequence = sequence;
    if (row->run_length == 0) return;
    memcpy(t->rows + t->kept % s->options.wanted.steps * width(s), row->x, width(s) * sizeof *row->x);
    t->kept++;
}

/* The windows before `row`: nothing where it begins them. */
static oc_status history_send(oc_server_predictor *s, uint32_t instrument, const oc_feature_row *row)
{
    stream *t = &s->stream[instrument];
    const uint64_t steps = s->options.wanted.steps, most = steps - 1;
    uint64_t rows = row->run_length <= 1 ? 0 : t->kept < most ? t->kept : most;
    t->begun = true;
    if (rows == 0) return OC_OK;
    for (uint64_t i = 0; i < rows; i++)
        memcpy(s->history + i * width(s), t->rows + (t->kept - rows + i) % steps * width(s),
               width(s) * sizeof *s->history);
    s->counts.restored_rows += rows;
    return oc_client_history(s->client, t->session, (oc_stamp){.sequence = t->sequence}, s->history, rows,
                             t->run_length);
}

/* ---- the connection ---- */

static oc_status wanted_check(const oc_server_predictor *s, const oc_client_model *m)
{
    const oc_server_wanted *w = &s->options.wanted;
    char have[OC_HASH_TEXT], want[OC_HASH_TEXT];
    const oc_hash schema = {.low = m->schema_low, .high = m->schema_high};
    const struct {
        const char *what;
        uint32_t have, want;
    } rows[] = {{"rows a window (T)", m->steps, w->steps},
                {"features a row", m->inputs, w->inputs},
                {"labels", m->horizons, w->horizons}};
    if (strcmp(m->name, w->name) != 0 || strcmp(m->version, w->version) != 0)
        return OC_FAIL(OC_ECONFIG, "%s: the server answers by model %s version %s, model.bundle is %s version %s",
                       s->address, m->name, m->version, w->name, w->version);
    if (!oc_hash_equal(schema, w->schema))
        return OC_FAIL(OC_ECONFIG, "%s: the server's model takes features of schema %s, model.bundle those of %s",
                       s->address, oc_hash_text(schema, have), oc_hash_text(w->schema, want));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].have != rows[i].want)
            return OC_FAIL(OC_ECONFIG, "%s: the server's model has %u %s, model.bundle %u", s->address, rows[i].have,
                           rows[i].what, rows[i].want);
    }
    return OC_OK;
}

/* A connection made anew holds the loop up, so all of it has to be done by `until_ns`. */
static oc_status sessions_open(oc_server_predictor *s, int64_t until_ns)
{
    const oc_server_wanted *w = &s->options.wanted;
    OC_TRY(wanted_check(s, oc_client_describe(s->client)));
    for (uint32_t i = 0; i < s->options.instruments; i++) {
        int64_t left = s->counts.connected == 0 ? first_connect_ns : until_ns - oc_clock_monotonic_ns();
        if (!(left > 0))
            return OC_FAIL(OC_EAGAIN, "%s: %u of %u sessions are open, too slow for a loop that waits", s->address, i,
                           s->options.instruments);
        OC_TRY(oc_client_session_open(s->client, w->name, s->options.universe[i].symbol, w->schema.low, w->schema.high,
                                      s->options.period_ns, left, &s->stream[i].session));
        s->stream[i].begun = false;
    }
    return OC_OK;
}

static oc_status client_connect(oc_server_predictor *s)
{
    const int64_t patience_ns = s->counts.connected == 0 ? first_connect_ns : connect_ns,
                  until_ns = oc_clock_monotonic_ns() + patience_ns;
    OC_TRY(oc_client_open(&s->client, s->address, patience_ns));
    oc_status status = sessions_open(s, until_ns);
    if (status == OC_OK) {
        s->counts.connected++;
        s->pause_ns = pause_least_ns;
        s->given_up = s->complained = false;
        return OC_OK;
    }
    oc_client_close(s->client);
    s->client = NULL;
    return oc_status_trail(status, __FILE__, __LINE__);
}

static void client_lose(oc_server_predictor *s, const char *why)
{
    oc_log(OC_LOG_WARN, "%s: the server %s; predictions stay away until it is back", s->address, why);
    oc_client_close(s->client);
    s->client = NULL;
    s->reply_count = s->reply_at = 0; /* numbers of sessions begin anew: none may be taken for another's */
    s->counts.lost++;
    s->counts.unanswered += s->under_way;
    s->under_way = 0;
    s->next_try_ns = 0;
}

/* One attempt where its time has come; a failure is said once, and makes the next pause longer. */
static void client_return(oc_server_predictor *s)
{
    int64_t now = oc_clock_monotonic_ns();
    if (s->client || now < s->next_try_ns) return;
    if (client_connect(s) == OC_OK) {
        oc_log(OC_LOG_INFO, "%s: the server is back", s->address);
        return;
    }
    if (!s->complained) oc_log_failure(OC_LOG_WARN);
    s->complained = true;
    s->next_try_ns = oc_clock_monotonic_ns() + s->pause_ns;
    s->pause_ns = s->pause_ns * 2 < pause_most_ns ? s->pause_ns * 2 : pause_most_ns;
}

static bool refusal(uint32_t state)
{
    return state != OC_REPLY_OK && state != OC_REPLY_LATE && state != OC_REPLY_HOLD_SHORT && state != OC_REPLY_HOLD_GAP;
}

/* The next reply, copied out of the ring in lots. */
static const oc_wire_reply *reply_next(oc_server_predictor *s)
{
    if (s->reply_at == s->reply_count) {
        s->reply_at = 0;
        s->reply_count = s->client ? oc_client_poll(s->client, s->reply, REPLIES) : 0;
    }
    if (s->reply_at == s->reply_count) return NULL;
    const oc_wire_reply *r = &s->reply[s->reply_at++];
    s->counts.refused += r->kind == OC_REQUEST_HISTORY && refusal(r->state);
    return r;
}

/* ---- answers ---- */

/* Which stream the reply belongs to and whether it says something of a row that has no answer yet. */
static stream *stream_of(oc_server_predictor *s, const oc_wire_reply *r)
{
    for (uint32_t i = 0; i < s->options.instruments; i++) {
        stream *t = &s->stream[i];
        if (t->session == r->session) return r->kind == OC_REQUEST_PUSH && r->sequence > t->answered ? t : NULL;
    }
    return NULL;
}

/* False: there is no prediction in it. */
static bool reply_read(oc_server_predictor *s, const oc_wire_reply *r, oc_prediction *p)
{
    static const float held[3] = {0, 0, 1};
    const bool wanted = strncmp(r->version_text, s->options.wanted.version, sizeof r->version_text) == 0;
    const float *answer = wanted ? r->probabilities[s->options.wanted.horizon] : held;
    p->buy = answer[0];
    p->sell = answer[1];
    p->hold = answer[2];
    p->model_version = r->model_version;
    p->state = r->state == OC_REPLY_OK && wanted ? OC_PREDICTION_OK : OC_PREDICTION_HOLD;
    s->counts.late += r->state == OC_REPLY_LATE;
    s->counts.answered += r->state == OC_REPLY_OK && wanted;
    s->counts.other_version += r->state == OC_REPLY_OK && !wanted;
    s->counts.refused += refusal(r->state);
    return r->state == OC_REPLY_OK || r->state == OC_REPLY_LATE;
}

/* ---- replayed time: one row, one answer ---- */

static oc_status row_push(oc_server_predictor *s, const oc_feature_row *row, const oc_prediction *stamp)
{
    stream *t = &s->stream[row->instrument];
    if (!t->begun) OC_TRY(history_send(s, row->instrument, row));
    const int64_t deadline =
        s->options.live && s->options.deadline_ns > 0 ? oc_clock_monotonic_ns() + s->options.deadline_ns : 0;
    const oc_stamp with = {.sequence = stamp->sequence, .input_ns = stamp->input_ns, .deadline_ns = deadline};
    return oc_client_push(s->client, t->session, with, row->x, row->run_length);
}

/* The answer to this row; false: the server is gone, or the time is over. */
static bool answer_await(oc_server_predictor *s, uint32_t instrument, int64_t until_ns, oc_prediction *p, bool *made)
{
    stream *t = &s->stream[instrument];
    const uint64_t sequence = p->sequence;
    while (s->client && !stopped(s)) {
        for (const oc_wire_reply *r = reply_next(s); r; r = reply_next(s)) {
            if (stream_of(s, r) != t || r->sequence != sequence) continue;
            t->answered = r->sequence;
            *made = reply_read(s, r, p);
            return true;
        }
        int64_t now = oc_clock_monotonic_ns();
        if (!oc_client_alive(s->client))
            client_lose(s, "is gone");
        else if (now >= until_ns)
            client_lose(s, "does not answer");
        else
            oc_client_wait(s->client, s->options.spin_ns, until_ns - now < look_ns ? until_ns - now : look_ns);
    }
    return false;
}

static void give_up(oc_server_predictor *s)
{
    s->counts.unanswered++;
    if (s->given_up || stopped(s)) return;
    s->given_up = true;
    oc_log(OC_LOG_WARN, "%s: no server within %lld ms: going on without predictions", s->address,
           (long long)(s->options.wait_ns / 1000000));
}

/* Until the row is answered, the time is over, or there is nobody to wait for. */
static bool row_ask(oc_server_predictor *s, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    const int64_t until = oc_clock_monotonic_ns() + s->options.wait_ns;
    while (!stopped(s)) {
        client_return(s);
        if (s->client && row_push(s, row, p) != OC_OK) client_lose(s, "takes no rows");
        if (s->client && answer_await(s, row->instrument, until, p, made)) return true;
        int64_t now = oc_clock_monotonic_ns();
        if (s->given_up || now >= until) return false;
        int64_t pause = s->next_try_ns - now < until - now ? s->next_try_ns - now : until - now;
        if (pause > 0) (void)nanosleep(&(struct timespec){pause / OC_SECOND_NS, (long)(pause % OC_SECOND_NS)}, NULL);
    }
    return false;
}

static oc_status predict(void *context, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    oc_server_predictor *s = context;
    *made = false;
    if (row->run_length > 0) {
        s->counts.asked++;
        if (!row_ask(s, row, p, made)) give_up(s);
    }
    keep(s, row, p->sequence);
    return OC_OK;
}

static oc_status history(void *context, const oc_feature_row *row)
{
    oc_server_predictor *s = context;
    keep(s, row, s->stream[row->instrument].sequence + 1);
    return OC_OK;
}

/* ---- live time ---- */

/* Rows before `row` are in the history; a full ring or an absent server costs this one its answer and no more. */
static oc_status live_send(void *context, const oc_feature_row *row, const oc_prediction *stamp)
{
    oc_server_predictor *s = context;
    if (row->run_length > 0) {
        s->counts.asked++;
        oc_status pushed = s->client ? row_push(s, row, stamp) : OC_EAGAIN;
        *(pushed == OC_OK ? &s->under_way : &s->counts.unanswered) += 1;
        if (pushed != OC_OK) s->stream[row->instrument].begun = false; /* its windows miss a row: hand it in again */
        if (pushed == OC_EFAILED) client_lose(s, "takes no rows");
    }
    keep(s, row, stamp->sequence);
    return OC_OK;
}

/* Whether it lives, and back to it where it does not; what it had said before has been taken. */
static void server_look(oc_server_predictor *s)
{
    int64_t now = oc_clock_monotonic_ns();
    if (now < s->next_look_ns) return;
    s->next_look_ns = now + look_ns;
    if (s->client && !oc_client_alive(s->client)) client_lose(s, "is gone");
    client_return(s);
}

static oc_status live_poll(void *context, oc_prediction *p, bool *came)
{
    oc_server_predictor *s = context;
    *came = false;
    for (const oc_wire_reply *r = reply_next(s); r && !*came; r = *came ? NULL : reply_next(s)) {
        stream *t = stream_of(s, r);
        if (!t) continue;
        t->answered = r->sequence;
        s->under_way--;
        *came = reply_read(s, r, p);
        p->input_ns = r->input_ns;
        p->sequence = r->sequence;
        p->instrument = (uint32_t)(t - s->stream);
    }
    if (!*came) server_look(s);
    return OC_OK;
}

static void live_wait(void *context, int64_t timeout_ns)
{
    oc_server_predictor *s = context;
    if (s->client)
        oc_client_wait(s->client, s->options.spin_ns, timeout_ns < look_ns ? timeout_ns : look_ns);
    else
        (void)nanosleep(&(struct timespec){0, (long)(timeout_ns < look_ns ? timeout_ns : look_ns)}, NULL);
}

/* ---- opening ---- */

static oc_status predictor_make(oc_server_predictor *s)
{
    const oc_server_wanted *w = &s->options.wanted;
    const size_t window = (size_t)w->steps * w->inputs;
    OC_TRY(oc_memory_new_array(&s->rows, s->options.instruments * (size_t)w->steps, w->inputs * sizeof *s->rows,
                               "rows for the server"));
    OC_TRY(oc_memory_new_array(&s->history, w->steps, w->inputs * sizeof *s->history, "rows for the server"));
    for (uint32_t i = 0; i < s->options.instruments; i++) s->stream[i].rows = s->rows + i * window;
    if (strlen(s->options.socket) + sizeof "unix:" > sizeof s->address)
        return OC_FAIL(OC_ECONFIG, "serve.socket: \"%s\" is longer than a socket's path can be", s->options.socket);
    memcpy(s->address, "unix:", 5);
    memcpy(s->address + 5, s->options.socket, strlen(s->options.socket) + 1);
    return client_connect(s);
}

oc_status oc_server_predictor_open(oc_server_predictor **out, const oc_server_options *options)
{
    oc_server_predictor *s;
    *out = NULL;
    OC_TRY(oc_memory_new(&s, sizeof *s, "predictions from a server"));
    s->options = *options;
    s->pause_ns = pause_least_ns;
    oc_status status = predictor_make(s);
    if (status == OC_OK)
        *out = s;
    else
        oc_server_predictor_close(s);
    return status;
}

void oc_server_predictor_close(oc_server_predictor *s)
{
    if (!s) return;
    oc_client_close(s->client);
    oc_memory_free(s->rows);
    oc_memory_free(s->history);
    oc_memory_free(s);
}

oc_predictor oc_server_predictor_of(oc_server_predictor *s)
{
    return s->options.live ? (oc_predictor){s, predict, history, live_send, live_poll, live_wait}
                           : (oc_predictor){.context = s, .predict = predict, .history = history};
}

oc_server_counts oc_server_predictor_counts(const oc_server_predictor *s)
{
    oc_server_counts counts = s->counts;
    counts.unanswered += s->under_way;
    return counts;
}
