"""torch_losses.py TEST_TRAIN_TORCH: writes torch_losses.txt beside itself: loss and gradient norm of ten steps in f64.

TEST_TRAIN_TORCH is build/release/tests/train/test_train_torch; with --dump it writes first weights, scaler, rates and
batches. The model is written with PyTorch's own modules, the loss is its CrossEntropyLoss, the optimiser its AdamW."""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

torch.set_default_dtype(torch.float64)
SMOOTHING, CLIP, DECAY = 0.1, 0.2, 0.1

with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], "--dump", folder], check=True)
    meta = json.load(open(f"{folder}/bundle.json"))
    state = {k: v.double() for k, v in load_file(f"{folder}/weights.safetensors").items()}
    lines = [[float(v) for v in line.split()] for line in open(f"{folder}/steps.txt")]
shape, scaler = meta["shape"], meta["scaler"]
F, H, T = shape["inputs"], shape["hidden"], shape["steps"]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(F, H, shape["layers"], batch_first=True)
        self.attention = torch.nn.MultiheadAttention(H, shape["heads"], batch_first=True)
        linear = torch.nn.Linear
        self.head = torch.nn.Sequential(linear(H, H // 2), torch.nn.ReLU(), torch.nn.Dropout(0), linear(H // 2, 3))

    def forward(self, x):
        y = self.lstm(x)[0]
        return self.head(self.attention(y, y, y)[0][:, -1])


net = Net()
net.load_state_dict(state)
loss_of = torch.nn.CrossEntropyLoss(weight=torch.tensor(lines[0]), label_smoothing=SMOOTHING)
optimiser = torch.optim.AdamW(net.parameters(), weight_decay=DECAY)
with open(pathlib.Path(__file__).with_name("torch_losses.txt"), "w") as out:
    print(f"# loss, gradient norm before clipping; torch {torch.__version__.split('+')[0]}, f64", file=out)
    for line in lines[1:]:
        batch = torch.tensor(line[1:]).reshape(-1, 1 + T * F)
        x = (batch[:, 1:].reshape(-1, T, F) - torch.tensor(scaler["mean"])) / torch.tensor(scaler["scale"])
        loss = loss_of(net(x.clamp(-scaler["clip"], scaler["clip"])), batch[:, 0].long())
        optimiser.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad ** 2).sum() for p in net.parameters()))
        for p in net.parameters():
            p.grad *= min(1.0, CLIP / norm.item())
        optimiser.param_groups[0]["lr"] = line[0]
        optimiser.step()
        print(f"{loss.item():.12f} {norm.item():.12f}", file=out)
