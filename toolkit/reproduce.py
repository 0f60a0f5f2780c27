"""The clean process of `verify`: `python -m toolkit.reproduce REPO_ID REVISION RESULT`, in an empty cache.

It loads as a stranger does, by repository id with peft, and compares hashes and samples with what the repository says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from toolkit import generate
from toolkit.folder import MANIFEST, file_hashes, library_versions, read_json, read_jsonl, write_json
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
    seed = read_json(folder / "evaluation.json")["seed"] if _draws_alike(manifest) else None
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


def _draws_alike(manifest: dict[str, Any]) -> bool:
    """Whether this machine draws the same random numbers as the one that evaluated: only then can draws be compared."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch_version = library_versions()["torch"]
    return bool(manifest["hardware"]["device"] == device and manifest["libraries"]["torch"] == torch_version)


def _precision(precision: dict[str, str]) -> dict[str, Any]:
    import torch

    compute = getattr(torch, precision["compute"])
    if precision["base"] != "nf4":
        return {"dtype": compute}
    from transformers import BitsAndBytesConfig

    return {
        "dtype": compute,
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
        ),
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
