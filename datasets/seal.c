/* seal.c - hashes behind the HDF5 file. Loading is one pass: each block of 4 MiB is read in pieces of at most 128 KiB,
 * straight to where the rows belong, and hashed while the piece is still in the cache; nothing is held twice. */
#include "datasets/seal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/team.h"

enum { PIECE_BYTES = 128 << 10, FORMAT_VERSION = 1, SYMBOLS_MAX = 256 };
#define H5_BYTES_MAX (UINT64_C(1) << 46)

typedef struct footer {                          /* the file's last bytes, little-endian */
    char magic[8];
    uint32_t version, symbol_count, width, label_count;
    uint64_t h5_bytes, block_count, extent_count, root_offset;
    oc_hash root, self;                          /* self: of this record with self zero */
} footer;

_Static_assert(sizeof(footer) == 88 && sizeof(oc_extent) == 32 && sizeof(oc_hash) == 16, "as docs/formats.md says");
static const char magic[8] = {'O', 'C', 'D', 'A', 'T', 'A', '0', '1'};

static oc_hash footer_hash(footer f)
{
    f.self = (oc_hash){0, 0};
    return oc_hash_bytes(&f, sizeof f);
}

static uint64_t tables_bytes(const oc_seal *s)
{
    return s->block_count * sizeof(oc_hash) + s->symbol_count * sizeof(uint64_t) + s->extent_count * sizeof(oc_extent);
}

static void tables_point(oc_seal *s)
{
    s->blocks = (const oc_hash *)(const void *)s->tables;
    s->symbol_rows = (const uint64_t *)(const void *)(s->tables + s->block_count * sizeof(oc_hash));
    s->extents = (const oc_extent *)(const void *)(s->tables + s->block_count * sizeof(oc_hash) +
                                                   s->symbol_count * sizeof(uint64_t));
}

static bool read_at(int fd, void *to, size_t bytes, uint64_t offset)
{
    unsigned char *at = to;
    while (bytes > 0) {
        ssize_t done = pread(fd, at, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = 0;                /* the file has become shorter */
        if (done <= 0) return false;
        at += done;
        bytes -= (size_t)done;
        offset += (uint64_t)done;
    }
    return true;
}

static bool write_at(int fd, const void *from, size_t bytes, uint64_t offset)
{
    const unsigned char *at = from;
    while (bytes > 0) {
        ssize_t done = pwrite(fd, at, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done;
        bytes -= (size_t)done;
        offset += (uint64_t)done;
    }
    return true;
}

/* Hash of a piece that may touch the 32 bytes of the root hash, which count as zero. */
static void hash_piece(oc_hasher *h, const unsigned char *data, uint64_t offset, size_t bytes, uint64_t root_offset)
{
    static const unsigned char zero[OC_SEAL_ROOT_BYTES];
    uint64_t last = offset + bytes, root_last = root_offset + OC_SEAL_ROOT_BYTES;
    uint64_t from = root_offset > offset ? root_offset : offset, to = root_last < last ? root_last : last;
    if (from >= to) {
        oc_hasher_add(h, data, bytes);
        return;
    }
    oc_hasher_add(h, data, (size_t)(from - offset));
    oc_hasher_add(h, zero, (size_t)(to - from));
    oc_hasher_add(h, data + (to - offset), (size_t)(last - to));
}

/* ---- loading ------------------------------------------------------------------------------------------------------
 */

typedef struct loading {
    const oc_seal *seal;
    const oc_seal_sink *sink;
    int fd;
    oc_hasher *hashers[64];
    unsigned char *scratch[64];
    atomic_uint_fast64_t next, bad_block, unread_block;
    atomic_int reason;
    atomic_bool bad_content;
} loading;

static void lower_to(atomic_uint_fast64_t *at, uint64_t value)
{
    uint_fast64_t old = atomic_load(at);
    while (value < old && !atomic_compare_exchange_weak(at, &old, value)) {}
}

/* First extent that ends behind `offset`. */
static size_t extent_at(const oc_seal *s, uint64_t offset)
{
    size_t low = 0, high = s->extent_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->extents[middle].offset + s->extents[middle].bytes <= offset) low = middle + 1;
        else high = middle;
    }
    return low;
}

static bool load_block(loading *l, int worker, uint64_t block)
{
    const oc_seal *s = l->seal;
    uint64_t at = block * OC_SEAL_BLOCK_BYTES, last = at + OC_SEAL_BLOCK_BYTES;
    if (last > s->h5_bytes) last = s->h5_bytes;
    size_t e = extent_at(s, at);
    oc_hasher_reset(l->hashers[worker]);
    while (at < last) {
        const oc_extent *x = e < s->extent_count ? &s->extents[e] : NULL;
        bool inside = x && at >= x->offset;
        uint64_t stop = inside ? x->offset + x->bytes : x && x->offset < last ? x->offset : last;
        if (stop > last) stop = last;
        size_t bytes = stop - at < PIECE_BYTES ? (size_t)(stop - at) : PIECE_BYTES;
        unsigned char *base = inside && l->sink ? l->sink->place(l->sink->context, x) : NULL;
        unsigned char *to = base ? base + (at - x->offset) : l->scratch[worker];
        if (!read_at(l->fd, to, bytes, at)) {
            atomic_store(&l->reason, errno);
            lower_to(&l->unread_block, block);
            return false;
        }
        hash_piece(l->hashers[worker], to, at, bytes, s->root_offset);
        if (base && l->sink->check && !l->sink->check(l->sink->context, x, to, bytes))
            atomic_store(&l->bad_content, true);
        at += bytes;
        if (inside && at == x->offset + x->bytes) e++;
    }
    if (oc_hash_equal(oc_hasher_result(l->hashers[worker]), s->blocks[block])) return true;
    lower_to(&l->bad_block, block);
    return false;
}

static void load_work(void *context, int worker, int workers)
{
    loading *l = context;
    (void)workers; /* whoever is free takes the next block: the result does not depend on it */
    for (;;) {
        uint64_t block = atomic_fetch_add(&l->next, 1);
        if (block >= l->seal->block_count) return;
        if (!load_block(l, worker, block)) return;
    }
}

static oc_status load_verdict(const loading *l, const char *path)
{
    uint64_t bad = atomic_load(&l->bad_block), unread = atomic_load(&l->unread_block);
    if (unread != UINT64_MAX)
        return OC_FAIL(OC_EDATA, "%s: cannot read block %llu of %llu: %s", path, (unsigned long long)unread,
                       (unsigned long long)l->seal->block_count,
                       atomic_load(&l->reason) ? strerror(atomic_load(&l->reason)) : "the file became shorter");
    if (bad != UINT64_MAX)
        return OC_FAIL(OC_EDATA,
                       "%s: block %llu of %llu fails its hash (offset %llu): the file is damaged; build it again", path,
                       (unsigned long long)bad, (unsigned long long)l->seal->block_count,
                       (unsigned long long)bad * OC_SEAL_BLOCK_BYTES);
    return OC_OK;
}

oc_status oc_seal_load(const oc_seal *seal, int fd, const char *path, const oc_seal_sink *sink, int threads,
                       bool *content_good)
{
    assert(seal && path && content_good);
    loading l = {.seal = seal, .sink = sink, .fd = fd, .bad_block = UINT64_MAX, .unread_block = UINT64_MAX};
    oc_team *team = NULL;
    oc_status status = OC_OK;
    if (threads < 1) threads = 1;
    if (threads > 64) threads = 64;
    if ((uint64_t)threads > seal->block_count) threads = seal->block_count ? (int)seal->block_count : 1;
    for (int i = 0; i < threads; i++) {
        OC_TRY_GOTO(status, done, oc_hasher_open(&l.hashers[i]));
        OC_TRY_GOTO(status, done, oc_memory_new(&l.scratch[i], PIECE_BYTES, "dataset reading"));
    }
    if (threads == 1) {
        load_work(&l, 0, 1);
    } else {
        OC_TRY_GOTO(status, done, oc_team_open(&team, threads));
        oc_team_run(team, load_work, &l);
    }
    OC_TRY_GOTO(status, done, load_verdict(&l, path));
    *content_good = !atomic_load(&l.bad_content);
done:
    oc_team_close(team);
    for (int i = 0; i < threads; i++) {
        oc_hasher_close(l.hashers[i]);
        oc_memory_free(l.scratch[i]);
    }
    return status;
}

/* ---- footer and tables --------------------------------------------------------------------------------------------
 */

static bool footer_sane(const footer *f, uint64_t file_bytes)
{
    if (f->h5_bytes == 0 || f->h5_bytes > H5_BYTES_MAX || f->symbol_count > SYMBOLS_MAX) return false;
    if (f->block_count != (f->h5_bytes + OC_SEAL_BLOCK_BYTES - 1) / OC_SEAL_BLOCK_BYTES) return false;
    if (f->extent_count > f->h5_bytes) return false;
    if (f->root_offset > f->h5_bytes || f->h5_bytes - f->root_offset < OC_SEAL_ROOT_BYTES) return false;
    oc_seal s = {.block_count = f->block_count, .symbol_count = f->symbol_count, .extent_count = f->extent_count};
    return f->h5_bytes + tables_bytes(&s) + sizeof *f == file_bytes;
}

static bool extents_sane(const oc_seal *s)
{
    uint64_t end = 0;
    for (uint64_t i = 0; i < s->extent_count; i++) {
        const oc_extent *x = &s->extents[i];
        if (x->offset < end || x->bytes == 0 || x->bytes > s->h5_bytes || x->offset > s->h5_bytes - x->bytes)
            return false;
        if (x->symbol >= s->symbol_count) return false;
        end = x->offset + x->bytes;
        if (x->offset < s->root_offset + OC_SEAL_ROOT_BYTES && end > s->root_offset) return false;
    }
    return true;
}

oc_status oc_seal_read(oc_seal *out, int fd, const char *path)
{
    struct stat info;
    footer f;
    *out = (oc_seal){0};
    if (fstat(fd, &info) != 0) return OC_FAIL(OC_EFAILED, "%s: %s", path, strerror(errno));
    uint64_t file_bytes = (uint64_t)info.st_size;
    if (!S_ISREG(info.st_mode) || file_bytes < sizeof f || !read_at(fd, &f, sizeof f, file_bytes - sizeof f) ||
        memcmp(f.magic, magic, sizeof magic) != 0)
        return OC_FAIL(OC_EDATA,
                       "%s: is cut short, damaged at its end, or no file of Outcry: the seal behind the HDF5 part "
                       "is missing; build it again",
                       path);
    if (!oc_hash_equal(footer_hash(f), f.self))
        return OC_FAIL(OC_EDATA, "%s: its footer fails its hash: the file is damaged; build it again", path);
    if (f.version != FORMAT_VERSION)
        return OC_FAIL(OC_EDATA, "%s: format version %u, this program reads version %d; build it again", path,
                       f.version, FORMAT_VERSION);
    if (!footer_sane(&f, file_bytes))
        return OC_FAIL(OC_EDATA,
                       "%s: its footer does not fit the file: the file is cut short or damaged; build it again", path);
    out->h5_bytes = f.h5_bytes;
    out->block_count = f.block_count;
    out->extent_count = f.extent_count;
    out->root_offset = f.root_offset;
    out->symbol_count = f.symbol_count;
    out->width = f.width;
    out->label_count = f.label_count;
    out->root = f.root;
    size_t bytes = (size_t)tables_bytes(out);
    OC_TRY(oc_memory_new(&out->tables, bytes, "seal of a dataset"));
    tables_point(out);
    if (!read_at(fd, out->tables, bytes, f.h5_bytes) || !oc_hash_equal(oc_hash_bytes(out->tables, bytes), f.root) ||
        !extents_sane(out)) {
        oc_seal_free(out);
        return OC_FAIL(OC_EDATA, "%s: its table of hashes fails the root hash: the file is damaged; build it again",
                       path);
    }
    return OC_OK;
}

void oc_seal_free(oc_seal *seal)
{
    oc_memory_free(seal->tables);
    seal->tables = NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static int extent_order(const void *a, const void *b)
{
    uint64_t x = ((const oc_extent *)a)->offset, y = ((const oc_extent *)b)->offset;
    return (x > y) - (x < y);
}

static oc_status blocks_hash(int fd, const oc_seal *s, oc_hash *blocks, const char *name)
{
    oc_hasher *h = NULL;
    unsigned char *piece = NULL;
    oc_status status = oc_hasher_open(&h);
    if (status == OC_OK) status = oc_memory_new(&piece, PIECE_BYTES, "hashing a dataset");
    for (uint64_t b = 0; status == OC_OK && b < s->block_count; b++) {
        uint64_t at = b * OC_SEAL_BLOCK_BYTES, last = at + OC_SEAL_BLOCK_BYTES;
        if (last > s->h5_bytes) last = s->h5_bytes;
        oc_hasher_reset(h);
        for (; status == OC_OK && at < last;) {
            size_t bytes = last - at < PIECE_BYTES ? (size_t)(last - at) : PIECE_BYTES;
            if (!read_at(fd, piece, bytes, at))
                status = OC_FAIL(OC_EFAILED, "%s: cannot read back what was written: %s", name, strerror(errno));
            else hash_piece(h, piece, at, bytes, s->root_offset);
            at += bytes;
        }
        blocks[b] = oc_hasher_result(h);
    }
    oc_hasher_close(h);
    oc_memory_free(piece);
    return status;
}

static oc_status seal_fd(int fd, const char *name, oc_seal *s, const uint64_t *symbol_rows, oc_extent *extents)
{
    struct stat info;
    char text[OC_HASH_TEXT];
    if (fstat(fd, &info) != 0) return OC_FAIL(OC_EFAILED, "%s: %s", name, strerror(errno));
    s->h5_bytes = (uint64_t)info.st_size;
    s->block_count = (s->h5_bytes + OC_SEAL_BLOCK_BYTES - 1) / OC_SEAL_BLOCK_BYTES;
    size_t bytes = (size_t)tables_bytes(s), blocks = (size_t)s->block_count * sizeof(oc_hash);
    size_t rows = s->symbol_count * sizeof(uint64_t);
    OC_TRY(oc_memory_new(&s->tables, bytes, "seal of a dataset"));
    if (s->extent_count) qsort(extents, s->extent_count, sizeof *extents, extent_order);
    OC_TRY(blocks_hash(fd, s, (oc_hash *)(void *)s->tables, name));
    if (rows) memcpy(s->tables + blocks, symbol_rows, rows);
    if (s->extent_count) memcpy(s->tables + blocks + rows, extents, s->extent_count * sizeof *extents);
    s->root = oc_hash_bytes(s->tables, bytes);
    footer f = {.version = FORMAT_VERSION,
                .symbol_count = s->symbol_count,
                .width = s->width,
                .label_count = s->label_count,
                .h5_bytes = s->h5_bytes,
                .block_count = s->block_count,
                .extent_count = s->extent_count,
                .root_offset = s->root_offset,
                .root = s->root};
    memcpy(f.magic, magic, sizeof magic);
    f.self = footer_hash(f);
    oc_hash_text(s->root, text);
    if (!write_at(fd, text, OC_SEAL_ROOT_BYTES, s->root_offset) || !write_at(fd, s->tables, bytes, s->h5_bytes) ||
        !write_at(fd, &f, sizeof f, s->h5_bytes + bytes) || fsync(fd) != 0)
        return OC_FAIL(OC_EFAILED, "%s: cannot write: %s; the old file, if any, is untouched", name, strerror(errno));
    return OC_OK;
}

oc_status oc_seal_write(const char *path, const char *name, oc_seal *seal, const uint64_t *symbol_rows,
                        oc_extent *extents)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot write: %s", name, strerror(errno));
    oc_status status = seal_fd(fd, name, seal, symbol_rows, extents);
    if (close(fd) != 0 && status == OC_OK) status = OC_FAIL(OC_EFAILED, "%s: cannot write: %s", name, strerror(errno));
    return status;
}
