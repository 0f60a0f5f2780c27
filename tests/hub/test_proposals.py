"""Pull requests by `--create-pr`: the one that waits is brought up to date, and nobody else's is touched."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from support.faults import faulty_hub
from support.hub import REPO, remembered
from toolkit.cli.output import Output
from toolkit.cli.results import would_publish
from toolkit.core.errors import CheckFailed, HubError, InputError
from toolkit.core.folder import write_manifest
from toolkit.hub import publish, remote, upload
from toolkit.hub.contents import contents
from toolkit.hub.local.serve import running_hub
from toolkit.hub.publish import PublishOptions

__all__ = ["remembered"]

TITLE = "Adapter and card from pkt"
TOKENS = {"token-demo": "demo", "token-misty": "misty"}


@pytest.fixture
def url(tmp_path, monkeypatch):
    """A Hub of demo, who publishes, and misty, who proposes too."""
    with running_hub(tmp_path / "hub", tokens=TOKENS) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_TOKEN", "token-demo")
        yield endpoint


@pytest.fixture
def folder(tmp_path):
    """A small adapter folder, published once."""
    return tmp_path / "adapter"


def write(folder, number, **more):
    """The files of a version."""
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# Version {number}\n")
    for name in folder.glob("*.json"):
        name.unlink()
    for name, text in {"adapter_config": number, **more}.items():
        (folder / f"{name}.json").write_text(f'{{"is": {text}}}')
    write_manifest(folder, "adapter", {})


def plan(folder, *, propose=True):
    planned = upload.plan(remote.read_remote(REPO, "adapter"), contents(folder, "adapter"))
    return upload.plan_pull_request(planned, TITLE) if propose else planned


def send(folder, *, propose=True, check=None):
    return publish.upload_and_show(plan(folder, propose=propose), PublishOptions(create_pr=propose), TITLE, check)


def published(folder, number=1):
    write(folder, number)
    send(folder, propose=False)


def api(url, user="demo"):
    return HfApi(endpoint=url, token=f"token-{user}")


def proposals(url):
    return [each.num for each in api(url).get_repo_discussions(REPO)]


def test_the_same_proposal_twice_is_one_pull_request(url, folder):
    published(folder)
    write(folder, 2)
    main = api(url).model_info(REPO).sha
    first, again = send(folder), send(folder)
    assert proposals(url) == [1]
    assert api(url).model_info(REPO).sha == main
    assert (first.changed, again.changed) == (True, False)
    assert (first.pull_request, first.revision) == (again.pull_request, again.revision)
    assert again.pull_request == f"{url}/{REPO}/discussions/1"
    assert "proposes exactly this already" in again.notes[0]


def test_a_new_version_is_committed_to_the_pull_request_that_waits(url, folder):
    published(folder)
    write(folder, 2, fresh=1)
    send(folder)
    write(folder, 3)
    again = send(folder)
    assert proposals(url) == [1]
    assert (again.changed, again.pull_request) == (True, f"{url}/{REPO}/discussions/1")
    assert "was brought up to date" in again.notes[0]
    assert "fresh.json" not in api(url).list_repo_files(REPO, revision="refs/pr/1")
    assert api(url).repo_info(REPO, revision="refs/pr/1").sha == again.revision
    api(url).merge_pull_request(REPO, 1)
    assert plan(folder, propose=False).unchanged


def test_a_plan_is_compared_with_the_pull_request_that_waits(url, folder):
    published(folder)
    write(folder, 2, fresh=1)
    before = plan(folder)
    assert (before.proposes, before.pull_request, {each.name for each in before.of("new")}) == (
        True,
        None,
        {"fresh.json"},
    )
    sent = send(folder)
    assert plan(folder).unchanged
    write(folder, 2, other=1)
    planned = plan(folder)
    assert (planned.pull_request.url, planned.remote.revision) == (sent.pull_request, sent.revision)
    assert {each.name: each.state for each in planned.changes} == {
        "README.md": "same",
        "adapter_config.json": "same",
        "manifest.json": "changed",
        "other.json": "new",
        "fresh.json": "deleted",
    }
    assert proposals(url) == [1]
    assert api(url).repo_info(REPO, revision="refs/pr/1").sha == sent.revision


def test_nothing_is_proposed_to_a_repository_that_does_not_exist(url, folder):
    write(folder, 1)
    with pytest.raises(InputError, match="nobody can merge"):
        plan(folder)


def test_what_a_dry_run_says_of_a_pull_request(url, folder, capsys):
    published(folder)
    write(folder, 2)
    would_publish(Output(), plan(folder), folder)
    assert f"would go to a new pull request for {REPO}, at" in flat(capsys)
    address = send(folder).pull_request
    would_publish(Output(), plan(folder), folder)
    assert f"Your pull request {address} proposes exactly this already, at revision" in flat(capsys)
    write(folder, 3)
    would_publish(Output(), plan(folder), folder)
    assert f"would go to your pull request {address}, at" in flat(capsys)
    would_publish(Output(as_json=True), plan(folder), folder)
    assert json.loads(capsys.readouterr().out)["pull_request"] == address


def flat(capsys):
    """What was printed, without the breaks of lines."""
    out, err = capsys.readouterr()
    return " ".join((out + err).split())


def test_a_closed_pull_request_is_left_closed(url, folder):
    published(folder)
    write(folder, 2)
    send(folder)
    api(url).change_discussion_status(REPO, 1, "closed")
    assert send(folder).pull_request.endswith("/2")


def test_a_pull_request_of_somebody_else_is_left_alone(url, folder):
    published(folder)
    write(folder, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "token-misty")
        theirs = send(folder)
    write(folder, 3)
    assert send(folder).pull_request.endswith("/2")
    assert api(url).repo_info(REPO, revision="refs/pr/1").sha == theirs.revision


def test_a_pull_request_of_ones_own_about_something_else_is_left_alone(url, folder):
    published(folder)
    api(url).upload_file(
        repo_id=REPO, path_in_repo="notes.txt", path_or_fileobj=b"x", create_pr=True, commit_message="Some notes"
    )
    write(folder, 2)
    assert send(folder).pull_request.endswith("/2")
    assert "Version 1" in read(url, "refs/pr/1")


def read(url, revision):
    return Path(api(url).hf_hub_download(REPO, "README.md", revision=revision)).read_text(encoding="utf-8")


def test_what_is_based_on_an_older_version_gives_way_to_a_new_pull_request(url, folder):
    published(folder)
    write(folder, 2)
    send(folder)
    published(folder, 3)
    write(folder, 4)
    again = send(folder)
    assert again.pull_request.endswith("/2")
    assert "pull request 1 is based on an older version" in again.notes[0]
    assert "Version 2" in read(url, "refs/pr/1")


def test_a_card_that_was_edited_in_the_pull_request_is_not_overwritten(url, folder):
    published(folder)
    write(folder, 2)
    send(folder)
    api(url).upload_file(
        repo_id=REPO,
        path_in_repo="README.md",
        path_or_fileobj=b"---\nlicense: mit\n---\n# By hand\n",
        revision="refs/pr/1",
        commit_message="x",
    )
    write(folder, 3)
    again = send(folder)
    assert again.pull_request.endswith("/2")
    assert "pull request 1 has a card that was edited by hand" in again.notes[0]
    assert "By hand" in read(url, "refs/pr/1")


def test_a_pull_request_that_failed_its_check_is_checked_again(url, folder):
    published(folder)
    write(folder, 2)
    checked = []

    def fail(repo_id, revision):
        checked.append(revision)
        raise CheckFailed("no.", "no.")

    for _ in range(2):
        with pytest.raises(CheckFailed):
            send(folder, check=fail)
    assert proposals(url) == [1]
    assert len(set(checked)) == 1
    assert len(checked) == 2


def test_an_answer_that_was_lost_leads_to_no_second_pull_request(tmp_path, folder, monkeypatch):
    for faults in ([], ["POST /api/models/*/commit/* 1:lose"]):
        with faulty_hub(tmp_path / "hub", faults) as endpoint:
            monkeypatch.setenv("HF_ENDPOINT", endpoint)
            if not faults:
                published(folder)
                continue
            write(folder, 2)
            with pytest.raises(HubError):
                send(folder)
            assert not send(folder).changed
            assert [each.num for each in HfApi(endpoint=endpoint).get_repo_discussions(REPO)] == [1]
