"""What each folder holds (`docs/design.md`): the names of its files, splits and columns, once for all modules.

The files of a split (`split_files`) are found for any dataset, by their names or by the `configs` of its card, in the
layouts that `datasets` and the Hub know: `data/train-00000-of-00002.parquet`, with a hash behind it too,
`default/train/0000.parquet`, `train.jsonl`, `en/dev.json`, `train_sft`, one file without a split in its name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
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
# Those that an adapter is measured on.
HELD_OUT = frozenset(("test", "unseen"))
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
# All names of its dataset, those of creatures held out too: a name among them is not new.
TAKEN_NAMES = "taken_names.json"
# A state for each of the answers, which `identify` compares descriptions with; where a contrast was trained.
CENTROIDS = "centroids.safetensors"
TRAINING_LOG = "training_log.jsonl"
# The kind of folder that holds a sentence encoder.
ENCODER = "encoder"
EVALUATION = "evaluation.json"
# A dataset's benchmark and an adapter's result in it, in the Hub's forms, and the task that both name.
BENCHMARK, EVAL_RESULTS, TASK = "eval.yaml", ".eval_results/naming.yaml", "naming"
PREDICTIONS = "predictions.parquet"
SAMPLES = "samples.jsonl"

# Torch dtypes that a model is merged and computed in, the default first.
DTYPES = ("bfloat16", "float16", "float32")
# Types of the matrices in a GGUF file that is written, the default first.
GGUF_TYPES = ("q8_0", "q4_k_m", "f16")
# The most tokens of a conversation, how many names an answer gives, and what an evaluation compares with: defaults that
# the help of a command names too.
MAX_LENGTH = 512
NAMES_GIVEN = 5
# Nats off each next token of a known name that was begun, where a new one is wanted: an adapter often gives it 0.99 of
# the probability, and a four-hundredth of that is one token among others. With 4 nats, a fifth more names are copies.
DISCOUNT = 6.0
BASELINES = ("base", "tfidf", "tfidf_centroid", "encoder", "frequent", "chance")
# Behind a method's name in an evaluation: its names that are new by construction; its ranking by how likely it makes
# names, where it identifies by centroids.
NEW_NAMES, BY_LIKELIHOOD = ", new names", ", by likelihood"
# An encoder is another model, and not everyone has it.
DEFAULT_BASELINES = tuple(name for name in BASELINES if name != "encoder")
# The base that ships with the toolkit.
TINY_BASE_ID = "pokepicker/tiny-gemma"

PARQUET, JSON = ".parquet", (".jsonl", ".ndjson", ".json")
WANTED = "Give it data/train-00000-of-00001.parquet or train.jsonl, of rows with `messages`: a list of {role, content}."
MOST_SHOWN = 8
# What is no data: ours, and what `datasets` and transformers write.
_ABOUT = {REJECTED, MANIFEST, VALIDATION, "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_ABOUT |= {"config.json", "tokenizer.json", TOKENIZER_CONFIG}
# The words that name a split, as `datasets` knows them; `unseen` is this toolkit's own.
_WORDS = {
    **dict.fromkeys(("train", "training", "학습", "훈련"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val", "검증"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "시험", "평가", "테스트"), "test"),
    "unseen": "unseen",
}
_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_WORDS)})(?![a-z])")
_SHARD = re.compile(r"(.+)[-_.]\d{4,6}-of-\d{4,6}\b")

Configs = dict[str, dict[str, list[str]]]
"""Config -> split -> patterns of its files."""


class _File(NamedTuple):
    """A file of rows: its config (the folders that name no split), and what its name, or a folder's, says of its split:
    the name of a shard, the split that a word means, or nothing."""

    name: str
    config: str
    split: str
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
        InputError: No file of rows, no such config, or several without a choice.
    """
    names = sorted(names)
    rows = [name for name in names if name.lower().removesuffix(".gz").endswith((PARQUET, *JSON))]
    groups: dict[str, list[str]] = {}
    if configs:
        patterns = configs[_chosen(configs, config or ("default" if "default" in configs else None), where)]
        found = {split: [name for name in rows if _matches(name, of_split)] for split, of_split in patterns.items()}
        groups = {split: of_split for split, of_split in found.items() if of_split}
        for split in sorted(patterns.keys() - groups.keys()) if groups else ():
            raise InputError(f"{where} holds no file of rows for {split}, {patterns[split][0]} by its card.", WANTED)
    elif files := _placed(names, rows):
        # Beside `data/train-00000-of-00001.parquet` nothing in other folders counts for `datasets` either.
        alone = config is None and any(file.sharded and not file.config for file in files)
        chosen = "" if alone else _chosen(sorted({file.config for file in files}), config, where)
        for file in files:
            if file.config == chosen:
                groups.setdefault(file.split, []).append(file.name)
    if not groups:
        shown = ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "") or "nothing"
        raise InputError(f"{where} has no files of rows that pkt reads; it holds {shown}.", WANTED)
    return _named(groups)


def card_configs(folder: Path) -> Configs:
    """The `configs` of a card's front matter: config -> split -> patterns; one marked as default is `default` too."""
    from huggingface_hub import metadata_load

    listed = None
    with suppress(yaml.YAMLError, ValueError, FileNotFoundError):
        listed = (metadata_load(folder / CARD) or {}).get("configs")
    found: Configs = {}
    for config in listed if isinstance(listed, list) else []:
        if isinstance(config, dict) and config.get("data_files"):
            names = [str(config.get("config_name", "default")), *(["default"] if config.get("default") is True else [])]
            found |= dict.fromkeys(names, _patterns(config))
    return found


def _patterns(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """What its `data_files` says: a pattern, a list of them or of `{split, path}`, or patterns by split."""
    files, folder = config["data_files"], config.get("data_dir")
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
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


def _placed(names: Iterable[str], rows: Iterable[str]) -> list[_File]:
    """Files of rows of one kind, Parquet or else JSON; only those that name a split, where any does.

    Without hidden ones, and what is no data. A folder with a manifest inside is a dataset or an adapter of its own.
    """
    apart = tuple(name.removesuffix(MANIFEST) for name in names if name.endswith(f"/{MANIFEST}"))
    seen = [name for name in rows if not (re.search(r"(?:^|/)(?:\.|__)", name) or name.startswith(apart))]
    seen = [name for name in seen if name.rpartition("/")[2] not in _ABOUT]
    files = [_file(name) for name in [name for name in seen if name.lower().endswith(PARQUET)] or seen]
    if len({file.split for file in files}) > 1:
        return [file for file in files if file.split]
    return files if any(_word(file.split) for file in files) else [file._replace(split="train") for file in files]


def _file(name: str) -> _File:
    *folders, file = name.split("/")
    shard = _SHARD.match(file)
    words = [_word(folder) for folder in folders]
    of_folder = next((word for word in reversed(words) if word), "")
    split = shard[1] if shard and _word(shard[1]) else _word(file) or of_folder or (shard[1] if shard else "")
    kept = [folder for folder, word in zip(folders, words, strict=True) if not word or word != split]
    return _File(name, "/".join(kept[1:] if kept[:1] == ["data"] else kept), split, shard is not None)


def _word(text: str) -> str:
    """The split that the first word of a text means, empty where none does."""
    found = _WORD.search(unicodedata.normalize("NFC", text.lower()))
    return _WORDS[found[0]] if found else ""


def _chosen(known: Collection[str], config: str | None, where: str) -> str:
    shown = ", ".join(name or "." for name in known)
    if config is None and len(known) > 1:
        raise InputError(
            f"{where} has several configs: {shown}.", f"Name one behind a colon, as in {where}:{max(known)}."
        )
    if config is not None and config.removeprefix(".") not in known:
        raise InputError(f"{where} has no config {config}.", f"Choose among {shown}.")
    return next(iter(known)) if config is None else config.removeprefix(".")


def _named(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """Splits under the names of `SPLITS` where one group alone is it: `dev` is `validation`, `train_sft` is `train`."""
    named: dict[str, list[str]] = {}
    for split in SPLITS:
        alike = [label for label in groups if _word(label) == split]
        alike = [label for label in alike if label in (split, f"{split}_sft")][:1] or alike
        if len(alike) == 1:
            named[split] = groups.pop(alike[0])
    return named | dict(sorted(groups.items()))
