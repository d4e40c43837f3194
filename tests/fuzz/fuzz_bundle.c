/* fuzz_bundle.c - any bytes as the files of a bundle: no crash, no memory taken on a claim, and what is accepted is a
 * bundle whose JSON is written and read again to the same text, or weights that are all finite. The first byte chooses:
 *   '{' bundle.json   'h' a safetensors header, its length and data added here   else a whole safetensors file */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/bundle_json.h"
#include "nn/safetensors.h"

enum { WEIGHTS_FILE_BYTES = 1 << 20, HEADER_MAX = 1 << 16 };

/* One input, two hidden: 13 numbers. */
static const oc_model_shape tiny = {OC_TRUNK_MLP, 1, 1, 1, 2, 0, 1};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void json_try(const char *text, size_t bytes)
{
    oc_bundle *b, *again;
    oc_bundle_file file, file_again;
    char *written = NULL, *twice = NULL;
    size_t written_bytes, twice_bytes;
    (void)!oc_bundle_json_sealed(text, bytes, "fuzz.json");
    if (oc_bundle_json_read(&b, text, bytes, "fuzz.json", WEIGHTS_FILE_BYTES, &file) != OC_OK) return;
    if (oc_bundle_json_write(b, &file, &written, &written_bytes) != OC_OK) abort();
    if (oc_bundle_json_sealed(written, written_bytes, "written") != OC_OK) abort();
    if (oc_bundle_json_read(&again, written, written_bytes, "written", WEIGHTS_FILE_BYTES, &file_again) != OC_OK)
        abort();
    if (oc_bundle_json_write(again, &file_again, &twice, &twice_bytes) != OC_OK) abort();
    if (written_bytes != twice_bytes || memcmp(written, twice, twice_bytes) != 0) abort();
    free(written);
    free(twice);
    oc_bundle_close(b);
    oc_bundle_close(again);
}

static void weights_try(const unsigned char *file, size_t bytes)
{
    oc_parameters p;
    float flat[256] = {0};
    oc_parameters_describe(&p, &tiny);
    if (p.total > 256) abort();
    if (oc_safetensors_read(file, bytes, "fuzz.safetensors", &p, flat) != OC_OK) return;
    for (size_t i = 0; i < p.total; i++)
        if (!isfinite(flat[i])) abort();
}

static void header_try(const uint8_t *text, size_t bytes)
{
    static unsigned char file[8 + HEADER_MAX + 52];
    uint64_t length = bytes;
    if (bytes > HEADER_MAX) return;
    memcpy(file, &length, sizeof length);
    memcpy(file + 8, text, bytes);
    memset(file + 8 + bytes, 0, 52);
    weights_try(file, 8 + bytes + 52);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes > 0 && data[0] == '{')
        json_try((const char *)data, bytes);
    else if (bytes > 0 && data[0] == 'h')
        header_try(data + 1, bytes - 1);
    else
        weights_try(data, bytes);
    return 0;
}
