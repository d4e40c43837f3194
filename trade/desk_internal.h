/* desk_internal.h - the desk's parts, between its live half (desk.c) and its reading half (desk_recover.c). */
#ifndef OC_TRADE_DESK_INTERNAL_H
#define OC_TRADE_DESK_INTERNAL_H

#include "trade/desk.h"

struct oc_desk {
    oc_desk_options options;
    oc_engine *engine;
    oc_journal *journal;
    void *storage;
    unsigned char *snapshot;
    size_t storage_bytes, snapshot_bytes;
    uint64_t inputs;
    int lock;                                  /* of the folder; -1: only read */
    bool failed;
};

/* make: no journal yet, no lock; segment: begins one. */
OC_MUST oc_desk_make(oc_desk **out, const oc_engine_config *config, const oc_desk_options *options);
void oc_desk_free(oc_desk *d);
OC_MUST oc_desk_segment(oc_desk *d, const oc_engine_config *config, oc_journal_start start);

#endif
