"""How the server is put on a machine, looked at without one: tools/deploy's systemd units. They say the same addresses,
name keys that there are, give the drain its time, and are as closed as can be: by systemd-analyze where it is
there, and by ourselves. serve.activation starts the server by them. Each check is shown a planted fault.

usage: deploy_serve.py OUTCRY SOURCE
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
HARDENING = """NoNewPrivileges=yes CapabilityBoundingSet= ProtectSystem=strict ProtectHome=yes PrivateTmp=yes
PrivateDevices=yes ProtectKernelTunables=yes ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes
ProtectClock=yes RestrictNamespaces=yes RestrictRealtime=yes RestrictSUIDSGID=yes LockPersonality=yes
MemoryDenyWriteExecute=yes SystemCallArchitectures=native SystemCallFilter=@system-service UMask=0077 LimitCORE=0
Type=notify RuntimeDirectoryPreserve=yes IPAddressDeny=any""".split()
EXPOSURE = 1.5  # of systemd-analyze security, from 0 to 10; 1.2 was said by systemd 252


def read(path):
    with open(f"{SOURCE}/{path}", encoding="utf-8") as f:
        return f.read()


def keys_known():
    """Of serve's configuration, by its help."""
    said = subprocess.run([OUTCRY, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\b((?:serve|log|model)\.\w+|threads|backend)\b", said))


def default(key):
    return re.search(rf"^  {key}: (\S+)", read("configs/serve.yaml"), re.M)[1]


def key_faults(words):
    known = keys_known()
    for key in re.findall(r"--set[ ,\"]+([\w.]+)=", words):
        if key not in known:
            yield f"no such key: {key}"


def unit_settings(text):
    joined = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return re.findall(r"^(\w+)=(.*)$", joined, re.M)


def unit_faults(service, held):
    settings = unit_settings(service)
    lines, values = {f"{k}={v}" for k, v in settings}, dict(settings)
    start = values.get("ExecStart", "")
    yield from (f"hardening: no {line}" for line in HARDENING if line not in lines)
    yield from key_faults(start)
    for key, listen in (("serve.socket", "ListenSequentialPacket"), ("serve.http", "ListenStream")):
        if f"--set {key}={dict(unit_settings(held)).get(listen)}" not in " ".join(start.split()):
            yield f"{listen} is not where {key} is"
    for name in re.findall(r"=%d/(\S+)", start):
        if name not in [v.split(":")[0] for k, v in settings if k == "LoadCredential"]:
            yield f"no credential {name}"
    if "token_file" not in start:
        yield "no token"
    if not int(values.get("TimeoutStopSec", 0)) >= int(default("http_timeout_s")) + 5:
        yield "TimeoutStopSec ends before what has begun is answered"
    if dict(unit_settings(held)).get("SocketUser") != values.get("User") or values.get("User") in (None, "root"):
        yield "the service's user is not the rings' user, or root"


def analyzed_faults(service, held):
    """systemd's own opinion; the program lies elsewhere here."""
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as work:
        units = {"outcry-serve.service": service.replace("/opt/outcry/bin/outcry", OUTCRY), "outcry-serve.socket": held}
        for name, text in units.items():
            with open(f"{work}/{name}", "w", encoding="utf-8") as f:
                f.write(text)
        verify = ["systemd-analyze", "verify", "--man=no", "./outcry-serve.service", "./outcry-serve.socket"]
        r = subprocess.run(verify, cwd=work, capture_output=True, text=True)
        if r.returncode != 0 or "outcry-serve" in r.stderr:
            yield f"systemd-analyze verify: {r.stderr}"
        secure = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}",
                  "./outcry-serve.service"]  # fmt: skip
        r = subprocess.run(secure, cwd=work, capture_output=True, text=True)
        if r.returncode != 0:
            yield f"systemd-analyze security: {(r.stdout + r.stderr)[-300:]}"


def units():
    """Faults of the units, and of the checks."""
    service, held = read("tools/deploy/outcry-serve.service"), read("tools/deploy/outcry-serve.socket")
    yield from unit_faults(service, held)
    yield from analyzed_faults(service, held)
    for old, new, said in (
        ("MemoryDenyWriteExecute=yes\n", "", "no MemoryDenyWriteExecute"),
        ("serve.http=127.0.0.1:8000", "serve.http=127.0.0.1:8001", "ListenStream"),
        ("outcry.sock", "rings.sock", "ListenSequentialPacket"),
        ("serve.repository", "serve.repo", "no such key"),
        ("LoadCredential=token:", "LoadCredential=key:", "no credential token"),
        ("TimeoutStopSec=30", "TimeoutStopSec=5", "TimeoutStopSec"),
        ("User=outcry", "User=root", "user"),
    ):
        if old not in service or not any(said in fault for fault in unit_faults(service.replace(old, new), held)):
            yield f"planted and not found: {old!r} -> {new!r}"
    if shutil.which("systemd-analyze"):
        for old, new in (("Type=notify", "Typ=notify"), ("CapabilityBoundingSet=\n", "\n")):
            if not list(analyzed_faults(service.replace(old, new), held)):
                yield f"systemd-analyze does not see {old!r} -> {new!r}"


def main():
    faults = [*units()]
    print("\n".join([*faults, f"systemd-analyze: {shutil.which('systemd-analyze') or 'not there, so not asked'}"]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
