#!/usr/bin/env bash
# ray 2.60.0, Python 3.11: what an actor starts by `subprocess` begins with SIGINT blocked, as the actor's own process has it. Python's
# default for a child is an open SIGINT. So a program that ends orderly on Ctrl-C or SIGINT, as trainings do that write a checkpoint
# then, never sees it under an actor: the signal stays pending. SIGTERM arrives. Seen, as the mask of blocked signals in
# /proc/self/status (bit 2 is SIGINT): started here 0, in an actor 2.
# Who stops such a program from an actor has to send SIGTERM, or to unblock SIGINT before it starts. Linux only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0 2>&1 | grep -v WARNING || true
cat > "$work/mask.py" <<'PY'
import logging
import subprocess
import sys

import ray

SHOW = "print(next(int(line.split()[1], 16) & 2 for line in open('/proc/self/status') if line.startswith('SigBlk')))"


class Starter:
    def start(self):
        return subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True).stdout.strip()


here = Starter().start()
ray.init("local", num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False, logging_level=logging.ERROR)
print(here, ray.get(ray.remote(Starter).remote().start.remote()))
ray.shutdown()
PY
export RAY_USAGE_STATS_ENABLED=0
seen=$("$work/venv/bin/python" "$work/mask.py" 2>/dev/null | tail -1)
echo "ray 2.60.0: SIGINT of a subprocess is blocked: $seen (started here, in an actor)"
[ "$seen" = "0 2" ]
