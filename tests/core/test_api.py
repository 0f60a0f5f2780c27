"""`from toolkit import train`: the verbs from Python, in a process that no command prepared."""

import json
import os
import subprocess
import sys

import toolkit
from support.adapters import make_adapter
from support.paths import ROOT
from toolkit.model.base import tiny_base_folder

VERBS = {
    "PublishOptions",
    *("build_dataset", "validate", "train", "evaluate", "publish", "push_dataset", "verify", "merge", "export", "name"),
    *("identify", "run_pipeline", "open_adapter", "load_recipe", "Recipe", "use_hub", "ToolkitError"),
    *("inspect_adapter", "serve", "import_base", "train_encoder", "answer_all", "Question", "plan_trials", "run_sweep"),
}


def python(code, *arguments, **environment):
    """What a fresh process prints, without any variable of the Hub's clients."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=kept | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_exports_its_verbs_and_imports_nothing_for_it():
    assert set(toolkit.__all__) == VERBS
    assert python("import sys, toolkit; print(*(n for n in sys.modules if n.startswith('toolkit.')))").strip() == ""
    loaded = python(f"import sys; from toolkit import {', '.join(sorted(VERBS))}; print(*sys.modules)").split()
    assert not {"torch", "transformers", "peft", "datasets", "matplotlib"} & set(loaded)


def test_a_misspelt_verb_is_an_attribute_error():
    assert not hasattr(toolkit, "trian")


def test_every_room_is_in_the_story_of_the_package():
    rooms = {path.name for path in (ROOT / "toolkit").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= {line.split()[0] for line in toolkit.__doc__.splitlines() if line}


ASK = """
import json, sys
from toolkit import build_dataset, identify, name, validate
dataset, adapter = sys.argv[1:]
build_dataset(dataset)
named = name(adapter, "A red fox with six tails.", count=2, seed=3, known=True)
found = identify(adapter, "A red fox with six tails.", top=1)
print(json.dumps([validate(dataset).ok, len(named.names), [candidate.name for candidate in found.candidates]]))
"""


def test_a_process_builds_validates_and_asks(tmp_path):
    adapter = make_adapter(tmp_path / "adapter", tiny_base_folder())
    ok, names, (candidate,) = json.loads(python(ASK, tmp_path / "data", adapter))
    assert ok
    assert 1 <= names <= 2
    assert candidate in ("Vulpix", "Squirtle")
