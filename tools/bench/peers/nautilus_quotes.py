"""The quotes that the peers' script backtest_nautilus.py feeds its engine, as bid and ask in ticks of 0.00001: int64
pairs, little-endian, to the file OUT.

usage: nautilus_quotes.py ROWS OUT
"""
import json
import sys

import numpy as np

rows, out = int(sys.argv[1]), sys.argv[2]
walk = 1.1 + np.cumsum(np.random.default_rng(1).normal(0, 1e-5, rows))
pairs = np.rint(np.column_stack([walk - 5e-5, walk + 5e-5]) * 1e5).astype("<i8")
pairs.tofile(out)
print(json.dumps({"metric": "rows", "value": rows}))
