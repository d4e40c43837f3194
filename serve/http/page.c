/* page.c - the dashboard: files that hold no figure. A strict policy stands on every file: no script or style but ours,
 * no frame, nothing from elsewhere. */
#include "serve/http/assets.h"
#include "serve/http/front.h"

enum MHD_Result oc_http_page(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    static const char *const headers[][2] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-cache"},
    };
    const oc_asset *a = oc_asset_find(oc_http_route_path(s->route));
    union {
        const char *in;
        void *out;
    } borrowed = {.in = a->data};
    struct MHD_Response *r =
        MHD_create_response_from_buffer((size_t)(a->end - a->data), borrowed.out, MHD_RESPMEM_PERSISTENT);
    if (!r) return MHD_NO;
    bool good = MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->type) == MHD_YES;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        good = good && MHD_add_response_header(r, headers[i][0], headers[i][1]) == MHD_YES;
    return oc_http_queue(h, c, MHD_HTTP_OK, r, good);
}
