"""A trained adapter: its weights, whether they learnt anything, and the folder that it is written into."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import ToolkitError
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD
from toolkit.model.base import CONFIG, LocatedBase, read_config

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

LORA_A, LORA_B = re.compile(r"(\.lora_(?:embedding_)?)A\b"), re.compile(r"(\.lora_(?:embedding_)?)B\b")


def weights_of(model: PeftModel, embeddings: bool = False) -> dict[str, torch.Tensor]:
    """A copy of the adapter's weights, in the machine's own memory, by their names in the file.

    With the base's `embeddings`, where these have other rows than the published ones.
    """
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(model, save_embedding_layers=embeddings)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, base: LocatedBase, folder: Path) -> None:
    """Write adapter weights, their configuration and the tokenizer; the base appears by id and revision only.

    Raises:
        ToolkitError: The file that was written does not hold the model's weights.
    """
    published = read_config(base.id, base.path / CONFIG).get_text_config()
    lengthened = model.config.get_text_config().vocab_size != published.vocab_size
    model.save_pretrained(folder, save_embedding_layers=lengthened)
    (folder / CARD).unlink(missing_ok=True)
    _check_written(weights_of(model, lengthened), folder / ADAPTER_WEIGHTS)
    file = folder / ADAPTER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base.id, "revision": base.revision}
    # A set in peft, so in random order: sorted, the same run writes the same bytes.
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)


def _check_written(held: Mapping[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import load_file

    written = load_file(file)
    if written.keys() != held.keys() or not all(written[name].equal(held[name]) for name in held):
        raise ToolkitError(
            f"{file.name} does not hold what was trained when it is read back.",
            "Check the disk, and run the same command again: it continues from the last checkpoint.",
        )


def weights_hash(model: PeftModel) -> str:
    """SHA-256 of the adapter's weights."""
    from safetensors.torch import save

    return hashlib.sha256(save(weights_of(model))).hexdigest()
