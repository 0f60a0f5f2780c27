"""What decides a model's answers, as one hash: finished answers are kept only for the model that gave them."""

from __future__ import annotations

from pathlib import Path

from toolkit.core.errors import InputError
from toolkit.core.folder import json_hash, read_json, sha256_file
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, TINY_BASE_ID
from toolkit.model.base import base_hash, locate_base

# Of weights, their configuration, tokenizer and chat template.
DECIDING = (".safetensors", ".json", ".model", ".jinja", ".txt")
# What steps write beside them.
WRITTEN = (MANIFEST, "evaluation.json")


def identity(adapter: Path, quantization: str) -> str:
    """One hash for an adapter's files and its base; the base is downloaded when it is not here.

    Args:
        adapter: Its folder.
        quantization: How the base will be held.

    Raises:
        InputError: A file is missing, or the base can not be used.
        HubError, EnvironmentLacks: As `bases.locate_base`.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (adapter / name).is_file():
            raise InputError(f"{adapter} holds no {name}.", "Train or download it again.")
    files = [file for file in adapter.iterdir() if file.suffix in DECIDING and file.name not in WRITTEN]
    hashes = {file.name: sha256_file(file) for file in files if file.is_file()}
    return json_hash([hashes, _base(adapter / ADAPTER_CONFIG, quantization)])


def _base(config: Path, quantization: str) -> str | None:
    """The content of the tiny base, the commit of another: a branch may have moved on."""
    try:
        named = read_json(config)
        base, revision = named["base_model_name_or_path"], named.get("revision")
    except (InputError, LookupError, TypeError, AttributeError):
        # Damage is told where the adapter is loaded.
        return None
    if not isinstance(base, str) or not base or not isinstance(revision, str | None):
        return None
    located = locate_base(base, revision, quantization=quantization)
    return base_hash(located) if base == TINY_BASE_ID else located.revision
