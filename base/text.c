/* text.c - a growing text; failure is sticky. */
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static bool reserve(oc_text *t, size_t more)
{
    if (t->failed) return false;
    if (t->bytes + more + 1 <= t->capacity) return true;
    if (oc_memory_grow(&t->data, &t->capacity, t->bytes + more + 1, 1, "text") != OC_OK) t->failed = true;
    return !t->failed;
}

void oc_text_raw(oc_text *t, const char *data, size_t bytes)
{
    if (!reserve(t, bytes)) return;
    if (bytes > 0) memcpy(t->data + t->bytes, data, bytes);
    t->bytes += bytes;
    t->data[t->bytes] = '\0';
}

void oc_text_add(oc_text *t, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) t->failed = true;
    if (length >= 0 && reserve(t, (size_t)length)) {
        vsnprintf(t->data + t->bytes, (size_t)length + 1, format, again);
        t->bytes += (size_t)length;
    }
    va_end(again);
}

void oc_text_html(oc_text *t, const char *plain)
{
    static const char *const escapes[256] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;"};
    for (const char *c = plain; *c; c++) {
        const char *escape = escapes[(unsigned char)*c];
        oc_text_raw(t, escape ? escape : c, escape ? strlen(escape) : 1);
    }
}

oc_status oc_text_finish(const oc_text *t, const char *what)
{
    return t->failed ? OC_FAIL(OC_EMEMORY, "no memory for %s", what) : OC_OK;
}

void oc_text_free(oc_text *t)
{
    oc_memory_free(t->data);
    memset(t, 0, sizeof *t);
}
