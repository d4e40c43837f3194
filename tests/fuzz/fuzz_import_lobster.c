/* fuzz_import_lobster.c - a byte '#' on a line of its own parts the message file from the orderbook file. */
#include "import_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oc_import_options o;
    const char *text = (const char *)data, *part = bytes ? memmem(text, bytes, "#\n", 2) : NULL;
    if (!part) return 0;
    oc_import_options_init(&o);
    o.format = "lobster", o.symbol = "X", o.max_rejected = 1, o.date = "2012-06-21";
    oc_import_input inputs[] = {{"message", text, (size_t)(part - text)},
                                {"orderbook", part + 2, bytes - (size_t)(part - text) - 2}};
    fuzz_import(&o, inputs, 2);
    return 0;
}
