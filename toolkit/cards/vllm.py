"""What vLLM makes of a LoRA adapter, from its settings and the names of its tensors alone, and the lines that serve it.

The rules are those of `vllm/lora/peft_helper.py`, `lora/lora_model.py` and `config/lora.py`, of `lora/ops/triton_ops/`
for the precision and `config/model.py` for the tokenizer, in the version below.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from toolkit.cards.escape import fence, md_text
from toolkit.cards.metadata import JsonObject, Manifest, model_name
from toolkit.core.errors import library_errors
from toolkit.core.folder import read_json
from toolkit.core.hub_client import is_hub_id
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS

VERSION = "0.33.0"
DEFAULT_RANK, RANKS = 16, (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Its kernels of LoRA compute in these only.
DTYPES = ("bfloat16", "float16")
UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias in LoRA itself",
    "alora_invocation_tokens": "aLoRA",
    "layer_replication": "layer_replication",
    "use_bdlora": "BD-LoRA",
    "use_qalora": "QALoRA",
}
# Only the heads of classifiers may be trained whole.
WHOLE = {"classifier", "score"}
# Starts that leave the base's own weights as they are.
STARTS = {"gaussian", "eva", "orthogonal", "mica", "lora_ga"}
LORA_TENSOR = re.compile(r"\.lora_[AB]\.weight$|\.lora_embedding_[AB]$")
EMBEDDINGS = re.compile(r"\b(embed_tokens|lm_head|wte)\.(base_layer|lora_)")
IGNORED = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")


def can_serve(settings: Mapping[str, Any], tensors: Collection[str], longer: int = 0) -> tuple[list[str], list[str]]:
    """What of an adapter vLLM does not support; where it loads it, what to look after.

    Args:
        settings: Those of `adapter_config.json`.
        tensors: Names in its file.
        longer: Tokens of its tokenizer that the base has no embeddings for.
    """
    if settings.get("peft_type") != "LORA":
        return [f"{settings.get('peft_type')} (only LoRA)"], []
    against = [what for key, what in UNSUPPORTED.items() if settings.get(key)]
    if settings.get("bias", "none") != "none":
        against.append(f"bias={settings['bias']!r}")
    if whole := ", ".join(sorted(set(settings.get("modules_to_save") or ()) - WHOLE)):
        against.append(f"layers that were trained whole (modules_to_save: {whole})")
    if isinstance(start := settings.get("init_lora_weights"), str) and start.lower() not in STARTS:
        against.append(f"init_lora_weights={start!r}, which changes the base's own weights")
    if not 0 < (rank := _rank(settings)) <= RANKS[-1]:
        against.append(f"rank {rank} (only 1 to {RANKS[-1]})")
    if longer:
        against.append(f"{longer} added tokens, which the base has no embeddings for")
    strange = [name for name in sorted(tensors) if not LORA_TENSOR.search(name) and not name.endswith(IGNORED)]
    if strange and not against:
        against.append(f"the tensor {strange[0]}")
    care = []
    if rank > DEFAULT_RANK:
        care.append(f"it needs max_lora_rank={_allowed(rank)}")
    if any(map(EMBEDDINGS.search, tensors)):
        care.append("LoRA of embeddings works for some model families only")
    if any(name.endswith(IGNORED) for name in tensors):
        care.append("it ignores the whole embeddings in the file")
    return against, care


def _rank(settings: Mapping[str, Any]) -> int:
    """The largest rank of the adapter's layers."""
    ranks = [settings.get("r"), *(settings.get("rank_pattern") or {}).values()]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def _allowed(rank: int) -> int:
    return next((allowed for allowed in RANKS if allowed >= rank), rank)


def serving_facts(
    folder: Path, manifest: Manifest, messages: Sequence[Mapping[str, str]], repo_id: str
) -> dict[str, object] | None:
    """What a card says of vLLM: the lines that serve its adapter and send `messages`, or what is against it.

    None without weights in the folder, or on a base that is not on the Hub. InputError where they are damaged.
    """
    file = folder / ADAPTER_WEIGHTS
    if not (file.is_file() and is_hub_id(manifest["base"]["id"])):
        return None
    with library_errors(f"{file} cannot be read", "Train the adapter again."), safe_open(file, "numpy") as weights:
        tensors = list(weights.keys())
    settings = read_json(folder / ADAPTER_CONFIG)
    against, _ = can_serve(settings, tensors)
    measured = manifest.get("evaluation_precision")
    dtype = measured["compute"] if measured and measured["compute"] in DTYPES else DTYPES[0]
    return {
        "version": VERSION,
        "against": [md_text(what, 200) for what in against],
        "embeddings": any(map(EMBEDDINGS.search, tensors)),
        "dtype": dtype,
        "as_measured": measured is not None and (measured["base"], measured["compute"]) == ("none", dtype),
        "command": fence(_command(settings, manifest, repo_id, dtype), "bash"),
        "request": fence(_request(manifest, messages, repo_id), "bash"),
    }


def _command(settings: Mapping[str, Any], manifest: Manifest, repo_id: str, dtype: str) -> str:
    """The line that starts vLLM, with the adapter's tokenizer and branch in place of the base's, for its template."""
    base, repo = manifest["base"], shlex.quote(repo_id)
    pinned = f" --revision {shlex.quote(base['revision'])}" if base.get("revision") else ""
    rank, name = _allowed(_rank(settings)), shlex.quote(f"{model_name(manifest, repo_id)}={repo_id}")
    return (
        f"vllm serve {shlex.quote(base['id'])}{pinned} --dtype {dtype} \\\n"
        f"  --tokenizer {repo} --tokenizer-revision main \\\n"
        f"  --enable-lora --max-lora-rank {rank} --lora-modules {name}"
    )


def _request(manifest: Manifest, messages: Sequence[Mapping[str, str]], repo_id: str) -> str:
    """A request with the settings of the card's snippet; `stop` finds ends of turn only where no token is left out."""
    decoding: JsonObject = manifest["recipe"]["decoding"]
    asked: dict[str, object] = {"model": model_name(manifest, repo_id), "messages": messages}
    asked |= {key: decoding[key] for key in ("temperature", "top_k", "top_p")}
    asked |= {"max_tokens": decoding["max_new_tokens"], "stop": manifest["stop_tokens"], "skip_special_tokens": False}
    body = ",\n ".join(f"{_json(key)}: {_json(value)}" for key, value in asked.items())
    return (
        "curl http://localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d @- <<'JSON'\n"
        f"{{{body}}}\nJSON"
    )


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
