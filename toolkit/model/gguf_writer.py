"""A model or a LoRA adapter, with its tokenizer, as a GGUF file for llama.cpp.

Names of keys and tensors, and the layout of the file, are those of the package `gguf`. What llama.cpp would compute in
another way than transformers is refused; what it makes of the file is looked at afterwards (`export.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import InputError
from toolkit.model import chat
from toolkit.model.chat_template import read_format

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter, TensorNameMap
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The architecture in GGUF by `model_type` of transformers.
FAMILIES = ("llama", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3")
ARCHITECTURES = {kind: kind.removesuffix("_text") for kind in FAMILIES}
# How a byte-level tokenizer cuts a text before it merges, and whether it looks for whole words first, by llama.cpp's
# name for it; the splits that are regular expressions are those that the models' own tokenizers hold.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {
    (("ByteLevel",), False): "gpt-2",
    (("Digits", "ByteLevel"), False): "smollm",
    ((WORDS + r"\p{N}" + REST,), False): "qwen2",
    ((WORDS + r"\p{N}{1,3}" + REST,), True): "llama-bpe",
}
# What SentencePiece writes for a space.
SPACE = "▁"
LARGEST_F16 = 65504
BY_PEFT = "Serve it with peft or vLLM instead."

# A tensor of the file: its name there, its values in float32, and the type that they are written in.
Stored = tuple[str, "torch.Tensor", "GGMLQuantizationType"]


def check_family(config: PretrainedConfig) -> None:
    """Raise InputError unless llama.cpp computes a model of this configuration as transformers does."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"A {kind} model is not written as GGUF; {known} are.", "Choose such a base, or `pkt merge`.")
    gemma = kind.startswith("gemma")
    act = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    cap, scalar = getattr(config, "attn_logit_softcapping", None), getattr(config, "query_pre_attn_scalar", None)
    other = {
        f"its activation is {act}": act != ("gelu_pytorch_tanh" if gemma else "silu"),
        f"its attention is scaled by {scalar}": scalar not in (None, config.head_dim if gemma else None),
        "its attention sees a window": kind.startswith("qwen") and bool(getattr(config, "use_sliding_window", False)),
        "its attention sees both ways": bool(getattr(config, "use_bidirectional_attention", False)),
        f"its attention's logits are capped by {cap}": (cap is None) == (kind == "gemma2"),
        "its head is no copy of its embeddings": gemma and kind != "gemma3_text" and not config.tie_word_embeddings,
        "it scales its positions in a way that is not written": not _scalings(config)
        <= {"default", "llama3", "linear"},
    }
    for what, is_so in other.items():
        if is_so:
            raise InputError(f"llama.cpp computes this {kind} model otherwise: {what}.", BY_PEFT)


def write_model(
    path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: str, about: dict[str, Any]
) -> None:
    """Write a model of float32 weights, its tokenizer and its chat template.

    Args:
        kind: `f16` or `q8_0`: the type of matrices; vectors stay float32.
        about: `name`, and `decoding` where the model was trained by a recipe: sampling settings.

    Raises:
        InputError: A family, tokenizer or weight that the file cannot hold.
    """
    from gguf import GGUFWriter, LlamaFileType

    config = model.config
    check_family(config)
    rows = model.get_input_embeddings().weight.shape[0]
    writer = GGUFWriter(path, ARCHITECTURES[config.model_type])
    writer.add_type("model")
    writer.add_name(about["name"])
    writer.add_quantization_version(2)
    writer.add_file_type({"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}[kind])
    if about.get("decoding"):
        decoding = about["decoding"]
        writer.add_sampling_temp(decoding["temperature"])
        writer.add_sampling_top_k(decoding["top_k"])
        writer.add_sampling_top_p(decoding["top_p"])
        writer.add_sampling_min_p(0.0)
    _add_settings(writer, config, rows)
    _add_tokenizer(writer, tokenizer, rows)
    _write_tensors(writer, [_stored(*each, kind) for each in _tensors(model)])


def write_lora(path: Path, model: PeftModel, about: dict[str, Any]) -> None:
    """Write the LoRA matrices of an adapter in float32, with all scaling in `B`.

    Raises:
        InputError: The adapter changes more than linear layers by plain LoRA.
    """
    from gguf import GGMLQuantizationType, GGUFWriter
    from peft import get_peft_model_state_dict

    config = model.get_base_model().config
    check_family(config)
    writer = GGUFWriter(path, ARCHITECTURES[config.model_type])
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    # Zero stands for no scaling by alpha / rank, which differs among layers.
    writer.add_float32("adapter.lora.alpha", 0.0)
    writer.add_name(about["name"])
    stored: list[Stored] = []
    for key, weight in get_peft_model_state_dict(model, save_embedding_layers=False).items():
        layer, _, part = key.rpartition(".lora_")
        if part not in ("A.weight", "B.weight") or layer.endswith("lm_head"):
            raise InputError(f"The adapter holds {key}, which a LoRA file of llama.cpp cannot.", "Leave `lora` out.")
        values, stem = weight.float(), layer.removeprefix("base_model.model.")
        if part == "B.weight":
            values = _permuted(config, stem, values * model.get_submodule(layer).scaling["default"])
        stored.append((f"{_name(config, stem)}.weight.lora_{part[0].lower()}", values, GGMLQuantizationType.F32))
    _write_tensors(writer, stored)


# The model's settings and weights.


def _scalings(config: PretrainedConfig) -> set[str]:
    return {rope.get("rope_type", "default") for rope in _ropes(config).values()}


def _ropes(config: PretrainedConfig) -> dict[str, dict[str, Any]]:
    """The settings of the positions by the kind of layer; `full_attention` where all are alike."""
    rope = config.rope_parameters
    return rope if "full_attention" in rope else {"full_attention": rope}


def _add_settings(writer: GGUFWriter, config: PretrainedConfig, rows: int) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(rows)
    ropes = _ropes(config)
    writer.add_rope_freq_base(ropes["full_attention"]["rope_theta"])
    if ropes["full_attention"].get("rope_type") == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(ropes["full_attention"]["factor"])
    if config.model_type in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
        # llama.cpp knows the pattern of the published sizes.
        every = 2 if config.model_type == "gemma2" else 6
        local = [kind == "sliding_attention" for kind in config.layer_types]
        if local != [(layer + 1) % every != 0 for layer in range(len(local))]:
            writer.add_sliding_window_pattern(local)
        if "sliding_attention" in ropes:
            writer.add_rope_freq_base_swa(ropes["sliding_attention"]["rope_theta"])
        if config.attn_logit_softcapping:
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The model's weights as llama.cpp has them, by their names there."""
    import torch

    config = model.config
    for full_name, weight in model.state_dict().items():
        stem, _, suffix = full_name.rpartition(".")
        if stem == "lm_head" and config.tie_word_embeddings:
            continue
        values = _permuted(config, stem, weight.float())
        # Gemma's norms multiply by one more than their weights.
        if config.model_type.startswith("gemma") and stem.endswith("norm"):
            values = values + 1
        yield f"{_name(config, stem)}.{suffix}", values
    if "llama3" in _scalings(config):
        scaled = model.model.rotary_emb.inv_freq.float()
        plain = config.rope_parameters["rope_theta"] ** -(torch.arange(len(scaled)) / len(scaled))
        yield "rope_freqs.weight", plain / scaled


def _name(config: PretrainedConfig, stem: str) -> str:
    ours = ARCHITECTURES[config.model_type]
    name = _names(ours, config.num_hidden_layers).get_name(stem)
    if name is None:
        raise InputError(f"The model has weights {stem} that a GGUF file of a {ours} model has no name for.", BY_PEFT)
    return str(name)


@cache
def _names(ours: str, layers: int) -> TensorNameMap:
    from gguf import get_tensor_name_map
    from gguf.constants import MODEL_ARCH_NAMES

    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == ours)
    return get_tensor_name_map(architecture, layers)


def _permuted(config: PretrainedConfig, stem: str, values: torch.Tensor) -> torch.Tensor:
    """Llama's queries and keys as llama.cpp turns them: neighbouring pairs, where transformers turns halves."""
    projection = stem.rpartition(".")[2]
    if config.model_type != "llama" or projection not in ("q_proj", "k_proj"):
        return values
    heads = config.num_attention_heads if projection == "q_proj" else config.num_key_value_heads
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.transpose(1, 2).reshape(values.shape)


def _stored(name: str, values: torch.Tensor, kind: str) -> Stored:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    wanted = GGMLQuantizationType[kind.upper()] if values.ndim == 2 else GGMLQuantizationType.F32
    block, _ = GGML_QUANT_SIZES[wanted]
    # As llama.cpp's converter writes a row that no blocks fill.
    chosen = wanted if values.shape[-1] % block == 0 else GGMLQuantizationType.F16
    if chosen == GGMLQuantizationType.F16 and float(values.abs().max()) > LARGEST_F16:
        raise InputError(f"The weights {name} are too large for f16.", 'Choose `type="q8_0"`.')
    return name, values, chosen


def _write_tensors(writer: GGUFWriter, stored: list[Stored]) -> None:
    """Write the file: all that stands before the weights, then one tensor after the other."""
    import numpy as np
    from gguf import quants

    for name, values, kind in stored:
        size = int(np.prod(quants.quant_shape_to_byte_shape(tuple(values.shape), kind)))
        writer.add_tensor_info(name, tuple(values.shape), np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, values, kind in stored:
        writer.write_tensor_data(quants.quantize(values.detach().cpu().contiguous().numpy(), kind))
    writer.close()


# The tokenizer.


def _add_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Add the tokens of `rows` ids, how texts become them, and the settled chat template."""
    from gguf import TokenType

    form, content = read_format(tokenizer), json.loads(tokenizer.backend_tokenizer.to_str())
    model = content["model"]
    pieces = model.get("type") == "BPE" and model.get("byte_fallback")
    before = "default" if pieces else PRE_TOKENIZERS.get(_pre_tokenizer(content))
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if before is None or (pieces and content["normalizer"] != spaces):
        raise InputError(
            "The tokenizer cuts texts in a way that is not written as GGUF; those of Gemma, Llama 3, Qwen and SmolLM "
            "are.",
            BY_PEFT,
        )
    texts = {number: token for token, number in model["vocab"].items()}
    kinds = dict.fromkeys(texts, TokenType.NORMAL)
    if pieces:
        every = (f"<0x{byte:02X}>" for byte in range(256))
        kinds |= {model["vocab"][byte]: TokenType.BYTE for byte in every if byte in model["vocab"]}
    for added in content["added_tokens"]:
        control = added["special"] or added["id"] == form.end_id
        kinds[added["id"]] = TokenType.CONTROL if control else TokenType.USER_DEFINED
        texts[added["id"]] = added["content"] if control or not pieces else added["content"].replace(SPACE, " ")
    if pieces and model.get("unk_token"):
        kinds[model["vocab"][model["unk_token"]]] = TokenType.UNKNOWN
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre(before)
    writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(rows)])
    writer.add_token_types([kinds.get(number, TokenType.UNUSED) for number in range(rows)])
    if pieces:
        # The earlier a merge is learnt, the higher the score of what it makes.
        order: dict[str, int] = {}
        for left, right in model["merges"]:
            order.setdefault(left + right, len(order))
        writer.add_token_scores([-float(order.get(texts.get(number, ""), len(order))) for number in range(rows)])
        writer.add_add_space_prefix(False)
    else:
        writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    for name in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{name}_token_id", None)
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    writer.add_eot_token_id(form.end_id)
    writer.add_add_bos_token(chat.begins_every_text(tokenizer))
    writer.add_add_eos_token(False)
    writer.add_chat_template(form.template)


def _pre_tokenizer(content: dict[str, Any]) -> tuple[tuple[str, ...], bool]:
    """How a byte-level tokenizer cuts texts, as a key of `PRE_TOKENIZERS`."""
    before = content["pre_tokenizer"] or {}
    parts = []
    for part in before.get("pretokenizers", [before]):
        if part.get("type") == "Split" and part["behavior"] == "Isolated":
            parts.append(part["pattern"].get("Regex", ""))
        elif part.get("type") == "Digits" and part["individual_digits"]:
            parts.append("Digits")
        elif part.get("type") != "ByteLevel" or part["add_prefix_space"]:
            parts.append("unknown")
        elif part["use_regex"]:
            parts.append("ByteLevel")
    return tuple(parts), bool(content["model"].get("ignore_merges"))
