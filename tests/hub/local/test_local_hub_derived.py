"""What the Hub reads from files where the card is silent."""

import json
from collections.abc import Iterator

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from toolkit.hub.local.serve import running_hub

CAUSAL = {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
VISUAL = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {}}
PEFT = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "google/gemma-3-1b-it"}
ELSEWHERE = PEFT | {"base_model_name_or_path": "/home/ash/base"}


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Iterator[HfApi]:
    with running_hub(tmp_path_factory.mktemp("hub")) as url:
        yield HfApi(endpoint=url, token="x")


def push(api: HfApi, files: dict[str, object]) -> str:
    repo = api.create_repo(f"demo/{len([*api.list_models()])}").repo_id
    contents = {path: json.dumps(each) if isinstance(each, dict) else str(each) for path, each in files.items()}
    operations = [CommitOperationAdd(path, content.encode()) for path, content in contents.items()]
    api.create_commit(repo, operations, commit_message="files")
    return repo


@pytest.mark.parametrize(
    ("files", "library", "task", "tags"),
    [
        (
            {"config.json": CAUSAL, "model.safetensors": "x"},
            "transformers",
            "text-generation",
            ["gemma3_text", "safetensors"],
        ),
        ({"config.json": VISUAL}, "transformers", "image-text-to-text", ["gemma3"]),
        ({"config.json": {"model_type": "x", "architectures": []}}, "transformers", None, ["x"]),
        ({"config.json": "{", "adapter_config.json": "[1]"}, None, None, []),
        (
            {"config.json": CAUSAL, "README.md": "---\nlibrary_name: vllm\npipeline_tag: null\n---\n"},
            "vllm",
            "text-generation",
            [],
        ),
        (
            {"adapter_config.json": PEFT, "config.json": CAUSAL},
            "peft",
            "text-generation",
            ["base_model:google/gemma-3-1b-it", "base_model:adapter:google/gemma-3-1b-it"],
        ),
        (
            {"adapter_config.json": ELSEWHERE, "README.md": "---\nbase_model: a/b\n---\n"},
            "peft",
            "text-generation",
            ["base_model:adapter:a/b"],
        ),
        ({"README.md": "---\nbase_model: a/b\n---\n"}, None, None, ["base_model:a/b", "base_model:finetune:a/b"]),
        (
            {"modules.json": "[]", "config.json": {"model_type": "bert"}},
            "sentence-transformers",
            "sentence-similarity",
            [],
        ),
        (
            {"q4.gguf": "x", "README.md": "---\nbase_model: a/b\n---\n"},
            "gguf",
            None,
            ["gguf", "base_model:quantized:a/b"],
        ),
    ],
)
def test_a_model_is_described_by_its_files(api, files, library, task, tags):
    info = api.model_info(push(api, files))
    assert (info.library_name, info.pipeline_tag) == (library, task)
    assert set(tags) <= set(info.tags)
    assert ("/home" in str(info.tags), info.card_data is None) == (False, "README.md" not in files)
    for tag in (*filter(None, (library, task)), *tags):
        assert info.id in {each.id for each in api.list_models(filter=tag)}


def test_results_are_read_from_their_files_and_a_file_without_is_left_out_with_a_reason(api, caplog):
    good = "- dataset: {id: a/b, task_id: naming}\n  value: 0.5\n  date: 2026-01-15\n"
    files = {".eval_results/good.yaml": good, ".eval_results/deep/x.yaml": good, "results.yaml": good}
    repo = push(api, files | {".eval_results/a.yaml": "- dataset: {id: a/b}\n", ".eval_results/b.yaml": "- ["})
    with caplog.at_level("WARNING", "huggingface_hub"):
        (found,) = api.model_info(repo, expand=["evalResults"]).eval_results
    assert (found.dataset_id, found.task_id, found.value, found.date) == ("a/b", "naming", 0.5, "2026-01-15")
    assert {name for name in ("a.yaml", "b.yaml") if f".eval_results/{name}" in caplog.text} == {"a.yaml", "b.yaml"}
