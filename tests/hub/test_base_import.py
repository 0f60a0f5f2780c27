"""A base from a GGUF file lies on a local Hub, says where it came from, and is found by its id."""

import json
import os

import pytest
from click.testing import CliRunner

from support.datasets import build, creatures, from_table, table
from support.hub import talk_to
from support.training import recipe
from toolkit import cli
from toolkit.cards.page import front_matter
from toolkit.core.errors import InputError
from toolkit.core.folder import sha256_file
from toolkit.hub import upload
from toolkit.hub.base import import_base
from toolkit.hub.local.serve import running_hub
from toolkit.model.adapter import locate_base_of
from toolkit.model.base import base_license, locate_base
from toolkit.training import train

pytest.importorskip("gguf", reason="the package gguf is not installed")

from support.gguf_files import write_gguf

ID = "Owner/small-llama"


@pytest.fixture(autouse=True)
def own_environment(tmp_path, monkeypatch):
    """What choosing a Hub sets is put back."""
    for name in ("HF_ENDPOINT", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("PKT_CACHE", str(tmp_path / "pkt-cache"))


def test_training_finds_an_imported_base_by_its_id(tmp_path, monkeypatch, gguf_file):
    build(tmp_path / "dataset", from_table(table(tmp_path, creatures()), unseen_size=0.2))
    done = import_base(gguf_file, ID, tmp_path / "hub")
    assert done.changed
    with running_hub(tmp_path / "hub") as url:
        talk_to(monkeypatch, url)
        monkeypatch.setenv("HF_TOKEN", "")
        base = locate_base(ID)
        assert (base.revision, base_license(base)) == (done.revision, "apache-2.0")
        train.train(tmp_path / "dataset", tmp_path / "adapter", recipe(ID, training__max_steps=1))
        assert locate_base_of(tmp_path / "adapter", "none").id == ID


def test_its_card_says_where_it_came_from(tmp_path, gguf_file):
    import_base(gguf_file, ID, tmp_path / "hub")
    texts = [path.read_bytes() for path in (tmp_path / "hub" / "models" / "Owner" / "small-llama" / "blobs").iterdir()]
    card = next(text for text in texts if b"# small-llama, from a GGUF file" in text).decode()
    assert front_matter(card)["license"] == "apache-2.0"
    for fact in (
        "Dequantised from Q8_0",
        sha256_file(gguf_file),
        "small.gguf",
        "LlamaForCausalLM",
        "not the original's",
    ):
        assert fact in card


def test_the_same_file_again_is_done_already_and_another_one_is_refused(tmp_path, gguf_file, llama, tokenizer):
    first, again = (import_base(gguf_file, ID, tmp_path / "hub") for _ in range(2))
    assert (again.changed, again.revision) == (False, first.revision)
    other = write_gguf(tmp_path / "other.gguf", llama, tokenizer, general__author="x")
    with pytest.raises(InputError, match="is another one on the Hub"):
        import_base(other, ID, tmp_path / "hub")


def test_an_import_that_was_interrupted_is_finished_and_public(tmp_path, monkeypatch, gguf_file):
    show = upload.set_private

    def killed(remote, private):
        if remote.repo_id == ID:
            raise KeyboardInterrupt
        show(remote, private)

    with monkeypatch.context() as patched:
        patched.setattr(upload, "set_private", killed)
        with pytest.raises(KeyboardInterrupt):
            import_base(gguf_file, ID, tmp_path / "hub")
    assert not import_base(gguf_file, ID, tmp_path / "hub").changed
    repository = json.loads((tmp_path / "hub/models/Owner/small-llama/repository.json").read_text())
    assert repository["private"] is False
    assert list((tmp_path / "hub" / "incoming").iterdir()) == []


def test_an_id_without_an_owner_is_one_line_and_leaves_nothing(tmp_path, gguf_file):
    done = CliRunner().invoke(cli.main, ["base", "import", str(gguf_file), "small", "--hub", str(tmp_path / "hub")])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == ["Error: small is not a Hub id. Write it as owner/name."]
    assert not (tmp_path / "hub").exists()


def test_without_the_package_gguf_it_says_what_to_install(tmp_path, monkeypatch, gguf_file):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    done = CliRunner().invoke(cli.main, ["base", "import", str(gguf_file), ID, "--hub", str(tmp_path / "hub")])
    assert done.exit_code == 3
    assert "pip install gguf" in done.stderr
