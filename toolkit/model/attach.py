"""An adapter's folder and a base in; the model with the adapter on it out, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import InputError, library_errors
from toolkit.core.layout import ADAPTER_WEIGHTS, TOKENIZER_CONFIG
from toolkit.model.fit import Fit, fill, read_settings, refuse_misfit, refuse_start, saved_rows
from toolkit.model.loading import PROBE_TEXT
from toolkit.model.memory import memory_errors

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REFIT = "Use the base that it was trained on and the peft that saved it (its adapter_config.json names both)."
# Tokens before a text that shows whether an adapter changes anything.
PROBED = 32


def put_on(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PeftModel:
    """The adapter in a folder on its loaded base, which it may change, in eval mode.

    Raises:
        InputError, EnvironmentLacks: As `load_adapter`.
    """
    lengthen_embeddings(base, folder, tokenizer)
    probes = _probes(base, tokenizer, getattr(read_settings(folder), "trainable_token_indices", None))
    without = [next_logits(base, ids) for ids in probes]
    model, fit = attach(base, folder)
    refuse_misfit(fit, folder)
    of_adapter = [each for name, each in model.named_parameters() if "lora_" in name or "modules_to_save." in name]
    if not all(bool(tensor.isfinite().all()) for tensor in of_adapter):
        raise InputError(
            f"The adapter in {folder} holds weights that are NaN or infinite: its training diverged.",
            "Train it again with a lower `training.learning_rate`.",
        )
    # Families that number their layers do not bear layers that an adapter replicates.
    with library_errors(f"The adapter in {folder} cannot be asked on its base", REFIT):
        answered = [next_logits(model, ids) for ids in probes]
    if all(before.equal(after) for before, after in zip(without, answered, strict=True)):
        raise InputError(
            f"The adapter in {folder} changes nothing: with it, the base answers as without it.",
            "Train it again, longer or with a higher `training.learning_rate`.",
        )
    return model


def lengthen_embeddings(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a base the rows of embeddings that the adapter's own tokenizer needs, as `AutoPeftModelForCausalLM` does.

    Where the adapter's file holds the embeddings, it has as many rows as these (padded, or cut to the tokenizer).
    """
    import torch

    if not (folder / TOKENIZER_CONFIG).is_file():
        return
    rows = base.get_input_embeddings().weight.shape[0]
    wanted = max(saved_rows(folder, base) or rows, len(tokenizer))
    if wanted == rows:
        return
    # New rows are drawn about the mean of the old ones: the same ones each time, where the file does not hold them.
    # A model that was built without weights has no mean.
    with memory_errors(), torch.random.fork_rng():
        torch.manual_seed(0)
        base.resize_token_embeddings(wanted, mean_resizing=base.device.type != "meta")


def _probes(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, trained: Any) -> list[list[int]]:
    """Two short texts as token ids: one begins with the tokens that chat templates use and that are trained alone."""
    alone = [number for each in trained.values() for number in each] if isinstance(trained, dict) else trained or []
    rows = base.get_input_embeddings().weight.shape[0]
    first = [number for number in dict.fromkeys([*tokenizer.all_special_ids, *alone]) if number < rows]
    text = tokenizer(PROBE_TEXT)["input_ids"]
    return [text, first[-PROBED:] + text]


def next_logits(model: PreTrainedModel, text: list[int]) -> torch.Tensor:
    """After a text, `[1, 1, vocabulary]`."""
    import torch

    with memory_errors(), torch.inference_mode():
        ids = torch.tensor([text], device=model.device)
        logits: torch.Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
        return logits


def attach(base: PreTrainedModel, folder: Path) -> tuple[PeftModel, Fit]:
    """The adapter in a folder on its loaded base, in eval mode, as far as it fits.

    Raises:
        InputError: It is damaged, or of a kind that cannot be asked on its base as it is.
        EnvironmentLacks: The memory does not hold it.
    """
    import torch
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel
    from safetensors.torch import load_file

    config = read_settings(folder)
    config.inference_mode = True
    refuse_start(config, base, folder)
    with library_errors(f"The adapter in {folder} cannot be loaded", REFIT), memory_errors():
        kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
        # A fresh adapter draws random numbers. Its file replaces them, so the caller's own draws must not move on.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = kind(base, config)
        return model.eval(), fill(model, load_file(folder / ADAPTER_WEIGHTS))
