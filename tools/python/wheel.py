"""Writes the wheel of the Python client: the package beside this file and liboutcry-client, in one zip. Python alone,
no network, no build backend; the same inputs give the same bytes.

usage: wheel.py VERSION CLIENT_LIBRARY OUT_FOLDER
"""
import base64
import hashlib
import pathlib
import re
import sys
import sysconfig
import zipfile

NAME, STAMP = "outcry_client", (1980, 1, 1, 0, 0, 0)
METADATA = """Metadata-Version: 2.1
Name: outcry-client
Version: {version}
Summary: Client of an Outcry inference server on the same machine, over shared memory
Requires-Python: >=3.9
Requires-Dist: numpy
Description-Content-Type: text/markdown

{readme}"""
WHEEL = """Wheel-Version: 1.0
Generator: outcry
Root-Is-Purelib: false
Tag: {tag}
"""


def files(here, version, library, tag):
    """(path in the wheel, bytes), the record left out."""
    for path in sorted((here / NAME.split("_")[0]).glob("*")):
        if path.suffix == ".py" or path.name == "py.typed":
            yield f"{path.parent.name}/{path.name}", path.read_bytes()
    yield "outcry/liboutcry-client.so", pathlib.Path(library).read_bytes()
    info = f"{NAME}-{version}.dist-info"
    readme = (here / "README.md").read_text(encoding="utf-8")
    yield f"{info}/METADATA", METADATA.format(version=version, readme=readme).encode()
    yield f"{info}/WHEEL", WHEEL.format(tag=tag).encode()


def main():
    version, library, out = sys.argv[1:4]
    here = pathlib.Path(__file__).resolve().parent
    stated = re.search(r'__version__ = "(.+)"', (here / "outcry/__init__.py").read_text(encoding="utf-8")).group(1)
    if stated != version:
        sys.exit(f"wheel: outcry/__init__.py says {stated}, the project {version}: make them one")
    tag = "py3-none-" + re.sub(r"[-.]", "_", sysconfig.get_platform())
    path = pathlib.Path(out) / f"{NAME}-{version}-{tag}.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = f"{NAME}-{version}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        def put(name, data):
            entry = zipfile.ZipInfo(name, STAMP)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
        for name, data in files(here, version, library, tag):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}\n")
            put(name, data)
        put(record, "".join(lines) + f"{record},,\n")
    print(path)


main()
