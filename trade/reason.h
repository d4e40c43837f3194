/* reason.h - why the engine did or refused something. One list gives enum, names and text; codes stand in journals, so
 * a new reason is appended at the end of the list and none is ever given another meaning. */
#ifndef OC_TRADE_REASON_H
#define OC_TRADE_REASON_H

#ifdef __cplusplus
extern "C" {
#endif

#define OC_REASONS(X)                                                                                                  \
    X(NONE, "none", "nothing to say")                                                                                  \
    X(SIGNAL, "signal", "the policy's decision")                                                                       \
    X(FALLBACK, "fallback", "predictions are missing; the fallback decided")                                           \
    X(QUOTE, "quote", "a quote of the quoting policy")                                                                 \
    X(STOP, "stop", "the loss of the position reached the stop")                                                       \
    X(TAKE_PROFIT, "take-profit", "the gain of the position reached the target")                                       \
    X(REPLACED, "replaced", "another order is wanted in its place")                                                    \
    X(LIFETIME, "lifetime", "the order rested for its whole lifetime")                                                 \
    X(OPERATOR, "operator", "an operator's command")                                                                   \
    X(RECOVERY, "recovery", "the process started again")                                                               \
    X(INPUT_REPEATED, "input-repeated", "an input with a sequence number that was already applied")                    \
    X(INPUT_GAP, "input-gap", "inputs between the last one and this are missing")                                      \
    X(INPUT_KIND, "input-kind", "an input the engine does not know")                                                   \
    X(TIME, "time", "time is negative or runs backwards")                                                              \
    X(INSTRUMENT, "instrument", "an instrument the engine does not trade")                                             \
    X(PRICE, "price", "a price or size that is zero, negative, crossed or beyond bounds")                              \
    X(GAP, "gap", "market events are missing, or the session broke: the quote is unknown")                             \
    X(PREDICTION_BAD, "prediction-bad", "probabilities not finite, outside [0, 1], or not of sum 1")                   \
    X(PREDICTION_ORDER, "prediction-order", "a prediction repeated, out of order or from the future")                  \
    X(PREDICTION_STALE, "prediction-stale", "a prediction of an input that is too old")                                \
    X(PREDICTION_HOLD, "prediction-hold", "the predictor answered hold or refused")                                    \
    X(KILL, "kill", "the kill switch is thrown")                                                                       \
    X(STATE, "state", "halted, or reducing and the order does not reduce")                                             \
    X(MALFORMED, "malformed", "side, type or size of the order is no such thing")                                      \
    X(CONFIDENCE, "confidence", "confidence is no number in [minimum, 1]")                                             \
    X(ORDER_SIZE, "order-size", "lots of the order")                                                                   \
    X(ORDER_PRICE, "order-price", "the price is outside bounds or not a multiple of the order tick")                   \
    X(STALE, "stale", "the quote is unknown or too old")                                                               \
    X(COLLAR, "collar", "the price is too far from the reference")                                                     \
    X(NOTIONAL, "notional", "value of the order")                                                                      \
    X(POSITION, "position", "position if every open order fills")                                                      \
    X(EXPOSURE, "exposure", "gross value of the account if every open order fills")                                    \
    X(OPEN_ORDERS, "open-orders", "number of open orders")                                                             \
    X(THROTTLE, "throttle", "messages in too short a time")                                                            \
    X(DUPLICATE, "duplicate", "the same order within the window")                                                      \
    X(DAILY_LOSS, "daily-loss", "loss since the day began")                                                            \
    X(DRAWDOWN, "drawdown", "loss since the highest equity")                                                           \
    X(REJECTED, "rejected", "the venue refused the order")                                                             \
    X(CANCEL_REJECTED, "cancel-rejected", "the venue refused the cancel: too late")                                    \
    X(CANCELLED, "cancelled", "the venue cancelled the order")                                                         \
    X(MESSAGE_REPEATED, "message-repeated", "a venue message that was already applied")                                \
    X(MESSAGE_GAP, "message-gap", "venue messages are missing; asked for again")                                       \
    X(MESSAGE_BAD, "message-bad", "a venue message that makes no sense")                                               \
    X(MESSAGE_LOST, "message-lost", "the venue cannot send missing messages again")                                    \
    X(ORDER_UNKNOWN, "order-unknown", "the venue speaks of an order that is not ours")                                 \
    X(OVERFILL, "overfill", "more was filled than was ordered")                                                        \
    X(DISCONNECTED, "disconnected", "the venue is not connected")                                                      \
    X(OVERFLOW, "overflow", "a sum of money does not fit")                                                             \
    X(JOURNAL, "journal", "the journal cannot be written")                                                             \
    X(ANSWER_LATE, "answer-late", "the venue has not answered an order")                                               \
    X(SELF_TRADE, "self-trade", "the order would meet an own one of the other side")                                   \
    X(TIME_LEAP, "time-leap", "time leaps ahead: a clock that is wrong, or a gap")

typedef enum oc_reason {
#define OC_REASON_ENUM(code, name, text) OC_REASON_##code,
    OC_REASONS(OC_REASON_ENUM)
#undef OC_REASON_ENUM
        OC_REASON_END
} oc_reason;

const char *oc_reason_name(unsigned reason); /* never NULL */
const char *oc_reason_text(unsigned reason);

/* What may leave: everything; only what makes a position smaller; nothing but cancels. Latched: only an operator's
 * rearm leads back. */
typedef enum oc_trading_state { OC_TRADING_ACTIVE, OC_TRADING_REDUCING, OC_TRADING_HALTED } oc_trading_state;

const char *oc_trading_state_name(unsigned state);

#ifdef __cplusplus
}
#endif
#endif
