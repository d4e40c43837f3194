/* bench_http.h - one client of the Open Inference Protocol over HTTP: a bare socket and a request made ready
 * beforehand, so that its figure is the server's; the same against Outcry and against its peer. */
#ifndef OC_TOOLS_BENCH_HTTP_H
#define OC_TOOLS_BENCH_HTTP_H

#include "tools/bench/bench_model.h"

typedef struct bench_http {
    int socket;
    char *request;
    size_t request_bytes, request_cap;
} bench_http;

/* One window of `rows` as JSON numbers (seven digits) or as raw f32 behind the JSON. address: "127.0.0.1:8000". */
OC_MUST bench_http_open(bench_http *h, const char *address, const char *model, const oc_model_shape *shape,
                        const float *rows, bool binary);
/* Makes another request ready: parameters is text before the others, `"sequence_id":3,`. */
OC_MUST bench_http_request(bench_http *h, const char *address, const char *model, const oc_model_shape *shape,
                           const float *rows, bool binary, const char *parameters);
/* The same of any path and body; connect: a client with no request yet. */
OC_MUST bench_http_connect(bench_http *h, const char *address);
OC_MUST bench_http_post(bench_http *h, const char *address, const char *path, const void *body, size_t bytes);
void bench_http_close(bench_http *h);
OC_MUST bench_http_send(bench_http *h);
size_t bench_http_answer_bytes(const char *text); /* of the whole answer once its head is there; 0: not yet */
OC_MUST bench_http_call(bench_http *h); /* sends, and reads the whole answer; anything but 200 is OC_EFAILED */
/* The same, and whether the answer holds this text. */
OC_MUST bench_http_call_for(bench_http *h, const char *text, bool *found);

/* Outcry's HTTP front and, where OUTCRY_MLSERVER names its Python or --python has it, MLServer before ONNX Runtime with
 * the same model (o->peers/serve_mlserver.py): p50 and p99 of one client, JSON and binary. `folder` holds the bundle.
 */
OC_MUST bench_serve_http(bench_model *b, const char *folder, const oc_bench_options *o, oc_bench_report *report);

#endif
