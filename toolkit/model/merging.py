"""A model with an adapter on it becomes a plain one: weights merged, embeddings untied where they must be, the settings
that generation starts from. Knows no folder.
"""

from __future__ import annotations

import warnings
from typing import Any

from toolkit.core.errors import InputError
from toolkit.core.recipe import DecodingSettings
from toolkit.model import chat


def merged_model(peft_model: Any) -> Any:
    """The base with the adapter's change added to its weights in float32, rounded once; `peft_model` is used up.

    Raises:
        InputError: A merged weight is no number.
    """
    tied = _untie(peft_model)
    _merge_exactly(peft_model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged", UserWarning)
        merged = peft_model.merge_and_unload()
    if tied:
        _tie_again(merged)
    return merged.eval()


def _merge_exactly(peft_model: Any) -> None:
    """Merge each adapted weight in float32: peft itself adds a rounded change to a rounded weight and rounds again."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in peft_model.modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        weight = module.get_base_layer().weight
        dtype, weight.data = weight.dtype, weight.data.float()
        module.merge()
        weight.data = weight.data.to(dtype)
        if not torch.isfinite(weight.data).all():
            raise InputError(
                "A weight with the adapter merged into it is no number.", "Choose another --dtype: bfloat16 or float32."
            )


def _untie(model: Any) -> bool:
    """Give each module a weight of its own; whether embeddings and head shared theirs by the configuration.

    Where embeddings and head are one matrix, merging an adapter of one of them would change the other too, and merging
    an adapter of both would add the change twice.
    """
    import torch

    seen: set[int] = set()
    for module in list(model.modules()):
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                own = torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
                setattr(module, name, own)
            seen.add(id(getattr(module, name)))
    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    _say_tied(model.config, False)
    return tied


def _tie_again(merged: Any) -> None:
    """Make embeddings and head one matrix again, and have the configuration say so, if they are still alike."""
    embeddings, head = merged.get_input_embeddings(), merged.get_output_embeddings()
    if head is not None and head.weight.equal(embeddings.weight):
        head.weight = embeddings.weight
        _say_tied(merged.config, True)


def _say_tied(config: Any, tied: bool) -> None:
    for part in (config, config.get_text_config()):
        part.tie_word_embeddings = tied


def set_generation(merged: Any, tokenizer: Any, decoding: DecodingSettings) -> None:
    """Have the model stop at every token that ends an answer, and sample as the adapter was evaluated."""
    settings = merged.generation_config
    stops = chat.end_of_turn_ids(tokenizer, settings)
    settings.eos_token_id = stops
    settings.bos_token_id = tokenizer.bos_token_id
    settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    settings.update(do_sample=True, **decoding.model_dump())
