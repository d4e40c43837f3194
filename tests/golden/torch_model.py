"""Writes tests/golden/torch_model.txt: PyTorch's forward, every gradient and ten training losses of the model.

    python tests/golden/torch_model.py > tests/golden/torch_model.txt

Needs torch. Everything is f32 on the CPU, dropout off. Weights are PyTorch's own times 3, so that windows answer
differently.
The file: lines `# …` of comment (versions), then `name count` and count numbers, 9 digits (exact for f32), 10 a line.
"""
import sys
import torch
from torch import nn

LAYERS, HIDDEN, STEPS, INPUTS, HEADS, BATCH, LOSSES, ENLARGE = 2, 16, 12, 5, 4, 8, 10, 3.0
RATE, DECAY, CLIP, SMOOTHING = 3e-3, 0.01, 1.0, 0.1


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True)
        self.attention = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True)
        self.head = nn.Sequential(nn.Linear(HIDDEN, HIDDEN // 2), nn.ReLU(), nn.Dropout(0.0), nn.Linear(HIDDEN // 2, 3))

    def forward(self, x):
        h, _ = self.lstm(x)
        pooled, weights = self.attention(h, h, h, need_weights=True, average_attn_weights=False)
        return self.head(pooled[:, -1]), weights[:, :, -1]


def emit(name, tensor):
    numbers = [f"{v:.9g}" for v in tensor.detach().reshape(-1).tolist()]
    print(name, len(numbers))
    for i in range(0, len(numbers), 10):
        print(" ".join(numbers[i:i + 10]))


def main():
    torch.manual_seed(4)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    m = Model()
    with torch.no_grad():
        for p in m.parameters():
            p.mul_(ENLARGE)
        m.attention.in_proj_bias.uniform_(-0.3, 0.3)
        m.attention.out_proj.bias.uniform_(-0.3, 0.3)
    x = torch.randn(BATCH, STEPS, INPUTS)
    target = torch.tensor([0, 1, 2, 0, -1, 1, 2, 0])
    weight = torch.tensor([1.5, 0.75, 1.0])
    loss_of = nn.CrossEntropyLoss(weight=weight, label_smoothing=SMOOTHING, ignore_index=-1)
    print(f"# torch {torch.__version__}, Python {sys.version.split()[0]}; tests/golden/torch_model.py")
    print(f"# layers {LAYERS} hidden {HIDDEN} steps {STEPS} inputs {INPUTS} heads {HEADS} batch {BATCH}")
    print(f"# AdamW rate {RATE} betas 0.9 0.999 epsilon 1e-8 decay {DECAY}, clipping {CLIP}, "
          f"label smoothing {SMOOTHING}")
    emit("x", x)
    emit("target", target.float())
    emit("class_weight", weight)
    for name, p in m.named_parameters():
        emit("weight:" + name, p)
    logits, attention = m(x)
    assert (logits.max(0).values - logits.min(0).values).min() > 0.1, "the windows must answer differently"
    emit("logits", logits)
    emit("attention", attention)
    loss_of(logits, target).backward()
    for name, p in m.named_parameters():
        emit("gradient:" + name, p.grad)
    optimiser = torch.optim.AdamW(m.parameters(), lr=RATE, weight_decay=DECAY)
    losses, norms = [], []
    for _ in range(LOSSES):
        optimiser.zero_grad()
        loss = loss_of(m(x)[0], target)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(m.parameters(), CLIP))
        optimiser.step()
        losses.append(loss.detach())
    assert max(norms) > CLIP, "clipping must happen"
    emit("losses", torch.stack(losses))
    emit("norms", torch.stack(norms))
    for name, p in m.named_parameters():
        emit("after:" + name, p)


main()
