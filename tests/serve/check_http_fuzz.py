"""HTTP at the level of bytes on a socket: good requests, mutated in their framing, headers, JSON and bytes, sent in
random pieces, some several in a row. The server lives, answers good requests beside them with the model's own bits, and
what it answers is itself well formed: a status that fits, a Content-Length that is true, JSON; never 500; a refused
framing closes the connection, so that nothing of a body is ever taken for a request. Its memory does not grow, and its
descriptors come back. 2,000 that are refused or closed, from a fixed seed (OUTCRY_SEED sets another); with OUTCRY_FULL
200,000.

usage: check_http_fuzz.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
FULL, SEED = bool(os.environ.get("OUTCRY_FULL")), int(os.environ.get("OUTCRY_SEED", "7"))
COUNT, WORKERS = (200_000, 24) if FULL else (2_000, 8)
draw = random.Random(SEED)
print("seed", SEED)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
STATUS = {200, 400, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 429, 431, 501, 503, 505}
NASTY = [b"", b"0", b"-1", b"+1", b"1e9", b"0x10", b"18446744073709551616", b"99999999999", b" 5", b"5 ", b"5,5",
         b"\0", b"NaN", b"-Infinity", b"1e400", b"null", b"{}", b"[]", b"\"", b"\\u0000", b"\xff\xfe", b"%00", b"../x",
         b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"100-continue", b"\r\n\r\n", b"\n", b"\r", b"\t", b":",
         b"A" * 5000, b"[" * 300, b"{\"a\":" * 40, b"0," * 500, b"HTTP/1.1", b"HTTP/0.9", b"HTTP/9.9"]
HEADERS = [b"Content-Length: 10", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
           b"Host: y", b"Expect: 100-continue", b"Inference-Header-Content-Length: 5", b"Connection: close",
           b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Type: x", b" folded: 1", b"no colon", b": no name",
           b"Content-Length : 3", b"Inference-Header-Content-Length: -5", b"X: " + b"y" * 3000]


def start(work):
    subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock",
                 "serve.http_timeout_s=1", f"serve.http_connections={4 * WORKERS}", "serve.http_body_kb=64",
                 "log.level=error"):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


def post(model, text, more=b"", raw=b""):
    head = b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n"
    return head % (model, more, len(text) + len(raw)) + text + raw


def corpus(folder):
    """Good requests, and the model's bits of the first two."""
    about = json.load(open(f"{folder}/bundle.json", encoding="utf-8"))
    name, steps, inputs = about["name"].encode(), about["shape"]["steps"], about["shape"]["inputs"]
    rows = open(f"{folder}/windows.f32", "rb").read()[:4 * steps * inputs]
    numbers = struct.unpack(f"<{steps * inputs}f", rows)
    tensor = {"name": "window", "shape": [1, steps, inputs], "datatype": "FP32"}
    text = json.dumps({"id": "a", "inputs": [{**tensor, "data": numbers}]}).encode()
    half = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(rows)}}], "outputs": [
        {"name": "probabilities", "parameters": {"binary_data": True}}]}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (text[:100], text[100:])) + b"0\r\n\r\n"
    chunked = b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % name
    chunked += chunks
    gets = [b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in (
        b"/metrics", b"/v2", b"/v2/health/ready", b"/v2/models/" + name)]
    good = [post(name, text), post(name, half, b"Inference-Header-Content-Length: %d\r\n" % len(half), rows), chunked]
    streams = [b"POST /outcry/streams/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (
        path, len(body), body) for path, body in (
            (b"a", b'{"universe":[{"symbol":"GOOG","tick":"0.0001","lot":"1"}],"begins":true,"period_ns":1000000}'),
            (b"a/events", struct.pack("<qqQQIHBBBB6x5q", 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 5, 6, 4, 5, 9) * 3))]
    return good + gets + streams, open(f"{folder}/answers.f32", "rb").read()[:12 * len(about["labels"])]


def mutate(request):
    data = bytearray(request)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        at, kind = draw.randrange(len(data) + 1), draw.randrange(9)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:at] = draw.choice(NASTY)
        elif kind == 2:
            del data[at:at + draw.choice((1, 2, 10, 200))]
        elif kind == 3:                               # a header more
            lines = [m.end() for m in re.finditer(b"\r\n", data[:300])] or [0]
            data[(place := draw.choice(lines)):place] = draw.choice(HEADERS) + b"\r\n"
        elif kind == 4:                               # a token replaced
            tokens = list(re.finditer(rb"[A-Za-z0-9_.+-]+", bytes(data[:2000])))
            if tokens:
                token = draw.choice(tokens)
                data[token.start():token.end()] = draw.choice(NASTY)
        elif kind == 5:                               # a part of it once more
            data[at:at] = data[at:at + draw.choice((3, 30, 300))]
        elif kind == 6:
            del data[at:]
        elif kind == 7:                               # a header's line out
            lines = [m.start() for m in re.finditer(b"\r\n", data[:300])]
            if len(lines) > 2:
                i = draw.randrange(1, len(lines) - 1)
                del data[lines[i]:lines[i + 1]]
        else:
            data[at:at + 4] = draw.randbytes(4)
    return bytes(data)


def whole(got):
    """Whether no answer has come in part."""
    while got:
        head, gap, got = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: (\d+)\r?$", head)
        if not gap or (length and len(got) < int(length.group(1))):
            return False
        got = got[int(length.group(1)):] if length else got
    return True


def exchange(port, data):
    """All that comes back until it is quiet behind a whole answer, or closed; (bytes, closed)."""
    got, closed, end = b"", False, time.monotonic() + 5
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for _ in range(draw.choice((1, 1, 1, 2, 5))):
                cut = draw.randrange(len(data) + 1)
                s.sendall(data[:cut])
                data = data[cut:]
            s.sendall(data)
            s.settimeout(0.03)
            while not closed:
                try:
                    part = s.recv(1 << 16)
                    got, closed = got + part, not part
                except socket.timeout:
                    if whole(got) or time.monotonic() > end:    # on a busy machine the rest comes later
                        break
        except OSError:
            closed = True
    return got, closed


def answers(got):
    """The statuses of well-formed answers in a row; asserts that each is one."""
    found = []
    while got:
        head, gap, rest = got.partition(b"\r\n\r\n")
        if re.match(rb"HTTP/1\.[01] 100 ", head):
            got = rest
            continue
        line = re.match(rb"HTTP/1\.[01] (\d{3}) [ -~]*", head)
        assert gap and line, got[:200]
        status = int(line.group(1))
        length = re.findall(rb"(?im)^content-length: (\d+)\r?$", head)
        assert status in STATUS and len(length) == 1, head
        body, got = rest[:int(length[0])], rest[int(length[0]):]
        assert len(body) == int(length[0]), (head, body)
        kind = re.findall(rb"(?im)^content-type: ([^\r]+)", head)
        if status != 200 and not kind:      # libmicrohttpd's own: it sends the head twice, and closes
            assert b"\nconnection: close" in head.lower(), head
            return found + [(status, b"", True)]
        if kind == [b"application/json"]:
            said = json.loads(body)
            assert status == 200 or list(said) == ["error"], said
            for out in said.get("outputs", []) if "model_name" in said else []:     # else: about the model
                triples = [out["data"][i:i + 3] for i in range(0, len(out["data"]), 3)]
                assert triples and all(abs(sum(p) - 1) < 1e-5 and min(p) >= 0 for p in triples), said
        found.append((status, body, b"\nconnection: close" in head.lower()))
    return found


def ask(port, request):
    """A good request by itself, however long it takes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(request)
        while not (head := re.search(rb"content-length: (\d+)[^\0]*?\r\n\r\n", got, re.I)) \
                or len(got) < head.end() + int(head.group(1)):
            part = s.recv(1 << 16)
            assert part, got
            got += part
    (answer,) = answers(got)
    return answer[:2]


def good_beside(port, requests, wanted):
    status, body = ask(port, requests[0])
    numbers = [n for out in json.loads(body)["outputs"] for n in out["data"]]
    assert status == 200 and struct.pack(f"<{len(numbers)}f", *numbers) == wanted, body
    status, body = ask(port, requests[1])
    assert status == 200 and body.endswith(wanted), body


def run(index):
    """One worker's share of one half; its own seed."""
    tried, refused, seen = 0, 0, {}
    port, requests, wanted = shared
    draw.seed(SEED * 1000 + index)
    while refused < -(-COUNT // (2 * WORKERS)):
        chosen = draw.choices(requests, k=draw.choice((1, 1, 3)))
        data = b"".join(mutate(request) if draw.random() < 0.8 else request for request in chosen)
        try:
            for status, _, last in (found := answers(exchange(port, data)[0])):
                seen[status] = seen.get(status, 0) + 1
            assert not any(last for _, _, last in found[:-1]), "an answer behind one that said it was the last"
            tried += 1
            refused += not found or any(status != 200 for status, _, _ in found)
            if tried % 20 == 0:
                good_beside(port, requests, wanted)
        except BaseException:
            print("the request was", data)
            raise
    return tried, refused, seen


def state(pid):
    """Resident KiB and descriptors."""
    return int(open(f"/proc/{pid}/statm", encoding="ascii").read().split()[1]) * 4, len(os.listdir(f"/proc/{pid}/fd"))


shared = None
with tempfile.TemporaryDirectory() as work:
    process, at = start(work)
    good, bits = corpus(f"{work}/b/0")
    good_beside(at, good, bits)
    shared, count, bad, statuses, states = (at, good, bits), 0, 0, {}, [state(process.pid)]
    for half in range(2):
        with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
            for tried, refused, seen in pool.map(run, range(half * WORKERS, (half + 1) * WORKERS), 1):
                count, bad = count + tried, bad + refused
                for status, n in seen.items():
                    statuses[status] = statuses.get(status, 0) + n
        assert process.poll() is None, process.returncode
        end = time.monotonic() + 30
        while state(process.pid)[1] > states[0][1] and time.monotonic() < end:
            time.sleep(0.1)
        states.append(state(process.pid))
    good_beside(at, good, bits)
    grown = states[2][0] - states[1][0]
    assert bad >= COUNT and statuses.get(400, 0) > 5 and statuses.get(200, 0) > 5, (count, statuses)
    assert states[2][1] <= states[0][1], f"descriptors {states}"
    # The address sanitizer keeps what is freed.
    assert not grown > 2048 or b"__asan_init" in open(OUTCRY, "rb").read(), f"resident KiB and descriptors {states}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
print(f"{count} requests, {bad} of them refused or closed: the server lives; the second half grew it by {grown} KiB, "
      f"descriptors {states[2][1]} of {states[0][1]} before; answers by status: {dict(sorted(statuses.items()))}, ok")
