"""What a published adapter says of itself and of its base, card by card and hazard by hazard."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard

from support.hub import REPO, adapter, dataset, endpoint, remembered, rewrite_manifest
from toolkit.cards import usage_snippet
from toolkit.core.errors import EnvironmentLacks, HubError, InputError
from toolkit.core.folder import read_json, read_jsonl, read_manifest, sha256_file, write_json
from toolkit.core.layout import MANIFEST, TINY_BASE_ID
from toolkit.hub import publish, remote, reproduce
from toolkit.hub.local.serve import running_hub
from toolkit.hub.publish import PublishOptions
from toolkit.model import base as bases

__all__ = ["adapter", "dataset", "endpoint", "remembered"]


@pytest.fixture
def based(endpoint, adapter):
    """An adapter whose base is on the Hub."""
    publish.push_tiny_base()
    return adapter


def card_there(endpoint, name="README.md"):
    return Path(HfApi(endpoint=endpoint).hf_hub_download(REPO, name)).read_text(encoding="utf-8")


def edit_there(endpoint, text, name="README.md"):
    HfApi(endpoint=endpoint).upload_file(path_or_fileobj=text.encode(), path_in_repo=name, repo_id=REPO)


# A card that somebody wrote.


def test_a_card_edited_here_is_kept_and_said_until_it_is_overwritten(endpoint, based):
    rendered = (based / "README.md").read_text()
    (based / "README.md").write_text(f"{rendered}\nMy own words.\n")
    first = publish.publish(based, REPO)
    assert "README.md was edited by hand and is kept" in first.notes[0]
    assert "My own words." in card_there(endpoint)
    again = publish.publish(based, REPO)
    assert (again.changed, len(again.notes)) == (False, 1)
    assert read_manifest(based, "adapter")["edited_cards"] == {"README.md": sha256_file(based / "README.md")}
    assert publish.publish(based, REPO, PublishOptions(overwrite_card=True)).notes == []
    assert "My own words." not in card_there(endpoint)
    assert "edited_cards" not in read_manifest(based, "adapter")


def test_a_card_edited_on_the_hub_comes_into_the_folder_and_is_kept(endpoint, based):
    publish.publish(based, REPO)
    edit_there(endpoint, card_there(endpoint, "README.ko.md") + "\n손으로 고침\n", "README.ko.md")
    published = publish.publish(based, REPO)
    assert "README.ko.md was edited by hand" in published.notes[0]
    assert "손으로 고침" in card_there(endpoint, "README.ko.md")
    assert "손으로 고침" in (based / "README.ko.md").read_text()
    assert not publish.publish(based, REPO).changed


def test_two_different_edits_are_left_to_the_user(endpoint, based):
    publish.publish(based, REPO)
    edit_there(endpoint, card_there(endpoint) + "\nThere.\n")
    (based / "README.md").write_text((based / "README.md").read_text() + "\nHere.\n")
    with pytest.raises(InputError, match=r"README\.md was edited by hand in .* and, differently, in demo/namer"):
        publish.publish(based, REPO)
    assert "There." in card_there(endpoint)


def test_an_edited_card_is_looked_at_for_secrets_too(endpoint, based):
    (based / "README.md").write_text((based / "README.md").read_text() + "\ntoken hf_" + "aB3d" * 8 + "\n")
    with pytest.raises(InputError, match=r"README\.md, line \d+: a Hugging Face token"):
        publish.publish(based, REPO)
    assert not HfApi(endpoint=endpoint).repo_exists(REPO)


def test_a_dataset_card_edited_by_hand_is_kept(endpoint, dataset):
    (dataset / "README.md").write_text((dataset / "README.md").read_text() + "\nMine.\n")
    assert "README.md was edited by hand" in publish.push_dataset(dataset, "demo/names").notes[0]
    assert (dataset / "README.md").read_text().endswith("Mine.\n")
    publish.push_dataset(dataset, "demo/names", PublishOptions(overwrite_card=True))
    assert not (dataset / "README.md").read_text().endswith("Mine.\n")


# What the libraries do to cards and configurations.


def test_the_card_that_is_published_is_the_rendered_one_with_the_base_by_its_id(endpoint, based):
    publish.publish(based, REPO)
    card = ModelCard.load(based / "README.md")
    assert card_there(endpoint) == (based / "README.md").read_text()
    assert card.data.base_model == TINY_BASE_ID
    assert card.data.library_name == "peft"
    assert not any(tag.startswith("base_model:") for tag in card.data.tags)


def test_a_path_that_a_library_left_in_the_configuration_is_replaced_by_id_and_commit(endpoint, based):
    base = HfApi(endpoint=endpoint).model_info(TINY_BASE_ID).sha
    config = read_json(based / "adapter_config.json")
    write_json(based / "adapter_config.json", config | {"base_model_name_or_path": "/home/ash/gemma", "revision": None})
    rewrite_manifest(based, "adapter")
    publish.publish(based, REPO)
    there = json.loads(Path(HfApi(endpoint=endpoint).hf_hub_download(REPO, "adapter_config.json")).read_text())
    assert (there["base_model_name_or_path"], there["revision"]) == (TINY_BASE_ID, base)


def test_a_path_elsewhere_in_the_configuration_is_refused(based):
    config = read_json(based / "adapter_config.json")
    write_json(based / "adapter_config.json", config | {"auto_mapping": {"parent_library": "/scratch/ash/code"}})
    rewrite_manifest(based, "adapter")
    with pytest.raises(InputError, match=r"adapter_config\.json, auto_mapping\.parent_library: a path of a machine"):
        publish.publish(based, REPO)


def test_a_tokenizer_longer_than_the_base_is_refused(based, monkeypatch):
    monkeypatch.setattr(remote, "load_tokenizer", lambda folder: range(1_000_000))
    with pytest.raises(InputError, match=r"has 1,000,000 tokens, and the base pokepicker/tiny-gemma only"):
        publish.publish(based, REPO)


# The base.


def without_its_base(folder: Path, name: str) -> Path:
    """An adapter that was trained on a base of another name."""
    manifest = read_json(folder / MANIFEST)
    manifest["base"] |= {"id": name, "revision": None}
    write_json(folder / MANIFEST, manifest)
    return folder


def push_as(endpoint, repo_id, **changed):
    """The tiny base under another name, with other files where they are given."""
    api = HfApi(endpoint=endpoint)
    api.create_repo(repo_id)
    api.upload_folder(repo_id=repo_id, folder_path=bases.tiny_base_folder(), ignore_patterns=["manifest.json"])
    for name, content in changed.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=f"{name}.json", repo_id=repo_id)
    return api.model_info(repo_id).sha


def test_a_base_that_is_a_folder_is_refused_with_what_to_do(endpoint, adapter):
    without_its_base(adapter, "../bases/mine")
    with pytest.raises(InputError, match=r"\.\./bases/mine is no repository of a Hub.*`base_repo`"):
        publish.publish(adapter, REPO)


def test_base_repo_names_the_base_everywhere_after_its_files_were_compared(endpoint, adapter):
    without_its_base(adapter, "../bases/mine")
    commit = push_as(endpoint, "demo/base")
    publish.publish(adapter, REPO, PublishOptions(base_repo="demo/base"))
    config, manifest = read_json(adapter / "adapter_config.json"), read_manifest(adapter, "adapter")
    assert (config["base_model_name_or_path"], config["revision"]) == ("demo/base", commit)
    assert (manifest["base"]["id"], manifest["base"]["revision"]) == ("demo/base", commit)
    assert manifest["recipe"]["base"] == "demo/base"
    assert ModelCard.load(adapter / "README.md").data.base_model == "demo/base"


def test_another_base_of_that_name_is_refused(endpoint, adapter):
    without_its_base(adapter, "../bases/mine")
    push_as(endpoint, "demo/base", generation_config=b"{}")
    with pytest.raises(InputError, match="demo/base on the Hub has other files than the one that was trained on"):
        publish.publish(adapter, REPO, PublishOptions(base_repo="demo/base"))
    assert not HfApi(endpoint=endpoint).repo_exists(REPO)


def test_a_private_dataset_is_said_since_readers_cannot_open_it(endpoint, based, dataset):
    publish.push_dataset(dataset, "demo/names", PublishOptions(private=True))
    published = publish.publish(based, REPO, PublishOptions(dataset_repo="demo/names"))
    assert published.notes == ["The dataset demo/names is private: readers of the card cannot open it."]


# Whose repository it is.


def test_a_token_that_may_not_write_there_is_one_line(tmp_path, adapter, monkeypatch):
    with running_hub(tmp_path / "hub", tokens={"token-one": "pokepicker", "token-two": "demo"}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "token-one")
        publish.push_tiny_base()
        with pytest.raises(HubError, match=r"does not allow this for The model demo/namer.*a token that may write"):
            publish.publish(adapter, REPO)
        monkeypatch.setenv("HF_TOKEN", "wrong")
        with pytest.raises(EnvironmentLacks, match="requires a valid token for The model demo/namer"):
            publish.publish(adapter, REPO)
        monkeypatch.setenv("HF_TOKEN", "token-two")
        assert publish.publish(adapter, REPO).changed
        assert publish.publish(adapter, REPO, PublishOptions(private=True)).private
        monkeypatch.setenv("HF_TOKEN", "token-one")
        with pytest.raises(HubError, match="demo/namer"):
            publish.publish(adapter, REPO)


# The card's own code.


def test_the_code_of_a_card_is_only_ours_when_it_is_what_its_files_make(based):
    publish.prepare_adapter(based, REPO)
    manifest, samples = read_manifest(based, "adapter"), read_jsonl(based / "samples.jsonl")
    code = reproduce.python_code((based / "README.md").read_text())
    assert reproduce.is_ours(code, manifest, samples, REPO)
    assert not reproduce.is_ours(f"{code}\nimport os", manifest, samples, REPO)
    hostile = {"base": "none", "compute": 'float32"); import os; ("'}
    injected = usage_snippet(manifest | {"evaluation_precision": hostile}, samples, manifest["stop_tokens"], REPO)
    assert not reproduce.is_ours(injected, manifest | {"evaluation_precision": hostile}, samples, REPO)


def test_the_first_two_python_blocks_are_the_code():
    blocks = ["````python\nprint('```')\n````", "```python\nother\n```", "```python\nmine\n```"]
    card = "\n".join(["---\na: b\n---\n```bash\npip\n```", *blocks])
    assert reproduce.python_code(card) == "print('```')\n\nother"
    assert reproduce.python_code("# no code\n") is None


def test_code_runs_without_this_toolkit_and_without_the_token(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(reproduce, "READER", reproduce.READER.replace("import peft, transformers", ""))

    def run(code):
        with reproduce.reader() as waiting:
            return reproduce.run_code(waiting, code, REPO, "c" * 40)

    said, _ = run(
        "import os\nprint(os.environ.get('HF_TOKEN'), os.environ['HF_HUB_OFFLINE'], '피카츄', 'sys' in globals())"
    )
    assert said == "None 1 피카츄 False"
    failed, last = run("import toolkit")
    assert failed is None
    assert "toolkit" in last
    assert (tmp_path / "models--demo--namer" / "refs" / "main").read_text() == "c" * 40


def test_front_matter_that_the_hub_refuses_is_said_and_nothing_is_sent(endpoint, based):
    card = (based / "README.md").read_text().replace("\n---\n", "\nlicense: [a: b: c\n---\n", 1)
    (based / "README.md").write_text(card)
    with pytest.raises(InputError, match=r"the Hub refuses its card.*Mend README\.md"):
        publish.publish(based, REPO)
    assert HfApi(endpoint=endpoint).list_repo_files(REPO) == [".gitattributes"]
