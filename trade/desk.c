/* desk.c - the live half of the desk: apply, write, hand out. */
#include "trade/desk.h"

#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "trade/desk_internal.h"

static oc_status storage_take(oc_desk *d, const oc_engine_config *config)
{
    d->storage_bytes = oc_engine_bytes(config);
    OC_TRY(oc_memory_new(&d->storage, d->storage_bytes, "engine"));
    OC_TRY(oc_engine_init(&d->engine, d->storage, d->storage_bytes, config));
    d->snapshot_bytes = oc_engine_save_bytes(d->engine);
    return oc_memory_new(&d->snapshot, d->snapshot_bytes, "engine snapshot");
}

oc_status oc_desk_make(oc_desk **out, const oc_engine_config *config, const oc_desk_options *options)
{
    oc_desk *d;
    *out = NULL;
    OC_TRY(oc_engine_config_check(config));
    OC_TRY(oc_memory_new(&d, sizeof *d, "desk"));
    d->options = *options;
    d->lock = -1;
    oc_status status = storage_take(d, config);
    if (status == OC_OK)
        *out = d;
    else
        oc_desk_free(d);
    return status;
}

void oc_desk_free(oc_desk *d)
{
    if (!d) return;
    if (d->journal && oc_journal_close(d->journal, false) != OC_OK) d->failed = true;
    oc_memory_free(d->storage);
    oc_memory_free(d->snapshot);
    if (d->lock >= 0) close(d->lock);
    oc_memory_free(d);
}

static size_t config_bytes(const oc_engine_config *config)
{
    return sizeof config->account + config->markets * sizeof *config->market;
}

static oc_status config_record(oc_desk *d, const oc_engine_config *config)
{
    unsigned char *bytes;
    OC_TRY(oc_memory_new(&bytes, config_bytes(config), "engine configuration"));
    memcpy(bytes, &config->account, sizeof config->account);
    memcpy(bytes + sizeof config->account, config->market, config->markets * sizeof *config->market);
    oc_status status = oc_journal_add(d->journal, OC_JOURNAL_CONFIG, bytes, config_bytes(config));
    oc_memory_free(bytes);
    return status;
}

oc_status oc_desk_segment(oc_desk *d, const oc_engine_config *config, oc_journal_start start)
{
    start.build = d->options.build;
    start.durability = d->options.durability;
    start.config = oc_engine_config_hash(config);
    start.payload_bytes_max = d->snapshot_bytes > config_bytes(config) ? d->snapshot_bytes : config_bytes(config);
    OC_TRY(oc_journal_create(&d->journal, d->options.folder, &start));
    OC_TRY(config_record(d, config));
    return start.first_record ? oc_desk_snapshot(d) : oc_journal_write(d->journal);
}

oc_status oc_desk_open(oc_desk **out, const oc_engine_config *config, const oc_desk_options *options)
{
    oc_desk *d;
    *out = NULL;
    OC_TRY(oc_path_make_folders(options->folder));
    OC_TRY(oc_desk_make(&d, config, options));
    oc_status status = oc_journal_lock(options->folder, &d->lock);
    if (status == OC_OK) status = oc_desk_segment(d, config, (oc_journal_start){.epoch = config->account.epoch});
    if (status == OC_OK)
        *out = d;
    else
        oc_desk_free(d);
    return status;
}

/* Cancels of what is open at the venue: not of the orders of this very input, which never left. */
static size_t cancels_only(const oc_desk *d, uint64_t sequence, oc_action *actions)
{
    size_t count = 0;
    for (uint32_t i = 0; i < oc_engine_order_count(d->engine); i++) {
        const oc_open_order *o = oc_engine_order(d->engine, i);
        if ((o->id >> 8 & OC_ORDER_SEQUENCE_MAX) == sequence) continue;
        actions[count++] = (oc_action){.order_id = o->id,
                                       .kind = OC_ACTION_CANCEL,
                                       .reason = OC_REASON_JOURNAL,
                                       .instrument = o->instrument,
                                       .side = o->side,
                                       .type = o->type,
                                       .price_ticks = o->price_ticks,
                                       .lots = o->lots - o->filled_lots,
                                       .state = OC_TRADING_HALTED};
    }
    return count;
}

oc_status oc_desk_apply(oc_desk *d, oc_input *input, oc_action *actions, size_t cap, size_t *count)
{
    *count = 0;
    if (d->failed) return OC_FAIL(OC_EFAILED, "%s: the journal failed; trading is halted", d->options.folder);
    input->sequence = oc_engine_next_sequence(d->engine);
    OC_TRY(oc_engine_apply(d->engine, input, actions, cap, count));
    oc_status status = oc_journal_add_input(d->journal, input, actions, *count);
    d->inputs++;
    if (status == OC_OK && d->options.snapshot_every && d->inputs % d->options.snapshot_every == 0)
        status = oc_desk_snapshot(d);
    if (status == OC_OK) return OC_OK;
    d->failed = true;
    *count = cancels_only(d, input->sequence, actions);
    return status;
}

oc_status oc_desk_snapshot(oc_desk *d)
{
    size_t bytes;
    OC_TRY(oc_engine_save(d->engine, d->snapshot, d->snapshot_bytes, &bytes));
    OC_TRY(oc_journal_add(d->journal, OC_JOURNAL_SNAPSHOT, d->snapshot, bytes));
    return oc_journal_write(d->journal);
}

const oc_engine *oc_desk_engine(const oc_desk *d)
{
    return d->engine;
}

oc_hash oc_desk_journal_hash(const oc_desk *d)
{
    return oc_journal_hash(d->journal);
}

oc_status oc_desk_end(oc_desk *d)
{
    if (d->failed) return OC_FAIL(OC_EFAILED, "%s: the journal failed; trading is halted", d->options.folder);
    d->failed = true; /* nothing may be added behind the end */
    OC_TRY(oc_journal_add(d->journal, OC_JOURNAL_END, NULL, 0));
    return oc_journal_sync(d->journal);
}

oc_status oc_desk_close(oc_desk *d, bool complete)
{
    oc_journal *journal = d->journal;
    bool failed = d->failed;
    d->journal = NULL;
    oc_status status = oc_journal_close(journal, complete && !failed);
    oc_desk_free(d);
    return status;
}
