"""Tokens and TLS: a server that everybody reaches starts only with both; files that others may read are refused; who
has no token, or the wrong one, or that of model control, gets 401 before anything of the body is read, and with the
right one the answers are the same bits. A certificate that does not hold now is refused, one that ends soon warned of,
and a metric says when. A canary token is looked for in all that the server prints, serves and shows of
itself. TLS by a certificate that this test makes with openssl.

usage: check_secrets.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import calendar
import http.client
import json
import os
import re
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

from certificate import certificate, dated, end_of

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


class Server:
    def __init__(self, work, *sets):
        arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
        for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock",
                     "log.level=debug", "log.format=json", "serve.http_timeout_s=3", *sets):
            arguments += ["--set", pair]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(self.process)
        self.said, self.log = self.process.stdout.readline(), []
        found = re.search(r"on (https?)://(\[[^]]*\]|[0-9.]+):(\d+)", self.said)
        self.scheme, self.port = (found.group(1), int(found.group(3))) if found else (None, None)
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.reader.join()
        return code, "".join(self.log)


def refused(work, word, *sets):
    server = Server(work, *sets)
    code, log = server.stop()
    last = json.loads(log.splitlines()[-1])["message"] if log.startswith("{") else log
    assert code == 78 and server.port is None and word in log, (sets, code, server.said, log)
    return last


def secret(work, name, text, mode=0o600):
    with open(f"{work}/{name}", "w", encoding="utf-8") as out:
        out.write(text)
    os.chmod(f"{work}/{name}", mode)
    return f"{work}/{name}"


def starts(work, token, control):
    """What must not start, each with the key that is wrong in its message and never what the file holds."""
    said = [refused(work, word, "serve.http=0.0.0.0:0", *sets) for word, sets in (
        ("serve.token_file and serve.tls_cert", ()), ("serve.tls_cert", (f"serve.token_file={token}",)),
        ("serve.token_file", ("serve.proxy=declared",)),
        ("serve.tls_key", (f"serve.token_file={token}", f"serve.tls_cert={work}/cert.pem")))]
    said.append(refused(work, "serve.token_file", "serve.http=[::]:0"))
    opened = secret(work, "open", secrets.token_hex(16), 0o644)
    for word, path in (("0600", opened), ("16 to 255", secret(work, "short", "abc")), ("is not a file", work),
                       ("16 to 255", secret(work, "blank", "a" * 20 + " b")), ("No such file", f"{work}/none"),
                       ("16 to 255", secret(work, "lines", "a" * 20 + "\nb")),
                       ("larger", secret(work, "long", "a" * 5000))):
        said.append(refused(work, word, f"serve.token_file={path}"))
        assert "serve.token_file" in said[-1], said
    said.append(refused(work, "must differ", f"serve.token_file={token}", f"serve.control_token_file={token}"))
    assert all(open(path, encoding="utf-8").read().strip() not in "".join(said) for path in (token, control, opened))


def call(connection, method, path, token=None, body=None, headers=None):
    headers = dict(headers or {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.read(), reply.headers


def window(work):
    about = json.load(open(f"{work}/b/0/bundle.json", encoding="utf-8"))
    shape = [1, about["shape"]["steps"], about["shape"]["inputs"]]
    rows = open(f"{work}/b/0/windows.f32", "rb").read()[:4 * shape[1] * shape[2]]
    data = struct.unpack(f"<{len(rows) // 4}f", rows)
    text = json.dumps({"inputs": [{"name": "window", "shape": shape, "datatype": "FP32", "data": data}]})
    return about["name"], text, open(f"{work}/b/0/answers.f32", "rb").read()[:12]


def doors(connection, work, token, control):
    """Each path with no token, a wrong one, the other one, the right one."""
    name, text, bits = window(work)
    infer, load = f"/v2/models/{name}/infer", f"/v2/repository/models/{name}/load"
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert call(connection, "GET", path)[0] == 200
    for method, path in (("GET", "/metrics"), ("GET", "/v2"), ("GET", f"/v2/models/{name}"), ("GET", "/outcry/status"),
                         ("GET", "/no/such/path"), ("POST", infer), ("POST", "/v2/repository/index"), ("POST", load)):
        for given in (None, wrong, "", token + "x", token[:-1], control if path != load else token):
            status, said, headers = call(connection, method, path, given, text if method == "POST" else None)
            assert status == 401 and headers["WWW-Authenticate"] == "Bearer", (path, given, status, said)
            assert headers["Connection"] == "close" and list(json.loads(said)) == ["error"], said
    twice = {"Authorization": f"Bearer {token}", "authorization ": "x"}
    assert call(connection, "GET", "/metrics", None, None, twice)[0] == 400
    assert call(connection, "GET", "/metrics", None, None, {"Authorization": f"Basic {token}"})[0] == 401
    status, said, _ = call(connection, "POST", infer, token, text)
    got = json.loads(said)["outputs"][0]["data"][:3]
    assert status == 200 and struct.pack("<3f", *got) == bits[:12], said
    assert call(connection, "POST", load, control, "{}")[0] == 200
    assert call(connection, "POST", load.replace("/load", "/unload"), control, "{}")[0] == 400
    text = call(connection, "GET", "/metrics", token)[1].decode()
    assert int(re.search(r'outcry_http_refusals_total\{reason="token"\} (\d+)', text).group(1)) == 49, text
    return [text, *(call(connection, "GET", path, token)[1].decode()
                    for path in ("/v2", "/outcry/status", "/outcry/drift"))]


def unread(port, token):
    """401 comes while the body has not."""
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.settimeout(20)
        s.sendall(b"POST /v2/models/x/infer HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n"
                  b"Content-Length: 500\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 401")


def half_a_handshake(server):
    """Who begins a handshake and says no more is waited for asleep: three bytes are not worth a core."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as s:
        s.sendall(b"\x16\x03\x01")
        time.sleep(0.2)
        tasks = f"/proc/{server.process.pid}/task"
        threads = [t for t in os.listdir(tasks) if open(f"{tasks}/{t}/comm", encoding="utf-8").read().startswith("MHD")]
        assert len(threads) == 2, threads
        running = 0
        for _ in range(100):
            states = [open(f"{tasks}/{t}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()[0] for t in threads]
            running += "R" in states
            time.sleep(0.002)
        assert running < 20, f"{running} of 100 looks found a thread of HTTP running"


def encrypted(work, token, control):
    sets = (f"serve.token_file={token}", f"serve.control_token_file={control}", f"serve.tls_cert={work}/cert.pem",
            f"serve.tls_key={work}/key.pem")
    refused(work, "serve.tls_key", f"serve.tls_cert={work}/cert.pem", f"serve.tls_key={secret(work, 'bad.pem', 'x')}")
    os.chmod(f"{work}/key.pem", 0o640)
    refused(work, "0600", *sets)
    os.chmod(f"{work}/key.pem", 0o600)
    server = Server(work, "serve.http=0.0.0.0:0", *sets)
    assert server.scheme == "https", server.said
    context = ssl.create_default_context(cafile=f"{work}/cert.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
    shown = doors(connection, work, *(open(path, encoding="utf-8").read().strip() for path in (token, control)))
    old = ssl.create_default_context(cafile=f"{work}/cert.pem")
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=old).request("GET", "/v2/health/live")
        raise AssertionError("TLS 1.1 was taken")
    except (ssl.SSLError, ConnectionError):
        pass
    with socket.create_connection(("127.0.0.1", server.port), 5) as s:     # no TLS: no answer in clear
        s.settimeout(20)
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"HTTP/" not in s.recv(4096)
        except OSError:
            pass
    half_a_handshake(server)
    return server, shown


def expiry(text):
    found = re.search(r"^outcry_tls_expiry_seconds (\d+)$", text, re.M)
    return found and int(found.group(1))


def dates(work, token):
    """What does not hold now does not start; what ends within 14 days is warned of; a chain ends with its first one."""
    def sets(path):
        return (f"serve.token_file={token}", f"serve.tls_cert={path}", f"serve.tls_key={work}/key.pem")

    for name, begin, end in (("ended", -20, -1), ("begins", 2, 20)):
        path = dated(work, name, begin, end)
        said = refused(work, f"serve.tls_cert: {path} holds from ", *sets(path))
        days = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", said)
        when = [calendar.timegm(time.strptime(day, "%Y-%m-%d %H:%M:%SZ")) for day in days]
        assert len(when) == 3 and when[1] == end_of(path) and not when[0] <= when[2] <= when[1], said
    refused(work, "serve.tls_cert", *sets(secret(work, "no.pem", "x")))
    long, short = dated(work, "long", -1, 400), dated(work, "short", -1, 40)
    with open(f"{work}/chain.pem", "w", encoding="utf-8") as out:
        out.writelines(open(path, encoding="utf-8").read() for path in (long, short))
    for path, first, warned in ((long, long, False), (f"{work}/chain.pem", short, False),
                                (dated(work, "soon", -1, 13), f"{work}/soon.pem", True)):
        server = Server(work, *sets(path))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        asking = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
        text = call(asking, "GET", "/metrics", open(token, encoding="utf-8").read().strip())[1].decode()
        assert expiry(text) == end_of(first), (path, expiry(text), end_of(first))
        asking.close()
        code, log = server.stop()
        assert code == 0 and ("more days" in log) == warned, log


def canary(server, shown, *tokens):
    """Nothing that the server printed, served or shows of itself holds a token or the key."""
    pid = server.process.pid
    shown += [open(f"/proc/{pid}/{name}", "rb").read().decode(errors="replace") for name in ("cmdline", "environ")]
    code, log = server.stop()
    assert code == 0, code
    for line in log.splitlines():
        assert set(json.loads(line)) == {"time", "level", "message"}, line
    for text in (*shown, log, server.said):
        assert not any(token in text for token in tokens)


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
    first, second = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    token_file, control_file = secret(work, "token", first + "\n"), secret(work, "control", second, 0o400)
    starts(work, token_file, control_file)
    plain = Server(work, "serve.http=0.0.0.0:0", "serve.proxy=declared", f"serve.token_file={token_file}",
                   f"serve.control_token_file={control_file}")
    assert plain.scheme == "http", plain.said
    asking = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=20)
    seen = doors(asking, work, first, second)
    assert expiry(seen[0]) is None
    unread(plain.port, first)
    canary(plain, seen, first, second)
    local = Server(work)                                   # loopback, no token: all but model control
    asking = http.client.HTTPConnection("127.0.0.1", local.port, timeout=20)
    assert call(asking, "GET", "/metrics")[0] == 200
    status, said, _ = call(asking, "POST", f"/v2/repository/models/{window(work)[0]}/load", None, "{}")
    assert status == 403 and b"serve.control_token_file" in said, said
    assert local.stop()[0] == 0
    tls = certificate(work)
    if tls:
        server, seen = encrypted(work, token_file, control_file)
        assert expiry(seen[0]) == end_of(f"{work}/cert.pem")
        key = open(f"{work}/key.pem", encoding="utf-8").read().splitlines()[1]
        canary(server, seen, first, second, key)
        dates(work, token_file)
print("tokens, refusals at start, canary" + (", TLS" if tls else "; skipped: TLS, as openssl is not there"))
