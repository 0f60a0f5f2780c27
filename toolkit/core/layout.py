"""What each folder holds: the names of its files, splits and columns, once for all modules.

A dataset folder holds `data/SPLIT-*.parquet`, `rejected.parquet`, `validation.json`, `manifest.json`, the card and its
figures. An adapter folder holds the weights with peft's configuration, the tokenizer, `answers.json`,
`training_log.jsonl`, `manifest.json` and the card; an evaluation adds `evaluation.json`, `predictions.parquet`,
`samples.jsonl` and figures.

The files of a split (`split_files`) are found for any dataset, by their names or by the `configs` of its card, in the
layouts that `datasets` and the Hub know: `data/train-00000-of-00002.parquet`, with a hash behind it too,
`default/train/0000.parquet`, `train.jsonl`, `en/dev.json`, `train_sft`, one file without a split in its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from toolkit.core.errors import InputError

CARD, KOREAN_CARD = "README.md", "README.ko.md"
# Key of the manifest: cards that somebody wrote by hand, with the SHA-256 of each.
EDITED = "edited_cards"
FIGURES = "figures"
MANIFEST = "manifest.json"

SPLITS = ("train", "validation", "test", "unseen")
REJECTED = "rejected.parquet"
VALIDATION = "validation.json"
# Columns of a dataset's rows, in order; `messages` is the conversation, all others are texts.
TEXT_COLUMNS = (
    *("answer", "description", "creature", "family", "name_en", "name_ko", "language", "source", "source_ref"),
    *("license", "attributes"),
)
COLUMNS = ("id", "messages", *TEXT_COLUMNS)

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_CONFIG = "tokenizer_config.json"
# The sorted answers that an adapter learnt, which `identify` ranks.
ANSWERS = "answers.json"
TRAINING_LOG = "training_log.jsonl"
EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.parquet"
SAMPLES = "samples.jsonl"

# Torch dtypes that a model is merged and computed in, the default first.
DTYPES = ("bfloat16", "float16", "float32")
# The most tokens of a conversation, how many names an answer gives, and what an evaluation compares with: defaults that
# the help of a command names too.
MAX_LENGTH = 512
NAMES_GIVEN = 5
BASELINES = ("base", "tfidf", "tfidf_centroid", "encoder", "frequent", "chance")
# An encoder is another model, and not everyone has it.
DEFAULT_BASELINES = tuple(name for name in BASELINES if name != "encoder")
# The base that ships with the toolkit.
TINY_BASE_ID = "pokepicker/tiny-gemma"

PARQUET, JSON = ".parquet", (".jsonl", ".ndjson", ".json")
WANTED = "Give it data/train-00000-of-00001.parquet or train.jsonl, of rows with `messages`: a list of {role, content}."
_OTHER_JSON = {MANIFEST, VALIDATION, "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_OTHER_JSON |= {"state.json", "package.json", "tokenizer.json", "tokenizer_config.json"}
# The words that name a split. Those of `unseen` are this toolkit's own.
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    "unseen": "unseen",
}
_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_WORDS)})(?![a-z])")
_SHARD = re.compile(r"[-_.]\d{4,6}-of-\d{4,6}(?:[-_.][0-9a-f]+)?\Z")
_NUMBER = re.compile(r"[-_.]?\d+\Z")
MOST_SHOWN = 8

Configs = dict[str, dict[str, list[str]]]
"""Config -> split -> patterns of its files."""


class _File(NamedTuple):
    """A file of rows: its config (the folders that name no split), its split by a word in its path, its own name."""

    name: str
    config: str
    split: str | None
    label: str
    sharded: bool


def split_files(folder: Path, where: str, config: str | None = None) -> dict[str, list[Path]]:
    """The files of each split of a dataset's folder, `SPLITS` first. Arguments and errors as `files_by_split`."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found = files_by_split(names, where, config, card_configs(folder))
    return {split: [folder / name for name in of_split] for split, of_split in found.items()}


def files_by_split(
    names: Iterable[str], where: str, config: str | None = None, configs: Configs | None = None
) -> dict[str, list[str]]:
    """The files of each split, by relative path: those of `SPLITS` under these names, others under their own.

    Args:
        names: All files of a dataset.
        where: The dataset, for the errors.
        config: Which of several configs; a folder is one where the card names none.
        configs: What the card says (`card_configs`).

    Raises:
        InputError: No file of rows, no such config, several without a choice, or several splits that may be one.
    """
    names = sorted(names)
    if configs:
        patterns = configs[_chosen(list(configs), config or ("default" if "default" in configs else None), where)]
        rows = [name for name in names if _is_rows(name)]
        groups = {split: [name for name in rows if _matches(name, of_split)] for split, of_split in patterns.items()}
        lacking = [split for split, files in groups.items() if not files]
        if lacking and MANIFEST not in names:
            named = f"no file {', '.join(patterns[lacking[0]])} that pkt reads, as its card says of {lacking[0]}"
            raise InputError(f"{where} has {named}; it holds {_shown(names)}.", WANTED)
        groups = {split: files for split, files in groups.items() if files}
    else:
        files = _files_of_rows(names)
        known = {file.config for file in files}
        # Beside `data/train-00000-of-00001.parquet` nothing in other folders counts for `datasets` either.
        alone = any(file.sharded and not file.config for file in files) and config is None
        chosen = files and _chosen([""] if alone else sorted(known), config, where)
        groups = _groups([file for file in files if file.config == chosen])
    if not groups:
        raise InputError(f"{where} has no files of rows that pkt reads; it holds {_shown(names)}.", WANTED)
    return _named(groups, where)


def _shown(names: list[str]) -> str:
    return ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "") or "nothing"


def _is_rows(name: str) -> bool:
    return name.endswith(PARQUET) or name.removesuffix(".gz").endswith(JSON)


def card_configs(folder: Path) -> Configs:
    """The `configs` of a card's front matter: config -> split -> patterns; one marked as default is `default` too."""
    card = folder / CARD
    text = re.match(r"---\s*\n(.*?)\n---", card.read_text("utf-8", "replace") if card.is_file() else "", re.DOTALL)
    with suppress(yaml.YAMLError, ValueError):
        front = yaml.safe_load(text[1]) if text else None
        listed = front.get("configs") if isinstance(front, dict) else None
        configs = [config for config in listed or [] if isinstance(config, dict) and config.get("data_files")]
        marked = [("default", config) for config in configs if config.get("default") is True]
        named = [(str(config.get("config_name", "default")), config) for config in configs]
        return {name: _patterns(config) for name, config in marked + named}
    return {}


def _patterns(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """What its `data_files` says: a pattern, a list of them, or of `{split, path}`."""
    files, folder = config["data_files"], config.get("data_dir")
    patterns: dict[str, list[str]] = {}
    for entry in files if isinstance(files, list) else [files]:
        split, paths = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        named = paths if isinstance(paths, list) else [paths]
        patterns.setdefault(str(split), []).extend(f"{folder}/{path}" if folder else str(path) for path in named)
    return patterns


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns, whose `*` ends at a slash and whose `**` does not."""
    return any(
        fnmatch(name, pattern) and ("**" in pattern or name.count("/") == pattern.count("/"))
        for pattern in (written.removeprefix("./") for written in patterns)
    )


def _files_of_rows(names: Sequence[str]) -> list[_File]:
    """The Parquet files, and those of JSON that hold other splits; without hidden ones and what is no data.

    A folder with a manifest inside it is a dataset or an adapter of its own.
    """
    apart = tuple(name.removesuffix(MANIFEST) for name in names if name.endswith(f"/{MANIFEST}"))
    seen = [name for name in names if not (re.search(r"(?:^|/)(?:\.|__)", name) or name.startswith(apart))]
    parquet = [_placed(name) for name in seen if name.endswith(PARQUET) and name != REJECTED]
    others = (name for name in seen if _is_rows(name) and not name.endswith(PARQUET))
    json = [_placed(name) for name in others if name.rpartition("/")[2] not in _OTHER_JSON]
    if parquet or any(file.split for file in json):
        held = {file.split for file in parquet} | {None}
        json = [file for file in json if file.split not in held]
    return parquet + json


def _placed(name: str) -> _File:
    *folders, file = name.lower().split("/")
    stem = re.sub(r"(?:\.(?:parquet|jsonl|ndjson|json|gz))+\Z", "", file)
    label = _SHARD.sub("", stem)
    sharded = label != stem
    label = label if sharded else _NUMBER.sub("", stem)
    words = [_word(folder) for folder in folders]
    split = _WORDS.get(label) or next((word for word in reversed(words) if word), None) or _word(label)
    kept = [part for part, word in zip(name.split("/"), words, strict=False) if word is None or word != split]
    config = "/".join(kept[1:] if kept[:1] == ["data"] else kept)
    return _File(name, config, split, label if sharded and _word(label) else split or label, sharded)


def _word(text: str) -> str | None:
    found = _WORD.search(text.lower())
    return _WORDS[found[0]] if found else None


def _chosen(known: list[str], config: str | None, where: str) -> str:
    shown = ", ".join(name or "." for name in known)
    if config is None and len(known) > 1:
        asked = f"Name one behind a colon, as in {where}:{known[-1]}."
        raise InputError(f"{where} has several configs: {shown}.", asked)
    if config is not None and config.removeprefix(".") not in known:
        raise InputError(f"{where} has no config {config}.", f"Choose among {shown}.")
    return known[0] if config is None else config.removeprefix(".")


def _groups(files: list[_File]) -> dict[str, list[str]]:
    """Files by the split that their names say. Where none says one, all are of `train`, as one file of any name is."""
    labels = {file.label for file in files}
    unnamed = not any(file.split for file in files) and (len(labels) == 1 or not any(file.sharded for file in files))
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault("train" if unnamed else file.label, []).append(file.name)
    return groups


def _named(groups: Mapping[str, list[str]], where: str) -> dict[str, list[str]]:
    """Splits under the names of `SPLITS` where one group is it: `dev` is `validation`, and `train_sft` is `train`."""
    named: dict[str, list[str]] = {}
    for split in SPLITS:
        same = [label for label in groups if _word(label) == split]
        exact = [label for label in same if label == split] or [label for label in same if label.endswith("_sft")]
        if len(exact or same) > 1:
            raise InputError(
                f"{where} has several splits that may be {split}: {', '.join(same)}.",
                f"Rename the files of one of them to {split}-00000-of-00001.parquet, and move the others away.",
            )
        for label in exact or same:
            named[split] = groups[label]
    used = {id(files) for files in named.values()}
    return named | {label: groups[label] for label in sorted(groups) if id(groups[label]) not in used}
