"""The research workflow from outside, on bars made here: two symbols, two labels, hostile names, changed files, full
disks.

usage: workflow.py OUTCRY SOURCE
Each check is a promise of DESIGN sections 4 and 10 that a unit test cannot see, because it lies between two commands.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
START, BARS, HOUR = 1_600_000_000, 3000, 3600 * 10**9
LABELS = "direction:3:0.0005,cost:6:0.0002"
SMALL = (
    "window.steps=6",
    "model.hidden=8",
    "model.heads=2",
    "train.epochs=1",
    "train.windows_per_epoch=512",
    "train.valid_windows=256",
    f"data.labels={LABELS}",
)
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name} {str(said)[-400:]}")


def limited(bytes_most):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_most, bytes_most))


def run(*arguments, sets=(), limit=None):
    pairs = [p for s in sets for p in ("--set", s)]
    return subprocess.run(
        [OUTCRY, *arguments, *pairs, "--json", "--quiet"],
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=limited(limit) if limit else None,
    )


def result(*arguments, sets=()):
    r = run(*arguments, sets=sets)
    if r.returncode:
        sys.exit(f"outcry {' '.join(arguments)}: exit {r.returncode}: {r.stderr[-1000:]}")
    return json.loads(r.stdout.splitlines()[-1])


def bars(path, seed, broken=0):
    """A random walk with a little memory; `broken` lines of it are wrong."""
    rng, price, drift = random.Random(seed), 100.0, 0.0
    with open(path, "w", encoding="ascii") as file:
        file.write("time,open,high,low,close,volume\n")
        for i in range(BARS):
            drift = 0.5 * drift + rng.gauss(0, 0.0007)
            last, price = price, price * (1 + drift)
            high, low = max(last, price) + 0.01, min(last, price) - 0.01
            if i < broken:
                high, low = low, high
            file.write(f"{START + i * 3600},{last:.2f},{high:.2f},{low:.2f},{price:.2f},{100 + rng.randrange(50)}\n")


def import_(work, symbol, csv, out):
    return run(
        "import",
        "--format",
        "csv",
        "--symbol",
        symbol,
        "--bar",
        "1h",
        "--stamp",
        "start",
        "--out",
        f"{work}/{out}",
        f"{work}/{csv}",
    )


def imports(work):
    for i, symbol in enumerate(("AAA", "BBB")):
        bars(f"{work}/{symbol}.csv", i)
        check("import", import_(work, symbol, f"{symbol}.csv", f"{symbol}.events").returncode == 0)
    for symbol in ("A/B", "..", ".", "a\nb", "a b", "a,b", 'a"b', "", "x" * 32):
        r = import_(work, symbol, "AAA.csv", "no.events")
        check(f"symbol {symbol!r} is refused", r.returncode == 64 and not os.path.exists(f"{work}/no.events"), r.stderr)
    bars(f"{work}/bad.csv", 3, broken=300)
    r = import_(work, "BAD", "bad.csv", "bad.events")
    said = json.loads(r.stdout.splitlines()[-1]) if r.stdout.strip() else {}
    check(
        "an import with too many refused lines says how many",
        r.returncode == 65 and said.get("rejected") == 300,
        r.stdout,
    )


def build(work, out, *sets, **how):
    return run(
        "build",
        f"{SOURCE}/configs/build-bars.yaml",
        "--out",
        f"{work}/{out}",
        sets=(f"data.events={work}/AAA.events,{work}/BBB.events", f"labels={LABELS}", *sets),
        **how,
    )


def datasets(work):
    r = build(work, "d.h5")
    check("build", r.returncode == 0, r.stderr)
    v = result("verify", f"{work}/d.h5")
    check("verify", v["rows_checked"] >= 2000 and v["rows_different"] == 0 and v["labels_different"] == 0, v)


def ledger(work):
    path = [f for f in os.listdir(work) if f.endswith(".ledger")]
    return [json.loads(line) for line in open(f"{work}/{path[0]}", encoding="utf-8")] if path else []


def results(work):
    train = result(
        "train", f"{SOURCE}/configs/train.yaml", "--out", f"{work}/run", sets=(f"data.dataset={work}/d.h5", *SMALL)
    )
    m = result("evaluate", "--model", f"{work}/run/model", "--data", f"{work}/d.h5", "--out", f"{work}/result")
    check("both labels are judged", [h["label"] for h in m["horizons"]] == LABELS.split(","))
    check("weights", m["model"]["weights_hash"] == train["weights_hash"])
    for h in m["horizons"]:
        shares = [sum(row) for row in h["confusion"]]
        check(
            "truth in rows of the confusion",
            all(abs(a / h["samples"] - b) < 1e-12 for a, b in zip(shares, h["classes"]["test"])),
            h["confusion"],
        )
    # Two symbols at a time: blocks hold both, and twice as many samples.
    one = json.load(open(f"{work}/result/metrics.json", encoding="utf-8"))["horizons"][0]
    check(
        "a block of the bootstrap covers the horizon of every symbol",
        one["intervals"]["block"] >= 2 * 2 * 3,
        one["intervals"]["block"],
    )
    lines = ledger(work)
    check("train and evaluate are in the ledger", [l["command"] for l in lines] == ["train", "evaluate"], lines)
    check(
        "a look at the test split has dated returns",
        lines[-1].get("returns", {}).get("count") == m["samples"],
        lines[-1],
    )
    check(
        "no hash of nothing", all(set(l.get(k, "1")) != {"0"} for l in lines for k in ("config", "bundle")), lines[-1]
    )
    result("report", f"{work}/result", "--out", f"{work}/r.html")
    page = json.load(open(f"{work}/r.json", encoding="utf-8"))
    check(
        "the report's figures are the result's",
        page["inputs"] == [json.load(open(f"{work}/result/metrics.json", encoding="utf-8"))],
    )
    for gone in os.listdir(work):
        if gone.endswith(".ledger"):
            os.rename(f"{work}/{gone}", f"{work}/away")
    json.dump(dict(m, trials="unknown"), open(f"{work}/m.json", "w", encoding="utf-8"))
    check(
        "the first look without a ledger begins one",
        result("evaluate", "--model", f"{work}/run/model", "--data", f"{work}/d.h5", "--out", f"{work}/again")["trials"]
        == 1,
    )


def splits(work):
    last = (START + BARS * 3600) * 10**9
    text = "format: outcry-folds\nversion: 1\nfolds:\n  - \"%s train 0..%d valid %d..%d test %d..%d\"\n"
    a, b = last - 1000 * HOUR, last - 500 * HOUR
    open(f"{work}/folds.yaml", "w", encoding="ascii").write(text % ("<script>alert(1)</script>", a, a, b, b, last))
    open(f"{work}/empty.yaml", "w", encoding="ascii").write(text % ("nothing", a, a, b, last + HOUR, last + 8 * HOUR))
    result(
        "train",
        f"{SOURCE}/configs/train.yaml",
        "--out",
        f"{work}/none",
        sets=(f"data.dataset={work}/d.h5", f"data.folds={work}/empty.yaml", *SMALL),
    )
    r = run("evaluate", "--model", f"{work}/none/model", "--data", f"{work}/d.h5", "--out", f"{work}/none-result")
    check(
        "an empty test split is named",
        r.returncode == 65 and "test split of nothing" in r.stderr and not os.path.exists(f"{work}/none-result"),
        (r.returncode, r.stderr, r.stdout),
    )


def study(work, out, *sets, data="d.h5"):
    return run(
        "study",
        f"{SOURCE}/configs/study.yaml",
        "--out",
        f"{work}/{out}",
        sets=(
            f"data.dataset={work}/{data}",
            f"data.folds={work}/folds.yaml",
            *SMALL,
            "study.resamples=100",
            "study.seeds=1,2",
            *sets,
        ),
    )


def studies(work):
    check("study", study(work, "study").returncode == 0)
    lines = [l["command"] for l in ledger(work)]
    check("the study has its own record", lines.count("study") == 1, lines)
    first = open(f"{work}/study/study.json", "rb").read()
    check(
        "a study that is done is not done again",
        study(work, "study").returncode == 0 and open(f"{work}/study/study.json", "rb").read() == first,
    )
    other = study(work, "study", "threads=1", "log.level=debug", "train.checkpoint_seconds=7")
    check("a study goes on with other threads, log level, checkpoints", other.returncode == 0, other.stderr[-300:])
    other = study(work, "study", "train.rate=0.0123")
    check("a study does not go on with another rate", other.returncode == 78 and "config.yaml differs" in other.stderr,
          other.stderr[-300:])
    whole = json.loads(first)
    check(
        "every label is in the study",
        whole["labels"] == LABELS.split(",") and len(whole["folds"][0]["tested"]) == 4,
        whole["labels"],
    )
    r = run("report", f"{work}/study", "--out", f"{work}/s.html")
    page = open(f"{work}/s.html", encoding="utf-8").read() if r.returncode == 0 else ""
    check("names are escaped", "&lt;script&gt;" in page and "<script" not in page, r.stderr)
    check("every label is in the page", all(f"<code>{l}</code>" in page for l in LABELS.split(",")))
    pairs = [
        p
        for s in (
            f"data.dataset={work}/d.h5",
            f"data.folds={work}/folds.yaml",
            *SMALL,
            "study.resamples=100",
            "study.seeds=1,2",
        )
        for p in ("--set", s)
    ]
    killed = subprocess.Popen(
        [OUTCRY, "study", f"{SOURCE}/configs/study.yaml", "--out", f"{work}/cut", *pairs, "--quiet"],
        stderr=subprocess.DEVNULL,
    )
    for _ in range(1000):
        if os.path.exists(f"{work}/cut/runs/fold-00/trial-00/seed-1/run/log.jsonl"):
            break
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    check("a study that was killed goes on", study(work, "cut").returncode == 0)
    figures = lambda folder: [
        {k: v for k, v in t.items() if k != "predictions_hash"}
        for f in json.load(open(f"{work}/{folder}/study.json", encoding="utf-8"))["folds"]
        for t in f["tested"]
    ]
    check("and gives the same figures", figures("cut") == figures("study"))
    for name, sets in (
        ("a seed twice", ["study.seeds=1,1"]),
        ("no seed", ["study.seeds=../x"]),
        ("a trial's own seed", ["study.trials=seed=9"]),
        ("a trial's own data", ["study.trials=data.labels=x"]),
        ("a trial's wrong key", ["study.trials=model.hiden=3"]),
    ):
        r = study(work, "wrong", *sets)
        check(
            f"study: {name} is refused before anything is trained",
            r.returncode == 78 and not os.path.exists(f"{work}/wrong"),
            r.stderr,
        )
    build(work, "e.h5", "bar_spread=0.01")
    shutil.copy(f"{work}/d.h5", f"{work}/keep.h5")
    shutil.move(f"{work}/e.h5", f"{work}/d.h5")
    r = study(work, "study")
    check("a study does not mix two datasets", r.returncode == 65 and "dataset" in r.stderr, r.stderr)
    shutil.move(f"{work}/keep.h5", f"{work}/d.h5")
    open(f"{work}/study/runs/fold-00/trial-00/seed-2/result/predictions.h5", "ab").write(b"x")
    r = run("report", f"{work}/study", "--out", f"{work}/t.html")
    check(
        "a study's changed predictions are refused",
        r.returncode == 65 and "seed-2" in r.stderr and not os.path.exists(f"{work}/t.html"),
        r.stderr,
    )


def tree(folder):
    return {
        os.path.join(d, f): open(os.path.join(d, f), "rb").read()
        for d, _, files in os.walk(folder)
        for f in files
        if not f.endswith(".ledger")
    }


def full_disks(work):
    before = tree(work)
    size = os.path.getsize
    attempts = {
        "build": lambda: build(work, "d.h5", limit=size(f"{work}/d.h5") // 2),
        "evaluate, predictions": lambda: run(
            "evaluate",
            "--model",
            f"{work}/run/model",
            "--data",
            f"{work}/d.h5",
            "--resamples",
            "100",
            "--out",
            f"{work}/result",
            limit=size(f"{work}/result/predictions.h5") // 2,
        ),
        "report": lambda: run("report", f"{work}/result", "--out", f"{work}/r.html", limit=4096),
        "simulate": lambda: run("simulate", "--events", "20000", "--out", f"{work}/sim.events", limit=65536),
        "import": lambda: run(
            "import",
            "--format",
            "csv",
            "--symbol",
            "AAA",
            "--bar",
            "1h",
            "--stamp",
            "start",
            "--out",
            f"{work}/AAA.events",
            f"{work}/AAA.csv",
            limit=65536,
        ),
        "export": lambda: run("export", "--model", f"{work}/run/model", "--onnx", f"{work}/m.onnx", limit=4096),
    }
    for name, attempt in attempts.items():
        r = attempt()
        check(
            f"{name} on a full disk fails with a message",
            r.returncode == 1 and r.stderr.strip(),
            f"exit {r.returncode} {r.stderr}",
        )
        after = tree(work)
        check(
            f"{name} on a full disk leaves all files as they were",
            after == before,
            [k for k in set(before) | set(after) if before.get(k) != after.get(k)],
        )
        before = after


with tempfile.TemporaryDirectory() as folder:
    for step in (imports, datasets, results, splits, studies, full_disks):
        step(folder)
        if faults:
            break
print("\n".join(faults) or "the workflow keeps its promises")
sys.exit(1 if faults else 0)
