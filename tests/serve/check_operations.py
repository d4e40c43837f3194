"""docs/operations.md: its sh blocks are one script that is run as it stands, with what each must have done looked at
behind it; every alert of tools/deploy has its heading there and no other; its table of sessions is the formula above
it; keys, files, tests and metrics that it names are there. And the health check of tools/deploy/Dockerfile against the
server.

usage: check_operations.py OUTCRY MAKE_BUNDLE SOURCE
"""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

OUTCRY, MAKE_BUNDLE, SOURCE = (os.path.abspath(path) for path in sys.argv[1:4])
PATIENCE_S = 120
ADVANCE_US, PERIOD_US, BUDGET = (105, 412, 1628), {"1 s": 1e6, "100 ms": 1e5, "10 ms": 1e4}, 0.7
# Behind each block; $HEALTH is the Dockerfile's check with our port.
LOOKS = {
    "start": 'bash -c "$HEALTH"; if bash -c "${HEALTH//ready/steady}"; then exit 9; fi',
    "tokens": "grep -q '^outcry_advance_budget_used ' metrics && grep -q token answer",
    "models": "grep -q '\"report\"' report && outcry models list --repository $MODELS --server $SOCKET --json >now",
    "rollback": "true",
    "drain": "test ! -e $SOCKET; if bash -c \"$HEALTH\" 2>/dev/null; then exit 9; fi",
    "kill": "grep -q '^outcry_sessions 0' metrics",
}


def read(path):
    with open(f"{SOURCE}/{path}", encoding="utf-8") as text:
        return text.read()


def live(path):
    return json.loads(open(path, encoding="utf-8").read().splitlines()[-1])["server"]["live"]["version"]


def alarms(text):
    return re.findall(r"^### (\w+)$", text, re.M)


def text_faults(text):
    rules = re.findall(r"- alert: (\w+)", read("tools/deploy/prometheus-alerts.yaml"))
    if sorted(alarms(text)) != sorted(rules):
        yield f"alarms without a heading, or headings without an alarm: {sorted(set(alarms(text)) ^ set(rules))}"
    for name in alarms(text):
        if len(re.search(rf"### {name}\n(.*?)(?=\n###|\Z)", text, re.S)[1]) < 60:
            yield f"{name}: what to do?"
    for period, *cells in re.findall(r"^\| (\d+ m?s) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", text, re.M):
        for us, cell in zip(ADVANCE_US, cells):
            if int(cell.replace(",", "")) != int(BUDGET * PERIOD_US[period] / us):
                yield f"a session every {period} with advances of {us} us: {cell}"
    keys = set(re.findall(r"^  (\w+):", read("configs/serve.yaml"), re.M))
    bare = re.sub(r"`serve\.(activation|operations|swap_load)`|outcry-serve\.\S+|serve\.yaml", "", text)
    for key in re.findall(r"serve\.([a-z_]+)", bare):
        if key not in keys:
            yield f"no key serve.{key}"
    for path in re.findall(r"`(tools/deploy/[\w.-]+|configs/\w+\.yaml)`", text):
        if not os.path.exists(f"{SOURCE}/{path}"):
            yield f"no file {path}"
    for name in re.findall(r"`(?:serve)\.(activation|operations|swap_load)`", text):
        if not os.path.exists(f"{SOURCE}/tests/serve/check_{name}.py"):
            yield f"no test {name}"
    metrics = read("serve/metrics.c") + read("serve/http/reports.c")
    yield from (f"no metric {name}" for name in re.findall(r"`(outcry_\w+)`", text) if f'"{name}"' not in metrics)


def script(text):
    blocks = re.findall(r"^```sh (\w+)\n(.*?)^```$", text, re.M | re.S)
    assert [name for name, _ in blocks] == list(LOOKS), "the blocks, and what is looked at behind them"
    lines = ["set -euo pipefail"]
    for name, block in blocks:
        lines += [f"echo at {name} >&2", block, LOOKS[name]]
    return "\n".join(lines).replace("gbp/6", "sample/1").replace("gbp/7", "sample/2").replace("gbp", "sample")


def port_free():
    """Below those that the kernel gives to connections, as the server is down in between and must have it again."""
    while True:
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port := random.randrange(20000, 32000)))
                return port
            except OSError:
                pass


def run(work, text):
    subprocess.run([MAKE_BUNDLE, f"{work}/models", "repository"], check=True)
    port = port_free()
    health = re.search(r'HEALTHCHECK .*?CMD \["bash", "-c", (".*")\]$', read("tools/deploy/Dockerfile"), re.M)[1]
    health = json.loads(health).replace("/8000", f"/{port}")
    os.mkdir(f"{work}/bin")
    os.symlink(OUTCRY, f"{work}/bin/outcry")
    environment = {**os.environ, "PATH": f"{work}/bin:{os.environ['PATH']}", "MODELS": f"{work}/models",
                   "SOCKET": f"{work}/s.sock", "ADDRESS": f"127.0.0.1:{port}", "CONFIG": f"{SOURCE}/configs/serve.yaml",
                   "HEALTH": health}
    with open(f"{work}/said", "w+", encoding="utf-8") as said:      # no pipe: a server left behind would hold it open
        shell = subprocess.Popen(["bash", "-c", script(text)], cwd=work, env=environment, start_new_session=True,
                                 stdout=said, stderr=subprocess.STDOUT)
        try:
            shell.wait(PATIENCE_S)
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        said.seek(0)
        told = said.read()
    log = open(f"{work}/server.log", encoding="utf-8").read() if os.path.exists(f"{work}/server.log") else ""
    assert shell.returncode == 0, f"{told}\n{log}"
    assert live(f"{work}/now") == "2" and live(f"{work}/list") == "1"


missing = [name for name in ("bash", "curl", "openssl") if not shutil.which(name)]
if missing:
    print(f"skipped: {' '.join(missing)} is not there")
    sys.exit(77)
page = read("docs/operations.md")
faults = list(text_faults(page))
assert not faults, "\n".join(faults)
for right, wrong in (("### OutcryDrift\n", ""), ("| 6,666 |", "| 6,667 |"), ("`serve.pin`", "`serve.pins`"),
                     ("kubernetes.yaml", "cluster.yaml"), ("`outcry_sessions`", "`outcry_session`")):
    assert right in page and list(text_faults(page.replace(right, wrong, 1))), ("not found:", right, wrong)
with tempfile.TemporaryDirectory() as folder:
    run(folder, page)
print(f"{len(LOOKS)} blocks run, {len(alarms(page))} alarms")
