"""Runs one of the acceptance programs that lie outside the project; skips where they, or their Python, are absent.

usage: accept.py OUTCRY SOURCE NAME SEED

`repeat` kills a training at random times and asks for at least two kills: about one time in ten chance gives fewer.
That message alone, which judges the chance and not the program, is answered by another try, at most TRIES in all.
"""
import os
import subprocess
import sys

TRIES = 3
UNLUCKY = "killed only "                     # ... "N times: train longer"


def main():
    outcry, source, name, seed = sys.argv[1:5]
    folder = os.environ.get("OUTCRY_ACCEPT", os.path.join(source, "..", "shared", "accept"))
    program = os.path.join(folder, name)
    python = os.environ.get("OUTCRY_PYTHON") or sys.executable
    if not os.path.exists(program):
        print(f"skipped: no {program}")
        return 77
    try:
        subprocess.run([python, "-c", "import numpy, h5py, safetensors"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        print(f"skipped: {python} has no numpy, h5py or safetensors (OUTCRY_PYTHON names another)")
        return 77
    environment = dict(os.environ, OUTCRY=outcry, PYTHON=python, SEED=seed)
    for _ in range(TRIES):
        run = subprocess.run(["bash", program], cwd=source, env=environment, stdout=subprocess.PIPE, text=True)
        print(run.stdout, end="", flush=True)
        last = (run.stdout.strip().splitlines() or [""])[-1]
        if run.returncode == 0 or not (last.startswith(UNLUCKY) and last.endswith(" times: train longer")):
            break
    return run.returncode


sys.exit(main())
