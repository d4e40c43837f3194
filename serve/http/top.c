/* top.c - a bare HTTP client, percentiles out of histograms as the dashboard makes them, and a screen of text. */
#include "serve/http/top.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum { ANSWER_MAX = 1 << 22, REQUEST_BYTES = 512, LINE_BYTES = 512, SHARES = 4, BAR = 24 };
static const double shares[SHARES] = {0.5, 0.9, 0.99, 0.999};

/* ---- asking --------------------------------------------------------------------------------------------------------
 */
static OC_MUST address_parse(const char *text, struct sockaddr_in *out)
{
    char host[32];
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    const unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    const bool good = colon && (size_t)(colon - text) < sizeof host && port >= 1 && port <= 65535 && *end == 0;
    snprintf(host, sizeof host, "%.*s", good ? (int)(colon - text) : 0, text);
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (!good || inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &out->sin_addr) != 1 ||
        ntohl(out->sin_addr.s_addr) >> 24 != 127)
        return OC_FAIL(OC_EUSAGE,
                       "\"%.60s\" is not a loopback address (127.x.x.x:port); for another machine use a tunnel", text);
    return OC_OK;
}

/* All that the server says until it closes. */
static OC_MUST exchange(int s, const char *request, int64_t end_ns, char *answer, size_t *bytes)
{
    for (size_t sent = 0, n = strlen(request); sent < n;) {
        const ssize_t put = send(s, request + sent, n - sent, MSG_NOSIGNAL);
        if (put <= 0) return OC_FAIL(OC_EAGAIN, "the server does not take a request: %s", strerror(errno));
        sent += (size_t)put;
    }
    answer[0] = 0;
    for (*bytes = 0; *bytes < ANSWER_MAX - 1;) {
        const int64_t left = end_ns - oc_clock_monotonic_ns();
        const struct timeval patience = {.tv_sec = left / OC_SECOND_NS, .tv_usec = left % OC_SECOND_NS / 1000 + 1};
        if (left <= 0 || setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) break;
        const ssize_t got = recv(s, answer + *bytes, ANSWER_MAX - 1 - *bytes, 0);
        if (got < 0 && errno == ECONNRESET) return OC_OK; /* an end too: answer_parse looks at what came */
        if (got < 0) break;
        *bytes += (size_t)got;
        answer[*bytes] = 0;
        if (got == 0) return OC_OK;
    }
    return OC_FAIL(OC_EAGAIN, "the server does not answer in time");
}

/* What a server with TLS says to a request in clear: nothing, or an alert. */
static bool tls_like(const char *answer, size_t bytes)
{
    return bytes == 0 || (answer[0] == 0x15 && bytes < 64);
}

static OC_MUST answer_parse(const char *address, const char *answer, size_t bytes, json_t **status)
{
    const char *body = strstr(answer, "\r\n\r\n");
    int code = 0;
    if (tls_like(answer, bytes))
        return OC_FAIL(
            OC_EUSAGE,
            "%s: no answer in clear: the server has TLS (serve.tls_cert), and top has not. Put a tunnel "
            "before it (socat TCP-LISTEN:8001,bind=127.0.0.1,fork OPENSSL:HOST:PORT,cafile=CERT.pem) and ask "
            "127.0.0.1:8001, or ask https://HOST:PORT/outcry/status by curl",
            address);
    if (!body || sscanf(answer, "HTTP/1.1 %3d", &code) != 1)
        return OC_FAIL(OC_EDATA, "%s: what answers there is no Outcry server", address);
    if (code == 401) return OC_FAIL(OC_EUSAGE, "%s: the server asks for a token: --token-file", address);
    if (code != 200) return OC_FAIL(OC_EDATA, "%s: the server says %d: %.200s", address, code, body + 4);
    OC_TRY(oc_json_parse(body + 4, bytes - (size_t)(body + 4 - answer), "status", status));
    if (json_is_object(json_object_get(*status, "stages")) && json_is_array(json_object_get(*status, "bounds_ns")))
        return OC_OK;
    json_decref(*status);
    return OC_FAIL(OC_EDATA, "%s: what answers there is no Outcry server", address);
}

static OC_MUST ask(int s, const char *address, const char *token, int64_t end_ns, json_t **status)
{
    char request[REQUEST_BYTES], *answer;
    size_t bytes = 0;
    snprintf(request, sizeof request, "GET /outcry/status HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s%s%s\r\n",
             address, token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
    OC_TRY(oc_memory_new(&answer, ANSWER_MAX, "an answer"));
    oc_status result = exchange(s, request, end_ns, answer, &bytes);
    explicit_bzero(request, sizeof request);
    if (result == OC_OK) result = answer_parse(address, answer, bytes, status);
    oc_memory_free(answer);
    return result;
}

oc_status oc_top_read(const char *address, const char *token, int64_t timeout_ns, json_t **status)
{
    struct sockaddr_in name;
    *status = NULL;
    OC_TRY(address_parse(address, &name));
    const int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    oc_status result = OC_OK;
    if (s < 0 || connect(s, (const struct sockaddr *)&name, sizeof name) != 0)
        result = OC_FAIL(OC_EAGAIN, "%s: %s", address, strerror(errno));
    if (result == OC_OK) result = ask(s, address, token, oc_clock_monotonic_ns() + timeout_ns, status);
    if (s >= 0) close(s);
    return result;
}

/* ---- figures -------------------------------------------------------------------------------------------------------
 */
static double number(const json_t *root, const char *key)
{
    return json_number_value(json_object_get(root, key));
}

/* Bucket i of a histogram since `before`; path: "stages" and a name, or "http" and "seconds". */
static double risen(const json_t *now, const json_t *before, const char *part, const char *name, size_t i)
{
    const json_t *a = json_object_get(json_object_get(now, part), name),
                 *b = json_object_get(json_object_get(before, part), name);
    return json_number_value(json_array_get(a, i)) - json_number_value(json_array_get(b, i));
}

static double total(const json_t *now, const json_t *before, const char *part, const char *name)
{
    double all = 0;
    for (size_t i = 0; i <= json_array_size(json_object_get(now, "bounds_ns")); i++)
        all += risen(now, before, part, name, i);
    return all;
}

/* Within a bucket the answers are taken to lie evenly. NaN where there are none. */
static double percentile_ns(const json_t *now, const json_t *before, const char *part, const char *name, double share)
{
    const json_t *bounds = json_object_get(now, "bounds_ns");
    const size_t n = json_array_size(bounds);
    const double wanted = share * total(now, before, part, name);
    double below = 0;
    if (!(wanted > 0)) return (double)NAN;
    for (size_t i = 0; i <= n; i++) {
        const double here = risen(now, before, part, name, i);
        if (below + here >= wanted) {
            const double from = i == 0 ? 0 : json_number_value(json_array_get(bounds, i - 1)),
                         to = json_number_value(json_array_get(bounds, i < n ? i : n - 1));
            return from + (to - from) * (wanted - below) / here;
        }
        below += here;
    }
    return json_number_value(json_array_get(bounds, n - 1));
}

static double rate(const json_t *now, const json_t *before)
{
    const double seconds =
        1e-9 * (number(now, "now_ns") - (before ? number(before, "now_ns") : number(now, "start_ns")));
    return seconds > 0 ? total(now, before, "stages", "whole") / seconds : 0;
}

/* What was counted by a server that has been started again since is nothing to compare with. */
static const json_t *same_server(const json_t *now, const json_t *before)
{
    const json_t *one = json_object_get(now, "start_ns"), *other = json_object_get(before, "start_ns");
    return json_integer_value(one) == json_integer_value(other) ? before : NULL;
}

json_t *oc_top_figures(const json_t *now, const json_t *before)
{
    before = same_server(now, before);
    static const char *const names[SHARES] = {"p50_ns", "p90_ns", "p99_ns", "p999_ns"};
    json_t *out = json_pack("{s:f}", "rate", rate(now, before));
    for (int i = 0; i < SHARES; i++) {
        const double ns = percentile_ns(now, before, "stages", "whole", shares[i]);
        json_object_set_new(out, names[i], ns >= 0 ? json_real(ns) : json_null());
    }
    return out;
}

/* ---- the screen ----------------------------------------------------------------------------------------------------
 */
typedef struct screen {
    oc_text *out;
    const oc_top_view *view;
    int lines;
} screen;

/* One line, cut to the width; `bold` where colours are wanted. */
static void line(screen *s, bool bold, const char *format, ...) OC_PRINTF(3, 4);
static void line(screen *s, bool bold, const char *format, ...)
{
    char text[LINE_BYTES];
    va_list arguments;
    if (s->lines >= s->view->lines) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?'; /* what answers may be another's program: no escapes of its own */
    const bool escapes = bold && s->view->colour;
    oc_text_add(s->out, "%s%.*s%s\n", escapes ? "\033[1m" : "", s->view->columns, text, escapes ? "\033[0m" : "");
    s->lines++;
}

static const char *time_text(char text[16], double ns)
{
    if (!(ns >= 0))
        snprintf(text, 16, "-");
    else
        snprintf(text, 16,
                 ns < 1e6   ? "%.1f us"
                 : ns < 1e9 ? "%.2f ms"
                            : "%.2f s",
                 ns < 1e6   ? ns / 1e3
                 : ns < 1e9 ? ns / 1e6
                            : ns / 1e9);
    return text;
}

static const char *word(const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));
    return text ? text : "-";
}

static void stages_print(screen *s, const json_t *now, const json_t *before)
{
    static const struct {
        const char *part, *name, *shown;
    } rows[] = {{"stages", "queue", "queue"},
                {"stages", "service", "service"},
                {"stages", "whole", "both"},
                {"http", "seconds", "HTTP, whole"}};
    char text[SHARES][16];
    line(s, true, "%-14s %12s %12s %12s %12s", "stage", "p50", "p90", "p99", "p99.9");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int k = 0; k < SHARES; k++)
            time_text(text[k], percentile_ns(now, before, rows[i].part, rows[i].name, shares[k]));
        line(s, false, "%-14s %12s %12s %12s %12s", rows[i].shown, text[0], text[1], text[2], text[3]);
    }
}

static void instruments_print(screen *s, const json_t *now)
{
    const json_t *list = json_object_get(now, "instruments"), *one;
    size_t i;
    line(s, true, "%-16s %6s %6s %6s  %-24s %10s", "instrument", "buy", "sell", "hold", "buy # sell = hold .", "age");
    json_array_foreach(list, i, one)
    {
        const json_t *p = json_array_get(json_object_get(one, "probabilities"), 0);
        char bar[BAR + 1], age[16];
        double value[3];
        for (size_t k = 0; k < 3; k++) value[k] = json_number_value(json_array_get(p, k));
        for (int k = 0; k < BAR; k++)
            bar[k] = k + 0.5 < BAR * value[0] ? '#' : k + 0.5 < BAR * (value[0] + value[1]) ? '=' : '.';
        bar[BAR] = 0;
        line(s, false, "%-16.31s %6.3f %6.3f %6.3f  %s %10s", word(one, "symbol"), value[0], value[1], value[2], bar,
             time_text(age, number(one, "age_ns")));
    }
}

static void refusals_print(screen *s, const json_t *now)
{
    const char *name, *kind;
    json_t *value, *states;
    char text[LINE_BYTES] = "";
    size_t used = 0;
    json_object_foreach(json_object_get(json_object_get(now, "http"), "refusals"), name,
                        value) if (json_integer_value(value) > 0 && used < sizeof text) used +=
        (size_t)snprintf(text + used, sizeof text - used, "  http %s %lld", name, (long long)json_integer_value(value));
    json_object_foreach(json_object_get(now, "replies"), kind, states) json_object_foreach(
        states, name,
        value) if ((strncmp(name, "refused", 7) == 0 || strcmp(name, "failed") == 0 || strcmp(name, "late") == 0) &&
                   used < sizeof text) used += (size_t)snprintf(text + used, sizeof text - used, "  %s %s %lld", kind,
                                                                name, (long long)json_integer_value(value));
    line(s, false, "refused since start:%s", text[0] ? text : "  nothing");
}

void oc_top_print(oc_text *out, const json_t *now, const json_t *before, const oc_top_view *view)
{
    screen s = {.out = out, .view = view};
    before = same_server(now, before);
    char p50[16], p99[16];
    const json_t *models = json_object_get(now, "models"), *other = json_object_get(models, "other"),
                 *inputs = json_object_get(now, "inputs");
    line(&s, true, "outcry %s  model %s %s  %s", word(now, "build"), word(now, "model"), word(now, "version"),
         word(now, "backend"));
    line(&s, false, "%.0f answers/s  p50 %s  p99 %s  sessions %.0f  advance budget %.0f %%  HTTP under way %.0f",
         rate(now, before), time_text(p50, percentile_ns(now, before, "stages", "whole", 0.5)),
         time_text(p99, percentile_ns(now, before, "stages", "whole", 0.99)), number(now, "sessions"),
         100 * number(now, "budget_used"), number(json_object_get(now, "http"), "under_way"));
    line(&s, false, "inputs: %.0f drifted, largest shift %.2f deviations (%s)", number(inputs, "drifted"),
         number(inputs, "shift_max"), word(inputs, "shift_feature"));
    if (json_is_object(other) && json_object_get(models, "candidate"))
        line(&s, false, "beside it: version %s, canary %.0f %%", word(other, "version"),
             100 * number(models, "canary"));
    refusals_print(&s, now);
    line(&s, false, "%s", "");
    stages_print(&s, now, before);
    line(&s, false, "%s", "");
    instruments_print(&s, now);
}
