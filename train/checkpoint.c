/* checkpoint.c - see checkpoint.h. The order of checks at load: size and hash first (damage), origin afterwards, so
 * that a flipped bit is never reported as another configuration. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

enum { VERSION = 1, KEEP = 2, VECTORS = 5, FILES_MAX = 4096, IDENTITY_MAX = 1 << 20 };
static const char magic[8] = "OCCKPT\r\n";

typedef struct head {
    char magic[8];
    uint32_t version, identity_bytes;
    uint64_t total; /* numbers of a vector */
    oc_hash dataset, fold;
    char build[64];
    train_counters counters;
} head;
_Static_assert(sizeof(head) == 24 + 32 + 64 + 17 * 8, "stored as it lies in memory: no padding");

static void vectors_of(const train_weights *w, float *out[VECTORS])
{
    float *const all[VECTORS] = {w->weights, w->m, w->v, w->average, w->best};
    memcpy(out, all, sizeof all);
}

/* --- saving --- */

static oc_status add(oc_file_writer *w, oc_hasher *hasher, const void *data, size_t bytes)
{
    oc_hasher_add(hasher, data, bytes);
    OC_TRY(oc_file_writer_add(w, data, bytes));
    return OC_OK;
}

static oc_status content_write(oc_file_writer *file, oc_hasher *hasher, const head *h, const train_origin *origin,
                               const train_weights *w)
{
    float *vectors[VECTORS];
    vectors_of(w, vectors);
    OC_TRY(add(file, hasher, h, sizeof *h));
    OC_TRY(add(file, hasher, origin->identity, h->identity_bytes));
    for (int i = 0; i < VECTORS; i++) OC_TRY(add(file, hasher, vectors[i], h->total * sizeof(float)));
    oc_hash hash = oc_hasher_result(hasher);
    OC_TRY(oc_file_writer_add(file, &hash, sizeof hash));
    return OC_OK;
}

static oc_status file_save(const char *path, const head *h, const train_origin *origin, const train_weights *w)
{
    oc_hasher *hasher;
    oc_file_writer *file;
    OC_TRY(oc_hasher_open(&hasher));
    oc_status status = oc_file_writer_open(&file, path);
    if (status == OC_OK) {
        status = content_write(file, hasher, h, origin, w);
        if (status == OC_OK)
            status = oc_file_writer_commit(file);
        else
            oc_file_writer_abort(file);
    }
    oc_hasher_close(hasher);
    return status;
}

/* --- the folder --- */

/* Step of "00001234.ckpt"; -1 for any other name. */
static int64_t step_of(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    if (digits < 8 || digits > 18 || strcmp(name + digits, ".ckpt") != 0) return -1;
    return strtoll(name, NULL, 10);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Steps of all checkpoints, newest first. Rubbish of a killed writer is removed on the way. */
static oc_status folder_list(const char *folder, int64_t steps[FILES_MAX], size_t *count)
{
    char path[OC_PATH_MAX];
    *count = 0;
    DIR *d = opendir(folder);
    if (!d && errno == ENOENT) return OC_OK;
    if (!d) return OC_FAIL(OC_EFAILED, "%s: cannot list: %s", folder, strerror(errno));
    for (struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        int64_t step = step_of(entry->d_name);
        if (step >= 0 && *count < FILES_MAX) steps[(*count)++] = step;
        if (strncmp(entry->d_name, ".outcry-", 8) == 0 &&
            oc_path_join(path, sizeof path, folder, entry->d_name) == OC_OK)
            unlink(path);
    }
    closedir(d);
    qsort(steps, *count, sizeof *steps, newest_first);
    return OC_OK;
}

static oc_status path_of(char *out, const char *folder, int64_t step)
{
    char name[32];
    snprintf(name, sizeof name, "%08lld.ckpt", (long long)step);
    OC_TRY(oc_path_join(out, OC_PATH_MAX, folder, name));
    return OC_OK;
}

static oc_status older_remove(const char *folder)
{
    int64_t steps[FILES_MAX];
    char path[OC_PATH_MAX];
    size_t count;
    OC_TRY(folder_list(folder, steps, &count));
    for (size_t i = KEEP; i < count; i++) {
        OC_TRY(path_of(path, folder, steps[i]));
        if (unlink(path) != 0 && errno != ENOENT)
            return OC_FAIL(OC_EFAILED, "%s: cannot remove: %s", path, strerror(errno));
    }
    return OC_OK;
}

oc_status train_checkpoint_save(const char *folder, const train_origin *origin, const train_counters *c,
                                const train_weights *w, size_t total)
{
    char path[OC_PATH_MAX];
    head h = {.version = VERSION, .total = total, .dataset = origin->dataset, .fold = origin->fold, .counters = *c};
    memcpy(h.magic, magic, sizeof h.magic);
    snprintf(h.build, sizeof h.build, "%s", origin->build);
    h.identity_bytes = (uint32_t)strlen(origin->identity);
    OC_TRY(oc_path_make_folders(folder));
    OC_TRY(path_of(path, folder, c->step));
    OC_TRY(file_save(path, &h, origin, w));
    OC_TRY(older_remove(folder));
    return OC_OK;
}

/* --- loading --- */

static oc_status whole_check(const char *path, const oc_file_map *map, head *h)
{
    oc_hash stored, found;
    if (map->bytes < sizeof *h + sizeof stored)
        return OC_FAIL(OC_EDATA, "%s: %zu bytes are too few: truncated", path, map->bytes);
    memcpy(h, map->data, sizeof *h);
    memcpy(&stored, map->data + map->bytes - sizeof stored, sizeof stored);
    found = oc_hash_bytes(map->data, map->bytes - sizeof stored);
    if (!oc_hash_equal(stored, found)) return OC_FAIL(OC_EDATA, "%s: fails its hash: damaged or truncated", path);
    if (memcmp(h->magic, magic, sizeof magic) != 0 || h->version != VERSION || h->identity_bytes > IDENTITY_MAX ||
        h->build[63])
        return OC_FAIL(OC_EDATA, "%s: not a checkpoint of version %d", path, VERSION);
    return OC_OK;
}

/* First line in which two texts differ, into out as `"a" there, "b" here`. */
static void first_difference(const char *saved, size_t saved_bytes, const char *now, char *out, size_t cap)
{
    const char *end = saved + saved_bytes;
    while (saved < end && *now) {
        size_t a = strcspn(now, "\n"), b = 0;
        while (saved + b < end && saved[b] != '\n') b++;
        if (a != b || memcmp(saved, now, a) != 0) {
            snprintf(out, cap, "it has \"%.*s\", this run \"%.*s\"", (int)b, saved, (int)a, now);
            return;
        }
        now += a + (now[a] == '\n');
        saved += b + (saved + b < end);
    }
    snprintf(out, cap, "the configs have different keys");
}

static oc_status origin_check(const char *path, const head *h, const char *identity, const train_origin *origin,
                              size_t total)
{
    char there[OC_HASH_TEXT], here[OC_HASH_TEXT], difference[400];
    if (!oc_hash_equal(h->dataset, origin->dataset))
        return OC_FAIL(OC_ECONFIG,
                       "%s: belongs to the dataset with root hash %s, not %s: use that dataset, or another --out", path,
                       oc_hash_text(h->dataset, there), oc_hash_text(origin->dataset, here));
    if (!oc_hash_equal(h->fold, origin->fold))
        return OC_FAIL(OC_ECONFIG,
                       "%s: belongs to another fold (hash %s, not %s): see data.folds, data.fold and data.embargo_ns",
                       path, oc_hash_text(h->fold, there), oc_hash_text(origin->fold, here));
    if (h->identity_bytes != strlen(origin->identity) || memcmp(identity, origin->identity, h->identity_bytes) != 0) {
        first_difference(identity, h->identity_bytes, origin->identity, difference, sizeof difference);
        return OC_FAIL(OC_ECONFIG, "%s: belongs to another config: %s", path, difference);
    }
    if (strcmp(h->build, origin->build) != 0)
        return OC_FAIL(
            OC_ECONFIG,
            "%s: was written by build %s, this is %s: the same weights are promised for one build only; resume "
            "with that one, or train anew",
            path, h->build, origin->build);
    if (h->total != total)
        return OC_FAIL(OC_ECONFIG, "%s: holds %llu weights, not %zu", path, (unsigned long long)h->total, total);
    return OC_OK;
}

/* A hash shows damage, not sense: counters become indices and sizes, so they must agree with each other and the job. */
static oc_status counters_check(const char *path, int64_t named_step, const train_counters *c,
                                const train_origin *origin)
{
    const int64_t epoch_steps = (origin->epoch_windows + origin->batch - 1) / origin->batch;
    const struct { const char *name; bool good; } checks[] = {
        {"step", c->step >= 0 && c->step == named_step},
        {"epoch", c->epoch == c->step / epoch_steps},
        {"position", c->position == c->step % epoch_steps * origin->batch},
        {"windows", c->windows >= 0 && c->windows / origin->epoch_windows == c->epoch &&
                        c->windows % origin->epoch_windows == c->position},
        {"skipped", c->skipped >= 0 && c->skipped <= c->step && c->skipped_row >= 0 && c->skipped_row <= c->skipped},
        {"updates", c->updates == c->step - c->skipped},
        {"best_step", c->best_step >= 0 && c->best_step <= c->step},
        {"stale", c->stale >= 0 && c->stale <= c->step},
        {"ended", c->ended == 0 || c->ended == 1},
        {"log_bytes", c->log_bytes >= 0},
        {"interval", c->interval_steps >= 0 && c->interval_steps <= c->step && isfinite(c->interval_loss) &&
                         isfinite(c->interval_weight) && isfinite(c->interval_norm)},
        {"best_loss", c->best_loss >= 0},
        {"train_seconds", c->train_seconds >= 0},
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (checks[i].good) continue;
        return OC_FAIL(OC_EDATA, "%s: its %s cannot be: renamed, or not written by a run", path, checks[i].name);
    }
    return OC_OK;
}

static oc_status map_read(const char *path, int64_t named_step, const oc_file_map *map, const train_origin *origin,
                          train_counters *c, train_weights *w, size_t total)
{
    float *vectors[VECTORS];
    head h;
    OC_TRY(whole_check(path, map, &h));
    size_t rest = map->bytes - sizeof h - sizeof(oc_hash);
    if (h.identity_bytes > rest || rest - h.identity_bytes != h.total * sizeof(float) * VECTORS ||
        h.total > SIZE_MAX / 64)
        return OC_FAIL(OC_EDATA, "%s: its size does not fit its head", path);
    const char *identity = (const char *)map->data + sizeof h;
    OC_TRY(origin_check(path, &h, identity, origin, total));
    OC_TRY(counters_check(path, named_step, &h.counters, origin));
    vectors_of(w, vectors);
    const unsigned char *at = map->data + sizeof h + h.identity_bytes;
    for (int i = 0; i < VECTORS; i++, at += total * sizeof(float)) memcpy(vectors[i], at, total * sizeof(float));
    *c = h.counters;
    return OC_OK;
}

static oc_status file_load(const char *path, int64_t named_step, const train_origin *origin, train_counters *c,
                           train_weights *w, size_t total)
{
    oc_file_map map;
    OC_TRY(oc_file_map_open(&map, path));
    oc_status status = map_read(path, named_step, &map, origin, c, w, total);
    oc_file_map_close(&map);
    return status;
}

/* The damaged ones keep their bytes under another name: training goes on past their steps and would write over them. */
static oc_status set_aside(const char *folder, const int64_t *steps, size_t count)
{
    char path[OC_PATH_MAX], aside[OC_PATH_MAX + 16];
    for (size_t i = 0; i < count; i++) {
        OC_TRY(path_of(path, folder, steps[i]));
        snprintf(aside, sizeof aside, "%s.damaged", path);
        if (rename(path, aside) != 0) return OC_FAIL(OC_EFAILED, "%s: cannot rename: %s", path, strerror(errno));
    }
    return OC_OK;
}

oc_status train_checkpoint_load(const char *folder, const train_origin *origin, train_counters *c, train_weights *w,
                                size_t total, bool *found)
{
    int64_t steps[FILES_MAX];
    char path[OC_PATH_MAX];
    size_t count;
    *found = false;
    OC_TRY(folder_list(folder, steps, &count));
    for (size_t i = 0; i < count; i++) {
        OC_TRY(path_of(path, folder, steps[i]));
        oc_status status = file_load(path, steps[i], origin, c, w, total);
        if (status == OC_OK) {
            *found = true;
            OC_TRY(set_aside(folder, steps, i));
            return OC_OK;
        }
        if (status != OC_EDATA) return oc_status_trail(status, __FILE__, __LINE__);
        if (i + 1 == count)
            return oc_status_prefix(status,
                                    "no checkpoint is whole, nothing was changed; train anew into another --out");
        oc_log(OC_LOG_WARN, "train: %s; the checkpoint before it is used", oc_status_message());
    }
    return OC_OK;
}
