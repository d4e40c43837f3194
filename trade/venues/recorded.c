/* recorded.c - one file, two cursors over what was read of it: what the venue is told again, what it must say again. */
#include "trade/venues/recorded.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

enum { KIND_HEADER = 1, KIND_CONNECT, KIND_ACTION, KIND_MESSAGE };

typedef struct record {
    uint64_t check, events;
    int64_t time_ns;
    uint32_t kind, reserved;
    union {
        struct {
            char magic[8];
            oc_hash config;
        } header;
        oc_action action;
        oc_venue_message message;
        unsigned char bytes[64];
    } as;
} record;

static_assert(sizeof(record) == 96, "the file holds these");

struct oc_recorded {
    oc_simulated *inner;
    oc_venue venue; /* of inner */
    char path[OC_PATH_MAX];
    int fd;
    uint64_t check, events;
    oc_hash config;
    record *old; /* what was read, the header apart */
    size_t count, told, said;
    bool going; /* connected: answers and records. Before: what was read happens again */
    bool failed, differs;
};

/* ---- writing ---- */

static oc_status record_add(oc_recorded *r, record *new)
{
    if (r->failed) return OC_FAIL(OC_EFAILED, "%s: an earlier write failed", r->path);
    new->check = r->check;
    new->events = r->events;
    new->check = oc_hash_bytes(new, sizeof *new).low;
    const unsigned char *at = (const unsigned char *)new;
    for (size_t left = sizeof *new; left > 0;) {
        ssize_t done = write(r->fd, at, left);
        if (done < 0 && errno == EINTR) continue;
        r->failed = done <= 0;
        if (r->failed) return OC_FAIL(OC_EFAILED, "%s: cannot write: %s", r->path, strerror(done < 0 ? errno : ENOSPC));
        at += done;
        left -= (size_t)done;
    }
    r->check = new->check;
    return OC_OK;
}

/* While the past happens again, each message must be the recorded one; what lies behind the record's end is new. */
static void said(void *context, int64_t now_ns, const oc_venue_message *message)
{
    oc_recorded *r = context;
    while (r->said < r->count && r->old[r->said].kind != KIND_MESSAGE) r->said++;
    if (r->said < r->count) {
        r->differs |= memcmp(&r->old[r->said].as.message, message, sizeof *message) != 0;
        r->said++;
        return;
    }
    record new = {.time_ns = now_ns, .kind = KIND_MESSAGE, .as.message = *message};
    if (record_add(r, &new) != OC_OK) r->failed = true; /* the next send says so */
}

/* ---- the past ---- */

static oc_status tell_again(oc_recorded *r)
{
    for (; r->told < r->count && r->old[r->told].events <= r->events; r->told++) {
        const record *old = &r->old[r->told];
        if (old->kind == KIND_CONNECT) OC_TRY(r->venue.connect(r->inner, old->time_ns));
        if (old->kind == KIND_ACTION) OC_TRY(r->venue.send(r->inner, &old->as.action, old->time_ns));
    }
    return OC_OK;
}

/* All that was recorded has happened again, and nothing else. */
static oc_status past_check(const oc_recorded *r)
{
    size_t said = r->said;
    while (said < r->count && r->old[said].kind != KIND_MESSAGE) said++;
    if (!r->differs && r->told == r->count && said == r->count) return OC_OK;
    return OC_FAIL(OC_EDATA,
                   "%s: these events do not lead to what the venue recorded (up to record %zu of %zu): other events "
                   "than those of the session?",
                   r->path, r->told < said ? r->told : said, r->count);
}

/* ---- as a venue ---- */

static oc_status recorded_connect(void *context, int64_t now_ns)
{
    oc_recorded *r = context;
    if (!r->going) {
        oc_venue_message lost; /* answers that were on their way to the process that died */
        int64_t at_ns;
        while (r->venue.poll(r->inner, now_ns, &lost, &at_ns)) {
        }
        OC_TRY(past_check(r));
        oc_simulated_break(r->inner);
    }
    r->going = true;
    record new = {.time_ns = now_ns, .kind = KIND_CONNECT};
    OC_TRY(record_add(r, &new));
    return r->venue.connect(r->inner, now_ns);
}

static oc_status recorded_send(void *context, const oc_action *action, int64_t now_ns)
{
    oc_recorded *r = context;
    if (r->failed) return OC_FAIL(OC_EFAILED, "%s: an earlier write failed", r->path);
    if (action->kind != OC_ACTION_NEW && action->kind != OC_ACTION_CANCEL && action->kind != OC_ACTION_QUERY)
        return OC_OK;
    record new = {.time_ns = now_ns, .kind = KIND_ACTION, .as.action = *action};
    OC_TRY(record_add(r, &new));
    return r->venue.send(r->inner, action, now_ns);
}

static void recorded_market(void *context, const oc_event *event)
{
    oc_recorded *r = context;
    if (!r->going && r->events == 0 && tell_again(r) != OC_OK) r->differs = true;
    r->venue.market(r->inner, event);
    r->events++;
    if (!r->going && tell_again(r) != OC_OK) r->differs = true;
}

static bool recorded_poll(void *context, int64_t until_ns, oc_venue_message *message, int64_t *at_ns)
{
    oc_recorded *r = context;
    return r->going && r->venue.poll(r->inner, until_ns, message, at_ns);
}

static int64_t recorded_next_ns(void *context)
{
    oc_recorded *r = context;
    return r->going ? r->venue.next_ns(r->inner) : INT64_MAX;
}

oc_venue oc_recorded_venue(oc_recorded *r)
{
    return (oc_venue){r, recorded_connect, recorded_send, recorded_market, NULL, recorded_poll, recorded_next_ns};
}

/* ---- opening ---- */

static void config_hash(oc_recorded *r, const oc_simulated_config *c)
{
    const int64_t words[] = {(int64_t)c->seed,  c->to_ns,      c->to_jitter_ns, c->back_ns,
                             c->back_jitter_ns, c->reject_ppm, c->partial,      c->markets};
    r->config = oc_hash_bytes(words, sizeof words);
    for (uint32_t i = 0; i < c->markets; i++) {
        const oc_simulated_market *m = &c->market[i];
        const int64_t row[] = {(int64_t)r->config.low, (int64_t)r->config.high,  m->scale.numerator,
                               m->scale.denominator,   m->order_tick_ticks,      m->maker_ppm,
                               m->taker_ppm,           m->bar_half_spread_ticks, m->bar_lots};
        r->config = oc_hash_bytes(row, sizeof row);
    }
}

static oc_status header_check(oc_recorded *r, const record *header)
{
    if (header->kind != KIND_HEADER || memcmp(header->as.header.magic, "OCVENUE1", 8) != 0)
        return OC_FAIL(OC_EDATA, "%s: is no venue's record", r->path);
    if (!oc_hash_equal(header->as.header.config, r->config))
        return OC_FAIL(OC_EDATA, "%s: was recorded with another configuration of the venue (seed, latency, costs)",
                       r->path);
    return OC_OK;
}

static oc_status records_take(oc_recorded *r, const oc_file_map *map)
{
    const size_t whole = map->bytes / sizeof(record);
    OC_TRY(oc_memory_new_array(&r->old, whole ? whole : 1, sizeof *r->old, "venue's record"));
    for (size_t i = 0; i < whole; i++) {
        record one;
        memcpy(&one, map->data + i * sizeof one, sizeof one);
        const uint64_t check = one.check;
        one.check = r->check;
        if (oc_hash_bytes(&one, sizeof one).low != check)
            return OC_FAIL(OC_EDATA, "%s: record %zu is not as it was written", r->path, i);
        r->check = check;
        if (i == 0)
            OC_TRY(header_check(r, &one));
        else
            r->old[r->count++] = one;
    }
    return OC_OK;
}

/* What was not written whole never reached the venue: it is cut off, and the record goes on from there. */
static oc_status record_read(oc_recorded *r)
{
    oc_file_map map;
    OC_TRY(oc_file_map_open(&map, r->path));
    oc_status status = records_take(r, &map);
    off_t whole = (off_t)(map.bytes / sizeof(record) * sizeof(record));
    bool torn = (size_t)whole != map.bytes;
    oc_file_map_close(&map);
    if (status == OC_OK && torn && ftruncate(r->fd, whole) != 0)
        status = OC_FAIL(OC_EFAILED, "%s: cannot cut: %s", r->path, strerror(errno));
    return status;
}

static oc_status file_open(oc_recorded *r, bool resume)
{
    r->fd = open(r->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (resume ? 0 : O_EXCL), 0644);
    if (r->fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot create: %s", r->path, strerror(errno));
    if (resume) OC_TRY(record_read(r));
    if (r->check != 0) return OC_OK;
    record new = {.kind = KIND_HEADER, .as.header = {.magic = {'O', 'C', 'V', 'E', 'N', 'U', 'E', '1'}}};
    new.as.header.config = r->config;
    return record_add(r, &new);
}

oc_status oc_recorded_open(oc_recorded **out, const oc_simulated_config *config, const char *path, bool resume)
{
    oc_recorded *r;
    *out = NULL;
    OC_TRY(oc_memory_new(&r, sizeof *r, "recorded venue"));
    r->fd = -1;
    config_hash(r, config);
    oc_status status = strlen(path) < sizeof r->path ? OC_OK : OC_FAIL(OC_ELIMIT, "%.100s…: too long a path", path);
    if (status == OC_OK) memcpy(r->path, path, strlen(path) + 1);
    if (status == OC_OK) status = oc_simulated_open(&r->inner, config);
    if (status == OC_OK) status = file_open(r, resume);
    if (status == OC_OK) {
        oc_simulated_told(r->inner, (oc_simulated_clerk){r, said});
        r->venue = oc_simulated_venue(r->inner);
        *out = r;
    } else {
        oc_recorded_close(r);
    }
    return status;
}

void oc_recorded_close(oc_recorded *r)
{
    if (!r) return;
    if (r->inner) oc_simulated_close(r->inner);
    if (r->fd >= 0) close(r->fd);
    oc_memory_free(r->old);
    oc_memory_free(r);
}

int64_t oc_recorded_last_ns(const oc_recorded *r)
{
    return r->count ? r->old[r->count - 1].time_ns : 0;
}

uint64_t oc_recorded_count(const oc_recorded *r)
{
    return r->count;
}
