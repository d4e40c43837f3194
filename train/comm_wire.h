/* comm_wire.h - what ranks and the hub of --store say to each other over TCP. A rank says hello, and everything after
 * is frames: a head of fixed size, then a body whose length follows from the head. All numbers are little-endian; a
 * length is checked before a byte of its body is taken. */
#ifndef OC_TRAIN_COMM_WIRE_H
#define OC_TRAIN_COMM_WIRE_H

#include <assert.h>
#include <stdint.h>
#include "base/clock.h"
#include "base/hash.h"
#include "train/comm.h"

enum { WIRE_VERSION = 1, WIRE_WHAT_BYTES = 32, WIRE_HOST_BYTES = 64, WIRE_TEXT_BYTES = 1024 };
#define WIRE_GREETING   "outcry\r\n" /* 8 bytes; no text protocol begins so */
#define WIRE_MAGIC      0x726b6e73u
#define WIRE_BYTES_MAX  ((uint64_t)1 << 30) /* of all ranks together in one exchange */
#define WIRE_BEAT_NS    OC_SECOND_NS        /* a rank shows that its process runs */
#define WIRE_SILENCE_NS (6 * OC_SECOND_NS)  /* without a byte from a rank: stopped, or cut off */
#define WIRE_HELLO_NS   (5 * OC_SECOND_NS)  /* a rank waits so long for the answer to its hello */
#define WIRE_GUEST_NS   (2 * OC_SECOND_NS)  /* the hub, for a hello; where the room is full: */
#define WIRE_CROWD_NS   (OC_SECOND_NS / 4)
#define WIRE_LATE_NS    OC_SECOND_NS       /* a rank waits so much longer than the hub, which knows whom to name */
#define WIRE_GRACE_NS   (2 * OC_SECOND_NS) /* for the last word to arrive */

typedef enum {
    WIRE_HERE = 1, /* hub: your hello was good */
    WIRE_WELCOME,  /* hub: all are here; body: hosts [ranks][WIRE_HOST_BYTES] */
    WIRE_CALL,     /* rank: an exchange; body: its own block */
    WIRE_RESULT,   /* hub: all blocks, or rank 0's */
    WIRE_BEAT,     /* rank: I run */
    WIRE_END,      /* rank: I leave; body where status is a failure: its message [WIRE_TEXT_BYTES] */
    WIRE_VERDICT   /* hub: the job is over; body: why [WIRE_TEXT_BYTES] */
} wire_kind;

typedef struct wire_hello {
    char greeting[8];
    uint32_t version, rank, ranks, reserved;
    oc_hash job;
    char host[WIRE_HOST_BYTES];
} wire_hello;

typedef struct wire_head {
    uint32_t magic, kind;
    uint64_t sequence, bytes; /* bytes: of one rank's block */
    int64_t timeout_ns;
    int32_t status;
    uint32_t broadcast;
    char what[WIRE_WHAT_BYTES];
} wire_head;

/* Sent as they lie in memory: without holes, on machines of the order that is stated above. */
static_assert(sizeof(wire_hello) == 24 + sizeof(oc_hash) + WIRE_HOST_BYTES && sizeof(wire_head) == 40 + WIRE_WHAT_BYTES,
              "no holes");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian");

/* "host:port", "[::1]:port". OC_EUSAGE names what is wrong with it. */
OC_MUST train_store_parse(const char *store, char *host, size_t host_bytes, char *port, size_t port_bytes);

#endif
