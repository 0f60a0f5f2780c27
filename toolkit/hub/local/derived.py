"""What the Hub reads from a repository's files where the card is silent: library, task, base, and tags."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

# The task, by how the name of a transformers architecture ends, and by peft's name for it.
_TASKS = {
    ("ForCausalLM", "LMHeadModel", "CAUSAL_LM"): "text-generation",
    ("ForSequenceClassification", "SEQ_CLS"): "text-classification",
    ("ForTokenClassification", "TOKEN_CLS"): "token-classification",
    ("ForQuestionAnswering", "QUESTION_ANS"): "question-answering",
    ("ForMaskedLM",): "fill-mask",
    ("ForImageClassification",): "image-classification",
    ("ForCTC", "ForSpeechSeq2Seq"): "automatic-speech-recognition",
}
_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".arrow": "arrow",
    ".txt": "text",
    ".png": "imagefolder",
    ".jpg": "imagefolder",
    ".wav": "audiofolder",
    ".tar": "webdataset",
}
_REPO_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_NOT_DATA = re.compile(
    r"(.*_infos|.*manifest|.*config|.*info|state)\.json|(requirements|licen[cs]e)\.txt", re.IGNORECASE
)


def with_derived(
    kind: str, card: Mapping[str, Any], paths: Collection[str], read: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """The card's metadata, and what the files at `paths` say beside it. `read` gives a JSON file, or nothing of it."""
    found = _of_model(paths, read) if kind == "models" else _of_dataset(paths) if kind == "datasets" else {}
    merged = found | {name: value for name, value in card.items() if value is not None}
    tags = card.get("tags")
    merged["tags"] = [*(tags if isinstance(tags, list) else [tags]), *found.get("tags", [])]
    return merged


def _of_model(paths: Collection[str], read: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    suffixes = {PurePosixPath(path).suffix for path in paths}
    tags = [tag for tag in ("safetensors", "gguf", "onnx") if f".{tag}" in suffixes]
    library, task, base, relation = None, None, None, "finetune"
    if adapter := read("adapter_config.json"):
        library, task, relation = "peft", _task(adapter.get("task_type")), "adapter"
        base = _REPO_NAME.fullmatch(str(adapter.get("base_model_name_or_path")))  # else a folder where it was trained
    elif "modules.json" in paths:
        library, task = "sentence-transformers", "sentence-similarity"
    elif isinstance(model_type := (config := read("config.json")).get("model_type"), str):
        names = config.get("architectures")
        library, task = "transformers", _task(names[0] if isinstance(names, list) and names else None)
        if task is None and "vision_config" in config:
            task = "image-text-to-text"
        tags.append(model_type)
    elif "gguf" in tags:
        library, relation = "gguf", "quantized"
    found = {"library_name": library, "pipeline_tag": task, "base_model": base and base[0]}
    found = {name: value for name, value in found.items() if value is not None}
    return {**found, "base_model_relation": relation, "tags": tags}


def _task(name: object) -> str | None:
    return next((task for ends, task in _TASKS.items() if str(name).endswith(ends)), None)


def _of_dataset(paths: Collection[str]) -> dict[str, Any]:
    """The commonest format of the files that may be data, as `datasets` chooses how to read them."""
    data = [each for each in map(PurePosixPath, paths) if not _NOT_DATA.fullmatch(each.name)]
    found = Counter(_FORMATS[each.suffix] for each in data if each.suffix in _FORMATS)
    return {"tags": [f"format:{found.most_common(1)[0][0]}", "library:datasets"]} if found else {}
