/* comm_hub_inside.h - the hub's two halves: guests.c listens and hears hellos, hub.c serves those who are ranks. */
#ifndef OC_TRAIN_COMM_HUB_INSIDE_H
#define OC_TRAIN_COMM_HUB_INSIDE_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include "train/comm_hub.h"

enum { HUB_GUESTS = 32, HUB_WHY_BYTES = 256 };

typedef struct hub_guest { /* connected, but not yet a rank; fd -1: free */
    int fd;
    size_t got;
    int64_t since_ns;
    wire_hello hello;
} hub_guest;

typedef struct hub_peer {
    int fd; /* -1: not come, or gone */
    bool here, gone, arrived, told;
    int64_t heard_ns;
    wire_head head;
    size_t got; /* of head and body */
    wire_head out;
    const unsigned char *out_body;
    size_t out_bytes, sent; /* of the body; of head and body */
    bool sending;
    char host[WIRE_HOST_BYTES], text[WIRE_TEXT_BYTES]; /* text: its last words */
} hub_peer;

struct train_hub {
    int listener, ranks, here;
    oc_hash job;
    int64_t opened_ns, timeout_ns, looked_ns, ended_ns; /* ended: rank 0 has left, or the verdict is spoken */
    pthread_t thread;
    hub_peer *peers;      /* [ranks] */
    struct pollfd *polls; /* [ranks + HUB_GUESTS + 1] */
    hub_guest guests[HUB_GUESTS];
    char (*hosts)[WIRE_HOST_BYTES]; /* [ranks] */
    uint64_t sequence;              /* of the exchange that is under way */
    wire_head call;                 /* what it is, once one rank has come; sequence 0: none has */
    int arrived;
    int64_t first_ns;
    unsigned char *data[2]; /* a slow rank may still take the last result while the next fills */
    size_t capacity[2];
    oc_status verdict;
    char verdict_text[WIRE_TEXT_BYTES], refused[HUB_WHY_BYTES];
};

OC_MUST hub_listen(int *listener, const char *store);
void hub_guests_accept(train_hub *h);
/* Reads a guest's hello; the guest is a rank afterwards, or refused, or still a guest. */
void hub_guest_hear(train_hub *h, hub_guest *g);
void hub_guests_expire(train_hub *h, int64_t now);
void hub_guest_drop(hub_guest *g);
void hub_peer_admit(train_hub *h, int rank, int fd, const char *host);

#endif
