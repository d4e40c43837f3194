"""Posts bars to an Outcry server over HTTP as they close and prints what it thinks: a sequence of the Open Inference
Protocol, standard library only. The twin of OutcryBars.mq5: the same request from MetaTrader.

usage: bars_http.py http://127.0.0.1:8080 MODEL SYMBOL < bars.csv

bars.csv: open,high,low,close,volume, one bar a line, oldest first. What stands in a row is the model's affair: its
features, in its order (GET /v2/models/MODEL names how many). `features` below is for a model of five, of the bar's own
numbers relative to the close before; put yours in its place, computed as `outcry build` computed them.
"""
import json
import math
import sys
import urllib.error
import urllib.request


def features(bar, before):
    """Five numbers of a bar: log returns of open, high, low and close on the close before, log of the volume."""
    close = before[3]
    return [math.log(price / close) for price in bar[:4]] + [math.log1p(bar[4])]


class Poster:
    """One symbol's rows. `run` counts the valid rows in a row: by it the server knows whether its window is whole."""

    def __init__(self, server, model, symbol):
        self.url, self.symbol = f"{server}/v2/models/{model}/infer", symbol
        self.number = self.run = 0
        self.started = False

    def ask(self, row, start):
        parameters = {"sequence_id": self.symbol, "symbol": self.symbol, "sequence": self.number,
                      "run_length": self.run}
        if start:
            parameters["sequence_start"] = True
        body = {"parameters": parameters,
                "inputs": [{"name": "window", "shape": [1, 1, len(row)], "datatype": "FP32", "data": row}]}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def post(self, row):
        """(state, [buy, sell, hold]). A sequence that the server does not know (any more) is begun anew: its window has
        to fill again, and until then the answer is HOLD."""
        self.number += 1
        self.run += 1
        try:
            said = self.ask(row, not self.started)
        except urllib.error.HTTPError as refused:
            if refused.code != 404 or not self.started:
                raise RuntimeError(f"{self.symbol}: {json.load(refused)['error']}") from refused
            self.run = 1
            said = self.ask(row, True)
        self.started = True
        return said["parameters"]["state"], said["outputs"][0]["data"][:3]


def main():
    poster, before = Poster(*sys.argv[1:4]), None
    for line in sys.stdin:
        bar = [float(number) for number in line.split(",")]
        if before:
            state, (buy, sell, hold) = poster.post(features(bar, before))
            print(f"{state} buy {buy:.9g} sell {sell:.9g} hold {hold:.9g}", flush=True)
        before = bar


if __name__ == "__main__":
    main()
