"""Predictions made elsewhere, with h5py: the example of docs/formats.md trades; what says nothing of its past is
stamped on every output; what has seen the times is refused whatever its symbol is called; what meets no row is told.

usage: backtest_h5py.py OUTCRY SOURCE       needs a Python with h5py and numpy (OUTCRY_PYTHON), else 77
"""
import json
import os
import re
import subprocess
import sys
import tempfile

PYTHON = os.environ.get("OUTCRY_PYTHON")
if PYTHON and "--again" not in sys.argv:
    sys.exit(subprocess.run([PYTHON, "-B", *sys.argv, "--again"], check=False).returncode)
try:
    import h5py
    import numpy
except ImportError:
    print(f"skipped: {sys.executable} has no h5py (OUTCRY_PYTHON names another)")
    sys.exit(77)

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
ROW_STEP = 25
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name} {str(said)[-600:]}")


def run(*arguments, sets=(), form=("--json",)):
    pairs = [p for s in sets for p in ("--set", s)]
    return subprocess.run([OUTCRY, *arguments, *pairs, *form], capture_output=True, text=True, timeout=300)


def example(path, time_ns, probabilities, seen):
    """The code block of docs/formats.md, as it stands there."""
    text = open(f"{SOURCE}/docs/formats.md", encoding="utf-8").read()
    code = re.search(r"```python\n(.*?)```", text[text.index("predictions.h5"):], re.S).group(1)
    scope = {"path": path, "time_ns": time_ns, "probabilities": probabilities, "seen": seen}
    exec(compile(code, "docs/formats.md", "exec"), scope)


def backtest(work, name, file, *flags, sets=()):
    r = run("backtest", f"{SOURCE}/configs/backtest.yaml", *flags, "--out", f"{work}/{name}",
            sets=(f"data.events={work}/m.events", f"model.predictions={file}", *sets))
    return r, json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 else {}


def refused(work, name, file, says, sets=()):
    r, _ = backtest(work, name, file, sets=sets)
    check(f"{name} is refused", r.returncode == 65 and says in r.stderr, r)


def unknown(work, file):
    """No intervals: it runs, and every output says so."""
    r, told = backtest(work, "unknown", file)
    check("unknown provenance runs", r.returncode == 0 and told["orders"] > 5, r)
    r = run("backtest", f"{SOURCE}/configs/backtest.yaml", "--in-sample", "--out", f"{work}/plain", form=(),
            sets=(f"data.events={work}/m.events", f"model.predictions={file}"))
    check("stamped on the terminal", "PROVENANCE UNKNOWN" in r.stdout and "IN SAMPLE" in r.stdout, r.stdout)
    check("stamped in the JSON", told.get("provenance") == "provenance unknown", told)
    saved = json.load(open(f"{work}/unknown/results.json"))
    check("stamped in results.json", saved["provenance"] == "provenance unknown" and not saved["verdict"]["shown"])
    r = run("report", f"{work}/unknown", "--out", f"{work}/unknown.html")
    check("stamped on the page", r.returncode == 0 and "PROVENANCE UNKNOWN" in open(f"{work}/unknown.html").read(), r)


def known(work, file, edit, time_ns):
    """Intervals that overlap, of this symbol or another; and the way to run all the same."""
    def seen_set(name, first, last):
        with h5py.File(file, "r+") as f:
            f["symbols"][0] = numpy.bytes_(name)
            f["seen/first_ns"][:], f["seen/last_ns"][:] = first, last

    edit("seen", None)
    for name in ("OTHER", "EURUSD"):
        seen_set(name, time_ns[0], time_ns[len(time_ns) // 2])
        refused(work, f"seen-{name}", file, "--in-sample")
    r, told = backtest(work, "in", file, "--in-sample")
    check("in sample", told.get("in_sample") is True, r)
    r, told = backtest(work, "behind", file, sets=("data.unseen=true",))
    check("behind it", told.get("in_sample") is False and told["first_ns"] > time_ns[len(time_ns) // 2], r)
    seen_set("OTHER", 1, 2)
    r, told = backtest(work, "before", file)
    check("seen long before", told.get("provenance") == "known" and told["predictor"]["joined"] == len(time_ns), r)


def main(work):
    r = run("simulate", "--out", f"{work}/m.events", "--events", "40000", "--seed", "5", "--levels", "10",
            "--signal", "0.5")
    run("build", f"{SOURCE}/configs/build-book.yaml", "--out", f"{work}/m.h5", sets=(f"data.events={work}/m.events",))
    with h5py.File(f"{work}/m.h5") as f:
        time_ns = f["symbols/SIM/time_ns"][1000::ROW_STEP]
    up = numpy.arange(len(time_ns)) // 10 % 2
    p = numpy.stack([0.7 * up + 0.1, 0.7 * (1 - up) + 0.1, numpy.full(len(up), 0.1)], axis=1).astype("f4")
    file = f"{work}/made.h5"

    def edit(what, value):
        example(file, time_ns, p, [("OTHER", 1, 2)] if what == "seen" else [])
        if what not in (None, "seen"):
            with h5py.File(file, "r+") as f:
                f[what][:len(value)] = value

    edit(None, None)
    check("market", r.returncode == 0, r)
    unknown(work, file)
    known(work, file, edit, time_ns)
    edit("time_ns", time_ns + 1)
    refused(work, "shifted", file, "at the very time of a row")
    edit("symbols", [numpy.bytes_("SIN")])
    refused(work, "elsewhere", file, "predicts nothing")
    edit("time_ns", time_ns[:3][::-1].copy())
    refused(work, "backwards", file, "row 1 (SIM)")
    edit("time_ns", time_ns[[0, 0, 2]])
    refused(work, "twice", file, "row 1 (SIM)")
    edit("probabilities", numpy.full((4, 1, 3), numpy.nan, "f4"))
    refused(work, "not a number", file, "row 0 (SIM)")
    edit(None, None)
    with h5py.File(file, "r+") as f:
        del f.attrs["split"]
        f.attrs["split"] = "test"
    refused(work, "a text of any length", file, "split")
    print("\n".join(faults) or f"{len(time_ns)} predictions made elsewhere: joined, stamped, refused")


with tempfile.TemporaryDirectory() as place:
    main(place)
sys.exit(1 if faults else 0)
