"""tools/scaling-model: the table against figures computed by hand, its order, and what it refuses.

usage: scaling.py OUTCRY SOURCE
"""

import re
import subprocess
import sys

MODEL = [sys.executable, "-B", f"{sys.argv[2]}/tools/scaling-model"]
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name}: {str(said)[-600:]}")


def table(*options):
    r = subprocess.run([*MODEL, *options], capture_output=True, text=True, timeout=60)
    check(" ".join(options), r.returncode == 0, r.stderr)
    rows = {}
    for line in r.stdout.splitlines():
        cells = line.replace("|", " ").replace(",", "").split()
        if len(cells) == 10 and all(re.fullmatch(r"[\d.]+", cell) for cell in cells):
            rows[int(cells[0])] = [float(cell) for cell in cells[1:]]
    return rows, r.stdout


def near(a, b):
    return abs(a - b) <= 0.002 + 1e-3 * abs(b)


# 80 ms for 1,024 windows; 1 MB of gradients, 10 GB/s in a node of 8, 1 GB/s between, 10 and 100 us; no overlap
SIMPLE = ("--step-ms 80 --batch 1024 --weights 250000 --fixed-ms 0 --overlap 0 --node 8 --inside-gbs 10 "
          "--between-gbs 1 --inside-us 10 --between-us 100").split()  # fmt: skip
rows, said = table(*SIMPLE)
check("1 to 1,024", sorted(rows) == [2**i for i in range(11)], sorted(rows))
for ranks, shard, compute, tree, allreduce in (
    (1, 1024, 80, 0, 0),
    (2, 512, 40, 0.010 + 0.1, 2 * 0.010 + 0.1),
    (8, 128, 10, 0.030 + 0.7, 2 * 0.030 + 2 * 0.875 * 0.1),
    # two nodes: 15 vectors arrive at a rank, 8 of them from the other node
    (16, 64, 5, 0.030 + 0.100 + 1.5 + 8, 2 * 0.130 + 2 * 0.875 * 0.1 + 2 * 0.5),
    (1024, 1, 80 / 1024, 0.030 + 0.700 + 102.3 + 1016, 2 * 0.730 + 2 * 0.875 * 0.1 + 2 * (127 / 128)),
):
    row = rows[ranks]
    wanted = (shard, compute, tree, compute + tree, None, None, allreduce, compute + allreduce, None)
    check(f"{ranks} ranks", all(w is None or near(x, w) for x, w in zip(row, wanted)), (row, wanted))
    check(f"{ranks} ranks: windows/s", abs(row[4] - 1024e3 / (compute + tree)) <= 1 + 1e-3 * row[4], row)
    check(f"{ranks} ranks: efficiency", abs(row[5] - 80 / (compute + tree) / ranks) <= 0.006, row)
hidden, _ = table(*SIMPLE, "--overlap", "1")
check("overlap hides what fits behind compute", near(hidden[8][3], 10) and near(hidden[16][3], rows[16][2]), hidden[16])
weak, _ = table(*SIMPLE, "--mode", "weak")
check("weak: the batch grows", weak[1024][0] == 1024 and near(weak[1024][1], 80), weak[1024])
for key in ("step-ms", "batch", "weights", "fixed-ms", "overlap", "node", "inside-gbs", "between-gbs", "inside-us"):
    check(f"the assumption {key} is in the table", re.search(rf"^  {key} +[\d.,]+ \S+ +\S", said, re.M), said)
for bad in (("--overlap", "1.5"), ("--node", "0"), ("--inside-gbs", "nan"), ("--weights", "-1"), ("--mode", "other")):
    r = subprocess.run([*MODEL, *SIMPLE, *bad], capture_output=True, text=True, timeout=60)
    check(f"{bad}", r.returncode == 2 and bad[0] in r.stderr, r.stderr)
check("without what was measured", subprocess.run(MODEL, capture_output=True, timeout=60).returncode == 2)
print("\n".join(faults) or f"{len(rows)} rows")
sys.exit(1 if faults else 0)
