"""What is to run unattended on a machine with a GPU, tried where there is none: tools/gpu-report on a machine made of
scripts (tests first; stops where one fails; what failed or missed its bound stands at the top), its list of tests
against what there is, tools/gpu-jobs and every bench of the report in emulation, and tools/gpu-pack, whose folder
runs with its own libraries alone.

usage: gpu_report.py OUTCRY SOURCE
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
BUILD = os.path.dirname(OUTCRY)
EMULATION = f"{BUILD}/liboutcry-cuda-emulation.so"
TESTS = ["a/test_a_one", "a/test_a_two", "b/test_b_three"]
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name} {str(said)[-600:]}")


def run(command, environment=None, folder=None):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=400, cwd=folder, env={**os.environ, **(environment or {})}
    )


def text_of(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


# --- a machine made of scripts


def figures(value, ratio):
    row = {"figure": "f", "value": value, "unit": "u", "peer": "p", "peer_value": 1.0, "ratio": ratio, "note": "n"}
    return json.dumps({"figures": [row, {**row, "figure": "g", "peer": "", "peer_value": None, "ratio": None}]})


def latencies(p99):
    row = {"value": 1.0, "unit": "us", "peer": "", "peer_value": None, "ratio": None, "note": ""}
    names = {"l": 1.0, "l_p99": p99, "l_max_over_median": 2.0}
    return json.dumps({"figures": [{**row, "figure": name, "value": value} for name, value in names.items()]})


def program(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, stat.S_IRWXU)


def machine(work, failing=None, bench="exit 0", train=None):
    """Benches print by their name: train-rate is fast enough for every bound, lstm-layer too."""
    build = f"{work}/build"
    shutil.rmtree(work, ignore_errors=True)
    for test in TESTS:
        program(f"{build}/tests/{test}", "echo 'a wrong sum'; exit 3" if test == failing else "echo 'worst 1e-7'")
    with open(f"{build}/tests/gpu-tests", "w", encoding="utf-8") as file:
        file.write("\n".join(TESTS) + "\n")
    hash_ = train or '{\\"weights_hash\\": \\"aa\\", \\"steps\\": 5, \\"windows_per_second\\": 9, \\"valid_loss\\": 1}'
    program(
        f"{build}/outcry",
        f"""case "$1 $2" in
"bench lstm-layer") echo '{figures(5.0, 1.0)}'; {bench} ;;
"bench latency"*) echo '{latencies(4.0)}'; {bench} ;;
bench*) echo '{figures(3e6, 3.0)}'; {bench} ;;
simulate*|build*) echo '{{}}' ;;
train*) while [ "$1" != --out ]; do shift; done; mkdir -p $2/model
    printf '\\002\\000\\000\\000\\000\\000\\000\\000{{}}\\000\\000\\200\\077' >$2/model/weights.safetensors
    echo "{hash_}" ;;
esac""",
    )
    program(f"{build}/liboutcry-cuda.so", "")
    program(f"{work}/bin/nvidia-smi", "echo 'A GPU, 999.1, 1000 MHz, 2000 MHz, 1500 MHz, 700 W'")
    return build


def report(work, *more):
    command = f"sh {SOURCE}/tools/gpu-report --build {work}/build --python {sys.executable} --out r.md".split()
    r = run([*command, *more], {"PATH": f"{work}/bin:{os.environ['PATH']}"}, work)
    return r, text_of(f"{work}/r.md")


def top(text):
    return text.split("## What failed")[-1].split("## What the tests measured")[0]


def whole(work):
    machine(work)
    r, text = report(work, "--dry-run")
    lines = r.stdout.splitlines()
    check("--dry-run", r.returncode == 0 and len(lines) > 25 and not text, r.stderr)
    check("tests first", [line.split("/tests/")[-1] for line in lines[: len(TESTS)]] == TESTS, r.stdout)
    shapes = [f"train-rate --math bf16 --inputs 64 --steps 100 --layers 2 --hidden {h} --batch {b}"
              for h in (64, 128, 256, 512) for b in (256, 1024, 4096)]
    shapes += ["lstm-layer --math bf16 --hidden 768 --batch 16 --steps 1024", "latency-window", "latency-push",
               "latency-push --gpu-path resident --layers 3 --hidden 200 --steps 100 --inputs 250 --heads 0"]
    shapes += [f"lstm-layer --math bf16 --hidden {h} " for h in (64, 128, 256, 512)]
    check("every shape", all(any(shape in line for line in lines) for shape in shapes), r.stdout)
    r, text = report(work)
    check("whole", r.returncode == 0 and "\nNothing.\n" in top(text), r.stderr + top(text))
    row = "| f | 3e+06 | u | p | 1 | 3 | n | `outcry bench train"
    check("machine and row", "A GPU, 999.1" in text and row in text, r)
    benches = sum("outcry bench" in line for line in lines)
    rows = sum(text.count(first) for first in ("| f | 3e+06 |", "| f | 5 |", "| l | 1 |"))
    check("each bench", rows == benches, text)
    check("what tests measured", "- test_a_one: worst 1e-7" in text, text)
    check("jobs", text.count("| yes |") >= 3, text)


def broken(work):
    machine(work, failing=TESTS[1])
    r, text = report(work)
    said = f"TEST FAILED on this GPU: {TESTS[1]} (exit 3)"
    stopped = said in r.stderr and "Nothing was measured" in r.stderr
    check("a failed test stops", r.returncode == 1 and stopped, r.stderr)
    check("and is in the report", said in top(text) and "a wrong sum" in top(text) and "## Benches" not in text, text)
    check("others ran", "2 passed, 1 failed" in text, text)
    r, text = report(work, "--go-on")
    check("--go-on", r.returncode == 1 and said in top(text) and "## Benches" in text, r.stderr)
    machine(work, bench="exit 1")
    r, text = report(work)
    check("a failed bench", r.returncode == 1 and "FAILED, exit 1" in top(text), r.stderr)
    machine(work)
    r, text = report(work, "--seconds", "10")
    check("no time", r.returncode == 1 and "not run: out of time" in top(text), r)
    os.remove(f"{work}/build/tests/{TESTS[2]}")
    check("a test is not there", report(work)[0].returncode == 1 and "there is no" in report(work)[0].stderr)
    os.remove(f"{work}/build/tests/gpu-tests")
    check("no list of tests", "gpu-tests" in report(work)[0].stderr)


def missed(work):
    build = machine(work)
    slow = text_of(f"{build}/outcry").replace(figures(3e6, 3.0), figures(1e5, 0.9))
    program(f"{build}/outcry", slow.split("\n", 1)[1])
    r, text = report(work)
    check("missed bounds", r.returncode == 1 and top(text).count("wanted value>=") == 8, top(text))
    check("slower than the peer", top(text).count("ratio 0.9, wanted ratio>=1") == 10, top(text))
    machine(work)
    late = text_of(f"{build}/outcry").replace(latencies(4.0), latencies(9.0))
    program(f"{build}/outcry", late.split("\n", 1)[1])
    r, text = report(work)
    check("a late tail", r.returncode == 1 and top(text).count("p99 9, wanted p99<=") == 2, top(text))
    unlike = '{\\"weights_hash\\": \\"$$\\", \\"steps\\": 5, \\"windows_per_second\\": 9, \\"valid_loss\\": 1}'
    machine(work, train=unlike)
    r, text = report(work)
    check("two runs differ", r.returncode == 1 and "two runs bit-equal, bf16: NO" in top(text), top(text))
    machine(work)
    os.remove(f"{work}/bin/nvidia-smi")
    if not shutil.which("nvidia-smi"):
        r, text = report(work)
        check("no GPU", r.returncode == 1 and "no nvidia-smi" in r.stderr, r.stderr)
    check("usage", report(work, "--frobnicate")[0].returncode == 64)


# --- the list of tests


def list_complete():
    """What the build wrote, against the tests that CTest knows for a GPU, and the sources that take a module."""
    listed = text_of(f"{BUILD}/tests/gpu-tests").split()
    wanted = set()
    for folder, _, files in os.walk(f"{SOURCE}/tests"):
        for name in files:
            source = text_of(f"{folder}/{name}") if re.fullmatch(r"test_\w+\.c", name) else ""
            double = "OC_TEST_NCCL" in source  # a library's double: of the emulation alone
            if re.search(r"\bOC_TEST_MODULE\b|device_open\(|device_skip\(", source) and not double:
                here = os.path.relpath(folder, f"{SOURCE}/tests")
                wanted.add(f"{here}/test_{here}_{name[5:-2]}")
    if os.path.exists(EMULATION):
        check("gpu-tests has every test that opens a device", set(listed) == wanted, set(listed) ^ wanted)
    if os.path.exists(f"{BUILD}/liboutcry-cuda.so") and shutil.which("ctest"):
        shown = run(["ctest", "--test-dir", BUILD, "--show-only=json-v1", "-L", "^gpu$"])
        tests = json.loads(shown.stdout)["tests"] if shown.returncode == 0 else []
        have = {os.path.relpath(t["command"][0], f"{BUILD}/tests") for t in tests if "command" in t}
        check("gpu-tests has every test of label gpu", have == set(listed) and have, have ^ set(listed))


# --- in emulation


def emulated(work):
    """The real program behind a list of one test: benches tiny, jobs tiny."""
    build = machine(work)
    os.remove(f"{build}/liboutcry-cuda.so")
    os.symlink(EMULATION, f"{build}/liboutcry-cuda.so")
    os.remove(f"{build}/outcry")
    os.symlink(OUTCRY, f"{build}/outcry")
    r, text = report(work, "--tiny")
    check("--tiny", r.returncode == 0 and "\nNothing.\n" in top(text), r.stderr + top(text))
    benches = ("train-rate", "lstm-layer", "latency-window", "latency-push")
    check("every kind of bench", all(f"`outcry bench {b}" in text for b in benches), text)
    check("jobs", "| two runs bit-equal, bf16 | yes |" in text and "beside the CPU's weights" in text, text)


def pack(work):
    """A folder whose program finds everything within: nothing of the environment but a path to the shell's programs."""
    out = f"{work}/packed"
    r = run(["sh", f"{SOURCE}/tools/gpu-pack", "--build", BUILD, "--peers", "/nowhere", "--emulation", "--out", out])
    check("gpu-pack", r.returncode == 0, r.stderr)
    if r.returncode:
        return
    listed = text_of(f"{out}/tests/gpu-tests").split()
    check("gpu-pack: tests", listed and all(os.access(f"{out}/tests/{t}", os.X_OK) for t in listed), listed)
    bare = {"PATH": "/usr/bin:/bin", "OUTCRY_CUDA_MODULE": f"{out}/liboutcry-cuda.so"}
    doctor = subprocess.run([f"{out}/outcry", "doctor", "--backend", "cuda", "--json"], env=bare, cwd="/",
                            capture_output=True, text=True, timeout=100)
    said = json.loads(doctor.stdout.splitlines()[-1]) if doctor.returncode == 0 else {}
    check("gpu-pack: doctor", said.get("chosen") == "cuda", doctor.stderr)
    found = subprocess.run(["ldd", *(f"{out}/bin/{name}" for name in sorted(os.listdir(f"{out}/bin")))],
                           env={"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": f"{out}/lib"}, capture_output=True,
                           text=True)
    of_system = tuple(f"lib{n}.so" for n in ("c", "m", "resolv", "gcc_s", "stdc++", "dl", "rt", "pthread"))
    outside = [line for line in found.stdout.splitlines()
               if "=>" in line and f"=> {out}/lib/" not in line and not line.strip().startswith(of_system)]
    check("gpu-pack: every library is carried", found.returncode == 0 and not outside, outside)
    dry = run([f"{out}/run", "--dry-run"], {"LD_LIBRARY_PATH": "/outer"}, work)
    check("gpu-pack: run", dry.returncode == 0 and f"{out}/tests/{listed[0]}" in dry.stdout, dry.stderr)
    outer = run([f"{out}/python", "-c", "import os; print(os.environ.get('LD_LIBRARY_PATH'))"],
                {"LD_LIBRARY_PATH": f"{out}/lib", "OUTCRY_OUTER_LIBRARIES": "/outer", "OUTCRY_PYTHON": sys.executable})
    check("gpu-pack: the peers' libraries are the machine's", outer.stdout.strip() == "/outer", outer)
    again = run(["sh", f"{SOURCE}/tools/gpu-pack", "--build", BUILD, "--emulation", "--out", out])
    check("gpu-pack: never over a folder", again.returncode == 1 and "exists" in again.stderr, again.stderr)


with tempfile.TemporaryDirectory() as folder:
    whole(f"{folder}/machine")
    broken(f"{folder}/machine")
    missed(f"{folder}/machine")
    list_complete()
    if os.path.exists(EMULATION):
        emulated(f"{folder}/machine")
        pack(folder)
    for name in ("gpu-report", "gpu-pack"):
        r = run(["shellcheck", f"{SOURCE}/tools/{name}"]) if shutil.which("shellcheck") else None
        check(f"shellcheck {name}", r is None or r.returncode == 0, r and r.stdout)
print("\n".join(faults) or "gpu-report stops where a test fails and says what failed; gpu-pack's folder runs alone")
sys.exit(1 if faults else 0)
