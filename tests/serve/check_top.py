"""outcry top: what it says is what /outcry/status says, percentiles from the buckets by their definition; no escape
codes but on a terminal, where it ends by SIGINT; refusals: another host, a token that is missing, no server.

usage: check_top.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import fcntl
import http.client
import json
import os
import pty
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request

from certificate import certificate

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work, *sets):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock", *sets):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started.append(process)
    return process, re.search(r"https?://(127\.0\.0\.1:\d+)", process.stdout.readline()).group(1)


def ask(address, work):
    """Pushed rows of two instruments, windows, a refusal."""
    about = json.load(open(f"{work}/b/0/bundle.json", encoding="utf-8"))
    steps, inputs = about["shape"]["steps"], about["shape"]["inputs"]
    data = open(f"{work}/b/0/windows.f32", "rb").read()
    connection = http.client.HTTPConnection(address, timeout=30)
    for i in range(60):
        rows = data[:4 * inputs * (1 if i % 3 else steps)]
        parameters = {"sequence_id": f"SYM{i % 3}", "sequence_start": i < 3} if i % 3 else {}
        tensor = {"name": "window", "datatype": "FP32", "shape": [1, len(rows) // inputs // 4, inputs],
                  "data": struct.unpack(f"<{len(rows) // 4}f", rows)}
        connection.request("POST", f"/v2/models/{about['name']}/infer",
                           json.dumps({"inputs": [tensor], "parameters": parameters}))
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
    connection.request("POST", f"/v2/models/{about['name']}/infer", "{}")
    assert connection.getresponse().read()
    return about


def top(*arguments, code=0):
    done = subprocess.run([OUTCRY, "top", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (arguments, done)
    return done.stdout if code == 0 else done.stderr


def percentile(counts, bounds, share):
    """Straight from the definition: the answer at this share, answers of a bucket evenly apart."""
    wanted, below = share * sum(counts), 0
    for low, high, n in zip([0, *bounds], [*bounds, bounds[-1]], counts):
        if n and below + n >= wanted:
            return low + (high - low) * (wanted - below) / n
        below += n


def figures(address, about):
    for _ in range(200):                                    # times are counted behind the answer
        said = json.loads(top("--http", address, "--once", "--json").splitlines()[-1])
        if sum(said["status"]["stages"]["whole"]) == 60:
            break
    status = said["status"]
    assert sum(status["stages"]["whole"]) == 60 and status["http"]["refusals"]["request"] == 1, said
    for key, share in (("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p999_ns", 0.999)):
        wanted = percentile(status["stages"]["whole"], status["bounds_ns"], share)
        assert abs(said[key] - wanted) <= 1e-6 * wanted, (key, said[key], wanted)
    assert 0 < said["rate"] <= 60e9 / (status["now_ns"] - status["start_ns"]) * 1.000001
    text = top("--http", address, "--once")
    for word in (about["name"], "SYM1", "SYM2", "(windows)", "queue", "p99.9", "http request 1", "sessions 2"):
        assert word in text, (word, text)
    assert "\033" not in text and all(len(line) <= 160 for line in text.splitlines())
    assert about["name"] in top("--http", address.replace("127.0.0.1", "localhost"), "--once")


def told(address, *statuses):
    """What top says of a program that answers with these, one each time it is asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        for status in statuses:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(status).encode())
            connection.close()
        listener.close()

    thread = threading.Thread(target=answer)
    thread.start()
    done = subprocess.run([OUTCRY, "top", "--http", f"127.0.0.1:{listener.getsockname()[1]}", "--interval", "0.1"],
                          capture_output=True, text=True, timeout=60)
    thread.join()
    assert done.returncode == 75, done                      # the program has gone
    return done.stdout


def others(address):
    """A server that was started again between two looks: its counters began anew, so nothing is negative. A program
    that is no server of ours cannot reach the terminal by escapes."""
    with urllib.request.urlopen(f"http://{address}/outcry/status", timeout=20) as reply:
        first = json.load(reply)
    again = json.loads(json.dumps(first))
    again["start_ns"], again["now_ns"] = first["now_ns"], first["now_ns"] + 10**9
    again["stages"]["whole"] = [1] + [0] * (len(first["stages"]["whole"]) - 1)
    for stage in ("queue", "service"):
        again["stages"][stage] = again["stages"]["whole"]
    said = told(address, first, again)
    assert re.search(r"^1 answers/s  p50 0.5 us", said.split("outcry ")[2], re.M) and " -1" not in said, said
    first["instruments"][0]["symbol"], first["version"] = "\033]0;x\a\033[31mSYM", "1\r\n\x9b"
    said = told(address, first)
    assert "SYM" in said and all(" " <= c <= "~" or c == "\n" for c in said), said


def encrypted(work):
    """TLS: what to do is said; through a tunnel, as it says, top sees the server, with its token."""
    if not certificate(work):
        return False
    server, address = start(work, f"serve.token_file={work}/token", f"serve.tls_cert={work}/cert.pem",
                            f"serve.tls_key={work}/key.pem")
    said = top("--http", address, "--once", "--token-file", f"{work}/token", code=64)
    assert "TLS" in said and "socat" in said and "curl" in said, said
    listener = socket.create_server(("127.0.0.1", 0))

    def tunnel():
        context = ssl.create_default_context(cafile=f"{work}/cert.pem")
        near, _ = listener.accept()
        host, port = address.split(":")
        with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as far:
            far.sendall(near.recv(4096))
            while part := far.recv(65536):
                near.sendall(part)
        near.close()

    thread = threading.Thread(target=tunnel)
    thread.start()
    near = f"127.0.0.1:{listener.getsockname()[1]}"
    assert "sessions 0" in top("--http", near, "--once", "--token-file", f"{work}/token")
    thread.join()
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    return True


def terminal(address):
    """On a terminal: drawn again and again in place, within its size; Ctrl-C ends it with 0."""
    pid, terminal_fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(OUTCRY, [OUTCRY, "top", "--http", address, "--interval", "0.1"])
    seen, end, told = b"", time.monotonic() + 60, False
    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    while time.monotonic() < end:
        if seen.count(b"\033[H\033[J") >= 6 and not told:
            os.kill(pid, signal.SIGINT)
            told = True
        try:
            part = os.read(terminal_fd, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    assert told and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    last = seen.split(b"\033[H\033[J")[-2].decode()
    lines = re.sub(r"\033\[[0-9;]*m", "", last).replace("\r", "").split("\n")
    assert len(lines) <= 12 and all(len(line) <= 60 for line in lines), lines


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([MAKE_BUNDLE, f"{folder}/b"], check=True)
    server, at = start(folder)
    figures(at, ask(at, folder))
    others(at)
    terminal(at)
    for host in ("192.0.2.1:80", "example:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "[::1]:80"):
        assert "loopback" in top("--http", host, "--once", code=64)
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    top("--http", at, "--once", code=75)
    with open(f"{folder}/token", "w", encoding="utf-8") as out:
        out.write("a-token-for-the-terminal")
    os.chmod(f"{folder}/token", 0o600)
    server, at = start(folder, f"serve.token_file={folder}/token")
    assert "--token-file" in top("--http", at, "--once", code=64)
    assert "sessions 0" in top("--http", at, "--once", "--token-file", f"{folder}/token")
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    tls = encrypted(folder)
print("outcry top says what the server says; terminal, token, refusals" + (", TLS" if tls else ""))
