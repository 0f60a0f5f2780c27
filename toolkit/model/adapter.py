"""An adapter's weights as a file: taken from a model, written, read back and compared. Knows nothing of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolkit.core.errors import ToolkitError
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from toolkit.model.base import LocatedBase


def weights_of(model: Any) -> dict[str, Any]:
    """A copy of the adapter's weights, in the machine's own memory, by their names in the file."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}


def put_weights(model: Any, weights: dict[str, Any]) -> None:
    """Put an adapter's weights into the model."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, weights)


def write_weights(file: Path, weights: dict[str, Any]) -> None:
    """Write an adapter's weights as safetensors."""
    from safetensors.torch import save_file

    save_file(weights, file, metadata={"format": "pt"})


def read_weights(file: Path) -> dict[str, Any]:
    """Read an adapter's weights."""
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(file)
    return weights


def save_adapter(model: Any, tokenizer: Any, base: LocatedBase, folder: Path) -> None:
    """Write adapter weights, their configuration and the tokenizer; the base appears by id and revision only.

    Raises:
        ToolkitError: What can be read from the file is not what the model holds.
    """
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    _check_written(model, folder / ADAPTER_WEIGHTS)
    file = folder / ADAPTER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base.id, "revision": base.revision}
    # A set in peft, so in random order: sorted, the same run writes the same bytes.
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)


def _check_written(model: Any, file: Path) -> None:
    written, held = read_weights(file), weights_of(model)
    if written.keys() != held.keys() or not all(written[name].equal(held[name]) for name in held):
        raise ToolkitError(
            f"{file.name} does not hold what was trained when it is read back.",
            "Check the disk, and run the same command again: it continues from the last checkpoint.",
        )
