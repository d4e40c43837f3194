"""tools/deploy/Containerfile, without an engine: a pinned base, no root at run time, the program as entry; what it
copies is there and what CMake wants is copied; the libraries that the built program needs are installed.
Then the faults that this must find are planted. And configs/train.sbatch with an srun of a script: a start, a time
limit (75: queued again), a resume, a failure.

usage: deploy.py OUTCRY SOURCE
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

OUTCRY, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])


def instructions(text):
    """(word, rest) of each instruction; lines that end in a backslash are joined, comments left out."""
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.split("\n") if line.strip()]


def needed_packages():
    """Packages of the libraries that the program names itself; none where this is not Debian."""
    if not (shutil.which("readelf") and shutil.which("dpkg-query") and shutil.which("ldd")):
        return set()
    said = subprocess.run(["readelf", "-d", OUTCRY], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"\(NEEDED\).*\[(.+?)\]", said)
    said = subprocess.run(["ldd", OUTCRY], capture_output=True, text=True, check=True).stdout
    places = dict(re.findall(r"^\s*(\S+) => (\S+)", said, re.M))
    found = set()
    for name in names:
        path = os.path.realpath(places.get(name, ""))
        for one in (path, path.removeprefix("/usr")):
            r = subprocess.run(["dpkg-query", "-S", one], capture_output=True, text=True)
            if r.returncode == 0:
                found.add(r.stdout.split(":")[0])
                break
    return found - {"libc6", "libgcc-s1", "libstdc++6"}  # of every base


def faults_in(text, packages):
    steps = instructions(text)
    defaults = dict(rest.split("=", 1) for word, rest in steps if word == "ARG" and "=" in rest)
    for word, rest in steps:
        if word == "FROM":
            base = re.sub(r"\$\{(\w+)\}", lambda m: defaults.get(m[1], ""), rest.split()[0])
            if not re.search(r"(:\w*\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$", base):
                yield f"the base {base} is not held to a version"
    last = max(i for i, (word, _) in enumerate(steps) if word == "FROM")
    final = dict(steps[last + 1 :])
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", final.get("USER", "")):
        yield "the final image runs as root, or as a name that its base may not know"
    if final.get("ENTRYPOINT") != '["/opt/outcry/bin/outcry"]':
        yield "the entry point is not the program in exec form: signals would end in a shell"
    copied = {a for word, rest in steps if word == "COPY" and "--from" not in rest for a in rest.split()[:-1]}
    for path in sorted(copied):
        if not os.path.exists(f"{SOURCE}/{path}"):
            yield f"copies {path}, which is not there"
    folders = re.search(r"foreach\(folder ([^)]+)\)", open(f"{SOURCE}/CMakeLists.txt").read())[1].split()
    for path in (*folders, "CMakeLists.txt", "CMakePresets.json", "configs"):
        if path not in copied:
            yield f"does not copy {path}"
    installed = set(" ".join(rest for word, rest in steps[last:] if word == "RUN").split())
    for package in sorted(packages - installed):
        yield f"the final image lacks {package}"


def sbatch_faults():
    """What configs/train.sbatch hands to srun, and what it makes of the exit code."""
    with tempfile.TemporaryDirectory() as work:
        for name, body in (("srun", 'printf "%s\\n" "$*" >srun.said; mkdir -p run; exit $CODE'),
                           ("scontrol", 'printf "%s\\n" "$*" >scontrol.said')):  # fmt: skip
            with open(f"{work}/{name}", "w") as f:
                f.write(f"#!/bin/sh\n{body}\n")
            os.chmod(f"{work}/{name}", 0o755)
        for code, resumes, requeued in ((75, False, True), (1, True, False), (0, True, False)):
            for name in ("srun.said", "scontrol.said"):
                open(f"{work}/{name}", "w").close()
            environment = {**os.environ, "PATH": f"{work}:{os.environ['PATH']}", "CODE": str(code), "DATASET": "d.h5",
                           "SLURM_SUBMIT_DIR": work, "SLURM_CPUS_PER_TASK": "4", "SLURM_JOB_ID": "17"}  # fmt: skip
            command = ["bash", f"{SOURCE}/configs/train.sbatch"]
            r = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
            said, queued = open(f"{work}/srun.said").read(), open(f"{work}/scontrol.said").read()
            if r.returncode != code:
                yield f"train.sbatch: srun's {code} became {r.returncode}: {r.stderr}"
            if "--mpi=pmix" not in said or "outcry train" not in said or "data.dataset=d.h5" not in said:
                yield f"train.sbatch: srun was given {said}"
            if ("--resume" in said) != resumes:
                yield f"train.sbatch: --resume, with a run there or not: {said}"
            if queued.split() != (["requeue", "17"] if requeued else []):
                yield f"train.sbatch: after {code} scontrol was given {queued!r}"


def main():
    text = open(f"{SOURCE}/tools/deploy/Containerfile").read()
    packages = needed_packages()
    faults = [*faults_in(text, packages), *sbatch_faults()]
    for old, new, said in (
        ("debian:12.11-slim", "debian:latest", "not held to a version"),
        ("USER 1000:1000\n", "", "runs as root"),
        ("USER 1000:1000", "USER 0", "runs as root"),
        ('ENTRYPOINT ["/opt/outcry/bin/outcry"]', "ENTRYPOINT outcry", "exec form"),
        ("COPY nn nn\n", "", "does not copy nn"),
        ("COPY nn nn\n", "COPY nn nn\nCOPY nns nns\n", "copies nns"),
        *((("libjansson4 ", "", "lacks libjansson4"),) if packages else ()),
    ):
        if not any(said in fault for fault in faults_in(text.replace(old, new), packages)):
            faults.append(f"planted and not found: {old!r} -> {new!r}")
    print("\n".join([*faults, f"packages of the libraries: {' '.join(sorted(packages)) or 'not looked at'}"]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
