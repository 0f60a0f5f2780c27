"""How the local Hub keeps commits: what a commit's files are, and what is refused or removed at a start."""

import itertools
import random
from pathlib import Path

import pytest

from toolkit.core.errors import InputError
from toolkit.hub.local.history import HISTORY, Files
from toolkit.hub.local.objects import Change, Operation, RefusedError, Remove, repo_id
from toolkit.hub.local.store import Store, receive

REPO = repo_id("models", "demo", "a")
PATHS = ("a", "b/c", "b/d/e", "b/d/f", "b-", "b.txt", "피카츄/x", "z")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.create(REPO, private=False, author="ash", files={})
    return store


def commit(store: Store, ref: str, files: dict[str, str | None], *removed_folders: str) -> str:
    """A commit that sets files to texts, removes those that are None, and folders before that."""
    with store.receiving() as folder:
        operations: list[Operation] = [Remove(each, is_folder=True) for each in removed_folders]
        operations += [
            Remove(path, is_folder=False) if text is None else receive(folder, path, text.encode())
            for path, text in files.items()
        ]
        return store.commit(REPO, ref, Change(tuple(operations), "title", "", "ash", contents=folder)).id


def texts(store: Store, files: Files) -> dict[str, str]:
    return {path: store.blob(REPO, entry.sha256).read_text() for path, entry in files.below().items()}


def test_every_commit_has_its_files_whatever_branches_grew_from_where(store: Store) -> None:
    rng = random.Random(5)
    root = store.repository(REPO).branches["main"]
    trees: dict[str, dict[str, str]] = {root: {}}
    parents: dict[str, str] = {}
    for number in range(60):
        if rng.random() < 0.2:
            store.create_ref(REPO, "branches", f"branch-{number}", rng.choice(list(trees)))
        ref, head = rng.choice(list(store.repository(REPO).branches.items()))
        files = dict(trees[head])
        folders = {path.partition("/")[0] for path in files if "/" in path and rng.random() < 0.1}
        files = {path: text for path, text in files.items() if path.partition("/")[0] not in folders}
        changes = {path: rng.choice([None, "x", str(number)]) for path in rng.sample(PATHS, 3)}
        changes = {path: text for path, text in changes.items() if text is not None or path in files}
        made = commit(store, ref, changes, *folders)
        trees[made] = {path: text for path, text in (files | changes).items() if text is not None}
        parents[made] = head
    repository = store.repository(REPO)
    for commit_id, expected in trees.items():
        found = store.commit_at(repository, commit_id)
        assert texts(store, found.files) == expected
        assert found.files.find(PATHS).keys() == expected.keys()
        assert list(found.files.below("b")) == sorted(path for path in expected if path.startswith("b/"))
        line = [each.id for each in store.ancestry(repository, commit_id)]
        assert line[-1] == root
        assert all(parents[child] == parent for child, parent in itertools.pairwise(line))


def test_a_file_and_a_folder_of_one_name_are_refused_unless_one_of_them_goes(store: Store) -> None:
    commit(store, "main", {"a": "file", "b/c": "inside"})
    for clash in ({"a/x": "1"}, {"b": "1"}, {"n": "1", "n/x": "1"}, {"a/x": "1", "z": "1"}):
        with pytest.raises(RefusedError, match="cannot be a file and a folder"):
            commit(store, "main", dict(clash))
    commit(store, "main", {"a/x": "1", "a": None})
    commit(store, "main", {"b": "1"}, "b")
    head = store.commit_at(store.repository(REPO), "main")
    assert texts(store, head.files) == {"a/x": "1", "b": "1"}
    assert len(store.ancestry(store.repository(REPO), "main")) == 4
    assert list(store.incoming.iterdir()) == []
    assert len(list(store.blob(REPO, "0" * 64).parent.iterdir())) == 3


def test_a_commit_takes_room_for_what_it_changes_only(store: Store, tmp_path: Path) -> None:
    history = tmp_path / "models/demo/a" / HISTORY
    commit(store, "main", {f"{number}.txt": "one text for all" for number in range(1_000)})
    before = history.stat().st_size
    for number in range(30):
        commit(store, "main", {"7.txt": str(number)})
    assert history.stat().st_size - before < 30 * 1_000
    assert store.commit_at(store.repository(REPO), "main").files.find(["7.txt"])["7.txt"].size == 2


def test_a_folder_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models/demo/a/commits").mkdir(parents=True)
    with pytest.raises(InputError, match=r"models/demo/a is a repository of version 0\.2\.0 or older"):
        Store(tmp_path)


def test_what_a_killed_server_left_is_removed_unless_another_one_runs(tmp_path: Path) -> None:
    one = Store(tmp_path)
    one.fresh().write_text("half an upload")
    other = Store(tmp_path)
    assert len(list(other.incoming.iterdir())) == 1
    del one, other
    assert list(Store(tmp_path).incoming.iterdir()) == []


def test_a_damaged_history_is_named(store: Store) -> None:
    history = store.history(store.repository(REPO))
    history.write_bytes(b"no database" * 1_000)
    with pytest.raises(RefusedError, match=r"^models/demo/a/history\.sqlite is damaged"):
        store.ancestry(store.repository(REPO), "main")
