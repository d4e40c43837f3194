"""Market events over HTTP: packets of a simulated book, in requests of any length, by several streams at once, have the
bits that `outcry predict` prints for the dataset of the same events; a stream that does not begin holds, then has them
too. What a client does wrong has its status, reason and counter; a stream that nobody asks of gives its session back.

usage: check_streams.py OUTCRY SOURCE
"""
import atexit
import http.client
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time

OUTCRY, SOURCE = sys.argv[1:3]
SEED = int(os.environ.get("OUTCRY_SEED", "1"))
STEPS, EVENT = 10, 88
FEATURES = "return:1,imbalance:5,ofi:3,spread,signed_volume:5"
SNAPSHOT, LEVEL, LAST, BUY = 5, 4, 1, 1
print("seed", SEED)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def run(*command):
    done = subprocess.run([OUTCRY, *command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def sets(*pairs):
    return [text for pair in pairs for text in ("--set", pair)]


def make(work):
    """Events as records, their instrument, and {time of a row: what predict says}."""
    run("simulate", "--out", f"{work}/s.events", "--events", "12000", "--seed", str(SEED), "--levels", "10", "--signal",
        "0.5", "--label", "direction:5:0.0001", "--quiet")
    built = run("build", f"{SOURCE}/configs/build-book.yaml", "--quiet", "--json", "--out", f"{work}/d.h5", *sets(
        f"data.events={work}/s.events", f"features={FEATURES}", "sample=packet", "labels=direction:5:0.0001"))
    run("train", f"{SOURCE}/configs/train.yaml", "--quiet", "--out", f"{work}/run", *sets(
        f"data.dataset={work}/d.h5", f"window.steps={STEPS}", "model.hidden=16", "train.epochs=1", "train.rate=0.03",
        "train.windows_per_epoch=640", "train.valid_windows=256", "threads=1"))
    raw = open(f"{work}/s.events", "rb").read()
    at, _, _, instruments = struct.unpack_from("<4I", raw, 12)              # market/event_format.h
    assert instruments == 1
    symbol, tick, tick_exponent = struct.unpack_from("<32sqi", raw, 32)
    lot, lot_exponent = struct.unpack_from("<qi", raw, 80)
    events = []
    for _ in range(struct.unpack_from("<Q", raw, len(raw) - 80)[0]):
        count, = struct.unpack_from("<I", raw, at + 24)
        events += [raw[at + 32 + EVENT * i:][:EVENT] for i in range(count)]
        at += 32 + EVENT * count
    name = symbol.split(b"\0")[0].decode()
    universe = [{"symbol": name, "tick": f"{tick}e{tick_exponent}", "lot": f"{lot}e{lot_exponent}"}]
    said = run("predict", "--model", f"{work}/run/model", "--data", f"{work}/d.h5", "--symbol", name, "--rows",
               f"0:{json.loads(built.splitlines()[-1])['rows']}").splitlines()[1:]
    answers = {int(line.split(",")[2]): struct.pack("<3f", *map(float, line.split(",")[3:])) for line in said}
    assert len(answers) > 1500 and len(set(answers.values())) > 500, "a model that ignores its input would pass"
    return events, universe, answers


def serve(work):
    process = subprocess.Popen([OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *sets(
        f"model.bundle={work}/run/model", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "serve.sessions=4",
        "serve.streams=4", "serve.stream_instruments=1", "serve.http_sequences=4", "serve.http_sequence_idle_s=8",
        "serve.sample=packet", "threads=1", "log.level=error")], stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, path, body, method="POST"):
        self.connection.request(method, path, body)
        reply = self.connection.getresponse()
        return reply.status, reply.read().decode()

    def open(self, stream, universe, begins, **more):
        body = {"universe": universe, "begins": begins, **more}
        status, text = self.ask(f"/outcry/streams/{stream}", json.dumps(body))
        return status, json.loads(text)

    def events(self, stream, events):
        status, text = self.ask(f"/outcry/streams/{stream}/events", b"".join(events))
        return status, json.loads(text)

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.ask("/metrics", None, "GET")[1], re.M).group(1))


def field(event, form, at):
    return struct.unpack_from(form, event, at)[0]


def check(said, answers, held=False):
    """How many are probabilities; each of them is predict's, and none is missing."""
    exact = 0
    for one in said["answers"]:
        assert one["instrument"] == 0 and one["version"], one
        if held and one["state"] in ("hold_history", "hold_short", "hold_gap"):
            continue
        want = answers.get(one["time_ns"])
        assert one["state"] in (("ok",) if want else ("hold_short", "hold_gap")), one
        if want:
            assert struct.pack("<3f", *one["probabilities"][0]) == want, one
            exact += 1
        else:
            assert one["probabilities"] == [[0, 0, 1]], one
    return exact


def whole(port, name, events, universe, answers, found):
    client, draw, at, exact = Client(port), random.Random(f"{SEED}{name}"), 0, 0
    status, said = client.open(name, universe, True, period_ns=10**9)
    assert status == 200 and said["stream"] == name and said["history_rows"] >= 0, said
    while at < len(events):
        count = draw.choice((1, 7, 90, 512))
        status, said = client.events(name, events[at:at + count])
        assert status == 200 and said["stream"] == name, said
        exact += check(said, answers)
        at += count
    assert client.ask(f"/outcry/streams/{name}/close", b"") == (200, '{"closed":true}')
    found[name] = exact


def books(events):
    """The book behind these events, as SNAPSHOT events of the last one's time."""
    sides = {}
    for event in events:
        kind, side, ticks, lots = event[38], event[39], field(event, "<q", 48), field(event, "<q", 56)
        if kind in (LEVEL, SNAPSHOT):
            sides.setdefault(side, {}).pop(ticks, None)
            if lots:
                sides[side][ticks] = lots
    out, time_ns = [], field(events[-1], "<q", 8)
    for side, book in sides.items():
        for ticks in sorted(book, reverse=side == BUY):
            out.append(struct.pack("<qqQQIHBBBB6xqq24x", 0, time_ns + 1, len(out) + 1, 0, 0, 0, SNAPSHOT, side, 255, 0,
                                   ticks, book[ticks]))
    return out


def late(port, events, universe, answers):
    client, ends = Client(port), [i + 1 for i, event in enumerate(events) if event[41] & LAST]
    start = ends[len(ends) // 3]
    status, said = client.open("late", universe, False)
    assert status == 200, said
    history = said["history_rows"]
    assert client.events("late", books(events[:start])) == (200, {"stream": "late", "answers": []})
    exact = held = 0
    for at in range(start, len(events), 400):
        status, said = client.events("late", events[at:at + 400])
        assert status == 200, said
        held += sum(one["state"] == "hold_history" for one in said["answers"])
        exact += check(said, answers, True)
    assert held >= history and exact > 300, (held, history, exact)
    client.ask("/outcry/streams/late/close", b"")
    return held, exact


def lateness(port, events, universe, answers):
    """Behind its timeout an answer is HOLD; its row is in the windows all the same."""
    client = Client(port)
    assert client.open("slow", universe, True, timeout=1)[0] == 200
    said = client.events("slow", events[:400])[1]["answers"]
    assert {one["state"] for one in said if one["time_ns"] in answers} == {"late"} and len(said) > 50, said
    assert all(one["probabilities"] == [[0, 0, 1]] for one in said), said
    assert client.ask("/outcry/streams/slow/close", b"")[0] == 200


def refusals(port, events, universe):
    client = Client(port)
    bad = bytearray(events[3])
    bad[38] = 99
    path, good = "/outcry/streams/x", json.dumps({"universe": universe})
    before = {reason: client.metric(f'outcry_http_refusals_total{{reason="{reason}"}}')
              for reason in ("request", "schema", "sequence", "value", "order", "full", "path", "method")}
    cases = [
        (path, b"", 400, "request"), (path, b"{}", 400, "request"), (path, b"[1]", 400, "request"),
        (path, b'{"universe":[]}', 400, "request"), (path, b'{"universe":[5]}', 400, "request"),
        (path, json.dumps({"universe": universe, "begins": 1}), 400, "request"),
        (path, json.dumps({"universe": universe, "period_ns": 0}), 400, "request"),
        (path, json.dumps({"universe": universe, "timeout": "1"}), 400, "request"),
        (path, json.dumps({"universe": [{**universe[0], "tick": 0.01}]}), 400, "request"),
        (path, json.dumps({"universe": [{**universe[0], "tick": "0"}]}), 400, "request"),
        (path, json.dumps({"universe": [{**universe[0], "symbol": "S" * 32}]}), 400, "request"),
        (path, json.dumps({"universe": 257 * universe}), 400, "request"),
        (path, b'{"universe":' + b"[" * 30000, 400, "request"),
        (path, json.dumps({"universe": [{**universe[0], "lot": "7"}]}), 409, "schema"),
        (path, json.dumps({"universe": 2 * universe}), 429, "full"),
        (f"{path}/events", events[0], 404, "sequence"), (f"{path}/close", b"", 404, "sequence"),
        (f"{path}/events", b"", 400, "request"), (f"{path}/events", events[0][:87], 400, "request"),
        (f"{path}/events", 513 * events[0], 400, "request"),
        ("/outcry/streams/", b"", 404, "path"), (f"/outcry/streams/{'x' * 64}", good, 404, "path"),
        ("/outcry/streams/a%20b", good, 404, "path"), ("/outcry/streams/x/y", good, 404, "path"),
    ]
    for where, body, status, reason in cases:
        got = client.ask(where, body)
        assert got[0] == status and "error" in json.loads(got[1]), (where, body[:80], got)
        before[reason] += 1
    assert client.ask(path, None, "GET")[0] == 405
    before["method"] += 1
    assert client.open("x", universe, True)[0] == 200
    status, said = client.events("x", [*events[:3], bytes(bad), *events[4:9]])
    assert status == 400 and f"event {field(events[3], '<Q', 16)} " in said["error"], said
    status, said = client.events("x", events[:1])
    assert status == 409 and "behind" in said["error"], said
    assert client.events("x", events[4:9]) == (200, {"stream": "x", "answers": []})     # behind a gap, without a book
    assert client.open("x", universe, True, period_ns=10**9)[0] == 200
    taken = client.events("x", events[:400])[1]["answers"]
    assert client.open("x", universe, True, period_ns=10**9)[0] == 200
    status, said = client.events("x", [*events[:400], bytes(bad), *events[400:420]])
    assert status == 400 and "is none" in said["error"] and len(taken) > 50, said            # none of theirs is lost
    strip = lambda answers: [(one["sequence"], one["state"], one["probabilities"]) for one in answers]
    assert said["stream"] == "x" and strip(said["answers"]) == strip(taken)
    before["value"], before["order"] = before["value"] + 2, before["order"] + 1
    for i in range(3):
        assert client.open(f"more{i}", universe, True)[0] == 200
    assert client.open("one-too-many", universe, True)[0] == 429
    before["full"] += 1
    assert client.open("x", universe, True)[0] == 200                                   # anew
    assert client.events("x", events[:1])[0] == 200
    for reason, count in before.items():
        assert client.metric(f'outcry_http_refusals_total{{reason="{reason}"}}') == count, reason
    assert client.metric("outcry_streams") == 4 and client.metric("outcry_http_sequences") == 4
    end = time.monotonic() + 60
    while client.metric("outcry_streams") > 0 and time.monotonic() < end:               # idle for eight seconds
        time.sleep(0.1)
    assert client.metric("outcry_streams") == client.metric("outcry_sessions") == 0
    assert client.metric("outcry_http_sequences") == 0 and client.metric("outcry_http_sequences_expired_total") == 4


with tempfile.TemporaryDirectory() as work:
    events, universe, answers = make(work)
    server, port = serve(work)
    found = {}
    threads = [threading.Thread(target=whole, args=(port, f"stream-{i}", events, universe, answers, found))
               for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"stream-{i}": len(answers) for i in range(3)}, (found, len(answers))
    held, exact = late(port, events, universe, answers)
    lateness(port, events, universe, answers)
    refusals(port, events, universe)
    server.terminate()
    assert server.wait(60) == 0
print(f"streams over HTTP: three at once, {len(answers)} answers each of {len(events)} events, and a late one ({held} "
      f"rows held, {exact} exact), have the bits of predict")
