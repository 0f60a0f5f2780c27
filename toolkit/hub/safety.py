"""What must not leave this machine: secrets, its paths and its user, pickles and optimiser state. Knows no Hub.

Every file that is about to be uploaded is looked at, inside Parquet, safetensors and PNG too.
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
from typing import Any

from toolkit.cards.page import front_matter
from toolkit.core.errors import InputError
from toolkit.hub.texts import Text, texts_of, whole

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
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
BASE_TAG = re.compile(r"base_model:(?:\w+:)?(.*)", re.DOTALL)
# A vocabulary holds pieces of paths, and of anything else.
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "added_tokens.json")
# Keys of what somebody chose to name so.
CHOSEN = {"name", "id", "repo_id", "model_name"}
# Names of accounts that say nothing of who uses them.
NOBODY = {"root", "user", "admin", "ubuntu", "runner", "nobody", "debian", "jovyan", "vscode", "app", "docker", "demo"}
PICKLE = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")
OPTIMISER = re.compile(r"(?:optimizer|scheduler|scaler|rng_state|training_args|trainer_state)[\w.-]*")
MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".parquet": b"PAR1"}
SHOWN = 5
# A shorter one may well be a word.
SHORTEST_TOKEN = 8
A_PATH, A_USER = "a path of a machine", "the name of this machine's user"


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that must not be published: the file, the place in it, and what it is. Never the thing itself."""

    file: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}{f', {self.place}' if self.place else ''}: {self.what}"


def check_safe(files: Mapping[str, Path]) -> None:
    """Look at every file that is about to be uploaded, given by its name in the repository.

    Raises:
        InputError: One holds what must not leave this machine, or is not what its name says.
    """
    found = [leak for name, path in files.items() for leak in leaks_in(name, path)]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        shown = "; ".join(map(str, found[:SHOWN]))
        raise InputError(
            f"This must not be published: {shown}{more}.", "Remove it there and where it came from, then try again."
        )


def leaks_in(name: str, path: Path) -> Iterator[Leak]:
    """What must not be published in one file, each kind once."""
    if OPTIMISER.fullmatch(Path(name).name):
        yield Leak(name, "", "state of a training")
        return
    if wrong := _wrong_content(name, path):
        yield Leak(name, "", wrong)
        return
    vocabulary = Path(name).name in VOCABULARIES
    searches = _searches(path.resolve().parent, vocabulary=vocabulary)
    seen: set[str] = set()
    for text in whole(path) if vocabulary else texts_of(path):
        if path.suffix == ".md":
            yield from _broken_card(name, text.text)
        for what, pattern in searches.items():
            if what not in seen and (match := pattern.search(text.text)):
                seen.add(what)
                yield Leak(name, text.place or _line(text.text, match.start()), what)
        if text.key and (personal := _personal_value(text)) and personal not in seen:
            seen.add(personal)
            yield Leak(name, text.place, personal)


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle does, or as the archive that torch puts them into."""
    with path.open("rb") as stream:
        return PICKLE.match(stream.read(4)) is not None


def _wrong_content(name: str, path: Path) -> str | None:
    """Why a file is not what its name says; a pickle runs code wherever it is loaded."""
    if is_pickle(path):
        return "a pickle"
    with path.open("rb") as stream:
        head = stream.read(8)
    expected = MAGIC.get(path.suffix)
    if expected is not None and not head.startswith(expected[: len(head)] if head else expected):
        return f"no {path.suffix[1:].upper() if path.suffix == '.png' else 'Parquet'} file"
    if path.suffix == ".safetensors":
        return _wrong_safetensors(path)
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return "not valid JSON"
    return None


def _wrong_safetensors(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            optimiser = [key for key in file.keys() if re.search(r"exp_avg|(^|\.)optimizer\.", key)]  # noqa: SIM118
    except SafetensorError:
        return "no safetensors file"
    return f"state of an optimiser ({optimiser[0]})" if optimiser else None


def _broken_card(name: str, text: str) -> Iterator[Leak]:
    """Metadata that the Hub would refuse, or read as something else."""
    try:
        metadata = front_matter(text)
    except ValueError as error:
        yield Leak(name, "line 1", str(error).split("\n")[0].rstrip("."))
        return
    tagged = [found[1] for tag in _listed(metadata.get("tags")) if (found := BASE_TAG.fullmatch(tag))]
    for key, bases in (("base_model", _listed(metadata.get("base_model"))), ("tags", tagged)):
        if any(not HUB_ID.fullmatch(base) for base in bases):
            yield Leak(name, key, "a base that is no Hub id")


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value is not None else []


def _searches(folder: Path, *, vocabulary: bool) -> dict[str, re.Pattern[str]]:
    """What is searched for, by what it is."""
    searches = {what: re.compile(pattern) for what, pattern in SECRETS.items()}
    from huggingface_hub import get_token

    token = get_token()
    if token and len(token) >= SHORTEST_TOKEN:
        searches["the Hub token in use"] = re.compile(re.escape(token))
    # A vocabulary may well have `/tmp/` as a piece.
    own = [re.escape(place) for place in _own_places(folder) if not vocabulary or place.count("/") > 2]
    if patterns := own if vocabulary else [*own, PATHS]:
        searches[A_PATH] = re.compile("|".join(patterns))
    return searches


def _own_places(folder: Path) -> list[str]:
    """Folders of this machine whose paths say whose it is."""
    places = {folder, Path.cwd(), Path(tempfile.gettempdir())}
    with suppress(RuntimeError):  # a user without a home
        places.add(Path.home())
    return sorted(f"{place}/" for place in places if len(place.parts) > 1)


def _personal_value(text: Text) -> str | None:
    """Whether a value of a file of facts is a path, or the user of this machine, or their address at it."""
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
    except (KeyError, OSError):  # a container's user may have a number alone
        return None
    return user if user.lower() not in NOBODY and len(user) > 2 else None


def _line(text: str, position: int) -> str:
    return f"line {text.count(chr(10), 0, position) + 1}"
