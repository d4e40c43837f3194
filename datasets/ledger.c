/* ledger.c - a hash-chained file of JSON lines. Appending reads the whole chain first (thousands of records at most),
 * so nothing is ever written behind a line that was tampered with. */
#include "datasets/ledger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/stats.h"

enum { LEDGER_BYTES_MAX = 256 << 20, LOCK_TRIES = 600, LOCK_WAIT_US = 100000 };
#define SELF_OPEN ",\"self\":\""
enum { SELF_BYTES = sizeof SELF_OPEN - 1 + 32 + 2 };             /* ,"self":"…"} */

typedef struct chain {
    const char *path;
    oc_ledger_summary summary;
    uint64_t line;
    oc_hash *configs;                            /* of every record, for the count of distinct ones */
    size_t config_count, config_capacity;
    const char *torn;                            /* a line without its end, waiting for the record that names it */
    size_t torn_bytes;
} chain;

oc_status oc_ledger_path(const oc_dataset *d, char *path, size_t cap)
{
    char hash[OC_HASH_TEXT];
    const char *slash = strrchr(d->path, '/');
    int folder = slash ? (int)(slash - d->path) + 1 : 0;
    int length = snprintf(path, cap, "%.*s%s.ledger", folder, d->path, oc_hash_text(d->sources, hash));
    if (length < 0 || (size_t)length >= cap)
        return OC_FAIL(OC_ELIMIT, "%s: the path of its ledger is too long", d->path);
    return OC_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------------------
 */

static bool hash_of(const json_t *record, const char *key, oc_hash *out)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text && oc_hash_parse(text, out);
}

/* The line's own hash is right and follows the one before; *record is what it says (decref). */
static bool line_parse(const char *text, size_t bytes, oc_hash previous, json_t **record, oc_hash *self)
{
    oc_hash said, before;
    *record = NULL;
    if (bytes <= SELF_BYTES || memcmp(text + bytes - SELF_BYTES, SELF_OPEN, sizeof SELF_OPEN - 1) != 0) return false;
    char *body = malloc(bytes);                  /* the line without its self */
    if (!body) return false;
    size_t length = bytes - SELF_BYTES;
    memcpy(body, text, length);
    body[length] = '}';
    *self = oc_hash_bytes(body, length + 1);
    free(body);
    *record = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    return *record && hash_of(*record, "self", &said) && oc_hash_equal(said, *self) &&
           hash_of(*record, "previous", &before) && oc_hash_equal(before, previous);
}

static oc_status record_count(chain *c, const json_t *record)
{
    oc_hash config;
    const char *split = json_string_value(json_object_get(record, "split"));
    if (json_object_get(record, "torn_hash")) return OC_OK;      /* speaks of a line, not of data */
    c->summary.records++;
    if (split && strcmp(split, "test") == 0) c->summary.trials++;
    if (!hash_of(record, "config", &config)) return OC_OK;
    OC_TRY(oc_memory_grow(&c->configs, &c->config_capacity, c->config_count + 1, sizeof *c->configs, "ledger"));
    c->configs[c->config_count++] = config;
    return OC_OK;
}

static bool names_torn(const chain *c, const json_t *record)
{
    oc_hash hash;
    return hash_of(record, "torn_hash", &hash) && oc_hash_equal(hash, oc_hash_bytes(c->torn, c->torn_bytes));
}

static oc_status line_take(chain *c, const char *text, size_t bytes)
{
    json_t *record;
    oc_hash self;
    oc_status status = OC_OK;
    c->line++;
    bool good = line_parse(text, bytes, c->summary.head, &record, &self);
    if (!good && !c->torn) {                     /* forgiven only if the next line names it */
        c->torn = text;
        c->torn_bytes = bytes;
    } else if (!good || (c->torn && !names_torn(c, record))) {
        status = OC_FAIL(OC_EDATA, "%s:%" PRIu64 ": the chain of hashes is broken here: the ledger was changed",
                         c->path, c->torn ? c->line - 1 : c->line);
    } else {
        c->torn = NULL;
        c->summary.head = self;
        status = record_count(c, record);
    }
    json_decref(record);
    return status;
}

static int hash_order(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(oc_hash));
}

static oc_status chain_take(chain *c, const char *data, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        const char *end = memchr(data + at, '\n', bytes - at);
        if (!end) break;
        OC_TRY(line_take(c, data + at, (size_t)(end - data) - at));
        at = (size_t)(end - data) + 1;
    }
    if (c->torn)
        return OC_FAIL(OC_EDATA, "%s:%" PRIu64 ": the chain of hashes is broken here: the ledger was changed", c->path,
                       c->line);
    if (at < bytes) {
        c->summary.torn = true;
        c->torn = data + at;
        c->torn_bytes = bytes - at;
    }
    if (c->config_count) qsort(c->configs, c->config_count, sizeof *c->configs, hash_order);
    for (size_t i = 0; i < c->config_count; i++)
        c->summary.distinct_configs += i == 0 || hash_order(&c->configs[i], &c->configs[i - 1]) != 0;
    return OC_OK;
}

oc_status oc_ledger_read(const oc_dataset *d, oc_ledger_summary *out)
{
    char path[OC_PATH_MAX], *data = NULL;
    size_t bytes = 0;
    assert(d && out);
    *out = (oc_ledger_summary){0};
    OC_TRY(oc_ledger_path(d, path, sizeof path));
    if (!oc_path_exists(path)) return OC_OK;
    OC_TRY(oc_file_read(path, LEDGER_BYTES_MAX, &data, &bytes));
    chain c = {.path = path, .summary = {.present = true}};
    oc_status status = chain_take(&c, data, bytes);
    if (status == OC_OK && c.summary.torn)
        oc_log(OC_LOG_WARN, "%s: its last line was cut short by a crash (%zu bytes); it counts as nothing", path,
               c.torn_bytes);
    *out = c.summary;
    oc_memory_free(c.configs);
    oc_memory_free(data);
    return status;
}

/* ---- appending ----------------------------------------------------------------------------------------------------
 */

static void hash_set(json_t *record, const char *key, oc_hash hash)
{
    char text[OC_HASH_TEXT];
    json_object_set_new(record, key, json_string(oc_hash_text(hash, text)));
}

static json_t *record_new(const oc_dataset *d, uint64_t number, const char *command)
{
    char time[OC_TIME_TEXT];
    json_t *record = json_object();
    json_object_set_new(record, "n", json_integer((json_int_t)number));
    json_object_set_new(record, "time", json_string(oc_time_text(oc_clock_wall_ns(), time)));
    json_object_set_new(record, "command", json_string(command));
    hash_set(record, "dataset", d->root);
    hash_set(record, "sources", d->sources);
    return record;
}

static void returns_set(json_t *record, const oc_ledger_entry *e)
{
    json_t *r = json_object();
    double mean = oc_mean(e->returns, e->return_count), deviation = sqrt(oc_variance(e->returns, e->return_count));
    hash_set(r, "hash", oc_hash_pair(oc_hash_bytes(e->time_ns, e->return_count * sizeof *e->time_ns),
                                     oc_hash_bytes(e->returns, e->return_count * sizeof *e->returns)));
    json_object_set_new(r, "count", json_integer((json_int_t)e->return_count));
    json_object_set_new(r, "mean", isfinite(mean) ? json_real(mean) : json_null());
    json_object_set_new(r, "deviation", isfinite(deviation) ? json_real(deviation) : json_null());
    json_object_set_new(r, "first_ns", json_integer(e->time_ns[0]));
    json_object_set_new(r, "last_ns", json_integer(e->time_ns[e->return_count - 1]));
    json_object_set_new(record, "returns", r);
}

/* Adds previous and self, prints the line into *text (grown), and moves the head. */
static oc_status line_add(chain *c, json_t *record, char **text, size_t *length, size_t *capacity)
{
    char self[OC_HASH_TEXT];
    hash_set(record, "previous", c->summary.head);
    char *body = oc_json_line(record);
    json_decref(record);
    if (!body) return OC_FAIL(OC_EMEMORY, "%s: no memory for a record", c->path);
    size_t bytes = strlen(body);
    c->summary.head = oc_hash_bytes(body, bytes);
    oc_status status = oc_memory_grow(text, capacity, *length + bytes + SELF_BYTES + 2, 1, "ledger record");
    if (status == OC_OK)
        *length += (size_t)snprintf(*text + *length, *capacity - *length, "%.*s%s%s\"}\n", (int)bytes - 1, body,
                                    SELF_OPEN, oc_hash_text(c->summary.head, self));
    free(body);
    return status;
}

static oc_status lines_make(const oc_dataset *d, const oc_ledger_entry *e, chain *c, char **text, size_t *length)
{
    size_t capacity = 0;
    uint64_t number = c->line + 1;
    if (c->summary.torn) {
        json_t *torn = record_new(d, ++number, "ledger");     /* the cut line keeps its number */
        json_object_set_new(torn, "torn_bytes", json_integer((json_int_t)c->torn_bytes));
        hash_set(torn, "torn_hash", oc_hash_bytes(c->torn, c->torn_bytes));
        OC_TRY(oc_memory_grow(text, &capacity, 2, 1, "ledger record"));
        (*text)[(*length)++] = '\n';
        OC_TRY(line_add(c, torn, text, length, &capacity));
        number++;
    }
    json_t *record = record_new(d, number, e->command);
    if (!oc_hash_equal(e->config, (oc_hash){0})) hash_set(record, "config", e->config);
    if (!oc_hash_equal(e->bundle, (oc_hash){0})) hash_set(record, "bundle", e->bundle);
    json_object_set_new(record, "seed", json_integer((json_int_t)e->seed));
    if (e->fold) json_object_set_new(record, "fold", json_string(e->fold));
    if (e->split) json_object_set_new(record, "split", json_string(e->split));
    if (e->returns && e->return_count) returns_set(record, e);
    return line_add(c, record, text, length, &capacity);
}

static oc_status lock(int fd, const char *path)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return OC_OK;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return OC_FAIL(OC_EFAILED, "%s: cannot lock: %s", path, strerror(errno));
        usleep(LOCK_WAIT_US);
    }
    return OC_FAIL(OC_EAGAIN, "%s: another process has held its lock for a minute", path);
}

/* One write behind `size`; what could not be written whole is taken back. */
static oc_status write_synced(int fd, const char *path, const char *text, size_t length, off_t size)
{
    ssize_t done = write(fd, text, length);
    int reason = done < 0 ? errno : ENOSPC;
    if (done == (ssize_t)length && fsync(fd) == 0) return OC_OK;
    if (done == (ssize_t)length) reason = errno;
    if (ftruncate(fd, size) != 0) oc_log(OC_LOG_ERROR, "%s: a record that was cut short could not be taken back", path);
    return OC_FAIL(OC_EFAILED, "%s: cannot write: %s", path, strerror(reason));
}

static oc_status append_locked(int fd, const oc_dataset *d, const oc_ledger_entry *e, const char *path)
{
    chain c = {.path = path};
    char *data = NULL, *text = NULL;
    size_t bytes = 0, length = 0;
    oc_status status = OC_OK;
    OC_TRY_GOTO(status, done, oc_file_read(path, LEDGER_BYTES_MAX, &data, &bytes));
    OC_TRY_GOTO(status, done, chain_take(&c, data, bytes));
    if (c.summary.torn) oc_log(OC_LOG_WARN, "%s: its last line was cut short by a crash; it is closed and named", path);
    OC_TRY_GOTO(status, done, lines_make(d, e, &c, &text, &length));
    OC_TRY_GOTO(status, done, write_synced(fd, path, text, length, (off_t)bytes));
done:
    oc_memory_free(c.configs);
    oc_memory_free(data);
    oc_memory_free(text);
    return status;
}

oc_status oc_ledger_append(const oc_dataset *d, const oc_ledger_entry *entry)
{
    char path[OC_PATH_MAX];
    assert(d && entry && entry->command);
    OC_TRY(oc_ledger_path(d, path, sizeof path));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot open: %s", path, strerror(errno));
    oc_status status = lock(fd, path);
    if (status == OC_OK) status = append_locked(fd, d, entry, path);
    if (close(fd) != 0 && status == OC_OK) status = OC_FAIL(OC_EFAILED, "%s: cannot write: %s", path, strerror(errno));
    return status;
}
