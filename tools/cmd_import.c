/* cmd_import.c - outcry import: market data files to `.events`. */
#include "tools/commands.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "market/import.h"

static const oc_cli_option options[] = {
    {"format", "NAME", NULL, true, "csv, metatrader, lobster or binance"},
    {"symbol", "SYM", NULL, true, "the instrument's name in the events, at most 31 characters"},
    {"out", "F.events", NULL, true, "the file to write; an old one stays as it is unless the import succeeds"},
    {"tick", "X", NULL, false,
     "price increment, a decimal; prices must be exact multiples, others are refused [the finest power "
     "of ten in the data; lobster: 0.0001]"},
    {"lot", "Y", NULL, false, "size increment, likewise [the finest power of ten in the data; lobster: 1]"},
    {"order-tick", "X", NULL, false, "increment in which orders may be priced, a multiple of the tick [the tick]"},
    {"timezone", "Z", NULL, false,
     "of times without an offset: IANA name or +02:00 [csv, metatrader: UTC; lobster: "
     "America/New_York; what is assumed is said]"},
    {"bar", "LENGTH", NULL, false, "length of a bar: 30s, 1m, 4h, 1d; needed by csv and metatrader"},
    {"stamp", "start|end", NULL, false, "which end of its bar a time is; needed by csv and metatrader"},
    {"arrival-delay-ns", "NS", "0", false,
     "ns from the end of a bar (or an exchange time) to its receipt; not used by binance"},
    {"gap-bars", "N", "72", false, "so many bars missing in a row begin a new session: no window crosses it"},
    {"columns", "LIST", NULL, false,
     "time,open,high,low,close[,volume] as header names or numbers from 1; time may be DATE+TIME "
     "[found, and said]"},
    {"time-format", "FORMAT", NULL, false,
     "%Y %m %d %H %M %S %z and literals, or epoch_s, epoch_ms, epoch_us, epoch_ns "
     "[found on the first line, and said]"},
    {"delimiter", "C", NULL, false, "one character, or the word tab [found, and said]"},
    {"float-noise", NULL, NULL, false,
     "numbers within a thousandth of a multiple of --tick or --lot are taken as it, and counted: for files that "
     "write 0.30000000000000004"},
    {"date", "YYYY-MM-DD", NULL, false, "day of a lobster file [from its name]"},
    {"source-symbol", "SYM", NULL, false, "the symbol as a binance capture writes it [the value of --symbol]"},
    {"max-rejected", "SHARE", "0.01", false, "more refused lines than this share: exit 65 and no output"},
    {0},
};

static void report_say(const oc_cli *cli, const oc_import_report *r)
{
    char tick[OC_DECIMAL_TEXT], lot[OC_DECIMAL_TEXT], first[OC_TIME_TEXT], last[OC_TIME_TEXT];
    if (r->lines == 0) return;
    for (uint32_t i = 0; i < r->note_count; i++) oc_cli_say(cli, "%s\n", r->notes[i]);
    for (int i = 0; i < OC_REFUSED_COUNT; i++) {
        if (r->reasons[i] == 0) continue;
        oc_cli_say(cli, "refused %llu: %s, at", (unsigned long long)r->reasons[i],
                   oc_import_reason_text((oc_import_reason)i));
        for (uint64_t k = 0; k < r->reasons[i] && k < OC_IMPORT_PLACES; k++)
            oc_cli_say(cli, " %s:%llu", r->places[i][k].where, (unsigned long long)r->places[i][k].line);
        oc_cli_say(cli, "%s\n", r->reasons[i] > OC_IMPORT_PLACES ? " …" : "");
    }
    if (!oc_decimal_text(r->instrument.tick, tick, sizeof tick)) tick[0] = '\0';
    if (!oc_decimal_text(r->instrument.lot, lot, sizeof lot)) lot[0] = '\0';
    oc_cli_say(cli, "%s: tick %s%s, lot %s%s\n", r->instrument.symbol, tick, r->tick_found ? " (found)" : "", lot,
               r->lot_found ? " (found)" : "");
    oc_cli_say(cli, "%llu events in %llu packets from %llu lines, %llu refused; %s to %s\n",
               (unsigned long long)r->events, (unsigned long long)r->packets, (unsigned long long)r->lines,
               (unsigned long long)r->rejected, oc_time_text(r->first_ns, first), oc_time_text(r->last_ns, last));
    oc_cli_say(
        cli,
        "gaps %llu, session breaks %llu, missing bars %llu, crossed books %llu, local times that came twice %llu\n",
        (unsigned long long)r->gaps, (unsigned long long)r->session_breaks, (unsigned long long)r->missing_bars,
        (unsigned long long)r->crossed, (unsigned long long)r->ambiguous_times);
    if (r->denoised) oc_cli_say(cli, "numbers freed of float noise: %llu\n", (unsigned long long)r->denoised);
    if (r->offsets)
        oc_cli_say(cli, "receive - exchange clock, %llu packets: min %.6f ms, median %.6f ms, max %.6f ms\n",
                   (unsigned long long)r->offsets, (double)r->offset_min_ns / 1e6, (double)r->offset_median_ns / 1e6,
                   (double)r->offset_max_ns / 1e6);
}

static void number_set(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void report_json(json_t *out, const oc_import_report *r)
{
    char tick[OC_DECIMAL_TEXT], lot[OC_DECIMAL_TEXT];
    json_t *reasons = json_object(), *notes = json_array();
    number_set(out, "events", r->events);
    number_set(out, "rejected", r->rejected);
    json_object_set_new(out, "first_ns", json_integer(r->first_ns));
    json_object_set_new(out, "last_ns", json_integer(r->last_ns));
    number_set(out, "lines", r->lines);
    number_set(out, "packets", r->packets);
    number_set(out, "gaps", r->gaps);
    number_set(out, "session_breaks", r->session_breaks);
    number_set(out, "missing_bars", r->missing_bars);
    number_set(out, "crossed", r->crossed);
    number_set(out, "ambiguous_times", r->ambiguous_times);
    number_set(out, "denoised", r->denoised);
    if (oc_decimal_text(r->instrument.tick, tick, sizeof tick)) json_object_set_new(out, "tick", json_string(tick));
    if (oc_decimal_text(r->instrument.lot, lot, sizeof lot)) json_object_set_new(out, "lot", json_string(lot));
    for (int i = 0; i < OC_REFUSED_COUNT; i++) {
        if (r->reasons[i]) number_set(reasons, oc_import_reason_text((oc_import_reason)i), r->reasons[i]);
    }
    for (uint32_t i = 0; i < r->note_count; i++) json_array_append_new(notes, json_string(r->notes[i]));
    json_object_set_new(out, "reasons", reasons);
    json_object_set_new(out, "notes", notes);
    if (r->offsets) {
        json_object_set_new(out, "offset_min_ns", json_integer(r->offset_min_ns));
        json_object_set_new(out, "offset_median_ns", json_integer(r->offset_median_ns));
        json_object_set_new(out, "offset_max_ns", json_integer(r->offset_max_ns));
    }
}

static oc_status run(oc_cli *cli)
{
    static oc_import_report report;            /* large: not on the stack */
    static oc_import_input inputs[OC_CLI_ARGUMENTS_MAX];
    oc_import_options o;
    oc_progress progress = {0};
    oc_import_options_init(&o);
    o.format = oc_cli_text(cli, "format");
    o.symbol = oc_cli_text(cli, "symbol");
    o.source_symbol = oc_cli_text(cli, "source-symbol");
    o.tick = oc_cli_text(cli, "tick");
    o.lot = oc_cli_text(cli, "lot");
    o.order_tick = oc_cli_text(cli, "order-tick");
    o.timezone = oc_cli_text(cli, "timezone");
    o.bar = oc_cli_text(cli, "bar");
    o.stamp = oc_cli_text(cli, "stamp");
    o.date = oc_cli_text(cli, "date");
    o.columns = oc_cli_text(cli, "columns");
    o.delimiter = oc_cli_text(cli, "delimiter");
    o.time_format = oc_cli_text(cli, "time-format");
    OC_TRY(oc_cli_int(cli, "arrival-delay-ns", 0, 86400 * OC_SECOND_NS, &o.arrival_delay_ns));
    OC_TRY(oc_cli_int(cli, "gap-bars", 1, 1000000, &o.gap_bars));
    o.float_noise = oc_cli_flag(cli, "float-noise");
    OC_TRY(oc_cli_real(cli, "max-rejected", 0, 1, &o.max_rejected));
    for (size_t i = 0; i < cli->argument_count; i++) inputs[i].name = cli->arguments[i];
    oc_status status = oc_import_run(&o, inputs, cli->argument_count, oc_cli_text(cli, "out"), &report, &progress);
    report_say(cli, &report);                  /* also where it failed: what was refused helps to see why */
    if (report.lines > 0) report_json(cli->result, &report);
    return status;
}

static void help(FILE *out)
{
    fprintf(out, "\nFormats:\n");
    for (size_t i = 0; i < oc_import_format_count(); i++)
        fprintf(out, "  %-12s %s\n", oc_import_format_name(i), oc_import_format_help(i));
}

const oc_command oc_command_import = {
    .name = "import",
    .arguments = "INPUT...",
    .arguments_min = 1,
    .arguments_max = OC_CLI_ARGUMENTS_MAX,
    .summary = "Turns market data files into one .events file",
    .description = "Inputs are read in the order given as one stream, also packed as .xz or .gz. Lines that are wrong "
                   "are refused, counted and "
                   "named; nothing is repaired. Exit 65 where too many are.\n\n"
                   "EURUSD hourly of gym-anytrading (times are the bars' starts in UTC, ask prices):\n"
                   "  outcry import --format csv --symbol EURUSD --columns Time,Open,High,Low,Close,Volume --timezone "
                   "UTC --bar 1h "
                   "--stamp start --out eurusd.events FOREX_EURUSD_1H_ASK.csv\n"
                   "MetaTrader minutes (it stamps the start of a bar with its broker's time):\n"
                   "  outcry import --format metatrader --symbol EURUSD --timezone UTC --bar 1m --stamp start --out "
                   "m1.events EURUSD_M1.tsv.xz\n"
                   "LOBSTER (the orderbook file is found by its name, or give both):\n"
                   "  outcry import --format lobster --symbol GOOG --order-tick 0.01 --out goog.events "
                   "GOOG_2012-06-21_34200000_57600000_message_10.csv\n"
                   "Binance, two files of one capture:\n"
                   "  outcry import --format binance --symbol BTCUSDT --out btc.events btcusdt_20240808.jsonl.xz "
                   "btcusdt_20240809.jsonl.xz",
    .options = options,
    .help = help,
    .run = run,
};
