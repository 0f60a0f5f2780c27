"""Whole runs, as a user starts them: processes of their own, a Hub over HTTP, nothing patched."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import run
from toolkit.core.errors import InputError
from toolkit.core.recipe import load_recipe
from toolkit.hub.publish import Published

SHORT = """\
name = "short"
base = "pokepicker/tiny-gemma"
[training]
max_steps = 6
batch_size = 8
save_every = 2
max_length = 256
[evaluation]
max_test = 5
max_unseen = 3
[publish]
adapter_repo = "demo/pokepicker"
dataset_repo = "demo/pokepicker-names"
local_hub = true
"""

STRANGER = """\
import sys
for module in ("toolkit", "bitsandbytes", "datasets"):
    sys.modules[module] = None  # a stranger has none of them
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained("demo/pokepicker")
tokenizer = AutoTokenizer.from_pretrained("demo/pokepicker")
messages = [{"role": "user", "content": "다음 특성을 살린 포켓몬식 이름을 지어줘:\\n\\nA small blue turtle."}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=8)
print("NAME", tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def clean_environment(**extra: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", **extra}


def pkt(*arguments: object, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=clean_environment(**extra), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("run")
    (folder / "short.toml").write_text(SHORT)
    return folder, pkt("run", "short.toml", "out", cwd=folder)


def test_one_command_runs_the_whole_pipeline_and_ends_with_a_summary(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    for part in ("TF-IDF", "chance", "this model", "names that it gave", " preview out/adapter", " hub serve out/hub"):
        assert part in done.stderr
    assert (folder / "out" / "adapter" / "figures" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "demo/pokepicker" in (folder / "out" / "adapter" / "README.md").read_text(encoding="utf-8")


def test_no_path_of_this_machine_is_in_what_was_made(finished):
    folder, _ = finished
    for part in ("dataset", "adapter"):
        for file in (folder / "out" / part).rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert str(folder).encode() not in content, file.name
                assert str(Path.home()).encode() + b"/" not in content, file.name


def test_the_second_run_skips_what_has_not_changed(finished):
    folder, _ = finished
    weights = (folder / "out" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    again = pkt("run", "short.toml", "out", cwd=folder)
    assert again.returncode == 0, again.stderr
    for step in ("Dataset", "Training", "Evaluation", "Verification"):
        assert re.search(rf"{step} +unchanged, skipped", again.stderr)
    assert (folder / "out" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == weights


def test_a_changed_evaluation_does_not_train_again(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "more.toml").write_text(SHORT.replace("max_test = 5", "max_test = 6"))
    refused = pkt("run", "more.toml", "out", cwd=folder)
    assert (refused.returncode, "(other settings): 6 steps, evaluated" in refused.stderr) == (2, True)
    done = pkt("run", "more.toml", "out", "--json", "--restart", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Training +unchanged, skipped", done.stderr)
    result = json.loads(done.stdout)
    assert result["evaluation"]["test"]["rows"] == 6
    assert result["verified"]["differences"] == []


def test_a_run_that_failed_in_its_first_second_goes_on_when_its_cause_is_mended(tmp_path):
    missing = SHORT + '[[dataset.sources]]\nname = "table"\nlocation = "missing.csv"\n'
    (tmp_path / "short.toml").write_text(missing)
    for _ in range(2):
        failed = pkt("run", "short.toml", "out", cwd=tmp_path)
        assert failed.returncode == 2
        assert "missing.csv matches no file" in failed.stderr
    assert (tmp_path / "out" / "hub").is_dir()


def test_a_kill_at_the_very_start_leaves_a_run_folder_that_is_accepted(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".pipeline.json.123.tmp").write_text("{")
    (out / f".dataset.{2**22 + 1}.replaced").mkdir()
    for _ in range(2):
        assert run.Steps(out).hashes == {}
    assert json.loads((out / "pipeline.json").read_text()) == {}
    assert (out / "dataset").is_dir()


def test_a_run_folder_may_hold_a_hub_with_a_base_before_the_first_run_and_nothing_else(tmp_path):
    (tmp_path / "hub").mkdir()
    assert run.Steps(tmp_path).hashes == {}
    (tmp_path / "pipeline.json").unlink()
    (tmp_path / "site").mkdir()
    with pytest.raises(InputError, match="holds no run"):
        run.Steps(tmp_path)


def test_a_killed_publication_to_a_local_hub_is_public_in_the_end(tmp_path, monkeypatch):
    """The Hub has another address in the next run, so nothing tells what the first one was about to do."""
    given = []
    published = Published("demo/a", "0" * 40, "http://h", changed=False)
    monkeypatch.setattr(run, "push_dataset", lambda _folder, _repo, options: given.append(options))
    monkeypatch.setattr(run, "publish", lambda _folder, _repo, options, verify: given.append(options) or published)
    monkeypatch.setattr(run, "verify_or_raise", lambda *_: None)
    for local, private in ((True, False), (False, None)):
        where = {"publish.adapter_repo": "demo/a", "publish.dataset_repo": "demo/d", "publish.local_hub": local}
        run._publish(load_recipe("demo", where), tmp_path, tmp_path, run.Steps(tmp_path / str(local)))
        assert [options.private for options in given[-2:]] == [private, private]


@pytest.mark.parametrize("name", ["pipeline.json", "run.json"])
@pytest.mark.parametrize("found", ["[]", '{"name": "a web app"}', '{"recipe": "a", "dataset": "b"}'])
def test_a_state_file_of_another_program_is_not_taken_for_ours(tmp_path, name, found):
    (tmp_path / name).write_text(found)
    with pytest.raises(InputError, match="was not written by `pkt run`"):
        run.Steps(tmp_path)
    assert (tmp_path / name).read_text() == found


def test_the_state_of_a_run_of_0_1_0_is_taken_over(tmp_path):
    steps = {"dataset": {"read": "a", "written": "b"}}
    (tmp_path / "run.json").write_text(json.dumps(steps))
    assert run.Steps(tmp_path).hashes == run.Steps(tmp_path).hashes == steps
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.json"]


@pytest.fixture(scope="module")
def endpoint(finished):
    """`pkt hub serve` on what the run published, as a process."""
    folder, _ = finished
    server = subprocess.Popen(
        [sys.executable, "-m", "toolkit", "hub", "serve", "out/hub", "--port", "0"],
        cwd=folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://\S+?:\d+", line):
            yield found[0]
            break
    server.send_signal(signal.SIGINT)
    assert server.stderr.read().endswith("Interrupted.\n")
    server.stderr.close()
    assert server.wait(timeout=30) == 130


def test_a_stranger_loads_it_with_peft_alone_and_it_generates(endpoint, tmp_path):
    environment = clean_environment(HF_ENDPOINT=endpoint, HF_HUB_DISABLE_XET="1", HF_HOME=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", STRANGER], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"NAME \S+", done.stdout)


def test_the_dataset_loads_by_its_id(endpoint, tmp_path):
    code = (
        "from datasets import load_dataset\n"
        "print(load_dataset('demo/pokepicker-names', split='test')[0]['messages'][0]['content'])"
    )
    environment = clean_environment(HF_ENDPOINT=endpoint, HF_HUB_DISABLE_XET="1", HF_HOME=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("다음 특성을 살린 포켓몬식 이름을 지어줘:\n\n")


def test_names_and_candidates_come_from_the_published_adapter(endpoint, finished, tmp_path):
    folder, _ = finished
    chosen = ("--adapter", "demo/pokepicker", "--endpoint", endpoint)
    names = pkt(
        "name", "A small blue turtle.", *chosen, "--count", 2, "--json", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path)
    )
    assert names.returncode == 0, names.stderr
    assert {len(json.loads(names.stdout)[what]) for what in ("names", "nearest")} <= {1, 2, 3}
    local = pkt("identify", "A small blue turtle.", "--adapter", "out/adapter", "--json", cwd=folder)
    candidates = json.loads(local.stdout)["candidates"]
    assert len(candidates) == 5
    assert candidates == sorted(candidates, key=lambda candidate: -candidate["probability"])


def test_verify_exits_0_on_what_was_published(endpoint, tmp_path):
    done = pkt("verify", "demo/pokepicker", "--endpoint", endpoint, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "reproduced" in done.stderr


def test_a_read_only_hub_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    done = pkt("hub", "serve", "file/hub", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "Error: file/hub cannot be written: Not a directory. Check the path and its permissions.\n"


def test_a_taken_port_is_told_before_anything_is_written_and_says_what_to_choose(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pkt("hub", "serve", "hub", "--port", port, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: Cannot listen on 127.0.0.1:{port}: another program listens there already. Choose another --port.\n"
    )
    assert not (tmp_path / "hub").exists()


def test_a_host_that_does_not_exist_says_to_choose_another_host(tmp_path):
    done = pkt("hub", "serve", "hub", "--host", "192.0.2.1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("Choose another --host.\n")
