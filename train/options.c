/* options.c - reads the table of keys.c, checks what the table cannot say, and names what decides a result. */
#include "train/options.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

static const char VERSION_LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

static int choice(const char *text, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) return i;
    }
    return 0; /* the schema admits no other */
}

static void model_read(train_options *o, const oc_config *c)
{
    static const char *const trunks[] = {[OC_TRUNK_LSTM] = "lstm", [OC_TRUNK_MLP] = "mlp"};
    o->shape = (oc_model_shape){.trunk = (oc_trunk)choice(oc_config_text(c, "model.trunk"), trunks, 2),
                                .steps = (int)oc_config_int(c, "window.steps"),
                                .inputs = 1,
                                .layers = (int)oc_config_int(c, "model.layers"),
                                .hidden = (int)oc_config_int(c, "model.hidden"),
                                .heads = (int)oc_config_int(c, "model.heads"),
                                .horizons = 1};
    o->dropout = oc_config_real(c, "model.dropout");
    o->head_dropout = oc_config_real(c, "model.head_dropout");
    o->clip = oc_config_real(c, "scaler.clip");
}

static void train_read(train_options *o, const oc_config *c)
{
    o->batch = (int)oc_config_int(c, "train.batch");
    o->shards = (int)oc_config_int(c, "train.shards");
    o->epochs = oc_config_int(c, "train.epochs");
    o->stride = oc_config_int(c, "train.stride");
    o->windows_per_epoch = oc_config_int(c, "train.windows_per_epoch");
    o->patience = oc_config_int(c, "train.patience");
    o->valid_every = oc_config_int(c, "train.valid_every");
    o->valid_windows = oc_config_int(c, "train.valid_windows");
    o->skip_max = oc_config_int(c, "train.skip_max");
    o->log_every = oc_config_int(c, "train.log_every");
    o->device_rows_mb = oc_config_real(c, "train.device_rows_mb");
    o->bucket_mb = oc_config_real(c, "train.bucket_mb");
    o->read_every = oc_config_int(c, "train.read_every");
    o->pause_after = oc_config_int(c, "train.pause_after");
    o->rate = oc_config_real(c, "train.rate");
    o->warmup_share = oc_config_real(c, "train.warmup_share");
    o->rate_floor = oc_config_real(c, "train.rate_floor");
    o->weight_decay = oc_config_real(c, "train.weight_decay");
    o->clip_norm = oc_config_real(c, "train.clip_norm");
    o->label_smoothing = oc_config_real(c, "train.label_smoothing");
    o->average = oc_config_real(c, "train.average");
    o->checkpoint_seconds = oc_config_real(c, "train.checkpoint_seconds");
    o->comm_timeout_ns = oc_config_int(c, "comm.timeout_ns");
    o->comm_start_timeout_ns = oc_config_int(c, "comm.start_timeout_ns");
    o->balanced = strcmp(oc_config_text(c, "train.class_weights"), "balanced") == 0;
}

/* Cores that this process may use: a launcher may have bound it to some. */
static int cores_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

oc_status train_options_read(train_options *o, const oc_config *c)
{
    static const char *const backends[] = {
        [OC_BACKEND_AUTO] = "auto", [OC_BACKEND_CPU] = "cpu", [OC_BACKEND_CUDA] = "cuda"};
    static const char *const maths[] = {[OC_MATH_F32] = "f32", [OC_MATH_TF32] = "tf32", [OC_MATH_BF16] = "bf16"};
    static const char *const lstms[] = {[OC_LSTM_HAND] = "hand", [OC_LSTM_CUDNN] = "cudnn", [OC_LSTM_AUTO] = "auto"};
    memset(o, 0, sizeof *o);
    o->name = oc_config_text(c, "name");
    o->version = oc_config_text(c, "version");
    o->folds = oc_config_text(c, "data.folds");
    o->seed = (uint64_t)oc_config_int(c, "seed");
    o->backend = (oc_backend_kind)choice(oc_config_text(c, "backend"), backends, 3);
    o->math = (oc_math)choice(oc_config_text(c, "math"), maths, 3);
    o->lstm = (oc_lstm_by)choice(oc_config_text(c, "lstm"), lstms, 3);
    o->allreduce = strcmp(oc_config_text(c, "reduce"), "allreduce") == 0;
    model_read(o, c);
    train_read(o, c);
    int cores = cores_count();
    o->threads = (int)oc_config_int(c, "threads");
    o->threads_free = o->threads == 0;
    if (o->threads_free) o->threads = cores > 256 ? 256 : cores;
    o->workers = o->threads < o->shards ? o->threads : o->shards;
    if ((o->shards & (o->shards - 1)) != 0) return oc_config_refuse(c, "train.shards", "it is not a power of two");
    if (strlen(o->name) > 63) return oc_config_refuse(c, "name", "it is longer than 63 bytes");
    if (!(strlen(o->version) >= 1 && strlen(o->version) <= 31 &&
          strspn(o->version, VERSION_LETTERS) == strlen(o->version) && !strchr("._-", o->version[0])))
        return oc_config_refuse(c, "version",
                                "it is not 1 to 31 letters, digits, '.', '_', '-', the first a letter or digit");
    if (strlen(o->folds) > 255) return oc_config_refuse(c, "data.folds", "it is longer than 255 bytes");
    OC_TRY(oc_model_shape_check(&o->shape));
    return OC_OK;
}

oc_status train_options_share(train_options *o, int ranks, int local)
{
    char counts[64] = "";
    size_t used = 0;
    if (ranks > o->shards || o->shards % ranks != 0) {
        for (int n = 1; n <= o->shards && used < sizeof counts - 8; n *= 2)
            used += (size_t)snprintf(counts + used, sizeof counts - used, "%s%d", n > 1 ? ", " : "", n);
        return OC_FAIL(OC_ECONFIG, "train.shards %d cannot be divided over %d ranks: %s are possible", o->shards, ranks,
                       counts);
    }
    if (ranks > 1 && o->batch < o->shards)
        return OC_FAIL(OC_ECONFIG, "train.batch %d is fewer windows than train.shards %d: a rank would have none",
                       o->batch, o->shards);
    int online = (int)sysconf(_SC_NPROCESSORS_ONLN) / local; /* bound to some cores or not, a host's ranks share it */
    if (o->threads_free && o->threads > online) o->threads = online > 1 ? online : 1;
    int shards = o->shards / ranks;
    o->workers = o->threads < shards ? o->threads : shards;
    return OC_OK;
}

double train_rate(const train_options *o, int64_t step, int64_t steps_total)
{
    const double pi = 3.14159265358979323846;
    double warm = floor(o->warmup_share * (double)steps_total), at = (double)step;
    if (at < warm) return o->rate * (at + 1) / warm;
    /* a single step after the warm-up is the end of the cosine, but without one it is all there is */
    double share = (double)steps_total > warm + 1 ? (at - warm) / ((double)steps_total - warm - 1) : warm > 0;
    /* [Loshchilov17 eq.5]; libm's cos may differ in its last bit between machines, so it is rounded away */
    double wave = (double)(float)(0.5 * (1 + cos(pi * share)));
    return o->rate * (o->rate_floor + (1 - o->rate_floor) * wave);
}

/* --- identity --- */

static const char *const neutral[] = {
    "threads",
    "log.level",
    "log.ranks",
    "data.dataset",
    "data.folds",
    "data.fold",
    "train.checkpoint_seconds",
    "train.pause_after",
    "train.read_every",
    "train.device_rows_mb",
    "comm.timeout_ns",
    "comm.start_timeout_ns"}; /* dataset and fold count by their hashes, device_rows_mb by the blocks that it makes */

static bool decides(const char *key)
{
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) {
        if (strcmp(key, neutral[i]) == 0) return false;
    }
    return true;
}

static void list_print(FILE *out, const oc_config *c, const char *key)
{
    for (size_t i = 0; i < oc_config_count(c, key); i++) fprintf(out, "%s%s", i ? ", " : "", oc_config_item(c, key, i));
}

static void value_print(FILE *out, const oc_config *c, const oc_config_key *key)
{
    fprintf(out, "%s: ", key->key);
    switch (key->type) {
    case OC_CONFIG_INT:
        fprintf(out, "%lld", (long long)oc_config_int(c, key->key));
        break;
    case OC_CONFIG_REAL:
        fprintf(out, "%.17g", oc_config_real(c, key->key));
        break;
    case OC_CONFIG_BOOL:
        fprintf(out, "%s", oc_config_bool(c, key->key) ? "true" : "false");
        break;
    case OC_CONFIG_TEXT:
    case OC_CONFIG_CHOICE:
        fprintf(out, "%s", oc_config_text(c, key->key));
        break;
    case OC_CONFIG_LIST:
        list_print(out, c, key->key);
        break;
    }
    fputc('\n', out);
}

char *oc_train_identity(const oc_config *config)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    for (size_t i = 0; i < oc_train_key_count; i++) {
        if (decides(oc_train_keys[i].key)) value_print(out, config, &oc_train_keys[i]);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
