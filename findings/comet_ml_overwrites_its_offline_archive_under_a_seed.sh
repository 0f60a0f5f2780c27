#!/usr/bin/env bash
# comet_ml 3.58.8, Python 3.11: an offline experiment that is continued (`experiment_key` and `mode="get_or_create"`) gets an archive of its
# own for each part, `KEY-SUFFIX.zip`, whose suffix is drawn from Python's global generator. A training seeds that generator (transformers'
# `set_seed`, each time alike), so every part draws the same suffix, and the archive of a part takes the place of the one before: the first
# part's metrics are lost, without a word. Seen: two parts of one metric each leave two archives unseeded, and one, with the second's, seeded.
# Who seeds has to put another state into `random` while comet starts.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check comet_ml==3.58.8 2>&1 | grep -v WARNING || true
cat > "$work/part.py" <<'PY'
import random
import sys

import comet_ml

step, seeded = int(sys.argv[1]), sys.argv[2] == "seeded"
if seeded:
    random.seed(7)
experiment = comet_ml.start(project_name="p", experiment_key="a" * 32, mode="get_or_create", online=False)
experiment.log_metric("loss", 0.5, step=step)
experiment.end()
PY
cd "$work"
for how in unseeded seeded; do
    for step in 1 2; do
        HOME="$work" COMET_OFFLINE_DIRECTORY="$work/$how" "$work/venv/bin/python" part.py "$step" "$how" >/dev/null 2>&1
    done
done
archives() { find "$work/$1" -name '*.zip' -size +0 | wc -l; }
echo "comet_ml 3.58.8: two parts of an offline experiment leave $(archives unseeded) archives unseeded, $(archives seeded) seeded"
[ "$(archives unseeded) $(archives seeded)" = "2 1" ]
