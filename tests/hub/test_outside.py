"""After a publication: a stranger's look at it, without a token."""

import numpy as np
import pytest
from huggingface_hub import HfApi
from safetensors.numpy import save_file
from starlette.responses import Response

from support.faults import faulty_hub
from support.hub import REPO, remembered
from toolkit.core.errors import CheckFailed
from toolkit.core.folder import write_manifest
from toolkit.hub import publish, remote, upload
from toolkit.hub.contents import contents

__all__ = ["remembered"]


@pytest.fixture
def folder(tmp_path):
    """A small adapter folder; its largest file is the weights."""
    return write(tmp_path / "adapter", 1)


def write(folder, number):
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Version {number}\n")
    save_file({"a": np.full(1_000, number)}, folder / "adapter_model.safetensors")
    write_manifest(folder, "adapter", {})
    return folder


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A Hub whose strangers' requests are heard, and answered by `asked.answer` where that says something."""

    class Asked(list):
        answer = staticmethod(lambda request: None)

    heard = Asked()

    def listen(request):
        if "authorization" in request.headers or request.method != "HEAD":
            return None
        heard.append(request.url.path)
        return heard.answer(request)

    with faulty_hub(tmp_path / "hub", listen, tokens={"token-demo": "demo"}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "token-demo")
        heard.url = url
        yield heard


def send(folder, **options):
    planned = upload.plan(remote.look(REPO, "adapter"), contents(folder, "adapter"))
    if options.get("pull_request"):
        planned = upload.propose(planned, "mine")
    return publish._carry_out(planned, publish.Options(**options), "message", None)


def test_the_card_and_the_weights_are_asked_for_without_a_token_at_the_published_commit(asked, folder):
    published = send(folder)
    assert published.notes == []
    where = f"/{REPO}/resolve/{published.revision}"
    assert asked == [f"{where}/README.md", f"{where}/adapter_model.safetensors"]


def test_only_what_is_public_and_new_is_asked_for(asked, folder):
    send(folder, private=True)
    assert asked == []
    send(folder, private=False)
    assert len(asked) == 2
    send(folder)
    assert len(asked) == 2
    send(write(folder, 2), pull_request=True)
    assert len(asked) == 2
    send(folder)
    assert len(asked) == 4


def test_a_hub_that_wants_a_token_from_everybody_is_said_and_no_failure(asked, folder):
    asked.answer = lambda request: Response(status_code=401)
    published = send(folder)
    assert not published.private
    (note,) = published.notes
    assert note.startswith(f"{asked.url}/{REPO} is public, but without a token the Hub answers 401")
    assert "wants a token from everybody" in note


def test_a_hub_that_fails_just_then_is_said_and_no_failure(asked, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    asked.answer = lambda request: Response(status_code=503)
    (note,) = send(folder).notes
    assert "answers 503" in note


def test_a_gated_repository_says_that_its_readers_have_to_ask(asked, folder):
    send(folder, private=True)
    HfApi(endpoint=asked.url).update_repo_settings(REPO, gated="auto")
    (note,) = send(folder, private=False).notes
    assert note == f"{asked.url}/{REPO} is public and gated: who wants its files has to ask for access there."


def test_other_files_for_strangers_are_a_failure(asked, folder):
    sent = {"ETag": f'"{"0" * 64}"', "X-Repo-Commit": "0" * 40, "Content-Length": "3"}
    asked.answer = lambda request: Response(headers=sent) if "safetensors" in request.url.path else None
    with pytest.raises(CheckFailed, match=r"other files without a token than with one: adapter_model\.safetensors"):
        send(folder)
