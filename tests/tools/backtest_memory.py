"""A backtest's memory does not grow with its length: the peak of the process over some events and over four times as
many. The file is mapped, so it would be counted if it stayed mapped; queues, journal, curve and ledger would be, if
they grew.

usage: backtest_memory.py OUTCRY SOURCE
"""
import json
import os
import subprocess
import sys
import tempfile

OUTCRY, SOURCE = sys.argv[1], sys.argv[2]
EVENTS, SLACK_KIB = 400_000, 3072          # four times as many are 106 MB more of events, 40 MB more of journal


def peak_kib(work, events):
    market = f"{work}/{events}.events"
    subprocess.run([OUTCRY, "simulate", "--out", market, "--events", str(events), "--seed", "1", "--levels", "10",
                    "--signal", "0.5", "--label", "direction:10:0", "--quiet"], check=True, capture_output=True)
    command = [OUTCRY, "backtest", f"{SOURCE}/configs/backtest.yaml", "--set", f"data.events={market}", "--set",
               "policy.kind=quote", "--out", f"{work}/{events}", "--quiet", "--json"]
    with open(f"{work}/out", "w+") as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        result = json.loads(out.read().splitlines()[-1])
    assert child.returncode == 0 and result["events"] >= events and result["orders"] > 100, result
    journal = sum(os.path.getsize(f"{work}/{events}/{name}") for name in os.listdir(f"{work}/{events}"))
    print(f"{result['events']} events, {os.path.getsize(market) >> 20} MiB, {result['orders']} orders, "
          f"{journal >> 20} MiB written: peak {used.ru_maxrss} KiB")
    return used.ru_maxrss


with tempfile.TemporaryDirectory() as work:
    once, four = peak_kib(work, EVENTS), peak_kib(work, 4 * EVENTS)
sys.exit(0 if four <= once + SLACK_KIB else f"the peak grew by {four - once} KiB, {SLACK_KIB} are allowed")
