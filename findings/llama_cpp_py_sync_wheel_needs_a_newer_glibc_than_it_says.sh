#!/usr/bin/env bash
# llama-cpp-py-sync 0.11739: its wheel for Linux is tagged manylinux2014, which promises to run on glibc 2.17, and holds a
# libllama.so that asks for glibc 2.38. pip installs it on Debian 12 (2.36) or Ubuntu 22.04 (2.35) without a word, and the
# first import of the library there fails: "version `GLIBC_2.38' not found". Seen: the newest version asked for is GLIBC_2.38.
# xllamacpp 2026.10.11549, under the same tag, asks for GLIBC_2.17 at most.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --platform manylinux2014_x86_64 --dest "$work" llama-cpp-py-sync==0.11739 xllamacpp==2026.10.11549 2>&1 | grep -v WARNING || true
cat > "$work/newest.py" <<'PY'
import re
import sys
import zipfile
from pathlib import Path

for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    libraries = [name for name in zipfile.ZipFile(wheel).namelist() if re.search(r"(libllama|abi3)\.so$", name)]
    found = {
        tuple(map(int, match.split(b".")))
        for name in libraries
        for match in re.findall(rb"GLIBC_(\d+\.\d+)", zipfile.ZipFile(wheel).read(name))
    }
    print(wheel.name.split("-")[0], "manylinux2014" in wheel.name, ".".join(map(str, max(found))))
PY
seen=$("$work/venv/bin/python" "$work/newest.py" "$work")
echo "wheel, tagged manylinux2014, newest glibc that it asks for:"
echo "$seen"
[ "$seen" = "llama_cpp_py_sync True 2.38
xllamacpp True 2.17" ]
