"""Whether the tensors in an adapter's file are those that the model with the adapter on it holds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

# What torch.compile, DistributedDataParallel, FSDP and gradient checkpointing put into the names below them.
WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
ADAPTER_NAME = "default"


@dataclass(frozen=True, slots=True)
class Fit:
    """How an adapter's file and the model with the adapter on it agree; names are those of the file.

    Attributes:
        loaded: Tensors that the model took.
        unknown: In the file, of no use to the model.
        missing: Of the model's adapter, not in the file.
        wrong_shape: In both, with the file's and the model's shape.
        prefix: Part of the unknown names, and what the missing ones have in its place (either may be empty), where this
            alone tells all of them apart.
    """

    loaded: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    prefix: tuple[str, str] | None

    @property
    def complete(self) -> bool:
        """Whether all of the file is in the model, and all of the model's adapter came from the file."""
        return not (self.unknown or self.missing or self.wrong_shape)


def fill(model: PeftModel, weights: Mapping[str, torch.Tensor]) -> Fit:
    """Load the tensors of an adapter's file into the model that its configuration made, and say which ones fit.

    What peft itself leaves out of a file (of tied weights, embeddings that were not resized) is not missing.
    """
    from peft import set_peft_model_state_dict

    state = model.state_dict()
    places = _places(model, state)
    given = dict(weights)
    # peft raises a bare KeyError where one of these is missing.
    replaced = _replaced_whole(model)
    given |= {name: state[places[name]] for name in replaced - weights.keys()}
    held = {name: tuple(state[places.get(name, name)].shape) for name in weights if places.get(name, name) in state}
    shapes = ((name, tuple(weights[name].shape), shape) for name, shape in held.items())
    wrong = [(name, theirs, ours) for name, theirs, ours in shapes if theirs != ours]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some weights of .* were not initialized", UserWarning)
        result = set_peft_model_state_dict(model, given, ADAPTER_NAME, ignore_mismatched_sizes=True)
    unknown = [re.sub(rf"\.{ADAPTER_NAME}(?=\.|$)", "", name, count=1) for name in result.unexpected_keys]
    unfilled, misshapen = set(result.missing_keys), {name for name, _, _ in wrong}
    missing = [name for name, place in places.items() if place in unfilled or name in replaced - weights.keys()]
    missing = [name for name in missing if name not in misshapen]
    return Fit(
        loaded=tuple(sorted(weights.keys() - misshapen - set(unknown))),
        unknown=tuple(sorted(unknown)),
        missing=tuple(sorted(missing)),
        wrong_shape=tuple(sorted(wrong)),
        prefix=_prefix(unknown, missing),
    )


def refuse_misfit(fit: Fit, folder: Path) -> None:
    """Raise InputError for an adapter that does not fit its base, with the first name and what would mend it."""
    found = f"The adapter in {folder} does not fit its base"
    if fit.wrong_shape:
        name, shape, wanted = fit.wrong_shape[0]
        raise InputError(
            f"{found}: {name} is {list(shape)} in the file and {list(wanted)} in the model.",
            "Use the base that it was trained on (`base_model_name_or_path` in its adapter_config.json).",
        )
    if fit.prefix is not None:
        theirs, ours = fit.prefix
        names = f"`{theirs}` where the model has {f'`{ours}`' if ours else 'nothing'}" if theirs else f"no `{ours}`"
        raise InputError(
            f"{found}: the names of its tensors have {names}, so that none is loaded (first {fit.unknown[0]}).",
            "Save it again from the model without a wrapper, or rename the tensors in the file (`safetensors.torch`).",
        )
    if fit.unknown:
        raise InputError(
            f"{found}: {len(fit.unknown)} of its tensors are nowhere in the model, first {fit.unknown[0]}.",
            "Use the base that it was trained on, or save it again with peft's `save_pretrained`.",
        )
    if fit.missing:
        raise InputError(
            f"{found}: {len(fit.missing)} tensors that its adapter_config.json asks for are not in the file, first "
            f"{fit.missing[0]}.",
            "Save or download it again: only a part of it is there.",
        )


def _places(model: PeftModel, state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Where in the model each tensor of the adapter's file belongs, by the name that peft saves it under."""
    from peft import get_peft_model_state_dict

    saved = get_peft_model_state_dict(model, dict(state), ADAPTER_NAME, save_embedding_layers=False)
    places = {id(tensor): name for name, tensor in state.items()}
    return {name: places[id(tensor)] for name, tensor in saved.items() if id(tensor) in places}


def _replaced_whole(model: PeftModel) -> set[str]:
    """Names in the file of the layers that an adapter brings whole, and of the tokens that it trains alone."""
    from peft.utils.other import AuxiliaryTrainingWrapper

    return {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, AuxiliaryTrainingWrapper)
        for key in module.adapter_state_dict_load_map(ADAPTER_NAME)
    }


def _prefix(unknown: Iterable[str], missing: Iterable[str]) -> tuple[str, str] | None:
    """The one difference between all unknown names and all missing ones: what to take out, and what to put there."""
    given, wanted = {name: name.split(".") for name in unknown}, set(missing)
    if not given or len(given) != len(wanted):
        return None
    wrappers = WRAPPERS.intersection(*given.values())
    if wrappers and {".".join(part for part in parts if part not in wrappers) for parts in given.values()} == wanted:
        return "".join(f"{part}." for part in sorted(wrappers)), ""
    first = next(iter(given.values()))
    choices = sorted(name.split(".") for name in wanted)
    nearest = max(choices, key=lambda parts: (_shared(parts[::-1], first[::-1]), _shared(parts, first)))
    ending = _shared(nearest[::-1], first[::-1])
    theirs, ours = first[: len(first) - ending], nearest[: len(nearest) - ending]
    old, new = (".".join([*parts, ""]) for parts in (theirs, ours))
    if {new + name.removeprefix(old) for name in given} == wanted:
        return old, new
    start = _shared(theirs, ours)
    old, new = (".".join([*parts[start:], ""]) for parts in (theirs, ours))
    return (old, new) if {name.replace(f".{old}", f".{new}") for name in given} == wanted else None


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many parts two names have in common at their beginnings."""
    alike = (one == other for one, other in zip(first, second, strict=False))
    return next((at for at, same in enumerate(alike) if not same), min(len(first), len(second)))
