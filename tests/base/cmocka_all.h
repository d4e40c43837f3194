/* cmocka_all.h - cmocka with the headers that it wants before itself, and what several tests of base share. */
#ifndef OC_TESTS_BASE_CMOCKA_ALL_H
#define OC_TESTS_BASE_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/status.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Succeeds or shows why not. */
static inline void must(oc_status status)
{
    if (status != OC_OK) fail_msg("%s (at %s)", oc_status_message(), oc_status_places());
}

/* Fails with this code and a message that holds `part`. */
static inline void must_fail(oc_status status, oc_status code, const char *part)
{
    if (status != code) fail_msg("%s, not %s: %s", oc_status_name(status), oc_status_name(code), oc_status_message());
    if (!strstr(oc_status_message(), part)) fail_msg("\"%s\" does not say \"%s\"", oc_status_message(), part);
}

/* A fresh folder below the working directory; its name in `path`. */
static inline void folder_make(char *path, size_t cap, const char *name)
{
    snprintf(path, cap, "test-%s-XXXXXX", name);
    if (!mkdtemp(path)) fail_msg("no folder %s", path);
}

#endif
