"""The client library as a program outside this tree meets it: installed into a folder of its own, found by CMake and by
pkg-config, shared and static, its example built and run against a server; headers that need no other of ours; nothing
seen in it but what they declare.

usage: check_install.py CMAKE BUILD CC OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile

CMAKE, BUILD, CC, OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:7]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
if not shutil.which("pkg-config"):
    print("skipped: no pkg-config")
    sys.exit(77)

LISTS = """cmake_minimum_required(VERSION 3.25)
project(outside C)
find_package(outcry-client 0.1 REQUIRED)
add_executable(by_shared example.c)
target_link_libraries(by_shared PRIVATE outcry-client::shared)
add_executable(by_static example.c)
target_link_libraries(by_static PRIVATE outcry-client::static)
"""


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def install(work):
    """Returns the tree's library folder; the tree is moved once, as a package that is unpacked elsewhere."""
    run(CMAKE, "--install", BUILD, "--component", "client", "--prefix", f"{work}/first")
    os.rename(f"{work}/first", f"{work}/tree")
    found = [folder for folder, _, files in os.walk(f"{work}/tree") if "liboutcry-client.a" in files]
    assert len(found) == 1, found
    return found[0]


def headers(work):
    root = f"{work}/tree/include/outcry"
    names = sorted(os.path.relpath(f"{folder}/{name}", root) for folder, _, files in os.walk(root) for name in files)
    assert names == ["base/status.h", "market/event.h", "serve/client/client.h", "serve/client/tether.h",
                     "serve/client/wire.h"], names
    for name in names:
        for language, standard in (("c", "c11"), ("c++", "c++17")):
            compiler = CC if language == "c" else shutil.which("c++") or CC
            run(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                f"-I{root}", "-include", name, "/dev/null")


def symbols(library):
    """What the shared library shows is what its headers declare, and its name carries the version."""
    declared = set()
    for name in ("serve/client/client.h", "serve/client/tether.h", "base/status.h"):
        text = open(f"{SOURCE}/{name}").read()
        shown = re.search(r"#pragma GCC visibility push\(default\)(.*?)#pragma GCC visibility pop", text, re.S).group(1)
        declared |= set(re.findall(r"\b(oc_[a-z_]+)\(", re.sub(r"/\*.*?\*/", "", shown, flags=re.S)))
    lines = run("nm", "-D", "--defined-only", f"{library}/liboutcry-client.so").splitlines()
    seen = {line.split()[-1].split("@")[0] for line in lines}
    assert seen == declared and "oc_client_push" in seen and len(seen) > 10, (seen ^ declared)
    dynamic = run("readelf", "-d", f"{library}/liboutcry-client.so")
    assert "soname: [liboutcry-client.so.0.1]" in dynamic, dynamic
    needed = re.findall(r"NEEDED.*\[(.+)\]", dynamic)
    assert all(name.startswith(("libc.so", "ld-linux")) for name in needed), needed


def programs(work, library):
    """The example built in three ways."""
    outside, source = f"{work}/outside", f"{SOURCE}/serve/client/example.c"
    os.mkdir(outside)
    shutil.copy(source, f"{outside}/example.c")
    with open(f"{outside}/CMakeLists.txt", "w") as lists:
        lists.write(LISTS)
    run(CMAKE, "-S", outside, "-B", f"{outside}/build", f"-DCMAKE_PREFIX_PATH={work}/tree", f"-DCMAKE_C_COMPILER={CC}")
    run(CMAKE, "--build", f"{outside}/build")
    environment = dict(os.environ, PKG_CONFIG_PATH=f"{library}/pkgconfig")
    flags = run("pkg-config", "--cflags", "--libs", "outcry-client", env=environment).split()
    assert run("pkg-config", "--modversion", "outcry-client", env=environment).count(".") == 2
    run(CC, f"{outside}/example.c", "-o", f"{outside}/by_pkg", *flags, f"-Wl,-rpath,{library}")
    return [f"{outside}/build/by_shared", f"{outside}/build/by_static", f"{outside}/by_pkg"]


def serve(work):
    run(MAKE_BUNDLE, f"{work}/b")
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock"):
        arguments += ["--set", pair]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    started.append(server)
    assert server.stdout.readline().startswith("ready")
    return server


with tempfile.TemporaryDirectory() as work:
    folder = install(work)
    headers(work)
    symbols(folder)
    made = programs(work, folder)
    server = serve(work)
    answers = {program: run(program, f"unix:{work}/s.sock", "60").splitlines() for program in made}
    for program, lines in answers.items():
        assert len(lines) == 60 and lines[0].startswith("1 state 2 ") and "state 0 " in lines[-1], (program, lines[-1])
        numbers = [re.sub(r" in .*", "", line) for line in lines]
        assert numbers == [re.sub(r" in .*", "", line) for line in answers[made[0]]], program
    linked = run("ldd", made[1])
    assert "liboutcry" not in linked and "liboutcry-client.so.0.1" in run("ldd", made[2]), linked
    server.terminate()
    assert server.wait(60) == 0
    gone = subprocess.run([made[2], f"unix:{work}/s.sock"], capture_output=True, text=True, timeout=60)
    assert gone.returncode == 75 and "s.sock" in gone.stderr, gone    # no server: try later
print("installed, found by CMake and pkg-config, shared and static, and run")
