/* report_parts.c - small readers and writers that all sections use. */
#include "evaluate/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"

const json_t *oc_report_at(const json_t *root, const char *path)
{
    char key[64];
    while (root && *path) {
        size_t length = strcspn(path, ".");
        if (length >= sizeof key) return NULL;
        memcpy(key, path, length);
        key[length] = '\0';
        root = json_object_get(root, key);
        path += length + (path[length] == '.');
    }
    return root;
}

double oc_report_real(const json_t *root, const char *path)
{
    const json_t *value = oc_report_at(root, path);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

const char *oc_report_text(const json_t *root, const char *path)
{
    const char *text = json_string_value(oc_report_at(root, path));
    return text ? text : "";
}

void oc_report_put(oc_text *t, const json_t *root, const char *path)
{
    oc_text_html(t, oc_report_text(root, path));
}

oc_status oc_report_predictions_check(const char *folder, const json_t *judged)
{
    char path[OC_PATH_MAX], have[OC_HASH_TEXT];
    const char *want;
    oc_hash hash;
    OC_TRY(oc_json_text(judged, "predictions_hash", folder, &want));
    OC_TRY(oc_path_join(path, sizeof path, folder, "predictions.h5"));
    OC_TRY(oc_hash_file(path, &hash));
    if (strcmp(oc_hash_text(hash, have), want) != 0)
        return OC_FAIL(OC_EDATA, "%s has hash %s, its figures were computed from %s: evaluate again", path, have, want);
    return OC_OK;
}

size_t oc_report_reals(const json_t *array, double *out, size_t cap)
{
    size_t count = json_array_size(array) < cap ? json_array_size(array) : cap;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        out[i] = json_is_number(value) ? json_number_value(value) : (double)NAN;
    }
    return count;
}

void oc_report_number(oc_text *t, double value, const char *format)
{
    char text[64];
    if (!isfinite(value)) {
        oc_text_add(t, "&ndash;");
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, format, value); /* formats are literals of the callers in this folder */
#pragma GCC diagnostic pop
    oc_text_add(t, "%s", text);
}

void oc_report_interval(oc_text *t, const json_t *interval)
{
    double low = oc_report_real(interval, "low"), high = oc_report_real(interval, "high");
    oc_report_number(t, oc_report_real(interval, "value"), "%.4f");
    if (isfinite(low) && isfinite(high)) oc_text_add(t, " <span class=\"soft\">[%.4f, %.4f]</span>", low, high);
}
