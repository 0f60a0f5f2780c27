"""datasets, transformers and peft against the local Hub, each in a process of its own: they freeze `HF_ENDPOINT`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.hub.local.serve import running_hub


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a process needs to know of a new hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with running_hub(tmp_path / "hub", owner_token="hf_ofthehub") as url:
        yield {
            **kept,
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_ofthehub",
        }


def run(script: str, environment: dict[str, str]) -> None:
    # Elsewhere, because a folder of the working directory wins over a repository of the same name.
    Path(environment["HF_HOME"]).mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=environment["HF_HOME"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


PUSH_AND_LOAD_DATASETS = """
from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset
from huggingface_hub import HfApi

def rows(prefix, count):
    return Dataset.from_dict({"text": [f"{prefix}{number}" for number in range(count)]})

for name in ("en", "ko"):
    both = DatasetDict({"train": rows(name, 3), "test": rows(name, 1)})
    both.push_to_hub("demo/rows", config_name=name, private=True)
HfApi().create_tag("demo/rows", tag="v1", repo_type="dataset")
DatasetDict({"train": rows("new", 2)}).push_to_hub("demo/rows", config_name="en")

assert get_dataset_config_names("demo/rows") == ["en", "ko"]
assert load_dataset("demo/rows", "en", split="train")["text"][:] == ["new0", "new1"]
assert load_dataset("demo/rows", "en", split="train", revision="v1")["text"][:] == ["en0", "en1", "en2"]
streamed = load_dataset("demo/rows", "ko", split="train", streaming=True)
assert [row["text"] for row in streamed] == ["ko0", "ko1", "ko2"]
"""


def test_datasets_pushes_and_loads_configurations_tags_and_streams(environment: dict[str, str]) -> None:
    run(PUSH_AND_LOAD_DATASETS, environment)


PUSH_AND_LOAD_AN_ADAPTER = """
import tempfile
import torch
from huggingface_hub import HfApi, ModelCard, ModelCardData
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
sizes = dict(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
base = LlamaForCausalLM(LlamaConfig(**sizes))
words = {word: number for number, word in enumerate(["<unk>", "<pad>", "a", "small", "blue", "creature"])}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")), unk_token="<unk>", pad_token="<pad>"
)
base.push_to_hub("demo/base")
tokenizer.push_to_hub("demo/base")

base = LlamaForCausalLM.from_pretrained("demo/base")
adapter = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
with tempfile.TemporaryDirectory() as folder:
    adapter.save_pretrained(folder)
    AutoTokenizer.from_pretrained("demo/base").save_pretrained(folder)
    data = ModelCardData(base_model="demo/base", library_name="peft", license="mit")
    ModelCard(f"---\\n{data.to_yaml()}\\n---\\n# Adapter\\n").save(folder + "/README.md")
    HfApi().create_repo("demo/adapter")
    HfApi().upload_folder(repo_id="demo/adapter", folder_path=folder)

loaded = AutoPeftModelForCausalLM.from_pretrained("demo/adapter").eval()
ids = AutoTokenizer.from_pretrained("demo/adapter")("a", return_tensors="pt")["input_ids"]
with torch.no_grad():
    assert torch.equal(loaded(ids).logits, adapter(ids).logits)
assert ModelCard.load("demo/adapter").data.base_model == "demo/base"

from transformers import pipeline
told = dict(max_new_tokens=2, do_sample=False, return_full_text=False)
answers = [
    pipeline(**named)("a", **told)[0]["generated_text"]
    for named in (dict(model="demo/base"), dict(task="text-generation", model="demo/adapter"))
]
assert HfApi().model_info("demo/base").pipeline_tag == "text-generation"
assert all(answers), answers
"""


def test_peft_and_pipelines_load_what_was_published(environment: dict[str, str]) -> None:
    run(PUSH_AND_LOAD_AN_ADAPTER, environment)
