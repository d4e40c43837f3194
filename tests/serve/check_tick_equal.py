"""Market events sent as ticks, over the rings and over HTTP, are answered with the bits of `outcry predict` on the
dataset's rows, and of these rows pushed by hand: drawn bars of two instruments, whose features look at each other; the
Binance capture and LOBSTER's GOOG where they are (OUTCRY_DATA, ../shared/data). Then kill -9: the server starts again,
the client opens a stream that begins late, with the books of that moment, and the first answer is exact, as is each one
behind it.

usage: check_tick_equal.py OUTCRY CLIENT_LIBRARY SOURCE      OUTCRY_FULL=1: all events, not the first few thousand rows
"""
import atexit
import bisect
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

if os.environ.get("OUTCRY_PYTHON") and os.environ["OUTCRY_PYTHON"] != sys.executable and "--here" not in sys.argv:
    os.execv(os.environ["OUTCRY_PYTHON"], [os.environ["OUTCRY_PYTHON"], "-B", *sys.argv, "--here"])
try:
    import h5py
    import numpy
except ImportError as missing:
    print(f"skipped: {missing.name} is not there (OUTCRY_PYTHON names another Python)")
    sys.exit(77)
from ring_client import Client, HOLD_GAP, HOLD_HISTORY, HOLD_NO_ROW, HOLD_SHORT, OK, PUSH

OUTCRY, LIBRARY, SOURCE = sys.argv[1:4]
FULL = bool(os.environ.get("OUTCRY_FULL"))
DATA = os.environ.get("OUTCRY_DATA") or f"{SOURCE}/../shared/data"
GOOG = "lobster-nasdaq-2012-06-21/GOOG_2012-06-21_34200000_57600000"
STEPS, SEED, ROWS = 16, int(os.environ.get("OUTCRY_SEED", 9)), 1 << 60 if FULL else 2500
LEVEL, SNAPSHOT, LAST, GAP, BUY = 4, 5, 1, 2, 1
EVENT = numpy.dtype([("exchange_ns", "<i8"), ("receive_ns", "<i8"), ("sequence", "<u8"), ("order_id", "<u8"),
                     ("instrument", "<u4"), ("source", "<u2"), ("kind", "u1"), ("side", "u1"), ("level", "u1"),
                     ("flags", "u1"), ("reserved", "u1", 6), ("ticks", "<i8"), ("lots", "<i8"), ("rest", "<i8", 3)])
BARS = "return:1,return:4,ema_gap:3,rsi:3,range_position:5,cross_return:3,cross_excess:5,up_ratio:5"
BOOK = ("imbalance:1,imbalance:5,weighted_imbalance:10,microprice_gap,spread,ofi:1,ofi:10,signed_volume:5,return:1,"
        "return:5,sma_gap:20,realised:20,zscore:50,ema_gap:3")
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def run(*command, code=0):
    done = subprocess.run([OUTCRY, *command], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, (command, done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def sets(*pairs):
    return [text for pair in pairs for text in ("--set", pair)]


def events_read(path):
    """What event_format.h says: instruments as (symbol, tick, lot), and all records."""
    raw = open(path, "rb").read()
    at, _, _, count = (int(v) for v in numpy.frombuffer(raw, "<u4", 4, 12))
    universe = []
    for i in range(count):
        record = raw[32 + 80 * i:][:80]
        tick, lot = (tuple(int(v) for v in numpy.frombuffer(record, "<i8,<i4", 1, at)[0]) for at in (32, 48))
        universe.append((record[:32].split(b"\0")[0].decode(), tick, lot))
    blocks = []
    for _ in range(int(numpy.frombuffer(raw, "<u8", 1, len(raw) - 80)[0])):
        records = int(numpy.frombuffer(raw, "<u4", 1, at + 24)[0])
        blocks.append(numpy.frombuffer(raw, EVENT, records, at + 32))
        at += 32 + 88 * records
    return universe, numpy.concatenate(blocks)


def merged(paths):
    """Files as one stream: in the order of (receive_ns, source, sequence), numbered anew, of one source."""
    universe, parts = [], []
    for source, path in enumerate(paths):
        own, events = events_read(path)
        events = events.copy()
        for name in own:
            if name not in universe:
                universe.append(name)
        events["instrument"] = numpy.array([universe.index(name) for name in own])[events["instrument"]]
        events["source"] = source
        parts.append(events)
    events = numpy.concatenate(parts)
    events = events[numpy.lexsort((events["sequence"], events["source"], events["receive_ns"]))]
    events["source"], events["sequence"] = 0, numpy.arange(1, len(events) + 1)
    return universe, events


def bars(work):
    """Minute bars of two instruments, the second one's moves behind the first one's; holes of either."""
    draw, price, minute, files = random.Random(SEED), [5000, 800], 0, [[], []]
    for i in range(1500 if not FULL else 20000):
        minute += 200 if draw.random() < 0.002 else 1
        for k in range(2):
            at, price[k] = price[k], max(price[k] + draw.randrange(-9, 10), 300)
            high, low = max(at, price[k]) + draw.randrange(5), min(at, price[k]) - draw.randrange(5)
            if draw.random() < 0.9:
                numbers = ",".join(f"{v / 100:.2f}" for v in (at, high, low, price[k]))
                files[k].append(f"{1600000000 + 60 * minute},{numbers},{draw.randrange(1, 99)}\n")
    for k, lines in enumerate(files):
        with open(f"{work}/{k}.csv", "w") as out:
            out.write("time,open,high,low,close,volume\n" + "".join(lines))
        run("import", "--format", "csv", "--symbol", f"S{k}", "--bar", "1m", "--stamp", "start", "--time-format",
            "epoch_s", "--timezone", "UTC", "--tick", "0.01", "--out", f"{work}/{k}.events", "--quiet",
            f"{work}/{k}.csv")
    return [f"{work}/0.events", f"{work}/1.events"]


def recorded(work, form, symbol, *names):
    paths = [f"{DATA}/{name}" for name in names]
    if not all(os.path.exists(path) for path in paths):
        return None
    run("import", "--format", form, "--symbol", symbol, "--out", f"{work}/r.events", "--quiet", *paths)
    return [f"{work}/r.events"]


class Market:
    """A dataset, a model, what is to be answered to each of its rows, and the events."""

    def __init__(self, work, files, features, sample, more):
        self.work, self.spec = work, [f"sample={sample}", *more]
        run("build", f"{SOURCE}/configs/build-{'bars' if sample == 'bar' else 'book'}.yaml", "--quiet", "--out",
            f"{work}/d.h5", *sets(f"data.events={','.join(files)}", f"features={features}", *self.spec,
                                  "labels=direction:5:0.0001"))
        run("train", f"{SOURCE}/configs/train.yaml", "--quiet", "--out", f"{work}/run", *sets(
            f"data.dataset={work}/d.h5", f"window.steps={STEPS}", "model.hidden=16", "train.epochs=1",
            "train.rate=0.03", "train.windows_per_epoch=640", "train.valid_windows=256", "threads=1"))
        self.universe, self.events = merged(files)
        self.rows = [self.symbol(name) for name, _, _ in self.universe]

    def symbol(self, name):
        with h5py.File(f"{self.work}/d.h5") as data:
            group = data[f"symbols/{name}"]
            x, runs, times = group["x"][:ROWS].astype("<f4"), group["run_length"][:ROWS], group["time_ns"][:ROWS]
        said = run("predict", "--model", f"{self.work}/run/model", "--data", f"{self.work}/d.h5", "--symbol", name,
                   "--rows", f"0:{len(x)}").splitlines()
        answers = {int(line.split(",")[1]): numpy.array(line.split(",")[3:], "<f4").tobytes() for line in said[1:]}
        assert set(answers) == {i for i in range(len(x)) if runs[i] >= STEPS} and len(answers) > len(x) // 3
        assert len(set(answers.values())) > len(answers) // 3, "a model that ignores its input would pass"
        return x, runs, times, answers

    def serve(self, *more):
        server = subprocess.Popen([OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *sets(
            f"model.bundle={self.work}/run/model", "serve.http=127.0.0.1:0", f"serve.socket={self.work}/s.sock",
            f"serve.sessions={2 * len(self.universe)}", "serve.streams=1",
            f"serve.stream_instruments={len(self.universe)}", "threads=1", *(f"serve.{s}" for s in self.spec), *more)],
            stdout=subprocess.PIPE, text=True)
        started.append(server)
        return server, int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline()).group(1))


def answers_of(client, stream, events, enough):
    """Sends events in requests of any length until `enough` says so; yields the replies that are of a row."""
    draw, sent, told = random.Random(SEED), 0, 0
    sequences = events["sequence"]
    while told < sent or sent < len(events):
        if sent < len(events) and sent - told < 600 and not enough():
            count = min(draw.choice((1, 3, 40, 512)), len(events) - sent)
            if client.tick(stream, events[sent:sent + count].tobytes()):
                sent += count
                continue
        elif told == sent:
            return
        for reply in client.tick_replies():
            told = bisect.bisect_right(sequences, reply[2])
            if reply[0] != HOLD_NO_ROW:
                yield reply


def whole_stream(market, path):
    """From the first event; returns {(instrument, row): (state, answer)} and the event of each row."""
    client, got, at, found = Client(LIBRARY, path), {}, {}, [0] * len(market.universe)
    stream = client.stream(market.universe, True)
    enough = lambda: all(n >= len(rows[0]) for n, rows in zip(found, market.rows))
    for state, i, sequence, time_ns, answer in answers_of(client, stream.id, market.events, enough):
        row, found[i] = found[i], found[i] + 1
        if row >= len(market.rows[i][0]):
            continue
        runs, times = market.rows[i][1:3]
        assert time_ns == times[row], (i, row)
        assert state == (OK if runs[row] >= STEPS else HOLD_SHORT if runs[row] else HOLD_GAP), (i, row, state)
        got[i, row] = answer if state == OK else None
        at[i, row] = sequence - 1
    client.close()
    assert len(got) == sum(len(rows[0]) for rows in market.rows)
    return got, at


def streams_gone(port):
    """A client that closes is noticed a moment later; its stream is the only one that this server has."""
    for _ in range(600):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as figures:
            if re.search(r"^outcry_streams 0$", figures.read().decode(), re.M):
                return
        time.sleep(0.02)
    raise AssertionError("a stream outlives its client")


def over_http(market, port, last):
    """The first events up to `last`, as whole_stream."""
    connection, got, found = http.client.HTTPConnection("127.0.0.1", port, timeout=60), {}, [0] * len(market.universe)

    def post(path, body):
        connection.request("POST", f"/outcry/streams/{path}", body)
        reply = connection.getresponse()
        said = json.loads(reply.read())
        assert reply.status == 200, said
        return said

    post("all", json.dumps({"universe": [{"symbol": name, "tick": f"{tick[0]}e{tick[1]}", "lot": f"{lot[0]}e{lot[1]}"}
                                         for name, tick, lot in market.universe], "begins": True}))
    for at in range(0, last, 512):
        for one in post("all/events", market.events[at:min(at + 512, last)].tobytes())["answers"]:
            i = one["instrument"]
            row, found[i] = found[i], found[i] + 1
            if row < len(market.rows[i][0]):
                assert one["time_ns"] == market.rows[i][2][row], (i, row)
                bits = numpy.array(one["probabilities"], "<f4").tobytes()
                got[i, row] = bits if one["state"] == "ok" else None
    assert post("all/close", b"")["closed"]
    return got


def pushed(market, path):
    client, got = Client(LIBRARY, path), {}
    for i, (x, runs, _, _) in enumerate(market.rows):
        session, told = client.session(market.universe[i][0]), 0
        for row in range(len(x) + 1):
            while told < row and (row - told > 200 or row == len(x)):
                for kind, _, state, sequence, answer in client.replies():
                    assert kind == PUSH
                    got[i, sequence - 1] = answer if state == OK else None
                    told += 1
            if row < len(x):
                assert client.push(session, row + 1, x[row].tobytes(), int(runs[row]))
    client.close()
    return got


def books(market, until):
    """The books behind the first `until` events, as SNAPSHOT events without an end."""
    sides, out = {}, []
    for e in market.events[:until][["instrument", "kind", "side", "flags", "ticks", "lots"]].tolist():
        instrument, kind, side, flags, ticks, lots = e
        if kind not in (LEVEL, SNAPSHOT):
            opened = False
            continue
        if (kind == SNAPSHOT and not opened) or (kind == LEVEL and flags & GAP):
            sides = {key: book for key, book in sides.items() if key[0] != instrument}
        opened = kind == SNAPSHOT and not flags & LAST
        book = sides.setdefault((instrument, side), {})
        book.pop(ticks, None)
        if lots:
            book[ticks] = lots
    for (instrument, side), book in sides.items():
        for ticks in sorted(book, reverse=side == BUY):
            out.append((0, 0, 0, 0, instrument, 0, SNAPSHOT, side, 255, 0, [0] * 6, ticks, book[ticks], [0] * 3))
    return numpy.array(out, EVENT) if out else numpy.zeros(0, EVENT)


def late_stream(market, path, at):
    """Begins so late that a few hundred rows are exact. Returns them, and how many were held."""
    client, got, held, seen = Client(LIBRARY, path), {}, 0, []
    stream = client.stream(market.universe, False)
    rows = market.rows
    ns = lambda i, row: rows[i][2][len(rows[i][0]) - 1] - rows[i][2][row]
    start = min(at[i, next(row for row in range(len(rows[i][0]) - STEPS - 300 - stream.history_rows, 0, -1)
                           if ns(i, row + STEPS + 300) >= stream.history_ns or row == 1)] for i in range(len(rows)))
    front = books(market, start + 1)
    front["receive_ns"] = market.events["receive_ns"][start]
    events = numpy.concatenate([front, market.events[start + 1:max(at.values()) + 1]])
    numbers = {n + len(front) + 1: market.events["sequence"][start + 1 + n] for n in range(len(events) - len(front))}
    events["sequence"] = numpy.arange(1, len(events) + 1)
    row_of = {event + 1: key for key, event in at.items()}
    for state, i, sequence, _, answer in answers_of(client, stream.id, events, lambda: False):
        seen.append(i)
        if numbers.get(sequence) not in row_of:     # a row of the snapshot alone, which the whole stream has not
            assert seen.count(i) == 1 and state == HOLD_HISTORY
            continue
        key = row_of[numbers[sequence]]
        held += state == HOLD_HISTORY
        assert key[0] == i and state in (OK, HOLD_HISTORY, HOLD_SHORT, HOLD_GAP), (key, state)
        if state == OK:
            got[key] = answer
    client.close()
    assert held >= stream.history_rows, (held, stream.history_rows)
    return got, held


def differing(got, wanted):
    return [key for key in got if got[key] != wanted.get(key)]


def compare(name, market):
    path, wanted = f"{market.work}/s.sock", {}
    for i, (x, _, _, answers) in enumerate(market.rows):
        wanted.update({(i, row): answers.get(row) for row in range(len(x))})
    server, port = market.serve()
    ticks, at = whole_stream(market, path)
    assert not (found := differing(ticks, wanted)), (name, len(found), found[:5])
    streams_gone(port)
    by_http = over_http(market, port, max(at.values()) + 1)
    assert by_http == ticks, (name, differing(by_http, ticks)[:5])
    by_hand = pushed(market, path)
    assert by_hand == ticks, (name, differing(by_hand, ticks)[:5])
    key = random.Random(SEED).choice([key for key in ticks if ticks[key]])      # planted: one bit of one answer
    planted = bytes([ticks[key][0] ^ 4]) + ticks[key][1:]
    assert differing({**ticks, key: planted}, wanted) == [key]
    figures = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    taken = int(re.search(r"^outcry_ticks_total (\d+)$", figures, re.M).group(1))
    assert taken > 2 * max(at.values()) and re.search(r"^outcry_ticks_dropped_total 0$", figures, re.M), taken
    server.send_signal(signal.SIGKILL)
    server.wait(60)
    server, _ = market.serve()
    late, held = late_stream(market, path, at)
    assert late and not (found := differing(late, wanted)), (name, len(found), found[:5], len(late))
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    answers = sum(answer is not None for answer in ticks.values())
    print(f"{name}: {taken} events by two ways, {answers} answers of {len(ticks)} rows: the bits of predict and of "
          f"pushed rows; after kill -9 {held} rows held, then {len(late)} exact", flush=True)


def refusals(market):
    """Wrong settings are told at the start or when the stream opens."""
    for pair, said in (("serve.stream_mb=1", "serve.stream_mb"), ("serve.ring_kb=64", "serve.ring_kb"),
                       ("serve.sample=packets", "sample")):
        text = run("serve", f"{SOURCE}/configs/serve.yaml", *sets(
            f"model.bundle={market.work}/run/model", "serve.http=127.0.0.1:0", f"serve.socket={market.work}/x.sock",
            "serve.streams=2", "serve.stream_instruments=2", pair), code=78)
        assert said in text, (pair, text)
    server, _ = market.serve("serve.row_ns=123456789")
    client = Client(LIBRARY, f"{market.work}/s.sock")
    try:
        client.stream(market.universe, True)
        assert False, "another schema was not refused"
    except AssertionError as why:
        assert "another feature schema" in str(why), why
    client.close()
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


print(f"seed {SEED}")
with tempfile.TemporaryDirectory() as work:
    cases = (("bars", bars, BARS, "bar", ["row_ns=60000000000", "bar_spread=0.01"]),
             ("Binance", lambda at: recorded(at, "binance", "BTCUSDT",
                                             "binance-l2-2024-08-08/usdm/btcusdt_20240808.jsonl.xz"),
              BOOK, "packet", ["row_ns=20000000"]),
             ("GOOG", lambda at: recorded(at, "lobster", "GOOG", f"{GOOG}_message_10.csv.xz"), BOOK, "packet",
              ["row_ns=0"]))
    for case, files_of, columns, sampling, settings in cases:
        os.mkdir(folder := f"{work}/{case}")
        if not (files := files_of(folder)):
            print(f"{case}: {DATA} is not there")
            continue
        one = Market(folder, files, columns, sampling, settings)
        compare(case, one)
        if case == "Binance":
            refusals(one)
