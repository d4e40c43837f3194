"""The server with one model of shape S (2 x 64, windows of 100 x 40, 4 heads) and eight sessions in use, rings and HTTP
at work: the process's peak of resident memory stays below 96 MB, and does not grow with the requests.

usage: check_memory.py OUTCRY MAKE_BUNDLE CLIENT_LIBRARY SOURCE
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

from ring_client import Client, HISTORY, OK, PUSH, WINDOW

OUTCRY, MAKE_BUNDLE, LIBRARY, SOURCE = sys.argv[1:5]
LIMIT, SESSIONS, STEPS, INPUTS = 96 * 1000 * 1000, 8, 100, 40
draw = random.Random(7)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def peak(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1))


def numbers(count):
    return struct.pack(f"<{count}f", *(draw.uniform(-2, 2) for _ in range(count)))


def rings(path, rows):
    """A history and rows for each of eight sessions, windows in between; all of them are answered."""
    client, answers = Client(LIBRARY, path), {HISTORY: 0, PUSH: 0, WINDOW: 0}

    def take():
        for kind, _, state, _, _ in client.replies():
            assert state == OK, (kind, state)
            answers[kind] += 1

    def insist(send, *arguments):
        while not send(*arguments):
            take()

    window = numbers(STEPS * INPUTS)
    sessions = [client.session(f"S{i}") for i in range(SESSIONS)]
    for session in sessions:
        insist(client.history, session, 1, window, STEPS)
    for i in range(rows):
        for session in sessions:
            insist(client.push, session, 2 + i, window[4 * INPUTS * i:][:4 * INPUTS], STEPS + 1 + i)
        insist(client.window, i, window)
    while answers != {HISTORY: SESSIONS, PUSH: rows * SESSIONS, WINDOW: rows}:
        take()
    client.close()


def requests(port, count):
    """Batches of 16 windows as binary, of one as JSON, over connections of their own."""
    for i in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        batch = 1 if i % 2 else 16
        rows = numbers(batch * STEPS * INPUTS)
        tensor = {"name": "window", "shape": [batch, STEPS, INPUTS], "datatype": "FP32"}
        if i % 2:
            body = json.dumps({"inputs": [{**tensor, "data": struct.unpack(f"<{len(rows) // 4}f", rows)}]}).encode()
            headers = {}
        else:
            tensor["parameters"] = {"binary_data_size": len(rows)}
            text = json.dumps({"inputs": [tensor]}).encode()
            body, headers = text + rows, {"Inference-Header-Content-Length": str(len(text))}
        connection.request("POST", "/v2/models/sample/infer", body, headers)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        reply.read()
        connection.close()


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/b", "S"], check=True)
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/S", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock",
                 f"serve.sessions={SESSIONS}"):
        arguments += ["--set", pair]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(server)
    at = int(re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline()).group(1))
    peaks = [peak(server.pid)]
    for _ in range(3):
        rings(f"{work}/s.sock", 60)
        requests(at, 12)
        peaks.append(peak(server.pid))
    said = ", ".join(f"{p / 1e6:.1f}" for p in peaks)
    assert max(peaks) < LIMIT, f"peak of resident memory, MB: {said}"
    assert peaks[3] - peaks[2] < 1 << 20, f"it grows with the requests: {said}"
    server.terminate()
    assert server.wait(60) == 0
print(f"peak of resident memory at start and after each of three rounds, MB: {said}")
