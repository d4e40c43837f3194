/* h5_read.c - the dataset's reader. Order matters: footer and tables; one pass that hashes every byte of the file and
 * puts the rows where they belong; only then does libhdf5 parse the metadata, which must agree with the seal's extents
 * chunk by chunk; then every value is looked at. All columns lie in one mapping that asks for huge pages. */
#include <hdf5.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "datasets/dataset.h"
#include "datasets/h5_inside.h"
#include "datasets/seal.h"

enum { LOAD_THREADS_MAX = 4, CONFIG_BYTES_MAX = 1 << 20, SOURCES_MAX = 65536 };

typedef struct whole {                           /* what stands behind an oc_dataset */
    oc_dataset d;                                /* first: closed by its address */
    unsigned char *base;
    size_t bytes;
    unsigned char *columns[H5_COLUMNS_MAX];
    size_t row_bytes[H5_COLUMNS_MAX];
    size_t column_count;
    oc_seal seal;
    int fd;
    hid_t file;
} whole;

/* ---- memory and extents -------------------------------------------------------------------------------------------
 */

static oc_status shape_check(whole *w, const char *path)
{
    const oc_seal *s = &w->seal;
    uint64_t rows = 0, bytes_per_row = 0;
    if (s->width < 1 || s->width > OC_FEATURES_MAX || s->label_count > H5_LABELS_MAX || s->symbol_count < 1)
        return OC_FAIL(OC_EDATA, "%s: its seal names %u symbols, %u features, %u labels: no dataset of this format",
                       path, s->symbol_count, s->width, s->label_count);
    w->column_count = H5_COLUMNS + s->label_count * H5_LABEL_COLUMNS;
    for (size_t c = 0; c < w->column_count; c++) {
        bool label = c >= H5_COLUMNS;
        const h5_column_type *type = label ? &h5_label_columns[(c - H5_COLUMNS) % H5_LABEL_COLUMNS] : &h5_columns[c];
        w->row_bytes[c] = type->element_bytes * (label ? 1 : h5_column_width((int)c, s->width));
        bytes_per_row += w->row_bytes[c];
    }
    for (uint32_t i = 0; i < s->symbol_count; i++) {
        if (s->symbol_rows[i] == 0 || s->symbol_rows[i] > s->h5_bytes / bytes_per_row - rows)
            return OC_FAIL(OC_EDATA, "%s: its seal names more rows than the file can hold", path);
        rows += s->symbol_rows[i];
    }
    w->d.rows = rows;
    w->d.width = s->width;
    w->d.symbol_count = s->symbol_count;
    w->d.label_count = s->label_count;
    w->d.root = s->root;
    return OC_OK;
}

static oc_status extents_check(const whole *w, const char *path)
{
    const oc_seal *s = &w->seal;
    for (uint64_t i = 0; i < s->extent_count; i++) {
        const oc_extent *x = &s->extents[i];
        if (x->column >= w->column_count || x->offset % H5_ALIGNMENT != 0 || x->bytes % w->row_bytes[x->column] != 0 ||
            x->first_row >= s->symbol_rows[x->symbol] ||
            x->bytes / w->row_bytes[x->column] > s->symbol_rows[x->symbol] - x->first_row)
            return OC_FAIL(OC_EDATA, "%s: extent %llu of its seal lies outside its column or is not aligned", path,
                           (unsigned long long)i);
    }
    return OC_OK;
}

/* One mapping for all columns: fresh pages are zero, and huge ones halve the time of a load. */
static oc_status columns_new(whole *w)
{
    oc_dataset *d = &w->d;
    size_t at = 0;
    for (size_t c = 0; c < w->column_count; c++) at += oc_align_up(d->rows * w->row_bytes[c]);
    w->bytes = at;
    void *base = mmap(NULL, at, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return OC_FAIL(OC_EMEMORY, "%s: no memory for its %zu bytes", d->path, at);
    w->base = base;
    (void)madvise(base, at, MADV_HUGEPAGE);      /* refused by some kernels: only slower */
    at = 0;
    for (size_t c = 0; c < w->column_count; c++) {
        w->columns[c] = w->base + at;
        at += oc_align_up(d->rows * w->row_bytes[c]);
    }
    d->x = (const float *)(const void *)w->columns[H5_X];
    d->time_ns = (const int64_t *)(const void *)w->columns[H5_TIME];
    d->run_length = (const uint32_t *)(const void *)w->columns[H5_RUN];
    d->mask = (const uint64_t *)(const void *)w->columns[H5_MASK];
    d->mid = (const double *)(const void *)w->columns[H5_MID];
    d->spread = (const double *)(const void *)w->columns[H5_SPREAD];
    for (size_t i = 0; i < d->label_count; i++) {
        unsigned char **of = &w->columns[H5_COLUMNS + i * H5_LABEL_COLUMNS];
        d->labels[i].class_ = (const int8_t *)of[H5_CLASS];
        d->labels[i].valid = of[H5_VALID];
        d->labels[i].known_ns = (const int64_t *)(const void *)of[H5_KNOWN];
        d->labels[i].return_ = (const float *)(const void *)of[H5_RETURN];
    }
    return OC_OK;
}

static void *extent_place(void *context, const oc_extent *x)
{
    const whole *w = context;
    return w->columns[x->column] + (w->d.symbols[x->symbol].first + x->first_row) * w->row_bytes[x->column];
}

/* All exponent bits set: infinite or NaN. One more in the exponent then reaches the sign's bit; sums and ors, so that
 * the loop vectorises without compares. */
static bool extent_finite(void *context, const oc_extent *x, const void *data, size_t bytes)
{
    (void)context;
    const unsigned char *at = data;
    uint32_t bad = 0;
    if (x->column != H5_X) return true;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t word;
        memcpy(&word, at + i, 4);
        bad |= (word & 0x7FFFFFFFu) + 0x00800000u;
    }
    return bad >> 31 == 0;
}

static oc_status columns_load(whole *w, bool *finite)
{
    const oc_seal_sink sink = {w, extent_place, extent_finite};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = cores < 1 ? 1 : cores > LOAD_THREADS_MAX ? LOAD_THREADS_MAX : (int)cores;
    return oc_seal_load(&w->seal, w->fd, w->d.path, &sink, threads, finite);
}

/* ---- metadata -----------------------------------------------------------------------------------------------------
 */

/* The chunks of a column are exactly the seal's extents, and its type and shape are those of the format. */
static oc_status column_agrees(const whole *w, hid_t group, uint32_t symbol, size_t index, const char *where)
{
    bool label = index >= H5_COLUMNS;
    int at = (int)(label ? (index - H5_COLUMNS) % H5_LABEL_COLUMNS : index);
    const h5_column_type *type = label ? &h5_label_columns[at] : &h5_columns[at];
    hsize_t dims[2] = {0, 1}, chunks = 0, expected = 0;
    hid_t d;
    OC_TRY(h5_dataset_open(&d, group, type->name, where));
    hid_t space = H5Dget_space(d), have = H5Dget_type(d), creation = H5Dget_create_plist(d);
    int rank = type->wide ? 2 : 1;
    bool good = space >= 0 && have >= 0 && creation >= 0 && H5Tequal(have, h5_column_file_type(at, label)) > 0 &&
                H5Sget_simple_extent_ndims(space) == rank && H5Sget_simple_extent_dims(space, dims, NULL) == rank &&
                dims[0] == w->seal.symbol_rows[symbol] &&
                dims[1] == (label ? 1 : h5_column_width((int)index, w->d.width)) &&
                H5Pget_layout(creation) == H5D_CHUNKED && H5Dget_num_chunks(d, space, &chunks) >= 0;
    for (uint64_t i = 0; good && i < w->seal.extent_count; i++) {
        const oc_extent *x = &w->seal.extents[i];
        if (x->symbol != symbol || x->column != index) continue;
        hsize_t coordinate[2] = {x->first_row, 0}, stored = 0;
        unsigned filters = 0;
        haddr_t address = HADDR_UNDEF;
        good = H5Dget_chunk_info_by_coord(d, coordinate, &filters, &address, &stored) >= 0 && address == x->offset &&
               stored >= x->bytes && filters == 0;
        expected++;
    }
    if (space >= 0) H5Sclose(space);
    if (have >= 0) H5Tclose(have);
    if (creation >= 0) H5Pclose(creation);
    H5Dclose(d);
    if (!good || chunks != expected)
        return OC_FAIL(OC_EDATA, "%s: %s of symbol %u has not the type, shape and chunks that the seal names", where,
                       type->name, symbol);
    return OC_OK;
}

/* Every row of every column stands in exactly one extent: with column_agrees, chunks are distinct, so the sum says it.
 */
static oc_status cover_check(const whole *w)
{
    for (uint32_t s = 0; s < w->seal.symbol_count; s++) {
        for (size_t c = 0; c < w->column_count; c++) {
            uint64_t bytes = 0;
            for (uint64_t i = 0; i < w->seal.extent_count; i++)
                if (w->seal.extents[i].symbol == s && w->seal.extents[i].column == c) bytes += w->seal.extents[i].bytes;
            if (bytes != w->seal.symbol_rows[s] * w->row_bytes[c])
                return OC_FAIL(OC_EDATA, "%s: rows of symbol %u are missing from the file", w->d.path, s);
        }
    }
    return OC_OK;
}

static oc_status label_read(whole *w, hid_t all, uint32_t symbol, size_t link)
{
    char name[96];
    int64_t index, delay;
    oc_label_rule rule;
    hid_t group;
    OC_TRY(h5_link_name(all, link, name, sizeof name, w->d.path));
    OC_TRY(h5_group_read(&group, all, name, w->d.path));
    OC_TRY(h5_int_read(group, "index", 0, (int64_t)w->d.label_count - 1, &index, w->d.path));
    OC_TRY(h5_int_read(group, "entry_delay_ns", 0, INT64_MAX, &delay, w->d.path));
    if (oc_label_parse(&rule, name, delay) != OC_OK) return oc_status_prefix(OC_EDATA, "%s", w->d.path);
    oc_label_rule *have = &w->d.labels[index].rule;
    if (have->text[0] && (strcmp(have->text, rule.text) != 0 || have->entry_delay_ns != delay))
        return OC_FAIL(OC_EDATA, "%s: label %s: two labels of one number", w->d.path, name);
    *have = rule;
    for (int c = 0; c < H5_LABEL_COLUMNS; c++)
        OC_TRY(column_agrees(w, group, symbol, (size_t)(H5_COLUMNS + index * H5_LABEL_COLUMNS + c), w->d.path));
    H5Gclose(group);
    return OC_OK;
}

static oc_status symbol_read(whole *w, hid_t symbols, size_t link, bool *seen)
{
    char name[OC_SYMBOL_BYTES];
    int64_t index;
    size_t count;
    hid_t group, all;
    OC_TRY(h5_link_name(symbols, link, name, sizeof name, w->d.path));
    OC_TRY(h5_group_read(&group, symbols, name, w->d.path));
    OC_TRY(h5_int_read(group, "index", 0, (int64_t)w->d.symbol_count - 1, &index, w->d.path));
    if (seen[index]) return OC_FAIL(OC_EDATA, "%s: symbol %s: two symbols of one number", w->d.path, name);
    seen[index] = true;
    memcpy(w->d.symbols[index].name, name, sizeof name);
    for (size_t c = 0; c < H5_COLUMNS; c++) OC_TRY(column_agrees(w, group, (uint32_t)index, c, w->d.path));
    OC_TRY(h5_group_read(&all, group, "labels", w->d.path));
    OC_TRY(h5_link_count(all, &count, w->d.path));
    if (count != w->d.label_count)
        return OC_FAIL(OC_EDATA, "%s: symbol %s has %zu labels, not %zu", w->d.path, name, count, w->d.label_count);
    for (size_t i = 0; i < count; i++) OC_TRY(label_read(w, all, (uint32_t)index, i));
    H5Gclose(all);
    H5Gclose(group);
    return OC_OK;
}

static oc_status symbols_read(whole *w)
{
    bool seen[OC_INSTRUMENTS_MAX] = {false};
    size_t count;
    hid_t symbols;
    OC_TRY(h5_group_read(&symbols, w->file, "symbols", w->d.path));
    OC_TRY(h5_link_count(symbols, &count, w->d.path));
    if (count != w->d.symbol_count)
        return OC_FAIL(OC_EDATA, "%s: %zu symbols, its seal names %zu", w->d.path, count, w->d.symbol_count);
    for (size_t i = 0; i < count; i++) OC_TRY(symbol_read(w, symbols, i, seen));
    for (size_t i = 0; i < w->d.label_count; i++)
        if (!w->d.labels[i].rule.text[0]) return OC_FAIL(OC_EDATA, "%s: label %zu is missing", w->d.path, i);
    H5Gclose(symbols);
    return cover_check(w);
}

static oc_status features_read(whole *w)
{
    oc_dataset *d = &w->d;
    struct { uint32_t events[OC_FEATURES_MAX]; int64_t ns[OC_FEATURES_MAX]; } *n;
    hid_t group;
    OC_TRY(oc_memory_new_array(&d->features, d->width, sizeof *d->features, "feature names"));
    OC_TRY(h5_group_read(&group, w->file, "features", d->path));
    OC_TRY(h5_strings_read(group, "name", d->width, d->features, sizeof *d->features, d->path));
    OC_TRY(oc_memory_new(&n, sizeof *n, "features"));
    oc_status status =
        h5_small_read(group, "history_events", H5T_STD_U32LE, d->width, n->events, d->width * 4, d->path);
    if (status == OC_OK)
        status = h5_small_read(group, "history_ns", H5T_STD_I64LE, d->width, n->ns, d->width * 8, d->path);
    for (size_t i = 0; status == OC_OK && i < d->width; i++) {
        if (n->events[i] > d->history_events) d->history_events = n->events[i];
        if (n->ns[i] > d->history_ns) d->history_ns = n->ns[i];
    }
    oc_memory_free(n);
    H5Gclose(group);
    return status;
}

static oc_status sources_read(whole *w)
{
    oc_dataset *d = &w->d;
    char (*hashes)[OC_HASH_TEXT];
    hsize_t rows = 0;
    hid_t group, set;
    OC_TRY(h5_group_read(&group, w->file, "sources", d->path));
    OC_TRY(h5_dataset_open(&set, group, "path", d->path));
    hid_t space = H5Dget_space(set);
    bool good = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, &rows, NULL) == 1 && rows >= 1 && rows <= SOURCES_MAX;
    if (space >= 0) H5Sclose(space);
    H5Dclose(set);
    if (!good) return OC_FAIL(OC_EDATA, "%s: sources/path is no list of files", d->path);
    d->source_count = (size_t)rows;
    OC_TRY(oc_memory_new_array(&d->source, d->source_count, sizeof *d->source, "sources"));
    OC_TRY(oc_memory_new_array(&hashes, d->source_count, sizeof *hashes, "sources"));
    oc_status status = h5_strings_read(group, "path", d->source_count, d->source[0].path, sizeof *d->source, d->path);
    if (status == OC_OK) status = h5_strings_read(group, "hash", d->source_count, hashes, sizeof *hashes, d->path);
    for (size_t i = 0; status == OC_OK && i < d->source_count; i++) {
        d->source[i].path[sizeof d->source[i].path - 1] = '\0';
        if (!oc_hash_parse(hashes[i], &d->source[i].content))
            status = OC_FAIL(OC_EDATA, "%s: the hash of source %zu is no hash", d->path, i);
    }
    oc_memory_free(hashes);
    H5Gclose(group);
    return status;
}

static oc_status hash_read(const whole *w, const char *name, oc_hash *out)
{
    char text[OC_HASH_TEXT + 8];
    OC_TRY(h5_text_read(w->file, name, text, sizeof text, w->d.path));
    if (!oc_hash_parse(text, out)) return OC_FAIL(OC_EDATA, "%s: attribute %s is no hash", w->d.path, name);
    return OC_OK;
}

static oc_status head_read(whole *w)
{
    oc_dataset *d = &w->d;
    char text[40];
    int64_t version;
    oc_hash root;
    OC_TRY(h5_text_read(w->file, "format", text, sizeof text, d->path));
    if (strcmp(text, "outcry-dataset") != 0) return OC_FAIL(OC_EDATA, "%s: is \"%s\", not a dataset", d->path, text);
    OC_TRY(h5_int_read(w->file, "version", H5_DATASET_VERSION, H5_DATASET_VERSION, &version, d->path));
    OC_TRY(hash_read(w, "schema", &d->schema));
    OC_TRY(hash_read(w, "sources_hash", &d->sources));
    OC_TRY(h5_text_read(w->file, "spread", d->spread_note, sizeof d->spread_note, d->path));
    OC_TRY(h5_strings_read(w->file, "root_hash", 0, text, sizeof text, d->path));
    if (!oc_hash_parse(text, &root) || !oc_hash_equal(root, d->root))
        return OC_FAIL(OC_EDATA, "%s: /root_hash is not the root hash of the file", d->path);
    OC_TRY(oc_memory_new(&d->config, CONFIG_BYTES_MAX, "config of a dataset"));
    OC_TRY(h5_strings_read(w->file, "config", 0, d->config, CONFIG_BYTES_MAX, d->path));
    OC_TRY(sources_read(w));
    return features_read(w);
}

/* ---- values -------------------------------------------------------------------------------------------------------
 */

static oc_status infinite_find(const oc_dataset *d)
{
    for (size_t row = 0; row < d->rows; row++) {
        for (size_t f = 0; f < d->width; f++) {
            if (isfinite(d->x[row * d->width + f])) continue;
            const oc_dataset_symbol *s = &d->symbols[oc_dataset_symbol_of(d, row)];
            return OC_FAIL(OC_EDATA, "%s: symbol %s, row %zu, feature %s is not finite: refused", d->path, s->name,
                           row - s->first, d->features[f]);
        }
    }
    return OC_OK;
}

static const char *row_fault(const oc_dataset *d, const oc_dataset_symbol *s, size_t row)
{
    bool first = row == s->first;
    if (!first && d->time_ns[row] < d->time_ns[row - 1]) return "its time is before that of the row before it";
    if (d->run_length[row] > (first ? 0 : d->run_length[row - 1]) + 1) return "its run_length jumps";
    for (size_t i = 0; i < d->label_count; i++) {
        const oc_dataset_label *l = &d->labels[i];
        if (l->class_[row] < 0 || l->class_[row] >= OC_CLASS_COUNT || l->valid[row] > 1)
            return "its label is none of 0, 1, 2";
        if (l->known_ns[row] < d->time_ns[row]) return "its label is known before the row";
        if (!isfinite(l->return_[row])) return "its return is not finite";
    }
    return NULL;
}

/* The same questions, a column at a time and without a branch, so that the loops vectorise: a good dataset meets only
 * these. */
static bool rows_good(const oc_dataset *d, const oc_dataset_symbol *s)
{
    const int64_t *time_ns = d->time_ns + s->first;
    const uint32_t *run = d->run_length + s->first;
    unsigned bad = run[0] > 1;
    for (size_t i = 1; i < s->rows; i++) bad |= (unsigned)(time_ns[i] < time_ns[i - 1]);
    for (size_t i = 1; i < s->rows; i++) bad |= (unsigned)(run[i] > run[i - 1] + 1);
    for (size_t l = 0; l < d->label_count; l++) {
        const oc_dataset_label *of = &d->labels[l];
        const int64_t *known = of->known_ns + s->first;
        uint8_t worst_class = 0, worst_valid = 0;
        for (size_t i = 0; i < s->rows; i++)
            worst_class |= (uint8_t)((uint8_t)of->class_[s->first + i] > OC_CLASS_HOLD);
        for (size_t i = 0; i < s->rows; i++) worst_valid |= of->valid[s->first + i];
        for (size_t i = 0; i < s->rows; i++) bad |= (unsigned)(known[i] < time_ns[i]);
        const oc_extent whole_column = {.column = H5_X};
        bad |= worst_class | (unsigned)(worst_valid > 1) |
               (unsigned)!extent_finite(NULL, &whole_column, of->return_ + s->first, s->rows * sizeof *of->return_);
    }
    return bad == 0;
}

static oc_status rows_check(const oc_dataset *d)
{
    for (size_t i = 0; i < d->symbol_count; i++) {
        const oc_dataset_symbol *s = &d->symbols[i];
        if (rows_good(d, s)) continue;
        for (size_t row = s->first; row < s->first + s->rows; row++) {
            const char *fault = row_fault(d, s, row);
            if (fault)
                return OC_FAIL(OC_EDATA, "%s: symbol %s, row %zu: %s: refused", d->path, s->name, row - s->first,
                               fault);
        }
    }
    return OC_OK;
}

/* ---- open and close -----------------------------------------------------------------------------------------------
 */

static oc_status whole_open(whole *w, const char *path)
{
    bool finite = true;
    w->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (w->fd < 0)
        return OC_FAIL(errno == ENOENT ? OC_EDATA : OC_EFAILED, "%s: cannot open: %s", path, strerror(errno));
    OC_TRY(oc_seal_read(&w->seal, w->fd, path));
    OC_TRY(shape_check(w, path));
    OC_TRY(extents_check(w, path));
    OC_TRY(oc_memory_new_array(&w->d.symbols, w->d.symbol_count, sizeof *w->d.symbols, "symbols"));
    for (size_t i = 0, first = 0; i < w->d.symbol_count; i++) {
        w->d.symbols[i].first = first;
        w->d.symbols[i].rows = (size_t)w->seal.symbol_rows[i];
        first += w->d.symbols[i].rows;
    }
    OC_TRY(columns_new(w));
    OC_TRY(columns_load(w, &finite));
    OC_TRY(h5_file_open(&w->file, path));
    OC_TRY(head_read(w));
    OC_TRY(symbols_read(w));
    if (!finite) OC_TRY(infinite_find(&w->d));
    return rows_check(&w->d);
}

oc_status oc_dataset_open(oc_dataset **out, const char *path)
{
    whole *w;
    assert(out && path);
    *out = NULL;
    h5_quiet();
    if (strlen(path) >= sizeof w->d.path)
        return OC_FAIL(OC_ELIMIT, "%.64s…: a path over %zu bytes", path, sizeof w->d.path - 1);
    OC_TRY(oc_memory_new(&w, sizeof *w, "dataset"));
    w->fd = -1;
    w->file = -1;
    memcpy(w->d.path, path, strlen(path) + 1);
    oc_status status = whole_open(w, path);
    if (w->file >= 0) (void)H5Fclose(w->file);   /* strong: whatever a failure left open is closed with it */
    (void)H5Eclear2(H5E_DEFAULT);
    if (w->fd >= 0) close(w->fd);
    oc_seal_free(&w->seal);
    if (status != OC_OK) {
        oc_dataset_close(&w->d);
        return status;
    }
    *out = &w->d;
    return OC_OK;
}

void oc_dataset_close(oc_dataset *d)
{
    if (!d) return;
    whole *w = (whole *)(void *)d;
    if (w->base) munmap(w->base, w->bytes);
    oc_memory_free(d->symbols);
    oc_memory_free(d->features);
    oc_memory_free(d->config);
    oc_memory_free(d->source);
    oc_memory_free(w);
}

const oc_dataset_symbol *oc_dataset_symbol_find(const oc_dataset *d, const char *name)
{
    for (size_t i = 0; i < d->symbol_count; i++)
        if (strcmp(d->symbols[i].name, name) == 0) return &d->symbols[i];
    return NULL;
}

const oc_dataset_label *oc_dataset_label_find(const oc_dataset *d, const char *text)
{
    for (size_t i = 0; i < d->label_count; i++)
        if (strcmp(d->labels[i].rule.text, text) == 0) return &d->labels[i];
    return NULL;
}

size_t oc_dataset_symbol_of(const oc_dataset *d, size_t row)
{
    size_t low = 0, high = d->symbol_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (d->symbols[middle].first <= row) low = middle;
        else high = middle;
    }
    return low;
}
