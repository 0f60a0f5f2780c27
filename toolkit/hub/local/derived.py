"""What the Hub reads from a model's files where its card is silent: library, task, base, and tags."""

import re
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
_REPO_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def with_derived(
    card: Mapping[str, Any], paths: Collection[str], read: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """A model's metadata: of its card, else of the files at `paths`. `read` gives a JSON file, or nothing of it."""
    found = _of_files(paths, read)
    merged = found | {name: value for name, value in card.items() if value is not None}
    tags = card.get("tags")
    return merged | {"tags": [*(tags if isinstance(tags, list) else [tags]), *found["tags"]]}


def _of_files(paths: Collection[str], read: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
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
