"""A study over several processes: as four parts at once, one of them killed and begun again, then merged, it leaves the
ledger, the hashes and the table that one process leaves. With `ranks`: the same for the ranks of mpirun; one that stops
is named, and all save when one is asked to.

usage: parts.py OUTCRY SOURCE [ranks]
"""

import glob
import json
import os
import re
import shutil
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


def start(folder, *more, launcher=()):
    pairs = [p for s in SETS for p in ("--set", s)]
    command = [*launcher, OUTCRY, "study", f"{SOURCE}/configs/study.yaml", "--out", "study", "--json", "--quiet"]
    command += [*pairs, *more]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


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


def ranks(folder, count, *more):
    return start(folder, *more, launcher=["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(count)])


def victim_of(job, rank):
    """Process id of a rank of mpirun."""
    wanted = f"OMPI_COMM_WORLD_RANK={rank}".encode()
    until = time.monotonic() + 60
    while time.monotonic() < until and job.poll() is None:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                parent = int(open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[1])
                if parent == job.pid and wanted in open(f"/proc/{name}/environ", "rb").read().split(b"\0"):
                    return int(name)
            except (OSError, ValueError):
                pass
        time.sleep(0.01)
    sys.exit("the study was over before a rank was harmed")


def signal_to_the_idle(folder):
    """A rank whose share is done waits for the others; a signal to it stops them all the same."""
    job = ranks(folder, 2, "--set", "study.seeds=1", "--set", "study.trials=train.epochs=4000 train.patience=0,base",
                "--out", "study-idle")  # fmt: skip
    idle, until = victim_of(job, 1), time.monotonic() + 60
    results = f"{folder}/study-idle/runs/*/trial-01/*/run/model/bundle.json"
    while job.poll() is None and len(glob.glob(results)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.5)
    begun = time.monotonic()
    if job.poll() is None:
        os.kill(idle, signal.SIGUSR1)
    try:
        text = job.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        job.terminate()
        text = job.communicate(timeout=60)[1]
    took = time.monotonic() - begun
    check("a signal to a rank whose share is done: 75", job.returncode == 75, f"{job.returncode} {text}")
    print(f"study over 2 ranks, SIGUSR1 to the one that is done: {took:.1f} s")


def over_ranks(one, folder, whole):
    """Harmed twice, then run on another number of ranks."""
    long = ("--set", "train.epochs=400", "--set", "train.patience=0", "--out", "study-long")
    for number, code, said in (
        (signal.SIGSTOP, 1, r"no answer from rank 1 on \S+ for"),
        (signal.SIGUSR1, 75, "another rank was stopped|stopped after step"),
    ):
        shutil.rmtree(f"{folder}/study-long", ignore_errors=True)
        job = ranks(folder, 2, *long)
        victim = victim_of(job, 1)
        while job.poll() is None and len(glob.glob(f"{folder}/study-long/runs/*/*/*/run/log.jsonl")) < 2:
            time.sleep(0.01)
        begun = time.monotonic()
        if job.poll() is None:
            os.kill(victim, number)
        out, text = job.communicate(timeout=100)
        took = time.monotonic() - begun
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        check(f"{number.name} to a rank: exit", job.returncode == code, f"{job.returncode} {text}")
        check(f"{number.name} to a rank: said", re.search(said, text), text)
        check(f"{number.name} to a rank: {took:.1f} s", took < 60, text)
        print(f"study over 2 ranks, {number.name} to rank 1: {took:.1f} s")
    failed = r"rank 0 on .*rank 1 on \S+ has failed: fold 0, trial 0, seed 2: "
    for _ in range(5):      # on a busy machine mpirun may end rank 0, as rank 1 has gone, before it says so
        shutil.rmtree(f"{folder}/study-long")
        os.makedirs(f"{folder}/study-long/runs/fold-00/trial-00/seed-2")
        open(f"{folder}/study-long/runs/fold-00/trial-00/seed-2/run", "w").close()
        begun = time.monotonic()
        job = ranks(folder, 2, *long)
        text, took = job.communicate(timeout=100)[1], time.monotonic() - begun
        check("a rank fails: exit", job.returncode == 1, f"{job.returncode} {text}")
        check(f"a rank fails: {took:.1f} s", took < 60, text)
        if re.search(failed, text):
            break
    check("a rank fails: said", re.search(failed, text), text)
    shutil.rmtree(f"{folder}/study-long")
    signal_to_the_idle(folder)
    job = start(folder, *long)
    while job.poll() is None and not glob.glob(f"{folder}/study-long/runs/*/*/*/run/log.jsonl"):
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    end("SIGTERM to a study of one process", job, 75)
    for count in (2, 3):
        shutil.rmtree(f"{folder}/study", ignore_errors=True)
        check(f"{count} ranks: the same ledger_hash", end(f"{count} ranks", ranks(folder, count)) == whole)
        (table, _, lines, tested), (table1, _, lines1, tested1) = files(folder), files(one)
        for t in (table, table1):                       # every study in this folder has looked at the test split
            check(f"{count} ranks: looks", t.pop("looks_at_test") >= 4)
        check(f"{count} ranks: the same files", (table, lines, tested) == (table1, lines1, tested1), (table, table1))
    end("a part of ranks", ranks(folder, 2, "--part", "1/2"), 64)


def over_parts(one, many, whole):
    """At once, one of them killed and begun again, then merged."""
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


about = subprocess.run([OUTCRY, "doctor"], capture_output=True, text=True, check=True).stdout
if "ranks" in sys.argv and ("has no MPI" in about or not shutil.which("mpirun")):
    print(f"skipped: this build has no MPI, or there is no mpirun ({shutil.which('mpirun')})")
    sys.exit(77)
with tempfile.TemporaryDirectory() as work:
    one, many = f"{work}/one", f"{work}/many"
    dataset_make(one)
    dataset_make(many)
    whole = end("one process", start(one))
    if "ranks" in sys.argv:
        over_ranks(one, many, whole)
    else:
        over_parts(one, many, whole)
print("\n".join(faults))
sys.exit(1 if faults else 0)
