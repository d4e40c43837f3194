/* h5_write.c - the dataset's writer. A column collects one chunk in memory and hands it to HDF5 as it is (direct chunk
 * writes: no chunk cache, no copy); the last chunk is zero behind its rows. At commit the labels are computed symbol by
 * symbol, the addresses of all chunks become the seal's extents, and the sealed file is renamed. */
#include "datasets/dataset_writer.h"

#include <hdf5.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "datasets/h5_inside.h"
#include "datasets/seal.h"

typedef struct column {
    hid_t id;
    unsigned char *buffer;
    const char *name;
    size_t row_bytes, chunk_rows, buffered, dims;
    uint64_t rows;                               /* in the file; `buffered` more here */
} column;

typedef struct series {                          /* what labels need, kept in memory */
    int64_t *time_ns;
    double *mid, *spread;
    uint8_t *break_before;
    size_t rows, capacity[4];
} series;

typedef struct symbol {
    hid_t group;
    uint32_t number;                             /* order of the first rows */
    bool open;
    column columns[H5_COLUMNS_MAX];
    series s;
} symbol;

struct oc_dataset_writer {
    const oc_dataset_plan *plan;
    hid_t file, symbols_group;
    char path[OC_PATH_MAX], target[OC_PATH_MAX], temporary[OC_PATH_MAX];
    symbol *symbols;                             /* [plan->symbol_count] */
    uint32_t opened;
    uint64_t rows;
    oc_extent *extents;
    size_t extent_count, extent_capacity;
};

/* At least eight chunks of a large column, so that the last one wastes little; a small column is one chunk. */
static size_t chunk_rows(size_t row_bytes, uint64_t expected)
{
    uint64_t bytes = expected / 8 * row_bytes;
    if (expected < 16) expected = 16;
    if (bytes < H5_CHUNK_BYTES_MIN) bytes = H5_CHUNK_BYTES_MIN;
    if (bytes > H5_CHUNK_BYTES_MAX) bytes = H5_CHUNK_BYTES_MAX;
    uint64_t rows = bytes / row_bytes;
    if (rows > expected) rows = expected;
    return (size_t)rows;
}

static oc_status column_open(column *c, const oc_dataset_writer *w, hid_t group, int index, bool label)
{
    const h5_column_type *type = label ? &h5_label_columns[index] : &h5_columns[index];
    size_t width = label ? 1 : h5_column_width(index, w->plan->width);
    hsize_t dims[2] = {0, width}, max[2] = {H5S_UNLIMITED, width};
    c->name = type->name;
    c->row_bytes = width * type->element_bytes;
    c->chunk_rows = chunk_rows(c->row_bytes, w->plan->rows_expected);
    c->dims = type->wide ? 2 : 1;
    OC_TRY(oc_memory_new_array(&c->buffer, c->chunk_rows, c->row_bytes, "a chunk of the dataset"));
    hsize_t chunk[2] = {c->chunk_rows, width};
    hid_t space = H5Screate_simple((int)c->dims, dims, max), creation = H5Pcreate(H5P_DATASET_CREATE);
    errno = 0;
    c->id = -1;
    if (space >= 0 && creation >= 0 && H5Pset_obj_track_times(creation, 0) >= 0 &&
        H5Pset_chunk(creation, (int)c->dims, chunk) >= 0 && H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0)
        c->id =
            H5Dcreate2(group, type->name, h5_column_file_type(index, label), space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(creation);
    return c->id < 0 ? h5_fail(OC_EFAILED, w->path, type->name) : OC_OK;
}

static oc_status column_flush(column *c, const char *path)
{
    hsize_t at[2] = {c->rows, 0}, dims[2] = {c->rows + c->buffered, 0};
    if (c->buffered == 0) return OC_OK;
    hid_t space = H5Dget_space(c->id);
    hsize_t have[2] = {0, 0};
    errno = 0;
    H5_TRY(path, c->name, space);
    H5_TRY(path, c->name, H5Sget_simple_extent_dims(space, have, NULL));
    H5_TRY(path, c->name, H5Sclose(space));
    dims[1] = have[1];
    size_t used = c->buffered * c->row_bytes, whole = c->chunk_rows * c->row_bytes;
    memset(c->buffer + used, 0, whole - used);
    H5_TRY(path, c->name, H5Dset_extent(c->id, dims));
    H5_TRY(path, c->name, H5Dwrite_chunk(c->id, H5P_DEFAULT, 0, at, whole, c->buffer));
    c->rows += c->buffered;
    c->buffered = 0;
    return OC_OK;
}

static oc_status column_add(column *c, const void *data, size_t rows, const char *path)
{
    const unsigned char *from = data;
    while (rows > 0) {
        size_t room = c->chunk_rows - c->buffered, now = rows < room ? rows : room;
        memcpy(c->buffer + c->buffered * c->row_bytes, from, now * c->row_bytes);
        c->buffered += now;
        from += now * c->row_bytes;
        rows -= now;
        if (c->buffered == c->chunk_rows) OC_TRY(column_flush(c, path));
    }
    return OC_OK;
}

/* ---- what stands once in the file ---------------------------------------------------------------------------------
 */

static oc_status strings_write(hid_t group, const char *name, size_t rows, const char *first, size_t stride,
                               const char *path)
{
    size_t longest = 1;
    char *packed;
    hid_t type;
    for (size_t i = 0; i < rows; i++) {
        size_t length = strlen(first + i * stride);
        if (length > longest) longest = length;
    }
    OC_TRY(oc_memory_new_array(&packed, rows, longest, "text of the dataset"));
    for (size_t i = 0; i < rows; i++) memcpy(packed + i * longest, first + i * stride, strlen(first + i * stride));
    oc_status status = h5_string_type(&type, longest);
    if (status == OC_OK) {
        status = h5_small_write(group, name, type, rows, packed, path);
        H5Tclose(type);
    }
    oc_memory_free(packed);
    return status;
}

typedef struct feature_texts {                   /* of one feature; arrays of these are written column by column */
    char name[64], group[24], parameters[32], missing[12], source[96];
} feature_texts;

static oc_status features_write(const oc_dataset_writer *w)
{
    const oc_dataset_plan *p = w->plan;
    feature_texts *t;
    struct { uint32_t events[OC_FEATURES_MAX]; int64_t ns[OC_FEATURES_MAX]; float imputed[OC_FEATURES_MAX]; } *n;
    hid_t group = -1;
    oc_status status = oc_memory_new_array(&t, p->width, sizeof *t, "features");
    if (status == OC_OK) status = oc_memory_new(&n, sizeof *n, "features");
    if (status != OC_OK) goto done;
    for (size_t i = 0; i < p->width; i++) {
        const oc_feature_info *f = &p->features[i];
        memcpy(t[i].name, f->name, sizeof t[i].name);
        memcpy(t[i].parameters, f->parameters, sizeof t[i].parameters);
        snprintf(t[i].group, sizeof t[i].group, "%s", f->group_name ? f->group_name : "");
        snprintf(t[i].source, sizeof t[i].source, "%s", f->source ? f->source : "");
        snprintf(t[i].missing, sizeof t[i].missing, "%s", f->missing == OC_MISSING_REQUIRED ? "required" : "impute");
        n->events[i] = f->history_events;
        n->ns[i] = f->history_ns;
        n->imputed[i] = f->imputed;
    }
    OC_TRY_GOTO(status, done, h5_group_new(&group, w->file, "features", w->path));
    OC_TRY_GOTO(status, done, strings_write(group, "name", p->width, t[0].name, sizeof *t, w->path));
    OC_TRY_GOTO(status, done, strings_write(group, "group", p->width, t[0].group, sizeof *t, w->path));
    OC_TRY_GOTO(status, done, strings_write(group, "parameters", p->width, t[0].parameters, sizeof *t, w->path));
    OC_TRY_GOTO(status, done, strings_write(group, "missing", p->width, t[0].missing, sizeof *t, w->path));
    OC_TRY_GOTO(status, done, strings_write(group, "source", p->width, t[0].source, sizeof *t, w->path));
    OC_TRY_GOTO(status, done, h5_small_write(group, "history_events", H5T_STD_U32LE, p->width, n->events, w->path));
    OC_TRY_GOTO(status, done, h5_small_write(group, "history_ns", H5T_STD_I64LE, p->width, n->ns, w->path));
    OC_TRY_GOTO(status, done, h5_small_write(group, "imputed", H5T_IEEE_F32LE, p->width, n->imputed, w->path));
done:
    if (group >= 0) H5Gclose(group);
    oc_memory_free(t);
    oc_memory_free(n);
    return status;
}

static oc_status sources_write(const oc_dataset_writer *w, oc_hash *all)
{
    const oc_dataset_plan *p = w->plan;
    char (*hashes)[OC_HASH_TEXT];
    hid_t group;
    OC_TRY(oc_memory_new_array(&hashes, p->source_count, sizeof *hashes, "sources"));
    *all = (oc_hash){0, 0};
    for (size_t i = 0; i < p->source_count; i++) {
        oc_hash_text(p->sources[i].content, hashes[i]);
        *all = i ? oc_hash_pair(*all, p->sources[i].content) : p->sources[i].content;
    }
    oc_status status = h5_group_new(&group, w->file, "sources", w->path);
    if (status == OC_OK) {
        status = strings_write(group, "path", p->source_count, p->sources[0].path, sizeof *p->sources, w->path);
        if (status == OC_OK) status = strings_write(group, "hash", p->source_count, hashes[0], sizeof *hashes, w->path);
        H5Gclose(group);
    }
    oc_memory_free(hashes);
    return status;
}

static oc_status head_write(oc_dataset_writer *w)
{
    char text[OC_HASH_TEXT], zero[OC_SEAL_ROOT_BYTES] = {0};
    const oc_dataset_plan *p = w->plan;
    oc_hash sources;
    hid_t type;
    OC_TRY(h5_text_write(w->file, "format", "outcry-dataset", w->path));
    OC_TRY(h5_int_write(w->file, "version", H5_DATASET_VERSION, w->path));
    OC_TRY(h5_text_write(w->file, "schema", oc_hash_text(p->schema, text), w->path));
    OC_TRY(h5_text_write(w->file, "spread", p->spread_note, w->path));
    OC_TRY(h5_string_type(&type, OC_SEAL_ROOT_BYTES));
    oc_status status = h5_small_write(w->file, "root_hash", type, 0, zero, w->path);
    H5Tclose(type);
    if (status != OC_OK) return status;
    OC_TRY(h5_string_type(&type, strlen(p->config)));
    status = h5_small_write(w->file, "config", type, 0, p->config, w->path);
    H5Tclose(type);
    if (status != OC_OK) return status;
    OC_TRY(sources_write(w, &sources));
    OC_TRY(h5_text_write(w->file, "sources_hash", oc_hash_text(sources, text), w->path));
    OC_TRY(features_write(w));
    return h5_group_new(&w->symbols_group, w->file, "symbols", w->path);
}

static void writer_free(oc_dataset_writer *w)
{
    if (w->file >= 0) (void)H5Fclose(w->file);   /* strong: closes every identifier of the file */
    (void)H5Eclear2(H5E_DEFAULT);
    for (size_t i = 0; w->symbols && i < w->plan->symbol_count; i++) {
        symbol *s = &w->symbols[i];
        for (size_t c = 0; c < H5_COLUMNS_MAX; c++) oc_memory_free(s->columns[c].buffer);
        oc_memory_free(s->s.time_ns);
        oc_memory_free(s->s.mid);
        oc_memory_free(s->s.spread);
        oc_memory_free(s->s.break_before);
    }
    if (w->temporary[0]) unlink(w->temporary);
    oc_memory_free(w->symbols);
    oc_memory_free(w->extents);
    oc_memory_free(w);
}

oc_status oc_dataset_writer_open(oc_dataset_writer **out, const char *path, const oc_dataset_plan *plan)
{
    assert(out && path && plan && plan->width > 0 && plan->width <= OC_FEATURES_MAX && plan->source_count > 0);
    assert(plan->symbol_count > 0 && plan->label_count <= H5_LABELS_MAX && plan->config && plan->spread_note);
    *out = NULL;
    oc_dataset_writer *w;
    h5_quiet();
    OC_TRY(oc_memory_new(&w, sizeof *w, "dataset writer"));
    w->plan = plan;
    w->file = w->symbols_group = -1;
    oc_status status = oc_memory_new_array(&w->symbols, plan->symbol_count, sizeof *w->symbols, "symbols");
    if (status == OC_OK) status = oc_path_make_parent(path);
    if (status == OC_OK) status = oc_file_beside(path, w->target, w->temporary);
    if (status == OC_OK) {
        memcpy(w->path, path, strlen(path) + 1);
        status = h5_file_new(&w->file, w->temporary, path);
    }
    if (status == OC_OK) status = head_write(w);
    if (status != OC_OK) {
        writer_free(w);
        return status;
    }
    *out = w;
    return OC_OK;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------
 */

static oc_status symbol_open(oc_dataset_writer *w, size_t index)
{
    symbol *s = &w->symbols[index];
    if (strchr(w->plan->symbols[index], '/') || !w->plan->symbols[index][0])
        return OC_FAIL(OC_EDATA, "%s: symbol \"%s\" cannot name a group of the file", w->path, w->plan->symbols[index]);
    OC_TRY(h5_group_new(&s->group, w->symbols_group, w->plan->symbols[index], w->path));
    s->open = true;
    s->number = w->opened++;
    OC_TRY(h5_int_write(s->group, "index", s->number, w->path));
    for (int c = 0; c < H5_COLUMNS; c++) OC_TRY(column_open(&s->columns[c], w, s->group, c, false));
    return OC_OK;
}

static oc_status series_add(series *s, const oc_feature_row *row, bool break_before)
{
    OC_TRY(oc_memory_grow(&s->time_ns, &s->capacity[0], s->rows + 1, sizeof *s->time_ns, "times of a symbol"));
    OC_TRY(oc_memory_grow(&s->mid, &s->capacity[1], s->rows + 1, sizeof *s->mid, "mids of a symbol"));
    OC_TRY(oc_memory_grow(&s->spread, &s->capacity[2], s->rows + 1, sizeof *s->spread, "spreads of a symbol"));
    OC_TRY(oc_memory_grow(&s->break_before, &s->capacity[3], s->rows + 1, 1, "breaks of a symbol"));
    s->time_ns[s->rows] = row->time_ns;
    s->mid[s->rows] = row->mid;
    s->spread[s->rows] = row->spread;
    s->break_before[s->rows++] = break_before;
    return OC_OK;
}

oc_status oc_dataset_writer_row(oc_dataset_writer *w, size_t index, const oc_feature_row *row, bool break_before)
{
    assert(w && row && index < w->plan->symbol_count);
    symbol *s = &w->symbols[index];
    if (!s->open) OC_TRY(symbol_open(w, index));
    if (s->s.rows && row->time_ns < s->s.time_ns[s->s.rows - 1])
        return OC_FAIL(OC_EDATA, "%s: symbol %s: row %zu is earlier than the row before it", w->path,
                       w->plan->symbols[index], s->s.rows);
    OC_TRY(series_add(&s->s, row, break_before));
    const void *values[H5_COLUMNS] = {
        [H5_X] = row->x,       [H5_TIME] = &row->time_ns, [H5_RUN] = &row->run_length,
        [H5_MASK] = row->mask, [H5_MID] = &row->mid,      [H5_SPREAD] = &row->spread,
    };
    for (int c = 0; c < H5_COLUMNS; c++) OC_TRY(column_add(&s->columns[c], values[c], 1, w->path));
    w->rows++;
    return OC_OK;
}

uint64_t oc_dataset_writer_rows(const oc_dataset_writer *w)
{
    return w->rows;
}

/* ---- labels, extents, commit --------------------------------------------------------------------------------------
 */

static oc_status standard_label(void *context, const oc_label_rule *rule, const oc_label_series *s, size_t first,
                                size_t last, oc_label_columns *out)
{
    (void)context;
    return oc_label_compute(rule, s, first, last, out);
}

static oc_status label_fill(const oc_dataset_writer *w, symbol *s, const oc_label_rule *rule, column *columns)
{
    oc_label_columns out = {0};
    size_t rows = s->s.rows;
    const oc_label_series in = {s->s.time_ns, s->s.mid, s->s.spread, s->s.break_before, rows};
    oc_label_function label = w->plan->label ? w->plan->label : standard_label;
    oc_status status = OC_OK;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&out.class_, rows, sizeof *out.class_, "classes"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&out.valid, rows, sizeof *out.valid, "valid flags"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&out.known_ns, rows, sizeof *out.known_ns, "label times"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&out.return_, rows, sizeof *out.return_, "returns"));
    OC_TRY_GOTO(status, done, label(w->plan->label_context, rule, &in, 0, rows, &out));
    const void *values[H5_LABEL_COLUMNS] = {
        [H5_CLASS] = out.class_, [H5_VALID] = out.valid, [H5_KNOWN] = out.known_ns, [H5_RETURN] = out.return_};
    for (int c = 0; c < H5_LABEL_COLUMNS; c++)
        OC_TRY_GOTO(status, done, column_add(&columns[c], values[c], rows, w->path));
done:
    oc_memory_free(out.class_);
    oc_memory_free(out.valid);
    oc_memory_free(out.known_ns);
    oc_memory_free(out.return_);
    return status;
}

static oc_status labels_write(oc_dataset_writer *w, symbol *s)
{
    hid_t all, group;
    OC_TRY(h5_group_new(&all, s->group, "labels", w->path));
    for (size_t i = 0; i < w->plan->label_count; i++) {
        column *columns = &s->columns[H5_COLUMNS + i * H5_LABEL_COLUMNS];
        OC_TRY(h5_group_new(&group, all, w->plan->labels[i].text, w->path));
        OC_TRY(h5_int_write(group, "entry_delay_ns", w->plan->labels[i].entry_delay_ns, w->path));
        OC_TRY(h5_int_write(group, "index", (int64_t)i, w->path));
        for (int c = 0; c < H5_LABEL_COLUMNS; c++) OC_TRY(column_open(&columns[c], w, group, c, true));
        OC_TRY(label_fill(w, s, &w->plan->labels[i], columns));
        H5Gclose(group);
    }
    H5Gclose(all);
    return OC_OK;
}

static oc_status extents_add(oc_dataset_writer *w, const symbol *s, size_t index)
{
    const column *c = &s->columns[index];
    for (uint64_t row = 0; row < c->rows; row += c->chunk_rows) {
        hsize_t at[2] = {row, 0}, stored;
        unsigned filters;
        haddr_t address;
        errno = 0;
        H5_TRY(w->path, c->name, H5Dget_chunk_info_by_coord(c->id, at, &filters, &address, &stored));
        uint64_t rows = c->rows - row < c->chunk_rows ? c->rows - row : c->chunk_rows;
        OC_TRY(oc_memory_grow(&w->extents, &w->extent_capacity, w->extent_count + 1, sizeof *w->extents, "extents"));
        w->extents[w->extent_count++] = (oc_extent){.offset = address, .bytes = rows * c->row_bytes, .first_row = row,
                                                    .symbol = s->number, .column = (uint32_t)index};
    }
    return OC_OK;
}

static oc_status symbol_finish(oc_dataset_writer *w, symbol *s)
{
    size_t count = H5_COLUMNS + w->plan->label_count * H5_LABEL_COLUMNS;
    OC_TRY(labels_write(w, s));
    for (size_t c = 0; c < count; c++) {
        OC_TRY(column_flush(&s->columns[c], w->path));
        OC_TRY(extents_add(w, s, c));
        oc_memory_free(s->columns[c].buffer);
        s->columns[c].buffer = NULL;
        errno = 0;
        H5_TRY(w->path, s->columns[c].name, H5Dclose(s->columns[c].id));
    }
    return OC_OK;
}

static oc_status root_find(oc_dataset_writer *w, uint64_t *offset)
{
    hid_t d = H5Dopen2(w->file, "root_hash", H5P_DEFAULT);
    haddr_t at = d < 0 ? HADDR_UNDEF : H5Dget_offset(d);
    if (d >= 0) H5Dclose(d);
    if (at == HADDR_UNDEF) return h5_fail(OC_EFAILED, w->path, "root_hash");
    *offset = at;
    return OC_OK;
}

static oc_status finish(oc_dataset_writer *w, oc_hash *root)
{
    uint64_t rows[OC_INSTRUMENTS_MAX] = {0};
    oc_seal seal = {
        .symbol_count = w->opened, .width = (uint32_t)w->plan->width, .label_count = (uint32_t)w->plan->label_count};
    if (w->rows == 0) return OC_FAIL(OC_EDATA, "%s: there is no row to write", w->path);
    for (size_t i = 0; i < w->plan->symbol_count; i++) {
        if (!w->symbols[i].open) continue;
        rows[w->symbols[i].number] = w->symbols[i].s.rows;
        OC_TRY(symbol_finish(w, &w->symbols[i]));
    }
    OC_TRY(root_find(w, &seal.root_offset));
    hid_t file = w->file;
    w->file = -1;
    errno = 0;
    H5_TRY(w->path, "the end of the file", H5Fclose(file));
    seal.extent_count = w->extent_count;
    oc_status status = oc_seal_write(w->temporary, w->path, &seal, rows, w->extents);
    if (status == OC_OK) status = oc_file_replace(w->temporary, w->target);
    if (status == OC_OK) w->temporary[0] = '\0';
    if (root) *root = seal.root;
    oc_seal_free(&seal);
    return status;
}

oc_status oc_dataset_writer_commit(oc_dataset_writer *w, oc_hash *root)
{
    oc_status status = finish(w, root);
    writer_free(w);
    return status;
}

void oc_dataset_writer_abort(oc_dataset_writer *w)
{
    if (w) writer_free(w);
}
