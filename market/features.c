/* features.c - from a specification to a planned engine: the tables, names and parameters, nodes shared by columns, one
 * block of memory, the schema hash. What happens per event is in features_run.c. */
#include "market/features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "market/features_internal.h"

static const oc_feature_table *const tables[] = {
    &oc_group_price, &oc_group_average, &oc_group_momentum, &oc_group_volatility, &oc_group_pattern,
    &oc_group_book, &oc_group_flow, &oc_group_statistics, &oc_group_time, &oc_group_cross};
enum { TABLES = sizeof tables / sizeof *tables };

/* Typical time between rows where the specification does not say. */
static const struct { const char *name; oc_sample sample; int64_t row_ns;
} samplings[] = {{"packet", OC_SAMPLE_PACKET, 100000000},
                 {"bar", OC_SAMPLE_BAR, 60000000000},
                 {"trade", OC_SAMPLE_TRADE, 1000000000}};
enum { EVERY_MAX = 1000000 };

void oc_plan_rows(oc_feature_plan *plan, oc_feature_column *c, uint32_t rows)
{
    if (rows > plan->lookback) plan->lookback = rows;
    if (rows > c->rows) c->rows = rows;
    if (rows > c->info->history_events) c->info->history_events = rows;
}

/* Series that are computed from others bring them along. */
void oc_plan_series(oc_feature_plan *plan, oc_series series)
{
    plan->series |= 1u << series;
    if (series == OC_SERIES_RETURN_ABS || series == OC_SERIES_RETURN_DOWN) plan->series |= 1u << OC_SERIES_RETURN;
    if (series == OC_SERIES_EXCESS) plan->series |= 1u << OC_SERIES_RETURN | 1u << OC_SERIES_OTHER;
    if (series == OC_SERIES_OTHER) plan->series |= 1u << OC_SERIES_EXCESS | 1u << OC_SERIES_RETURN;
    if (series == OC_SERIES_VALUE_HIGH || series == OC_SERIES_VALUE_LOW) plan->series |= 1u << OC_SERIES_TYPICAL;
}

static bool node_equal(const oc_node *a, const oc_node *b)
{
    return a->update == b->update && a->window == b->window && a->lag == b->lag && a->a == b->a && a->b == b->b &&
           memcmp(a->p, b->p, sizeof a->p) == 0 && a->samples == b->samples;
}

oc_status oc_plan_node(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, const oc_node *node)
{
    oc_plan_series(plan, node->a);
    oc_plan_series(plan, node->b);
    if (node->window + node->lag + 1 > plan->lookback) plan->lookback = node->window + node->lag + 1;
    oc_plan_rows(plan, c, node->rows);
    if (node->samples > c->info->history_events) c->info->history_events = node->samples;
    if (2 * node->period_ns > c->info->history_ns) c->info->history_ns = 2 * node->period_ns;
    for (uint32_t i = 0; i < plan->node_count; i++) {
        if (!node_equal(&plan->nodes[i], node)) continue;
        c->node[slot] = &plan->nodes[i];
        return OC_OK;
    }
    if (plan->node_count == OC_FEATURES_NODES_MAX)
        return OC_FAIL(OC_ELIMIT, "feature %s: over %d shared computations in one engine", c->info->name,
                       OC_FEATURES_NODES_MAX);
    plan->nodes[plan->node_count] = *node;
    c->node[slot] = &plan->nodes[plan->node_count++];
    return OC_OK;
}

static uint32_t distance(const char *a, size_t a_length, const char *b)
{
    uint32_t row[64], n = (uint32_t)strlen(b);
    if (n > 62) n = 62;
    for (uint32_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; i <= a_length && i < 62; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i;
        for (uint32_t j = 1; j <= n; j++) {
            uint32_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static const oc_feature_def *find(const char *name, size_t length, const oc_feature_table **table, const char **nearest)
{
    uint32_t best = UINT32_MAX;
    for (size_t t = 0; t < TABLES; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const oc_feature_def *def = &tables[t]->rows[i];
            *table = tables[t];
            if (strlen(def->name) == length && memcmp(def->name, name, length) == 0) return def;
            uint32_t d = distance(name, length, def->name);
            if (d < best) {
                best = d;
                *nearest = def->name;
            }
        }
    }
    return NULL;
}

/* "12,26,9" after the colon; as many as the row has. */
static oc_status parameters_parse(oc_feature_column *c, const char *spec, const char *text)
{
    const oc_feature_def *def = c->def;
    for (uint32_t i = 0; i < def->parameter_count; i++) c->p[i] = def->parameter[i];
    uint32_t given = 0;
    while (text) {
        char *end;
        unsigned long value = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
        if (!(given < def->parameter_count))
            return OC_FAIL(OC_ECONFIG, "feature \"%s\": %s takes %u parameters", spec, def->name, def->parameter_count);
        if (!(*text >= '0' && *text <= '9') || !(value >= def->least[given] && value <= OC_FEATURE_WINDOW_MAX))
            return OC_FAIL(OC_ECONFIG, "feature \"%s\": parameter %u is not an integer from %u to %d", spec, given + 1,
                           def->least[given], OC_FEATURE_WINDOW_MAX);
        if (*end != ',' && *end != '\0')
            return OC_FAIL(OC_ECONFIG, "feature \"%s\": \"%s\" after a parameter; write %s:A,B", spec, end, def->name);
        c->p[given++] = (uint32_t)value;
        text = *end == ',' ? end + 1 : NULL;
    }
    if (given && given < def->parameter_count)
        return OC_FAIL(OC_ECONFIG, "feature \"%s\": %s takes %u parameters", spec, def->name, def->parameter_count);
    return OC_OK;
}

static void column_name(oc_feature_column *c)
{
    size_t used = 0;
    c->info->parameters[0] = '\0';
    for (uint32_t i = 0; i < c->def->parameter_count; i++)
        used += (size_t)snprintf(c->info->parameters + used, sizeof c->info->parameters - used, "%s%u", i ? "," : "",
                                 c->p[i]);
    snprintf(c->info->name, sizeof c->info->name, "%s%s%s", c->def->name, used ? ":" : "", c->info->parameters);
}

static oc_status column_add(oc_features *e, const oc_feature_table *table, const oc_feature_def *def, const char *spec,
                            const char *parameters, bool skip_duplicate)
{
    if (e->width == OC_FEATURES_MAX)
        return OC_FAIL(OC_ELIMIT, "feature \"%s\": over %d columns", spec, OC_FEATURES_MAX);
    oc_feature_column *c = &e->columns[e->width];
    memset(c, 0, sizeof *c);
    c->def = def;
    c->info = &e->infos[e->width];
    memset(c->info, 0, sizeof *c->info);
    c->evaluate = def->evaluate;
    OC_TRY(parameters_parse(c, spec, parameters));
    column_name(c);
    for (size_t i = 0; i < e->width; i++) {
        if (strcmp(e->columns[i].info->name, c->info->name) != 0) continue;
        if (skip_duplicate) return OC_OK;
        return OC_FAIL(OC_ECONFIG, "feature \"%s\" is listed twice", c->info->name);
    }
    c->info->group = table->group;
    c->info->group_name = table->name;
    c->info->source = def->source;
    c->info->help = def->help;
    c->info->missing = def->missing;
    c->info->imputed = def->imputed;
    c->info->history_events = 1;
    if (def->init) OC_TRY(def->init(&e->plan, c));
    e->width++;
    return OC_OK;
}

static bool available(const oc_features *e, const oc_feature_def *def)
{
    return !(def->needs == OC_NEEDS_BOOK && e->sample == OC_SAMPLE_BAR) &&
           !(def->needs == OC_NEEDS_TWO && e->instruments < 2);
}

static oc_status columns_of_group(oc_features *e, const char *spec, const char *group)
{
    bool known = false;
    for (size_t t = 0; t < TABLES; t++) {
        if (group && strcmp(group, tables[t]->name) != 0) continue;
        known = true;
        for (size_t i = 0; i < tables[t]->count; i++)
            if (available(e, &tables[t]->rows[i]))
                OC_TRY(column_add(e, tables[t], &tables[t]->rows[i], spec, NULL, true));
    }
    if (known) return OC_OK;
    return OC_FAIL(OC_ECONFIG,
                   "feature \"%s\": no such group; there are price, average, momentum, volatility, pattern, "
                   "book, flow, statistics, time, cross",
                   spec);
}

static oc_status columns_of(oc_features *e, const char *spec)
{
    if (strcmp(spec, "all") == 0) return columns_of_group(e, spec, NULL);
    if (strncmp(spec, "group:", 6) == 0) return columns_of_group(e, spec, spec + 6);
    const char *colon = strchr(spec, ':'), *nearest = "";
    const oc_feature_table *table = NULL;
    const oc_feature_def *def = find(spec, colon ? (size_t)(colon - spec) : strlen(spec), &table, &nearest);
    if (def && def->needs == OC_NEEDS_BOOK && e->sample == OC_SAMPLE_BAR)
        return OC_FAIL(OC_ECONFIG, "feature \"%s\" reads an order book, and sample: bar has none", spec);
    if (!def) return OC_FAIL(OC_ECONFIG, "feature \"%s\" is not known; the nearest name is \"%s\"", spec, nearest);
    return column_add(e, table, def, spec, colon ? colon + 1 : NULL, false);
}

static oc_status sample_parse(oc_features *e, const oc_feature_spec *spec)
{
    const char *text = spec->sample ? spec->sample : "", *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    for (size_t i = 0; i < sizeof samplings / sizeof *samplings; i++) {
        if (strlen(samplings[i].name) != length || strncmp(samplings[i].name, text, length) != 0) continue;
        char *end = NULL;
        unsigned long every = colon && colon[1] >= '1' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
        bool plain = !colon && samplings[i].sample != OC_SAMPLE_TRADE;
        if (!plain && (samplings[i].sample == OC_SAMPLE_BAR || !(every >= 1 && every <= EVERY_MAX) || *end != '\0'))
            break;
        e->sample = samplings[i].sample;
        e->every = plain ? 1 : (uint32_t)every;
        e->plan.row_ns = spec->row_ns ? spec->row_ns : samplings[i].row_ns * (int64_t)e->every;
        if (!(e->plan.row_ns >= 1 && e->plan.row_ns <= (int64_t)366 * 86400000000000))
            return OC_FAIL(OC_ECONFIG, "row_ns %lld is not a time between rows from 1 ns to 366 days",
                           (long long)spec->row_ns);
        return OC_OK;
    }
    return OC_FAIL(OC_ECONFIG, "sample \"%s\" is not one of packet, packet:N, bar, trade:N (N from 1 to %d)", text,
                   EVERY_MAX);
}

/* Everything that decides a value, as text, hashed. */
static void schema_hash(oc_features *e)
{
    oc_hasher *h = e->hasher;
    char line[256];
    oc_hasher_reset(h);
    int n = snprintf(line, sizeof line, "outcry features %d sample %d:%u row_ns %lld spread %a\n", OC_FEATURES_VERSION,
                     (int)e->sample, e->every, (long long)e->plan.row_ns, e->bar_spread);
    oc_hasher_add(h, line, (size_t)n);
    for (size_t i = 0; i < e->instruments; i++) {
        const oc_instrument *u = &e->universe[i];
        n = snprintf(line, sizeof line, "%s %lldE%d %lldE%d\n", u->symbol, (long long)u->tick.mantissa,
                     u->tick.exponent, (long long)u->lot.mantissa, u->lot.exponent);
        oc_hasher_add(h, line, (size_t)n);
    }
    for (size_t i = 0; i < e->width; i++) {
        const oc_feature_info *f = e->columns[i].info;
        n = snprintf(line, sizeof line, "%s %d %a %u %lld\n", f->name, (int)f->missing, (double)f->imputed,
                     f->history_events, (long long)f->history_ns);
        oc_hasher_add(h, line, (size_t)n);
    }
    e->schema = oc_hasher_result(h);
}

static void universe_copy(oc_features *e, const oc_instrument *universe)
{
    memcpy(e->universe, universe, e->instruments * sizeof *universe);
    for (size_t i = 0; i < e->instruments; i++) e->half_tick[i] = 0.5 * oc_decimal_value(universe[i].tick);
}

/* Places nodes behind the stream and the ring, then takes the block of all instruments. */
static oc_status memory_plan(oc_features *e)
{
    uint32_t ring = 2;
    while (ring < e->plan.lookback + 1) ring *= 2;
    e->ring_mask = ring - 1;
    e->nodes_offset = OC_STREAM_BYTES + oc_align_up(ring * sizeof(oc_ring_row));
    size_t bytes = 0;
    for (uint32_t i = 0; i < e->plan.node_count; i++) {
        e->plan.nodes[i].offset = bytes;
        bytes += (e->plan.nodes[i].bytes + 15) / 16 * 16;
    }
    e->stream_bytes = e->nodes_offset + oc_align_up(bytes);
    e->windows_bytes = e->stream_bytes - OC_STREAM_BYTES;
    if (e->sample != OC_SAMPLE_BAR) {
        e->book_offset = e->stream_bytes;
        e->stream_bytes += oc_align_up(sizeof(oc_book));
    }
    e->state_bytes = e->stream_bytes * e->instruments;
    OC_TRY(oc_memory_new(&e->state, e->state_bytes, "feature state"));
    OC_TRY(oc_memory_new_array(&e->value, e->width + 1, sizeof *e->value, "feature values"));
    OC_TRY(oc_memory_new_array(&e->x, e->width + 1, sizeof *e->x, "feature row"));
    return oc_memory_new_array(&e->mask, (e->width + 63) / 64, sizeof *e->mask, "feature mask");
}

static oc_status open_into(oc_features *e, const oc_feature_spec *spec, const oc_instrument *universe)
{
    OC_TRY(sample_parse(e, spec));
    if (!(spec->bar_spread >= 0.0 && spec->bar_spread < 1e15))
        return OC_FAIL(OC_ECONFIG, "bar_spread is not a price from 0");
    e->bar_spread = spec->bar_spread;
    OC_TRY(oc_memory_new_array(&e->universe, e->instruments, sizeof *e->universe, "feature universe"));
    OC_TRY(oc_memory_new_array(&e->half_tick, e->instruments, sizeof *e->half_tick, "feature universe"));
    universe_copy(e, universe);
    OC_TRY(oc_hasher_open(&e->hasher));
    OC_TRY(oc_memory_new_array(&e->infos, OC_FEATURES_MAX, sizeof *e->infos, "feature columns"));
    OC_TRY(oc_memory_new_array(&e->columns, OC_FEATURES_MAX, sizeof *e->columns, "feature columns"));
    e->plan.lookback = 2;
    for (size_t i = 0; i < spec->feature_count; i++) OC_TRY(columns_of(e, spec->features[i]));
    if (e->width == 0) return OC_FAIL(OC_ECONFIG, "no feature is listed");
    OC_TRY(memory_plan(e));
    e->row.x = e->x;
    e->row.mask = e->mask;
    schema_hash(e);
    oc_features_reset(e);
    return OC_OK;
}

oc_status oc_features_open(oc_features **out, const oc_feature_spec *spec, const oc_instrument *universe,
                           size_t instruments)
{
    *out = NULL;
    if (!(instruments >= 1 && instruments <= OC_INSTRUMENTS_MAX))
        return OC_FAIL(OC_ECONFIG, "a universe of %zu instruments; from 1 to %d are possible", instruments,
                       OC_INSTRUMENTS_MAX);
    oc_features *e;
    OC_TRY(oc_memory_new(&e, sizeof *e, "feature engine"));
    e->instruments = e->instruments_max = instruments;
    oc_status status = open_into(e, spec, universe);
    if (status != OC_OK) {
        oc_features_close(e);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = e;
    return OC_OK;
}

void oc_features_close(oc_features *e)
{
    if (!e) return;
    oc_memory_free(e->mask);
    oc_memory_free(e->x);
    oc_memory_free(e->value);
    oc_memory_free(e->state);
    oc_memory_free(e->columns);
    oc_memory_free(e->infos);
    oc_memory_free(e->half_tick);
    oc_memory_free(e->universe);
    oc_hasher_close(e->hasher);
    oc_memory_free(e);
}

oc_status oc_features_set_universe(oc_features *e, const oc_instrument *universe, size_t instruments)
{
    if (!(instruments >= 1 && instruments <= e->instruments_max))
        return OC_FAIL(OC_ELIMIT, "a universe of %zu instruments; this engine has memory for 1 to %zu", instruments,
                       e->instruments_max);
    e->instruments = instruments;
    e->state_bytes = e->stream_bytes * instruments;
    universe_copy(e, universe);
    schema_hash(e);
    return OC_OK;
}

size_t oc_features_width(const oc_features *e)
{
    return e->width;
}

oc_hash oc_features_schema(const oc_features *e)
{
    return e->schema;
}

const oc_feature_info *oc_features_info(const oc_features *e, size_t column)
{
    return column < e->width ? e->columns[column].info : NULL;
}

uint32_t oc_features_history_events(const oc_features *e)
{
    uint32_t longest = 0;
    for (size_t i = 0; i < e->width; i++)
        if (e->columns[i].info->history_events > longest) longest = e->columns[i].info->history_events;
    return longest;
}

int64_t oc_features_history_ns(const oc_features *e)
{
    int64_t longest = 0;
    for (size_t i = 0; i < e->width; i++)
        if (e->columns[i].info->history_ns > longest) longest = e->columns[i].info->history_ns;
    return longest;
}

static const oc_feature_def *table_row(size_t index, const oc_feature_table **table)
{
    for (size_t t = 0; t < TABLES; t++) {
        *table = tables[t];
        if (index < tables[t]->count) return &tables[t]->rows[index];
        index -= tables[t]->count;
    }
    return NULL;
}

size_t oc_features_table_count(void)
{
    size_t count = 0;
    for (size_t t = 0; t < TABLES; t++) count += tables[t]->count;
    return count;
}

const char *oc_features_table_name(size_t index)
{
    const oc_feature_table *table;
    const oc_feature_def *def = table_row(index, &table);
    return def ? def->name : NULL;
}

void oc_features_list(FILE *out)
{
    const oc_feature_table *table;
    for (size_t i = 0; i < oc_features_table_count(); i++) {
        const oc_feature_def *def = table_row(i, &table);
        char parameters[32] = "";
        size_t used = 0;
        for (uint32_t k = 0; k < def->parameter_count; k++)
            used +=
                (size_t)snprintf(parameters + used, sizeof parameters - used, "%s%u", k ? "," : ":", def->parameter[k]);
        char name[64];
        snprintf(name, sizeof name, "%s%s", def->name, parameters);
        fprintf(out, "%-12s %-24s %-9s %s  %s\n", table->name, name,
                def->missing == OC_MISSING_REQUIRED ? "required" : "impute", def->help, def->source);
    }
}
