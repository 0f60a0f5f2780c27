"""Searches of the local Hub, by the real client: right answers, or a refusal in one line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
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
    "size_categories: n<1K\ntags: [zz]",
    ("dataset", "team/bare"): None,
    ("space", "team/page"): "sdk: gradio\nmodels: [team/old]\ntags: [zz]",
    ("space", "team/bare"): None,
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Hub of some repositories. Of the models, the one that was made first was changed last."""
    with running_hub(tmp_path_factory.mktemp("hub")) as endpoint:
        api = HfApi(endpoint=endpoint, token="x")
        for (kind, name), card in CARDS.items():
            api.create_repo(name, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
            if card is not None:
                write(api, kind, name, f"---\n{card}\n---\n# Card\n")
        api.update_repo_settings("team/old", gated="manual")
        api.upload_file(repo_id="team/old", path_in_repo="notes.txt", path_or_fileobj=b"x")
        yield endpoint


def write(api: HfApi, kind: str, name: str, text: str) -> None:
    api.upload_file(repo_id=name, repo_type=kind, path_in_repo="README.md", path_or_fileobj=text.encode())


@pytest.fixture
def api(url: str) -> HfApi:
    return HfApi(endpoint=url, token="x")


def ids(found: object) -> list[str]:
    return [each.id for each in found]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"filter": "zz"}, ["team/old"]),
        ({"filter": "both"}, ["team/new", "team/old"]),
        ({"filter": ["both", "zz"]}, ["team/old"]),
        ({"filter": "nope"}, []),
        ({"filter": "peft"}, ["team/old"]),
        ({"filter": "ko"}, ["team/old"]),
        ({"filter": "license:mit"}, ["team/new"]),
        ({"filter": "base_model:a/b"}, ["team/new"]),
        ({"filter": "base_model:adapter:a/b"}, ["team/new"]),
        ({"trained_dataset": "team/names"}, ["team/new"]),
        ({"pipeline_tag": "text-generation"}, ["team/old"]),
        ({"pipeline_tag": "image-classification"}, []),
        ({"gated": True}, ["team/old"]),
        ({"gated": False, "author": "team"}, ["team/new"]),
        ({"filter": "both", "search": "NEW"}, ["team/new"]),
        ({"filter": "both", "limit": 1}, ["team/new"]),
        ({}, ["other/bare", "team/new", "team/old"]),
    ],
)
def test_models_are_narrowed_by_their_cards(api: HfApi, narrowed: dict[str, object], expected: list[str]) -> None:
    assert ids(api.list_models(**narrowed)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"filter": "nope"}, []),
        ({"filter": "zz"}, ["team/names"]),
        ({"language": "ko", "task_categories": "text-generation", "size_categories": "n<1K"}, ["team/names"]),
        ({"language": "en"}, []),
        ({"dataset_name": "nam", "search": "team"}, ["team/names"]),
        ({"dataset_name": "nam", "search": "other"}, []),
    ],
)
def test_datasets_are_narrowed_by_their_cards(api: HfApi, narrowed: dict[str, object], expected: list[str]) -> None:
    assert ids(api.list_datasets(**narrowed)) == expected  # type: ignore[arg-type]


def test_spaces_are_found_by_what_they_show(api: HfApi) -> None:
    assert ids(api.list_spaces(models="team/old")) == ["team/page"]
    assert ids(api.list_spaces(models=["team/old", "team/new"])) == []
    assert ids(api.list_spaces(datasets="team/names")) == []
    assert ids(api.list_spaces(filter="zz")) == ["team/page"]


def test_what_changed_last_comes_first_when_sorted_so(api: HfApi, url: str) -> None:
    assert ids(api.list_models(sort="last_modified")) == ["team/old", "team/new", "other/bare"]
    assert ids(api.list_models(sort="created_at")) == ["team/new", "other/bare", "team/old"]
    assert ids(api.list_datasets(sort="last_modified")) == ["team/bare", "team/names"]
    assert ids(api.list_models(sort="downloads")) == ["other/bare", "team/new", "team/old"]  # of which there are none
    answered = httpx2.get(f"{url}/api/models?sort=lastModified&direction=1").json()
    assert [each["id"] for each in answered] == ["other/bare", "team/new", "team/old"]


def test_a_search_says_as_much_as_was_asked_for(api: HfApi) -> None:
    brief = next(iter(api.list_models(filter="zz")))
    assert (brief.siblings, brief.card_data) == (None, None)
    assert (brief.pipeline_tag, brief.library_name) == ("text-generation", "peft")
    assert brief.tags == ["peft", "text-generation", "ko", "en", "zz", "both"]
    whole = next(iter(api.list_models(filter="zz", full=True, cardData=True)))
    assert [each.rfilename for each in whole.siblings or []] == [".gitattributes", "README.md", "notes.txt"]
    assert whole.card_data is not None
    assert whole.card_data.tags == ["zz", "both"]
    dataset = next(iter(api.list_datasets(filter="zz", full=True)))
    assert (dataset.siblings is not None, dataset.card_data is not None) == (True, True)


def test_fields_that_are_named_come_alone(api: HfApi) -> None:
    listed = next(iter(api.list_models(filter="zz", expand=["siblings", "sha"])))
    one = api.model_info("team/old", expand=["siblings", "sha"])
    for found in (listed, one):
        assert len(found.siblings or []) == 3
        assert found.sha == api.model_info("team/old").sha
        assert (found.tags, found.author, found.card_data) == (None, None, None)
    space = next(iter(api.list_spaces(filter="zz", expand=["sdk", "models"])))
    assert (space.sdk, space.models) == ("gradio", ["team/old"])


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda api: api.list_models(apps="ollama"), "can not search models by 'apps'"),
        (lambda api: api.list_models(num_parameters="min:6B"), "can not search models by 'num_parameters'"),
        (lambda api: api.list_models(fetch_config=True), "can not search models by 'config'"),
        (lambda api: api.list_spaces(linked=True), "can not search spaces by 'linked'"),
        (lambda api: api.list_models(sort="author"), "can not sort by 'author'"),
        (lambda api: api.list_models(expand=["gguf"]), "no field 'gguf' to expand"),
    ],
)
def test_what_the_hub_can_not_do_is_refused_and_not_passed_over(
    api: HfApi, ask: Callable[[HfApi], object], told: str
) -> None:
    with pytest.raises(BadRequestError, match=told):
        list(ask(api))  # type: ignore[call-overload]


@pytest.mark.parametrize("query", ["direction=1", "sort=createdAt&direction=2", "expand[]=nothing", "pipeline_tag=x"])
def test_a_query_that_makes_no_sense_is_refused_in_one_line(url: str, query: str) -> None:
    refused = httpx2.get(f"{url}/api/datasets?{query}")
    assert refused.status_code == 400
    assert "\n" not in refused.json()["error"]


def test_pages_of_a_search_keep_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.hub.local import call

    monkeypatch.setattr(call, "PAGE", 1)
    with running_hub(tmp_path) as endpoint:
        api = HfApi(endpoint=endpoint, token="x")
        for number in range(4):
            api.create_repo(f"demo/{number}")
            write(api, "model", f"demo/{number}", f"---\ntags: [t{number % 2}]\n---\n")
        found = api.list_models(filter="t1", sort="created_at", expand=["sha"])
        assert [(each.id, each.author) for each in found] == [("demo/3", None), ("demo/1", None)]
