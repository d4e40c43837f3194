"""Rows pushed over HTTP by the protocol's sequence parameters: the bits of whole windows, over JSON and binary tensors,
several sequences interleaved, with gaps, stored rows at a start, and what a client does wrong: each refusal has its
status, its reason and its counter. A sequence that nobody asks of gives its session back.

usage: check_sequence.py OUTCRY MAKE_BUNDLE SOURCE
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
import time

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
SEED = 11
print("seed", SEED)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work, bundle, *sets):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={bundle}", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "serve.sessions=6",
                 "serve.http_sequences=9", "log.level=warn", *sets):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


class Client:
    def __init__(self, port, about):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.name, self.inputs, self.steps = about["name"], about["shape"]["inputs"], about["shape"]["steps"]

    def ask(self, rows, binary, parameters, shape=None):
        """(status, document, the probabilities' bytes)"""
        tensor = {"name": "window", "datatype": "FP32",
                  "shape": shape or [1, len(rows) // self.inputs // 4, self.inputs]}
        body, raw = {"inputs": [tensor], "parameters": {**parameters, "binary_data_output": binary}}, b""
        if binary:
            tensor["parameters"], raw = {"binary_data_size": len(rows)}, rows
        else:
            tensor["data"] = struct.unpack(f"<{len(rows) // 4}f", rows)
        text = json.dumps(body).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))} if binary else {}
        self.connection.request("POST", f"/v2/models/{self.name}/infer", text + raw, headers)
        reply = self.connection.getresponse()
        answer = reply.read()
        if reply.status != 200:
            return reply.status, json.loads(answer), b""
        if binary:
            size = int(reply.headers["Inference-Header-Content-Length"])
            return 200, json.loads(answer[:size]), answer[size:]
        document = json.loads(answer)
        numbers = document["outputs"][0]["data"]
        return 200, document, struct.pack(f"<{len(numbers)}f", *numbers)

    def metric(self, name):
        self.connection.request("GET", "/metrics")
        text = self.connection.getresponse().read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.split()[0] == name)


def rows_of(folder, about):
    """The test's windows as one stretch of rows, [n] of F f32."""
    data = open(f"{folder}/windows.f32", "rb").read()
    size = 4 * about["shape"]["inputs"]
    return [data[i:i + size] for i in range(0, len(data), size)]


def interleaved(port, rows, about):
    """Sequences by number and by text; gaps; either form of tensor: each answer is that of the window, asked whole."""
    draw, steps, full, short = random.Random(SEED), about["shape"]["steps"], 0, 0
    seen = set()
    clients = [Client(port, about) for _ in range(3)]
    hold = struct.pack("<3f", 0, 0, 1) * len(about["labels"])
    state = {identity: {"rows": [], "number": 0, "run": 0} for identity in (7, "a \"quoted\" one", 1 << 60)}
    for _ in range(40 * steps if steps < 10 else 6 * steps):
        identity = draw.choice(list(state))
        client, one = draw.choice(clients), state[identity]
        gap = draw.random() < 0.02
        one["number"] += draw.choice((1, 1, 1, 5))
        one["run"] = 0 if gap else one["run"] + 1
        one["rows"] = [] if gap else one["rows"] + [draw.choice(rows)]
        row = draw.choice(rows) if gap else one["rows"][-1]
        parameters = {"sequence_id": identity, "sequence": one["number"], "run_length": one["run"], "symbol": "EURUSD"}
        if one.setdefault("fresh", True):
            parameters["sequence_start"], one["fresh"] = True, False
        status, said, got = client.ask(row, draw.random() < 0.5, parameters)
        assert status == 200, (status, said)
        p = said["parameters"]
        assert p["sequence"] == one["number"] and p["sequence_id"] == str(identity), said
        if one["run"] < steps:
            assert got == hold and p["state"] == ("hold_gap" if gap else "hold_short"), (said, got)
            short += 1
            continue
        window = b"".join(one["rows"][-steps:])
        assert p["state"] == "ok" and got == client.ask(window, True, {})[2], identity
        full += 1
        seen.add(got)
    for identity in state:
        assert clients[0].ask(rows[0], True, {"sequence_id": identity, "sequence_end": True})[0] == 200
    assert clients[0].metric("outcry_http_sequences") == 0
    assert len(seen) > full / 4, "the comparison would not see a model that ignores its input"
    assert full > 20 and short >= 3 * (steps - 1), (full, short)
    return full


def defaults(client, rows):
    """Nothing but the protocol's own three parameters: rows follow each other."""
    for i in range(client.steps + 2):
        status, said, got = client.ask(rows[i], True, {"sequence_id": 5, "sequence_start": i == 0})
        assert status == 200 and said["parameters"]["sequence"] == i + 1, said
    assert got == client.ask(b"".join(rows[2:client.steps + 2]), True, {})[2]
    status, said, got = client.ask(rows[40], True, {"sequence_id": 5, "sequence_end": True})
    assert status == 200 and got == client.ask(b"".join(rows[3:client.steps + 2] + [rows[40]]), True, {})[2]
    assert client.ask(rows[0], True, {"sequence_id": 5})[0] == 404


def stored(client, rows):
    """A start with the rows before: the first answer is already that of the whole window."""
    for n in (client.steps, client.steps - 1, 1):
        if n < 1:
            continue
        status, said, got = client.ask(b"".join(rows[:n]), False, {
            "sequence_id": "s", "sequence_start": True, "sequence": 900, "run_length": n + 3})
        assert status == 200 and said["parameters"]["state"] == ("ok" if n == client.steps else "hold_short"), said
    if client.steps == 1:
        return
    client.ask(b"".join(rows[:client.steps]), True, {"sequence_id": "s", "sequence_start": True})
    status, _, got = client.ask(rows[client.steps], True, {"sequence_id": "s"})
    assert status == 200 and got == client.ask(b"".join(rows[1:client.steps + 1]), True, {})[2]


def refusals(client, rows, about):
    nan, steps = struct.pack("<f", float("nan")) + rows[0][4:], client.steps
    one = {"sequence_id": "r", "sequence_start": True, "sequence": 10}
    assert client.ask(rows[0], True, one)[0] == 200
    follow = {"sequence_id": "r"}
    before = {reason: client.metric('outcry_http_refusals_total{reason="%s"}' % reason)
              for reason in ("order", "sequence", "value", "request", "schema", "full")}
    for what, body, parameters, shape, status, word in (
            ("stale", rows[1], {**follow, "sequence": 10}, None, 409, "did not rise"),
            ("stale", rows[1], {**follow, "sequence": 3}, None, 409, "did not rise"),
            ("unknown", rows[1], {"sequence_id": "nobody"}, None, 404, "not open"),
            ("NaN", nan, {**follow, "sequence": 11}, None, 400, "finite"),
            ("shape", rows[1] + rows[2], follow, [1, 1, 2 * client.inputs], 400, "shape"),
            ("batch", rows[1] + rows[2], follow, [2, 1, client.inputs], 400, "shape"),
            ("rows", rows[1] + rows[2], follow, [1, 2, client.inputs], 400, "row"),
            ("number", rows[1], {**follow, "sequence": 0}, None, 400, "sequence"),
            ("number", rows[1], {**follow, "sequence": -5}, None, 400, "sequence"),
            ("number", rows[1], {**follow, "sequence": "x"}, None, 400, "sequence"),
            ("run", rows[1], {**follow, "run_length": 1 << 33}, None, 400, "run_length"),
            ("id", rows[1], {"sequence_id": "x" * 64}, None, 400, "sequence_id"),
            ("id", rows[1], {"sequence_id": [1]}, None, 400, "sequence_id"),
            ("symbol", rows[1], {**follow, "symbol": "S" * 32}, None, 400, "symbol"),
            ("schema", rows[1], {**follow, "schema": "1" * 32}, None, 409, "schema"),
            ("schema", rows[1], {**follow, "schema": "nonsense"}, None, 400, "schema")):
        got = client.ask(body, True, parameters, shape)
        assert got[0] == status and word in got[1]["error"], (what, got)
    status, said, _ = client.ask(rows[1], True, {**follow, "sequence": 12})       # NaN began it anew: one valid row
    assert status == 200 and said["parameters"]["state"] == ("hold_short" if steps > 1 else "ok"), said
    assert client.ask(rows[1], True, {**follow, "sequence_end": True})[0] == 200
    opened = 0
    for i in range(20):                                                      # more than there are sessions
        status, said, _ = client.ask(rows[0], True, {"sequence_id": 100 + i, "sequence_start": True})
        opened += status == 200
        assert status == 200 or (status == 429 and re.search("serve.sessions|taken", said["error"])), said
    assert opened == 6, opened
    grown = {reason: client.metric(f'outcry_http_refusals_total{{reason="{reason}"}}') - n
             for reason, n in before.items()}
    assert grown == {"order": 2, "sequence": 1, "value": 1, "request": 11, "schema": 1, "full": 14}, grown
    status, said, _ = client.ask(rows[0], True, {"sequence_id": 100, "timeout": 1 << 40})
    assert status == 400 and "timeout" in said["error"], said
    status, said, got = client.ask(b"".join(rows[:steps]), True, {"timeout": 1})   # a microsecond: late, and HOLD
    assert status == 200 and said["parameters"]["state"] == "late", said
    assert got == struct.pack("<3f", 0, 0, 1) * len(about["labels"])


def refused_ends_nothing(client, rows):
    """A request that contradicts itself, or comes out of order, neither begins nor ends a sequence."""
    nothing = client.metric("outcry_http_sequences")
    first, wrong = {"sequence_id": "k", "sequence_start": True}, {"run_length": 0, "sequence": 1}
    if client.steps > 1:
        two = rows[0] + rows[1]
        assert client.ask(two, True, {**first, **wrong})[0] == 400
        assert client.metric("outcry_http_sequences") == nothing
        assert client.ask(rows[0], True, {"sequence_id": "k"})[0] == 404
    assert client.ask(rows[0], True, {**first, "sequence": 10})[0] == 200
    if client.steps > 1:
        assert client.ask(two, True, {**first, **wrong})[0] == 400
        assert client.ask(rows[1], True, {"sequence_id": "k", "sequence": 11})[0] == 200
    assert client.ask(rows[1], True, {"sequence_id": "k", "sequence": 10, "sequence_end": True})[0] == 409
    assert client.ask(rows[2], True, {"sequence_id": "k", "sequence": 12})[0] == 200
    assert client.ask(rows[3], True, {"sequence_id": "k", "sequence_end": True})[0] == 200
    assert client.metric("outcry_http_sequences") == nothing


def expiry(work, folder, about, rows):
    server, port = start(work, folder, "serve.http_sequence_idle_s=1")
    client = Client(port, about)
    quick, slow = {"sequence_start": True, "period_ns": 1000000}, {"sequence_start": True, "period_ns": 30 * 10**9}
    for i in range(5):
        assert client.ask(rows[0], True, {"sequence_id": 1 + i, **quick})[0] == 200
    assert client.ask(rows[0], True, {"sequence_id": "bars", **slow})[0] == 200
    end = time.monotonic() + 30
    while client.metric("outcry_http_sequences") > 1 or client.metric("outcry_sessions") > 1:
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1.5)                                         # its rows are half a minute apart
    assert client.ask(rows[0], True, {"sequence_id": "bars"})[0] == 200
    assert client.metric("outcry_http_sequences_expired_total") == 5
    assert client.ask(rows[0], True, {"sequence_id": 1})[0] == 404
    assert client.ask(rows[0], True, {"sequence_id": 1, "sequence_start": True})[0] == 200
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    server, port = start(work, folder, "serve.session_idle_s=1", "serve.http_period_ms=1")   # ended by the batcher
    client = Client(port, about)
    assert client.ask(rows[0], True, {"sequence_id": 1, "sequence_start": True})[0] == 200
    end = time.monotonic() + 30
    while client.metric("outcry_sessions") > 0:
        assert time.monotonic() < end
        time.sleep(0.1)
    for _ in range(2):                                      # the same as where HTTP had ended it: begin anew
        status, said, _ = client.ask(rows[0], True, {"sequence_id": 1})
        assert status == 404 and "sequence_start" in said["error"], (status, said)
    assert client.metric("outcry_http_sequences") == 0
    assert client.ask(rows[0], True, {"sequence_id": 1, "sequence_start": True})[0] == 200
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


def main():
    pushed = 0
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
        for index in sorted(os.listdir(f"{work}/b")):
            folder = f"{work}/b/{index}"
            about = json.load(open(f"{folder}/bundle.json", encoding="utf-8"))
            rows = rows_of(folder, about)
            server, port = start(work, folder, f"serve.http_threads={1 + int(index) % 3}")
            client = Client(port, about)
            pushed += interleaved(port, rows, about)
            defaults(client, rows)
            stored(client, rows)
            client.ask(rows[0], True, {"sequence_id": "s", "sequence_end": True})
            refused_ends_nothing(client, rows)
            refusals(client, rows, about)
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        expiry(work, folder, about, rows)
    print(f"{pushed} pushed rows have the bits of their windows; refusals, stored rows, expiry")


main()
