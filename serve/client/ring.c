/* ring.c - positions by acquire and release on words that both processes map; data by memcpy, at most two pieces. */
#include "serve/client/ring.h"

#include <assert.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(oc_wire_ring) == 3 * OC_WIRE_LINE, "a line a word");
_Static_assert(sizeof(oc_wire_request) == OC_WIRE_LINE, "a request's header is one line");
_Static_assert(sizeof(oc_wire_reply) == 3 * OC_WIRE_LINE, "a reply is three lines");
_Static_assert(sizeof(oc_wire_open) == 2 * OC_WIRE_LINE, "an opening is two lines");
_Static_assert(sizeof(oc_wire_stream) == 2 * OC_WIRE_LINE && sizeof(oc_wire_instrument) == OC_WIRE_LINE, "lines");
_Static_assert(sizeof(oc_wire_control) <= OC_WIRE_REGION_OFFSET, "both rings' words on the first page");

void oc_ring_init(oc_ring *r, oc_wire_ring *shared, void *data, uint64_t capacity)
{
    assert(capacity >= 4096 && (capacity & (capacity - 1)) == 0);
    *r = (oc_ring){.shared = shared, .data = data, .capacity = capacity};
}

uint64_t oc_ring_record_bytes(size_t payload_bytes)
{
    return (OC_WIRE_LINE + (uint64_t)payload_bytes + OC_WIRE_LINE - 1) / OC_WIRE_LINE * OC_WIRE_LINE;
}

/* What was copied out is what is looked at: the compiler may not read the shared bytes again in its place. */
static inline void copied(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void copy_in(oc_ring *r, uint64_t position, const void *from, size_t bytes)
{
    const size_t place = position & (r->capacity - 1),
                 first = bytes < r->capacity - place ? bytes : r->capacity - place;
    memcpy(r->data + place, from, first);
    if (first < bytes) memcpy(r->data, (const unsigned char *)from + first, bytes - first);
}

oc_ring_state oc_ring_put(oc_ring *r, const void *record, size_t record_bytes, const void *payload,
                          size_t payload_bytes)
{
    uint32_t bytes;
    memcpy(&bytes, record, sizeof bytes);
    assert(bytes % OC_WIRE_LINE == 0 && bytes <= r->capacity && record_bytes + payload_bytes <= bytes);
    if (r->broken) return OC_RING_BROKEN;
    if (r->mine + bytes - r->theirs > r->capacity) {
        const uint64_t head = __atomic_load_n(&r->shared->head, __ATOMIC_ACQUIRE);
        if (!(r->mine - head <= r->mine - r->theirs)) { /* a head moves forwards, and not past the tail */
            r->broken = true;
            return OC_RING_BROKEN;
        }
        r->theirs = head;
        if (r->mine + bytes - head > r->capacity) return OC_RING_FULL;
    }
    copy_in(r, r->mine, record, record_bytes);
    if (payload_bytes) copy_in(r, r->mine + record_bytes, payload, payload_bytes);
    static const unsigned char zeros[OC_WIRE_LINE];
    for (uint64_t at = record_bytes + payload_bytes; at < bytes;) {
        const uint64_t piece = bytes - at < OC_WIRE_LINE ? bytes - at : OC_WIRE_LINE;
        copy_in(r, r->mine + at, zeros, piece);
        at += piece;
    }
    r->mine += bytes;
    __atomic_store_n(&r->shared->tail, r->mine, __ATOMIC_RELEASE);
    return OC_RING_DONE;
}

oc_ring_state oc_ring_peek(oc_ring *r, void *header, uint64_t bytes_max)
{
    uint32_t bytes;
    if (r->broken) return OC_RING_BROKEN;
    if (r->theirs == r->mine) {
        const uint64_t tail = __atomic_load_n(&r->shared->tail, __ATOMIC_ACQUIRE);
        if (tail == r->mine) return OC_RING_EMPTY;
        if (!(tail - r->mine <= r->capacity && tail % OC_WIRE_LINE == 0)) {
            r->broken = true;
            return OC_RING_BROKEN;
        }
        r->theirs = tail;
    }
    memcpy(header, r->data + (r->mine & (r->capacity - 1)), OC_WIRE_LINE);
    copied();
    memcpy(&bytes, header, sizeof bytes);
    if (!(bytes >= OC_WIRE_LINE && bytes % OC_WIRE_LINE == 0 && bytes <= bytes_max && bytes <= r->theirs - r->mine)) {
        r->broken = true;
        return OC_RING_BROKEN;
    }
    return OC_RING_DONE;
}

void oc_ring_copy(const oc_ring *r, void *out, size_t bytes)
{
    const size_t place = (r->mine + OC_WIRE_LINE) & (r->capacity - 1);
    const size_t first = bytes < r->capacity - place ? bytes : r->capacity - place;
    assert(bytes <= r->theirs - r->mine - OC_WIRE_LINE);
    memcpy(out, r->data + place, first);
    if (first < bytes) memcpy((unsigned char *)out + first, r->data, bytes - first);
    copied();
}

void oc_ring_take(oc_ring *r, uint32_t bytes)
{
    assert(bytes <= r->theirs - r->mine);
    r->mine += bytes;
    __atomic_store_n(&r->shared->head, r->mine, __ATOMIC_RELEASE);
}

/* The thread sanitizer of gcc refuses fences, which it does not model; a locked operation on a word of its own is the
 * same barrier to the processor, and orders nothing in the sanitizer's eyes that the fence would not. */
static inline void fence(void)
{
#if defined(__SANITIZE_THREAD__)
    uint32_t here = 0;
    __atomic_fetch_add(&here, 1, __ATOMIC_SEQ_CST);
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Sleeper: word = 1, fence, look. Producer: publish, fence, look at the word. One of the two sees the other. */
void oc_ring_nod(uint32_t *asleep, bool sleeping)
{
    __atomic_store_n(asleep, sleeping ? 1u : 0u, __ATOMIC_SEQ_CST);
    fence();
}

void oc_ring_sleep(uint32_t *asleep, int64_t timeout_ns)
{
    const struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    syscall(SYS_futex, asleep, FUTEX_WAIT, 1u, &timeout, NULL, 0); /* any return: the caller looks again */
}

bool oc_ring_wake(uint32_t *asleep)
{
    fence();
    if (__atomic_load_n(asleep, __ATOMIC_SEQ_CST) == 0) return false;
    __atomic_store_n(asleep, 0u, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, asleep, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    return true;
}

void oc_ring_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
