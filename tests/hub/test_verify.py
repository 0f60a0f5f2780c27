"""What a verification reports, from what its clean process found."""

import json
import pickle

import pytest
from rich.console import Console

from toolkit.cli import results
from toolkit.cli.output import Output
from toolkit.core.errors import CheckFailed, EnvironmentLacks, HubError, InputError
from toolkit.hub import reproduce, verify
from toolkit.hub.verify import Verification

STDERR = "Traceback\n  ...\nRuntimeError: size mismatch for hf_" + "aB3d" * 8
SHA = "0123456789abcdef" * 2 + "01234567"


def read(tmp_path, result):
    file = tmp_path / "result.json"
    if result is not None:
        file.write_text(json.dumps(result))
    return verify._read_result(file, STDERR, "demo/namer", SHA)


def test_a_process_that_died_is_told_by_its_last_line_without_secrets(tmp_path):
    with pytest.raises(
        HubError, match=r"demo/namer cannot be loaded with peft: RuntimeError: size mismatch for \*\*\*"
    ):
        read(tmp_path, None)


@pytest.mark.parametrize("kind", [EnvironmentLacks, HubError, InputError])
def test_an_error_of_the_clean_process_is_raised_as_it_was(tmp_path, kind):
    failed = {"kind": kind.__name__, "found": "The base a/b is gated.", "remedy": "Accept its licence."}
    with pytest.raises(kind, match=r"The base a/b is gated\. Accept its licence\."):
        read(tmp_path, {"failed": failed})


def test_a_check_is_content_with_nothing_less_than_all(monkeypatch):
    found = Verification("demo/namer", SHA, 16, 8, ["README.md, line 3: says A, its files say B"])
    monkeypatch.setattr(verify, "verify", lambda *_: found)
    with pytest.raises(
        CheckFailed, match=r"not what its card says: README\.md, line 3.*Run `pkt verify demo/namer` to see the rest"
    ):
        verify.verify_or_raise("demo/namer")


def shown(monkeypatch, capsys, result):
    # As wide as a small terminal.
    results.verified(Output(console=Console(stderr=True, width=80, highlight=False)), result)
    return capsys.readouterr().err.rstrip("\n").split("\n")


def test_the_verdict_is_the_last_line(monkeypatch, capsys):
    good = Verification("demo/namer", SHA, 16, 8, [], ["a note"], "Emberkit")
    lines = shown(monkeypatch, capsys, good)
    assert lines[-1] == "demo/namer at 0123456789ab: 16 files, 8 samples: reproduced."
    assert "Emberkit" in "".join(lines)
    bad = Verification("demo/namer", SHA, 16, 8, ["a", "b"])
    assert shown(monkeypatch, capsys, bad)[-1].endswith("8 samples: 2 differences.")


def test_a_file_that_the_manifest_does_not_name_is_said_and_weights_or_a_pickle_is_no_reproduction(tmp_path):
    for name in ("README.md", ".gitattributes", "notes.txt", "more/extra.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "training_args.bin").write_bytes(pickle.dumps({"a": 1}))
    found = reproduce.Comparison()
    reproduce._compare_files(
        reproduce.Repository("demo/namer", SHA, tmp_path, {"files": {"a.json": "0" * 64}}, []), found
    )
    assert found.differences == [
        "a.json: missing",
        "more/extra.safetensors: weights that the manifest does not name",
        "training_args.bin: a pickle that the manifest does not name",
    ]
    assert found.notes == [
        f"{name} is not named by the manifest, and was not checked" for name in ("README.md", "notes.txt")
    ]


def test_a_manifest_that_lacks_what_is_compared_is_said_to_be_unusable(tmp_path, monkeypatch):
    (tmp_path / "samples.jsonl").write_text('{"id": "1"}\n')
    manifest = {"toolkit": "0.1.0", "kind": "adapter", "files": {"README.md": "0" * 64}, "recipe": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    found = reproduce._reproduced("demo/namer", SHA)
    assert found == {"unusable": "its manifest.json names no base and no evaluation_precision and no stop_tokens"}


@pytest.mark.parametrize("changed", [{"base_model_name_or_path": "misty/other"}, {"revision": "d" * 40}])
def test_another_base_than_the_manifest_names_is_a_difference(tmp_path, changed):
    config = {"base_model_name_or_path": "demo/base", "revision": "c" * 40}
    repository = reproduce.Repository(
        "demo/namer", SHA, tmp_path, {"base": {"id": "demo/base", "revision": "c" * 40}}, []
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert reproduce._wrong_base(repository) == []
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changed))
    assert "its base is not the repository" in reproduce._wrong_base(repository)[0]
