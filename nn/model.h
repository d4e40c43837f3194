/* model.h - a loaded bundle that answers. Weights immutable, packed once; all memory taken in open, none after.
 * The bits of an answer do not depend on what it was batched with, nor on the instruction set, nor on whether the
 * window came whole or by pushes (oc_sliding). */
#ifndef OC_NN_MODEL_H
#define OC_NN_MODEL_H

#include "nn/bundle.h"

typedef struct oc_model oc_model;
/* The bundle outlives the model. */
OC_MUST oc_model_open(oc_model **out, const oc_bundle *bundle, const oc_backend_config *config, int batch_max);
void oc_model_close(oc_model *m); /* no sliding windows may be open on it (asserted) */
const oc_bundle *oc_model_bundle(const oc_model *m);
const oc_backend_info *oc_model_backend(const oc_model *m);
bool oc_model_lost(const oc_model *m);         /* oc_backend_lost: nothing it is asked succeeds any more */
/* rows_raw [windows,T,F] raw: the scaler is inside -> probabilities [windows,horizons,3] buy, sell, hold.
 * windows of any number: done in pieces of batch_max. */
OC_MUST oc_model_predict(oc_model *m, const float *rows_raw, size_t windows, float *probabilities,
                         size_t probabilities_cap);
/* Windows gathered by the index of their last row from rows [row_count,F]; no copy of windows is made. */
OC_MUST oc_model_predict_rows(oc_model *m, const float *rows, size_t row_count, const int64_t *last_row, size_t windows,
                              float *probabilities, size_t probabilities_cap);
/* Before temperature: [windows,horizons*3]. */
OC_MUST oc_model_logits_rows(oc_model *m, const float *rows, size_t row_count, const int64_t *last_row, size_t windows,
                             float *logits, size_t logits_cap);
/* The attention of one window: [heads,T]. */
OC_MUST oc_model_explain(oc_model *m, const float *rows_raw, float *attention, size_t attention_cap);

/* Staggered windows: a slot (one session) holds T windows that began one row apart; a new row completes the oldest, and
 * is due in the others until an advance. The windows stand in blocks, each at a row of its own, so that an advance can
 * be left at any piece and taken up later; no bit of an answer depends on when and how much was advanced. */
typedef struct oc_sliding oc_sliding;
size_t oc_sliding_bytes(const oc_model *m, size_t slot_max);
OC_MUST oc_sliding_open(oc_sliding **out, oc_model *m, size_t slot_max);
/* CUDA, f32, before the first row: steps of up to OC_RESIDENT_ROWS slots go by a kernel that stays on the device
 * (kernels/resident.h), with the same bits; more at once, and all where it is away, by recordings. One that does not
 * answer within bound_ns is not asked again, said once in the log; states are unharmed. OC_ELIMIT where it does not
 * fit. An experiment: not run on a GPU. */
OC_MUST oc_sliding_reside(oc_sliding *s, int64_t bound_ns);
bool oc_sliding_resides(const oc_sliding *s); /* and it answers, as far as is known */
bool oc_sliding_ping(oc_sliding *s);          /* the bare way to that kernel and back; false: it did not answer */
void oc_sliding_close(oc_sliding *s);
/* Critical path: one new raw row for each of n slots, each once -> the answer of the window that this row completes.
 * Where fewer than T rows are there, full[i] = 0 and the three probabilities are 0, 0, 1 (hold). What this window still
 * lacks of the rows before is done first, and what is due of the oldest of 16 rows that are kept. */
OC_MUST oc_sliding_step(oc_sliding *s, const uint32_t *slots, const float *rows_raw, size_t n, float *probabilities,
                        size_t probabilities_cap, uint8_t *full);
/* Between ticks: all other windows of the slots, each once, consume what is due. A refused call, of any kind, changes
 * no slot; one is refused that has nothing due. */
OC_MUST oc_sliding_advance(oc_sliding *s, const uint32_t *slots, size_t n);
/* A piece of it: a row in a block of one slot, the window that the next row completes first. On the CPU 6 windows (of
 * 99, 3 us of 50 with 2 layers of 64 units), on a device all. */
OC_MUST oc_sliding_advance_some(oc_sliding *s, uint32_t slot);
OC_MUST oc_sliding_hasten(oc_sliding *s, uint32_t slot);                      /* what the next step would do first */
bool oc_sliding_due(const oc_sliding *s, uint32_t slot);                      /* whether there is a piece to be done */
/* From stored rows; where one of them is refused, the slot is left as after a reset. */
OC_MUST oc_sliding_rebuild(oc_sliding *s, uint32_t slot, const float *rows_raw, size_t rows);
void oc_sliding_reset(oc_sliding *s, uint32_t slot); /* gap or invalid row */

#endif
