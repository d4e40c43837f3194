"""outcry bench serve under load: every request of the schedule is accounted for, the same seed is the same schedule, an
overload is refused and leaves nothing behind, the sweep's page holds its curve. Times are printed, not judged, but the
recovery where OUTCRY_FULL is set (60 s at ten times the capacity).

usage: load.py OUTCRY SOURCE
"""
import json
import os
import re
import subprocess
import sys
import tempfile

OUTCRY, FULL = sys.argv[1], os.environ.get("OUTCRY_FULL") == "1"
SEED = os.environ.get("OUTCRY_SEED", "1")
SMALL = ["--hidden", "16", "--steps", "20", "--inputs", "8", "--layers", "1", "--heads", "2"]
print("seed", SEED)


def bench(*arguments):
    command = [OUTCRY, "bench", "serve", "--seed", SEED, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    figures = {f["figure"]: f["value"] for f in json.loads(done.stdout.splitlines()[-1])["figures"]}
    return figures, re.findall(r"schedule: .*hash (\w+)", done.stderr)


def accounted(figures, prefix):
    of = {name: figures[prefix + name] for name in ("due", "answered", "refused", "late", "failed", "lost")}
    assert of["due"] == sum(of.values()) - of["due"] and of["failed"] == of["lost"] == 0 and of["due"] > 0, of
    return of


def rates():
    for mode in "window", "push":
        for transport in "ring", "http":
            given = ["--mode", mode, "--transport", transport, "--clients", "3", "--burst", "4", "--rate", "400",
                     "--seconds", "0.15", *SMALL]
            figures, schedule = bench(*given)
            of = accounted(figures, "load_")
            assert of["answered"] == of["due"], of
            assert 0 < figures["load_p50"] <= figures["load_p99"] <= figures["load_max"], figures
            if transport == "ring":
                assert schedule == bench(*given)[1] and schedule != bench(*given, "--gaps", "even")[1]
    late, _ = bench("--rate", "400", "--seconds", "0.2", "--deadline-us", "0.001", *SMALL)
    assert accounted(late, "load_")["late"] == late["load_due"], late
    for wrong in (["--rate", "5", "--sweep"], ["--overload", "--mode", "push"], ["--mode", "nothing"], ["--page", "x"]):
        assert subprocess.run([OUTCRY, "bench", "serve", *wrong], capture_output=True).returncode == 64, wrong


def sweep():
    with tempfile.TemporaryDirectory() as work:
        bench("--sweep", "--page", f"{work}/load.html", "--seconds", "0.05", *SMALL)
        page = open(f"{work}/load.html", encoding="utf-8").read()
    assert page.count("<polyline") == 4 and page.count("<tr>") == 9, page
    assert "http" not in page.replace("http-equiv", ""), page


def overload():
    figures, _ = bench("--overload", "--clients", "4", "--seconds", "60" if FULL else "0.4")
    parts = {name: accounted(figures, f"overload_{name}_") for name in ("before", "overload", "after")}
    for name, value in figures.items():
        print(name, value)
    assert parts["overload"]["refused"] > 0.5 * parts["overload"]["due"], parts
    assert figures["overload_growth"] < 1000, figures["overload_growth"]
    assert parts["after"]["answered"] > 0, parts
    assert not FULL or figures["overload_recovery"] <= 1, figures["overload_recovery"]


overload()
if not FULL:
    rates()
    sweep()
print("load: all accounted for")
