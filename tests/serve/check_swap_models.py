"""`outcry models promote | rollback | verify` with a server: what is live, what runs beside it, how they differ, what
is refused and why, requests that name another version than the one that answers, files that change on disk after they
were loaded, memory over many versions.

usage: check_swap_models.py OUTCRY MAKE_BUNDLE CLIENT_LIBRARY SOURCE
"""
import atexit
import http.client
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from ring_client import Client, HISTORY, OK, PUSH, SECOND

OUTCRY, MAKE_BUNDLE, LIBRARY, SOURCE = sys.argv[1:5]
STEPS, INPUTS, SESSIONS = 20, 8, 12
draw = random.Random(7)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def models(*arguments, server=True):
    place = ["--repository", f"{work}/models", *(["--server", f"{work}/s.sock"] if server else [])]
    done = subprocess.run([OUTCRY, "models", *arguments, *place, "--json"], capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr


def good(*arguments):
    code, said, failed = models(*arguments)
    assert code == 0, (arguments, code, failed)
    return said


def get(path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def ask(rows, version="", at=None, **parameters):
    """(status, version that answered or the error, state, bits of the probabilities)"""
    connection = http.client.HTTPConnection("127.0.0.1", at or port, timeout=30)
    numbers = struct.unpack(f"<{len(rows) // 4}f", rows)
    tensor = {"name": "window", "datatype": "FP32", "shape": [1, len(numbers) // INPUTS, INPUTS], "data": numbers}
    connection.request("POST", f"/v2/models/sample{version and '/versions/' + version}/infer",
                       json.dumps({"inputs": [tensor], "parameters": parameters}))
    reply = connection.getresponse()
    said = json.loads(reply.read())
    if reply.status != 200:
        return reply.status, said["error"], None, None
    data = said["outputs"][0]["data"]
    return 200, said["model_version"], said["parameters"]["state"], struct.pack(f"<{len(data)}f", *data)


def metric(name):
    return float(re.search(rf"^{re.escape(name)} (\S+)$", get("/metrics")[1], re.M).group(1))


def serve(*places):
    command = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (*(places or (f"serve.repository={work}/models", f"serve.socket={work}/s.sock")),
                 "serve.http=127.0.0.1:0", f"serve.sessions={SESSIONS + 2}", "serve.verify_s=1"):
        command += ["--set", pair]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(server)
    return server


def row():
    return struct.pack(f"<{INPUTS}f", *(draw.uniform(-2, 2) for _ in range(INPUTS)))


class Pusher:
    """Twelve sessions; each push is answered, by whom is returned."""

    def __init__(self):
        self.client, self.row = Client(LIBRARY, f"{work}/s.sock"), 0
        self.sessions = [self.client.session(f"SYM{i}") for i in range(SESSIONS)]

    def push(self, count=1):
        by = {}
        for _ in range(count):
            self.row += 1
            for session in self.sessions:
                assert self.client.push(session, self.row, row(), self.row)
            left = SESSIONS
            while left:
                for kind, session, state, _, _, version in self.client.replies(5 * SECOND, named=True):
                    assert kind == PUSH and (state == OK) == (self.row >= STEPS), (kind, state)
                    by.setdefault(version, set()).add(session)
                    left -= 1
            time.sleep(0.002)       # time for the version beside
        return by


def flip(path):
    data = bytearray(open(path, "rb").read())
    data[len(data) // 2] ^= 1
    with open(path, "wb") as out:
        out.write(data)


def eventually(check):
    end = time.monotonic() + 60
    while not check():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)


def beginning():
    """Nothing is guessed: which version is live has been said, or there is only one."""
    server = serve()
    assert server.wait(30) == 78 and "outcry models promote" in server.stderr.read()
    assert models("promote", "sample/none", server=False)[0] in (1, 65)
    assert models("promote", "sample", server=False)[0] == 64
    assert models("rollback", "sample", server=False)[0] == 64
    assert models("promote", "sample/1", server=False)[0] == 0
    code, said, _ = models("list", server=False)
    assert [m["role"] for m in said["models"] if m["version"] == "1"] == ["live"], (code, said)


def beside(pusher):
    """The weights of the live version differ in nothing; others do; a canary answers the same symbols each time."""
    said = good("promote", "sample/twin", "--shadow")["server"]
    assert said["phase"] == "shadow" and said["other"]["version"] == "twin" and said["live"]["version"] == "1"
    assert set(pusher.push(40)) == {"1"}
    eventually(lambda: set(pusher.push()) == {"1"} and
               good("show", "sample/twin")["server"]["report"]["compared"] >= SESSIONS)
    report = good("show", "sample/twin")["server"]["report"]
    assert report["max_difference"] == 0 and report["decisions_changed"] == 0, report
    good("promote", "sample/2", "--canary", "0.5")
    moved = set()

    def further():      # a session of the canary's moves once, on a slow machine later, and never back
        by = pusher.push()
        assert not by.get("1", set()) & moved, (by, moved)
        moved.update(by.get("2", ()))
        return set(by)

    for _ in range(30):
        further()
    eventually(lambda: further() == {"1", "2"})
    for _ in range(10):
        assert further() == {"1", "2"}, moved
    eventually(lambda: pusher.push() and good("show", "sample/2")["server"]["report"]["compared"] > 0)
    report = good("show", "sample/2")["server"]["report"]
    assert 0 < report["mean_difference"] <= report["max_difference"] <= 1, report
    assert metric("outcry_shadow_compared") > 0 and metric("outcry_shadow_difference_sum") > 0
    good("rollback", "sample")
    eventually(lambda: set(pusher.push()) == {"1"})


def predicted(window, versions):
    """{version: the bits of the whole window} by servers of their own, which have nothing else loaded."""
    bits = {}
    for version in versions:
        alone = serve(f"model.bundle={work}/models/sample/{version}", f"serve.socket={work}/alone.sock")
        at = int(re.search(r"http://127\.0\.0\.1:(\d+)", alone.stdout.readline()).group(1))
        status, by, state, bits[version] = ask(window, at=at)
        assert (status, by, state) == (200, version, "ok")
        alone.send_signal(signal.SIGTERM)
        assert alone.wait(15) == 0
    return bits


def named():
    """Whoever names a version in the path is answered by it, or refused before anything is taken in: then the same
    request, to the version that answers or to any, has the bits that it would have had. As a canary; behind a swap."""
    rows, another = [row() for _ in range(STEPS + 8)], "another version answers"
    lost = [f'outcry_replies_total{{kind="push",state="{state}"}}' for state in ("refused_order", "hold_gap")]
    before = {name: metric(name) for name in lost}
    version_refused = metric('outcry_replies_total{kind="push",state="refused_version"}')
    path_refused = metric('outcry_http_refusals_total{reason="path"}')
    refusals = 0

    def push(i, version="", **parameters):
        nonlocal refusals
        status, said, state, bits = ask(rows[i], version, sequence_id="n", sequence=i + 1, run_length=i + 1,
                                        **parameters)
        refusals += status == 404 and another in said
        return (status, said, state, bits) if status == 200 else (status, another in said)

    good("promote", "sample/2", "--canary", "0.5")
    by = {}
    for i in range(64):     # a symbol that each version answers
        if len(by) < 2:
            by[ask(rows[0], sequence_id="n", symbol=f"N{i}", sequence_start=True, sequence_end=True)[1]] = f"N{i}"
    assert set(by) == {"1", "2"}, by
    assert push(0, "1", sequence_start=True, symbol=by["2"]) == (404, True)     # it begins nothing
    assert ask(rows[0], sequence_id="n")[0] == 404
    assert push(0, "2", sequence_start=True, symbol=by["2"])[:3] == (200, "2", "hold_short")
    for i in range(1, STEPS - 1):
        assert push(i)[:3] == (200, "2", "hold_short")
    for i in range(STEPS - 1, STEPS + 2):
        want = predicted(b"".join(rows[i + 1 - STEPS:i + 1]), "2")
        assert push(i, "1") == (404, True) and push(i, "1", sequence_end=True) == (404, True)   # nor does it end
        assert push(i, "2" if i % 2 else "") == (200, "2", "ok", want["2"])
    window = b"".join(rows[:STEPS])
    want = predicted(window, "1")
    assert ask(window, "1") == (200, "1", "ok", want["1"])
    status, said, *_ = ask(window, "2")                     # of no sequence: the live version's
    assert status == 404 and another in said, (status, said)
    assert ask(window, "3")[:2] == (404, "there is no such path, model or version")
    good("rollback", "sample")
    eventually(lambda: push(i + 1, "1")[0] == 200)
    good("promote", "sample/2")
    i += 2
    want = predicted(b"".join(rows[i + 1 - STEPS:i + 1]), "2")
    assert push(i, "1") == (404, True) and push(i) == (200, "2", "ok", want["2"])
    assert push(i + 1, "1") == (404, True) and push(i + 1, "2", sequence_end=True)[:3] == (200, "2", "ok")
    good("rollback", "sample")
    assert metric('outcry_replies_total{kind="push",state="refused_version"}') == version_refused + refusals >= 9
    assert metric('outcry_replies_total{kind="window",state="refused_version"}') == 1
    assert metric('outcry_http_refusals_total{reason="path"}') == path_refused + refusals + 2
    assert {name: metric(name) for name in lost} == before


def refused(pusher):
    """The reason is told, the state is what it was, the live version answers."""
    for version, reason in (("schema", "new sessions"), ("steps", "windows of 19 x 8")):
        before = metric("outcry_model_refusals_total")
        code, said, failed = models("promote", f"sample/{version}")
        assert code == 65 and reason in failed, (code, failed)
        assert said["server"]["live"]["version"] == "1" and said["server"]["refused"]["version"] == version
        assert metric("outcry_model_refusals_total") == before + 1
        assert json.load(open(f"{work}/models/sample/state.json"))["live"] == "1"
        assert set(pusher.push()) == {"1"}
    for what in (("promote", "sample/2"), ("rollback", "sample")):      # a wrong option is told before the deed
        kept = open(f"{work}/models/sample/state.json").read()
        assert models(*what, "--timeout", "soon")[0] == 64 and models(*what, "--timeout", "-1")[0] == 64
        assert open(f"{work}/models/sample/state.json").read() == kept
    shutil.copytree(f"{work}/models/sample/3", f"{work}/keep")
    flip(f"{work}/models/sample/3/weights.safetensors")
    code, _, failed = models("promote", "sample/3")
    assert code == 65 and "damaged" in failed, failed           # before anything is asked of the server
    shutil.rmtree(f"{work}/models/sample/3")
    os.rename(f"{work}/keep", f"{work}/models/sample/3")


def swapped(pusher):
    """Over and back; the wider one too; HTTP follows."""
    for version in ("wide", "3"):
        assert good("promote", f"sample/{version}")["server"]["live"]["version"] == version
        assert set(pusher.push(3)) == {version}
        assert json.loads(get("/v2/models/sample")[1])["versions"] == [version]
        assert get(f"/v2/models/sample/versions/{version}")[0] == 200 and get("/v2/models/sample/versions/1")[0] == 404
    assert good("rollback", "sample")["server"]["live"]["version"] == "wide"
    assert set(pusher.push(3)) == {"wide"}
    assert metric("outcry_session_moves_total") >= 3 * SESSIONS


def together(pusher):
    """An ensemble: promoted like any other; refused where it cannot be put together or a member is another one now."""
    def made(*arguments):
        return models("ensemble", *arguments, server=False)
    for arguments, reason in ((("sample/e", "1=1", "steps=1"), "differ in"), (("sample/e", "1=1", "none=1"), "none"),
                              (("sample/e", "1=1", "2=0"), "weight"), (("sample/2", "1=1", "3=1"), "already"),
                              (("sample/e", "1=1"), "takes"), (("sample/e", "1=1", "../2=1"), "not a version")):
        code, _, failed = made(*arguments)
        assert code != 0 and reason in failed, (arguments, failed)
        shutil.rmtree(f"{work}/models/sample/e", ignore_errors=True)
    code, said, failed = made("sample/both", "1=1", "wide=3")
    assert code == 0, failed
    assert [(m["version"], m["weight"]) for m in said["models"][0]["members"]] == [("1", 0.25), ("wide", 0.75)]
    assert good("promote", "sample/both")["server"]["live"]["members"] == 2
    assert set(pusher.push(3)) == {"both"}
    good("rollback", "sample")
    data = json.load(open(f"{work}/models/sample/both/ensemble.json"))
    data["members"][0]["weight"] = 0.3
    json.dump(data, open(f"{work}/models/sample/both/ensemble.json", "w"))
    assert "sum to" in models("promote", "sample/both")[2]
    data["members"][0].update(weight=0.25, hash="0" * 32)
    json.dump(data, open(f"{work}/models/sample/both/ensemble.json", "w"))
    code, _, failed = models("promote", "sample/both")
    assert code == 65 and "put together" in failed, failed
    shutil.rmtree(f"{work}/models/sample/both")


def memory(server):
    text = open(f"/proc/{server.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) << 10


def steady(server, pusher):
    sizes = []
    for i in range(24):
        good("promote", f"sample/{'123'[i % 3]}")
        pusher.push()
        sizes.append(memory(server))
    assert max(sizes[12:]) - max(sizes[:12]) < 1 << 20, sizes


def changed(server, pusher):
    """What is loaded goes on answering; the change is seen, counted, told by verify, and in the way of a rollback."""
    good("promote", "sample/1")
    good("promote", "sample/2")
    shutil.copytree(f"{work}/models/sample/1", f"{work}/keep")
    before = metric("outcry_bundle_changed_total")      # the ensemble's list may have been seen as it was edited
    shutil.rmtree(f"{work}/models/sample/1")
    os.rename(f"{work}/models/sample/twin", f"{work}/models/sample/1")      # another good bundle in its place
    eventually(lambda: metric("outcry_bundle_changed_total") == before + 1)
    assert good("list")["server"]["other"]["changed_on_disk"]
    code, _, failed = models("rollback", "sample")
    assert code == 65, failed
    assert set(pusher.push(2)) == {"2"}
    shutil.rmtree(f"{work}/models/sample/1")
    os.rename(f"{work}/keep", f"{work}/models/sample/1")
    flip(f"{work}/models/sample/2/bundle.json")
    eventually(lambda: metric("outcry_bundle_changed_total") == before + 2)
    assert models("verify")[0] == 65
    assert set(pusher.push(2)) == {"2"}


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/models", "repository"], check=True)
    beginning()
    server = serve()
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline()).group(1))
    pusher = Pusher()
    assert set(pusher.push(STEPS + 5)) == {"1"} and pusher.client.model.version == b"1"
    beside(pusher)
    named()
    refused(pusher)
    swapped(pusher)
    together(pusher)
    steady(server, pusher)
    changed(server, pusher)
    pusher.client.close()
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0 and not os.path.exists(f"{work}/s.sock.json")
    assert models("list")[0] == 65      # no server is there
print("models: shadow, canary, promotion, rollback, refusals and changes on disk hold")
