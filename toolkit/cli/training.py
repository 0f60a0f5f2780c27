"""The command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit.cli.group import PATH, hub_options, json_option, load, main, recipe_option, start


@main.command()
@click.argument("dataset")
@click.argument("out", type=PATH)
@recipe_option
@click.option("--dataset-revision", help="Commit, branch or tag of a DATASET on the Hub. Default: its newest commit.")
@click.option("--base", metavar="ID", help="Hub id of the model that is fine-tuned.")
@click.option("--base-revision", help="Commit, branch or tag of the base.")
@click.option("--learning-rate", "training__learning_rate", type=float)
@click.option(
    "--scheduler",
    "training__scheduler",
    type=click.Choice(["constant", "linear", "cosine"]),
    help="Of the learning rate.",
)
@click.option("--warmup-steps", "training__warmup_steps", type=int)
@click.option("--max-steps", "training__max_steps", type=int, help="Optimiser steps. Excludes --epochs.")
@click.option("--epochs", "training__epochs", type=float, help="Passes over the train split. Excludes --max-steps.")
@click.option("--batch-size", "training__batch_size", type=int, help="Examples in one optimiser step.")
@click.option(
    "--micro-batch-size",
    "training__micro_batch_size",
    metavar="N|auto",
    help="Examples in one forward pass. auto: as many as fit the memory.",
)
@click.option(
    "--gradient-checkpointing",
    "training__gradient_checkpointing",
    type=click.Choice(["auto", "on", "off"]),
    help="Compute activations twice to save memory. auto: only when one example does not fit.",
)
@click.option("--max-length", "training__max_length", type=int, help="Tokens of prompt and answer.")
@click.option("--optimizer", "training__optimizer", type=click.Choice(["adamw", "paged_adamw_8bit"]))
@click.option(
    "--quantization", "training__quantization", type=click.Choice(["nf4", "none"]), help="How the base is held."
)
@click.option("--save-every", "training__save_every", type=int, help="Optimiser steps between two checkpoints.")
@click.option(
    "--keep",
    "training__keep",
    type=click.Choice(["last", "best"]),
    help="Write the adapter of the last step, or of the lowest validation loss.",
)
@click.option(
    "--early-stopping",
    "training__early_stopping",
    type=int,
    metavar="N",
    help="Stop after N validation losses in a row without a lower one.",
)
@click.option(
    "--track",
    "training__track",
    type=click.Choice(["trackio", "tensorboard"]),
    multiple=True,
    callback=lambda _context, _parameter, given: list(given) or None,
    help="Draw the losses while training; the package must be installed. Repeat it for both.",
)
@click.option("--lora-r", "lora__r", type=int, help="Rank of the adapter.")
@click.option("--lora-alpha", "lora__alpha", type=float)
@click.option("--lora-dropout", "lora__dropout", type=float)
@click.option("--seed", type=int)
@click.option("--resume/--restart", default=True, show_default=True, help="Continue an interrupted run, or begin anew.")
@hub_options
@json_option
def train(
    dataset: str,
    out: Path,
    recipe_name: str,
    dataset_revision: str | None,
    resume: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Fine-tune an adapter on DATASET, a folder or a Hub id, and write it to the folder OUT.

    An interrupted run continues when the same command is given again.
    """
    start(endpoint, token_file)
    recipe = load(recipe_name, **overrides)
    from toolkit.cli import output, process
    from toolkit.data.dataset import locate_dataset
    from toolkit.training import train

    if not recipe.training.track:  # What draws losses may use any of them.
        process.keep_out(process.UNUSED_IN_TRAINING)
    located = locate_dataset(dataset, dataset_revision)
    with output.training() as progress:
        result = train.train(located, out, recipe, restart=not resume, progress=progress, note=output.say)
    output.trained(result, as_json, dataset)
