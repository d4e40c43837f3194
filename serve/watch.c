/* watch.c - see watch.h. */
#include "serve/watch.h"

#include "base/log.h"

static void look(oc_watch *w, const oc_batcher *e, int64_t stall_ns, int64_t now_ns)
{
    const uint64_t rounds = __atomic_load_n(&e->rounds, __ATOMIC_RELAXED);
    if (rounds != w->rounds || w->since_ns == 0) {
        if (w->stalled) oc_log(OC_LOG_WARN, "serve: batcher %d goes on", e->index);
        *w = (oc_watch){.rounds = rounds, .since_ns = now_ns};
    } else if (!w->stalled && now_ns - w->since_ns >= stall_ns) {
        w->stalled = true;
        oc_log(OC_LOG_ERROR, "serve: batcher %d has not ended a round for %.0f s (serve.stall_s): nobody is answered",
               e->index, 1e-9 * (double)(now_ns - w->since_ns));
    }
}

int oc_watch_look(oc_watch *watches, const oc_batcher *batchers, int count, int64_t stall_ns, int64_t now_ns)
{
    int stalled = 0;
    for (int i = 0; i < count && stall_ns > 0; i++) {
        look(&watches[i], &batchers[i], stall_ns, now_ns);
        stalled += watches[i].stalled;
    }
    return stalled;
}
