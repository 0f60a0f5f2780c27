#!/usr/bin/env bash
# pathspec 1.1.1, Python 3.11: GitIgnoreSpec, which is there "to fully replicate Git's handling", answers otherwise than
# `git check-ignore` for ordinary rules: those that take a file back out of a folder which is ignored itself. gitignore's
# manual: "It is not possible to re-include a file if a parent directory of that file is excluded." It even keeps the
# file where the folder is ignored by a later line. Seen: pathspec keeps what git ignores, in each of the four.
# Who uploads or packs what pathspec keeps takes files along that git leaves out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pathspec==1.1.1 2>&1 | grep -v WARNING || true
cat > "$work/compare.py" <<'PY'
import subprocess
import sys
from pathlib import Path

from pathspec import GitIgnoreSpec

CASES = {
    "build/keep.txt": ["build/", "!build/keep.txt"],
    "logs/keep.log": ["!logs/keep.log", "logs/"],
    "src/main.py": ["*", "!*.py"],
    "lib/src/main.py": ["/*", "!src/"],
}
other = 0
for path, rules in CASES.items():
    Path(sys.argv[1], ".gitignore").write_text("\n".join(rules) + "\n")
    command = ["git", "-C", sys.argv[1], "check-ignore", "--quiet", "--no-index", path]
    git, found = subprocess.run(command).returncode == 0, GitIgnoreSpec.from_lines(rules).match_file(path)
    print(f"{' then '.join(rules)}: {path} ignored by git {git}, by pathspec {found}")
    other += git and not found
sys.exit(other != len(CASES))
PY
echo "pathspec 1.1.1, $(git --version)"
git init --quiet "$work/repository"
"$work/venv/bin/python" "$work/compare.py" "$work/repository"
