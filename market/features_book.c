/* features_book.c - the order book at the row: imbalance by depth, microprice, spread, depth, queues, order-flow
 * imbalance over windows. Sizes are lots, sums exact; a book with fewer levels than asked for is missing. */
#include "market/features_table.h"

static int64_t level_lots(const oc_book_side *side, uint32_t level)
{
    int64_t lots = side->level[level].lots;
    return lots < 0 ? 0 : lots > OC_LOTS_BOUND ? OC_LOTS_BOUND : lots;
}

static bool levels_there(const oc_view *v, uint32_t count)
{
    return v->two_sided && v->book->bid.count >= count && v->book->ask.count >= count;
}

static bool share(int64_t bid, int64_t ask, double *value)
{
    return ratio((double)(bid - ask), (double)(bid + ask), value);
}

FEATURE_INIT(depth_init)
{
    if (!(c->p[0] <= OC_BOOK_LEVELS))
        return OC_FAIL(OC_ECONFIG, "feature %s: a book has at most %d levels", c->info->name, OC_BOOK_LEVELS);
    oc_plan_rows(plan, c, 1);
    return OC_OK;
}

FEATURE_EVALUATE(imbalance_value)                /* of the first N levels together */
{
    if (!levels_there(v, c->p[0])) return false;
    int64_t bid = 0, ask = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        bid += level_lots(&v->book->bid, i);
        ask += level_lots(&v->book->ask, i);
    }
    return share(bid, ask, value);
}

FEATURE_EVALUATE(level_imbalance_value)          /* of level N alone, 1 the best */
{
    if (!levels_there(v, c->p[0])) return false;
    return share(level_lots(&v->book->bid, c->p[0] - 1), level_lots(&v->book->ask, c->p[0] - 1), value);
}

FEATURE_EVALUATE(weighted_imbalance_value)       /* level i of N has weight N - i */
{
    if (!levels_there(v, c->p[0])) return false;
    int64_t bid = 0, ask = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        bid += level_lots(&v->book->bid, i) * (c->p[0] - i);
        ask += level_lots(&v->book->ask, i) * (c->p[0] - i);
    }
    return share(bid, ask, value);
}

/* (microprice - mid) / spread = imbalance of the best / 2; the second form weighs the two best levels. */
FEATURE_EVALUATE(microprice_value)
{
    (void)c;
    if (!levels_there(v, 1) || !share(level_lots(&v->book->bid, 0), level_lots(&v->book->ask, 0), value)) return false;
    *value *= 0.5 * now_of(v, OC_SERIES_SPREAD) / now_of(v, OC_SERIES_CLOSE);
    return true;
}

FEATURE_EVALUATE(spread_value)
{
    (void)c;
    return v->two_sided && ratio(now_of(v, OC_SERIES_SPREAD), now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_EVALUATE(spread_ticks_value)
{
    (void)c;
    *value = 0.5 * now_of(v, OC_SERIES_SPREAD);
    return v->two_sided;
}

FEATURE_INIT(spread_mean_init)
{
    return oc_plan_sum(plan, c, 0, OC_SERIES_SPREAD, c->p[0]);
}

FEATURE_EVALUATE(spread_ratio_value)
{
    if (!v->two_sided || !ratio(now_of(v, OC_SERIES_SPREAD) * c->p[0], (double)oc_sum(v, c, 0), value)) return false;
    *value -= 1.0;
    return true;
}

FEATURE_INIT(flow_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_sum(plan, c, 0, OC_SERIES_OFI, c->p[0]));
    OC_TRY(oc_plan_sum(plan, c, 1, OC_SERIES_BID_LOTS, c->p[0]));
    return oc_plan_sum(plan, c, 2, OC_SERIES_ASK_LOTS, c->p[0]);
}

FEATURE_EVALUATE(flow_value)                     /* per mean queue at the best */
{
    return ratio(2.0 * c->p[0] * (double)oc_sum(v, c, 0), (double)(oc_sum(v, c, 1) + oc_sum(v, c, 2)), value);
}

FEATURE_INIT(bid_queue_init)
{
    return oc_plan_sum(plan, c, 0, OC_SERIES_BID_LOTS, c->p[0]);
}

FEATURE_EVALUATE(bid_queue_value)                /* q / (q + mean q) - 1/2: bounded, 0 at the mean */
{
    double now = now_of(v, OC_SERIES_BID_LOTS) * c->p[0];
    if (!v->two_sided || !ratio(now, now + (double)oc_sum(v, c, 0), value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(ask_queue_init)
{
    return oc_plan_sum(plan, c, 0, OC_SERIES_ASK_LOTS, c->p[0]);
}

FEATURE_EVALUATE(ask_queue_value)
{
    double now = now_of(v, OC_SERIES_ASK_LOTS) * c->p[0];
    if (!v->two_sided || !ratio(now, now + (double)oc_sum(v, c, 0), value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(depth_ratio_init)
{
    return oc_plan_sum(plan, c, 0, OC_SERIES_DEPTH, c->p[0]);
}

FEATURE_EVALUATE(depth_ratio_value)
{
    double now = now_of(v, OC_SERIES_DEPTH) * c->p[0];
    if (!v->two_sided || !ratio(now, now + (double)oc_sum(v, c, 0), value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_EVALUATE(concentration_value)            /* of N levels' lots, the share at the best */
{
    if (!levels_there(v, c->p[0])) return false;
    int64_t all = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) all += level_lots(&v->book->bid, i) + level_lots(&v->book->ask, i);
    return ratio((double)(level_lots(&v->book->bid, 0) + level_lots(&v->book->ask, 0)), (double)all, value);
}

/* Width of N levels, bid side minus ask side, over their sum: where the book is thin. */
FEATURE_EVALUATE(slope_gap_value)
{
    if (!levels_there(v, c->p[0])) return false;
    uint32_t last = c->p[0] - 1;
    int64_t bid = v->book->bid.level[0].ticks - v->book->bid.level[last].ticks;
    int64_t ask = v->book->ask.level[last].ticks - v->book->ask.level[0].ticks;
    return ratio((double)(bid - ask), (double)bid + (double)ask, value);
}

static const oc_feature_def rows[] = {
    {"imbalance", ONE(1, 1), IMPUTE_BOOK(0.0f), depth_init, imbalance_value, "[Cartea15]",
     "(bid - ask) / (bid + ask) lots of the first N levels"},
    {"level_imbalance", ONE(2, 1), IMPUTE_BOOK(0.0f), depth_init, level_imbalance_value, "[Cartea15]",
     "the same of level N alone"},
    {"weighted_imbalance", ONE(10, 1), IMPUTE_BOOK(0.0f), depth_init, weighted_imbalance_value, "[Cartea15]",
     "the same of N levels, nearer levels heavier"},
    {"microprice_gap", NO_PARAMETER, REQUIRED_BOOK, NULL, microprice_value, "[Stoikov18]",
     "size-weighted mid / mid - 1"},
    {"spread", NO_PARAMETER, REQUIRED_BOOK, NULL, spread_value, "[Hasbrouck07]", "(ask - bid) / mid"},
    {"spread_ticks", NO_PARAMETER, REQUIRED_BOOK, NULL, spread_ticks_value, "[Hasbrouck07]", "ask - bid in ticks"},
    {"spread_ratio", ONE(50, 2), REQUIRED_BOOK, spread_mean_init, spread_ratio_value, "[Hasbrouck07]",
     "spread / its mean of N rows - 1"},
    {"ofi", ONE(10, 1), IMPUTE_BOOK(0.0f), flow_init, flow_value, "[Cont14]",
     "order-flow imbalance of N rows / mean queue at the best"},
    {"bid_queue", ONE(50, 2), IMPUTE_BOOK(0.0f), bid_queue_init, bid_queue_value, "[Huang15]",
     "best bid's lots q against their mean m: q / (q + m) - 0.5"},
    {"ask_queue", ONE(50, 2), IMPUTE_BOOK(0.0f), ask_queue_init, ask_queue_value, "[Huang15]",
     "the same of the best ask"},
    {"depth_ratio", ONE(50, 2), IMPUTE_BOOK(0.0f), depth_ratio_init, depth_ratio_value, "[Huang15]",
     "the same of all lots of ten levels, both sides"},
    {"concentration", ONE(5, 2), IMPUTE_BOOK(0.0f), depth_init, concentration_value, "",
     "share of the best levels in N levels"},
    {"slope_gap", ONE(5, 2), IMPUTE_BOOK(0.0f), depth_init, slope_gap_value, "[Naes06]",
     "(bid - ask) / (bid + ask) price width of N levels"},
};
FEATURE_TABLE(OC_FEATURE_BOOK, book);
