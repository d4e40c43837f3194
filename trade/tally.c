/* tally.c - see tally.h. */
#include "trade/tally.h"

#include <math.h>
#include <string.h>

static const double year_ns = 365.0 * 86400e9;

void oc_tally_open(oc_tally *t, int64_t interval_ns, const oc_engine_config *config)
{
    memset(t, 0, sizeof *t);
    t->interval_ns = interval_ns;
    for (uint32_t i = 0; i < config->markets; i++) {
        oc_money_scale s = config->market[i].risk.scale;
        t->scale[i] = (double)s.numerator / (double)s.denominator;
    }
}

void oc_tally_fill(oc_tally *t, const oc_position *before, const oc_venue_message *fill)
{
    uint32_t i = fill->instrument;
    double scale = t->scale[i], lots = (double)fill->lots, price = (double)fill->price_ticks;
    double held = fabs((double)before->lots), fee = (double)fill->fee_micros;
    bool buy = fill->side == OC_SIDE_BUY;
    t->turnover_micros += price * lots * scale;
    if (before->lots == 0 || (before->lots > 0) == buy) {
        t->fees_micros[i] += fee;
        return;
    }
    double closed = lots < held ? lots : held, entry = fabs((double)before->entry_ticks_lots) * closed / held;
    double fee_of_entry = t->fees_micros[i] * closed / held, fee_of_exit = fee * closed / lots;
    double gain = (before->lots > 0 ? 1 : -1) * (closed * price - entry) * scale;
    t->trip_micros[i] += gain - fee_of_entry - fee_of_exit;
    t->fees_micros[i] -= fee_of_entry;
    if (closed < held) return;
    t->trades++;
    t->wins += t->trip_micros[i] > 0;
    *(t->trip_micros[i] > 0 ? &t->gains_micros : &t->losses_micros) += fabs(t->trip_micros[i]);
    t->trip_micros[i] = 0;
    t->fees_micros[i] = fee - fee_of_exit;
}

/* Intervals in which nothing came changed nothing; they count. */
static void interval_end(oc_tally *t, int64_t slot)
{
    double change = (double)(t->equity_micros - t->slot_micros);
    t->sum += change;
    t->squares += change * change;
    if (change < 0) t->squares_down += change * change;
    t->intervals += (uint64_t)(slot - t->slot);
    t->slot = slot;
    t->slot_micros = t->equity_micros;
}

void oc_tally_equity(oc_tally *t, int64_t now_ns, int64_t equity_micros)
{
    int64_t slot = now_ns / t->interval_ns;
    if (!t->begun) t->slot = slot;
    t->begun = true;
    if (slot > t->slot) interval_end(t, slot);
    t->equity_micros = equity_micros;
    if (equity_micros > t->peak_micros) t->peak_micros = equity_micros;
    int64_t fall = t->peak_micros - equity_micros;
    if (fall > t->drawdown_micros) t->drawdown_micros = fall;
}

static double yearly(const oc_tally *t, double variance)
{
    if (t->intervals < 2 || !(variance > 0)) return (double)NAN;
    return t->sum / (double)t->intervals / sqrt(variance) * sqrt(year_ns / (double)t->interval_ns);
}

double oc_tally_sharpe(const oc_tally *t)
{
    double n = (double)t->intervals;
    return yearly(t, (t->squares - t->sum * t->sum / n) / (n - 1));
}

double oc_tally_sortino(const oc_tally *t)
{
    return yearly(t, t->squares_down / (double)t->intervals);
}

double oc_tally_win_rate(const oc_tally *t)
{
    return t->trades ? (double)t->wins / (double)t->trades : (double)NAN;
}

double oc_tally_profit_factor(const oc_tally *t)
{
    return t->losses_micros > 0 ? t->gains_micros / t->losses_micros : (double)NAN;
}
