"""What the tests of publishing share: a local Hub that is talked to, an evaluated adapter and its dataset."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.datasets import build, creatures, from_table, table
from support.training import recipe
from toolkit.core.folder import manifest_facts, read_manifest, write_manifest
from toolkit.core.layout import TINY_BASE_ID
from toolkit.data.dataset import locate_dataset
from toolkit.evaluation import evaluate
from toolkit.hub import publish, remote, upload
from toolkit.hub.contents import contents
from toolkit.hub.local.serve import running_hub
from toolkit.hub.publish import PublishOptions
from toolkit.training import train

REPO = "demo/namer"


def talk_to(monkeypatch, url: str) -> None:
    """Make this process and its children talk to a Hub."""
    monkeypatch.setenv("HF_ENDPOINT", url)


@pytest.fixture(autouse=True)
def remembered(tmp_path, monkeypatch):
    """Where unfinished publications are noted. Nothing is verified, which takes a process of its own."""
    monkeypatch.setattr(publish, "verify_or_raise", lambda *_: None)
    monkeypatch.setenv("PKT_CACHE", str(tmp_path / "pkt-cache"))
    return tmp_path / "pkt-cache" / "publications"


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    """A running local Hub that this process and its children talk to."""
    with running_hub(tmp_path / "hub") as url:
        talk_to(monkeypatch, url)
        yield url


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """An evaluated adapter on the tiny base that ships, and its dataset."""
    folder = tmp_path_factory.mktemp("made")
    build(folder / "dataset", from_table(table(folder, creatures()), unseen_size=0.2))
    dataset = locate_dataset(str(folder / "dataset"))
    settings = recipe(TINY_BASE_ID, training__max_steps=2)
    train.train(dataset, folder / "adapter", settings)
    evaluate.evaluate(folder / "adapter", dataset, recipe=settings)
    return folder


@pytest.fixture
def adapter(tmp_path, made):
    """A copy of the evaluated adapter."""
    return shutil.copytree(made / "adapter", tmp_path / "adapter")


@pytest.fixture
def dataset(tmp_path, made):
    """A copy of its dataset."""
    return shutil.copytree(made / "dataset", tmp_path / "dataset")


def rewrite_manifest(folder: Path, kind: str) -> None:
    """Make a folder's manifest name the files as they are now, as if a step had written them."""
    write_manifest(folder, kind, manifest_facts(read_manifest(folder, kind)))


@pytest.fixture
def folder(tmp_path):
    """A small folder with files of each kind of upload."""
    return write_version(tmp_path / "folder", 1)


def write_version(folder: Path, number: int) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({"a": np.full(1_000, number)}, folder / "model.safetensors")
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Version {number}\n")
    (folder / "config.json").write_text(f'{{"version": {number}}}')
    write_manifest(folder, "base", {})
    return folder


def send(folder: Path, checked: list | None = None) -> publish.Published:
    """What `publish` does with a folder that is ready."""
    planned = upload.plan(remote.read_remote(REPO, "base"), contents(folder, "base"))
    return publish.upload_and_show(
        planned, PublishOptions(tag="v1"), "message", lambda *what: (checked or []).append(what)
    )
