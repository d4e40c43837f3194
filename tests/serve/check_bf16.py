"""`serve.dtype: bf16`: a version is let in where its answers stay near f32's, refused with the numbers where not, at
the start and when it is promoted; without instructions for bf16, and on another backend, the start is refused.
That the answers have the bits of `outcry predict --dtype bf16` is check_equal.py's.

usage: check_bf16.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def command(*sets):
    own = [f"serve.repository={work}/models", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "backend=cpu",
           "serve.dtype=bf16"]
    return [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml", *[t for pair in [*own, *sets] for t in ("--set", pair)]]


def refused(code, *sets, **environment):
    done = subprocess.run(command(*sets), capture_output=True, text=True, timeout=60,
                          env={**os.environ, **environment})
    assert done.returncode == code, (done.returncode, done.stderr)
    return done.stderr


def models(*arguments, code=0):
    done = subprocess.run([OUTCRY, "models", *arguments, "--repository", f"{work}/models", "--json"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) if code == 0 else done.stderr


class Server:
    """A server that has started; what its log and its metrics say."""

    def __init__(self, *sets):
        self.process = subprocess.Popen(command(*sets), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(self.process)
        self.ready = self.process.stdout.readline()
        assert self.ready.startswith("ready"), self.process.stderr.read()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", self.ready).group(1))

    def metric(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics")
        return float(re.search(rf"^{name} (\S+)$", connection.getresponse().read().decode(), re.M).group(1))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=15)[1]
        assert self.process.returncode == 0, said
        return said


doctor = subprocess.run([OUTCRY, "doctor", "--json"], capture_output=True, text=True, timeout=60, check=True).stdout
with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/models", "repository"], check=True)
    models("promote", "sample/1")
    said = refused(78, OUTCRY_ISA="avx2")       # an instruction set that has no bf16: in words, with what to do
    assert "avx2, not avx512_bf16" in said and "set serve.dtype to f32" in said, said
    said = refused(78, "backend=auto")
    assert "set backend to cpu" in said, said
    if "avx512_bf16" not in json.loads(doctor.splitlines()[-1])["features"]:
        assert "not avx512_bf16" in refused(78)
        print("skipped behind the refusals: this machine has no avx512_bf16")
        sys.exit(77)

    found = {}
    for version in ("1", "2", "3"):             # the figure of each, as the log and the metrics have it
        models("promote", f"sample/{version}")
        server = Server()
        assert "avx512_bf16 in bf16" in server.ready, server.ready
        found[version] = server.metric("outcry_bf16_difference")
        said = server.stop()
        assert f"version {version} in bf16: probabilities within {found[version]:.3g} of f32's" in said, said
        assert 0 < found[version] <= 0.01, found
    least, *more = sorted(found, key=found.get)
    bound = (found[least] + found[more[0]]) / 2

    models("promote", f"sample/{more[0]}")
    said = refused(65, f"serve.bf16_difference_max={bound}")
    assert f"differ from f32's by up to {found[more[0]]:.3g}" in said, said
    models("promote", f"sample/{least}")
    server = Server(f"serve.bf16_difference_max={bound}")
    before = server.metric("outcry_model_refusals_total")
    said = models("promote", f"sample/{more[0]}", "--server", f"{work}/s.sock", code=65)
    assert f"differ from f32's by up to {found[more[0]]:.3g}" in said and "serve.bf16_difference_max" in said, said
    assert server.metric("outcry_model_refusals_total") == before + 1
    shown = models("show", f"sample/{least}", "--server", f"{work}/s.sock")
    assert shown["server"]["live"]["version"] == least, shown
    assert abs(shown["server"]["live"]["bf16_difference"] - found[least]) < 1e-8, shown
    server.stop()

    plain = subprocess.run(command("serve.dtype=f16"), capture_output=True, text=True, timeout=60)
    assert plain.returncode == 78 and "serve.dtype" in plain.stderr, plain.stderr
print(f"bf16 within {max(found.values()):.2g} of f32; refused at {bound:.2g}, on avx2, and on another backend")
