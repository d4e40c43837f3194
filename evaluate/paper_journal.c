/* paper_journal.c - the figures of a session that was interrupted: its whole journal once more through engine and
 * tally, from the first input, because what was counted before the interruption is gone with the process. Predictions
 * are counted too: those that the engine was given. */
#include "base/file.h"
#include "base/memory.h"
#include "evaluate/backtest_parts.h"

typedef struct again {
    backtest *b;
    oc_engine *engine;
    bool same_build; /* decided again; else what was recorded is taken over */
    bool all_same;
    oc_action recorded[OC_ACTIONS_MAX], decided[OC_ACTIONS_MAX];
} again;

static oc_status input_again(again *a, const oc_journal_item *item)
{
    oc_input input;
    size_t count, ignored;
    OC_TRY(oc_journal_input_read(item, &input, a->recorded, OC_ACTIONS_MAX, &count));
    oc_tally_mark mark = oc_tally_before(a->engine, &input);
    if (a->same_build)
        OC_TRY(oc_engine_apply(a->engine, &input, a->decided, OC_ACTIONS_MAX, &ignored));
    else
        OC_TRY(oc_engine_absorb(a->engine, &input, a->recorded, count));
    a->b->loop.predictions += input.kind == OC_INPUT_PREDICTION;
    oc_tally_after(&a->b->tally, a->engine, &input, &mark, a->recorded, count);
    return OC_OK;
}

static oc_status segment_again(again *a, uint32_t segment)
{
    oc_journal_reader r;
    oc_journal_item item;
    bool more = true;
    OC_TRY(oc_journal_reader_open(&r, a->b->out, segment));
    a->same_build = oc_hash_equal(r.header.build, backtest_desk_options(a->b).build);
    a->all_same = a->all_same && (a->same_build || r.header_torn);
    oc_status status = OC_OK;
    while (status == OC_OK && !r.header_torn) {
        status = oc_journal_reader_next(&r, &item, &more);
        if (status != OC_OK || !more) break;
        if (item.kind == OC_JOURNAL_INPUT) status = input_again(a, &item);
    }
    oc_journal_reader_close(&r);
    return status;
}

static oc_status all_again(again *a)
{
    char path[OC_PATH_MAX];
    for (uint32_t segment = 0;; segment++) {
        OC_TRY(oc_journal_path(path, sizeof path, a->b->out, segment));
        if (!oc_path_exists(path)) return OC_OK;
        OC_TRY(segment_again(a, segment));
    }
}

oc_status backtest_tally_again(backtest *b)
{
    again *a = NULL;
    void *memory = NULL;
    size_t bytes = oc_engine_bytes(&b->setup.engine);
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new(&a, sizeof *a, "the journal again"));
    OC_TRY_GOTO(status, done, oc_memory_new(&memory, bytes, "the journal again"));
    OC_TRY_GOTO(status, done, oc_engine_init(&a->engine, memory, bytes, &b->setup.engine));
    a->b = b;
    a->all_same = true;
    backtest_tally_open(b);
    b->loop.predictions = 0;
    OC_TRY_GOTO(status, done, all_again(a));
    if (a->all_same && !oc_hash_equal(oc_engine_state_hash(a->engine), oc_engine_state_hash(oc_desk_engine(b->desk))))
        OC_TRY_GOTO(status, done,
                    OC_FAIL(OC_EDATA, "%s: the journal does not lead to the state that the session ended in", b->out));
    oc_tally_finish(&b->tally, a->engine);
done:
    oc_memory_free(a);
    oc_memory_free(memory);
    return status;
}
