"""How the local Hub keeps commits: what a commit's files are, and the folders of versions before 0.3.0."""

import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from toolkit.hub.local.history import HISTORY, Files, last_change
from toolkit.hub.local.objects import Change, FileEntry, Operation, RefusedError, Remove, git_blob_id, repo_id
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


def write_old(root: Path) -> dict[str, dict[str, str]]:
    """A repository of 0.1.0 or 0.2.0: main with three commits, a branch from the first, and a commit without a name."""
    folder = root / "models/demo/a"
    for name in ("commits", "blobs"):
        (folder / name).mkdir(parents=True)
    ids = {name: hashlib.sha1(name.encode()).hexdigest() for name in ("one", "two", "three", "branch", "unnamed")}
    parents = {"one": None, "two": "one", "three": "two", "branch": "one", "unnamed": "branch"}
    trees = {
        "one": {"a": "1", "b/c": "1"},
        "two": {"a": "2", "b/c": "1"},
        "three": {"a": "2", "d": "3"},
        "branch": {"a": "b", "b/c": "1"},
        "unnamed": {},
    }
    for name, files in trees.items():
        entries = {}
        for path, text in files.items():
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            (folder / "blobs" / sha256).write_text(text)
            entries[path] = FileEntry(sha256, len(text), git_blob_id(text.encode()), False)
        about = {"title": name, "message": "\ud800", "author": "ash", "date": "2026-01-01T00:00:00.000Z"}
        parent = parents[name] and ids[str(parents[name])]
        kept = {path: {**vars(entry), "commit": ids[name]} for path, entry in entries.items()}
        file = folder / "commits" / f"{ids[name]}.json"
        file.write_text(json.dumps({"id": ids[name], "parent": parent, **about, "files": kept}))
    branches = {"main": ids["three"], "other": ids["branch"]}
    state = {
        "private": True,
        "created_at": "2026-01-01T00:00:00.000Z",
        "branches": branches,
        "tags": {"v1": ids["one"]},
    }
    (folder / "repository.json").write_text(json.dumps({**state, "discussions": [], "gated": None}))
    return {ids[name]: files for name, files in trees.items()}


def test_a_folder_of_0_2_0_opens_with_every_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    caplog.set_level("INFO", "toolkit")
    trees = write_old(tmp_path)
    with monkeypatch.context() as patch:  # stopped after the history is in its place
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path)
    assert caplog.messages == ["Reading in 5 commits of an older version: models/demo/a."]
    for _ in range(2):
        store = Store(tmp_path)
        repository = store.repository(REPO)
        assert {each: texts(store, store.commit_at(repository, each).files) for each in trees} == trees
        assert [each.title for each in store.ancestry(repository, "main")][-3:] == ["three", "two", "one"]
        changed = store.commit_at(repository, "other").files.below().values()
        assert last_change(store.history(repository), changed).title == "branch"
        assert (repository.private, store.commit_at(repository, "other").message) == (True, "\ud800")
        commit(store, "main", {"e": "new"})
    assert sorted(path.name for path in (tmp_path / "models/demo/a").iterdir()) == ["blobs", HISTORY, "repository.json"]
    assert list(store.incoming.iterdir()) == []


def test_an_old_folder_is_read_in_once_by_two_servers_that_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees, locked, first = write_old(tmp_path), Store.locked, iter([True])

    @contextmanager
    def late(store: Store) -> Iterator[None]:
        if next(first, False):
            Store(tmp_path)  # has the lock before
        with locked(store):
            yield

    monkeypatch.setattr(Store, "locked", late)
    store = Store(tmp_path)
    repository = store.repository(REPO)
    assert {each: texts(store, store.commit_at(repository, each).files) for each in trees} == trees


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
