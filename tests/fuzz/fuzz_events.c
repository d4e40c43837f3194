/* fuzz_events.c - any bytes as an `.events` file, as they are and with all hashes made good, so that what is behind the
 * hashes is reached too. What is accepted must hold sound events in order, as many as the file says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "market/event_file.h"
#include "market/event_format.h"

static void try_file(const unsigned char *data, size_t bytes)
{
    char path[64];
    oc_event_reader *r;
    const oc_event *events;
    size_t count;
    uint64_t total = 0;
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (oc_event_reader_open(&r, path) == OC_OK) {
        oc_event last;
        const oc_event_info *info = oc_event_reader_info(r);
        if (strlen(info->origin) > OC_EVENT_ORIGIN_MAX) abort();
        oc_status status = oc_event_reader_next(r, &events, &count);
        for (; status == OC_OK && count; status = oc_event_reader_next(r, &events, &count)) {
            for (size_t i = 0; i < count; i++, last = events[i - 1]) {
                if (oc_event_problem(&events[i], total++ ? &last : NULL, info->instrument_count)) abort();
            }
        }
        if (status == OC_OK && total != info->event_count) abort();
        oc_event_reader_close(r);
    }
    close(fd);
}

/* Walks the file as its header and tail describe it and writes the hashes that fit; stops where it does not fit. */
static void hashes_fit(unsigned char *data, size_t bytes)
{
    oc_event_head head;
    oc_event_tail tail;
    if (bytes < sizeof head + sizeof tail) return;
    memcpy(&head, data, sizeof head);
    memcpy(&tail, data + bytes - sizeof tail, sizeof tail);
    if (head.header_bytes < sizeof head + sizeof(oc_hash) || head.header_bytes % 8 ||
        head.header_bytes > bytes - sizeof tail)
        return;
    oc_hash hash = oc_hash_bytes(data, head.header_bytes - sizeof hash);
    memcpy(data + head.header_bytes - sizeof hash, &hash, sizeof hash);
    tail.header = tail.content = hash;
    size_t at = head.header_bytes, index_bytes = (size_t)(tail.blocks % 64) * sizeof(oc_event_index);
    if (index_bytes > bytes - sizeof tail - at) return;
    size_t index = bytes - sizeof tail - index_bytes;
    for (uint64_t b = 0; b < tail.blocks % 64; b++, index += sizeof(oc_event_index)) {
        oc_event_block_head *block = (oc_event_block_head *)(void *)(data + at);
        if (at > bytes || bytes - at < sizeof *block || block->records > OC_EVENT_BLOCK ||
            bytes - at < sizeof *block + block->records * sizeof(oc_event))
            break;
        block->hash = oc_event_block_hash(block);
        memmove(data + index, &block->hash, sizeof block->hash);     /* the mutated index may lie on a block */
        tail.content = oc_hash_pair(tail.content, block->hash);
        at += sizeof *block + block->records * sizeof(oc_event);
    }
    tail.hash = oc_hash_bytes(&tail, offsetof(oc_event_tail, hash));
    memcpy(data + bytes - sizeof tail, &tail, sizeof tail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    unsigned char *copy;
    if (bytes == 0) return 0;
    try_file(data, bytes);
    if (oc_memory_new(&copy, bytes, "fuzz") != OC_OK) abort();
    memcpy(copy, data, bytes);
    hashes_fit(copy, bytes);
    try_file(copy, bytes);
    oc_memory_free(copy);
    return 0;
}
