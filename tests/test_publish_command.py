"""`pkt publish` as a user types it, against a local Hub of several users: a gated base, a Space beside the adapter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi
from publishing import adapter, remembered

from toolkit import hub, tiny
from toolkit.folder import read_json
from toolkit.local_hub.serve import running_hub

__all__ = ["adapter", "remembered"]

OWNER = tiny.BASE_ID.partition("/")[0]


@pytest.fixture
def town(tmp_path, monkeypatch):
    """A Hub of the tiny base's owner, who put it there, and of ash and misty."""
    tokens = {f"token-{name}": name for name in (OWNER, "ash", "misty")}
    with running_hub(tmp_path / "hub", tokens=tokens) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", f"token-{OWNER}")
            hub.push_tiny_base()
        yield url


def client(url, user):
    return HfApi(endpoint=url, token=f"token-{user}" if user else False)


def pkt(tmp_path, user, *arguments):
    """Run a command as a user, who has a cache of their own."""
    own = tmp_path / f"cache-{user}"
    environment = {**os.environ, "HF_HOME": str(own), "HF_HUB_CACHE": str(own / "hub"), "PKT_CACHE": str(own / "pkt")}
    if user:
        environment["HF_TOKEN"] = f"token-{user}"
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_gated_base_stops_a_publication_until_its_owner_let_the_publisher_in(town, adapter, tmp_path):
    owner = client(town, OWNER)
    owner.update_repo_settings(tiny.BASE_ID, gated="manual")
    page = f"{town}/{tiny.BASE_ID}"

    refused = pkt(tmp_path, "ash", "publish", adapter, "ash/namer")
    assert refused.returncode == 3, refused.stderr
    assert refused.stderr.strip().split("\n")[-1] == (
        f"Error: The base {tiny.BASE_ID} is gated. Accept its licence on {page} with the account of your token."
    )
    assert not client(town, "ash").repo_exists("ash/namer")

    httpx2.post(f"{page}/ask-access", headers={"Authorization": "Bearer token-ash"})
    waiting = pkt(tmp_path, "ash", "publish", adapter, "ash/namer")
    assert (waiting.returncode, "have not answered your request yet" in waiting.stderr) == (3, True)

    owner.accept_access_request(tiny.BASE_ID, "ash")
    published = pkt(tmp_path, "ash", "publish", adapter, "ash/namer", "--no-verify", "--json")
    assert published.returncode == 0, published.stderr
    assert json.loads(published.stdout)["private"] is False

    # Who reads the adapter needs the base too.
    for user, told in (
        ("misty", "with the account of your token"),
        (None, "while logged in, then run `hf auth login`"),
    ):
        verified = pkt(tmp_path, user, "verify", "ash/namer")
        assert verified.returncode == 3, verified.stderr
        assert verified.stderr.strip().split("\n")[-1] == (
            f"Error: The model {tiny.BASE_ID}, which the adapter ash/namer needs, is gated. "
            f"Accept its licence on {page} {told}."
        )


def test_an_adapter_and_its_space_are_published_by_one_command(town, adapter, tmp_path):
    arguments = ("publish", adapter, "ash/namer", "--space", "ash/try-it", "--tag", "v1", "--no-verify")
    done = pkt(tmp_path, "ash", *arguments)
    assert done.returncode == 0, done.stderr
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

    again = pkt(tmp_path, "ash", *arguments)
    assert f"{town}/ash/namer was already at revision {commit}, tagged v1." in again.stderr
    assert len(stranger.list_repo_commits("ash/try-it", repo_type="space")) == 2
