"""Compare a folder with a repository, and bring it there in one commit or one pull request.

The commit names every file and its parent: readers see the old state or the new one, and a change that somebody else
made meanwhile is not overwritten. A note in the cache remembers an unfinished publication, so that the same command
finishes it: a repository is private while it is filled, and nothing on the Hub tells whether it should become public.
All functions that ask the Hub raise HubError and EnvironmentLacks as `hub_errors` does.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import CheckFailed, InputError
from toolkit.core.folder import json_hash, read_json, unwritable, write_json
from toolkit.core.hub_client import cache_home, endpoint, hub, hub_errors
from toolkit.core.layout import MANIFEST
from toolkit.hub.contents import Contents
from toolkit.hub.remote import ATTRIBUTES, Remote, cards_edited_there, files_at, manifest_at, same_file
from toolkit.hub.safety import check_safe

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, Discussion

# The tag names of git, without slashes and letters of other scripts, which git allows too.
TAG = re.compile(r"(?!.*(\.\.|\.lock$|\.$))[A-Za-z0-9_][\w.+-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """The effect of an upload on a file: `new`, `changed`, `same`, `deleted`, or `kept` (somebody else's)."""

    name: str
    state: str
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The effect of an upload, file by file.

    Attributes:
        remote: The repository as it is, or as it is in the open pull request.
        left: Files of the folder that are not published.
        notes: Sentences for the user.
        proposes: Whether it goes into a pull request instead of the main branch.
        pull_request: The open pull request to update; None: a new one.
    """

    remote: Remote
    files: Mapping[str, Path]
    changes: list[Change]
    left: list[str]
    notes: list[str]
    proposes: bool = False
    pull_request: Discussion | None = None

    def of(self, *states: str) -> list[Change]:
        """The changes of these states."""
        return [change for change in self.changes if change.state in states]

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to upload and nothing to delete."""
        return not self.of("new", "changed", "deleted")


@dataclass(frozen=True, slots=True)
class Published:
    """A publication: its repository, commit and page.

    Attributes:
        changed: Whether anything had to be uploaded.
        private: Whether only its owner sees it.
        pull_request: The address of the pull request that holds it.
        space: The address of the page to try it.
        notes: Sentences for the user.
    """

    repo_id: str
    revision: str
    url: str
    changed: bool
    private: bool = False
    tag: str | None = None
    pull_request: str | None = None
    space: str | None = None
    notes: list[str] = field(default_factory=list)


def plan(remote: Remote, contents: Contents, notes: list[str] | None = None) -> Plan:
    """Compare the files of a folder with a repository, and search them for what must not leave this machine.

    A file that pkt wrote there and that is no longer in the folder is deleted; somebody else's is kept.

    Raises:
        InputError: A file holds a secret, a path of this machine, or something else that must not be published.
    """
    check_safe(contents.files)
    return Plan(remote, contents.files, _changes(remote, contents.files), contents.left, list(notes or ()))


def _changes(remote: Remote, files: Mapping[str, Path]) -> list[Change]:
    changes = []
    for name, path in files.items():
        there = remote.files.get(name)
        state = "new" if there is None else "same" if same_file(path, there) else "changed"
        changes.append(Change(name, state, path.stat().st_size))
    own = remote.manifest.get("files") or {}
    for name, (size, _) in sorted(remote.files.items()):
        if name not in files and name != ATTRIBUTES:
            changes.append(Change(name, "deleted" if name in own else "kept", size))
    return changes


def plan_pull_request(planned: Plan, title: str) -> Plan:
    """Turn a plan for the main branch into one for a pull request: an open one of this title, or a new one.

    Raises:
        InputError: The repository does not exist.
    """
    remote, notes = planned.remote, list(planned.notes)
    if remote.revision is None:
        raise InputError(f"{remote.subject} does not exist, so nobody can merge into it.", "Leave `create_pr` out.")
    if planned.unchanged:
        return replace(planned, proposes=True)
    with hub_errors(remote.subject):
        for open_one in _open_pull_requests(remote, title):
            there, stale = _newest(remote, f"refs/pr/{open_one.num}")
            if stale is None:
                changes = _changes(there, planned.files)
                return replace(
                    planned, remote=there, changes=changes, notes=notes, proposes=True, pull_request=open_one
                )
            notes.append(f"Your pull request {open_one.num} {stale}, and stays as it is: {open_one.url}")
    return replace(planned, notes=notes, proposes=True)


def _open_pull_requests(remote: Remote, title: str) -> Iterator[Discussion]:
    """The open pull requests of this title by the token's user, newest first."""
    from huggingface_hub import get_token

    open_ones = hub().get_repo_discussions(
        remote.repo_id,
        repo_type=remote.repo_type,
        # A Hub that asks for no token takes everybody for the same user.
        author=str(hub().whoami()["name"]) if get_token() else None,
        discussion_type="pull_request",
        discussion_status="open",
    )
    return (each for each in open_ones if each.title == title)


def _newest(remote: Remote, ref: str) -> tuple[Remote, str | None]:
    """The repository at the newest commit of a pull request, and why this must not be updated; None: it can be."""
    commits = hub().list_repo_commits(remote.repo_id, repo_type=remote.repo_type, revision=ref)
    where = (remote.repo_id, remote.repo_type, commits[0].commit_id)
    files = files_at(*where)
    there = replace(remote, revision=where[2], files=files, manifest=manifest_at(*where) if MANIFEST in files else {})
    if all(each.commit_id != remote.revision for each in commits):
        # A commit on top of it could conflict with the repository's newer commits, or undo them.
        return there, "is based on an older version of the repository"
    # A card that pkt itself found edited, and kept, is as its manifest says.
    cards, written = cards_edited_there(there, str(there.manifest.get("kind"))), there.manifest.get("files", {})
    edited = any(hashlib.sha256(content).hexdigest() != written[name] for name, content in cards.items())
    return there, "has a card that was edited by hand" if edited else None


def upload(planned: Plan, message: str) -> Published:
    """Make the repository hold what was planned, in one commit or none; a new repository is private.

    Raises:
        HubError: Somebody else changed the repository since it was planned.
        CheckFailed: The commit holds something else than what was sent.
    """
    remote, open_one = planned.remote, planned.pull_request
    with hub_errors(remote.subject):
        parent = remote.revision or _create(remote)
        commit = None if planned.unchanged else _commit(planned, message, parent)
    address, notes = str(commit.pr_url) if commit and planned.proposes else None, list(planned.notes)
    if open_one is not None:
        outcome = "was open, and was brought up to date" if commit else "proposes exactly this already"
        address, notes = open_one.url, [*notes, f"Your pull request {open_one.num} {outcome}."]
    revision = str(commit.oid) if commit else parent
    return Published(remote.repo_id, revision, remote.url, commit is not None, pull_request=address, notes=notes)


def _create(remote: Remote) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        hub().create_repo(
            remote.repo_id,
            repo_type=remote.repo_type,
            private=True,
            space_sdk="gradio" if remote.repo_type == "space" else None,
        )
    except HfHubHTTPError as error:
        if 400 <= error.response.status_code < 500:
            # Nothing was begun, so there is nothing to finish in a repository that somebody else makes.
            _note(remote).unlink(missing_ok=True)
        raise
    return str(hub().repo_info(remote.repo_id, repo_type=remote.repo_type).sha)


def _commit(planned: Plan, message: str, parent: str) -> CommitInfo:
    """Make the one commit after `parent`, and read it back."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    remote, open_one = planned.remote, planned.pull_request
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(change.name, planned.files[change.name]) for change in planned.of("new", "changed")),
        *(CommitOperationDelete(change.name) for change in planned.of("deleted")),
    ]
    try:
        with warnings.catch_warnings():
            # An adapter's predictions are no data set, and belong beside it.
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            commit = hub().create_commit(
                remote.repo_id,
                operations,
                commit_message=message,
                repo_type=remote.repo_type,
                parent_commit=parent,
                revision=f"refs/pr/{open_one.num}" if open_one else None,
                create_pr=planned.proposes and open_one is None,
            )
    except ValueError as error:
        # The client's own, bare, about a card whose metadata the Hub refuses.
        if isinstance(error, HfHubHTTPError) or not str(error).startswith("Invalid metadata"):
            raise
        said = " ".join(str(error).split())
        raise InputError(f"{remote.subject}: the Hub refuses its card. {said}", "Mend README.md.") from error
    _confirm(planned, str(commit.oid))
    return commit


def _confirm(planned: Plan, revision: str) -> None:
    """Check that the commit holds each file as it is here: a `.gitignore` there, or a lost byte, would change it."""
    remote = planned.remote
    there = files_at(remote.repo_id, remote.repo_type, revision)
    wrong = [name for name, path in planned.files.items() if not same_file(path, there.get(name))]
    wrong += [change.name for change in planned.of("deleted") if change.name in there]
    if wrong:
        raise CheckFailed(
            f"{remote.subject} at {revision[:12]} does not hold what was sent: {', '.join(wrong[:3])}.",
            "Run the command again.",
        )


def check_tag(planned: Plan, tag: str) -> None:
    """Raise InputError for a name that no tag can have, or a tag that is on another commit already."""
    if not TAG.fullmatch(tag):
        raise InputError(f"{tag!r} is no name for a tag.", "Choose another `tag`, such as v1.")
    there = planned.remote.tags.get(tag)
    if there is not None and (there != planned.remote.revision or not planned.unchanged):
        raise InputError(f"{planned.remote.subject} has a tag {tag} already, at {there[:12]}.", "Choose another `tag`.")


def put_tag(remote: Remote, tag: str, revision: str) -> None:
    """Tag a commit, unless it has the tag already."""
    if tag not in remote.tags:
        with hub_errors(remote.subject):
            hub().create_tag(remote.repo_id, tag=tag, revision=revision, repo_type=remote.repo_type)


def set_private(remote: Remote, private: bool) -> None:
    """Make a repository visible to its owner only, or to everybody."""
    with hub_errors(remote.subject):
        hub().update_repo_settings(remote.repo_id, repo_type=remote.repo_type, private=private)


# Unfinished publications.


@contextmanager
def publication_note(remote: Remote, *, public: bool) -> Iterator[None]:
    """Note that a publication is unfinished, and whether it makes its repository public; an error leaves the note."""
    note = _note(remote)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {"repo_id": remote.repo_id, "repo_type": remote.repo_type, "public": public})
    except OSError as error:
        raise unwritable(note, error) from error
    yield
    note.unlink(missing_ok=True)


def unfinished(remote: Remote) -> dict[str, Any]:
    """The note of a publication to this repository that this machine began and did not finish; empty for none."""
    return dict(read_json(_note(remote))) if remote.revision is not None and _note(remote).is_file() else {}


def _note(remote: Remote) -> Path:
    return cache_home() / "publications" / f"{json_hash([endpoint(), remote.repo_type, remote.repo_id])[:16]}.json"
