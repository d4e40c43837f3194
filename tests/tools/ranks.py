"""Ranks of mpirun, from outside: any number of them gives one weights_hash, also after a resume on another count; a
rank that is killed, stopped or slow ends the job within 10 s, named, and what is saved goes on to the same weights.

usage: ranks.py OUTCRY SOURCE [faults PART]
Without `faults`: the contract. With it: trials of killing, stopping and slowing, drawn from OUTCRY_SEED (1) and PART:
a few, with OUTCRY_FULL=1 100 in each of the two parts.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
CONFIG = f"{SOURCE}/configs/train.yaml"
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ALL_GONE_S = 10 if os.environ.get("OUTCRY_FULL") == "1" else 30     # the promise; a busy machine has longer
SETS = (
    "window.steps=12 model.hidden=16 model.heads=2 train.batch=60 train.epochs=2 train.windows_per_epoch=1000 "
    "train.valid_every=7 train.valid_windows=300 train.class_weights=balanced train.patience=0 threads=1 "
    "train.log_every=1 comm.timeout_ns=6000000000"
).split()
faults = []


def check(name, holds, said=""):
    if not holds:
        faults.append(f"{name}: {str(said)[-700:]}")


def train_command(out, sets, resume=False):
    pairs = [p for s in (*SETS, *sets) for p in ("--set", s)]
    return [OUTCRY, "train", CONFIG, "--out", out, "--json", "--quiet", *(("--resume",) if resume else ()), *pairs]


def run(command, environment=None):
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**ENVIRONMENT, **(environment or {})}
    )


def ranks(count, out, sets=(), resume=False):
    return run([*MPIRUN, "-n", str(count), *train_command(out, sets, resume)])


def weights(name, r):
    """weights_hash of the one JSON line there must be."""
    lines = [line for line in r.stdout.splitlines() if line.startswith("{")]
    check(f"{name}: exit", r.returncode == 0, r.stderr)
    check(f"{name}: one result", len(lines) == 1, r.stdout)
    return json.loads(lines[0])["weights_hash"] if lines else None


def steps_in(path):
    """The last step that the log knows."""
    try:
        found = re.findall(r'"step":(\d+)', open(path).read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0


def dataset_make(folder):
    events, path = f"{folder}/s.events", f"{folder}/d.h5"
    for command in (
        f"simulate --out {events} --events 20000 --seed 3 --levels 10 --signal 0.8 --label direction:10:0.0001",
        f"build {SOURCE}/configs/build-book.yaml --set data.events={events} --out {path}",
    ):
        r = run([OUTCRY, *command.split(), "--quiet"])
        if r.returncode:
            sys.exit(f"outcry {command}: {r.stderr}")
    return path


# --- the contract


def one_hash(work):
    wanted = weights("alone", run(train_command(f"{work}/alone", ())))
    for count, threads in ((1, 1), (2, 1), (2, 2), (4, 1), (8, 1)):
        out = f"{work}/n{count}t{threads}"
        found = weights(f"{count} ranks, {threads} threads", ranks(count, out, (f"threads={threads}",)))
        check(f"{count} ranks, {threads} threads: the same weights", found == wanted, f"{found} {wanted}")
    other = weights("another seed", ranks(2, f"{work}/seed", ("seed=2",)))
    check("another seed: other weights", other != wanted)
    return wanted


def on_another_count(work, wanted):
    out = f"{work}/paused"
    for count in (4, 1, 2):
        r = ranks(count, out, ("train.pause_after=9",), resume=count != 4)
        check(f"pause on {count}", r.returncode == 75 and "paused after step" in r.stderr, r.stderr)
    check("resumed on 8: the same weights", weights("resume", ranks(8, out, resume=True)) == wanted)
    lines = [json.loads(line) for line in open(f"{out}/log.jsonl")]
    for line in lines:
        line.pop("time")
    unbroken = [json.loads(line) for line in open(f"{work}/alone/log.jsonl")]
    for line in unbroken:
        line.pop("time")
    check("the log is that of an unbroken run", lines == unbroken)


def summed_by_the_network(work, wanted):
    """reduce: allreduce: MPI sums. Weights near the tree's, or its bits where MPI happens to take that tree (as Open
    MPI 4.1 does for a short vector and 2^n ranks); a rank that stops is named all the same."""
    out, sets = f"{work}/allreduce", ("reduce=allreduce",)
    r = ranks(4, out, sets)
    print("allreduce:", "the bits of the tree" if weights("allreduce", r) == wanted else "other bits than the tree")
    check("allreduce: says so", "the weights depend on the number of ranks (4)" in r.stderr, r.stderr)
    bundle = json.load(open(f"{out}/model/bundle.json"))
    check("allreduce: the bundle says so", bundle["trained"]["reduce"] == "allreduce of 4 ranks", bundle["trained"])
    losses = [json.loads(x.stdout.splitlines()[-1])["valid_loss"] for x in (r, ranks(2, f"{work}/tree"))]
    check("allreduce: near the tree", abs(losses[0] - losses[1]) < 1e-3, losses)
    said = ranks(4, out, resume=True)
    check("allreduce: another resume", said.returncode == 78 and '"reduce: allreduce"' in said.stderr, said.stderr)
    trial(work, "allreduce: stop rank 1 of 2", "stop", 2, 1, 20, ("train.epochs=12", *sets), None)


def before_a_job(work):
    """outcry doctor --ranks: a table of what is there; what would spoil a job is exit 1; who does not come is named."""
    doctor = [OUTCRY, "doctor", "--ranks", "--json"]
    for count in (1, 4):
        r = run([*MPIRUN, "-n", str(count), *doctor])
        lines = [line for line in r.stdout.splitlines() if line.startswith("{")]
        found = json.loads(lines[0])["rank_check"] if lines else {"seats": (), "wrong": 1}
        check(f"doctor on {count}", r.returncode == 0 and len(lines) == 1, r.stderr)
        check(f"doctor on {count}: each rank", [s["name"].split(" on ")[0] for s in found["seats"]] ==
              [f"rank {i}" for i in range(count)] and found["wrong"] == [], found)  # fmt: skip
        for s in found["seats"]:
            times = [x[key] for x in s["exchanges"] for key in ("gather_us", "sum_us")]
            check("doctor: times", len(times) == (8 if count > 1 else 0) and all(t > 0 for t in times), times)
            check("doctor: one clock", abs(s["skew_ns"]) <= s["skew_error_ns"], s)
            check("doctor: memory and cores", s["free_bytes"] > 1e6 and s["cores"] >= 1 and s["local"] == count, s)
    r = run([*MPIRUN, "-n", "2", OUTCRY, "doctor", "--ranks"])
    check("doctor: the table", re.search(r"rank 1 on \S+ +2 .*\n.*bytes .*gather us", r.stdout, re.S), r.stdout)
    r = run([*MPIRUN, "-n", "1", *doctor, ":", "-n", "1", f"{work}/changed", *doctor[1:]])
    check("doctor: another build", r.returncode == 1 and "different builds: rank 0 on" in r.stderr, r.stderr)
    check("doctor: another build, as JSON", '"wrong":["different builds' in r.stdout, r.stdout)
    start = time.monotonic()
    absent = [*MPIRUN, "-n", "1", *doctor, "--timeout", "2", ":", "-n", "1", "sleep", "60"]
    r = run(absent)
    check("doctor: a rank does not come", r.returncode not in (0, 124), r.returncode)
    took = time.monotonic() - start                         # the other's 60 s are not waited for
    check(f"doctor: {took:.1f} s", took < 55, r.stderr)
    check("doctor: says for what it waited", "rank 0: MPI_Init has not returned" in r.stderr, r.stderr)


def logs_of_ranks(work, wanted):
    """log.ranks: a file of each rank, with its own messages and exchange times; windows of each rank, none dropped."""
    folder, sets = f"{work}/logs", (f"log.ranks={work}/logs",)
    r = ranks(4, f"{work}/logged", sets)
    check("log.ranks: the same weights", weights("log.ranks", r) == wanted)
    found = json.loads(r.stdout.splitlines()[-1])["rank_windows"]
    check("rank_windows", len(found) == 4 and sum(found) == 2 * 1000 and max(found) - min(found) < 100, found)
    for i in range(4):
        text = open(f"{folder}/rank-{i}.log").read() if os.path.exists(f"{folder}/rank-{i}.log") else ""
        check(f"log of rank {i}", f"rank {i} on" in text, text)
        count = len(re.findall(r"step \d+: \d+ windows here; [0-9.]+ s for", text))
        check(f"log of rank {i}: exchanges", count > 20, text)
    ranks(4, f"{work}/logged", sets)
    text = open(f"{folder}/rank-0.log").read()
    check("log of rank 0: the failure", "a run is there already" in text, text)
    check("nothing of it on stderr", "windows here" not in r.stderr, r.stderr)


def eight_ranks(work, wanted):
    """configs/train-8gpu.yaml is a whole config; on the CPU, with this job's keys, the job of configs/train.yaml."""
    command = train_command(f"{work}/eight", ("backend=cpu", "math=f32", "train.rate=0.003", "train.warmup_share=0.05"))
    command[2] = f"{SOURCE}/configs/train-8gpu.yaml"
    check("train-8gpu.yaml", weights("train-8gpu.yaml", run([*MPIRUN, "-n", "8", *command])) == wanted)


def refused(work):
    out = f"{work}/refused"
    r = ranks(3, out)
    check("3 ranks", r.returncode == 78 and "1, 2, 4, 8 are possible" in r.stderr, r.stderr)
    for what, one, said in (
        ("config", ("--set", "train.rate=0.01"), 'rank 1 on .* "train.rate: 0.01'),
        ("dataset", ("--set", f"data.dataset={work}/other/d.h5"), "the ranks differ in their dataset"),
        ("no dataset", ("--set", "data.dataset=absent.h5"), "rank 1 on .* has failed: .*absent.h5"),
    ):
        command = train_command(out, ())
        r = run([*MPIRUN, "-n", "1", *command, ":", "-n", "1", *command, *one])
        check(f"another {what}", r.returncode in (65, 78) and re.search(said, r.stderr), r.stderr)
    shutil.copy(OUTCRY, f"{work}/changed")
    with open(f"{work}/changed", "ab") as f:
        f.write(b"x")
    command = train_command(out, ())
    r = run([*MPIRUN, "-n", "1", *command, ":", "-n", "1", f"{work}/changed", *command[1:]])
    check("another build", r.returncode == 78 and "the ranks differ in their build" in r.stderr, r.stderr)
    check("nothing is written before the ranks agree", not os.path.exists(out))
    os.mkfifo(f"{work}/pipe")
    one, other = (train_command(out, (f"data.dataset={work}/{name}", "comm.timeout_ns=60000000000"))
                  for name in ("absent.h5", "pipe"))  # fmt: skip
    r = run([*MPIRUN, "-n", "1", *one, ":", "-n", "1", *other])
    check("a rank fails while another hangs", r.returncode == 1 and "absent.h5: cannot open" in r.stderr, r.stderr)
    ranks(2, out)
    r = ranks(2, out)
    check("a run is there", r.returncode == 64 and "rank 0 on" in r.stderr and "has failed" in r.stderr, r.stderr)


def launchers(work):
    """Started as one of several, and MPI does not know: never several jobs that each believe to be alone."""
    for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        out = f"{work}/{variable}"
        r = run(train_command(out, ()), {variable: "4"})
        check(variable, r.returncode == 1 and "started 4 ranks" in r.stderr, r.stderr)
        check(f"{variable}: writes nothing", not os.path.exists(out))


def disk_full(work, wanted):
    """Rank 0 cannot write on: all end with its message, and the last checkpoint is good."""
    out = f"{work}/full"
    r = ranks(2, out, ("train.pause_after=5",))
    check("disk full: pause", r.returncode == 75, r.stderr)
    blocks = os.path.getsize(f"{out}/log.jsonl") // 1024 + 4
    limit = f'[ "$OMPI_COMM_WORLD_RANK" != 0 ] || ulimit -f {blocks}; exec "$@"'
    command = [*MPIRUN, "--mca", "btl", "self,tcp", "-n", "2", "bash", "-c", limit, "-"]
    command += train_command(out, ("train.checkpoint_seconds=0",), resume=True)
    r = run(command)
    check("disk full: exit", r.returncode == 1, f"{r.returncode} {r.stderr}")
    check("disk full: named", re.search(r"rank 1 on \S+: rank 0 on \S+ has failed: .*too large", r.stderr), r.stderr)
    check("disk full: goes on", weights("disk full", ranks(4, out, resume=True)) == wanted)


# --- faults


def children(pid):
    """Rank -> process id of the processes that mpirun has started here."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            parent = int(open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[1])
            environment = open(f"/proc/{name}/environ", "rb").read().split(b"\0") if parent == pid else []
        except (OSError, ValueError):
            continue
        for pair in environment:
            if pair.startswith(b"OMPI_COMM_WORLD_RANK="):
                found[int(pair.split(b"=")[1])] = int(name)
    return found


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def harm(kind, pid):
    """stop: for good. slow: it comes, but later than comm.timeout_ns, again and again; so it is late, not dead."""
    os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
    for number in (signal.SIGCONT, signal.SIGSTOP, signal.SIGCONT) if kind == "slow" else ():
        until = time.monotonic() + (6.3 if number == signal.SIGCONT else 0.001)
        while time.monotonic() < until and alive(pid):
            time.sleep(0.001)
        if not alive(pid):
            return
        os.kill(pid, number)


def trial(work, name, kind, count, victim, step, sets, wanted):
    """One rank of a job is harmed once its log knows `step`; wanted None: any weights."""
    out = f"{work}/trial"
    shutil.rmtree(out, ignore_errors=True)
    sets = (*sets, "train.checkpoint_seconds=0.05")
    with open(f"{work}/said", "w+") as said:
        job = subprocess.Popen(
            [*MPIRUN, "-n", str(count), *train_command(out, sets)], stdout=said, stderr=said, env=ENVIRONMENT
        )
        while job.poll() is None and steps_in(f"{out}/log.jsonl") < step:
            time.sleep(0.002)
        pids = children(job.pid)
        if victim not in pids:
            job.wait(60)
            check(name, False, "the job was over before it was harmed")
            return
        start = time.monotonic()
        try:
            harm(kind, pids[victim])
            job.wait(60)
            while any(map(alive, pids.values())) and time.monotonic() - start < 60:
                time.sleep(0.01)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            pass
        took = time.monotonic() - start
        left = [pid for pid in pids.values() if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if job.poll() is None:
            job.kill()
        said.seek(0)
        text = said.read()
    check(f"{name}: all gone in {took:.1f} s", took <= ALL_GONE_S and not left, text)
    check(f"{name}: a failure", job.returncode not in (0, 75), job.returncode)
    named = rf"process rank {victim} with PID \d+ on node \S+ exited|no answer from rank {victim} on \S+ for"
    check(f"{name}: the rank is named", re.search(named, text), text)
    again = ranks((1, 2, 4)[step % 3], out, sets, resume=True)
    check(f"{name}: goes on to the same weights", weights(name, again) == wanted or wanted is None)
    print(f"{name}: {took:.1f} s", flush=True)


def trials(work, part):
    kinds = ("kill", "stop", "slow") if part == 1 else ("slow", "kill", "stop")
    seed = os.environ.get("OUTCRY_SEED", "1") + f".{part}"
    total = 100 if os.environ.get("OUTCRY_FULL") == "1" else 3 - part
    draw = random.Random(seed)
    sets = ("train.epochs=12",)
    wanted = weights("unbroken", run(train_command(f"{work}/unbroken", sets)))
    for i in range(total):
        kind, count = kinds[i % len(kinds)], draw.choice((2, 4))
        victim, step = draw.randrange(count), draw.randrange(1, 150)
        trial(work, f"trial {i} of seed {seed}: {kind} rank {victim} of {count} after step {step}", kind, count, victim,
              step, sets, wanted)  # fmt: skip
    print(f"{total} trials of seed {seed}, {len(faults)} faults: {total} runs ended and went on")


def progress(work):
    """Rank 0's one line: steps, windows/s in all and a rank, share of communication, time left."""
    command = train_command(f"{work}/progress", ("train.epochs=4000", "train.log_every=50"))
    command.remove("--quiet")
    job = subprocess.Popen([*MPIRUN, "-n", "2", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                           env=ENVIRONMENT)  # fmt: skip
    said, wanted = "", r"windows, .*[0-9]+.*/s.*left.*step \d+, loss .*, 2 x \d+/s, [0-9.]+ % communication"
    for line in job.stderr:
        said += line
        if re.search(wanted, line):
            break
    job.send_signal(signal.SIGUSR1)
    said += job.communicate(timeout=60)[1]
    check("the progress line", re.search(wanted, said) and job.returncode == 75, said)
    lines = [line for line in said.splitlines() if "% communication" in line]
    print(lines[0] if lines else "no progress")


def signals(work):
    """A signal to any rank: all save together and exit with 75."""
    sets = ("train.epochs=12",)
    wanted = weights("unbroken", run(train_command(f"{work}/signals0", sets)))
    out = f"{work}/signals"
    for victim, number in ((1, signal.SIGUSR1), (0, signal.SIGTERM)):
        before = steps_in(f"{out}/log.jsonl")
        job = subprocess.Popen(
            [*MPIRUN, "-n", "2", *train_command(out, sets, resume=True)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)  # fmt: skip
        while job.poll() is None and steps_in(f"{out}/log.jsonl") < before + 10:
            time.sleep(0.002)
        os.kill(children(job.pid).get(victim, 0) or sys.exit("the job was over before the signal"), number)
        said = job.communicate(timeout=60)[1]
        check(f"{number.name} to rank {victim}", job.returncode == 75 and "stopped after step" in said, said)
    check("after signals: the same weights", weights("signals", ranks(4, out, sets, resume=True)) == wanted)


def main():
    about = json.loads(run([OUTCRY, "doctor", "--json", "--quiet"]).stdout.splitlines()[-1])["ranks"]
    with tempfile.TemporaryDirectory() as work:
        SETS.append(f"data.dataset={dataset_make(work)}")
        launchers(work)
        if "has no MPI" in about or not shutil.which("mpirun"):
            print(f"skipped: {about}; mpirun is at {shutil.which('mpirun')}")
            sys.exit(77 if not faults else "\n".join(faults))
        if "faults" in sys.argv:
            trials(work, int(sys.argv[4]))
        else:
            os.mkdir(f"{work}/other")
            shutil.copy(f"{work}/s.events", f"{work}/other/s.events")
            run([OUTCRY, *f"build {SOURCE}/configs/build-book.yaml --set data.events={work}/other/s.events "
                 f"--set row_ns=0 --set features=spread,imbalance:1 --out {work}/other/d.h5".split()])  # fmt: skip
            wanted = one_hash(work)
            on_another_count(work, wanted)
            summed_by_the_network(work, wanted)
            logs_of_ranks(work, wanted)
            eight_ranks(work, wanted)
            refused(work)
            before_a_job(work)
            disk_full(work, wanted)
            progress(work)
            signals(work)
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


main()
