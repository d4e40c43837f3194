/* study_ledger.c - STUDY/ledger.jsonl: what a study trained and looked at, in the study's own order. The ledger beside
 * the dataset (datasets/ledger.h) says when each look was, in the order of time; this one is the same for one process
 * and for many. Its lines are of the same form: {"n":…,…,"previous":…,"self":…}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "evaluate/study.h"

typedef struct chain {
    char *text; /* grown */
    size_t length, capacity;
    int64_t lines;
    oc_hash head;
} chain;

static oc_status text_add(chain *c, const char *text, size_t bytes)
{
    OC_TRY(oc_memory_grow(&c->text, &c->capacity, c->length + bytes, 1, "ledger of a study"));
    memcpy(c->text + c->length, text, bytes);
    c->length += bytes;
    return OC_OK;
}

/* {…,"previous":…} into the text, with its own hash before the brace. */
static oc_status body_add(chain *c, const char *body)
{
    char self[OC_HASH_TEXT], end[64];
    c->head = oc_hash_bytes(body, strlen(body));
    int length = snprintf(end, sizeof end, ",\"self\":\"%s\"}\n", oc_hash_text(c->head, self));
    OC_TRY(text_add(c, body, strlen(body) - 1));
    OC_TRY(text_add(c, end, (size_t)length));
    return OC_OK;
}

static oc_status line_add(chain *c, const char *command, const json_t *fold, const json_t *row)
{
    char previous[OC_HASH_TEXT];
    json_t *line = json_pack("{s:I, s:s, s:O}", "n", (json_int_t)++c->lines, "command", command, "fold",
                             json_object_get(fold, "fold"));
    bool failed = !line || json_object_update(line, (json_t *)(uintptr_t)row) != 0 ||
                  json_object_set_new(line, "previous", json_string(oc_hash_text(c->head, previous))) != 0;
    char *body = failed ? NULL : oc_json_line(line);
    json_decref(line);
    if (!body) return OC_FAIL(OC_EMEMORY, "no memory for the ledger of a study");
    oc_status status = body_add(c, body);
    free(body);
    return status;
}

static oc_status rows_add(chain *c, const char *command, const json_t *fold, const char *key)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(fold, key), i, row) OC_TRY(line_add(c, command, fold, row));
    return OC_OK;
}

oc_status oc_study_ledger(const json_t *folds, const char *path, oc_hash *head)
{
    chain c = {0};
    const json_t *fold;
    size_t i;
    oc_status status = OC_OK;
    json_array_foreach(folds, i, fold)
    {
        if (status == OC_OK) status = rows_add(&c, "train", fold, "trained");
        if (status == OC_OK) status = rows_add(&c, "evaluate", fold, "tested");
    }
    if (status == OC_OK && path) status = oc_file_write(path, c.text, c.length);
    *head = c.head;
    oc_memory_free(c.text);
    return status;
}
