/* pin.c - see pin.h. */
#include "serve/pin.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static OC_MUST last_cores(const cpu_set_t *allowed, int threads, int *cpus)
{
    int found = 0;
    for (int i = CPU_SETSIZE - 1; i >= 0 && found < threads; i--)
        if (CPU_ISSET(i, allowed)) cpus[found++] = i;
    if (found < threads)
        return OC_FAIL(OC_ECONFIG, "serve.pin: %d batchers, but this process may use %d cores: lower threads", threads,
                       found);
    return OC_OK;
}

oc_status oc_pin_parse(const char *text, int threads, int *cpus)
{
    cpu_set_t allowed;
    const char *at = text ? text : "";
    for (int i = 0; i < threads; i++) cpus[i] = -1;
    if (!*at) return OC_OK;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return OC_FAIL(OC_EFAILED, "serve.pin: sched_getaffinity: %s", strerror(errno));
    if (strcmp(at, "auto") == 0) return last_cores(&allowed, threads, cpus);
    for (int i = 0; i < threads; i++) {
        char *end;
        const long cpu = strtol(at, &end, 10);
        if (end == at || *end != (i + 1 < threads ? ',' : 0) || cpu < 0 || cpu >= CPU_SETSIZE)
            return OC_FAIL(OC_ECONFIG, "serve.pin is \"%.60s\", not auto, nor %d numbers of cores as in 2,3", text,
                           threads);
        if (!CPU_ISSET((int)cpu, &allowed))
            return OC_FAIL(OC_ECONFIG, "serve.pin: this process may not use core %ld", cpu);
        for (int k = 0; k < i; k++)
            if (cpus[k] == cpu) return OC_FAIL(OC_ECONFIG, "serve.pin: core %ld is named twice", cpu);
        cpus[i] = (int)cpu;
        at = end + 1;
    }
    return OC_OK;
}

oc_status oc_gpus_parse(const char *text, int threads, int *devices)
{
    const char *at = text ? text : "";
    int listed = 0;
    for (int i = 0; i < threads; i++) devices[i] = 0;
    while (*at) {
        char *end;
        const long gpu = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || (*end && !end[1]) || gpu < 0 || gpu > INT16_MAX || listed == threads)
            return OC_FAIL(OC_ECONFIG, "serve.gpus is \"%.60s\", not up to %d numbers of GPUs as in 0,1", text,
                           threads);
        devices[listed++] = (int)gpu;
        at = *end ? end + 1 : end;
    }
    for (int i = listed; i < threads && listed > 0; i++) devices[i] = devices[i % listed];
    return OC_OK;
}
