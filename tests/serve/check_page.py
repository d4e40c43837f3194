"""The dashboard in Chromium, driven over a pipe by its own protocol: figures come alive, nothing is refused by the
page's policy or thrown, it fits 360 points, works by keys alone, light and dark; a server with a token asks for it.
Writes pictures where OUTCRY_PICTURES names a folder. Skips where there is no Chromium.

usage: check_page.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import base64
import http.client
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
SYMBOLS = ["AUDUSD", "BTCUSDT", "EURUSD", "GBPUSD", "GOOG", "USDJPY"]


def start(work, *sets):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", *sets):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started.append(process)
    return process, int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline()).group(1))


def traffic(port, about, stop, folder):
    """Pushes of six instruments, some windows, a refusal now and then."""
    steps, inputs, draw = about["shape"]["steps"], about["shape"]["inputs"], random.Random(7)
    data = open(f"{folder}/windows.f32", "rb").read()
    rows = [data[i:i + 4 * inputs] for i in range(0, len(data), 4 * inputs)]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def post(body, parameters):
        tensor = {"name": "window", "datatype": "FP32", "shape": [1, len(body) // inputs // 4, inputs],
                  "data": struct.unpack(f"<{len(body) // 4}f", body)}
        connection.request("POST", f"/v2/models/{about['name']}/infer",
                           json.dumps({"inputs": [tensor], "parameters": parameters}))
        connection.getresponse().read()

    for i in range(1 << 30):
        if stop.is_set():
            return
        symbol = SYMBOLS[i % len(SYMBOLS)]
        first = draw.randrange(len(rows) - steps)
        if i < len(SYMBOLS):
            post(b"".join(rows[first:first + steps]), {"sequence_id": symbol, "sequence_start": True})
        elif i % 50 == 0:
            post(rows[first], {"sequence_id": "nobody"})
        elif i % 7 == 0:
            post(b"".join(rows[first:first + steps]), {})
        else:
            post(rows[first], {"sequence_id": symbol})
        time.sleep(0.004)


class Browser:
    """Chromium's protocol over two pipes: messages of JSON, NUL behind each."""

    def __init__(self, folder):
        (there, self.out), (self.into, here) = os.pipe(), os.pipe()

        def pipes():
            os.dup2(there, 103)
            os.dup2(here, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--hide-scrollbars", f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pipes, close_fds=False)
        started.append(self.process)
        os.close(there)
        os.close(here)
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                part = os.read(self.into, 1 << 20)
                assert part, "Chromium has ended"
                self.rest += part
            text, _, self.rest = self.rest.partition(b"\0")
            said = json.loads(text)
            if said.get("id") == self.number:
                assert "error" not in said, (method, said)
                return said["result"]
            self.events.append(said)

    def run(self, script):
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, (script, said)
        return said["result"].get("value")

    def until(self, script, seconds=60):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"))
            time.sleep(0.2)

    def view(self, width, height, scheme, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def key(self, name, code):
        for kind in ("rawKeyDown", "char", "keyUp") if name == "Enter" else ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                      text="\r" if kind == "char" else "")

    def picture(self, name):
        if os.environ.get("OUTCRY_PICTURES"):
            data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
            with open(f"{os.environ['OUTCRY_PICTURES']}/{name}.png", "wb") as out:
                out.write(base64.b64decode(data))

    def faults(self):
        """What the page threw, logged as an error, or was refused."""
        return [event for event in self.events if event["method"] == "Runtime.exceptionThrown"
                or event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error"
                or event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning")]


def headers(port):
    for path, kind in (("/", "text/html"), ("/dashboard", "text/html"), ("/dashboard.css", "text/css"),
                       ("/dashboard.js", "text/javascript"), ("/chart.js", "text/javascript")):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:
            text, policy = reply.read().decode(), reply.headers["Content-Security-Policy"]
        assert reply.headers["Content-Type"].startswith(kind) and "default-src 'none'" in policy, path
        assert "unsafe" not in policy and "script-src 'self';" in policy and "style-src 'self';" in policy, policy
        assert kind != "text/html" or not re.search(r"<script(?![^>]*src=)|<style|style=|\son[a-z]+=", text), path


def attention(port):
    """Each head's attention is a distribution over the window's rows."""
    told = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/outcry/status", timeout=20))
    seats = {one["symbol"]: one["seat"] for one in told["instruments"]}
    assert set(SYMBOLS) | {"(windows)"} == set(seats), seats
    for seat in seats.values():
        said = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/outcry/attention?seat={seat}", timeout=20))
        assert said["attention"] and all(len(head) == told["steps"] and abs(sum(head) - 1) < 1e-4 and min(head) >= 0
                                         for head in said["attention"]), said
    for query, status in (("", 400), ("?seat=0", 400), ("?seat=x.y", 400), ("?seat=9.9", 404), ("?seat=0.99", 404),
                          ("?seat=-1.0", 400), ("?seat=99999999999.1", 400)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"/outcry/attention{query}")
        assert connection.getresponse().status == status, query


def figures(browser, port):
    browser.view(1080, 980, "light")
    browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
    browser.until("document.getElementById('state') && document.getElementById('state').textContent === 'live'")
    browser.until("polls.length >= 12")
    text = browser.run("document.body.innerText")
    for word in (*SYMBOLS, "p99.9", "sequence", "live", "answers a second"):
        assert word in text, (word, text)
    rate = browser.run("(answered(polls[polls.length - 1]) - answered(polls[0])) / "
                       "((polls[polls.length - 1].now_ns - polls[0].now_ns) / 1e9)")
    assert rate > 5, rate
    told = browser.run("percentile([0, 10, 0, 10], [1, 2, 4], 0.5)"), browser.run("percentile([4, 4], [8], 0.25)")
    assert told == (2, 4), told
    browser.picture("dashboard-light")
    drawn = browser.run("['latency', 'rate', 'instruments', 'attention'].map((id) => { const c = at(id); return "
                        "new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size; })")
    assert all(colours > 8 for colours in drawn), drawn


def narrow_and_dark(browser):
    for width, height, scheme, name in ((360, 900, "light", "narrow-light"), (1080, 980, "dark", "dashboard-dark"),
                                        (360, 900, "dark", "narrow-dark")):
        browser.view(width, height, scheme)
        browser.until("typeof polls !== 'undefined' && polls.length >= 4 "
                      "&& document.getElementById('state').textContent === 'live'")
        browser.until("document.documentElement.scrollWidth <= innerWidth", 20)        # nothing scrolls sideways
        time.sleep(1.2)                                                                # drawn anew in its colours
        browser.picture(name)


def keys(browser):
    """Tab reaches everything that can be used; Enter works it."""
    browser.run("document.activeElement.blur()")
    reached = []
    for _ in range(9):
        browser.key("Tab", 9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.className"))
    assert reached[:8] == ["skip", "pause", "horizon", "scroll", "seat", "scroll", "scroll", "scroll"], reached
    browser.run("document.getElementById('pause').focus()")
    browser.key("Enter", 13)
    assert browser.run("paused && document.getElementById('pause').getAttribute('aria-pressed') === 'true'")
    browser.key("Enter", 13)
    assert not browser.run("paused")


def restarted(browser, work, server, port):
    """A server that is started again begins its counters anew: so does the page, and nothing is negative."""
    began = browser.run("polls[0].start_ns")
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    browser.until("at('state').classList.contains('bad')")
    server, _ = start(work, f"serve.http=127.0.0.1:{port}")
    browser.until(f"at('state').textContent === 'live' && polls.length > 1 && polls[0].start_ns > {began}")
    assert browser.run("polls.every((poll) => poll.start_ns === polls[0].start_ns)")
    assert browser.run("charts.rate.data.datasets[0].data.every((rate) => rate >= 0)")
    return server


def refused_tokens(port, right):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {right}"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return int(re.search(r'outcry_http_refusals_total\{reason="token"\} (\d+)', reply.read().decode())[1])


def token(browser, work):
    path = f"{work}/token"
    with open(path, "w", encoding="utf-8") as out:
        out.write("a-token-of-the-page")
    os.chmod(path, 0o600)
    server, port = start(work, f"serve.token_file={path}")
    browser.events.clear()
    browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
    browser.until("document.getElementById('door') && !document.getElementById('door').hidden")
    for asked, word in ((1, "a-token-of-another"), (2, "a-token-of-the-page")):
        time.sleep(2.5)                                     # a page at the door does not go on asking: it is no alarm
        assert refused_tokens(port, "a-token-of-the-page") == asked
        assert browser.run("document.activeElement.id") == "token" and not browser.run("sessionStorage.length")
        browser.call("Input.insertText", text=word)
        browser.key("Enter", 13)
        if asked == 1:
            browser.until("!document.getElementById('door').hidden && !document.getElementById('token').value")
            browser.until("at('state').classList.contains('bad')")
    browser.until("document.getElementById('state').textContent === 'live' && document.getElementById('door').hidden")
    assert not browser.run("document.cookie") and "a-token" not in browser.run("document.documentElement.outerHTML")
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


def main():
    with tempfile.TemporaryDirectory() as work:
        subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
        about = json.load(open(f"{work}/b/0/bundle.json", encoding="utf-8"))
        server, port = start(work)
        headers(port)
        stop = threading.Event()
        thread = threading.Thread(target=traffic, args=(port, about, stop, f"{work}/b/0"), daemon=True)
        thread.start()
        time.sleep(1)
        attention(port)
        if not CHROMIUM:
            stop.set()
            print("skipped: the page itself, as chromium is not there; its files, policy and attention hold")
            return 77
        browser = Browser(f"{work}/profile")
        figures(browser, port)
        narrow_and_dark(browser)
        keys(browser)
        assert not browser.faults(), browser.faults()[:3]
        stop.set()
        thread.join()
        server = restarted(browser, work, server, port)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        token(browser, work)
        browser.process.kill()
        browser.process.wait()
    print("the dashboard lives: light, dark, narrow, by keys, with a token; nothing refused by its policy")
    return 0


sys.exit(main())
