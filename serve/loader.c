/* loader.c - the loader's thread: from what is wanted to orders for the batchers, one step a look. */
#include "serve/loader.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/loader_parts.h"

enum { GENERATIONS_MAX = 4096, LOOK_US = 20000, NICE = 10 };

static void bump(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* ---- which version comes first -------------------------------------------------------------------------------------
 */
static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* The one folder of a folder. */
static OC_MUST only_folder(const char *folder, const char *what, const char *key, char *out, size_t cap)
{
    struct dirent **entries;
    int found = 0;
    const int n = scandir(folder, &entries, visible, versionsort);
    if (n < 0) return OC_FAIL(OC_ECONFIG, "serve.repository: %s cannot be read", folder);
    for (int i = 0; i < n; i++) {
        char path[OC_PATH_MAX];
        if (oc_path_join(path, sizeof path, folder, entries[i]->d_name) == OC_OK && oc_path_is_folder(path) &&
            strlen(entries[i]->d_name) < cap) {
            memcpy(out, entries[i]->d_name, strlen(entries[i]->d_name) + 1);
            found++;
        }
        free(entries[i]);
    }
    free(entries);
    if (found != 1) return OC_FAIL(OC_ECONFIG, "%s: %d %s there; %s", folder, found, what, key);
    return OC_OK;
}

static OC_MUST version_load(oc_loader *l, const char *text, oc_version **out)
{
    char folder[OC_PATH_MAX], model[OC_PATH_MAX];
    *out = NULL;
    if (l->generations + 1 >= GENERATIONS_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: this server has loaded %u versions; start it anew for more", l->name,
                       l->generations);
    OC_TRY(oc_path_join(model, sizeof model, l->config.repository, l->name));
    OC_TRY(oc_path_join(folder, sizeof folder, model, text));
    OC_TRY(oc_version_load(out, folder, l->generations + 1));
    if (strcmp((*out)->name, l->name) == 0 && strcmp((*out)->text, text) == 0) return OC_OK;
    const oc_status status = OC_FAIL(OC_EDATA, "%s: the bundle calls itself %s/%s", folder, (*out)->name, (*out)->text);
    oc_version_close(*out);
    *out = NULL;
    return status;
}

static OC_MUST first_load(oc_loader *l)
{
    const oc_loader_config *c = &l->config;
    char folder[OC_PATH_MAX];
    if (!c->repository || !c->repository[0]) return oc_version_load(&l->first, c->bundle, 1);
    if (c->name && c->name[0]) {
        if (strlen(c->name) >= sizeof l->name) return OC_FAIL(OC_ECONFIG, "serve.model: a name over 63 bytes");
        memcpy(l->name, c->name, strlen(c->name) + 1);
    } else {
        OC_TRY(only_folder(c->repository, "models are", "serve.model says which", l->name, sizeof l->name));
    }
    OC_TRY(oc_models_state_read(c->repository, l->name, &l->wanted));
    if (!l->wanted.live[0]) {
        OC_TRY(oc_path_join(folder, sizeof folder, c->repository, l->name));
        OC_TRY(only_folder(folder, "versions are", "`outcry models promote` says which is live", l->wanted.live,
                           sizeof l->wanted.live));
    }
    OC_TRY(version_load(l, l->wanted.live, &l->first));
    return OC_OK;
}

static void version_count(oc_loader *l, const oc_version *v)
{
    l->generations = v->generation;
    memcpy(l->texts[v->generation], v->text, sizeof l->texts[0]);
    bump(&l->stats.loads);
}

oc_status oc_loader_open(oc_loader **out, const oc_loader_config *config)
{
    oc_loader *l;
    *out = NULL;
    OC_TRY(oc_memory_new(&l, sizeof *l, "loader"));
    l->config = *config;
    pthread_mutex_init(&l->lock, NULL);
    oc_status status = oc_memory_new_array(&l->texts, GENERATIONS_MAX, sizeof *l->texts, "versions");
    if (status == OC_OK) status = first_load(l);
    if (status == OC_OK) status = oc_accuracy_pass(l->first, &config->batcher.backend, &config->accuracy);
    if (status != OC_OK) {
        oc_loader_close(l);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    memcpy(l->name, l->first->name, sizeof l->name);
    l->live = l->first;
    version_count(l, l->first);
    *out = l;
    return OC_OK;
}

/* ---- the thread -----------------------------------------------------------------------------------------------------
 */
static bool stopping(const oc_loader *l)
{
    return __atomic_load_n(&l->stop, __ATOMIC_ACQUIRE);
}

static void phase_set(oc_loader *l, oc_loader_phase p)
{
    pthread_mutex_lock(&l->lock);
    l->phase = p;
    l->dirty = true;
    pthread_mutex_unlock(&l->lock);
}

/* This thread's message is why the version is not taken. */
static void refuse(oc_loader *l, const char *version)
{
    pthread_mutex_lock(&l->lock);
    snprintf(l->refused, sizeof l->refused, "%s", version);
    snprintf(l->reason, sizeof l->reason, "%s", oc_status_message());
    l->settled = l->phase != PHASE_SWAPPING; /* which goes on to its end */
    if (l->settled) l->phase = PHASE_LIVE;
    l->dirty = true;
    pthread_mutex_unlock(&l->lock);
    bump(&l->stats.refusals);
    oc_log(OC_LOG_ERROR, "serve: %s version %s is refused: %s", l->name, l->refused, l->reason);
}

static void orders(oc_loader *l, uint32_t generation, bool follow, double canary)
{
    const oc_order order = OC_ORDER_MAKE(generation, follow, (uint32_t)(canary * 65536));
    for (int i = 0; i < l->batcher_count; i++) __atomic_store_n(&l->batchers[i].order, order, __ATOMIC_RELEASE);
}

/* The batcher reckons with advance_ns, the heavier one's. */
static OC_MUST budget_check(const oc_loader *l, int i, const oc_slot *slot)
{
    const oc_batcher *e = &l->batchers[i];
    const double load = 1e-9 * (double)__atomic_load_n(&e->stats.load_ppb, __ATOMIC_RELAXED) / (double)e->advance_ns;
    const double now = load * (double)e->slots[e->live].advance_ns, then = load * (double)slot->advance_ns;
    if (!(then <= e->budget))
        return OC_FAIL(
            OC_ELIMIT,
            "its advances take %.1f us, and the open sessions would take %.3f of batcher %d's time (now %.3f, "
            "serve.advance_budget is %g)",
            1e-3 * (double)slot->advance_ns, then, i, now, e->budget);
    return OC_OK;
}

static const oc_slot *other_slot(const oc_loader *l, int i, bool boxed)
{
    const oc_batcher *e = &l->batchers[i];
    return boxed ? &l->boxes[i] : &e->slots[!e->live];
}

/* Back to the live version's advance alone. */
static void budget_release(oc_loader *l)
{
    for (int i = 0; i < l->batcher_count; i++) __atomic_store_n(&l->batchers[i].admit_ns, 0, __ATOMIC_RELEASE);
}

static bool admission_await(const oc_loader *l)
{
    bool all = false;
    while (!all && !stopping(l)) {
        all = true;
        for (int i = 0; i < l->batcher_count; i++)
            all = all && __atomic_load_n(&l->batchers[i].admit_seen_ns, __ATOMIC_ACQUIRE) == l->batchers[i].admit_ns;
        if (!all) usleep(200);
    }
    return all;
}

/* Of the version beside the live one, in its box or already in the other slot: sessions are admitted by the heavier one
 * of the two from here on, and only then those that are open are looked at, so that nobody slips in between. What was
 * set before is awaited first: it may be the same number, and a release between them not seen yet. */
static OC_MUST budget_reserve(oc_loader *l, bool boxed)
{
    bool seen = admission_await(l);
    for (int i = 0; seen && i < l->batcher_count; i++) {
        oc_batcher *e = &l->batchers[i];
        const int64_t live_ns = e->slots[e->live].advance_ns, other_ns = other_slot(l, i, boxed)->advance_ns;
        __atomic_store_n(&e->admit_ns, other_ns > live_ns ? other_ns : live_ns, __ATOMIC_RELEASE);
    }
    if (!seen || !admission_await(l)) return OC_FAIL(OC_EAGAIN, "the server is stopping");
    for (int i = 0; i < l->batcher_count; i++) OC_TRY(budget_check(l, i, other_slot(l, i, boxed)));
    return OC_OK;
}

static OC_MUST boxes_open(oc_loader *l, const oc_version *v)
{
    for (int i = 0; i < l->batcher_count; i++) {
        const oc_slot_config config =
            oc_batcher_slot_config(oc_version_shape(v), &l->config.batcher, l->batchers[i].gpu);
        OC_TRY(oc_slot_open(&l->boxes[i], v, &config));
    }
    return budget_reserve(l, true);
}

static void boxes_close(oc_loader *l)
{
    for (int i = 0; i < l->batcher_count; i++) oc_slot_close(&l->boxes[i]);
}

/* Each batcher exchanges its other slot with the box, as soon as no session is in there. */
static bool boxes_hand_over(oc_loader *l)
{
    bool all = false;
    for (int i = 0; i < l->batcher_count; i++) __atomic_store_n(&l->batchers[i].offer, &l->boxes[i], __ATOMIC_RELEASE);
    while (!all && !stopping(l)) {
        all = true;
        for (int i = 0; i < l->batcher_count; i++)
            all = all && !__atomic_load_n(&l->batchers[i].offer, __ATOMIC_ACQUIRE);
        if (!all) usleep(200);
    }
    return all;
}

static void other_set(oc_loader *l, oc_version *v)
{
    oc_version *old = l->other;
    pthread_mutex_lock(&l->lock);
    l->other = v;
    l->other_was_live = false;
    version_count(l, v);
    pthread_mutex_unlock(&l->lock);
    if (old != l->first) oc_version_close(old);
}

static OC_MUST other_load(oc_loader *l, const char *text)
{
    oc_version *v;
    phase_set(l, PHASE_LOADING);
    orders(l, l->live->generation, false, 0); /* sessions of a canary go back */
    budget_release(l);
    OC_TRY(version_load(l, text, &v));
    oc_status status = oc_version_fits(v, l->live);
    if (status == OC_OK) status = oc_accuracy_pass(v, &l->config.batcher.backend, &l->config.accuracy);
    if (status == OC_OK) status = boxes_open(l, v);
    if (status != OC_OK) {
        budget_release(l);
        boxes_close(l);
        oc_version_close(v);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    oc_log(OC_LOG_INFO, "serve: %s version %s is loaded (generation %u, an advance takes %.1f us)", l->name, v->text,
           v->generation, 1e-3 * (double)l->boxes[0].advance_ns);
    l->handing = v; /* where the server stops meanwhile, close frees it */
    if (!boxes_hand_over(l)) return OC_FAIL(OC_EAGAIN, "the server is stopping");
    l->handing = NULL;
    boxes_close(l);
    other_set(l, v);
    return OC_OK;
}

static bool is(const oc_version *v, const char *text)
{
    return v && strcmp(v->text, text) == 0;
}

/* What was loaded long ago is put into use only where the disk still says the same. */
static OC_MUST unchanged(oc_loader *l, oc_version *v)
{
    const oc_status status = oc_version_check(v);
    if (status != OC_OK && !v->changed) {
        bump(&l->stats.changed);
        pthread_mutex_lock(&l->lock);
        v->changed = l->dirty = true;
        pthread_mutex_unlock(&l->lock);
    }
    return status;
}

/* A swap ends where all batchers have one version live: the other one, or the old one again where it is wanted before
 * all have turned. A third one waits for the end. */
static void swap_end(oc_loader *l)
{
    const bool back = is(l->live, l->wanted.live);
    const oc_version *to = back ? l->live : l->other;
    orders(l, to->generation, false, 0);
    for (int i = 0; i < l->batcher_count; i++) { /* who has not seen the order may be about to turn by another one */
        const oc_batcher *e = &l->batchers[i];
        if (OC_ORDER_GENERATION(__atomic_load_n(&e->seen, __ATOMIC_ACQUIRE)) != to->generation ||
            __atomic_load_n(&e->live_generation, __ATOMIC_ACQUIRE) != to->generation)
            return;
    }
    pthread_mutex_lock(&l->lock);
    oc_version *was = back ? l->other : l->live;
    if (!back) l->live = l->other, l->other = was, l->other_was_live = true;
    l->reason[0] = 0;
    pthread_mutex_unlock(&l->lock);
    budget_release(l);
    bump(&l->stats.turns);
    oc_log(OC_LOG_INFO, "serve: %s version %s is live %s(was %s)", l->name, l->live->text, back ? "again " : "",
           was->text);
    phase_set(l, PHASE_LIVE);
    l->settled = false; /* a candidate may be wanted beside it */
}

/* The version in the other slot, loaded now or long ago. The way back to what was live is not refused: late answers are
 * the lesser evil. */
static OC_MUST other_admit(oc_loader *l)
{
    const oc_status status = budget_reserve(l, false);
    if (status == OC_OK) return OC_OK;
    if (l->other_was_live && !stopping(l)) {
        oc_log(OC_LOG_WARN, "serve: %s version %s was live before, and may be again all the same: %s", l->name,
               l->other->text, oc_status_message());
        return OC_OK;
    }
    budget_release(l);
    return oc_status_trail(status, __FILE__, __LINE__);
}

/* One step towards what is wanted. */
static OC_MUST step(oc_loader *l)
{
    const oc_models_state *w = &l->wanted;
    const char *needed = is(l->live, w->live) ? w->candidate : w->live;
    if (l->phase == PHASE_SWAPPING) {
        swap_end(l);
        return OC_OK;
    }
    if (needed[0] && !is(l->other, needed)) OC_TRY(other_load(l, needed));
    if (needed[0])
        OC_TRY(other_admit(l));
    else
        budget_release(l);
    if (!is(l->live, w->live)) {
        OC_TRY(unchanged(l, l->other));
        orders(l, l->other->generation, false, 0);
        phase_set(l, PHASE_SWAPPING);
        return OC_OK;
    }
    orders(l, l->live->generation, needed[0] != 0, needed[0] ? w->canary : 0);
    phase_set(l, needed[0] ? PHASE_SHADOW : PHASE_LIVE);
    l->settled = true;
    return OC_OK;
}

/* Whether the file is another one than last time; oc_file_write always makes a new one. */
static bool state_changed(oc_loader *l)
{
    char path[OC_PATH_MAX];
    struct stat now;
    if (oc_models_state_path(l->config.repository, l->name, path) != OC_OK || stat(path, &now) != 0) return false;
    const struct stat *seen = &l->state_seen;
    if (now.st_ino == seen->st_ino && now.st_size == seen->st_size && now.st_mtim.tv_sec == seen->st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == seen->st_mtim.tv_nsec)
        return false;
    l->state_seen = now;
    return true;
}

static void repository_look(oc_loader *l)
{
    if (state_changed(l)) {
        oc_models_state wanted;
        pthread_mutex_lock(&l->lock);
        l->acted_ns = (int64_t)l->state_seen.st_mtim.tv_sec * OC_SECOND_NS + l->state_seen.st_mtim.tv_nsec;
        pthread_mutex_unlock(&l->lock);
        if (oc_models_state_read(l->config.repository, l->name, &wanted) != OC_OK) {
            refuse(l, "of state.json");
        } else if (wanted.live[0]) {
            pthread_mutex_lock(&l->lock);
            l->wanted = wanted;
            l->reason[0] = 0;
            l->dirty = true;
            pthread_mutex_unlock(&l->lock);
            l->settled = false;
        }
    }
    if (l->settled) return;
    const char *needed = is(l->live, l->wanted.live) ? l->wanted.candidate : l->wanted.live;
    if (step(l) != OC_OK && !stopping(l)) refuse(l, needed);
}

static void files_verify(oc_loader *l)
{
    oc_version *const held[] = {l->live, l->other};
    for (size_t i = 0; i < 2; i++) {
        if (!held[i] || held[i]->changed || unchanged(l, held[i]) == OC_OK) continue;
        oc_log_failure(OC_LOG_ERROR);
    }
}

static void status_write(oc_loader *l)
{
    oc_text text = {0};
    pthread_mutex_lock(&l->lock);
    l->dirty = false;
    pthread_mutex_unlock(&l->lock);
    oc_loader_write(l, &text);
    oc_text_add(&text, "\n");
    if (oc_text_finish(&text, "status") != OC_OK ||
        oc_file_write(l->config.status_path, text.data, text.bytes) != OC_OK) {
        oc_log_failure(OC_LOG_WARN);
        pthread_mutex_lock(&l->lock);
        l->dirty = true; /* again a second later: `outcry models` waits for it */
        pthread_mutex_unlock(&l->lock);
        l->retry_at_ns = oc_clock_monotonic_ns() + OC_SECOND_NS;
    }
    oc_text_free(&text);
}

static void *loader_main(void *argument)
{
    oc_loader *l = argument;
    const bool repository = l->config.repository && l->config.repository[0];
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread: it makes way for the batchers */
    while (!stopping(l)) {
        if (repository) repository_look(l);
        const int64_t now = oc_clock_monotonic_ns();
        if (now >= l->verify_at_ns) {
            if (l->verify_at_ns > 0) files_verify(l);
            l->verify_at_ns = now + l->config.verify_ns;
        }
        if (l->config.status_path && now >= l->retry_at_ns &&
            (l->dirty || (l->phase == PHASE_SHADOW && now >= l->write_at_ns))) {
            status_write(l);
            l->write_at_ns = now + OC_SECOND_NS;
        }
        usleep(LOOK_US);
    }
    return NULL;
}

oc_status oc_loader_start(oc_loader *l, oc_batcher *batchers, int count)
{
    l->batchers = batchers;
    l->batcher_count = count;
    OC_TRY(oc_memory_new_array(&l->boxes, (size_t)count, sizeof *l->boxes, "slots on their way"));
    if (l->config.status_path) status_write(l); /* before anyone can ask */
    const int code = pthread_create(&l->thread, NULL, loader_main, l);
    if (code != 0) return OC_FAIL(OC_EFAILED, "serve: a thread: %s", strerror(code));
    l->started = true;
    return OC_OK;
}

void oc_loader_stop(oc_loader *l)
{
    if (!l || !l->started) return;
    __atomic_store_n(&l->stop, 1u, __ATOMIC_RELEASE);
    pthread_join(l->thread, NULL);
    l->started = false;
    if (l->config.status_path) unlink(l->config.status_path);
}

void oc_loader_close(oc_loader *l)
{
    if (!l) return;
    assert(!l->started);
    if (l->boxes) boxes_close(l);
    if (l->live != l->first) oc_version_close(l->live);
    if (l->other != l->first) oc_version_close(l->other);
    oc_version_close(l->handing);
    oc_version_close(l->first);
    pthread_mutex_destroy(&l->lock);
    oc_memory_free(l->boxes);
    oc_memory_free(l->texts);
    oc_memory_free(l);
}
