"""Publishing: the folder as it is, in one commit, and a verification that can fail."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from test_build import creatures, from_table, table
from test_train import recipe

from toolkit import evaluate, hub, tiny, train, verify
from toolkit.build import build_dataset
from toolkit.errors import HubError, InputError
from toolkit.folder import VALIDATION, file_hashes, manifest_facts, read_json, read_jsonl, read_manifest, write_manifest
from toolkit.local_hub.serve import running_hub
from toolkit.recipe import DatasetSettings, SourceSettings
from toolkit.rows import locate_dataset
from toolkit.sources import read_records

REPO = "demo/namer"


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    """A running local Hub that this process and its children talk to."""
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An evaluated adapter on the tiny base that ships, and its dataset."""
    folder = tmp_path_factory.mktemp("made")
    build_dataset(folder / "dataset", from_table(table(folder, creatures()), unseen_size=0.2), 7, "test")
    dataset = locate_dataset(str(folder / "dataset"))
    settings = recipe(tiny.BASE_ID, training__max_steps=2)
    train.train(dataset, folder / "adapter", settings)
    evaluate.evaluate(folder / "adapter", dataset, settings.evaluation, settings.decoding, 7)
    return folder


@pytest.fixture
def adapter(made, tmp_path):
    return shutil.copytree(made / "adapter", tmp_path / "adapter")


@pytest.fixture
def dataset(made, tmp_path):
    return shutil.copytree(made / "dataset", tmp_path / "dataset")


def test_a_dataset_goes_up_in_one_commit_and_only_when_it_changed(endpoint, dataset):
    api = HfApi(endpoint=endpoint)
    first = hub.push_dataset(dataset, "demo/names")
    commits = len(api.list_repo_commits("demo/names", repo_type="dataset"))
    again = hub.push_dataset(dataset, "demo/names")
    assert (first.changed, again.changed) == (True, False)
    assert first.revision == again.revision
    assert len(api.list_repo_commits("demo/names", repo_type="dataset")) == commits
    on_hub = set(api.list_repo_files("demo/names", repo_type="dataset"))
    assert on_hub - {".gitattributes"} == {"manifest.json", "validation.json", *file_hashes(dataset)}
    assert {"figures/lengths.png", "README.md"} <= on_hub


def test_a_file_that_left_the_folder_leaves_the_repository(endpoint, dataset):
    hub.push_dataset(dataset, "demo/names")
    (dataset / "figures" / "lengths.png").unlink()
    hub.push_dataset(dataset, "demo/names")
    on_hub = HfApi(endpoint=endpoint).list_repo_files("demo/names", repo_type="dataset")
    assert "figures/lengths.png" not in on_hub


@pytest.fixture
def leaking(dataset):
    """A dataset with a row whose prompt says the answer."""
    file = dataset / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[0]["messages"][0]["content"] += f" {rows[0]['answer']}"
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    write_manifest(dataset, "dataset", manifest_facts(read_manifest(dataset, "dataset")))
    return dataset


def test_a_dataset_that_fails_validation_is_refused_and_nothing_is_created(endpoint, leaking):
    with pytest.raises(InputError, match=r"does not pass validation \(leak\.own-name\).*--force"):
        hub.push_dataset(leaking, "demo/names")
    assert not list(HfApi(endpoint=endpoint).list_datasets())


def test_a_dataset_that_is_pushed_by_force_says_in_its_card_that_it_fails(endpoint, leaking):
    hub.push_dataset(leaking, "demo/names", force=True)
    card = HfApi(endpoint=endpoint).hf_hub_download("demo/names", "README.md", repo_type="dataset")
    text = Path(card).read_text(encoding="utf-8")
    assert "Does NOT pass" in text
    assert "leak.own-name" in text
    assert not read_json(leaking / VALIDATION)["ok"]


def test_publishing_writes_base_and_dataset_commits_into_what_is_published(endpoint, adapter, dataset):
    base = hub.push_tiny_base()
    names = hub.push_dataset(dataset, "demo/names")
    published = hub.publish(adapter, REPO, dataset_repo="demo/names")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (tiny.BASE_ID, base.revision)
    manifest = read_manifest(adapter, "adapter")
    assert (manifest["dataset"]["id"], manifest["dataset"]["revision"]) == ("demo/names", names.revision)
    card = (adapter / "README.md").read_text()
    assert REPO in card
    assert base.revision[:7] in card
    assert published.revision == HfApi(endpoint=endpoint).model_info(REPO).sha
    assert len(HfApi(endpoint=endpoint).list_repo_commits(REPO)) == 2  # the empty repository, and this


def test_a_stray_pickle_is_never_published(endpoint, adapter):
    hub.push_tiny_base()
    (adapter / "training_args.bin").write_bytes(b"pickle")
    hub.publish(adapter, REPO)
    assert "training_args.bin" not in HfApi(endpoint=endpoint).list_repo_files(REPO)


def test_an_adapter_that_was_never_evaluated_is_refused(endpoint, adapter):
    (adapter / "evaluation.json").unlink()
    with pytest.raises(InputError, match="never evaluated"):
        hub.publish(adapter, REPO)


def test_a_base_that_is_not_on_the_hub_is_named(endpoint, adapter):
    with pytest.raises(HubError, match=f"The base {tiny.BASE_ID} does not exist"):
        hub.publish(adapter, REPO)


def test_another_dataset_than_the_one_trained_on_is_refused(endpoint, adapter, tmp_path):
    hub.push_tiny_base()
    other = build_dataset(tmp_path / "other", from_table(table(tmp_path, creatures(8))), 7, "test").path
    write_manifest(other, "dataset", {"sources": []})
    hub.push_dataset(other, "demo/other")
    with pytest.raises(InputError, match="is not the one that this adapter was trained on"):
        hub.publish(adapter, REPO, dataset_repo="demo/other")


def test_an_adapter_published_on_one_hub_can_go_to_another(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    revisions = []
    for name in ("one", "two"):
        with running_hub(tmp_path / name) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            if name == "two":  # so that the base has another commit there
                HfApi(endpoint=url).create_repo(tiny.BASE_ID)
                manifest = tiny.base_folder() / "manifest.json"
                HfApi(endpoint=url).upload_file(
                    path_or_fileobj=manifest, path_in_repo=manifest.name, repo_id=tiny.BASE_ID
                )
            revisions.append(hub.push_tiny_base().revision)
            hub.publish(adapter, REPO)
            assert read_manifest(adapter, "adapter")["base"]["revision"] == revisions[-1]
    assert revisions[0] != revisions[1]


@pytest.mark.parametrize(
    "manifest", [None, b"no JSON", b'{"name": "web app"}', b'{"kind": "adapter", "toolkit": "0.1.0"}']
)
def test_a_repository_with_somebody_elses_files_is_refused_and_kept(endpoint, dataset, manifest):
    api = HfApi(endpoint=endpoint)
    api.create_repo("demo/names", repo_type="dataset")
    files = {"notes.md": b"mine", "raw.csv": b"a,b"} | ({"manifest.json": manifest} if manifest else {})
    for name, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="demo/names", repo_type="dataset")
    with pytest.raises(HubError, match=r"holds files that pkt did not write.*Choose another REPO_ID") as told:
        hub.push_dataset(dataset, "demo/names")
    assert "notes.md" in str(told.value)
    assert set(api.list_repo_files("demo/names", repo_type="dataset")) - {".gitattributes"} == set(files)


@pytest.mark.parametrize("manifest", [None, b"no JSON", b"[]", b'{"kind": "dataset"}'])
def test_a_dataset_repository_without_a_manifest_of_pkt_is_named(endpoint, adapter, manifest):
    hub.push_tiny_base()
    api = HfApi(endpoint=endpoint)
    api.create_repo("demo/raw", repo_type="dataset")
    if manifest:
        api.upload_file(path_or_fileobj=manifest, path_in_repo="manifest.json", repo_id="demo/raw", repo_type="dataset")
    with pytest.raises(InputError, match="demo/raw was not pushed by pkt"):
        hub.publish(adapter, REPO, dataset_repo="demo/raw")


@pytest.mark.parametrize("empty", ["files", "samples"])
def test_what_claims_nothing_is_not_verified(endpoint, adapter, empty):
    hub.push_tiny_base()
    if empty == "samples":
        (adapter / "samples.jsonl").write_text("")
    hub.publish(adapter, REPO)
    if empty == "files":
        manifest = json.dumps(read_manifest(adapter, "adapter") | {"files": {}}).encode()
        HfApi(endpoint=endpoint).upload_file(path_or_fileobj=manifest, path_in_repo="manifest.json", repo_id=REPO)
    with pytest.raises(InputError, match=r"can not be verified: .* nothing to compare"):
        verify.verify(REPO)


def test_what_was_published_is_verified_and_a_lie_is_found(endpoint, adapter):
    hub.push_tiny_base()
    hub.publish(adapter, REPO)
    verification = verify.verify(REPO)
    assert verification.ok, verification.differences
    assert verification.samples == len(read_jsonl(adapter / "samples.jsonl"))
    line, *rest = (adapter / "samples.jsonl").read_text().split("\n")
    sample = json.loads(line) | {"greedy": "Nobody said this"}
    (adapter / "samples.jsonl").write_text("\n".join([json.dumps(sample), *rest]))
    HfApi(endpoint=endpoint).upload_file(
        path_or_fileobj=adapter / "samples.jsonl", path_in_repo="samples.jsonl", repo_id=REPO
    )
    verification = verify.verify(REPO)
    assert not verification.ok
    assert any("Nobody said this" in difference for difference in verification.differences)
    assert "samples.jsonl: not the file that the manifest names" in verification.differences


def test_a_folder_of_the_working_directory_is_not_what_is_verified(endpoint, adapter, tmp_path, monkeypatch):
    hub.push_tiny_base()
    hub.publish(adapter, REPO)
    (tmp_path / "here" / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert verify.verify(REPO).ok


def test_a_repository_that_this_toolkit_did_not_publish_can_not_be_verified(endpoint):
    api = HfApi(endpoint=endpoint)
    api.create_repo("demo/stranger")
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        verify.verify("demo/stranger")


def test_the_source_hub_asks_the_chosen_hub(endpoint):
    with pytest.raises(HubError, match=f"demo/nothing does not exist on {endpoint}"):
        read_records(DatasetSettings(sources=[SourceSettings(name="hub", location="demo/nothing")]))


def test_a_repository_that_does_not_exist_is_named(endpoint):
    with pytest.raises(HubError, match="demo/nothing does not exist"):
        verify.verify("demo/nothing")


def test_the_clean_process_gets_no_stray_environment(endpoint, monkeypatch):
    seen = {}

    def look(command, env, **_):
        seen.update(env)
        raise InputError("looked", "enough")

    HfApi(endpoint=endpoint).create_repo("demo/stranger")
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    monkeypatch.setattr(verify.subprocess, "run", look)
    with pytest.raises(InputError, match="looked"):
        verify.verify("demo/stranger")
    assert "SECRET_OF_THE_USER" not in seen
    assert seen["HF_HOME"] != os.environ.get("HF_HOME")


KEPT = ("HTTP_PROXY", "https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "CUDA_VISIBLE_DEVICES")


def test_the_clean_process_reaches_the_hub_as_this_one_does(endpoint, monkeypatch):
    seen = {}

    def look(command, env, **_):
        seen.update(env)
        raise InputError("looked", "enough")

    HfApi(endpoint=endpoint).create_repo("demo/stranger")
    monkeypatch.setattr(verify.subprocess, "run", look)
    monkeypatch.setattr(verify, "hub", lambda: HfApi(endpoint=endpoint))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in KEPT:
        monkeypatch.setenv(name, "127.0.0.1" if name == "no_proxy" else "http://127.0.0.1:1")
    with pytest.raises(InputError, match="looked"):
        verify.verify("demo/stranger")
    assert set(KEPT) <= set(seen)
