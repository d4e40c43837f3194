"""Every command explains itself and refuses wrong use with the promised exit codes (DESIGN: the command contract).

usage: commands.py OUTCRY SOURCE
"""
import json
import os
import re
import subprocess
import sys
import tempfile

OUTCRY, SOURCE = sys.argv[1:3]
COMMANDS = ("doctor simulate import build verify train evaluate predict study report export backtest replay "
            "trade serve models bench").split()
faults = []


def run(*arguments):
    return subprocess.run([OUTCRY, *arguments], capture_output=True, text=True, timeout=60)


def check(name, holds, result=None):
    if not holds:
        said = f": exit {result.returncode}: {(result.stderr or result.stdout)[-300:]}" if result else ""
        faults.append(name + said)


for command in COMMANDS:
    r = run(command, "--help")
    check(f"{command} --help", r.returncode == 0 and len(r.stdout.splitlines()) >= 5, r)
    r = run(command, "--no-such-flag")
    check(f"{command} --no-such-flag", r.returncode == 64, r)


def keys_of(text):
    """Dotted keys of a config file as ours are written: sections of two spaces, no sequences of mappings."""
    section, keys = "", []
    for line in text.splitlines():
        found = re.match(r"( *)([a-z_0-9]+):( +[^#\s].*)?", line)
        if found and not found.group(3):
            section = found.group(2) + "."
        elif found:
            keys.append((section if found.group(1) else "") + found.group(2))
    return keys


for command in COMMANDS:
    said = run(command, "--help").stdout
    if "--set=" not in said:
        continue
    table = said.partition("Keys of the configuration")[2]
    names = ("build-bars", "build-book") if command == "build" else (command,)
    missing = [k for n in names for k in keys_of(open(f"{SOURCE}/configs/{n}.yaml").read())
               if not re.search(rf"^  {re.escape(k)} +\S", table, re.M)]
    check(f"{command} --help: keys not told: {missing}", table and not missing)
    rows = re.findall(r"^  [a-z_]+[a-z_.0-9]* +.*", table, re.M)
    check(f"{command} --help: kind and default of each key", rows and all(
        re.search(r" (an? |one of |true or false).*(\[.*\]| \(required\))$", row) for row in rows))
said = run("train", "--help").stdout
check("train --help: unit", re.search(r"^  threads +an integer from 0 to 256 threads \[0\]$", said, re.M))
said = run("import", "--help").stdout.partition("Formats:")[2]
for name in ("csv", "metatrader", "lobster", "binance"):
    check(f"import --help: {name}", re.search(rf"^  {name} +\S", said, re.M))
check("no command", run().returncode == 64)
check("unknown command", run("frobnicate").returncode == 64)
r = run("doctor", "--json")
check("doctor --json", {"backends", "chosen", "reasons", "features"} <= set(json.loads(r.stdout.splitlines()[-1])), r)
environment = {**os.environ, "OUTCRY_ISA": "avx513"}
r = subprocess.run([OUTCRY, "doctor"], capture_output=True, text=True, timeout=60, env=environment)
check("an OUTCRY_ISA that is none", r.returncode == 78 and "avx513" in r.stderr, r)
r = run("bench", "--list")
check("bench --list", r.returncode == 0 and "latency-window" in r.stdout, r)

with tempfile.TemporaryDirectory() as work:
    for name in ("build-bars", "build-book", "train", "study", "backtest", "trade", "serve"):
        text = open(f"{SOURCE}/configs/{name}.yaml").read()
        command = {"build-bars": "build", "build-book": "build"}.get(name, name)
        out = () if name == "serve" else ("--out", f"{work}/out")
        for what, bad, expected in (("unknown key", "nonsense: 3\n" + text, "nonsense"),
                                    ("tabs", "a:\n\t- 1\n", "bad.yaml:"),
                                    ("anchor", "seed: &a 1\n", "bad.yaml:1:7"),
                                    ("alias", "seed: 1\nthreads: *a\n", "bad.yaml:2:10"),
                                    ("duplicate", text + "\nseed: 1\nseed: 2\n", "seed")):
            open(f"{work}/bad.yaml", "w").write(bad)
            r = run(command, f"{work}/bad.yaml", *out)
            placed = re.search(r"bad\.yaml:\d+:\d+", r.stderr)
            check(f"{name}: {what}", r.returncode == 78 and expected in r.stderr and placed, r)
        r = run(command, f"{work}/absent.yaml", *out)
        check(f"{name}: absent", r.returncode in (1, 78) and "absent.yaml" in r.stderr, r)
    train = ("train", f"{SOURCE}/configs/train.yaml", "--out", f"{work}/out")
    r = run(*train, "--set", "model.hidden=nan", "--set", "train.batch=0")
    check("two bad sets", r.returncode == 78 and "model.hidden" in r.stderr and "train.batch" in r.stderr, r)
    r = run(*train, "--set", "backend=cuda", "--set", f"data.dataset={work}/none.h5")
    check("explicit cuda", r.returncode != 0 and r.stderr.strip() != "", r)
    check("nothing was written", os.listdir(work) == ["bad.yaml"])
    for command, arguments in (("verify", "{w}/no.h5"),
                               ("predict", "--model {w}/no --data {w}/no.h5 --symbol X --rows 1:2"),
                               ("evaluate", "--model {w}/no --data {w}/no.h5 --out {w}/r"),
                               ("report", "{w}/no --out {w}/r.html"),
                               ("export", "--model {w}/no --onnx {w}/o.onnx")):
        r = run(command, *[a.format(w=work) for a in arguments.split()])
        check(f"{command} without its input", r.returncode in (1, 65) and work in r.stderr, r)

with tempfile.TemporaryDirectory() as work:
    sample = [f"{work}/m.events", f"{work}/m.h5"]
    run("simulate", "--out", sample[0], "--events", "6000", "--seed", "1", "--signal", "0.5", "--label",
        "direction:20:0")
    run("build", f"{SOURCE}/configs/build-book.yaml", "--set", f"data.events={sample[0]}", "--out", sample[1])
    train = ["train", f"{SOURCE}/configs/train.yaml", "--quiet", *(text for key in (
        f"data.dataset={sample[1]}", "train.epochs=1", "train.windows_per_epoch=64", "window.steps=5", "model.hidden=8",
        "log.level=info") for text in ("--set", key))]
    r = run(*train, "--out", f"{work}/loud")
    says = "info  train" in r.stderr and "CPU" in r.stderr
    check("log.level=info says the backend and why", r.returncode == 0 and says, r)
    r = run(*train, "--log-level=error", "--out", f"{work}/still")
    check("--log-level wins over log.level", r.returncode == 0 and r.stderr == "", r)

print("\n".join(faults) or f"{len(COMMANDS)} commands keep the contract")
sys.exit(1 if faults else 0)
