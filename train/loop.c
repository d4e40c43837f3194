/* loop.c - batches until the epochs are over or patience is, in intervals of steps (one, where the engine takes one).
 * After every interval, in this order: counters, log, validation, checkpoint: so a checkpoint never lies between a step
 * and what belongs to it. Nothing here depends on
 * time but when a checkpoint is written, and that changes no result. */
#include "train/ranks.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"

static atomic_int stop_requested; /* lock-free: a signal handler may store to it */

void oc_train_request_stop(void)
{
    atomic_store_explicit(&stop_requested, 1, memory_order_relaxed);
}

bool oc_train_stop_requested(void)
{
    return atomic_load_explicit(&stop_requested, memory_order_relaxed) != 0;
}

void oc_train_clear_stop(void)
{
    atomic_store_explicit(&stop_requested, 0, memory_order_relaxed);
}

static double rate_of_windows(const train_counters *c)
{
    return c->train_seconds > 0 ? (double)c->windows / c->train_seconds : 0;
}

static bool writes(const train_job *j)
{
    return j->comm->rank == 0;
}

/* --- log --- */

static oc_status line_add(train_job *j, json_t *line, double windows_per_second)
{
    if (writes(j)) return train_log_add(&j->log, line, windows_per_second);
    json_decref(line);
    return OC_OK;
}

static oc_status start_log(train_job *j)
{
    const train_plan *p = j->plan;
    json_t *line = json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:[f,f,f], s:s}", "kind", "start", "train_windows",
                             (json_int_t)p->train.count, "valid_windows", (json_int_t)p->valid.count, "steps_total",
                             (json_int_t)p->steps_total, "weights", (json_int_t)p->parameters.weights, "fold",
                             p->fold_name, "class_weights", (double)p->class_weight[0], (double)p->class_weight[1],
                             (double)p->class_weight[2], "reduce", p->o.allreduce ? "allreduce" : "tree");
    char rows[64];
    if (line && *train_engine_rows_text(j->engine, rows, sizeof rows))
        json_object_set_new(line, "rows", json_string(rows));
    if (line && train_engine_buckets(j->engine) > 0)
        json_object_set_new(line, "buckets", json_integer(train_engine_buckets(j->engine)));
    OC_TRY(line_add(j, line, -1));
    return OC_OK;
}

static oc_status interval_log(train_job *j)
{
    train_counters *c = &j->c;
    if (c->interval_steps > 0 && c->interval_weight > 0) {
        json_t *line =
            json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:I}", "kind", "train", "step", (json_int_t)c->step, "epoch",
                      (json_int_t)c->epoch, "loss", c->interval_loss / c->interval_weight, "norm",
                      c->interval_norm / (double)c->interval_steps, "rate",
                      train_rate(&j->plan->o, c->step - 1, j->plan->steps_total), "skipped", (json_int_t)c->skipped);
        OC_TRY(line_add(j, line, rate_of_windows(c)));
        oc_log(
            OC_LOG_DEBUG,
            "train: step %lld: %lld windows here; %.3f s for others, %.3f s for their bytes; %lld moves between GPUs",
            (long long)c->step, (long long)j->rank_windows[j->comm->rank], (double)j->comm->wait_ns * 1e-9,
            (double)j->comm->move_ns * 1e-9, (long long)train_engine_moves(j->engine));
    }
    c->interval_steps = 0;
    c->interval_loss = c->interval_weight = c->interval_norm = 0;
    return OC_OK;
}

static oc_status valid_log(train_job *j, double loss)
{
    json_t *line = json_pack("{s:s, s:I, s:I, s:o, s:b, s:I}", "kind", "valid", "step", (json_int_t)j->c.step, "epoch",
                             (json_int_t)j->c.epoch, "loss", isfinite(loss) ? json_real(loss) : json_null(), "best",
                             j->c.best_step == j->c.step, "best_step", (json_int_t)j->c.best_step);
    OC_TRY(line_add(j, line, -1));
    return OC_OK;
}

/* --- state --- */

oc_status train_job_start(train_job *j)
{
    size_t bytes = j->plan->parameters.total * sizeof(float);
    memset(&j->c, 0, sizeof j->c);
    j->c.best_loss = (double)INFINITY;
    oc_parameters_init(&j->plan->parameters, j->plan->o.seed, j->w.weights);
    memset(j->w.m, 0, bytes);
    memset(j->w.v, 0, bytes);
    memcpy(j->w.average, j->w.weights, bytes);
    memcpy(j->w.best, j->w.weights, bytes);
    if (writes(j)) OC_TRY(train_log_cut(&j->log, 0));
    OC_TRY(start_log(j));
    return OC_OK;
}

static oc_status weights_finite(const train_job *j)
{
    for (size_t i = 0; i < j->plan->parameters.total; i++) {
        if (!isfinite(j->w.weights[i]))
            return OC_FAIL(
                OC_EFAILED,
                "the weights became non-finite at step %lld and are not saved; the last checkpoint stands: lower "
                "train.rate",
                (long long)j->c.step);
    }
    return OC_OK;
}

oc_status train_job_save(train_job *j)
{
    int64_t start = oc_clock_monotonic_ns();
    OC_TRY(train_engine_get(j->engine, &j->w));
    OC_TRY(weights_finite(j));
    if (!writes(j)) return OC_OK;
    OC_TRY(train_log_sync(&j->log));
    j->c.log_bytes = j->log.bytes;
    OC_TRY(train_checkpoint_save(j->checkpoints, &j->origin, &j->c, &j->w, j->plan->parameters.total));
    j->saved_ns = oc_clock_monotonic_ns();
    j->save_cost_ns = j->saved_ns - start;
    return OC_OK;
}

/* A short job saves every two seconds, a long one as seldom as it was told, in between as often as costs under 2 %. */
static bool save_due(const train_job *j)
{
    double since = (double)(oc_clock_monotonic_ns() - j->saved_ns) * 1e-9, cheap = 50e-9 * (double)j->save_cost_ns;
    double wait = cheap > 2 ? cheap : 2;
    return since >= (wait < j->plan->o.checkpoint_seconds ? wait : j->plan->o.checkpoint_seconds);
}

/* --- a step --- */

static long long row_at(const train_job *j, const train_interval *at, int window)
{
    return (long long)train_engine_window(j->engine, at->epoch, at->position + window);
}

static oc_status skip_count(train_job *j, const train_interval *at, int count)
{
    const train_plan *p = j->plan;
    j->c.skipped++;
    j->c.skipped_row++;
    if (j->c.skipped_row <= p->o.skip_max) {
        oc_log(OC_LOG_WARN, "train: step %lld: loss or gradient is not finite; skipped", (long long)j->c.step);
        return OC_OK;
    }
    return OC_FAIL(
        OC_EFAILED,
        "%s: loss or gradient was not finite in %lld steps in a row (train.skip_max %lld); the last batch's %d "
        "windows end at rows %lld, %lld, %lld … of %s",
        j->out, (long long)j->c.skipped_row, (long long)p->o.skip_max, count, row_at(j, at, 0),
        row_at(j, at, count > 1 ? 1 : 0), row_at(j, at, count > 2 ? 2 : 0), p->d->path);
}

/* What can be taken from here on before somebody must look: at most what the engine takes, to the end of the epoch, the
 * next line of the log, the next validation, or a pause. Which steps go together changes no bit of them. */
static train_interval interval_at(const train_job *j, int64_t step, int64_t epoch, int64_t position)
{
    const train_plan *p = j->plan;
    const int64_t left = p->epoch_windows - position;
    const int64_t reach = train_engine_reach(j->engine, epoch, position);
    const int64_t bounds[] = {(reach + p->o.batch - 1) / p->o.batch, p->o.log_every - step % p->o.log_every,
                              p->o.valid_every > 0 ? p->o.valid_every - step % p->o.valid_every : INT64_MAX,
                              j->paused_at > step ? j->paused_at - step : INT64_MAX};
    int64_t steps = train_engine_steps(j->engine);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i] < steps) steps = bounds[i];
    return (train_interval){.epoch = epoch,
                            .position = position,
                            .step = step,
                            .updates = j->c.updates,
                            .steps = (int)steps,
                            .windows = (int)(left < steps * p->o.batch ? left : steps * p->o.batch)};
}

static train_interval interval_after(const train_job *j, const train_interval *now)
{
    const int64_t position = now->position + now->windows;
    const bool over = position >= j->plan->epoch_windows;
    return interval_at(j, now->step + now->steps, now->epoch + over, over ? 0 : position);
}

static oc_status step_count(train_job *j, const train_interval *at, int count, const train_step_result *r)
{
    train_counters *c = &j->c;
    c->step++;
    c->position += count;
    c->windows += count;
    j->rank_windows[j->comm->rank] += train_engine_own(j->engine, count);
    if (!r->finite) {
        OC_TRY(skip_count(j, at, count));
        return OC_OK;
    }
    c->updates++;
    c->skipped_row = 0;
    c->interval_steps++;
    c->interval_loss += r->loss_sum;
    c->interval_weight += r->weight_sum;
    c->interval_norm += r->norm;
    return OC_OK;
}

static oc_status steps_do(train_job *j)
{
    const int64_t start = oc_clock_monotonic_ns(), batch = j->plan->o.batch;
    const train_interval now = interval_at(j, j->c.step, j->c.epoch, j->c.position), next = interval_after(j, &now);
    OC_TRY(train_engine_run(j->engine, &j->w, &now, &next, j->results));
    j->c.train_seconds += (double)(oc_clock_monotonic_ns() - start) * 1e-9;
    for (int i = 0; i < now.steps; i++) {
        const int64_t left = now.windows - i * batch;
        const train_interval at = {.epoch = now.epoch, .position = now.position + i * batch};
        OC_TRY(step_count(j, &at, (int)(left < batch ? left : batch), &j->results[i]));
    }
    return OC_OK;
}

static oc_status validate(train_job *j)
{
    train_counters *c = &j->c;
    const float *flat = j->plan->o.average > 0 ? j->w.average : j->w.weights, *logits;
    const int32_t *target;
    OC_TRY(train_engine_get(j->engine, &j->w));
    OC_TRY(train_engine_validate(j->engine, flat, &logits, &target));
    double loss = oc_log_loss(logits, target, j->plan->valid.count, j->plan->o.shape.horizons, NULL);
    if (loss < c->best_loss) {
        c->best_loss = loss;
        c->best_step = c->step;
        c->stale = 0;
        memcpy(j->w.best, flat, j->plan->parameters.total * sizeof *flat);
    } else {
        c->stale++;
    }
    OC_TRY(valid_log(j, loss));
    return OC_OK;
}

/* What belongs to the last step of an interval once its weights are there. */
static oc_status steps_close(train_job *j)
{
    const train_plan *p = j->plan;
    train_counters *c = &j->c;
    bool epoch_over = c->position >= p->epoch_windows;
    bool valid_due = epoch_over || (p->o.valid_every > 0 && c->step % p->o.valid_every == 0);
    if (epoch_over) {
        c->epoch++;
        c->position = 0;
    }
    if (valid_due || c->step % p->o.log_every == 0) OC_TRY(interval_log(j));
    if (valid_due) OC_TRY(validate(j));
    c->ended = c->epoch >= p->o.epochs || (p->o.patience > 0 && c->stale >= p->o.patience);
    return OC_OK;
}

static oc_status stop_here(train_job *j, const char *why)
{
    OC_TRY(train_job_save(j));
    OC_TRY(train_ranks_end(j)); /* a launcher ends the others when the first of them goes */
    return OC_FAIL(OC_EAGAIN, "%s: %s after step %lld of %lld; all is saved: the same command with --resume goes on",
                   j->out, why, (long long)j->c.step, (long long)j->plan->steps_total);
}

/* Share of the loop's time in which this rank waited for others or for their bytes. */
static double communication(const train_job *j, double seconds)
{
    double spoken = (double)(j->comm->wait_ns + j->comm->move_ns - j->spoken_ns) * 1e-9;
    return seconds > 0 ? spoken / seconds : 0;
}

/* ", 4 x 210/s, 1.2 % communication": what the ranks do; nothing for one. */
static void ranks_say(const train_job *j, const oc_progress *progress, char *text, size_t cap)
{
    double seconds = (double)(oc_clock_monotonic_ns() - progress->start_ns) * 1e-9;
    *text = '\0';
    if (j->comm->ranks > 1 && seconds > 0)
        snprintf(text, cap, ", %d x %.0f/s, %.1f %% communication", j->comm->ranks,
                 (double)(progress->done - progress->base) / seconds / j->comm->ranks, 100 * communication(j, seconds));
}

static void progress_say(const train_job *j, oc_progress *progress)
{
    const train_counters *c = &j->c;
    char ranks[64];
    double loss = c->interval_loss / c->interval_weight; /* of the steps since the last line of the log */
    if (!(c->interval_weight > 0)) return;
    ranks_say(j, progress, ranks, sizeof ranks);
    if (c->best_step == 0)
        oc_progress_extra(progress, "step %lld, loss %.4f%s", (long long)c->step, loss, ranks);
    else
        oc_progress_extra(progress, "step %lld, loss %.4f, best %.4f at %lld%s", (long long)c->step, loss, c->best_loss,
                          (long long)c->best_step, ranks);
}

/* A signal comes to one rank at any moment; all must stop after the same step. */
static oc_status stop_agree(train_job *j, bool *stop)
{
    uint8_t asked[OC_COMM_RANKS_MAX];
    asked[j->comm->rank] = oc_train_stop_requested();
    OC_TRY(oc_comm_gather(j->comm, "stop?", asked, sizeof *asked, j->plan->o.comm_timeout_ns));
    *stop = memchr(asked, 1, (size_t)j->comm->ranks) != NULL;
    return OC_OK;
}

static oc_status loop(train_job *j, oc_progress *progress)
{
    train_counters *c = &j->c;
    while (!c->ended) {
        bool stop;
        int64_t start = oc_clock_monotonic_ns();
        OC_TRY(stop_agree(j, &stop));
        c->train_seconds += (double)(oc_clock_monotonic_ns() - start) * 1e-9; /* it is a part of the step's price */
        if (stop) return stop_here(j, "stopped");
        if (j->paused_at > 0 && c->step >= j->paused_at) return stop_here(j, "paused");
        OC_TRY(steps_do(j));
        OC_TRY(steps_close(j));
        progress_say(j, progress);
        oc_progress_update(progress, (uint64_t)c->windows);
        if (!c->ended && writes(j) && save_due(j)) OC_TRY(train_job_save(j));
    }
    return OC_OK;
}

oc_status train_job_loop(train_job *j)
{
    oc_progress progress;
    OC_TRY(oc_memory_new_array(&j->results, (size_t)train_engine_steps(j->engine), sizeof *j->results, "results"));
    oc_progress_start(&progress, "train", "windows", (uint64_t)(j->plan->epoch_windows * j->plan->o.epochs));
    progress.base = progress.done = (uint64_t)j->c.windows;
    if (!writes(j)) progress.quiet = true;
    j->spoken_ns = j->comm->wait_ns + j->comm->move_ns;
    j->paused_at = j->plan->o.pause_after > 0 ? j->c.step + j->plan->o.pause_after : 0;
    j->windows_before = j->c.windows;
    j->saved_ns = oc_clock_monotonic_ns();
    int64_t start = oc_clock_monotonic_ns();
    oc_status status = loop(j, &progress);
    oc_memory_free(j->results);
    j->results = NULL;
    j->communication = communication(j, (double)(oc_clock_monotonic_ns() - start) * 1e-9);
    oc_progress_finish(&progress);
    return status;
}
