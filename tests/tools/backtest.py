"""Backtests from outside: same run, same journal; it replays; what was seen is refused; a changed journal is found.

usage: backtest.py OUTCRY SOURCE            seconds: a model of no worth on a small market
       backtest.py OUTCRY SOURCE planted    minutes: a model trained at Q = 0.5 earns after costs on five markets, at
                                            times that it has not seen; at Q = 0 nobody does
       backtest.py OUTCRY SOURCE real       seconds: recorded markets, where they are (OUTCRY_DATA, ../shared/data)
Harness checks: another seed of the market gives another journal, a journal with one changed bit must be refused, and
figures computed from a journal without one of its fills must differ.
"""
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile

import paper_oracle

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
RECIPE = ("window.steps=48", "model.hidden=32", "model.dropout=0.1", "model.head_dropout=0.1", "train.rate=0.004",
          "train.valid_every=200", "train.epochs=1", "threads=1", "seed=1")
TINY = ("window.steps=16", "model.hidden=8", "model.heads=2", "train.epochs=1", "train.rate=0.02",
        "train.valid_windows=512", "threads=1")
SEEDS = (11, 12, 13, 14, 15)
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name} {str(said)[-400:]}")


def run(*arguments, sets=()):
    pairs = [p for s in sets for p in ("--set", s)]
    command = [OUTCRY, *arguments, *pairs, "--json", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


def result(*arguments, sets=()):
    r = run(*arguments, sets=sets)
    if r.returncode:
        sys.exit(f"outcry {' '.join(arguments)}: exit {r.returncode}: {r.stderr[-1000:]}")
    return json.loads(r.stdout.splitlines()[-1])


def market(path, events, seed, signal):
    result("simulate", "--out", path, "--events", str(events), "--seed", str(seed), "--levels", "10", "--signal",
           str(signal))


def model(work, events, signal, recipe):
    """A market, its dataset and a model of it in WORK/run/model."""
    market(f"{work}/m.events", events, 7, signal)
    result("build", f"{SOURCE}/configs/build-book.yaml", "--out", f"{work}/m.h5",
           sets=(f"data.events={work}/m.events",))
    result("train", f"{SOURCE}/configs/train.yaml", "--out", f"{work}/run", sets=(f"data.dataset={work}/m.h5", *recipe))


def backtest(work, out, events, *flags, sets=()):
    sets = (f"data.events={events}", f"model.bundle={work}/run/model", *sets)
    return run("backtest", f"{SOURCE}/configs/backtest.yaml", *flags, "--out", f"{work}/{out}", sets=sets)


def paper(*arguments, **named):
    r = backtest(*arguments, **named)
    if r.returncode:
        sys.exit(f"backtest {arguments}: exit {r.returncode}: {r.stderr[-1000:]}")
    return json.loads(r.stdout.splitlines()[-1])


def journal_faults(work):
    path = f"{work}/a/journal-000000.ocj"
    good = open(path, "rb").read()
    half = len(good) // 2
    for what, bad in (("a bit", good[:half] + bytes([good[half] ^ 4]) + good[half + 1:]), ("the end", good[:-32]),
                      ("half a record", good[:-40])):
        with open(path, "wb") as file:
            file.write(bad)
        r = run("replay", f"{work}/a")
        check(f"journal without {what}", r.returncode == 65 and r.stderr.strip(), r)
    with open(path, "wb") as file:
        file.write(good)
    claims = json.load(open(f"{work}/a/results.json"))
    with open(f"{work}/a/results.json", "w") as file:
        json.dump({**claims, "journal_hash": "0" * 32}, file)
    r = run("replay", f"{work}/a")
    check("results of another journal", r.returncode == 65 and "journal_hash" in r.stderr, r)


def figures_check(work, name, scale=10000):
    """results.json against the oracle's own reading of the journal."""
    wrong = paper_oracle.faults(f"{work}/{name}", scale)
    check(f"figures of {name}", not wrong, wrong)


def rules(work, events):
    """Other policies, orders that rest, latencies that scatter, a rebate: all figures by the oracle."""
    cases = {"limit": ("policy.kind=cross", "policy.order_type=limit", "latency.to_jitter_ns=2000000"),
             "quote": ("policy.kind=quote", "costs.maker_ppm=-20", "risk.message_ns=1000000",
                       "report.interval_ns=1000000000", "report.capital_micros=50000000"),
             "flat": ("policy.kind=cross", "risk.order_lots_max=0")}
    for name, sets in cases.items():
        r = result("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/{name}",
                   sets=(f"data.events={events}", *sets))
        if name == "flat":
            check("nothing traded", r["fills"] == 0 and r["pnl_micros"] == 0 and r["win_rate"] is None, r)
            check("nothing shown", r["verdict"] == {"text": "It did not trade.", "shown": False}, r)
        figures_check(work, name)


def bars(path, seed):
    """Hours of a random walk, prices of two decimals."""
    rng, price = random.Random(seed), 100.0
    with open(path, "w", encoding="ascii") as file:
        file.write("time,open,high,low,close,volume\n")
        for i in range(2000):
            last, price = price, price * (1 + rng.gauss(0, 0.003))
            low, high = min(last, price) - 0.02, max(last, price) + 0.02
            file.write(f"{1600000000 + i * 3600},{last:.2f},{high:.2f},{low:.2f},{price:.2f},{100 + i % 50}\n")


def two_of_bars(work):
    """Two instruments without a book: half a spread from the config, positions side by side, orders long and short."""
    hour, names = 3600 * 10**9, ("AAA", "BBB")
    for i, name in enumerate(names):
        bars(f"{work}/{name}.csv", i)
        result("import", "--format", "csv", "--symbol", name, "--timezone", "UTC", "--bar", "1h", "--stamp", "end",
               "--tick", "0.01", "--lot", "1", "--out", f"{work}/{name}.events", f"{work}/{name}.csv")
    r = result("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/bars",
               sets=("data.events=" + ",".join(f"{work}/{name}.events" for name in names), "policy.kind=cross",
                     "sample=bar", f"row_ns={hour}", "bar_spread=0.02", f"policy.cross_interval_ns={hour}",
                     "policy.cross_fast=3", "policy.cross_slow=12", f"risk.stale_ns={3 * hour}",
                     "costs.bar_half_spread_ticks=2", f"report.interval_ns={24 * hour}"))
    check("bars of two", r["trades"] > 100 and len(r["positions"]) == 2 and r["spread_micros"] > 0, r)
    check("what is held at the end is closed", r["closing"]["positions"] == 2 and r["closing"]["fee_micros"] > 0
          and r["pnl_micros"] == r["closing"]["equity_before_micros"] - r["closing"]["spread_micros"]
          - r["closing"]["fee_micros"], r["closing"])
    figures_check(work, "bars")


def predictions(work, events):
    """A file of `outcry evaluate` in the bundle's place: the same bytes of journal over the same rows."""
    result("evaluate", "--model", f"{work}/run/model", "--data", f"{work}/m.h5", "--split", "test", "--out",
           f"{work}/result")
    sets = (f"data.events={events}", "policy.buy_threshold=0.2", "policy.sell_threshold=0.2",
            f"model.predictions={work}/result/predictions.h5")

    def file_run(name, *more):
        return run("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/{name}", sets=(*sets, *more))

    refused = file_run("no")
    check("seen times of a file", refused.returncode == 65 and "--in-sample" in refused.stderr, refused)
    whole = file_run("whole", "data.unseen=true")
    answers = [body for _, kind, body, _ in paper_oracle.inputs(f"{work}/whole") if kind == 2]
    times = [struct.unpack_from("<q", body)[0] for body in answers]
    count = json.load(open(f"{work}/result/metrics.json"))["fold"]["judged"]["samples"]
    check("every answer of the file was asked for", whole.returncode == 0 and len(times) == count, (count, len(times)))
    span = (f"data.first_ns={times[0]}", f"data.last_ns={times[-1] + 1000000}")
    file = json.loads(file_run("file", *span).stdout.splitlines()[-1])
    check("each is of a row", file["predictions"] == count, (file, count))
    bundle = paper(work, "bundle", events, sets=(*span, *sets[1:3]))
    same = [open(f"{work}/{name}/journal-000000.ocj", "rb").read() for name in ("bundle", "file")]
    check("the same journal, byte for byte", same[0] == same[1] and bundle["fills"] > 10, bundle)
    check("provenance", file["provenance"] == "known" and file["predictor"]["kind"] == "predictions", file)
    damaged(work, file_run)


def damaged(work, file_run):
    """Of another result, or changed since: the hash beside it says so; of nothing that is traded."""
    path = f"{work}/result/predictions.h5"
    good = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    r = file_run("no", "data.unseen=true")
    check("a changed file", r.returncode == 65 and not os.path.exists(f"{work}/no"), r)
    with open(path, "wb") as file:
        file.write(good)
    r = file_run("no", "data.last_ns=1704186001000000000")
    check("nothing predicted there", r.returncode == 65 and "predicts nothing" in r.stderr, r)


def ledger_faults(work, unseen):
    """A look at unseen times is a trial, with dated returns that are the curve's; one in sample is none."""
    ledgers = [open(os.path.join(work, f)).read() for f in os.listdir(work) if f.endswith(".ledger")]
    lines = [json.loads(line) for text in ledgers for line in text.splitlines()]
    mine = [line for line in lines if line["command"] == "backtest"]
    curve = json.load(open(f"{work}/d/results.json"))["curve"]
    change = [(b - a) / unseen["capital_micros"] for a, b in zip([0] + curve["equity_micros"], curve["equity_micros"])]
    returns, mean = mine[-1]["returns"], sum(change) / len(change)
    deviation = (sum((c - mean)**2 for c in change) / (len(change) - 1))**0.5
    check("one line in the ledger", len(mine) == 1 and mine[0]["split"] == "test", mine)
    check("trials", unseen["trials"] == sum(line.get("split") == "test" for line in lines), unseen)
    check("dated returns", returns["count"] == len(change) and abs(returns["mean"] - mean) <= 1e-9 * abs(mean) + 1e-15
          and abs(returns["deviation"] - deviation) <= 1e-7 * deviation, (returns, mean, deviation))
    check("their time", returns["first_ns"] == curve["start_ns"] + curve["step_ns"], returns)


def page(work):
    """One page about all of them; stamped, and refused once a journal has changed."""
    runs = [f"{work}/{name}" for name in ("a", "d", "limit", "quote")]
    r = run("report", *runs, f"{work}/result", "--out", f"{work}/r.html")
    html = open(f"{work}/r.html", encoding="utf-8").read() if r.returncode == 0 else ""
    check("page", r.returncode == 0 and html.count("<svg") >= 8, r)
    check("stamped page", html.count("IN SAMPLE") == 1 and html.count("trials unknown") == 3, html.count("IN SAMPLE"))
    check("short time", html.count("over so short a time they prove nothing") == len(runs), html[:200])
    shown = [json.load(open(f"{name}/results.json"))["verdict"]["shown"] for name in runs]
    check("the word", ("profit" in html.lower()) == any(shown), shown)
    kept = json.load(open(f"{work}/r.json"))["inputs"]
    check("its figures", [i["format"] for i in kept] == ["outcry-backtest"] * 4 + ["outcry-metrics"], kept)


def quick(work):
    loose = ("policy.buy_threshold=0.2", "policy.sell_threshold=0.2", "latency.to_jitter_ns=2000000",
             "venue.reject_ppm=50000", "risk.message_ns=1000000")
    model(work, 60000, 0.8, TINY)
    market(f"{work}/other.events", 60000, 8, 0.8)
    events = f"{work}/m.events"
    for flags, sets in (((), ()), ((), ("data.last_ns=1704186100000000000",))):
        r = backtest(work, "refused", events, *flags, sets=sets)
        check("seen times", r.returncode == 65 and "--in-sample" in r.stderr, r)
        check("nothing is written", not os.path.exists(f"{work}/refused"))
    r = backtest(work, "refused", f"{work}/other.events")
    check("seen times of another market", r.returncode == 65 and "--in-sample" in r.stderr, r)
    a = paper(work, "a", events, "--in-sample", sets=loose)
    b = paper(work, "b", events, "--in-sample", sets=loose)
    c = paper(work, "c", f"{work}/other.events", "--in-sample", sets=loose)
    keys = "events events_per_second orders fills pnl_micros sharpe max_drawdown journal_hash"
    check("keys", set(keys.split()) <= a.keys(), a)
    check("orders were sent and filled", a["orders"] > 20 and a["fills"] > 20 and a["trades"] > 5, a)
    check("the same run, the same journal", all(a[k] == b[k] for k in ("journal_hash", "state_hash")))
    check("another market, another journal", a["journal_hash"] != c["journal_hash"])
    check("stamped", json.load(open(f"{work}/a/results.json"))["in_sample"] is True)
    check("sums", a["pnl_micros"] == a["gross_micros"] - a["fees_micros"] and a["fees_micros"] > 0, a)
    replay = result("replay", f"{work}/a")
    check("replay", replay["identical"] is True, replay)
    check("replay's hashes", all(replay[k] == a[k] for k in ("journal_hash", "state_hash")), replay)
    unseen = paper(work, "d", events, sets=("data.unseen=true", f"data.dataset={work}/m.h5", *loose))
    check("unseen", unseen["in_sample"] is False and unseen["fills"] > 0, unseen)
    check("unseen is later", unseen["first_ns"] > a["first_ns"] and unseen["last_ns"] == a["last_ns"], unseen)
    check("windows are full at the first row", unseen["predictions"] == unseen["rows"] > 1000, unseen)
    ledger_faults(work, unseen)
    r = backtest(work, "a", events, "--in-sample")
    check("a run is not written over", r.returncode == 1, r)
    r = backtest(work, "e", events, "--in-sample", sets=("sample=packet:2",))
    check("other features", r.returncode == 65 and "schema" in r.stderr, r)
    r = run("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/f", sets=(f"data.events={events}",))
    check("no bundle", r.returncode == 78 and "model.bundle" in r.stderr, r)
    r = run("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/f",
            sets=(f"data.events={events}", f"model.bundle={work}/run/model", "model.predictions=x.h5"))
    check("two predictors", r.returncode == 78 and "model.predictions" in r.stderr, r)
    cross = result("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/g",
                   sets=(f"data.events={events}", "policy.kind=cross"))
    check("a rule needs no bundle", cross["orders"] > 0, cross)
    r = run("replay", f"{work}/nothing")
    check("no journal", r.returncode != 0 and "nothing" in r.stderr, r)
    figures_check(work, "a")
    check("a fill forgotten is seen", len(paper_oracle.faults(f"{work}/a", 10000, "fill")) > 5)
    rules(work, events)
    two_of_bars(work)
    predictions(work, events)
    page(work)
    journal_faults(work)
    print("\n".join(faults) or f"{a['orders']} orders, {a['fills']} fills: repeated, replayed; refusals kept")


def mean_within(values):
    """Mean of the seeds, and the 99 % interval of Student's t around it."""
    mean = statistics.fmean(values)
    wide = 4.604 * statistics.stdev(values) / len(values)**0.5          # 4 degrees of freedom
    return mean, mean - wide, mean + wide


def markets(work, signal, sets):
    """Net P&L and that before costs, in units, of five markets that the model has not seen."""
    net, before = [], []
    for seed in SEEDS:
        market(f"{work}/x.events", 1600000, seed, signal)
        r = paper(work, f"{signal}-{seed}", f"{work}/x.events", sets=("data.unseen=true", *sets))
        net.append(r["pnl_micros"] / 1e6)
        before.append(r["before_costs_micros"] / 1e6)
        low, high = (r["pnl_interval_micros"][k] / 1e6 for k in ("low", "high"))
        print(f"Q {signal}, seed {seed}: net {net[-1]:.2f} [{low:.2f}, {high:.2f}], before costs {before[-1]:.2f}, "
              f"{r['trades']} trades", flush=True)
        check(f"Q {signal}, seed {seed} trades", r["trades"] > 50, r["trades"])
        check(f"Q {signal}, seed {seed}: the word", r["verdict"]["shown"] == (low > 0), r["verdict"])
    return net, before


def planted(work):
    """One model, made where there was a signal. Where there is one, each market pays after costs. Where there is none,
    thresholds so low that it trades all the same: what it makes at the mids of its decisions cannot be told from 0, so
    that the net is what the trades cost, and its mean lies below 0 by more than chance. The first of these would find
    an edge: it does at Q = 0.5."""
    model(work, 1600000, 0.5, RECIPE)
    net, before = markets(work, 0.5, ())
    check(f"Q 0.5: each is above 0: {net}", all(x > 0 for x in net))
    check(f"Q 0.5: an edge before costs: {before}", mean_within(before)[1] > 0)
    net, before = markets(work, 0, ("policy.buy_threshold=0.4", "policy.sell_threshold=0.4"))
    check(f"Q 0: no edge before costs: {before}", mean_within(before)[1] <= 0 <= mean_within(before)[2])
    check(f"Q 0: not above 0 in the mean: {net}", mean_within(net)[2] < 0)
    print("\n".join(faults) or "what is planted is earned, what is not is not")


def real_page(work, name, said, scale):
    """Net P&L with its interval on the page, the word for it only where it is shown; the figures by the oracle."""
    r = json.load(open(f"{work}/{name}/results.json"))
    result("report", f"{work}/{name}", "--out", f"{work}/{name}.html")
    html = open(f"{work}/{name}.html", encoding="utf-8").read()
    money = [f"{r[k] / 1e6:.2f}" for k in ("pnl_micros",)] + [
        f"{r['pnl_interval_micros'][k] / 1e6:.2f}" for k in ("low", "high")]
    check(f"{name}: the interval is on the page", f"Net P&amp;L {money[0]} [{money[1]}, {money[2]}]" in html, money)
    check(f"{name}: the word", ("profit" in html.lower()) == r["verdict"]["shown"], r["verdict"])
    check(f"{name}: shown", r["verdict"]["shown"] == (r["pnl_interval_micros"]["low"] > 0 and not r["in_sample"]), r)
    check(f"{name} trades", r["trades"] > 5, r["trades"])
    figures_check(work, name, scale)
    print(f"{said}: net P&L {money[0]} [{money[1]}, {money[2]}], {r['trades']} trades. {r['verdict']['text']}")


def eurusd(work, data):
    """Minutes of EURUSD: a small model, behind all that it has seen. Half the spread is half a pip, the fee 20 ppm."""
    minute, size = 60 * 10**9, 100000
    result("import", "--format", "metatrader", "--symbol", "EURUSD", "--timezone", "UTC", "--bar", "1m", "--stamp",
           "start", "--out", f"{work}/m.events", data)
    result("build", f"{SOURCE}/configs/build-bars.yaml", "--out", f"{work}/m.h5",
           sets=(f"data.events={work}/m.events", "row_ns=84000000000", "labels=direction:6:0.0001"))
    result("train", f"{SOURCE}/configs/train.yaml", "--out", f"{work}/run",
           sets=(f"data.dataset={work}/m.h5", *TINY, "data.labels=direction:6:0.0001", "train.windows_per_epoch=8192"))
    paper(work, "eurusd", f"{work}/m.events", sets=(
        "data.unseen=true", f"data.dataset={work}/m.h5", "sample=bar", "row_ns=84000000000", "bar_spread=0.0001",
        f"policy.target_lots={size}", f"policy.fallback_after_ns={5 * minute}", "policy.buy_threshold=0.3",
        "policy.sell_threshold=0.3", "costs.taker_ppm=20", "costs.bar_half_spread_ticks=5",
        f"costs.bar_lots={10 * size}", f"risk.order_lots_max={size * 2}", f"risk.position_lots_max={size}",
        "risk.order_micros_max=1000000000000",
        f"risk.stale_ns={5 * minute}", f"report.interval_ns={60 * minute}"))
    real_page(work, "eurusd", "EURUSD minutes, a small model", 10)


def bitcoin(work, data):
    """A day's book of BTCUSDT, a rule of two moving averages."""
    result("import", "--format", "binance", "--symbol", "BTCUSDT", "--out", f"{work}/b.events", data)
    result("backtest", f"{SOURCE}/configs/backtest.yaml", "--out", f"{work}/bitcoin",
           sets=(f"data.events={work}/b.events", "policy.kind=cross", "policy.target_lots=10", "costs.taker_ppm=50"))
    real_page(work, "bitcoin", "BTCUSDT book, moving averages", 100)


def real(work):
    folder = os.environ.get("OUTCRY_DATA", os.path.join(SOURCE, "..", "shared", "data"))
    cases = ((eurusd, "fx-minute/EURUSD_M1_2020-04-27_2020-06-14.tsv.xz"),
             (bitcoin, "binance-l2-2024-08-08/usdm/btcusdt_20240808.jsonl.xz"))
    there = [(case, os.path.join(folder, name)) for case, name in cases if os.path.exists(os.path.join(folder, name))]
    if not there:
        print(f"skipped: none of the recordings under {folder}")
        sys.exit(77)
    for case, path in there:
        case(work, path)
    print("\n".join(faults))


with tempfile.TemporaryDirectory() as place:
    modes = {"planted": planted, "real": real}
    modes.get((sys.argv[3:] or ["quick"])[0], quick)(place)
sys.exit(1 if faults else 0)
