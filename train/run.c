/* run.c - oc_train_run: the folder RUN, a start or a resume, the loop, and the bundle at the end. Files are rank 0's
 * alone; whatever fails there ends the other ranks in their next exchange. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "datasets/ledger.h"
#include "train/ranks.h"

/* --- the folder --- */

static bool ours(const char *name)
{
    static const char *const names[] = {".", "..", "config.yaml", "log.jsonl", "checkpoints", "model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return strncmp(name, ".outcry-", 8) == 0;
}

static oc_status folder_look(const char *out, bool *empty)
{
    *empty = true;
    DIR *d = opendir(out);
    if (!d && errno == ENOENT) return OC_OK;
    if (!d) return OC_FAIL(OC_EFAILED, "%s: cannot list: %s", out, strerror(errno));
    oc_status status = OC_OK;
    for (struct dirent *entry = readdir(d); entry && status == OC_OK; entry = readdir(d)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        *empty = false;
        if (!ours(entry->d_name))
            status = OC_FAIL(OC_EUSAGE, "%s: holds %.255s, which is not of a training run: choose another --out", out,
                             entry->d_name);
    }
    closedir(d);
    return status;
}

static oc_status folder_prepare(const char *out, bool resume)
{
    bool empty;
    OC_TRY(folder_look(out, &empty));
    if (!empty && !resume)
        return OC_FAIL(OC_EUSAGE,
                       "%s: a run is there already: --resume goes on with it; for a new one choose another --out", out);
    OC_TRY(oc_path_make_folders(out));
    return OC_OK;
}

static oc_status config_write(const char *out, const oc_config *config)
{
    char path[OC_PATH_MAX];
    OC_TRY(oc_path_join(path, sizeof path, out, "config.yaml"));
    char *text = oc_config_dump(config);
    if (!text) return OC_FAIL(OC_EMEMORY, "%s: no memory for the resolved config", path);
    oc_status status = oc_file_write(path, text, strlen(text));
    free(text);
    return status;
}

/* --- the bundle --- */

static void bundle_describe(const train_job *j, oc_bundle *b)
{
    const train_plan *p = j->plan;
    snprintf(b->name, sizeof b->name, "%s", p->o.name);
    snprintf(b->version, sizeof b->version, "%s", p->o.version);
    snprintf(b->build, sizeof b->build, "%s", j->origin.build);
    oc_time_text(oc_clock_wall_ns(), b->created);
    snprintf(b->fold_name, sizeof b->fold_name, "%s", p->fold_name);
    snprintf(b->folds, sizeof b->folds, "%s", p->o.folds);
    b->fold_index = p->fold_index;
    b->embargo_ns = p->embargo_ns;
    b->schema = p->d->schema;
    b->dataset = p->d->root;
    b->fold = p->fold_hash;
    b->clip = p->o.clip;
    b->seed = p->o.seed;
    if (p->o.allreduce)
        snprintf(b->reduce, sizeof b->reduce, "allreduce of %d rank%s", j->comm->ranks, j->comm->ranks > 1 ? "s" : "");
    const oc_backend_info *info = train_engine_backend(j->engine);
    if (info->kind == OC_BACKEND_CUDA)
        snprintf(b->computed, sizeof b->computed, "cuda, large products by %s, LSTM by %s", info->products,
                 info->lstm_by);
    else
        snprintf(b->computed, sizeof b->computed, "cpu");
    b->train_steps = j->c.best_step;
    memcpy(b->features, p->d->features, p->d->width * sizeof *b->features);
    memcpy(b->mean, p->mean, p->d->width * sizeof *b->mean);
    memcpy(b->scale, p->scale, p->d->width * sizeof *b->scale);
    memcpy(b->seen, p->seen, p->seen_count * sizeof *b->seen);
    memcpy(b->flat, j->w.best, p->parameters.total * sizeof *b->flat);
    for (int i = 0; i < p->o.shape.horizons; i++)
        snprintf(b->labels[i], sizeof b->labels[i], "%s", p->labels[i]->rule.text);
}

static oc_status bundle_make(const train_job *j, const char *folder, const float *logits, const int32_t *target,
                             oc_train_result *result)
{
    const train_plan *p = j->plan;
    oc_bundle *b;
    OC_TRY(oc_bundle_new(&b, &p->o.shape, p->seen_count));
    bundle_describe(j, b);
    oc_temperature_fit(logits, target, p->valid.count, p->o.shape.horizons, b->temperature);
    oc_status status = oc_bundle_save(b, folder);
    result->temperature = b->temperature[0];
    oc_bundle_close(b);
    return status;
}

/* Is the bundle of this very run there? Then a resume after the end changes nothing. */
static bool bundle_done(const train_job *j, const char *folder, oc_train_result *result)
{
    oc_bundle *b;
    if (!oc_path_exists(folder)) return false;
    if (oc_bundle_load(&b, folder) != OC_OK) {
        oc_log(OC_LOG_WARN, "train: %s; the model is written again from the last checkpoint", oc_status_message());
        return false;
    }
    bool same = oc_hash_equal(b->weights, result->weights) && oc_hash_equal(b->dataset, j->plan->d->root);
    result->temperature = b->temperature[0];
    oc_bundle_close(b);
    return same;
}

/* Can the run be recorded at its end? Better asked before hours of training than after. */
static oc_status ledger_look(const oc_dataset *d)
{
    char path[OC_PATH_MAX];
    oc_ledger_summary summary;
    OC_TRY(oc_ledger_path(d, path, sizeof path));
    OC_TRY(oc_ledger_read(d, &summary));
    if (summary.present && access(path, W_OK) == 0) return OC_OK;
    if (summary.present) return OC_FAIL(OC_EFAILED, "%s: the ledger cannot be written: %s", path, strerror(errno));
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = '\0';
    if (access(slash ? path : ".", W_OK) != 0)
        return OC_FAIL(OC_EFAILED, "%s: the ledger beside the dataset cannot be written there: %s", slash ? path : ".",
                       strerror(errno));
    return OC_OK;
}

static oc_status ledger_add(const train_job *j, const oc_train_result *result)
{
    const oc_ledger_entry entry = {.command = "train",
                                   .config = oc_hash_bytes(j->origin.identity, strlen(j->origin.identity)),
                                   .bundle = result->weights,
                                   .seed = j->plan->o.seed,
                                   .fold = j->plan->fold_name,
                                   .split = "train"};
    OC_TRY(oc_ledger_append(j->plan->d, &entry));
    return OC_OK;
}

static oc_status finish(train_job *j, oc_train_result *result)
{
    char folder[OC_PATH_MAX];
    const float *logits;
    const int32_t *target;
    const train_counters *c = &j->c;
    bool first = j->comm->rank == 0;
    if (!isfinite(c->best_loss))
        return OC_FAIL(OC_EFAILED, "%s: no validation gave a finite loss: there is no model to keep; lower train.rate",
                       j->out);
    OC_TRY(oc_path_join(folder, sizeof folder, j->out, "model"));
    *result = (oc_train_result){.steps = c->step,
                                .best_step = c->best_step,
                                .skipped_steps = c->skipped,
                                .valid_loss = c->best_loss,
                                .windows_per_second = c->train_seconds > 0 ? (double)c->windows / c->train_seconds : 0,
                                .communication = j->communication,
                                .ranks = j->comm->ranks,
                                .weights = oc_weights_hash(&j->plan->parameters, j->w.best)};
    uint8_t done = first && bundle_done(j, folder, result);
    OC_TRY(oc_comm_broadcast(j->comm, "model", &done, sizeof done, j->plan->o.comm_start_timeout_ns));
    if (done) return OC_OK;
    OC_TRY(train_engine_validate(j->engine, j->w.best, &logits, &target));
    if (!first) return OC_OK;
    OC_TRY(ledger_add(j, result)); /* before the bundle: a kill in between doubles a record, never loses one */
    OC_TRY(bundle_make(j, folder, logits, target, result));
    return OC_OK;
}

/* --- the run --- */

static oc_status vectors_take(train_weights *w, size_t total, float **block)
{
    OC_TRY(oc_memory_new_array(block, total * 5, sizeof **block, "weights"));
    *w = (train_weights){*block, *block + total, *block + 2 * total, *block + 3 * total, *block + 4 * total};
    return OC_OK;
}

static oc_status begin(train_job *j, const oc_config *config, bool resume)
{
    bool found = false, first = j->comm->rank == 0;
    if (resume && first)
        OC_TRY(train_checkpoint_load(j->checkpoints, &j->origin, &j->c, &j->w, j->plan->parameters.total, &found));
    OC_TRY(train_ranks_share(j, &found));
    if (found && !first) return OC_OK;
    if (found) {
        OC_TRY(train_log_cut(&j->log, j->c.log_bytes));
        oc_log(OC_LOG_INFO, "train: %s: goes on after step %lld of %lld", j->out, (long long)j->c.step,
               (long long)j->plan->steps_total);
    } else {
        OC_TRY(train_job_start(j));
    }
    if (first) OC_TRY(config_write(j->out, config));
    return OC_OK;
}

/* What one look tells about how a job is spread. */
static void job_say(const train_job *j)
{
    const oc_backend_info *backend = train_engine_backend(j->engine);
    oc_log(OC_LOG_INFO, "train: %s: on %s (%s), %d threads", j->out, backend->device, backend->reason,
           train_engine_workers(j->engine));
    const int shards = j->plan->o.shards / j->comm->ranks;
    if (backend->kind == OC_BACKEND_CUDA && shards > 1 && j->comm->ranks == 1)
        oc_log(OC_LOG_INFO,
               "train: %s: the GPU takes %d shards of %d windows one after the other, so that other numbers "
               "of ranks give its weights; a job that stays on one GPU is faster with train.shards: 1",
               j->out, shards, (j->plan->o.batch + j->plan->o.shards - 1) / j->plan->o.shards);
    if (j->comm->ranks > 1)
        oc_log(OC_LOG_INFO, "train: %d ranks, %d on this host: each %d of %d shards and all %zu rows", j->comm->ranks,
               j->comm->local, j->plan->o.shards / j->comm->ranks, j->plan->o.shards, j->plan->d->rows);
    if (j->plan->o.allreduce)
        oc_log(OC_LOG_WARN,
               "train: reduce is allreduce: the weights depend on the number of ranks (%d) and on MPI; "
               "with tree they do not",
               j->comm->ranks);
}

static oc_status job_run(train_job *j, const oc_config *config, bool resume, oc_train_result *result)
{
    if (j->comm->rank == 0) job_say(j);
    OC_TRY(begin(j, config, resume));
    OC_TRY(train_engine_put(j->engine, &j->w));
    bool ended = j->c.ended != 0;
    OC_TRY(train_job_loop(j));
    if (!ended) OC_TRY(train_job_save(j));
    OC_TRY(finish(j, result));
    OC_TRY(train_ranks_end(j));
    memcpy(result->rank_windows, j->rank_windows, sizeof result->rank_windows);
    return OC_OK;
}

/* The ledger can be written, RUN is ours, and nobody else trains in it. */
static oc_status folder_take(train_job *j, const char *log_path, bool resume)
{
    OC_TRY(ledger_look(j->plan->d));
    OC_TRY(folder_prepare(j->out, resume));
    OC_TRY(train_log_open(&j->log, log_path));
    return OC_OK;
}

/* `auto` may find another place on a resume, and a GPU sums in another order than the CPU: what it computed on decides
 * the weights too. */
static oc_status identity_place(train_job *j, char **identity)
{
    const oc_backend_info *info = train_engine_backend(j->engine);
    const size_t length = strlen(*identity);
    char place[256] = "", rows[64];
    size_t used = 0;
    if (info->kind == OC_BACKEND_CUDA)
        used = (size_t)snprintf(place, sizeof place, "computed on: cuda\nlarge products by: %s\nLSTM by: %s\n",
                                info->products, info->lstm_by);
    if (*train_engine_rows_text(j->engine, rows, sizeof rows))
        snprintf(place + used, sizeof place - used, "rows: %s\n", rows);
    if (!*place) return OC_OK;
    char *longer = realloc(*identity, length + strlen(place) + 1);
    if (!longer) return OC_FAIL(OC_EMEMORY, "%s: no memory for the config's identity", j->out);
    memcpy(longer + length, place, strlen(place) + 1);
    j->origin.identity = *identity = longer;
    return OC_OK;
}

static oc_status job_open_and_run(train_job *j, const oc_config *config, const char *out, bool resume,
                                  oc_train_result *result)
{
    char log_path[OC_PATH_MAX];
    float *block = NULL;
    char *identity = oc_train_identity(config);
    if (!identity) return OC_FAIL(OC_EMEMORY, "%s: no memory for the config's identity", out);
    j->out = out;
    j->origin = (train_origin){identity,        j->plan->d->root,       j->plan->fold_hash,
                               oc_build_text(), j->plan->epoch_windows, j->plan->o.batch};
    oc_status status;
    OC_TRY_GOTO(status, done, oc_path_join(j->checkpoints, sizeof j->checkpoints, out, "checkpoints"));
    OC_TRY_GOTO(status, done, oc_path_join(log_path, sizeof log_path, out, "log.jsonl"));
    OC_TRY_GOTO(status, done, vectors_take(&j->w, j->plan->parameters.total, &block));
    OC_TRY_GOTO(status, done, train_ranks_agree(j, resume));
    OC_TRY_GOTO(status, done, train_engine_open(&j->engine, j->plan, j->comm));
    OC_TRY_GOTO(status, done, identity_place(j, &identity));
    if (j->comm->rank == 0) OC_TRY_GOTO(status, done, folder_take(j, log_path, resume));
    status = job_run(j, config, resume, result);
    if (j->comm->rank == 0) train_log_close(&j->log);
done:
    train_engine_close(j->engine);
    oc_memory_free(block);
    free(identity);
    return status;
}

oc_status oc_train_run(const oc_config *config, const oc_dataset *d, const oc_folds *folds, size_t fold_index,
                       const char *out, bool resume, oc_train_result *result)
{
    oc_comm alone = oc_comm_single();
    return oc_train_run_ranks(&alone, config, d, folds, fold_index, out, resume, result);
}

oc_status oc_train_run_ranks(oc_comm *comm, const oc_config *config, const oc_dataset *d, const oc_folds *folds,
                             size_t fold_index, const char *out, bool resume, oc_train_result *result)
{
    train_plan *plan;
    train_job *job = NULL;
    *result = (oc_train_result){0};
    OC_TRY(train_plan_open(&plan, config, d, folds, fold_index));
    oc_status status = train_options_share(&plan->o, comm->ranks, comm->local);
    if (status == OC_OK && comm->ranks > 1 && plan->epoch_windows < plan->o.shards)
        status =
            OC_FAIL(OC_ECONFIG, "%s: an epoch of %lld windows is fewer than train.shards %d: a rank would have none",
                    d->path, (long long)plan->epoch_windows, plan->o.shards);
    if (status == OC_OK) status = oc_memory_new(&job, sizeof *job, "training");
    if (status == OC_OK) {
        job->plan = plan;
        job->comm = comm;
        status = job_open_and_run(job, config, out, resume, result);
    }
    oc_memory_free(job);
    train_plan_close(plan);
    return status;
}
