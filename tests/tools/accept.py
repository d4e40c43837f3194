"""Runs one of the acceptance programs that lie outside the project; skips where they, or the Python they need, are absent.

usage: accept.py OUTCRY SOURCE NAME SEED
"""
import os
import subprocess
import sys

outcry, source, name, seed = sys.argv[1:5]
program = os.path.join(os.environ.get("OUTCRY_ACCEPT", os.path.join(source, "..", "shared", "accept")), name)
python = os.environ.get("OUTCRY_PYTHON", sys.executable)
if not os.path.exists(program):
    print(f"skipped: no {program}")
    sys.exit(77)
if subprocess.run([python, "-c", "import numpy, h5py, safetensors"], capture_output=True).returncode:
    print(f"skipped: {python} has no numpy, h5py or safetensors (OUTCRY_PYTHON names another)")
    sys.exit(77)
sys.exit(subprocess.run(["bash", program], cwd=source, env=dict(os.environ, OUTCRY=outcry, PYTHON=python, SEED=seed)).returncode)
