"""Commands that make a dataset and check one: build-dataset, validate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toolkit.cli import options
from toolkit.cli.group import main
from toolkit.cli.options import PATH
from toolkit.core.layout import MAX_LENGTH

if TYPE_CHECKING:
    from toolkit.cli.output import Output
    from toolkit.core.workers import EngineName


@main.command()
@click.argument("out", type=PATH)
@options.recipe()
@options.engine
@options.hub_and_json
@click.pass_obj
def build_dataset(output: Output, /, out: Path, recipe: str, engine: EngineName, **settings: object) -> None:
    """Build a chat dataset from descriptions, and write it to the folder OUT with its validation and its card.

    \b
    pkt build-dataset data
    pkt build-dataset data --source pokeapi --from pokeapi/data/v2/csv
    pkt build-dataset data --source table --from mine.csv \\
        --description-column text --name-column name

    A recipe can combine sources, each under [[dataset.sources]]. Tables are .csv, .tsv, .jsonl, .ndjson or .json,
    also gzipped, or .parquet. PokéAPI's tables are fetched once and kept in PKT_CACHE, by default ~/.cache/pkt.
    """
    loaded = options.load(recipe, settings)
    from toolkit.cli import results
    from toolkit.data import build

    with output.counting() as count:
        result = build.build_dataset(out, loaded, engine=engine, progress=count)
    results.built(output, result)


@main.command()
@click.argument("dataset", shell_complete=options.folders)
@click.option("--strict", is_flag=True, help="Warnings fail the check too.")
@click.option(
    "--tokenizer", metavar="BASE", help="Also check the chat contract and lengths with this base's tokenizer."
)
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    default=MAX_LENGTH,
    show_default=True,
    help="With --tokenizer: the most tokens allowed in a conversation.",
)
@options.revision("a dataset")
@options.engine
@click.option("--output", "report", type=PATH, help="Where to write the report. Default: validation.json in DATASET.")
@options.hub_and_json
@click.pass_obj
def validate(
    output: Output,
    /,
    dataset: str,
    strict: bool,
    tokenizer: str | None,
    max_length: int,
    revision: str | None,
    engine: EngineName,
    report: Path | None,
) -> None:
    """Check DATASET, a folder or a Hub id whose rows have a column `messages`. Exits 1 when a check fails.

    Checks that cannot be run are listed with the reason.
    """
    from toolkit.cli import results
    from toolkit.data import validation

    with output.counting() as count:
        found = validation.validate(
            dataset,
            revision=revision,
            strict=strict,
            base=tokenizer,
            max_length=max_length,
            engine=engine,
            progress=count,
        )
    if unwritten := validation.write_report(found, dataset, report):
        output.say(str(unwritten))
    results.validated(output, dataset, found)
    sys.exit(0 if found.ok else 1)
