"""A tether to the server as a Python object: calls block until the answer is there or the time is over."""
from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import TracebackType
from typing import Optional, Sequence, Type, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _library as lib


class ClientError(RuntimeError):
    """The library's message."""


class TimedOut(ClientError, TimeoutError):
    """No answer in time, or no server. A pushed row counts as pushed: go on with the next one."""


class WrongModel(ClientError):
    """The server has come back with a model of another shape or feature schema."""


class Refused(ClientError):
    """The server refused the request; `state` is its reason's name; of a Stream's tick, `answers` are those before."""

    def __init__(self, state: str, answers: Sequence[Answer] = ()) -> None:
        super().__init__(f"the server refused: {state}")
        self.state, self.answers = state, list(answers)


@dataclass(frozen=True)
class ModelInfo:
    name: str
    version: str
    steps: int
    inputs: int
    horizons: int
    schema: tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """probabilities: [horizons, 3], buy, sell, hold. Where state is not "ok" they are HOLD: (0, 0, 1)."""
    probabilities: NDArray[np.float32]
    state: str
    version: str
    sequence: int
    queue_ns: int
    service_ns: int

    @property
    def ok(self) -> bool:
        return self.state == "ok"

    @property
    def buy(self) -> float:
        return float(self.probabilities[0, 0])

    @property
    def sell(self) -> float:
        return float(self.probabilities[0, 1])

    @property
    def hold(self) -> float:
        return float(self.probabilities[0, 2])


Self = TypeVar("Self", bound="Tether")


class Tether:
    """What Client and Stream share: the library's handle, its errors, its end."""

    def __init__(self, config: lib.LinkConfig) -> None:
        self._link = ctypes.c_void_p()
        self._library = lib.load()
        self._good(self._library.oc_tether_open(ctypes.byref(self._link), ctypes.byref(config)))

    def _good(self, status: int) -> None:
        if status == lib.OK:
            return
        message = self._library.oc_status_message().decode(errors="replace")
        if status == lib.EUSAGE:
            raise ValueError(message)
        raise {lib.EAGAIN: TimedOut, lib.EDATA: WrongModel}.get(status, ClientError)(message)

    def _open(self) -> ctypes.c_void_p:
        if not self._link:
            raise ValueError("this client is closed")
        return self._link

    @property
    def model(self) -> ModelInfo:
        m = self._library.oc_tether_describe(self._open()).contents
        return ModelInfo(m.name.decode(), m.version.decode(), m.steps, m.inputs, m.horizons,
                         (m.schema_low, m.schema_high))

    @property
    def connects(self) -> int:
        """1 after opening; one more each time that it had to come back."""
        return int(self._library.oc_tether_connects(self._open()))

    @staticmethod
    def _state(reply: lib.Reply) -> str:
        return lib.STATES[reply.state] if reply.state < len(lib.STATES) else f"state {reply.state}"

    def _fields(self, reply: lib.Reply) -> dict[str, object]:
        return {"probabilities": np.array(reply.probabilities, dtype=np.float32)[:reply.horizons],
                "state": self._state(reply), "version": reply.version_text.decode(), "sequence": reply.sequence,
                "queue_ns": reply.queue_ns, "service_ns": reply.service_ns}

    def _answer(self, reply: lib.Reply) -> Answer:
        state = self._state(reply)
        if state.startswith("refused") or state == "failed":
            raise Refused(state)
        return Answer(**self._fields(reply))  # type: ignore[arg-type]

    def close(self) -> None:
        link, self._link = self._link, ctypes.c_void_p()
        if link:
            self._library.oc_tether_close(link)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_link", None):
            self.close()


class Client(Tether):
    """One symbol's session (or, without a symbol, windows only). For one thread; `with` closes it.

    Where the server goes away and comes back, a call connects again within its timeout and hands in the rows that the
    window needs: its answer is the one that it would have been."""

    def __init__(self, address: str, symbol: Optional[str] = None, *, period_s: float = 1.0, timeout_s: float = 5.0,
                 spin_s: float = 0.0, schema: tuple[int, int] = (0, 0)) -> None:
        self._run = 0
        super().__init__(lib.LinkConfig(address.encode(), symbol.encode() if symbol is not None else None,
                                        round(period_s * 1e9), round(timeout_s * 1e9), round(spin_s * 1e9), *schema))

    def _floats(self, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
        array = np.ascontiguousarray(values, dtype=np.float32)
        if array.shape != shape:
            raise ValueError(f"an array of shape {list(array.shape)}, but {self.model.name} takes {list(shape)}")
        return array

    def push(self, row: ArrayLike, run_length: Optional[int] = None) -> Answer:
        """One new row [F] of raw features -> the answer for the window that it completes. run_length: valid rows in a
        row up to this one (default: one more than the last); 0: this row is not valid."""
        run = self._run + 1 if run_length is None else run_length
        array, reply = self._floats(row, (self.model.inputs,)), lib.Reply()
        status = self._library.oc_tether_push(self._open(), array.ctypes.data, run, ctypes.byref(reply))
        if status != lib.EUSAGE:  # else it was not taken
            self._run = 0 if status == lib.OK and lib.STATES[reply.state] == "refused_value" else run
        self._good(status)
        return self._answer(reply)

    def window(self, rows: ArrayLike) -> Answer:
        """A whole window [T, F] of raw rows, oldest first."""
        array, reply = self._floats(rows, (self.model.steps, self.model.inputs)), lib.Reply()
        self._good(self._library.oc_tether_window(self._open(), array.ctypes.data, len(array), ctypes.byref(reply)))
        return self._answer(reply)


def open(address: str, symbol: Optional[str] = None, **more: object) -> Client:  # noqa: A001: outcry.open reads well
    return Client(address, symbol, **more)  # type: ignore[arg-type]
