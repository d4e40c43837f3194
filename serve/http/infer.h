/* infer.h - the Open Inference Protocol's inference request and answer [OIP2], without any transport: bytes to a batch
 * of windows, probabilities to bytes. Numbers may be JSON or, after the JSON, raw little-endian f32. */
#ifndef OC_SERVE_HTTP_INFER_H
#define OC_SERVE_HTTP_INFER_H

#include <stdint.h>
#include "nn/bundle.h"

enum {
    OC_INFER_ID = 256,
    OC_INFER_JSON_MAX = 65536, /* what remains of the JSON without its numbers */
    OC_INFER_SEQUENCE = 64,
    OC_INFER_SYMBOL = 32
};

/* The request's "parameters": sequence_id (a number but 0, or a text), sequence_start, sequence_end make it a push of
 * one row [1, 1, F], or at a start of up to T [1, n, F]; sequence and run_length are the last row's. */
typedef struct oc_infer {
    size_t batch, rows; /* windows; rows of each: the model's steps but in a sequence */
    float *values;      /* caller's, [values_cap] */
    size_t values_cap;
    bool binary;                         /* the answer's numbers are wanted raw */
    char id[OC_INFER_ID];                /* "" where none */
    char sequence_id[OC_INFER_SEQUENCE]; /* "": windows */
    char symbol[OC_INFER_SYMBOL];
    bool start, end, schema_given;
    int64_t number, run_length;    /* "sequence", "run_length"; -1: not given */
    int64_t period_ns, timeout_ns; /* "period_ns"; "timeout", which is in microseconds; 0: not given */
    oc_hash schema;                /* "schema": 32 hex digits */
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
typedef struct oc_infer_answer {
    const float *probabilities;
    oc_infer_times times;
    uint32_t state;      /* oc_reply_state; of several windows the worst */
    const char *version; /* of the model that answered */
} oc_infer_answer;
size_t oc_infer_print(const oc_infer *r, const oc_bundle *model, const oc_infer_answer *answer, char *out, size_t cap,
                      size_t *json_bytes);
size_t oc_infer_answer_bytes(const oc_bundle *model, size_t batch_max); /* room that print needs at most */
void oc_infer_escape(char *out, size_t cap, const char *text); /* for JSON; other than plain ASCII becomes '?' */

#endif
