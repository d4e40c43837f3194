/* cmd_simulate.c - outcry simulate: a market with a planted predictability, and the truth about it. */
#include "tools/commands.h"

#include <string.h>

#include "base/file.h"
#include "market/simulate.h"

static const oc_cli_option options[] = {
    {"out", "F.events", NULL, true, "events file; F.truth is written beside it"},
    {"events", "N", "1000000", false, "events; the packet that reaches N is completed"},
    {"seed", "S", "7", false, "of all random numbers"},
    {"levels", "L", "10", false, "book levels published a side, 1 to 64"},
    {"signal", "Q", "0.5", false, "planted predictability: 0 none, prices are a random walk … 1 strong"},
    {"label", "RULE", "direction:12:0.0003", false,
     "direction:K:THRESHOLD, whose probabilities F.truth holds: mid K rows on against now, beyond +-THRESHOLD"},
    {0},
};

static oc_status truth_path(const char *events, char path[OC_PATH_MAX])
{
    static const char from[] = ".events", to[] = ".truth";
    size_t length = strlen(events);
    if (length >= sizeof from - 1 && strcmp(events + length - (sizeof from - 1), from) == 0) length -= sizeof from - 1;
    if (length == 0 || length + sizeof to > OC_PATH_MAX)
        return OC_FAIL(OC_EUSAGE, "--out is \"%.64s\", not the name of an events file", events);
    memcpy(path, events, length);
    memcpy(path + length, to, sizeof to);
    return OC_OK;
}

static oc_status fill(oc_cli *cli, const oc_simulate_result *r, const char *truth)
{
    json_t *values =
        json_pack("{s:I, s:f, s:I, s:{s:f, s:f, s:f}, s:s, s:I, s:I}", "events", (json_int_t)r->events, "best_accuracy",
                  r->best_accuracy, "rows", (json_int_t)r->rows, "shares", "buy", r->share[0], "sell", r->share[1],
                  "hold", r->share[2], "truth", truth, "first_ns", (json_int_t)r->first_ns, "last_ns",
                  (json_int_t)r->last_ns);
    if (!values || json_object_update(cli->result, values) != 0) return OC_FAIL(OC_EMEMORY, "no memory for the result");
    json_decref(values);
    return OC_OK;
}

static oc_status run(oc_cli *cli)
{
    oc_simulate_options o = {0};
    oc_simulate_result result;
    int64_t events, seed, levels;
    char truth[OC_PATH_MAX];
    OC_TRY(oc_cli_int(cli, "events", 1, INT64_C(1) << 40, &events));
    OC_TRY(oc_cli_int(cli, "seed", 0, INT64_MAX, &seed));
    OC_TRY(oc_cli_int(cli, "levels", 1, OC_SIMULATE_LEVELS_MAX, &levels));
    OC_TRY(oc_cli_real(cli, "signal", 0, 1, &o.signal));
    OC_TRY(oc_simulate_label_parse(oc_cli_text(cli, "label"), &o.horizon, &o.threshold));
    OC_TRY(truth_path(oc_cli_text(cli, "out"), truth));
    o.events = (uint64_t)events;
    o.seed = (uint64_t)seed;
    o.levels = (uint32_t)levels;
    OC_TRY(oc_simulate(oc_cli_text(cli, "out"), truth, &o, &result));
    OC_TRY(fill(cli, &result, truth));
    oc_cli_say(cli, "%s: %llu events in %llu rows; buy %.3f, sell %.3f, hold %.3f; best achievable accuracy %.4f "
               "(%s)\n", oc_cli_text(cli, "out"), (unsigned long long)result.events, (unsigned long long)result.rows,
               result.share[0], result.share[1], result.share[2], result.best_accuracy, truth);
    return OC_OK;
}

const oc_command oc_command_simulate = {
    .name = "simulate",
    .summary = "Writes the events of a simulated market whose predictability is planted and known",
    .description =
        "Traders keep a limit-order book of one instrument, SIM: tick 0.01, mid from 35 to 65, spread mostly one tick "
        "(about 2 basis points), a packet every 52 ms on average, about 5 events a packet. The direction of the next "
        "jump depends on the product of what the book shows now and the side of the latest block trade (128 lots or "
        "more). F.truth holds, for each row (a packet), the exact probabilities of buy, sell and hold given the "
        "published events alone; best_accuracy is the mean of the largest. The same options give the same bytes.\n\n"
        "  outcry simulate --out m.events --events 1000000 --seed 7 --signal 0.5",
    .options = options,
    .run = run,
};
