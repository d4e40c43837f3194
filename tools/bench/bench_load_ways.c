/* bench_load_ways.c - the two ways in: rings, where answers bring back when their request was due; HTTP, where a
 * connection has one request under way and the others wait in the client, which their time includes. */
#include "tools/bench/bench_load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

load_outcome bench_load_outcome(uint32_t state)
{
    if (state == OC_REPLY_OK) return LOAD_OK;
    if (state == OC_REPLY_LATE) return LOAD_LATE;
    return oc_reply_refused(state) ? LOAD_REFUSED : LOAD_FAILED;
}

static OC_MUST ring_open(load_rig *r, load_client *c, int number)
{
    const size_t steps = (size_t)r->b.shape.steps;
    char symbol[OC_WIRE_SYMBOL];
    OC_TRY(oc_client_open(&c->ring, r->address, 5 * OC_SECOND_NS));
    if (r->o->mode != OC_BENCH_PUSH) return OC_OK;
    const oc_client_model *m = oc_client_describe(c->ring);
    snprintf(symbol, sizeof symbol, "BENCH%d", number);
    OC_TRY(oc_client_session_open(c->ring, m->name, symbol, m->schema_low, m->schema_high, OC_SECOND_NS,
                                  5 * OC_SECOND_NS, &c->session));
    c->sequence = 1;
    OC_TRY(oc_client_history(c->ring, c->session, (oc_stamp){.sequence = c->sequence}, r->b.rows, steps,
                             (uint32_t)(c->sequence + steps)));
    oc_wire_reply reply;
    oc_client_wait(c->ring, 0, 10 * OC_SECOND_NS);
    if (oc_client_poll(c->ring, &reply, 1) != 1 || reply.kind != OC_REQUEST_HISTORY || reply.state != OC_REPLY_OK)
        return OC_FAIL(OC_EFAILED, "bench: the server does not take a history");
    return OC_OK;
}

static OC_MUST ring_send(load_rig *r, load_client *c, int64_t due_ns)
{
    const size_t steps = (size_t)r->b.shape.steps, inputs = (size_t)r->b.shape.inputs;
    const oc_stamp stamp = {.sequence = c->sequence + 1,
                            .input_ns = due_ns,
                            .deadline_ns = r->o->deadline_ns > 0 ? due_ns + r->o->deadline_ns : 0};
    OC_TRY(r->o->mode == OC_BENCH_PUSH
               ? oc_client_push(c->ring, c->session, stamp, r->b.rows + c->sequence % steps * inputs,
                                (uint32_t)(stamp.sequence + steps))
               : oc_client_window(c->ring, 0, stamp, r->b.rows, steps));
    c->sequence++;
    return OC_OK;
}

static OC_MUST ring_poll(load_rig *r, load_client *c, load_answer *a, bool *any)
{
    oc_wire_reply reply;
    (void)r;
    *any = oc_client_poll(c->ring, &reply, 1) == 1;
    if (!*any) return OC_OK;
    a->due_ns = reply.input_ns;
    a->outcome = bench_load_outcome(reply.state);
    return OC_OK;
}

static void ring_close(load_client *c)
{
    oc_client_close(c->ring);
}

const load_transport bench_load_ring = {ring_open, ring_send, ring_poll, ring_close};

static OC_MUST http_open(load_rig *r, load_client *c, int number)
{
    const char *name = r->b.bundle->name;
    const bool push = r->o->mode == OC_BENCH_PUSH;
    char parameters[96];
    oc_model_shape row = r->b.shape;
    if (r->o->mode == OC_BENCH_TICK) return bench_load_stream_http(r, c, number);
    OC_TRY(bench_http_open(&c->http, r->address, name, &r->b.shape, r->b.rows, true));
    if (push) {
        snprintf(parameters, sizeof parameters, "\"sequence_id\":%d,\"sequence_start\":true,", number + 1);
        OC_TRY(bench_http_request(&c->http, r->address, name, &r->b.shape, r->b.rows, true, parameters));
        OC_TRY(bench_http_call(&c->http));
        row.steps = 1;
    }
    if (!push && r->o->deadline_ns <= 0) return OC_OK;
    size_t length = 0;
    parameters[0] = 0;
    if (push) length = (size_t)snprintf(parameters, sizeof parameters, "\"sequence_id\":%d,", number + 1);
    if (r->o->deadline_ns > 0)
        snprintf(parameters + length, sizeof parameters - length, "\"timeout\":%lld,",
                 (long long)(r->o->deadline_ns / 1000));
    return bench_http_request(&c->http, r->address, name, &row, r->b.rows, true, parameters);
}

static OC_MUST http_ask(load_rig *r, load_client *c)
{
    if (c->asked || c->waiting == 0) return OC_OK;
    if (r->o->mode == OC_BENCH_TICK) OC_TRY(bench_load_packet_request(r, c));
    c->asked = true;
    c->have = c->want = 0;
    return bench_http_send(&c->http);
}

static OC_MUST http_send(load_rig *r, load_client *c, int64_t due_ns)
{
    if (c->waiting == LOAD_WAITING_MAX) return OC_FAIL(OC_EAGAIN, "bench: the client's queue is full");
    c->due_ns[(c->first + c->waiting++) % LOAD_WAITING_MAX] = due_ns;
    return http_ask(r, c);
}

static load_outcome http_outcome(const char *answer)
{
    if (strncmp(answer, "HTTP/1.1 429", 12) == 0 || strncmp(answer, "HTTP/1.1 503", 12) == 0) return LOAD_REFUSED;
    if (strncmp(answer, "HTTP/1.1 504", 12) == 0 || strstr(answer, "\"late\"")) return LOAD_LATE;
    return strncmp(answer, "HTTP/1.1 200", 12) == 0 ? LOAD_OK : LOAD_FAILED;
}

static OC_MUST http_poll(load_rig *r, load_client *c, load_answer *a, bool *any)
{
    *any = false;
    if (!c->asked) return OC_OK;
    const ssize_t n = recv(c->http.socket, c->answer + c->have, sizeof c->answer - 1 - c->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return OC_OK;
    if (n <= 0) return OC_FAIL(OC_EFAILED, "bench: the server closed a connection");
    c->have += (size_t)n;
    c->answer[c->have] = 0;
    c->want = c->want ? c->want : bench_http_answer_bytes(c->answer);
    if (c->want >= sizeof c->answer) return OC_FAIL(OC_ELIMIT, "bench: an answer of %zu bytes", c->want);
    if (c->want == 0 || c->have < c->want) return OC_OK;
    a->due_ns = c->due_ns[c->first];
    a->outcome = http_outcome(c->answer);
    if (a->outcome == LOAD_OK && r->o->mode == OC_BENCH_TICK && !strstr(c->answer, "\"ok\"")) a->outcome = LOAD_FAILED;
    c->first = (c->first + 1) % LOAD_WAITING_MAX;
    c->waiting--;
    c->asked = false;
    *any = true;
    return http_ask(r, c);
}

static void http_close(load_client *c)
{
    bench_http_close(&c->http);
}

const load_transport bench_load_http = {http_open, http_send, http_poll, http_close};
