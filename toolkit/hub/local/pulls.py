"""Discussions and pull requests: their numbers, their events, and how a pull request becomes part of main.

An event is a `comment` (with `text`), a `commit` (with `title` and `oid`), a `status-change` (with `status`) or a
`title-change` (with `old` and `new`).
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from toolkit.hub.local.changes import changed_paths, same
from toolkit.hub.local.names import RepoId
from toolkit.hub.local.objects import Commit, Discussion, Operation, Repository
from toolkit.hub.local.refusal import RefusedError, malformed
from toolkit.hub.local.store import MAIN, Store, now


def find(repository: Repository, number: int) -> Discussion:
    """Raises `RefusedError` (404)."""
    for discussion in repository.discussions:
        if discussion.number == number:
            return discussion
    raise RefusedError(404, f"{repository.repo} has no discussion {number}")


def start(store: Store, repo: RepoId, title: str, text: str, author: str, *, is_pull: bool) -> Discussion:
    """A discussion that begins with a comment, or a pull request without a change yet."""

    def change(repository: Repository) -> Repository:
        tip = store.commit_at(repository, MAIN).id if is_pull else None
        status = "draft" if is_pull else "open"
        events = (_event("comment", author, text=text),)
        return repository.with_discussion(
            Discussion(_next(repository), title, author, now(), status, events, base=tip, head=tip)
        )

    return store.update(repo, change).discussions[-1]


def propose(
    store: Store,
    repo: RepoId,
    operations: Sequence[Operation],
    *,
    title: str,
    message: str,
    author: str,
    parent: str | None,
) -> tuple[Commit, Discussion]:
    """A commit as a new pull request, from main or from the commit `parent` of main's history.

    Raises `RefusedError`: 412 for a parent that main never was at, otherwise as `Store.commit`.
    """
    with store.locked():
        repository = store.repository(repo)
        base = next((each for each in store.history(repository, MAIN) if each.id.startswith(parent or "")), None)
        if base is None:
            raise RefusedError(412, f"main was never at {parent}")
        commit = store.write_commit(repository, base, operations, title=title, message=message, author=author)
        events = (
            _event("comment", author, text=message),
            _event("commit", author, title=title, oid=commit.id),
        )
        pull = Discussion(_next(repository), title, author, now(), "open", events, base=base.id, head=commit.id)
        store.write_state(repository.with_discussion(pull))
    return commit, pull


def note(store: Store, repo: RepoId, number: int, author: str, kind: str, **data: Any) -> dict[str, Any]:
    """Add an event, and do what it says to the title or the status. Gives the event."""
    event = _event(kind, author, **data)

    def change(repository: Repository) -> Repository:
        discussion = find(repository, number)
        if discussion.status == "merged" and kind == "status-change":
            raise RefusedError(403, f"The pull request {number} is merged")
        fields = {"title": data["new"]} if kind == "title-change" else {}
        fields |= {"status": data["status"]} if kind == "status-change" else {}
        return repository.with_discussion(replace(discussion, events=(*discussion.events, event), **fields))

    store.update(repo, change)
    return event


def conflicts(store: Store, repository: Repository, pull: Discussion) -> list[str]:
    """The files that both the pull request and main changed since, each in its own way."""
    base, head, main = (_files(store, repository, each) for each in (pull.base, pull.head, MAIN))
    return [
        path
        for path in changed_paths(base, head)
        if not same(main.get(path), base.get(path)) and not same(main.get(path), head.get(path))
    ]


def merge(store: Store, repo: RepoId, number: int, author: str) -> Commit:
    """Take a pull request into main, by one commit. Raises `RefusedError`: 409 when files conflict, 400, 403."""
    with store.locked():
        repository = store.repository(repo)
        pull = find(repository, number)
        if pull.head is None or not pull.is_open:
            raise RefusedError(403, f"{number} is no open pull request")
        if clashing := conflicts(store, repository, pull):
            raise RefusedError(409, f"The pull request {number} conflicts with main in {', '.join(clashing)}")
        base, head = (_files(store, repository, each) for each in (pull.base, pull.head))
        main = store.commit_at(repository, MAIN)
        files = {path: entry for path, entry in main.files.items() if path in head or path not in base}
        files |= {path: head[path] for path in changed_paths(base, head) if path in head}
        if not changed_paths(main.files, files):
            raise malformed(f"The pull request {number} changes nothing")
        title = f"{pull.title} (#{number})"
        commit = store.write_commit(repository, main, [], title=title, message="", author=author, files=files)
        merged = replace(
            pull,
            status="merged",
            merged=commit.id,
            events=(*pull.events, _event("status-change", author, status="merged")),
        )
        store.write_state(
            replace(repository, branches={**repository.branches, MAIN: commit.id}).with_discussion(merged)
        )
    return commit


def _files(store: Store, repository: Repository, revision: str | None) -> dict[str, Any]:
    return {} if revision is None else dict(store.commit_at(repository, revision).files)


def _next(repository: Repository) -> int:
    return max((each.number for each in repository.discussions), default=0) + 1


def _event(kind: str, author: str, **data: Any) -> dict[str, Any]:
    return {"id": secrets.token_hex(12), "type": kind, "at": now(), "by": author, **data}
