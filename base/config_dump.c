/* config_dump.c - the resolved configuration as YAML, and the schema as documentation. A dump parsed again gives the
 * same dump: numbers in the shortest text that reads back equal, texts quoted unless they are plain words. */
#include "base/config_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool is_plain_word(const char *text)
{
    static const char *const nulls[] = {"null", "Null", "NULL"};
    if (!isalpha((unsigned char)*text) && *text != '_' && *text != '/') return false;
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++) {
        if (strcmp(text, nulls[i]) == 0) return false;
    }
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("_./-+", *c)) return false;
    }
    return true;
}

/* One UTF-8 character (the text is known to be well formed): its code, and *s moved behind it. */
static unsigned character(const unsigned char **s)
{
    unsigned code = **s, more = code < 0x80 ? 0 : code < 0xe0 ? 1 : code < 0xf0 ? 2 : 3;
    code &= more == 0 ? 0x7fu : 0x3fu >> more;
    for ((*s)++; more > 0 && (**s & 0xc0) == 0x80; more--, (*s)++) code = code << 6 | (**s & 0x3fu);
    return code;
}

/* Characters that YAML's reader refuses or takes for a line break must be escaped; quotes and backslashes as well. */
static bool is_escaped(unsigned code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == '"' || code == '\\' || code == 0x2028 ||
           code == 0x2029 || code == 0xfeff || code == 0xfffe || code == 0xffff;
}

static void text_print(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    if (is_plain_word(text)) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    while (*s) {
        const unsigned char *begin = s;
        unsigned code = character(&s);
        if (is_escaped(code)) fprintf(out, "\\u%04X", code);
        else fwrite(begin, 1, (size_t)(s - begin), out);
    }
    fputc('"', out);
}

static void real_print(FILE *out, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (!(strtod(text, NULL) < value) && !(strtod(text, NULL) > value)) break;
    }
    fputs(text, out);
}

static void list_print(FILE *out, const config_value *v)
{
    fputc('[', out);
    for (size_t i = 0; i < v->count; i++) {
        if (i > 0) fputs(", ", out);
        text_print(out, v->items[i]);
    }
    fputc(']', out);
}

static void value_print(FILE *out, const oc_config_key *key, const config_value *v)
{
    switch (key->type) {
    case OC_CONFIG_INT: fprintf(out, "%lld", (long long)v->integer); break;
    case OC_CONFIG_REAL: real_print(out, v->real); break;
    case OC_CONFIG_BOOL: fputs(v->boolean ? "true" : "false", out); break;
    case OC_CONFIG_LIST: list_print(out, v); break;
    default: text_print(out, v->items[0]);
    }
}

/* Whether key `index` is the first of the schema that begins with its first `bytes` bytes. */
static bool is_first(const oc_config *c, size_t index, size_t bytes)
{
    for (size_t i = 0; i < index; i++) {
        if (strncmp(c->keys[i].key, c->keys[index].key, bytes) == 0) return false;
    }
    return true;
}

/* All keys that begin with the first `length` bytes of `prefix`; sections appear where their first key stands. */
static void level_print(FILE *out, const oc_config *c, const char *prefix, size_t length, int depth)
{
    for (size_t i = 0; i < c->key_count; i++) {
        const char *key = c->keys[i].key;
        if (strncmp(key, prefix, length) != 0) continue;
        size_t part = strcspn(key + length, ".");
        if (key[length + part] == '\0') {
            fprintf(out, "%*s%s: ", depth * 2, "", key + length);
            value_print(out, &c->keys[i], &c->values[i]);
            fputc('\n', out);
        } else if (depth < CONFIG_DEPTH_MAX && is_first(c, i, length + part + 1)) {
            fprintf(out, "%*s%.*s:\n", depth * 2, "", (int)part, key + length);
            level_print(out, c, key, length + part + 1, depth + 1);
        }
    }
}

char *oc_config_dump(const oc_config *c)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    level_print(out, c, "", 0, 0);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

void oc_config_help(const oc_config_key *keys, size_t key_count, FILE *out)
{
    for (size_t i = 0; i < key_count; i++) {
        char wanted[256];
        config_describe(&keys[i], wanted, sizeof wanted);
        fprintf(out, "  %-28s %s%s\n%31s%s\n", keys[i].key, wanted, keys[i].standard ? "" : " (required)", "",
                keys[i].help ? keys[i].help : "");
    }
}
