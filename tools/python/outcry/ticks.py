"""A stream of market events as a Python object: the server computes the rows."""
from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Callable, Optional, Sequence

import numpy as np
from numpy.typing import NDArray

from . import _library as lib
from .client import Answer, Refused, Tether
from .events import EVENT, LAYOUTS, Instrument, _power


@dataclass(frozen=True)
class TickAnswer(Answer):
    """The answer for one row: of which instrument (its place in the universe), made by the event of that sequence and
    time."""
    instrument: int
    time_ns: int


@dataclass(frozen=True)
class History:
    """What a stream needs that does not begin: see Stream."""
    rows: int
    ns: int


Refill = Callable[[History, np.void], NDArray[np.void]]


def _checked(events: NDArray[np.void], what: str) -> NDArray[np.void]:
    array = np.ascontiguousarray(events)
    if array.dtype not in LAYOUTS or array.ndim != 1:
        raise ValueError(f"{what}: an array of {array.dtype} with {array.ndim} dimensions, not one of outcry.EVENT")
    return array.view(EVENT)


class Stream(Tether):
    """One order of events over a universe. For one thread; `with` closes it.

    begins: nothing comes before its first event in any run, as in a dataset. Else its rows are "hold_history" until the
    declared history lies behind them.
    refill: where the server came back, or the stream does not begin, `refill(history, until)` returns the caller's
    record: first the books of a moment as SNAPSHOT events without Flag.LAST (none with bars), then every event behind
    it, so a caller records events before they are sent. What does not come before the event `until` is left out. Where
    the record has history.rows + T rows of each instrument, the last T - 1 of them history.ns or more behind the second
    one, the next answer has the bits that it would have had."""

    def __init__(self, address: str, universe: Sequence[Instrument], *, period_s: float, begins: bool = False,
                 refill: Optional[Refill] = None, timeout_s: float = 5.0, spin_s: float = 0.0) -> None:
        records = (lib.Instrument * len(universe))()
        for record, one in zip(records, universe):
            record.symbol = one.symbol.encode()
            (record.tick, record.tick_exponent), (record.lot, record.lot_exponent) = _power(one.tick), _power(one.lot)
        self._refill, self._record, self._fault = refill, np.zeros(0, EVENT), None
        self._next = lib.RefillNext(self._hand_in) if refill else lib.RefillNext()
        super().__init__(lib.LinkConfig(
            address=address.encode(), period_ns=round(period_s * 1e9), timeout_ns=round(timeout_s * 1e9),
            spin_ns=round(spin_s * 1e9), universe=records, instruments=len(universe), begins=begins, refill=self._next))

    @property
    def history(self) -> History:
        needs = self._library.oc_tether_stream(self._open()).contents
        return History(needs.history_rows, needs.history_ns)

    def _hand_in(self, _context: object, needs: object, until: int, given: int, room: int, cap: int) -> int:
        """The library asks for the next part of the record. More than it has room for: it gives up and says so."""
        try:
            if given == 0:
                history = History(needs[0].history_rows, needs[0].history_ns)  # type: ignore[index]
                first = np.frombuffer(ctypes.string_at(until, EVENT.itemsize), EVENT)[0]
                record = _checked(self._refill(history, first), "the refill")  # type: ignore[misc]
                self._record = record[(record["receive_ns"] < first["receive_ns"]) | (
                    (record["receive_ns"] == first["receive_ns"]) & (record["sequence"] < first["sequence"]))]
            part = self._record[given:given + cap]
            ctypes.memmove(room, part.ctypes.data, part.nbytes)
            return len(part)
        except BaseException as fault:  # noqa: B902: it goes on in tick, not in the library
            self._fault = fault
            return cap + 1

    def _answers(self, replies: Sequence[lib.Reply]) -> list[TickAnswer]:
        found: list[TickAnswer] = []
        for reply in replies:
            state = self._state(reply)
            if state.startswith("refused"):
                raise Refused(state, found)
            if state != "hold_no_row":
                found.append(TickAnswer(**self._fields(reply), instrument=reply.instrument, time_ns=reply.input_ns))
        return found

    def tick(self, events: NDArray[np.void]) -> list[TickAnswer]:
        """Events (an array of EVENT or of one of its views, in rising order of receive_ns and sequence) -> the answers
        for the rows that they made. Refused: an event is none, or not behind the one before; `answers` of the exception
        are those before it, and the stream goes on as behind a gap. TimedOut: the events count all the same."""
        array, found = _checked(events, "events"), []
        for at in range(0, len(array), lib.EVENTS_MAX):
            part = array[at:at + lib.EVENTS_MAX]
            replies, count = (lib.Reply * len(part))(), ctypes.c_size_t()
            status = self._library.oc_tether_tick(self._open(), part.ctypes.data, len(part), replies, len(part),
                                                  ctypes.byref(count))
            fault, self._fault = self._fault, None
            if fault is not None:
                raise fault
            self._good(status)
            try:
                found += self._answers(replies[:count.value])
            except Refused as refused:
                refused.answers = found + refused.answers
                raise
        return found
