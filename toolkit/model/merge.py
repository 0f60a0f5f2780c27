"""An adapter and its base as one model, for those who serve without peft.

The merged model is written, loaded again by transformers alone, and asked for the greedy names of the adapter's
samples, or of a few descriptions where it has none. Names that differ from those of the adapter on its base, in the
same dtype, are counted on its card.
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
from toolkit.core.errors import CheckFailed, InputError, library_errors
from toolkit.core.folder import atomic_folder, check_replaceable, read_jsonl, sha256_file, write_manifest
from toolkit.core.hub_client import DEFAULT_ENDPOINT, endpoint
from toolkit.core.layout import ADAPTER_WEIGHTS, DTYPES, SAMPLES
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import chat, generate, loading
from toolkit.model.attach import put_on
from toolkit.model.base import CONFIG, LocatedBase, base_license, published_quantization, read_config
from toolkit.model.chat_template import Messages
from toolkit.model.memory import check_disk, device_kind, disk_errors, memory_errors

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The share of the samples that may get another greedy name. Rounding a weight can tip the choice between two tokens
# that are about equally likely; a merge that went wrong changes nearly every name.
ALLOWED = 0.25

# What an adapter without samples is asked, and how much of an answer is compared where it may be long.
DESCRIPTIONS = (
    EXAMPLE,
    "A small red fox with six tails that watches the moon.",
    "Its blue shell is hard as stone, and two cannons peer over its shoulders.",
    "작은 도마뱀으로, 꼬리 끝에 불꽃이 타오른다.",
)
SHORT = DecodingSettings(max_new_tokens=8)
BY_PEFT = "Serve it with peft instead."

Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model that was written and checked.

    Attributes:
        path: Its folder.
        dtype: Name of the torch dtype of its weights.
        bytes: Size of its weights.
        samples: How many descriptions were compared.
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
        adapter: The folder or the Hub id of any LoRA adapter.
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
    name, adapter, out = str(adapter), adapters.locate_adapter(str(adapter), revision), Path(out)
    check_replaceable(out, "merged")
    manifest = adapters.manifest_of(adapter)
    decoding = load_recipe(manifest.get("recipe")).decoding if manifest else SHORT
    samples = samples_to_compare(adapter, manifest)
    model, tokenizer, located = load_unquantised(adapter, dtype, base)
    stops = chat.end_of_turn_ids(tokenizer, model.generation_config)
    _set_generation(model.get_base_model(), tokenizer, stops, decoding if manifest else None)
    # The template of another trainer may leave open what pkt settles, and what a plain prompt then does not say.
    ask = partial(generate.greedy_name, model, tokenizer, settings=decoding)
    with memory_errors():
        before = _names(samples, "adapter", progress, ask if manifest else _plain_answerer(model, tokenizer, decoding))
        merged = merged_model(model)
        del model, ask
    weights = sum(weight.numel() * weight.element_size() for weight in merged.parameters())
    check_disk("The merged model", weights, out.resolve().parent, "Free some space, or choose another output folder.")
    with disk_errors(out), atomic_folder(out, "merged") as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del merged
        with memory_errors():
            after = _names(samples, "merged", progress, transformers_answerer(folder, dtype, decoding))
        differences = _differences(samples, before, after, dtype)
        facts = made_from(name, adapter, manifest, located) | {
            "dtype": dtype,
            "check": {"samples": len(samples), "differences": differences},
        }
        cards.render_merged_card(folder, facts, samples[0]["messages"])
        write_manifest(folder, "merged", facts)
    return Merged(out, dtype, weights, len(samples), tuple(differences))


def samples_to_compare(adapter: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samples of an evaluation; a few descriptions where there was none."""
    samples = read_jsonl(adapter / SAMPLES) or [
        {
            "id": f"description {number}",
            "messages": chat.naming_messages(text, manifest.get("request") or chat.REQUEST, manifest.get("system")),
        }
        for number, text in enumerate(DESCRIPTIONS, start=1)
    ]
    if not all(isinstance(sample, dict) and {"id", "messages"} <= sample.keys() for sample in samples):
        raise InputError(f"{adapter / SAMPLES} holds no samples of an adapter.", "Run `pkt evaluate` again.")
    return samples


def load_unquantised(
    adapter: Path, dtype: str, given: str | None
) -> tuple[PeftModel, PreTrainedTokenizerBase, LocatedBase]:
    """The adapter on its unquantised base in this dtype, its tokenizer, and that base."""
    base = adapters.locate_base_of(adapter, "none", given)
    if published_quantization(read_config(base.id, base.path / CONFIG)):
        raise InputError(
            f"The base {base.id} is quantised where it is published, so nothing can be merged into it exactly.",
            "Train on the base that it was made from, or give that one as `base`.",
        )
    tokenizer = adapters.adapter_tokenizer(adapter, base)
    model = put_on(loading.load_base(base, loading.Precision("none", dtype)), adapter, tokenizer)
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


def transformers_answerer(folder: Path, dtype: str, decoding: DecodingSettings) -> Callable[[Messages], str]:
    """A function that gives the greedy name after a conversation with transformers alone, as the model's users do."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"": device_kind()}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), device_map=where).eval()
    return _plain_answerer(model, AutoTokenizer.from_pretrained(folder), decoding)


def _plain_answerer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, decoding: DecodingSettings
) -> Callable[[Messages], str]:
    import torch

    def answer(messages: Messages) -> str:
        prompt = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        how = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
        with torch.inference_mode():
            output = model.generate(**prompt, max_new_tokens=decoding.max_new_tokens, **how)
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
            exact if dtype != "float32" else BY_PEFT,
        )
    return differences


def made_from(name: str, adapter: Path, manifest: Mapping[str, Any], base: LocatedBase) -> dict[str, Any]:
    """Facts for the manifest: the adapter and its base; what is known of its training, if pkt did it."""
    known = manifest.get("base", {})
    # What training knew of another base does not hold of this one.
    described = known if known.get("id") == base.id else {"license": base_license(base)}
    repo_id = manifest.get("repo_id") or ("/".join(name.split("/")[:2]) if not Path(name).is_dir() else None)
    return {
        "adapter": {"id": repo_id or adapter.resolve().name, "weights": sha256_file(adapter / ADAPTER_WEIGHTS)},
        "base": {**described, "id": base.id, "revision": base.revision},
        "dataset": manifest.get("dataset", {}),
        "public_hub": manifest.get("public_hub", endpoint() == DEFAULT_ENDPOINT),
        **{key: manifest.get(key) for key in ("recipe", "request", "system")},
    }


# The model itself.


def merged_model(model: PeftModel) -> PreTrainedModel:
    """The base with the adapter's change added to its weights in float32, rounded once; `model` is used up.

    Raises:
        InputError: A merged weight is not finite.
    """
    tied = _untie(model)
    with library_errors("The adapter cannot be merged", BY_PEFT), memory_errors(), warnings.catch_warnings():
        _merge_exactly(model)
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
        # A weight and perhaps a bias; or the weights of all experts, each as one tensor.
        parameters = list(module.get_base_layer().parameters(recurse=False))
        dtypes = [parameter.dtype for parameter in parameters]
        for parameter in parameters:
            parameter.data = parameter.data.float()
        module.merge()
        for parameter, dtype in zip(parameters, dtypes, strict=True):
            parameter.data = parameter.data.to(dtype)
        if not all(torch.isfinite(parameter.data).all() for parameter in parameters):
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


def _set_generation(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stops: list[int], decoding: DecodingSettings | None
) -> None:
    """Make the model stop at every token that ends an answer, and sample as the adapter was evaluated, if it was."""
    settings = base.generation_config
    settings.eos_token_id = stops
    settings.bos_token_id = tokenizer.bos_token_id
    settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    if decoding is not None:
        settings.update(do_sample=True, **decoding.model_dump())
