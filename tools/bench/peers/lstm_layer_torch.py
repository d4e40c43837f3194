"""PyTorch's nn.LSTM alone, no dropout, all steps of the top layer out: microseconds a time step, forward (without
what backward needs) and forward + backward (weights' gradients; x asks for none), x . W included. On a GPU that is
cuDNN, in the dtype named: weights, x and states of it. One JSON line a metric, the least of --seconds.

usage: lstm_layer_torch.py --hidden H --batch B --steps T --inputs F --layers L --dtype f32|tf32|bf16|f16
                           --device cpu|cuda --threads N --seconds S
"""
import argparse
import json
import time

import torch

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in (("hidden", 768), ("batch", 16), ("steps", 1024), ("inputs", 768), ("layers", 1), ("threads", 1)):
    p.add_argument(f"--{name}", type=int, default=default)
p.add_argument("--dtype", default="f32", choices=["f32", "tf32", "bf16", "f16"])
p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
p.add_argument("--seconds", type=float, default=1.0)
a = p.parse_args()

torch.manual_seed(1)
torch.set_num_threads(a.threads)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.dtype != "f32"
kind = {"bf16": torch.bfloat16, "f16": torch.float16}.get(a.dtype, torch.float32)
lstm = torch.nn.LSTM(a.inputs, a.hidden, a.layers).to(device=a.device, dtype=kind)
x = torch.randn(a.steps, a.batch, a.inputs).to(device=a.device, dtype=kind)
dy = torch.randn(a.steps, a.batch, a.hidden).to(device=a.device, dtype=kind)


def forward():
    with torch.inference_mode():
        return lstm(x)[0]


def train():
    lstm.zero_grad(set_to_none=True)
    lstm(x)[0].backward(dy)


def wait():
    if a.device == "cuda":
        torch.cuda.synchronize()


def least(call):
    """Calls side by side until a wait, so that a GPU's queue is never empty; of such groups the fastest."""
    group = 1 if a.device == "cpu" else 10
    for _ in range(2 if a.device == "cpu" else 5):
        call()
    wait()
    best, end = float("inf"), time.perf_counter() + a.seconds
    while True:
        began = time.perf_counter()
        for _ in range(group):
            call()
        wait()
        now = time.perf_counter()
        best = min(best, (now - began) / group)
        if now >= end:
            return best * 1e6 / a.steps


cudnn = torch.backends.cudnn.version() if a.device == "cuda" else None
for metric, call in (("lstm_forward", forward), ("lstm_train", train)):
    print(json.dumps({"peer": f"torch-{a.device}", "version": torch.__version__, "cudnn": cudnn, "metric": metric,
                      "value": least(call), "unit": "us a step", "dtype": a.dtype}), flush=True)
