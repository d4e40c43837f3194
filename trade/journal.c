/* journal.c - writing. A record is built in the buffer with the previous check in its place, hashed as one run of
 * bytes, and the hash takes that place: so records chain without a copy. */
#include "trade/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/memory.h"
#include "trade/engine.h"
#include "trade/journal_format.h"

enum { BUFFER_BYTES = 1 << 16, GROUP_BYTES = 1 << 20 };

struct oc_journal {
    int fd;
    char path[OC_PATH_MAX];
    unsigned char *buffer;
    size_t used, capacity, payload_max;
    uint64_t number, check, unsynced;
    oc_durability durability;
    uint8_t state; /* OC_TRADING_* of the last action */
    bool failed;
};

oc_status oc_journal_path(char *path, size_t cap, const char *folder, uint32_t segment)
{
    char name[32];
    snprintf(name, sizeof name, "journal-%06u.ocj", segment);
    return oc_path_join(path, cap, folder, name);
}

static oc_status fail(oc_journal *j, const char *what, int reason)
{
    j->failed = true;
    return OC_FAIL(OC_EFAILED, "%s: cannot %s: %s; trading halts, what was recorded before stays", j->path, what,
                   strerror(reason));
}

static oc_status unusable(const oc_journal *j)
{
    return OC_FAIL(OC_EFAILED, "%s: an earlier write failed; recover into a new segment", j->path);
}

static oc_status write_all(oc_journal *j, const unsigned char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t done = write(j->fd, data, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return fail(j, "write", done < 0 ? errno : ENOSPC);
        data += done;
        bytes -= (size_t)done;
    }
    return OC_OK;
}

static oc_status sync_now(oc_journal *j)
{
    if (fdatasync(j->fd) != 0) return fail(j, "sync", errno); /* never tried again: see the header */
    j->unsynced = 0;
    return OC_OK;
}

static oc_status file_make(oc_journal *j)
{
    j->fd = open(j->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (j->fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot create: %s", j->path, strerror(errno));
    return OC_OK;
}

oc_status oc_journal_lock(const char *folder, int *fd)
{
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot open: %s", folder, strerror(errno));
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return OC_OK;
    int reason = errno;
    close(*fd);
    *fd = -1;
    if (reason == EWOULDBLOCK) return OC_FAIL(OC_EAGAIN, "%s: another process writes this journal", folder);
    return OC_FAIL(OC_EFAILED, "%s: cannot lock: %s", folder, strerror(reason));
}

/* A new name in a folder is durable once the folder is synced. */
static oc_status folder_sync(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot open: %s", folder, strerror(errno));
    int reason = fsync(fd) != 0 ? errno : 0;
    close(fd);
    return reason ? OC_FAIL(OC_EFAILED, "%s: cannot sync: %s", folder, strerror(reason)) : OC_OK;
}

static oc_status start_write(oc_journal *j, const char *folder, const oc_journal_start *s)
{
    oc_journal_header h = {
        .version = OC_JOURNAL_VERSION,
        .segment = s->segment,
        .build = s->build,
        .config = s->config,
        .epoch = s->epoch,
        .previous_segment = s->previous_segment,
        .previous_bytes = s->previous_bytes,
        .previous_check = s->previous_check,
        .first_record = s->first_record,
    };
    memcpy(h.magic, "OCJOURNL", sizeof h.magic);
    h.check = journal_header_check(&h);
    OC_TRY(oc_journal_path(j->path, sizeof j->path, folder, s->segment));
    OC_TRY(file_make(j));
    OC_TRY(oc_memory_new(&j->buffer, j->capacity, j->path));
    OC_TRY(write_all(j, (const unsigned char *)&h, sizeof h));
    OC_TRY(sync_now(j));
    return folder_sync(folder);
}

static void journal_free(oc_journal *j)
{
    if (j->fd >= 0) close(j->fd);
    oc_memory_free(j->buffer);
    oc_memory_free(j);
}

oc_status oc_journal_create(oc_journal **out, const char *folder, const oc_journal_start *start)
{
    oc_journal *j;
    *out = NULL;
    OC_TRY(oc_memory_new(&j, sizeof *j, "journal"));
    j->fd = -1;
    j->payload_max = start->payload_bytes_max;
    size_t input_max = sizeof(journal_input_head) + sizeof(oc_event) + OC_ACTIONS_MAX * sizeof(oc_action);
    if (j->payload_max < input_max) j->payload_max = input_max;
    j->capacity = BUFFER_BYTES + OC_JOURNAL_RECORD_BYTES + j->payload_max;
    j->number = start->first_record;
    j->check = start->previous_check;
    j->durability = start->durability;
    oc_status status = start_write(j, folder, start);
    if (status == OC_OK)
        *out = j;
    else
        journal_free(j);
    return status;
}

oc_status oc_journal_write(oc_journal *j)
{
    if (j->failed) return unusable(j);
    OC_TRY(write_all(j, j->buffer, j->used));
    j->unsynced += j->used;
    j->used = 0;
    return j->unsynced >= GROUP_BYTES && j->durability != OC_DURABILITY_RUN ? sync_now(j) : OC_OK;
}

oc_status oc_journal_sync(oc_journal *j)
{
    OC_TRY(oc_journal_write(j));
    return j->unsynced ? sync_now(j) : OC_OK;
}

/* Room for one more record's payload. */
static oc_status record_begin(oc_journal *j, size_t bytes, unsigned char **payload)
{
    *payload = NULL;
    if (j->failed) return unusable(j);
    if (bytes > j->payload_max)
        return OC_FAIL(OC_ELIMIT, "%s: a record of %zu bytes, %zu were planned", j->path, bytes, j->payload_max);
    if (j->used + OC_JOURNAL_RECORD_BYTES + bytes > j->capacity) OC_TRY(oc_journal_write(j));
    *payload = j->buffer + j->used + OC_JOURNAL_RECORD_BYTES;
    return OC_OK;
}

static void record_end(oc_journal *j, oc_journal_kind kind, size_t bytes)
{
    oc_journal_record h = {.bytes = (uint32_t)bytes, .kind = (uint32_t)kind, .number = j->number++, .check = j->check};
    unsigned char *at = j->buffer + j->used;
    h.head_check = journal_head_check(&h);
    memcpy(at, &h, sizeof h);
    j->check = oc_hash_bytes(at, sizeof h + bytes).low;
    memcpy(at + offsetof(oc_journal_record, check), &j->check, sizeof j->check);
    j->used += sizeof h + bytes;
}

oc_status oc_journal_add(oc_journal *j, oc_journal_kind kind, const void *payload, size_t bytes)
{
    unsigned char *at;
    OC_TRY(record_begin(j, bytes, &at));
    if (bytes) memcpy(at, payload, bytes);
    record_end(j, kind, bytes);
    return OC_OK;
}

/* What may only leave once its record is out of the process. */
static bool leaves(const oc_action *a)
{
    return a->kind == OC_ACTION_NEW || a->kind == OC_ACTION_CANCEL || a->kind == OC_ACTION_QUERY;
}

oc_status oc_journal_add_input(oc_journal *j, const oc_input *input, const oc_action *actions, size_t count)
{
    journal_input_head h = {
        input->sequence, input->time_ns, input->kind, input->reserved, journal_body_bytes(input->kind),
        (uint32_t)count};
    size_t actions_bytes = count * sizeof *actions;
    unsigned char *at;
    OC_TRY(record_begin(j, sizeof h + h.body_bytes + actions_bytes, &at));
    memcpy(at, &h, sizeof h);
    memcpy(at + sizeof h, &input->as, h.body_bytes);
    if (count) memcpy(at + sizeof h + h.body_bytes, actions, actions_bytes);
    record_end(j, OC_JOURNAL_INPUT, sizeof h + h.body_bytes + actions_bytes);
    bool person = input->kind == OC_INPUT_OPERATOR, now = person || input->kind == OC_INPUT_VENUE, safe = person;
    for (size_t i = 0; i < count; i++) {
        bool latch = actions[i].state != j->state; /* no order may tell of it, yet a restart must find it */
        j->state = actions[i].state;
        now |= latch || leaves(&actions[i]);
        safe |= latch || actions[i].kind == OC_ACTION_NEW;
    }
    if (safe && j->durability == OC_DURABILITY_ORDER) return oc_journal_sync(j);
    now &= j->durability != OC_DURABILITY_RUN;
    return now || j->used >= BUFFER_BYTES ? oc_journal_write(j) : OC_OK;
}

oc_status oc_journal_close(oc_journal *j, bool complete)
{
    if (!j) return OC_OK;
    oc_status status = j->failed ? unusable(j) : OC_OK;
    if (status == OC_OK && complete) status = oc_journal_add(j, OC_JOURNAL_END, NULL, 0);
    if (status == OC_OK) status = oc_journal_sync(j);
    journal_free(j);
    return status;
}

uint64_t oc_journal_records(const oc_journal *j)
{
    return j->number;
}

oc_hash oc_journal_chain_hash(uint64_t check, uint64_t records)
{
    const uint64_t both[2] = {check, records};
    return oc_hash_bytes(both, sizeof both);
}

oc_hash oc_journal_hash(const oc_journal *j)
{
    return oc_journal_chain_hash(j->check, j->number);
}
