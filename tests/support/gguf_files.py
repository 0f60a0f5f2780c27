"""What tests share: small models written as GGUF files by the package `gguf`, as llama.cpp's converter writes them."""

import json

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map, quants
from gguf.constants import MODEL_ARCH_NAMES

from support.models import small_model
from toolkit.model.gguf import SENTENCE

# Its architecture in GGUF by its kind in transformers.
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3_text": "gemma3"}


def speaking_model(family, tokenizer, **settings):
    """A small model that has learnt one sentence by heart."""
    # transformers reads no head size of a Qwen 3: all of its sizes have 128.
    settings = {"head_dim": 128} | settings if family == "qwen3" else settings
    model = small_model(family, vocab_size=len(tokenizer), tie_word_embeddings=family.startswith("gemma"), **settings)
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(20):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def write_gguf(path, model, tokenizer, *, template=True, norm_offset=1, extra=None, **texts):
    """Write a model and a byte-level tokenizer; `texts` are further keys, with a double underscore for the dot."""
    kind = GGMLQuantizationType.Q8_0
    config, architecture = model.config, ARCHITECTURES[model.config.model_type]
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(getattr(config, "head_dim", config.hidden_size // config.num_attention_heads))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_license("apache-2.0")
    writer.add_name("Small")
    for key, text in texts.items():
        writer.add_string(key.replace("__", "."), text)
    _add_tokenizer(writer, tokenizer, template)
    names = get_tensor_name_map(
        next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture), config.num_hidden_layers
    )
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, _, suffix = name.rpartition(".")
        values = tensor.float().numpy()
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, -1)
            values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values + norm_offset
        target = f"{names.get_name(stem)}.{suffix}"
        if values.ndim == 2:
            writer.add_tensor(target, quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, values)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer, tokenizer, template):
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    special = set(tokenizer.all_special_tokens) | {str(each) for each in tokenizer.added_tokens_decoder.values()}
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token, _ in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_add_bos_token(True)
    if template:
        writer.add_chat_template(tokenizer.chat_template)
