"""An adapter and its base as one model, for those who serve without peft.

The merged model is written, loaded again by transformers alone, and asked for the greedy names of the adapter's
samples. Names that differ from those of the adapter on its base, in the same dtype, are counted on its card.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import cards
from toolkit.cards.labels import EXAMPLE
from toolkit.core import Progress, ignore
from toolkit.core.errors import CheckFailed, InputError
from toolkit.core.folder import atomic_folder, check_replaceable, read_jsonl, read_manifest, write_manifest
from toolkit.core.layout import ADAPTER_WEIGHTS, DTYPES, SAMPLES
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import chat, generate, loading
from toolkit.model.attach import put_on_base
from toolkit.model.base import CONFIG, LocatedBase, published_quantization, read_config
from toolkit.model.chat_template import Messages
from toolkit.model.memory import check_disk, disk_errors, memory_errors

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The share of the samples that may get another greedy name. Rounding a weight can tip the choice between two tokens
# that are about equally likely; a merge that went wrong changes nearly every name.
ALLOWED = 0.25

Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model that was written and checked.

    Attributes:
        path: Its folder.
        dtype: Name of the torch dtype of its weights.
        bytes: Size of its weights.
        samples: How many descriptions were compared; 0 where the adapter was never evaluated.
        differences: Those whose greedy name differs: `id`, `adapter` (its name) and `merged` (the merged model's).
    """

    path: Path
    dtype: str
    bytes: int
    samples: int
    differences: tuple[dict[str, str], ...]


def merge(
    adapter: str | Path,
    out: str | Path,
    dtype: str = DTYPES[0],
    progress: Progress = ignore,
    *,
    revision: str | None = None,
    base: str | None = None,
) -> Merged:
    """Write the folder of a base with the adapter merged into its unquantised weights.

    Args:
        adapter: A folder that `train` wrote, or the Hub id of a published one.
        out: The new folder, written whole or not at all.
        dtype: Of the merged weights, one of `core.layout.DTYPES`.
        progress: Called after each sample that is answered.
        revision: Commit, branch or tag of an adapter on the Hub.
        base: Hub id or folder of another base than the one that the adapter names.

    Raises:
        InputError: No adapter, a damaged one, a quantised base, numbers too large for float16, or another `out`.
        EnvironmentLacks, HubError: As `load_adapter`; also where the disk is full.
        CheckFailed: More of the samples than `ALLOWED` got another greedy name; nothing is written then.
    """
    adapter, out = adapters.locate_adapter(str(adapter), revision), Path(out)
    check_replaceable(out, "merged")
    manifest = read_manifest(adapter, "adapter")
    decoding = load_recipe(manifest.get("recipe")).decoding
    samples = _samples(adapter)
    model, tokenizer, located = _load(adapter, dtype, base)
    with memory_errors():
        before = _names(
            samples, "adapter", progress, partial(generate.greedy_name, model, tokenizer, settings=decoding)
        )
        merged = merged_model(model)
        del model
    _set_generation(merged, tokenizer, decoding)
    weights = sum(weight.numel() * weight.element_size() for weight in merged.parameters())
    check_disk("The merged model", weights, out.resolve().parent, "Free some space, or choose another output folder.")
    with disk_errors(out), atomic_folder(out, "merged") as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del merged
        with memory_errors():
            after = _names(samples, "merged", progress, transformers_answerer(folder, dtype))
        differences = _differences(samples, before, after, dtype)
        facts = _facts(adapter, manifest, located, dtype, {"samples": len(samples), "differences": differences})
        asked = chat.naming_messages(EXAMPLE, facts["request"] or chat.REQUEST, facts["system"])
        cards.render_merged_card(folder, facts, samples[0]["messages"] if samples else asked)
        write_manifest(folder, "merged", facts)
    return Merged(out, dtype, weights, len(samples), tuple(differences))


def _samples(adapter: Path) -> list[dict[str, Any]]:
    samples = read_jsonl(adapter / SAMPLES)
    if not all(isinstance(sample, dict) and {"id", "messages"} <= sample.keys() for sample in samples):
        raise InputError(f"{adapter / SAMPLES} holds no samples of an adapter.", "Run `pkt evaluate` again.")
    return samples


def _load(adapter: Path, dtype: str, given: str | None) -> tuple[PeftModel, PreTrainedTokenizerBase, LocatedBase]:
    """The adapter on its unquantised base in this dtype, its tokenizer, and that base."""
    if adapters.adapter_changes_nothing(adapter):
        raise InputError(f"The adapter in {adapter} changes nothing: it is its base already.", "Train it again.")
    base = adapters.locate_base_of(adapter, "none", given)
    if published_quantization(read_config(base.id, base.path / CONFIG)):
        raise InputError(
            f"The base {base.id} is quantised where it is published, so nothing can be merged into it exactly.",
            "Train on the base that it was made from, or give that one as `base`.",
        )
    tokenizer = adapters.adapter_tokenizer(adapter, base)
    model = put_on_base(base, loading.Precision("none", dtype), adapter, tokenizer)
    found = loading.overflow_on_text(model, dtype, tokenizer)
    if found and dtype == "float16":
        raise InputError(f"The model does not fit float16 ({found} overflows).", 'Choose `dtype="bfloat16"`.')
    if found:
        raise loading.nan_error()
    return model, tokenizer, base


def _names(samples: Sequence[Sample], task: str, progress: Progress, answer: Callable[[Messages], str]) -> list[str]:
    names = []
    for number, sample in enumerate(samples, start=1):
        names.append(answer(sample["messages"]))
        progress(task, number, len(samples))
    return names


def transformers_answerer(folder: Path, dtype: str) -> Callable[[Messages], str]:
    """A function that gives the greedy name after a conversation with transformers alone, as the model's users do."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), device_map={"": device}).eval()

    def answer(messages: Messages) -> str:
        prompt = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(device)
        with torch.inference_mode():
            output = model.generate(**prompt, do_sample=False, temperature=None, top_k=None, top_p=None)
        return str(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip())

    return answer


def _differences(
    samples: Sequence[Sample], before: Sequence[str], after: Sequence[str], dtype: str
) -> list[dict[str, str]]:
    """The samples with another name after merging; more than `ALLOWED` of them are an error."""
    differences = [
        {"id": str(sample["id"]), "adapter": ours, "merged": theirs}
        for sample, ours, theirs in zip(samples, before, after, strict=True)
        if ours != theirs
    ]
    if len(differences) > ALLOWED * len(samples):
        first = differences[0]
        exact = 'Merge with `dtype="float32"`, which rounds least.'
        raise CheckFailed(
            f"Merged in {dtype}, the model gives {len(differences)} of {len(samples)} samples another name than the "
            f"adapter (sample {first['id']}: {first['merged']!r}, not {first['adapter']!r}), more than {ALLOWED:.0%}.",
            exact if dtype != "float32" else "Serve it with peft instead.",
        )
    return differences


def _facts(
    adapter: Path, manifest: Mapping[str, Any], base: LocatedBase, dtype: str, check: Mapping[str, object]
) -> dict[str, Any]:
    """Facts for the manifest: the adapter, its base, and how the merged model was checked."""
    return {
        "adapter": {
            "id": manifest.get("repo_id") or adapter.resolve().name,
            "weights": manifest.get("files", {}).get(ADAPTER_WEIGHTS),
        },
        "base": {**manifest.get("base", {}), "id": base.id, "revision": base.revision},
        "dataset": manifest.get("dataset", {}),
        "public_hub": manifest.get("public_hub", True),
        "recipe": manifest["recipe"],
        "request": manifest.get("request"),
        "system": manifest.get("system"),
        "dtype": dtype,
        "check": check,
    }


# The model itself.


def merged_model(model: PeftModel) -> PreTrainedModel:
    """The base with the adapter's change added to its weights in float32, rounded once; `model` is used up.

    Raises:
        InputError: A merged weight is not finite.
    """
    tied = _untie(model)
    _merge_exactly(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged", UserWarning)
        merged = model.merge_and_unload()
    if tied:
        _tie_again(merged)
    return merged.eval()


def _merge_exactly(model: PeftModel) -> None:
    """Merge each adapted weight in float32: peft itself adds a rounded change to a rounded weight and rounds again."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        weight = module.get_base_layer().weight
        dtype, weight.data = weight.dtype, weight.data.float()
        module.merge()
        weight.data = weight.data.to(dtype)
        if not torch.isfinite(weight.data).all():
            raise InputError(
                "A weight with the adapter merged into it is NaN or infinite.",
                'Choose another `dtype`: "bfloat16" or "float32".',
            )


def _untie(model: PeftModel) -> bool:
    """Give each module a weight of its own; returns whether embeddings and head shared theirs by the configuration.

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
    _set_tied(model.config, False)
    return tied


def _tie_again(merged: PreTrainedModel) -> None:
    """Make embeddings and head one matrix again, in the configuration too, if they are still alike."""
    embeddings, head = merged.get_input_embeddings(), merged.get_output_embeddings()
    if head is not None and head.weight.equal(embeddings.weight):
        head.weight = embeddings.weight
        _set_tied(merged.config, True)


def _set_tied(config: PretrainedConfig, tied: bool) -> None:
    for part in (config, config.get_text_config()):
        part.tie_word_embeddings = tied


def _set_generation(merged: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, decoding: DecodingSettings) -> None:
    """Make the model stop at every token that ends an answer, and sample as the adapter was evaluated."""
    settings = merged.generation_config
    stops = chat.end_of_turn_ids(tokenizer, settings)
    settings.eos_token_id = stops
    settings.bos_token_id = tokenizer.bos_token_id
    settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    settings.update(do_sample=True, **decoding.model_dump())
