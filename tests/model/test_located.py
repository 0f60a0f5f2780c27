"""An adapter wherever it lies, on the base that it names or that is given: what is fetched, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from support.adapters import make_adapter
from support.hub import endpoint  # noqa: F401 (a fixture)
from toolkit.core.errors import HubError, InputError
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TINY_BASE_ID
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model.chat_template import default_template, read_format

LEFT_OUT = {
    "checkpoint-10/adapter_config.json": b"{}",
    "checkpoint-10/optimizer.pt": b"0",
    "training_args.bin": b"0",
    "model.safetensors": b"0",
    "model-q4.gguf": b"0",
    "adapter_model.bin": b"0",
    "tokenizers/x.json": b"0",
}


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "adapter", small_base)


@pytest.fixture
def pushed(tmp_path, adapter, monkeypatch, endpoint):  # noqa: F811
    """Makes a repository of files, and of the adapter in the given folders of it."""
    from huggingface_hub import CommitOperationAdd, HfApi

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def push(repo_id, files, folders=()):
        HfApi(endpoint=endpoint).create_repo(repo_id, exist_ok=True)
        there = {f"{folder}{file.name}": file for folder in folders for file in adapter.iterdir()}
        adds = [CommitOperationAdd(name, content) for name, content in (files | there).items()]
        HfApi(endpoint=endpoint).create_commit(repo_id, adds, commit_message="files")

    return push


def fetched(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_only_the_files_of_the_adapter_are_fetched_and_they_serve_without_the_hub(pushed, adapter, monkeypatch, caplog):
    pushed("u/trained", LEFT_OUT, [""])
    caplog.set_level("INFO", "toolkit")
    folder = adapters.locate_adapter("u/trained")
    assert caplog.messages == ["Downloading the adapter u/trained."]
    assert fetched(folder) == {file.name for file in adapter.iterdir()}
    assert adapters.locate_base_of(folder, "none").id == TINY_BASE_ID
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert adapters.locate_adapter("u/trained") == folder
    assert len(caplog.messages) == 1
    with pytest.raises(HubError, match="cannot be reached, and the adapter u/trained is not in the cache"):
        adapters.locate_adapter("u/trained/checkpoint-10")


@pytest.mark.parametrize("within", ["lora", "runs/2024/lora", "checkpoint-10"])
def test_an_adapter_in_a_folder_of_its_repository_is_read_there(pushed, adapter, within):
    pushed("u/nested", {f"{within}/checkpoint-5/{name}": content for name, content in LEFT_OUT.items()}, [f"{within}/"])
    folder = adapters.locate_adapter(f"u/nested/{within}")
    assert fetched(folder) == {file.name for file in adapter.iterdir()}
    assert fetched(folder) == {name.removeprefix(f"{within}/") for name in fetched(folder.parents[within.count("/")])}
    Path(f"u/nested/{within}").mkdir(parents=True)
    with pytest.raises(InputError, match="no adapter"):
        adapters.locate_adapter(f"u/nested/{within}")


def test_a_revision_is_a_branch_a_tag_or_a_commit_of_a_repository(pushed, adapter, endpoint):  # noqa: F811
    from huggingface_hub import HfApi

    pushed("u/revised", {}, [""])
    hub = HfApi(endpoint=endpoint)
    hub.create_tag("u/revised", tag="v1")
    commit = hub.model_info("u/revised").sha
    hub.delete_file(ADAPTER_CONFIG, "u/revised")
    for revision in ("v1", commit):
        assert adapters.locate_adapter("u/revised", revision).name == commit
    with pytest.raises(InputError, match="no adapter"):
        adapters.locate_adapter("u/revised", "main")
    with pytest.raises(HubError, match="has no such revision"):
        adapters.locate_adapter("u/revised", "v2")
    with pytest.raises(InputError, match=r"a folder on this machine, which has no revisions\. Leave out `revision`"):
        adapters.locate_adapter(str(adapter), "v1")


@pytest.mark.parametrize(
    ("files", "folders", "within", "said"),
    [
        ({"notes.txt": b"#"}, ["lora/"], "", r"u/r holds adapters in other places: lora\. .* such as u/r/lora\."),
        ({}, ["out/lora/"], "/out", r"u/r/out holds adapters .*: lora\. .* such as u/r/out/lora\."),
        ({}, ["a/", "b/c/"], "", r"u/r holds adapters in other places: a, b/c\. Name one of them, such as u/r/a\."),
        ({}, ["lora/"], "/lara", r"u/r has no folder lara, and u/r holds adapters in other places: lora"),
        ({}, [""], "/lora", r"u/r has no folder lora, and .* its top\. .* such as u/r\."),
        ({ADAPTER_WEIGHTS: b"0"}, [], "", r"u/r holds no adapter \(no adapter_config\.json\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_hub", [True, False], ids=["Hub", "folder"])
def test_what_holds_no_adapter_is_refused_before_a_download(pushed, adapter, files, folders, within, said, on_hub):
    if on_hub:
        pushed("u/r", files | {".gitattributes": b""}, folders)
    elif "no folder" in said:
        pytest.skip("a folder that is not there is taken for a repository")
    else:
        Path("u/r").mkdir(parents=True)
        for name, content in files.items():
            (Path("u/r") / name).parent.mkdir(parents=True, exist_ok=True)
            (Path("u/r") / name).write_bytes(content)
        for folder in folders:
            shutil.copytree(adapter, Path("u/r") / folder)
    with pytest.raises(InputError, match=said):
        adapters.locate_adapter(f"u/r{within}")
    assert not list(Path("cache").glob("models--u--r/snapshots"))


def test_a_name_of_nothing_is_said_to_be_that(pushed):
    with pytest.raises(HubError, match="There is no folder u/nothing/a, and the adapter u/nothing does not exist"):
        adapters.locate_adapter("u/nothing/a")
    for name in ("adapter", "/tmp/none", "./u/r", "u/r/../a", "u//r", "u/r//a", "https://huggingface.co/u/r"):
        shutil.rmtree("adapter", ignore_errors=True)
        with pytest.raises(InputError, match=rf"There is no adapter folder {name}\."):
            adapters.locate_adapter(name)


# Tokenizers and templates.

OWN = "{{ bos_token }}own: {{ messages[0].content }}"


@pytest.mark.parametrize(
    ("in_config", "in_file", "has_tokenizer", "used"),
    [
        (None, OWN, True, "own"),
        (OWN, None, True, "own"),
        ([{"name": "default", "template": OWN}, {"name": "rag", "template": "{{ 1 }}"}], None, True, "own"),
        ([{"name": "rag", "template": OWN}], None, True, "base's"),
        (None, None, True, "base's"),
        (None, None, False, "base's"),
        (None, OWN, False, "own"),
    ],
)
def test_a_template_is_the_adapters_own_else_its_bases(adapter, small_base, in_config, in_file, has_tokenizer, used):
    (adapter / "chat_template.jinja").unlink()
    config = json.loads((adapter / "tokenizer_config.json").read_text())
    (adapter / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": in_config}))
    if in_file is not None:
        (adapter / "chat_template.jinja").write_text(in_file)
    if not has_tokenizer:
        for file in adapter.glob("tokenizer*"):
            file.unlink()
    loaded = adapters.adapter_tokenizer(adapter, bases.LocatedBase("a/b", None, small_base))
    bases_own = (small_base / "chat_template.jinja").read_text()
    assert default_template(loaded) == {"own": OWN, "base's": bases_own}[used]


def test_where_neither_has_a_template_there_is_none(tmp_path, adapter, small_base):
    base = shutil.copytree(small_base, tmp_path / "base")
    for folder in (adapter, base):
        (folder / "chat_template.jinja").unlink()
    loaded = adapters.adapter_tokenizer(adapter, bases.LocatedBase("a/b", None, base))
    with pytest.raises(InputError, match=r"no chat template\..*instruction-tuned base, or put the template of the tra"):
        read_format(loaded)


# Bases.


def naming(adapter, base, **more):
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": base} | more))
    return adapter


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("/data/models/gemma-2b", "Give its Hub id or its folder.$"),
        ("D:\\models\\gemma", "Give its Hub id or its folder.$"),
        ("models/google/gemma-2b", "Give its Hub id or its folder.$"),
        ("/home/ana/.cache/hub/models--google--gemma-2b/snapshots/2ac5", 'likely `base="google/gemma-2b@2ac5"`'),
        ("C:\\Users\\a\\hub\\models--google--gemma-2b\\snapshots\\2ac5\\", 'likely `base="google/gemma-2b@2ac5"`'),
    ],
)  # fmt: skip
def test_a_base_named_by_a_path_of_another_machine_is_told_where_it_stands(adapter, monkeypatch, named, said):
    monkeypatch.chdir(adapter)
    with pytest.raises(InputError) as refused:
        adapters.load_adapter(naming(adapter, named))
    told = f"{adapter / ADAPTER_CONFIG} names the base {named}, which `base` overrules: There is no folder {named} on"
    assert str(refused.value).startswith(told)
    assert refused.match(said.replace("\\", "\\\\") if "\\" in said else said)


@pytest.mark.parametrize("named", [None, ""])
def test_an_adapter_that_names_no_base_stands_on_a_given_one(adapter, named):
    with pytest.raises(InputError, match=r"names no base\. Give its Hub id or its folder as `base`"):
        adapters.load_adapter(naming(adapter, named))
    assert adapters.locate_base_of(adapter, "none", TINY_BASE_ID).id == TINY_BASE_ID


def test_a_base_on_the_hub_that_fails_is_told_with_the_file_that_names_it(pushed, adapter):
    file = adapter / ADAPTER_CONFIG
    with pytest.raises(HubError, match=rf"{file} names the base u/none, .* The base u/none does not exist"):
        adapters.load_adapter(naming(adapter, "u/none"))
    with pytest.raises(HubError, match=r"^The base u/other does not exist"):
        adapters.load_adapter(adapter, base="u/other")


def test_a_base_in_a_folder_serves_and_its_path_stays_here(tmp_path, adapter, small_base, monkeypatch):
    folder = shutil.copytree(small_base, tmp_path / "secret" / "base")
    for named in (str(folder), "./secret/base", "secret/base"):
        monkeypatch.chdir(tmp_path)
        located = adapters.locate_base_of(naming(adapter, named), "none")
        assert (located.id, located.revision) == ("base", None)
    with pytest.raises(InputError, match=r"The base secret/base is a folder"):
        adapters.locate_base_of(naming(adapter, "secret/base", revision="a" * 40), "none")
    naming(adapter, "secret/base", revision=None)
    in_cache = shutil.copytree(small_base, tmp_path / "models--google--small" / "snapshots" / "2ac5")
    for chosen in (adapters.locate_base_of(adapter, "none", str(in_cache)), bases.locate_base_to_load(str(in_cache))):
        assert (chosen.id, chosen.revision) == ("google/small", "2ac5")
    monkeypatch.chdir(adapter)
    one = adapters.answers_hash(naming(adapter, str(folder)), "none")
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}')
    assert adapters.answers_hash(adapter, "none") != one, "the folder's files decide the answers"
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no model"):
        adapters.locate_base_of(adapter, "none")


def test_the_revision_of_the_named_base_is_not_that_of_a_given_one(adapter, monkeypatch):
    asked = []

    def locate(base, revision, **_):
        asked.append((base, revision))
        return bases.LocatedBase(base, revision, adapter)

    monkeypatch.setattr(bases, "locate_base", locate)
    naming(adapter, "google/named", revision="abc")
    for base in (None, "google/named", "google/given", "google/given@v1"):
        adapters.locate_base_of(adapter, "none", base)
    assert asked == [("google/named", "abc"), ("google/named", "abc"), ("google/given", None), ("google/given", "v1")]
