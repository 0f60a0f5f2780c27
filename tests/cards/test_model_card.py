"""Cards say what the folder's files hold, nothing else, in Markdown and metadata that a Hub accepts."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from support.adapters import put_on
from support.cards import EVALUATION, LOG, MANIFEST, SAMPLES, adapter_folder, changed, metadata, score
from support.paths import TESTS
from toolkit import __version__
from toolkit.cards import model as cards
from toolkit.cards.metadata import license_of
from toolkit.cards.model_plots import PLOTS
from toolkit.core.errors import InputError
from toolkit.core.folder import read_json, write_json
from toolkit.core.layout import DISCOUNT
from toolkit.model import chat
from toolkit.model.new_names import known_names

GOLDEN = TESTS / "golden"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
ALLOWED_KEYS = {
    *("base_model", "base_model_relation", "datasets", "language", "library_name", "license", "license_link"),
    *("model-index", "model_name", "pipeline_tag", "tags"),
}
# peft reads an attribute that transformers is about to rename.
PEFT_WARNING = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def card(folder: Path, manifest: dict[str, Any] = MANIFEST, repo_id: str | None = "demo/pokepicker") -> str:
    """The English card; both are written into the folder, without figures."""
    for name, text in cards.card_texts(folder, manifest, repo_id).items():
        (folder / name).write_text(text, encoding="utf-8")
    return (folder / "README.md").read_text(encoding="utf-8")


BARE = changed(
    MANIFEST,
    base={"id": "some/base", "revision": None, "license": "other"},
    dataset={"id": "dataset", "revision": None, "content": "d" * 64, "rows": {"train": 9}, "sources": ["table"]},
    hardware=None,
    train_seconds=None,
    energy_joules=None,
    peak_memory_bytes=None,
    trainable_parameters=None,
    evaluation_precision=None,
)


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
@pytest.mark.parametrize("kind", ["full", "bare"])
def test_the_card_is_the_golden_one(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "full":
        card(adapter_folder(tmp_path))
    else:
        card(adapter_folder(tmp_path, None, log=[], use_dora=True), BARE, repo_id=None)
    golden = GOLDEN / f"model_card_{kind}.{name}"
    text = (tmp_path / name).read_text(encoding="utf-8")
    if os.environ.get("PKT_WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_a_switch_is_a_row_only_where_it_is_on(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path), changed(MANIFEST, recipe__lora__use_dora=True))
    assert "| lora.use_dora | **True** | False |" in text
    assert "rslora" not in text


def test_lessons_are_described_where_there_were_some(tmp_path: Path) -> None:
    plain = {"augmentation": 0.0, "clause_dropout": 0.3, "word_dropout": 0.0, "way_back": 0.0, "contrast": 0.0}
    taught = plain | {"augmentation": 0.75, "way_back": 0.3, "contrast": 0.2}
    for settings, on in ((plain, False), (taught, True)):
        log = [*LOG, LOG[-2] | {"step": 30} | ({"way_back_loss": 3.25} if on else {})]
        training = MANIFEST["recipe"]["training"] | settings
        text = card(adapter_folder(tmp_path, log=log), changed(MANIFEST, recipe__training=training))
        korean = (tmp_path / "README.ko.md").read_text(encoding="utf-8")
        assert ("75% of the visits: clauses in another order, 30% of them left out |" in text) is on
        assert ("75% 확률로 절의 순서를 섞음, 절의 30%를 뺌 |" in korean) is on
        assert ("this loss counts 0.2 times |" in text) is on
        assert ("그 손실에 0.2를 곱해 더함 |" in korean) is on
        assert ("its loss counts 0.3 times |" in text) is on
        assert ("그 손실에 0.3를 곱해 더함 |" in korean) is on
        assert ("from name to description, ended at 3.25." in text) is on
        # A setting that is switched off by another one says nothing.
        assert ("| training.clause_dropout | 0.3 | 0.3 |" in text) is on


def test_the_front_matter_has_known_keys_and_plain_values(tmp_path: Path) -> None:
    found = metadata(card(adapter_folder(tmp_path)))
    assert set(found) <= ALLOWED_KEYS
    assert found["base_model"] == "google/gemma-2b-it"
    assert found["base_model_relation"] == "adapter"
    assert (found["license"], found["license_link"]) == ("gemma", "https://ai.google.dev/gemma/terms")
    assert found["datasets"] == ["demo/names"]
    result = found["model-index"][0]["results"][0]
    assert result["dataset"]["split"] == "test"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "accuracy": 0.25,
        "top_5_accuracy": 0.5,
        "mrr": 0.36,
        "exact_match": 0.2,
    }
    assert all(type(metric["value"]) is float and math.isfinite(metric["value"]) for metric in result["metrics"])


def test_without_hub_ids_and_measurements_the_front_matter_names_none(tmp_path: Path) -> None:
    manifest = changed(BARE, base__id="/home/someone/models/base", dataset__id="dataset")
    text = card(adapter_folder(tmp_path, None), manifest, repo_id=None)
    found = metadata(text)
    assert set(found) <= ALLOWED_KEYS - {"base_model", "base_model_relation", "datasets", "model-index", "license_link"}
    assert found["license"] == "other"
    assert "someone" not in text


@pytest.mark.parametrize(
    ("base", "stated", "expected"),
    [
        ("google/gemma-2b-it", "gemma", "gemma"),
        ("google/gemma-2b-it", "other", "gemma"),
        ("google/gemma-2b-it", None, "gemma"),
        ("google/gemma-99-it", "apache-2.0", "apache-2.0"),
        ("some/model", "mit", "mit"),
        ("some/model", None, None),
    ],
)
def test_the_licence_is_the_base_s(base: str, stated: str | None, expected: str | None) -> None:
    name, link = license_of({"id": base, "license": stated})
    assert name == expected
    assert (link is not None) == (expected == "gemma")


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (
            score(0.24, 0.1, 0.4),
            "**Better than the base alone** (the same prompts, without the adapter): 25.0% against",
        ),
        (score(0.05, -0.1, 0.2), "**Not measurably different from the base alone**"),
        (score(-0.3, -0.4, -0.2), "The training did harm here."),
    ],
)
def test_the_sentence_about_the_base_follows_from_the_paired_difference(
    difference: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    evaluation = changed(EVALUATION, test__differences__base__top1=difference)
    assert sentence in card(adapter_folder(tmp_path, evaluation))


def test_the_card_says_plainly_whether_something_simple_is_better(tmp_path: Path) -> None:
    sentence = "better served without a language model"
    assert sentence in card(adapter_folder(tmp_path))
    ahead = {name: {"top1": score(0.2, 0.1, 0.3)} for name in EVALUATION["test"]["differences"]}
    assert sentence not in card(adapter_folder(tmp_path, changed(EVALUATION, test__differences=ahead)))


def test_an_adapter_that_does_not_read_is_flagged_before_anything_else(tmp_path: Path) -> None:
    for reads, flagged in ((False, True), (True, False), (None, False)):
        card(adapter_folder(tmp_path, changed(EVALUATION, test__shuffled__reads=reads)))
        for name, sentence, heading in (
            ("README.md", "**It does not read the descriptions.**", "## Use it"),
            ("README.ko.md", "**설명을 읽지 않습니다.**", "## 사용법"),
        ):
            top = (tmp_path / name).read_text(encoding="utf-8").split(heading)[0]
            assert (sentence in top) == flagged


@pytest.mark.parametrize(("schema", "said"), [(1, "an older"), (99, "a newer")])
def test_figures_of_another_version_are_not_repeated(schema: int, said: str, tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path, {"schema": schema, "test": {"methods": {"adapter": 1}}})
    cards.render_model_card(folder, MANIFEST)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"measured by {said} version of the toolkit" in text
    assert "model-index" not in metadata(text)
    assert not (tmp_path / "figures" / "accuracy.png").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "half", None])
def test_a_figure_that_is_no_number_makes_no_card(value: Any, tmp_path: Path) -> None:
    damaged = json.dumps(changed(EVALUATION, test__methods__adapter__top1__value=value))
    (adapter_folder(tmp_path) / "evaluation.json").write_text(damaged, encoding="utf-8")
    with pytest.raises(InputError, match=r"is not an evaluation: test\.methods\.adapter\.top1"):
        card(tmp_path)


def test_every_measured_method_has_a_row_under_its_name(tmp_path: Path) -> None:
    rows = [line.split("|")[1].strip() for line in card(adapter_folder(tmp_path)).split("\n") if line.startswith("| ")]
    expected = [
        *("**this adapter**", "this adapter, descriptions shuffled", "the base alone", "other/adapter-of-somebody"),
        *("TF-IDF nearest neighbour", "TF-IDF centroid", "a sentence encoder", "the most frequent names", "chance"),
    ]
    start = rows.index(expected[0])
    assert rows[start : start + len(expected)] == expected


def test_known_figures_of_invention_have_words_and_unknown_ones_their_key(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path))
    assert "87.5% (77.5,\u00a092.5) | – | 87.5% (77.5,\u00a092.5) |" in next(
        line for line in text.split("\n") if "well formed:" in line
    )
    assert "| something_new | 0.310 (0.210,\u00a00.360) |" in text


def test_both_ways_of_drawing_stand_side_by_side_and_an_evaluation_of_0_4_has_one(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path))
    assert "| this adapter | this adapter, new names only | the base alone |" in text
    assert "`pkt name` draws so" in text
    methods = {name: figures for name, figures in EVALUATION["unseen"]["methods"].items() if "," not in name}
    samples = [{key: value for key, value in row.items() if key != "new_names"} for row in SAMPLES]
    older = changed(EVALUATION, unseen={"rows": 8, "methods": methods})
    text = card(adapter_folder(tmp_path, older, samples))
    assert "| of the sampled names | this adapter | the base alone |" in text
    for new in ("new names", "fits", "halves"):
        assert new not in text.split("## Names for creatures it has never seen")[1].split("## How the training")[0]
    assert "| sampled |\n" in text


def test_a_card_says_which_figures_were_not_looked_at_only_where_they_were_not(tmp_path: Path) -> None:
    def said(*chosen: str) -> str:
        return card(adapter_folder(tmp_path), changed(MANIFEST, recipe__evaluation={"selected_on": list(chosen)}))

    untouched = "Those of `test` and of the rest of `unseen` were not looked at before."
    assert untouched in said("validation", "half of unseen")
    for chosen in ("test", "unseen"):
        assert f"chosen by the figures of: validation, {chosen}." in said("validation", chosen)
        assert untouched not in said("validation", chosen)
    assert "Settings of its recipe" not in said()
    among = {"selected_on": ["validation"], "selected_among": 1200}
    text = card(adapter_folder(tmp_path), changed(MANIFEST, recipe__evaluation=among))
    assert (
        f"figures of: validation. It is the best on `validation` of the 1,200 that a sweep tried. {untouched}" in text
    )
    assert "시험한 1,200번의" in (tmp_path / "README.ko.md").read_text(encoding="utf-8")


def test_a_card_says_by_which_ranking_it_identifies(tmp_path: Path) -> None:
    assert "names of the dataset by their exact log-likelihood." in card(adapter_folder(tmp_path))
    methods = EVALUATION["test"]["methods"]
    both = {**methods, "adapter, by likelihood": methods["base"]}
    text = card(adapter_folder(tmp_path, changed(EVALUATION, test__methods=both)))
    assert "(`centroids.safetensors`), as `pkt identify` does." in text
    assert text.index("| this adapter, by likelihood |") < text.index("| the base alone |")
    assert "이름의 확률로 |" in (tmp_path / "README.ko.md").read_text(encoding="utf-8")


def test_samples_are_grouped_by_a_rule_and_none_is_left_out(tmp_path: Path) -> None:
    ranked = [["Pikachu", "Mew"], ["Mew", "Pikachu"], ["Mew", "Muk"], ["Pikachu", "Muk"]]
    rows = [{**SAMPLES[0], "description": f"Row {row}.", "identified": names} for row, names in enumerate(ranked)]
    text = card(adapter_folder(tmp_path, samples=rows)).split("## More samples")[1].split("## Limits")[0]
    found, near, missed = (text.index(f"### {title}") for title in ("Right", "Near", "Wrong"))
    order = [text.index(f"Row {number}.") for number in range(4)]
    assert found < order[0] < order[3] < near < order[1] < missed < order[2]


def test_the_card_has_its_parts_in_the_order_in_which_a_stranger_asks(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path))
    korean = (tmp_path / "README.ko.md").read_text(encoding="utf-8")
    headings = [line for line in text.split("\n") if line.startswith("## ")]
    assert [heading.removeprefix("## ") for heading in headings] == [
        *("Use it", "How well it identifies", "Names for creatures it has never seen", "How the training went"),
        *("Training data", "Training procedure", "More samples", "Limits and risks", "Licence and trademarks"),
        *("Make it again", "Versions", "Citation"),
    ]
    assert len([line for line in korean.split("\n") if line.startswith("## ")]) == len(headings)


def test_both_cards_say_the_same_numbers_in_their_tables(tmp_path: Path) -> None:
    english = card(adapter_folder(tmp_path))
    korean = (tmp_path / "README.ko.md").read_text(encoding="utf-8")

    def numbers(text: str) -> list[str]:
        cells = [cell for line in text.split("\n") if line.startswith("| ") for cell in line.split("|")]
        return [cell.strip() for cell in cells if re.fullmatch(r" [-+\d.,%\s()]+ ", cell)]

    assert numbers(english) == numbers(korean)
    assert len(numbers(english)) > 50


def finished(folder: Path, repo_id: str | None = "demo/pokepicker", **facts: Any) -> Path:
    """A folder as `evaluate` leaves it: its cards, its figures and its manifest."""
    manifest = {**MANIFEST, **facts, "toolkit": __version__, "repo_id": repo_id}
    cards.render_model_card(adapter_folder(folder), manifest, repo_id)
    write_json(folder / "manifest.json", manifest)
    return folder


def test_cards_that_nobody_edited_are_those_of_their_files(tmp_path: Path) -> None:
    assert cards.card_differences(finished(tmp_path)) == []
    assert cards.card_differences(tmp_path, "demo/pokepicker") == []


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_a_card_that_was_edited_by_hand_is_noticed(name: str, tmp_path: Path) -> None:
    file = finished(tmp_path) / name
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("25.0% (12.0,\u00a044.9)", "95.0% (92.0,\u00a097.9)"), encoding="utf-8")
    found = cards.card_differences(tmp_path)
    assert found
    assert all(line.startswith(f"{name}, line ") for line in found)
    assert "95.0%" in found[0]
    file.write_text(text + "It is the best of all.\n", encoding="utf-8")
    assert len(cards.card_differences(tmp_path)) == 1
    file.unlink()
    assert cards.card_differences(tmp_path) == [f"{name}: missing"]


@pytest.mark.parametrize("other", [{"toolkit": "0.0.1"}, {"card_templates": "a" * 64}])
def test_a_card_that_cannot_be_made_again_is_held_to_its_results(other: dict[str, Any], tmp_path: Path) -> None:
    file = finished(tmp_path) / "README.md"
    write_json(tmp_path / "manifest.json", {**MANIFEST, "repo_id": "demo/pokepicker", "toolkit": __version__, **other})
    file.write_text(file.read_text(encoding="utf-8") + "\nOther words.\n", encoding="utf-8")
    assert cards.card_differences(tmp_path) == []
    file.write_text(file.read_text(encoding="utf-8").replace("value: 0.25", "value: 0.95"), encoding="utf-8")
    assert cards.card_differences(tmp_path) == ["README.md: its metadata state other results than evaluation.json"]


def test_an_adapter_that_was_not_evaluated_claims_nothing(tmp_path: Path) -> None:
    cards.render_model_card(adapter_folder(tmp_path, None), MANIFEST)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "has not been evaluated yet" in text
    assert "%" not in text.split("## Training data")[0]
    assert not (tmp_path / "figures" / "accuracy.png").exists()
    assert "model-index" not in metadata(text)


@pytest.mark.parametrize("absent", ["test", "unseen"])
def test_an_absent_split_is_not_measured(absent: str, tmp_path: Path) -> None:
    samples = [row for row in SAMPLES if row["split"] != absent]
    cards.render_model_card(adapter_folder(tmp_path, changed(EVALUATION, **{absent: None}), samples), MANIFEST)
    assert "Not measured" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "accuracy.png").exists() == (absent == "unseen")


def test_missing_methods_leave_their_rows_and_sentences_out(tmp_path: Path) -> None:
    test = {"rows": 24, "methods": {"adapter": EVALUATION["test"]["methods"]["adapter"]}}
    text = card(adapter_folder(tmp_path, changed(EVALUATION, test=test)))
    assert "TF-IDF" not in text
    assert "| chance |" not in text


def test_a_figure_of_an_earlier_evaluation_does_not_stay(tmp_path: Path) -> None:
    cards.render_model_card(adapter_folder(tmp_path), MANIFEST)
    write_json(tmp_path / "evaluation.json", changed(EVALUATION, test=None))
    cards.render_model_card(tmp_path, MANIFEST)
    assert "figures/accuracy.png" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "figures" / "accuracy.png").exists()


def test_measuring_on_other_data_is_said(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path, changed(EVALUATION, dataset__content="e" * 64)))
    assert "Measured on other data" in text
    assert "e" * 64 in text
    assert metadata(text)["model-index"][0]["results"][0]["dataset"]["name"] == "names"


def test_the_trademark_note_stands_only_where_it_belongs(tmp_path: Path) -> None:
    own = changed(MANIFEST, dataset__sources=["table"])
    assert "trademarks of Nintendo" in card(adapter_folder(tmp_path))
    assert "trademarks of Nintendo" not in card(tmp_path, own)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (adapter_folder(tmp_path / name) for name in ("a", "b"))
    for folder in (first, second, first):
        cards.render_model_card(folder, MANIFEST, "demo/pokepicker")
    for name in ("README.md", "README.ko.md", *(f"figures/{name}.png" for name in ("loss", *PLOTS))):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize(
    ("joules", "shown"), [(684.0, "0.19 Wh"), (540_000, "150 Wh"), (7.6e6, "2.1 kWh"), (None, None)]
)
def test_the_energy_is_shown_if_it_was_measured(joules: float | None, shown: str | None, tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path), changed(MANIFEST, energy_joules=joules))
    assert (f"| energy | {shown}, measured" in text) if shown else ("energy" not in text)


def test_importing_the_cards_loads_no_renderer() -> None:
    code = "import sys; from toolkit import cards; print(*(name for name in sys.modules if 'cards.' in name)); "
    code += "cards.render_model_card, cards.render_dataset_card, cards.render_merged_card, cards.write_preview"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_placeholder_is_named_as_one_until_the_repository_is_known(tmp_path: Path) -> None:
    assert "`owner/name` stands for" in card(adapter_folder(tmp_path), repo_id=None)
    known = card(tmp_path, repo_id="demo/pokepicker")
    assert "owner/name" not in known
    assert "pkt verify demo/pokepicker" in known


@PEFT_WARNING
def test_the_snippet_runs_as_it_stands_sends_the_prompt_of_the_training_and_stops_where_an_answer_ends(
    small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_on(tmp_path / "adapter", small_base, target_modules=["q_proj"])
    config = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": str(small_base)})
    manifest = changed(MANIFEST, evaluation_precision={"base": "none", "compute": "float32"})
    text = card(adapter_folder(folder), manifest)
    code, more = (each.content for each in MARKDOWN.parse(text) if each.type == "fence" and each.info == "python")
    assert 'convert_tokens_to_ids(["<end_of_turn>", "<eos>"])' in code
    names: dict[str, Any] = {}
    exec(code.replace('"demo/pokepicker"', repr(str(folder))), names)
    expected = chat.prompt_ids(names["tokenizer"], chat.naming_messages(SAMPLES[0]["description"]))
    assert names["inputs"]["input_ids"][0].tolist() == expected
    assert names["output"].shape[1] > len(expected)
    assert str(names["model"].dtype) == "torch.float32"
    said = ["Vulpix", "식스테일", "Mew", "Mewtwo"]
    write_json(folder / "taken_names.json", said)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, name: folder / name)
    exec(more, names)
    tree = known_names(names["tokenizer"], said)
    costs = {begun: following for begun, following in names["costs"].items() if any(following.values())}
    assert costs.keys() == tree.following.keys() | tree.last.keys()
    for begun, following in costs.items():
        assert {token for token in following if following[token] == math.inf} == set(tree.last.get(begun, ()))
        discounted = {token for token in following if following[token] == DISCOUNT}
        assert discounted == set(tree.following.get(begun, ())) - set(tree.last.get(begun, ()))
    assert names["output"].shape[0] == 5
    assert capsys.readouterr().out.endswith("\n")
