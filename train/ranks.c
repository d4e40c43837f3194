/* ranks.c - see ranks.h. Each rank states what it is about to run; all compare all with rank 0's statement, so that
 * each comes to the same verdict without a second round. */
#include "train/ranks.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { TEXT_BYTES = 4096 };

typedef struct claim {
    char name[OC_COMM_NAME], build[64], dataset[OC_HASH_TEXT], fold[OC_HASH_TEXT], start[64];
    oc_hash identity;      /* of the whole text */
    char text[TEXT_BYTES]; /* what decides a result, as far as it fits: to name the key */
} claim;

static void claim_fill(const train_job *j, bool resume, claim *c)
{
    const train_origin *o = &j->origin;
    snprintf(c->name, sizeof c->name, "%s", j->comm->name);
    snprintf(c->build, sizeof c->build, "%s", o->build);
    oc_hash_text(o->dataset, c->dataset);
    oc_hash_text(o->fold, c->fold);
    snprintf(c->start, sizeof c->start, "%s, pause after %lld", resume ? "--resume" : "from the start",
             (long long)j->plan->o.pause_after);
    c->identity = oc_hash_bytes(o->identity, strlen(o->identity));
    snprintf(c->text, sizeof c->text, "%s", o->identity);
}

/* The lines of two texts that differ first. */
static void lines_find(const char *a, const char *b, char one[static 128], char other[static 128])
{
    while (*a && *b) {
        int x = (int)strcspn(a, "\n"), y = (int)strcspn(b, "\n");
        if (x != y || memcmp(a, b, (size_t)x) != 0) break;
        a += x + (a[x] == '\n');
        b += y + (b[y] == '\n');
    }
    snprintf(one, 128, "%.*s", (int)strcspn(a, "\n"), a);
    snprintf(other, 128, "%.*s", (int)strcspn(b, "\n"), b);
}

static oc_status claim_compare(const claim *c, const claim *first)
{
    const struct {
        const char *what, *one, *other;
    } rows[] = {
        {"build", c->build, first->build},
        {"dataset", c->dataset, first->dataset},
        {"fold", c->fold, first->fold},
        {"start", c->start, first->start},
    };
    char one[128], other[128];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].one, rows[i].other) != 0)
            return OC_FAIL(OC_ECONFIG, "the ranks differ in their %s: %s has %s, %s %s", rows[i].what, first->name,
                           rows[i].other, c->name, rows[i].one);
    }
    if (oc_hash_equal(c->identity, first->identity)) return OC_OK;
    lines_find(c->text, first->text, one, other);
    return OC_FAIL(OC_ECONFIG, "the ranks differ in their config: %s has \"%s\", %s \"%s\"", first->name, other,
                   c->name, one);
}

oc_status train_ranks_agree(const train_job *j, bool resume)
{
    claim *claims;
    if (j->comm->ranks == 1) return OC_OK;
    OC_TRY(oc_memory_new_array(&claims, (size_t)j->comm->ranks, sizeof *claims, "ranks"));
    claim_fill(j, resume, &claims[j->comm->rank]);
    oc_status status = oc_comm_gather(j->comm, "job", claims, sizeof *claims, j->plan->o.comm_start_timeout_ns);
    for (int r = 1; r < j->comm->ranks && status == OC_OK; r++) status = claim_compare(&claims[r], &claims[0]);
    oc_memory_free(claims);
    return status;
}

oc_status train_ranks_share(train_job *j, bool *found)
{
    const int64_t timeout_ns = j->plan->o.comm_start_timeout_ns;
    const size_t bytes = j->plan->parameters.total * sizeof(float);
    float *const vectors[] = {j->w.weights, j->w.m, j->w.v, j->w.average, j->w.best};
    struct {
        int64_t found;
        train_counters c;
    } state = {*found, j->c};
    OC_TRY(oc_comm_broadcast(j->comm, "state", &state, sizeof state, timeout_ns));
    *found = state.found != 0;
    j->c = state.c;
    for (size_t i = 0; *found && i < sizeof vectors / sizeof *vectors; i++)
        OC_TRY(oc_comm_broadcast(j->comm, "checkpoint", vectors[i], bytes, timeout_ns));
    return OC_OK;
}

oc_status train_ranks_end(train_job *j)
{
    int64_t all = 0, wanted = j->c.windows - j->windows_before;
    OC_TRY(oc_comm_gather(j->comm, "end", j->rank_windows, sizeof *j->rank_windows, j->plan->o.comm_start_timeout_ns));
    for (int r = 0; r < j->comm->ranks; r++) all += j->rank_windows[r];
    if (all != wanted)
        return OC_FAIL(OC_EFAILED, "the ranks have computed %lld windows, not %lld", (long long)all, (long long)wanted);
    return OC_OK;
}
