"""The tiny base: small, of Gemma's architecture, and taught on nothing that the demo evaluates."""

import itertools
import json
import re

import pytest

from tiny_base.pretrain import SHARES, WEIGHTS, corpus_names, lessons
from toolkit.core.folder import file_hashes, read_manifest
from toolkit.core.recipe import load_recipe
from toolkit.data.sources import read_records
from toolkit.model import base as bases

LESSONS = 3000
RUN = 12


@pytest.fixture(scope="module")
def taught():
    """The first lessons that the shipped base was taught."""
    seed = read_manifest(bases.tiny_base_folder(), "base")["seed"]
    return list(itertools.islice(lessons(seed, corpus_names()), LESSONS))


def runs_of_words(text):
    """Every RUN words in a row: long enough that only copying explains a match."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def test_no_lesson_shares_a_run_of_words_with_the_corpus(taught):
    ((_, records),) = read_records(load_recipe("demo").dataset)
    corpus = set().union(*(runs_of_words(record.description) for record in records))
    assert len(corpus) > 10_000
    shared = {
        run for lesson in taught for message in lesson.messages for run in runs_of_words(message["content"]) & corpus
    }
    assert not shared


def test_no_lesson_gives_the_name_of_a_creature_of_the_corpus(taught):
    names = corpus_names()
    assert len(names) == 151
    for lesson in taught:
        if lesson.kind == "name":
            assert lesson.messages[-1]["content"].lower() not in names


def test_every_kind_of_lesson_is_given_and_has_a_weight(taught):
    assert {lesson.kind for lesson in taught} == set(SHARES) == set(WEIGHTS)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_lessons(taught):
    seed = read_manifest(bases.tiny_base_folder(), "base")["seed"]
    assert list(itertools.islice(lessons(seed, corpus_names()), 20)) == taught[:20]


def test_the_shipped_base_is_whole_and_below_eight_megabytes():
    manifest = read_manifest(bases.tiny_base_folder(), "base")
    assert manifest["files"] == file_hashes(bases.tiny_base_folder())
    assert sum(file.stat().st_size for file in bases.tiny_base_folder().iterdir()) < 8_000_000


def test_the_shipped_base_has_gemmas_architecture_and_special_tokens():
    config = json.loads((bases.tiny_base_folder() / "config.json").read_text())
    assert config["architectures"] == ["Gemma3ForCausalLM"]
    # 4-bit kernels on CPUs want multiples of 64.
    assert all(config[key] % 64 == 0 for key in ("hidden_size", "intermediate_size", "head_dim", "vocab_size"))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bases.tiny_base_folder())
    specials = tokenizer.convert_tokens_to_ids(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"])
    assert specials == [0, 1, 2, 3, 4, 5]
