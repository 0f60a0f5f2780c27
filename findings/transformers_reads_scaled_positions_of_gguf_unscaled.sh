#!/usr/bin/env bash
# transformers 5.23.0, gguf 0.19.0, torch 2.13.0, Python 3.11: what a Llama's GGUF file says of scaled positions is not
# read: neither `rope_freqs.weight`, llama.cpp's way of keeping Llama 3's factors, nor the keys `llama.rope.scaling.*` (of
# gpt-oss they are). The model is that of a file without them, and no warning says so. Three files of the same weights are
# written as llama.cpp's converter writes them. Seen: the plain one is read as it was written; the logits of the two scaled
# ones differ by 2.7 and 2.6 from what was written, and by exactly 0 from the plain one.
# Who reads a Llama 3.1 that way has to set `rope_parameters` of its configuration by hand.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0 2>&1 | grep -v WARNING || true
cat > "$work/read.py" <<'PY'
import logging
import sys

import numpy as np
import torch
import transformers
from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType, get_tensor_name_map
from transformers import LlamaConfig, LlamaForCausalLM

HEADS, HEAD, LAYERS, LENGTH = 4, 16, 2, 64
SCALINGS = {
    "plain": {"rope_type": "default"},
    "rope_freqs.weight": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": LENGTH,
    },
    "llama.rope.scaling": {"rope_type": "linear", "factor": 4.0},
}


def make(scaling):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=HEADS * HEAD,
            intermediate_size=128,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=8 * LENGTH,
            initializer_range=0.1,
            rope_parameters=scaling | {"rope_theta": 10000.0},
        )
    ).eval()


def write(file, model):
    config, scaling = model.config, model.config.rope_parameters
    writer = GGUFWriter(file, "llama")
    writer.add_name("Small")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if scaling["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling["rope_type"] == "llama3":
        plain = 10000.0 ** -(torch.arange(0, HEAD, 2) / HEAD)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq).numpy())
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, LAYERS)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            # llama.cpp rotates neighbouring numbers of a head, transformers those of its two halves.
            halves = values.reshape(HEADS, 2, HEAD // 2, -1)
            values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
        writer.add_tensor(names.get_name(name, (".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Said(logging.Handler):
    lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


transformers.logging.add_handler(Said(logging.WARNING))
ids = torch.arange(LENGTH)[None]
plain, seen = None, []
for name, scaling in SCALINGS.items():
    model = make(scaling)
    write(f"{sys.argv[1]}/{name}.gguf", model)
    read = LlamaForCausalLM.from_pretrained(sys.argv[1], gguf_file=f"{name}.gguf", dtype=torch.float32).eval()
    with torch.no_grad():
        written, got = model(ids).logits, read(ids).logits
    plain = got if plain is None else plain
    kind = read.config.rope_parameters["rope_type"]
    lost, other = (float((got - each).abs().max()) for each in (written, plain))
    print(f"{name}: positions read as {kind}, logits differ from the written model's by {lost:.4f}, from plain by {other}")
    seen.append((kind, lost, other))
print(f"warnings: {len(Said.lines)}")
kept, *scaled = seen
same = kept[1] < 1e-3 and all(kind == "default" and lost > 0.1 and other == 0 for kind, lost, other in scaled)
sys.exit(not same or bool(Said.lines))
PY
echo "transformers 5.23.0, gguf 0.19.0:"
"$work/venv/bin/python" "$work/read.py" "$work" 2> "$work/errors" || { cat "$work/errors"; exit 1; }
