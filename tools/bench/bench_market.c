/* bench_market.c - `outcry simulate` into a folder of its own, and read back. */
#include "tools/bench/bench_market.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "market/event_file.h"
#include "market/simulate.h"

static OC_MUST events_load(bench_market *m, const char *path)
{
    oc_event_reader *reader;
    OC_TRY(oc_event_reader_open(&reader, path));
    const oc_event_info *info = oc_event_reader_info(reader);
    m->instrument = info->instruments[0];
    size_t run = 0;
    oc_status status = oc_memory_new_array(&m->events, (size_t)info->event_count, sizeof *m->events, "events");
    const oc_event *at;
    while (status == OC_OK && (status = oc_event_reader_next(reader, &at, &run)) == OC_OK && run) {
        memcpy(m->events + m->count, at, run * sizeof *at);
        m->count += run;
    }
    oc_event_reader_close(reader);
    return status;
}

static OC_MUST market_make(bench_market *m, const char *folder, uint64_t seed, size_t events)
{
    char path[OC_PATH_MAX], truth[OC_PATH_MAX];
    oc_simulate_result result;
    const oc_simulate_options options = {
        .events = events, .seed = seed, .levels = 10, .horizon = 10, .signal = 0.5, .threshold = 0.0};
    OC_TRY(oc_path_join(path, sizeof path, folder, "book.events"));
    OC_TRY(oc_path_join(truth, sizeof truth, folder, "book.truth"));
    oc_status status = oc_simulate(path, truth, &options, &result);
    if (status == OC_OK) status = events_load(m, path);
    unlink(path);
    unlink(truth);
    return status;
}

oc_status bench_market_open(bench_market *m, uint64_t seed, size_t events)
{
    const char *base = getenv("TMPDIR");
    char folder[OC_PATH_MAX];
    *m = (bench_market){.count = 0};
    OC_TRY(oc_path_join(folder, sizeof folder, base && *base ? base : "/tmp", "outcry-bench-XXXXXX"));
    if (!mkdtemp(folder)) return OC_FAIL(OC_EFAILED, "bench: no temporary folder %s", folder);
    const oc_status status = market_make(m, folder, seed, events);
    rmdir(folder);
    if (status != OC_OK) bench_market_close(m);
    return status;
}

void bench_market_close(bench_market *m)
{
    oc_memory_free(m->events);
    *m = (bench_market){.count = 0};
}
