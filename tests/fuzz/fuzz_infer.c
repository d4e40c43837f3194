/* fuzz_infer.c - any bytes as the body of an inference request. The first byte says where the JSON ends (0: all is
 * JSON). No crash, no byte read beyond the body; what is taken has as many finite or raw numbers as its shape says, and
 * its answer is JSON with the very id and sequence_id that came. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "serve/http/infer.h"

enum { CAP = 4096, OUT = 16384 };

static void answer_check(const oc_infer *r, const oc_bundle *model)
{
    static const float zeros[8 * OC_CLASSES];
    static char out[OUT];
    const oc_infer_answer answer = {.probabilities = zeros, .version = "1"};
    size_t json_bytes;
    json_t *said;
    if (oc_infer_print(r, model, &answer, out, sizeof out, &json_bytes) < json_bytes || json_bytes == 0) abort();
    if (oc_json_parse(out, json_bytes, "answer", &said) != OC_OK) abort();
    const char *id = json_string_value(json_object_get(said, "id")),
               *sequence = json_string_value(json_object_get(json_object_get(said, "parameters"), "sequence_id"));
    if (strcmp(id ? id : "", r->id) != 0 || strcmp(sequence ? sequence : "", r->sequence_id) != 0) abort();
    json_decref(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static oc_bundle model = {.name = "m", .version = "1", .shape = {OC_TRUNK_MLP, 2, 3, 1, 4, 0, 1}};
    static float values[CAP];
    if (bytes < 1) return 0;
    oc_infer r = {.values = values, .values_cap = CAP};
    char *body = malloc(bytes); /* bytes - 1 of body and the one more that is promised */
    if (!body) return 0;
    memcpy(body, data + 1, bytes - 1);
    const oc_status status = oc_infer_parse(&r, &model, 8, body, bytes - 1, data[0] == 0 ? -1 : data[0]);
    if (status == OC_OK && (r.batch < 1 || r.batch > 8)) abort();
    if (status == OC_OK) answer_check(&r, &model);
    free(body);
    return 0;
}
