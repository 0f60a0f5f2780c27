"""From a folder to a repository of the Hub: what would change, and one commit that changes it. Knows no cards.

The commit is made of explicit operations and guarded by the parent that it was planned on: a reader never sees half of
it, and what somebody else wrote meanwhile is not overwritten.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.core.errors import CheckFailed, EnvironmentLacks, InputError
from toolkit.core.hub_client import DEFAULT_ENDPOINT, hub, hub_errors
from toolkit.hub import pull_requests, resume
from toolkit.hub.contents import Contents
from toolkit.hub.pull_requests import Proposal
from toolkit.hub.remote import ATTRIBUTES, Remote, files_at, id_like, token_in_use
from toolkit.hub.safety import check_safe

# The names that git allows for a tag, without slashes and letters of other scripts, which it allows too.
TAG = re.compile(r"(?!.*(\.\.|\.lock$|\.$))[A-Za-z0-9_][\w.+-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """What an upload does to a file: `new`, `changed`, `same`, `deleted`, or `kept`, which is somebody else's."""

    name: str
    state: str
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What an upload would do, file by file, and what of the folder stays here.

    Attributes:
        remote: The repository as it is, or as it would be with the pull request that waits.
        proposes: Whether it goes into a pull request, and not onto the main branch.
        proposal: The pull request of ours that waits and is brought up to date; None: a new one.
    """

    remote: Remote
    files: Mapping[str, Path]
    changes: list[Change]
    left: list[str]
    notes: list[str]
    proposes: bool = False
    proposal: Proposal | None = None

    def of(self, *states: str) -> list[Change]:
        """The changes of these states."""
        return [change for change in self.changes if change.state in states]

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to upload and nothing to delete."""
        return not self.of("new", "changed", "deleted")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Where it is now: the commit, whether there had to be one, and the pull request that it waits in; what to say."""

    revision: str
    changed: bool
    pull_request: str | None = None
    notes: list[str] = field(default_factory=list)


def plan(remote: Remote, contents: Contents, notes: list[str] | None = None) -> Plan:
    """What uploading these files would do to a repository, after a look for what must not leave this machine.

    A file that pkt wrote there and that is not among them is deleted; one of somebody else's is kept.

    Raises:
        InputError: A file holds a secret, a path of this machine, or what else must not be published.
    """
    check_safe(contents.files)
    return Plan(remote, contents.files, _changes(remote, contents.files), contents.left, list(notes or ()))


def _changes(remote: Remote, files: Mapping[str, Path]) -> list[Change]:
    changes = [Change(name, _state(path, remote.files.get(name)), path.stat().st_size) for name, path in files.items()]
    own = remote.manifest.get("files") or {}
    for name, (size, _) in sorted(remote.files.items()):
        if name not in files and name != ATTRIBUTES:
            changes.append(Change(name, "deleted" if name in own else "kept", size))
    return changes


def _state(path: Path, there: tuple[int, str] | None) -> str:
    if there is None:
        return "new"
    return "same" if there == (path.stat().st_size, id_like(path, there[1])) else "changed"


def propose(planned: Plan, title: str) -> Plan:
    """The same as a pull request: a new one, or, where one of ours waits, what would bring that up to date.

    Args:
        planned: What would be committed to the main branch.
        title: What such a pull request is called.

    Raises:
        InputError: There is no repository to propose it to.
        HubError: The Hub refused or can not be reached.
        EnvironmentLacks: The Hub wants a token.
    """
    remote, notes = planned.remote, list(planned.notes)
    _require_login(remote)
    if remote.revision is None:
        raise InputError(f"{remote.subject} does not exist, so nobody can merge into it.", "Leave --create-pr away.")
    if planned.unchanged:
        return replace(planned, proposes=True)
    with hub_errors(remote.subject):
        for proposal in pull_requests.waiting(remote, title):
            if proposal.stale is None:
                changes = _changes(proposal.remote, planned.files)
                return replace(
                    planned, remote=proposal.remote, changes=changes, notes=notes, proposes=True, proposal=proposal
                )
            notes.append(f"Your pull request {proposal.number} {proposal.stale}, and stays as it is: {proposal.url}")
    return replace(planned, notes=notes, proposes=True)


def upload(planned: Plan, message: str) -> Uploaded:
    """Make the repository hold what was planned, in one commit or none; a new repository is private.

    Raises:
        HubError: Somebody else changed the repository since it was planned, or the Hub refused or can not be reached.
        EnvironmentLacks: The Hub wants a token.
        CheckFailed: What lies there afterwards is not what was sent.
    """
    remote = planned.remote
    _require_login(remote)
    with hub_errors(remote.subject):
        parent = remote.revision or _create(remote)
        if planned.proposal is not None:
            return _update(planned, planned.proposal, message, parent)
        if planned.unchanged:
            return Uploaded(parent, False)
        commit = _commit(planned, message, parent, create_pr=planned.proposes)
        return Uploaded(str(commit.oid), True, str(commit.pr_url) if planned.proposes else None)


def _require_login(remote: Remote) -> None:
    if hub().endpoint == DEFAULT_ENDPOINT and not token_in_use():
        raise EnvironmentLacks(f"{remote.subject} needs a login.", "Run `hf auth login`, or give --token-file.")


def _update(planned: Plan, proposal: Proposal, message: str, parent: str) -> Uploaded:
    """Bring a pull request up to date."""
    if planned.unchanged:
        said = f"Your pull request {proposal.number} proposes exactly this already; nothing was uploaded."
        return Uploaded(parent, False, proposal.url, [said])
    commit = _commit(planned, message, parent, revision=proposal.ref)
    said = f"Your pull request {proposal.number} was open, and was brought up to date."
    return Uploaded(str(commit.oid), True, proposal.url, [said])


def _commit(planned: Plan, message: str, parent: str, **where: Any) -> Any:
    """Make the one commit after `parent`, and look at what lies there afterwards."""
    remote = planned.remote
    with _card_errors(remote), warnings.catch_warnings():
        # An adapter's predictions are no data set, and belong beside it.
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
        commit = hub().create_commit(
            remote.repo_id,
            _operations(planned),
            commit_message=message,
            repo_type=remote.repo_type,
            parent_commit=parent,
            **where,
        )
    _confirm(planned, str(commit.oid))
    return commit


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
            # Nothing was begun, so nothing is to be finished, whoever makes a repository of this name.
            resume.forget(remote.repo_id, remote.repo_type)
        raise
    return str(hub().repo_info(remote.repo_id, repo_type=remote.repo_type).sha)


def _operations(planned: Plan) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(change.name, planned.files[change.name]) for change in planned.of("new", "changed")),
        *(CommitOperationDelete(change.name) for change in planned.of("deleted")),
    ]


@contextmanager
def _card_errors(remote: Remote) -> Iterator[None]:
    """The Hub looks at a card's metadata before it takes anything, and its client says what is wrong in bare words."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except ValueError as error:
        if isinstance(error, HfHubHTTPError) or not str(error).startswith("Invalid metadata"):
            raise
        told = " ".join(str(error).split())
        raise InputError(f"{remote.subject}: the Hub refuses its card. {told}", "Mend README.md.") from error


def _confirm(planned: Plan, revision: str) -> None:
    """Check that the commit holds each file as it is here: a `.gitignore` there, or a lost byte, would change it."""
    remote = planned.remote
    there = files_at(remote.repo_id, remote.repo_type, revision)
    wrong = [name for name, path in planned.files.items() if _state(path, there.get(name)) != "same"]
    wrong += [change.name for change in planned.of("deleted") if change.name in there]
    if wrong:
        raise CheckFailed(
            f"{remote.subject} at {revision[:12]} does not hold what was sent: {', '.join(wrong[:3])}.",
            "Run the command again.",
        )


def check_tag(planned: Plan, tag: str) -> None:
    """Raise InputError for what is no name of a tag, or one that is on another commit than it would be put on."""
    if not TAG.fullmatch(tag):
        raise InputError(f"{tag!r} is no name for a tag.", "Choose another --tag, such as v1.")
    there = planned.remote.tags.get(tag)
    if there is not None and (there != planned.remote.revision or not planned.unchanged):
        raise InputError(f"{planned.remote.subject} has a tag {tag} already, at {there[:12]}.", "Choose another --tag.")


def put_tag(remote: Remote, tag: str, revision: str) -> None:
    """Tag a commit, unless it has the tag already."""
    if tag not in remote.tags:
        with hub_errors(remote.subject):
            hub().create_tag(remote.repo_id, tag=tag, revision=revision, repo_type=remote.repo_type)


def set_private(remote: Remote, private: bool) -> None:
    """Make a repository visible to its owner only, or to everybody."""
    with hub_errors(remote.subject):
        hub().update_repo_settings(remote.repo_id, repo_type=remote.repo_type, private=private)
