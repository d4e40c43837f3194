/* status.c - printed member by member; a browser and `outcry top` make rates and percentiles of it. */
#include "serve/status.h"

#include <math.h>

#include "base/build.h"
#include "base/clock.h"

void oc_status_string(oc_text *out, const char *text)
{
    oc_text_raw(out, "\"", 1);
    for (; *text; text++) {
        const char c = *text >= ' ' && *text <= '~' ? *text : '?';
        if (c == '"' || c == '\\') oc_text_raw(out, "\\", 1);
        oc_text_raw(out, &c, 1);
    }
    oc_text_raw(out, "\"", 1);
}

void oc_status_histogram(oc_text *out, const oc_histogram *h)
{
    for (int i = 0; i < OC_HISTOGRAM_BUCKETS; i++)
        oc_text_add(out, "%s%llu", i ? "," : "[",
                    (unsigned long long)__atomic_load_n(&h->buckets[i], __ATOMIC_RELAXED));
    oc_text_add(out, "]");
}

static void stages_write(oc_text *out, const oc_figures *f)
{
    const struct {
        const char *name;
        const oc_histogram *h;
    } stages[] = {{"queue", &f->queue}, {"service", &f->service}, {"whole", &f->whole}};
    oc_text_add(out, "\"bounds_ns\":[");
    for (int i = 0; i < OC_HISTOGRAM_BUCKETS - 1; i++)
        oc_text_add(out, "%s%lld", i ? "," : "", (long long)oc_histogram_bound_ns(i));
    oc_text_add(out, "],\"stages\":{");
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        oc_text_add(out, "%s\"%s\":", i ? "," : "", stages[i].name);
        oc_status_histogram(out, stages[i].h);
    }
    oc_text_add(out, "}");
}

static void replies_write(oc_text *out, const oc_figures *f)
{
    oc_text_add(out, ",\"replies\":{");
    for (size_t kind = 0; kind < OC_BATCHER_KINDS; kind++) {
        const char *comma = "";
        oc_text_add(out, "%s\"%s\":{", kind ? "," : "", oc_request_names[kind]);
        for (size_t state = 0; state < OC_REPLY_STATE_COUNT; state++) {
            if (f->stats.replies[kind][state] == 0) continue;
            oc_text_add(out, "%s\"%s\":%llu", comma, oc_reply_names[state],
                        (unsigned long long)f->stats.replies[kind][state]);
            comma = ",";
        }
        oc_text_add(out, "}");
    }
    oc_text_add(out, "}");
}

static void instrument_write(oc_text *out, const oc_batcher *e, size_t seat, const oc_seat_view *v, bool first)
{
    oc_text_add(out, "%s{\"seat\":\"%d.%zu\",\"symbol\":", first ? "" : ",", e->index, seat);
    oc_status_string(out, v->symbol);
    oc_text_add(out, ",\"age_ns\":%lld,\"generation\":%u,\"full\":%s,\"probabilities\":[",
                (long long)(oc_clock_monotonic_ns() - v->answered_ns), v->generation, v->full ? "true" : "false");
    for (int h = 0; h < e->observed.horizons; h++)
        oc_text_add(out, "%s[%.9g,%.9g,%.9g]", h ? "," : "", (double)v->answer[h][0], (double)v->answer[h][1],
                    (double)v->answer[h][2]);
    oc_text_add(out, "]}");
}

static void instruments_write(oc_text *out, const oc_batcher *batchers, int batcher_count)
{
    bool first = true;
    oc_text_add(out, ",\"instruments\":[");
    for (int i = 0; i < batcher_count; i++) {
        for (size_t seat = 0; seat < batchers[i].observed.seat_count; seat++) {
            oc_seat_view v;
            if (!oc_observed_read(&batchers[i].observed, seat, &v, NULL) || v.answered_ns == 0) continue;
            instrument_write(out, &batchers[i], seat, &v, first);
            first = false;
        }
    }
    oc_text_add(out, "]");
}

static void inputs_write(oc_text *out, const oc_bundle *bundle, const oc_figures *f)
{
    oc_text_add(out,
                ",\"inputs\":{\"rows\":%llu,\"drifted\":%d,\"shift_max\":%.9g,\"spread_max\":%.9g,\"shift_feature\":",
                (unsigned long long)f->rows, f->drifted, f->shift_max, f->spread_max);
    oc_status_string(out, bundle->features[f->shift_at]);
    oc_text_add(out, ",\"spread_feature\":");
    oc_status_string(out, bundle->features[f->spread_at]);
    oc_text_add(out, "}");
}

void oc_status_write(oc_text *out, const oc_bundle *bundle, const char *version, const oc_figures *f,
                     const oc_batcher *batchers, int batcher_count, const char *backend)
{
    oc_text_add(
        out, "\"build\":\"%s\",\"backend\":\"%s\",\"model\":\"%s\",\"version\":\"%s\",\"steps\":%d,\"now_ns\":%lld,",
        oc_build_text(), backend, bundle->name, version, bundle->shape.steps, (long long)oc_clock_monotonic_ns());
    stages_write(out, f);
    replies_write(out, f);
    oc_text_add(out, ",\"sizes\":[");
    for (int i = 0; i < OC_FIGURES_SIZES; i++)
        oc_text_add(out, "%s%llu", i ? "," : "", (unsigned long long)f->sizes[i]);
    oc_text_add(out,
                "],\"batch_ns\":%llu,\"in_queue\":%llu,\"sessions\":%llu,\"streams\":%llu,\"ticks\":%llu,\"budget_"
                "used\":%.6g,\"advances\":%llu,"
                "\"advance_ns\":%llu,\"dropped\":%llu,\"broken\":%llu",
                (unsigned long long)f->batch_ns, (unsigned long long)f->in_queue, (unsigned long long)f->stats.sessions,
                (unsigned long long)f->stats.streams, (unsigned long long)f->stats.ticks, f->budget_used,
                (unsigned long long)f->stats.advances, (unsigned long long)f->stats.advance_ns,
                (unsigned long long)f->stats.dropped, (unsigned long long)f->stats.broken);
    inputs_write(out, bundle, f);
    instruments_write(out, batchers, batcher_count);
}

void oc_status_drift(oc_text *out, const oc_bundle *bundle, const oc_batcher *batchers, int batcher_count,
                     const oc_scaling *live)
{
    float mean[OC_INPUTS_MAX], variance[OC_INPUTS_MAX];
    const uint64_t rows = oc_figures_drift(batchers, batcher_count, live, mean, variance);
    oc_text_add(out, "{\"rows\":%llu,\"features\":[", (unsigned long long)rows);
    for (int i = 0; i < bundle->shape.inputs; i++) {
        oc_text_add(out, "%s{\"name\":", i ? "," : "");
        oc_status_string(out, bundle->features[i]);
        oc_text_add(out, ",\"shift\":%.6g,\"deviation\":%.6g}", (double)mean[i], sqrt((double)variance[i]));
    }
    oc_text_add(out, "]}");
}
