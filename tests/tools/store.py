"""GPU ranks as plain processes that meet at a store, from outside: no launcher, no MPI, no common folder.
The device is the emulation and NCCL a double, so this proves what is said and agreed, not what a GPU does. Any
number of ranks gives one weights_hash; a rank that is killed or stopped ends the others within 10 s, each of which
names it with its host; what is saved goes on to the same weights on another number.

usage: store.py OUTCRY SOURCE MODULE NCCL [faults]
Without `faults`: the contract. With it: trials of killing, stopping and slowing one random rank at a random step, drawn
from OUTCRY_SEED (1): two, with OUTCRY_FULL=1 30.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

OUTCRY, SOURCE, MODULE, NCCL = map(os.path.abspath, sys.argv[1:5])
CONFIG = f"{SOURCE}/configs/train.yaml"
HOST = socket.gethostname()
ALL_GONE_S = 10 if os.environ.get("OUTCRY_FULL") == "1" else 30     # the promise; a busy machine has longer
LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "SLURM_", "PRTE_")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}
ENVIRONMENT.update(OUTCRY_CUDA_MODULE=MODULE, OUTCRY_NCCL=NCCL, OMPI_ALLOW_RUN_AS_ROOT="1",
                   OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")  # fmt: skip
SETS = (
    "backend=cuda window.steps=4 model.hidden=6 model.heads=2 train.batch=32 train.epochs=1 "
    "train.windows_per_epoch=180 train.valid_windows=24 train.log_every=1 train.patience=0 train.shards=8 "
    "train.class_weights=balanced train.checkpoint_seconds=0 train.bucket_mb=0"
).split()
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name}: {str(said)[-900:]}")


def store_new():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def command(out, sets=(), resume=False):
    pairs = [p for s in (*SETS, *sets) for p in ("--set", s)]
    return [OUTCRY, "train", CONFIG, "--out", out, "--json", "--quiet", *(("--resume",) if resume else ()), *pairs]


def seat(store, rank, ranks):
    return ["--store", store, "--rank", str(rank), "--ranks", str(ranks)]


def run(arguments, **environment):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, env={**ENVIRONMENT, **environment})


def start(ranks, out, sets=(), resume=False, of_rank=None, **environment):
    """All ranks; of_rank: {rank: sets of its own}. What each says goes into a file of its own."""
    store, jobs = store_new(), []
    for rank in range(ranks):
        said = open(f"{out}.said{rank}", "w+")
        own = (*sets, *(of_rank or {}).get(rank, ()))
        jobs.append(subprocess.Popen(
            [*command(out, own, resume), *seat(store, rank, ranks)], stdout=said, stderr=subprocess.STDOUT,
            env={**ENVIRONMENT, **environment}))  # fmt: skip
        jobs[-1].said = said
    return jobs


def finish(jobs, but=()):
    """[(exit code, what it said)], those of `but` not waited for."""
    found = []
    for rank, job in enumerate(jobs):
        if rank not in but:
            try:
                job.wait(90)
            except subprocess.TimeoutExpired:
                job.kill()
    for rank, job in enumerate(jobs):
        if rank in but:
            job.kill()
            job.wait()
        job.said.seek(0)
        found.append((job.returncode, job.said.read()))
        job.said.close()
    return found


def weights(name, codes):
    """weights_hash of the one JSON line that rank 0 prints."""
    lines = [line for _, said in codes for line in said.splitlines() if line.startswith("{")]
    check(f"{name}: exit codes", all(code == 0 for code, _ in codes), codes)
    check(f"{name}: one result", len(lines) == 1, codes)
    return json.loads(lines[0])["weights_hash"] if lines else None


def steps_in(path):
    try:
        found = re.findall(r'"step":(\d+)', open(path).read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0


def dataset_make(folder):
    events, path = f"{folder}/s.events", f"{folder}/d.h5"
    for line in (
        f"simulate --out {events} --events 20000 --seed 3 --levels 10 --signal 0.8 --label direction:10:0.0001",
        f"build {SOURCE}/configs/build-book.yaml --set data.events={events} --out {path}",
    ):
        r = run([OUTCRY, *line.split(), "--quiet"])
        if r.returncode:
            sys.exit(f"outcry {line}: {r.stderr}")
    return path


def one_hash(work):
    alone = run(command(f"{work}/alone"))
    wanted = weights("one process", [(alone.returncode, alone.stdout + alone.stderr)])
    check("one process: the cost of shards is said", "faster with train.shards: 1" in alone.stderr, alone.stderr)
    found = weights("eight", finish(start(8, f"{work}/eight", ("train.bucket_mb=1",))))  # at once
    check("eight plain processes: the weights of one", found == wanted, f"{found} {wanted}")
    out, logs = f"{work}/sum", f"{work}/sum.logs"
    summed = weights("allreduce", finish(start(4, out, ("reduce=allreduce", f"log.ranks={logs}"))))
    check("allreduce: weights of its own", summed not in (None, wanted), summed)
    parts_are("allreduce", 5, out, logs)
    return wanted


def parts_are(name, parts, out, logs):
    """The start line tells the parts of the gradient, and rank 1 has counted as many moves in each step."""
    told = json.loads(open(f"{out}/log.jsonl").readline()).get("buckets")
    counted = re.findall(r"step (\d+): .* (\d+) moves between GPUs", open(f"{logs}/rank-1.log").read())
    steps, moves = map(int, counted[-1]) if counted else (0, 0)
    check(f"{name}: {parts} moves a step", told == parts and steps > 2 and moves == parts * steps, f"{told} {counted}")


def in_parts(work, wanted):
    """Parts of some modules; every module by itself is the rule of this file's jobs, see SETS."""
    out, logs = f"{work}/parts", f"{work}/parts.logs"
    found = weights("3 parts", finish(start(4, out, ("train.bucket_mb=0.001", f"log.ranks={logs}"))))
    check("3 parts: the weights of one", found == wanted, f"{found} {wanted}")
    parts_are("3 parts", 3, out, logs)


def alive(job):
    return job.poll() is None


def harm(kind, job, others):
    """slow: stands still for longer than comm.timeout_ns and goes on; so it is late, not gone. On a slow machine the
    others begin to wait for it later: one of them must have ended."""
    begun = time.monotonic()
    os.kill(job.pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
    if kind == "slow":
        while (took := time.monotonic() - begun) < 6.3 or (took < 30 and all(map(alive, others))):
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGCONT)


def harmed(work, kind, ranks, victim, again, wanted, step=2, sets=(), trial=""):
    """One of the processes is killed, stopped or slowed after a step; the others name it, and others go on."""
    out, name = f"{work}/{kind}", f"{trial}{kind} rank {victim} of {ranks} after step {step}"
    shutil.rmtree(out, ignore_errors=True)
    jobs = start(ranks, out, sets)
    until = time.monotonic() + 60
    while steps_in(f"{out}/log.jsonl") < step and time.monotonic() < until and all(map(alive, jobs)):
        time.sleep(0.005)
    check(f"{name}: was harmed", alive(jobs[victim]), "it was over before")
    begun, but = time.monotonic(), () if kind == "slow" else (victim,)
    harm(kind, jobs[victim], [job for job in jobs if job is not jobs[victim]])
    while any(alive(j) for r, j in enumerate(jobs) if r not in but) and time.monotonic() - begun < 60:
        time.sleep(0.01)
    took = time.monotonic() - begun
    codes = finish(jobs, but)
    check(f"{name}: all gone in {took:.1f} s", took <= ALL_GONE_S, codes)
    for rank, (code, said) in enumerate(codes):
        named = re.search(rf"rank {rank} on {re.escape(HOST)}: .*rank {victim} on {re.escape(HOST)}", said)
        check(f"{name}: rank {rank} names it", rank == victim or (code == 1 and named), said)
        check(f"{name}: a failure", rank != victim or kind != "slow" or code == 1, codes)
    print(f"{name}: {took:.1f} s: {codes[(victim + 1) % ranks][1].strip().splitlines()[-1][-230:]}", flush=True)
    found = weights(f"{name}: resume", finish(start(again, out, sets, resume=True)))
    check(f"{name}: goes on to the same weights on {again}", found == wanted, f"{found} {wanted}")


def trials(work):
    seed, sets = os.environ.get("OUTCRY_SEED", "1"), ("train.epochs=4",)
    total, draw = 30 if os.environ.get("OUTCRY_FULL") == "1" else 2, random.Random(seed)
    alone = run(command(f"{work}/unbroken", sets))
    wanted = weights("unbroken", [(alone.returncode, alone.stdout + alone.stderr)])
    for i in range(total):
        kind, ranks = ("slow", "kill", "stop")[i % 3], draw.choice((2, 4, 8))
        victim, again, step = draw.randrange(ranks), draw.choice((1, 2, 4, 8)), draw.randrange(1, 15)
        harmed(work, kind, ranks, victim, again, wanted, step, sets, f"trial {i} of seed {seed}: ")
    print(f"{total} trials of seed {seed}, {len(faults)} faults", flush=True)


def refused(work):
    out = f"{work}/refused"
    for name, arguments, code, words in (
        ("cpu", [*command(out, ("backend=cpu",)), *seat("127.0.0.1:1", 0, 2)], 64, "CPU ranks are started by mpirun"),
        ("no rank", [*command(out), "--store", "127.0.0.1:1"], 64, "--store, --rank and --ranks go together"),
        ("no store", [*command(out), "--rank", "0", "--ranks", "2"], 64, "go together"),
        ("rank 2 of 2", [*command(out), *seat("127.0.0.1:1", 2, 2)], 64, "--rank"),
        ("no port", [*command(out), *seat("node-a", 1, 2)], 64, "give rank 0's host:port"),
        ("nobody there", [*command(out, ("comm.start_timeout_ns=500000000",)), *seat(store_new(), 1, 2)], 1,
         "no rank 0 there within 0.5 s"),
    ):  # fmt: skip
        begun = time.monotonic()
        r = run(arguments)
        check(f"{name}: exit and words", r.returncode == code and words in r.stderr, f"{r.returncode} {r.stderr}")
        check(f"{name}: in time", time.monotonic() - begun < ALL_GONE_S)
    for name, ranks, own, environment, code, words in (
        ("3 ranks", 3, {}, {}, 78, "1, 2, 4, 8 are possible"),
        ("another config", 2, {1: ("train.rate=0.01",)}, {}, 78, 'rank 1 on .* "train.rate: 0.01'),
        ("no NCCL", 2, {}, {"OUTCRY_NCCL": "/nonexistent/libnccl.so.2"}, 1, "backend cuda: no NCCL: /nonexistent"),
        ("auto without a GPU", 2, {r: ("backend=auto",) for r in (0, 1)}, {"OUTCRY_EMULATION_DEVICES": "0"}, 78,
         "--store is for ranks on GPUs, and this one computes on a CPU"),
    ):  # fmt: skip
        codes = finish(start(ranks, out, of_rank=own, **environment))
        good = all(c == code and re.search(words, said) for c, said in codes)
        check(f"{name}: every rank says so", good, codes)
    check("nothing is written before the ranks agree", not os.path.exists(out))


def two_rank_0s(work):
    jobs = start(2, f"{work}/zero")
    store = jobs[0].args[jobs[0].args.index("--store") + 1]
    until = time.monotonic() + 60
    while steps_in(f"{work}/zero/log.jsonl") < 1 and time.monotonic() < until:
        time.sleep(0.005)
    r = run([*command(f"{work}/zero2"), *seat(store, 0, 2)])
    check("a second rank 0", r.returncode == 1 and "the port is taken: by a second rank 0" in r.stderr, r.stderr)
    os.kill(jobs[1].pid, signal.SIGTERM)
    codes = finish(jobs)
    stopped = all(code == 75 and "stopped after step" in said for code, said in codes)
    check("SIGTERM to one rank: all save and say so", stopped, codes)


def launched(work, wanted):
    """The same by mpirun, whose MPI takes the store's part."""
    seat = json.loads(run([OUTCRY, "doctor", "--ranks", "--json", "--quiet"]).stdout.splitlines()[-1])
    check("doctor --ranks: the NCCL that a rank would load", seat["rank_check"]["seats"][0]["nccl"] == "2.29.7", seat)
    about = json.loads(run([OUTCRY, "doctor", "--json", "--quiet"]).stdout.splitlines()[-1])["ranks"]
    if "has no MPI" in about or not shutil.which("mpirun"):
        print(f"no ranks of mpirun: {about}")
        return
    r = run(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", "2", *command(f"{work}/mpi")])
    found = weights("mpirun", [(r.returncode, r.stdout + r.stderr)])
    check("mpirun -n 2 on devices: the same weights", found == wanted, f"{found} {wanted}")


def main():
    with tempfile.TemporaryDirectory() as work:
        ENVIRONMENT["TMPDIR"] = work
        SETS.append(f"data.dataset={dataset_make(work)}")
        if "faults" in sys.argv:
            trials(work)
        else:
            refused(work)
            wanted = one_hash(work)
            in_parts(work, wanted)
            harmed(work, "kill", 4, 1, 8, wanted)
            harmed(work, "stop", 8, 5, 2, wanted)
            two_rank_0s(work)
            launched(work, wanted)
    print("\n".join(faults) or "one hash, every fault named")
    sys.exit(1 if faults else 0)


main()
