/* config_yaml.c - walks libyaml's events. The document API is not used: it builds trees of any depth, follows aliases
 * and keeps duplicates. What is only wrong is collected and its subtree skipped; what makes the rest unreadable
 * (syntax, depth, aliases, too many errors) ends the walk. */
#include "base/config_internal.h"

#include <string.h>
#include <yaml.h>

enum { PLACE_BYTES = 320, SECTIONS_MAX = 128 };

typedef struct walk {
    oc_config *c;
    yaml_parser_t parser;
    yaml_event_t event;
    bool ended;                                 /* nothing more is read; the reason is among the errors */
    int depth;
    char sections[SECTIONS_MAX][CONFIG_PATH_MAX];               /* seen, to find one that is opened twice */
    size_t section_count;
} walk;

static const char *place_text(const walk *w, yaml_mark_t mark, char out[PLACE_BYTES])
{
    snprintf(out, PLACE_BYTES, "%.256s:%zu:%zu", w->c->name, mark.line + 1, mark.column + 1);
    return out;
}

static void fatal(walk *w, const char *place, const char *what)
{
    config_error(w->c, place, "%s", what);
    w->ended = true;
}

static void syntax_error(walk *w)
{
    char place[PLACE_BYTES];
    const yaml_parser_t *p = &w->parser;
    if (p->error == YAML_MEMORY_ERROR) config_error(w->c, w->c->name, "no memory to parse it");
    else if (p->error == YAML_READER_ERROR)
        config_error(w->c, w->c->name, "byte %zu: %s", p->problem_offset, p->problem ? p->problem : "is not UTF-8");
    else
        config_error(w->c, place_text(w, p->problem_mark, place), "%s%s%s", p->problem ? p->problem : "is not YAML",
                     p->context ? ", " : "", p->context ? p->context : "");
    w->ended = true;
}

/* Fetches the next event; false where the walk has ended. What no configuration needs is refused here, in one place. */
static bool next(walk *w)
{
    char place[PLACE_BYTES];
    yaml_event_delete(&w->event);
    if (w->ended) return false;
    if (w->c->error_count >= CONFIG_ERRORS_MAX) {
        w->ended = true;
        return false;
    }
    if (!yaml_parser_parse(&w->parser, &w->event)) {
        syntax_error(w);
        return false;
    }
    const yaml_event_t *e = &w->event;
    const char *what = NULL;
    bool scalar = e->type == YAML_SCALAR_EVENT, list = e->type == YAML_SEQUENCE_START_EVENT,
         map = e->type == YAML_MAPPING_START_EVENT;
    if (e->type == YAML_ALIAS_EVENT || (scalar && e->data.scalar.anchor) || (list && e->data.sequence_start.anchor) ||
        (map && e->data.mapping_start.anchor))
        what = "anchors and aliases are not read: write the value out";
    else if ((scalar && e->data.scalar.tag) || (list && e->data.sequence_start.tag) ||
             (map && e->data.mapping_start.tag))
        what = "tags are not read: write the plain value";
    w->depth += (list || map) - (e->type == YAML_SEQUENCE_END_EVENT || e->type == YAML_MAPPING_END_EVENT);
    if (w->depth > CONFIG_DEPTH_MAX) what = "is nested over 32 levels";
    if (what) fatal(w, place_text(w, e->start_mark, place), what);
    return !w->ended;
}

/* Skips the rest of the list or mapping that the current event opened. */
static void skip(walk *w)
{
    int outside = w->depth - 1;
    if (w->event.type != YAML_SEQUENCE_START_EVENT && w->event.type != YAML_MAPPING_START_EVENT) return;
    while (w->depth > outside && next(w)) continue;
}

static const char *scalar_text(const walk *w)
{
    return (const char *)w->event.data.scalar.value;
}

static bool scalar_has_nul(const walk *w)
{
    return strlen(scalar_text(w)) != w->event.data.scalar.length;
}

/* Nothing after the colon, or null: left out by mistake as often as on purpose, so it must be said. */
static bool scalar_is_null(const walk *w)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; w->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && i < sizeof nulls / sizeof *nulls; i++) {
        if (strcmp(scalar_text(w), nulls[i]) == 0) return true;
    }
    return false;
}

/* Adds the current scalar to the value; what cannot be an item is an error. */
static oc_status item_take(walk *w, size_t index)
{
    char place[PLACE_BYTES];
    const char *what = scalar_has_nul(w) ? "a text with a zero byte" : scalar_is_null(w) ? "empty" : NULL;
    if (what) config_error_kind(w->c, place_text(w, w->event.start_mark, place), index, what);
    else OC_TRY(config_value_add(w->c, index, scalar_text(w), w->event.data.scalar.length));
    return OC_OK;
}

static oc_status list_take(walk *w, size_t index)
{
    char place[PLACE_BYTES];
    size_t before = w->c->error_count;
    while (next(w) && w->event.type != YAML_SEQUENCE_END_EVENT) {
        if (w->event.type == YAML_SCALAR_EVENT) {
            OC_TRY(item_take(w, index));
        } else {
            config_error(w->c, place_text(w, w->event.start_mark, place),
                         "%s: an item is a list or a section, not a text", w->c->keys[index].key);
            skip(w);
        }
    }
    if (w->c->error_count == before) config_value_check(w->c, index);
    return OC_OK;
}

static oc_status value_take(walk *w, size_t index)
{
    char place[PLACE_BYTES];
    config_value *v = &w->c->values[index];
    size_t before = w->c->error_count;
    place_text(w, w->event.start_mark, place);
    v->given = v->given_in_file = true;
    OC_TRY(config_value_begin(w->c, index, place));
    if (w->event.type == YAML_SCALAR_EVENT) {
        OC_TRY(item_take(w, index));
        if (w->c->error_count == before) config_value_check(w->c, index);
    } else if (w->event.type == YAML_SEQUENCE_START_EVENT && w->c->keys[index].type == OC_CONFIG_LIST) {
        OC_TRY(list_take(w, index));
    } else {
        config_error_kind(w->c, place, index, w->event.type == YAML_SEQUENCE_START_EVENT ? "a list" : "a section");
        skip(w);
    }
    return OC_OK;
}

static bool section_is_new(walk *w, const char *path, const char *place)
{
    for (size_t i = 0; i < w->section_count; i++) {
        if (strcmp(w->sections[i], path) != 0) continue;
        config_error(w->c, place, "%s is opened twice", path);
        return false;
    }
    if (w->section_count == SECTIONS_MAX) {
        fatal(w, place, "has over 128 sections");
        return false;
    }
    memcpy(w->sections[w->section_count++], path, strlen(path) + 1);
    return true;
}

static oc_status section_take(walk *w, char *path);

/* One "key: value" of a section; the current event is the key. `path` holds the section's path and gets the key's. */
static oc_status pair_take(walk *w, char *path, size_t section_length)
{
    char place[PLACE_BYTES], shown[CONFIG_SHOW_BYTES];
    place_text(w, w->event.start_mark, place);
    bool scalar = w->event.type == YAML_SCALAR_EVENT;
    size_t room = CONFIG_PATH_MAX - section_length;
    int length = scalar ? snprintf(path + section_length, room, "%s%s", section_length ? "." : "", scalar_text(w)) : 0;
    bool named = scalar && !scalar_has_nul(w) && length >= 0 && (size_t)length < room;
    if (!scalar) config_error(w->c, place, "a key must be a plain name");
    else if (!named) config_error(w->c, place, "%s is not a key", config_show(scalar_text(w), shown));
    skip(w);
    if (!next(w)) return OC_OK;
    size_t index = named ? config_find(w->c, path) : CONFIG_NONE;
    bool section = named && config_is_section(w->c, path), scalar_value = w->event.type == YAML_SCALAR_EVENT;
    if (index != CONFIG_NONE && w->c->values[index].given_in_file) {
        config_error(w->c, place, "%s is given twice, first at %s", path, w->c->values[index].place);
        skip(w);
    } else if (index != CONFIG_NONE) {
        OC_TRY(value_take(w, index));
    } else if (section && w->event.type == YAML_MAPPING_START_EVENT && section_is_new(w, path, place)) {
        OC_TRY(section_take(w, path));
    } else if (section && !w->ended && scalar_value && scalar_is_null(w)) {
        section_is_new(w, path, place);         /* a section with every line commented out */
    } else {
        if (section && w->event.type != YAML_MAPPING_START_EVENT)
            config_error(w->c, place, "%s is %s, not a section", path,
                         scalar_value ? config_show(scalar_text(w), shown) : "a list");
        else if (named && !section) config_error_unknown(w->c, place, path);
        skip(w);
    }
    return OC_OK;
}

static oc_status section_take(walk *w, char *path)
{
    size_t length = strlen(path);
    while (next(w) && w->event.type != YAML_MAPPING_END_EVENT) {
        OC_TRY(pair_take(w, path, length));
        path[length] = '\0';
    }
    return OC_OK;
}

static oc_status document_take(walk *w)
{
    char place[PLACE_BYTES], path[CONFIG_PATH_MAX] = "";
    if (!next(w) || w->event.type != YAML_STREAM_START_EVENT) return OC_OK;
    if (!next(w) || w->event.type == YAML_STREAM_END_EVENT) return OC_OK;       /* only comments: all defaults */
    if (!next(w)) return OC_OK;
    if (w->event.type == YAML_MAPPING_START_EVENT) {
        OC_TRY(section_take(w, path));
    } else if (w->event.type != YAML_SCALAR_EVENT || !scalar_is_null(w)) {
        fatal(w, place_text(w, w->event.start_mark, place), "the file must be a mapping: lines of \"key: value\"");
    }
    if (next(w) && next(w) && w->event.type != YAML_STREAM_END_EVENT)
        fatal(w, place_text(w, w->event.start_mark, place), "a second document begins: one is read");
    return OC_OK;
}

oc_status config_yaml_read(oc_config *c, const char *text, size_t bytes)
{
    static _Thread_local walk w;                /* 20 kB: not on a small stack */
    if (bytes > CONFIG_BYTES_MAX) {
        config_error(c, c->name, "%zu bytes are over the limit of %d", bytes, CONFIG_BYTES_MAX);
        return OC_OK;
    }
    memset(&w, 0, sizeof w);
    w.c = c;
    if (!yaml_parser_initialize(&w.parser)) return OC_FAIL(OC_EMEMORY, "%s: no memory for the YAML parser", c->name);
    yaml_parser_set_encoding(&w.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&w.parser, (const unsigned char *)text, bytes);
    oc_status status = document_take(&w);
    yaml_event_delete(&w.event);
    yaml_parser_delete(&w.parser);
    return status;
}
