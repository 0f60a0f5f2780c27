"""A repository as the clients read it, with as much of its card and its files as they ask for."""

from collections.abc import Iterable
from typing import Any

from toolkit.hub.local.call import Call
from toolkit.hub.local.cards import card_data
from toolkit.hub.local.contents import lfs_details
from toolkit.hub.local.objects import Commit, FileEntry, Repository
from toolkit.hub.local.refusal import malformed

# Fields of a card that are tags: of the value alone, and after the field's name, which of datasets is all of them.
_PLAIN = ("library_name", "pipeline_tag", "language", "tags")
_NAMED = ("license", "base_model", "datasets", "models")
_OF_DATASETS = (
    *("task_categories", "task_ids", "language", "license", "size_categories", "source_datasets"),
    *("annotations_creators", "language_creators", "multilinguality"),
)
_CALLED = {"datasets": "dataset", "models": "model"}
# What a client may ask for by name. What would have to be measured by something that runs is not among it.
FIELDS = (
    *("author", "cardData", "createdAt", "datasets", "disabled", "downloads", "gated", "lastModified", "library_name"),
    *("likes", "model-index", "models", "pipeline_tag", "private", "sdk", "sha", "siblings", "tags", "trendingScore"),
)


def tags(repo_kind: str, card: dict[str, Any]) -> list[str]:
    """What a repository can be found by: the card's own tags, and its licence, languages, task and the like."""
    plain, named = (("tags",), _OF_DATASETS) if repo_kind == "datasets" else (_PLAIN, _NAMED)
    found = [text for field in plain for text in texts(card.get(field))]
    found += [f"{_CALLED.get(field, field)}:{text}" for field in named for text in texts(card.get(field))]
    if isinstance(relation := card.get("base_model_relation"), str):
        found += [f"base_model:{relation}:{text}" for text in texts(card.get("base_model"))]
    return list(dict.fromkeys(found))


def texts(value: object) -> list[str]:
    """A field of a card that is one text or a list of them."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def describe(call: Call, repository: Repository, commit: Commit, *more: str) -> dict[str, Any]:
    """What is always said of a repository, and `more`: `siblings`, its files, or `cardData`, its metadata."""
    card = card_data(call, repository, commit)
    described: dict[str, Any] = {
        "id": str(repository.repo),
        "author": repository.repo.namespace,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": repository.created_at,
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "trendingScore": 0,
        "tags": tags(repository.repo.kind, card),
    }
    texts_of_card = ("sdk",) if repository.repo.kind == "spaces" else ("pipeline_tag", "library_name")
    described |= {field: card[field] for field in texts_of_card if isinstance(card.get(field), str)}
    if "cardData" in more and card:
        described["cardData"] = card
    if "siblings" in more:
        with_blobs = call.flag("blobs")
        described["siblings"] = [_sibling(path, entry, with_blobs) for path, entry in sorted(commit.files.items())]
    return described


def describe_fields(call: Call, repository: Repository, commit: Commit, fields: Iterable[str]) -> dict[str, Any]:
    """The named fields alone, as far as the repository has them."""
    described = describe(call, repository, commit, "siblings", "cardData")
    card = described.get("cardData", {})
    described |= {field: texts(card[field]) for field in ("datasets", "models") if field in card}
    if "model-index" in card:
        described["model-index"] = card["model-index"]
    return {"id": described["id"], **{field: described[field] for field in fields if field in described}}


def wanted_fields(call: Call) -> list[str]:
    """The fields that a query asks for by `expand`. Raises `RefusedError` (400) for one that this Hub does not know."""
    query = call.request.query_params
    fields = [*query.getlist("expand"), *query.getlist("expand[]")]
    for field in fields:
        if field not in FIELDS:
            raise malformed(f"The local Hub knows no field {field[:40]!r} to expand; there are {', '.join(FIELDS)}")
    return fields


def _sibling(path: str, entry: FileEntry, with_blobs: bool) -> dict[str, Any]:
    if not with_blobs:
        return {"rfilename": path}
    return {"rfilename": path, "size": entry.size, "blobId": entry.oid, **lfs_details(entry, "sha256")}
