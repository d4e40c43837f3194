/* fuzz_import_csv.c - bars; the first byte chooses among option sets. */
#include "import_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const struct { const char *stamp, *bar, *zone, *columns, *tick, *format; } sets[] = {
        {"start", "1m", NULL, NULL, NULL, NULL},
        {"end", "1d", "Europe/Berlin", NULL, "0.01", NULL},
        {"start", "1h", "America/New_York", "1,2,3,4,5", NULL, NULL},
        {"end", "30s", "+02:00", "date+time,open,high,low,close,volume", NULL, "%Y-%m-%d %H:%M:%S"},
    };
    oc_import_options o;
    if (bytes == 0) return 0;
    oc_import_options_init(&o);
    size_t k = data[0] % (sizeof sets / sizeof *sets);
    o.format = "csv", o.symbol = "X", o.max_rejected = 1;
    o.stamp = sets[k].stamp, o.bar = sets[k].bar, o.timezone = sets[k].zone, o.columns = sets[k].columns,
    o.tick = sets[k].tick;
    o.time_format = sets[k].format;
    oc_import_input input = {"fuzz", data + 1, bytes - 1};
    fuzz_import(&o, &input, 1);
    return 0;
}
