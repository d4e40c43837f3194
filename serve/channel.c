/* channel.c - memfds that cannot shrink: a client that could, would end the server by SIGBUS. All pages are there from
 * the beginning: measured, a page's first record costs some 4 us, and clients that are sent as much as each other reach
 * their pages in the same batch. */
#include "serve/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(sizeof(oc_channel) % OC_WIRE_LINE == 0, "two batchers write to no line both");

oc_status oc_channel_memory(const char *name, uint64_t bytes, int *fd, void **at)
{
    void *map = MAP_FAILED;
    *at = NULL;
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0) return OC_FAIL(OC_EFAILED, "memfd_create: %s", strerror(errno));
    if (ftruncate(*fd, (off_t)bytes) == 0 && fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, *fd, 0);
    if (map != MAP_FAILED) {
        *at = map;
        return OC_OK;
    }
    const oc_status status =
        OC_FAIL(OC_EFAILED, "shared memory of %llu bytes: %s", (unsigned long long)bytes, strerror(errno));
    close(*fd);
    *fd = -1;
    return status;
}

oc_status oc_channel_make(oc_channel *c, uint64_t request_bytes, int *fd)
{
    const uint64_t bytes = OC_WIRE_REGION_OFFSET + request_bytes + OC_CHANNEL_REPLY_BYTES;
    OC_TRY(oc_channel_memory("outcry-rings", bytes, fd, &c->region));
    c->region_bytes = bytes;
    oc_wire_control *control = c->region;
    unsigned char *data = (unsigned char *)c->region + OC_WIRE_REGION_OFFSET;
    oc_ring_init(&c->requests, &control->requests, data, request_bytes);
    oc_ring_init(&c->replies, &control->replies, data + request_bytes, OC_CHANNEL_REPLY_BYTES);
    return OC_OK;
}

void oc_channel_drop(oc_channel *c)
{
    munmap(c->region, c->region_bytes);
    close(c->socket);
    c->region = NULL;
    c->socket = -1;
}
