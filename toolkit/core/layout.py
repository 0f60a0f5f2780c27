"""What each folder holds: the names of its files, splits and columns, once for all modules.

A dataset folder holds `data/SPLIT-*.parquet`, `rejected.parquet`, `validation.json`, `manifest.json`, the card and its
figures. An adapter folder holds the weights with peft's configuration, the tokenizer, `answers.json`,
`training_log.jsonl`, `manifest.json` and the card; an evaluation adds `evaluation.json`, `predictions.parquet`,
`samples.jsonl` and figures.
"""

from __future__ import annotations

from pathlib import Path

CARD, KOREAN_CARD = "README.md", "README.ko.md"
FIGURES = "figures"
MANIFEST = "manifest.json"

SPLITS = ("train", "validation", "test", "unseen")
# Where the Hub looks for the files of a split.
SPLIT_PATTERNS = ("data/{split}-*.parquet", "{split}-*.parquet", "{split}.parquet")
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


def split_files(folder: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in order, in the layouts that the Hub recognises."""
    return sorted({file for pattern in SPLIT_PATTERNS for file in folder.glob(pattern.format(split=split))})
