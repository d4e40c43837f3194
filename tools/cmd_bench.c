/* cmd_bench.c - outcry bench NAME: measures, beside a named peer in the same run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench/benches.h"
#include "tools/commands.h"

typedef struct bench_row {
    const char *name, *text;
    oc_status (*run)(const oc_bench_options *, oc_bench_report *);
} bench_row;

static const bench_row benches[] = {
#define BENCH_ROW(name, function, text) {name, text, oc_bench_##function},
    OC_BENCHES(BENCH_ROW)
#undef BENCH_ROW
        {NULL, NULL, NULL},
};

static const oc_cli_option options[] = {
    {"list", NULL, NULL, false, "names the benches and what each figure means"},
    {"seconds", "S", "2", false, "length of each timed part, seconds"},
    {"repeats", "N", "3", false, "runs of each side; the best counts"},
    {"threads", "N", "0", false, "threads, 0: the bench's own choice"},
    {"hidden", "H", "0", false, "LSTM units, 0: the bench's own choice"},
    {"steps", "T", "0", false, "window length in rows, 0: the bench's own choice"},
    {"inputs", "F", "0", false, "features, 0: the bench's own choice"},
    {"layers", "L", "0", false, "LSTM layers, 0: the bench's own choice"},
    {"heads", "N", "-1", false, "attention heads, 0 leaves attention out, -1: the bench's own choice"},
    {"batch", "B", "0", false, "windows in a batch, 0: the bench's own choice"},
    {"backend", "cpu|cuda", "cpu", false, "where train-rate, latency-window, latency-push and lstm-layer run"},
    {"gpu-path", "graph|resident", "graph", false,
     "latency-push on cuda: steps by recordings, or by a kernel that stays there, its bare doorbell beside"},
    {"math", "f32|tf32|bf16", "f32", false,
     "how products are taken, sums stay f32; the CPU: f32, and bf16 of latency-window, latency-push and\n"
     "throughput-window"},
    {"peers", "FOLDER", NULL, false,
     "folder of the peer scripts; without it no peer is run (environment: OUTCRY_PEERS)"},
    {"python", "FILE", NULL, false, "Python with the peers' packages (environment: OUTCRY_PYTHON)"},
    {"trading-python", "FILE", NULL, false,
     "Python with the packages of the trading peers (requirements-trading.txt), where it is another one (environment: "
     "OUTCRY_TRADING_PYTHON)"},
    {"data", "FOLDER", NULL, false, "folder of recorded market data (environment: OUTCRY_DATA)"},
    {"tiny", NULL, NULL, false, "a fraction of the work, no peer: only to see that the bench still runs"},
    {"rate", "R", "0", false,
     "serve: requests a second, with ticks market events, whether or not answers keep up (open loop); 0: none"},
    {"load", "SHARE", "0", false, "serve: the rate as a share of what the server can do, measured before; 0: none"},
    {"mode", "window|push|tick", "window", false,
     "serve, under load: what is asked for; tick: packets of a simulated order book, a row each"},
    {"transport", "ring|http", "ring", false, "serve, under load: by which way"},
    {"clients", "N", "1", false, "serve, under load: clients, each with a session, stream or connection of its own"},
    {"burst", "N", "1", false,
     "serve, under load: requests due at one instant, each of another session while there are"},
    {"gaps", "poisson|even", "poisson", false, "serve, under load: between requests; even: 0.75 to 1.25 of their mean"},
    {"seed", "N", "1", false, "serve, under load: of the schedule"},
    {"deadline-us", "US", "0", false,
     "serve, under load: a later answer is HOLD and counts as late; 0: none, --overload of rows, ticks: 1000"},
    {"queue-max-us", "US", "0", false, "serve, under load: as serve.queue_max_us; 0: none, with --overload 1000"},
    {"sweep", NULL, NULL, false, "serve: eight rates from a tenth of the capacity to a twentieth over it"},
    {"overload", NULL, NULL, false, "serve: 80 % of the capacity, ten times it, 80 % again, --seconds each"},
    {"page", "FILE", NULL, false, "serve --sweep: latency against load as one page of HTML"},
    {NULL, NULL, NULL, false, NULL},
};

static const char *text_or(const oc_cli *cli, const char *option, const char *variable)
{
    return oc_cli_text(cli, option) ? oc_cli_text(cli, option) : getenv(variable);
}

static oc_status word_read(const oc_cli *cli, const char *option, const char *const *words, int count, int *place)
{
    const char *text = oc_cli_text(cli, option);
    for (*place = 0; *place < count; ++*place)
        if (strcmp(text, words[*place]) == 0) return OC_OK;
    return OC_FAIL(OC_EUSAGE, "--%s %s is none of its words; --help names them", option, text);
}

static oc_status device_read(const oc_cli *cli, oc_bench_options *o)
{
    static const char *const places[] = {"cpu", "cuda"};
    static const char *const maths[] = {[OC_MATH_F32] = "f32", [OC_MATH_TF32] = "tf32", [OC_MATH_BF16] = "bf16"};
    static const char *const paths[] = {"graph", "resident"};
    int place, math, path;
    OC_TRY(word_read(cli, "gpu-path", paths, 2, &path));
    OC_TRY(word_read(cli, "backend", places, 2, &place));
    OC_TRY(word_read(cli, "math", maths, 3, &math));
    o->backend = place == 1 ? OC_BACKEND_CUDA : OC_BACKEND_CPU;
    o->math = (oc_math)math;
    o->resident = path == 1;
    if (o->resident && (o->backend != OC_BACKEND_CUDA || strcmp(cli->arguments[0], "latency-push") != 0))
        return OC_FAIL(OC_EUSAGE, "--gpu-path resident is for latency-push --backend cuda");
    if (o->backend == OC_BACKEND_CPU && o->math == OC_MATH_TF32)
        return OC_FAIL(OC_EUSAGE, "--math tf32: the CPU computes f32 and bf16; add --backend cuda");
    return OC_OK;
}

static bool one_of(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

/* Those that can run on a GPU. */
static bool knows_cuda(const char *name)
{
    static const char *const names[] = {"train-rate", "latency-window", "latency-push", "lstm-layer"};
    return one_of(name, names, sizeof names / sizeof *names);
}

/* Those that can run in bf16 on the CPU: inference. */
static bool knows_bf16(const char *name)
{
    static const char *const names[] = {"latency-window", "latency-push", "throughput-window"};
    return one_of(name, names, sizeof names / sizeof *names);
}

static oc_status load_read(const oc_cli *cli, oc_bench_load *l)
{
    static const char *const modes[] = {"window", "push", "tick"}, *const ways[] = {"ring", "http"},
                             *const gaps[] = {"poisson", "even"};
    int mode, way, gap;
    int64_t clients, burst, seed;
    double deadline_us, queue_us;
    OC_TRY(word_read(cli, "mode", modes, 3, &mode));
    OC_TRY(word_read(cli, "transport", ways, 2, &way));
    OC_TRY(word_read(cli, "gaps", gaps, 2, &gap));
    OC_TRY(oc_cli_int(cli, "clients", 1, OC_BENCH_CLIENTS_MAX, &clients));
    OC_TRY(oc_cli_int(cli, "burst", 1, OC_BENCH_CLIENTS_MAX, &burst));
    OC_TRY(oc_cli_int(cli, "seed", 0, INT64_MAX, &seed));
    OC_TRY(oc_cli_real(cli, "rate", 0, 1e7, &l->rate));
    OC_TRY(oc_cli_real(cli, "load", 0, 100, &l->share));
    OC_TRY(oc_cli_real(cli, "deadline-us", 0, 1e9, &deadline_us));
    OC_TRY(oc_cli_real(cli, "queue-max-us", 0, 1e9, &queue_us));
    l->mode = (oc_bench_mode)mode;
    l->http = way == 1;
    l->even = gap == 1;
    l->clients = (int)clients;
    l->burst = (int)burst;
    l->seed = (uint64_t)seed;
    l->deadline_ns = (int64_t)(1e3 * deadline_us);
    l->queue_max_ns = (int64_t)(1e3 * queue_us);
    l->sweep = oc_cli_flag(cli, "sweep");
    l->overload = oc_cli_flag(cli, "overload");
    l->page = oc_cli_text(cli, "page");
    if ((l->rate > 0) + (l->share > 0) + l->sweep + l->overload > 1)
        return OC_FAIL(OC_EUSAGE, "--rate, --load, --sweep and --overload are four ways to set one rate: give one");
    if (l->page && !l->sweep) return OC_FAIL(OC_EUSAGE, "--page is the page of --sweep");
    return OC_OK;
}

static oc_status options_read(const oc_cli *cli, oc_bench_options *o)
{
    const struct {
        const char *name;
        int min, max;
        int *to;
    } integers[] = {
        {"repeats", 1, 100, &o->repeats}, {"threads", 0, 1024, &o->threads}, {"hidden", 0, 4096, &o->hidden},
        {"steps", 0, 4096, &o->steps},    {"inputs", 0, 4096, &o->inputs},   {"layers", 0, 8, &o->layers},
        {"heads", -1, 64, &o->heads},     {"batch", 0, 65536, &o->batch},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        int64_t value;
        OC_TRY(oc_cli_int(cli, integers[i].name, integers[i].min, integers[i].max, &value));
        *integers[i].to = (int)value;
    }
    OC_TRY(oc_cli_real(cli, "seconds", 0.001, 3600, &o->seconds));
    OC_TRY(device_read(cli, o));
    OC_TRY(load_read(cli, &o->load));
    o->tiny = oc_cli_flag(cli, "tiny");
    o->peers = text_or(cli, "peers", "OUTCRY_PEERS");
    o->python = text_or(cli, "python", "OUTCRY_PYTHON");
    o->trading_python = text_or(cli, "trading-python", "OUTCRY_TRADING_PYTHON");
    o->data = text_or(cli, "data", "OUTCRY_DATA");
    if (!o->trading_python) o->trading_python = o->python;
    if (o->tiny) {
        o->peers = o->data = NULL;
        o->seconds = 0.02;
        o->repeats = 1;
    }
    return OC_OK;
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *figure_json(const oc_bench_figure *f)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:o, s:s}", "figure", f->figure, "value", number_or_null(f->value),
                     "unit", f->unit, "peer", f->peer, "peer_value", number_or_null(f->peer_value), "ratio",
                     number_or_null(f->ratio), "note", f->note);
}

static oc_status report_print(oc_cli *cli, const oc_bench_report *r)
{
    if (r->count == 0) return OC_FAIL(OC_EFAILED, "the bench printed no figure");
    json_t *all = json_array();
    for (int i = 0; i < r->count; i++) {
        const oc_bench_figure *f = &r->figure[i];
        oc_cli_say(cli, "%-44s %14.6g %-10s", f->figure, f->value, f->unit);
        if (isfinite(f->ratio)) oc_cli_say(cli, "  %s %.6g, ratio %.4g", f->peer, f->peer_value, f->ratio);
        oc_cli_say(cli, "%s%s\n", f->note[0] ? "  # " : "", f->note);
        if (json_array_append_new(all, figure_json(f)) != 0) return OC_FAIL(OC_EMEMORY, "no memory for the result");
    }
    json_t *first = figure_json(&r->figure[0]);
    if (json_object_update(cli->result, first) != 0 || json_object_set_new(cli->result, "figures", all) != 0)
        return OC_FAIL(OC_EMEMORY, "no memory for the result");
    json_decref(first);
    return OC_OK;
}

static oc_status run(oc_cli *cli)
{
    static oc_bench_report report;
    oc_bench_options o = {0};
    if (oc_cli_flag(cli, "list") || cli->argument_count == 0) {
        for (const bench_row *b = benches; b->name; b++) oc_cli_say(cli, "%-20s %s\n", b->name, b->text);
        return oc_cli_flag(cli, "list") ? OC_OK : OC_FAIL(OC_EUSAGE, "NAME is missing; --list names the benches");
    }
    OC_TRY(options_read(cli, &o));
    for (const bench_row *b = benches; b->name; b++) {
        if (strcmp(b->name, cli->arguments[0]) != 0) continue;
        if (o.backend == OC_BACKEND_CUDA && !knows_cuda(b->name))
            return OC_FAIL(OC_EUSAGE, "bench %s runs on the CPU alone", b->name);
        if (o.backend == OC_BACKEND_CPU && o.math == OC_MATH_BF16 && !knows_bf16(b->name))
            return OC_FAIL(OC_EUSAGE, "bench %s on the CPU runs in f32 alone", b->name);
        OC_TRY(b->run(&o, &report));
        return report_print(cli, &report);
    }
    return OC_FAIL(OC_EUSAGE, "there is no bench \"%s\"; --list names them", cli->arguments[0]);
}

const oc_command oc_command_bench = {
    .name = "bench",
    .arguments = "NAME",
    .arguments_max = 1,
    .summary = "Measures a part of Outcry beside a named peer in the same run",
    .description = "Prints one line a figure: value, unit, the peer's value and value / peer. The JSON object holds "
                   "the first figure's\n"
                   "keys and all of them under `figures`. Absolute times belong to one machine; only ratios travel.\n"
                   "Example: outcry bench latency-window --peers PEERS --python VENV/bin/python\n"
                   "         outcry bench serve --mode push --clients 10 --burst 10 --gaps even --load 0.63\n"
                   "         outcry bench serve --sweep --page load.html\n"
                   "         outcry bench backtest --peers PEERS --trading-python VENV-TRADING/bin/python --data DATA",
    .options = options,
    .run = run,
};
