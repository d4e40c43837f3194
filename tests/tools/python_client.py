"""The Python client as its users get it: the wheel is written, installed into a folder of its own, imported from there.
Windows and pushed rows have the bits of the model's own answers, also where the server is killed and started anew in
between; errors are exceptions with the library's message; layouts are those of the C headers; the README's three lines
run. Then the example that posts bars over HTTP: its answers are those of whole windows.

usage: python_client.py OUTCRY SOURCE MAKE_BUNDLE CLIENT_LIBRARY VERSION
"""
import atexit
import json
import os
import re
import subprocess
import sys
import tempfile

if os.environ.get("OUTCRY_PYTHON") and "--here" not in sys.argv:
    os.execv(os.environ["OUTCRY_PYTHON"], [os.environ["OUTCRY_PYTHON"], "-B", *sys.argv, "--here"])
try:
    import numpy as np
    import pip  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing.name} is not there (OUTCRY_PYTHON names another Python)")
    sys.exit(77)

OUTCRY, SOURCE, MAKE_BUNDLE, LIBRARY, VERSION = sys.argv[1:6]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work, bundle):
    """(process, HTTP port)"""
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={bundle}", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", "serve.sessions=6",
                 "log.level=warn"):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


def install(work):
    script = f"{SOURCE}/tools/python/wheel.py"
    wheels = [subprocess.run([sys.executable, "-B", script, VERSION, LIBRARY, f"{work}/{name}"], check=True,
                             capture_output=True, text=True).stdout.strip() for name in "ab"]
    assert open(wheels[0], "rb").read() == open(wheels[1], "rb").read(), "two wheels of the same files differ"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir",
                    "--disable-pip-version-check", "--target", f"{work}/site", wheels[0]], check=True)
    os.environ.pop("OUTCRY_CLIENT_LIBRARY", None)
    sys.path.insert(0, f"{work}/site")
    import outcry
    assert outcry.__file__.startswith(work) and outcry.library_path() == f"{work}/site/outcry/liboutcry-client.so"
    return outcry


def layouts(outcry):
    """What the package repeats of the headers stands in them."""
    wire = open(f"{SOURCE}/serve/client/wire.h", encoding="utf-8").read()
    assert tuple(re.findall(r'X\(OC_REPLY_\w+, "(\w+)"', wire)) == outcry._library.STATES
    codes = re.findall(r"X\((OC_\w+), ", open(f"{SOURCE}/base/status.h", encoding="utf-8").read())
    for name in ("OK", "EUSAGE", "EDATA", "EAGAIN"):
        assert codes.index(f"OC_{name}") == getattr(outcry._library, name), name


def tensors(bundle, about):
    shape = about["shape"]
    windows = np.fromfile(f"{bundle}/windows.f32", "<f4").reshape(-1, shape["steps"], shape["inputs"])
    return windows, np.fromfile(f"{bundle}/answers.f32", "<f4").reshape(len(windows), -1, 3)


def same(answer, want):
    assert answer.ok and answer.probabilities.tobytes() == want.tobytes(), (answer, want)


def equal(outcry, work, server, bundle, about):
    windows, answers = tensors(bundle, about)
    steps, address = windows.shape[1], f"unix:{work}/s.sock"
    with outcry.open(address, symbol="EURUSD", period_s=0.01, timeout_s=60) as client:
        m = client.model
        assert (m.name, m.steps, m.inputs, m.horizons) == (about["name"], *windows.shape[1:], answers.shape[1]), m
        for window, want in zip(windows, answers):
            same(client.window(window), want)
        assert len({want.tobytes() for want in answers}) > 30, "a model that ignores its input would pass"
        for i in (3, 4, 5):                                                # pushed from a valid row on: run_length 1
            for k, row in enumerate(windows[i]):
                answer = client.push(row, k + 1)
                assert answer.ok == (k + 1 == steps) and (answer.ok or answer.state == "hold_short"), answer
                assert answer.ok or answer.hold == 1
            same(answer, answers[i])
        rows = np.concatenate(windows[6:8])
        for row in rows[:steps - 3]:                                       # the server dies in the middle of a window
            client.push(row)
        server.kill()
        server.wait()
        server, port = start(work, bundle)
        for row in rows[steps - 3:steps]:
            answer = client.push(row)
        assert client.connects == 2
        same(answer, client.window(rows[:steps]).probabilities)
        same(client.push(rows[steps].astype(np.float64)), client.window(rows[1:steps + 1]).probabilities)
    return server, port


def errors(outcry, work, server, windows):
    address, row = f"unix:{work}/s.sock", windows[0][0]

    def expect(kind, word, call, *arguments, **more):
        try:
            call(*arguments, **more)
        except kind as error:
            assert word in str(error), error
            return error
        raise AssertionError(f"no {kind.__name__}: {word}")

    with outcry.open(address, "GBPUSD") as client:
        expect(ValueError, "shape", client.push, row[:-1])
        expect(ValueError, "shape", client.window, windows[0][:-1])
        refused = expect(outcry.Refused, "refused_value", client.push, row * np.nan)
        assert refused.state == "refused_value" and client.push(row).state == "hold_short"
        client.close()
        expect(ValueError, "closed", client.push, row)
    with outcry.open(address) as client:
        expect(ValueError, "symbol", client.push, row)
    expect(ValueError, "schema", outcry.open, address, "X", schema=(1, 2))
    expect(outcry.TimedOut, "nobody", outcry.open, f"unix:{work}/nobody.sock", "X")
    expect(ValueError, "unix:PATH", outcry.open, "http://127.0.0.1", "X")
    os.environ["OUTCRY_CLIENT_LIBRARY"] = f"{work}/none.so"
    expect(outcry.LibraryError, "none.so", outcry.open, address)
    del os.environ["OUTCRY_CLIENT_LIBRARY"]
    with outcry.open(address, "GBPUSD", timeout_s=3) as client:
        server.kill()
        server.wait()
        expect(outcry.TimedOut, "s.sock", client.push, row)


def readme(work, row):
    text = open(f"{SOURCE}/tools/python/README.md", encoding="utf-8").read()
    lines = "".join(line[4:] + "\n" for line in text.split("\n\n")[1].splitlines())
    assert lines.count("\n") == 3 and "import outcry" in lines, lines
    exec(lines.replace("/tmp/outcry.sock", f"{work}/s.sock"), {"row": row})


def bars(port, bundle, about):
    """The example's process fed line by line; its rows, asked for as whole windows, give what it printed."""
    sys.path.insert(0, f"{SOURCE}/tools/python/examples")
    import bars_http
    assert about["shape"]["inputs"] == 5
    steps, draw, close, all_bars = about["shape"]["steps"], np.random.default_rng(3), 1.25, []
    for _ in range(2 * steps + 3):
        opened, close = close, close * float(np.exp(draw.normal(0, 0.5)))
        all_bars.append([opened, max(opened, close) * 1.01, min(opened, close) * 0.99, close,
                         float(draw.integers(0, 1000))])
    url = f"http://127.0.0.1:{port}"
    done = subprocess.run([sys.executable, "-B", bars_http.__file__, url, about["name"], "EURUSD"], text=True,
                          input="".join(",".join(map(repr, bar)) + "\n" for bar in all_bars), capture_output=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    said, rows = done.stdout.splitlines(), [bars_http.features(b, a) for a, b in zip(all_bars, all_bars[1:])]
    assert len(said) == len(rows)
    poster, seen = bars_http.Poster(url, about["name"], "x"), set()
    for i, line in enumerate(said):
        state, *numbers = re.match(r"(\w+) buy (\S+) sell (\S+) hold (\S+)", line).groups()
        assert state == ("ok" if i + 1 >= steps else "hold_short"), (i, line)
        if state != "ok":
            continue
        body = json.dumps({"inputs": [{"name": "window", "shape": [1, steps, 5], "datatype": "FP32",
                                       "data": sum(rows[i + 1 - steps:i + 1], [])}]}).encode()
        request = bars_http.urllib.request.Request(poster.url, body, {"Content-Type": "application/json"})
        want = json.load(bars_http.urllib.request.urlopen(request, timeout=30))["outputs"][0]["data"][:3]
        assert np.float32(numbers).tobytes() == np.float32(want).tobytes(), (line, want)
        seen.add(line)
    assert len(seen) > steps / 2, "a model that ignores its input would pass"


with tempfile.TemporaryDirectory() as work:
    work = os.path.realpath(work)
    subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
    outcry = install(work)
    layouts(outcry)
    abouts = {n: json.load(open(f"{work}/b/{n}/bundle.json", encoding="utf-8")) for n in (0, 1)}
    server, _ = start(work, f"{work}/b/0")
    server, _ = equal(outcry, work, server, f"{work}/b/0", abouts[0])
    windows = tensors(f"{work}/b/0", abouts[0])[0]
    readme(work, windows[0][0])
    errors(outcry, work, server, windows)
    server, port = start(work, f"{work}/b/1")
    bars(port, f"{work}/b/1", abouts[1])
    server.terminate()
    server.wait()
print("python client: the wheel's answers have the model's bits, over a killed server too; bars over HTTP likewise")
