"""Makes features_talib.csv: a simulated series of bars and what TA-Lib says of it, as the features' formulas put it.

    python tests/golden/features_talib.py > tests/golden/features_talib.csv

Made with TA-Lib 0.8.2 (library 0.8.1), numpy 2. Columns: open, high, low, close in ticks, volume in lots, then one a
feature on every seventh row, 17 significant digits, empty where TA-Lib has no value yet. The bars come from a linear
congruential generator in integers, so that any numpy gives the same. TA-Lib is called over the whole series: its
accumulators start at row 0.
"""
import sys
import numpy as np
import talib

ROWS, EVERY = 900, 7


def bars():
    state = 20261121

    def below(n):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % n

    close, rows = 113000, []
    for _ in range(ROWS):
        o = close + below(9) - 4
        close = o + below(121) - 60
        high, low = max(o, close) + below(40), min(o, close) - below(40)
        rows.append((o, high, low, close, 1 + below(5000)))
    return np.array(rows, dtype=np.float64).T


def features(o, h, l, c, v):
    macd = talib.MACD(c, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(c, 20, 2, 2, 0)
    k, d = talib.STOCH(h, l, c, 5, 3, 0, 3, 0)
    obv = talib.OBV(c, v)
    volume20 = talib.SUM(v, 20)
    r = {
        "sma_gap:20": c / talib.SMA(c, 20) - 1,
        "sma_cross:5,20": talib.SMA(c, 5) / talib.SMA(c, 20) - 1,
        "ema_gap:20": c / talib.EMA(c, 20) - 1,
        "ema_gap:5": c / talib.EMA(c, 5) - 1,
        "ema_cross:12,26": talib.EMA(c, 12) / talib.EMA(c, 26) - 1,
        "wma_gap:20": c / talib.WMA(c, 20) - 1,
        "rsi:14": talib.RSI(c, 14) / 100 - 0.5,
        "macd:12,26,9": macd[0] / c,
        "macd_signal:12,26,9": macd[1] / c,
        "macd_histogram:12,26,9": macd[2] / c,
        "roc:10": talib.ROC(c, 10),
        "change:5": talib.ROCP(c, 5),
        "stoch_k:5,3,3": k / 100 - 0.5,
        "stoch_d:5,3,3": d / 100 - 0.5,
        "williams:14": talib.WILLR(h, l, c, 14) / 100 + 0.5,
        "cci:20": talib.CCI(h, l, c, 20) / 100,
        "adx:14": talib.ADX(h, l, c, 14) / 100,
        "di_gap:14": (talib.PLUS_DI(h, l, c, 14) - talib.MINUS_DI(h, l, c, 14)) / 100,
        "aroon:14": talib.AROONOSC(h, l, 14) / 100,
        "bop": talib.BOP(o, h, l, c),
        "mfi:14": talib.MFI(h, l, c, v, 14) / 100 - 0.5,
        "ultimate:7,14,28": talib.ULTOSC(h, l, c, 7, 14, 28) / 100 - 0.5,
        "slope:20": talib.LINEARREG_SLOPE(c, 20) / c,
        "line_gap:20": c / talib.LINEARREG(c, 20) - 1,
        "obv_slope:20": np.concatenate([np.full(20, np.nan), obv[20:] - obv[:-20]]) / volume20,
        "atr:14": talib.ATR(h, l, c, 14) / c,
        "true_range": talib.TRANGE(h, l, c) / c,
        "band_width:20": (upper - lower) / middle,
        "band_position:20": (c - middle) / (upper - lower),
        "zscore:20": (c - middle) / talib.STDDEV(c, 20, 1),
        "range_position:20": (c - talib.MIN(l, 20)) / (talib.MAX(h, 20) - talib.MIN(l, 20)) - 0.5,
        "efficiency:10": np.concatenate([np.full(10, np.nan), c[10:] - c[:-10]])
                         / talib.SUM(np.abs(np.diff(c, prepend=np.nan)), 10),
        "typical_gap": talib.TYPPRICE(h, l, c) / c - 1,
    }
    return r


def main():
    o, h, l, c, v = series = bars()
    table = features(o, h, l, c, v)
    out = sys.stdout
    library = talib.__ta_version__.decode().split()[0]
    versions = f"TA-Lib {talib.__version__} ({library}), numpy {np.__version__}"
    out.write(f"# {versions}; made by tests/golden/features_talib.py\n")
    names = ["open", "high", "low", "close", "volume"] + list(table)
    out.write(";".join(names) + "\n")
    for i in range(ROWS):
        cells = [f"{x[i]:.0f}" for x in series]
        if i % EVERY == 0:
            cells += ["" if np.isnan(column[i]) else f"{column[i]:.17g}" for column in table.values()]
        out.write(";".join(cells) + "\n")


main()
