#!/usr/bin/env bash
# transformers 5.23.0 with swanlab 0.10.3, Python 3.11: `SwanLabCallback` (`report_to="swanlab"`) looks whether a run is active by
# `swanlab.get_run() is None`, and there `get_run` raises RuntimeError where none is. So a training with it ends at its first step: "No
# active Run. Call swanlab.init() first." Called before the training, `swanlab.init()` makes it work; the callback then uses that run.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 accelerate==1.15.0 torch==2.13.0 \
    swanlab==0.10.3 boto3==1.44.8 2>&1 | grep -v WARNING || true
cat > "$work/begin.py" <<'PY'
import sys

import swanlab
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import SwanLabCallback

if sys.argv[1] == "before":
    swanlab.init(project="p")
arguments = TrainingArguments(output_dir="out", run_name="r", use_cpu=True, report_to=[])
try:
    SwanLabCallback().on_train_begin(arguments, TrainerState(), TrainerControl())
    print("started")
except RuntimeError as error:
    print(error)
PY
cd "$work"
begin() { HOME="$work" SWANLAB_MODE=offline "$work/venv/bin/python" begin.py "$1" 2>/dev/null | grep -E "^started|active Run"; }
alone=$(begin alone)
before=$(begin before)
echo "transformers 5.23.0, swanlab 0.10.3: \"$alone\"; after swanlab.init(): \"$before\""
[ "$alone" = "No active Run. Call swanlab.init() first." ] && [ "$before" = "started" ]
