/* address.c - where HTTP listens: a loopback address, or another one where token and TLS are there. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "serve/http/front.h"

enum { BACKLOG = 128 };

bool oc_http_decimal(const char *text, uint64_t max, uint64_t *out)
{
    *out = 0;
    if (!*text || strlen(text) > 18) return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text)) return false;
        *out = *out * 10 + (uint64_t)(*text - '0');
    }
    return *out <= max;
}

/* "127.0.0.1:8000", "localhost:8000", "[::1]:8000"; names are not looked up. */
static OC_MUST address_parse(const char *text, struct sockaddr_storage *out, socklen_t *bytes, bool *loopback)
{
    char host[64];
    uint64_t port = 0;
    const char *colon = strrchr(text, ':');
    const size_t length = colon ? (size_t)(colon - text) : sizeof host;
    if (length >= sizeof host || !oc_http_decimal(colon + 1, 65535, &port))
        return OC_FAIL(OC_ECONFIG, "serve.http is \"%.100s\", not host:port with a port up to 65535", text);
    const bool bracketed = length >= 2 && text[0] == '[' && text[length - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(bracketed ? length - 2 : length), text + bracketed);
    memset(out, 0, sizeof *out);
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)out;
    if (bracketed && inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        *loopback = IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
        *bytes = sizeof *six;
        return OC_OK;
    }
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)port);
    *bytes = sizeof *four;
    if (bracketed || inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &four->sin_addr) != 1)
        return OC_FAIL(OC_ECONFIG, "serve.http: %.63s is no IP address (names but localhost are not looked up)", host);
    *loopback = ntohl(four->sin_addr.s_addr) >> 24 == 127;
    return OC_OK;
}

bool oc_http_host_loopback(const char *host)
{
    struct sockaddr_storage address;
    socklen_t bytes;
    bool loopback = false;
    char text[80];
    const char *behind = strrchr(host, ']');
    const bool port = strchr(behind ? behind : host, ':') != NULL;
    if (snprintf(text, sizeof text, "%s%s", host, port ? "" : ":0") >= (int)sizeof text) return false;
    for (char *c = text; *c; c++) *c = (char)tolower((unsigned char)*c);
    return address_parse(text, &address, &bytes, &loopback) == OC_OK && loopback;
}

/* Everybody who reaches the machine reaches any other address. */
static OC_MUST exposure_check(const oc_http *h)
{
    const bool token = h->secrets->token[0] != 0, tls = h->secrets->certificate[0] != 0;
    if (token && (tls || h->config.proxy)) return OC_OK;
    return OC_FAIL(OC_ECONFIG,
                   "serve.http: %s is not a loopback address (127.x.x.x, localhost, [::1]), so %s%s%s needed",
                   h->config.address, token ? "" : "serve.token_file", token || tls || h->config.proxy ? "" : " and ",
                   tls || h->config.proxy ? " is" : "serve.tls_cert with serve.tls_key (or serve.proxy=declared) are");
}

static OC_MUST socket_listen(oc_http *h, const struct sockaddr_storage *address, socklen_t bytes)
{
    const int on = 1;
    h->listener = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->listener < 0) return OC_FAIL(OC_EFAILED, "serve.http: socket: %s", strerror(errno));
    (void)setsockopt(h->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(h->listener, (const struct sockaddr *)address, bytes) != 0 || listen(h->listener, BACKLOG) != 0)
        return OC_FAIL(OC_ECONFIG, "serve.http: %s: %s", h->config.address, strerror(errno));
    return OC_OK;
}

/* Where `found` is what the configuration names: what it says of loopback, token and TLS was judged by that. */
static bool same_address(const struct sockaddr_storage *wanted, const struct sockaddr_storage *found)
{
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)(const void *)wanted,
                             *b4 = (const struct sockaddr_in *)(const void *)found;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)(const void *)wanted,
                              *b6 = (const struct sockaddr_in6 *)(const void *)found;
    if (wanted->ss_family != found->ss_family) return false;
    if (wanted->ss_family == AF_INET)
        return a4->sin_addr.s_addr == b4->sin_addr.s_addr && (!a4->sin_port || a4->sin_port == b4->sin_port);
    return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0 &&
           (!a6->sin6_port || a6->sin6_port == b6->sin6_port);
}

static void address_text(const struct sockaddr_storage *address, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN];
    const bool six = address->ss_family == AF_INET6;
    const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *other = (const struct sockaddr_in6 *)(const void *)address;
    inet_ntop(address->ss_family, six ? (const void *)&other->sin6_addr : (const void *)&four->sin_addr, host,
              sizeof host);
    snprintf(out, cap, six ? "[%s]:%u" : "%s:%u", host, (unsigned)ntohs(six ? other->sin6_port : four->sin_port));
}

oc_status oc_http_listen(oc_http *h)
{
    struct sockaddr_storage wanted = {0}, found = {0};
    socklen_t bytes = 0, found_bytes = sizeof found;
    bool loopback = false;
    OC_TRY(address_parse(h->config.address, &wanted, &bytes, &loopback));
    if (!loopback) OC_TRY(exposure_check(h));
    if (h->config.listener)
        h->listener = h->config.listener;
    else
        OC_TRY(socket_listen(h, &wanted, bytes));
    if (getsockname(h->listener, (struct sockaddr *)&found, &found_bytes) != 0)
        return OC_FAIL(OC_EFAILED, "serve.http: %s", strerror(errno));
    address_text(&found, h->address, sizeof h->address);
    if (!same_address(&wanted, &found))
        return OC_FAIL(OC_ECONFIG,
                       "serve.http is \"%.100s\", but the socket handed in lies at %s: set one to the other",
                       h->config.address, h->address);
    return OC_OK;
}
