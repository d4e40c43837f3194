/* desk_recover.c - reading a journal back: first every byte is checked and the last snapshot found, then the engine is
 * brought to the end and its answers are compared. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "trade/desk_internal.h"

typedef struct scan {        /* what the first pass found */
    uint32_t segments, last; /* files there are; index of the last that holds a header */
    uint64_t good_bytes, torn_bytes, check, records;
    uint32_t snapshot_segment, epoch;
    uint64_t snapshot_number, inputs; /* number of the last snapshot's record */
    bool any, snapshot, closed;
    oc_journal_tail tail;
} scan;

/* A segment goes on exactly where the good bytes of the last one with a header ended. */
static oc_status link_check(const oc_journal_reader *r, const scan *s)
{
    const oc_journal_header *h = &r->header;
    bool linked = s->any ? h->previous_segment == s->last && h->previous_bytes == s->good_bytes &&
                               h->previous_check == s->check && h->first_record == s->records && h->epoch > s->epoch
                         : h->first_record == 0 && h->previous_check == 0;
    if (!linked) return OC_FAIL(OC_EDATA, "%s: does not go on where the segment before it ends", r->path);
    if (s->closed) return OC_FAIL(OC_EDATA, "%s: goes on after a journal that was closed", r->path);
    return OC_OK;
}

static oc_status segment_scan(oc_journal_reader *r, uint32_t segment, scan *s)
{
    oc_journal_item item;
    bool more = true;
    if (r->header_torn) {
        s->torn_bytes = r->map.bytes;
        return OC_OK;
    }
    OC_TRY(link_check(r, s));
    while (more) {
        OC_TRY(oc_journal_reader_next(r, &item, &more));
        if (!more) break;
        s->inputs += item.kind == OC_JOURNAL_INPUT;
        if (item.kind != OC_JOURNAL_SNAPSHOT) continue;
        s->snapshot = true;
        s->snapshot_segment = segment;
        s->snapshot_number = item.number;
    }
    s->any = true;
    s->last = segment;
    s->good_bytes = r->at;
    s->torn_bytes = r->map.bytes - r->at;
    s->check = r->check;
    s->records = r->number;
    s->epoch = r->header.epoch;
    s->tail = r->tail;
    s->closed = r->tail == OC_JOURNAL_CLOSED;
    return OC_OK;
}

static bool segment_there(const char *folder, uint32_t segment)
{
    char path[OC_PATH_MAX];
    return oc_journal_path(path, sizeof path, folder, segment) == OC_OK && oc_path_exists(path);
}

static oc_status folder_scan(const char *folder, scan *s)
{
    memset(s, 0, sizeof *s);
    s->tail = OC_JOURNAL_TORN; /* until a segment holds a header */
    while (segment_there(folder, s->segments)) {
        oc_journal_reader r;
        OC_TRY(oc_journal_reader_open(&r, folder, s->segments));
        oc_status status = segment_scan(&r, s->segments, s);
        oc_journal_reader_close(&r);
        OC_TRY(status);
        s->segments++;
    }
    if (s->segments == 0) return OC_FAIL(OC_EFAILED, "%s: holds no journal", folder);
    return OC_OK;
}

/* ---- the second pass ---- */

typedef struct player {
    oc_desk *desk;
    oc_desk_report *report;
    oc_hash config;
    uint64_t from; /* first record that is played; the snapshot where there is one */
    bool proof;    /* replay: snapshots are compared, other builds refused */
    oc_action recorded[OC_ACTIONS_MAX], decided[OC_ACTIONS_MAX];
} player;

static oc_status differs(const oc_input *input, const char *what, size_t index)
{
    return OC_FAIL(OC_EDATA, "journal: input %llu: the replay decides otherwise (%s %zu); trading halts",
                   (unsigned long long)input->sequence, what, index);
}

static oc_status input_play(player *p, const oc_journal_item *item, bool same_build)
{
    oc_input input;
    size_t recorded, decided;
    OC_TRY(oc_journal_input_read(item, &input, p->recorded, OC_ACTIONS_MAX, &recorded));
    if (!same_build) {
        p->report->absorbed++;
        return oc_engine_absorb(p->desk->engine, &input, p->recorded, recorded);
    }
    OC_TRY(oc_engine_apply(p->desk->engine, &input, p->decided, OC_ACTIONS_MAX, &decided));
    p->report->compared++;
    if (decided != recorded) return differs(&input, "actions, now", decided);
    for (size_t i = 0; i < decided; i++) {
        if (memcmp(&p->decided[i], &p->recorded[i], sizeof(oc_action)) != 0) return differs(&input, "action", i);
    }
    return OC_OK;
}

static oc_status snapshot_play(player *p, const oc_journal_item *item, bool same_build)
{
    oc_desk *d = p->desk;
    size_t bytes;
    if (!p->proof && item->number == p->from) return oc_engine_load(d->engine, item->payload, item->bytes);
    if (!same_build) return OC_OK;
    OC_TRY(oc_engine_save(d->engine, d->snapshot, d->snapshot_bytes, &bytes));
    if (bytes == item->bytes && memcmp(d->snapshot, item->payload, bytes) == 0) return OC_OK;
    return OC_FAIL(OC_EDATA, "journal: record %llu: the replay's state is not the recorded one; trading halts",
                   (unsigned long long)item->number);
}

static oc_status segment_play(player *p, oc_journal_reader *r)
{
    oc_journal_item item;
    bool more = true, same = oc_hash_equal(r->header.build, p->desk->options.build);
    if (r->header_torn) return OC_OK;
    if (!oc_hash_equal(r->header.config, p->config))
        return OC_FAIL(OC_EDATA, "%s: was written with another configuration of the engine", r->path);
    if (p->proof && !same)
        return OC_FAIL(OC_EDATA, "%s: was written by another build; replay it with that one", r->path);
    while (more) {
        OC_TRY(oc_journal_reader_next(r, &item, &more));
        if (!more || item.number < p->from) continue;
        if (item.kind == OC_JOURNAL_INPUT) OC_TRY(input_play(p, &item, same));
        if (item.kind == OC_JOURNAL_SNAPSHOT) OC_TRY(snapshot_play(p, &item, same));
    }
    return OC_OK;
}

static oc_status folder_play(player *p, const scan *s, uint32_t first)
{
    for (uint32_t i = first; i < s->segments; i++) {
        oc_journal_reader r;
        OC_TRY(oc_journal_reader_open(&r, p->desk->options.folder, i));
        oc_status status = segment_play(p, &r);
        oc_journal_reader_close(&r);
        OC_TRY(status);
    }
    oc_desk_report *report = p->report;
    report->records = s->records;
    report->inputs = s->inputs;
    report->segments = s->segments;
    report->epoch = s->epoch;
    report->tail = s->tail;
    report->torn_bytes = s->torn_bytes;
    report->journal_hash = oc_journal_chain_hash(s->check, s->records);
    report->state_hash = oc_engine_state_hash(p->desk->engine);
    return OC_OK;
}

static oc_status play(oc_desk *d, const oc_engine_config *config, const scan *s, bool proof, oc_desk_report *report)
{
    player *p;
    memset(report, 0, sizeof *report);
    OC_TRY(oc_memory_new(&p, sizeof *p, "journal player"));
    bool jump = s->snapshot && !proof;
    p->desk = d;
    p->report = report;
    p->config = oc_engine_config_hash(config);
    p->proof = proof;
    p->from = jump ? s->snapshot_number : 0;
    oc_status status = folder_play(p, s, jump ? s->snapshot_segment : 0);
    oc_memory_free(p);
    return status;
}

/* ---- recovery ---- */

static oc_status go_on(oc_desk *d, const oc_engine_config *config, const scan *s, oc_action *actions, size_t cap,
                       size_t *count)
{
    uint32_t epoch = s->any ? s->epoch + 1 : config->account.epoch;
    if (epoch > UINT16_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: all epochs are used; begin a new journal for a flat account", d->options.folder);
    oc_journal_start start = {.epoch = epoch,
                              .segment = s->segments,
                              .previous_segment = s->any ? s->last : s->segments,
                              .previous_bytes = s->good_bytes,
                              .previous_check = s->check,
                              .first_record = s->records};
    OC_TRY(oc_desk_segment(d, config, start));
    if (!s->any) return OC_OK; /* the first start had not begun yet */
    int64_t now = oc_engine_time(d->engine);
    oc_input input = {
        .time_ns = now, .kind = OC_INPUT_OPERATOR, .as.command = {OC_OPERATOR_RECOVER, 0, (int64_t)epoch}};
    return oc_desk_apply(d, &input, actions, cap, count);
}

static oc_status recover(oc_desk *d, const oc_engine_config *config, oc_desk_report *report, oc_action *actions,
                         size_t cap, size_t *count)
{
    scan s;
    const char *folder = d->options.folder;
    OC_TRY(oc_journal_lock(folder, &d->lock));
    OC_TRY(folder_scan(folder, &s));
    if (s.closed) return OC_FAIL(OC_EFAILED, "%s: the journal was closed; there is nothing to recover", folder);
    OC_TRY(play(d, config, &s, false, report));
    return go_on(d, config, &s, actions, cap, count);
}

oc_status oc_desk_recover(oc_desk **out, const oc_engine_config *config, const oc_desk_options *options,
                          oc_desk_report *report, oc_action *actions, size_t cap, size_t *count)
{
    oc_desk *d;
    *out = NULL;
    *count = 0;
    OC_TRY(oc_desk_make(&d, config, options));
    oc_status status = recover(d, config, report, actions, cap, count);
    if (status == OC_OK)
        *out = d;
    else
        oc_desk_free(d);
    return status;
}

/* ---- replay ---- */

/* From the payload of OC_JOURNAL_CONFIG. */
static oc_status config_take(const oc_journal_reader *r, const oc_journal_item *item, oc_engine_account *account,
                             oc_engine_market **market, uint32_t *markets)
{
    size_t rest = item->bytes >= sizeof *account ? item->bytes - sizeof *account : 0;
    if (rest == 0 || item->kind != OC_JOURNAL_CONFIG || rest % sizeof **market ||
        rest / sizeof **market > OC_INSTRUMENTS_MAX)
        return OC_FAIL(OC_EDATA, "%s: does not begin with a configuration", r->path);
    OC_TRY(oc_memory_new(market, rest, "engine configuration"));
    memcpy(account, item->payload, sizeof *account);
    memcpy(*market, item->payload + sizeof *account, rest);
    *markets = (uint32_t)(rest / sizeof **market);
    return OC_OK;
}

/* Of the first segment that holds a record: one before it may have died while it began. */
static oc_status config_read(const char *folder, const scan *s, oc_engine_account *account, oc_engine_market **market,
                             uint32_t *markets)
{
    bool more = false;
    for (uint32_t i = 0; i < s->segments && !more; i++) {
        oc_journal_reader r;
        oc_journal_item item;
        OC_TRY(oc_journal_reader_open(&r, folder, i));
        oc_status status = oc_journal_reader_next(&r, &item, &more);
        if (status == OC_OK && more) status = config_take(&r, &item, account, market, markets);
        oc_journal_reader_close(&r);
        OC_TRY(status);
    }
    return more ? OC_OK : OC_FAIL(OC_EDATA, "%s: the journal holds no record", folder);
}

oc_status oc_desk_replay(const char *folder, oc_hash build, oc_desk_report *report)
{
    scan s;
    oc_desk *d = NULL;
    oc_engine_market *market = NULL;
    oc_engine_config config = {0};
    OC_TRY(folder_scan(folder, &s));
    OC_TRY(config_read(folder, &s, &config.account, &market, &config.markets));
    config.market = market;
    oc_status status = oc_desk_make(&d, &config, &(oc_desk_options){.folder = folder, .build = build});
    if (status == OC_OK) status = play(d, &config, &s, true, report);
    oc_desk_free(d);
    oc_memory_free(market);
    return status;
}
