"""An adapter folder: locate, load, save, compare."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError, ToolkitError, after_saying, first_line
from toolkit.core.folder import read_json, read_manifest
from toolkit.core.hub_client import hub, hub_errors
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, TINY_BASE_ID, TOKENIZER_CONFIG
from toolkit.model.base import LocatedBase, base_hash, cached_config, locate_base
from toolkit.model.loading import DAMAGED, PROBE_TEXT, Precision, chosen_precision, load_base, load_tokenizer, overflow
from toolkit.model.memory import memory_errors

LORA_A, LORA_B = re.compile(r"(\.lora_(?:embedding_)?)A\b"), re.compile(r"(\.lora_(?:embedding_)?)B\b")


def adapter_changes_nothing(folder: Path) -> bool:
    """Whether a model with the adapter in a folder answers as the base does, told from its weights alone.

    LoRA adds B·A to a weight, and B begins as zero: where each product is zero, nothing was learnt. Weights of another
    kind (whole layers that were trained) count as a change.

    Raises:
        InputError: The weights can not be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, *DAMAGED, SafetensorError) as error:
        raise InputError(
            f"The adapter in {folder} can not be read: {first_line(error)}", "Train or download it again."
        ) from error
    names = [name for name in weights if LORA_B.search(name)]
    if any(not LORA_B.search(name) and not LORA_A.search(name) for name in weights):
        return False
    return not any(bool(weights[name].any()) and bool(weights[LORA_B.sub(r"\1A", name)].any()) for name in names)


def locate_adapter(name: str, revision: str | None = None) -> Path:
    """The folder of an adapter given by folder or Hub id; the latter is downloaded.

    Raises:
        InputError: Neither a folder with an adapter nor a Hub id.
        HubError: The Hub has no such adapter, or can not be reached.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / ADAPTER_CONFIG).is_file():
            raise InputError(
                f"{name} holds no adapter (no adapter_config.json).", "Name a folder that `pkt train` wrote."
            )
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"There is no adapter folder {name}.", "Make one with `pkt train`, or name a Hub id (owner/name)."
        )
    with after_saying(f"There is no folder {name}, and"), hub_errors(f"the adapter {name}"):
        return Path(hub().snapshot_download(name, revision=revision))


def may_be_quantized(adapter: Path) -> bool:
    """Whether the base of an adapter may be stored in a quantised form, which takes other libraries to load.

    It is told from files on this machine alone; a base that is not here yet may be anything.
    """
    try:
        named = read_json(adapter / ADAPTER_CONFIG)
        config = cached_config(named["base_model_name_or_path"], named.get("revision"))
        return config is None or bool(read_json(config).get("quantization_config"))
    except (InputError, LookupError, TypeError, AttributeError):
        # Damage is told where the adapter is loaded.
        return True


def load_adapter(folder: Path, quantization: str = "none") -> tuple[Any, Any, Precision]:
    """An adapter on its base, ready to answer: (model in eval mode, tokenizer, precision).

    Raises:
        InputError: The adapter is damaged or does not fit its base.
        EnvironmentLacks: The memory does not hold it.
    """
    from huggingface_hub.errors import StrictDataclassError
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError

    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}.", "Train or download it again.")
    try:
        with memory_errors():
            config = PeftConfig.from_pretrained(folder)
            if not config.base_model_name_or_path:
                raise InputError(f"The adapter in {folder} names no base.", "Train or download it again.")
            base = locate_base(str(config.base_model_name_or_path), config.revision, quantization=quantization)
            check_tiny_base(base, folder)
            # Other tools save an adapter without the tokenizer, which is then its base's.
            tokenizer = load_tokenizer(folder if (folder / TOKENIZER_CONFIG).is_file() else base.path)
            precision = chosen_precision(quantization)
            model = PeftModel.from_pretrained(load_base(base, precision), folder)
            if precision.compute == "float16" and (found := _overflow(model, tokenizer)):
                del model
                precision = precision.widened(found)
                model = PeftModel.from_pretrained(load_base(base, precision), folder)
    except (*DAMAGED, SafetensorError, StrictDataclassError) as error:
        raise InputError(
            f"The adapter in {folder} can not be loaded: {first_line(error)}", "Train or download it again."
        ) from error
    if not all(bool(tensor.isfinite().all()) for name, tensor in model.named_parameters() if "lora_" in name):
        raise InputError(
            f"The adapter in {folder} holds weights that are no numbers: its training diverged.",
            "Train it again with a lower --learning-rate.",
        )
    if adapter_changes_nothing(folder):
        raise InputError(
            f"The adapter in {folder} changes nothing: with it, the base answers as without it.",
            "Train it again, longer or with a higher --learning-rate.",
        )
    return model.eval(), tokenizer, precision


def _overflow(model: Any, tokenizer: Any) -> str | None:
    """What does not fit fp16 when the model reads a text, if anything."""
    import torch

    ids = tokenizer(PROBE_TEXT, return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad():
        return overflow(model.eval(), "float16", lambda probed: probed(input_ids=ids, use_cache=False).logits)


def check_tiny_base(base: LocatedBase, adapter: Path) -> None:
    """The tiny base changes with the toolkit; on another one than it was trained on, an adapter answers nonsense."""
    if base.id == TINY_BASE_ID and (adapter / MANIFEST).is_file():
        trained_on = read_manifest(adapter, "adapter").get("base", {}).get("content")
        if trained_on not in (None, base_hash(base)):
            raise InputError(
                f"The adapter in {adapter} was trained on the tiny base of another version of pkt.",
                "Train it again, or use that version.",
            )


def weights_of(model: Any) -> dict[str, Any]:
    """A copy of the adapter's weights, in the machine's own memory, by their names in the file."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}


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
    from safetensors.torch import load_file

    written, held = load_file(file), weights_of(model)
    if written.keys() != held.keys() or not all(written[name].equal(held[name]) for name in held):
        raise ToolkitError(
            f"{file.name} does not hold what was trained when it is read back.",
            "Check the disk, and run the same command again: it continues from the last checkpoint.",
        )
