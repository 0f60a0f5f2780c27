"""What several test files share: a clean environment, and a base so small that it trains in seconds."""

import os
import tempfile

# Before anything imports huggingface_hub, which reads them once.
for variable in ("HF_TOKEN", "HF_ENDPOINT", "HF_HOME"):
    os.environ.pop(variable, None)
os.environ.update({"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"})
os.environ["HF_HUB_CACHE"] = tempfile.mkdtemp(prefix="pkt-tests-hub-cache-")
os.environ.update({"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"})
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

from pathlib import Path

import pytest

from support.adapters import adapter  # noqa: F401 (a fixture)
from support.browser import browser  # noqa: F401 (a fixture)
from support.cluster import ray_cluster  # noqa: F401 (a fixture)
from support.hub import made  # noqa: F401 (a fixture)
from tiny_base.pretrain import train_tokenizer
from toolkit.core import imports
from toolkit.core.layout import TINY_BASE_ID
from toolkit.model import base as bases
from toolkit.model.chat import REQUEST

SENTENCES = [
    REQUEST,
    "A small red fox with six tails sits beside a pond and watches the moon rise over the hills.",
    "Its blue shell is hard as stone, and two cannons peer over its broad shoulders.",
    "Bulbasaur Charmander Squirtle Pikachu Vulpix Blastoise Ninetales",
]


@pytest.fixture(autouse=True)
def all_libraries_stay(monkeypatch):
    """A command that answers would choose for the whole process, which runs other tests too."""
    monkeypatch.setattr(imports, "UNUSED", ())


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level tokenizer with Gemma's special tokens and the shape of its chat template."""
    return train_tokenizer(SENTENCES, 400)


@pytest.fixture(scope="session")
def small_base(tmp_path_factory, tokenizer) -> Path:
    """A Gemma 3 text model with random weights, one layer, saved as a base."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("small-base")
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def use_small_base(monkeypatch, small_base) -> str:
    """The small base in the place of the tiny base that ships with the toolkit; gives its id."""
    monkeypatch.setattr(bases, "tiny_base_folder", lambda: small_base)
    return TINY_BASE_ID


@pytest.fixture(scope="session")
def llama(tokenizer):
    """A small Llama that knows a plain sentence."""
    # Here, because the package gguf may not be installed.
    from support.gguf_files import speaking_model

    return speaking_model("llama", tokenizer)


@pytest.fixture
def gguf_file(tmp_path, llama, tokenizer) -> Path:
    """That Llama as a GGUF file."""
    from support.gguf_files import write_gguf

    return write_gguf(tmp_path / "small.gguf", llama, tokenizer)
