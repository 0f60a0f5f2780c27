"""The clean process of `verify`: `python -m toolkit.hub.reproduce REPO_ID REVISION RESULT`, in an empty cache.

It loads as a stranger does, by repository id with peft, and compares hashes, cards, samples and what the card's own
code prints with what the repository says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from toolkit import cards
from toolkit.cards.metadata import is_hub_id
from toolkit.core.errors import ToolkitError
from toolkit.core.folder import file_hashes, is_manifest, read_json, read_jsonl, write_json
from toolkit.core.hub_client import hub_errors, without_secrets
from toolkit.core.layout import ADAPTER_CONFIG, MANIFEST
from toolkit.core.recipe import DecodingSettings
from toolkit.hub import snippet
from toolkit.hub.contents import EDITED
from toolkit.hub.safety import is_pickle
from toolkit.model import generate
from toolkit.model.loading import nf4_config
from toolkit.model.memory import drawing_machine

SAMPLES = "samples.jsonl"


def main(repo_id: str, revision: str, result: Path) -> None:
    """Reproduce what a repository at a commit claims, and write what differed."""
    try:
        with hub_errors(f"The adapter {repo_id}"):
            found = _reproduced(repo_id, revision)
    except ToolkitError as error:
        found = {"failed": {"kind": type(error).__name__, "found": error.found, "remedy": error.remedy}}
    write_json(result, found)


def _reproduced(repo_id: str, revision: str) -> dict[str, Any]:
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repo_id, revision=revision))
    missing = [name for name in (MANIFEST, SAMPLES) if not (folder / name).is_file()]
    if missing:
        return {"unusable": f"it holds no {' and no '.join(missing)}"}
    manifest = read_json(folder / MANIFEST)
    samples = read_jsonl(folder / SAMPLES)
    files = manifest.get("files") if is_manifest(manifest, "adapter") else None
    empty = [name for name, claimed in ((MANIFEST, files), (SAMPLES, samples)) if not claimed]
    if empty:
        return {"unusable": f"in its {' and '.join(empty)} is nothing to compare"}
    unsaid = [key for key in ("base", "evaluation_precision", "recipe") if not isinstance(manifest.get(key), dict)]
    if unsaid:
        return {"unusable": f"its {MANIFEST} says nothing of {' and '.join(unsaid)}"}
    edited = _edited_cards(folder, manifest)
    said = cards.card_differences(folder, repo_id)
    kept = [line for line in said if line.startswith(tuple(edited))] if edited else []
    notes = [f"{name} was edited by hand before it was published" for name in edited]
    differences = [
        *_changed_files(folder, manifest),
        *_wrong_base(folder, manifest),
        *(line for line in said if line not in kept),
        *_other_names(repo_id, revision, folder, manifest, samples),
    ]
    dangerous, unchecked = _other_files(folder, manifest)
    differences += dangerous
    notes += unchecked
    printed, problem = _snippet(folder, repo_id, revision, manifest, samples)
    if printed is None:
        (notes if problem.endswith("was not run") else differences).append(problem)
    return {
        "files": len(manifest["files"]),
        "samples": len(samples),
        "differences": [without_secrets(line) for line in differences],
        "notes": [*notes, *(f"of it: {line}" for line in kept)],
        "printed": printed,
    }


def _edited_cards(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Cards of which the manifest says that somebody wrote them, as they are here."""
    known, there = manifest.get(EDITED) or {}, file_hashes(folder)
    return [name for name, digest in known.items() if there.get(name) == digest]


def _changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    there = file_hashes(folder)
    return [
        f"{name}: {'missing' if name not in there else 'not the file that the manifest names'}"
        for name, digest in manifest["files"].items()
        if there.get(name) != digest
    ]


def _other_files(folder: Path, manifest: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Files that the manifest does not name: those that would be loaded or run, and those that were not checked."""
    dangerous, unchecked = [], []
    for name in file_hashes(folder).keys() - manifest["files"].keys() - {".gitattributes"}:
        what = "a pickle" if is_pickle(folder / name) else "weights" if name.endswith(".safetensors") else None
        if what:
            dangerous.append(f"{name}: {what}, of which the manifest says nothing")
        else:
            unchecked.append(f"{name} is not named by the manifest, and was not checked")
    return sorted(dangerous), sorted(unchecked)


def _wrong_base(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Whether `adapter_config.json`, which decides what is loaded, names the base of the manifest at its commit."""
    config, base = read_json(folder / ADAPTER_CONFIG), manifest["base"]
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not is_hub_id(str(name)):
        return [f"{ADAPTER_CONFIG}: its base is no repository"]
    if (name, revision) != (base["id"], base["revision"]):
        return [
            f"{ADAPTER_CONFIG}: its base is {name} at {revision}, that of the manifest {base['id']} at another commit"
        ]
    return []


def _other_names(
    repo_id: str, revision: str, folder: Path, manifest: dict[str, Any], samples: list[dict[str, Any]]
) -> list[str]:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    precision = _precision(manifest["evaluation_precision"], str(manifest["base"]["architecture"]))
    model = AutoPeftModelForCausalLM.from_pretrained(repo_id, revision=revision, **precision).eval()
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


def _precision(precision: dict[str, str], architecture: str) -> dict[str, Any]:
    import torch

    compute = getattr(torch, precision["compute"])
    quantized = {"quantization_config": nf4_config(compute, architecture)} if precision["base"] == "nf4" else {}
    return {"dtype": compute, **quantized}


def _snippet(
    folder: Path, repo_id: str, revision: str, manifest: dict[str, Any], samples: list[dict[str, Any]]
) -> tuple[str | None, str]:
    """What the card's own code prints; or None, and why. Code that somebody else wrote is not run."""
    card = folder / "README.md"
    code = snippet.snippet_of(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    if code is None:
        return None, "README.md: it has no Python code"
    if not snippet.is_ours(code, folder, manifest, samples, repo_id):
        return None, "the code of README.md is not what this version of pkt writes, and was not run"
    printed, last = snippet.run(code, repo_id, revision)
    if printed is None:
        return None, f"README.md: its code fails with {last}"
    if not printed:
        return None, "README.md: its code prints no name"
    if "do_sample=True" not in code and printed != samples[0]["greedy"]:
        return None, f"README.md: its code prints {printed}, where {SAMPLES} says {samples[0]['greedy']}"
    return printed, ""


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
