"""Market events as the server takes them: the record of market/event.h as a NumPy type, and bars as such records."""
from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Union

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Kind(enum.IntEnum):
    BAR = 1
    TRADE = 2
    QUOTE = 3
    LEVEL = 4
    SNAPSHOT = 5
    ORDER_ADD = 6
    ORDER_CANCEL = 7
    ORDER_EXECUTE = 8
    EXTERNAL = 9
    STATUS = 10


class Side(enum.IntEnum):
    NONE = 0
    BUY = 1
    SELL = 2


class Flag(enum.IntFlag):
    LAST = 1
    GAP_BEFORE = 2
    SESSION_BREAK = 4


_HEAD = [("exchange_ns", "<i8"), ("receive_ns", "<i8"), ("sequence", "<u8"), ("order_id", "<u8"), ("instrument", "<u4"),
         ("source", "<u2"), ("kind", "u1"), ("side", "u1"), ("level", "u1"), ("flags", "u1"), ("reserved", "u1", 6)]
# An event of any kind, and the same 88 bytes with the names that its kind gives to the last forty: array.view(BAR). No
# field lies over another, so that NumPy keeps the layout where arrays are joined.
EVENT = np.dtype([*_HEAD, ("data", "<i8", 5)])
PRICE = np.dtype([*_HEAD, ("ticks", "<i8"), ("lots", "<i8"), ("unused", "<i8", 3)])  # trades, levels, snapshots, orders
BAR = np.dtype([*_HEAD, *((f"{name}_ticks", "<i8") for name in ("open", "high", "low", "close")),
                ("volume_lots", "<i8")])
QUOTE = np.dtype([*_HEAD, ("bid_ticks", "<i8"), ("bid_lots", "<i8"), ("ask_ticks", "<i8"), ("ask_lots", "<i8"),
                  ("unused", "<i8")])
EXTERNAL = np.dtype([*_HEAD, ("series", "<u8"), ("value", "<f8"), ("unused", "<i8", 3)])
LAYOUTS = (EVENT, PRICE, BAR, QUOTE, EXTERNAL)


def _power(value: Union[str, float, Decimal]) -> tuple[int, int]:
    """(mantissa, exponent) of mantissa * 10^exponent, no zeros at the mantissa's end."""
    sign, digits, exponent = Decimal(str(value)).normalize().as_tuple()
    if sign or not isinstance(exponent, int) or digits == (0,):
        raise ValueError(f"a tick or lot is a number above 0, not {value}")
    return int("".join(map(str, digits))), exponent


@dataclass(frozen=True)
class Instrument:
    """One of a stream's universe. tick, lot: the increments that `outcry import` reported, "0.01" or 0.01."""
    symbol: str
    tick: Union[str, float, Decimal]
    lot: Union[str, float, Decimal] = 1

    def __post_init__(self) -> None:
        _power(self.tick), _power(self.lot)

    def ticks(self, prices: ArrayLike) -> NDArray[np.int64]:
        """Prices as integer ticks; ValueError where one is no multiple of the tick."""
        return _integers(prices, self.tick, f"{self.symbol}: a price", "tick")

    def lots(self, sizes: ArrayLike) -> NDArray[np.int64]:
        return _integers(sizes, self.lot, f"{self.symbol}: a size", "lot")


def _integers(values: ArrayLike, unit: Union[str, float, Decimal], what: str, name: str) -> NDArray[np.int64]:
    exact = np.asarray(values, dtype=np.float64) / float(unit)
    whole = np.rint(exact)
    bad = ~(np.abs(exact - whole) <= 1e-6 * np.maximum(np.abs(whole), 1))
    if np.any(bad):
        first = np.atleast_1d(values)[np.atleast_1d(bad)][0]
        raise ValueError(f"{what} of {first} is no multiple of the {name} {unit}")
    return whole.astype(np.int64)


def bars(instrument: Instrument, index: int, sequence: int, end_ns: ArrayLike, open: ArrayLike,  # noqa: A002
         high: ArrayLike, low: ArrayLike, close: ArrayLike, volume: ArrayLike = 0) -> NDArray[np.void]:
    """Bars of the instrument at `index` in the universe, as events numbered from `sequence` on. end_ns: when each ended
    (and arrived), in ns since 1970."""
    ends = np.atleast_1d(np.asarray(end_ns, dtype=np.int64))
    events = np.zeros(len(ends), BAR)
    events["receive_ns"], events["sequence"] = ends, np.arange(sequence, sequence + len(ends))
    events["instrument"], events["kind"], events["flags"] = index, Kind.BAR, Flag.LAST
    for name, prices in (("open", open), ("high", high), ("low", low), ("close", close)):
        events[f"{name}_ticks"] = instrument.ticks(prices)
    events["volume_lots"] = instrument.lots(volume)
    return events.view(EVENT)
