"""Look for what must not leave this machine: secrets, paths, the user's name, pickles, optimiser state.

Every file is read before it is uploaded: text line by line, JSON values, rows of Parquet, metadata of tensors and PNGs.
"""

from __future__ import annotations

import getpass
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from safetensors import safe_open

from toolkit.core.errors import InputError, library_errors

SECRETS = {
    "a Hugging Face token": r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{22,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "an AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|aws_secret_access_key\W{1,4}[A-Za-z0-9/+]{40}",
    "a Google key": r"\bAIza[\w-]{35}|\bya29\.[\w-]{20,}",
    "an API key": r"\bsk-(?=[\w-]*\d)(?:[a-z]+-)*[\w-]{32,}|\b[sr]k_live_[A-Za-z0-9]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "a package registry's token": r"\bnpm_[A-Za-z0-9]{36}|\bpypi-AgE[\w-]{50,}",
    "a signed token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"'<>]+:[^\s/:@\"'<>]+@",
    "an authorization header": r"(?i:\bauthorization\W{1,4}(?:bearer|basic) )[\w.~+/=-]{16,}",
}
# A path from the root of a machine: where people and programs keep files, on Linux, macOS and Windows.
ROOTS = "home|Users|root|tmp|var|mnt|media|opt|srv|private|Volumes|workspace|content|kaggle|scratch|data|dev/shm"
PATHS = rf"(?<![\w/.~\\])/(?:{ROOTS})/[^\s/\"'<>]+|(?<!\w)[A-Za-z]:\\{{1,2}}\w[\w .-]*\\|\bfile://"
# A value that is nothing but a path, wherever its machine keeps files.
WHOLE_PATH = re.compile(r"/[^\s/:]+(?:/[^\s/:]+)+/?")
# Their entries are pieces of words and paths, and mean nothing.
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "added_tokens.json")
# Keys whose values a person chose as names.
CHOSEN = {"name", "id", "repo_id", "model_name"}
# User names that many machines share.
COMMON_USERS = {
    *("root", "user", "admin", "ubuntu", "runner", "nobody", "debian", "jovyan", "vscode", "app", "docker", "demo"),
}
PICKLE = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")
TRAINING_STATE = re.compile(r"(?:optimizer|scheduler|scaler|rng_state|training_args|trainer_state)[\w.-]*")
OPTIMISER_TENSOR = re.compile(r"exp_avg|(?:^|\.)optimizer\.")
SHOWN = 5
# A shorter token could be a word of the text.
SHORTEST_TOKEN = 8
A_PATH, A_USER = "a path of a machine", "the name of this machine's user"


@dataclass(frozen=True, slots=True)
class Text:
    """A text in a file, with its key or row as its place; `key` is the last key on the way to a JSON value."""

    text: str
    place: str = ""
    key: str = ""


def check_safe(files: Mapping[str, Path]) -> None:
    """Search files, given by their names in the repository, before they are uploaded.

    Raises:
        InputError: A file holds what must not leave this machine, or is not what its name says.
    """
    found = [leak for name, path in files.items() for leak in leaks_in(name, path)]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        shown = "; ".join(found[:SHOWN])
        raise InputError(
            f"This must not be published: {shown}{more}.", "Remove it there and where it came from, then try again."
        )


def leaks_in(name: str, path: Path) -> Iterator[str]:
    """What must not be published in one file, each kind once, with its place. Never the thing itself."""
    if TRAINING_STATE.fullmatch(Path(name).name):
        yield f"{name}: state of a training"
    elif is_pickle(path):
        yield f"{name}: a pickle"
    else:
        try:
            yield from (f"{name}, {place}: {what}" for place, what in _search(name, path))
        except InputError:
            yield f"{name}: no whole {path.suffix[1:]} file"


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, or as the archive that torch puts pickles into."""
    with path.open("rb") as stream:
        return PICKLE.match(stream.read(4)) is not None


def _search(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Search the texts of a file: places, and the kind of thing in each.

    Raises:
        InputError: The file cannot be read as what its name says.
    """
    vocabulary = Path(name).name in VOCABULARIES
    patterns = _patterns(path.resolve().parent, vocabulary=vocabulary)
    if path.suffix == ".safetensors":
        patterns["state of an optimiser"] = OPTIMISER_TENSOR
    seen: set[str] = set()
    for text in _whole(path) if vocabulary else READERS.get(path.suffix, _whole)(path):
        for what, pattern in patterns.items():
            if what not in seen and (match := pattern.search(text.text)):
                seen.add(what)
                yield text.place or f"line {text.text.count(chr(10), 0, match.start()) + 1}", what
        if text.key and (personal := _personal_value(text)) and personal not in seen:
            seen.add(personal)
            yield text.place, personal


# The texts of each kind of file.


def _whole(path: Path) -> Iterator[Text]:
    """A file as one text, whatever it holds."""
    yield Text(path.read_bytes().decode("utf-8", "replace"))


def _json(path: Path) -> Iterator[Text]:
    with library_errors("no JSON", "Make it again."):
        value = json.loads(path.read_bytes())
    yield from _values(value)


def _json_lines(path: Path) -> Iterator[Text]:
    for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").split("\n"), start=1):
        # Parsed, so that a backslash is one backslash.
        with library_errors("no JSON", "Make it again."):
            value = json.loads(line) if line else None
        for text in _values(value):
            yield Text(text.text, f"line {number}")


def _values(value: object, place: str = "", key: str = "") -> Iterator[Text]:
    """Keys and strings of a JSON value, however deep."""
    if isinstance(value, str):
        yield Text(value, place, key)
    elif isinstance(value, dict):
        for name, inner in value.items():
            inside = f"{place}.{name}" if place else str(name)
            yield Text(str(name), inside)
            yield from _values(inner, inside, str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _values(inner, f"{place}[{number}]", key)


def _parquet(path: Path) -> Iterator[Text]:
    import pyarrow.parquet

    number = 0
    with library_errors("no Parquet", "Make it again."), pyarrow.parquet.ParquetFile(path) as file:
        for key, value in (file.metadata.metadata or {}).items():
            yield Text(value.decode("utf-8", "replace"), f"metadata {key.decode('utf-8', 'replace')}")
        for batch in file.iter_batches(1_000):
            for row in batch.to_pylist():
                for text in _values(row):
                    yield Text(text.text, f"row {number}, {text.place}")
                number += 1


def _safetensors(path: Path) -> Iterator[Text]:
    with library_errors("no safetensors", "Make it again."), safe_open(path, framework="numpy") as file:
        metadata, names = file.metadata(), list(file.keys())
    yield from _values(metadata)
    for name in names:
        yield Text(name, f"tensor {name}")


def _png(path: Path) -> Iterator[Text]:
    """The texts that drawing programs write into an image."""
    with library_errors("no PNG", "Make it again."), Image.open(path, formats=["PNG"]) as image:
        image.load()
        texts = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
        exif = image.info.get("exif", b"").decode("latin-1")
    for key, value in {**texts, "exif": exif}.items():
        yield Text(value, f"text {key}", key)


READERS = {".json": _json, ".jsonl": _json_lines, ".parquet": _parquet, ".safetensors": _safetensors, ".png": _png}


# What is searched for.


def _patterns(folder: Path, *, vocabulary: bool) -> dict[str, re.Pattern[str]]:
    """The patterns to search for, by what they find."""
    from huggingface_hub import get_token

    patterns = {what: re.compile(pattern) for what, pattern in SECRETS.items()}
    token = get_token()
    if token and len(token) >= SHORTEST_TOKEN:
        patterns["the Hub token in use"] = re.compile(re.escape(token))
    # Folders of this machine whose paths name its user or its work; `/tmp/` may be an entry of a vocabulary.
    places = {folder, Path.cwd(), Path(tempfile.gettempdir())}
    with suppress(RuntimeError):  # a user without a home
        places.add(Path.home())
    own = sorted(f"{place}/" for place in places if len(place.parts) > 1)
    own = [re.escape(place) for place in own if not vocabulary or place.count("/") > 2]
    if paths := own if vocabulary else [*own, PATHS]:
        patterns[A_PATH] = re.compile("|".join(paths))
    return patterns


def _personal_value(text: Text) -> str | None:
    """The kind of thing that a JSON value gives away: a path, or the user of this machine; None: neither."""
    if WHOLE_PATH.fullmatch(text.text):
        return A_PATH
    user = _user()
    if user is None:
        return None
    named = text.text == user and text.key not in CHOSEN
    return A_USER if named or re.search(rf"(?<![\w.-]){re.escape(user)}@\w", text.text) else None


def _user() -> str | None:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may be a number without a name
        return None
    return user if user.lower() not in COMMON_USERS and len(user) > 2 else None
