"""check_bundle.py MAKE_BUNDLE: the bundles of make_bundle read by others, within 1e-5 of our answers.

safetensors reads the weights; ONNX Runtime runs the exported file; torch.nn.LSTM, MultiheadAttention and Linear load
the state dict. What is not installed is skipped by name; nothing installed: exit 77. Answers must differ between
windows by at least 0.1, and each oracle must notice one injected fault."""
import json
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from safetensors.numpy import load_file, save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

bound = 1e-5


def with_onnxruntime(folder, meta, windows, fault):
    import onnxruntime
    import onnx
    model = onnx.load(f"{folder}/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert [i.name for i in model.graph.input] == ["window"]
    assert [o.name for o in model.graph.output] == ["probabilities"]
    if fault:
        tensor = next(t for t in model.graph.initializer if t.name == "head.0.weight")
        tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * 1.05).tobytes()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"window": windows})[0]


def with_torch(folder, meta, windows, fault):
    import torch
    shape = meta["shape"]
    state = {k: torch.from_numpy(v) for k, v in load_file(f"{folder}/weights.safetensors").items()}
    if fault:
        state["head.0.weight"] = state["head.0.weight"] * 1.05
    F, H, N = shape["inputs"], shape["hidden"], shape["heads"]

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if shape["trunk"] == "lstm":
                self.lstm = torch.nn.LSTM(F, H, shape["layers"], batch_first=True)
            else:
                layers = []
                for i in range(shape["layers"]):
                    layers += [torch.nn.Linear(H if i else F, H), torch.nn.ReLU()]
                self.trunk = torch.nn.Sequential(*layers)
            if N:
                self.attention = torch.nn.MultiheadAttention(H, N, batch_first=True)
            self.head = torch.nn.Sequential(torch.nn.Linear(H, H // 2), torch.nn.ReLU(), torch.nn.Dropout(0.3),
                                            torch.nn.Linear(H // 2, 3 * shape["horizons"]))

        def forward(self, x):
            y = self.lstm(x)[0] if shape["trunk"] == "lstm" else self.trunk(x)
            last = self.attention(y, y, y)[0][:, -1] if N else y[:, -1]
            return self.head(last)

    net = Net().eval()
    net.load_state_dict(state, strict=True)
    scaler = meta["scaler"]
    x = (windows - np.float32(scaler["mean"])) / np.float32(scaler["scale"])
    if scaler["clip"]:
        x = np.clip(x, -scaler["clip"], scaler["clip"])
    with torch.no_grad():
        logits = net(torch.from_numpy(x.astype(np.float32))).reshape(len(x), shape["horizons"], 3)
        return torch.softmax(logits / torch.tensor(meta["temperature"])[:, None], -1).numpy()


def check(folder, name, oracle):
    meta = json.load(open(f"{folder}/bundle.json"))
    shape = meta["shape"]
    windows = np.fromfile(f"{folder}/windows.f32", np.float32).reshape(-1, shape["steps"], shape["inputs"])
    ours = np.fromfile(f"{folder}/answers.f32", np.float32).reshape(-1, shape["horizons"], 3)
    error = np.abs(oracle(folder, meta, windows, False) - ours).max()
    fault = np.abs(oracle(folder, meta, windows, True) - ours).max()
    spread = np.ptp(ours, axis=0).max()
    good = error <= bound and spread >= 0.1 and fault > 10 * bound
    print(f"{name} {shape['trunk']} {shape}: off by {error:.1e}, spread {spread:.2f}, injected fault {fault:.1e}"
          f"{'' if good else '  <-- FAILED'}")
    return good


results = []
with tempfile.TemporaryDirectory() as root:
    subprocess.run([sys.argv[1], root], check=True)
    for name, oracle in (("onnxruntime", with_onnxruntime), ("torch", with_torch)):
        try:
            __import__(name)
        except ImportError:
            print(f"skipped: no {name}")
            continue
        results += [check(f"{root}/{i}", name, oracle) for i in range(4)]
sys.exit(77 if not results else 0 if all(results) else 1)
