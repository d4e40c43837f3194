/* fuzz_journal.c - any bytes as a segment of a journal: no crash, no hang; what is read is within the bytes, and inputs
 * that are read can be applied. The first bytes may be repaired (header check), so that the fuzzer gets behind it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trade/desk.h"
#include "trade/journal_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { ENGINE_BYTES = 1 << 16 };

static oc_engine *engine_start(void)
{
    static _Alignas(64) unsigned char memory[ENGINE_BYTES];
    oc_engine_market market;
    oc_engine_config config = {.market = &market, .markets = 1};
    oc_engine *e;
    oc_engine_account_default(&config.account);
    oc_engine_market_default(&market);
    if (oc_engine_init(&e, memory, sizeof memory, &config) != OC_OK) abort();
    return e;
}

/* Head checks and chain as a writer would have made them: what lies behind is to be looked at as well. */
static void repair(unsigned char *bytes, size_t count)
{
    oc_journal_header h;
    uint64_t check = 0, number = 0;
    if (count < sizeof h) return;
    memcpy(&h, bytes, sizeof h);
    memcpy(h.magic, "OCJOURNL", sizeof h.magic);
    h.version = OC_JOURNAL_VERSION;
    h.segment = 0;
    h.first_record = h.previous_check = 0;
    h.check = journal_header_check(&h);
    memcpy(bytes, &h, sizeof h);
    for (size_t at = sizeof h; at + sizeof(oc_journal_record) <= count;) {
        oc_journal_record r;
        memcpy(&r, bytes + at, sizeof r);
        r.number = number++;
        r.kind = 1 + r.kind % (OC_JOURNAL_KIND_END - 1);
        r.bytes %= 512;
        r.head_check = journal_head_check(&r);
        if (count - at - sizeof r < r.bytes) break;
        r.check = check;
        memcpy(bytes + at, &r, sizeof r);
        check = oc_hash_bytes(bytes + at, sizeof r + r.bytes).low;
        memcpy(bytes + at + offsetof(oc_journal_record, check), &check, sizeof check);
        at += sizeof r + r.bytes;
    }
}

static void records_read(const unsigned char *bytes, size_t count)
{
    static oc_action actions[OC_ACTIONS_MAX], answers[OC_ACTIONS_MAX];
    oc_journal_reader r = {.map = {bytes, count}, .path = "fuzz"};
    oc_journal_item item;
    oc_engine *e = engine_start();
    bool more = true;
    if (count < OC_JOURNAL_HEADER_BYTES) return;
    memcpy(&r.header, bytes, sizeof r.header);
    r.at = OC_JOURNAL_HEADER_BYTES;
    while (oc_journal_reader_next(&r, &item, &more) == OC_OK && more) {
        oc_input input;
        size_t recorded, answered;
        if (item.payload < bytes || item.payload + item.bytes > bytes + count) abort();
        if (item.kind == OC_JOURNAL_SNAPSHOT && oc_engine_load(e, item.payload, item.bytes) == OC_OK) abort();
        if (item.kind != OC_JOURNAL_INPUT) continue;
        if (oc_journal_input_read(&item, &input, actions, OC_ACTIONS_MAX, &recorded) != OC_OK) continue;
        if (oc_engine_apply(e, &input, answers, OC_ACTIONS_MAX, &answered) != OC_OK) abort();
        if (oc_engine_absorb(e, &input, actions, recorded) != OC_OK) e = engine_start();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static unsigned char copy[1 << 16];
    size_t count = bytes < sizeof copy ? bytes : sizeof copy;
    if (count == 0) return 0;
    records_read(data, bytes);
    memcpy(copy, data, count);
    repair(copy, count);
    records_read(copy, count);
    return 0;
}
