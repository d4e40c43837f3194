"""Rows and windows of 50 instruments, in random order, batches and bursts, over rings and HTTP, while versions of the
model change under that load and the server is killed and started again: every answer has the bits of `outcry predict`
for the version that it names; no request is lost, doubled or late, and after the kill the first answer is exact.

usage: check_swap_load.py OUTCRY CLIENT_LIBRARY SOURCE
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
import time

if os.environ.get("OUTCRY_PYTHON") and os.environ["OUTCRY_PYTHON"] != sys.executable and "--here" not in sys.argv:
    os.execv(os.environ["OUTCRY_PYTHON"], [os.environ["OUTCRY_PYTHON"], "-B", *sys.argv, "--here"])
try:
    import h5py
    import numpy
except ImportError as missing:
    print(f"skipped: {missing.name} is not there (OUTCRY_PYTHON names another Python)")
    sys.exit(77)
from ring_client import Client, HISTORY, HOLD_GAP, HOLD_SHORT, OK, PUSH, SECOND, WINDOW

OUTCRY, LIBRARY, SOURCE = sys.argv[1:4]
FULL = bool(os.environ.get("OUTCRY_FULL"))
SYMBOLS, STEPS, SEED = 50, 12, int(os.environ.get("OUTCRY_SEED", 7))
WANTED, SWAPS, KILLS = (100000, 100, 5) if FULL else (1000, 6, 1)
VERSIONS = ("1", "2", "3", "mix")     # mix: an ensemble of a quarter 1, the rest 3
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
    """Minute bars of one instrument; two holes that are longer than --gap-bars."""
    draw, price, minute = random.Random(f"{SEED} {symbol}"), 5000, 0
    holes = {draw.randrange(1, rows) for _ in range(2)}
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


class Market:
    """One instrument: rows, run lengths, {version: {row: answer of `outcry predict`}}."""

    def __init__(self, name, x, runs):
        self.name, self.x, self.runs, self.answers = name, x, runs, {}

    def window(self, row):
        return self.x[row + 1 - STEPS:row + 1].tobytes()


def predict(work, market_, version):
    said = run("predict", "--model", f"{work}/models/model/{version}", "--data", f"{work}/d.h5", "--symbol",
               market_.name, "--rows", f"0:{len(market_.x)}").splitlines()
    return {int(line.split(",")[1]): numpy.array(line.split(",")[3:], "<f4").tobytes() for line in said[1:]}


def prepare(work):
    names = [f"S{i:02d}" for i in range(SYMBOLS)]
    for name in names:
        market(work, name, WANTED // SYMBOLS + 140)
    run("build", f"{SOURCE}/configs/build-bars.yaml", "--quiet", "--out", f"{work}/d.h5", *sets(
        "data.events=" + ",".join(f"{work}/{name}.events" for name in names), "row_ns=60000000000",
        f"features={FEATURES}", "labels=direction:3:0.001", "bar_spread=0.01"))
    for version in VERSIONS[:3]:
        run("train", f"{SOURCE}/configs/train.yaml", "--quiet", "--out", f"{work}/run{version}", *sets(
            f"data.dataset={work}/d.h5", f"window.steps={STEPS}", "train.epochs=1", "train.rate=0.03", "threads=1",
            f"model.hidden={24 if version == '3' else 16}", "train.windows_per_epoch=320", f"version={version}",
            f"seed={version}"))
        os.makedirs(f"{work}/models/model", exist_ok=True)
        os.rename(f"{work}/run{version}/model", f"{work}/models/model/{version}")
    run("models", "ensemble", "model/mix", "1=1", "3=3", "--repository", f"{work}/models", "--json")
    with h5py.File(f"{work}/d.h5") as data:
        groups = [data[f"symbols/{name}"] for name in names]
        markets = [Market(name, g["x"][:].astype("<f4"), g["run_length"][:]) for name, g in zip(names, groups)]
    for m in markets:
        m.answers = {version: predict(work, m, version) for version in VERSIONS}
        full = [i for i in range(len(m.x)) if m.runs[i] >= STEPS]
        assert all(sorted(answers) == full for answers in m.answers.values())
        for row in full:        # of the ensemble: its file's weights, in f32, in its order
            one, three = (numpy.frombuffer(m.answers[v][row], "<f4") for v in ("1", "3"))
            mixed = numpy.float32(0.25) * one + numpy.float32(0.75) * three
            assert mixed.astype("<f4").tobytes() == m.answers["mix"][row]
    windows = sum(len(m.answers["1"]) for m in markets)
    assert windows >= WANTED, windows
    some = markets[0].answers
    assert all(some["1"][row] != some["2"][row] != some["3"][row] for row in some["1"]), "versions that answer alike"
    return markets


class Load:
    """What all threads share: whether the server lives, what was answered by whom."""

    def __init__(self, markets, path):
        self.markets, self.path, self.over, self.down = markets, path, False, threading.Event()
        self.lock, self.by, self.seen, self.failed = threading.Lock(), {v: 0 for v in VERSIONS}, set(), []
        self.exact = 0          # first answers after a kill

    def check(self, index, row, version, answer):
        wanted = self.markets[index].answers[version][row]
        assert answer == wanted, (self.markets[index].name, row, version)
        with self.lock:
            self.by[version] += 1
            self.seen.add((index, row))


def client_of(load):
    """As a client would: again and again until the server is there."""
    end = time.monotonic() + 60
    while True:
        try:
            client = Client(LIBRARY, load.path)
            client.patience_ns = 20 * SECOND
            return client
        except AssertionError:
            assert time.monotonic() < end, "the server does not come back"
            time.sleep(0.05)


class Pusher:
    """One instrument's session: its rows in order, over and over; a row that is none, or stored rows, in between."""

    def __init__(self, load, index):
        self.load, self.index, self.market = load, index, load.markets[index]
        self.draw, self.row, self.sequence, self.passes = random.Random(SEED * 1000 + index), 0, 0, 0
        self.asked, self.fresh = {}, False

    def connect(self, client):
        self.client, self.id = client, client.session(self.market.name)

    def go_on(self):
        """Where a session was lost: what was not answered is asked again, behind the rows before it."""
        lost, self.asked = self.asked, {}
        self.row = min((row for kind, _, row in lost.values() if kind == PUSH and row is not None), default=self.row)
        if self.sequence > 0:
            self.fresh = self.history()

    def ask(self, send, kind, state, row=None):
        self.sequence += 1
        self.asked[self.sequence] = kind, state, row
        if not send((self.index << 32) + self.sequence):
            del self.asked[self.sequence]
            self.sequence -= 1
            return False
        return True

    def history(self):
        m, row = self.market, self.row
        run_length = int(m.runs[row - 1]) if row else 0
        rows = m.x[row - min(run_length, STEPS - 1):row].tobytes()
        return self.ask(lambda s: self.client.history(self.id, s, rows, run_length), HISTORY, OK)

    def step(self):
        m, row, chance = self.market, self.row, self.draw.random()
        if chance < 0.005 and not self.ask(lambda s: self.client.push(self.id, s, m.x[0].tobytes(), 0), PUSH, HOLD_GAP):
            return
        if chance < 0.01 and not self.history():
            return
        if chance > 0.7 and m.runs[row] >= STEPS:
            self.ask(lambda s: self.client.window(s, m.window(row), self.id), WINDOW, OK, row)
        state = OK if m.runs[row] >= STEPS else HOLD_SHORT if m.runs[row] > 0 else HOLD_GAP
        if self.ask(lambda s: self.client.push(self.id, s, m.x[row].tobytes(), int(m.runs[row])), PUSH, state, row):
            self.row += 1
        if self.row == len(m.x):
            self.row, self.passes = 0, self.passes + 1

    def answered(self, kind, state, sequence, answer, version):
        wanted = self.asked.pop(sequence & 0xffffffff)      # a second answer would find none
        assert (kind, state) == wanted[:2], (self.index, kind, state, wanted)
        if kind in (PUSH, WINDOW) and state == OK:
            self.load.check(self.index, wanted[2], version, answer)
            if self.fresh and kind == PUSH:
                self.fresh = False
                with self.load.lock:
                    self.load.exact += 1


def push_rows(load, indices):
    """Bursts over the sessions of one client; where the server dies, all of them come again."""
    draw, pushers = random.Random(SEED + indices[0]), [Pusher(load, i) for i in indices]
    client = None

    def take(limit):
        end = time.monotonic() + 60
        while sum(len(p.asked) for p in pushers) > limit:
            for kind, _, state, sequence, answer, version in client.replies(SECOND // 10, named=True):
                pushers[(sequence >> 32) - indices[0]].answered(kind, state, sequence, answer, version)
                end = time.monotonic() + 60
            if not client.alive():
                return False
            assert time.monotonic() < end, f"{sum(len(p.asked) for p in pushers)} requests are lost"
        return True

    while not load.over or any(p.passes < 1 for p in pushers):
        if client is None or not client.alive():
            if client is not None:
                client.close()
            client = client_of(load)
            try:
                for p in pushers:                           # first all of them: opening one drops other replies
                    p.connect(client)
                for p in pushers:
                    p.go_on()
            except AssertionError as what:
                assert not client.alive(), what             # died again meanwhile
                continue
        for _ in range(draw.randrange(1, 40)):
            draw.choice(pushers).step()
        take(100)
    assert take(0), "the server died at the end"
    client.close()


def http_windows(load, port, seed):
    draw, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    rows = [(i, row) for i, m in enumerate(load.markets) for row in m.answers["1"]]
    while not load.over:
        batch = draw.sample(rows, draw.randrange(1, 17))
        raw = b"".join(load.markets[i].window(row) for i, row in batch)
        tensor = {"name": "window", "shape": [len(batch), STEPS, load.markets[0].x.shape[1]], "datatype": "FP32",
                  "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        try:
            connection.request("POST", "/v2/models/model/infer", head + raw,
                               {"Inference-Header-Content-Length": str(len(head))})
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            assert load.down.is_set(), "HTTP failed while the server lived"
            connection.close()
            time.sleep(0.05)
            continue
        assert reply.status == 200, body
        said = int(reply.headers["Inference-Header-Content-Length"])
        version = json.loads(body[:said])["model_version"]
        for k, (i, row) in enumerate(batch):                # all of one version: none mixed
            load.check(i, row, version, body[said + 12 * k:said + 12 * k + 12])
    connection.close()


def serve(work, port):
    server = subprocess.Popen([OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *sets(
        f"serve.repository={work}/models", f"serve.http=127.0.0.1:{port}", f"serve.socket={work}/s.sock",
        "serve.batch_max=13", f"serve.sessions={SYMBOLS}", "threads=1")], stdout=subprocess.PIPE, text=True)
    started.append(server)
    return server, int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline()).group(1))


def guarded(load, work, *arguments):
    try:
        work(load, *arguments)
    except BaseException as what:       # a thread's own end would not be seen
        load.failed.append(repr(what))


def models(work, *arguments):
    return json.loads(run("models", *arguments, "--repository", f"{work}/models", "--server", f"{work}/s.sock",
                          "--timeout", "120", "--json").splitlines()[-1])


def counted(load, count, wanted):
    """Until count() is so much: on a slow machine the next deed would come before."""
    end = time.monotonic() + 60
    while count() < wanted and not load.failed:
        assert time.monotonic() < end, (count(), wanted)
        time.sleep(0.005)


def swaps(load, work, server, port):
    """The versions in turn, back by rollback now and then; a kill between two of them."""
    draw, live, before = random.Random(SEED), "1", None
    kills = set(random.Random(SEED).sample(range(1, SWAPS), KILLS))
    for i in range(SWAPS):
        if i >= len(VERSIONS) and draw.random() < 0.3:
            said, live, before = models(work, "rollback", "model"), before, live
        else:
            on = 1 if i < len(VERSIONS) else draw.randrange(1, len(VERSIONS))      # each of them once, then any other
            before, live = live, VERSIONS[(VERSIONS.index(live) + on) % len(VERSIONS)]
            if draw.random() < 0.5:
                models(work, "promote", f"model/{live}", *draw.choice((["--shadow"], ["--canary", "0.5"])))
                time.sleep(0.2)
            said = models(work, "promote", f"model/{live}")
        assert said["server"]["live"]["version"] == live and not said["server"]["refused"], said
        counted(load, lambda: load.by[live], load.by[live] + 101)
        if load.failed:
            break
        if i in kills:
            wanted = load.exact + SYMBOLS // 2
            load.down.set()
            server.kill()
            server.wait()
            server, port = serve(work, port)
            counted(load, lambda: load.exact, wanted)
            load.down.clear()
            assert models(work, "list")["server"]["live"]["version"] == live
    return server


with tempfile.TemporaryDirectory() as work:
    markets = prepare(work)
    run("models", "promote", "model/1", "--repository", f"{work}/models", "--json")
    server, port = serve(work, 0)
    load = Load(markets, f"{work}/s.sock")
    half = SYMBOLS // 2
    jobs = [(push_rows, range(half)), (push_rows, range(half, SYMBOLS)), (http_windows, port, 1)]
    threads = [threading.Thread(target=guarded, args=(load, *job)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        server = swaps(load, work, server, port)
    finally:
        load.over = True
        for thread in threads:
            thread.join()
    assert not load.failed, load.failed
    everything = {(i, row) for i, m in enumerate(markets) for row in m.answers["1"]}
    assert load.seen == everything, len(everything - load.seen)
    assert all(load.by[version] > 100 for version in VERSIONS), load.by
    assert load.exact >= SYMBOLS * KILLS // 2, load.exact
    # Planted: the answer of another version is not this one's.
    key = next(iter(markets[0].answers["1"]))
    try:
        load.check(0, key, "2", markets[0].answers["1"][key])
        raise SystemExit("a wrong answer is not found")
    except AssertionError:
        pass
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
print(f"seed {SEED}: {len(everything)} windows of {SYMBOLS} sessions, {sum(load.by.values())} answers ({load.by}), "
      f"{SWAPS} swaps, {KILLS} kills with {load.exact} first answers: the bits of outcry predict for the version named")
