"""A branch's history in one commit. What no branch, tag or pull request leads to any more is deleted."""

from dataclasses import replace

from starlette.responses import Response

from toolkit.hub.local.call import Call, answer, text_field
from toolkit.hub.local.names import RepoId
from toolkit.hub.local.objects import Repository
from toolkit.hub.local.refusal import malformed, revision_not_found
from toolkit.hub.local.store import Store


def super_squash(call: Call) -> Response:
    """Clients call it so, too. It can not be undone."""
    title = text_field(call.json(), "message", f"Super-squash branch '{call.revision}'")
    repo = call.writable().repo
    _squash(call.store, repo, call.revision, title, call.require_writer(repo.namespace))
    return answer({})


def _squash(store: Store, repo: RepoId, branch: str, title: str, author: str) -> None:
    with store.locked():
        repository = store.repository(repo)
        if branch in repository.tags or repository.pull(branch) is not None:
            raise malformed(f"{branch!r} is no branch: only the history of a branch can be squashed")
        if branch not in repository.branches:
            raise revision_not_found(branch)
        head = store.commit_at(repository, branch)
        commit = store.write_commit(repository, None, [], title=title, message="", author=author, files=head.files)
        squashed = replace(repository, branches={**repository.branches, branch: commit.id})
        store.write_state(squashed)
        store.forget_commits(repo, keep=_reachable(store, squashed))


def _reachable(store: Store, repository: Repository) -> set[str]:
    """The commits that something still leads to; a pull request needs the one that it began from, too."""
    pulls = (commit for each in repository.discussions for commit in (each.base, each.head, each.merged))
    starts = [*repository.branches.values(), *repository.tags.values(), *(each for each in pulls if each is not None)]
    found: set[str] = set()
    for start in starts:
        for commit in store.history(repository, start):
            if commit.id in found:
                break
            found.add(commit.id)
    return found
