/* fuzz_config.c - any bytes as a configuration: no crash, no hang; what is accepted must dump to a text that is
 * accepted and dumps the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

static const oc_config_key keys[] = {
    {"seed", OC_CONFIG_INT, 0, 1e9, "1", NULL, "", "a seed"},
    {"model.hidden", OC_CONFIG_INT, 1, 4096, "64", NULL, "units", "a width"},
    {"model.dropout", OC_CONFIG_REAL, 0, 1, "0.2", NULL, "", "a share"},
    {"model.deep.flag", OC_CONFIG_BOOL, 0, 0, "false", NULL, "", "a flag"},
    {"backend", OC_CONFIG_CHOICE, 0, 0, "auto", "auto|cpu|cuda", "", "a choice"},
    {"data.list", OC_CONFIG_LIST, 0, 1000, "", NULL, "", "a list"},
    {"data.text", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "a text"}};

enum { KEYS = sizeof keys / sizeof *keys };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oc_config *c, *again;
    if (oc_config_parse(&c, (const char *)data, bytes, "fuzz.yaml", keys, KEYS, NULL, 0) != OC_OK) return 0;
    char *text = oc_config_dump(c);
    if (!text) abort();
    if (strlen(text) <= 65536) {                /* escapes may grow a text past the limit of a file */
        if (oc_config_parse(&again, text, strlen(text), "dump.yaml", keys, KEYS, NULL, 0) != OC_OK) abort();
        char *text_again = oc_config_dump(again);
        if (!text_again || strcmp(text, text_again) != 0) abort();
        free(text_again);
        oc_config_close(again);
    }
    free(text);
    oc_config_close(c);
    return 0;
}
