"""Pull requests of ours that wait: proposing something again updates the one that is open, and opens no second."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from toolkit.core.hub_client import hub
from toolkit.core.layout import MANIFEST
from toolkit.hub.contents import CARDS
from toolkit.hub.remote import Remote, cards_edited_there, files_at, manifest_at, token_in_use


@dataclass(frozen=True, slots=True)
class Proposal:
    """An open pull request of ours.

    Attributes:
        number: Its number.
        url: The address of its page.
        remote: The repository as it would be with it, at its newest commit.
        stale: Why it is left as it is; None when it can be updated.
    """

    number: int
    url: str
    remote: Remote
    stale: str | None

    @property
    def ref(self) -> str:
        """What its commits are made on."""
        return f"refs/pr/{self.number}"


def waiting(remote: Remote, title: str) -> Iterator[Proposal]:
    """The open pull requests of this title that the token's user made, newest first.

    Args:
        remote: The repository as it is now.
        title: What pkt calls such a pull request.

    Raises:
        HfHubHTTPError, HTTPError: As the client raises them.
    """
    open_ones = hub().get_repo_discussions(
        remote.repo_id,
        repo_type=remote.repo_type,
        # Without a token, on a Hub that asks for none, everybody is the same user.
        author=str(hub().whoami()["name"]) if token_in_use() else None,
        discussion_type="pull_request",
        discussion_status="open",
    )
    for each in open_ones:
        if each.title == title:
            yield _looked_at(remote, each.num, each.url)


def _looked_at(remote: Remote, number: int, url: str) -> Proposal:
    where = (remote.repo_id, remote.repo_type)
    commits = [
        commit.commit_id
        for commit in hub().list_repo_commits(remote.repo_id, repo_type=remote.repo_type, revision=f"refs/pr/{number}")
    ]
    files = files_at(*where, commits[0])
    manifest = manifest_at(*where, commits[0]) if MANIFEST in files else None
    there = replace(remote, revision=commits[0], files=files, manifest=manifest if isinstance(manifest, dict) else {})
    if remote.revision not in commits:
        # On top of it, what changed since in the repository could be a conflict, or be undone.
        return Proposal(number, url, there, "is based on an older version of the repository")
    return Proposal(number, url, there, "has a card that was edited by hand" if _edited(there) else None)


def _edited(there: Remote) -> bool:
    """Whether somebody edited a card in the pull request since pkt wrote it."""
    kind, hashes = there.manifest.get("kind"), there.manifest.get("files") or {}
    if kind not in CARDS:
        return False
    cards = cards_edited_there(there, kind)
    return any(hashlib.sha256(content).hexdigest() != hashes[name] for name, content in cards.items())
