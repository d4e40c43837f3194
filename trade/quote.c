/* quote.c - the best prices of a book as one event, when they change. */
#include "trade/quote.h"

static oc_event event_like(const oc_event *event, oc_event_kind kind)
{
    oc_event e = {.exchange_ns = event->exchange_ns,
                  .receive_ns = event->receive_ns,
                  .sequence = event->sequence,
                  .instrument = event->instrument,
                  .source = event->source,
                  .kind = (uint8_t)kind,
                  .flags = OC_EVENT_LAST};
    return e;
}

/* A change of the book, wherever, is word from the market that the best prices stand; a trade is not, nor a quote
 * beside a book that says something else. */
static bool confirms(const oc_quote_state *s, const oc_event *e)
{
    if (e->kind == OC_EVENT_QUOTE)
        return e->as.quote.bid_ticks == s->bid_ticks && e->as.quote.ask_ticks == s->ask_ticks;
    return e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_SNAPSHOT;
}

bool oc_quote_next(oc_quote_state *state, const oc_book *book, const oc_event *event, oc_event *quote)
{
    if (!(event->flags & OC_EVENT_LAST)) return false;
    if (book->stale || !oc_book_two_sided(book) || oc_book_crossed(book)) {
        bool was_known = state->known;
        state->known = false;
        *quote = event_like(event, OC_EVENT_STATUS);
        return was_known;
    }
    oc_book_level bid = book->bid.level[0], ask = book->ask.level[0];
    bool same = state->known && bid.ticks == state->bid_ticks && bid.lots == state->bid_lots &&
                ask.ticks == state->ask_ticks && ask.lots == state->ask_lots;
    bool old = state->repeat_ns > 0 && event->receive_ns - state->given_ns >= state->repeat_ns;
    if (same && !(old && confirms(state, event))) return false;
    *state = (oc_quote_state){bid.ticks, bid.lots, ask.ticks, ask.lots, event->receive_ns, state->repeat_ns, true};
    *quote = event_like(event, OC_EVENT_QUOTE);
    quote->as.quote.bid_ticks = bid.ticks;
    quote->as.quote.bid_lots = bid.lots;
    quote->as.quote.ask_ticks = ask.ticks;
    quote->as.quote.ask_lots = ask.lots;
    return true;
}
