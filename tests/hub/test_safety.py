"""What leaves this machine: nothing that says whose it is, opens a door, or runs code."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file

from toolkit.core.errors import InputError
from toolkit.hub import safety
from toolkit.hub.safety import check_safe, leaks_in
from toolkit.model import base as bases

# Assembled, so that nobody's scanner takes these for real ones.
SECRETS = {
    "hugging face": "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3g",
    "organisation": "api_org_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3g",
    "github": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "github, fine-grained": "github_pat_" + "11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ",
    "gitlab": "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws, secret": "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "google": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "openai": "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6",
    "slack": "xoxb-" + "123456789012-abcdefghijkl",
    "npm": "npm_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "signed": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "url": "https://ash:" + "pikachu25@example.org/data.csv",
    "header": "Authorization: Bearer " + "abcdefghijklmnop1234",
}
PATHS = {
    "linux": "/home/ash/bases/gemma",
    "macos": "/Users/ash/bases/gemma",
    "windows": "C:\\Users\\ash\\bases",
    "temporary": "/tmp/run-17/adapter",
    "colab": "/content/drive/base",
    "file url": "file:///srv/base",
}


def found_in(path: Path, name: str | None = None) -> list[str]:
    return list(leaks_in(name or path.name, path))


@pytest.mark.parametrize("what", SECRETS)
@pytest.mark.parametrize("name", ["README.md", "manifest.json", "samples.jsonl", "chat_template.jinja"])
def test_no_secret_of_a_known_form_leaves_in_a_text(tmp_path, what, name):
    file = tmp_path / name
    line = f"first\nsecond {SECRETS[what]} rest"
    file.write_text(json.dumps({"note": line}) if ".json" in name else line)
    found = found_in(file)
    assert found
    place = {"README.md": "line 2", "chat_template.jinja": "line 2", "samples.jsonl": "line 1"}.get(name, "note")
    assert found[0].startswith(f"{name}, {place}: ")
    assert not any(SECRETS[what] in line for line in found)


@pytest.mark.parametrize("what", PATHS)
@pytest.mark.parametrize("name", ["README.md", "adapter_config.json", "samples.jsonl"])
def test_no_absolute_path_leaves_in_a_text(tmp_path, what, name):
    file = tmp_path / name
    file.write_text(json.dumps({"base": PATHS[what]}) if ".json" in name else f"see {PATHS[what]} there")
    assert found_in(file) == [
        f"{name}, {({'README.md': 'line 1', 'samples.jsonl': 'line 1'}).get(name, 'base')}: a path of a machine"
    ]


@pytest.mark.parametrize("path", ["/net/people/ash/base", "/g100/work/base"])
def test_a_value_that_is_a_path_is_one_wherever_its_machine_keeps_files(tmp_path, path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"deep": [{"base_model_name_or_path": path}]}))
    assert found_in(tmp_path / "adapter_config.json") == [
        "adapter_config.json, deep[0].base_model_name_or_path: a path of a machine"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/home/ash",
        "a red/blue one, and/or /none",
        "the ratio 1/2/3",
        "~/.cache/pkt is where it caches",
        "data/train-00000-of-00001.parquet",
        "hf_raise_for_status and hf_transfer",
        "ask-me-anything sk-learn",
        "It waits: at home.",
        "mail ash@example.org",
        "https://example.org:8080/@ash",
    ],
)
def test_ordinary_text_is_let_through(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "a.json").write_text(json.dumps({"a": text}))
    assert found_in(tmp_path / "README.md") + found_in(tmp_path / "a.json") == []


def test_the_tiny_base_is_let_through():
    check_safe({path.name: path for path in bases.tiny_base_folder().iterdir()})


def test_the_token_in_use_is_found_whatever_its_form(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "an-odd-token")
    (tmp_path / "README.md").write_text("use an-odd-token")
    assert found_in(tmp_path / "README.md") == ["README.md, line 1: the Hub token in use"]


def test_the_folder_that_it_lies_in_is_found_even_in_a_vocabulary(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"vocab": {"/tmp/": 1, "/home/ash/x": 2}}))
    assert found_in(tmp_path / "tokenizer.json") == []
    (tmp_path / "tokenizer.json").write_text(json.dumps({"from": f"{tmp_path}/base"}))
    assert found_in(tmp_path / "tokenizer.json") == ["tokenizer.json, line 1: a path of a machine"]


def test_the_user_of_this_machine_is_found_as_a_value_and_not_in_prose(tmp_path, monkeypatch):
    monkeypatch.setattr(safety.getpass, "getuser", lambda: "misty")
    manifest = {"author": "misty", "id": "misty/names", "name": "misty", "request": "a misty pond", "host": "misty@box"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert found_in(tmp_path / "manifest.json") == ["manifest.json, author: the name of this machine's user"]
    del manifest["author"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert found_in(tmp_path / "manifest.json") == ["manifest.json, host: the name of this machine's user"]
    (tmp_path / "samples.jsonl").write_text(json.dumps({"description": "misty"}))
    assert found_in(tmp_path / "samples.jsonl") == []


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "answers.json", "figures.png", "tokenizer.model"])
@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"PK\x03\x04 a zip, as torch writes it"])
def test_a_pickle_by_another_name_is_one(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert found_in(tmp_path / name) == [f"{name}: a pickle"]


@pytest.mark.parametrize(
    "name", ["optimizer.safetensors", "scheduler.json", "trainer_state.json", "rng_state.json", "training_args.json"]
)
def test_the_state_of_a_training_stays_here(tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert found_in(tmp_path / name) == [f"{name}: state of a training"]


def test_the_state_of_an_optimiser_among_weights_is_found(tmp_path):
    import numpy as np

    file = tmp_path / "adapter_model.safetensors"
    save_file({"lora_A": np.zeros(2), "state.exp_avg.lora_A": np.zeros(2)}, file)
    assert found_in(file) == ["adapter_model.safetensors, tensor state.exp_avg.lora_A: state of an optimiser"]


def test_the_metadata_of_tensors_are_read(tmp_path):
    import numpy as np

    file = tmp_path / "adapter_model.safetensors"
    save_file({"lora_A": np.zeros(2)}, file, metadata={"from": PATHS["linux"]})
    assert found_in(file) == ["adapter_model.safetensors, from: a path of a machine"]


@pytest.mark.parametrize("kind", ["png", "parquet", "safetensors", "json"])
@pytest.mark.parametrize("content", [b"", b"no such thing at all"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path, kind, content):
    (tmp_path / f"a.{kind}").write_bytes(content)
    assert found_in(tmp_path / f"a.{kind}") == [f"a.{kind}: no whole {kind} file"]


def test_every_row_of_a_table_is_read(tmp_path):
    rows = [{"messages": [{"role": "user", "content": text}]} for text in ("fine", SECRETS["github"])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert found_in(tmp_path / "train.parquet", "data/train.parquet") == [
        "data/train.parquet, row 1, messages[0].content: a GitHub token"
    ]


def test_the_metadata_of_a_table_are_read(tmp_path):
    table = pa.table({"a": [1]}).replace_schema_metadata({"pandas": PATHS["macos"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "a path of a machine" in found_in(tmp_path / "a.parquet")[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_the_texts_in_an_image_are_read(tmp_path, compressed):
    texts, file = PngInfo(), tmp_path / "loss.png"
    texts.add_text("Source", PATHS["linux"], zip=compressed)
    Image.new("L", (1, 1)).save(file, pnginfo=texts)
    assert "a path of a machine" in found_in(file)[0]
    exif = Image.Exif()
    exif[0x010E] = PATHS["linux"]
    Image.new("L", (1, 1)).save(file, exif=exif)
    assert "a path of a machine" in found_in(file)[0]


def test_a_refusal_names_each_file_and_counts_what_it_leaves_out(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.json").write_text(json.dumps({"key": SECRETS["aws"]}))
    files = {path.name: path for path in sorted(tmp_path.iterdir())}
    with pytest.raises(InputError, match=r"0\.json, key: an AWS key; .*4\.json, key: an AWS key; and 2 more"):
        check_safe(files)
