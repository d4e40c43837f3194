/* fuzz_import_binance.c - captures, with and without given units. */
#include "import_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    oc_import_options o;
    if (bytes == 0) return 0;
    oc_import_options_init(&o);
    o.format = "binance", o.symbol = "BTCUSDT", o.max_rejected = 1;
    if (data[0] & 1) o.tick = "0.01", o.lot = "0.00001";
    oc_import_input input = {"fuzz", data, bytes};
    fuzz_import(&o, &input, 1);
    return 0;
}
