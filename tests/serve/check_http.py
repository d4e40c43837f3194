"""The server from outside, by the standard library: the Open Inference Protocol with JSON and binary tensors, equal
bits over both and against the model's own answers in random batches and order; malformed requests over raw sockets;
refusals at start; kill -9 and start again; SIGTERM answers what has begun and exits with 0.

usage: check_http.py OUTCRY MAKE_BUNDLE SOURCE EXAMPLE
"""
import atexit
import http.client
import json
import os
import random
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

OUTCRY, MAKE_BUNDLE, SOURCE, EXAMPLE = sys.argv[1:5]
SEED = 7
random.seed(SEED)
print("seed", SEED)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work, bundle, *sets):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={bundle}", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock",
                 "serve.http_batch_max=32", *sets):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(process)
    line = process.stdout.readline()
    if not line.startswith("ready"):
        process.wait()
        return process, process.stderr.read()
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", line).group(1))


def ask(connection, name, shape, rows, binary, identity=None):
    """The probabilities as bytes of f32."""
    tensor = {"name": "window", "shape": shape, "datatype": "FP32"}
    body, headers, raw = {"inputs": [tensor]}, {}, b""
    if identity:
        body["id"] = identity
    if binary:
        tensor["parameters"] = {"binary_data_size": len(rows)}
        body["parameters"] = {"binary_data_output": True}
        raw = rows
    else:
        tensor["data"] = list(struct.unpack(f"<{len(rows) // 4}f", rows))
    text = json.dumps(body).encode()
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(text))
    connection.request("POST", f"/v2/models/{name}/infer", text + raw, headers)
    reply = connection.getresponse()
    answer = reply.read()
    assert reply.status == 200, (reply.status, answer)
    if binary:
        size = int(reply.headers["Inference-Header-Content-Length"])
        head, data = json.loads(answer[:size]), answer[size:]
    else:
        head = json.loads(answer)
        numbers = head["outputs"][0]["data"]
        data = struct.pack(f"<{len(numbers)}f", *numbers)
    assert head["outputs"][0]["shape"][0] == shape[0] and head.get("id") == identity, head
    assert head["parameters"]["service_ns"] > 0, head
    return data


def equality(port, bundle, about):
    name, steps, inputs = about["name"], about["shape"]["steps"], about["shape"]["inputs"]
    windows, answers = (open(f"{bundle}/{kind}.f32", "rb").read() for kind in ("windows", "answers"))
    window, answer = steps * inputs * 4, len(answers) // (len(windows) // (steps * inputs * 4))
    count, faults = len(windows) // window, []

    def client(seed):
        draw, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for i in range(60):
            batch = draw.randrange(1, 9)
            first = draw.randrange(count - batch + 1)
            rows = windows[first * window:(first + batch) * window]
            got = ask(connection, name, [batch, steps, inputs], rows, draw.random() < 0.5, f"q{i}")
            if got != answers[first * answer:(first + batch) * answer]:
                faults.append((seed, i))
        connection.close()

    threads = [threading.Thread(target=client, args=(SEED + i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, f"{name}: answers differ: {faults[:5]}"
    assert answers[:answer] != answers[answer:2 * answer], "the comparison would not see a model that ignores its input"


def get(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def protocol(port, about):
    name, version = about["name"], about["version"]
    at = f"/v2/models/{name}"
    for path, status in (("/v2/health/live", 200), ("/v2/health/ready", 200), (f"{at}/ready", 200), ("/v2", 200),
                         ("/v2/", 404), (f"{at}/versions/{version}/ready", 200), (f"{at}/versions/none", 404),
                         ("/v2/models/none", 404), ("/v2/models/none/infer", 404), (f"{at}/infer", 405), ("/", 200),
                         ("/v3", 404)):
        assert get(port, path)[0] == status, (path, get(port, path))
    model = json.loads(get(port, f"/v2/models/{name}/versions/{version}")[1])
    shape = [-1, about["shape"]["steps"], about["shape"]["inputs"]]
    assert model["inputs"] == [{"name": "window", "datatype": "FP32", "shape": shape}], model
    assert model["outputs"][0]["shape"][2] == 3 and model["versions"] == [version]
    assert json.loads(get(port, "/v2")[1])["name"] == "outcry"
    for path in (f"{at}/ready", f"{at}/versions/{version}/ready"):
        assert json.loads(get(port, path)[1]) == {"name": name, "ready": True}, path
    for method, path, status, allowed in (("HEAD", "/v2/health/ready", 200, None), ("HEAD", "/metrics", 200, None),
                                          ("HEAD", "/", 200, None), ("HEAD", "/v3", 404, None),
                                          ("HEAD", f"{at}/infer", 405, "POST"), ("PUT", "/v2", 405, "GET, HEAD"),
                                          ("GET", "/v2/repository/index", 405, "POST"),
                                          ("OPTIONS", f"{at}/infer", 405, "POST")):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path)
        reply = connection.getresponse()
        assert (reply.status, reply.headers["Allow"]) == (status, allowed), (method, path, reply.status)
        assert method != "HEAD" or reply.read() == b"" and int(reply.headers["Content-Length"]) > 0, path
    assert get(port, "/v2/health/live", "DELETE")[0] == 405
    metrics(get(port, "/metrics")[1])


def metrics(text):
    """Prometheus text format 0.0.4: HELP and TYPE once and before the samples, names and labels by its grammar, no
    series twice, counters named as such, histograms cumulative up to +Inf and their count."""
    assert text.endswith("\n")
    kinds, series, last = {}, {}, None
    for line in text.splitlines():
        told = re.fullmatch(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)", line)
        if told:
            what, name, rest = told.groups()
            assert (name, what) not in kinds and (what == "HELP" or rest in ("counter", "gauge", "histogram")), line
            assert what == "TYPE" or (name, "TYPE") not in kinds, line
            kinds[name, what], last = rest, name
            continue
        found = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([0-9.e+-]+|\+Inf|NaN)", line)
        assert found, line
        name, labels, value = found.groups()
        pair = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
        assert labels is None or re.fullmatch(f"{pair}(?:,{pair})*", labels), line
        family = re.sub("_(bucket|sum|count)$", "", name) if kinds.get((last, "TYPE")) == "histogram" else name
        assert family == last and (family, "TYPE") in kinds and (family, "HELP") in kinds, line
        assert (name, labels) not in series and float(value) >= 0, line
        series[name, labels] = float(value)
    families = [(name, kind) for (name, what), kind in kinds.items() if what == "TYPE"]
    assert all(name.endswith("_total") for name, kind in families if kind == "counter"), families
    for name in (name for name, kind in families if kind == "histogram"):
        buckets = [(float(labels[4:-1]), value) for (n, labels), value in series.items() if n == f"{name}_bucket"]
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), buckets
        assert [v for _, v in buckets] == sorted(v for _, v in buckets), buckets
        assert buckets[-1][1] == series[f"{name}_count", None] and (f"{name}_sum", None) in series, buckets
    assert series["outcry_replies_total", 'kind="window",state="ok"'] > 0
    for name in ("outcry_queue_seconds_count", "outcry_service_seconds_count", "outcry_answer_seconds_count",
                 "outcry_http_seconds_count", "outcry_batch_requests_count", "outcry_batches_total",
                 "outcry_input_rows_total", "outcry_advance_budget_used", "outcry_http_requests_under_way"):
        assert (name, None) in series, name
    assert series["outcry_input_rows_total", None] > 0 and series["outcry_batch_requests_count", None] > 0
    assert series["outcry_queue_seconds_sum", None] + series["outcry_service_seconds_sum", None] \
        <= 1.001 * series["outcry_answer_seconds_sum", None] + 1e-3
    return series


def status(port, about):
    """What the page and `outcry top` read: JSON whose figures are those of /metrics; every input's drift."""
    told, series = {"stages": {"whole": []}}, {("outcry_answer_seconds_count", None): -1}
    for _ in range(200):                                    # times are counted behind the answer
        if sum(told["stages"]["whole"]) == series["outcry_answer_seconds_count", None]:
            break
        time.sleep(0.1)
        told, series = json.loads(get(port, "/outcry/status")[1]), metrics(get(port, "/metrics")[1])
    assert told["model"] == about["name"] and told["version"] == about["version"], told
    assert len(told["bounds_ns"]) + 1 == len(told["stages"]["whole"]) == len(told["http"]["seconds"])
    assert told["replies"]["window"]["ok"] == series["outcry_replies_total", 'kind="window",state="ok"']
    assert sum(told["stages"]["whole"]) == series["outcry_answer_seconds_count", None]
    assert told["inputs"]["rows"] == series["outcry_input_rows_total", None] > 100
    window = [one for one in told["instruments"] if one["symbol"] == "(windows)"]
    assert window and all(abs(sum(p) - 1) < 1e-5 for p in window[0]["probabilities"]), told["instruments"]
    drift = json.loads(get(port, "/outcry/drift")[1])
    assert drift["rows"] == told["inputs"]["rows"] and len(drift["features"]) == about["shape"]["inputs"], drift
    shift = max(abs(one["shift"]) for one in drift["features"])
    assert abs(shift - told["inputs"]["shift_max"]) < 1e-4 * (1 + shift), (shift, told["inputs"])
    assert abs(shift - series["outcry_input_shift_max", None]) < 1e-4 * (1 + shift)


def raw(port, data, wait=20):
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.settimeout(wait)
        s.sendall(data)
        try:
            got = s.recv(4096)
        except OSError:
            return "silent"
    return got[9:12].decode("latin1") if got.startswith(b"HTTP/1.") else "closed"


def malformed(port, about):
    post = f"POST /v2/models/{about['name']}/infer HTTP/1.1\r\n".encode()
    host, split = b"Host: localhost\r\n", b"Content-Length: 2\r\nInference-Header-Content-Length: "
    for what, data, wanted in (
            ("both lengths", post + host + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "400"),
            ("two lengths", post + host + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "400"),
            ("blank before the colon", post + host + b"Content-Length : 2\r\n\r\n{}", "400"),
            ("no host", post + b"Content-Length: 2\r\n\r\n{}", "400"),
            ("two hosts", post + host + host + b"Content-Length: 2\r\n\r\n{}", "400"),
            ("negative", post + host + b"Content-Length: -1\r\n\r\n", "400"),
            ("huge", post + host + b"Content-Length: 99999999999\r\n\r\n", "413"),
            ("beyond 64 bits", post + host + b"Content-Length: 99999999999999999999999\r\n\r\n", ("400", "413")),
            ("no body", post + host + b"\r\n", "400"),
            ("deep", post + host + b"Content-Length: 60000\r\n\r\n" + b"[" * 60000, "400"),
            ("wide", post + host + b"Content-Length: 200000\r\n\r\n[" + b"0," * 99999 + b"0", "400"),
            ("odd header length", post + host + split + b"0x2\r\n\r\n{}", "400"),
            ("header length too long", post + host + split + b"3\r\n\r\n{}", "400"),
            ("endless chunk", post + host + b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + b"x" * 65536 + b"\r\n",
             ("400", "silent", "closed")),
            ("long target", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n" + host + b"\r\n",
             ("400", "414", "431", "closed", "404")),
            ("nothing but zeros", b"\0" * 500, ("400", "closed", "silent")),
            ("percent NUL", b"GET /v2%00/x HTTP/1.1\r\n" + host + b"\r\n", ("404", "400"))):
        got = raw(port, data, 2 if "silent" in wanted else 20)
        assert got in wanted if isinstance(wanted, tuple) else got == wanted, (what, got, wanted)
    assert get(port, "/v2/health/ready")[0] == 200


def counted(port, about):
    """Each bad input has its status, its message and its counter."""
    name, shape = about["name"], [1, about["shape"]["steps"], about["shape"]["inputs"]]
    numbers = [0.5] * (shape[1] * shape[2])
    tensor = {"name": "window", "shape": shape, "datatype": "FP32", "data": numbers}

    def body(**changes):
        parameters = {"parameters": changes.pop("parameters")} if "parameters" in changes else {}
        return json.dumps({"inputs": [{**tensor, **changes}], **parameters}).encode()

    def framed(text, more=b"", length=None):
        return (f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: localhost\r\n".encode() + more
                + b"Content-Length: %d\r\n\r\n" % (len(text) if length is None else length) + text)

    post, host = f"POST /v2/models/{name}/infer HTTP/1.1\r\n".encode(), b"Host: localhost\r\n"
    for what, data, status, word, reason in (
            ("wrong shape", framed(body(shape=[1, shape[1] + 1, shape[2]])), 400, "shape", "request"),
            ("wrong rank", framed(body(shape=shape[1:])), 400, "shape", "request"),
            ("wrong count", framed(body(data=numbers[1:])), 400, "numbers", "request"),
            ("dtype", framed(body(datatype="FP64")), 400, "FP32", "request"),
            ("tensor", framed(body(name="rows")), 400, "window", "request"),
            ("schema hash", framed(body(parameters={"schema": "f" * 32})), 409, "schema", "schema"),
            ("unknown sequence", framed(body(shape=[1, 1, shape[2]], data=numbers[:shape[2]],
                                             parameters={"sequence_id": 5})), 404, "not open", "sequence"),
            ("beyond f32", framed(body(data=["big"] + numbers[1:]).replace(b'"big"', b"1e39")), 400, "number 0",
             "request"),
            ("oversized body", framed(b"", length=1 << 30), 413, "serve.http_body_kb", "size"),
            ("both lengths", framed(b"{}", b"Transfer-Encoding: chunked\r\n"), 400, "at most one", "framing"),
            ("a folded length", post + host + b"Content-Length:\r\n 2\r\n\r\n{}", 400, "second line", "framing"),
            ("a folded name", post + b"Hos: localhost\r\n t\r\nContent-Length: 2\r\n\r\n{}", 400, "second line",
             "framing"),
            ("a line in a value", post + host + b"X: a\rContent-Length: 2\r\n\r\n{}", 400, "character", "framing"),
            *[(b"coding " + coding, post + host + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
               400, "chunked", "framing") for coding in (b"gzip", b"gzip, chunked", b"identity", b"xchunked", b"")],
            ("chunks of 1.0", post.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
             "chunked", "framing"),
            ("two hosts of 1.0", post.replace(b"1.1", b"1.0") + host + host + b"\r\n", 400, "Host", "framing"),
            ("compressed", framed(body(), b"Content-Encoding: gzip\r\n"), 415, "Content-Encoding", "encoding"),
            *[(f"Host {other}", framed(body()).replace(b"localhost", other.encode(), 1), 403, "loopback", "origin")
              for other in ("evil.example", "localhost.evil.example:8000", "10.0.0.1:8000", "x", "[::2]:80", "",
                            "127.0.0.1.evil", "a" * 300)],
            *[(f"Origin {other}", framed(body(), b"Origin: %s\r\n" % other.encode()), 403, "Origin", "origin")
              for other in ("http://evil.example", "null", "http://localhost:1", "localhost", "http://localhost.evil")],
            ("page of elsewhere", b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "loopback", "origin"),
            ("deep JSON", framed(b'{"inputs":' + b"[" * 60000), 400, "", "request"),
            ("deep and closed", framed(b'{"a":' * 3000 + b"0" + b"}" * 3000), 400, "", "request"),
            ("batch", framed(body(shape=[1 << 40, *shape[1:]])), 400, "batch", "request"),
            ("path", b"GET /v2/models/none HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "no such path", "path"),
            ("method", b"PUT /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method", "method")):
        label = 'reason="%s"' % reason
        before = metrics(get(port, "/metrics")[1])["outcry_http_refusals_total", label]
        with socket.create_connection(("127.0.0.1", port), 20) as s:
            s.settimeout(20)
            s.sendall(data)
            got = b""
            while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                part = s.recv(65536)
                assert part, (what, got)
                got += part
        said = json.loads(got.partition(b"\r\n\r\n")[2])
        assert got.startswith(b"HTTP/1.1 %d " % status) and word in said["error"], (what, got)
        after = metrics(get(port, "/metrics")[1])["outcry_http_refusals_total", label]
        assert after == before + 1, (what, before, after)


def own(port, about):
    """Who is on this machine is answered, by whichever name of it, and so is the page of this very address."""
    path = f"GET /v2/models/{about['name']} HTTP/1.1\r\n".encode()
    for lines in (b"Host: LocalHost", b"Host: 127.0.0.1:%d" % port, b"Host: [::1]:8000", b"Host: [::1]",
                  b"Host: 127.9.9.9", b"Host: localhost:7\r\nOrigin: http://LOCALHOST:7",
                  b"Host: localhost\r\nContent-Encoding: identity", b"Host:\tlocalhost\r\nX:",
                  b"Host: localhost\r\nX: a\tb \xe9"):
        assert raw(port, path + lines + b"\r\n\r\n") == "200", lines
    assert raw(port, path.replace(b"1.1", b"1.0") + b"\r\n") == "200"
    assert raw(port, b"GET /v2/health/live HTTP/1.1\r\nHost: a.probe\r\n\r\n") == "200"      # a probe's may be any


def process(port, pid):
    """The process's own figures are those of the system; open connections are counted."""
    held = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(5)]
    end, count = time.monotonic() + 20, 0
    while count != 6 and time.monotonic() < end:            # they are accepted, and earlier ones closed, some time
        series = metrics(get(port, "/metrics")[1])
        count = series["outcry_http_connections", None]
    assert count == 6 and series["outcry_http_connections_max", None] == 64, count
    resident = int(open(f"/proc/{pid}/statm", encoding="utf-8").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert abs(series["process_resident_memory_bytes", None] - resident) < 4 << 20, resident
    assert abs(series["process_start_time_seconds", None] - time.time()) < 300
    assert series["process_cpu_seconds_total", None] > 0
    assert abs(series["process_open_fds", None] - len(os.listdir(f"/proc/{pid}/fd"))) <= 2
    assert series["process_open_fds", None] < series["process_max_fds", None]
    for one in held:
        one.close()


def not_finite(port, about):
    """NaN and infinity, as JSON's words, as numbers beyond f32 and as bits: 400 with its reason, counted, no answer."""
    shape = [1, about["shape"]["steps"], about["shape"]["inputs"]]
    cells, at = shape[1] * shape[2], f"/v2/models/{about['name']}/infer"
    before = metrics(get(port, "/metrics")[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for word in ("NaN", "Infinity", "-Infinity", "1e39", "-1e400", "nan", "null", "true", '"1"'):
        tensor = json.dumps({"name": "window", "shape": shape, "datatype": "FP32"})[:-1]
        body = '{"inputs":[' + tensor + ',"data":[' + ",".join([word] + ["0"] * (cells - 1)) + "]}]}"
        connection.request("POST", at, body)
        reply = connection.getresponse()
        said = json.loads(reply.read())
        assert reply.status == 400 and list(said) == ["error"], (word, said)
    for bits in (0x7fc00000, 0xffc00001, 0x7f800000, 0xff800000):
        tensor = {"name": "window", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": 4 * cells}}
        text = json.dumps({"inputs": [tensor]}).encode()
        raw_rows = struct.pack("<I", bits) + bytes(4 * cells - 4)
        connection.request("POST", at, text + raw_rows, {"Inference-Header-Content-Length": str(len(text))})
        reply = connection.getresponse()
        said = json.loads(reply.read())
        assert reply.status == 400 and "finite" in said["error"] and list(said) == ["error"], said
    after = metrics(get(port, "/metrics")[1])
    grew = lambda name, labels: after.get((name, labels), 0) - before.get((name, labels), 0)
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert grew("outcry_replies_total", 'kind="window",state="refused_value"') == 4, grown
    assert grew("outcry_replies_total", 'kind="window",state="ok"') == 0
    assert grew("outcry_http_answers_total", 'code="400"') == 13


def refused_starts(work, bundle):
    for address in ("0.0.0.0:0", "192.0.2.1:80", "example:80", "127.0.0.1:99999", "127.0.0.1", "[::]:80"):
        process, said = start(work, bundle, f"serve.http={address}")
        assert process.returncode == 78 and "serve.http" in said, (address, process.returncode, said)
    for pair in ("serve.ring_kb=5", "serve.batch_max=0", "serve.nonsense=1", "serve.clients=2", "serve.memory_mb=0",
                 "serve.http_connections=241"):
        process, said = start(work, bundle, pair)
        assert process.returncode == 78 and "serve." in said, (pair, process.returncode, said)
    base = (f"model.bundle={bundle}", f"serve.socket={work}/few.sock", "serve.http=127.0.0.1:0")
    for most, sets in ((512, ("serve.clients=1024",)),
                       (900, ("serve.clients=300", "serve.http_threads=256", "serve.http_connections=256"))):
        few = subprocess.run([OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml",
                              *(x for s in (*base, *sets) for x in ("--set", s))], capture_output=True, text=True,
                             timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, most)))
        assert few.returncode == 78 and sets[0] in few.stderr and f"{most} are allowed" in few.stderr, few


def one_peer(work, bundle):
    """More connections from one address than it may have are closed; the others, and a later one, are answered."""
    process, port = start(work, bundle, "serve.http_peer_connections=3")
    assert isinstance(port, int), port
    ask_live = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def answer(s):
        try:
            s.sendall(ask_live)
            return s.recv(4096)[9:12]
        except OSError:
            return b""

    held = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(6)]
    got = [answer(s) for s in held]
    assert got.count(b"200") == 3 and got.count(b"") == 3, got
    for s in held:
        s.close()
    end = time.monotonic() + 20
    while raw(port, ask_live) != "200":
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def crowd(work, bundle):
    """As many connections as two threads may have, all with a request at one time, again and again: all are answered.
    (libmicrohttpd stops when 128 have something at once; a thread's bound keeps it from that.)"""
    process, port = start(work, bundle, "serve.http_connections=240", "serve.http_timeout_s=60")
    assert isinstance(port, int), port
    held = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(240)]
    for turn in range(20):
        for s in held:
            s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for i, s in enumerate(held):
            assert s.recv(4096).startswith(b"HTTP/1.1 200"), (turn, i)
    for s in held:
        s.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def many(work, bundle):
    """A request of more windows than the ring of replies holds: they go in as the answers come out, none is lost."""
    process, port = start(work, bundle, "serve.http_batch_max=4096", "serve.http_body_kb=8192", "serve.ring_kb=16384")
    assert isinstance(port, int), port
    about = json.load(open(f"{bundle}/bundle.json"))
    shape = [4096, about["shape"]["steps"], about["shape"]["inputs"]]
    windows, answers = (open(f"{bundle}/{kind}.f32", "rb").read() for kind in ("windows", "answers"))
    times = 4096 // (len(windows) // (4 * shape[1] * shape[2]))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(20):
        assert ask(connection, about["name"], shape, windows * times, True) == answers * times
    assert "outcry_replies_dropped_total 0\n" in get(port, "/metrics")[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def full(work, bundle):
    """Beside as many connections as there may be a further one waits, and is answered when one of them has ended."""
    for threads in (1, 2):
        process, port = start(work, bundle, "serve.http_connections=4", f"serve.http_threads={threads}",
                              "serve.http_timeout_s=600")
        assert isinstance(port, int), port
        request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

        def answer(s):
            got = b""
            while b"outcry_http_connections_max " not in got:
                part = s.recv(65536)
                assert part, got
                got += part
            return int(re.search(rb"outcry_http_connections (\d+)", got).group(1))

        held = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(4)]
        for s in held:
            s.sendall(request)
            assert answer(s) <= 4
        for _ in range(20):
            late = socket.create_connection(("127.0.0.1", port), 60)
            late.sendall(request)
            assert not select.select([late], [], [], 0.02)[0], "a connection too many was answered"
            held.pop(random.randrange(4)).close()
            assert answer(late) <= 4
            held.append(late)
        for s in held:
            s.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def ends(work, bundle):
    """Who says in one packet that nothing more comes behind its request, or in the middle of it, is answered, and its
    connection is closed: it is not kept as an idle one for serve.http_timeout_s."""
    process, port = start(work, bundle, "serve.http_timeout_s=600")
    assert isinstance(port, int), port
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for sent, answers in ((get, 1), (get * 3, 3), (get[:20], 0),
                          (b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", 0)):
        with socket.create_connection(("127.0.0.1", port), 60) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)       # all of it, and the end, in one
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)
            got = b""
            while part := s.recv(4096):
                got += part
            assert got.count(b"HTTP/1.1 200") == answers, (sent, got)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def drain(process, port, about):
    """A request whose body is still coming when SIGTERM arrives is answered."""
    shape = about["shape"]
    numbers = ",".join(["0.5"] * shape["steps"] * shape["inputs"])
    sizes = f"{shape['steps']},{shape['inputs']}"
    tensor = '{"name":"window","shape":[1,%s],"datatype":"FP32","data":[%s]}' % (sizes, numbers)
    body = ('{"inputs":[' + tensor + "]}").encode()
    under_way = lambda: metrics(get(port, "/metrics")[1])["outcry_http_requests_under_way", None]
    before, end = under_way(), time.monotonic() + 60
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.settimeout(60)
        s.sendall(f"POST /v2/models/{about['name']}/infer HTTP/1.1\r\nHost: localhost\r\n".encode())
        s.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:20])
        while under_way() <= before:                        # its head has been read
            assert time.monotonic() < end, "it does not begin"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        s.sendall(body[20:])
        assert s.recv(4096).startswith(b"HTTP/1.1 200"), "the request that had begun was dropped"
    assert process.wait(60) == 0, process.returncode


def drain_under_load(process, port, about):
    """Clients that ask again and again over open connections lose nothing: each is told by its last answer, and whoever
    comes anew then is refused. An idle connection does not hold the server up."""
    shape = about["shape"]
    tensor = {"name": "window", "datatype": "FP32", "shape": [1, shape["steps"], shape["inputs"]],
              "data": [0.5] * (shape["steps"] * shape["inputs"])}
    body, begun, told, lost = json.dumps({"inputs": [tensor]}), set(), [], []

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            while True:
                connection.request("POST", f"/v2/models/{about['name']}/infer", body)
                reply = connection.getresponse()
                assert reply.read() and reply.status == 200, reply.status
                begun.add(number)
                if reply.headers["Connection"] == "close":
                    told.append(1)
                    return
        except (OSError, http.client.HTTPException) as failure:
            lost.append(repr(failure))

    idle = socket.create_connection(("127.0.0.1", port), 20)
    clients = [threading.Thread(target=client, args=(i,)) for i in range(12)]
    for one in clients:
        one.start()
    end = time.monotonic() + 60
    while len(begun) < 12 and not lost:                     # who comes when it is stopping is refused, and lost nothing
        assert time.monotonic() < end, f"{len(begun)} clients of 12 are answered"
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    for one in clients:
        one.join()
    assert process.wait(60) == 0                            # an idle connection's own end would be in 120 s
    assert len(told) == 12 and not lost, lost[:3]
    idle.close()


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
    refused_starts(work, f"{work}/b/0")
    one_peer(work, f"{work}/b/0")
    crowd(work, f"{work}/b/0")
    many(work, f"{work}/b/2")
    full(work, f"{work}/b/0")
    ends(work, f"{work}/b/0")
    for index in sorted(os.listdir(f"{work}/b")):
        folder = f"{work}/b/{index}"
        description = json.load(open(f"{folder}/bundle.json"))
        server, at = start(work, folder, f"threads={1 + int(index) % 2}")
        assert isinstance(at, int), at
        equality(at, folder, description)
        if index == "0":
            protocol(at, description)
            status(at, description)
            malformed(at, description)
            counted(at, description)
            own(at, description)
            process(at, server.pid)
            not_finite(at, description)
            example = subprocess.run([EXAMPLE, f"unix:{work}/s.sock", "50"], capture_output=True, text=True, timeout=60)
            assert example.returncode == 0 and len(example.stdout.splitlines()) == 50, example
            server.kill()
            server.wait()
            server, at = start(work, folder, "serve.http_timeout_s=120")    # the socket that kill -9 left is replaced
            assert isinstance(at, int), at
        (drain_under_load if index == "0" else drain)(server, at, description)
        assert not os.path.exists(f"{work}/s.sock")
print("protocol, equality, malformed requests, refusals and draining hold")
