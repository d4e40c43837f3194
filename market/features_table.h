/* features_table.h - short words for the rows of the groups' tables, and helpers that several groups' formulas share.
 * A row: name, parameters with defaults, their least values, missing rule, imputed value, what it needs, init (asks for
 * nodes, which declare the history), evaluate, source, help. Included by features_<group>.c only. */
#ifndef OC_MARKET_FEATURES_TABLE_H
#define OC_MARKET_FEATURES_TABLE_H

#include <math.h>
#include <stddef.h>
#include "market/features_internal.h"

#define NO_PARAMETER 0, {0}, {0}
#define ONE(a, least_a) 1, {a}, {least_a}
#define TWO(a, b, least_a, least_b) 2, {a, b}, {least_a, least_b}
#define THREE(a, b, c, least_a, least_b, least_c) 3, {a, b, c}, {least_a, least_b, least_c}
#define REQUIRED OC_MISSING_REQUIRED, 0.0f, OC_NEEDS_NOTHING
#define IMPUTE(value) OC_MISSING_IMPUTE, value, OC_NEEDS_NOTHING
#define REQUIRED_BOOK OC_MISSING_REQUIRED, 0.0f, OC_NEEDS_BOOK
#define IMPUTE_BOOK(value) OC_MISSING_IMPUTE, value, OC_NEEDS_BOOK
#define IMPUTE_TWO(value) OC_MISSING_IMPUTE, value, OC_NEEDS_TWO

#define FEATURE_EVALUATE(name) static bool name(const oc_feature_column *c, const oc_view *v, double *value)
#define FEATURE_INIT(name) static oc_status name(oc_feature_plan *plan, oc_feature_column *c)
#define FEATURE_TABLE(group_enum, group) \
    const oc_feature_table oc_group_##group = {group_enum, #group, rows, sizeof rows / sizeof *rows}

static inline double now_of(const oc_view *v, oc_series series)
{
    return (double)v->now->s[series];
}

/* numerator / denominator, missing where the denominator is not above 0 */
static inline bool ratio(double numerator, double denominator, double *value)
{
    if (!(denominator > 0.0)) return false;
    *value = numerator / denominator;
    return true;
}

#endif
