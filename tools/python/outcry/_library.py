"""liboutcry-client by ctypes: its layouts (serve/client/wire.h, client.h, tether.h) and its functions' types."""
from __future__ import annotations

import ctypes
import os
from pathlib import Path

HORIZONS_MAX, NAME, SYMBOL, EVENTS_MAX = 8, 64, 32, 512
OK, EUSAGE, EDATA, EAGAIN = 0, 4, 5, 6  # base/status.h; a test holds them against it
STATES = ("ok", "late", "hold_short", "hold_gap", "refused_value", "refused_shape", "refused_order",
          "refused_session", "refused_model", "refused_schema", "refused_full", "refused_budget",
          "refused_draining", "refused_overload", "refused_kind", "failed", "hold_no_row", "hold_history",
          "refused_event", "refused_version")


class LibraryError(OSError):
    """liboutcry-client.so is not there, or speaks another layout."""


class Model(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * NAME), ("version", ctypes.c_char * SYMBOL), ("steps", ctypes.c_uint32),
                ("inputs", ctypes.c_uint32), ("horizons", ctypes.c_uint32), ("generation", ctypes.c_uint32),
                ("schema_low", ctypes.c_uint64), ("schema_high", ctypes.c_uint64)]


class Needs(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint32), ("history_rows", ctypes.c_uint32), ("history_ns", ctypes.c_int64)]


class Instrument(ctypes.Structure):
    _fields_ = [("symbol", ctypes.c_char * SYMBOL), ("tick", ctypes.c_int64), ("lot", ctypes.c_int64),
                ("tick_exponent", ctypes.c_int32), ("lot_exponent", ctypes.c_int32), ("reserved", ctypes.c_uint64)]


RefillNext = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.POINTER(Needs), ctypes.c_void_p,
                              ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t)


class LinkConfig(ctypes.Structure):
    _fields_ = [("address", ctypes.c_char_p), ("symbol", ctypes.c_char_p), ("period_ns", ctypes.c_int64),
                ("timeout_ns", ctypes.c_int64), ("spin_ns", ctypes.c_int64), ("schema_low", ctypes.c_uint64),
                ("schema_high", ctypes.c_uint64), ("universe", ctypes.POINTER(Instrument)),
                ("instruments", ctypes.c_uint32), ("begins", ctypes.c_uint32), ("refill", RefillNext),
                ("refill_context", ctypes.c_void_p)]


class Reply(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint32), ("kind", ctypes.c_uint32), ("session", ctypes.c_uint32),
                ("state", ctypes.c_uint32), ("sequence", ctypes.c_uint64), ("input_ns", ctypes.c_int64),
                ("deadline_ns", ctypes.c_int64), ("queue_ns", ctypes.c_int64), ("service_ns", ctypes.c_int64),
                ("model_version", ctypes.c_uint32), ("horizons", ctypes.c_uint16),
                ("instrument", ctypes.c_uint16), ("probabilities", ctypes.c_float * 3 * HORIZONS_MAX),
                ("version_text", ctypes.c_char * SYMBOL)]


assert ctypes.sizeof(Reply) == 192 and ctypes.sizeof(Instrument) == 64


def library_path() -> str:
    """OUTCRY_CLIENT_LIBRARY, else the library that came with this package, else the system's."""
    named = os.environ.get("OUTCRY_CLIENT_LIBRARY")
    beside = Path(__file__).with_name("liboutcry-client.so")
    return named or (str(beside) if beside.exists() else "liboutcry-client.so")


def load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(library_path())
        link, floats = ctypes.c_void_p, ctypes.c_void_p
        for name, result, arguments in (
                ("oc_tether_open", ctypes.c_int, [ctypes.POINTER(link), ctypes.POINTER(LinkConfig)]),
                ("oc_tether_close", None, [link]),
                ("oc_tether_describe", ctypes.POINTER(Model), [link]),
                ("oc_tether_connects", ctypes.c_uint64, [link]),
                ("oc_tether_stream", ctypes.POINTER(Needs), [link]),
                ("oc_tether_tick", ctypes.c_int, [link, ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(Reply),
                                                  ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)]),
                ("oc_tether_window", ctypes.c_int, [link, floats, ctypes.c_size_t, ctypes.POINTER(Reply)]),
                ("oc_tether_push", ctypes.c_int, [link, floats, ctypes.c_uint32, ctypes.POINTER(Reply)]),
                ("oc_status_message", ctypes.c_char_p, [])):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        return library
    except (OSError, AttributeError) as error:
        raise LibraryError(f"{library_path()}: {error}; OUTCRY_CLIENT_LIBRARY names another") from error
