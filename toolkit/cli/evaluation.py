"""The command that evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toolkit.cli.group import PATH, hub_options, json_option, load, main, start
from toolkit.core.errors import InputError
from toolkit.core.layout import MANIFEST


@main.command()
@click.argument("adapter", metavar="ADAPTER")
@click.argument("dataset")
@click.option("--dataset-revision", help="Commit, branch or tag of a DATASET on the Hub. Default: its newest commit.")
@click.option("--adapter-revision", help="Commit, branch or tag of an ADAPTER on the Hub. Default: its newest commit.")
@click.option(
    "--recipe", "recipe_name", metavar="NAME|FILE", help="Settings to start from. Default: those it was trained with."
)
@click.option(
    "--baselines",
    default="base,tfidf,tfidf_centroid,frequent,chance",
    show_default=True,
    help="What stands beside the adapter, comma-separated; also: encoder, which needs sentence-transformers.",
)
@click.option("--encoder", metavar="FOLDER|ID", help="The sentence encoder of that baseline.")
@click.option(
    "--against", multiple=True, metavar="FOLDER|REPO_ID", help="Another adapter to compare with. Repeat it for more."
)
@click.option(
    "--output",
    type=PATH,
    help="Write the report into this folder, not into ADAPTER. For an ADAPTER of the Hub, or of another trainer.",
)
@click.option(
    "--template",
    "templates",
    type=PATH,
    metavar="FOLDER",
    help="Your own card templates, in place of the toolkit's.",
)
@click.option("--max-test", "evaluation__max_test", type=int, help="Rows of test that are ranked. Default: all.")
@click.option(
    "--max-unseen", "evaluation__max_unseen", type=int, help="Rows of unseen that names are sampled for. Default: all."
)
@click.option("--names-per-description", "evaluation__names_per_description", type=int)
@click.option(
    "--quantization", "evaluation__quantization", type=click.Choice(["nf4", "none"]), help="How the base is held."
)
@click.option("--seed", type=int, help="Decides the sampled names and the intervals.")
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Continue an interrupted evaluation, or begin anew."
)
@hub_options
@json_option
def evaluate(
    adapter: str,
    dataset: str,
    dataset_revision: str | None,
    adapter_revision: str | None,
    recipe_name: str | None,
    baselines: str,
    encoder: str | None,
    against: tuple[str, ...],
    output: Path | None,
    templates: Path | None,
    resume: bool,
    endpoint: str | None,
    token_file: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Measure ADAPTER on DATASET, beside its baselines, and write figures, predictions and the card into its folder.

    DATASET is a folder or a Hub id; so is ADAPTER, when the report goes elsewhere (--output). An interrupted evaluation
    continues when the same command is given again.
    """
    start(endpoint, token_file)
    from toolkit.cli import output as show
    from toolkit.core import folder
    from toolkit.data.dataset import locate_dataset
    from toolkit.evaluation import evaluate
    from toolkit.model import adapter as adapters

    if output is None and not Path(adapter).is_dir():
        remedy = "The report on an adapter of the Hub needs a folder of its own: --output."
        raise InputError(f"There is no adapter folder {adapter}.", remedy)
    located = adapters.locate_adapter(adapter, adapter_revision)
    is_own = output is None or (located / MANIFEST).is_file()
    manifest = folder.read_manifest(located, "adapter") if is_own else {}
    # An adapter of another trainer brings no settings; only those of measuring are read.
    recipe = load(recipe_name or manifest.get("recipe") or ("demo" if output else None), **overrides)
    compared = [name.strip() for name in baselines.split(",") if name.strip()]
    if unknown := set(compared) - set(evaluate.BASELINES):
        raise InputError(
            f"There is no baseline {sorted(unknown)[0]!r}.", f"Choose among {', '.join(evaluate.BASELINES)}."
        )
    data = locate_dataset(dataset, dataset_revision)
    with show.counting() as count:
        result = evaluate.evaluate(
            located,
            data,
            recipe.evaluation,
            recipe.decoding,
            recipe.seed,
            compare=evaluate.Comparison(compared, against, encoder),
            output=output,
            templates=templates,
            restart=not resume,
            progress=count,
            say=show.say,
        )
    show.evaluated(result, as_json)
