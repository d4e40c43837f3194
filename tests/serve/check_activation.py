"""outcry serve as tools/deploy's systemd unit starts it, without systemd: the unit's own command (folders and ports
moved), its sockets handed in from descriptor 3 on, its token as a credential, a socket that hears READY=1 and
STOPPING=1, and, where systemd-analyze can name them, no system call but those of its SystemCallFilter. Who
connects between two servers is answered by the second. Then what must not be taken.

usage: check_activation.py OUTCRY MAKE_BUNDLE CLIENT_LIBRARY SOURCE
"""
import atexit
import ctypes
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

UNISTD = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
EPERM, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER, X86_64 = 1, 22, 38, 2, 0xC000003E
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | EPERM


def launch(arguments):
    """In the child: descriptors to 3.., LISTEN_PID its own, the filter, and the program in its place."""
    setup, command = json.loads(arguments[0]), arguments[1:]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in setup["fds"]]
    for place, fd in enumerate(high, 3):
        os.dup2(fd, place, inheritable=True)
    if setup["fds"]:
        os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(setup["pid"] or os.getpid()))
    if setup["calls"]:
        code = [(0x20, 0, 0, 4), (0x15, 1, 0, X86_64), (0x06, 0, 0, REFUSE), (0x20, 0, 0, 0)]
        for number in setup["calls"]:
            code += [(0x15, 0, 1, number), (0x06, 0, 0, ALLOW)]
        code += [(0x06, 0, 0, REFUSE)]
        text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
        program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(text)))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        assert libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
    os.execv(command[0], command)


if sys.argv[1] == "--launch":
    launch(sys.argv[2:])

from ring_client import Client, OK, SECOND, WINDOW

OUTCRY, MAKE_BUNDLE, LIBRARY, SOURCE = sys.argv[1:5]
STEPS, INPUTS, TOKEN = 20, 8, "a-token-of-this-test-0123"
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
unit = open(f"{SOURCE}/tools/deploy/outcry-serve.service", encoding="utf-8").read().replace("\\\n", " ")
held = open(f"{SOURCE}/tools/deploy/outcry-serve.socket", encoding="utf-8").read()


def setting(text, key):
    return re.findall(rf"^{key}=(.*)$", text, re.M)


def calls_of(name):
    """System calls of a set, with the sets in it."""
    said = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    found = set()
    for line in said.stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= calls_of(word) if word.startswith("@") else {word}
    return found


def calls_allowed():
    """Numbers of what SystemCallFilter leaves; none where nobody can say."""
    if not (shutil.which("systemd-analyze") and os.path.exists(UNISTD) and os.uname().machine == "x86_64"):
        return []
    allowed = set()
    for line in setting(unit, "SystemCallFilter"):
        names = set().union(*(calls_of(word) for word in line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", open(UNISTD, encoding="ascii").read()))
    return sorted(int(numbers[name]) for name in allowed if name in numbers) + [int(numbers["execve"])]


def sockets(work):
    """As the .socket file has them, the port a free one."""
    rings = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rings.bind(f"{work}/run/outcry.sock")
    web = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    web.bind(("127.0.0.1", 0))
    for one in (rings, web):
        one.listen(16)
    return rings, web


def command(work, port, *sets):
    moved = setting(unit, "ExecStart")[0]
    for old, new in (("/opt/outcry/bin/outcry", OUTCRY), ("/opt/outcry/configs", f"{SOURCE}/configs"),
                     ("%d", f"{work}/secret"), ("/var/lib/outcry", work), ("/run/outcry", f"{work}/run"),
                     ("127.0.0.1:8000", f"127.0.0.1:{port}")):
        assert old in moved, old
        moved = moved.replace(old, new)
    return [*moved.split(), *(text for pair in sets for text in ("--set", pair))]


def start(work, fds, port, *sets, pid=0, calls=(), notify=None, credentials=True):
    setup = json.dumps({"fds": [one.fileno() for one in fds], "pid": pid, "calls": list(calls)})
    environment = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY")}
    if notify:
        environment["NOTIFY_SOCKET"] = notify
    if credentials:
        environment["CREDENTIALS_DIRECTORY"] = f"{work}/secret"
    process = subprocess.Popen([sys.executable, "-B", __file__, "--launch", setup, *command(work, port, *sets)],
                               pass_fds=[one.fileno() for one in fds], env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    started.append(process)
    return process


def listener(name):
    hears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    hears.bind(name)
    hears.settimeout(60)
    return hears


def answered(port, path="/v2", token=TOKEN):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    return connection.getresponse().status


def refused(work, word, fds, port, *sets, **more):
    process = start(work, fds, port, *sets, **more)
    said, failed = process.communicate(timeout=120)
    assert process.returncode == 78 and word in failed and "ready" not in said, (word, process.returncode, said, failed)


def serves(work, rings, web, port, calls):
    """Two servers, one after the other, on the same sockets."""
    for notify in (f"{work}/notify", f"\0outcry-{os.getpid()}"):
        hears = listener(notify)
        waiting = http.client.HTTPConnection("127.0.0.1", port, timeout=120)    # before there is a server
        waiting.request("GET", "/v2/health/ready")
        server = start(work, (web, rings), port, calls=calls, notify=notify.replace("\0", "@"))
        assert hears.recv(64) == b"READY=1"
        assert f"http://127.0.0.1:{port} " in server.stdout.readline()
        assert waiting.getresponse().status == 200
        assert answered(port) == 200 and answered(port, token="") == 401 and answered(port, "/metrics") == 200
        client = Client(LIBRARY, f"{work}/run/outcry.sock")
        assert client.window(1, struct.pack(f"<{STEPS * INPUTS}f", *([0.25] * STEPS * INPUTS)))
        assert [(kind, state) for kind, _, state, *_ in client.replies(60 * SECOND)] == [(WINDOW, OK)]
        client.close()
        state = open(f"/proc/{server.pid}/status", encoding="ascii").read()
        assert not calls or re.search(r"^Seccomp:\s+2$", state, re.M)
        server.send_signal(signal.SIGTERM)
        assert hears.recv(64) == b"STOPPING=1"
        assert server.wait(60) == 0, server.stderr.read()
        assert os.path.exists(f"{work}/run/outcry.sock"), "the socket is systemd's"
        hears.close()


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/models", "repository"], check=True)
    subprocess.run([OUTCRY, "models", "promote", "sample/1", "--repository", f"{work}/models"], check=True,
                   stdout=subprocess.DEVNULL)
    for folder in ("run", "secret"):
        os.mkdir(f"{work}/{folder}")
    token = f"{work}/secret/token"
    with open(token, "w", encoding="ascii") as out:
        out.write(TOKEN + "\n")
    os.chmod(token, 0o440)              # as an access list or a pod's group shows itself
    rings, web = sockets(work)
    port, allowed = web.getsockname()[1], calls_allowed()
    assert setting(held, "ListenSequentialPacket") == ["/run/outcry/outcry.sock"]
    assert setting(held, "ListenStream") == ["127.0.0.1:8000"]
    serves(work, rings, web, port, allowed)
    if allowed:                         # the filter bites: without sockets the start fails
        numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", open(UNISTD, encoding="ascii").read()))
        process = start(work, (rings, web), port, calls=[n for n in allowed if n != int(numbers["socket"])])
        assert process.wait(120) != 0
    refused(work, "handed in lies at", (rings, web), port, "serve.socket=/tmp/another.sock")
    refused(work, "handed in lies at", (rings, web), port, "serve.http=127.0.0.2:0")
    refused(work, "token_file", (rings, web), port, "serve.http=0.0.0.0:0", "serve.token_file=")
    refused(work, "both for serve.http", (rings, web, web), port)
    quiet = listener(f"{work}/datagrams")
    refused(work, "descriptor 3 is neither", (quiet,), port)
    unready = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    refused(work, "descriptor 4 is neither", (rings, unready), port)
    refused(work, "0600 or 0400", (rings, web), port, credentials=False)
    os.chmod(token, 0o444)
    refused(work, "0600 or 0400", (rings, web), port)
    os.chmod(token, 0o440)
    other = start(work, (rings, web), 0, f"serve.socket={work}/run/own.sock", pid=os.getpid())  # another's sockets
    said = other.stdout.readline()
    assert f":{port} " not in said and f"unix:{work}/run/own.sock" in said, said
    other.send_signal(signal.SIGTERM)
    assert other.wait(60) == 0 and not os.path.exists(f"{work}/run/own.sock")
print(f"two servers on one pair of sockets; system calls allowed: {len(allowed) or 'any, nobody could name them'}")
