"""`pkt publish` as a user types it, against a local Hub of several users: a gated base, a Space beside the adapter."""

import json
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi

from support.hub import adapter, dataset, remembered
from toolkit import cli
from toolkit.core.folder import read_json
from toolkit.core.layout import TINY_BASE_ID
from toolkit.hub import publish
from toolkit.hub.local.serve import running_hub

__all__ = ["adapter", "dataset", "remembered"]

OWNER = TINY_BASE_ID.partition("/")[0]


@pytest.fixture
def town(tmp_path, monkeypatch):
    """A Hub of the tiny base's owner, who put it there, and of ash and misty."""
    tokens = {f"token-{name}": name for name in (OWNER, "ash", "misty")}
    with running_hub(tmp_path / "hub", tokens=tokens) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", f"token-{OWNER}")
            publish.push_tiny_base()
        yield url


def client(url, user):
    return HfApi(endpoint=url, token=f"token-{user}" if user else False)


def pkt(user, *arguments):
    """Run a command in this process as a user; None is a stranger."""
    with pytest.MonkeyPatch.context() as patch:
        if user:
            patch.setenv("HF_TOKEN", f"token-{user}")
        return CliRunner().invoke(cli.main, [*map(str, arguments)])


def test_a_gated_base_stops_a_publication_and_a_verification(town, adapter):
    owner = client(town, OWNER)
    owner.update_repo_settings(TINY_BASE_ID, gated="manual")
    page = f"{town}/{TINY_BASE_ID}"

    for user, told in (
        ("ash", "with the account of your token"),
        (None, "while logged in, then run `hf auth login`"),
    ):
        refused = pkt(user, "publish", adapter, "ash/namer")
        assert (refused.exit_code, refused.stderr.strip().split("\n")[-1]) == (
            3,
            f"Error: The base {TINY_BASE_ID} is gated. Accept its licence on {page} {told}.",
        )
    assert not client(town, "ash").repo_exists("ash/namer")

    owner.update_repo_settings(TINY_BASE_ID, gated=False)
    published = pkt("ash", "publish", adapter, "ash/namer", "--no-verify", "--json")
    assert published.exit_code == 0, published.stderr
    assert json.loads(published.stdout)["private"] is False

    # Who reads the adapter needs the base too.
    owner.update_repo_settings(TINY_BASE_ID, gated="manual")
    verified = pkt("misty", "verify", "ash/namer")
    assert (verified.exit_code, verified.stderr.strip().split("\n")[-1]) == (
        3,
        f"Error: The model {TINY_BASE_ID}, which the adapter ash/namer needs, is gated. "
        f"Accept its licence on {page} with the account of your token.",
    )


def test_an_adapter_and_its_space_are_published_by_one_command(town, adapter, tmp_path):
    arguments = ("publish", adapter, "ash/namer", "--space", "ash/try-it", "--tag", "v1", "--no-verify")
    done = pkt("ash", *arguments)
    assert done.exit_code == 0, done.stderr
    assert f"The page to try it is {town}/spaces/ash/try-it." in done.stderr

    stranger = client(town, None)
    commit = stranger.model_info("ash/namer", revision="v1").sha
    assert f"{town}/ash/namer is at revision {commit}, tagged v1." in done.stderr
    space = stranger.space_info("ash/try-it")
    assert (space.private, space.card_data["models"], space.card_data["sdk"]) == (False, ["ash/namer"], "gradio")
    named = Path(stranger.hf_hub_download("ash/try-it", "space.json", repo_type="space", local_dir=tmp_path / "space"))
    assert read_json(named) == {"adapter": "ash/namer", "revision": commit}
    assert len(stranger.list_repo_commits("ash/try-it", repo_type="space")) == 2  # the empty repository, and this

    front = httpx2.get(town).text
    assert 'href="/ash/namer"' in front
    assert 'href="/spaces/ash/try-it"' in front
    card = httpx2.get(f"{town}/ash/namer").text
    assert "base_model" in card
    assert "/ash/namer/resolve/main/figures/" in card
    figure = card.partition('src="/ash/namer/resolve/main/figures/')[2].partition('"')[0]
    assert httpx2.get(f"{town}/ash/namer/resolve/main/figures/{figure}").content.startswith(b"\x89PNG")
    page = httpx2.get(f"{town}/spaces/ash/try-it").text
    assert "ash/namer" in page
    assert ">private<" not in page
    assert "import gradio" in httpx2.get(f"{town}/spaces/ash/try-it/blob/main/app.py").text

    again = pkt("ash", *arguments)
    assert f"{town}/ash/namer was already at revision {commit}, tagged v1." in again.stderr
    assert len(stranger.list_repo_commits("ash/try-it", repo_type="space")) == 2


def test_a_space_that_cannot_be_is_refused_before_its_adapter_is_published(town, adapter):
    ash = client(town, "ash")
    ash.create_repo("ash/taken", repo_type="space", space_sdk="static")
    ash.upload_file(repo_id="ash/taken", repo_type="space", path_in_repo="index.html", path_or_fileobj=b"mine")
    for name, code, told in (("try-it", 2, "try-it is not a Hub id"), ("ash/taken", 4, "that pkt did not write")):
        for dry in ((), ("--dry-run",)):
            refused = pkt("ash", "publish", adapter, "ash/namer", "--space", name, "--no-verify", *dry)
            assert (refused.exit_code, told in refused.stderr) == (code, True), refused.stderr
    assert not ash.repo_exists("ash/namer")


def test_a_dry_run_of_a_pull_request_is_compared_with_the_one_that_waits(town, dataset):
    def dry():
        done = pkt("ash", "push-dataset", dataset, "ash/names", "--create-pr", "--dry-run", "--json")
        assert done.exit_code == 0, done.stderr
        plan = json.loads(done.stdout)
        return plan["pull_request"], {each["name"] for each in plan["files"] if each["state"] != "same"}

    refused = pkt("ash", "push-dataset", dataset, "ash/names", "--create-pr", "--dry-run")
    assert (refused.exit_code, "nobody can merge into it" in refused.stderr) == (2, True)
    assert pkt("ash", "push-dataset", dataset, "ash/names").exit_code == 0

    card = dataset / "README.md"
    card.write_text(f"{card.read_text(encoding='utf-8')}\nBy hand.\n", encoding="utf-8")
    assert dry() == (None, {"README.md", "manifest.json"})
    assert pkt("ash", "push-dataset", dataset, "ash/names", "--create-pr").exit_code == 0
    assert dry() == (f"{town}/datasets/ash/names/discussions/1", set())
    assert pkt("ash", "push-dataset", dataset, "ash/names", "--create-pr").exit_code == 0
    assert [each.num for each in client(town, "ash").get_repo_discussions("ash/names", repo_type="dataset")] == [1]


def test_a_folder_is_published_without_its_name(town, dataset):
    named = dataset.rename(dataset.with_name("hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"))
    done = pkt("ash", "push-dataset", named, "ash/names")
    assert done.exit_code == 0, done.stderr
    ash = client(town, "ash")
    commits = ash.list_repo_commits("ash/names", repo_type="dataset")
    assert [each.title for each in commits] == ["Dataset and card from pkt", "initial commit"]
    assert all(named.name not in f"{each.title} {each.message}" for each in commits)
    for name in ash.list_repo_files("ash/names", repo_type="dataset"):
        content = Path(ash.hf_hub_download("ash/names", name, repo_type="dataset")).read_bytes()
        assert named.name.encode() not in content
