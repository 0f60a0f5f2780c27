"""Rehearsals and real steps of small models as JSON, for a process of its own: torch keeps the rehearsed device."""

import json
import runpy
import sys
from pathlib import Path

import torch

from support.models import small_model
from toolkit.core.recipe import load_recipe
from toolkit.model import loading, memory
from toolkit.model.chat import Example
from toolkit.training import packing
from toolkit.training.lessons import Batch
from toolkit.training.micro_batch import gradients_in_pieces

SHAPE = {"vocab_size": 512, "hidden_size": 512, "intermediate_size": 2048, "num_key_value_heads": 2}
# Enough layers that what a step keeps once counts little.
LAYERS, LAYERS_OF_PLAIN = 3, 6
CASES = {
    "float32": ("llama", "none", "float32", {}, 1, False),
    "plain": ("llama", "none", "float32", {"lora.dropout": 0.0}, 1, False),
    "half": ("gemma", "none", "float16", {}, 1, False),
    "checkpoints": ("llama", "none", "float32", {}, 4, True),
    "four bits": ("gemma", "nf4", "float16", {}, 4, False),
    "gemma 3": ("gemma3_text", "nf4", "bfloat16", {}, 4, False),
    "eight bits": ("llama", "none", "float32", {"training.optimizer": "paged_adamw_8bit"}, 1, False),
    "dora": ("llama", "none", "float32", {"lora.use_dora": True}, 2, False),
}
ROWS = [Example([*range(64), *[65 + number] * 66], 125) for number in range(4)]


def asked(settings):
    return load_recipe("demo", {"lora.dropout": 0.05, "lora.r": 8, "training.gradient_checkpointing": "off"} | settings)


def measured(config, recipe):
    """Most bytes that a real step of one row allocates on the CPU, without the weights that are there before it."""
    from transformers import AutoModelForCausalLM

    adapted = loading.add_lora(AutoModelForCausalLM.from_config(config), recipe.lora, 7).train()
    with torch.profiler.profile(profile_memory=True) as profile:
        gradients_in_pieces(adapted, [Batch("loss", 1.0, ROWS[:1])], 1, lambda loss: loss.backward())
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


if __name__ == "__main__":
    rehearse = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "rehearsal.py"))["rehearse"]
    found = {}
    for name, (family, held, compute, settings, rows, checkpointing) in CASES.items():
        layers = LAYERS_OF_PLAIN if name == "plain" else LAYERS
        recipe, config = asked(settings), small_model(family, num_hidden_layers=layers, **SHAPE).config
        result = rehearse(config, recipe, loading.Precision(held, compute), ROWS[:rows], checkpointing)
        limits = {"training.gradient_checkpointing": "on" if checkpointing else "off"}
        estimate = memory.train_bytes(memory.size_of(config), asked(settings | limits), compute, held, 64 + 66 * rows)
        found[name] = [result.held, result.peak, estimate - memory.PROCESS_BYTES]
    collate = packing.collate
    packing.collate = lambda *given: (collate(*given)[0], collate(*given)[1].cpu())
    try:
        rehearse(
            small_model("llama", num_hidden_layers=1, **SHAPE).config,
            asked({}),
            loading.Precision("none", "float32"),
            ROWS,
        )
    except RuntimeError as error:
        found["planted"] = str(error)
    packing.collate = collate
    # After the rehearsals: torch's first backward pass starts a thread for each kind of device there is.
    config = small_model("llama", num_hidden_layers=LAYERS_OF_PLAIN, **SHAPE).config
    found["real"] = measured(config, asked({"lora.dropout": 0.0}))
    json.dump(found, sys.stdout)
