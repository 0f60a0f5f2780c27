"""The clean process of `verify`: `python -m toolkit.reproduce REPO_ID REVISION RESULT`, in an empty cache.

It loads as a stranger does, by repository id with peft, and compares hashes and samples with what the repository says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from toolkit import generate
from toolkit.folder import MANIFEST, file_hashes, is_manifest, read_json, read_jsonl, write_json
from toolkit.model import drawing_machine, nf4_config
from toolkit.recipe import DecodingSettings


def main(repo_id: str, revision: str, result: Path) -> None:
    """Reproduce what a repository at a commit claims, and write what differed."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repo_id, revision=revision))
    missing = [name for name in (MANIFEST, "samples.jsonl") if not (folder / name).is_file()]
    if missing:
        write_json(result, {"unusable": f"it holds no {' and no '.join(missing)}"})
        return
    manifest = read_json(folder / MANIFEST)
    samples = read_jsonl(folder / "samples.jsonl")
    files = manifest.get("files") if is_manifest(manifest, "adapter") else None
    empty = [name for name, claimed in ((MANIFEST, files), ("samples.jsonl", samples)) if not claimed]
    if empty:
        write_json(result, {"unusable": f"in its {' and '.join(empty)} is nothing to compare"})
        return
    differences = _changed_files(folder, manifest) + _other_names(repo_id, revision, folder, manifest, samples)
    write_json(result, {"files": len(manifest["files"]), "samples": len(samples), "differences": differences})


def _changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    there = file_hashes(folder)
    return [
        f"{name}: {'missing' if name not in there else 'not the file that the manifest names'}"
        for name, digest in manifest["files"].items()
        if there.get(name) != digest
    ]


def _other_names(
    repo_id: str, revision: str, folder: Path, manifest: dict[str, Any], samples: list[dict[str, Any]]
) -> list[str]:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    precision = manifest["evaluation_precision"]
    model = AutoPeftModelForCausalLM.from_pretrained(repo_id, revision=revision, **_precision(precision)).eval()
    tokenizer = AutoTokenizer.from_pretrained(repo_id, revision=revision)
    settings = DecodingSettings.model_validate(manifest["recipe"]["decoding"])
    evaluation = read_json(folder / "evaluation.json")
    # Draws can only be compared where the random numbers are the same.
    seed = evaluation["seed"] if evaluation["machine"] == drawing_machine() else None
    differences = []
    for number, sample in enumerate(samples):
        names = [generate.greedy_name(model, tokenizer, sample["messages"], settings)]
        claimed = [sample["greedy"]]
        if seed is not None:
            names += generate.sample_names(
                model, tokenizer, sample["messages"], settings, len(sample["names"]), seed + number
            )
            claimed += sample["names"]
        if names != claimed:
            differences.append(f"sample {sample['id']}: published {', '.join(claimed)}; reproduced {', '.join(names)}")
    return differences


def _precision(precision: dict[str, str]) -> dict[str, Any]:
    import torch

    compute = getattr(torch, precision["compute"])
    quantized = {"quantization_config": nf4_config(compute)} if precision["base"] == "nf4" else {}
    return {"dtype": compute, **quantized}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
