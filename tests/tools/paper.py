"""What the tests of paper trading from outside share: a small market with its model, the program, a server process."""
import json
import os
import struct
import subprocess
import sys
import time

TINY = ("window.steps=16", "model.hidden=8", "model.heads=2", "train.epochs=1", "train.rate=0.02",
        "train.valid_windows=512", "threads=1")
LOOSE = ("policy.buy_threshold=0.2", "policy.sell_threshold=0.2", "latency.to_jitter_ns=2000000",
         "venue.reject_ppm=50000", "risk.message_ns=1000000")
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name} {str(said)[-600:]}")


def inputs(journal):
    """(time_ns, kind, body, actions) of each input of a segment's bytes, up to where whole records end."""
    at = 112
    while at + 32 <= len(journal):
        size, kind = struct.unpack_from("<II", journal, at)
        payload = journal[at + 32:at + 32 + size]
        at += 32 + size
        if kind == 2 and len(payload) == size:
            _, time_ns, what, _, body, actions = struct.unpack_from("<QqIIII", payload)
            rest = payload[32 + body:]
            yield time_ns, what, payload[32:32 + body], [rest[i * 64:i * 64 + 64] for i in range(actions)]


def venue_log(data):
    """(time_ns, kind, body) of each whole record behind the header of a venue's own record."""
    for at in range(96, len(data) - 95, 96):
        time_ns, kind = struct.unpack_from("<qI", data, at + 16)
        yield time_ns, kind, data[at + 32:at + 96]


def order_of(action):
    """(kind, order id) of an action."""
    return action[52], struct.unpack_from("<Q", action)[0]


def predictions(journal):
    """{(instrument, input_ns): (sequence, buy, sell, hold as bytes)} of what was predicted."""
    found = {}
    for _, kind, body, _ in inputs(journal):
        if kind == 2:
            input_ns, sequence, instrument, _ = struct.unpack_from("<qQII", body)
            found[instrument, input_ns] = sequence, body[24:36]
    return found


class Paper:
    """A folder with m.events and its model; `sets` go to every run."""

    def __init__(self, outcry, source, work, events=60000, recipe=TINY):
        self.outcry, self.source, self.work = os.path.abspath(outcry), os.path.abspath(source), work
        self.server = None
        self.socket = f"{work}/s"
        self.result("simulate", "--out", f"{work}/m.events", "--events", str(events), "--seed", "7", "--levels", "10",
                    "--signal", "0.8")
        self.result("build", f"{self.source}/configs/build-book.yaml", "--out", f"{work}/m.h5",
                    sets=(f"data.events={work}/m.events",))
        self.train("run", recipe)

    def train(self, name, recipe=TINY):
        self.result("train", f"{self.source}/configs/train.yaml", "--out", f"{self.work}/{name}",
                    sets=(f"data.dataset={self.work}/m.h5", *recipe))

    def command(self, *arguments, sets=()):
        return [self.outcry, *arguments, *(p for s in sets for p in ("--set", s)), "--json", "--quiet"]

    def run(self, *arguments, sets=(), **named):
        return subprocess.run(self.command(*arguments, sets=sets), capture_output=True, text=True, timeout=500, **named)

    def result(self, *arguments, sets=()):
        r = self.run(*arguments, sets=sets)
        if r.returncode:
            sys.exit(f"outcry {' '.join(arguments)}: exit {r.returncode}: {r.stderr[-1000:]}")
        return json.loads(r.stdout.splitlines()[-1])

    def session(self, name, out, *flags, sets=()):
        """The command line of a backtest or a trade over the market, in sample."""
        own = (f"serve.socket={self.socket}",) if name == "trade" else ("journal.snapshot_every=100000",)
        sets = (f"data.events={self.work}/m.events", f"model.bundle={self.work}/run/model", *LOOSE, *own, *sets)
        return self.command(name, f"{self.source}/configs/{name}.yaml", "--in-sample", *flags, "--out",
                            f"{self.work}/{out}", sets=sets)

    def paper(self, *arguments, **named):
        r = subprocess.run(self.session(*arguments, **named), capture_output=True, text=True, timeout=500)
        if r.returncode:
            sys.exit(f"{arguments}: exit {r.returncode}: {r.stderr[-1000:]}")
        return json.loads(r.stdout.splitlines()[-1])

    def start(self, *arguments, **named):
        return subprocess.Popen(self.session(*arguments, **named), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def finish(self, process):
        """The results of what `start` began, and what it said on stderr."""
        out, said = process.communicate(timeout=200)
        if process.returncode:
            sys.exit(f"{process.args}: exit {process.returncode}: {said[-1000:]}")
        return json.loads(out.splitlines()[-1]), said

    def refused(self, name, code, words, *arguments, **named):
        r = subprocess.run(self.session(*arguments, **named), capture_output=True, text=True, timeout=100)
        check(name, r.returncode == code and words in r.stderr, r)

    def serve(self, bundle="run", sets=()):
        command = [self.outcry, "serve", f"{self.source}/configs/serve.yaml"]
        for s in (f"model.bundle={self.work}/{bundle}/model", f"serve.socket={self.socket}", "serve.http=127.0.0.1:0",
                  *sets):
            command += ["--set", s]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if "ready" not in self.server.stdout.readline():
            sys.exit("the server does not start")

    def stop(self, kill=False):
        if self.server:
            (self.server.kill if kill else self.server.terminate)()
            code = self.server.wait(timeout=30)
            self.server.stdout.close()
            self.server = None
            check("the server drains", kill or code == 0, code)

    def journal(self, out, segment=0):
        with open(f"{self.work}/{out}/journal-{segment:06}.ocj", "rb") as file:
            return file.read()

    def under_way(self, process, out, size):
        """Waits until a session that was started has written a journal of this size; False: it has ended before."""
        path, end = f"{self.work}/{out}/journal-000000.ocj", time.monotonic() + 100
        while process.poll() is None and time.monotonic() < end:
            if os.path.exists(path) and os.path.getsize(path) >= size:
                return True
            time.sleep(0.01)
        return False

    def audit(self, out, name, tail_ns=5 * 10**6):
        """Journal against the venue's own record: nothing lost, doubled, invented; the positions are its fills."""
        segments = [f for f in sorted(os.listdir(f"{self.work}/{out}")) if f.startswith("journal-")]
        played = [i for n in range(len(segments)) for i in inputs(self.journal(out, n))]
        with open(f"{self.work}/{out}/venue.log", "rb") as file:
            log = list(venue_log(file.read()))
        sent = [a for _, _, _, actions in played for a in actions if a[52] == 1]
        told = [body for _, kind, body in log if kind == 3 and body[52] == 1]
        check(f"{name}: orders invented or changed", all(body in sent for body in told))
        check(f"{name}: orders doubled", len({order_of(b) for b in told}) == len(told))
        said = [(t, body[:48]) for t, kind, body in log if kind == 4]
        heard, last = [], 0
        for _, kind, body, _ in played:
            number = struct.unpack_from("<Q", body)[0] if kind == 3 else 0
            if number == last + 1:      # others are repeated, or wait for a hole to be filled
                heard.append(body)
                last = number
        check(f"{name}: messages invented or changed", heard == [body for _, body in said[:len(heard)]])
        end = played[-1][0]
        lost = [t for t, _ in said[len(heard):] if t < end - tail_ns]
        check(f"{name}: messages lost", not lost, (len(heard), len(said), lost[:3], end))
        missing = {order_of(a)[1] for a in sent} - {order_of(b)[1] for b in told}
        settled = {struct.unpack_from("<Q", body, 8)[0] for body in heard if body[44] == 6}
        check(f"{name}: an order neither arrived nor was settled", missing <= settled or played[-1][2] in sent,
              (missing, settled))
        position = {}
        for body in heard:
            if body[44] == 3:
                lots, instrument = struct.unpack_from("<q", body, 24)[0], struct.unpack_from("<I", body, 40)[0]
                position[instrument] = position.get(instrument, 0) + (lots if body[45] == 1 else -lots)
        with open(f"{self.work}/{out}/results.json") as file:
            r = json.load(file)
        check(f"{name}: positions", [x["lots"] for x in r["positions"]] ==
              [position.get(i, 0) for i in range(len(r["positions"]))], (r["positions"], position))
        fills = [struct.unpack_from("<qqq", body, 16) for body in heard if body[44] == 3]
        traded = sum(price * lots for price, lots, _ in fills) * 10000       # micro-units a tick x lot of this market
        # What is held at the end is closed at the last quote, which the last fill's price is near.
        closed = sum(map(abs, position.values())) * (fills[-1][0] if fills else 0) * 10000
        check(f"{name}: turnover of the whole session", abs(r["turnover_micros"] - traded - closed) <= 0.05 * closed,
              (r["turnover_micros"], traded, closed))
        fees = sum(fee for _, _, fee in fills)
        check(f"{name}: fees", fees == r["fees_micros"] - r["closing"]["fee_micros"], (fees, r["fees_micros"]))
        return len(sent), len(missing)
