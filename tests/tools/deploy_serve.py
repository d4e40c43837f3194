"""How the server is put on a machine, looked at without one: tools/deploy's systemd units, Dockerfile and Kubernetes
manifest. They say the same addresses, name keys, paths and volumes that there are, give the drain its time, and are as
closed as can be: by systemd-analyze where it is there, and by ourselves. serve.activation starts the server by the
units. Each check is shown a planted fault.

usage: deploy_serve.py OUTCRY SOURCE
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import deploy

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


@functools.cache
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


def routes_open():
    """Paths that are answered without a token."""
    return set(re.findall(r'{"GET", "([^"]+)", OPEN,', read("serve/http/routes.c")))


def docker_faults(text, packages):
    yield from deploy.faults_in(text, packages)
    final = dict(deploy.instructions(text))
    yield from key_faults(final.get("CMD", ""))
    health = re.search(r"GET (/\S*) HTTP", final.get("HEALTHCHECK", ""))
    if not health or health[1] not in routes_open() or "health/ready" not in health[1]:
        yield "the health check does not ask whether the server is ready"
    port = re.search(r"serve\.http=0\.0\.0\.0:(\d+)", final.get("CMD", "") or "")
    asked = re.search(r"/dev/tcp/127.0.0.1/(\d+) ", final.get("HEALTHCHECK", ""))
    if not port or not asked or not port[1] == asked[1] == final.get("EXPOSE"):
        yield "health check, EXPOSE and serve.http name different ports"
    if "serve.token_file" not in final.get("CMD", ""):
        yield "no token"


def manifest_of(text):
    """Documents of a YAML text; None where no Python here has a parser."""
    code = "import json,sys,yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"
    for python in (sys.executable, "/usr/bin/python3"):
        r = subprocess.run([python, "-c", code], input=text, capture_output=True, text=True)
        if r.returncode == 0:
            return json.loads(r.stdout)
        if "No module named" not in r.stderr:
            return []
    return None


def probe_faults(one, tls):
    for kind, path in (("startupProbe", "ready"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        probe = one.get(kind, {}).get("httpGet", {})
        if probe.get("path") not in routes_open() or probe["path"] != f"/v2/health/{path}":
            yield f"{kind} asks for {probe.get('path')}"
        if probe.get("port") not in [p["name"] for p in one["ports"]]:
            yield f"{kind}: no such port"
        if (probe.get("scheme") == "HTTPS") != tls:
            yield f"{kind}: its scheme is not the server's"


def pod_faults(pod, claims, user):
    one = pod["containers"][0]
    words, outer, inner = " ".join(one["args"]), pod["securityContext"], one["securityContext"]
    yield from key_faults(words)
    yield from probe_faults(one, "serve.tls_cert" in words)
    if not (outer.get("runAsNonRoot") is True and f"{outer.get('runAsUser')}:{outer.get('runAsGroup')}" == user):
        yield f"the pod's user is not the image's, {user}"
    if not (inner.get("allowPrivilegeEscalation") is False and inner.get("readOnlyRootFilesystem") is True
            and inner.get("capabilities") == {"drop": ["ALL"]} and "seccompProfile" in outer):  # fmt: skip
        yield "securityContext"
    if not all(one["resources"].get(k, {}).get(what) for k in ("requests", "limits") for what in ("cpu", "memory")):
        yield "requests and limits of processor and memory"
    version = re.search(r"project\(outcry VERSION (\S+)", read("CMakeLists.txt"))[1]
    if not one["image"].endswith(f":{version}"):
        yield f"the image is not of {version}"
    if f"serve.http=0.0.0.0:{one['ports'][0]['containerPort']}" not in one["args"]:
        yield "containerPort is not serve.http's"
    mounts = {m["mountPath"]: m["name"] for m in one["volumeMounts"]}
    for name in set(mounts.values()) - {v["name"] for v in pod["volumes"]} - claims:
        yield f"no volume {name}"
    for path in re.findall(r"serve\.(?:repository|socket|token_file|tls_\w+)=(\S+)", words):
        if not any(path == m or path.startswith(f"{m}/") for m in mounts):
            yield f"{path} is on no volume"
    pause = one.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
    if not (0 < int(pause[1]) <= pod["terminationGracePeriodSeconds"] - int(default("http_timeout_s")) - 5):
        yield "terminationGracePeriodSeconds ends before what has begun is answered"


def manifest_faults(text, user):
    documents = {d["kind"]: d for d in manifest_of(text)}
    if "Secret" in documents or set(documents) != {"Service", "StatefulSet"}:
        yield f"documents: {sorted(documents)}"
        return
    stateful, service = documents["StatefulSet"]["spec"], documents["Service"]["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    if not (service["selector"] == stateful["selector"]["matchLabels"] == labels):
        yield "selectors and labels differ"
    pod = stateful["template"]["spec"]
    if service["ports"][0]["targetPort"] not in [p["name"] for p in pod["containers"][0]["ports"]]:
        yield "the service's port is none of the container's"
    yield from pod_faults(pod, {c["metadata"]["name"] for c in stateful["volumeClaimTemplates"]}, user)


def containers():
    """Faults of Dockerfile and manifest, and of the checks."""
    docker, manifest = read("tools/deploy/Dockerfile"), read("tools/deploy/kubernetes.yaml")
    packages = deploy.needed_packages() - {"libopenmpi3"}  # the image is built without MPI
    user = dict(deploy.instructions(docker)).get("USER", "")
    planted = [
        (docker_faults, docker, packages, "USER 65532:65532\n", "", "runs as root"),
        (docker_faults, docker, packages, "debian:12.11-slim", "debian:latest", "not held to a version"),
        (docker_faults, docker, packages, "GET /v2/health/ready", "GET /health", "health check"),
        (docker_faults, docker, packages, "EXPOSE 8000", "EXPOSE 80", "ports"),
        (docker_faults, docker, packages, "serve.proxy", "serve.prox", "no such key"),
    ]
    yield from docker_faults(docker, packages)
    if manifest_of("a: 1") is not None:
        yield from manifest_faults(manifest, user)
        planted += [(manifest_faults, manifest, user, *rest) for rest in (
            ("path: /v2/health/live", "path: /v2/health/alive", "livenessProbe"),
            ("port: https, scheme: HTTPS", "port: https, scheme: HTTP", "scheme"),
            ("runAsUser: 65532", "runAsUser: 0", "user"), ('{drop: ["ALL"]}', "{}", "securityContext"),
            ("limits: {cpu", "limit: {cpu", "limits"), ("serve:0.1.0", "serve:latest", "the image"),
            ("containerPort: 8000", "containerPort: 80", "containerPort"),
            ("name: run, mountPath", "name: runs, mountPath", "no volume runs"),
            ("mountPath: /models", "mountPath: /model", "on no volume"), ("Seconds: 30", "Seconds: 15", "ends before"),
            ("selector: {app: outcry}", "selector: {app: other}", "selectors"),
            ("serve.tls_key", "tls.key", "no such key"),
        )]  # fmt: skip
    for check, text, known, old, new, said in planted:
        if old not in text or not any(said in fault for fault in check(text.replace(old, new, 1), known)):
            yield f"planted and not found: {old!r} -> {new!r}"


def main():
    faults = [*units(), *containers()]
    unread = manifest_of("a: 1") is None
    print("\n".join([*faults, f"systemd-analyze: {shutil.which('systemd-analyze') or 'not there, so not asked'}",
                     f"Kubernetes manifest: {'no python3-yaml, so not read' if unread else 'read'}"]))  # fmt: skip
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
