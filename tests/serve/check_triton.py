"""Somebody else's client, unchanged: tritonclient.http asks for readiness, metadata and inference, with JSON and
with binary tensors, and gets the model's own bits; what it asks wrongly it is told in its own exception.

usage: check_triton.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

if os.environ.get("OUTCRY_PYTHON") and "--here" not in sys.argv:
    os.execv(os.environ["OUTCRY_PYTHON"], [os.environ["OUTCRY_PYTHON"], "-B", *sys.argv, "--here"])
try:
    import numpy
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException
except ImportError as missing:
    print(f"skipped: {missing.name} is not there (OUTCRY_PYTHON names another Python)")
    sys.exit(77)

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])


def start(work, bundle):
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={bundle}", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock"):
        arguments += ["--set", pair]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(process)
    return process, re.search(r"http://(127\.0\.0\.1:\d+)", process.stdout.readline()).group(1)


def metadata(client, about):
    name, version, shape = about["name"], about["version"], about["shape"]
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(name) and client.is_model_ready(name, version)
    assert not client.is_model_ready("other") and not client.is_model_ready(name, "none")
    server = client.get_server_metadata()
    assert server["name"] == "outcry" and "binary_tensor_data" in server["extensions"] and server["version"], server
    model = client.get_model_metadata(name, version)
    assert model["versions"] == [version] and model["platform"] == "outcry", model
    assert model["inputs"] == [{"name": "window", "datatype": "FP32", "shape": [-1, shape["steps"], shape["inputs"]]}]
    assert [out["name"] for out in model["outputs"]] == ["probabilities"], model


def infer(client, about, windows, binary_in, binary_out, identity=""):
    tensor = triton.InferInput("window", windows.shape, "FP32")
    tensor.set_data_from_numpy(windows, binary_data=binary_in)
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary_out)]
    result = client.infer(about["name"], [tensor], outputs=wanted, request_id=identity)
    answer = result.get_response()
    assert answer["model_name"] == about["name"] and answer["model_version"] == about["version"], answer
    assert answer.get("id", "") == identity and result.get_output("probabilities")["datatype"] == "FP32", answer
    return result.as_numpy("probabilities")


def equality(client, about, windows, answers):
    draw = random.Random(7)
    for i in range(40):
        batch = draw.randrange(1, 9)
        first = draw.randrange(len(windows) - batch + 1)
        part, wanted = windows[first:first + batch], answers[first:first + batch]
        got = infer(client, about, part, i & 1 > 0, i & 2 > 0, f"q{i}" if i & 4 else "")
        assert got.dtype == numpy.float32 and got.shape == wanted.shape and got.tobytes() == wanted.tobytes(), i
        other = answers[(first + batch) % (len(answers) - batch):][:batch]
        assert got.tobytes() != other.tobytes(), "the comparison would not see a model that ignores its input"
    default = triton.InferInput("window", windows[:1].shape, "FP32")      # all defaults: binary both ways
    default.set_data_from_numpy(windows[:1])
    assert client.infer(about["name"], [default]).as_numpy("probabilities").tobytes() == answers[:1].tobytes()


def sequence(client, about, windows, answers):
    """Rows one by one by the client's own arguments: the last of them completes the window."""
    for identity, binary in ((9, True), (2**64 - 9, False), ("text", False)):
        for i, row in enumerate(windows[3]):
            tensor = triton.InferInput("window", [1, 1, len(row)], "FP32")
            tensor.set_data_from_numpy(row.reshape(1, 1, -1), binary_data=binary)
            wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
            more = {"symbol": "EURUSD", "sequence": 10 * i + 5, "run_length": i + 1} if binary else None
            result = client.infer(about["name"], [tensor], outputs=wanted, sequence_id=identity, sequence_start=i == 0,
                                  sequence_end=i == len(windows[3]) - 1, parameters=more)
            told = result.get_response()["parameters"]
            assert told["state"] == ("hold_short" if i + 1 < len(windows[3]) else "ok"), told
            assert told["sequence"] == (10 * i + 5 if binary else i + 1) and told["sequence_id"] == str(identity), told
        assert result.as_numpy("probabilities").tobytes() == answers[3:4].tobytes()
    try:
        client.infer(about["name"], [tensor], sequence_id="text")
    except InferenceServerException as refused:
        assert "not open" in refused.message(), refused
    else:
        raise AssertionError("a sequence that has ended")


def figures(client, about, answered):
    """Batches by their exact size, and reading and writing of requests, add up to what was asked."""
    end = time.monotonic() + 20
    while True:                                             # a batch is counted behind its answers
        (one,) = client.get_inference_statistics(about["name"])["model_stats"]
        batches = {row["batch_size"]: row["compute_infer"] for row in one["batch_stats"]}
        if sum(size * row["count"] for size, row in batches.items()) == one["inference_count"]:
            break
        assert time.monotonic() < end, one
    assert len(batches) == len(one["batch_stats"]) and set(batches) == set(range(1, 9)), one
    assert all(row["ns"] > 0 < row["count"] for row in batches.values()), one
    assert sum(row["count"] for row in batches.values()) == one["execution_count"], one
    for stage, count in (("compute_input", answered + 1), ("compute_output", answered)):     # one was refused
        assert one["inference_stats"][stage]["count"] == count and one["inference_stats"][stage]["ns"] > 0, one


def about_itself(client, about, asked):
    """The statistics and repository extensions."""
    name, version = about["name"], about["version"]
    index = client.get_model_repository_index()
    assert [(one["name"], one["version"], one["state"]) for one in index] == [(name, version, "READY")], index
    assert {"statistics", "sequence", "model_repository"} <= set(client.get_server_metadata()["extensions"])
    for stats in (client.get_inference_statistics(), client.get_inference_statistics(name),
                  client.get_inference_statistics(name, version)):
        (one,) = stats["model_stats"]
        assert one["name"] == name and one["version"] == version, one
        assert one["inference_count"] >= asked and 0 < one["execution_count"], (one, asked)
        assert abs(one["last_inference"] / 1000 - time.time()) < 300, one
        for stage in ("success", "queue", "compute_infer"):
            assert one["inference_stats"][stage]["count"] >= asked and one["inference_stats"][stage]["ns"] > 0, one
    for control in (client.load_model, client.unload_model):
        try:
            control(name)
        except InferenceServerException as refused:
            assert "serve.control_token_file" in refused.message(), refused
        else:
            raise AssertionError("model control is off")
    try:
        client.get_inference_statistics(name, "none")
    except InferenceServerException:
        return
    raise AssertionError("a version that is not there")


def not_offered(client, about, windows):
    """What the client can ask for and the server has not is refused, and not answered with something else."""
    def tensor():
        made = triton.InferInput("window", windows[:1].shape, "FP32")
        made.set_data_from_numpy(windows[:1])
        return made

    shared, into = tensor(), triton.InferRequestedOutput("probabilities")
    shared.set_shared_memory("region", windows[:1].nbytes)
    into.set_shared_memory("region", 12)
    classes = triton.InferRequestedOutput("probabilities", class_count=2)
    for what, tensors, more in (("shared_memory", [shared], {}), ("shared_memory", [tensor()], {"outputs": [into]}),
                                ("classification", [tensor()], {"outputs": [classes]}),
                                ("Content-Encoding", [tensor()], {"request_compression_algorithm": "gzip"})):
        try:
            client.infer(about["name"], tensors, **more)
        except InferenceServerException as refused:
            assert what in refused.message(), (what, refused)
        else:
            raise AssertionError(what)


def refusals(client, about, windows):
    bad = windows[:1].copy()
    bad[0, 0, 0] = numpy.nan
    for what, tensor, says in (("NaN", bad, "finite"), ("a row less", windows[:1, 1:], "shape"),
                               ("a column less", windows[:1, :, 1:], "shape")):
        try:
            infer(client, about, numpy.ascontiguousarray(tensor), True, True)
        except InferenceServerException as refused:
            assert says in refused.message(), (what, refused)
        else:
            raise AssertionError(what)
    try:
        infer(client, {**about, "name": "other"}, windows[:1], True, True)
    except InferenceServerException:
        return
    raise AssertionError("a model that is not there")


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/b"], check=True)
    for index in sorted(os.listdir(f"{work}/b")):
        folder = f"{work}/b/{index}"
        description = json.load(open(f"{folder}/bundle.json", encoding="utf-8"))
        steps, inputs = description["shape"]["steps"], description["shape"]["inputs"]
        x = numpy.fromfile(f"{folder}/windows.f32", "<f4").reshape(-1, steps, inputs)
        y = numpy.fromfile(f"{folder}/answers.f32", "<f4").reshape(len(x), -1, 3)
        server, at = start(work, folder)
        with triton.InferenceServerClient(at) as asking:
            metadata(asking, description)
            equality(asking, description, x, y)
            sequence(asking, description, x, y)
            figures(asking, description, 41 + 3 * steps)
            about_itself(asking, description, 41)
            if steps > 1 and inputs > 1:
                refusals(asking, description, x)
                not_offered(asking, description, x)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
print("tritonclient.http: readiness, metadata, JSON and binary inference, sequences, statistics, index, refusals")
