/* engine.h - the trading engine: a deterministic state machine, engine_apply(input) -> actions. Nothing in it reads a
 * clock, a file or a random number, or allocates; its state holds no pointer, so saving is copying. The backtest and
 * the live loop run the same calls.
 *
 *     input -> state (quote, position, orders) -> breakers -> exits, policy -> target -> risk gate -> actions
 *
 * Orders of a target policy: one open order an instrument; a wrong one is cancelled and the next leaves only after the
 * venue said that the old one is gone, so a race between cancel and fill cannot overshoot the target. The quoting
 * policy has one bid and one ask, cancelled and placed anew in one step: both are in the worst case that the gate sees.
 * Total: bad input is an ALERT and a counter, never a lost call; the message of a bad input is not believed.
 * Latches: active -> reducing -> halted, through save and load; only OC_OPERATOR_REARM leads back. */
#ifndef OC_TRADE_ENGINE_H
#define OC_TRADE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "trade/policy.h"
#include "trade/risk.h"
#include "trade/types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    OC_ENGINE_VERSION = 3,       /* of the saved state; a change of meaning raises it */
    OC_ENGINE_ORDERS_MAX = 96,   /* open at once */
    OC_ACTIONS_MAX = 256         /* of one input: every open order cancelled, alerted and queried, and room for news */
};

typedef struct oc_engine_account {             /* what holds for all instruments */
    oc_risk_account risk;
    oc_policy_config policy;
    int64_t day_offset_ns;                     /* the loss day begins at this time after midnight UTC */
    int64_t leap_ns;                           /* time that goes further ahead in one step is not believed at once */
    uint32_t epoch;                            /* 1 … 65,535: of the first start; never reused for an account */
    uint32_t reserved;
} oc_engine_account;

typedef struct oc_engine_market {              /* one instrument */
    oc_risk_instrument risk;
    int64_t target_lots;                       /* the size the policy trades */
} oc_engine_market;

typedef struct oc_engine_config {
    oc_engine_account account;
    const oc_engine_market *market;            /* borrowed during the call */
    uint32_t markets;                          /* 1 … OC_INSTRUMENTS_MAX; instrument i of the events */
} oc_engine_config;

OC_MUST oc_engine_config_check(const oc_engine_config *config);    /* OC_ECONFIG names the key and its bounds */
oc_hash oc_engine_config_hash(const oc_engine_config *config);
/* Limits that let nothing dangerous through but trade one lot at a time; a start for configurations and tests. */
void oc_engine_account_default(oc_engine_account *account);
void oc_engine_market_default(oc_engine_market *market);

typedef struct oc_engine oc_engine;

size_t oc_engine_bytes(const oc_engine_config *config);            /* of the storage; a multiple of 64 */
OC_MUST oc_engine_init(oc_engine **out, void *memory, size_t memory_bytes, const oc_engine_config *config);

/* cap >= OC_ACTIONS_MAX. Fails only on that; *count actions are valid. */
OC_MUST oc_engine_apply(oc_engine *e, const oc_input *input, oc_action *actions, size_t cap, size_t *count);
/* Takes over what another build decided for this input: the state follows the input and the recorded actions, nothing
 * is decided. OC_EDATA where the actions cannot belong to the input. */
OC_MUST oc_engine_absorb(oc_engine *e, const oc_input *input, const oc_action *actions, size_t count);

/* Versioned, checksummed. load refuses another version, another configuration, another size, any changed bit, and what
 * no engine could hold though its checksum fits (OC_EDATA names the field), and then leaves the engine as it was. */
size_t oc_engine_save_bytes(const oc_engine *e);
OC_MUST oc_engine_save(const oc_engine *e, void *state, size_t cap, size_t *bytes);
OC_MUST oc_engine_load(oc_engine *e, const void *state, size_t bytes);
oc_hash oc_engine_state_hash(const oc_engine *e);

typedef enum oc_order_state { OC_ORDER_SENT = 1, OC_ORDER_LIVE, OC_ORDER_SENT_UNKNOWN } oc_order_state;

typedef struct oc_open_order {
    uint64_t id;
    int64_t price_ticks, lots, filled_lots, sent_ns, until_ns;   /* until_ns: cancelled then; INT64_MAX: never */
    uint32_t instrument;
    uint8_t side, type, state, cancelling;
} oc_open_order;

typedef struct oc_position {
    int64_t lots, cash_ticks_lots;             /* cash: minus what was bought, plus what was sold; exact */
    int64_t entry_ticks_lots;                  /* what the lots now held cost, by average */
    int64_t fees_micros, value_micros;         /* value: cash and lots at the mid, rounded down */
    int64_t target_lots;
} oc_position;

typedef struct oc_engine_totals {
    int64_t equity_micros, day_micros, peak_micros, exposure_micros, fees_micros;
    uint64_t inputs, orders, cancels, fills, refusals, alerts, bad_inputs;
    uint64_t message_id;                       /* the last of the venue that was applied */
    uint32_t state, epoch;
    bool killed, connected, unknown_orders, reserved[5];
} oc_engine_totals;

oc_trading_state oc_engine_trading_state(const oc_engine *e);
oc_engine_totals oc_engine_totals_of(const oc_engine *e);
uint32_t oc_engine_markets(const oc_engine *e);
oc_position oc_engine_position(const oc_engine *e, uint32_t instrument);    /* instrument < markets, here and below */
int64_t oc_engine_stale_ns(const oc_engine *e, uint32_t instrument);
uint32_t oc_engine_order_count(const oc_engine *e);
const oc_open_order *oc_engine_order(const oc_engine *e, uint32_t index);   /* oldest first; until the next apply */
uint64_t oc_engine_next_sequence(const oc_engine *e);
int64_t oc_engine_time(const oc_engine *e);                        /* of the last input; 0 before the first */

#ifdef __cplusplus
}
#endif
#endif
