/* http.c - the daemon, the life of a request, and the routes. libmicrohttpd accepts Content-Length beside
 * Transfer-Encoding, Content-Length twice, blanks before the colon, and no Host: all of these are refused here, and the
 * connection closed. (What 0.9.75 refuses itself, as a Host that is missing where it is told to be strict, it answers
 * with the head sent twice, and closes.) */
#include "serve/http/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/client/client.h"
#include "serve/http/infer.h"

enum { CONNECTION_BYTES = 131072, BACKLOG = 128, REPLIES = 64, THREADS_MAX = 256, CODES = 600 };

typedef struct asker {
    oc_client *client;
    uint64_t sequence;
} asker; /* a client of the rings; one user at a time */

typedef struct slot { /* what one connection's request needs; taken at its first line */
    struct slot *next;
    int64_t begun_ns;
    size_t body_bytes, answer_bytes, json_bytes;
    int refused; /* status of a refusal before the body has come; 0: none */
    const char *reason;
    char *body, *answer;
    float *values, *probabilities;
} slot;

struct oc_http {
    oc_http_config config;
    const oc_server *server;
    const oc_bundle *model;
    struct MHD_Daemon *daemon;
    int listener;
    pthread_mutex_t lock; /* of both stacks */
    slot *slots, *free_slots;
    asker *askers;
    asker **free_askers;
    int asker_count;
    unsigned char *room;
    size_t room_bytes, values_cap, answer_cap;
    uint32_t draining;
    uint64_t answers[CODES]; /* by status, __atomic */
    char address[64], version[32];
};

static enum MHD_Result respond(oc_http *h, struct MHD_Connection *c, int status, const char *type, const char *data,
                               size_t bytes, enum MHD_ResponseMemoryMode mode, bool last)
{
    union {
        const char *in;
        void *out;
    } borrowed = {.in = data};
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes, borrowed.out, mode);
    if (!r) return MHD_NO;
    enum MHD_Result good = MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (last && good == MHD_YES) good = MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    if (good == MHD_YES) good = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    __atomic_fetch_add(&h->answers[status], 1, __ATOMIC_RELAXED);
    return good;
}

static enum MHD_Result refuse(oc_http *h, struct MHD_Connection *c, int status, const char *message, bool last)
{
    char escaped[600], text[700];
    oc_infer_escape(escaped, sizeof escaped, message);
    const int n = snprintf(text, sizeof text, "{\"error\":\"%s\"}", escaped);
    return respond(h, c, status, "application/json", text, (size_t)n, MHD_RESPMEM_MUST_COPY, last);
}

static enum MHD_Result say(oc_http *h, struct MHD_Connection *c, const char *json)
{
    return respond(h, c, MHD_HTTP_OK, "application/json", json, strlen(json), MHD_RESPMEM_MUST_COPY, false);
}

/* ---- a request's framing -------------------------------------------------------------------------------------------
 */
typedef struct framing {
    int lengths, encodings, hosts, inference, odd;
    uint64_t length;
    bool length_bad;
    int64_t json_bytes;
    bool json_bad;
} framing;

static bool decimal(const char *text, uint64_t max, uint64_t *out)
{
    *out = 0;
    if (!*text || strlen(text) > 18) return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text)) return false;
        *out = *out * 10 + (uint64_t)(*text - '0');
    }
    return *out <= max;
}

static enum MHD_Result header_see(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    framing *f = context;
    uint64_t number;
    (void)kind;
    value = value ? value : "";
    for (const char *k = key; *k; k++) f->odd += !(isalnum((unsigned char)*k) || strchr("!#$%&'*+-.^_`|~", *k));
    if (strcasecmp(key, "Host") == 0) f->hosts++;
    if (strcasecmp(key, "Transfer-Encoding") == 0) f->encodings++;
    if (strcasecmp(key, "Content-Length") == 0) {
        f->lengths++;
        f->length_bad = !decimal(value, INT64_MAX, &f->length);
    }
    if (strcasecmp(key, "Inference-Header-Content-Length") == 0) {
        f->inference++;
        f->json_bad = !decimal(value, INT64_MAX, &number);
        f->json_bytes = (int64_t)number;
    }
    return MHD_YES;
}

static framing framing_of(struct MHD_Connection *c)
{
    framing f = {.json_bytes = -1};
    MHD_get_connection_values(c, MHD_HEADER_KIND, header_see, &f);
    return f;
}

static void framing_check(const oc_http *h, const framing *f, const char *version, slot *s)
{
    const struct {
        bool bad;
        int status;
        const char *reason;
    } rows[] = {
        {f->odd > 0, 400, "a header's name holds a character that names do not have"},
        {f->lengths + f->encodings > 1, 400, "Content-Length and Transfer-Encoding: at most one of them, once"},
        {f->length_bad, 400, "Content-Length is not a decimal number below 10^18"},
        {f->hosts != 1 && strcmp(version, MHD_HTTP_VERSION_1_0) != 0, 400, "exactly one Host is needed"},
        {f->inference > 1 || f->json_bad, 400, "Inference-Header-Content-Length is not one decimal number"},
        {f->lengths && f->length > h->config.body_max, 413, "the body is larger than serve.http_body_kb"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !s->refused; i++) {
        if (!rows[i].bad) continue;
        s->refused = rows[i].status;
        s->reason = rows[i].reason;
    }
}

static slot *slot_take(oc_http *h)
{
    pthread_mutex_lock(&h->lock);
    slot *s = h->free_slots;
    if (s) h->free_slots = s->next;
    pthread_mutex_unlock(&h->lock);
    if (!s) return NULL;
    s->body_bytes = s->answer_bytes = s->json_bytes = 0;
    s->refused = 0;
    s->reason = NULL;
    s->begun_ns = oc_clock_monotonic_ns();
    return s;
}

static void slot_give(oc_http *h, slot *s)
{
    pthread_mutex_lock(&h->lock);
    s->next = h->free_slots;
    h->free_slots = s;
    pthread_mutex_unlock(&h->lock);
}

static void on_completed(void *context, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code)
{
    (void)c;
    (void)code;
    if (*state) slot_give(context, *state);
    *state = NULL;
}

/* ---- inference: through the rings ----------------------------------------------------------------------------------
 */
static asker *asker_take(oc_http *h)
{
    pthread_mutex_lock(&h->lock);
    asker *a = h->asker_count > 0 ? h->free_askers[--h->asker_count] : NULL; /* one a thread: there is one */
    pthread_mutex_unlock(&h->lock);
    return a;
}

static void asker_give(oc_http *h, asker *a)
{
    pthread_mutex_lock(&h->lock);
    h->free_askers[h->asker_count++] = a;
    pthread_mutex_unlock(&h->lock);
}

typedef struct asking {
    size_t batch, sent, answered;
    uint32_t worst;
    uint64_t first;
    oc_infer_times times;
} asking;

static void replies_take(asking *q, oc_client *client, float *probabilities, size_t outputs)
{
    oc_wire_reply replies[REPLIES];
    const size_t n = oc_client_poll(client, replies, REPLIES);
    for (size_t i = 0; i < n; i++) {
        const uint64_t index = replies[i].sequence - q->first;
        if (index >= q->batch) continue; /* of a request that was given up */
        memcpy(probabilities + index * outputs, replies[i].probabilities, outputs * sizeof *probabilities);
        if (replies[i].state != OC_REPLY_OK && replies[i].state > q->worst) q->worst = replies[i].state;
        if (replies[i].queue_ns > q->times.queue_ns) q->times.queue_ns = replies[i].queue_ns;
        if (replies[i].service_ns > q->times.service_ns) q->times.service_ns = replies[i].service_ns;
        q->answered++;
    }
}

/* All windows into the ring as fast as it takes them, so that the batcher batches them; replies are read meanwhile. */
static OC_MUST ask(const oc_http *h, asker *a, slot *s, const oc_infer *r, oc_infer_times *times, uint32_t *worst)
{
    const oc_model_shape *shape = &h->model->shape;
    const size_t cells = (size_t)shape->steps * (size_t)shape->inputs, outputs = (size_t)shape->horizons * OC_CLASSES;
    asking q = {.batch = r->batch, .first = a->sequence};
    const int64_t end = s->begun_ns + h->config.timeout_ns;
    a->sequence += r->batch;
    while (q.answered < q.batch) {
        while (q.sent < q.batch) {
            const oc_stamp stamp = {.sequence = q.first + q.sent, .input_ns = s->begun_ns};
            const oc_status status =
                oc_client_window(a->client, 0, stamp, r->values + q.sent * cells, (size_t)shape->steps);
            if (status == OC_EAGAIN) break;
            OC_TRY(status);
            q.sent++;
        }
        const int64_t left = end - oc_clock_monotonic_ns();
        if (left <= 0) return OC_FAIL(OC_EAGAIN, "no answer in time");
        /* Sleeps at once: the batcher it has just woken may be waiting for this very core, and where it sees that its
         * client sleeps it does not spin behind the answer. On two busy cores this took a request from 302 to 243 us.
         */
        oc_client_wait(a->client, -1, left);
        replies_take(&q, a->client, s->probabilities, outputs);
    }
    *times = q.times;
    *worst = q.worst;
    return OC_OK;
}

static enum MHD_Result answer_send(oc_http *h, struct MHD_Connection *c, const oc_infer *r, const slot *s)
{
    char length[24];
    struct MHD_Response *response = MHD_create_response_from_buffer(s->answer_bytes, s->answer, MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    snprintf(length, sizeof length, "%zu", s->json_bytes);
    enum MHD_Result good = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                                   r->binary ? "application/octet-stream" : "application/json");
    if (r->binary && good == MHD_YES)
        good = MHD_add_response_header(response, "Inference-Header-Content-Length", length);
    if (good == MHD_YES) good = MHD_queue_response(c, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    __atomic_fetch_add(&h->answers[MHD_HTTP_OK], 1, __ATOMIC_RELAXED);
    return good;
}

static enum MHD_Result infer(oc_http *h, struct MHD_Connection *c, slot *s)
{
    const framing f = framing_of(c);
    oc_infer r = {.values = s->values, .values_cap = h->values_cap};
    oc_infer_times times = {0, 0};
    uint32_t worst = OC_REPLY_OK;
    if (oc_infer_parse(&r, h->model, (size_t)h->config.batch_max, s->body, s->body_bytes, f.json_bytes) != OC_OK)
        return refuse(h, c, MHD_HTTP_BAD_REQUEST, oc_status_message(), false);
    asker *a = asker_take(h);
    const oc_status status = a ? ask(h, a, s, &r, &times, &worst) : OC_EAGAIN;
    if (a) asker_give(h, a);
    if (status != OC_OK) return refuse(h, c, MHD_HTTP_SERVICE_UNAVAILABLE, "overloaded: no answer in time", false);
    if (worst == OC_REPLY_REFUSED_VALUE)
        return refuse(h, c, MHD_HTTP_BAD_REQUEST, "a number of the window is not finite", false);
    if (worst != OC_REPLY_OK) return refuse(h, c, MHD_HTTP_SERVICE_UNAVAILABLE, "the server could not answer", false);
    s->answer_bytes = oc_infer_print(&r, h->model, s->probabilities, times, s->answer, h->answer_cap, &s->json_bytes);
    assert(s->answer_bytes > 0);
    return answer_send(h, c, &r, s);
}

/* ---- routes --------------------------------------------------------------------------------------------------------
 */
static enum MHD_Result server_metadata(oc_http *h, struct MHD_Connection *c, slot *s)
{
    char text[256];
    (void)s;
    snprintf(text, sizeof text, "{\"name\":\"outcry\",\"version\":\"%s\",\"extensions\":[\"binary_tensor_data\"]}",
             h->version);
    return say(h, c, text);
}

static enum MHD_Result live(oc_http *h, struct MHD_Connection *c, slot *s)
{
    (void)s;
    return say(h, c, "{\"live\":true}");
}

static enum MHD_Result ready(oc_http *h, struct MHD_Connection *c, slot *s)
{
    (void)s;
    if (__atomic_load_n(&h->draining, __ATOMIC_RELAXED))
        return refuse(h, c, MHD_HTTP_SERVICE_UNAVAILABLE, "the server is stopping", true);
    return say(h, c, "{\"ready\":true}");
}

static enum MHD_Result model_metadata(oc_http *h, struct MHD_Connection *c, slot *s)
{
    char text[768];
    const oc_bundle *b = h->model;
    (void)s;
    snprintf(
        text, sizeof text,
        "{\"name\":\"%s\",\"versions\":[\"%s\"],\"platform\":\"outcry\",\"inputs\":[{\"name\":\"window\",\"datatype\":"
        "\"FP32\","
        "\"shape\":[-1,%d,%d]}],\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[-1,%d,%d]}]}",
        b->name, b->version, b->shape.steps, b->shape.inputs, b->shape.horizons, OC_CLASSES);
    return say(h, c, text);
}

static enum MHD_Result metrics(oc_http *h, struct MHD_Connection *c, slot *s)
{
    oc_text text = {0};
    (void)s;
    oc_server_metrics(h->server, &text);
    oc_text_add(
        &text,
        "# HELP outcry_http_answers_total Answers over HTTP by status.\n# TYPE outcry_http_answers_total counter\n");
    for (int code = 0; code < CODES; code++) {
        const uint64_t n = __atomic_load_n(&h->answers[code], __ATOMIC_RELAXED);
        if (n > 0) oc_text_add(&text, "outcry_http_answers_total{code=\"%d\"} %" PRIu64 "\n", code, n);
    }
    const enum MHD_Result good = oc_text_finish(&text, "metrics") != OC_OK
                                     ? MHD_NO
                                     : respond(h, c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text.data,
                                               text.bytes, MHD_RESPMEM_MUST_COPY, false);
    oc_text_free(&text);
    return good;
}

/* NAME: the model's name; VERSION: its version. "/versions/VERSION" may be left out (second row of each pair). */
static const struct {
    const char *method, *path;
    enum MHD_Result (*run)(oc_http *, struct MHD_Connection *, slot *);
} routes[] = {
    {"GET", "/metrics", metrics},
    {"GET", "/v2", server_metadata},
    {"GET", "/v2/health/live", live},
    {"GET", "/v2/health/ready", ready},
    {"GET", "/v2/models/NAME", model_metadata},
    {"GET", "/v2/models/NAME/versions/VERSION", model_metadata},
    {"GET", "/v2/models/NAME/ready", ready},
    {"GET", "/v2/models/NAME/versions/VERSION/ready", ready},
    {"POST", "/v2/models/NAME/infer", infer},
    {"POST", "/v2/models/NAME/versions/VERSION/infer", infer},
};

static bool segment_equal(const oc_http *h, const char *pattern, size_t n, const char *path, size_t bytes)
{
    const char *want = pattern;
    size_t want_bytes = n;
    if (n == 4 && memcmp(pattern, "NAME", 4) == 0)
        want = h->model->name, want_bytes = strlen(want);
    else if (n == 7 && memcmp(pattern, "VERSION", 7) == 0)
        want = h->model->version, want_bytes = strlen(want);
    return bytes == want_bytes && memcmp(path, want, bytes) == 0;
}

static bool path_matches(const oc_http *h, const char *pattern, const char *path)
{
    for (;;) {
        const size_t n = strcspn(pattern, "/"), bytes = strcspn(path, "/");
        if (!segment_equal(h, pattern, n, path, bytes)) return false;
        if (!pattern[n] || !path[bytes]) return !pattern[n] && !path[bytes];
        pattern += n + 1;
        path += bytes + 1;
    }
}

static enum MHD_Result route(oc_http *h, struct MHD_Connection *c, slot *s, const char *url, const char *method)
{
    bool known = false;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!path_matches(h, routes[i].path, url)) continue;
        known = true;
        if (strcmp(method, routes[i].method) == 0) return routes[i].run(h, c, s);
    }
    if (known) return refuse(h, c, MHD_HTTP_METHOD_NOT_ALLOWED, "this path knows another method", false);
    return refuse(h, c, MHD_HTTP_NOT_FOUND, "there is no such path, model or version", false);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *data_bytes, void **state)
{
    oc_http *h = context;
    slot *s = *state;
    if (!s) { /* the head has come, the body has not */
        s = *state = slot_take(h);
        if (!s) return refuse(h, c, MHD_HTTP_SERVICE_UNAVAILABLE, "too many connections", true);
        const framing f = framing_of(c);
        framing_check(h, &f, version, s);
        return s->refused ? refuse(h, c, s->refused, s->reason, true) : MHD_YES;
    }
    if (oc_clock_monotonic_ns() - s->begun_ns > h->config.timeout_ns) return MHD_NO; /* who trickles is cut off */
    if (*data_bytes > 0) {
        if (*data_bytes > h->config.body_max - s->body_bytes)
            return MHD_NO; /* chunked and too large: no answer can be queued here */
        memcpy(s->body + s->body_bytes, data, *data_bytes);
        s->body_bytes += *data_bytes;
        *data_bytes = 0;
        return MHD_YES;
    }
    return route(h, c, s, url, method);
}

/* ---- opening and closing -------------------------------------------------------------------------------------------
 */
/* "127.0.0.1:8000", "localhost:8000", "[::1]:8000" */
static OC_MUST address_parse(const char *text, struct sockaddr_storage *out, socklen_t *bytes)
{
    char host[64];
    uint64_t port = 0;
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host || !decimal(colon + 1, 65535, &port))
        return OC_FAIL(OC_ECONFIG, "serve.http is \"%.100s\", not host:port with a port up to 65535", text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    memset(out, 0, sizeof *out);
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)out;
    if (strcmp(host, "[::1]") == 0) {
        *six = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        *bytes = sizeof *six;
        return OC_OK;
    }
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)port);
    *bytes = sizeof *four;
    if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &four->sin_addr) == 1 &&
        ntohl(four->sin_addr.s_addr) >> 24 == 127)
        return OC_OK;
    return OC_FAIL(OC_ECONFIG,
                   "serve.http: %.63s is not a loopback address (127.x.x.x, localhost, [::1]); without token and TLS "
                   "nothing else is served",
                   host);
}

static OC_MUST http_listen(oc_http *h)
{
    struct sockaddr_storage address;
    socklen_t bytes;
    char host[INET6_ADDRSTRLEN];
    const int on = 1;
    OC_TRY(address_parse(h->config.address, &address, &bytes));
    h->listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->listener < 0) return OC_FAIL(OC_EFAILED, "serve.http: socket: %s", strerror(errno));
    (void)setsockopt(h->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(h->listener, (struct sockaddr *)&address, bytes) != 0 || listen(h->listener, BACKLOG) != 0)
        return OC_FAIL(OC_ECONFIG, "serve.http: %s: %s", h->config.address, strerror(errno));
    if (getsockname(h->listener, (struct sockaddr *)&address, &bytes) != 0)
        return OC_FAIL(OC_EFAILED, "serve.http: %s", strerror(errno));
    const bool six = address.ss_family == AF_INET6;
    const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)&address;
    const struct sockaddr_in6 *other = (const struct sockaddr_in6 *)(const void *)&address;
    inet_ntop(address.ss_family, six ? (const void *)&other->sin6_addr : (const void *)&four->sin_addr, host,
              sizeof host);
    snprintf(h->address, sizeof h->address, six ? "[%s]:%u" : "%s:%u", host,
             (unsigned)ntohs(six ? other->sin6_port : four->sin_port));
    return OC_OK;
}

/* Room is mapped, not touched: what is never used costs nothing. */
static OC_MUST room_make(oc_http *h)
{
    const oc_http_config *c = &h->config;
    const size_t n = (size_t)c->connections_max, outputs = (size_t)h->model->shape.horizons * OC_CLASSES;
    const size_t body = oc_align_up(c->body_max + 1),
                 probabilities = oc_align_up((size_t)c->batch_max * outputs * sizeof(float));
    h->values_cap = c->body_max / 2 + 1; /* "1," is the shortest number of a body */
    h->answer_cap = oc_align_up(oc_infer_answer_bytes(h->model, (size_t)c->batch_max));
    const size_t values = oc_align_up(h->values_cap * sizeof(float)),
                 each = body + values + probabilities + h->answer_cap;
    h->room_bytes = n * each;
    void *room = mmap(NULL, h->room_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return OC_FAIL(OC_EMEMORY, "serve: %zu bytes for HTTP bodies: %s", h->room_bytes, strerror(errno));
    h->room = room;
    OC_TRY(oc_memory_new_array(&h->slots, n, sizeof *h->slots, "connections"));
    for (size_t i = 0; i < n; i++) {
        unsigned char *at = h->room + i * each;
        slot *s = &h->slots[i];
        s->body = (char *)at;
        s->values = (float *)(void *)(at + body);
        s->probabilities = (float *)(void *)(at + body + values);
        s->answer = (char *)at + body + values + probabilities;
        slot_give(h, s);
    }
    return OC_OK;
}

static OC_MUST askers_make(oc_http *h)
{
    char address[OC_WIRE_REGION_OFFSET];
    snprintf(address, sizeof address, "unix:%s", h->config.socket);
    OC_TRY(oc_memory_new_array(&h->askers, (size_t)h->config.threads, sizeof *h->askers, "HTTP threads"));
    OC_TRY(oc_memory_new_array(&h->free_askers, (size_t)h->config.threads, sizeof *h->free_askers, "HTTP threads"));
    for (int i = 0; i < h->config.threads; i++) {
        OC_TRY(oc_client_open(&h->askers[i].client, address, OC_SECOND_NS));
        h->askers[i].sequence = 1;
        asker_give(h, &h->askers[i]);
    }
    return OC_OK;
}

/* Paths are compared as they stand: no name of ours needs escapes, and "%00" would end a text early. */
static size_t leave_escapes(void *context, struct MHD_Connection *c, char *text)
{
    (void)context;
    (void)c;
    return strlen(text);
}

static void on_library_message(void *context, const char *format, va_list arguments) OC_PRINTF(2, 0);
static void on_library_message(void *context, const char *format, va_list arguments)
{
    char text[512];
    (void)context;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = 0;
    oc_log(OC_LOG_DEBUG, "http: %s", text);
}

static OC_MUST http_fill(oc_http *h)
{
    const oc_http_config *c = &h->config;
    if (!(c->threads >= 1 && c->threads <= THREADS_MAX && c->connections_max >= c->threads && c->batch_max >= 1 &&
          c->body_max >= 1))
        return OC_FAIL(OC_ELIMIT, "serve: a number of HTTP's configuration is out of its bounds");
    OC_TRY(http_listen(h));
    OC_TRY(room_make(h));
    OC_TRY(askers_make(h));
    const unsigned seconds = (unsigned)((c->timeout_ns + OC_SECOND_NS - 1) / OC_SECOND_NS);
    struct MHD_OptionItem pool[] = {{MHD_OPTION_THREAD_POOL_SIZE, c->threads, NULL}, {MHD_OPTION_END, 0, NULL}};
    if (c->threads == 1) pool[0] = pool[1];
    h->daemon =
        MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, h,
                         MHD_OPTION_EXTERNAL_LOGGER, on_library_message, NULL, MHD_OPTION_LISTEN_SOCKET, h->listener,
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)c->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                         MHD_OPTION_CONNECTION_TIMEOUT, seconds, MHD_OPTION_STRICT_FOR_CLIENT, 0,
                         MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL, MHD_OPTION_ARRAY, pool, MHD_OPTION_END);
    if (!h->daemon) return OC_FAIL(OC_EFAILED, "serve.http: libmicrohttpd does not start on %s", h->address);
    return OC_OK;
}

oc_status oc_http_open(oc_http **out, const oc_http_config *config, const oc_server *server)
{
    oc_http *h;
    assert(out && config && server);
    *out = NULL;
    OC_TRY(oc_memory_new(&h, sizeof *h, "HTTP"));
    h->config = *config;
    h->server = server;
    h->model = oc_server_bundle(server);
    h->listener = -1;
    pthread_mutex_init(&h->lock, NULL);
    snprintf(h->version, sizeof h->version, "%s", oc_build_text());
    oc_status status = http_fill(h);
    if (status != OC_OK) {
        oc_http_close(h);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = h;
    return OC_OK;
}

/* Whether a request is under way: a slot is out. */
static bool busy(oc_http *h)
{
    int n = 0;
    pthread_mutex_lock(&h->lock);
    for (const slot *s = h->free_slots; s; s = s->next) n++;
    pthread_mutex_unlock(&h->lock);
    return n < h->config.connections_max;
}

void oc_http_close(oc_http *h)
{
    if (!h) return;
    __atomic_store_n(&h->draining, 1u, __ATOMIC_RELAXED);
    if (h->daemon) {
        (void)MHD_quiesce_daemon(h->daemon);
        const int64_t end = oc_clock_monotonic_ns() + h->config.timeout_ns;
        while (busy(h) && oc_clock_monotonic_ns() < end) usleep(1000);
        MHD_stop_daemon(h->daemon);
    }
    if (h->listener >= 0) close(h->listener); /* quiesced: ours again */
    for (int i = 0; h->askers && i < h->config.threads; i++) oc_client_close(h->askers[i].client);
    if (h->room) munmap(h->room, h->room_bytes);
    pthread_mutex_destroy(&h->lock);
    oc_memory_free(h->slots);
    oc_memory_free(h->askers);
    oc_memory_free(h->free_askers);
    oc_memory_free(h);
}

const char *oc_http_address(const oc_http *h)
{
    return h->address;
}
