"""A server on a GPU, emulated: rows pushed by gpu_path resident have the bits of whole windows; a resident kernel that
stops answering is left for recordings, with one line, the answers still exact; a GPU that answers nothing any more
makes the server not ready, every request is refused at once, and it still ends; wishes that cannot be met.

usage: check_gpu_path.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import http.client
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
EMULATION = f"{os.path.dirname(OUTCRY)}/liboutcry-cuda-emulation.so"
if not os.path.exists(EMULATION):
    print("skipped: no emulation in this build")
    sys.exit(77)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work, bundle, path, watchdog_ms, **environment):
    """(process, port, its log); port 0: it did not start"""
    command = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={bundle}", "backend=cuda", f"serve.gpu_path={path}",
                 f"serve.gpu_watchdog_ms={watchdog_ms}", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock",
                 "serve.sessions=2", "serve.batch_max=1", "serve.http_threads=1"):
        command += ["--set", pair]
    log = open(f"{work}/log", "w+", encoding="utf-8")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                               env={**os.environ, "OUTCRY_CUDA_MODULE": EMULATION, **environment})
    started.append(process)
    found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
    return process, int(found.group(1)) if found else 0, log


def said(log):
    log.seek(0)
    return log.read()


class Client:
    def __init__(self, port, about):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.name, self.inputs = about["name"], about["shape"]["inputs"]

    def get(self, path):
        self.connection.request("GET", path)
        reply = self.connection.getresponse()
        return reply.status, reply.read().decode()

    def ask(self, rows, parameters):
        """(status, document, probabilities)"""
        tensor = {"name": "window", "datatype": "FP32", "shape": [1, len(rows) // self.inputs // 4, self.inputs],
                  "data": struct.unpack(f"<{len(rows) // 4}f", rows)}
        self.connection.request("POST", f"/v2/models/{self.name}/infer",
                                json.dumps({"inputs": [tensor], "parameters": parameters}))
        reply = self.connection.getresponse()
        document = json.loads(reply.read())
        return reply.status, document, document["outputs"][0]["data"] if reply.status == 200 else None


def end(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, process.returncode


def exact(client, rows, steps, count):
    """Rows of one sequence: each full answer is that of its window, which the recordings of whole windows give."""
    full = set()
    for i in range(count):
        status, document, got = client.ask(rows[i], {"sequence_id": 3, "sequence_start": i == 0})
        assert status == 200, document
        if i + 1 < steps:
            assert document["parameters"]["state"] == "hold_short", document
            continue
        wanted = client.ask(b"".join(rows[i + 1 - steps:i + 1]), {})[2]
        assert got == wanted, (i, got, wanted)
        full.add(tuple(got))
    assert len(full) > (count - steps) / 2, "the comparison would not see a model that ignores its input"


def lost(work, bundle, about, rows):
    """Questions at the device from the Nth on find it busy: so many that the start is behind it."""
    for questions in (1000, 4000, 16000):
        process, port, log = start(work, bundle, "graph", 200, OUTCRY_EMULATION_BUSY=str(questions))
        if port:
            break
    client = Client(port, about)
    assert client.get("/v2/health/ready")[0] == 200
    for i in range(questions):
        status, document, _ = client.ask(rows[i % len(rows)], {"sequence_id": 3, "sequence_start": i == 0})
        if status != 200:
            break
    assert status == 503 and document, document
    begin = time.monotonic()
    for _ in range(20):
        assert client.ask(rows[0], {"sequence_id": 3, "sequence_start": True})[0] == 503
    assert time.monotonic() - begin < 20, "refused only after a wait each"
    for path in ("/v2/health/ready", "/v2/health/live", f"/v2/models/{client.name}/ready"):
        status, text = client.get(path)
        assert status == 503 and "GPU answers no more" in text, (path, status, text)
    assert "outcry_batchers_lost 1" in client.get("/metrics")[1]
    end(process)
    text = said(log)
    assert "has not answered within 200.000 ms" in text and text.count("the GPU answers no more: not ready") == 1, text


def main():
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([MAKE_BUNDLE, work], check=True)
        bundle = f"{work}/1"
        about = json.load(open(f"{bundle}/bundle.json", encoding="utf-8"))
        steps, size = about["shape"]["steps"], 4 * about["shape"]["inputs"]
        data = open(f"{bundle}/windows.f32", "rb").read()
        rows = [data[i:i + size] for i in range(0, len(data), size)]
        process, port, log = start(work, bundle, "resident", 60000)
        assert port, said(log)
        exact(Client(port, about), rows, steps, 3 * steps)
        assert 'gpu_path resident"' in Client(port, about).get("/metrics")[1]
        end(process)
        assert "did not answer" not in said(log), said(log)
        process, port, log = start(work, bundle, "resident", 3000, OUTCRY_EMULATION_STALL="100")
        assert port, said(log)
        exact(Client(port, about), rows, steps, 3 * steps)
        assert Client(port, about).get("/v2/health/ready")[0] == 200
        end(process)
        assert said(log).count("all further ones go by gpu_path graph") == 1, said(log)
        lost(work, bundle, about, rows)
        command = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
        command += ["--set", "backend=cpu", "--set", "serve.gpu_path=resident"]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 78 and "serve.gpu_path" in refused.stderr, refused


main()
