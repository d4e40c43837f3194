/* test_ring.c - the ring alone: records of every size over every wrap, two threads, and a peer that lies. What it would
 * catch: a torn or lost record, a copy beyond the ring, a position believed without a check. */
#include "base/cmocka_all.h"
#include <pthread.h>
#include <stdlib.h>
#include "base/random.h"
#include "serve/client/ring.h"

enum { CAPACITY = 4096, GUARD = 4096 };

typedef struct pair {
    oc_wire_ring *shared;
    unsigned char *memory;
    oc_ring in, out;
} pair;

static pair pair_open(void)
{
    pair p = {.shared = calloc(1, sizeof *p.shared), .memory = malloc(CAPACITY + 2 * GUARD)};
    assert_non_null(p.memory);
    memset(p.memory, 0xA5, CAPACITY + 2 * GUARD);
    oc_ring_init(&p.in, p.shared, p.memory + GUARD, CAPACITY);
    oc_ring_init(&p.out, p.shared, p.memory + GUARD, CAPACITY);
    return p;
}

static void pair_close(pair *p)
{
    for (int i = 0; i < GUARD; i++) { /* nothing was written beside the ring */
        assert_int_equal(p->memory[i], 0xA5);
        assert_int_equal(p->memory[GUARD + CAPACITY + i], 0xA5);
    }
    free(p->memory);
    free(p->shared);
}

static void fill(unsigned char *data, size_t bytes, uint64_t number)
{
    const uint32_t key = oc_random_key(5, OC_RANDOM_TEST, number, 0);
    for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)oc_random_philox(key, i);
}

static size_t size_of(uint64_t number)
{
    return 4 * (oc_random_philox(oc_random_key(6, OC_RANDOM_TEST, 0, 0), number) % 400);
}

static oc_ring_state put(oc_ring *r, uint64_t number)
{
    unsigned char payload[1600];
    const size_t bytes = size_of(number);
    oc_wire_request q = {.bytes = (uint32_t)oc_ring_record_bytes(bytes), .count = (uint32_t)bytes, .sequence = number};
    fill(payload, bytes, number);
    return oc_ring_put(r, &q, sizeof q, payload, bytes);
}

/* Takes a record and says whether it is record `number`, whole. */
static bool take_equal(oc_ring *r, uint64_t number)
{
    unsigned char payload[1600], want[1600];
    oc_wire_request q;
    if (oc_ring_peek(r, &q, CAPACITY) != OC_RING_DONE) return false;
    assert_true(q.count <= sizeof payload);
    oc_ring_copy(r, payload, q.count);
    oc_ring_take(r, q.bytes);
    fill(want, size_of(number), number);
    return q.sequence == number && q.count == size_of(number) && memcmp(payload, want, q.count) == 0;
}

static void every_wrap(void **state)
{
    pair p = pair_open();
    uint64_t written = 0, read = 0;
    const uint32_t key = oc_random_key(7, OC_RANDOM_TEST, 0, 0);
    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        if (oc_random_philox(key, i) & 1)
            written += put(&p.in, written) == OC_RING_DONE;
        else if (read < written)
            assert_true(take_equal(&p.out, read++));
    }
    assert_true(written > 5000);
    pair_close(&p);
}

static void *producer(void *context)
{
    for (uint64_t i = 0; i < 30000;) i += put(context, i) == OC_RING_DONE;
    return NULL;
}

static void two_threads(void **state)
{
    pair p = pair_open();
    pthread_t thread;
    oc_wire_request q;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, producer, &p.in), 0);
    for (uint64_t i = 0; i < 30000;) {
        if (oc_ring_peek(&p.out, &q, CAPACITY) != OC_RING_DONE) continue;
        assert_true(take_equal(&p.out, i++));
    }
    pthread_join(thread, NULL);
    pair_close(&p);
}

/* A lie by the other side, and what must come of it. */
static const struct {
    const char *name;
    uint64_t tail, head;
    uint32_t bytes;
    bool of_head;
    oc_ring_state want;
} lies[] = {
    {"tail beyond the capacity", CAPACITY + 64, 0, 64, false, OC_RING_BROKEN},
    {"tail backwards", (uint64_t)-64, 0, 64, false, OC_RING_BROKEN},
    {"tail not aligned", 65, 0, 64, false, OC_RING_BROKEN},
    {"size 0", 64, 0, 0, false, OC_RING_BROKEN},
    {"size below a header", 64, 0, 32, false, OC_RING_BROKEN},
    {"size not aligned", 128, 0, 65, false, OC_RING_BROKEN},
    {"size beyond what is there", 64, 0, 128, false, OC_RING_BROKEN},
    {"size beyond all", 64, 0, 0xffffffc0u, false, OC_RING_BROKEN},
    {"head past the tail", 0, 64, 64, true, OC_RING_BROKEN},
    {"head backwards", 0, (uint64_t)-64, 64, true, OC_RING_BROKEN},
    {"the truth", 64, 0, 64, false, OC_RING_DONE},
    {"nothing", 0, 0, 64, false, OC_RING_EMPTY},
};

static void liars(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        pair p = pair_open();
        oc_wire_request q = {.bytes = lies[i].bytes};
        oc_ring_state got = OC_RING_DONE;
        if (lies[i].of_head) {
            oc_wire_request full = {.bytes = 64};
            while ((got = oc_ring_put(&p.in, &full, sizeof full, NULL, 0)) == OC_RING_DONE)
                if (p.in.mine == CAPACITY) p.shared->head = lies[i].head == 64 ? CAPACITY + 64 : lies[i].head;
        } else {
            memcpy(p.memory + GUARD, &q, sizeof q);
            p.shared->tail = lies[i].tail;
            got = oc_ring_peek(&p.out, &q, CAPACITY);
        }
        if (got != lies[i].want) fail_msg("%s: state %d, not %d", lies[i].name, got, lies[i].want);
        if (got == OC_RING_BROKEN && !lies[i].of_head)
            assert_int_equal(oc_ring_peek(&p.out, &q, CAPACITY), OC_RING_BROKEN); /* for good */
        pair_close(&p);
    }
}

/* The harness finds a flipped bit anywhere in a record. */
static void planted(void **state)
{
    pair p = pair_open();
    uint64_t number = 0;
    (void)state;
    while (size_of(number) < 64) number++;
    assert_int_equal(put(&p.in, number), OC_RING_DONE);
    p.memory[GUARD + OC_WIRE_LINE + 5] ^= 4;
    assert_false(take_equal(&p.out, number));
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_wrap), cmocka_unit_test(two_threads),
                                       cmocka_unit_test(liars), cmocka_unit_test(planted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
