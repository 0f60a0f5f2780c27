"""Cards say what the folder's files hold, nothing else, in Markdown and metadata that a Hub accepts."""

from __future__ import annotations

import copy
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import UndefinedError
from markdown_it import MarkdownIt

from toolkit import card_facts, card_metadata, cards, chat
from toolkit.folder import write_json, write_jsonl

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


EVALUATION: dict[str, Any] = {
    "schema": 1,
    "seed": 7,
    "candidates": 48,
    "dataset_content": "d" * 64,
    "precision": {"base": "none", "compute": "float16"},
    "test": {
        "rows": 24,
        "methods": {
            "adapter": {
                "top1": score(0.25, 0.12, 0.449),
                "top5": score(0.5, 0.31, 0.69),
                "mrr": {"value": 0.36, "n": 24},
            },
            "base": {"top1": score(0.0, 0.0, 0.11), "top5": score(0.125, 0.04, 0.31), "mrr": {"value": 0.08, "n": 24}},
            "tfidf": {
                "top1": score(0.75, 0.55, 0.88),
                "top5": score(0.875, 0.69, 0.96),
                "mrr": {"value": 0.8, "n": 24},
            },
            "chance": {measure: {"value": value, "n": 24} for measure, value in [("top1", 1 / 48), ("top5", 5 / 48)]},
        },
    },
    "unseen": {
        "rows": 8,
        "names": 24,
        **{key: score(0.875, 0.69, 0.96) for key in ("well_formed", "new", "distinct")},
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
    cards.render_model_card(folder, manifest, repo_id)
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
    ("other", "relation", "sentence"),
    [
        (score(0.01, 0.0, 0.05), "better", "**Better than the base alone:** 25.0% against 1.0%"),
        (score(0.2, 0.08, 0.4), "unclear", "**Not measurably different from the base alone:** 25.0% against 20.0%"),
        (score(0.8, 0.6, 0.9), "worse", "**Worse than the base alone:** 25.0% against 80.0%"),
    ],
)
def test_the_sentence_about_the_base_follows_from_the_numbers(
    other: dict[str, Any], relation: str, sentence: str, tmp_path: Path
) -> None:
    evaluation = changed(EVALUATION, test__methods__base__top1=other)
    assert card_facts.compared(evaluation["test"]["methods"]["adapter"]["top1"], other)["relation"] == relation
    assert sentence in card(adapter_folder(tmp_path, evaluation))


def test_the_card_says_plainly_whether_tfidf_wins(tmp_path: Path) -> None:
    assert "**It does not beat TF-IDF**" in card(adapter_folder(tmp_path))
    level = changed(EVALUATION, test__methods__tfidf__top1=score(0.3, 0.15, 0.5))
    assert "**It can not be told from TF-IDF**" in card(adapter_folder(tmp_path, level))
    behind = changed(EVALUATION, test__methods__tfidf__top1=score(0.05, 0.0, 0.1))
    assert "**Better than TF-IDF**" in card(adapter_folder(tmp_path, behind))


def test_an_adapter_that_was_not_evaluated_claims_nothing(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path, None))
    assert "has not been evaluated yet" in text
    assert "%" not in text.split("## How it was trained")[0]
    assert not (tmp_path / "figures" / "accuracy.png").exists()
    assert "model-index" not in metadata(text)


@pytest.mark.parametrize("absent", ["test", "unseen"])
def test_an_absent_split_is_not_measured(absent: str, tmp_path: Path) -> None:
    samples = [row for row in SAMPLES if row["split"] != absent]
    text = card(adapter_folder(tmp_path, changed(EVALUATION, **{absent: None}), samples))
    assert "Not measured" in text
    assert (tmp_path / "figures" / "accuracy.png").exists() == (absent == "unseen")


def test_missing_methods_leave_their_rows_and_sentences_out(tmp_path: Path) -> None:
    methods = {"adapter": EVALUATION["test"]["methods"]["adapter"]}
    text = card(adapter_folder(tmp_path, changed(EVALUATION, test__methods=methods)))
    assert "TF-IDF" not in text
    assert "chance" not in text


def test_a_figure_of_an_earlier_evaluation_does_not_stay(tmp_path: Path) -> None:
    card(adapter_folder(tmp_path))
    write_json(tmp_path / "evaluation.json", changed(EVALUATION, test=None))
    assert "figures/accuracy.png" not in card(tmp_path)
    assert not (tmp_path / "figures" / "accuracy.png").exists()


def test_measuring_on_other_data_is_said(tmp_path: Path) -> None:
    text = card(adapter_folder(tmp_path, changed(EVALUATION, dataset_content="e" * 64)))
    assert "Measured on other data" in text
    assert "e" * 64 in text


def test_the_trademark_note_stands_only_where_it_belongs(tmp_path: Path) -> None:
    own = changed(MANIFEST, dataset__sources=["table"])
    assert "trademarks of Nintendo" in card(adapter_folder(tmp_path))
    assert "trademarks of Nintendo" not in card(tmp_path, own)
    assert "trademarks of Nintendo" in card(tmp_path, changed(own, dataset__pokemon=True))
    assert "trademarks of Nintendo" not in card(tmp_path, changed(MANIFEST, dataset__pokemon=False))


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (adapter_folder(tmp_path / name) for name in ("a", "b"))
    card(first)
    card(second)
    for name in ("README.md", "README.ko.md", "figures/loss.png", "figures/accuracy.png"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_hostile_samples_stay_text(tmp_path: Path) -> None:
    hostile = "a | b <bos> <!-- <details> ![x](https://e.org/x.png) `c` $d$ @e \u202e\u200b ``` ~~~\n---\n# f"
    samples = [
        {**SAMPLES[0], "description": hostile, "answer": hostile, "greedy": hostile, "names": [hostile, ""]},
        {**SAMPLES[1], "description": hostile, "answer": "---", "greedy": "", "names": []},
    ]
    manifest = changed(MANIFEST, request=hostile, hardware__name=hostile, dataset__license=hostile)
    calm = MARKDOWN.parse(card(adapter_folder(tmp_path)).split("---\n", 2)[2])
    wild = MARKDOWN.parse(card(adapter_folder(tmp_path, samples=samples), manifest).split("---\n", 2)[2])
    assert [token.type for token in wild] == [token.type for token in calm]
    inside = {child.type for token in wild for child in token.children or []}
    assert "html_inline" not in inside
    html = [token.content for token in wild if token.type == "html_block"]
    assert html == [token.content for token in calm if token.type == "html_block"]
    assert not re.search("[\u202e\u200b]", (tmp_path / "README.md").read_text(encoding="utf-8"))


def test_a_fact_that_is_missing_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(UndefinedError):
        cards.render("model_card.md.jinja", {})


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
