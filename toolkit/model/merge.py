"""An adapter and its base as one model, for those who serve without peft. Knows nothing of datasets.

The merged model is written, loaded again by transformers alone, and asked for the greedy names of the adapter's
samples. What it says otherwise than the adapter on its base, in the same dtype, is counted and stands in its card.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from toolkit import cards
from toolkit.cards.labels import EXAMPLE
from toolkit.core.errors import CheckFailed, EnvironmentLacks, InputError, first_line
from toolkit.core.folder import atomic_folder, check_replaceable, read_jsonl, read_manifest, write_manifest
from toolkit.core.format import size
from toolkit.core.layout import ADAPTER_WEIGHTS
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model import chat, generate, loading
from toolkit.model.chat import REQUEST, naming_messages
from toolkit.model.memory import free_disk, full_disk_is_clear, memory_errors

DTYPES = ("bfloat16", "float16", "float32")
# The share of the samples that may get another greedy name. Rounding a weight can tip the choice between two tokens
# that are about equally likely; a merge that went wrong changes nearly every name.
ALLOWED = 0.25
SAMPLES = "samples.jsonl"
Count = Callable[[str, int, int | None], None]


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


def merge(adapter: Path, out: Path, dtype: str = "bfloat16", *, count: Count = lambda *_: None) -> Merged:
    """Write the folder of a base with the adapter merged into its unquantised weights.

    Args:
        adapter: A folder that `train` wrote, or its published copy.
        out: The new folder, written whole or not at all.
        dtype: One of `DTYPES`.
        count: Told how many samples were answered.

    Raises:
        InputError: Not an adapter folder, a damaged one, a base that is only there quantised or does not fit float16,
            or an `out` that is something else.
        EnvironmentLacks: The memory or the disk does not hold it.
        HubError: The base is not there and can not be fetched.
        CheckFailed: A larger share of the samples than `ALLOWED` got another greedy name; nothing is written then.
    """
    check_replaceable(out, "merged")
    manifest = read_manifest(adapter, "adapter")
    decoding = load_recipe(manifest.get("recipe")).decoding
    samples = _samples(adapter)
    peft_model, tokenizer, base = _load(adapter, dtype)
    with memory_errors():
        before = _names(peft_model, tokenizer, samples, decoding, lambda done: count("adapter", done, len(samples)))
        merged = merged_model(peft_model)
        del peft_model
    _set_generation(merged, tokenizer, decoding)
    taken = sum(weight.numel() * weight.element_size() for weight in merged.parameters())
    _check_disk(out, taken)
    with full_disk_is_clear(out), atomic_folder(out, "merged") as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del merged
        with memory_errors():
            after = _served(folder, dtype, samples, lambda done: count("merged", done, len(samples)))
        differences = _differences(samples, before, after)
        _check_agreement(len(samples), differences, dtype)
        facts = _facts(adapter, manifest, base, dtype, len(samples), differences)
        asked = naming_messages(EXAMPLE, facts["request"] or REQUEST, facts["system"])
        cards.render_merged_card(folder, facts, samples[0]["messages"] if samples else asked)
        write_manifest(folder, "merged", facts)
    return Merged(out, dtype, taken, len(samples), tuple(differences))


def _samples(adapter: Path) -> list[dict[str, Any]]:
    samples = read_jsonl(adapter / SAMPLES)
    if not all(isinstance(sample, dict) and {"id", "messages"} <= sample.keys() for sample in samples):
        raise InputError(f"{adapter / SAMPLES} holds no samples of an adapter.", "Run `pkt evaluate` again.")
    return samples


def _load(adapter: Path, dtype: str) -> tuple[Any, Any, bases.LocatedBase]:
    """The adapter on its unquantised base in this dtype, its tokenizer, and that base."""
    from huggingface_hub.errors import StrictDataclassError
    from peft import PeftConfig, PeftModel

    if adapters.adapter_changes_nothing(adapter):
        raise InputError(f"The adapter in {adapter} changes nothing: it is its base already.", "Train it again.")
    try:
        with memory_errors():
            config = PeftConfig.from_pretrained(adapter)
            base = bases.locate_base(str(config.base_model_name_or_path), config.revision, quantization="none")
            adapters.check_tiny_base(base, adapter)
            plain = loading.load_base(base, loading.Precision("none", dtype))
            _refuse_quantised(plain, base)
            peft_model = PeftModel.from_pretrained(plain, adapter).eval()
    except (*loading.DAMAGED, SafetensorError, StrictDataclassError) as error:
        raise InputError(
            f"The adapter in {adapter} can not be loaded: {first_line(error)}", "Train or download it again."
        ) from error
    tokenizer = loading.load_tokenizer(adapter)
    _check_fits(peft_model, tokenizer, dtype)
    return peft_model, tokenizer, base


def _refuse_quantised(plain: Any, base: bases.LocatedBase) -> None:
    if getattr(plain.config, "quantization_config", None) is not None:
        raise InputError(
            f"The base {base.id} is quantised where it is published, and nothing can be merged into it exactly.",
            "Train on the base that it was made from.",
        )


def _check_fits(peft_model: Any, tokenizer: Any, dtype: str) -> None:
    """Refuse float16 where a number of the model is larger than it holds, and weights that are no numbers."""
    import torch

    ids = tokenizer(loading.PROBE_TEXT, return_tensors="pt")["input_ids"].to(peft_model.device)
    with memory_errors(), torch.no_grad():
        found = loading.overflow(peft_model, dtype, lambda probed: probed(input_ids=ids, use_cache=False).logits)
    if found and dtype == "float16":
        raise InputError(f"The model does not fit float16 ({found} overflows).", "Choose --dtype bfloat16.")
    if found:
        raise InputError(
            "The adapter gives no numbers: its training diverged.", "Train it again with a lower --learning-rate."
        )


def _names(
    loaded: Any,
    tokenizer: Any,
    samples: Sequence[dict[str, Any]],
    decoding: DecodingSettings,
    done: Callable[[int], None],
) -> list[str]:
    """The adapter's greedy name for each sample."""
    names = []
    for number, sample in enumerate(samples, start=1):
        names.append(generate.greedy_name(loaded, tokenizer, sample["messages"], decoding))
        done(number)
    return names


def _served(folder: Path, dtype: str, samples: Sequence[dict[str, Any]], done: Callable[[int], None]) -> list[str]:
    """The greedy names that the folder gives to somebody with nothing but transformers: its template, its stops."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    served = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), device_map={"": device}).eval()
    names = []
    for number, sample in enumerate(samples, start=1):
        prompt = tokenizer.apply_chat_template(
            sample["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(device)
        with torch.inference_mode():
            output = served.generate(**prompt, do_sample=False, temperature=None, top_k=None, top_p=None)
        new = output[0, prompt["input_ids"].shape[1] :]
        names.append(tokenizer.decode(new, skip_special_tokens=True).strip())
        done(number)
    return names


def _differences(samples: Sequence[dict[str, Any]], before: list[str], after: list[str]) -> list[dict[str, str]]:
    return [
        {"id": str(sample["id"]), "adapter": ours, "merged": theirs}
        for sample, ours, theirs in zip(samples, before, after, strict=True)
        if ours != theirs
    ]


def _check_agreement(samples: int, differences: list[dict[str, str]], dtype: str) -> None:
    if len(differences) > ALLOWED * samples:
        first = differences[0]
        raise CheckFailed(
            f"Merged in {dtype}, the model gives {len(differences)} of {samples} samples another name than the adapter "
            f"(sample {first['id']}: {first['merged']!r}, not {first['adapter']!r}), more than {ALLOWED:.0%}.",
            "Merge with --dtype float32, which rounds least." if dtype != "float32" else "Serve it with peft instead.",
        )


def _facts(
    adapter: Path,
    manifest: dict[str, Any],
    base: bases.LocatedBase,
    dtype: str,
    samples: int,
    differences: list[dict[str, str]],
) -> dict[str, Any]:
    """What the manifest says: which adapter was merged into what, and how that was checked."""
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
        "check": {"samples": samples, "differences": differences},
    }


def _check_disk(out: Path, taken: int) -> None:
    free = free_disk(out.resolve().parent)
    if taken > free:
        raise EnvironmentLacks(
            f"The merged weights take {size(taken)}, and {out} has {size(free)} free.",
            "Free some space, or choose another output folder.",
        )


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


def _set_generation(merged: Any, tokenizer: Any, decoding: DecodingSettings) -> None:
    """Have the model stop at every token that ends an answer, and sample as the adapter was evaluated."""
    settings = merged.generation_config
    stops = chat.end_of_turn_ids(tokenizer, settings)
    settings.eos_token_id = stops
    settings.bos_token_id = tokenizer.bos_token_id
    settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    settings.update(do_sample=True, **decoding.model_dump())
