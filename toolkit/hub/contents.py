"""Choose the files of a folder that are published, and check that they are still what its step wrote.

Only files that the manifest names are published; all others stay on this machine.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.folder import (
    atomic_folder,
    file_hashes,
    keep_edited,
    read_json,
    sha256_file,
    write_json,
    write_manifest,
)
from toolkit.core.layout import (
    ADAPTER_WEIGHTS,
    BENCHMARK,
    CARD,
    CENTROIDS,
    EDITED,
    EVAL_RESULTS,
    FIGURES,
    KOREAN_CARD,
    MANIFEST,
    VALIDATION,
)

# Kinds of files that steps write and anybody can open safely. A pickle or a checkpoint is never among them.
ALLOWED = {
    "adapter": (
        *(ADAPTER_WEIGHTS, CENTROIDS, CARD, KOREAN_CARD, f"{FIGURES}/*.png", EVAL_RESULTS),
        *("*.json", "*.jsonl", "*.jinja", "*.model", "*.parquet", "vocab.txt", "merges.txt"),
    ),
    "encoder": (
        *("model.safetensors", CENTROIDS, CARD, f"{FIGURES}/*.png"),
        *("*.json", "*/config.json", "*.jsonl", "*.parquet", "*.model", "vocab.txt", "merges.txt"),
    ),
    # The splits lie in `data/` or, in other layouts, beside the card, as the rejected rows do.
    "dataset": (CARD, f"{FIGURES}/*.png", "data/*.parquet", "*.parquet", VALIDATION, BENCHMARK),
    "base": ("*.safetensors", "*.json", "*.jinja", CARD),
    "space": (CARD, "app.py", "requirements.txt", "space.json"),
}
CARDS = {"adapter": (CARD, KOREAN_CARD), "encoder": (CARD,), "dataset": (CARD,), "base": (), "space": (CARD,)}


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a folder that are published, by their names in the repository, and the names of the others."""

    files: dict[str, Path]
    left: list[str]


def contents(folder: Path, kind: str) -> Contents:
    """The files that the manifest names and publishing allows, and the manifest itself."""
    # The manifest does not name itself, nor the validation report of a dataset.
    named = {*read_json(folder / MANIFEST)["files"], MANIFEST, VALIDATION}
    there = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in there.items() if name in named and is_allowed(name, kind)}
    return Contents(files, [name for name in there if name not in files])


def is_allowed(name: str, kind: str) -> bool:
    """Whether a file of this name may be published. `*` does not reach into folders."""
    return name == MANIFEST or any(
        fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in ALLOWED[kind]
    )


def check_intact(folder: Path, kind: str, manifest: Mapping[str, Any]) -> None:
    """Raise InputError unless the files of the manifest are those that its step wrote; a card may be edited."""
    wrong = []
    for name, digest in manifest["files"].items():
        if not is_allowed(name, kind) or name in CARDS[kind]:
            continue
        if not (folder / name).is_file():
            wrong.append(f"{name} is missing")
        elif sha256_file(folder / name) != digest:
            wrong.append(f"{name} is not the file that the manifest names")
    if wrong:
        raise InputError(
            f"{folder} was changed after pkt wrote it: {', '.join(wrong[:5])}.",
            "Make the folder again, so that its card describes these files.",
        )


def edited_cards(kind: str, manifest: Mapping[str, Any], read: Callable[[str], bytes | None]) -> dict[str, bytes]:
    """The cards that somebody edited by hand since they were rendered; `read` gives a card's content, if there is one.

    The manifest of a publication holds the hash of an edited card, and lists it as edited.
    """
    hashes, known = manifest.get("files") or {}, manifest.get(EDITED) or {}
    found = {}
    for name in CARDS.get(kind, ()):
        if name in hashes and (content := read(name)) is not None:
            digest = hashlib.sha256(content).hexdigest()
            if digest != hashes[name] or digest == known.get(name):
                found[name] = content
    return found


def rewrite(
    folder: Path,
    kind: str,
    manifest: Mapping[str, Any],
    facts: Mapping[str, Any],
    edited: Mapping[str, bytes],
    render: Callable[[Path], None],
) -> None:
    """Write a folder again as it will be published: `edited` cards stay, all others are rendered.

    `render` writes cards and figures into a copy of the folder, whose new manifest holds `facts`. Files that the
    present `manifest` does not name stay unnamed.
    """
    with atomic_folder(folder, kind, even_changed=True) as fresh:
        shutil.copytree(folder, fresh, dirs_exist_ok=True)
        before = {path.relative_to(fresh).as_posix() for path in fresh.rglob("*")}
        render(fresh)
        facts = keep_edited(fresh, facts, edited)
        hashes = file_hashes(fresh)
        named = {*manifest["files"], *CARDS[kind], *(hashes.keys() - before)}
        write_manifest(fresh, kind, facts)
        written = read_json(fresh / MANIFEST)
        written["files"] = {name: each for name, each in hashes.items() if name in named and is_allowed(name, kind)}
        write_json(fresh / MANIFEST, written)
