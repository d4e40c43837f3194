"""Every bench still runs (--tiny: a fraction of the work, no peer) and prints the promised keys. No time is judged.

usage: benches.py OUTCRY SOURCE
"""
import json
import subprocess
import sys

outcry = sys.argv[1]
listed = subprocess.run([outcry, "bench", "--list"], capture_output=True, text=True, check=True)
names = [line.split()[0] for line in listed.stdout.splitlines()]
faults = [] if names else ["there is no bench"]
in_bf16 = [f"{name} --math bf16" for name in ("latency-window", "latency-push", "throughput-window")]   # on any CPU
for name in names + in_bf16:
    command = [outcry, "bench", *name.split(), "--tiny", "--json"]
    r = subprocess.run(command, capture_output=True, text=True, timeout=120)
    try:
        figure = json.loads(r.stdout.splitlines()[-1])
        promised = {"figure", "value", "unit", "peer", "peer_value", "ratio"} <= set(figure)
        if r.returncode or not promised or not figure["value"] > 0:
            faults.append(f"{name}: exit {r.returncode}: {figure}")
    except (IndexError, ValueError):
        faults.append(f"{name}: exit {r.returncode}: {r.stderr[-300:]}")
print("\n".join(faults) or f"{len(names)} benches run, three of them in bf16 too: {', '.join(names)}")
sys.exit(1 if faults else 0)
