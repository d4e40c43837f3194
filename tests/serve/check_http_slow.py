"""Slow clients in three modes beside good ones: heads that come byte by byte, bodies that do, and answers that nobody
reads. Good requests keep being answered with the model's own bits; the server closes every slow client in time (a byte
in a while does not prolong it), counts them, and holds no descriptor for them afterwards. 12 slow clients (1 % of the
whole count); with OUTCRY_FULL 1,000, and the p99 of good requests is held to twice its value without.

usage: check_http_slow.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import http.client
import json
import multiprocessing
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
FULL = bool(os.environ.get("OUTCRY_FULL"))
SLOW, TIMEOUT_S, DRIP_S = (1000, 10, 1.0) if FULL else (12, 3, 0.3)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "log.level=error",
                 f"serve.http_timeout_s={TIMEOUT_S}", f"serve.http_connections={SLOW + 100}",
                 f"serve.http_threads={2 + SLOW // 120}"):   # 120 connections each at most
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


def request_of(folder):
    about = json.load(open(f"{folder}/bundle.json", encoding="utf-8"))
    shape = [1, about["shape"]["steps"], about["shape"]["inputs"]]
    rows = open(f"{folder}/windows.f32", "rb").read()[:4 * shape[1] * shape[2]]
    tensor = {"name": "window", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": len(rows)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    head = (f"POST /v2/models/{about['name']}/infer HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(text) + len(rows)}\r\nInference-Header-Content-Length: {len(text)}\r\n\r\n").encode()
    return head, text + rows, open(f"{folder}/answers.f32", "rb").read()[:12 * len(about["labels"])]


class Slow:
    """One of the three modes: what is sent at once, and what drips behind it."""

    def __init__(self, port, mode, head, body):
        self.socket, self.since = socket.socket(), time.monotonic()
        if mode == 2:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.mode, self.ended = mode, None
        self.rest = head + body if mode == 0 else body if mode == 1 else b""
        at_once = (b"", head, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)[mode]
        self.socket.send(at_once)

    def drip(self):
        """A byte more, or a few read; notes when the server has ended it."""
        try:
            if self.mode < 2:
                self.rest = self.rest[self.socket.send(self.rest[:1]):]
                if self.socket.recv(4096) == b"":
                    self.ended = time.monotonic()
            elif self.socket.recv(16) == b"":
                self.ended = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            self.ended = time.monotonic()


def good(port, head, body, bits, seconds):
    """Times of good requests, one after another, in seconds, and answers that are none. A slow machine gets longer."""
    times, faults, end = [], [], time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), 30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < end or (len(times) <= 20 and time.monotonic() < end + 30):
            begun, got = time.monotonic(), b""
            s.sendall(head + body)
            while not got.endswith(bits):
                part = s.recv(65536)
                if not part:
                    return times, [*faults, got]
                got += part
            times.append(time.monotonic() - begun)
            if not got.startswith(b"HTTP/1.1 200"):
                faults.append(got)
            time.sleep(0.001)
    return times, faults


def p99(times):
    return sorted(times)[int(0.99 * len(times))]


def state(process, port):
    """Resident KiB, descriptors, the counter of slow clients."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    rss = int(open(f"/proc/{process.pid}/statm", encoding="ascii").read().split()[1]) * 4
    return rss, len(os.listdir(f"/proc/{process.pid}/fd")), int(re.search(r'reason="slow"\} (\d+)', text).group(1))


def main():
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
        server, port = start(work)
        head, body, bits = request_of(f"{work}/b/0")
        asking = multiprocessing.get_context("fork").Pool(1)    # the slow clients' Python holds nobody up
        alone, faults = asking.apply(good, (port, head, body, bits, 5 if FULL else 1))
        before = state(server, port)
        if FULL:                # slow clients have machines of their own elsewhere; on a busy one they would never run
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        slow = [Slow(port, i % 3, head, body) for i in range(SLOW)]
        watched = asking.apply_async(good, (port, head, body, bits, TIMEOUT_S))
        limit = TIMEOUT_S + 4 * DRIP_S + 20                   # generous: the machine may be busy
        open_now = lambda: len(os.listdir(f"/proc/{server.pid}/fd")) - before[1] - (not watched.ready())
        # Who does not read never sees the end, behind what the kernel holds for it: the server's descriptors tell.
        while (any(one.ended is None and one.mode < 2 for one in slow) or open_now() > 2) \
                and time.monotonic() - slow[-1].since < limit:
            for i, one in enumerate(slow):
                if one.ended is None:
                    one.drip()
                if i % 10 == 9:
                    time.sleep(DRIP_S * 10 / len(slow))         # not all at one instant
            time.sleep(DRIP_S / 10)
        beside, more = watched.get(60)
        faults += more
        asking.terminate()
        living = [one.mode for one in slow if one.ended is None and one.mode < 2]
        assert not living and open_now() <= 2, f"slow clients live after {limit} s: {open_now()}, by mode {living}"
        early = [one for one in slow if one.mode == 0 and one.ended - one.since < TIMEOUT_S - 0.5]
        assert not early, f"{len(early)} heads were cut before their time"
        assert not faults and len(beside) > 20, (faults[:2], len(beside))
        for one in slow:
            one.socket.close()
        end = time.monotonic() + 30
        after = state(server, port)
        while after[1] > before[1] + 2 and time.monotonic() < end:
            time.sleep(0.2)
            after = state(server, port)
        assert after[1] <= before[1] + 2, f"descriptors {before[1]} -> {after[1]}"
        assert after[2] - before[2] >= SLOW * 2 // 3, f"{after[2] - before[2]} slow clients counted of {SLOW}"
        ratio = p99(beside) / p99(alone)
        middle = [1e6 * sorted(times)[len(times) // 2] for times in (alone, beside)]
        print(f"{SLOW} slow clients beside {len(beside)} good requests: p50 {middle[0]:.0f} -> {middle[1]:.0f} us, "
              f"p99 {1e6 * p99(alone):.0f} -> {1e6 * p99(beside):.0f} us ({ratio:.2f} x); "
              f"resident {before[0]} -> {after[0]} KiB, {after[2] - before[2]} cut off, ok")
        assert not FULL or not ratio > 2, ratio
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


main()
