"""What tests share: a sentence encoder of a few bytes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def small_encoder(folder: Path, words: Sequence[str] = ("fox", "turtle", "mouse")) -> Path:
    """An encoder with one direction for each of some words, and one for all others, saved as a folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    numbers = {word: number for number, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(numbers, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    module = StaticEmbedding(tokenizer, embedding_weights=np.eye(len(numbers), dtype="float32"))
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder))
    return folder
