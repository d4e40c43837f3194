"""kill -9 of outcry trade, and its way on, against the venue's own record: no order or fill lost, doubled, invented.

usage: kills.py OUTCRY SOURCE SEED     OUTCRY_FULL=1: 200 random kills and every boundary of a journal; else a part
Harness checks: a journal with an order that the venue was never told, and a record without its last fill, are found.
"""
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import paper
import paper_oracle
from paper import Paper, check, faults

FULL = os.environ.get("OUTCRY_FULL") == "1"
# No server is needed to die: two moving averages trade often enough.
CROSS = ("policy.kind=cross", "policy.cross_fast=2", "policy.cross_slow=8", "policy.cross_interval_ns=200000000",
         "policy.order_type=limit", "policy.lifetime_ns=500000000", "journal.snapshot_every=500")


def random_kills(p, kills, seed):
    """Sessions with a server that are killed at random times until they end; half of them by a clock."""
    draw, done, resumed, slowest, number = random.Random(seed), 0, 0, 0, 0
    while done < kills or resumed < min(kills, 4):
        lives = 0
        out, sets = f"k{number}", ("clock=live", "feed.speed=600") if number % 2 else ("feed.speed=900",)
        number += 1
        process = p.start("trade", out, sets=(*sets, "journal.snapshot_every=2000"))
        while True:
            try:
                process.wait(timeout=draw.uniform(0.02, 0.6 + lives))      # a slow machine gets to the end too
            except subprocess.TimeoutExpired:
                process.kill()
                done += 1
                lives += 0.1
            said = process.communicate()
            if process.returncode == 0:
                break
            check(f"{out}: only killed", process.returncode in (-9, 75), said)  # 75: the server was too busy to answer
            if process.returncode not in (-9, 75) or "END" == ended(p, out):
                break
            process = p.start("trade", out, "--resume", sets=(*sets, "journal.snapshot_every=2000"))
        if process.returncode:
            continue
        result = paper.json.loads(said[0].splitlines()[-1])
        replay = p.result("replay", f"{p.work}/{out}")
        check(f"{out} replays", replay["identical"] is True, replay)
        if "resumed" in result:
            resumed += 1
            slowest = max(slowest, result["resumed"]["recovery_ns"])
            wrong = paper_oracle.faults(f"{p.work}/{out}", 10000) if resumed <= 3 else []
            check(f"{out}: figures of the whole session", not wrong, wrong)
        p.audit(out, out)
        shutil.rmtree(f"{p.work}/{out}")
    check("recovery is under a second", slowest < (1 if FULL else 20) * 10**9, slowest)      # a busy machine has longer
    return done, resumed, slowest


def terminated(p):
    """SIGTERM: 75, everything saved; --resume goes on to the end."""
    process = p.start("trade", "term", sets=("feed.speed=300",))
    check("it runs when it is stopped", p.under_way(process, "term", 20000))
    process.terminate()
    said = process.communicate(timeout=60)[1]
    check("SIGTERM is 75", process.returncode == 75 and "--resume" in said, (process.returncode, said))
    result, said = p.finish(p.start("trade", "term", "--resume", sets=("feed.speed=0",)))
    check("it went on", "resumed" in result and "recovered in" in said and result["orders"] > 20, said)
    whole = p.paper("trade", "unbroken")
    same = ("events", "traded_events", "rows", "first_ns", "last_ns")
    check("of the whole time", all(result[k] == whole[k] for k in same), [(result[k], whole[k]) for k in same])
    check("all predictions", 0 <= whole["predictions"] - result["predictions"] < 10, (result, whole))
    wrong = paper_oracle.faults(f"{p.work}/term", 10000)
    check("whole figures", not wrong, wrong)
    p.audit("term", "SIGTERM")


def ended(p, out):
    """END where the process died between its journal's last record and its results: there is nothing to go on with."""
    segments = [f for f in os.listdir(f"{p.work}/{out}") if f.startswith("journal-")] if os.path.exists(
        f"{p.work}/{out}") else []
    if not segments:
        return ""
    data = p.journal(out, len(segments) - 1)
    return "END" if len(data) >= 144 and struct.unpack_from("<II", data, len(data) - 32) == (0, 4) else ""


def boundaries(journal):
    """(end of a record, its NEW, CANCEL and QUERY actions) in order."""
    at = 112
    while at + 32 <= len(journal):
        size, kind = struct.unpack_from("<II", journal, at)
        actions = 0
        if kind == 2:
            body, count = struct.unpack_from("<II", journal, at + 32 + 24)
            first = at + 64 + body
            actions = sum(journal[first + i * 64 + 52] <= 3 for i in range(count))
        at += 32 + size
        yield at, kind, actions


def cut_log(log, actions):
    """The venue's record as it was when it had been told so many actions and nothing more."""
    told = 0
    for at in range(96, len(log), 96):
        told += struct.unpack_from("<I", log, at + 24)[0] == 3
        if told > actions:
            return log[:at]
    return log


def boundary_kills(p, step):
    """The journal cut behind each step-th record, and within it; the last record's actions were sent, or were not."""
    sets = (*CROSS, "data.last_ns=1704186012000000000")
    whole = p.paper("trade", "whole", sets=sets)
    check("the short session trades", whole["orders"] > 5 and whole["fills"] > 3, whole)
    journal, told, runs = p.journal("whole"), 0, 0
    with open(f"{p.work}/whole/venue.log", "rb") as file:
        log = file.read()
    for number, (end, kind, actions) in enumerate(boundaries(journal)):
        told += actions
        if kind == 4 or (number % step and not (actions and number % 3 == 0)):
            continue
        for sent in {told - actions, told}:
            for torn in (0, 40):
                os.mkdir(f"{p.work}/cut")
                with open(f"{p.work}/cut/journal-000000.ocj", "wb") as file:
                    file.write(journal[:end + torn])
                with open(f"{p.work}/cut/venue.log", "wb") as file:
                    file.write(cut_log(log, sent) + b"x" * torn)
                r = subprocess.run(p.session("trade", "cut", "--resume", sets=sets), capture_output=True, text=True)
                if end + torn >= len(journal):
                    check(f"record {number}: closed", r.returncode == 1 and "closed" in r.stderr, r)
                elif r.returncode:
                    check(f"record {number}, {sent} of {told} sent, {torn}: goes on", False, r)
                else:
                    p.audit("cut", f"record {number}, {sent} of {told} sent, {torn} bytes torn")
                    replay = p.run("replay", f"{p.work}/cut")
                    check(f"record {number} replays", replay.returncode == 0, replay)
                runs += 1
                shutil.rmtree(f"{p.work}/cut")
    return runs, whole["orders"]


def refusals(p):
    """What a session may not go on with, each named."""
    sets = (*CROSS, "data.last_ns=1704186012000000000")
    p.refused("a closed session", 1, "closed", "trade", "whole", "--resume", sets=sets)
    data = p.journal("whole")
    os.mkdir(f"{p.work}/open")
    with open(f"{p.work}/whole/venue.log", "rb") as file:
        log = file.read()

    def files(journal, venue):
        for name, content in (("journal-000000.ocj", journal), ("venue.log", venue)):
            with open(f"{p.work}/open/{name}", "wb") as file:
                file.write(content)
        for name in os.listdir(f"{p.work}/open"):
            if name not in ("journal-000000.ocj", "venue.log"):
                os.remove(f"{p.work}/open/{name}")

    cases = (("another limit of risk", 65, "another configuration", ("risk.order_lots_max=9",), None),
             ("another venue", 65, "another configuration of the venue", ("latency.back_ns=5",), None),
             ("other events", 65, "other events", (f"data.events={p.work}/other.events",), None),
             ("a feed that ends before the journal", 65, "other events", ("data.last_ns=1704186003000000000",), None),
             ("a changed record of the venue", 65, "is not as it was written", (), 96 + 40),
             ("no record of a venue", 65, "no venue", (), 32))
    p.result("simulate", "--out", f"{p.work}/other.events", "--events", "60000", "--seed", "8", "--levels", "10")
    for name, code, words, more, flip in cases:
        bad = bytearray(log)
        if flip:
            bad[flip] ^= 1
        files(data[:-32], bytes(bad))
        words = "is not as it was written" if flip else words
        p.refused(name, code, words, "trade", "open", "--resume", sets=(*sets, *more))
    build = bytearray(data[:-32])
    build[16] ^= 1
    files(bytes(build), log)
    p.refused("a damaged header", 65, "journal-000000.ocj", "trade", "open", "--resume", sets=sets)
    files(data[:-32], log)
    os.remove(f"{p.work}/open/venue.log")
    p.refused("the venue's record is gone", 65, "venue.log", "trade", "open", "--resume", sets=sets)
    files(data[:-32], log)
    p.refused("without --resume", 1, "journal", "trade", "open", sets=sets)


def harness(p):
    """The audit finds what it is for."""
    before = len(faults)
    with open(f"{p.work}/whole/venue.log", "rb") as file:
        log = file.read()
    last = max(at for at in range(96, len(log), 96) if log[at + 24] == 4 and log[at + 32 + 44] == 3)
    for bad in (log[:last] + log[last + 96:], log[:-96] + log[-192:]):
        with open(f"{p.work}/whole/venue.log", "wb") as file:
            file.write(bad)
        p.audit("whole", "planted")
        found = len(faults) > before
        del faults[before:]
        check("a planted fault is found", found)
        before = len(faults)
    with open(f"{p.work}/whole/venue.log", "wb") as file:
        file.write(log)


def main():
    seed = int(os.environ.get("OUTCRY_SEED", sys.argv[3]))
    with tempfile.TemporaryDirectory() as place:
        p = Paper(sys.argv[1], sys.argv[2], place)
        start = time.monotonic()
        runs, orders = boundary_kills(p, 1 if FULL else 40)
        middle = time.monotonic()
        harness(p)
        refusals(p)
        try:
            p.serve()
            terminated(p)
            kills, resumed, slowest = random_kills(p, 200 if FULL else 8, seed)
        finally:
            p.stop(kill=True)
    print("\n".join(faults) or f"seed {seed}: {runs} cuts of a journal of {orders} orders ({middle - start:.0f} s), "
          f"{kills} kills, {resumed} sessions went on ({time.monotonic() - middle:.0f} s), recovery at most "
          f"{slowest / 1e6:.1f} ms")
    sys.exit(1 if faults else 0)


main()
