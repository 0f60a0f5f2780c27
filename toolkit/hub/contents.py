"""What of a folder is published, and whether it is still what its step wrote. Knows no Hub.

A manifest names the files of its folder: what it does not name stays on this machine, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes, read_json, sha256_file, write_json, write_manifest
from toolkit.core.layout import MANIFEST, VALIDATION
from toolkit.hub.space import SPACE_FILES

# The kinds of files that steps write and anybody can open safely. A pickle or a checkpoint is never among them.
ALLOWED = {
    "adapter": (
        *("adapter_model.safetensors", "README.md", "README.ko.md", "figures/*.png"),
        *("*.json", "*.jsonl", "*.jinja", "*.model", "*.parquet", "vocab.txt", "merges.txt"),
    ),
    # The splits lie in `data/` or, in other layouts, beside the card, as what a build dropped does.
    "dataset": ("README.md", "figures/*.png", "data/*.parquet", "*.parquet", VALIDATION),
    "base": ("*.safetensors", "*.json", "*.jinja", "README.md"),
    "space": SPACE_FILES,
}
# What says of a whole dataset that it is sound is named by no manifest, and still belongs to it.
UNNAMED = {"adapter": (), "dataset": (VALIDATION,), "base": (), "space": ()}
CARDS = {"adapter": ("README.md", "README.ko.md"), "dataset": ("README.md",), "base": (), "space": ("README.md",)}
# The manifest's fact of cards that somebody wrote by hand: name and SHA-256 of each.
EDITED = "edited_cards"


@dataclass(frozen=True, slots=True)
class Contents:
    """A folder's files that are published, by their names in the repository, and the names of those that are not."""

    files: dict[str, Path]
    left: list[str]


def contents(folder: Path, kind: str) -> Contents:
    """What of a folder is published: what its manifest names and publishing allows, and the manifest itself."""
    named = {*read_json(folder / MANIFEST)["files"], *UNNAMED[kind], MANIFEST}
    there = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in there.items() if name in named and is_allowed(name, kind)}
    return Contents(files, [name for name in there if name not in files])


def is_allowed(name: str, kind: str) -> bool:
    """Whether a file of this name may be published. `*` does not reach into folders."""
    return name == MANIFEST or any(
        fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in ALLOWED[kind]
    )


def check_intact(folder: Path, kind: str, manifest: Mapping[str, Any]) -> None:
    """Check that the files which the manifest names are those that its step wrote; a card may be edited.

    Raises:
        InputError: One is missing or was changed.
    """
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
            "Make the folder again, so that its card tells of these files.",
        )


def edited_cards(folder: Path, kind: str, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The cards of a folder that somebody edited by hand since they were rendered, each with what it says."""
    files, known = manifest.get("files") or {}, manifest.get(EDITED) or {}
    found = {}
    for name in CARDS[kind]:
        if (folder / name).is_file() and name in files:
            digest = sha256_file(folder / name)
            if digest != files[name] or digest == known.get(name):
                found[name] = (folder / name).read_bytes()
    return found


def write_publication_manifest(
    folder: Path, kind: str, facts: Mapping[str, Any], named: set[str], edited: Mapping[str, bytes]
) -> None:
    """Put the edited cards in the place of the rendered ones, and write the manifest of what is published.

    Args:
        folder: The finished folder, which may hold other files too; the manifest does not name them.
        kind: `adapter` or `dataset`.
        facts: As for `write_manifest`.
        named: The files that belong to it.
        edited: Cards that somebody wrote by hand.
    """
    for name, content in edited.items():
        (folder / name).write_bytes(content)
    hashes = file_hashes(folder)
    facts = {key: value for key, value in facts.items() if key != EDITED}
    if edited:
        facts[EDITED] = {name: hashes[name] for name in edited}
    write_manifest(folder, kind, facts)
    manifest = read_json(folder / MANIFEST)
    manifest["files"] = {name: digest for name, digest in hashes.items() if name in named and is_allowed(name, kind)}
    write_json(folder / MANIFEST, manifest)
