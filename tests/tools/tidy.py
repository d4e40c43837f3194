#!/usr/bin/env python3
"""What no compiler flag says: width, banned calls, leftover markers, headers that compile alone as C and as C++, and
the length of functions, which may only go down. `tidy.py ROOT` checks; `tidy.py ROOT --self-test` plants one fault of
each kind, each of which must be found."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WIDTH = 120
# The longest function there may be, in lines. A ratchet: lower it when the tree allows, never raise it.
FUNCTION_LINES = 70
BANNED = {
    "atoi": "strtol with errno and the end checked",
    "atof": "strtod with the end checked",
    "sprintf": "snprintf",
    "vsprintf": "vsnprintf",
    "strcpy": "memcpy with a known length",
    "strcat": "snprintf into the rest",
    "strncpy": "memcpy with a known length",
    "rand": "base/random.h",
    "srand": "base/random.h",
    "gets": "getline",
    "strtok": "strcspn and a pointer",
    "alloca": "base/memory.h",
}
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
MARKERS = re.compile("|".join(r"\b" + word + r"\b" for word in ("TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK")))
COMMENT_OR_TEXT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
C_SOURCES = (".c", ".h", ".cu", ".cuh", ".cpp")
SOURCES = (*C_SOURCES, ".py", ".sh", ".cmake", ".yaml", ".md", ".txt")


def without_comments(text):
    """Comments and literals become spaces, so that places stay."""
    return COMMENT_OR_TEXT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def check_lines(path, text):
    code = path.endswith((*C_SOURCES, ".py"))
    for number, line in enumerate(text.split("\n"), 1):
        if code and len(line) > WIDTH:
            yield f"{path}:{number}: {len(line)} columns, {WIDTH} are allowed"
        if code and line != line.rstrip():
            yield f"{path}:{number}: blanks at the end of the line"
        if "\t" in line and path.endswith(C_SOURCES):
            yield f"{path}:{number}: a tab; indent by four blanks"
        marker = MARKERS.search(line)
        if marker:
            yield f"{path}:{number}: a leftover {marker.group()}: do it, or open an issue"


def check_calls(path, code):
    for number, line in enumerate(code.split("\n"), 1):
        for match in BANNED_CALL.finditer(line):
            yield f"{path}:{number}: {match.group(1)}: use {BANNED[match.group(1)]}"


def check_functions(path, code):
    """Functions of K&R style: a brace in column 0 opens, one in column 0 closes."""
    begin, name = 0, ""
    for number, line in enumerate(code.split("\n"), 1):
        if line.startswith("{"):
            begin = number
        elif line.startswith("}") and begin:
            if number - begin - 1 > FUNCTION_LINES:
                yield f"{path}:{begin}: {name.strip()[:60]}: {number - begin - 1} lines, {FUNCTION_LINES} are allowed"
            begin = 0
        elif line and not line[0].isspace() and not begin:
            name = line


def check_text(path, text):
    faults = list(check_lines(path, text))
    if path.endswith(C_SOURCES):
        code = without_comments(text)
        faults += check_calls(path, code)
        faults += check_functions(path, code)
    return faults


def package_flags():
    flags = []
    for package in ("jansson", "cmocka"):
        asked = subprocess.run(["pkg-config", "--cflags", package], capture_output=True, text=True, check=False)
        flags += asked.stdout.split()
    return flags


def check_header(root, path, compilers, flags):
    """The header alone, in each language; twice, so that the include guard is checked as well."""
    text = f'#include "{path}"\n#include "{path}"\n'
    for compiler, language in compilers:
        command = [*compiler, "-fsyntax-only", "-I", str(root), "-I", str(root / "tests"), *flags, "-x", language, "-"]
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            if ".pb-c.h: No such file" in run.stderr:            # made by protoc in the build folder
                continue
            lines = [line for line in run.stderr.split("\n") if "error" in line] or [run.stderr]
            yield f"{path}: does not compile alone as {language}: {lines[0]}"


def compilers_found():
    found = []
    cc, cxx = shutil.which("gcc") or shutil.which("cc"), shutil.which("g++") or shutil.which("c++")
    if cc:
        found.append(([cc, "-std=c11", "-D_GNU_SOURCE"], "c"))
    if cxx:
        found.append(([cxx, "-std=c++17"], "c++"))
    return found


def check_headers(root, files):
    """All but fragments, which say within their first lines that they are "not self-contained"."""
    compilers, flags = compilers_found(), package_flags()
    for path, text in sorted(files.items()):
        if path.endswith(".h") and "not self-contained" not in text[:600]:
            yield from check_header(root, path, compilers[:1] if path.startswith("tests/") else compilers, flags)


def read(root):
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    if listed and listed.returncode == 0 and listed.stdout:
        paths = [root / name for name in listed.stdout.splitlines()]
    else:                                       # an unpacked archive
        paths = [path for path in root.rglob("*") if "build" not in path.relative_to(root).parts[:1]]
    files = {}
    for path in paths:
        if path.is_file() and path.suffix in SOURCES and "fuzz/seeds" not in path.as_posix():
            files[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    return files


def self_test():
    lines = "    ;\n" * FUNCTION_LINES
    faults = {
        "width": "/* " + "x" * WIDTH + " */\n",
        "banned call": "int x = ato" "i(text);\n",
        "call after a text": 'f("a", str' "cpy (a, b));\n",
        "function": "int f(void)\n{\n    ;\n" + lines + "}\n",
        "marker": "/* TO" "DO */\n",
        "tab": "\tint x;\n",
        "blank": "int x; \n",
    }
    good = '/* atoi( in a comment */ "atoi(" oc_rand(x); s.rand(1);\nint f(void)\n{\n' + lines + "}\n"
    missed = [name for name, text in faults.items() if len(check_text("base/x.c", text)) != 1]
    wrong = check_text("base/x.c", good)
    compilers = compilers_found()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "bad.h").write_text("uint64_t f(void);\n")
        (root / "good.h").write_text("#ifndef G\n#define G\n#include <stdint.h>\nstruct s { uint64_t x; };\n#endif\n")
        if len(list(check_header(root, "bad.h", compilers, []))) != len(compilers):
            missed.append("header")
        wrong += list(check_header(root, "good.h", compilers, []))
    for name in missed:
        print("not found:", name)
    print("\n".join(wrong))
    return 1 if missed or wrong else 0


def main():
    if "--self-test" in sys.argv:
        sys.exit(self_test())
    root = pathlib.Path(sys.argv[1]).resolve()
    files = read(root)
    faults = [fault for path, text in sorted(files.items()) for fault in check_text(path, text)]
    faults += check_headers(root, files)
    print("\n".join(faults))
    print(f"{len(files)} files, {len(faults)} faults")
    sys.exit(1 if faults or len(files) < 10 else 0)


main()
