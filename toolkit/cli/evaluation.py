"""The command that evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit.cli.group import PATH, hub_options, json_option, load, main, start
from toolkit.errors import InputError


@main.command()
@click.argument("adapter", type=PATH)
@click.argument("dataset")
@click.option("--dataset-revision", help="Commit, branch or tag of a DATASET on the Hub. Default: its newest commit.")
@click.option(
    "--recipe", "recipe_name", metavar="NAME|FILE", help="Settings to start from. Default: those it was trained with."
)
@click.option(
    "--baselines",
    default="base,tfidf,chance",
    show_default=True,
    help="What stands beside the adapter, comma-separated.",
)
@click.option("--max-test", "evaluation__max_test", type=int, help="Rows of test that are ranked. Default: all.")
@click.option(
    "--max-unseen", "evaluation__max_unseen", type=int, help="Rows of unseen that names are sampled for. Default: all."
)
@click.option("--names-per-description", "evaluation__names_per_description", type=int)
@click.option(
    "--quantization", "evaluation__quantization", type=click.Choice(["nf4", "none"]), help="How the base is held."
)
@click.option("--seed", type=int, help="Decides the sampled names.")
@hub_options
@json_option
def evaluate(
    adapter: Path,
    dataset: str,
    dataset_revision: str | None,
    recipe_name: str | None,
    baselines: str,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Measure the folder ADAPTER on DATASET, beside its baselines, and write the figures and the card into ADAPTER."""
    start(endpoint, token_file)
    from toolkit import evaluate, folder, rows, show

    own = folder.read_manifest(adapter, "adapter").get("recipe")
    recipe = load(recipe_name or own, **overrides)
    compare = [name.strip() for name in baselines.split(",") if name.strip()]
    if unknown := set(compare) - set(evaluate.BASELINES):
        raise InputError(
            f"There is no baseline {sorted(unknown)[0]!r}.", f"Choose among {', '.join(evaluate.BASELINES)}."
        )
    located = rows.locate_dataset(dataset, dataset_revision)
    with show.counting() as count:
        result = evaluate.evaluate(
            adapter, located, recipe.evaluation, recipe.decoding, recipe.seed, compare=compare, progress=count
        )
    show.evaluated(result, as_json)
