/* example.c - a whole client of the inference server: opens a session, pushes rows, prints the answers.
 *     example unix:/tmp/outcry.sock 500 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "serve/client/client.h"

enum { SECOND = 1000000000, PERIOD = 10000000 };

static oc_status push_rows(oc_client *c, long rows)
{
    static float row[4096]; /* here your features; see oc_client_describe */
    const oc_client_model *m = oc_client_describe(c);
    uint32_t session;
    OC_TRY(oc_client_session_open(c, m->name, "EXAMPLE", m->schema_low, m->schema_high, PERIOD, SECOND, &session));
    for (long i = 1; i <= rows; i++) {
        for (uint32_t k = 0; k < m->inputs && k < 4096; k++)
            row[k] = (float)((i * 7919 + (long)k * 104729) % 1000) * 1e-3f;
        oc_wire_reply reply;
        OC_TRY(oc_client_push(c, session, (oc_stamp){.sequence = (uint64_t)i}, row, (uint32_t)i));
        oc_client_wait(c, 100000, SECOND);
        if (oc_client_poll(c, &reply, 1) != 1) return OC_FAIL(OC_EAGAIN, "no answer within a second");
        const float *p = reply.probabilities[0];
        printf("%ld state %u buy %.4f sell %.4f hold %.4f in %.1f us\n", i, reply.state, (double)p[0], (double)p[1],
               (double)p[2], (double)(reply.queue_ns + reply.service_ns) * 1e-3);
    }
    return OC_OK;
}

int main(int argc, char **argv)
{
    oc_client *c;
    oc_status status = oc_client_open(&c, argc > 1 ? argv[1] : "unix:/tmp/outcry.sock", SECOND);
    if (status == OC_OK) status = push_rows(c, argc > 2 ? strtol(argv[2], NULL, 10) : 200);
    if (status != OC_OK) fprintf(stderr, "example: %s\n", oc_status_message());
    oc_client_close(c);
    return oc_status_exit_code(status);
}
