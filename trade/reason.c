/* reason.c - names of reasons and trading states, from the one list. */
#include "trade/reason.h"

static const char *const names[] = {
#define REASON_NAME(code, name, text) name,
    OC_REASONS(REASON_NAME)
#undef REASON_NAME
};

static const char *const texts[] = {
#define REASON_TEXT(code, name, text) text,
    OC_REASONS(REASON_TEXT)
#undef REASON_TEXT
};

const char *oc_reason_name(unsigned reason)
{
    return reason < OC_REASON_END ? names[reason] : "unknown";
}

const char *oc_reason_text(unsigned reason)
{
    return reason < OC_REASON_END ? texts[reason] : "a reason of another version";
}

const char *oc_trading_state_name(unsigned state)
{
    static const char *const states[] = {"active", "reducing", "halted"};
    return state < sizeof states / sizeof *states ? states[state] : "unknown";
}
