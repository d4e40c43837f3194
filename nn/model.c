/* model.c - a bundle that answers: the inference half of graph.c, windows in pieces, softmax with the bundle's
 * temperature. A piece is at most PIECE windows, four register tiles, so that what a pass touches stays in L2 whatever
 * batch_max is (2 x 64, T 100, 1 MiB of L2: 80 % of the FMA peak with 18 or 24 windows, 78 % with 48, 75 % with 66).
 * A device with memory of its own gets the windows of a larger piece in one copy; up to OC_RECORDED_MAX of them, copies
 * and operations are one recording, made in open. More go call by call: their time is not that of the calls. */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "nn/model_parts.h"

enum { PIECE = 24, PIECE_APART = 1024 };

/* Exponent bits all set: infinity or NaN. Integer work, 64 numbers at a time, so that the compiler vectorises it. */
size_t oc_finite_prefix(const float *x, size_t count)
{
    enum { RUN = 64 };
    const uint32_t exponent = 0x7f800000u;
    size_t i = 0;
    for (; i + RUN <= count; i += RUN) {
        uint32_t bits[RUN], bad = 0;
        memcpy(bits, x + i, sizeof bits);
        for (int j = 0; j < RUN; j++) bad |= (bits[j] & exponent) == exponent;
        if (bad) break;
    }
    while (i < count && isfinite(x[i])) i++;
    return i;
}

static OC_MUST bundle_check(const oc_bundle *b)
{
    oc_parameters p;
    OC_TRY(oc_model_shape_check(&b->shape));
    oc_parameters_describe(&p, &b->shape);
    for (size_t i = 0; i < p.count; i++) {
        const size_t good = oc_finite_prefix(b->flat + p.row[i].first, p.row[i].count);
        if (good < p.row[i].count)
            return OC_FAIL(OC_EDATA, "model %s: %s[%zu] is not a finite number", b->name, p.row[i].name, good);
    }
    for (int i = 0; i < b->shape.horizons; i++)
        if (!((float)b->temperature[i] > 0.0f && b->temperature[i] < 1e6))
            return OC_FAIL(OC_EDATA, "model %s: temperature %d is %g, not above 0 and below 1e6", b->name, i,
                           b->temperature[i]);
    return OC_OK;
}

/* Packed weights; and what a device needs that does not see the host's memory. */
static OC_MUST store_fill(oc_model *m)
{
    const oc_model_shape *s = &m->bundle->shape;
    const size_t piece = (size_t)m->piece, packed = oc_graph_packed_bytes(m->graph);
    const size_t outputs = OC_CLASSES * (size_t)s->horizons, window = (size_t)s->steps * (size_t)s->inputs;
    oc_parameters p;
    oc_parameters_describe(&p, s);
    m->flat = m->bundle->flat;
    OC_TRY(oc_store_open(&m->store, oc_backend_describe(m->backend),
                         oc_store_bytes(packed, 1) + oc_store_bytes(p.total, sizeof(float)) +
                             oc_store_bytes(piece * window, sizeof(float)) +
                             oc_store_bytes(piece * outputs, sizeof(float))));
    OC_TRY(oc_store_take(&m->store, &m->packed, packed, 1, "packed weights"));
    if (!m->apart) return OC_OK;
    OC_TRY(oc_store_take(&m->store, &m->flat, p.total, sizeof *m->flat, "weights"));
    OC_TRY(oc_store_take(&m->store, &m->rows, piece * window, sizeof *m->rows, "windows"));
    OC_TRY(oc_store_take(&m->store, &m->answer, piece * outputs, sizeof *m->answer, "answers"));
    OC_TRY(
        oc_backend_pin(m->backend, piece * (window + outputs) * sizeof(float) + piece * sizeof(int64_t), &m->pinned));
    m->staged_index = m->pinned;
    m->staged = (float *)(m->staged_index + piece);
    m->answered = m->staged + piece * window;
    for (size_t i = 0; i < piece; i++) m->staged_index[i] = (int64_t)((i + 1) * (size_t)s->steps) - 1;
    OC_TRY(oc_store_put(&m->store, m->flat, m->bundle->flat, p.total * sizeof *m->flat));
    return OC_OK;
}

/* Staged windows -> staged answers: one upload, the graph, softmax, one download; nothing waits. */
static OC_MUST piece_enqueue(oc_model *m, int count)
{
    const oc_model_shape *s = &m->bundle->shape;
    const size_t window = (size_t)s->steps * (size_t)s->inputs, outputs = OC_CLASSES * (size_t)s->horizons;
    const oc_graph_batch batch = {.rows =
                                      oc_tensor_make(m->rows, OC_DTYPE_F32, (int64_t)count * s->steps, s->inputs, 1, 1),
                                  .index = m->staged_index,
                                  .count = count};
    const oc_tensor answer = oc_tensor_make(m->answer, OC_DTYPE_F32, count, s->horizons, OC_CLASSES, 1);
    oc_tensor logits;
    OC_TRY(oc_backend_upload(m->backend, batch.rows, m->staged, (size_t)count * window * sizeof *m->staged));
    OC_TRY(oc_graph_enqueue(m->graph, m->flat, m->packed, &batch, &logits));
    OC_TRY(oc_backend_ops(m->backend)->softmax(m->backend, s->horizons, m->temperature, logits, answer));
    OC_TRY(oc_backend_download(m->backend, m->answered, (size_t)count * outputs * sizeof(float), answer));
    return OC_OK;
}

/* Each size runs once before it is recorded. */
static OC_MUST recordings_make(oc_model *m)
{
    if (!m->apart || !oc_backend_describe(m->backend)->records) return OC_OK;
    for (int place = 0, size = 1; size <= m->piece && size <= OC_RECORDED_MAX; place++, size *= 2) {
        OC_TRY(piece_enqueue(m, size));
        OC_TRY(oc_backend_wait(m->backend));
        OC_TRY(oc_backend_record_begin(m->backend));
        const oc_status status = piece_enqueue(m, size);
        if (status != OC_OK) oc_backend_record_drop(m->backend);
        OC_TRY(status);
        OC_TRY(oc_backend_record_end(m->backend, &m->recording[place]));
        m->recorded = size;
    }
    return OC_OK;
}

static OC_MUST model_fill(oc_model *m, const oc_bundle *bundle, const oc_backend_config *config)
{
    const oc_model_shape *s = &bundle->shape;
    OC_TRY(oc_graph_open(&m->graph, config, s, NULL, bundle->mean, bundle->scale, bundle->clip, m->piece, false));
    m->backend = oc_graph_backend(m->graph);
    OC_TRY(store_fill(m));
    OC_TRY(oc_memory_new_array(&m->index, (size_t)m->piece, sizeof *m->index, "window index"));
    OC_TRY(oc_memory_new_array(&m->logits, (size_t)m->piece * OC_CLASSES * (size_t)s->horizons, sizeof *m->logits,
                               "logits"));
    for (int i = 0; i < s->horizons; i++) m->temperature[i] = (float)bundle->temperature[i];
    OC_TRY(oc_graph_pack(m->graph, m->flat, m->packed));
    OC_TRY(recordings_make(m));
    return OC_OK;
}

static OC_MUST apart_ask(const oc_backend_config *config, bool *apart)
{
    oc_backend_config probe = *config;
    oc_backend *b;
    probe.arena_bytes = 0;
    OC_TRY(oc_backend_open(&b, &probe));
    *apart = !oc_backend_describe(b)->shares_host_memory;
    oc_backend_close(b);
    return OC_OK;
}

oc_status oc_model_open(oc_model **out, const oc_bundle *bundle, const oc_backend_config *config, int batch_max)
{
    oc_model *m;
    assert(out && bundle && config);
    *out = NULL;
    OC_TRY(bundle_check(bundle));
    if (batch_max < 1)
        return OC_FAIL(OC_ELIMIT, "model %s: a batch of %d windows, not at least 1", bundle->name, batch_max);
    OC_TRY(oc_memory_new(&m, sizeof *m, "model"));
    m->bundle = bundle;
    oc_status status = apart_ask(config, &m->apart);
    const int piece = m->apart ? PIECE_APART : PIECE;
    int place;
    m->piece = batch_max < piece ? batch_max : piece;
    if (m->apart && m->piece < OC_RECORDED_MAX) m->piece = oc_recording_size(m->piece, &place);
    if (status == OC_OK) status = model_fill(m, bundle, config);
    if (status != OC_OK) {
        oc_model_close(m);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = m;
    return OC_OK;
}

void oc_model_close(oc_model *m)
{
    if (!m) return;
    assert(m->sliding_open == 0);
    for (int i = 0; i < OC_RECORDINGS && m->backend; i++) oc_backend_recording_free(m->backend, m->recording[i]);
    if (m->backend) oc_backend_unpin(m->backend, m->pinned);
    oc_graph_close(m->graph);
    oc_store_close(&m->store);
    oc_memory_free(m->index);
    oc_memory_free(m->logits);
    oc_memory_free(m);
}

const oc_bundle *oc_model_bundle(const oc_model *m)
{
    return m->bundle;
}

bool oc_model_lost(const oc_model *m)
{
    return oc_backend_lost(m->backend);
}

const oc_backend_info *oc_model_backend(const oc_model *m)
{
    return oc_backend_describe(m->backend);
}

/* Every window lies within the rows and holds only finite numbers. */
static OC_MUST windows_check(const oc_model *m, const float *rows, size_t row_count, const int64_t *last_row,
                             size_t first, size_t count)
{
    const oc_model_shape *s = &m->bundle->shape;
    const size_t steps = (size_t)s->steps, inputs = (size_t)s->inputs;
    for (size_t i = 0; i < count; i++) {
        const int64_t last = last_row[i];
        if (!(last >= s->steps - 1 && (uint64_t)last < row_count))
            return OC_FAIL(OC_EDATA,
                           "window %zu ends at row %lld, but windows of %d steps in %zu rows end at rows %d to %lld",
                           first + i, (long long)last, s->steps, row_count, s->steps - 1, (long long)row_count - 1);
        const float *window = rows + ((size_t)last + 1 - steps) * inputs;
        const size_t good = oc_finite_prefix(window, steps * inputs);
        if (good < steps * inputs)
            return OC_FAIL(OC_EDATA, "window %zu: step %zu, feature %zu (%.63s) is not a finite number", first + i,
                           good / inputs, good % inputs, m->bundle->features[good % inputs]);
    }
    return OC_OK;
}

/* The windows side by side, for one copy. */
static void piece_stage(oc_model *m, const float *rows, const int64_t *last_row, size_t count)
{
    const size_t inputs = (size_t)m->bundle->shape.inputs, steps = (size_t)m->bundle->shape.steps;
    const size_t window = steps * inputs;
    for (size_t i = 0; i < count; i++)
        memcpy(m->staged + i * window, rows + ((size_t)last_row[i] + 1 - steps) * inputs, window * sizeof *m->staged);
}

static OC_MUST piece_logits(oc_model *m, const float *rows, size_t row_count, const int64_t *last_row, size_t count,
                            float *logits, float *attention)
{
    const oc_model_shape *s = &m->bundle->shape;
    union {
        const float *in;
        float *out;
    } borrowed = {.in = rows};
    oc_graph_batch batch = {.rows = oc_tensor_make(borrowed.out, OC_DTYPE_F32, (int64_t)row_count, s->inputs, 1, 1),
                            .index = last_row,
                            .count = (int)count};
    if (m->apart) {
        piece_stage(m, rows, last_row, count);
        batch.rows = oc_tensor_make(m->rows, OC_DTYPE_F32, (int64_t)count * s->steps, s->inputs, 1, 1);
        batch.index = m->staged_index;
        OC_TRY(oc_backend_upload(m->backend, batch.rows, m->staged,
                                 (size_t)oc_tensor_count(batch.rows) * sizeof *m->staged));
    }
    OC_TRY(oc_graph_logits(m->graph, m->flat, m->packed, &batch, logits, attention));
    return OC_OK;
}

oc_status oc_model_logits_rows(oc_model *m, const float *rows, size_t row_count, const int64_t *last_row,
                               size_t windows, float *logits, size_t logits_cap)
{
    const size_t outputs = (size_t)m->bundle->shape.horizons * OC_CLASSES, piece = (size_t)m->piece;
    assert(logits_cap / outputs >= windows);
    (void)logits_cap;
    for (size_t i = 0; i < windows; i += piece) {
        const size_t count = windows - i < piece ? windows - i : piece;
        OC_TRY(windows_check(m, rows, row_count, last_row + i, i, count));
        OC_TRY(piece_logits(m, rows, row_count, last_row + i, count, logits + i * outputs, NULL));
    }
    return OC_OK;
}

static OC_MUST piece_softmax(oc_model *m, size_t count, float *probabilities)
{
    const int horizons = m->bundle->shape.horizons;
    const oc_tensor logits = oc_tensor_make(m->logits, OC_DTYPE_F32, (int64_t)count, horizons, OC_CLASSES, 1);
    oc_tensor answer = logits;
    answer.data = probabilities;
    OC_TRY(oc_backend_ops(m->backend)->softmax(m->backend, horizons, m->temperature, logits, answer));
    OC_TRY(oc_backend_wait(m->backend));
    return OC_OK;
}

/* At most `recorded` windows by one replay, filled up with what lay there before. */
static OC_MUST piece_answer_apart(oc_model *m, const float *rows, const int64_t *last_row, size_t count,
                                  float *probabilities)
{
    const size_t outputs = OC_CLASSES * (size_t)m->bundle->shape.horizons;
    int place;
    piece_stage(m, rows, last_row, count);
    if ((int)count <= m->recorded) {
        (void)oc_recording_size((int)count, &place);
        OC_TRY(oc_backend_replay(m->backend, m->recording[place]));
    } else
        OC_TRY(piece_enqueue(m, (int)count));
    OC_TRY(oc_backend_wait(m->backend));
    memcpy(probabilities, m->answered, count * outputs * sizeof *probabilities);
    return OC_OK;
}

static OC_MUST piece_answer(oc_model *m, const float *rows, size_t row_count, const int64_t *last_row, size_t count,
                            float *probabilities)
{
    if (m->apart) {
        OC_TRY(piece_answer_apart(m, rows, last_row, count, probabilities));
        return OC_OK;
    }
    OC_TRY(piece_logits(m, rows, row_count, last_row, count, m->logits, NULL));
    OC_TRY(piece_softmax(m, count, probabilities));
    return OC_OK;
}

oc_status oc_model_predict_rows(oc_model *m, const float *rows, size_t row_count, const int64_t *last_row,
                                size_t windows, float *probabilities, size_t probabilities_cap)
{
    const size_t outputs = (size_t)m->bundle->shape.horizons * OC_CLASSES, piece = (size_t)m->piece;
    assert(probabilities_cap / outputs >= windows);
    (void)probabilities_cap;
    for (size_t i = 0; i < windows; i += piece) {
        const size_t count = windows - i < piece ? windows - i : piece;
        OC_TRY(windows_check(m, rows, row_count, last_row + i, i, count));
        OC_TRY(piece_answer(m, rows, row_count, last_row + i, count, probabilities + i * outputs));
    }
    return OC_OK;
}

oc_status oc_model_predict(oc_model *m, const float *rows_raw, size_t windows, float *probabilities,
                           size_t probabilities_cap)
{
    const size_t outputs = (size_t)m->bundle->shape.horizons * OC_CLASSES, piece = (size_t)m->piece;
    const size_t steps = (size_t)m->bundle->shape.steps;
    assert(probabilities_cap / outputs >= windows);
    (void)probabilities_cap;
    for (size_t i = 0; i < windows; i += piece) {
        const size_t count = windows - i < piece ? windows - i : piece, rows = windows * steps;
        for (size_t j = 0; j < count; j++) m->index[j] = (int64_t)((i + j + 1) * steps) - 1;
        OC_TRY(windows_check(m, rows_raw, rows, m->index, i, count));
        OC_TRY(piece_answer(m, rows_raw, rows, m->index, count, probabilities + i * outputs));
    }
    return OC_OK;
}

oc_status oc_model_explain(oc_model *m, const float *rows_raw, float *attention, size_t attention_cap)
{
    const oc_model_shape *s = &m->bundle->shape;
    const int64_t last = s->steps - 1;
    if (s->heads == 0) return OC_FAIL(OC_EUSAGE, "model %s has no attention to show", m->bundle->name);
    assert(attention_cap >= (size_t)s->heads * (size_t)s->steps);
    (void)attention_cap;
    OC_TRY(windows_check(m, rows_raw, (size_t)s->steps, &last, 0, 1));
    OC_TRY(piece_logits(m, rows_raw, (size_t)s->steps, &last, 1, m->logits, attention));
    return OC_OK;
}
