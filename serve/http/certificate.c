/* certificate.c - from when until when serve.tls_cert holds, read by GnuTLS, which is libmicrohttpd's TLS. A chain
 * holds as long as each certificate of it. */
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "serve/http/front.h"

enum { DAY_S = 86400, WARN_DAYS = 14, TIME_TEXT = 32 };

static const char *time_text(time_t at, char text[TIME_TEXT])
{
    struct tm civil;
    text[0] = 0;
    if (gmtime_r(&at, &civil)) strftime(text, TIME_TEXT, "%Y-%m-%d %H:%M:%SZ", &civil);
    return text;
}

/* The latest begin and the earliest end. */
static OC_MUST chain_read(const char *path, char *pem, time_t *begin, time_t *end)
{
    gnutls_x509_crt_t *chain;
    unsigned n;
    const gnutls_datum_t text = {(unsigned char *)pem, (unsigned)strlen(pem)};
    const int code = gnutls_x509_crt_list_import2(&chain, &n, &text, GNUTLS_X509_FMT_PEM, 0);
    if (code < 0)
        return OC_FAIL(OC_ECONFIG, "serve.tls_cert: %s is not a certificate, or a chain of them, in PEM: %s", path,
                       gnutls_strerror(code));
    for (unsigned i = 0; i < n; i++) {
        const time_t begins = gnutls_x509_crt_get_activation_time(chain[i]),
                     ends = gnutls_x509_crt_get_expiration_time(chain[i]);
        *begin = i == 0 || begins > *begin ? begins : *begin;
        *end = i == 0 || ends < *end ? ends : *end;
        gnutls_x509_crt_deinit(chain[i]);
    }
    gnutls_free(chain);
    return OC_OK;
}

oc_status oc_http_certificate_check(oc_http *h)
{
    const char *path = h->config.secrets.tls_cert;
    const time_t now = (time_t)(oc_clock_wall_ns() / OC_SECOND_NS);
    char begins[TIME_TEXT], ends[TIME_TEXT], today[TIME_TEXT];
    time_t begin = 0, end = 0;
    OC_TRY(chain_read(path, h->secrets->certificate, &begin, &end));
    (void)time_text(begin, begins);
    (void)time_text(end, ends);
    if (!(begin <= now && now <= end))
        return OC_FAIL(
            OC_ECONFIG,
            "serve.tls_cert: %s holds from %s to %s (a chain: its latest begin, its earliest end), and now it "
            "is %s: put one there that holds, or set the clock",
            path, begins, ends, time_text(now, today));
    if (end - now < WARN_DAYS * DAY_S)
        oc_log(OC_LOG_WARN,
               "serve.tls_cert: %s holds until %s, %d more days: put its successor there and start the server anew",
               path, ends, (int)((end - now) / DAY_S));
    h->certificate_end_s = end;
    return OC_OK;
}
