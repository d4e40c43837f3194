"""A GPU that is wished for and is not there, from outside: doctor, train and bench end with exit 1 and say what was
missing; auto takes the CPU and says why.

usage: backend.py OUTCRY SOURCE
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
EMULATION = f"{os.path.dirname(OUTCRY)}/liboutcry-cuda-emulation.so"
SETS = (
    "window.steps=6 model.hidden=8 model.heads=2 train.epochs=1 train.windows_per_epoch=128 train.batch=32 "
    "train.valid_windows=64 threads=1"
).split()
NOWHERE = {"OUTCRY_CUDA_MODULE": "/nowhere/liboutcry-cuda.so"}
NO_GPU = {"OUTCRY_CUDA_MODULE": EMULATION, "OUTCRY_EMULATION_DEVICES": "0"}
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name} {str(said)[-400:]}")


def run(command, environment=None, folder=None):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=folder, env={**os.environ, **(environment or {})}
    )


def refused(name, command, environment, words):
    r = run(command, environment)
    check(name, r.returncode == 1 and words in r.stderr, f"exit {r.returncode}: {r.stderr}")


# --- the program


def missing(command, name):
    refused(f"{name}: no module", command, NOWHERE, "backend cuda: the CUDA module cannot be loaded: /nowhere/")
    refused(f"{name}: no CUDA module", command, {"OUTCRY_CUDA_MODULE": OUTCRY}, "backend cuda: ")
    if os.path.exists(EMULATION):
        refused(f"{name}: no device", command, NO_GPU, "backend cuda: a driver, but no usable GPU")
    real = f"{os.path.dirname(OUTCRY)}/liboutcry-cuda.so"
    if os.path.exists(real) and not shutil.which("nvidia-smi"):
        refused(f"{name}: no driver", command, {"OUTCRY_CUDA_MODULE": real}, "no driver libcuda.so.1")


def doctor():
    missing([OUTCRY, "doctor", "--backend", "cuda"], "doctor")
    r = run([OUTCRY, "doctor", "--json"], NOWHERE)
    said = json.loads(r.stdout.splitlines()[-1])
    check("doctor: auto takes the CPU", said["chosen"] == "cpu" and said["backends"] == ["cpu"], said)
    why = said["reasons"]
    check("doctor: and says why", "/nowhere/" in why["cuda"] and "so the CPU" in why["cpu"], said)
    check("doctor: no such backend", run([OUTCRY, "doctor", "--backend", "gpu"]).returncode == 64)
    if os.path.exists(EMULATION):
        said = json.loads(run([OUTCRY, "doctor", "--json"], {"OUTCRY_CUDA_MODULE": EMULATION}).stdout.splitlines()[-1])
        check("doctor: auto takes a GPU", said["chosen"] == "cuda" and said["backends"] == ["cpu", "cuda"], said)


def train(work):
    events, data = f"{work}/s.events", f"{work}/d.h5"
    for command in (
        f"simulate --out {events} --events 20000 --seed 3 --levels 10 --signal 0.8 --label direction:10:0.0001",
        f"build {SOURCE}/configs/build-book.yaml --set data.events={events} --out {data}",
    ):
        r = run([OUTCRY, *command.split(), "--quiet"])
        if r.returncode:
            sys.exit(f"outcry {command}: {r.stderr}")
    pairs = [p for s in (*SETS, f"data.dataset={data}") for p in ("--set", s)]
    command = [OUTCRY, "train", f"{SOURCE}/configs/train.yaml", *pairs, "--quiet"]
    missing([*command, "--out", f"{work}/cuda", "--set", "backend=cuda"], "train")
    check("train: nothing was begun", not os.path.exists(f"{work}/cuda"))
    r = run([*command, "--out", f"{work}/auto", "--set", "backend=auto", "--log-level", "info"], NOWHERE)
    check("train: auto takes the CPU", r.returncode == 0 and "so the CPU" in r.stderr, r.stderr)


def bench():
    for name in ("train-rate", "latency-window", "latency-push", "lstm-layer"):
        missing([OUTCRY, "bench", name, "--tiny", "--backend", "cuda"], f"bench {name}")
    for words in (("risk", "--backend", "cuda"), ("train-rate", "--math", "bf16"), ("train-rate", "--backend", "tpu")):
        r = run([OUTCRY, "bench", *words, "--tiny"])
        check(f"bench {words}", r.returncode == 64, r.stderr)
    small = "train-rate --tiny --backend cuda --math bf16 --steps 4 --hidden 8 --inputs 3 --batch 16".split()
    if os.path.exists(EMULATION):
        r = run([OUTCRY, "bench", *small, "--json", "--quiet"], {"OUTCRY_CUDA_MODULE": EMULATION})
        check("bench in emulation", r.returncode == 0 and json.loads(r.stdout.splitlines()[-1])["value"] > 0, r.stderr)
        layer = [OUTCRY, *"bench lstm-layer --tiny --backend cuda --math bf16 --json --quiet".split()]
        r = run(layer, {"OUTCRY_CUDA_MODULE": EMULATION})
        rows = json.loads(r.stdout.splitlines()[-1])["figures"] if r.returncode == 0 else []
        check("lstm-layer: every variant, and which is fastest", len(rows) >= 5 and rows[0]["value"] > 0, r.stderr)
        absent = [row for row in rows if row["unit"] == "not offered"]
        check("lstm-layer: what is not offered says why", all(row["note"] for row in absent), rows)
        check("lstm-layer: a row of the choice table", rows and "choice table: H 24" in rows[-1]["note"])


with tempfile.TemporaryDirectory() as folder:
    doctor()
    train(folder)
    bench()
print("\n".join(faults) or "what is missing is named")
sys.exit(1 if faults else 0)
