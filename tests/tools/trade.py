"""outcry trade beside a server: the journal of a backtest, byte for byte; live time replays; the server may die.

usage: trade.py OUTCRY SOURCE
Harness checks: another delay gives another journal, and a journal with one changed bit must be refused.
"""
import json
import shutil
import sys
import tempfile
import time

from paper import Paper, check, faults, predictions

SMALL = ("model.hidden=8", "model.heads=2", "train.epochs=1", "threads=1")


def equal(p):
    """The loop with a server is the backtest."""
    back = p.paper("backtest", "back")
    live = p.paper("trade", "trade")
    check("the same journal", p.journal("back") == p.journal("trade"))
    check("the same results", all(back[k] == live[k] for k in back if k != "events_per_second"), (back, live))
    check("it traded", live["orders"] > 20 and live["fills"] > 20, live)
    check("the server answered", live["server"]["answered"] == live["predictions"] > 1000, live["server"])
    check("replay", p.result("replay", f"{p.work}/trade")["identical"] is True)
    other = p.paper("backtest", "other", sets=("decision_delay_ns=2000000",))
    check("another delay, another journal", other["journal_hash"] != back["journal_hash"])
    data = bytearray(p.journal("trade"))
    data[len(data) // 2] ^= 1
    with open(f"{p.work}/other/journal-000000.ocj", "wb") as file:
        file.write(data)
    check("a changed bit is found", p.run("replay", f"{p.work}/other").returncode == 65)
    part = ("data.first_ns=1704186300000000000",)
    p.paper("backtest", "part", sets=part)
    p.paper("trade", "part-trade", sets=part)
    check("the same journal from the middle on", p.journal("part") == p.journal("part-trade"))
    return live


def paced(p, out, speed, holds, *sets):
    """A session by the clock whose result `holds`; on a machine that is too slow for its speed, at a slower one."""
    for slower in (1, 4, 16):
        shutil.rmtree(f"{p.work}/{out}", ignore_errors=True)
        r = p.paper("trade", out, sets=("clock=live", f"feed.speed={speed // slower}", *sets))
        if holds(r):
            break
    return r


def live(p):
    """Time is the clock's: what was recorded replays, what was measured is what a backtest draws from."""
    r = paced(p, "live", 300, lambda r: r["server"]["answered"] > 0.5 * r["rows"] and r["orders"] > 20)
    check("live predictions", r["predictions"] == r["server"]["answered"] > 0.5 * r["rows"] and r["orders"] > 20, r)
    replay = p.result("replay", f"{p.work}/live")
    check("live replays", replay["identical"] and replay["journal_hash"] == r["journal_hash"], replay)
    delays = json.load(open(f"{p.work}/live/delays.json"))
    check("delays", delays["count"] == r["predictions"] and delays["quantiles_ns"][0] > 0, delays["count"])
    drawn = (f"decision_delay_file={p.work}/live/delays.json",)
    back = p.paper("backtest", "drawn", sets=drawn)
    p.paper("trade", "drawn-trade", sets=drawn)
    check("drawn delays: the same journal", p.journal("drawn") == p.journal("drawn-trade"))
    check("drawn delays are others", p.journal("drawn") != p.journal("back"), back)
    other = p.paper("backtest", "drawn-other", sets=(*drawn, "seed=2", "venue.reject_ppm=0", "latency.to_jitter_ns=0"))
    same = p.paper("backtest", "drawn-same", sets=(*drawn, "seed=1", "venue.reject_ppm=0", "latency.to_jitter_ns=0"))
    check("another seed, other delays", other["journal_hash"] != same["journal_hash"])
    late = paced(p, "late", 300, lambda r: r["server"]["late"] > 1000, "serve.deadline_ns=1")
    check("late answers hold", late["server"]["late"] > 1000 and late["orders"] == 0, late)
    stale = paced(p, "stale", 1000, lambda r: r["bad_inputs"] > 1000, "policy.prediction_stale_ns=1")
    check("stale answers hold", stale["bad_inputs"] > 1000 and stale["orders"] == 0, stale)
    return r


def outage(p, out, seconds, speed, sets):
    """A session of some seconds with an outage; where the machine is too slow for that, as what is looked for has not
    come before its end, of four times as many."""
    before = len(faults)
    server = outage_once(p, out, seconds, speed, sets)
    if len(faults) > before:
        print(f"{out}: again, slower, after: {faults[before:]}")
        del faults[before:]
        shutil.rmtree(f"{p.work}/{out}")
        server = outage_once(p, out, seconds, speed // 4, sets)
    return server


def outage_once(p, out, seconds, speed, sets):
    """The server is killed behind the session's first quarter and comes back after so long."""
    process = p.start("trade", out, sets=(f"feed.speed={speed}", *sets))
    check(f"{out}: runs when the server is killed", p.under_way(process, out, len(p.journal("back")) / 4))
    p.stop(kill=True)
    time.sleep(seconds)
    p.serve()
    r, said = p.finish(process)
    replay = p.result("replay", f"{p.work}/{out}")
    check(f"{out} replays", replay["identical"] is True, replay)
    server, whole = r["server"], predictions(p.journal("back"))
    answers = predictions(p.journal(out))
    check(f"{out}: the server was lost and found", server["connected"] == server["lost"] + 1 > 1, server)
    check(f"{out}: windows were filled again", server["restored_rows"] >= 15, server)
    check(f"{out}: said", "predictions stay away" in said and "is back" in said, said)
    end = max(k[1] for k in whole)      # of replayed time: its last row may be answered behind the last event, or not
    wrong = [k for k in answers if answers[k] != whole.get(k) and k[1] <= end]
    check(f"{out}: every answer is that of the whole window", not wrong and len(answers) > 0.5 * len(whole), wrong[:3])
    behind = [k for k in answers if k[1] > max(whole, key=lambda k: k[1])[1] - 10**10]
    check(f"{out}: answers go on behind the outage", len(behind) > 50, len(behind))
    return server


def deaths(p, short):
    """kill -9 of the server: the loop holds, connects again, fills the windows, goes on."""
    waited = outage(p, "waited", 0.3, 200, ())
    check("an outage that was waited for changes nothing", p.journal("waited") == p.journal("back"))
    check("and leaves no row out", waited["unanswered"] == 0, waited)
    gone = outage(p, "gone", 0.3, 100, ("serve.wait_ns=100000000",))
    check("going on without", gone["unanswered"] > 0, gone)
    lived = outage(p, "lived", 0.3, 100, ("clock=live",))
    check("live rows without a server", lived["unanswered"] > 0, lived)
    check("each row is answered, unanswered or before a whole window",
          lived["asked"] == lived["answered"] + lived["unanswered"] + short, (lived, short))


def refusals(p):
    p.refused("live needs a speed", 78, "feed.speed", "trade", "no", sets=("clock=live",))
    p.refused("no delays there", 1, "nothing.json", "trade", "no", sets=("decision_delay_file=nothing.json",))
    with open(f"{p.work}/bad.json", "w") as file:
        json.dump({"format": "outcry-delays", "version": 1, "quantiles_ns": [1, 3, 2]}, file)
    falling = (f"decision_delay_file={p.work}/bad.json",)
    p.refused("falling delays", 65, "quantiles_ns[2]", "backtest", "no", sets=falling)
    p.refused("a run is not written over", 1, "journal", "trade", "trade")
    p.stop()
    p.refused("no server", 75, p.socket, "trade", "no")
    p.train("longer", ("window.steps=24", *SMALL))
    p.serve("longer")
    p.refused("another T", 78, "24 rows a window", "trade", "no")
    p.stop()
    p.train("named", ("name=other", "window.steps=16", *SMALL))
    p.serve("named")
    p.refused("another model", 78, "model other", "trade", "no")
    p.stop()


def main():
    with tempfile.TemporaryDirectory() as place:
        p = Paper(sys.argv[1], sys.argv[2], place)
        try:
            p.serve()
            played, lived = equal(p), live(p)
            deaths(p, played["server"]["asked"] - played["server"]["answered"])
            refusals(p)
        finally:
            p.stop(kill=True)
    delay = lived["decision_delay_ns"]
    print("\n".join(faults) or f"{played['orders']} orders through a server as without; live at 300 times the record: "
          f"delay p50 {delay['p50'] / 1e3:.0f} us, p99 {delay['p99'] / 1e3:.0f} us")
    sys.exit(1 if faults else 0)


main()
