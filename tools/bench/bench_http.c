/* bench_http.c - the client: connect, a request in one piece, an answer by its Content-Length. */
#include "tools/bench/bench_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

enum { ANSWER_BYTES = 65536, ANSWER_SECONDS = 20 };

oc_status bench_http_connect(bench_http *h, const char *address)
{
    *h = (bench_http){.socket = -1};
    struct sockaddr_in name = {.sin_family = AF_INET};
    const struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    char host[64];
    const char *colon = strrchr(address, ':');
    const int one = 1;
    if (!colon || colon - address >= (ptrdiff_t)sizeof host) return OC_FAIL(OC_EUSAGE, "bench: address %s", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    name.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &name.sin_addr) != 1) return OC_FAIL(OC_EUSAGE, "bench: address %s", address);
    h->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (h->socket < 0 || connect(h->socket, (struct sockaddr *)&name, sizeof name) != 0)
        return OC_FAIL(OC_EAGAIN, "bench: %s: %s", address, strerror(errno));
    setsockopt(h->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(h->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return OC_OK;
}

/* Head, and a body of two pieces. */
static OC_MUST request_fill(bench_http *h, const oc_text *head, const void *first, size_t first_bytes,
                            const void *second, size_t second_bytes)
{
    const size_t bytes = head->bytes + first_bytes + second_bytes;
    if (bytes > h->request_cap) {
        oc_memory_free(h->request);
        h->request = NULL;
        h->request_cap = 0;
        OC_TRY(oc_memory_new(&h->request, bytes, "a request"));
        h->request_cap = bytes;
    }
    h->request_bytes = bytes;
    memcpy(h->request, head->data, head->bytes);
    memcpy(h->request + head->bytes, first, first_bytes);
    if (second_bytes) memcpy(h->request + head->bytes + first_bytes, second, second_bytes);
    return OC_OK;
}

oc_status bench_http_post(bench_http *h, const char *address, const char *path, const void *body, size_t bytes)
{
    oc_text head = {0};
    oc_text_add(&head, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n\r\n", path, address, bytes);
    oc_status status = oc_text_finish(&head, "a request");
    if (status == OC_OK) status = request_fill(h, &head, body, bytes, NULL, 0);
    oc_text_free(&head);
    return status;
}

static OC_MUST request_make(bench_http *h, const char *address, const char *model, const oc_model_shape *shape,
                            const float *rows, bool binary, const char *parameters)
{
    const size_t cells = (size_t)shape->steps * (size_t)shape->inputs, raw = binary ? cells * sizeof *rows : 0;
    oc_text json = {0}, head = {0};
    oc_text_add(&json, "{\"inputs\":[{\"name\":\"window\",\"shape\":[1,%d,%d],\"datatype\":\"FP32\",", shape->steps,
                shape->inputs);
    if (binary) {
        oc_text_add(&json,
                    "\"parameters\":{\"binary_data_size\":%zu}}],\"parameters\":{%s\"binary_data_output\":true}}", raw,
                    parameters);
    } else {
        oc_text_add(&json, "\"data\":[");
        for (size_t i = 0; i < cells; i++) oc_text_add(&json, "%s%.7g", i ? "," : "", (double)rows[i]);
        oc_text_add(&json, "]}]}");
    }
    oc_text_add(&head, "POST /v2/models/%s/infer HTTP/1.1\r\nHost: %s\r\nContent-Type: application/%s\r\n", model,
                address, binary ? "octet-stream" : "json");
    if (binary) oc_text_add(&head, "Inference-Header-Content-Length: %zu\r\n", json.bytes);
    oc_text_add(&head, "Content-Length: %zu\r\n\r\n", json.bytes + raw);
    oc_status status = oc_text_finish(&json, "a request");
    if (status == OC_OK) status = oc_text_finish(&head, "a request");
    if (status == OC_OK) status = request_fill(h, &head, json.data, json.bytes, rows, raw);
    oc_text_free(&json);
    oc_text_free(&head);
    return status;
}

oc_status bench_http_open(bench_http *h, const char *address, const char *model, const oc_model_shape *shape,
                          const float *rows, bool binary)
{
    OC_TRY(bench_http_connect(h, address));
    return request_make(h, address, model, shape, rows, binary, "");
}

oc_status bench_http_request(bench_http *h, const char *address, const char *model, const oc_model_shape *shape,
                             const float *rows, bool binary, const char *parameters)
{
    return request_make(h, address, model, shape, rows, binary, parameters);
}

void bench_http_close(bench_http *h)
{
    if (h->socket >= 0) close(h->socket);
    oc_memory_free(h->request);
    *h = (bench_http){.socket = -1};
}

size_t bench_http_answer_bytes(const char *text)
{
    static const char name[] = "\r\ncontent-length:";
    const char *end = strstr(text, "\r\n\r\n");
    for (const char *at = text; end && at < end; at++)
        if (strncasecmp(at, name, sizeof name - 1) == 0)
            return (size_t)(end + 4 - text) + (size_t)strtoul(at + sizeof name - 1, NULL, 10);
    return 0;
}

oc_status bench_http_send(bench_http *h)
{
    for (size_t sent = 0; sent < h->request_bytes;) {
        const ssize_t n = send(h->socket, h->request + sent, h->request_bytes - sent, MSG_NOSIGNAL);
        if (n <= 0) return OC_FAIL(OC_EFAILED, "bench: send: %s", strerror(errno));
        sent += (size_t)n;
    }
    return OC_OK;
}

oc_status bench_http_call(bench_http *h)
{
    bool found;
    return bench_http_call_for(h, "", &found);
}

oc_status bench_http_call_for(bench_http *h, const char *text, bool *found)
{
    char answer[ANSWER_BYTES];
    size_t have = 0, want = 0;
    OC_TRY(bench_http_send(h));
    while (want == 0 || have < want) {
        const ssize_t n = recv(h->socket, answer + have, sizeof answer - 1 - have, 0);
        if (n <= 0) return OC_FAIL(OC_EFAILED, "bench: the server closed the connection or says nothing");
        have += (size_t)n;
        answer[have] = 0;
        want = want ? want : bench_http_answer_bytes(answer);
        if (want >= sizeof answer) return OC_FAIL(OC_ELIMIT, "bench: an answer of %zu bytes", want);
    }
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0) return OC_FAIL(OC_EFAILED, "bench: the server said %.200s", answer);
    *found = strstr(answer, text) != NULL;
    return OC_OK;
}
