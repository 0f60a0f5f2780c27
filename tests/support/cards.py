"""The files that a model card is made from."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from toolkit.core.folder import write_json, write_jsonl
from toolkit.model import chat

MANIFEST: dict[str, Any] = {
    "kind": "adapter",
    "toolkit": "0.1.0",
    "training_libraries": {"peft": "0.21.2", "torch": "2.13.0"},
    "recipe": {
        "name": "by-hand",
        "lora": {"r": 6, "target_modules": ["q_proj", "v_proj"], "use_rslora": False, "modules_to_save": None},
        "training": {"learning_rate": 0.0002, "max_steps": 20, "epochs": None},
        "decoding": {"temperature": 0.7, "top_k": 50, "top_p": 0.95, "max_new_tokens": 16},
        "evaluation": {"selected_on": ["validation", "half of unseen"]},
    },
    "seed": 7,
    "base": {
        "id": "google/gemma-2b-it",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "content": "b" * 64,
        "license": "gemma",
        "parameters": 2506172416,
        "architecture": "GemmaForCausalLM",
    },
    "dataset": {
        "id": "demo/names",
        "revision": "f" * 40,
        "content": "d" * 64,
        "rows": {"train": 160, "validation": 16, "test": 24, "unseen": 8},
        "license": "cc0-1.0",
        "sources": ["corpus"],
    },
    "request": chat.REQUEST,
    "steps": 20,
    "examples_seen": 320,
    "trainable_parameters": 9805824,
    "supervised_tokens": 800,
    "stop_tokens": ["<end_of_turn>", "<eos>"],
    "taken_names": 131,
    "train_seconds": 3496.2,
    "energy_joules": 201_600.0,
    "peak_memory_bytes": 6123456789,
    "hardware": {"device": "cuda", "name": "Tesla T4", "cores": 2},
    "precision": {"base": "nf4", "compute": "float16"},
    "evaluation_precision": {"base": "none", "compute": "float16"},
}

LOG = [
    {"step": 10, "epoch": 1.0, "loss": 3.14, "learning_rate": 0.0002, "grad_norm": 1.2},
    {"step": 10, "validation_loss": 2.5},
    {"step": 20, "epoch": 2.0, "loss": 1.41, "learning_rate": 0.0001, "grad_norm": 0.8},
    {"step": 20, "validation_loss": 2.6},
]


def score(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 24}


def figures(value: float, low: float, high: float, **others: dict[str, Any]) -> dict[str, Any]:
    return {"top1": score(value, low, high), "top5": score(0.5, 0.31, 0.69), "mrr": score(0.36, 0.2, 0.5), **others}


EXACT = {"exact": score(0.2, 0.1, 0.4)}

NEW_NAMES = {
    "names": 24,
    "known": score(0.0, 0.0, 0.1),
    "fits": score(0.6, 0.5, 0.65),
    "invented": score(0.9, 0.8, 0.95),
}

EVALUATION: dict[str, Any] = {
    "schema": 3,
    "seed": 7,
    "dataset": {"id": "names", "revision": None, "content": "d" * 64},
    "adapter": {"weights": "a" * 64},
    "candidates": 48,
    "precision": {"base": "none", "compute": "float16"},
    "machine": {"device": "cpu", "torch": "2.13.0"},
    "settings": {"compare": ["base", "tfidf"]},
    "test": {
        "rows": 24,
        "creatures": 20,
        "methods": {
            "adapter": figures(0.25, 0.12, 0.449, **EXACT),
            "base": figures(0.0, 0.0, 0.11, **EXACT),
            "tfidf": figures(0.75, 0.55, 0.88),
            "tfidf_centroid": figures(0.7, 0.5, 0.85),
            "encoder": figures(0.3, 0.2, 0.45),
            "frequent": figures(0.04, 0.0, 0.1),
            "other/adapter-of-somebody": figures(0.2, 0.1, 0.4, **EXACT),
            "chance": {
                measure: {"value": value, "n": 24}
                for measure, value in [("top1", 1 / 48), ("top5", 5 / 48), ("mrr", 0.09)]
            },
        },
        "differences": {
            name: {measure: score(value, value - 0.1, value + 0.1) for measure in ("top1", "top5", "mrr")}
            for name, value in [
                ("base", 0.25),
                ("tfidf", -0.5),
                ("tfidf_centroid", -0.45),
                ("encoder", -0.05),
                ("frequent", 0.21),
                ("other/adapter-of-somebody", 0.05),
            ]
        },
        "shuffled": {
            "figures": figures(0.05, 0.0, 0.15) | {"mrr": score(0.16, 0.1, 0.2)},
            "difference": {measure: score(0.2, 0.08, 0.32) for measure in ("top1", "top5", "mrr")},
            "reads": True,
        },
        "groups": {
            "generation": {"1": figures(0.25, 0.12, 0.449), "2": figures(0.2, 0.1, 0.4)},
            "type": {"fire": figures(0.3, 0.1, 0.5), "water": figures(0.1, 0.0, 0.3)},
        },
        "places": [
            {"from": 1, "to": 1, "rows": 6},
            {"from": 2, "to": 5, "rows": 6},
            {"from": 6, "to": 10, "rows": 5},
            {"from": 11, "to": 48, "rows": 7},
        ],
        "confusions": [
            {"answer": "Raichu", "said": "Pikachu", "rows": 3},
            {"answer": "Mr. Mime", "said": "Farfetch'd", "rows": 1},
        ],
        "calibration": {
            "bins": [
                {"low": 0.0, "high": 0.1, "rows": 10, "confidence": 0.05, "accuracy": 0.1},
                {"low": 0.1, "high": 0.2, "rows": 0, "confidence": None, "accuracy": None},
                {"low": 0.2, "high": 0.3, "rows": 14, "confidence": 0.25, "accuracy": 0.36},
            ],
            "error": 0.085,
            "brier": 0.18,
        },
    },
    "unseen": {
        "rows": 8,
        "methods": {
            method: {
                "names": 24,
                **{
                    key: score(value, value - 0.1, value + 0.05)
                    for key, value in [("well_formed", 0.875), ("new", 0.9), ("invented", 0.8), ("something_new", 0.31)]
                },
            }
            for method, value in [("adapter", 0.9), ("base", 0.3)]
        }
        | {"adapter, new names": NEW_NAMES},
        "halves": {"tuning": {"adapter, new names": NEW_NAMES}, "final": {"adapter, new names": NEW_NAMES}},
    },
}

SAMPLES = [
    {
        "split": "test",
        "id": "pokemon/25/0",
        "description": "A small creature with soft yellow fur and red cheeks.",
        "answer": "Pikachu",
        "greedy": "Pikachu",
        "names": ["Pikachu", "Sparkit", "Voltmouse"],
        "identified": ["Raichu", "Pikachu", "Farfetch'd", "Mr. Mime", "Nidoran♀"],
    },
    {
        "split": "unseen",
        "id": "pokemon/1/0",
        "description": "등에 씨앗을 짊어진 작은 네발 생물.",
        "answer": "이상해씨 (Bulbasaur)",
        "greedy": "Leafrog",
        "names": ["씨앗돌이", "Leafrog", "Budtoad"],
        "new_names": ["Leafrog", "Vinewort", "Sproutle"],
        "identified": None,
    },
]


def adapter_folder(
    folder: Path,
    evaluation: dict[str, Any] | None = EVALUATION,
    samples: list[dict[str, Any]] = SAMPLES,
    log: list[dict[str, Any]] = LOG,
    **settings: Any,
) -> Path:
    folder.mkdir(exist_ok=True)
    # A real adapter stays as it is.
    if not (folder / "adapter_config.json").exists():
        write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 24, **settings})
        tensors = {f"base_model.model.layers.0.q_proj.lora_{side}.weight": np.zeros((1, 1)) for side in "AB"}
        save_file(tensors, folder / "adapter_model.safetensors")
    write_jsonl(folder / "training_log.jsonl", log)
    if evaluation is not None:
        write_json(folder / "evaluation.json", evaluation)
        write_jsonl(folder / "samples.jsonl", samples)
    return folder


def changed(original: dict[str, Any], **paths: Any) -> dict[str, Any]:
    """A copy with values replaced: `base__id="x"` sets `["base"]["id"]`."""
    result = copy.deepcopy(original)
    for path, value in paths.items():
        *parents, last = path.split("__")
        place = result
        for parent in parents:
            place = place[parent]
        place[last] = value
    return result


def metadata(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found
