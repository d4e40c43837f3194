#!/usr/bin/env python3
"""Reads every #include of the sources and fails on an arrow that points up against the link table of DESIGN section 2,
and on an outside header in a file that is not its one place. `layers.py ROOT` checks; `layers.py ROOT --self-test`
plants faults in memory, each of which must be found."""
import fnmatch
import pathlib
import re
import sys

# folder: what it links directly; what those link comes with them.
LINKS = {
    "base": [],
    "market": ["base"],
    "datasets": ["market"],
    "kernels": ["base"],
    "nn": ["kernels"],
    "train": ["nn", "datasets"],
    "trade": ["market"],
    "trade/predictors": ["trade", "serve/client"],     # a target of its own: the loop itself knows no server
    "evaluate": ["train", "trade", "trade/predictors"],
    "serve": ["nn", "market", "serve/client"],   # HTTP is a client of the same rings as everyone else
    "serve/client": ["base"],
    "tools": ["evaluate", "serve"],
}
# Headers of base that stand for outside libraries, and the folders whose libraries bring them along.
BASE_PARTS = {
    "base/json.h": ["base", "market", "nn"],
    "base/hash.h": ["base", "market", "datasets", "nn"],        # market: the .events file has a hash a block
    "base/config.h": ["base", "datasets", "train", "tools"],   # datasets: a build is described by a config
}
# Outside header: the only files that may include it.
OUTSIDE = {
    "hdf5*.h": ["datasets/h5*.c"],
    "H5*.h": ["datasets/h5*.c"],
    "jansson.h": ["base/json.h"],
    "yaml.h": ["base/config*.c"],
    "xxhash.h": ["base/hash.c"],
    "lzma.h": ["market/*"],
    "zlib.h": ["market/*"],
    "protobuf-c/*": ["nn/*"],
    "mpi.h": ["train/comm_mpi.c"],
    "cuda*": ["kernels/cuda/*"],
    "cublas*": ["kernels/cuda/*"],
    "cudnn*": ["kernels/cuda/*"],
    "nccl*": ["kernels/cuda/*"],
    "microhttpd.h": ["serve/http*"],
    "gnutls/*": ["serve/http/certificate.c"],
    "cblas*": [],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.M)


def closure(folder):
    """The folder, and everything that comes with what it links."""
    seen, todo = set(), [folder]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += LINKS[name]
    return seen


def folder_of(path):
    inner = [name for name in LINKS if "/" in name and path.startswith(name + "/")]
    return inner[0] if inner else path.split("/")[0]


def check_include(path, line, target, quoted):
    place, folder = f"{path}:{line}", folder_of(path)
    for pattern, homes in OUTSIDE.items():
        if fnmatch.fnmatch(target, pattern) and not any(fnmatch.fnmatch(path, home) for home in homes):
            yield f'{place}: includes {target}, which only {" and ".join(homes) or "nothing"} may'
    if not quoted or target.endswith(".pb-c.h"):
        return
    if "/" not in target:
        yield f'{place}: includes "{target}" without its folder'
        return
    other = folder_of(target)
    if other not in LINKS:
        yield f'{place}: includes "{target}", whose folder is not in the table'
    elif other not in closure(folder):
        yield f'{place}: includes "{target}": {folder} does not link {other}'
    bringers = set(BASE_PARTS.get(target, [])) - ({"base"} if folder != "base" else set())
    if target in BASE_PARTS and not closure(folder) & bringers:
        yield f"{place}: includes {target}, whose library {folder} does not link"


def check(sources):
    """sources: {path: text}. Returns the faults."""
    faults = []
    for path, text in sorted(sources.items()):
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start(1 if match.group(1) else 2)) + 1
            faults += check_include(path, line, match.group(1) or match.group(2), match.group(1) is not None)
    return faults


def read(root):
    sources = {}
    for folder in {name.split("/")[0] for name in LINKS}:
        for path in (root / folder).rglob("*"):
            if path.suffix in (".c", ".h", ".cu", ".cuh", ".cpp", ".inc"):
                sources[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    return sources


FAULTS = [
    ("base/status.c", '#include "market/event.h"'),
    ("kernels/ops.h", '#include "market/event.h"'),
    ("kernels/cpu/lstm.c", '#include "nn/model.h"'),
    ("market/book.c", '  #  include "datasets/labels.h"'),
    ("nn/model.c", '#include "datasets/windows.h"'),
    ("trade/engine.c", '#include "nn/model.h"'),
    ("serve/http.c", '#include "base/config.h"'),
    ("trade/loop.c", '#include "serve/client/client.h"'),
    ("trade/predictors/server.c", '#include "serve/server.h"'),
    ("kernels/cpu/lstm.c", '#include "base/json.h"'),
    ("datasets/windows.c", "#include <hdf5.h>"),
    ("market/read.c", "#include <jansson.h>"),
    ("tools/cli.c", "#include <yaml.h>"),
    ("nn/bundle.c", "#include <xxhash.h>"),
    ("nn/model.c", "#include <cuda_runtime.h>"),
    ("train/loop.c", "#include <mpi.h>"),
    ("base/clock.c", '#include "clock.h"'),
]
GOOD = [
    ("train/loop.c", '#include "base/config.h"'),
    ("base/config.c", '#include "base/config.h"'),
    ("tools/cli.c", '#include "evaluate/report.h"'),
    ("trade/predictors/server.c", '#include "serve/client/client.h"'),
    ("datasets/h5_write.c", "#include <hdf5.h>"),
    ("evaluate/study.c", '#include "base/json.h"'),
    ("train/comm_mpi.c", "#include <mpi.h>"),
    ("kernels/cuda/ops.cu", "#include <cuda_runtime.h>"),
]


def self_test():
    missed = [fault for fault in FAULTS if not check({fault[0]: "/* x */\n" + fault[1] + "\n"})]
    wrong = [good for good in GOOD if check({good[0]: good[1] + "\n"})]
    for fault in missed:
        print("not found:", *fault)
    for good in wrong:
        print("refused:", *good)
    return 1 if missed or wrong else 0


def main():
    if "--self-test" in sys.argv:
        sys.exit(self_test())
    sources = read(pathlib.Path(sys.argv[1]))
    faults = check(sources)
    print("\n".join(faults))
    print(f"{len(sources)} files, {len(faults)} wrong includes")
    sys.exit(1 if faults or len(sources) < 10 else 0)


main()
