"""An adapter's folder and a base in; the model with the adapter on it out, or what is wrong with it.

An adapter has to be what peft and its base take it for: its settings are known, and its tensors are the model's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import EnvironmentLacks, InputError, library_errors
from toolkit.core.folder import read_json
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TOKENIZER_CONFIG
from toolkit.model.loading import PROBE_TEXT
from toolkit.model.memory import memory_errors

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REFIT = "Use the base that it was trained on and the peft that saved it (its adapter_config.json names both)."
# Tokens before a text that shows whether an adapter changes anything.
PROBED = 32
# What torch.compile, DistributedDataParallel, FSDP and gradient checkpointing put into the names below them.
WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
ADAPTER_NAME = "default"
AGAIN = "Train or download it again."
PICKLED = "adapter_model.bin"
# They begin by changing the base's weights, in a way that only the machine that trained knew.
LOST = {"corda": "CorDA", "lora_ga": "LoRA-GA", "pissa_niter": "PiSSA by random numbers"}
UNQUANTISED = {"pissa": "PiSSA", "mica": "MiCA", "loftq": "LoftQ"}
PLAIN = "Save it as plain LoRA where it was trained (peft's `path_initial_model_for_weight_conversion`)."
# Kinds that look at the whole text, or at the task, before they change anything.
WHOLE_TEXT = {"XLORA", "POLY", "LILY", "SHADOW"}
OFF: tuple[object, ...] = (None, False, "", [], {})


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


# Whether it fits.


def read_settings(folder: Path) -> PeftConfig:
    """The settings in an adapter's folder.

    Raises:
        InputError: A file is missing or damaged, or the adapter is of a kind that cannot be asked on its base as it is.
    """
    from peft import PeftConfig, __version__
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    file = folder / ADAPTER_CONFIG
    if not (folder / ADAPTER_WEIGHTS).is_file():
        if (folder / PICKLED).is_file():
            raise InputError(
                f"{folder} holds its weights as a pickle only ({PICKLED}), which can run code of strangers when it is "
                "loaded.",
                f'Where you trust it, write it anew: `torch.load("{PICKLED}", weights_only=True)` and '
                f'`safetensors.torch.save_file(weights, "{ADAPTER_WEIGHTS}")`.',
            )
        raise InputError(f"{folder} holds no {ADAPTER_WEIGHTS}.", AGAIN)
    values = read_json(file)
    kind = values.get("peft_type") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise InputError(f"{file} is no configuration of peft (it has no `peft_type`).", "Name an adapter of peft.")
    config, version = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind), values.get("peft_version")
    unknown = _unknown(values, {field.name for field in fields(config)}) if config else [f"the kind {kind}"]
    if unknown:
        raise InputError(
            f"The adapter in {folder} has what the installed peft {__version__} does not know: {', '.join(unknown)}.",
            f"Install the peft that saved it{f' ({version})' if version else ''}.",
        )
    with library_errors(f"The adapter in {folder} cannot be loaded", AGAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unexpected keyword arguments", UserWarning)
        settings = PeftConfig.from_pretrained(folder)
    _refuse_kind(settings, folder)
    return settings


def _unknown(values: Mapping[str, object], known: Collection[str]) -> list[str]:
    """Settings that would be left out and are not switched off.

    A new setting is off by default, so null, false or empty changes nothing; nor does one that is named after a switch
    which is off (`qalora_group_size` where `use_qalora` is false).
    """
    off = tuple(name.removeprefix("use_") for name, value in values.items() if name.startswith("use_") and not value)
    left_out = values.keys() - known - {"runtime_config"}
    return sorted(name for name in left_out if values[name] not in OFF and not name.startswith(off))


def _refuse_kind(settings: PeftConfig, folder: Path) -> None:
    """Raise InputError for adapters that change no weights, or that a folder alone does not bring back."""
    kind, start = settings.peft_type.value, str(getattr(settings, "init_lora_weights", None))
    lost = next((name for prefix, name in LOST.items() if start.startswith(prefix)), None)
    remedy = "Ask it with peft itself, or train a LoRA adapter."
    if settings.is_prompt_learning or settings.is_adaption_prompt or kind in WHOLE_TEXT:
        found = f"is of the kind {kind}, which pkt cannot ask: it changes more than weights"
    elif settings.task_type not in (None, "CAUSAL_LM"):
        found = f"was trained for the task {settings.task_type}, not to write text (CAUSAL_LM)"
    elif getattr(settings, "alora_invocation_tokens", None):
        found = "works only after tokens that invoke it (`alora_invocation_tokens`)"
    elif lost:
        found = f"was begun by {lost}, which changed the weights of its base, and its files do not say how"
        remedy = PLAIN
    else:
        return
    raise InputError(f"The adapter in {folder} {found}.", remedy)


def refuse_start(settings: PeftConfig, base: PreTrainedModel, folder: Path) -> None:
    """Raise InputError where the adapter begins by changing the base's weights, and cannot as these are held."""
    import torch

    start, quantised = str(getattr(settings, "init_lora_weights", None)), getattr(base, "is_quantized", False)
    named = next((name for prefix, name in UNQUANTISED.items() if start.startswith(prefix)), None)
    if named and quantised:
        raise InputError(
            f"The adapter in {folder} was begun by {named}, from unquantised weights of its base.",
            'Hold the base unquantised (`quantization="none"`), or give the `base` that it was made from.',
        )
    if start == "loftq" and not torch.cuda.is_available():
        raise EnvironmentLacks(f"The adapter in {folder} was begun by LoftQ, which peft computes on a GPU only.", PLAIN)


def saved_rows(folder: Path, base: PreTrainedModel) -> int | None:
    """How many tokens the embeddings in an adapter's file have; None where it holds none."""
    from safetensors import safe_open

    embeddings = base.get_input_embeddings()
    name = next(f"base_model.model.{name}" for name, module in base.named_modules() if module is embeddings)
    axes = {f"{name}.weight": 0, f"{name}.base_layer.weight": 0, f"{name}.lora_embedding_A": 1}
    with (
        library_errors(f"The adapter in {folder} cannot be read", AGAIN),
        safe_open(folder / ADAPTER_WEIGHTS, "pt") as file,
    ):
        return next((file.get_slice(key).get_shape()[axes[key]] for key in axes if key in set(file.keys())), None)


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
    # Of embeddings that are trained whole or in part, peft saves its own copies too.
    left_over = [name for name in result.unexpected_keys if not re.search(r"\.(modules_to_save|token_adapter)\.", name)]
    unknown = [re.sub(rf"\.{ADAPTER_NAME}(?=\.|$)", "", name, count=1) for name in left_over]
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
    if fit.wrong_shape:
        name, shape, wanted = fit.wrong_shape[0]
        found = f"{name} is {list(shape)} in the file and {list(wanted)} in the model"
        remedy = (
            "Use the base that it was trained on (`base_model_name_or_path` in its adapter_config.json), and save the "
            "tokenizer of the training into the folder where only the number of tokens differs."
        )
    elif fit.prefix is not None:
        theirs, ours = fit.prefix
        names = f"`{theirs}` where the model has {f'`{ours}`' if ours else 'nothing'}" if theirs else f"no `{ours}`"
        found = f"the names of its tensors have {names}, so that none is loaded (first {fit.unknown[0]})"
        remedy = "Save it from the model without a wrapper, or rename the tensors in the file (`safetensors.torch`)."
    elif fit.unknown:
        found = f"{len(fit.unknown)} of its tensors are nowhere in the model, first {fit.unknown[0]}"
        remedy = "Use the base that it was trained on, or save it again with peft's `save_pretrained`."
    elif fit.missing:
        found = f"{len(fit.missing)} tensors that its settings ask for are not in the file, first {fit.missing[0]}"
        remedy = "Save or download it again: only a part of it is there."
    else:
        return
    raise InputError(f"The adapter in {folder} does not fit its base: {found}.", remedy)


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


def _prefix(unknown: Sequence[str], missing: Sequence[str]) -> tuple[str, str] | None:
    """The one difference between all unknown names and all missing ones: what to take out, and what to put there."""
    given, wanted = [name.split(".") for name in unknown], set(missing)
    if not given or len(given) != len(wanted):
        return None
    wrappers = WRAPPERS.intersection(*given)
    if wrappers and {".".join(part for part in parts if part not in wrappers) for parts in given} == wanted:
        return "".join(f"{part}." for part in sorted(wrappers)), ""
    # The longest ending that the first one has in common with one of the others leaves both beginnings.
    endings = (".".join(given[0][at:]) for at in range(len(given[0])))
    same = ((ending, name) for ending in endings for name in missing if f".{name}".endswith(f".{ending}"))
    ending, ours = next(same, ("", ""))
    old, new = unknown[0].removesuffix(ending), ours.removesuffix(ending)
    return (old, new) if {new + name.removeprefix(old) for name in unknown} == wanted else None
