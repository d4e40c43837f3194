"""A study over several processes: as four parts at once, one of them killed and begun again, then merged, it leaves the
ledger, the hashes and the table that one process leaves.

usage: parts.py OUTCRY SOURCE
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
SETS = (
    "data.dataset=d.h5 data.folds=walk-forward:2:anchored window.steps=8 model.hidden=8 model.heads=2 threads=1 "
    "train.epochs=1 train.windows_per_epoch=600 train.valid_windows=200 study.seeds=1,2 study.resamples=100"
).split() + ["study.trials=base,model.hidden=4 train.rate=0.002"]
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name}: {str(said)[-500:]}")


def start(folder, *more):
    pairs = [p for s in SETS for p in ("--set", s)]
    command = [OUTCRY, "study", f"{SOURCE}/configs/study.yaml", "--out", "study", "--json", "--quiet", *pairs, *more]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(name, process, code=0):
    out, said = process.communicate(timeout=100)
    check(name, process.returncode == code, f"exit {process.returncode} {said}")
    return json.loads(out.splitlines()[-1]) if out.strip() else {}


def dataset_make(folder):
    os.mkdir(folder)
    for command in (
        "simulate --out s.events --events 20000 --seed 3 --levels 10 --signal 0.8 --label direction:10:0.0001",
        f"build {SOURCE}/configs/build-book.yaml --set data.events=s.events --out d.h5",
    ):
        subprocess.run([OUTCRY, *command.split(), "--quiet"], cwd=folder, check=True, capture_output=True, timeout=60)


def files(folder):
    """What a study leaves, without the head of the ledger beside the data, which says when each look was."""
    study = json.load(open(f"{folder}/study/study.json"))
    looks = study.pop("data_ledger_hash")
    ledger = open(f"{folder}/study/ledger.jsonl").read()
    found = {}
    for root, _, names in os.walk(f"{folder}/study/runs"):
        for name in names:
            if name == "predictions.h5":
                found[os.path.relpath(f"{root}/{name}", folder)] = open(f"{root}/{name}", "rb").read()
    return study, looks, ledger, found


def killed_and_begun_again(folder):
    process = start(folder, "--part", "3/4")
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None and not os.path.isdir(f"{folder}/study/runs"):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


with tempfile.TemporaryDirectory() as work:
    one, many = f"{work}/one", f"{work}/many"
    dataset_make(one)
    dataset_make(many)
    whole = end("one process", start(one))
    killed_and_begun_again(many)
    parts = [end("a part", process) for process in [start(many, "--part", f"{i}/4") for i in (4, 3, 2, 1)]]
    check("each part has its share", [p.get("runs") for p in parts] == [2, 2, 2, 2], parts)
    check("no table before the merge", not os.path.exists(f"{many}/study/study.json"))
    merged = end("merged", start(many))
    check("the same ledger_hash", merged and merged == whole, (merged, whole))
    (study, looks, ledger, predictions), (study4, looks4, ledger4, predictions4) = files(one), files(many)
    check("the same table", study == study4)
    check("the same lines", ledger == ledger4 and len(ledger.splitlines()) == 2 * (4 + 2), ledger)
    check("the same predictions, byte for byte", predictions == predictions4 and len(predictions) == 4)
    check("the looks are at other times", looks != looks4)
    begun = [f for f in os.listdir(many) if f.endswith(".ledger")]
    records = [json.loads(line)["command"] for line in open(f"{many}/{begun[0]}")]
    check("the study was begun once", records.count("study") == 1, records)
    check("again: nothing is done twice", end("again", start(many)) == whole)
    for bad in ("0/4", "5/4", "1", "1/0", "a/b", "1/4x", "-1/4"):
        end(f"--part {bad}", start(one, f"--part={bad}"), 64)
    SETS[-1] = "study.trials=base"
    end("a part of another study", start(many, "--part", "1/4"), 78)
print("\n".join(faults))
sys.exit(1 if faults else 0)
