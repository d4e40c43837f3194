"""`outcry models` over a repository made here: listing, one model, damage of any byte found by verify, a folder of the
wrong name, no repository at all.

usage: check_models.py OUTCRY MAKE_BUNDLE
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

OUTCRY, MAKE_BUNDLE = sys.argv[1:3]


def run(*arguments):
    done = subprocess.run([OUTCRY, "models", *arguments, "--json"], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1])["models"] if lines else None, done.stderr


with tempfile.TemporaryDirectory() as work:
    subprocess.run([MAKE_BUNDLE, f"{work}/made"], check=True)
    names = set()
    for index in sorted(os.listdir(f"{work}/made")):
        about = json.load(open(f"{work}/made/{index}/bundle.json"))
        if about["name"] in names:
            continue
        names.add(about["name"])
        target = f"{work}/models/{about['name']}/{about['version']}"
        os.makedirs(target)
        for name in ("bundle.json", "weights.safetensors"):
            shutil.copy(f"{work}/made/{index}/{name}", target)
    place = ("--repository", f"{work}/models")
    code, models, _ = run("list", *place)
    assert code == 0 and {row["model"] for row in models} == names and all(row["good"] for row in models), models
    first = models[0]
    code, shown, _ = run("show", f"{first['model']}/{first['version']}", *place)
    assert code == 0 and shown == [first] and len(first["weights_hash"]) == 32, shown
    assert run("verify", *place)[0] == 0
    assert run("show", "none", *place)[0] == 65 and run("list", "--repository", f"{work}/none")[0] == 65
    assert run("show", *place)[0] == 64 and run("burn", *place)[0] == 64
    for name in ("bundle.json", "weights.safetensors"):
        path = f"{first['folder']}/{name}"
        good = open(path, "rb").read()
        for at in (0, len(good) // 2, len(good) - 1):
            open(path, "wb").write(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
            code, models, said = run("verify", *place)
            assert code == 65 and "cannot be used" in said, (name, at, code, said)
        open(path, "wb").write(good)
    os.rename(first["folder"], f"{work}/models/{first['model']}/9")
    assert run("verify", *place)[0] == 65
print("models: listing, showing, damage and misplacement hold")
