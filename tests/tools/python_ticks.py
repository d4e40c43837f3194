"""The Python client against `outcry predict`, from a wheel that CMake built, in a fresh virtual environment. Over the
rows of a dataset of two instruments' bars: windows of random rows, rows pushed from random places on, and the bars
themselves as a stream, in calls of any length, over a server that is killed, and one that stands still for longer than
a call waits: every answer has the bits that predict prints. Likewise a simulated book, whose record begins with a
snapshot. Then what a stream refuses, and the example.

usage: python_ticks.py OUTCRY SOURCE CMAKE BUILD
"""
import atexit
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

if os.environ.get("OUTCRY_PYTHON") and "--here" not in sys.argv and "--inside" not in sys.argv:
    os.execv(os.environ["OUTCRY_PYTHON"], [os.environ["OUTCRY_PYTHON"], "-B", *sys.argv, "--here"])
try:
    import h5py
    import numpy as np
    import pip  # noqa: F401
    import venv  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing.name} is not there (OUTCRY_PYTHON names another Python)")
    sys.exit(77)

OUTCRY, SOURCE, CMAKE, BUILD = sys.argv[1:5]
SEED, FULL = int(os.environ.get("OUTCRY_SEED", "1")), os.environ.get("OUTCRY_FULL") == "1"
STEPS, MINUTE = 12, 60 * 10**9
FEATURES = "return:1,ema_gap:5,rsi:14,cross_return:3,zscore:20"
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **more)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def sets(*pairs):
    return [text for pair in pairs for text in ("--set", pair)]


def fresh(work):
    """This program again, by the interpreter of an environment that holds the wheel and nothing else; NumPy and h5py
    are found where they are, behind it."""
    run(CMAKE, "--build", BUILD, "--target", "python-wheel")
    wheels = [name for name in os.listdir(f"{BUILD}/python") if name.endswith(".whl")]
    assert len(wheels) == 1, wheels
    run(sys.executable, "-m", "venv", "--without-pip", f"{work}/venv")
    python = f"{work}/venv/bin/python"
    environment = {name: value for name, value in os.environ.items() if name != "OUTCRY_CLIENT_LIBRARY"}
    environment.pop("PYTHONPATH", None)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps",
        "--no-cache-dir", "--disable-pip-version-check", f"{BUILD}/python/{wheels[0]}", env=environment)
    none = subprocess.run([python, "-c", "import numpy"], env=environment, capture_output=True)
    assert none.returncode != 0, "the environment is not fresh: it holds a NumPy"
    environment["PYTHONPATH"] = os.pathsep.join({os.path.dirname(os.path.dirname(np.__file__)),
                                                 os.path.dirname(os.path.dirname(h5py.__file__))})
    done = subprocess.run([python, "-B", *sys.argv, "--inside", work], env=environment)
    return done.returncode


def make(work):
    """Minute bars of two instruments with holes, as lines, in files, as a dataset and in a model."""
    draw, price, minute, files, lines = random.Random(SEED), [5000, 800], 0, [[], []], []
    for _ in range(4000 if not FULL else 20000):
        minute += 200 if draw.random() < 0.002 else 1
        for k in range(2):
            opened, price[k] = price[k], max(price[k] + draw.randrange(-9, 10), 300)
            high, low = max(opened, price[k]) + draw.randrange(5), min(opened, price[k]) - draw.randrange(5)
            if draw.random() < 0.9:
                numbers = ",".join(f"{v / 100:.2f}" for v in (opened, high, low, price[k]))
                numbers += f",{draw.randrange(1, 99)}\n"
                files[k].append(f"{1600000000 + 60 * minute},{numbers}")
                lines.append(f"S{k},{1600000000 + 60 * minute + 60},{numbers}")     # --stamp start: it ends later
    for k, bars in enumerate(files):
        with open(f"{work}/{k}.csv", "w", encoding="utf-8") as out:
            out.write("time,open,high,low,close,volume\n" + "".join(bars))
        run(OUTCRY, "import", "--format", "csv", "--symbol", f"S{k}", "--bar", "1m", "--stamp", "start",
            "--time-format", "epoch_s", "--timezone", "UTC", "--tick", "0.01", "--out", f"{work}/{k}.events", "--quiet",
            f"{work}/{k}.csv")
    run(OUTCRY, "build", f"{SOURCE}/configs/build-bars.yaml", "--quiet", "--out", f"{work}/d.h5", *sets(
        f"data.events={work}/0.events,{work}/1.events", f"features={FEATURES}", f"row_ns={MINUTE}", "sample=bar",
        "bar_spread=0.01", "labels=direction:5:0.0001"))
    run(OUTCRY, "train", f"{SOURCE}/configs/train.yaml", "--quiet", "--out", f"{work}/run", *sets(
        f"data.dataset={work}/d.h5", f"window.steps={STEPS}", "model.hidden=16", "train.epochs=1", "train.rate=0.03",
        "train.windows_per_epoch=640", "train.valid_windows=256", "threads=1"))
    return lines


def serve(work, *more):
    process = subprocess.Popen([OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *sets(
        f"model.bundle={work}/run/model", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "serve.sessions=8",
        "serve.streams=2", "serve.stream_instruments=2", f"serve.row_ns={MINUTE}", "serve.sample=bar",
        "serve.bar_spread=0.01", "threads=1", "log.level=error", *more)], stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout.readline().startswith("ready")
    return process


def make_book(work):
    """The events of a simulated market; dataset and model."""
    run(OUTCRY, "simulate", "--out", f"{work}/s.events", "--events", "16000", "--seed", str(SEED), "--levels", "10",
        "--signal", "0.5", "--label", "direction:5:0.0001", "--quiet")
    run(OUTCRY, "build", f"{SOURCE}/configs/build-book.yaml", "--quiet", "--out", f"{work}/d.h5", *sets(
        f"data.events={work}/s.events", "features=return:1,imbalance:5,ofi:3,spread,signed_volume:5", "sample=packet",
        "labels=direction:5:0.0001"))
    run(OUTCRY, "train", f"{SOURCE}/configs/train.yaml", "--quiet", "--out", f"{work}/run", *sets(
        f"data.dataset={work}/d.h5", f"window.steps={STEPS}", "model.hidden=16", "train.epochs=1", "train.rate=0.03",
        "train.windows_per_epoch=640", "train.valid_windows=256", "threads=1"))


def events_read(outcry, path):
    """Universe and events of a .events file (market/event_format.h)."""
    raw = open(path, "rb").read()
    at, _, _, count = (int(v) for v in np.frombuffer(raw, "<u4", 4, 12))
    universe = []
    for i in range(count):
        record = raw[32 + 80 * i:][:80]
        tick, lot = (np.frombuffer(record, "<i8,<i4", 1, place)[0] for place in (32, 48))
        universe.append(outcry.Instrument(record[:32].split(b"\0")[0].decode(), f"{tick[0]}e{tick[1]}",
                                          f"{lot[0]}e{lot[1]}"))
    blocks = []
    for _ in range(int(np.frombuffer(raw, "<u8", 1, len(raw) - 80)[0])):
        records = int(np.frombuffer(raw, "<u4", 1, at + 24)[0])
        blocks.append(np.frombuffer(raw, outcry.EVENT, records, at + 32))
        at += 32 + 88 * records
    return universe, np.concatenate(blocks)


def wanted(work, symbol):
    """x, run_length, time_ns of its rows, and {row: what predict says}."""
    with h5py.File(f"{work}/d.h5") as data:
        group = data[f"symbols/{symbol}"]
        x, runs, times = group["x"][:].astype("<f4"), group["run_length"][:], group["time_ns"][:]
    said = run(OUTCRY, "predict", "--model", f"{work}/run/model", "--data", f"{work}/d.h5", "--symbol", symbol,
               "--rows", f"0:{len(x)}").splitlines()[1:]
    answers = {int(line.split(",")[1]): np.array(line.split(",")[3:], "<f4").reshape(-1, 3) for line in said}
    assert len(answers) > len(x) // 3 and len({a.tobytes() for a in answers.values()}) > len(answers) // 3, \
        "a model that ignores its input would pass"
    return x, runs, times, answers


def same(answer, want):
    assert answer.ok and answer.probabilities.tobytes() == want.tobytes(), (answer, want)


def random_rows(outcry, address, market):
    draw, count = random.Random(SEED), 0
    for symbol, (x, runs, _, answers) in market.items():
        with outcry.open(address, symbol, period_s=0.01, timeout_s=60) as client:
            for row in draw.sample(sorted(answers), 150):
                same(client.window(x[row + 1 - STEPS:row + 1]), answers[row])
            for _ in range(20):
                for row in range(at := draw.randrange(len(x) - 40), at + 40):
                    answer = client.push(x[row], min(int(runs[row]), row - at + 1))
                    if min(int(runs[row]), row - at + 1) >= STEPS:
                        same(answer, answers[row])
                        count += 1
                    else:
                        assert answer.state == ("hold_short" if runs[row] else "hold_gap"), answer
                client.push(x[0], 0)                                        # so that the next run begins anew
    assert count > 300, count
    return count


def events_of(outcry, universe, lines):
    parts = []
    for n, line in enumerate(lines):
        symbol, end, *numbers = line.strip().split(",")
        index = [one.symbol for one in universe].index(symbol)
        parts.append(outcry.bars(universe[index], index, n + 1, int(end) * 10**9, *map(float, numbers)))
    return np.concatenate(parts)


def check(outcry, market, universe, answers, held=()):
    """Each is of a row, and the row's; held: states in which it may be instead."""
    exact = 0
    for answer in answers:
        _, runs, times, want = market[universe[answer.instrument].symbol]
        row = int(np.searchsorted(times, answer.time_ns))
        assert times[row] == answer.time_ns, answer
        if answer.state in held:
            continue
        assert answer.state == ("ok" if runs[row] >= STEPS else "hold_short" if runs[row] else "hold_gap"), answer
        if answer.ok:
            same(answer, want[row])
            exact += 1
    return exact


def streams(outcry, work, server, market, universe, events):
    draw, address, at, exact, asked = random.Random(SEED), f"unix:{work}/s.sock", 0, 0, []

    def refill(history, until):
        asked.append((history, until["sequence"]))
        return events                                                       # all of them: it is cut at `until`

    with outcry.Stream(address, universe, period_s=60, begins=True, refill=refill, timeout_s=60) as stream:
        assert stream.model.steps == STEPS and stream.history.rows > 0 and stream.history.ns > 0
        kills = sorted(draw.sample(range(len(events) // 3, len(events)), 2))
        while at < len(events):
            if kills and at >= kills[0]:
                kills.pop(0)
                server.kill()
                server.wait()
                server = serve(work)
            count = draw.choice((1, 3, 40, 700))
            answers = stream.tick(events[at:at + count])
            at += count
            exact += check(outcry, market, universe, answers)               # also right behind a kill: none is held
        assert stream.connects == 3 and [needs for needs, _ in asked] == 2 * [stream.history], asked
    assert exact == sum(len(answers) for *_, answers in market.values()), exact

    half = len(events) // 2
    with outcry.Stream(address, universe, period_s=60, timeout_s=60) as stream:     # late, with nothing in its back
        answers = stream.tick(events[half:])
        needs, held = stream.history, [a for a in answers if a.state == "hold_history"]
        late = check(outcry, market, universe, answers, ("hold_history", "hold_short"))
    assert len(held) > 100 and late > 100, (len(held), late, needs)
    return server, exact, late


def stands_still(outcry, work, server, market, universe, events):
    """Calls that are given up while the server is stopped, not gone: what was sent counts, and their answers, which
    come later, are not taken for those of the next call."""
    address = f"unix:{work}/s.sock"
    x, runs, _, answers = market["S0"]
    row = next(r for r in answers if runs[r] > 4 * STEPS)
    with outcry.Stream(address, universe, period_s=60, begins=True, timeout_s=3) as stream, \
            outcry.open(address, "S0", period_s=0.01, timeout_s=3) as client:
        check(outcry, market, universe, stream.tick(events[:400]))
        for k in range(row - STEPS, row):
            client.push(x[k], k - (row - STEPS) + 1)
        server.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED)                        # a signal takes a moment
        for call in (lambda: stream.tick(events[400:430]), lambda: client.push(x[row])):
            try:
                call()
                raise AssertionError("a stopped server has answered")
            except outcry.TimedOut:
                pass
        server.send_signal(signal.SIGCONT)
        assert check(outcry, market, universe, stream.tick(events[430:500])) > 10
        same(client.push(x[row + 1]), answers[row + 1])
        assert stream.connects == client.connects == 1


def book(outcry, work):
    """A record that begins with the book of a moment: the caller's own, kept from the events."""
    os.mkdir(work)
    make_book(work)
    universe, events = events_read(outcry, f"{work}/s.events")
    market = {universe[0].symbol: wanted(work, universe[0].symbol)}
    settings = ("serve.sample=packet", "serve.row_ns=0", "serve.bar_spread=0", "serve.stream_instruments=1")
    server = serve(work, *settings)
    prices, ends = events.view(outcry.PRICE), np.flatnonzero(events["flags"] & outcry.Flag.LAST)
    start, sides = int(ends[len(ends) // 3]) + 1, {}
    for e in prices[:start][np.isin(prices["kind"][:start], (outcry.Kind.LEVEL, outcry.Kind.SNAPSHOT))]:
        side = sides.setdefault(int(e["side"]), {})
        side.pop(int(e["ticks"]), None)
        if e["lots"]:
            side[int(e["ticks"])] = int(e["lots"])
    levels = [(side, ticks, lots) for side, levels in sides.items() for ticks, lots in levels.items()]
    snapshot = np.zeros(len(levels), outcry.PRICE)
    snapshot["receive_ns"] = events["receive_ns"][start] - 1
    snapshot["sequence"], snapshot["kind"] = np.arange(1, len(levels) + 1), outcry.Kind.SNAPSHOT
    snapshot["level"] = 255
    for name, values in zip(("side", "ticks", "lots"), zip(*levels)):
        snapshot[name] = values
    assert set(sides) == {outcry.Side.BUY, outcry.Side.SELL} and len(levels) == 20, sides
    record = np.concatenate([snapshot.view(outcry.EVENT), events[start:]])
    middle = int(ends[2 * len(ends) // 3]) + 1
    with outcry.Stream(f"unix:{work}/s.sock", universe, period_s=0.1, begins=True, timeout_s=60,
                       refill=lambda history, until: record) as stream:
        exact = check(outcry, market, universe, stream.tick(events[:middle]))
        server.kill()
        server.wait()
        server = serve(work, *settings)
        exact += check(outcry, market, universe, stream.tick(events[middle:]))
        assert stream.connects == 2
    assert exact == len(market[universe[0].symbol][3]), exact
    server.terminate()
    assert server.wait(60) == 0
    return exact


def refusals(outcry, work, universe, events):
    address = f"unix:{work}/s.sock"

    def expect(kind, word, call, *arguments, **more):
        try:
            call(*arguments, **more)
        except kind as error:
            assert word in str(error), error
            return error
        raise AssertionError(f"no {kind.__name__}: {word}")

    def broken(history, until):
        raise RuntimeError("no record today")

    with outcry.Stream(address, universe, period_s=60, begins=True) as stream:
        spoilt = events[:5].copy()
        spoilt["kind"][3] = 99
        refused = expect(outcry.Refused, "refused_event", stream.tick, spoilt)
        assert refused.state == "refused_event" and len(refused.answers) == 3, refused.answers
        assert stream.tick(events[5:6])[0].state in ("hold_gap", "hold_short")
        expect(ValueError, "rises", stream.tick, events[[7, 6]])
        expect(ValueError, "EVENT", stream.tick, np.zeros(3))
        expect(outcry.Refused, "refused_order", stream.tick, events[2:3])
    with outcry.Stream(address, universe, period_s=60, refill=broken) as stream:
        expect(RuntimeError, "no record today", stream.tick, events[:1])
    with outcry.Stream(address, universe, period_s=60, refill=lambda history, until: spoilt) as stream:
        expect(ValueError, "refill", stream.tick, events[9:10])
    expect(ValueError, "schema", outcry.Stream, address, universe[::-1], period_s=60)
    expect(ValueError, "instruments", outcry.Stream, address, [], period_s=60)
    expect(ValueError, "multiple of the tick", universe[0].ticks, [50.01, 50.015])
    expect(ValueError, "above 0", outcry.Instrument, "X", 0)
    assert universe[0].ticks([0.07, 1e7 + 0.29]).tolist() == [7, 1000000029]


def example(outcry, work, market, universe, lines):
    done = run(sys.executable, "-B", f"{SOURCE}/tools/python/examples/bars_stream.py", f"unix:{work}/s.sock", "60",
               *(f"{one.symbol}:{one.tick}" for one in universe), input="".join(lines))
    said, exact = done.splitlines(), 0
    assert len(said) == len(lines), (len(said), len(lines))
    for text in said:
        symbol, end, state, _, buy, _, sell, _, hold = text.split()
        _, _, times, answers = market[symbol]
        if state == "ok":
            row = int(np.searchsorted(times, int(end) * 10**9))
            assert np.array([[buy, sell, hold]], "<f4").tobytes() == answers[row].tobytes(), text
            exact += 1
    assert exact > len(lines) // 3, exact
    return exact


def inside(work):
    import outcry
    assert outcry.__file__.startswith(f"{work}/venv/") and sys.prefix == f"{work}/venv", outcry.__file__
    assert outcry.library_path() == os.path.join(os.path.dirname(outcry.__file__), "liboutcry-client.so")
    header = open(f"{SOURCE}/market/event.h", encoding="utf-8").read()
    for kind in outcry.Kind:
        assert f"OC_EVENT_{kind.name}" in header, kind
    lines = make(work)
    market = {symbol: wanted(work, symbol) for symbol in ("S0", "S1")}
    universe = [outcry.Instrument("S0", "0.01"), outcry.Instrument("S1", 0.01)]
    server = serve(work)
    events = events_of(outcry, universe, lines)
    began = time.monotonic()
    pushed = random_rows(outcry, f"unix:{work}/s.sock", market)
    server, exact, late = streams(outcry, work, server, market, universe, events)
    stands_still(outcry, work, server, market, universe, events)
    refusals(outcry, work, universe, events)
    printed = example(outcry, work, market, universe, lines)
    server.terminate()
    assert server.wait(60) == 0
    booked = book(outcry, f"{work}/book")
    print(f"python ticks: 300 windows, {pushed} pushed rows, {exact} of {len(events)} bars over two killed servers, "
          f"{late} of a late stream, {booked} of a book over a killed one, {printed} of the example: the bits of "
          f"predict ({time.monotonic() - began:.1f} s)")


if "--inside" in sys.argv:
    inside(sys.argv[sys.argv.index("--inside") + 1])
else:
    print("seed", SEED, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(fresh(os.path.realpath(folder)))
