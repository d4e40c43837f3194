/* import_fuzz.h - what the importers' fuzz targets share. Any bytes: no crash, no hang; and every event that comes out
 * must be one that an `.events` file takes, in order, so that whatever an importer accepts can be written and read. */
#ifndef OC_TESTS_IMPORT_FUZZ_H
#define OC_TESTS_IMPORT_FUZZ_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "market/event_format.h"
#include "market/import.h"

typedef struct fuzz_sink { oc_event last; uint64_t count; } fuzz_sink;

static oc_status fuzz_check(void *context, const oc_event *events, size_t count)
{
    fuzz_sink *s = context;
    for (size_t i = 0; i < count; i++) {
        if (oc_event_problem(&events[i], s->count++ ? &s->last : NULL, 1)) abort();
        s->last = events[i];
    }
    if (count == 0 || !(events[count - 1].flags & OC_EVENT_LAST)) abort();
    return OC_OK;
}

static void fuzz_import(const oc_import_options *options, const oc_import_input *inputs, size_t count)
{
    static oc_import_report report;
    fuzz_sink sink = {.count = 0};
    oc_status status = oc_import_scan(options, inputs, count, fuzz_check, &sink, &report, NULL);
    if (report.rejected > report.lines || report.events != sink.count) abort();
    if (status == OC_OK && sink.count == 0) abort();
}

#endif
