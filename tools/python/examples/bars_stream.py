"""Bars into a running Outcry server on this machine, as a stream: the server computes the features, and answers each
bar with buy, sell and hold. For a model of bars (`serve.sample: bar`, and `serve.streams` above 0). A bar is a line
"symbol,end,open,high,low,close,volume" of standard input, the end in seconds since 1970; lines come in time's order.
Bars from storage come first: a bar is "hold_history" until enough lies behind it. The bars stay in memory, so that a
server that is started anew has its history back at once.

usage: bars_stream.py ADDRESS PERIOD_S SYMBOL:TICK... < bars     e.g. unix:/tmp/outcry.sock 60 EURUSD:0.00001
"""
import sys

import numpy as np

import outcry


def main() -> None:
    address, period_s, *named = sys.argv[1:]
    universe = [outcry.Instrument(*text.split(":")) for text in named]
    places = {one.symbol: i for i, one in enumerate(universe)}
    record = np.zeros(1024, outcry.EVENT)
    count = 0
    with outcry.Stream(address, universe, period_s=float(period_s),
                       refill=lambda history, until: record[:count]) as stream:
        for line in sys.stdin:
            symbol, end, *numbers = line.strip().split(",")
            if count == len(record):
                record = np.concatenate([record, np.zeros_like(record)])
            record[count:count + 1] = outcry.bars(universe[places[symbol]], places[symbol], count + 1,
                                                  round(float(end) * 1e9), *map(float, numbers))
            count += 1
            for answer in stream.tick(record[count - 1:count]):
                buy, sell, hold = answer.probabilities[0]
                print(f"{symbol} {end} {answer.state} buy {buy:.9g} sell {sell:.9g} hold {hold:.9g}", flush=True)


if __name__ == "__main__":
    main()
