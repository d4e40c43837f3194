/* recorded.h - the simulated exchange with a record of its own, so that it outlives the process as a real one would:
 * an append-only file of what it was told (connects, orders, cancels, queries) and of every numbered message it gave,
 * each written when it happens. It is the venue's word, kept apart from our journal, and the two can be compared.
 *
 * Going on: the events that lie behind are given to it again, with what it was told at its places, and it must give the
 * same messages. What is written last and not whole never reached the venue. From connect on it answers and records.
 *
 * File: records of 96 bytes, little-endian: check (8), events seen before (8), time_ns (8), kind (4), 0 (4), body (64).
 * kind 1 header {"OCVENUE1", hash of the venue's configuration}, 2 connect, 3 action, 4 message. check: low 64 bits of
 * XXH3-128 of the record with the check of the one before it in its place. */
#ifndef OC_TRADE_VENUES_RECORDED_H
#define OC_TRADE_VENUES_RECORDED_H

#include "trade/venues/simulated.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_recorded oc_recorded;

/* resume false: the file must not exist. resume true: it is read where it exists; OC_EDATA names a record that is not
 * as it was written, or was made under another configuration. */
OC_MUST oc_recorded_open(oc_recorded **out, const oc_simulated_config *config, const char *path, bool resume);
void oc_recorded_close(oc_recorded *r);
oc_venue oc_recorded_venue(oc_recorded *r);        /* r outlives it */
int64_t oc_recorded_last_ns(const oc_recorded *r); /* of the last record that was read; 0: there was none */
uint64_t oc_recorded_count(const oc_recorded *r);  /* records that were read */

#ifdef __cplusplus
}
#endif
#endif
