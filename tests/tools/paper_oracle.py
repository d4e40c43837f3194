"""The figures of a backtest computed a second time, naively, from the journal's bytes (docs/journal.md) and the config;
nothing of the product is used. A module for backtest.py.

faults(run, scale, fault=None) -> names of figures of RUN/results.json that are not what the journal says. scale:
micro-units a tick x lot, of every instrument. fault="fill" forgets the first fill: then there must be some.
"""
import json
import math
import os
import random
import struct
from fractions import Fraction

YEAR_NS = 365 * 86400 * 10**9
MARKET, VENUE = 1, 3
BAR, QUOTE = 1, 3
FILL, NEW, BUY = 3, 1, 1


def inputs(run):
    """(time_ns, kind, body, [actions]) of every input, over all segments."""
    segment = 0
    while os.path.exists(path := f"{run}/journal-{segment:06d}.ocj"):
        data, at = open(path, "rb").read(), 112
        while at < len(data):
            size, kind = struct.unpack_from("<II", data, at) if at + 32 <= len(data) else (len(data), 0)
            if at + 32 + size > len(data):
                break                                  # cut short by a crash
            if kind == 2:
                _, now, what, _, body, count = struct.unpack_from("<QqIIII", data, at + 32)
                begin = at + 64
                actions = [data[begin + body + 64 * i:begin + body + 64 * (i + 1)] for i in range(count)]
                yield now, what, data[begin:begin + body], actions
            at += 32 + size
        segment += 1


class Account:
    """Cash, position and open round trip of one instrument, in ticks x lots and micro-units."""

    def __init__(self):
        self.cash = self.lots = self.fees = 0
        self.trip = Fraction(0)
        self.trips = []
        self.bid = self.ask = None
        self.beyond = 0
        self.hold = None

    def fill(self, buy, price, lots, fee, scale):
        self.cash -= price * lots if buy else -price * lots
        self.fees += fee
        while lots:
            sign = 1 if buy else -1
            part = lots if self.lots * sign >= 0 else min(lots, abs(self.lots))
            self.trip += -sign * part * price * scale - Fraction(fee * part, 1) / self.fee_lots
            self.lots += sign * part
            lots -= part
            if self.lots == 0:
                self.trips.append(self.trip)
                self.trip = Fraction(0)

    def book(self, buy, price, lots, fee, scale):
        self.fee_lots = lots
        self.fill(buy, price, lots, fee, scale)

    def value(self, scale):
        """At the mid, rounded down; before fees."""
        return math.floor(Fraction(2 * self.cash + self.lots * ((self.bid or 0) + (self.ask or 0)), 2) * scale)


def fee_of(price, lots, scale, ppm):
    return math.ceil(Fraction(price * lots * ppm, 10**6) * scale)


class Walk:
    def __init__(self, run, scale, fault):
        self.claims = json.load(open(f"{run}/results.json"))
        self.set = self.claims["settings"]
        self.scale, self.fault = Fraction(scale), fault
        self.accounts, self.orders = {}, {}
        self.spread = self.slippage = self.turnover = self.capital = Fraction(0)
        self.times, self.equity, self.holds = [], [], []
        self.held_ns = 0
        for now, kind, body, actions in inputs(run):
            if kind in (MARKET, VENUE):
                self.step(now, kind, body)
            for action in actions:
                self.action(action)

    def account(self, instrument):
        return self.accounts.setdefault(instrument, Account())

    def step(self, now, kind, body):
        if self.times and any(a.lots for a in self.accounts.values()):
            self.held_ns += now - self.times[-1]
        if kind == MARKET:
            self.market(body)
        elif body[44] == FILL:
            self.fill(body)
        self.times.append(now)
        self.equity.append(sum(a.value(self.scale) - a.fees for a in self.accounts.values()))
        self.holds.append(sum((a.hold for a in self.accounts.values() if a.hold is not None), Fraction(0)))

    def market(self, body):
        instrument, kind = struct.unpack_from("<I", body, 32)[0], body[38]
        a, prices = self.account(instrument), struct.unpack_from("<5q", body, 48)
        if kind == QUOTE:
            bid, ask, beyond = prices[0], prices[2], 0
        elif kind == BAR:
            bid, ask, beyond = prices[3], prices[3], self.set["costs.bar_half_spread_ticks"]
        else:
            return
        lots = self.set["policy.target_lots"]
        if a.hold is None:
            paid = ask + beyond
            self.capital += Fraction(bid + ask, 2) * lots * self.scale
            a.hold = (Fraction(bid + ask, 2) - paid) * lots * self.scale - fee_of(paid, lots, self.scale,
                                                                                 self.set["costs.taker_ppm"])
        else:
            a.hold += Fraction(bid + ask - a.bid - a.ask, 2) * lots * self.scale
        a.bid, a.ask, a.beyond = bid, ask, beyond

    def fill(self, body):
        _, order, price, lots, fee, instrument = struct.unpack_from("<QQqqqI", body, 0)
        buy, maker = body[45] == BUY, body[46]
        if self.fault == "fill":
            self.fault = None
            return
        self.account(instrument).book(buy, price, lots, fee, self.scale)
        self.turnover += price * lots * self.scale
        mid, half = self.orders[order]
        worse = (price - mid if buy else mid - price) * lots * self.scale
        spread = worse if maker else half * lots * self.scale
        self.spread += spread
        self.slippage += worse - spread

    def action(self, action):
        order, instrument, kind = struct.unpack_from("<Q", action)[0], *struct.unpack_from("<IB", action, 48)
        if kind == NEW:
            a = self.account(instrument)
            self.orders[order] = (Fraction(a.bid + a.ask, 2), Fraction(a.ask - a.bid, 2) + a.beyond)

    def finish(self):
        """Positions closed at the last quote, buy and hold too."""
        ppm, target = self.set["costs.taker_ppm"], self.set["policy.target_lots"]
        closing = 0
        for a in self.accounts.values():
            if a.hold is not None:
                out = a.bid - a.beyond
                a.hold -= (Fraction(a.bid + a.ask, 2) - out) * target * self.scale
                a.hold -= fee_of(out, target, self.scale, ppm)
            if a.lots:
                out, before = (a.bid - a.beyond if a.lots > 0 else a.ask + a.beyond), a.value(self.scale)
                lots = abs(a.lots)
                fee = fee_of(out, lots, self.scale, ppm)
                self.turnover += out * lots * self.scale
                a.book(a.lots < 0, out, lots, fee, self.scale)
                spread = before - math.floor(a.cash * self.scale)
                self.spread += spread
                closing += spread + fee
        self.times.append(self.times[-1])
        self.equity.append(self.equity[-1] - closing)
        self.holds.append(sum((a.hold for a in self.accounts.values() if a.hold is not None), Fraction(0)))

    def changes(self, interval):
        """Of the account from one whole interval to the next; quiet ones are 0."""
        last = {}
        for now, equity in zip(self.times[:-1], self.equity[:-1]):
            last[now // interval] = equity
        first, end = self.times[0] // interval, self.times[-1] // interval
        series, before, out = [], 0, []
        for slot in range(first, end):
            series.append(last.get(slot, series[-1] if series else 0))
        for equity in series:
            out.append(equity - before)
            before = equity
        return out

    def curve(self, start, step, count):
        """[equity, hold, largest fall] of every stretch, from all inputs at once."""
        points, i, peak, now = [], 0, 0, (0, Fraction(0), 0)
        for n in range(count):
            end, fall = start + (n + 1) * step, now[2]
            while i < len(self.times) and self.times[i] < end:
                peak = max(peak, self.equity[i])
                now = (self.equity[i], self.holds[i], peak - self.equity[i])
                fall = max(fall, now[2])
                i += 1
            points.append((now[0], math.floor(now[1]), fall))
        return points


def bootstrap(change, block, resamples, rng):
    """Another generator, so equal only up to chance: 2.5 % and 97.5 % of sums over circular blocks."""
    n, sums = len(change), []
    for _ in range(resamples):
        total, left = 0, n
        while left > 0:
            first = rng.randrange(n)
            total += sum(change[(first + k) % n] for k in range(min(block, left)))
            left -= block
        sums.append(total)
    sums.sort()
    return sums[int(0.025 * resamples)], sums[int(0.975 * resamples)]


def deviation(change, mean):
    return math.sqrt(sum((c - mean)**2 for c in change) / (len(change) - 1)) if len(change) > 1 else 0.0


def figures(w):
    interval, peak, fall = w.set["report.interval_ns"], 0, 0
    for equity in w.equity:
        peak = max(peak, equity)
        fall = max(fall, peak - equity)
    change = w.changes(interval)
    mean = sum(change) / len(change) if change else 0.0
    scatter = deviation(change, mean)
    down = math.sqrt(sum(min(c, 0)**2 for c in change) / len(change)) if change else 0.0
    a_year = math.sqrt(YEAR_NS / interval)
    trips = [t for a in w.accounts.values() for t in a.trips]
    gains, losses = sum(t for t in trips if t > 0), -sum(t for t in trips if t <= 0)
    fees, pnl, span = sum(a.fees for a in w.accounts.values()), w.equity[-1], w.times[-1] - w.times[0]
    capital = w.set["report.capital_micros"] or w.capital
    enough = len(change) >= 2
    return {
        "pnl_micros": pnl, "fees_micros": fees, "gross_micros": pnl + fees, "spread_micros": w.spread,
        "slippage_micros": w.slippage, "before_costs_micros": pnl + fees + w.spread + w.slippage,
        "turnover_micros": w.turnover, "hold_micros": w.holds[-1], "capital_micros": capital, "max_drawdown": fall,
        "max_drawdown_fraction": fall / capital, "trades": len(trips),
        "win_rate": sum(t > 0 for t in trips) / len(trips) if trips else None,
        "profit_factor": gains / losses if losses > 0 else None,
        "mean_trade_micros": sum(trips) / len(trips) if trips else None,
        "time_in_market": w.held_ns / span, "intervals": len(change),
        "sharpe": mean / scatter * a_year if enough and scatter > 0 else None,
        "sortino": mean / down * a_year if enough and down > 0 else None,
        "calmar": pnl / (span / YEAR_NS) / fall if enough and fall > 0 else None,
    }


def near(a, b, key):
    if a is None or b is None:
        return a is b
    return abs(float(a) - float(b)) <= (2 if key.endswith("_micros") else 1e-9) + 1e-9 * abs(float(b))


def faults(run, scale, fault=None):
    w = Walk(run, scale, fault)
    w.finish()
    wrong = [f"{k}: {w.claims[k]}, not {float(v) if v is not None else v}" for k, v in figures(w).items()
             if not near(w.claims[k], v, k)]
    c = w.claims["curve"]
    told = list(zip(c["equity_micros"], c["hold_micros"], c["drawdown_micros"]))
    mine = w.curve(c["start_ns"], c["step_ns"], len(told))
    if any(not near(a, b, "_micros") for x, y in zip(told, mine) for a, b in zip(x, y)):
        wrong.append("curve")
    i = w.claims["pnl_interval_micros"]
    change = [b[0] - a[0] for a, b in zip([(0, 0, 0)] + mine, mine)]
    if i["low"] is not None:
        low, high = bootstrap(change, i["block"], 1000, random.Random(1))
        slack = 0.15 * (high - low) + 2
        if not (abs(low - i["low"]) <= slack and abs(high - i["high"]) <= slack):
            wrong.append(f"interval: {i}, another generator says {low} to {high}")
    return wrong
