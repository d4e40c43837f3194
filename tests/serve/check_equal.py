"""Every way in gives the bits of `outcry predict`: windows and pushed rows over the rings, JSON and binary tensors over
HTTP, all at once against one server, for 20 instruments whose rows have gaps, in random order, batches and bursts; a
session is also begun anew from stored rows now and then. With bf16: the same of `serve.dtype: bf16` and `outcry predict
--dtype bf16`, for a fifth of the rows; skipped where no CPU has instructions for it.

usage: check_equal.py OUTCRY CLIENT_LIBRARY SOURCE [bf16]
"""
import atexit
import http.client
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading

if os.environ.get("OUTCRY_PYTHON") and os.environ["OUTCRY_PYTHON"] != sys.executable and "--here" not in sys.argv:
    os.execv(os.environ["OUTCRY_PYTHON"], [os.environ["OUTCRY_PYTHON"], "-B", *sys.argv, "--here"])
try:
    import h5py
    import numpy
except ImportError as missing:
    print(f"skipped: {missing.name} is not there (OUTCRY_PYTHON names another Python)")
    sys.exit(77)
from ring_client import Client, HISTORY, HOLD_GAP, HOLD_SHORT, OK, PUSH, WINDOW

OUTCRY, LIBRARY, SOURCE = sys.argv[1:4]
DTYPE = "bf16" if "bf16" in sys.argv[4:] else "f32"
SYMBOLS, WANTED, STEPS, SEED = 20, 4000 if DTYPE == "bf16" else 20000, 16, 7
FEATURES = "return:1,return:4,body,upper_shadow,lower_shadow,streak:5,up_ratio:5,range_position:5"
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def run(*command):
    done = subprocess.run([OUTCRY, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def sets(*pairs):
    return [text for pair in pairs for text in ("--set", pair)]


def market(work, symbol, rows):
    """Minute bars of one instrument; three holes that are longer than --gap-bars."""
    draw, price, minute = random.Random(f"{SEED} {symbol}"), 5000, 0
    holes = {draw.randrange(1, rows) for _ in range(3)}
    with open(f"{work}/{symbol}.csv", "w") as out:
        out.write("time,open,high,low,close,volume\n")
        for i in range(rows):
            minute += 200 if i in holes else 1
            at, price = price, price + draw.randrange(-9, 10)
            high, low = max(at, price) + draw.randrange(5), min(at, price) - draw.randrange(5)
            numbers = ",".join(f"{v / 100:.2f}" for v in (at, high, low, price))
            out.write(f"{1600000000 + 60 * minute},{numbers},{draw.randrange(1, 99)}\n")
    run("import", "--format", "csv", "--symbol", symbol, "--bar", "1m", "--stamp", "start", "--time-format", "epoch_s",
        "--timezone", "UTC", "--tick", "0.01", "--out", f"{work}/{symbol}.events", "--quiet", f"{work}/{symbol}.csv")


def prepare(work):
    """A dataset, a trained model, and per instrument (rows, run lengths, {row: answer of `outcry predict`})."""
    names = [f"S{i:02d}" for i in range(SYMBOLS)]
    for name in names:
        market(work, name, WANTED // SYMBOLS + 5 * STEPS + 40)
    run("build", f"{SOURCE}/configs/build-bars.yaml", "--quiet", "--out", f"{work}/d.h5", *sets(
        "data.events=" + ",".join(f"{work}/{name}.events" for name in names), "row_ns=60000000000",
        f"features={FEATURES}", "labels=direction:3:0.001", "bar_spread=0.01"))
    run("train", f"{SOURCE}/configs/train.yaml", "--quiet", "--out", f"{work}/run", *sets(
        f"data.dataset={work}/d.h5", f"window.steps={STEPS}", "model.hidden=16", "train.epochs=1", "train.rate=0.03",
        "train.windows_per_epoch=640", "threads=1"))
    markets = []
    with h5py.File(f"{work}/d.h5") as data:
        for name in names:
            group = data[f"symbols/{name}"]
            x, runs = group["x"][:].astype("<f4"), group["run_length"][:]
            said = run("predict", "--model", f"{work}/run/model", "--data", f"{work}/d.h5", "--symbol", name, "--rows",
                       f"0:{len(x)}", "--dtype", DTYPE).splitlines()
            assert said[0] == "symbol,row,time_ns,buy,sell,hold", said[0]
            answers = {int(line.split(",")[1]): numpy.array(line.split(",")[3:], "<f4").tobytes() for line in said[1:]}
            assert set(answers) == {i for i in range(len(x)) if runs[i] >= STEPS}
            markets.append((name, x, runs, answers))
    return markets


def window_of(market_, row):
    return market_[1][row + 1 - STEPS:row + 1].tobytes()


class Pusher:
    """One instrument's session: its rows in order; now and then a row that is none, or stored rows in between."""

    def __init__(self, client, index, market_, draw):
        self.client, self.index, self.market, self.draw, self.row, self.sequence = client, index, market_, draw, 0, 0
        self.id, self.asked, self.begun_anew = client.session(market_[0]), {}, 0

    def stored(self):
        """What a client keeps: the rows of the present run, before the next row."""
        _, x, runs, _ = self.market
        run_length = int(runs[self.row - 1]) if self.row else 0
        return x[self.row - min(run_length, STEPS - 1):self.row].tobytes(), run_length

    def ask(self, send, kind, state, row=None):
        self.sequence += 1
        assert send((self.index << 32) + self.sequence)     # the ring has room for a burst
        self.asked[self.sequence] = kind, state, row

    def step(self):
        _, x, runs, _ = self.market
        chance, client, row = self.draw.random(), self.client, self.row
        rows, run_length = self.stored()
        if chance < 0.01:                                   # a row that is none comes between
            self.ask(lambda s: client.push(self.id, s, x[0].tobytes(), 0), PUSH, HOLD_GAP)
        if chance < 0.02:
            self.ask(lambda s: client.history(self.id, s, rows, run_length), HISTORY, OK)
            self.begun_anew += 1
        state = OK if runs[row] >= STEPS else HOLD_SHORT if runs[row] > 0 else HOLD_GAP
        self.ask(lambda s: client.push(self.id, s, x[row].tobytes(), int(runs[row])), PUSH, state, row)
        self.row += 1

    def answered(self, kind, state, sequence, answer, got):
        wanted = self.asked.pop(sequence & 0xffffffff)
        assert (kind, state) == wanted[:2], (self.index, kind, state, wanted)
        if kind == PUSH and state == OK:
            got[self.index, wanted[2]] = answer


def push_rows(path, markets, got, indices):
    """Bursts over several sessions of one client, up to a hundred rows on their way."""
    draw, client = random.Random(SEED + indices[0]), Client(LIBRARY, path)
    pushers = {i: Pusher(client, i, markets[i], random.Random(SEED * 100 + i)) for i in indices}
    live = list(indices)
    while live or any(p.asked for p in pushers.values()):
        for _ in range(draw.randrange(1, 25) if live else 0):
            i = draw.choice(live)
            pushers[i].step()
            if pushers[i].row == len(markets[i][1]):
                live.remove(i)
                if not live:
                    break
        while sum(len(p.asked) for p in pushers.values()) > (100 if live else 0):
            for kind, _, state, sequence, answer in client.replies():
                pushers[sequence >> 32].answered(kind, state, sequence, answer, got)
    client.close()
    assert sum(p.begun_anew for p in pushers.values()) > 3


def ring_windows(path, markets, got, order):
    client, asked = Client(LIBRARY, path), {}
    for number, (i, row) in enumerate(order):
        asked[number] = i, row
        while not client.window(number, window_of(markets[i], row)):
            take_windows(client, asked, got)
        if len(asked) > 200:
            take_windows(client, asked, got)
    while asked:
        take_windows(client, asked, got)
    client.close()


def take_windows(client, asked, got):
    for kind, _, state, sequence, answer in client.replies():
        assert (kind, state) == (WINDOW, OK)
        got[asked.pop(sequence)] = answer


def http_windows(port, markets, got, order, binary):
    draw, connection = random.Random(SEED + binary), http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while order:
        batch, order = order[:(size := draw.randrange(1, 33))], order[size:]
        rows = b"".join(window_of(markets[i], row) for i, row in batch)
        tensor = {"name": "window", "shape": [len(batch), STEPS, markets[0][1].shape[1]], "datatype": "FP32"}
        body, headers, raw = {"inputs": [tensor]}, {}, b""
        if binary:
            tensor["parameters"], raw = {"binary_data_size": len(rows)}, rows
            body["parameters"] = {"binary_data_output": True}
            headers["Inference-Header-Content-Length"] = str(len(json.dumps(body)))
        else:
            tensor["data"] = numpy.frombuffer(rows, "<f4").tolist()
        connection.request("POST", "/v2/models/model/infer", json.dumps(body).encode() + raw, headers)
        reply = connection.getresponse()
        answer = reply.read()
        assert reply.status == 200, answer
        if binary:
            answer = answer[int(reply.headers["Inference-Header-Content-Length"]):]
        else:
            numbers = json.loads(answer)["outputs"][0]["data"]
            answer = struct.pack(f"<{len(numbers)}f", *numbers)
        for k, key in enumerate(batch):
            got[key] = answer[12 * k:12 * k + 12]
    connection.close()


def ask_all(path, port, markets):
    """{way: {(instrument, row): answer}}, all ways at once."""
    rows = [(i, row) for i, m in enumerate(markets) for row in m[3]]
    ways = {way: {} for way in ("push", "window", "json", "binary")}
    shuffled = lambda seed: random.Random(seed).sample(rows, len(rows))
    jobs = [(push_rows, path, markets, ways["push"], range(first, SYMBOLS, 2)) for first in range(2)]
    jobs += [(ring_windows, path, markets, ways["window"], shuffled(1)),
             (http_windows, port, markets, ways["json"], shuffled(2), False),
             (http_windows, port, markets, ways["binary"], shuffled(3), True)]
    failed = []

    def work(job):
        try:
            job[0](*job[1:])
        except BaseException as what:   # a thread's own end would not be seen
            failed.append(repr(what))

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    return ways


def differing(ways, wanted):
    return sorted((way, key) for way, got in ways.items() for key in set(got) | set(wanted)
                  if got.get(key) != wanted.get(key))


def flipped(answer, bit):
    return bytes(b ^ (1 << bit % 8 if k == bit // 8 else 0) for k, b in enumerate(answer))


def compare(ways, markets):
    wanted = {(i, row): answer for i, m in enumerate(markets) for row, answer in m[3].items()}
    assert len(wanted) >= WANTED, len(wanted)
    assert len(set(wanted.values())) > len(wanted) // 2, "a model that ignores its input would pass"
    found = differing(ways, wanted)
    assert not found, (len(found), found[:5])
    draw = random.Random(SEED)
    for way, got in ways.items():       # planted: one bit of one answer, in each way
        key = draw.choice(sorted(got))
        planted = {**ways, way: {**got, key: flipped(got[key], draw.randrange(96))}}
        assert differing(planted, wanted) == [(way, key)], way
    return len(wanted)


if DTYPE == "bf16" and "avx512_bf16" not in json.loads(run("doctor", "--json").splitlines()[-1])["features"]:
    print("skipped: this machine has no avx512_bf16")
    sys.exit(77)
with tempfile.TemporaryDirectory() as work:
    data = prepare(work)
    server = subprocess.Popen([OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *sets(
        f"model.bundle={work}/run/model", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "serve.batch_max=13",
        f"serve.sessions={SYMBOLS}", "threads=1", "backend=cpu", f"serve.dtype={DTYPE}")],
        stdout=subprocess.PIPE, text=True)
    started.append(server)
    at = int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline()).group(1))
    compared = compare(ask_all(f"{work}/s.sock", at, data), data)
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
print(f"{compared} rows over {SYMBOLS} sessions: the bits of outcry predict in each of four ways, {DTYPE}")
