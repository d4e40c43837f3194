"""liboutcry-client for Python, by ctypes: what the tests of the server need of it."""
import ctypes
import struct
import time

OK, HOLD_SHORT, HOLD_GAP, HOLD_NO_ROW, HOLD_HISTORY, REFUSED_EVENT = 0, 2, 3, 16, 17, 18
WINDOW, PUSH, OPEN, CLOSE, HISTORY, TICK = 1, 2, 3, 4, 5, 8
SECOND = 1000000000


class Stamp(ctypes.Structure):
    _fields_ = [("sequence", ctypes.c_uint64), ("input_ns", ctypes.c_int64), ("deadline_ns", ctypes.c_int64),
                ("model_version", ctypes.c_uint32)]


class Model(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 64), ("version", ctypes.c_char * 32), ("steps", ctypes.c_uint32),
                ("inputs", ctypes.c_uint32), ("horizons", ctypes.c_uint32), ("generation", ctypes.c_uint32),
                ("schema_low", ctypes.c_uint64), ("schema_high", ctypes.c_uint64)]


class Stream(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint32), ("history_rows", ctypes.c_uint32), ("history_ns", ctypes.c_int64)]


class Client:
    """One client of the rings; one thread. Rows are the bytes of little-endian f32."""

    def __init__(self, library, path):
        self.lib, self.at = ctypes.CDLL(library), ctypes.c_void_p()
        for name, result, arguments in (
                ("describe", ctypes.POINTER(Model), [ctypes.c_void_p]),
                ("poll", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]),
                ("wait", None, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]),
                ("close", None, [ctypes.c_void_p]),
                ("alive", ctypes.c_int, [ctypes.c_void_p]),
                ("window", ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, Stamp, ctypes.c_char_p, ctypes.c_size_t]),
                ("push", ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, Stamp, ctypes.c_char_p, ctypes.c_uint32]),
                ("history", ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, Stamp, ctypes.c_char_p, ctypes.c_size_t,
                                           ctypes.c_uint32]),
                ("tick", ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, Stamp, ctypes.c_char_p, ctypes.c_size_t])):
            function = getattr(self.lib, f"oc_client_{name}")
            function.restype, function.argtypes = result, arguments
        self.lib.oc_status_message.restype = ctypes.c_char_p
        self.good(self.lib.oc_client_open(ctypes.byref(self.at), f"unix:{path}".encode(), ctypes.c_int64(SECOND)))
        self.model = self.lib.oc_client_describe(self.at).contents
        self.room = ctypes.create_string_buffer(192 * 64)
        self.patience_ns = 0    # of windows and rows: their deadline, from when they are sent; 0: none

    def good(self, status):
        assert status == 0, self.lib.oc_status_message().decode()

    def session(self, symbol, period_ns=SECOND):
        session, m = ctypes.c_uint32(), self.model
        self.good(self.lib.oc_client_session_open(
            self.at, m.name, symbol.encode(), ctypes.c_uint64(m.schema_low), ctypes.c_uint64(m.schema_high),
            ctypes.c_int64(period_ns), ctypes.c_int64(5 * SECOND), ctypes.byref(session)))
        return session.value

    def stamp(self, sequence):
        return Stamp(sequence, 0, time.monotonic_ns() + self.patience_ns if self.patience_ns else 0)

    def window(self, sequence, rows, session=0):
        """False where the ring is full."""
        return self.sent(self.lib.oc_client_window(self.at, session, self.stamp(sequence), rows, self.model.steps))

    def push(self, session, sequence, row, run_length):
        return self.sent(self.lib.oc_client_push(self.at, session, self.stamp(sequence), row, run_length))

    def history(self, session, sequence, rows, run_length):
        count = len(rows) // (4 * self.model.inputs)
        return self.sent(self.lib.oc_client_history(self.at, session, Stamp(sequence), rows, count, run_length))

    def stream(self, universe, begins, period_ns=SECOND):
        """universe: (symbol, tick, lot), each a pair (mantissa, exponent). Returns id, history_rows, history_ns."""
        stream = Stream()
        records = b"".join(struct.pack("<32sqqiiq", symbol.encode(), tick[0], lot[0], tick[1], lot[1], 0)
                           for symbol, tick, lot in universe)
        self.good(self.lib.oc_client_stream_open(
            self.at, self.model.name, records, ctypes.c_uint32(len(universe)), ctypes.c_int64(period_ns),
            ctypes.c_int(begins), ctypes.c_int64(5 * SECOND), ctypes.byref(stream)))
        return stream

    def tick(self, stream, events):
        """events: records of 88 bytes. False where the ring is full."""
        return self.sent(self.lib.oc_client_tick(self.at, stream, self.stamp(0), events, len(events) // 88))

    def sent(self, status):
        if status == 6:     # OC_EAGAIN
            return False
        self.good(status)
        return True

    def replies(self, wait_ns=SECOND, named=False):
        """(kind, session, state, sequence, probabilities as bytes of f32), after a wait where none is there yet; named:
        and the version that answered."""
        self.lib.oc_client_wait(self.at, 0, wait_ns)
        found = []
        for i in range(self.lib.oc_client_poll(self.at, self.room, 64)):
            record = self.room.raw[192 * i:192 * (i + 1)]
            _, kind, session, state, sequence = struct.unpack_from("<IIIIQ", record)
            version = (record[160:192].split(b"\0")[0].decode(),) if named else ()
            found.append((kind, session, state, sequence, record[64:64 + 12 * self.model.horizons], *version))
        return found

    def tick_replies(self, wait_ns=SECOND):
        """(state, instrument, sequence of the event, its time, probabilities as bytes) of a client that only ticks."""
        self.lib.oc_client_wait(self.at, 0, wait_ns)
        found = []
        for i in range(self.lib.oc_client_poll(self.at, self.room, 64)):
            record = self.room.raw[192 * i:192 * (i + 1)]
            _, kind, _, state, sequence, time_ns = struct.unpack_from("<IIIIQq", record)
            assert kind == TICK, kind
            instrument, = struct.unpack_from("<H", record, 62)
            found.append((state, instrument, sequence, time_ns, record[64:64 + 12 * self.model.horizons]))
        return found

    def alive(self):
        return bool(self.lib.oc_client_alive(self.at))

    def close(self):
        self.lib.oc_client_close(self.at)
