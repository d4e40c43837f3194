"""The market maker of the peers' script backtest_hftbacktest.py, with its orders counted and its book in an array.

Events and set-up are that script's own (`load`, `asset`); its quoting rule is written again here, because it does not
say how many orders it sent. One JSON line: seconds of the best pass (by the clock, and of the CPU), events as
hftbacktest counts them, orders, cancels, fills, wakes. The first pass compiles and is not timed.

usage: hftbacktest_maker.py PEERS RECORDING COPIES PASSES
"""
import ast
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from hftbacktest import GTX, LIMIT, ROIVectorMarketDepthBacktest
from numba import njit

peers, recording, copies, passes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sys.path.insert(0, peers)
tree = ast.parse(Path(peers, "backtest_hftbacktest.py").read_text())
tree.body = [s for s in tree.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Call))]  # not its main()
peer = {"__name__": "peer"}
exec(compile(tree, "backtest_hftbacktest.py", "exec"), peer)


@njit
def quote(hbt):
    counts = np.zeros(3, np.int64)          # wakes, orders, cancels
    bid = 0
    ask = 0
    while hbt.elapse(100_000_000) == 0:
        hbt.clear_inactive_orders(0)
        depth = hbt.depth(0)
        open_orders = hbt.orders(0)
        for number in (bid, ask):
            if number in open_orders and open_orders.get(number).cancellable:
                hbt.cancel(0, number, False)
                counts[2] += 1
        if hbt.position(0) < 0.1:
            counts[1] += 1
            bid = counts[1]
            hbt.submit_buy_order(0, bid, depth.best_bid, 0.01, GTX, LIMIT, False)
        if hbt.position(0) > -0.1:
            counts[1] += 1
            ask = counts[1]
            hbt.submit_sell_order(0, ask, depth.best_ask, 0.01, GTX, LIMIT, False)
        counts[0] += 1
    return counts


events, _ = peer["load"](recording, copies)
low, high = float(np.min(events["px"][events["px"] > 0])), float(np.max(events["px"]))
best = cpu = float("inf")
for timed in [False] + [True] * passes:
    hbt = ROIVectorMarketDepthBacktest([peer["asset"](events).roi_lb(low).roi_ub(high)])
    began, worked = time.perf_counter(), time.process_time()
    wakes, orders, cancels = (int(n) for n in quote(hbt))
    took, work = time.perf_counter() - began, time.process_time() - worked
    fills = int(hbt.state_values(0).num_trades)
    hbt.close()
    if timed:
        best, cpu = min(best, took), min(cpu, work)
print(json.dumps({"peer": "hftbacktest", "version": version("hftbacktest"), "metric": "seconds", "value": best,
                  "cpu_seconds": cpu, "events": len(events), "wakes": wakes, "orders": orders, "cancels": cancels,
                  "fills": fills}))
