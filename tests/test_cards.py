"""Cards say what the folder's files hold, nothing else, in Markdown and metadata that a Hub accepts."""

from __future__ import annotations

import copy
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from toolkit import __version__, chat
from toolkit.errors import InputError
from toolkit.folder import write_json, write_jsonl
from toolkit.model_card import metadata as card_metadata
from toolkit.model_card import plots
from toolkit.model_card import render as cards

GOLDEN = Path(__file__).parent / "golden"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
ALLOWED_KEYS = {
    *("base_model", "base_model_relation", "datasets", "language", "library_name", "license", "license_link"),
    *("model-index", "model_name", "pipeline_tag", "tags"),
}
# peft reads an attribute that transformers is about to rename.
PEFT_WARNING = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
MANIFEST: dict[str, Any] = {
    "kind": "adapter",
    "toolkit": "0.1.0",
    "training_libraries": {"peft": "0.21.2", "torch": "2.13.0"},
    "recipe": {
        "name": "by-hand",
        "lora": {"r": 6, "target_modules": ["q_proj", "v_proj"]},
        "training": {"learning_rate": 0.0002, "max_steps": 20, "epochs": None},
        "decoding": {"temperature": 0.7, "top_k": 50, "top_p": 0.95, "max_new_tokens": 16},
    },
    "seed": 7,
    "base": {
        "id": "google/gemma-2b-it",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "content": "b" * 64,
        "license": "gemma",
        "parameters": 2506172416,
        "architecture": "GemmaForCausalLM",
    },
    "dataset": {
        "id": "demo/names",
        "revision": "f" * 40,
        "content": "d" * 64,
        "rows": {"train": 160, "validation": 16, "test": 24, "unseen": 8},
        "license": "cc0-1.0",
        "sources": ["corpus"],
    },
    "request": chat.REQUEST,
    "steps": 20,
    "examples_seen": 320,
    "trainable_parameters": 9805824,
    "supervised_tokens": 800,
    "train_seconds": 3496.2,
    "peak_memory_bytes": 6123456789,
    "hardware": {"device": "cuda", "name": "Tesla T4", "cores": 2},
    "precision": {"base": "nf4", "compute": "float16"},
    "evaluation_precision": {"base": "none", "compute": "float16"},
}
LOG = [
    {"step": 10, "epoch": 1.0, "loss": 3.14, "learning_rate": 0.0002, "grad_norm": 1.2},
    {"step": 10, "validation_loss": 2.5},
    {"step": 20, "epoch": 2.0, "loss": 1.41, "learning_rate": 0.0001, "grad_norm": 0.8},
    {"step": 20, "validation_loss": 2.6},
]


def score(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 24}


def figures(value: float, low: float, high: float, **others: dict[str, Any]) -> dict[str, Any]:
    return {"top1": score(value, low, high), "top5": score(0.5, 0.31, 0.69), "mrr": score(0.36, 0.2, 0.5), **others}


EXACT = {"exact": score(0.2, 0.1, 0.4)}
EVALUATION: dict[str, Any] = {
    "schema": 3,
    "seed": 7,
    "dataset": {"id": "names", "revision": None, "content": "d" * 64},
    "adapter": {"weights": "a" * 64},
    "candidates": 48,
    "precision": {"base": "none", "compute": "float16"},
    "machine": {"device": "cpu", "torch": "2.13.0"},
    "settings": {"compare": ["base", "tfidf"]},
    "test": {
        "rows": 24,
        "creatures": 20,
        "methods": {
            "adapter": figures(0.25, 0.12, 0.449, **EXACT),
            "base": figures(0.0, 0.0, 0.11, **EXACT),
            "tfidf": figures(0.75, 0.55, 0.88),
            "tfidf_centroid": figures(0.7, 0.5, 0.85),
            "encoder": figures(0.3, 0.2, 0.45),
            "frequent": figures(0.04, 0.0, 0.1),
            "other/adapter-of-somebody": figures(0.2, 0.1, 0.4, **EXACT),
            "chance": {
                measure: {"value": value, "n": 24}
                for measure, value in [("top1", 1 / 48), ("top5", 5 / 48), ("mrr", 0.09)]
            },
        },
        "differences": {
            name: {measure: score(value, value - 0.1, value + 0.1) for measure in ("top1", "top5", "mrr")}
            for name, value in [
                ("base", 0.25),
                ("tfidf", -0.5),
                ("tfidf_centroid", -0.45),
                ("encoder", -0.05),
                ("frequent", 0.21),
                ("other/adapter-of-somebody", 0.05),
            ]
        },
        "shuffled": {
            "figures": figures(0.05, 0.0, 0.15) | {"mrr": score(0.16, 0.1, 0.2)},
            "difference": {measure: score(0.2, 0.08, 0.32) for measure in ("top1", "top5", "mrr")},
            "reads": True,
        },
        "groups": {
            "generation": {"1": figures(0.25, 0.12, 0.449), "2": figures(0.2, 0.1, 0.4)},
            "type": {"fire": figures(0.3, 0.1, 0.5), "water": figures(0.1, 0.0, 0.3)},
        },
        "places": [
            {"from": 1, "to": 1, "rows": 6},
            {"from": 2, "to": 5, "rows": 6},
            {"from": 6, "to": 10, "rows": 5},
            {"from": 11, "to": 48, "rows": 7},
        ],
        "confusions": [
            {"answer": "Raichu", "said": "Pikachu", "rows": 3},
            {"answer": "Mr. Mime", "said": "Farfetch'd", "rows": 1},
        ],
        "calibration": {
            "bins": [
                {"low": 0.0, "high": 0.1, "rows": 10, "confidence": 0.05, "accuracy": 0.1},
                {"low": 0.1, "high": 0.2, "rows": 0, "confidence": None, "accuracy": None},
                {"low": 0.2, "high": 0.3, "rows": 14, "confidence": 0.25, "accuracy": 0.36},
            ],
            "error": 0.085,
            "brier": 0.18,
        },
    },
    "unseen": {
        "rows": 8,
        "methods": {
            method: {
                "names": 24,
                **{
                    key: score(value, value - 0.1, value + 0.05)
                    for key, value in [("well_formed", 0.875), ("new", 0.9), ("invented", 0.8), ("something_new", 0.31)]
                },
            }
            for method, value in [("adapter", 0.9), ("base", 0.3)]
        },
    },
}
SAMPLES = [
    {
        "split": "test",
        "id": "pokemon/25/0",
        "description": "A small creature with soft yellow fur and red cheeks.",
        "answer": "Pikachu",
        "greedy": "Pikachu",
        "names": ["Pikachu", "Sparkit", "Voltmouse"],
        "identified": ["Raichu", "Pikachu", "Farfetch'd", "Mr. Mime", "Nidoran♀"],
    },
    {
        "split": "unseen",
        "id": "pokemon/1/0",
        "description": "등에 씨앗을 짊어진 작은 네발 생물.",
        "answer": "이상해씨 (Bulbasaur)",
        "greedy": "Leafrog",
        "names": ["씨앗돌이", "Leafrog", "Budtoad"],
        "identified": None,
    },
]


def adapter_folder(
    folder: Path,
    evaluation: dict[str, Any] | None = EVALUATION,
    samples: list[dict[str, Any]] = SAMPLES,
    log: list[dict[str, Any]] = LOG,
) -> Path:
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "training_log.jsonl", log)
    if evaluation is not None:
        write_json(folder / "evaluation.json", evaluation)
        write_jsonl(folder / "samples.jsonl", samples)
    return folder


def changed(original: dict[str, Any], **paths: Any) -> dict[str, Any]:
    """A copy with values replaced: `base__id="x"` sets `["base"]["id"]`."""
    result = copy.deepcopy(original)
    for path, value in paths.items():
        *parents, last = path.split("__")
        place = result
        for parent in parents:
            place = place[parent]
        place[last] = value
    return result


def card(folder: Path, manifest: dict[str, Any] = MANIFEST, repo_id: str | None = "demo/pokepicker") -> str:
    """The English card; both are written into the folder, without figures."""
    for name, text in cards.card_texts(folder, manifest, repo_id).items():
        (folder / name).write_text(text, encoding="utf-8")
    return (folder / "README.md").read_text(encoding="utf-8")


def metadata(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


BARE = changed(
    MANIFEST,
    base={"id": "some/base", "revision": None, "license": "other"},
    dataset={"id": "dataset", "revision": None, "content": "d" * 64, "rows": {"train": 9}, "sources": ["table"]},
    hardware=None,
    train_seconds=None,
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
        card(adapter_folder(tmp_path, None, log=[]), BARE, repo_id=None)
    golden = GOLDEN / f"model_card_{kind}.{name}"
    text = (tmp_path / name).read_text(encoding="utf-8")
    if os.environ.get("PKT_WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


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
    name, link = card_metadata.license_of({"id": base, "license": stated})
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
    with pytest.raises(InputError, match=r"is no evaluation: test\.methods\.adapter\.top1"):
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
    assert "87.5% (77.5,\u00a092.5) | 87.5% (77.5,\u00a092.5) |" in next(
        line for line in text.split("\n") if "well formed:" in line
    )
    assert "| something_new | 0.310 (0.210,\u00a00.360) |" in text


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
    assert cards.differs(finished(tmp_path)) == []
    assert cards.differs(tmp_path, "demo/pokepicker") == []


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_a_card_that_was_edited_by_hand_is_noticed(name: str, tmp_path: Path) -> None:
    file = finished(tmp_path) / name
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("25.0% (12.0,\u00a044.9)", "95.0% (92.0,\u00a097.9)"), encoding="utf-8")
    found = cards.differs(tmp_path)
    assert found
    assert all(line.startswith(f"{name}, line ") for line in found)
    assert "95.0%" in found[0]
    file.write_text(text + "It is the best of all.\n", encoding="utf-8")
    assert len(cards.differs(tmp_path)) == 1
    file.unlink()
    assert cards.differs(tmp_path) == [f"{name}: missing"]


@pytest.mark.parametrize("other", [{"toolkit": "0.0.1"}, {"card_templates": "a" * 64}])
def test_a_card_that_can_not_be_made_again_is_held_to_its_results(other: dict[str, Any], tmp_path: Path) -> None:
    file = finished(tmp_path) / "README.md"
    write_json(tmp_path / "manifest.json", {**MANIFEST, "repo_id": "demo/pokepicker", "toolkit": __version__, **other})
    file.write_text(file.read_text(encoding="utf-8") + "\nOther words.\n", encoding="utf-8")
    assert cards.differs(tmp_path) == []
    file.write_text(file.read_text(encoding="utf-8").replace("value: 0.25", "value: 0.95"), encoding="utf-8")
    assert cards.differs(tmp_path) == ["README.md: its metadata state other results than evaluation.json"]


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
    assert "chance" not in text


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
    assert "trademarks of Nintendo" in card(tmp_path, changed(own, dataset__pokemon=True))
    assert "trademarks of Nintendo" not in card(tmp_path, changed(MANIFEST, dataset__pokemon=False))


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (adapter_folder(tmp_path / name) for name in ("a", "b"))
    for folder in (first, second, first):
        cards.render_model_card(folder, MANIFEST, "demo/pokepicker")
    for name in ("README.md", "README.ko.md", *(f"figures/{name}.png" for name in ("loss", *plots.EVALUATION))):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_placeholder_is_named_as_one_until_the_repository_is_known(tmp_path: Path) -> None:
    assert "`owner/name` stands for" in card(adapter_folder(tmp_path), repo_id=None)
    known = card(tmp_path, repo_id="demo/pokepicker")
    assert "owner/name" not in known
    assert "pkt verify demo/pokepicker" in known


def test_a_measured_four_bit_base_is_loaded_in_four_bits() -> None:
    manifest = changed(MANIFEST, evaluation_precision={"base": "nf4", "compute": "bfloat16"})
    snippet = cards.usage_snippet(manifest, SAMPLES, ["<end_of_turn>"], "demo/pokepicker")
    compile(snippet, "snippet", "exec")
    assert 'bnb_4bit_quant_type="nf4"' in snippet
    assert "torch.bfloat16" in snippet


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Gemma with an adapter on it, as `AutoPeftModelForCausalLM` finds it, and its card."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GemmaConfig, GemmaForCausalLM

    root = tmp_path_factory.mktemp("published")
    tokenizer = gemma_like_tokenizer()
    torch.manual_seed(0)
    config = GemmaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    base = GemmaForCausalLM(config)
    base.save_pretrained(root / "base")
    base.name_or_path = str(root / "base")
    adapter = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapter.save_pretrained(root / "adapter")
    tokenizer.save_pretrained(root / "adapter")
    manifest = changed(MANIFEST, evaluation_precision={"base": "none", "compute": "float32"})
    card(adapter_folder(root / "adapter"), manifest)
    return root / "adapter"


def gemma_like_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate([*special, *alphabet])}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}<start_of_turn>"
        "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{{ message['content'] }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    return tokenizer


@PEFT_WARNING
def test_the_card_s_snippet_runs_as_it_stands_and_sends_the_prompt_of_the_training(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (published / "README.md").read_text(encoding="utf-8")
    code = next(token.content for token in MARKDOWN.parse(text) if token.type == "fence" and token.info == "python")
    names: dict[str, Any] = {}
    exec(code.replace('"demo/pokepicker"', repr(str(published))), names)
    expected = chat.prompt_ids(names["tokenizer"], chat.naming_messages(SAMPLES[0]["description"]))
    assert names["inputs"]["input_ids"][0].tolist() == expected
    assert names["output"].shape[1] > len(expected)
    assert str(names["model"].dtype) == "torch.float32"
    assert capsys.readouterr().out.endswith("\n")


@PEFT_WARNING
def test_generation_in_the_snippet_stops_where_an_answer_ends(published: Path) -> None:
    assert cards.stop_tokens(published) == ["<end_of_turn>", "<eos>"]
    assert 'convert_tokens_to_ids(["<end_of_turn>", "<eos>"])' in (published / "README.md").read_text(encoding="utf-8")
