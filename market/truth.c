/* truth.c - the `.truth` file: a header that is patched in at commit, then plain records; both hashed. */
#include "market/truth.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

static const char magic[8] = {'O', 'C', 'T', 'R', 'U', 'T', 'H', '\n'};
enum { VERSION = 1 };

struct oc_truth {
    oc_file_map map;
    const oc_truth_info *info;
    const oc_truth_row *rows;
};

struct oc_truth_writer {
    oc_file_writer *file;
    oc_hasher *hasher;
    uint64_t rows;
};

static oc_hash info_hash(const oc_truth_info *info)
{
    return oc_hash_bytes(info, offsetof(oc_truth_info, own));
}

static oc_status info_check(oc_truth *t, const char *path)
{
    if (t->map.bytes < sizeof *t->info)
        return OC_FAIL(OC_EDATA, "%s: %zu bytes are too few for a .truth file", path, t->map.bytes);
    const oc_truth_info *info = t->info = (const oc_truth_info *)(const void *)t->map.data;
    t->rows = (const oc_truth_row *)(const void *)(t->map.data + sizeof *info);
    if (memcmp(info->magic, magic, sizeof magic) != 0) return OC_FAIL(OC_EDATA, "%s: not a .truth file", path);
    if (!oc_hash_equal(info_hash(info), info->own))
        return OC_FAIL(OC_EDATA, "%s: the header fails its hash; simulate it again", path);
    if (info->version != VERSION)
        return OC_FAIL(OC_EDATA, "%s: version %u, but this build reads %d; simulate it again", path, info->version,
                       VERSION);
    if ((t->map.bytes - sizeof *info) % sizeof(oc_truth_row) != 0
        || (t->map.bytes - sizeof *info) / sizeof(oc_truth_row) != info->rows)
        return OC_FAIL(OC_EDATA, "%s: %zu bytes do not hold %llu rows: it was cut or added to", path, t->map.bytes,
                       (unsigned long long)info->rows);
    if (!oc_hash_equal(oc_hash_bytes(t->rows, info->rows * sizeof(oc_truth_row)), info->content))
        return OC_FAIL(OC_EDATA, "%s: the rows fail their hash; simulate it again", path);
    return OC_OK;
}

oc_status oc_truth_open(oc_truth **out, const char *path)
{
    oc_truth *t = NULL;
    *out = NULL;
    OC_TRY(oc_memory_new(&t, sizeof *t, "truth reader"));
    oc_status status = oc_file_map_open(&t->map, path);
    if (status == OC_OK) status = info_check(t, path);
    for (uint64_t i = 1; status == OC_OK && i < t->info->rows; i++) {
        if (t->rows[i].receive_ns <= t->rows[i - 1].receive_ns)
            status = OC_FAIL(OC_EDATA, "%s: row %llu is not after the one before", path, (unsigned long long)i);
    }
    if (status != OC_OK) {
        oc_truth_close(t);
        return status;
    }
    *out = t;
    return OC_OK;
}

void oc_truth_close(oc_truth *t)
{
    if (!t) return;
    oc_file_map_close(&t->map);
    oc_memory_free(t);
}

const oc_truth_info *oc_truth_about(const oc_truth *t)
{
    return t->info;
}

const oc_truth_row *oc_truth_at(const oc_truth *t, uint64_t index)
{
    assert(index < t->info->rows);
    return &t->rows[index];
}

const oc_truth_row *oc_truth_find(const oc_truth *t, int64_t receive_ns)
{
    uint64_t low = 0, high = t->info->rows;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (t->rows[middle].receive_ns < receive_ns) low = middle + 1;
        else high = middle;
    }
    return low < t->info->rows && t->rows[low].receive_ns == receive_ns ? &t->rows[low] : NULL;
}

oc_status oc_truth_writer_open(oc_truth_writer **out, const char *path)
{
    static const oc_truth_info empty;
    oc_truth_writer *w = NULL;
    oc_status status;
    *out = NULL;
    OC_TRY(oc_memory_new(&w, sizeof *w, "truth writer"));
    OC_TRY_GOTO(status, fail, oc_hasher_open(&w->hasher));
    OC_TRY_GOTO(status, fail, oc_file_writer_open(&w->file, path));
    OC_TRY_GOTO(status, fail, oc_file_writer_add(w->file, &empty, sizeof empty));
    *out = w;
    return OC_OK;
fail:
    oc_truth_writer_abort(w);
    return status;
}

oc_status oc_truth_writer_add(oc_truth_writer *w, const oc_truth_row *row)
{
    oc_hasher_add(w->hasher, row, sizeof *row);
    w->rows++;
    return oc_file_writer_add(w->file, row, sizeof *row);
}

oc_status oc_truth_writer_commit(oc_truth_writer *w, const oc_truth_info *about)
{
    oc_truth_info info = *about;
    memcpy(info.magic, magic, sizeof magic);
    info.version = VERSION;
    info.rows = w->rows;
    info.content = oc_hasher_result(w->hasher);
    info.own = info_hash(&info);
    oc_status status = oc_file_writer_patch(w->file, 0, &info, sizeof info);
    oc_file_writer *file = w->file;
    w->file = NULL;
    if (status == OC_OK) status = oc_file_writer_commit(file);
    else oc_file_writer_abort(file);
    oc_truth_writer_abort(w);
    return status;
}

void oc_truth_writer_abort(oc_truth_writer *w)
{
    if (!w) return;
    oc_file_writer_abort(w->file);
    oc_hasher_close(w->hasher);
    oc_memory_free(w);
}
