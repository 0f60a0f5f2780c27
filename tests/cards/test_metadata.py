"""The front matter means the same to every parser of YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCardData, parse_eval_result_entries

from support.cards import EVALUATION, MANIFEST, changed
from toolkit.cards import metadata
from toolkit.core.results import Evaluation

# What PyYAML (1.1), js-yaml (the Hub's, 1.2) or another parser takes for a number, a truth value, a date or nothing.
OTHERWISE = """
1e3 1E5 +1e3 1e-3 1.5e3 .5e3 1.e5 .5 1. +.5 1_000 1_0e3 1,000 08 -09 0x10 -0X1F 0o17 0O7 0b11 017 12:30 190:20:30.15
2024-01-01 on off yes no No y N true False null ~ = << .inf -.INF .NaN ? 12345678901234567890123456789012345678e9
"""


@pytest.mark.parametrize("text", [*OTHERWISE.split(), "2024-01-01 10:00:00", "- a", "a: b", "a #b"])
def test_a_name_that_some_parser_reads_as_something_else_is_quoted(text: str) -> None:
    yaml_text = metadata.model_front_matter(MANIFEST | {"base": {"id": "a/b", "license": text}}, None, f"owner/{text}")
    assert f"\nmodel_name: '{text}'\n" in f"\n{yaml_text}\n"
    read = yaml.safe_load(yaml_text)
    assert (read["model_name"], read["language"]) == (text, ["ko", "en"])
    listed = metadata.to_yaml(ModelCardData(language=["no", text], tags=[text]))
    assert listed == f"language:\n- 'no'\n- '{text}'\ntags:\n- '{text}'"


def test_a_name_that_all_parsers_read_as_a_text_is_not_quoted() -> None:
    texts = "gemma-3-1b 1K<n<10K 8501105adc9b9997 6.31.0 1e e5 yn 0g 여우 nan"
    assert metadata.to_yaml(ModelCardData(tags=texts.split())) == "tags:\n- " + texts.replace(" ", "\n- ")


BENCHMARKED = changed(MANIFEST, dataset__task="naming")


def test_the_share_of_exact_names_is_a_result_as_the_hubs_client_reads_it() -> None:
    text = metadata.benchmark_result(BENCHMARKED, Evaluation.model_validate(EVALUATION))
    (found,) = parse_eval_result_entries(yaml.safe_load(text or ""))
    assert (found.dataset_id, found.task_id, found.dataset_revision) == ("demo/names", "naming", "f" * 40)
    assert (found.value, found.notes) == (0.2, "without sampling, 95% interval 0.1000 to 0.4000")


@pytest.mark.parametrize(
    ("manifest", "evaluation"),
    [
        ({"dataset__task": None}, {}),
        ({"dataset__id": "a folder"}, {}),
        ({}, {"dataset__content": "e" * 64}),
        ({}, {"test__rows": 23}),
        ({}, {"test__methods__adapter": {}}),
        ({}, {"test": None}),
    ],
    ids=["no benchmark", "not on the Hub", "other rows", "some rows", "no names written", "no test"],
)
def test_what_is_no_measure_of_a_benchmark_is_no_result(manifest: dict[str, Any], evaluation: dict[str, Any]) -> None:
    measured = Evaluation.model_validate(changed(EVALUATION, **evaluation))
    assert metadata.benchmark_result(changed(BENCHMARKED, **manifest), measured) is None


def test_a_benchmark_asks_with_the_request_of_the_rows_whatever_is_in_it() -> None:
    told = yaml.safe_load(metadata.benchmark("Names: a {title}", "Name {it}: #now", "Be {brief}"))
    assert told["name"] == "Names: a {title}"
    (task,) = told["tasks"]
    system, prompt, generate = task["solvers"]
    assert prompt["args"]["template"].format(prompt="a fox") == "Name {it}: #now\n\na fox"
    assert (system["args"]["template"].format(), generate) == ("Be {brief}", {"name": "generate"})


@pytest.mark.parametrize("letter", ["\x85", "\u2028", "\u2029"])
def test_what_ends_a_line_for_some_parsers_only_is_written_as_an_escape(letter: str) -> None:
    text = metadata.benchmark("Names", f"Name{letter} it", None)
    assert letter not in text
    assert f"Name{letter} it\n\n{{prompt}}" == yaml.safe_load(text)["tasks"][0]["solvers"][0]["args"]["template"]
