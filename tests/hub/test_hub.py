"""Publishing: the folder as it is, in one commit, and a verification that can fail."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import HfApi

from support.datasets import build, creatures, from_table, table
from support.hub import REPO, adapter, dataset, endpoint, remembered, rewrite_manifest
from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import file_hashes, read_json, read_jsonl, read_manifest, write_jsonl, write_manifest
from toolkit.core.layout import TINY_BASE_ID, VALIDATION
from toolkit.hub import publish, verify
from toolkit.hub.local.serve import running_hub
from toolkit.hub.publish import PublishOptions
from toolkit.model import base as bases

__all__ = ["adapter", "dataset", "endpoint", "remembered"]


def test_a_dataset_goes_up_in_one_commit_and_only_when_it_changed(endpoint, dataset):
    api = HfApi(endpoint=endpoint)
    assert {change.state for change in publish.prepare_dataset(dataset, "demo/names").changes} == {"new"}
    first = publish.push_dataset(dataset, "demo/names", PublishOptions(tag="v1"))
    commits = len(api.list_repo_commits("demo/names", repo_type="dataset"))
    again = publish.push_dataset(dataset, "demo/names", PublishOptions(tag="v1"))
    assert (first.changed, again.changed) == (True, False)
    assert first.revision == again.revision == api.dataset_info("demo/names", revision="v1").sha
    assert (first.url, first.private) == (f"{endpoint}/datasets/demo/names", False)
    assert len(api.list_repo_commits("demo/names", repo_type="dataset")) == commits
    on_hub = set(api.list_repo_files("demo/names", repo_type="dataset"))
    assert on_hub - {".gitattributes"} == {"manifest.json", "validation.json", *file_hashes(dataset)}
    assert {"figures/lengths.png", "README.md"} <= on_hub


def test_a_file_that_left_the_folder_leaves_the_repository(endpoint, dataset):
    publish.push_dataset(dataset, "demo/names")
    (dataset / "figures" / "lengths.png").unlink()
    rewrite_manifest(dataset, "dataset")
    publish.push_dataset(dataset, "demo/names")
    on_hub = HfApi(endpoint=endpoint).list_repo_files("demo/names", repo_type="dataset")
    assert "figures/lengths.png" not in on_hub


def test_an_option_that_would_be_ignored_is_refused():
    with pytest.raises(InputError, match="Publishing a dataset does not use `base_repo`, `space`"):
        publish.push_dataset("data", "demo/names", PublishOptions(space="demo/page", base_repo="demo/base"))
    with pytest.raises(InputError, match="Publishing an adapter does not use `force`"):
        publish.publish("adapter", REPO, PublishOptions(force=True))


@pytest.fixture
def leaking(dataset):
    """A dataset with a row whose prompt says the answer."""
    file = dataset / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[0]["messages"][0]["content"] += f" {rows[0]['answer']}"
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    rewrite_manifest(dataset, "dataset")
    return dataset


def test_a_dataset_that_fails_validation_is_refused_and_nothing_is_created(endpoint, leaking):
    with pytest.raises(InputError, match=r"does not pass validation \(leak\.own-name\).*`force`"):
        publish.push_dataset(leaking, "demo/names")
    assert not list(HfApi(endpoint=endpoint).list_datasets())


def test_a_dataset_that_is_pushed_by_force_says_in_its_card_that_it_fails(endpoint, leaking):
    publish.push_dataset(leaking, "demo/names", PublishOptions(force=True))
    card = HfApi(endpoint=endpoint).hf_hub_download("demo/names", "README.md", repo_type="dataset")
    text = Path(card).read_text(encoding="utf-8")
    assert "Does NOT pass" in text
    assert "leak.own-name" in text
    assert not read_json(leaking / VALIDATION)["ok"]


def test_publishing_writes_base_and_dataset_commits_into_what_is_published(endpoint, adapter, dataset):
    base = publish.push_tiny_base()
    names = publish.push_dataset(dataset, "demo/names")
    published = publish.publish(adapter, REPO, PublishOptions(dataset_repo="demo/names"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (TINY_BASE_ID, base.revision)
    manifest = read_manifest(adapter, "adapter")
    assert (manifest["dataset"]["id"], manifest["dataset"]["revision"]) == ("demo/names", names.revision)
    card = (adapter / "README.md").read_text()
    assert REPO in card
    assert base.revision[:7] in card
    assert published.revision == HfApi(endpoint=endpoint).model_info(REPO).sha
    (result,) = HfApi(endpoint=endpoint).model_info(REPO, expand=["evalResults"]).eval_results
    assert (result.dataset_id, result.dataset_revision, result.task_id) == ("demo/names", names.revision, "naming")
    exact = read_json(adapter / "evaluation.json")["test"]["methods"]["adapter"]["exact"]["value"]
    assert result.value == pytest.approx(exact, abs=1e-4)
    task = HfApi(endpoint=endpoint).hf_hub_download("demo/names", "eval.yaml", repo_type="dataset")
    assert yaml.safe_load(Path(task).read_text(encoding="utf-8"))["tasks"][0]["id"] == result.task_id
    assert len(HfApi(endpoint=endpoint).list_repo_commits(REPO)) == 2  # the empty repository, and this


def test_no_result_is_published_in_a_dataset_that_is_no_benchmark_on_the_hub(endpoint, adapter, dataset):
    publish.push_tiny_base()
    publish.push_dataset(dataset, "demo/names")
    HfApi(endpoint=endpoint).delete_file("eval.yaml", "demo/names", repo_type="dataset")
    publish.publish(adapter, REPO, PublishOptions(dataset_repo="demo/names"))
    assert not HfApi(endpoint=endpoint).model_info(REPO, expand=["evalResults"]).eval_results


def test_an_adapter_that_was_never_evaluated_is_refused(endpoint, adapter):
    (adapter / "evaluation.json").unlink()
    with pytest.raises(InputError, match="never evaluated"):
        publish.publish(adapter, REPO)


def test_a_base_that_is_not_on_the_hub_is_named(endpoint, adapter):
    with pytest.raises(HubError, match=f"The base {TINY_BASE_ID} does not exist"):
        publish.publish(adapter, REPO)


def test_another_dataset_than_the_one_trained_on_is_refused(endpoint, adapter, tmp_path):
    publish.push_tiny_base()
    other = build(tmp_path / "other", from_table(table(tmp_path, creatures(8)))).path
    write_manifest(other, "dataset", {"sources": []})
    publish.push_dataset(other, "demo/other")
    with pytest.raises(InputError, match="is not the one that this adapter was trained on"):
        publish.publish(adapter, REPO, PublishOptions(dataset_repo="demo/other"))


def test_an_adapter_published_on_one_hub_can_go_to_another(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    revisions = []
    for name in ("one", "two"):
        with running_hub(tmp_path / name) as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            if name == "two":  # so that the base has another commit there
                HfApi(endpoint=url).create_repo(TINY_BASE_ID)
                manifest = bases.tiny_base_folder() / "manifest.json"
                HfApi(endpoint=url).upload_file(
                    path_or_fileobj=manifest, path_in_repo=manifest.name, repo_id=TINY_BASE_ID
                )
            revisions.append(publish.push_tiny_base().revision)
            publish.publish(adapter, REPO)
            assert read_manifest(adapter, "adapter")["base"]["revision"] == revisions[-1]
            assert url not in "".join(path.read_text() for path in adapter.glob("*.json"))
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
    with pytest.raises(HubError, match=r"holds files that pkt did not write.*Choose another repository") as told:
        publish.push_dataset(dataset, "demo/names")
    assert "notes.md" in str(told.value)
    assert set(api.list_repo_files("demo/names", repo_type="dataset")) - {".gitattributes"} == set(files)


@pytest.mark.parametrize("manifest", [None, b"no JSON", b"[]", b'{"kind": "dataset"}'])
def test_a_dataset_repository_without_a_manifest_of_pkt_is_named(endpoint, adapter, manifest):
    publish.push_tiny_base()
    api = HfApi(endpoint=endpoint)
    api.create_repo("demo/raw", repo_type="dataset")
    if manifest:
        api.upload_file(path_or_fileobj=manifest, path_in_repo="manifest.json", repo_id="demo/raw", repo_type="dataset")
    with pytest.raises(InputError, match="demo/raw was not published by pkt"):
        publish.publish(adapter, REPO, PublishOptions(dataset_repo="demo/raw"))


@pytest.mark.parametrize("empty", ["files", "samples"])
def test_what_claims_nothing_is_not_verified(endpoint, adapter, empty):
    publish.push_tiny_base()
    if empty == "samples":
        (adapter / "samples.jsonl").write_text("")
        rewrite_manifest(adapter, "adapter")
    publish.publish(adapter, REPO)
    if empty == "files":
        manifest = json.dumps(read_manifest(adapter, "adapter") | {"files": {}}).encode()
        HfApi(endpoint=endpoint).upload_file(path_or_fileobj=manifest, path_in_repo="manifest.json", repo_id=REPO)
    with pytest.raises(InputError, match=r"cannot be verified: there is nothing to compare"):
        verify.verify(REPO)


def test_what_was_published_is_verified_and_a_lie_is_found(endpoint, adapter):
    publish.push_tiny_base()
    publish.publish(adapter, REPO)
    verification = verify.verify(REPO)
    assert verification.ok, verification.differences
    assert verification.samples == len(read_jsonl(adapter / "samples.jsonl"))
    first, *rest, last = read_jsonl(adapter / "samples.jsonl")
    first["greedy"], last["new_names"][0] = "Nobody said this", "Nobody drew this"
    write_jsonl(adapter / "samples.jsonl", [first, *rest, last])
    HfApi(endpoint=endpoint).upload_file(
        path_or_fileobj=adapter / "samples.jsonl", path_in_repo="samples.jsonl", repo_id=REPO
    )
    verification = verify.verify(REPO)
    assert not verification.ok
    for lie in ("Nobody said this", "Nobody drew this"):
        assert any(lie in difference for difference in verification.differences)
    assert "samples.jsonl: not the file that the manifest names" in verification.differences


def test_a_folder_of_the_working_directory_is_not_what_is_verified(endpoint, adapter, tmp_path, monkeypatch):
    publish.push_tiny_base()
    publish.publish(adapter, REPO)
    (tmp_path / "here" / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert verify.verify(REPO).ok


def test_a_repository_that_this_toolkit_did_not_publish_can_not_be_verified(endpoint):
    api = HfApi(endpoint=endpoint)
    api.create_repo("demo/stranger")
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        verify.verify("demo/stranger")


def test_a_repository_that_does_not_exist_is_named(endpoint):
    with pytest.raises(HubError, match="demo/nothing does not exist"):
        verify.verify("demo/nothing")


def test_the_clean_process_reaches_the_hub_as_this_one_does_and_gets_no_stray_environment(endpoint, monkeypatch):
    seen = {}

    def look(command, env, **_):
        seen.update(env)
        raise InputError("looked", "enough")

    kept = ("HTTP_PROXY", "https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "CUDA_VISIBLE_DEVICES")
    HfApi(endpoint=endpoint).create_repo("demo/stranger")
    monkeypatch.setattr(verify.subprocess, "run", look)
    monkeypatch.setattr(verify, "hub", lambda: HfApi(endpoint=endpoint))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    for name in kept:
        monkeypatch.setenv(name, "127.0.0.1" if name == "no_proxy" else "http://127.0.0.1:1")
    with pytest.raises(InputError, match="looked"):
        verify.verify("demo/stranger")
    assert set(kept) <= set(seen)
    assert "SECRET_OF_THE_USER" not in seen
    assert seen["HF_HOME"] != os.environ.get("HF_HOME")


def test_a_new_repository_is_private_until_it_was_verified(endpoint, adapter, remembered, monkeypatch):
    publish.push_tiny_base()
    seen = []

    def check(repo_id, revision):
        info = HfApi(endpoint=endpoint).model_info(repo_id, revision=revision)
        seen.append((info.private, len(list(remembered.iterdir()))))

    monkeypatch.setattr(publish, "verify_or_raise", check)
    published = publish.publish(adapter, REPO, PublishOptions(tag="v1"))
    info = HfApi(endpoint=endpoint).model_info(REPO, revision="v1")
    assert seen == [(True, 1)]
    assert (info.private, info.sha, published.private) == (False, published.revision, False)
    assert list(remembered.iterdir()) == []
    assert not publish.publish(adapter, "demo/unchecked", verify=False).private
    assert len(seen) == 1


def test_what_fails_its_check_stays_private_and_the_same_command_checks_again(endpoint, adapter):
    publish.push_tiny_base()
    api, checked = HfApi(endpoint=endpoint), []

    def interrupt(repo_id, revision):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            publish.publish(adapter, REPO, PublishOptions(tag="v1"), verify=interrupt)
        assert api.model_info(REPO).private
        assert not api.list_repo_refs(REPO).tags
    published = publish.publish(adapter, REPO, PublishOptions(tag="v1"), verify=lambda *what: checked.append(what))
    assert checked == [(REPO, published.revision)]
    assert (api.model_info(REPO).private, published.changed) == (False, False)
    assert [tag.name for tag in api.list_repo_refs(REPO).tags] == ["v1"]
    publish.publish(adapter, REPO, verify=lambda *what: checked.append(what))
    assert len(checked) == 1


def test_private_means_private_and_a_later_publication_does_not_open_it(endpoint, adapter):
    publish.push_tiny_base()
    api = HfApi(endpoint=endpoint)
    assert publish.publish(adapter, REPO, PublishOptions(private=True)).private
    again = publish.publish(adapter, REPO)
    assert again.private
    assert "was private and stays so" in again.notes[0]
    assert api.model_info(REPO).private
    shown = publish.publish(adapter, REPO, PublishOptions(private=False))
    assert (shown.private, shown.notes) == (False, [f"{REPO} is public now."])
    assert not api.model_info(REPO).private
    publish.publish(adapter, REPO, PublishOptions(private=True))
    assert api.model_info(REPO).private


def test_an_empty_private_repository_of_the_user_stays_private(endpoint, adapter):
    publish.push_tiny_base()
    HfApi(endpoint=endpoint).create_repo(REPO, private=True)
    assert publish.publish(adapter, REPO).private


def test_a_plan_says_of_each_file_what_would_become_of_it(endpoint, adapter):
    publish.push_tiny_base()
    first = publish.prepare_adapter(adapter, REPO)
    assert {change.state for change in first.changes} == {"new"}
    assert not HfApi(endpoint=endpoint).repo_exists(REPO)
    publish.publish(adapter, REPO)
    assert {change.state for change in publish.prepare_adapter(adapter, REPO).changes} == {"same"}
    api = HfApi(endpoint=endpoint)
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=REPO)
    (adapter / "answers.json").unlink()
    with (adapter / "training_log.jsonl").open("a") as log:
        log.write("\n")
    (adapter / "fresh.json").write_text("{}")
    rewrite_manifest(adapter, "adapter")
    plan = publish.prepare_adapter(adapter, REPO)
    found = {change.name: change.state for change in plan.changes if change.state != "same"}
    assert found == {
        "answers.json": "deleted",
        "training_log.jsonl": "changed",
        "fresh.json": "new",
        "manifest.json": "changed",
        "notes.txt": "kept",
    }
    publish.publish(adapter, REPO)
    there = api.list_repo_files(REPO)
    assert "notes.txt" in there
    assert "answers.json" not in there


@pytest.mark.parametrize("tag", ["bad tag", "-x", "v1.lock", "a..b", "v1.", "a~b"])
def test_what_is_no_name_of_a_tag_is_refused_before_anything_is_uploaded(endpoint, adapter, tag):
    publish.push_tiny_base()
    with pytest.raises(InputError, match="is no name for a tag"):
        publish.publish(adapter, REPO, PublishOptions(tag=tag))
    assert not HfApi(endpoint=endpoint).repo_exists(REPO)


def test_an_id_without_an_owner_is_refused_before_anything_is_made(endpoint, adapter):
    with pytest.raises(InputError, match="namer is not a Hub id"):
        publish.publish(adapter, "namer")
    assert list(HfApi(endpoint=endpoint).list_models()) == []


def test_a_tag_that_names_another_commit_is_refused_before_anything_is_uploaded(endpoint, adapter):
    publish.push_tiny_base()
    first = publish.publish(adapter, REPO, PublishOptions(tag="v1"))
    assert publish.publish(adapter, REPO, PublishOptions(tag="v1")).revision == first.revision
    (adapter / "fresh.json").write_text("{}")
    rewrite_manifest(adapter, "adapter")
    with pytest.raises(InputError, match=rf"has a tag v1 already, at {first.revision[:12]}"):
        publish.publish(adapter, REPO, PublishOptions(tag="v1"))
    assert HfApi(endpoint=endpoint).model_info(REPO).sha == first.revision


def test_all_files_of_the_manifest_go_up_and_the_others_are_named_and_stay(endpoint, adapter):
    publish.push_tiny_base()
    written = set(file_hashes(adapter))
    for name in ("training_args.bin", "notes.txt", "figures/mine.png", "secret.json", "checkpoint-3/optimizer.pt"):
        (adapter / name).parent.mkdir(exist_ok=True)
        (adapter / name).write_bytes(b"\x80\x04mine")
    plan = publish.prepare_adapter(adapter, REPO)
    assert set(plan.left) == {
        "training_args.bin", "notes.txt", "figures/mine.png", "secret.json", "checkpoint-3/optimizer.pt"
    }  # fmt: skip
    publish.publish(adapter, REPO)
    there = set(HfApi(endpoint=endpoint).list_repo_files(REPO)) - {".gitattributes"}
    assert there == {"manifest.json", *read_manifest(adapter, "adapter")["files"]}
    assert written <= there
    assert (adapter / "notes.txt").is_file()


def test_a_file_that_was_changed_after_its_step_is_refused(endpoint, adapter):
    (adapter / "samples.jsonl").write_text("")
    with pytest.raises(InputError, match=r"samples\.jsonl is not the file that the manifest names"):
        publish.publish(adapter, REPO)
