"""The front matter means the same to every parser of YAML."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCardData

from support.cards import MANIFEST
from toolkit.cards import metadata

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
