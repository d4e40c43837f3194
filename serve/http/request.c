/* request.c - the life of a request: its head and framing, its body, its route. libmicrohttpd accepts Content-Length
 * beside Transfer-Encoding, Content-Length twice, folded lines, any transfer coding, blanks before the colon, control
 * characters, and no Host: all of these are refused here, and the connection closed. (What 0.9.75 refuses itself, as a
 * Host that is missing where it is told to be strict, it answers with the head sent twice, and closes.) */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "serve/http/front.h"

typedef struct framing {
    int lengths, encodings, inference, odd, folded, packed;
    uint64_t length;
    bool length_bad, encoding_bad;
    int64_t json_bytes;
    bool json_bad;
    oc_http_sender sender;
} framing;

/* libmicrohttpd 0.9.75 joins a folded line to the name before it, in memory of its own: "Content-Length:", folded, "5"
 * is a header Content-Length5 to it, and the body is the next request. A header of one line has its value behind its
 * name and blanks. */
static bool in_one_line(const char *key, const char *value)
{
    const char *end = key + strlen(key) + 1;
    return (uintptr_t)value >= (uintptr_t)end && strspn(end, " \t") == (size_t)(value - end);
}

static bool printable(const char *value)
{
    for (; *value; value++)
        if (((unsigned char)*value < ' ' && *value != '\t') || *value == 127) return false;
    return true;
}

static enum MHD_Result header_see(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    framing *f = context;
    uint64_t number;
    (void)kind;
    f->folded += value && !in_one_line(key, value);
    value = value ? value : "";
    for (const char *k = key; *k; k++) f->odd += !(isalnum((unsigned char)*k) || strchr("!#$%&'*+-.^_`|~", *k));
    f->odd += !printable(value);
    const struct {
        const char *name;
        oc_http_header *to;
    } kept[] = {{"Host", &f->sender.host}, {"Origin", &f->sender.origin}, {"Authorization", &f->sender.authorization}};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (strcasecmp(key, kept[i].name) == 0) *kept[i].to = (oc_http_header){value, kept[i].to->count + 1};
    if (strcasecmp(key, "Content-Encoding") == 0) f->packed += strcasecmp(value, "identity") != 0;
    if (strcasecmp(key, "Transfer-Encoding") == 0) {
        f->encodings++;
        f->encoding_bad = strcasecmp(value, "chunked") != 0;
    }
    if (strcasecmp(key, "Content-Length") == 0) {
        f->lengths++;
        f->length_bad = !oc_http_decimal(value, INT64_MAX, &f->length);
    }
    if (strcasecmp(key, "Inference-Header-Content-Length") == 0) {
        f->inference++;
        f->json_bad = !oc_http_decimal(value, INT64_MAX, &number);
        f->json_bytes = (int64_t)number;
    }
    return MHD_YES;
}

/* False: refused, with the answer's result in *result. */
static bool framing_good(oc_http *h, struct MHD_Connection *c, const framing *f, const char *version,
                         enum MHD_Result *result)
{
    const bool old = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    const struct {
        bool bad;
        oc_http_refusal why;
        const char *message;
    } rows[] = {
        {f->folded > 0, OC_HTTP_FRAMING, "a header goes on in a second line"},
        {f->odd > 0, OC_HTTP_FRAMING, "a header holds a character that headers do not have"},
        {f->lengths + f->encodings > 1, OC_HTTP_FRAMING,
         "Content-Length and Transfer-Encoding: at most one of them, once"},
        {f->length_bad, OC_HTTP_FRAMING, "Content-Length is not a decimal number below 10^18"},
        {f->encodings && (f->encoding_bad || old), OC_HTTP_FRAMING, "Transfer-Encoding is not chunked, of HTTP/1.1"},
        {f->sender.host.count != 1 && (f->sender.host.count || !old), OC_HTTP_FRAMING, "exactly one Host is needed"},
        {f->inference > 1 || f->json_bad, OC_HTTP_FRAMING, "Inference-Header-Content-Length is not one decimal number"},
        {f->lengths && f->length > h->config.body_max, OC_HTTP_SIZE, "the body is larger than serve.http_body_kb"},
        {f->packed > 0, OC_HTTP_ENCODING, "Content-Encoding: bodies are taken as they are, not compressed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!rows[i].bad) continue;
        *result = oc_http_refuse_last(h, c, rows[i].why, rows[i].message);
        return false;
    }
    return true;
}

static oc_http_slot *slot_take(oc_http *h)
{
    pthread_mutex_lock(&h->lock);
    oc_http_slot *s = h->free_slots;
    if (s) h->free_slots = s->next;
    pthread_mutex_unlock(&h->lock);
    if (!s) return NULL;
    __atomic_fetch_add(&h->under_way, 1, __ATOMIC_RELAXED);
    s->body_bytes = s->answer_bytes = s->json_bytes = 0;
    s->refused = s->loading = false;
    s->begun_ns = oc_clock_monotonic_ns();
    return s;
}

void oc_http_slot_give(oc_http *h, oc_http_slot *s)
{
    pthread_mutex_lock(&h->lock);
    s->next = h->free_slots;
    h->free_slots = s;
    pthread_mutex_unlock(&h->lock);
}

void oc_http_on_completed(void *context, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code)
{
    oc_http *h = context;
    oc_http_connection_touch(c);
    if (code == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED) oc_http_refusal_count(h, OC_HTTP_SLOW);
    if (*state) {
        oc_http_load_completed(h, *state);
        oc_http_slot_give(h, *state);
        __atomic_fetch_sub(&h->under_way, 1, __ATOMIC_RELAXED);
    }
    *state = NULL;
}

static enum MHD_Result head_take(oc_http *h, struct MHD_Connection *c, const char *url, const char *method,
                                 const char *version, void **state)
{
    framing f = {.json_bytes = -1};
    enum MHD_Result result = MHD_YES;
    oc_http_refusal why;
    const char *message;
    oc_http_slot *s = slot_take(h);
    *state = s;
    if (!s) return oc_http_refuse_last(h, c, OC_HTTP_CONNECTIONS, "too many connections");
    MHD_get_connection_values(c, MHD_HEADER_KIND, header_see, &f);
    s->json_header = f.json_bytes;
    s->refused = !framing_good(h, c, &f, version, &result);
    if (s->refused) return result;
    oc_http_connection_touch(c);
    s->route = oc_http_route_find(h, s, url, method);
    s->refused = !oc_http_route_allowed(h, s->route, &f.sender, &why, &message);
    return s->refused ? oc_http_refuse_last(h, c, why, message) : MHD_YES; /* nothing of the body is read */
}

/* libmicrohttpd cannot take an answer while a body is coming: who trickles, or sends more chunks than may be, is cut
 * off, and counted. */
static enum MHD_Result cut_off(oc_http *h, oc_http_refusal why)
{
    oc_http_refusal_count(h, why);
    return MHD_NO;
}

enum MHD_Result oc_http_on_request(void *context, struct MHD_Connection *c, const char *url, const char *method,
                                   const char *version, const char *data, size_t *data_bytes, void **state)
{
    oc_http *h = context;
    oc_http_slot *s = *state;
    if (!s) return head_take(h, c, url, method, version, state); /* the head has come, the body has not */
    if (s->refused) {
        *data_bytes = 0;
        return MHD_YES;
    }
    if (oc_clock_monotonic_ns() - s->begun_ns > h->config.timeout_ns) return cut_off(h, OC_HTTP_SLOW);
    if (*data_bytes > 0) {
        if (*data_bytes > h->config.body_max - s->body_bytes) return cut_off(h, OC_HTTP_SIZE);
        memcpy(s->body + s->body_bytes, data, *data_bytes);
        s->body_bytes += *data_bytes;
        *data_bytes = 0;
        return MHD_YES;
    }
    return oc_http_route(h, c, s);
}
