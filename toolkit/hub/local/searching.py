"""Searches over repositories. What this Hub can not narrow or sort by it refuses: the whole list would be wrong."""

from collections.abc import Iterator
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import Response

from toolkit.hub.local.call import Call, paged
from toolkit.hub.local.cards import card_data
from toolkit.hub.local.describing import describe, describe_fields, tags, texts, wanted_fields
from toolkit.hub.local.objects import Commit, Repository
from toolkit.hub.local.refusal import malformed
from toolkit.hub.local.store import MAIN

_KNOWN = {
    *("author", "search", "filter", "tags", "library", "gated", "sort", "direction", "limit", "cursor"),
    *("full", "cardData", "expand", "expand[]"),
}
_KNOWN_OF = {"models": {"pipeline_tag"}, "datasets": set[str](), "spaces": {"models", "datasets"}}
_UNCOUNTED = ("downloads", "likes", "trendingScore")  # 0 everywhere, so the order stays
_SORTS = ("lastModified", "createdAt", *_UNCOUNTED)


def search(call: Call) -> Response:
    """The repositories of one kind, by name or as `sort` says; newest first, unless `direction` is 1."""
    query, kind = call.request.query_params, call.args["kind"]
    for name in query:
        if name not in _KNOWN | _KNOWN_OF[kind]:
            raise malformed(f"The local Hub can not search {kind} by {name[:40]!r}")
    fields, more = wanted_fields(call), _more(call, kind)
    found = list(_found(call, query))

    def shown(each: tuple[Repository, Commit]) -> dict[str, Any]:
        return describe_fields(call, *each, fields) if fields else describe(call, *each, *more)

    return paged(call, _sorted(found, query), shown)


def _found(call: Call, query: QueryParams) -> Iterator[tuple[Repository, Commit]]:
    author, words = query.get("author"), [each.lower() for each in query.getlist("search")]
    gated = call.flag("gated") if "gated" in query else None
    for repository in call.store.repositories(call.args["kind"]):
        name = str(repository.repo).lower()
        if (
            call.may_see(repository)
            and author in (None, repository.repo.namespace)
            and all(each in name for each in words)
            and gated in (None, repository.gated is not None)
        ):
            commit = call.store.commit_at(repository, MAIN)
            if _card_matches(call, query, repository, commit):
                yield repository, commit


def _card_matches(call: Call, query: QueryParams, repository: Repository, commit: Commit) -> bool:
    """Whether a card has every tag that is asked for, the task, and, of a Space, the models and datasets it shows."""
    wanted = {tag for name in ("filter", "tags", "library") for tag in query.getlist(name)}
    task = query.get("pipeline_tag")
    uses = {name: set(query.getlist(name)) for name in ("models", "datasets")}
    if not wanted and task is None and not any(uses.values()):
        return True
    card = card_data(call, repository, commit)
    return (
        wanted <= set(tags(repository.repo.kind, card))
        and task in (None, card.get("pipeline_tag"))
        and all(names <= set(texts(card.get(field))) for field, names in uses.items())
    )


def _sorted(found: list[tuple[Repository, Commit]], query: QueryParams) -> list[tuple[Repository, Commit]]:
    by, direction = query.get("sort"), query.get("direction")
    if direction not in (None, "1", "-1") or (direction is not None and by is None):
        raise malformed("'direction' is 1 or -1, and goes with 'sort'")
    if by is None or by in _UNCOUNTED:
        return found
    if by not in _SORTS:
        raise malformed(f"The local Hub can not sort by {by[:40]!r}, but by {', '.join(_SORTS)}")
    return sorted(
        found,
        key=lambda each: each[1].date if by == "lastModified" else each[0].created_at,
        reverse=direction != "1",
    )


def _more(call: Call, kind: str) -> list[str]:
    """What a search says beside what is always said: `full` of datasets and Spaces holds the card too."""
    more = ["siblings"] if call.flag("full") else []
    return [*more, "cardData"] if call.flag("cardData") or (more and kind != "models") else more
