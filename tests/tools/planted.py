"""What is planted is found, what is not there is not claimed: simulate, build, train, evaluate with one seed.

usage: planted.py OUTCRY SOURCE SEED SIGNAL   (SIGNAL 0: the report must claim no skill)
The bounds: the model closes at least 90 % of the gap between majority and the best achievable accuracy, logistic
regression on the last row at most half of it. A harness check: a model trained for no time (pause after 1 step is not
a model, so one step at a tiny rate) must fail the first bound.
"""
import json
import subprocess
import sys
import tempfile


# The smallest that does it: half a minute on one core.
RECIPE = ("window.steps=48", "model.hidden=32", "model.dropout=0.1", "model.head_dropout=0.1", "train.rate=0.004",
          "train.valid_every=200")


def main():
    outcry, source, seed, signal = sys.argv[1:5]

    def run(*arguments):
        result = subprocess.run([outcry, *arguments, "--json", "--quiet"], capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"outcry {' '.join(arguments)}: exit {result.returncode}: {result.stderr[-2000:]}")
        return json.loads(result.stdout.strip().splitlines()[-1])

    with tempfile.TemporaryDirectory() as work:
        run("simulate", "--out", f"{work}/m.events", "--events", "1600000", "--seed", seed, "--levels", "10",
            "--signal", signal)
        run("build", f"{source}/configs/build-book.yaml", "--set", f"data.events={work}/m.events",
            "--out", f"{work}/m.h5")

        def judge(name, *sets):
            pairs = [p for s in (f"data.dataset={work}/m.h5", *RECIPE, f"seed={seed}", "threads=1", *sets)
                     for p in ("--set", s)]
            run("train", f"{source}/configs/train.yaml", *pairs, "--out", f"{work}/{name}")
            return run("evaluate", "--model", f"{work}/{name}/model", "--data", f"{work}/m.h5",
                       "--truth", f"{work}/m.truth", "--threads", "1", "--out", f"{work}/{name}-result")

        m = judge("run", "train.epochs=1")
        best = m["best_achievable"]
        closed = {name: row["gap_closed"] for name, row in best["of"].items()}
        expected, verdict = best["expected_accuracy"], m["verdict"]
        print(f"seed {seed}, signal {signal}: best {expected:.4f}, gap closed {closed}, {verdict['text']}")
        if float(signal) == 0:
            return 1 if verdict["skill_shown"] else 0
        untrained = judge("untrained", "train.epochs=1", "train.windows_per_epoch=256", "train.rate=0.000001")
        lazy = untrained["best_achievable"]["of"]["model"]["gap_closed"]
        print(f"an untrained model closes {lazy:.3f}: the bound must not hold for it")
        found = closed["model"] >= 0.9 and closed["logistic"] <= 0.5 and verdict["skill_shown"]
        return 0 if found and not lazy >= 0.9 else 1


sys.exit(main())
