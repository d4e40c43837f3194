/* build.c - the executable's bytes are its identity: they change with every source, flag and compiler, and need no help
 * from the build system. A few MB are hashed once, in under a millisecond each. */
#include "base/build.h"

#include <pthread.h>
#include <stdio.h>

#include "base/hash.h"

static char text[64];

static void compute(void)
{
    oc_hash hash;
    if (oc_hash_file("/proc/self/exe", &hash) == OC_OK)
        snprintf(text, sizeof text, "%s+%016llx", OC_VERSION, (unsigned long long)(hash.low ^ hash.high));
    else
        snprintf(text, sizeof text, "%s+unknown", OC_VERSION);
}

const char *oc_build_text(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, compute);
    return text;
}
