/* fuzz_infer.c - any bytes as the body of an inference request. The first byte says where the JSON ends (0: all is
 * JSON). No crash, no byte read beyond the body; what is taken has as many finite or raw numbers as its shape says. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/http/infer.h"

enum { CAP = 4096 };

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
    free(body);
    return 0;
}
