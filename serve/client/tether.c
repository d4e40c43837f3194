/* tether.c - a client, its session, and the rows that bring the session back. What answers an earlier request, which
 * nobody waits for any more, is known by its sequence and dropped. */
#include "serve/client/tether.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

enum { LOOK_NS = 10000000, RETRY_NS = 10000000, ADDRESS_BYTES = 128 };

struct oc_tether {
    oc_client *client; /* NULL: to be connected anew */
    oc_client_model model;
    char address[ADDRESS_BYTES], symbol[OC_WIRE_SYMBOL];
    bool pushes;
    int64_t period_ns, timeout_ns, spin_ns;
    uint64_t schema_low, schema_high, sequence, connects;
    uint32_t session, run_length; /* run_length: of the last row; 0: none */
    float *rows;                  /* [T - 1, F], oldest first: the valid rows up to the last one */
    size_t kept;
};

static size_t rows_max(const oc_tether *l)
{
    return l->model.steps - 1;
}

static void row_keep(oc_tether *l, const float *row, uint32_t run_length)
{
    const size_t width = l->model.inputs;
    if (run_length == 0 || run_length != l->run_length + 1) l->kept = 0;
    l->run_length = run_length;
    if (run_length == 0 || rows_max(l) == 0) return;
    if (l->kept == rows_max(l)) {
        memmove(l->rows, l->rows + width, (l->kept - 1) * width * sizeof *l->rows);
        l->kept--;
    }
    memcpy(l->rows + l->kept++ * width, row, width * sizeof *l->rows);
}

/* The reply of this kind and sequence. OC_EFAILED: the server is gone. */
static OC_MUST reply_await(oc_tether *l, uint32_t kind, uint64_t sequence, int64_t end_ns, oc_wire_reply *reply)
{
    for (int64_t now = oc_clock_monotonic_ns(); now < end_ns; now = oc_clock_monotonic_ns()) {
        const int64_t left = end_ns - now;
        oc_client_wait(l->client, l->spin_ns, left < LOOK_NS ? left : LOOK_NS);
        while (oc_client_poll(l->client, reply, 1) == 1)
            if (reply->kind == kind && reply->sequence == sequence) return OC_OK;
        if (oc_clock_monotonic_ns() - now >= LOOK_NS && !oc_client_alive(l->client))
            return OC_FAIL(OC_EFAILED, "%s: the server is gone", l->address);
    }
    return OC_FAIL(OC_EAGAIN, "%s: no answer within %lld ms", l->address, (long long)(l->timeout_ns / 1000000));
}

/* A session with the rows that were kept; its sequence goes on. */
static OC_MUST session_begin(oc_tether *l, int64_t end_ns)
{
    oc_wire_reply reply;
    if (!l->pushes) return OC_OK;
    OC_TRY(oc_client_session_open(l->client, l->model.name, l->symbol, l->schema_low, l->schema_high, l->period_ns,
                                  end_ns - oc_clock_monotonic_ns(), &l->session));
    if (l->kept == 0) return OC_OK;
    const oc_stamp stamp = {.sequence = ++l->sequence};
    OC_TRY(oc_client_history(l->client, l->session, stamp, l->rows, l->kept, l->run_length));
    OC_TRY(reply_await(l, OC_REQUEST_HISTORY, stamp.sequence, end_ns, &reply));
    if (reply.state >= OC_REPLY_REFUSED_VALUE)
        return OC_FAIL(OC_EFAILED, "%s: the rows of %s are not taken (state %u)", l->address, l->symbol, reply.state);
    return OC_OK;
}

static void leave(oc_tether *l)
{
    oc_client_close(l->client);
    l->client = NULL;
}

static OC_MUST connect_once(oc_tether *l, int64_t end_ns)
{
    OC_TRY(oc_client_open(&l->client, l->address, end_ns - oc_clock_monotonic_ns()));
    const oc_client_model *m = oc_client_describe(l->client), *had = &l->model;
    if (l->connects > 0 && (m->steps != had->steps || m->inputs != had->inputs || m->schema_low != had->schema_low ||
                            m->schema_high != had->schema_high)) {
        const oc_status status = OC_FAIL(
            OC_EDATA,
            "%s: %s %s takes windows of %u rows by %u of another kind than the %u by %u before: open a new tether",
            l->address, m->name, m->version, m->steps, m->inputs, had->steps, had->inputs);
        leave(l);
        return status;
    }
    l->model = *m;
    if (l->schema_low == 0 && l->schema_high == 0) l->schema_low = m->schema_low, l->schema_high = m->schema_high;
    const oc_status status = session_begin(l, end_ns);
    if (status != OC_OK) leave(l);
    l->connects += status == OC_OK;
    return status;
}

/* Until it is there or the time is over. What another try does not change is returned at once. */
static OC_MUST connect_again(oc_tether *l, int64_t end_ns)
{
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    oc_status status;
    while ((status = connect_once(l, end_ns)) != OC_OK) {
        if (status != OC_EAGAIN && status != OC_EFAILED) return status;
        if (oc_clock_monotonic_ns() + RETRY_NS >= end_ns)
            return OC_FAIL(OC_EAGAIN, "%s: no server there within %lld ms", l->address,
                           (long long)(l->timeout_ns / 1000000));
        nanosleep(&pause, NULL);
    }
    return OC_OK;
}

oc_status oc_tether_open(oc_tether **out, const oc_tether_config *config)
{
    assert(out && config && config->address);
    oc_tether *l;
    *out = NULL;
    if (strlen(config->address) >= ADDRESS_BYTES || (config->symbol && strlen(config->symbol) >= OC_WIRE_SYMBOL))
        return OC_FAIL(OC_EUSAGE, "an address is below %d bytes, a symbol below %d", ADDRESS_BYTES, OC_WIRE_SYMBOL);
    if (!(config->timeout_ns > 0) || (config->symbol && !(config->period_ns > 0)))
        return OC_FAIL(OC_EUSAGE, "a tether's timeout, and with a symbol its period, is above 0");
    OC_TRY(oc_memory_new(&l, sizeof *l, "tether"));
    memcpy(l->address, config->address, strlen(config->address));
    l->pushes = config->symbol != NULL;
    if (l->pushes) memcpy(l->symbol, config->symbol, strlen(config->symbol));
    l->period_ns = config->period_ns;
    l->timeout_ns = config->timeout_ns;
    l->spin_ns = config->spin_ns;
    l->schema_low = config->schema_low;
    l->schema_high = config->schema_high;
    oc_status status = connect_once(l, oc_clock_monotonic_ns() + l->timeout_ns);
    const size_t cells = (size_t)l->model.steps * l->model.inputs;
    if (status == OC_OK) status = oc_memory_new_array(&l->rows, cells, sizeof *l->rows, "rows of a tether");
    if (status != OC_OK) {
        oc_tether_close(l);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = l;
    return OC_OK;
}

void oc_tether_close(oc_tether *l)
{
    if (!l) return;
    leave(l);
    oc_memory_free(l->rows);
    oc_memory_free(l);
}

const oc_client_model *oc_tether_describe(const oc_tether *l)
{
    return &l->model;
}

uint64_t oc_tether_connects(const oc_tether *l)
{
    return l->connects;
}

typedef struct question {
    const float *rows;
    uint32_t kind, run_length;
} question;

static OC_MUST ask_once(oc_tether *l, const question *q, int64_t end_ns, oc_wire_reply *reply)
{
    const oc_stamp stamp = {.sequence = ++l->sequence};
    const oc_status sent = q->kind == OC_REQUEST_PUSH
                               ? oc_client_push(l->client, l->session, stamp, q->rows, q->run_length)
                               : oc_client_window(l->client, 0, stamp, q->rows, l->model.steps);
    if (sent == OC_EAGAIN && q->kind == OC_REQUEST_PUSH) leave(l); /* the row is missing there: all anew next time */
    OC_TRY(sent);
    return reply_await(l, q->kind, stamp.sequence, end_ns, reply);
}

/* A server that went away is waited for, a session that ended is opened again. */
static OC_MUST ask(oc_tether *l, const question *q, oc_wire_reply *reply)
{
    const int64_t end_ns = oc_clock_monotonic_ns() + l->timeout_ns;
    bool opened = false;
    for (;;) {
        if (!l->client) OC_TRY(connect_again(l, end_ns));
        oc_status status = ask_once(l, q, end_ns, reply);
        if (status == OC_OK && reply->state == OC_REPLY_REFUSED_SESSION && q->kind == OC_REQUEST_PUSH && !opened) {
            opened = true;
            status = session_begin(l, end_ns);
            if (status == OC_OK) continue;
        }
        if (status == OC_OK || status == OC_EUSAGE) return status;
        if (status == OC_EAGAIN && (!l->client || oc_client_alive(l->client))) return status; /* it is only slow */
        leave(l);
    }
}

oc_status oc_tether_window(oc_tether *l, const float *rows_raw, size_t rows, oc_wire_reply *reply)
{
    if (rows != l->model.steps)
        return OC_FAIL(OC_EUSAGE, "a window of %zu rows, but %s takes %u", rows, l->model.name, l->model.steps);
    return ask(l, &(question){.rows = rows_raw, .kind = OC_REQUEST_WINDOW}, reply);
}

oc_status oc_tether_push(oc_tether *l, const float *row_raw, uint32_t run_length, oc_wire_reply *reply)
{
    if (!l->pushes) return OC_FAIL(OC_EUSAGE, "%s: a tether without a symbol takes windows only", l->address);
    const oc_status status =
        ask(l, &(question){.rows = row_raw, .kind = OC_REQUEST_PUSH, .run_length = run_length}, reply);
    if (status == OC_EUSAGE) return status;
    const bool refused = status == OC_OK && reply->state == OC_REPLY_REFUSED_VALUE; /* the windows begin anew */
    row_keep(l, row_raw, refused ? 0 : run_length);
    return status;
}
