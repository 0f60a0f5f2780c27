"""What vLLM makes of a LoRA adapter, from its settings and the names of its tensors alone.

The rules are those of `vllm/lora/peft_helper.py`, `lora/lora_model.py` and `config/lora.py` in the version below.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

VERSION = "0.33.0"
DEFAULT_RANK, RANKS = 16, (1, 8, 16, 32, 64, 128, 256, 320, 512)
UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias in LoRA itself",
    "alora_invocation_tokens": "aLoRA",
    "layer_replication": "layer_replication",
}
# Only the heads of classifiers may be trained whole.
WHOLE = {"classifier", "score"}
# Starts that leave the base's own weights as they are.
STARTS = {"gaussian", "eva", "orthogonal", "mica", "lora_ga"}
LORA_TENSOR = re.compile(r"\.lora_[AB]\.weight$|\.lora_embedding_[AB]$")
EMBEDDINGS = re.compile(r"\b(embed_tokens|lm_head|wte)\.(base_layer|lora_)")
IGNORED = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")


def can_serve(settings: Mapping[str, Any], tensors: Collection[str], longer: int = 0) -> tuple[list[str], list[str]]:
    """Why vLLM cannot load an adapter; where it can, what to look after.

    Args:
        settings: Those of `adapter_config.json`.
        tensors: Names in its file.
        longer: Tokens of its tokenizer that the base has no embeddings for.
    """
    if settings.get("peft_type") != "LORA":
        return [f"it serves LoRA only, not {settings.get('peft_type')}"], []
    against = [f"it does not support {what}" for key, what in UNSUPPORTED.items() if settings.get(key)]
    if settings.get("bias", "none") != "none":
        against.append(f"it does not support bias={settings['bias']!r}")
    if whole := ", ".join(sorted(set(settings.get("modules_to_save") or ()) - WHOLE)):
        against.append(f"it loads no layers that were trained whole (modules_to_save: {whole})")
    if isinstance(start := settings.get("init_lora_weights"), str) and start.lower() not in STARTS:
        against.append(f"init_lora_weights={start!r} changes the base's own weights, which it keeps as they are")
    ranks = [settings.get("r"), *(settings.get("rank_pattern") or {}).values()]
    rank = max((rank for rank in ranks if isinstance(rank, int)), default=0)
    if not 0 < rank <= RANKS[-1]:
        against.append(f"it serves ranks up to {RANKS[-1]}, and this is {rank}")
    if longer:
        against.append(f"it gives the base no embeddings for the {longer} added tokens")
    strange = [name for name in sorted(tensors) if not LORA_TENSOR.search(name) and not name.endswith(IGNORED)]
    if strange and not against:
        against.append(f"it does not know what to do with {strange[0]}")
    care = []
    if rank > DEFAULT_RANK:
        care.append(f"it needs max_lora_rank={next((allowed for allowed in RANKS if allowed >= rank), rank)}")
    if any(map(EMBEDDINGS.search, tensors)):
        care.append("LoRA of embeddings works for some model families only")
    if any(name.endswith(IGNORED) for name in tensors):
        care.append("it ignores the whole embeddings in the file")
    return against, care
