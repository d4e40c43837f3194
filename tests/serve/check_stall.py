"""A batcher that stands still (its thread alone is held, by ptrace, as a call that never returns would): behind
serve.stall_s the health checks say 503, the log names it, and /metrics counts it; when it goes on, all is as before and
what waited is answered. An idle server, and one that computes, has not stalled.

usage: check_stall.py OUTCRY MAKE_BUNDLE CLIENT_LIBRARY SOURCE
"""
import atexit
import ctypes
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from ring_client import Client, OK

OUTCRY, MAKE_BUNDLE, LIBRARY, SOURCE = sys.argv[1:5]
ATTACH, DETACH, PATIENCE_S = 16, 17, 30
HEALTH = ("/v2/health/live", "/v2/health/ready", "/v2/models/sample/ready")
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def thread_of(pid, name):
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="ascii") as comm:
            if comm.read().strip() == name:
                return int(task)
    raise AssertionError(f"no thread {name}")


def get(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE_S) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def await_codes(address, code):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answers = [get(address, path) for path in HEALTH]
        if all(status == code for status, _ in answers):
            return [text for _, text in answers]
        time.sleep(0.05)
    raise AssertionError((code, answers))


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True, stdout=subprocess.DEVNULL)
    command = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "serve.stall_s=3",
                 "serve.queue_max_us=0"):
        command += ["--set", pair]
    with open(f"{work}/log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    started.append(server)
    at = re.search(r"http://(127\.0\.0\.1:\d+)", server.stdout.readline()).group(1)
    client = Client(LIBRARY, f"{work}/s.sock")
    count = client.model.steps * client.model.inputs
    window = struct.pack(f"<{count}f", *[0.5] * count)
    time.sleep(3.5)                                 # idle for longer than serve.stall_s
    await_codes(at, 200)
    assert "\noutcry_batchers_stalled 0\n" in get(at, "/metrics")[1]
    thread = thread_of(server.pid, "batcher-0")
    if libc.ptrace(ATTACH, thread, None, None) != 0:
        print(f"skipped: ptrace: {os.strerror(ctypes.get_errno())}")
        sys.exit(77)
    os.waitpid(thread, 0x40000000)                  # __WALL
    assert client.window(1, window)
    said = await_codes(at, 503)
    assert all("a batcher has ended no round" in json.loads(text)["error"] for text in said), said
    assert "\noutcry_batchers_stalled 1\n" in get(at, "/metrics")[1]
    assert libc.ptrace(DETACH, thread, None, None) == 0
    await_codes(at, 200)
    assert [state for _, _, state, _, _ in client.replies(wait_ns=PATIENCE_S * 10**9)] == [OK]
    assert "\noutcry_batchers_stalled 0\n" in get(at, "/metrics")[1]
    client.close()
    server.terminate()
    assert server.wait(PATIENCE_S) == 0
    with open(f"{work}/log", encoding="utf-8") as log:
        text = log.read()
    assert text.count("batcher 0 has not ended a round for ") == text.count("batcher 0 goes on") == 1, text
print("a batcher that stands still is seen, and when it goes on")
