"""Searches of the local Hub, by the real client: right answers, or a refusal in one line."""

from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError

from toolkit.hub.local.serve import running_hub


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HfApi]:
    """A client of a Hub of some repositories."""
    with running_hub(tmp_path_factory.mktemp("hub")) as endpoint:
        api = HfApi(endpoint=endpoint, token="x")
        for name in ("team/old", "other/bare", "team/new"):
            api.create_repo(name)
        api.create_repo("team/names", repo_type="dataset")
        yield api


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({}, ["other/bare", "team/new", "team/old"]),
        ({"author": "team"}, ["team/new", "team/old"]),
        ({"search": "NEW", "full": True, "cardData": True}, ["team/new"]),
        ({"author": "team", "limit": 1}, ["team/new"]),
    ],
)
def test_models_are_found_by_author_and_name(api: HfApi, narrowed: dict[str, object], expected: list[str]) -> None:
    found = list(api.list_models(**narrowed))  # type: ignore[arg-type]
    assert [each.id for each in found] == expected
    assert [each.rfilename for each in found[0].siblings or []] == [".gitattributes"]


def test_a_kind_is_listed_alone(api: HfApi) -> None:
    assert [each.id for each in api.list_datasets()] == ["team/names"]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda api: api.list_models(sort="created_at"), "sort"),
        (lambda api: api.list_models(filter="peft"), "filter"),
    ],
)
def test_a_search_that_the_hub_lacks_is_refused(api: HfApi, ask: Callable[[HfApi], object], told: str) -> None:
    with pytest.raises(BadRequestError, match=f"does not support '{told}'"):
        list(ask(api))  # type: ignore[call-overload]
