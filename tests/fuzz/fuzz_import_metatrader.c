/* fuzz_import_metatrader.c - MetaTrader exports. */
#include "import_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oc_import_options o;
    oc_import_options_init(&o);
    o.format = "metatrader", o.symbol = "X", o.max_rejected = 1, o.stamp = "start", o.bar = "1m", o.timezone = "EET";
    oc_import_input input = {"fuzz", bytes ? data : (const uint8_t *)"", bytes};
    fuzz_import(&o, &input, 1);
    return 0;
}
