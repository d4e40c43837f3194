"""Model control over HTTP: the repository's index, load of a version, with clients that go on meanwhile and get the
bits of the version that each answer names; what is refused leaves everything as it was.

usage: check_control.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
TOKEN = "control-token-of-the-test"


def call(method, path, body=None, token=TOKEN):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def load(version, what="load"):
    return call("POST", f"/v2/repository/models/sample/{what}", json.dumps({"parameters": {"version": version}}))


def index(**body):
    status, rows = call("POST", "/v2/repository/index", json.dumps(body), None)
    assert status == 200, rows
    return {row["version"]: row["state"] for row in rows}


def traffic(stop, seen, faults):
    """Windows one after another; each answer is that of the version it names."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    about = json.load(open(f"{work}/models/sample/1/bundle.json", encoding="utf-8"))
    steps, inputs = about["shape"]["steps"], about["shape"]["inputs"]
    size, bits = 4 * steps * inputs, {v: open(f"{work}/wanted-{v}", "rb").read() for v in ("1", "2")}
    rows, i = open(f"{work}/rows", "rb").read(), 0
    while not stop.is_set():
        i = (i + 1) % (len(rows) // size)
        tensor = {"name": "window", "shape": [1, steps, inputs], "datatype": "FP32",
                  "data": struct.unpack(f"<{size // 4}f", rows[i * size:(i + 1) * size])}
        connection.request("POST", "/v2/models/sample/infer", json.dumps({"inputs": [tensor]}))
        reply = connection.getresponse()
        said = json.loads(reply.read())
        if reply.status != 200:
            faults.append(said)
            return
        got = struct.pack("<3f", *said["outputs"][0]["data"][:3])
        if got != bits[said["model_version"]][12 * i:12 * i + 12]:
            faults.append((i, said))
        seen.add(said["model_version"])


def oracle():
    """What each version answers to the rows: a server of its own, before the test."""
    rows = b"".join(struct.pack("<f", ((7 * i) % 100) / 25 - 2) for i in range(20 * 8 * 9))
    with open(f"{work}/rows", "wb") as out:
        out.write(rows)
    for version in ("1", "2"):
        server, at = start(f"model.bundle={work}/models/sample/{version}")
        connection = http.client.HTTPConnection("127.0.0.1", at, timeout=60)
        tensor = {"name": "window", "shape": [9, 20, 8], "datatype": "FP32",
                  "data": struct.unpack(f"<{len(rows) // 4}f", rows)}
        connection.request("POST", "/v2/models/sample/infer", json.dumps({"inputs": [tensor]}))
        data = json.loads(connection.getresponse().read())["outputs"][0]["data"]
        with open(f"{work}/wanted-{version}", "wb") as out:
            out.write(struct.pack(f"<{len(data)}f", *data))
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert open(f"{work}/wanted-1", "rb").read() != open(f"{work}/wanted-2", "rb").read()


def start(*sets):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in ("serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", *sets):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


def ensemble(alone):
    """Attention of an ensemble: its members' means over their heads, weighted; also where it is live from the start."""
    global running, port
    subprocess.run([OUTCRY, "models", "ensemble", "sample/both", "1=1", "2=3", "--repository", f"{work}/models"],
                   check=True, stdout=subprocess.DEVNULL)
    assert load("both") == (200, {})
    mean = lambda heads: [sum(column) / len(heads) for column in zip(*heads)]
    wanted = [0.25 * one + 0.75 * two for one, two in zip(mean(alone["1"]), mean(alone["2"]))]
    for again in (False, True):
        if again:
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
            running, port = start(f"serve.repository={work}/models", f"serve.control_token_file={work}/control")
        (got,) = attention("both", 1)
        assert all(abs(a - b) < 1e-5 for a, b in zip(got, wanted)), (got, wanted)
        assert any(abs(a - b) > 1e-3 for a, b in zip(got, mean(alone["1"]))), "members that attend alike show nothing"


def attention(version, heads=4):
    """The page's attention follows the live version: another one gives another to the same window."""
    end, status, said, live = time.monotonic() + 30, 0, {"generation": 0}, 1
    while (status != 200 or said["generation"] != live) and time.monotonic() < end:   # kept behind answers
        rows = struct.unpack("<160f", open(f"{work}/rows", "rb").read()[:640])
        tensor = {"name": "window", "shape": [1, 20, 8], "datatype": "FP32", "data": rows}
        time.sleep(0.15)                                     # windows are kept ten times a second
        assert call("POST", "/v2/models/sample/infer", json.dumps({"inputs": [tensor]}), None)[0] == 200
        told = call("GET", "/outcry/status", None, None)[1]
        live = told["models"]["live"]["generation"]
        status, said = call("GET", f"/outcry/attention?seat={told['instruments'][-1]['seat']}", None, None)
    assert status == 200 and said["generation"] == live, said
    assert all(abs(sum(head) - 1) < 1e-4 and len(head) == 20 for head in said["attention"]), said
    assert len(said["attention"]) == heads and said["members"] == (1 if heads > 1 else 2), (version, said)
    return said["attention"]


def loads():
    stop, seen, faults = threading.Event(), set(), []
    clients = [threading.Thread(target=traffic, args=(stop, seen, faults), daemon=True) for _ in range(3)]
    for client in clients:
        client.start()
    for version in ("2", "1", "2", "2", "1"):
        status, said = load(version)
        assert (status, said) == (200, {}), (version, status, said)
        end = time.monotonic() + 60
        while version not in seen and not faults:           # on a slow machine the next one could be there before
            assert time.monotonic() < end, f"{version} is live and answers nothing"
            time.sleep(0.01)
        states = index()
        assert states[version] == "READY" and list(states.values()).count("READY") == 1, states
        assert index(ready=True) == {version: "READY"}
        assert call("GET", "/v2/models/sample", None, None)[1]["versions"] == [version]
        for path in ("/v2/models/stats", f"/v2/models/sample/versions/{version}/stats"):
            assert call("GET", path, None, None)[1]["model_stats"][0]["version"] == version
    stop.set()
    for client in clients:
        client.join()
    assert not faults and seen == {"1", "2"}, (faults[:2], seen)


def retrained():
    """Drift is measured against the version that is live: what the old one has never seen is usual to one that was
    trained on it."""
    rows = struct.unpack(f"<{9 * 160}f", open(f"{work}/rows", "rb").read())
    tensor = json.dumps({"inputs": [{"name": "window", "shape": [9, 20, 8], "datatype": "FP32", "data": rows}]})
    assert all(call("POST", "/v2/models/sample/infer", tensor, None)[0] == 200 for _ in range(12))
    before, answered, end = {"rows": 0}, 1, time.monotonic() + 20
    while before["rows"] < answered and time.monotonic() < end:      # a row is looked at behind its answer
        before = call("GET", "/outcry/drift", None, None)[1]
        answered = call("GET", "/outcry/status", None, None)[1]["replies"]["window"]["ok"]
    status, said = load("moved")
    assert status == 200, said
    after, inputs = call("GET", "/outcry/drift", None, None)[1], call("GET", "/outcry/status", None, None)[1]["inputs"]
    assert before["rows"] == after["rows"] > 100 and inputs["rows"] == after["rows"]
    for one, other in zip(before["features"], after["features"]):
        assert abs(other["shift"] - (one["shift"] + 3) / 2) < 1e-4 * (3 + abs(one["shift"])), (one, other)
        assert abs(other["deviation"] - one["deviation"] / 2) < 1e-4 * one["deviation"], (one, other)
    assert abs(inputs["shift_max"] - max(abs(one["shift"]) for one in after["features"])) < 1e-4 * inputs["shift_max"]
    assert load("1") == (200, {}) and call("GET", "/outcry/drift", None, None)[1] == before


def impatient():
    """A client that leaves while its load is under way does not keep the next one from loading."""
    body = json.dumps({"parameters": {"version": "2"}}).encode()
    head = (f"POST /v2/repository/models/sample/load HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    for reset in (False, True):
        with socket.create_connection(("127.0.0.1", port), 20) as s:
            s.sendall(head + body)
            end = time.monotonic() + 60
            while json.load(open(f"{work}/models/sample/state.json", encoding="utf-8"))["live"] != "2":
                assert time.monotonic() < end, "it is not asked for"        # before, who leaves asked for nothing;
                time.sleep(0.001)                           # behind it a load takes its 20 ms at least
            if reset:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end = time.monotonic() + 60
        while index()["2"] != "READY":
            assert time.monotonic() < end, "it was begun"
        while load("1")[0] == 503:
            assert time.monotonic() < end, "a load whose client has gone is never over"
            time.sleep(0.05)
        assert index()["1"] == "READY"


def withdrawn():
    """unload of what runs beside the live version withdraws it."""
    def reason():
        return {row["version"]: row["reason"] for row in call("POST", "/v2/repository/index", "{}", None)[1]}["2"]

    for option, word in (("--shadow", "nobody"), ("--canary=0.5", "share")):
        subprocess.run([OUTCRY, "models", "promote", "sample/2", "--repository", f"{work}/models", "--server",
                        f"{work}/s.sock", *option.split("=")], check=True, stdout=subprocess.DEVNULL)
        assert call("GET", "/outcry/status", None, None)[1]["models"]["other"]["version"] == "2" and word in reason()
        assert load("2", "unload") == (200, {})
        end = time.monotonic() + 20
        while (models := call("GET", "/outcry/status", None, None)[1]["models"])["phase"] != "live":
            assert time.monotonic() < end
        assert "candidate" not in models and models["canary"] == 0, models
        assert index()["1"] == "READY" and reason() == "not live"


def refused():
    shutil.copytree(f"{work}/models/sample/2", f"{work}/models/sample/broken")
    path = f"{work}/models/sample/broken/weights.safetensors"
    data = bytearray(open(path, "rb").read())
    data[-1] ^= 1
    with open(path, "wb") as out:
        out.write(data)
    state = open(f"{work}/models/sample/state.json", encoding="utf-8").read()
    for version, word in (("broken", ""), ("none", ""), ("schema", "schema"), ("steps", "steps"),
                          ("../sample/2", "version"), ("..", "version"), ("", "version"), (".hidden", "version"),
                          ("x" * 40, "version"), (7, "version")):
        status, said = load(version)
        assert status == 400 and word in said["error"], (version, status, said)
    assert call("POST", "/v2/repository/models/sample/load", "{")[0] == 400
    assert call("POST", "/v2/repository/models/other/load", "{}")[0] == 404
    for body, word in (('{"parameters":{"config":"{}"}}', "config"),
                       ('{"parameters":{"file:1/a":"eA=="}}', "file:1/a")):
        for what in ("load", "unload"):
            status, said = call("POST", f"/v2/repository/models/sample/{what}", body)
            assert status == 400 and word in said["error"], (what, body, said)
    for body in ("", "{}", '{"parameters":{"unload_dependents":false}}', '{"parameters":{"version":"1"}}'):
        status, said = call("POST", "/v2/repository/models/sample/unload", body)
        assert status == 400 and "answers cannot be unloaded" in said["error"], (body, status, said)
    assert load("none", "unload")[0] == load("../sample/2", "unload")[0] == 400
    assert load("2", "unload") == (200, {})                 # not loaded: nothing to do
    assert call("POST", "/v2/repository/models/sample/load", "{}", "no")[0] == 401
    assert index()["1"] == "READY" and index()["broken"] == "UNAVAILABLE"
    assert open(f"{work}/models/sample/state.json", encoding="utf-8").read() == state
    assert call("POST", "/v2/repository/index", "[", None)[0] == 400


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/models", "repository"], check=True)
    oracle()
    subprocess.run([OUTCRY, "models", "promote", "sample/1", "--repository", f"{work}/models"], check=True,
                   stdout=subprocess.DEVNULL)
    with open(f"{work}/control", "w", encoding="utf-8") as file:
        file.write(TOKEN)
    os.chmod(f"{work}/control", 0o600)
    running, port = start(f"serve.repository={work}/models", f"serve.control_token_file={work}/control")
    loads()
    retrained()
    impatient()
    withdrawn()
    refused()
    seen = {}
    for name in ("1", "2", "wide", "1"):
        assert load(name)[0] == 200
        now = attention(name)
        assert seen.setdefault(name, now) == now and list(seen.values()).count(now) == 1, name
    ensemble(seen)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
print("index and load over HTTP: 5 loads under traffic, every answer that of the version it names; refusals")
