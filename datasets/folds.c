/* folds.c - folds from a rule or from a manifest. A manifest is YAML that a person can write:
 *
 *   format: outcry-folds
 *   version: 1
 *   embargo_ns: 0
 *   folds:
 *     - "fold-0 train 100..200 valid 200..250 test 250..300"       # receive_ns, [first, last); several: 1..2,5..6
 *   hash: 0123…                                                    # optional by hand; checked where it stands */
#include "datasets/folds.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { FOLDS_MAX = 200, FOLD_TEXT = 64 + 3 * (8 + OC_FOLD_INTERVALS_MAX * 44), MANIFEST_VERSION = 1 };

static const char *const split_names[OC_SPLIT_COUNT] = {"train", "valid", "test"};

oc_hash oc_fold_hash(const oc_fold *fold, int64_t embargo_ns)
{
    int64_t words[3 + OC_SPLIT_COUNT * (1 + 2 * OC_FOLD_INTERVALS_MAX)] = {MANIFEST_VERSION, embargo_ns};
    size_t at = 2;
    for (int s = 0; s < OC_SPLIT_COUNT; s++) {
        words[at++] = (int64_t)fold->interval_count[s];
        for (size_t i = 0; i < fold->interval_count[s]; i++) {
            words[at++] = fold->interval[s][i].first_ns;
            words[at++] = fold->interval[s][i].last_ns;
        }
    }
    return oc_hash_pair(oc_hash_bytes(words, at * sizeof *words), oc_hash_bytes(fold->name, strlen(fold->name)));
}

static oc_hash folds_hash(const oc_folds *f)
{
    oc_hash hash = {f->count, (uint64_t)f->embargo_ns};
    for (size_t i = 0; i < f->count; i++) hash = oc_hash_pair(hash, oc_fold_hash(&f->fold[i], f->embargo_ns));
    return hash;
}

static oc_status fold_check(const oc_fold *fold, const char *where)
{
    const oc_interval *all[OC_SPLIT_COUNT * OC_FOLD_INTERVALS_MAX];
    size_t count = 0;
    for (int s = 0; s < OC_SPLIT_COUNT; s++)
        for (size_t i = 0; i < fold->interval_count[s]; i++) all[count++] = &fold->interval[s][i];
    for (size_t i = 0; i < count; i++) {
        if (all[i]->first_ns >= all[i]->last_ns)
            return OC_FAIL(OC_ECONFIG, "%s: %s: an interval ends before it begins", where, fold->name);
        for (size_t k = 0; k < i; k++)
            if (all[i]->first_ns < all[k]->last_ns && all[k]->first_ns < all[i]->last_ns)
                return OC_FAIL(OC_ECONFIG, "%s: %s: two intervals overlap at %" PRId64, where, fold->name,
                               all[i]->first_ns > all[k]->first_ns ? all[i]->first_ns : all[k]->first_ns);
    }
    return OC_OK;
}

/* ---- rules --------------------------------------------------------------------------------------------------------
 */

static void time_span(const oc_dataset *d, int64_t *first, int64_t *last)
{
    *first = INT64_MAX;
    *last = INT64_MIN;
    for (size_t i = 0; i < d->symbol_count; i++) {
        const oc_dataset_symbol *s = &d->symbols[i];
        if (d->time_ns[s->first] < *first) *first = d->time_ns[s->first];
        if (d->time_ns[s->first + s->rows - 1] > *last) *last = d->time_ns[s->first + s->rows - 1];
    }
    if (*last < INT64_MAX) ++*last;              /* intervals are half open */
}

/* first + share of the span; the span of int64 times is kept unsigned. */
static int64_t time_at(int64_t first, int64_t last, double share)
{
    uint64_t span = (uint64_t)last - (uint64_t)first;
    if (share >= 1.0) return last;
    return (int64_t)((uint64_t)first + (uint64_t)((long double)span * (long double)share));
}

static void interval_set(oc_fold *f, oc_split split, int64_t first, int64_t last)
{
    f->interval[split][0] = (oc_interval){first, last};
    f->interval_count[split] = 1;
}

static oc_status folds_new(oc_folds **out, size_t count, int64_t embargo_ns)
{
    OC_TRY(oc_memory_new(out, sizeof **out, "folds"));
    (*out)->embargo_ns = embargo_ns;
    (*out)->count = count;
    oc_status status = oc_memory_new_array(&(*out)->fold, count, sizeof *(*out)->fold, "folds");
    if (status == OC_OK) return OC_OK;
    oc_memory_free(*out);
    *out = NULL;
    return status;
}

static oc_status chronological(oc_folds **out, const char *spec, const char *rest, int64_t embargo_ns,
                               const oc_dataset *d)
{
    double share[OC_SPLIT_COUNT];
    int64_t first, last;
    const char *at = rest;
    for (int s = 0; s < OC_SPLIT_COUNT; s++) {
        char *end = NULL;
        share[s] = isdigit((unsigned char)*at) ? strtod(at, &end) : -1.0;
        if (!(share[s] > 0.0 && share[s] < 1.0) || *end != (s == OC_SPLIT_TEST ? '\0' : ':'))
            return OC_FAIL(OC_ECONFIG,
                           "folds \"%s\" are not chronological:TRAIN:VALID:TEST with shares between 0 and 1", spec);
        at = end + 1;
    }
    double sum = share[0] + share[1] + share[2];
    if (!(sum > 0.999999 && sum < 1.000001))
        return OC_FAIL(OC_ECONFIG, "folds \"%s\": the shares sum to %g, not 1", spec, sum);
    time_span(d, &first, &last);
    OC_TRY(folds_new(out, 1, embargo_ns));
    oc_fold *f = &(*out)->fold[0];
    memcpy(f->name, "chronological", sizeof "chronological");
    int64_t valid = time_at(first, last, share[0]), test = time_at(first, last, share[0] + share[1]);
    interval_set(f, OC_SPLIT_TRAIN, first, valid);
    interval_set(f, OC_SPLIT_VALID, valid, test);
    interval_set(f, OC_SPLIT_TEST, test, last);
    return OC_OK;
}

/* The first half of the span is the shortest past; the second half is N + 1 pieces: fold i validates on piece i and is
 * tested on piece i + 1, so the test pieces follow each other without overlap. */
static oc_status walk_forward(oc_folds **out, const char *spec, const char *rest, int64_t embargo_ns,
                              const oc_dataset *d)
{
    char *end = NULL;
    long count = isdigit((unsigned char)*rest) ? strtol(rest, &end, 10) : 0;
    bool rolling = end && strcmp(end, ":rolling") == 0;
    int64_t first, last;
    if (count < 1 || count > FOLDS_MAX || (*end && !rolling && strcmp(end, ":anchored") != 0))
        return OC_FAIL(OC_ECONFIG, "folds \"%s\" are not walk-forward:N[:rolling|anchored] with N from 1 to %d", spec,
                       FOLDS_MAX);
    time_span(d, &first, &last);
    OC_TRY(folds_new(out, (size_t)count, embargo_ns));
    for (long i = 0; i < count; i++) {
        oc_fold *f = &(*out)->fold[i];
        double piece = 0.5 / (double)(count + 1), valid = 0.5 + piece * (double)i;
        int64_t valid_ns = time_at(first, last, valid), test_ns = time_at(first, last, valid + piece);
        snprintf(f->name, sizeof f->name, "fold-%ld", i);
        interval_set(f, OC_SPLIT_TRAIN, rolling ? time_at(first, last, valid - 0.5) : first, valid_ns);
        interval_set(f, OC_SPLIT_VALID, valid_ns, test_ns);
        interval_set(f, OC_SPLIT_TEST, test_ns, i + 1 == count ? last : time_at(first, last, valid + 2.0 * piece));
    }
    return OC_OK;
}

/* ---- manifest -----------------------------------------------------------------------------------------------------
 */

static const oc_config_key manifest_keys[] = {
    {"format", OC_CONFIG_CHOICE, 0, 0, NULL, "outcry-folds", "", "what the file is"},
    {"version", OC_CONFIG_INT, MANIFEST_VERSION, MANIFEST_VERSION, NULL, NULL, "", "of the format"},
    {"embargo_ns", OC_CONFIG_INT, 0, 9e18, "0", NULL, "ns",
     "pause after a validation or test interval's last known label"},
    {"folds", OC_CONFIG_LIST, 1, FOLDS_MAX, NULL, NULL, "",
     "NAME train A..B valid B..C test C..D, receive_ns, half open"},
    {"hash", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "of what the folds say"},
};

static const char *number(const char *at, int64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*at) && *at != '-') return NULL;
    errno = 0;
    long long value = strtoll(at, &end, 10);
    *out = value;
    return errno || end == at ? NULL : end;
}

/* "1..2,5..6" into the split; NULL where it is none. */
static const char *intervals_parse(const char *at, oc_fold *f, int split)
{
    do {
        if (f->interval_count[split] == OC_FOLD_INTERVALS_MAX) return NULL;
        oc_interval *v = &f->interval[split][f->interval_count[split]++];
        if (*at == ',') at++;
        if (!(at = number(at, &v->first_ns)) || strncmp(at, "..", 2) != 0 || !(at = number(at + 2, &v->last_ns)))
            return NULL;
    } while (*at == ',');
    return at;
}

static bool fold_parse(oc_fold *f, const char *text)
{
    const char *at = strchr(text, ' ');
    size_t length = at ? (size_t)(at - text) : 0;
    if (length == 0 || length >= sizeof f->name) return false;
    memcpy(f->name, text, length);
    f->name[length] = '\0';
    while (*at == ' ') {
        int split = 0;
        at++;
        while (split < OC_SPLIT_COUNT && (strncmp(at, split_names[split], strlen(split_names[split])) != 0 ||
                                          at[strlen(split_names[split])] != ' ')) split++;
        if (split == OC_SPLIT_COUNT || f->interval_count[split]) return false;
        at = intervals_parse(at + strlen(split_names[split]) + 1, f, split);
        if (!at) return false;
    }
    return *at == '\0';
}

static oc_status manifest_fill(oc_folds **out, const oc_config *c, const char *path, int64_t embargo_ns)
{
    oc_hash said;
    size_t count = oc_config_count(c, "folds");
    if (embargo_ns && embargo_ns != oc_config_int(c, "embargo_ns"))
        return OC_FAIL(OC_ECONFIG,
                       "%s: its embargo is %" PRId64 " ns, the configuration's %" PRId64 " ns: give one of them", path,
                       oc_config_int(c, "embargo_ns"), embargo_ns);
    OC_TRY(folds_new(out, count, oc_config_int(c, "embargo_ns")));
    for (size_t i = 0; i < count; i++)
        if (!fold_parse(&(*out)->fold[i], oc_config_item(c, "folds", i)))
            return oc_config_refuse(c, "folds", "fold %zu, \"%s\", is not NAME train A..B valid B..C test C..D", i,
                                    oc_config_item(c, "folds", i));
    for (size_t i = 0; i < count; i++) OC_TRY(fold_check(&(*out)->fold[i], path));
    const char *text = oc_config_text(c, "hash");
    if (!*text) return OC_OK;
    if (!oc_hash_parse(text, &said) || !oc_hash_equal(said, folds_hash(*out)))
        return OC_FAIL(
            OC_EDATA,
            "%s: its hash is not that of its folds: the file was changed; take the hash line out if that was "
            "meant",
            path);
    return OC_OK;
}

static oc_status manifest_open(oc_folds **out, const char *path, int64_t embargo_ns)
{
    oc_config *c;
    OC_TRY(oc_config_open(&c, path, manifest_keys, sizeof manifest_keys / sizeof *manifest_keys, NULL, 0));
    oc_status status = manifest_fill(out, c, path, embargo_ns);
    oc_config_close(c);
    return status;
}

oc_status oc_folds_open(oc_folds **out, const char *spec, int64_t embargo_ns, const oc_dataset *d)
{
    static const struct {
        const char *prefix;
        oc_status (*make)(oc_folds **, const char *, const char *, int64_t, const oc_dataset *);
    } rules[] = {{"chronological:", chronological}, {"walk-forward:", walk_forward}};
    oc_status status = OC_OK;
    assert(out && spec && d);
    *out = NULL;
    if (embargo_ns < 0) return OC_FAIL(OC_ECONFIG, "the embargo is %" PRId64 " ns, not at least 0", embargo_ns);
    size_t i = 0;
    while (i < sizeof rules / sizeof *rules && strncmp(spec, rules[i].prefix, strlen(rules[i].prefix)) != 0) i++;
    if (i < sizeof rules / sizeof *rules)
        status = rules[i].make(out, spec, spec + strlen(rules[i].prefix), embargo_ns, d);
    else if (oc_path_exists(spec)) status = manifest_open(out, spec, embargo_ns);
    else
        status =
            OC_FAIL(OC_ECONFIG,
                    "folds \"%s\" are neither chronological:TRAIN:VALID:TEST, walk-forward:N[:rolling|anchored] nor "
                    "the path of a manifest",
                    spec);
    for (size_t k = 0; status == OC_OK && k < (*out)->count; k++) status = fold_check(&(*out)->fold[k], spec);
    if (status != OC_OK) {
        oc_folds_close(*out);
        *out = NULL;
        return status;
    }
    (*out)->hash = folds_hash(*out);
    return OC_OK;
}

void oc_folds_close(oc_folds *f)
{
    if (!f) return;
    oc_memory_free(f->fold);
    oc_memory_free(f);
}

static size_t fold_print(char *text, size_t cap, const oc_fold *f)
{
    size_t at = (size_t)snprintf(text, cap, "  - \"%s", f->name);
    for (int s = 0; s < OC_SPLIT_COUNT; s++) {
        for (size_t i = 0; i < f->interval_count[s]; i++)
            at += (size_t)snprintf(text + at, cap - at, "%s%s%s%" PRId64 "..%" PRId64, i ? "," : " ",
                                   i ? "" : split_names[s], i ? "" : " ", f->interval[s][i].first_ns,
                                   f->interval[s][i].last_ns);
    }
    return at + (size_t)snprintf(text + at, cap - at, "\"\n");
}

oc_status oc_folds_save(const oc_folds *f, const char *path)
{
    char *text, hash[OC_HASH_TEXT];
    size_t cap = f->count * FOLD_TEXT + 512;
    OC_TRY(oc_memory_new(&text, cap, "fold manifest"));
    size_t at = (size_t)snprintf(text, cap,
                                 "# Intervals of receive_ns, half open, for all symbols alike.\nformat: outcry-folds\n"
                                 "version: %d\nembargo_ns: %" PRId64 "\nfolds:\n",
                                 MANIFEST_VERSION, f->embargo_ns);
    for (size_t i = 0; i < f->count; i++) at += fold_print(text + at, cap - at, &f->fold[i]);
    at += (size_t)snprintf(text + at, cap - at, "hash: \"%s\"\n", oc_hash_text(folds_hash(f), hash));
    oc_status status = oc_file_write(path, text, at);
    oc_memory_free(text);
    return status;
}
