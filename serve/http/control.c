/* control.c - the repository extension's load and unload. One model answers; what is loaded is asked for by its name.
 */
#include "serve/http/front.h"

enum MHD_Result oc_http_load(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    (void)s;
    return oc_http_say(h, c, "{}"); /* it is there */
}

enum MHD_Result oc_http_unload(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    (void)s;
    return oc_http_refuse(h, c, OC_HTTP_REQUEST, "the model that answers cannot be unloaded: stop the server instead");
}
