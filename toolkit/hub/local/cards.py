"""Cards, the README.md of repositories: their text, their metadata, and what is wrong with it."""

from typing import Any

from starlette.responses import Response

from toolkit.cards.page import front_matter
from toolkit.hub.local.call import Call, answer, text_field
from toolkit.hub.local.objects import Commit, Repository
from toolkit.hub.local.refusal import malformed

_LONGEST = 2_000_000  # bytes: more is no card, and would keep a reader waiting
# What the Hub wants of these fields of a card, when they are there.
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "base_model": (str, list),
    "language": (str, list),
    "library_name": (str,),
    "license": (str, list),
    "model-index": (list,),
    "pipeline_tag": (str,),
    "tags": (list,),
}


def card_text(call: Call, repository: Repository, commit: Commit, path: str = "README.md") -> str | None:
    """The card of a commit, when it has one of a length that a card can have."""
    entry = commit.files.get(path)
    if entry is None or entry.size > _LONGEST:
        return None
    return call.store.blob(repository.repo, entry.sha256).read_text("utf-8", "replace")


def card_data(call: Call, repository: Repository, commit: Commit, path: str = "README.md") -> dict[str, Any]:
    """The card's metadata; none when the card or its YAML is missing or broken."""
    try:
        return front_matter(card_text(call, repository, commit, path) or "")
    except ValueError:
        return {}


def validate_yaml(call: Call) -> Response:
    errors, warnings = _check_card(text_field(call.json(), "content"))
    if not errors:
        return answer({"errors": [], "warnings": warnings})
    refused = malformed("Invalid metadata in README.md")
    refused.extra.update({"errors": errors, "warnings": warnings})
    raise refused


def _check_card(content: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    try:
        metadata = front_matter(content)
    except ValueError as error:
        return [{"message": str(error)}], []
    if not metadata:
        return [], [{"message": "empty or missing yaml metadata in repo card"}]
    errors = [
        {"message": f'"{field}" must be {" or ".join("text" if kind is str else "a list" for kind in kinds)}'}
        for field, kinds in _FIELD_TYPES.items()
        if metadata.get(field) is not None and not isinstance(metadata[field], kinds)
    ]
    return errors, []
