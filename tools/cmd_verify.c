/* cmd_verify.c - outcry verify: is a dataset what its events make, and does nothing in it look ahead? */
#include "tools/commands.h"

#include <string.h>

#include "datasets/dataset.h"

enum { EVENTS_MAX = 256, TEXT_MAX = 65536 };

static const oc_cli_option options[] = {
    {"every", "N", NULL, false,
     "check every Nth row [at least 2,000 seeded rows]; the first row after each gap always"},
    {"seed", "S", "1", false, "which rows, and the garbage behind them"},
    {"events", "FILE,...", NULL, false, "where the event files lie now, in their order [where the dataset says]"},
    {"hashes-only", NULL, NULL, false, "check the hashes and the values, recompute no row"},
    {0},
};

static oc_status events_split(const char *text, char *copy, const char **paths, size_t *count)
{
    if (strlen(text) >= TEXT_MAX) return OC_FAIL(OC_EUSAGE, "--events is over %d bytes", TEXT_MAX - 1);
    memcpy(copy, text, strlen(text) + 1);
    for (char *at = copy; at; (*count)++) {
        char *comma = strchr(at, ',');
        if (*count == EVENTS_MAX) return OC_FAIL(OC_EUSAGE, "--events names over %d files", EVENTS_MAX);
        if (comma) *comma++ = '\0';
        paths[*count] = at;
        at = comma;
    }
    return OC_OK;
}

static oc_status hashes_only(oc_cli *cli)
{
    oc_dataset *d;
    char root[OC_HASH_TEXT];
    OC_TRY(oc_dataset_open(&d, cli->arguments[0]));
    oc_cli_say(cli, "%s: %zu rows, every hash is right (root %s); no row was recomputed\n", d->path, d->rows,
               oc_hash_text(d->root, root));
    json_object_set_new(cli->result, "rows_checked", json_integer(0));
    json_object_set_new(cli->result, "rows_different", json_integer(0));
    json_object_set_new(cli->result, "labels_different", json_integer(0));
    json_object_set_new(cli->result, "longest_history", json_integer(d->history_events));
    oc_dataset_close(d);
    return OC_OK;
}

static void result_json(json_t *out, const oc_verify_result *r)
{
    json_object_set_new(out, "rows_checked", json_integer((json_int_t)r->rows_checked));
    json_object_set_new(out, "rows_different", json_integer((json_int_t)r->rows_different));
    json_object_set_new(out, "labels_checked", json_integer((json_int_t)r->labels_checked));
    json_object_set_new(out, "labels_different", json_integer((json_int_t)r->labels_different));
    json_object_set_new(out, "rows_rebuilt", json_integer((json_int_t)r->rows_rebuilt));
    json_object_set_new(out, "breaks", json_integer((json_int_t)r->breaks));
    json_object_set_new(out, "longest_history", json_integer(r->longest_history));
    json_object_set_new(out, "longest_history_ns", json_integer(r->longest_history_ns));
}

static oc_status run(oc_cli *cli)
{
    static char copy[TEXT_MAX];
    const char *paths[EVENTS_MAX];
    int64_t every = 0, seed;
    oc_verify_options o = {0};
    oc_verify_result r;
    if (oc_cli_given(cli, "every")) OC_TRY(oc_cli_int(cli, "every", 1, INT64_MAX, &every));
    OC_TRY(oc_cli_int(cli, "seed", 0, INT64_MAX, &seed));
    if (oc_cli_flag(cli, "hashes-only")) return hashes_only(cli);
    if (oc_cli_given(cli, "events")) {
        OC_TRY(events_split(oc_cli_text(cli, "events"), copy, paths, &o.event_count));
        o.events = paths;
    }
    o.every = (uint64_t)every;
    o.seed = (uint64_t)seed;
    OC_TRY(oc_dataset_verify(cli->arguments[0], &o, &r));
    oc_cli_say(cli,
               "%s: hashes right; %llu rows rebuilt; %llu rows checked from late starts, %llu different; %llu labels "
               "checked, %llu "
               "different\n%llu gaps and breaks; longest history %u rows, %.3f s\n",
               cli->arguments[0], (unsigned long long)r.rows_rebuilt, (unsigned long long)r.rows_checked,
               (unsigned long long)r.rows_different, (unsigned long long)r.labels_checked,
               (unsigned long long)r.labels_different, (unsigned long long)r.breaks, r.longest_history,
               (double)r.longest_history_ns / 1e9);
    result_json(cli->result, &r);
    if (r.rows_different || r.labels_different)
        return OC_FAIL(OC_EDATA, "%s: %llu rows and %llu labels are not what its events make; first: %s",
                       cli->arguments[0], (unsigned long long)r.rows_different, (unsigned long long)r.labels_different,
                       r.first_difference);
    return OC_OK;
}

const oc_command oc_command_verify = {
    .name = "verify",
    .arguments = "D.h5",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Proves that a dataset is undamaged, repeatable and free of look-ahead",
    .description = "Checks every hash; makes every row again from the events; then makes chosen rows from a start as "
                   "late as their declared "
                   "history allows, with everything after the row replaced by garbage, and their labels with "
                   "everything after known_ns "
                   "replaced by garbage. All must have the same bits. Exit 65 where anything differs.\n\n"
                   "  outcry verify market.h5\n"
                   "  outcry verify market.h5 --every 100 --events moved/market.events",
    .options = options,
    .run = run,
};
