"""A server with `backend: cuda` on two emulated GPUs, a batcher on each: pushed rows and whole windows have the same
bits, on either GPU, before and behind a change of the version, and lie within 1e-5 of the CPU's; what it says of
itself; wishes that cannot be met. The emulation refuses a launch by a thread that stands on another GPU than its
stream, as the runtime does.

usage: check_gpus.py OUTCRY MAKE_BUNDLE CLIENT_LIBRARY SOURCE
"""
import atexit
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import urllib.request

from ring_client import Client, HOLD_SHORT, OK, PUSH, WINDOW

OUTCRY, MAKE_BUNDLE, LIBRARY, SOURCE = sys.argv[1:5]
EMULATION = f"{os.path.dirname(OUTCRY)}/liboutcry-cuda-emulation.so"
ROWS, NEAR = 10, 1e-5
GPUS = ("backend=cuda", "threads=2", "serve.gpus=1,0", "serve.spin_us=0")
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
if not os.path.exists(EMULATION):
    print("skipped: no emulation in this build")
    sys.exit(77)
environment = {**os.environ, "OUTCRY_CUDA_MODULE": EMULATION, "OUTCRY_EMULATION_DEVICES": "2"}


def command(work, *pairs):
    sets = ("serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", f"serve.repository={work}/models",
            "serve.model=sample")
    return [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *(t for p in (*sets, *pairs) for t in ("--set", p))]


def serve(work, *pairs):
    server = subprocess.Popen(command(work, *pairs), stdout=subprocess.PIPE, text=True, env=environment)
    started.append(server)
    said = server.stdout.readline()
    return server, said, re.search(r"http://(127\.0\.0\.1:\d+)", said).group(1)


def ask(client, rows):
    """The answers to pushed rows and to the windows that end in the same rows; versions that gave them."""
    steps, width = client.model.steps, 4 * client.model.inputs
    session, pushed, whole, versions = client.session("S"), {}, {}, set()
    for i in range(len(rows) // width):
        assert client.push(session, i + 1, rows[width * i:width * (i + 1)], i + 1)
        if i + 1 >= steps:
            assert client.window(i + 1, rows[width * (i + 1 - steps):width * (i + 1)])
        wanted = 2 if i + 1 >= steps else 1
        while wanted:
            for kind, _, state, sequence, answer, version in client.replies(named=True):
                short = kind == PUSH and sequence < steps
                assert state == (HOLD_SHORT if short else OK), (kind, state, sequence)
                versions.add(version)
                wanted -= 1
                if state == OK:
                    {PUSH: pushed, WINDOW: whole}[kind][sequence] = answer
    assert pushed == whole and len(pushed) == ROWS, (len(pushed), len(whole))
    assert len(versions) == 1, versions
    return versions.pop(), pushed


def far(a, b):
    numbers = [struct.unpack(f"<{len(a[i]) // 4}f", x[i]) for i in a for x in (a, b)]
    return max(abs(p - q) for x, y in zip(numbers[::2], numbers[1::2]) for p, q in zip(x, y))


def promote(work, version, *more):
    subprocess.run([OUTCRY, "models", "promote", f"sample/{version}", "--repository", f"{work}/models", *more],
                   check=True, stdout=subprocess.DEVNULL)


def answers(work, rows, *pairs):
    """Of every batcher, by version: one client each, since clients are spread over them."""
    promote(work, 1)
    server, said, address = serve(work, *pairs)
    clients = [Client(LIBRARY, f"{work}/s.sock") for _ in range(2)]
    first = [ask(client, rows) for client in clients]
    promote(work, 2, "--server", f"{work}/s.sock")
    second = [ask(client, rows) for client in clients]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as page:
        metrics = page.read().decode()
    for client in clients:
        client.close()
    server.terminate()
    assert server.wait(30) == 0
    return said, metrics, first, second


def refused(work, words, *pairs):
    r = subprocess.run(command(work, *pairs), capture_output=True, text=True, env=environment, timeout=60)
    assert r.returncode in (1, 65, 78, 64) and words in r.stderr, (pairs, r.returncode, r.stderr)


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([MAKE_BUNDLE, f"{folder}/models", "repository"], check=True)
    with open(f"{folder}/models/sample/1/bundle.json", encoding="utf-8") as file:
        shape = json.load(file)["shape"]
    steps, inputs = shape["steps"], shape["inputs"]
    draw = random.Random(11)
    count = (steps - 1 + ROWS) * inputs
    rows = struct.pack(f"<{count}f", *(draw.uniform(-2, 2) for _ in range(count)))
    said, metrics, *gpu = answers(folder, rows, *GPUS)
    assert "(cuda emulation," in said and 'backend="cuda emulation"' in metrics, said
    _, _, *cpu = answers(folder, rows, "backend=cpu", "threads=2")
    for version, (on_gpu, on_cpu) in enumerate(zip(gpu, cpu), 1):
        assert [name for name, _ in on_gpu + on_cpu] == [str(version)] * 4, on_gpu
        assert on_gpu[0] == on_gpu[1] and on_cpu[0] == on_cpu[1], "two batchers, two answers"
        assert 0 <= far(on_gpu[0][1], on_cpu[0][1]) <= NEAR, far(on_gpu[0][1], on_cpu[0][1])
    assert gpu[0][0][1] != gpu[1][0][1], "both versions answer alike"
    refused(folder, "device 2; this machine has 2", *GPUS, "serve.gpus=0,2")
    refused(folder, "serve.gpus", "backend=cpu", "serve.gpus=0")
    refused(folder, "serve.gpus is", *GPUS, "serve.gpus=0,1,0")
print(f"{ROWS} windows on two GPUs and by two versions")
