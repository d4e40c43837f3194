/* infer.h - the Open Inference Protocol's inference request and answer [OIP2], without any transport: bytes to a batch
 * of windows, probabilities to bytes. Numbers may be JSON or, after the JSON, raw little-endian f32. */
#ifndef OC_SERVE_HTTP_INFER_H
#define OC_SERVE_HTTP_INFER_H

#include <stdint.h>
#include "nn/bundle.h"

enum { OC_INFER_ID = 128, OC_INFER_JSON_MAX = 65536 }; /* what remains of the JSON without its numbers */

typedef struct oc_infer {
    size_t batch;  /* windows */
    float *values; /* caller's, [values_cap] */
    size_t values_cap;
    bool binary;          /* the answer's numbers are wanted raw */
    char id[OC_INFER_ID]; /* "" where none */
} oc_infer;

/* body [bytes], one byte more writable; it is changed. json_bytes: of Inference-Header-Content-Length, -1: none, all is
 * JSON. OC_EDATA with a message for the client; OC_ELIMIT: too large. Never keeps a pointer into body. */
OC_MUST oc_infer_parse(oc_infer *r, const oc_bundle *model, size_t batch_max, char *body, size_t bytes,
                       int64_t json_bytes);

/* *json_bytes: length of the JSON part; equal to the return value for a JSON answer. Numbers have nine significant
 * digits, which a reader rounds to the same bits. 0: out does not hold it. */
typedef struct oc_infer_times {
    int64_t queue_ns, service_ns;
} oc_infer_times;
size_t oc_infer_print(const oc_infer *r, const oc_bundle *model, const float *probabilities, oc_infer_times times,
                      char *out, size_t cap, size_t *json_bytes);
size_t oc_infer_answer_bytes(const oc_bundle *model, size_t batch_max); /* room that print needs at most */
void oc_infer_escape(char *out, size_t cap, const char *text); /* for JSON; other than plain ASCII becomes '?' */

#endif
