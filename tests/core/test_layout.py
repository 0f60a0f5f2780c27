"""Which files of a dataset hold which split, by their names and by the card."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from toolkit.core.errors import InputError
from toolkit.core.layout import files_by_split, split_files

SHARD = "00000-of-00001"


def splits(*names: str, config: str | None = None) -> dict[str, str]:
    found = files_by_split(names, "owner/name", config)
    return {split: " ".join(files) for split, files in found.items()}


@pytest.mark.parametrize(
    "name",
    [
        f"data/train-{SHARD}.parquet",
        f"data/train-{SHARD}-a1b2c3d4e5f6a7b8.parquet",
        f"data/train_sft-{SHARD}.parquet",
        f"en/train-{SHARD}.parquet",
        *("default/train/0000.parquet", "default/partial-train/0000.parquet", f"train/data-{SHARD}.parquet"),
        *("train.jsonl", "data/train.jsonl.gz", "train.json", "Train.ndjson", "training.parquet", "train_v2.PARQUET"),
        *("mydata.parquet", "data/mydata.jsonl", "pokemon-train.json", f"data/pokemon-{SHARD}.parquet"),
    ],
)
def test_the_one_file_of_rows_is_train_in_every_layout_of_the_hub(name: str) -> None:
    others = ("README.md", ".gitattributes", "manifest.json", "dataset_info.json", "rejected.parquet", "figures/a.png")
    assert splits(name, *others) == {"train": name}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet", ["train"]),
        (f"data/dev-{SHARD}.parquet data/train-{SHARD}.parquet", ["train", "validation"]),
        ("val.jsonl train.jsonl test.jsonl unseen.jsonl", ["train", "validation", "test", "unseen"]),
        ("default/train/0000.parquet default/test/0000.parquet", ["train", "test"]),
        ("train/a.jsonl train/b.jsonl eval/a.jsonl", ["train", "test"]),
        (f"data/train_sft-{SHARD}.parquet data/train_gen-{SHARD}.parquet", ["train", "train_gen"]),
        (f"data/train-{SHARD}.parquet data/train_sft-{SHARD}.parquet", ["train", "train_sft"]),
        ("train.parquet extra.parquet test.jsonl", ["train"]),
        ("a.parquet b.parquet", ["train"]),
        (f"data/train_a-{SHARD}.parquet data/train_b-{SHARD}.parquet", ["train_a", "train_b"]),
        (f"data/en-{SHARD}.parquet data/ko-{SHARD}.parquet", ["en", "ko"]),
        ("train.jsonl stats.json", ["train"]),
        ("펫_학습.jsonl 검증용.jsonl 평가/a.jsonl", ["train", "validation", "test"]),
        (unicodedata.normalize("NFD", "학습.jsonl 검증.jsonl"), ["train", "validation"]),
        (f"data/train-{SHARD}.parquet old/data/train-{SHARD}.parquet", ["train"]),
    ],
)
def test_splits_have_one_name_whatever_their_files_are_called(names: str, found: list[str]) -> None:
    assert list(splits(*names.split())) == found


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("en/train.jsonl ko/train.jsonl", "owner/name has several configs: en, ko. Name one behind a colon"),
        ("train.jsonl old/train.jsonl", "several configs: ., old"),
        (
            "train.csv data/x.arrow",
            "no files of rows that pkt reads; it holds data/x.arrow, train.csv. Give it data/train-",
        ),
        ("dataset/manifest.json dataset/train.jsonl adapter/manifest.json", "it holds adapter/manifest.json, dataset/"),
        ("", "it holds nothing."),
    ],
)
def test_what_cannot_be_told_is_an_error_with_the_names_that_are_there(names: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        splits(*names.split())
    assert said in f"{caught.value.found} {caught.value.remedy}"


def test_a_config_is_chosen_by_its_folder() -> None:
    names = ("en/train.jsonl", "ko/train.jsonl", "ko/test.jsonl")
    assert splits(*names, config="ko") == {"train": "ko/train.jsonl", "test": "ko/test.jsonl"}
    with pytest.raises(InputError, match="no config fr"):
        splits(*names, config="fr")


CARD = """---
configs:
- config_name: a
  data_files: raw/*.jsonl
- config_name: b
  default: true
  data_files:
  - split: train
    path: [raw/one.jsonl, "deep/**"]
  - split: valid
    path: raw/two.jsonl
---
# A card
"""


def test_the_card_says_which_files_are_which_split_and_which_config_is_the_default(tmp_path: Path) -> None:
    for name in ("raw/one.jsonl", "raw/two.jsonl", "deep/er/three.jsonl", "train.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "README.md").write_text(CARD)

    def found(config: str | None) -> dict[str, list[str]]:
        return {split: [file.name for file in files] for split, files in split_files(tmp_path, "x", config).items()}

    assert found(None) == found("b") == {"train": ["three.jsonl", "one.jsonl"], "validation": ["two.jsonl"]}
    assert found("a") == {"train": ["one.jsonl", "two.jsonl"]}
    (tmp_path / "README.md").write_text(CARD.replace("  default: true\n", ""))
    with pytest.raises(InputError, match="several configs: a, b"):
        found(None)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- data_files: {train: raw/one.jsonl, dev: [raw/two.jsonl]}\n---\n"
    )
    assert found(None) == {"train": ["one.jsonl"], "validation": ["two.jsonl"]}
    (tmp_path / "raw/two.jsonl").unlink()
    with pytest.raises(InputError, match="no file of rows for dev, raw/two"):
        found(None)
    for broken in ("configs: [", "configs: true", "configs: [a]"):
        (tmp_path / "README.md").write_text(f"---\n{broken}\n---\n")
        assert found(None) == {"train": ["train.jsonl"]}
