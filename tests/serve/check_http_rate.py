"""Inferences a second over HTTP: wrk with 32 connections on one thread, batch 1, binary tensors, one layer, H = 16,
T = 20, F = 8, 64 windows in turn; every answer is checked against the model's own bits by its id. One second, and any
rate; with OUTCRY_FULL ten seconds, three times, the best of which must be 20,000. Skips where wrk is not there.

usage: check_http_rate.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
FULL = bool(os.environ.get("OUTCRY_FULL"))
SECONDS, RUNS = (10, 3) if FULL else (1, 1)
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
LUA = """
local steps, inputs, windows = 20, 8, 64
local rows = io.open("FOLDER/windows.f32", "rb"):read("*a")
local bits = io.open("FOLDER/answers.f32", "rb"):read("*a")
local size, requests, wanted, next_one, threads = 4 * steps * inputs, {}, {}, 0, {}
wrong, answered = 0, 0
function setup(thread) table.insert(threads, thread) end
function init(args)
  for i = 0, windows - 1 do
    local json = string.format('{"id":"%d","inputs":[{"name":"window","shape":[1,%d,%d],"datatype":"FP32",' ..
      '"parameters":{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}', i, steps, inputs, size)
    requests[i] = wrk.format("POST", "/v2/models/sample/infer", {["Inference-Header-Content-Length"] = tostring(#json),
      ["Content-Type"] = "application/octet-stream"}, json .. rows:sub(i * size + 1, (i + 1) * size))
    wanted[i] = bits:sub(12 * i + 1, 12 * i + 12)
  end
end
function request()
  next_one = (next_one + 1) % windows
  return requests[next_one]
end
function response(status, headers, body)
  local id = body:match('"id":"(%d+)"')
  answered = answered + 1
  if status ~= 200 or not id or body:sub(-12) ~= wanted[tonumber(id)] then wrong = wrong + 1 end
end
function done(summary, latency, requests)
  local all, bad = 0, 0
  for _, thread in ipairs(threads) do all, bad = all + thread:get("answered"), bad + thread:get("wrong") end
  print(string.format("RESULT %d %d %.1f %.0f %.0f %d", all, bad, summary.requests / (summary.duration / 1e6),
    latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""


def main():
    if not shutil.which("wrk"):
        print("skipped: wrk is not there")
        return 77
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([MAKE_BUNDLE, f"{work}/b", "small"], check=True)
        with open(f"{work}/ask.lua", "w", encoding="utf-8") as out:
            out.write(LUA.replace("FOLDER", f"{work}/b/small"))
        arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
        for pair in (f"model.bundle={work}/b/small", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock"):
            arguments += ["--set", pair]
        server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        started.append(server)
        address = re.search(r"http://(127\.0\.0\.1:\d+)", server.stdout.readline()).group(1)
        best = 0
        for _ in range(RUNS):
            said = subprocess.run(["wrk", "-t1", "-c32", f"-d{SECONDS}s", "--timeout", "20s", "-s", f"{work}/ask.lua",
                                   f"http://{address}"], capture_output=True, text=True, check=True).stdout
            answered, wrong, rate, p50, p99, errors = re.search(
                r"RESULT (\d+) (\d+) ([\d.]+) (\d+) (\d+) (\d+)", said).groups()
            assert int(answered) > 20 and int(wrong) == 0 and int(errors) == 0, said
            print(f"{answered} answers with the model's bits, {float(rate):.0f} a second, p50 {p50} us, p99 {p99} us, "
                  "ok")
            best = max(best, float(rate))
        assert not FULL or best >= 20000, f"{best} inferences a second"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    return 0


sys.exit(main())
