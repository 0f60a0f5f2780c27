"""Searches of the local Hub, by the real client: right answers, or a refusal in one line."""

from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError

from toolkit.hub.local.serve import running_hub

CARDS = {
    ("model", "team/old"): "library_name: peft\npipeline_tag: text-generation\ntags: [zz, both]\nlanguage: [ko, en]",
    ("model", "other/bare"): None,
    ("model", "team/new"): "license: mit\ntags: [both]\ndatasets: [team/names]\nbase_model: a/b\n"
    "base_model_relation: adapter",
    ("dataset", "team/names"): "language: [ko]\nlicense: mit\ntask_categories: [text-generation]\n"
    "size_categories: n<1K\nsource_datasets: original\ntags: [zz]",
    ("dataset", "team/bare"): None,
    ("space", "team/page"): "sdk: gradio\nmodels: [team/old]\ntags: [zz]",
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HfApi]:
    """A client of a Hub of some repositories."""
    with running_hub(tmp_path_factory.mktemp("hub")) as endpoint:
        api = HfApi(endpoint=endpoint, token="x")
        for (kind, name), card in CARDS.items():
            api.create_repo(name, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
            if card is not None:
                content = f"---\n{card}\n---\n# Card\n".encode()
                api.upload_file(repo_id=name, repo_type=kind, path_in_repo="README.md", path_or_fileobj=content)
        yield api


def ids(found: object) -> list[str]:
    return [each.id for each in found]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({}, ["other/bare", "team/new", "team/old"]),
        ({"author": "team"}, ["team/new", "team/old"]),
        ({"search": "NEW"}, ["team/new"]),
        ({"filter": ["both", "peft"]}, ["team/old"]),
        ({"filter": "base_model:adapter:a/b"}, ["team/new"]),
        ({"trained_dataset": "team/names"}, ["team/new"]),
        ({"filter": "both", "limit": 1}, ["team/new"]),
    ],
)
def test_models_are_found_by_author_name_and_tags(api: HfApi, narrowed: dict[str, object], expected: list[str]) -> None:
    assert ids(api.list_models(**narrowed)) == expected  # type: ignore[arg-type]


def test_datasets_and_spaces_are_found_by_their_cards(api: HfApi) -> None:
    assert ids(api.list_datasets(language="ko", size_categories="n<1K", filter="zz")) == ["team/names"]
    assert ids(api.list_datasets(filter="source_datasets:original")) == ["team/names"]
    assert ids(api.list_datasets(language="en")) == []
    assert ids(api.list_datasets(dataset_name="nam", search="other")) == []
    assert ids(api.list_spaces(filter="zz")) == ["team/page"]


def test_a_search_says_as_much_as_was_asked_for(api: HfApi) -> None:
    brief = next(iter(api.list_models(filter="zz")))
    assert (brief.siblings, brief.card_data) == (None, None)
    assert (brief.pipeline_tag, brief.library_name) == ("text-generation", "peft")
    assert brief.tags == ["peft", "text-generation", "ko", "en", "zz", "both"]
    whole = next(iter(api.list_models(filter="zz", full=True, cardData=True)))
    assert [each.rfilename for each in whole.siblings or []] == [".gitattributes", "README.md"]
    assert whole.card_data is not None
    dataset = next(iter(api.list_datasets(filter="zz", full=True)))
    assert (dataset.siblings is not None, dataset.card_data is not None) == (True, True)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda api: api.list_models(sort="created_at"), "sort"),
        (lambda api: api.list_spaces(linked=True), "linked"),
    ],
)
def test_a_search_that_the_hub_lacks_is_refused(api: HfApi, ask: Callable[[HfApi], object], told: str) -> None:
    with pytest.raises(BadRequestError, match=f"does not support '{told}'"):
        list(ask(api))  # type: ignore[call-overload]
